package deploy

import (
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/reeve-paas/reeve/agent/agentapi"
	"github.com/reeve-paas/reeve/handlers"
	"github.com/reeve-paas/reeve/handlers/host"
	"github.com/reeve-paas/reeve/handlers/host/hosttest"
)

const device = "/dev/reeve-vol-1"

var dataVolume = agentapi.MountVolumeParams{Device: device, MPoint: "/srv/data",
	Binds: []agentapi.BindMount{{Source: "mysql", Target: "/var/lib/mysql", Unit: "mariadb.service"}}}

// newVolumeHost is a host with a device, whose file holds what blkid finds on it, and the commands that mounts need.
// MariaDB runs.
func newVolumeHost(tb testing.TB, onDevice string) *hosttest.Host {
	tb.Helper()
	h := newHost(tb)
	h.WriteText(device, onDevice)
	h.WriteText("/var/lib/mysql/ibdata1", "tables")
	if err := os.Chmod(h.Path("/var/lib/mysql"), 0o700); err != nil {
		tb.Fatal(err)
	}
	h.Units.SetRunning("mariadb.service")
	h.Runner.Print("blockdev", "1073741824\n")
	h.Runner.Handle("blkid", func(c host.Cmd) (host.Output, error) {
		data, err := os.ReadFile(c.Args[len(c.Args)-1])
		switch string(data) {
		case "":
			return host.Output{Code: 2}, err
		case "both":
			return host.Output{Code: 8}, err
		}
		return host.Output{Stdout: fmt.Appendf(nil, "DEVNAME=%s\n%s\n", c.Args[len(c.Args)-1], data)}, err
	})
	for _, fstype := range []string{"ext4", "xfs"} {
		h.Runner.Handle("mkfs."+fstype, func(c host.Cmd) (host.Output, error) {
			return host.Output{}, os.WriteFile(c.Args[len(c.Args)-1], []byte("TYPE="+fstype+"\nUSAGE=filesystem"), 0o644)
		})
	}
	local := func(p string) string { return strings.TrimPrefix(p, h.Root) }
	h.Runner.Handle("mount", func(c host.Cmd) (host.Output, error) {
		line := fmt.Sprintf("90 25 7:1 / %s rw - %s %s rw\n", local(c.Args[len(c.Args)-1]), c.Args[1], local(c.Args[len(c.Args)-2]))
		if c.Args[0] == "--bind" {
			line = fmt.Sprintf("91 25 7:1 %s %s rw - ext4 %s rw\n", strings.TrimPrefix(local(c.Args[1]), "/srv/data"), local(c.Args[2]), device)
		}
		h.WriteText(host.MountsFile, h.Text(host.MountsFile)+line)
		return host.Output{}, nil
	})
	h.Runner.Handle("umount", func(c host.Cmd) (host.Output, error) {
		var kept []string
		for line := range strings.Lines(h.Text(host.MountsFile)) {
			if !strings.Contains(line, " "+local(c.Args[0])+" rw ") {
				kept = append(kept, line)
			}
		}
		h.WriteText(host.MountsFile, strings.Join(kept, ""))
		return host.Output{}, nil
	})
	h.Runner.Handle("cp", func(c host.Cmd) (host.Output, error) {
		out, err := exec.Command("cp", c.Args...).CombinedOutput()
		return host.Output{Stderr: out}, err
	})
	return h
}

const formatted = "TYPE=ext4\nUSAGE=filesystem"

func mountData(tb testing.TB, h *hosttest.Host) error {
	_, err := newService(h).MountVolume(tb.Context(), dataVolume)
	return err
}

func commands(h *hosttest.Host, program string) int {
	n := 0
	for _, call := range h.Calls() {
		if strings.HasPrefix(call, "run "+program) {
			n++
		}
	}
	return n
}

