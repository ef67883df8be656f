package nspawn

import (
	"context"
	"errors"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/reeve-paas/reeve/coordinator/core"
)

func TestParseStat(t *testing.T) {
	tail := " S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 4711 20 21"
	for _, c := range []struct {
		name, text string
		state      byte
		start      uint64
		ok         bool
	}{
		{"a plain name", "7 (sshd)" + tail, 'S', 4711, true},
		{"a name with blanks and brackets", "7 (a) Z (b c)" + tail, 'S', 4711, true},
		{"a zombie", "7 (x) Z" + tail[2:], 'Z', 4711, true},
		{"a torn file", "7 (x) S 1 2", 0, 0, false},
		{"nothing", "", 0, 0, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			state, start, ok := parseStat([]byte(c.text))
			if ok != c.ok || ok && (state != c.state || start != c.start) {
				t.Errorf("got %c %d %t, want %c %d %t", state, start, ok, c.state, c.start, c.ok)
			}
		})
	}
}

func TestAProcessIsKnownByPidStartAndBoot(t *testing.T) {
	me := procOf(os.Getpid())
	if !me.alive() {
		t.Fatal("this process is not alive")
	}
	for name, p := range map[string]proc{
		"nobody":          {},
		"another start":   {PID: me.PID, Start: me.Start + 1, Boot: me.Boot},
		"an earlier boot": {PID: me.PID, Start: me.Start, Boot: "earlier"},
	} {
		if p.alive() {
			t.Errorf("%s: got alive", name)
		}
		if err := p.signal(0); err != nil {
			t.Errorf("%s: a signal to what is gone: %v", name, err)
		}
		if err := p.wait(t.Context()); err != nil {
			t.Errorf("%s: waiting for what is gone: %v", name, err)
		}
	}
}

func TestParseNotification(t *testing.T) {
	for _, c := range []struct {
		text     string
		want     notification
		farewell string
	}{
		{"STATUS=Container running.\nX_NSPAWN_LEADER_PID=4711", notification{leader: 4711, status: "Container running."}, ""},
		{"READY=1\n", notification{ready: true}, ""},
		{"READY=0", notification{}, ""},
		{"STOPPING=1\nSTATUS=Restarting...", notification{stopping: true, status: "Restarting..."}, farewellReboot},
		{"STOPPING=1\nSTATUS=Terminating...", notification{stopping: true, status: "Terminating..."}, farewellHalt},
		{"ERRNO=5\nX_NSPAWN_LEADER_PID=x\n\n=", notification{}, ""},
	} {
		got := parseNotification(c.text)
		if got != c.want || got.farewell() != c.farewell {
			t.Errorf("%q: got %+v and farewell %q, want %+v and %q", c.text, got, got.farewell(), c.want, c.farewell)
		}
	}
}

func TestWhatTheEndOfANodeMeans(t *testing.T) {
	for _, c := range []struct {
		name             string
		code             int
		wanted, stopping bool
		farewell         string
		again, resume    bool
		state            core.CloudNodeState
	}{
		{"a reboot is followed by a boot", exitReboot, true, false, farewellReboot, true, false, ""},
		{"a reboot of a node that is to stop is not", exitReboot, false, false, farewellReboot, false, false, core.CloudStopped},
		{"a power-off stays off", 0, true, false, farewellHalt, false, false, core.CloudStopped},
		{"a stop by the host is resumed", 0, true, true, farewellHalt, false, true, core.CloudStopped},
		{"a stop that was asked for is not", 0, false, true, farewellHalt, false, false, core.CloudStopped},
		{"another status is an error", 7, true, false, "", false, false, core.CloudError},
		{"a killed nspawn is started again", -1, true, false, "", true, false, ""},
		{"an adopted node that said reboot is started again", exitUnknown, true, false, farewellReboot, true, false, ""},
		{"an adopted node that said halt stays off", exitUnknown, true, false, farewellHalt, false, false, core.CloudStopped},
		{"an adopted node that said nothing is started again", exitUnknown, true, false, "", true, false, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := decide(c.code, c.wanted, c.stopping, c.farewell)
			if got.again != c.again || got.resume != c.resume || got.state != c.state {
				t.Errorf("got %+v, want again %t, resume %t, state %q", got, c.again, c.resume, c.state)
			}
		})
	}
}

