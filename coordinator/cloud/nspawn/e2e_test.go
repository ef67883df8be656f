//go:build e2e

package nspawn_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/reeve-paas/reeve/coordinator/cloud/cloudtest"
	"github.com/reeve-paas/reeve/coordinator/cloud/nspawn"
	"github.com/reeve-paas/reeve/coordinator/core"
	"github.com/reeve-paas/reeve/test/hosts"
)

func TestMain(m *testing.M) {
	if dir := os.Getenv(driveEnv); dir != "" && len(os.Args) == 1 {
		drive(dir)
		return
	}
	os.Exit(hosts.Main(m))
}

func TestDriver(t *testing.T) {
	cloudtest.Run(t, func(t *testing.T) core.Cloud { return hosts.NewCloud(t, false).Driver })
}

func TestANodeIsAMachineOfItsOwn(t *testing.T) {
	c := hosts.NewCloud(t, false)
	h := c.Boot(t, hosts.Options{Name: "web", Files: []core.BootstrapFile{
		{Path: "/etc/reeve/keys/default", Mode: 0o600, Data: []byte("secret\n")},
		{Path: "/etc/motd", Mode: 0o644, Data: []byte("hello\n")},
	}})
	t.Run("it has its name, its address and nothing failed", func(t *testing.T) {
		if got := h.Exec(t, "cat", "/proc/sys/kernel/hostname"); got != "web" {
			t.Errorf("got host name %q, want web", got)
		}
		if got := h.Exec(t, "ip", "-brief", "-4", "addr", "show", "host0"); !strings.Contains(got, h.Addr.String()) {
			t.Errorf("got %q, want address %s", got, h.Addr)
		}
		if got, _ := h.Try(t, "systemctl", "is-system-running"); got != "running" {
			t.Errorf("got system state %q: %s", got, h.Exec(t, "systemctl", "--failed", "--no-legend"))
		}
	})
	t.Run("the bootstrap files are there with their modes, and only there", func(t *testing.T) {
		if got := h.Exec(t, "stat", "-c", "%a %U %s", "/etc/reeve/keys/default"); got != "600 root 7" {
			t.Errorf("got %q", got)
		}
		if got := string(h.ReadFile(t, "/etc/motd")); got != "hello\n" {
			t.Errorf("got %q", got)
		}
		if _, err := os.Stat(c.StateDir + "/nodes/" + h.ID + "/seed.json"); !os.IsNotExist(err) {
			t.Errorf("the seed with its secrets is still there: %v", err)
		}
	})
	t.Run("its web server answers over the bridge", func(t *testing.T) {
		h.Exec(t, "systemctl", "start", "apache2")
		if body := get(t, "http://"+h.Addr.String()+"/"); !strings.Contains(body, "Apache2") {
			t.Errorf("got %.100q", body)
		}
	})
	t.Run("it reaches this host and other nodes by address", func(t *testing.T) {
		l, err := net.Listen("tcp", net.JoinHostPort(c.Gateway().String(), "0"))
		if err != nil {
			t.Fatal(err)
		}
		server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "gateway") })}
		go server.Serve(l)
		t.Cleanup(func() { server.Close() })
		if got := h.Exec(t, "curl", "-sS", "-m", "10", "http://"+l.Addr().String()); got != "gateway" {
			t.Errorf("got %q", got)
		}
		other := c.Boot(t, hosts.Options{Name: "other"})
		if got := other.Exec(t, "curl", "-sS", "-m", "10", "-o", "/dev/null", "-w", "%{http_code}", "http://"+h.Addr.String()+"/"); got != "200" {
			t.Errorf("got status %q, want 200", got)
		}
	})
	t.Run("the database of the image is small and starts", func(t *testing.T) {
		kib, err := strconv.Atoi(strings.Fields(h.Exec(t, "du", "-sk", "/var/lib/mysql"))[0])
		if err != nil || kib > 40<<10 {
			t.Errorf("got %d KiB, %v; want at most 40 MiB", kib, err)
		}
		h.Exec(t, "systemctl", "start", "mariadb")
		if got := h.Exec(t, "mariadb", "-N", "-e", "select 1"); got != "1" {
			t.Errorf("got %q", got)
		}
	})
}