func TestMountVolume(t *testing.T) {
	h := newVolumeHost(t, "")
	s := newService(h)
	v := must[agentapi.VolumeMount](t)(s.MountVolume(t.Context(), dataVolume))

	t.Run("a blank device gets a filesystem and is mounted", func(t *testing.T) {
		if v.FSType != "ext4" || v.Device != device || v.SizeBytes <= 0 || v.FreeBytes <= 0 || v.FreeBytes > v.SizeBytes {
			t.Errorf("got %+v", v)
		}
		golden(t, "mounted", h.Text("/etc/fstab")+h.Text(host.MountsFile)+h.Text("/etc/systemd/system/mariadb.service.d/reeve-volume.conf")+
			h.Text("/etc/systemd/system/var-lib-mysql.mount.d/reeve-volume.conf"))
	})
	t.Run("the directory's content was copied, modes kept", func(t *testing.T) {
		if got := h.Text("/srv/data/mysql/ibdata1"); got != "tables" {
			t.Errorf("got %q", got)
		}
		if st := must[fs.FileInfo](t)(h.Stat("/srv/data/mysql")); st.Mode().Perm() != 0o700 {
			t.Errorf("got mode %v, want 0700", st.Mode())
		}
	})
	t.Run("the unit was stopped for it and runs again", func(t *testing.T) {
		calls := strings.Join(h.Calls(), "\n")
		for _, order := range [][2]string{{"stop mariadb.service", "run cp"}, {"run cp", "run mount --bind"}, {"run mount --bind", "start mariadb.service"}} {
			if a, b := strings.Index(calls, order[0]), strings.Index(calls, order[1]); a < 0 || a > b {
				t.Errorf("got %s, want %q before %q", calls, order[0], order[1])
			}
		}
	})
	t.Run("the same call again changes nothing", func(t *testing.T) {
		before := h.Tree("/")
		h.ClearCalls()
		must[agentapi.VolumeMount](t)(s.MountVolume(t.Context(), dataVolume))
		if h.Tree("/") != before || len(h.Calls()) != 0 {
			t.Errorf("got calls %v, want none and an unchanged host", h.Calls())
		}
	})
	t.Run("another device there, and the device elsewhere, are conflicts", func(t *testing.T) {
		h.WriteText("/dev/other", formatted)
		_, err := s.MountVolume(t.Context(), agentapi.MountVolumeParams{Device: "/dev/other", MPoint: "/srv/data"})
		wantKind(t, err, agentapi.KindConflict)
		_, err = s.MountVolume(t.Context(), agentapi.MountVolumeParams{Device: device, MPoint: "/srv/elsewhere"})
		wantKind(t, err, agentapi.KindConflict)
		_, err = s.MountVolume(t.Context(), agentapi.MountVolumeParams{Device: device, MPoint: "/srv/data",
			Binds: []agentapi.BindMount{{Source: "other", Target: "/var/lib/mysql"}}})
		wantKind(t, err, agentapi.KindConflict)
	})
	t.Run("unmounting reverses it, leaves the data, and can be repeated", func(t *testing.T) {
		for range 2 {
			must[handlers.Null](t)(s.UnmountVolume(t.Context(), agentapi.UnmountVolumeParams{MPoint: "/srv/data"}))
		}
		if got := h.Text("/etc/fstab"); got != fstabText+"\n" {
			t.Errorf("got fstab %s, want %s", got, fstabText)
		}
		if strings.Contains(h.Text(host.MountsFile), device) || h.Exists("/etc/systemd/system/mariadb.service.d/reeve-volume.conf") {
			t.Error("something is still mounted or guarded")
		}
		if h.Units.Running("mariadb.service") {
			t.Error("mariadb runs on what was there before the volume")
		}
		if h.Text("/srv/data/mysql/ibdata1") != "tables" {
			t.Error("the data on the volume changed")
		}
	})
	t.Run("a volume with data of its own is not copied over", func(t *testing.T) {
		h.WriteText("/srv/data/mysql/ibdata1", "newer tables")
		h.ClearCalls()
		must[agentapi.VolumeMount](t)(s.MountVolume(t.Context(), dataVolume))
		if h.Text("/srv/data/mysql/ibdata1") != "newer tables" || commands(h, "cp") != 0 || commands(h, "mkfs") != 0 {
			t.Errorf("got calls %v", h.Calls())
		}
		if h.Units.Running("mariadb.service") {
			t.Error("a unit that was stopped was started")
		}
	})
}

func TestMountVolumeNeverFormatsData(t *testing.T) {
	for name, c := range map[string]struct {
		found string
		kind  agentapi.Kind
	}{
		"a partition table":      {"PTTYPE=gpt", agentapi.KindConflict},
		"a physical volume":      {"TYPE=LVM2_member\nUSAGE=raid", agentapi.KindConflict},
		"swap":                   {"TYPE=swap\nUSAGE=other", agentapi.KindConflict},
		"an encrypted device":    {"TYPE=crypto_LUKS\nUSAGE=crypto", agentapi.KindConflict},
		"several things at once": {"both", agentapi.KindConflict},
	} {
		t.Run(name, func(t *testing.T) {
			h := newVolumeHost(t, c.found)
			before := everything(h)
			wantKind(t, mountData(t, h), c.kind)
			if got := everything(h); got != before || commands(h, "mkfs") != 0 {
				t.Errorf("got\n%s\nwant\n%s", got, before)
			}
		})
	}
	t.Run("another filesystem than asked for is used as it is", func(t *testing.T) {
		h := newVolumeHost(t, "TYPE=xfs\nUSAGE=filesystem")
		v := must[agentapi.VolumeMount](t)(newService(h).MountVolume(t.Context(), agentapi.MountVolumeParams{Device: device, MPoint: "/srv/data"}))
		if v.FSType != "xfs" || commands(h, "mkfs") != 0 {
			t.Errorf("got %+v, %v", v, h.Calls())
		}
	})
	t.Run("a device that blkid cannot read is left alone", func(t *testing.T) {
		h := newVolumeHost(t, "")
		h.Runner.Handle("blkid", func(host.Cmd) (host.Output, error) {
			return host.Output{Code: 2, Stderr: []byte("blkid: error: /dev/reeve-vol-1: Input/output error")}, nil
		})
		wantKind(t, mountData(t, h), agentapi.KindInternal)
		if commands(h, "mkfs") != 0 {
			t.Errorf("got calls %v", h.Calls())
		}
	})
}

