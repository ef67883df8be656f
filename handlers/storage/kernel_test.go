//go:build kernel

package storage

import (
	"crypto/sha256"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/reeve-paas/reeve/agent/agentapi"
	"github.com/reeve-paas/reeve/handlers/host"
)

// These tests run as the only program of an emulated machine (make test-kernel): device-mapper, md, udev, lvm2 and mdadm are
// Debian's. Anywhere else they are skipped, because they change the machine itself.

func kernelBed(t *testing.T) (b *bed, dir string) {
	t.Helper()
	if os.Getenv("REEVE_TEST_KERNEL") == "" {
		t.Skip("runs in a machine of its own: make test-kernel")
	}
	dir, err := os.MkdirTemp("/srv", "kernel-")
	if err != nil {
		t.Fatal(err)
	}
	before := devices(t)
	t.Cleanup(func() {
		if after := devices(t); after != before {
			t.Errorf("devices are left: got\n%s\nwant\n%s", after, before)
		}
		os.RemoveAll(dir)
	})
	return newBed(t, host.New(host.Options{}), dir+"/state", nil), dir
}

func run(t *testing.T, name string, args ...string) string {
	t.Helper()
	out, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %v: %v\n%s", name, args, err, out)
	}
	return strings.TrimSpace(string(out))
}

// devices are the loop devices, mappings, arrays, groups and mounts of the machine.
func devices(t *testing.T) string {
	t.Helper()
	loops, _ := filepath.Glob("/sys/block/loop*/loop/backing_file")
	mdstat, _ := os.ReadFile("/proc/mdstat")
	mounts, _ := os.ReadFile("/proc/mounts")
	fstab, _ := os.ReadFile("/etc/fstab")
	return strings.Join([]string{fmt.Sprint(loops), run(t, "dmsetup", "ls"), string(mdstat), run(t, "pvs"), run(t, "vgs"), string(mounts), string(fstab)}, "\n")
}

func disks(dir string, n int, gb float64) []object {
	var list []object
	for i := range n {
		list = append(list, object{"type": "loop", "size": gb, "file": fmt.Sprintf("%s/d%d.img", dir, i)})
	}
	return list
}

func write(t *testing.T, mpoint string) string {
	t.Helper()
	data := make([]byte, 4<<20)
	for i := range data {
		data[i] = byte(i * 7 >> 3)
	}
	if err := os.WriteFile(mpoint+"/data", data, 0o600); err != nil {
		t.Fatal(err)
	}
	run(t, "sync")
	return content(t, mpoint)
}

func content(t *testing.T, mpoint string) string {
	t.Helper()
	data, err := os.ReadFile(mpoint + "/data")
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("%x", sha256.Sum256(data))
}

func size(t *testing.T, b *bed, mpoint string) uint64 {
	t.Helper()
	use, err := b.host.StatFS(t.Context(), mpoint)
	if err != nil {
		t.Fatal(err)
	}
	return use.SizeBytes
}

