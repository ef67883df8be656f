//go:build e2e

package nspawn_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/reeve-paas/reeve/test/hosts"
)

func TestANodeIsResizedAndItsVolumeGrowsWhileItRuns(t *testing.T) {
	c := hosts.NewCloud(t, false)
	h := c.Boot(t, hosts.Options{Name: "grows"})
	boot := h.Exec(t, "cat", "/proc/sys/kernel/random/boot_id") + h.Exec(t, "stat", "-c", "%Y", "/run/systemd/system", "/proc/1")
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
	h.Exec(t, "mount", device, "/srv/data")
	h.Exec(t, "dd", "if=/dev/urandom", "of=/srv/data/random", "bs=1M", "count=40", "status=none")
	sum := h.Exec(t, "sha256sum", "/srv/data/random")
	t.Run("the volume", func(t *testing.T) {
		if _, err := c.GrowVolume(t.Context(), v.ID, 256<<20); err != nil {
			t.Fatal(err)
		}
		if out, err := h.Try(t, "resize2fs", device); err != nil { // where the kernel wants CAP_SYS_RESOURCE for it and we lack it
			t.Logf("grown unmounted: %s %v", out, err)
			h.Exec(t, "umount", "/srv/data")
			h.Exec(t, "e2fsck", "-f", "-p", device)
			h.Exec(t, "resize2fs", device)
			h.Exec(t, "mount", device, "/srv/data")
		}
		h.Exec(t, "dd", "if=/dev/zero", "of=/srv/data/more", "bs=1M", "count=120", "status=none")
		h.Exec(t, "sync")
		if got := h.Exec(t, "sha256sum", "/srv/data/random"); got != sum {
			t.Errorf("got %s after growing, want %s", got, sum)
		}
	})
	t.Run("memory and processors", func(t *testing.T) {
		want := map[string]string{"memory.limit_in_bytes": "2147483648", "cpu.cfs_quota_us": "200000", "memory.max": "2147483648", "cpu.max": "200000 100000"}
		if err := c.ResizeNode(t.Context(), h.ID, "l"); err != nil {
			t.Fatal(err)
		}
		seen := 0
		for name, value := range want {
			files, _ := filepath.Glob("/sys/fs/cgroup/*/*/*" + h.ID[2:] + "/" + name)
			pure, _ := filepath.Glob("/sys/fs/cgroup/*/*" + h.ID[2:] + "/" + name)
			for _, f := range append(files, pure...) {
				data, err := os.ReadFile(f)
				if got := strings.TrimSpace(string(data)); err == nil && got != value {
					t.Errorf("%s: got %s, want %s", f, got, value)
				}
				seen++
			}
		}
		if seen < 2 {
			t.Errorf("found %d limits of the node, want its memory and its processors", seen)
		}
		if got := h.Exec(t, "cat", "/proc/sys/kernel/random/boot_id") + h.Exec(t, "stat", "-c", "%Y", "/run/systemd/system", "/proc/1"); got != boot {
			t.Error("the node was booted again")
		}
	})
}
