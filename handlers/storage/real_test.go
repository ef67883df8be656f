//go:build e2e

package storage

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/reeve-paas/reeve/agent/agentapi"
	"github.com/reeve-paas/reeve/handlers/host"
	"github.com/reeve-paas/reeve/handlers/host/hosttest"
)

// These tests use real loop devices, filesystems and commands, in a mount namespace of their own where /etc is a copy and
// /srv is empty.

func realBed(t *testing.T) *bed {
	return newBed(t, host.New(host.Options{}), t.TempDir(), nil)
}

// realDir is a directory on a disk: the host's own temporary one may lie where no volume may.
func realDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("/var/tmp", "reeve-storage-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

func command(t *testing.T, name string, args ...string) string {
	t.Helper()
	out, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %v: %v\n%s", name, args, err, out)
	}
	return strings.TrimSpace(string(out))
}

// fill writes files of random content below a directory and returns the sum of all.
func fill(t *testing.T, dir string, size int) string {
	t.Helper()
	random := rand.NewChaCha8([32]byte{1})
	for i := range 4 {
		data := make([]byte, size/4)
		random.Read(data)
		if err := os.WriteFile(filepath.Join(dir, fmt.Sprint("file", i)), data, 0o640); err != nil {
			t.Fatal(err)
		}
	}
	return sum(t, dir)
}

func sum(t *testing.T, dir string) string {
	t.Helper()
	h := sha256.New()
	for i := range 4 {
		data, err := os.ReadFile(filepath.Join(dir, fmt.Sprint("file", i)))
		if err != nil {
			t.Fatal(err)
		}
		h.Write(data)
	}
	return fmt.Sprintf("%x", h.Sum(nil))
}

// attached are the loop devices whose file lies below a directory.
func attached(t *testing.T, dir string) []string {
	t.Helper()
	var devices []string
	files, _ := filepath.Glob("/sys/block/loop*/loop/backing_file")
	for _, f := range files {
		if data, err := os.ReadFile(f); err == nil && strings.HasPrefix(string(data), dir+"/") {
			devices = append(devices, f)
		}
	}
	return devices
}

// clean fails the test when a loop device, mount or line of fstab is left, and removes what is.
func clean(t *testing.T, dir string) {
	t.Cleanup(func() {
		mounts, _ := os.ReadFile(host.MountsFile)
		for _, m := range host.ParseMounts(mounts) {
			if strings.HasPrefix(m.MPoint, dir+"/") {
				t.Errorf("left mounted: %+v", m)
				_ = exec.Command("umount", "-l", m.MPoint).Run()
			}
		}
		for _, l := range attached(t, dir) {
			t.Errorf("left attached: %s", l)
			_ = exec.Command("losetup", "-d", "/dev/"+strings.Split(l, "/")[3]).Run()
		}
		if text, _ := os.ReadFile("/etc/fstab"); strings.Contains(string(text), dir) {
			t.Errorf("left in fstab:\n%s", text)
		}
	})
}

func fstab(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile("/etc/fstab")
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	return string(text)
}

func sizeOf(t *testing.T, b *bed, mpoint string) uint64 {
	t.Helper()
	use, err := b.host.StatFS(t.Context(), mpoint)
	if err != nil {
		t.Fatal(err)
	}
	return use.SizeBytes
}