func TestMountVolumeRefuses(t *testing.T) {
	h := newVolumeHost(t, "")
	s := newService(h)
	bind := func(source, target, unit string) agentapi.MountVolumeParams {
		return agentapi.MountVolumeParams{Device: device, MPoint: "/srv/data", Binds: []agentapi.BindMount{{Source: source, Target: target, Unit: unit}}}
	}
	for name, p := range map[string]agentapi.MountVolumeParams{
		"the root":                      {Device: device, MPoint: "/"},
		"a directory of the system":     {Device: device, MPoint: "/usr/local"},
		"/var":                          {Device: device, MPoint: "/var"},
		"a relative mount point":        {Device: device, MPoint: "srv"},
		"a mount point with an option":  {Device: device, MPoint: "/srv/a b"},
		"a device outside /dev":         {Device: "/etc/passwd", MPoint: "/srv/data"},
		"a device with dots":            {Device: "/dev/../etc/passwd", MPoint: "/srv/data"},
		"an unknown filesystem":         {Device: device, MPoint: "/srv/data", FSType: "ntfs"},
		"a source that leaves":          bind("../etc", "/var/lib/mysql", ""),
		"a target inside the volume":    bind("mysql", "/srv/data/x", ""),
		"a target around the volume":    bind("mysql", "/srv", ""),
		"a unit that is none":           bind("mysql", "/var/lib/mysql", "../mariadb.service"),
		"a unit without its kind":       bind("mysql", "/var/lib/mysql", "mariadb"),
		"a source that is empty":        bind("", "/var/lib/mysql", ""),
		"a target in the system's tree": bind("mysql", "/etc/mysql", ""),
	} {
		t.Run(name, func(t *testing.T) {
			_, err := s.MountVolume(t.Context(), p)
			wantKind(t, err, agentapi.KindInvalid)
		})
	}
	if calls := h.Calls(); len(calls) != 0 {
		t.Errorf("got calls %v, want none", calls)
	}
	t.Run("a device that is not there", func(t *testing.T) {
		_, err := s.MountVolume(t.Context(), agentapi.MountVolumeParams{Device: "/dev/nope", MPoint: "/srv/data"})
		wantKind(t, err, agentapi.KindNotFound)
	})
	t.Run("a mount of somebody else is not unmounted", func(t *testing.T) {
		h.WriteText(host.MountsFile, h.Text(host.MountsFile)+"90 25 7:1 / /srv/other rw - ext4 /dev/x rw\n")
		_, err := s.UnmountVolume(t.Context(), agentapi.UnmountVolumeParams{MPoint: "/srv/other"})
		wantKind(t, err, agentapi.KindConflict)
	})
}

func TestVolumeBreaks(t *testing.T) {
	fresh := func(tb testing.TB) *hosttest.Host { return newVolumeHost(tb, formatted) }
	mounted := func(tb testing.TB) *hosttest.Host {
		h := fresh(tb)
		if err := mountData(tb, h); err != nil {
			tb.Fatal(err)
		}
		return h
	}
	unmount := func(h *hosttest.Host) error {
		_, err := newService(h).UnmountVolume(t.Context(), agentapi.UnmountVolumeParams{MPoint: "/srv/data"})
		return err
	}
	mount := func(h *hosttest.Host) error { return mountData(t, h) }
	as := func(want string) func(*testing.T, *hosttest.Host, error) {
		return func(t *testing.T, h *hosttest.Host, err error) {
			if got := everything(h); got != want {
				t.Errorf("after %v: got\n%s\nwant\n%s", err, got, want)
			}
			if !h.Units.Running("mariadb.service") {
				t.Error("mariadb does not run any more")
			}
		}
	}
	t.Run("mount_volume", func(t *testing.T) { hosttest.BreakEachCall(t, fresh, mount, as(everything(fresh(t)))) })
	t.Run("unmount_volume", func(t *testing.T) { hosttest.BreakEachCall(t, mounted, unmount, as(everything(mounted(t)))) })
	t.Run("mount_volume killed", func(t *testing.T) { killed(t, fresh, mount) })
	t.Run("mount_volume of a blank device killed", func(t *testing.T) {
		killed(t, func(tb testing.TB) *hosttest.Host { return newVolumeHost(tb, "") }, mount)
	})
}