func TestKernelConformance70LVM(t *testing.T) {
	b, dir := kernelBed(t)
	mpoint := dir + "/mnt"
	v := b.ok(t, "create", "volume", object{"type": "lvm", "vg": "vg-a", "name": "data", "size": "60%VG", "pvs": disks(dir, 2, 0.06), "fstype": "ext4", "mpoint": mpoint}, "mkfs", true, "mount", true, "fstab", true)
	if v.Text("device") != "/dev/mapper/vg--a-data" {
		t.Errorf("got %v", v)
	}
	want := write(t, mpoint)
	if again := b.ok(t, "create", "volume", v, "mkfs", true, "mount", true, "fstab", true); params("v", again) != params("v", v) {
		t.Errorf("again: got %v, want %v", again, v)
	}
	t.Run("extended by a physical volume, mounted", func(t *testing.T) {
		before := size(t, b, mpoint)
		more := []any{nested(t, v, "pvs", 0), nested(t, v, "pvs", 1), object{"type": "loop", "size": 0.06, "file": dir + "/more.img"}}
		v = b.ok(t, "create", "volume", changed(v, "pvs", more))
		if after := size(t, b, mpoint); after < before*13/10 || content(t, mpoint) != want {
			t.Errorf("got %d bytes, had %d", after, before)
		}
	})
	t.Run("a physical volume of another group is refused", func(t *testing.T) {
		b.fails(t, "already in volume group vg-a", "create", "volume", object{"type": "lvm", "vg": "other", "name": "x", "size": "10M", "pvs": []any{nested(t, v, "pvs", 0)}})
	})
	t.Run("a snapshot restores beside the original", func(t *testing.T) {
		snap := b.ok(t, "snapshot", "volume", v, "description", "nightly")
		if got := nested(t, snap, "pv_snaps", 2).Text("description"); got != "nightly PV-2" {
			t.Errorf("got description %q", got)
		}
		if err := os.WriteFile(mpoint+"/data", []byte("changed"), 0o600); err != nil {
			t.Fatal(err)
		}
		r := b.ok(t, "create", "volume", object{"type": "lvm", "snap": snap, "mpoint": dir + "/r"}, "mount", true)
		if content(t, dir+"/r") != want || r.Text("vg") == "vg-a" {
			t.Errorf("got %v", r)
		}
		b.ok(t, "destroy", "volume", r, "force", true)
		if err := os.WriteFile(mpoint+"/more", nil, 0o600); err != nil {
			t.Error(err)
		}
		want = content(t, mpoint)
	})
	t.Run("detached and attached again", func(t *testing.T) {
		v = b.ok(t, "detach", "volume", v)
		if !null(v, "device") {
			t.Errorf("got %v", v)
		}
		v = b.ok(t, "create", "volume", v, "mount", true)
		if content(t, mpoint) != want {
			t.Error("the data changed")
		}
	})
	b.fails(t, "lvm volume type does not' support grow.", "grow", "volume", v, "growth", object{"size": 1})
	b.ok(t, "destroy", "volume", v, "force", true)
}

func TestKernelConformance70RAID(t *testing.T) {
	for _, level := range []string{"1", "5"} {
		t.Run("level "+level, func(t *testing.T) {
			b, dir := kernelBed(t)
			mpoint := dir + "/mnt"
			n := map[string]int{"1": 2, "5": 3}[level]
			ds := disks(dir, n, 0.06)
			v := b.ok(t, "create", "volume", object{"type": "raid", "vg": "vgr", "level": level, "disks": ds, "fstype": "ext4", "mpoint": mpoint}, "mkfs", true, "mount", true, "fstab", true)
			if v.Text("device") != "/dev/mapper/vgr-lvol0" || v.Text("raid_pv") == "" || v.Text("pv_uuid") == "" || v.Text("lvm_group_cfg") == "" {
				t.Errorf("got %v", v)
			}
			want := write(t, mpoint)
			t.Run("disks of an array are refused", func(t *testing.T) {
				b.fails(t, "belongs to an array already", "create", "volume", object{"type": "raid", "vg": "x", "level": "1", "disks": ds[:1]})
			})
			t.Run("again, and detached and attached", func(t *testing.T) {
				v = b.ok(t, "create", "volume", v, "mkfs", true, "mount", true, "fstab", true)
				v = b.ok(t, "detach", "volume", v)
				if text, _ := os.ReadFile("/proc/mdstat"); strings.Contains(string(text), "active") || !null(v, "device") {
					t.Errorf("got %v, %s", v, text)
				}
				v = b.ok(t, "create", "volume", v, "mount", true, "fstab", true)
				if content(t, mpoint) != want {
					t.Error("the data changed")
				}
			})
			t.Run("detached by an older agent, which takes the group's metadata away", func(t *testing.T) {
				v = b.ok(t, "create", "volume", v)
				run(t, "umount", mpoint)
				run(t, "vgchange", "-an", "vgr")
				run(t, "vgremove", "--force", "--yes", "vgr")
				run(t, "pvremove", v.Text("raid_pv"))
				run(t, "mdadm", "--stop", v.Text("raid_pv"))
				v = b.ok(t, "create", "volume", changed(v, "device", nil), "mount", true)
				if content(t, mpoint) != want {
					t.Error("the data changed")
				}
			})
			t.Run("replace_raid_disk", func(t *testing.T) {
				old := nested(t, v, "disks", 1)
				v = b.ok(t, "replace_raid_disk", "volume", v, "index", 1, "disk", object{"type": "loop", "size": 0.06, "file": dir + "/new.img"})
				if nested(t, v, "disks", 1).Text("file") != dir+"/new.img" || b.host.Exists(old.Text("file")) || content(t, mpoint) != want {
					t.Errorf("got %v", v)
				}
				if degraded, err := os.ReadFile("/sys/block/" + filepath.Base(v.Text("raid_pv")) + "/md/degraded"); err != nil || strings.TrimSpace(string(degraded)) != "0" {
					t.Errorf("got degraded %s, %v", degraded, err)
				}
			})
			var snap agentapi.StorageConfig
			t.Run("snapshot", func(t *testing.T) {
				snap = b.ok(t, "snapshot", "volume", v, "description", "x")
				if got, want := nested(t, snap, "disks", 0).Text("description"), "Raid"+level+" disk 0. x"; got != want {
					t.Errorf("got %q, want %q", got, want)
				}
			})
			t.Run("grow by larger disks", func(t *testing.T) {
				before := size(t, b, mpoint)
				g := b.ok(t, "grow", "volume", v, "growth", object{"disks": object{"size": 0.12}})
				if after := size(t, b, mpoint); after < before*3/2 || content(t, mpoint) != want || g.Text("id") == v.Text("id") {
					t.Errorf("got %d bytes, had %d; %v", after, before, g)
				}
				b.ok(t, "destroy", "volume", changed(v, "device", nil), "remove_disks", true) // the old one stayed, detached
				v = g
			})
			t.Run("grow by one more disk", func(t *testing.T) {
				before := size(t, b, mpoint)
				v = b.ok(t, "grow", "volume", v, "growth", object{"disks_count": n + 1})
				after := size(t, b, mpoint)
				if content(t, mpoint) != want || level == "5" && after < before*5/4 {
					t.Errorf("got %d bytes, had %d", after, before)
				}
			})
			b.ok(t, "destroy", "volume", v, "remove_disks", true)
			t.Run("the snapshot restores", func(t *testing.T) {
				r := b.ok(t, "create", "volume", object{"type": "raid", "snap": snap, "mpoint": dir + "/r"}, "mount", true)
				if content(t, dir+"/r") != want {
					t.Error("the data differ")
				}
				b.ok(t, "destroy", "volume", r, "remove_disks", true)
			})
		})
	}
}