func get(t *testing.T, url string) string {
	t.Helper()
	client := &http.Client{Timeout: 10 * time.Second}
	r, err := client.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	body, err := io.ReadAll(r.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(body)
}

func TestSSHLetsInWhoseKeyWasGiven(t *testing.T) {
	c := hosts.NewCloud(t, false)
	h := c.Boot(t, hosts.Options{})
	conn, err := net.DialTimeout("tcp", h.Addr.String()+":22", 10*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
	banner := make([]byte, 7)
	if _, err := io.ReadFull(conn, banner); err != nil || string(banner) != "SSH-2.0" {
		t.Errorf("got %q, %v", banner, err)
	}
}

func TestLimitsAreEnforced(t *testing.T) {
	i := hosts.NewInstance(t)
	o := i.Options()
	o.Images = []nspawn.Image{hosts.Image(t, false)}
	o.Sizes = []core.Size{{ID: "s", Name: "tiny", CPUs: 1, MemoryMB: 256, DiskGB: 1}}
	d, err := nspawn.Open(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	c := &hosts.Cloud{Driver: d, Instance: i}
	h := c.Boot(t, hosts.Options{})
	t.Run("memory beyond the limit kills the process and not the node", func(t *testing.T) {
		_, err := h.Try(t, "systemd-run", "--wait", "--quiet", "--pipe", "php", "-d", "memory_limit=-1", "-r", `$a = str_repeat("x", 400 << 20);`)
		if err == nil {
			t.Error("got 400 MiB in a node of 256 MiB")
		}
		if got := h.Exec(t, "php", "-r", `echo strlen(str_repeat("x", 50 << 20));`); got != strconv.Itoa(50<<20) {
			t.Errorf("50 MiB: got %q", got)
		}
		if n, _ := d.Node(t.Context(), h.ID); n.State != core.CloudRunning {
			t.Errorf("got %s, want running", n.State)
		}
	})
	t.Run("a node of one CPU gets no more than one", func(t *testing.T) {
		const burn = `$end = microtime(true) + 1.5; while (microtime(true) < $end);  echo (int) (1000 * (getrusage()["ru_utime.tv_sec"] + getrusage()["ru_utime.tv_usec"] / 1e6 + getrusage()["ru_stime.tv_sec"] + getrusage()["ru_stime.tv_usec"] / 1e6));`
		used := make(chan int, 4)
		for range cap(used) { // twice as many as this host may have
			go func() {
				out, err := h.Try(t, "php", "-r", burn)
				if err != nil {
					t.Error(err)
				}
				ms, _ := strconv.Atoi(out)
				used <- ms
			}()
		}
		total := 0
		for range cap(used) {
			total += <-used
		}
		if total > 1900 { // 1500 ms of one core, and slack for the start and end of the period
			t.Errorf("four loops of 1500 ms used %d ms of CPU, want about 1500", total)
		}
	})
	t.Run("the disk ends at its size", func(t *testing.T) {
		if _, err := h.Try(t, "fallocate", "-l", "1500M", "/var/big"); err == nil {
			t.Error("got 1500 MB on a disk of 1 GB")
		}
		size, err := strconv.Atoi(strings.Fields(h.Exec(t, "df", "--output=size", "-BM", "/"))[1][:4])
		if err != nil || size < 900 || size > 1024 {
			t.Errorf("df says %d MiB, %v; want about 1000", size, err)
		}
	})
	t.Run("processes end at their number", func(t *testing.T) {
		path := "/sys/fs/cgroup/pids/" + i.Bridge
		if _, err := os.Stat(path); err != nil {
			t.Skip("this host has no v1 pids hierarchy")
		}
		n, _ := d.Node(t.Context(), h.ID)
		data, err := os.ReadFile(fmt.Sprintf("%s/%s/pids.max", path, n.Extra["machine"]))
		if err != nil || strings.TrimSpace(string(data)) != "2048" {
			t.Errorf("got %q, %v; want 2048", data, err)
		}
	})
}

func TestANodeDecidesOverItself(t *testing.T) {
	c := hosts.NewCloud(t, false)
	h := c.Boot(t, hosts.Options{})
	t.Run("a reboot from inside comes back on the same disk", func(t *testing.T) {
		h.WriteFile(t, "/root/kept", 0o600, []byte("data"))
		h.Reboot(t)
		if got := string(h.ReadFile(t, "/root/kept")); got != "data" {
			t.Errorf("got %q", got)
		}
	})
	t.Run("a reboot from outside does too", func(t *testing.T) {
		before := h.BootID(t)
		if err := c.RebootNode(t.Context(), h.ID); err != nil {
			t.Fatal(err)
		}
		if n, _ := c.Node(t.Context(), h.ID); n.State != core.CloudRebooting {
			t.Errorf("got %s just after asking, want rebooting", n.State)
		}
		h.WaitReady(t)
		if after := h.BootID(t); after == before {
			t.Error("it has not booted again")
		}
	})
	t.Run("a power-off from inside stays off until it is started", func(t *testing.T) {
		_, _ = h.Try(t, "systemctl", "poweroff")
		hosts.Eventually(t, "the node is stopped", func() bool {
			n, err := c.Node(t.Context(), h.ID)
			return err == nil && n.State == core.CloudStopped
		})
		if err := c.StartNode(t.Context(), h.ID); err != nil {
			t.Fatal(err)
		}
		h.WaitReady(t)
	})
	t.Run("one whose init dies is in error, and a reboot mends it", func(t *testing.T) {
		_, _ = h.Try(t, "systemctl", "exit", "7")
		hosts.Eventually(t, "the node is in error", func() bool {
			n, err := c.Node(t.Context(), h.ID)
			return err == nil && n.State == core.CloudError
		})
		if err := c.RebootNode(t.Context(), h.ID); err != nil {
			t.Fatal(err)
		}
		h.WaitReady(t)
	})
}

func TestVolumesKeepTheirData(t *testing.T) {
	c := hosts.NewCloud(t, false)
	h := c.Boot(t, hosts.Options{})
	v, err := c.CreateVolume(t.Context(), "data", 64<<20)
	if err != nil {
		t.Fatal(err)
	}
	device, err := c.AttachVolume(t.Context(), v.ID, h.ID)
	if err != nil {
		t.Fatal(err)
	}
	h.Exec(t, "mkfs.ext4", "-q", device)
	h.Exec(t, "mkdir", "-p", "/srv/data")
	h.WriteFile(t, "/etc/systemd/system/srv-data.mount", 0o644,
		[]byte("[Unit]\nBefore=local-fs.target\n[Mount]\nWhat="+device+"\nWhere=/srv/data\nType=ext4\n[Install]\nWantedBy=local-fs.target\n"))
	h.Exec(t, "systemctl", "daemon-reload")
	h.Exec(t, "systemctl", "enable", "--now", "srv-data.mount")
	h.WriteFile(t, "/srv/data/file", 0o644, []byte("data"))
	t.Run("a mounted one is not torn away", func(t *testing.T) {
		if err := c.DetachVolume(t.Context(), v.ID); core.KindOf(err) != core.Busy {
			t.Errorf("got %v, want busy", err)
		}
		if got := string(h.ReadFile(t, "/srv/data/file")); got != "data" {
			t.Errorf("got %q", got)
		}
	})
	t.Run("it is mounted again by the node's own unit after a reboot", func(t *testing.T) {
		h.Reboot(t)
		h.Exec(t, "mountpoint", "-q", "/srv/data")
		if got := string(h.ReadFile(t, "/srv/data/file")); got != "data" {
			t.Errorf("got %q", got)
		}
	})
	t.Run("it is there again after the node was off", func(t *testing.T) {
		if err := c.StopNode(t.Context(), h.ID); err != nil {
			t.Fatal(err)
		}
		if err := c.StartNode(t.Context(), h.ID); err != nil {
			t.Fatal(err)
		}
		h.WaitReady(t)
		if got := string(h.ReadFile(t, "/srv/data/file")); got != "data" {
			t.Errorf("got %q", got)
		}
	})
	t.Run("it moves to another node with its data", func(t *testing.T) {
		if err := c.DestroyNode(t.Context(), h.ID); err != nil { // while it is mounted
			t.Fatal(err)
		}
		other := c.Boot(t, hosts.Options{Name: "other"})
		device, err := c.AttachVolume(t.Context(), v.ID, other.ID)
		if err != nil {
			t.Fatal(err)
		}
		other.Exec(t, "mount", device, "/mnt")
		if got := string(other.ReadFile(t, "/mnt/file")); got != "data" {
			t.Errorf("got %q", got)
		}
		other.Exec(t, "umount", "/mnt")
		if err := c.DetachVolume(t.Context(), v.ID); err != nil {
			t.Error(err)
		}
		if out, err := other.Try(t, "test", "-e", device); err == nil {
			t.Errorf("the device is still there: %s", out)
		}
	})
}

func TestTwoInstancesLiveSideBySide(t *testing.T) {
	first, second := hosts.NewCloud(t, false), hosts.NewCloud(t, false)
	a, b := first.Boot(t, hosts.Options{Name: "twin"}), second.Boot(t, hosts.Options{Name: "twin"})
	if a.Addr == b.Addr {
		t.Fatalf("both have address %s", a.Addr)
	}
	first.Close()
	if err := nspawn.Teardown(t.Context(), first.Options()); err != nil {
		t.Fatal(err)
	}
	hosts.AssertClean(t, first.Instance)
	b.Exec(t, "systemctl", "start", "nginx")
	if body := get(t, "http://"+b.Addr.String()+"/"); body == "" {
		t.Error("the other instance's node does not answer any more")
	}
}

func TestAStateDirectoryHasOneDriver(t *testing.T) {
	c := hosts.NewCloud(t, false)
	if _, err := nspawn.Open(t.Context(), c.Options()); core.KindOf(err) != core.Busy {
		t.Errorf("got %v, want busy", err)
	}
	if err := nspawn.Teardown(t.Context(), c.Options()); core.KindOf(err) != core.Busy {
		t.Errorf("teardown: got %v, want busy", err)
	}
	other := hosts.NewInstance(t)
	o := other.Options()
	o.Bridge = c.Bridge
	if _, err := nspawn.Open(t.Context(), o); core.KindOf(err) != core.Unavailable {
		t.Errorf("another instance's bridge: got %v, want unavailable", err)
	}
}

func TestADeadlineIsKept(t *testing.T) {
	c := hosts.NewCloud(t, false)
	n, err := c.CreateNode(t.Context(), core.NodeSpec{Key: "k", Name: "slow"})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	if err := c.WaitReady(ctx, n.ID); core.KindOf(err) != core.Unavailable {
		t.Errorf("got %v, want unavailable", err)
	}
}
