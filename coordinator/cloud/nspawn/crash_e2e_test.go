//go:build e2e

package nspawn_test

import (
	"context"
	"encoding/json"
	"log/slog"
	"math/rand/v2"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/reeve-paas/reeve/coordinator/cloud/nspawn"
	"github.com/reeve-paas/reeve/coordinator/core"
	"github.com/reeve-paas/reeve/test/hosts"
)

// driveEnv makes this test binary a coordinator that only creates and destroys, to be killed at any moment. Its value is
// a file with driveOptions.
const driveEnv = "REEVE_TEST_DRIVE"

type driveOptions struct {
	StateDir, Bridge string
	Subnet           netip.Prefix
	Image            nspawn.Image
}

func (o driveOptions) nspawn() nspawn.Options {
	return nspawn.Options{StateDir: o.StateDir, Bridge: o.Bridge, AppName: o.Bridge, Subnet: o.Subnet, Images: []nspawn.Image{o.Image}}
}

func drive(file string) {
	data, err := os.ReadFile(file)
	if err != nil {
		panic(err)
	}
	var o driveOptions
	if err := json.Unmarshal(data, &o); err != nil {
		panic(err)
	}
	ctx := context.Background()
	d, err := nspawn.Open(ctx, o.nspawn())
	if err != nil {
		panic(err)
	}
	v, err := d.CreateVolume(ctx, "volume", 16<<20)
	if err != nil {
		panic(err)
	}
	for i := 0; ; i++ {
		n, err := d.CreateNode(ctx, core.NodeSpec{Key: "node-" + strconv.Itoa(i%2), Name: "victim"})
		if err != nil {
			panic(err)
		}
		if _, err := d.AttachVolume(ctx, v.ID, n.ID); err == nil {
			_ = d.WaitReady(ctx, n.ID)
			_, _ = d.Exec(ctx, n.ID, nil, "sh", "-c", "mkfs.ext4 -q /dev/reeve/"+v.ID+"; mkdir -p /srv/x; mount /dev/reeve/"+v.ID+" /srv/x")
			if snap, err := d.SnapshotVolume(ctx, "snapshot-"+strconv.Itoa(i%2), v.ID); err == nil {
				if copied, err := d.RestoreSnapshot(ctx, "copy-"+strconv.Itoa(i%2), snap.ID, 0); err == nil {
					_ = d.DestroyVolume(ctx, copied.ID)
				}
				_ = d.DestroySnapshot(ctx, snap.ID)
			}
			_ = d.RebootNode(ctx, n.ID)
			_ = d.StopNode(ctx, n.ID)
			_ = d.StartNode(ctx, n.ID)
		}
		_ = d.DestroyNode(ctx, n.ID)
	}
}

// TestAKillAtAnyMomentLeavesNothing kills a process that uses the driver, again and again and each time somewhere else,
// and looks whether the next one can go on with what it finds.
func TestAKillAtAnyMomentLeavesNothing(t *testing.T) {
	i := hosts.NewInstance(t)
	o := driveOptions{i.StateDir, i.Bridge, i.Subnet, hosts.Image(t, false)}
	file := filepath.Join(t.TempDir(), "drive.json")
	data, err := json.Marshal(o)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, data, 0o600); err != nil {
		t.Fatal(err)
	}
	for range 20 {
		cmd := exec.Command("/proc/self/exe")
		cmd.Env = append(os.Environ(), driveEnv+"="+file)
		cmd.Stderr = os.Stderr
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Duration(20+rand.IntN(900)) * time.Millisecond) // the moment is the point, not a wait for anything
		if err := cmd.Process.Signal(unix.SIGKILL); err != nil {
			t.Fatalf("it ended by itself: %v", err)
		}
		_ = cmd.Wait()
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	d, err := nspawn.Open(ctx, o.nspawn())
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	t.Run("what is half made is completed by the same key", func(t *testing.T) {
		n, err := d.CreateNode(ctx, core.NodeSpec{Key: "node-0", Name: "victim"})
		if err != nil {
			t.Fatal(err)
		}
		if err := d.StartNode(ctx, n.ID); err != nil { // it may have been stopped when the kill came
			t.Fatal(err)
		}
		if err := d.WaitReady(ctx, n.ID); err != nil {
			console, _ := d.Console(ctx, n.ID)
			t.Fatalf("%v\n%s", err, console)
		}
	})
	t.Run("everything can be destroyed", func(t *testing.T) {
		nodes, err := d.Nodes(ctx)
		if err != nil {
			t.Fatal(err)
		}
		if len(nodes) > 2 {
			t.Errorf("got %d nodes for two keys", len(nodes))
		}
		// What runs is seen, so that seeing nothing afterwards means something.
		running, err := nspawn.NodeLeftovers(i.StateDir)
		if err != nil {
			t.Fatal(err)
		}
		for _, kind := range []string{"directory ", "mount ", "loop device ", "cgroup ", "network interface ", "process "} {
			if !slices.ContainsFunc(running, func(what string) bool { return strings.HasPrefix(what, kind) }) {
				t.Errorf("got %q of a running node, want a %salso", running, kind)
			}
		}
		for _, n := range nodes {
			if err := d.DestroyNode(ctx, n.ID); err != nil {
				t.Error(err)
			}
		}
		left, err := nspawn.NodeLeftovers(i.StateDir)
		if err != nil || len(left) > 0 {
			t.Errorf("left behind: %q, %v", left, err)
		}
	})
}