// fakeCgroups makes an empty tree that looks like a cgroup mount.
func fakeCgroups(t *testing.T, files ...string) string {
	t.Helper()
	mount := t.TempDir()
	for _, f := range files {
		path := filepath.Join(mount, f)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return mount
}

func wantFiles(t *testing.T, dir string, want map[string]string) {
	t.Helper()
	for name, text := range want {
		if got, err := os.ReadFile(filepath.Join(dir, name)); err != nil || string(got) != text {
			t.Errorf("%s: got %q, %v; want %q", name, got, err, text)
		}
	}
}

func TestCgroups(t *testing.T) {
	small := limits{CPUs: 2, MemoryMB: 512, Pids: 100}
	t.Run("a hybrid host has limits in the v1 hierarchies", func(t *testing.T) {
		mount := fakeCgroups(t, "systemd/tasks", "memory/tasks", "cpu,cpuacct/tasks", "pids/tasks", "unified/cgroup.procs")
		for _, link := range []string{"cpu", "cpuacct"} {
			if err := os.Symlink("cpu,cpuacct", filepath.Join(mount, link)); err != nil {
				t.Fatal(err)
			}
		}
		c, err := findCgroups(mount)
		if err != nil || c.pure() || len(c.v1) != 4 {
			t.Fatalf("got %+v, %v; want four v1 mounts", c, err)
		}
		g := c.group("app", "app-1")
		if err := g.create(); err != nil {
			t.Fatal(err)
		}
		if err := g.limit(small); err != nil {
			t.Fatal(err)
		}
		wantFiles(t, mount, map[string]string{
			"memory/app/app-1/memory.limit_in_bytes":  "536870912",
			"cpu,cpuacct/app/app-1/cpu.cfs_quota_us":  "200000",
			"cpu,cpuacct/app/app-1/cpu.cfs_period_us": "100000",
			"pids/app/app-1/pids.max":                 "100",
		})
		if !exists(filepath.Join(mount, "unified/app/app-1")) || !exists(filepath.Join(mount, "systemd/app/app-1")) {
			t.Error("the node is not in every hierarchy")
		}
	})
	t.Run("a pure v2 host has them in one, and hands the controllers down", func(t *testing.T) {
		mount := fakeCgroups(t, "cgroup.controllers")
		c, err := findCgroups(mount)
		if err != nil || !c.pure() {
			t.Fatalf("got %+v, %v; want a pure host", c, err)
		}
		g := c.group("app", "app-1")
		if err := g.create(); err != nil {
			t.Fatal(err)
		}
		if err := g.limit(small); err != nil {
			t.Fatal(err)
		}
		wantFiles(t, mount, map[string]string{
			"app/app-1/memory.max":       "536870912",
			"app/app-1/cpu.max":          "200000 100000",
			"app/app-1/pids.max":         "100",
			"cgroup.subtree_control":     "+cpu +memory +pids",
			"app/cgroup.subtree_control": "+cpu +memory +pids",
		})
		if exists(filepath.Join(mount, "app/app-1/cgroup.subtree_control")) {
			t.Error("the node's own group hands its controllers down; nspawn does that")
		}
	})
	t.Run("a host without a controller says which", func(t *testing.T) {
		mount := fakeCgroups(t, "systemd/tasks", "cpu/tasks", "pids/tasks")
		c, err := findCgroups(mount)
		if err != nil {
			t.Fatal(err)
		}
		g := c.group("app", "app-1")
		if err := g.create(); err != nil {
			t.Fatal(err)
		}
		if err := g.limit(small); err == nil || !strings.Contains(err.Error(), "memory") {
			t.Errorf("got %v, want an error that names memory", err)
		}
	})
	t.Run("a thread finds its way home", func(t *testing.T) {
		c := cgroups{v1of: map[string]string{"systemd": "/m/systemd", "cpu": "/m/both", "cpuacct": "/m/both", "memory": "/m/memory"}}
		got := c.parseHome("9:name=systemd:/a\n8:cpu,cpuacct:/b\n4:memory:/with:colon\n3:cpuset:/\n0::/unified\n")
		if want := []string{"/m/systemd/a", "/m/both/b", "/m/memory/with:colon"}; !slices.Equal(got, want) {
			t.Errorf("got %v, want %v", got, want)
		}
	})
}

func TestSeed(t *testing.T) {
	rec := record{Name: "web", Addr: netip.MustParsePrefix("10.66.0.7/24")}
	own := core.BootstrapFile{Path: "/etc/x", Mode: 0o600, Data: []byte("x")}
	files := seedFiles(rec, []netip.Addr{netip.MustParseAddr("192.0.2.53")}, []byte("private"), []byte("public"), []string{"ssh-ed25519 A", "ssh-rsa B"}, []core.BootstrapFile{own})
	got := map[string]string{}
	for _, f := range files {
		got[f.Path] = string(f.Data)
		if strings.HasSuffix(f.Path, "_key") && f.Mode != 0o600 {
			t.Errorf("%s: got mode %o, want 600", f.Path, f.Mode)
		}
	}
	want := map[string]string{
		"/etc/hostname":    "web\n",
		"/etc/hosts":       "127.0.0.1 localhost\n10.66.0.7 web\n::1 localhost ip6-localhost ip6-loopback\n",
		"/etc/resolv.conf": "nameserver 192.0.2.53\n",
		"/etc/systemd/network/10-host0.network": "[Match]\nName=host0\n\n[Link]\nMACAddress=02:72:0a:42:00:07\n\n[Network]\nAddress=10.66.0.7/24\nGateway=10.66.0.1\n" +
			"LinkLocalAddressing=no\nIPv6AcceptRA=no\n",
		"/etc/ssh/ssh_host_ed25519_key":     "private",
		"/etc/ssh/ssh_host_ed25519_key.pub": "public",
		"/root/.ssh/authorized_keys":        "ssh-ed25519 A\nssh-rsa B\n",
		"/etc/x":                            "x",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if files[len(files)-1].Path != "/etc/x" {
		t.Error("the caller's files do not come last")
	}
}

func TestPlantingFiles(t *testing.T) {
	outside := filepath.Join(t.TempDir(), "outside")
	if err := os.WriteFile(outside, []byte("untouched"), 0o644); err != nil {
		t.Fatal(err)
	}
	tree := t.TempDir()
	root, err := os.OpenRoot(tree)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	t.Run("a dangling link in its place is replaced and not followed", func(t *testing.T) {
		if err := os.Symlink(outside, filepath.Join(tree, "resolv.conf")); err != nil {
			t.Fatal(err)
		}
		if err := plant(root, core.BootstrapFile{Path: "/resolv.conf", Mode: 0o644, Data: []byte("new")}); err != nil {
			t.Fatal(err)
		}
		wantFiles(t, tree, map[string]string{"resolv.conf": "new"})
		wantFiles(t, filepath.Dir(outside), map[string]string{"outside": "untouched"})
	})
	t.Run("a directory that leads out of the tree is refused", func(t *testing.T) {
		if err := os.Symlink(filepath.Dir(outside), filepath.Join(tree, "exit")); err != nil {
			t.Fatal(err)
		}
		if err := plant(root, core.BootstrapFile{Path: "/exit/outside", Mode: 0o644, Data: []byte("evil")}); err == nil {
			t.Error("got no error")
		}
		wantFiles(t, filepath.Dir(outside), map[string]string{"outside": "untouched"})
	})
	t.Run("a private file has its mode, and so has its new directory", func(t *testing.T) {
		f := core.BootstrapFile{Path: "/etc/keys/default", Mode: 0o600, Data: []byte("secret")}
		for range 2 { // a boot that was cut off repeats it
			if err := plant(root, f); err != nil {
				t.Fatal(err)
			}
		}
		for path, want := range map[string]fs.FileMode{"etc": 0o755, "etc/keys": 0o700, "etc/keys/default": 0o600} {
			st, err := os.Stat(filepath.Join(tree, path))
			if err != nil || st.Mode().Perm() != want {
				t.Errorf("%s: got %v, %v; want %o", path, st, err, want)
			}
		}
	})
}

func TestNameservers(t *testing.T) {
	got := parseResolv("# comment\nnameserver 127.0.0.53\nnameserver 192.0.2.1\nsearch x\nnameserver ::1\nnameserver fe80::1\nnameserver bad\n nameserver 192.0.2.2 # two\n")
	want := []netip.Addr{netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.2")}
	if !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

func TestOptions(t *testing.T) {
	t.Run("a state directory is enough", func(t *testing.T) {
		o, err := Options{StateDir: "/var/lib/x"}.withDefaults()
		if err != nil {
			t.Fatal(err)
		}
		if o.Bridge != "reeve0" || o.AppName != "reeve0" || o.Subnet.String() != "10.66.0.0/24" || len(o.Sizes) != 6 || o.Sizes[0].MemoryMB != 512 {
			t.Errorf("got %+v", o)
		}
	})
	t.Run("every problem is reported at once", func(t *testing.T) {
		_, err := Options{StateDir: "x", Bridge: "no spaces", AppName: "UPPER", Subnet: netip.MustParsePrefix("10.0.0.0/30")}.withDefaults()
		if err == nil || strings.Count(err.Error(), "\n") != 3 {
			t.Errorf("got %v, want four problems", err)
		}
	})
	t.Run("a path that sockets or mount options cannot carry is refused", func(t *testing.T) {
		for _, dir := range []string{"/" + strings.Repeat("x", 70), "/a:b", "/a,b"} {
			if _, err := (Options{StateDir: dir}).withDefaults(); err == nil {
				t.Errorf("%s: got no error", dir)
			}
		}
	})
}

func TestAddressesAreGivenOnce(t *testing.T) {
	d := &Driver{opts: Options{Subnet: netip.MustParsePrefix("10.0.0.0/29")}, nodes: map[string]*node{}}
	var got []string
	for {
		addr, err := d.freeAddrLocked()
		if err != nil {
			if core.KindOf(err) != core.Quota {
				t.Errorf("got %v, want quota", err)
			}
			break
		}
		got = append(got, addr.String())
		d.nodes[addr.String()] = newNode(t.TempDir(), record{ID: addr.String(), Addr: addr})
	}
	want := []string{"10.0.0.2/29", "10.0.0.3/29", "10.0.0.4/29", "10.0.0.5/29", "10.0.0.6/29"}
	if !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

func TestNetworkRules(t *testing.T) {
	got := ruleset("app-1", "br0", netip.MustParsePrefix("10.66.0.0/24"))
	want := `table ip reeve_app_1
delete table ip reeve_app_1
table ip reeve_app_1 {
	chain post {
		type nat hook postrouting priority srcnat; policy accept;
		ip saddr 10.66.0.0/24 oifname != "br0" masquerade
	}
}
`
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestNspawnArguments(t *testing.T) {
	got := nspawnArgs("/state/nodes/n-1", record{Name: "web", Machine: "app-1", Bridge: "br0"})
	want := []string{
		"--quiet", "--boot", "--register=no", "--keep-unit", "--notify-ready=yes", "--machine=app-1", "--hostname=web",
		"--directory=/state/nodes/n-1/root", "--network-bridge=br0", "--resolv-conf=off", "--timezone=off", "--link-journal=no",
		"--console=read-only", "--bind-ro=/state/nodes/n-1/dev:/dev/reeve",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestBuildProgressIsCountedPerPackage(t *testing.T) {
	type step struct {
		Done, Total int
		Detail      string
	}
	var got []step
	f := newAptFollower("base", func(_ string, done, total int, detail string) { got = append(got, step{done, total, detail}) })
	for _, line := range []string{
		"I: downloading packages with apt...",
		"0 upgraded, 2 newly installed, 0 to remove and 0 not upgraded.",
		"Get:1 http://deb.debian.org/debian bookworm/main amd64 dash amd64 0.5 [98 kB]",
		"Unpacking dash (0.5) ...",
		"some chatter",
		"Setting up dash (0.5) ...",
	} {
		f.line(line)
	}
	want := []step{
		{0, 0, "start"}, {0, 0, "downloading packages with apt"},
		{1, 6, "Get:1 http://deb.debian.org/debian bookworm/main amd64 dash amd64 0.5 [98 kB]"},
		{2, 6, "Unpacking dash (0.5)"}, {3, 6, "Setting up dash (0.5)"},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestTheRecipeNamesTheImage(t *testing.T) {
	a, b := newRecipe("http://deb.debian.org/debian"), newRecipe("http://deb.debian.org/debian/")
	if a.hash() != b.hash() {
		t.Error("a slash at the end makes another image")
	}
	b.Packages = append(b.Packages, "git")
	if a.hash() == b.hash() {
		t.Error("another package makes no other image")
	}
}

func TestImagesAreListed(t *testing.T) {
	cache := t.TempDir()
	layer := filepath.Join(cache, "layer")
	if err := os.Mkdir(layer, 0o755); err != nil {
		t.Fatal(err)
	}
	list := []Image{
		{ID: "aaa", Name: "A", Layers: []string{layer}},
		{ID: ImageID, Name: "usual", Layers: []string{layer}},
		{ID: "gone", Name: "deleted", Layers: []string{filepath.Join(cache, "missing"), layer}},
	}
	for _, i := range list {
		if err := writeJSON(filepath.Join(cache, i.ID+".json"), i); err != nil {
			t.Fatal(err)
		}
	}
	got, err := Images(cache)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]Image{list[1], list[0]}, got, cmpopts.EquateEmpty()); diff != "" {
		t.Error(diff)
	}
	if got, err := Images(filepath.Join(cache, "none")); err != nil || len(got) != 0 {
		t.Errorf("an empty cache: got %v, %v", got, err)
	}
}

func TestVolumeRecords(t *testing.T) {
	state := t.TempDir()
	if err := os.Mkdir(filepath.Join(state, dirVolumes), 0o700); err != nil {
		t.Fatal(err)
	}
	d := &Driver{opts: Options{StateDir: state}, nodes: map[string]*node{}}
	v, err := d.CreateVolume(t.Context(), "key", 5000)
	if err != nil {
		t.Fatal(err)
	}
	if v.SizeBytes != 8192 || v.NodeID != "" || v.Device != "" {
		t.Errorf("got %+v, want 8192 bytes, detached", v)
	}
	again, err := d.CreateVolume(t.Context(), "key", 5000)
	if err != nil || again.ID != v.ID {
		t.Errorf("got %+v, %v; want %s again", again, err, v.ID)
	}
	if _, err := d.CreateVolume(t.Context(), "", 1); core.KindOf(err) != core.Invalid {
		t.Errorf("no key: got %v, want invalid", err)
	}
	for range 2 {
		if err := d.DestroyVolume(t.Context(), v.ID); err != nil {
			t.Fatal(err)
		}
	}
	if entries, _ := os.ReadDir(filepath.Join(state, dirVolumes)); len(entries) != 0 {
		t.Errorf("left behind: %v", entries)
	}
}

func TestDoctorNamesACureForEverything(t *testing.T) {
	for _, f := range Doctor(t.Context()) {
		if f.What == "" || f.Fix == "" {
			t.Errorf("got %+v, want what is needed and how to get it", f)
		}
	}
}

func TestTeardownTouchesOnlyItsOwn(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "precious"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := Teardown(t.Context(), Options{StateDir: dir}); core.KindOf(err) != core.Invalid {
		t.Errorf("got %v, want invalid", err)
	}
	if !exists(filepath.Join(dir, "precious")) {
		t.Error("it deleted a stranger's file")
	}
	if err := Teardown(t.Context(), Options{StateDir: filepath.Join(dir, "none")}); err != nil {
		t.Errorf("what is not there: %v", err)
	}
}

func TestMainAnswersOnlyItsOwnCommand(t *testing.T) {
	for _, args := range [][]string{nil, {"x"}, {"x", "serve"}, {"x", superviseCommand}, {"x", "serve", "dir"}} {
		if handled, _ := Main(args); handled {
			t.Errorf("%q: handled", args)
		}
	}
}

func TestDestroyingAllLeavesWhatSomebodyElseIsChanging(t *testing.T) {
	d := &Driver{nodes: map[string]*node{}}
	held := newNode(t.TempDir(), record{ID: "held"})
	free := newNode(t.TempDir(), record{ID: "free"}) // without a record there is nothing to end
	d.nodes["held"], d.nodes["free"] = held, free
	if err := held.acquire(t.Context()); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if err := errors.Join(d.destroyAll(ctx)...); core.KindOf(err) != core.Busy {
		t.Errorf("got %v, want busy", err)
	}
	if _, there := d.nodes["held"]; !there {
		t.Error("a node was destroyed while somebody else was changing it")
	}
	if len(held.busy) != 1 {
		t.Error("the right to change the node was taken from its holder")
	}
}

func TestImagesAreForRootAlone(t *testing.T) {
	t.Run("a directory that others could enter is closed", func(t *testing.T) {
		dir := filepath.Join(t.TempDir(), "images")
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := privateDir(dir); err != nil {
			t.Fatal(err)
		}
		st, err := os.Stat(dir)
		if err != nil {
			t.Fatal(err)
		}
		if got := st.Mode().Perm(); got != 0o700 {
			t.Errorf("got mode %o, want 700", got)
		}
	})
	t.Run("one that is everybody's is refused and stays as it is", func(t *testing.T) {
		dir := t.TempDir()
		if err := os.Chmod(dir, 0o777|fs.ModeSticky); err != nil {
			t.Fatal(err)
		}
		if err := privateDir(dir); err == nil {
			t.Error("got no error")
		}
		if st, err := os.Stat(dir); err != nil || st.Mode().Perm() != 0o777 {
			t.Errorf("got %v, %v; want mode 777", st.Mode(), err)
		}
	})
}