func TestMountUnit(t *testing.T) {
	for mpoint, want := range map[string]string{ // as systemd-escape --path --suffix=mount says
		"/var/lib/mysql": "var-lib-mysql.mount", "/srv/my-data_1": `srv-my\x2ddata_1.mount`, "/.hidden/a.b": `\x2ehidden-a.b.mount`, "/a@b+c:d": `a\x40b\x2bc:d.mount`,
	} {
		if got := mountUnit(mpoint); got != want {
			t.Errorf("%s: got %s, want %s", mpoint, got, want)
		}
	}
}

func TestSeedThatWasNeverBound(t *testing.T) {
	h := newVolumeHost(t, formatted)
	h.WriteText("/srv/data/mysql/ibdata1", "old copy")
	h.WriteText("/srv/data/.reeve-seeding-mysql", "\n")
	h.WriteText("/srv/data/.reeve-copy-mysql/half", "")
	if err := mountData(t, h); err != nil {
		t.Fatal(err)
	}
	if got := h.Text("/srv/data/mysql/ibdata1"); got != "tables" {
		t.Errorf("got %q, want what the host used since", got)
	}
	if h.Exists("/srv/data/.reeve-seeding-mysql") || h.Exists("/srv/data/.reeve-copy-mysql") {
		t.Error("traces of the copy are left")
	}
}

func TestStart(t *testing.T) {
	rebooted := func(t *testing.T) *hosttest.Host {
		h := newVolumeHost(t, formatted)
		if err := mountData(t, h); err != nil {
			t.Fatal(err)
		}
		h.WriteText(host.MountsFile, "25 1 259:2 / / rw,relatime shared:1 - ext4 /dev/vda rw\n")
		h.Units.Install("mariadb.service")
		h.WriteText("/etc/systemd/system/multi-user.target.wants/mariadb.service", "")
		h.ClearCalls()
		return h
	}
	t.Run("after a boot without fstab the volume comes back, then its service", func(t *testing.T) {
		h := rebooted(t)
		if err := newService(h).Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		mounts := host.ParseMounts([]byte(h.Text(host.MountsFile)))
		for _, p := range []string{"/srv/data", "/var/lib/mysql"} {
			if _, ok := host.MountedAt(mounts, p); !ok {
				t.Errorf("%s is not mounted", p)
			}
		}
		if !h.Units.Running("mariadb.service") {
			t.Error("mariadb does not run")
		}
		h.ClearCalls()
		if err := newService(h).Start(t.Context()); err != nil || len(h.Calls()) != 0 {
			t.Errorf("a second start: got %v, calls %v, want none", err, h.Calls())
		}
	})
	t.Run("without its device nothing is bound, and nothing started", func(t *testing.T) {
		h := rebooted(t)
		if err := h.Remove(device); err != nil {
			t.Fatal(err)
		}
		if err := newService(h).Start(t.Context()); err != nil || len(h.Calls()) != 0 {
			t.Errorf("got %v, calls %v, want none", err, h.Calls())
		}
	})
	t.Run("a directory of the host that was bound instead is an error, and its service is left alone", func(t *testing.T) {
		h := rebooted(t)
		h.WriteText(host.MountsFile, h.Text(host.MountsFile)+"95 25 259:2 /srv/data/mysql /var/lib/mysql rw - ext4 /dev/vda rw\n")
		wantKind(t, newService(h).Start(t.Context()), agentapi.KindConflict)
		if h.Units.Running("mariadb.service") {
			t.Error("mariadb runs on the wrong files")
		}
	})
	t.Run("a service that does not start at boot stays stopped", func(t *testing.T) {
		h := rebooted(t)
		if err := h.Remove("/etc/systemd/system/multi-user.target.wants/mariadb.service"); err != nil {
			t.Fatal(err)
		}
		if err := newService(h).Start(t.Context()); err != nil || h.Units.Running("mariadb.service") {
			t.Errorf("got %v, running %v", err, h.Units.Running("mariadb.service"))
		}
	})
	t.Run("a unit that a killed agent stopped is started", func(t *testing.T) {
		h := newVolumeHost(t, formatted)
		h.Units.Install("mariadb.service")
		h.WriteText("/var/lib/reeve-agent/deploy/stopped/mariadb.service", "\n")
		if err := newService(h).Start(t.Context()); err != nil || !h.Units.Running("mariadb.service") {
			t.Errorf("got %v, running %v", err, h.Units.Running("mariadb.service"))
		}
		if h.Exists("/var/lib/reeve-agent/deploy/stopped/mariadb.service") {
			t.Error("the note is still there")
		}
	})
}