func TestNodesDoNotCareAboutTheCoordinator(t *testing.T) {
	c := hosts.NewCloud(t, false)
	h := c.Boot(t, hosts.Options{})
	log := slog.New(slog.NewTextHandler(t.Output(), nil))
	reopen := func(t *testing.T) {
		t.Helper()
		o := c.Options()
		o.Images = []nspawn.Image{hosts.Image(t, false)}
		o.Log = log
		d, err := nspawn.Open(t.Context(), o)
		if err != nil {
			t.Fatal(err)
		}
		c.Driver = d
	}
	t.Cleanup(func() { c.Driver.Close() })
	t.Cleanup(func() {
		if t.Failed() {
			run, _ := os.ReadFile(filepath.Join(c.StateDir, "nodes", h.ID, "run.json"))
			console, _ := os.ReadFile(filepath.Join(c.StateDir, "nodes", h.ID, "console.log"))
			t.Logf("%s\n%s", run, console)
		}
	})
	boot := h.BootID(t)
	t.Run("a running one is adopted as it is", func(t *testing.T) {
		c.Driver.Close()
		reopen(t)
		h.WaitReady(t)
		if now := h.BootID(t); now != boot {
			t.Error("it was booted again")
		}
		c.Driver.Close()
	})
	t.Run("it reboots while no coordinator is there", func(t *testing.T) {
		reopen(t)
		h.WaitReady(t)
		go h.Try(t, "systemctl", "reboot")
		hosts.Eventually(t, "the reboot is under way", func() bool {
			n, err := c.Node(t.Context(), h.ID)
			return err == nil && n.State == core.CloudRebooting
		})
		c.Driver.Close()
		reopen(t)
		h.WaitReady(t)
		if now := h.BootID(t); now == boot {
			t.Error("it was not booted again")
		}
	})
	t.Run("one whose supervisor dies gets another and runs on", func(t *testing.T) {
		boot := h.BootID(t)
		old := h.Processes(t).Supervisor
		killSupervisor(t, h)
		hosts.Eventually(t, "another supervisor is there", func() bool { return h.Processes(t).Supervisor != old })
		h.WaitReady(t)
		if now := h.BootID(t); now != boot {
			t.Error("it was booted again")
		}
		h.Reboot(t)
		if now := h.BootID(t); now == boot {
			t.Error("it does not reboot any more")
		}
	})
	t.Run("one whose supervisor died with the coordinator is adopted too", func(t *testing.T) {
		boot := h.BootID(t)
		c.Driver.Close()
		killSupervisor(t, h)
		reopen(t)
		h.WaitReady(t)
		if now := h.BootID(t); now != boot {
			t.Error("it was booted again")
		}
		_, _ = h.Try(t, "systemctl", "poweroff")
		hosts.Eventually(t, "the node is stopped", func() bool {
			n, err := c.Node(t.Context(), h.ID)
			return err == nil && n.State == core.CloudStopped
		})
	})
	t.Run("one that was powered off stays off when the coordinator comes back", func(t *testing.T) {
		c.Driver.Close()
		reopen(t)
		if n, err := c.Node(t.Context(), h.ID); err != nil || n.State != core.CloudStopped {
			t.Errorf("got %s, %v; want stopped", n.State, err)
		}
		if err := c.StartNode(t.Context(), h.ID); err != nil {
			t.Fatal(err)
		}
		h.WaitReady(t)
	})
	t.Run("one that lost everything boots again", func(t *testing.T) {
		boot := h.BootID(t)
		c.Driver.Close()
		killSupervisor(t, h)
		killNode(t, h)
		reopen(t)
		h.WaitReady(t)
		if now := h.BootID(t); now == boot {
			t.Error("it was not booted again")
		}
	})
}

func killSupervisor(t *testing.T, h *hosts.Host) {
	t.Helper()
	killAndWait(t, h.Processes(t).Supervisor.PID)
}

func killNode(t *testing.T, h *hosts.Host) {
	t.Helper()
	r := h.Processes(t)
	killAndWait(t, r.Leader.PID)
	killAndWait(t, r.Nspawn.PID)
}

func killAndWait(t *testing.T, pid int) {
	t.Helper()
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return // gone already
	}
	defer unix.Close(fd)
	_ = unix.Kill(pid, unix.SIGKILL)
	if n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 10_000); n != 1 {
		t.Fatalf("process %d does not end: %v", pid, err)
	}
}