func TestKernelEph(t *testing.T) {
	b, dir := kernelBed(t)
	for _, fstype := range []string{"ext4", "xfs"} {
		t.Run(fstype, func(t *testing.T) {
			mpoint := dir + "/mnt"
			ds := []object{{"type": "loop", "size": 0.6, "file": dir + "/e0.img"}, {"type": "loop", "size": 0.4, "file": dir + "/e1.img"}}
			v := b.ok(t, "create", "volume", object{"type": "eph", "vg": "vge", "disks": ds, "size": "60%", "snap_backend": "file://" + dir + "/store", "fstype": fstype, "mpoint": mpoint}, "mkfs", true, "mount", true)
			want := write(t, mpoint)
			if err := os.MkdirAll(mpoint+"/sub/dir", 0o710); err != nil {
				t.Fatal(err)
			}
			snap := b.ok(t, "snapshot", "volume", v, "tags", object{"a": 1})
			if !strings.HasPrefix(snap.Text("path"), "file://"+dir+"/store/") || snap.Text("data_size") == "" {
				t.Errorf("got %v", snap)
			}
			gone := b.ok(t, "destroy", "volume", v, "force", true)
			if !null(gone, "device") || b.host.Exists(dir+"/e0.img") {
				t.Errorf("got %v", gone)
			}
			r := b.ok(t, "create", "volume", object{"type": "eph", "vg": "vge", "disks": ds, "size": "50%", "snap": snap, "fstype": fstype, "mpoint": mpoint}, "mount", true)
			if st, err := os.Stat(mpoint + "/sub/dir"); content(t, mpoint) != want || err != nil || st.Mode().Perm() != 0o710 {
				t.Errorf("got %v, %v", st, err)
			}
			b.ok(t, "destroy", "volume", r, "force", true)
		})
	}
}
