//go:build e2e

package nspawn_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/reeve-paas/reeve/test/hosts"
)

// TestASnapshotIsOneMoment copies a volume while a program inside writes pairs of lines to two files, one after the other
// and synced: a copy that is not of one moment has a line in the second file whose partner is not in the first.
func TestASnapshotIsOneMoment(t *testing.T) {
	c := hosts.NewCloud(t, false)
	h := c.Boot(t, hosts.Options{Name: "writer"})
	v, err := c.CreateVolume(t.Context(), "data", 64<<20)
	if err != nil {
		t.Fatal(err)
	}
	device, err := c.AttachVolume(t.Context(), v.ID, h.ID)
	if err != nil {
		t.Fatal(err)
	}
	h.Exec(t, "sh", "-c", "mkfs.ext4 -q "+device+" && mkdir -p '/srv/a b' && mount "+device+" '/srv/a b' && echo before > '/srv/a b/before' && sync")
	h.Exec(t, "systemd-run", "--quiet", "--unit=writer", "--", "sh", "-c",
		`cd "/srv/a b"; i=0; while :; do i=$((i+1)); echo $i >> first; sync first; echo $i >> second; sync second; done`)
	hosts.Eventually(t, "the writer is at work", func() bool {
		out, err := h.Try(t, "sh", "-c", `test -s "/srv/a b/second" && echo yes`)
		return err == nil && out == "yes"
	})
	snap, err := c.SnapshotVolume(t.Context(), "moment", v.ID)
	if err != nil {
		t.Fatal(err)
	}
	t.Run("the writer goes on", func(t *testing.T) {
		count := func() string { return h.Exec(t, "sh", "-c", `wc -l < "/srv/a b/second"`) }
		then := count()
		hosts.Eventually(t, "more lines", func() bool { return count() != then })
		if _, err := os.Stat(filepath.Join(c.StateDir, "volumes", v.ID, "frozen")); !os.IsNotExist(err) {
			t.Errorf("the mark of a frozen file system is still there: %v", err)
		}
	})
	h.Exec(t, "systemctl", "stop", "writer")
	h.Exec(t, "sh", "-c", `rm "/srv/a b/before"; sync`)
	copied, err := c.RestoreSnapshot(t.Context(), "copy", snap.ID, 96<<20)
	if err != nil {
		t.Fatal(err)
	}
	t.Run("only its data takes room", func(t *testing.T) {
		for _, file := range []string{"snapshots/" + snap.ID + "/disk.img", "volumes/" + copied.ID + "/disk.img"} {
			out, err := exec.Command("du", "-k", filepath.Join(c.StateDir, file)).Output()
			if err != nil {
				t.Fatal(err)
			}
			if kib := strings.Fields(string(out))[0]; len(kib) > 5 {
				t.Errorf("%s: got %s KiB of a nearly empty file system", file, kib)
			}
		}
	})
	other, err := c.AttachVolume(t.Context(), copied.ID, h.ID)
	if err != nil {
		t.Fatal(err)
	}
	t.Run("the copy is what was there then", func(t *testing.T) {
		h.Exec(t, "sh", "-c", "mkdir -p /srv/copy && mount "+other+" /srv/copy")
		if got := h.Exec(t, "cat", "/srv/copy/before"); got != "before" {
			t.Errorf("got %q", got)
		}
		first, second := strings.Fields(h.Exec(t, "cat", "/srv/copy/first")), strings.Fields(h.Exec(t, "cat", "/srv/copy/second"))
		if len(second) == 0 || len(first)-len(second) > 1 || len(first) < len(second) || first[len(second)-1] != second[len(second)-1] {
			t.Errorf("got %d lines in the first file and %d in the second", len(first), len(second))
		}
		h.Exec(t, "umount", "/srv/copy")
		h.Exec(t, "e2fsck", "-f", "-n", other)
	})
	t.Run("it outlives its volume", func(t *testing.T) {
		h.Exec(t, "umount", "/srv/a b")
		for _, id := range []string{v.ID, copied.ID} {
			if err := c.DestroyVolume(t.Context(), id); err != nil {
				t.Fatal(err)
			}
		}
		if err := c.DestroySnapshot(t.Context(), snap.ID); err != nil {
			t.Error(err)
		}
		if left, err := os.ReadDir(filepath.Join(c.StateDir, "snapshots")); err != nil || len(left) > 0 {
			t.Errorf("left behind: %v, %v", left, err)
		}
	})
}

func TestAFullDiskFailsASnapshotCleanly(t *testing.T) {
	c := hosts.NewCloud(t, false)
	v, err := c.CreateVolume(t.Context(), "data", 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(c.StateDir, "volumes", v.ID, "disk.img"), []byte(strings.Repeat("x", 1<<20)), 0o600); err != nil {
		t.Fatal(err)
	}
	snapshots := filepath.Join(c.StateDir, "snapshots")
	mount := func(size string) {
		t.Helper()
		if out, err := exec.Command("mount", "-t", "tmpfs", "-o", "size="+size, "tmpfs", snapshots).CombinedOutput(); err != nil {
			t.Fatalf("mount: %v %s", err, out)
		}
	}
	mount("256k")
	t.Cleanup(func() { _ = exec.Command("umount", snapshots).Run() })
	_, err = c.SnapshotVolume(t.Context(), "too-large", v.ID)
	if err == nil || !strings.Contains(err.Error(), "the disk of the cloud is full") {
		t.Errorf("got %v, want it to say that the disk is full", err)
	}
	list, err := c.Snapshots(t.Context())
	if err != nil || len(list) != 1 || list[0].Complete {
		t.Fatalf("got %+v, %v, want one that is not whole", list, err)
	}
	if out, err := exec.Command("mount", "-o", "remount,size=8m", snapshots).CombinedOutput(); err != nil {
		t.Fatalf("remount: %v %s", err, out)
	}
	snap, err := c.SnapshotVolume(t.Context(), "too-large", v.ID)
	if err != nil || !snap.Complete || snap.ID != list[0].ID {
		t.Errorf("the next try: got %+v, %v", snap, err)
	}
	if err := c.DestroySnapshot(t.Context(), snap.ID); err != nil {
		t.Error(err)
	}
}