func TestRealLoop(t *testing.T) {
	if !hosttest.Isolate(t) {
		return
	}
	b := realBed(t)
	dir := realDir(t)
	clean(t, dir)
	mpoint := dir + "/mnt"
	fstabBefore := fstab(t)
	want := object{"type": "loop", "size": 0.05, "file": dir + "/v.img", "fstype": "ext4", "mpoint": mpoint, "odd": object{"kept": true}, "fscreated": 1}
	var v agentapi.StorageConfig
	var content string

	t.Run("63 a loop volume is made, mounted, and the same call with its result changes nothing", func(t *testing.T) {
		v = b.ok(t, "create", "volume", want, "mkfs", true, "mount", true, "fstab", true)
		if !regexp.MustCompile(`^vol-loop-[0-9a-f]{8}$`).MatchString(v.Text("id")) || !strings.HasPrefix(v.Text("device"), "/dev/loop") {
			t.Fatalf("got %v", v)
		}
		command(t, "mountpoint", "-q", mpoint)
		content = fill(t, mpoint, 8<<20)
		again := b.ok(t, "create", "volume", v, "mkfs", true, "mount", true, "fstab", true)
		if params("v", again) != params("v", v) {
			t.Errorf("got %v, want %v", again, v)
		}
		if got := sum(t, mpoint); got != content {
			t.Error("the data changed")
		}
	})
	t.Run("62 unknown members come back, fscreated does not", func(t *testing.T) {
		if string(v["odd"]) != `{"kept":true}` || v["fscreated"] != nil {
			t.Errorf("got %v", v)
		}
	})
	t.Run("65 one line of fstab, once", func(t *testing.T) {
		line := fmt.Sprintf("%s %s ext4 defaults,comment=scalr,nofail 0 0\n", v.Text("device"), mpoint)
		if got := fstab(t); strings.Count(got, line) != 1 || strings.Count(got, mpoint) != 1 {
			t.Errorf("got %s, want once %s", got, line)
		}
	})
	var snap agentapi.StorageConfig
	t.Run("66 a snapshot is a copy of the file, and restores", func(t *testing.T) {
		snap = b.ok(t, "snapshot", "volume", v, "description", "before", "tags", object{"a": "b"})
		if snap.Text("type") != "loop" || !strings.HasPrefix(snap.Text("file"), dir+"/v.img.snap.") || snap.Text("description") != "before" || string(snap["tags"]) != `{"a":"b"}` {
			t.Fatalf("got %v", snap)
		}
		if err := os.WriteFile(mpoint+"/file0", []byte("changed"), 0o640); err != nil { // and it is not frozen any more
			t.Fatal(err)
		}
		restored := b.ok(t, "create", "volume", object{"type": "loop", "snap": snap, "mpoint": dir + "/restored"}, "mount", true)
		if !null(restored, "snap") || restored.Text("file") == v.Text("file") || restored.Text("id") == v.Text("id") {
			t.Errorf("got %v", restored)
		}
		if got := sum(t, dir+"/restored"); got != content {
			t.Error("the restored data differ")
		}
		gone := b.ok(t, "destroy", "volume", restored, "force", true)
		if !null(gone, "device") || b.host.Exists(restored.Text("file")) {
			t.Errorf("got %v", gone)
		}
	})
	t.Run("a volume in use is not detached, and stays", func(t *testing.T) {
		f, err := os.Open(mpoint + "/file1")
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		b.fails(t, "FileSystemError: cannot unmount", "detach", "volume", v)
		command(t, "mountpoint", "-q", mpoint)
	})
	t.Run("65 detach drops the line and frees the device", func(t *testing.T) {
		got := b.ok(t, "detach", "volume", v, "anything", 1)
		if !null(got, "device") || got.Text("file") != v.Text("file") {
			t.Errorf("got %v", got)
		}
		if fstab(t) != fstabBefore || len(attached(t, dir)) != 0 {
			t.Errorf("got fstab %s, loops %v", fstab(t), attached(t, dir))
		}
		if again := b.ok(t, "detach", "volume", got); !null(again, "device") {
			t.Errorf("a second time: got %v", again)
		}
		v = got
	})
	t.Run("64 mkfs keeps a filesystem that is there, and says which it is", func(t *testing.T) {
		other := changed(v, "fstype", "xfs")
		v = b.ok(t, "create", "volume", other, "mkfs", true, "mount", true)
		if v.Text("fstype") != "ext4" {
			t.Errorf("got %v", v)
		}
		if _, err := os.Stat(mpoint + "/file3"); err != nil {
			t.Error(err)
		}
	})
	t.Run("69 destroy without force keeps the file, with force it goes", func(t *testing.T) {
		got := b.ok(t, "destroy", "volume", v)
		if !null(got, "device") || !b.host.Exists(v.Text("file")) || len(attached(t, dir)) != 0 {
			t.Errorf("got %v", got)
		}
		got = b.ok(t, "destroy", "volume", got, "force", true)
		if !null(got, "device") || b.host.Exists(v.Text("file")) {
			t.Errorf("got %v", got)
		}
		b.fails(t, "VolumeNotExistsError: Volume not found: "+v.Text("id"), "create", "volume", v)
	})
	t.Run("a volume whose file is lost is made anew when that is asked for", func(t *testing.T) {
		again := b.ok(t, "create", "volume", changed(v, "recreate_if_missing", true))
		if again.Text("id") == v.Text("id") || again.Text("id") == "" {
			t.Errorf("got %v", again)
		}
		command(t, "mountpoint", "-q", mpoint)
		b.ok(t, "destroy", "volume", again, "force", true)
	})
}

func TestRealLoopGrows(t *testing.T) {
	if !hosttest.Isolate(t) {
		return
	}
	for _, c := range []struct {
		fstype   string
		from, to float64
	}{{"ext3", 0.05, 0.1}, {"ext4", 0.05, 0.1}, {"xfs", 0.3, 0.4}, {"btrfs", 0.15, 0.3}} {
		for _, mounted := range []bool{true, false} {
			t.Run(fmt.Sprintf("67 %s mounted %v", c.fstype, mounted), func(t *testing.T) {
				if _, err := exec.LookPath("mkfs." + c.fstype); err != nil {
					t.Skip(err)
				}
				b := realBed(t)
				dir := realDir(t)
				clean(t, dir)
				mpoint := dir + "/mnt"
				v := b.ok(t, "create", "volume", object{"type": "loop", "size": c.from, "file": dir + "/v.img", "fstype": c.fstype, "mpoint": mpoint}, "mkfs", true, "mount", true, "fstab", mounted)
				content, before := fill(t, mpoint, 8<<20), sizeOf(t, b, mpoint)
				if !mounted {
					b.ok(t, "detach", "volume", v)
				}
				b.fails(t, "StorageError: New loop device size is less than current.", "grow", "volume", v, "growth", object{"size": c.from / 2})
				n := b.ok(t, "grow", "volume", v, "growth", object{"size": c.to})
				if n.Text("id") == v.Text("id") || n.Text("file") == v.Text("file") || !b.host.Exists(v.Text("file")) || !null(n, "snap") {
					t.Errorf("got %v from %v", n, v)
				}
				if line, kept := strings.CutPrefix(fstab(t), ""); mounted && (!kept || strings.Count(line, mpoint) != 1 || !strings.Contains(line, n.Text("device")+" "+mpoint)) {
					t.Errorf("got fstab %s", line)
				}
				if !mounted {
					if mounts, _ := b.host.Mounts(); len(b.host.MountsOf(mounts, n.Text("device"))) != 0 {
						t.Error("the grown volume is mounted, the old one was not")
					}
					n = b.ok(t, "create", "volume", n, "mount", true)
				}
				if got := sum(t, mpoint); got != content {
					t.Error("the data changed")
				}
				if after := sizeOf(t, b, mpoint); after < before*3/2 && c.fstype != "xfs" || after <= before {
					t.Errorf("the filesystem has %d bytes, and had %d", after, before)
				}
				old := b.ok(t, "detach", "volume", v) // the old one has no device any more
				if !null(old, "device") {
					t.Errorf("got %v", old)
				}
				for _, volume := range []agentapi.StorageConfig{n, old} {
					b.ok(t, "destroy", "volume", volume, "force", true)
				}
			})
		}
	}
	t.Run("67 a failure mounts the old volume again and leaves nothing of the new one", func(t *testing.T) {
		b := realBed(t)
		dir := realDir(t)
		clean(t, dir)
		v := b.ok(t, "create", "volume", object{"type": "loop", "size": 0.05, "file": dir + "/v.img", "fstype": "ext4", "mpoint": dir + "/mnt"}, "mkfs", true, "mount", true, "fstab", true)
		content, lines := fill(t, dir+"/mnt", 8<<20), fstab(t)
		broken := newBed(t, host.New(host.Options{Runner: failing{"resize2fs"}}), t.TempDir(), nil)
		broken.fails(t, "StorageError: Volume growth failed: ", "grow", "volume", v, "growth", object{"size": 0.1})
		if got := sum(t, dir+"/mnt"); got != content || fstab(t) != lines {
			t.Errorf("the data changed, or fstab:\n%s", fstab(t))
		}
		if files, _ := filepath.Glob(dir + "/v*"); len(files) != 1 || len(attached(t, dir)) != 1 {
			t.Errorf("got files %v, loops %v", files, attached(t, dir))
		}
		b.ok(t, "destroy", "volume", v, "force", true)
	})
}

func TestRealSnapshotsShareBlocksOnBtrfs(t *testing.T) {
	if !hosttest.Isolate(t) {
		return
	}
	b := realBed(t)
	dir := realDir(t)
	clean(t, dir)
	pool := b.ok(t, "create", "volume", object{"type": "loop", "size": 0.5, "file": dir + "/pool.img", "fstype": "btrfs", "mpoint": dir + "/pool"}, "mkfs", true, "mount", true)
	clean(t, dir+"/pool")
	v := b.ok(t, "create", "volume", object{"type": "loop", "size": 0.1, "zerofill": true, "file": dir + "/pool/v.img", "fstype": "ext4", "mpoint": dir + "/v"}, "mkfs", true, "mount", true)
	content := fill(t, dir+"/v", 40<<20)
	command(t, "sync", "-f", dir+"/pool")
	snap := b.ok(t, "snapshot", "volume", v)
	command(t, "sync", "-f", dir+"/pool")
	if out := command(t, "filefrag", "-v", snap.Text("file")); !strings.Contains(out, "shared") {
		t.Errorf("no block of the snapshot is shared:\n%s", out)
	}
	if err := os.WriteFile(dir+"/v/file1", bytes.Repeat([]byte{1}, 10<<20), 0o640); err != nil {
		t.Fatal(err)
	}
	restored := b.ok(t, "create", "volume", object{"type": "loop", "snap": snap, "mpoint": dir + "/r"}, "mount", true)
	if got := sum(t, dir+"/r"); got != content {
		t.Error("the restored data differ")
	}
	for _, volume := range []agentapi.StorageConfig{restored, v, pool} {
		b.ok(t, "destroy", "volume", volume, "force", true)
	}
}

func TestRealTmpfs(t *testing.T) {
	if !hosttest.Isolate(t) {
		return
	}
	b := realBed(t)
	dir := realDir(t)
	clean(t, dir)
	lines := fstab(t)
	v := b.ok(t, "create", "volume", object{"type": "tmpfs", "size": "16", "mpoint": dir + "/t"}, "mount", true, "fstab", true)
	if v.Text("device") != dir+"/t" || sizeOf(t, b, dir+"/t") != 16<<20 || !strings.Contains(fstab(t), "tmpfs "+dir+"/t tmpfs size=16M") {
		t.Errorf("got %v, fstab %s", v, fstab(t))
	}
	b.ok(t, "create", "volume", v, "mount", true, "fstab", true)
	if got := b.ok(t, "detach", "volume", v); !null(got, "device") || fstab(t) != lines {
		t.Errorf("got %v, fstab %s", got, fstab(t))
	}
}

// TestRealBase is a device that somebody else attached, as a cloud's.
func TestRealBase(t *testing.T) {
	if !hosttest.Isolate(t) {
		return
	}
	b := realBed(t)
	dir := realDir(t)
	clean(t, dir)
	command(t, "truncate", "-s", "64M", dir+"/disk")
	device := command(t, "losetup", "--find", "--show", dir+"/disk")
	defer command(t, "losetup", "-d", device)
	v := b.ok(t, "create", "volume", object{"type": "base", "device": device, "fstype": "ext4", "mpoint": dir + "/a b"}, "mkfs", true, "mount", true, "fstab", true)
	if !strings.Contains(fstab(t), device+" "+strings.ReplaceAll(dir+"/a b", " ", `\040`)+" ext4 defaults,comment=scalr,nofail 0 0") {
		t.Errorf("got fstab %s", fstab(t))
	}
	content := fill(t, dir+"/a b", 4<<20)
	moved := b.ok(t, "create", "volume", changed(v, "mpoint", dir+"/c"), "mount", true)
	if got := sum(t, dir+"/c"); got != content {
		t.Error("the data changed")
	}
	b.fails(t, "base volume type does not' support grow.", "grow", "volume", moved, "growth", object{"size": 1})
	b.fails(t, "NotImplementedError", "snapshot", "volume", moved)
	b.ok(t, "detach", "volume", moved)
}
