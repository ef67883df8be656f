package deploy

import (
	"bytes"
	"testing"

	"github.com/reeve-paas/reeve/handlers/host"
)

const fstabText = "# /etc/fstab: static file system information.\n" +
	"UUID=1234-5678  /boot/efi\tvfat  umask=0077 0 1\n\n" +
	"/dev/mapper/root / ext4 errors=remount-ro 0 1\n" +
	"  # indented comment\n" +
	"//nas/a\\040share /mnt/my\\040share cifs ro 0 0\n" +
	"broken line\n" +
	"/dev/vdb /srv/data xfs noauto 0 0"

func TestFstab(t *testing.T) {
	text := setFstab([]byte(fstabText), volumeLine("/dev/reeve-vol-1", "/srv/data", "ext4"))
	text = setFstab(text, bindLine("/srv/data/mysql", "/var/lib/mysql", "/srv/data", "mariadb.service"))
	text = setFstab(text, volumeLine("/dev/reeve-vol-2", "/srv/more", "xfs"))
	t.Run("lines are appended and others kept", func(t *testing.T) { golden(t, "fstab", string(text)) })
	t.Run("the same lines again change nothing", func(t *testing.T) {
		if got := setFstab(text, volumeLine("/dev/reeve-vol-1", "/srv/data", "ext4")); !bytes.Equal(got, text) {
			t.Errorf("got %s, want %s", got, text)
		}
	})
	t.Run("only our own line of a mount point is removed", func(t *testing.T) {
		got := removeFstab(removeFstab(removeFstab(text, "/srv/data"), "/var/lib/mysql"), "/srv/more")
		if string(got) != fstabText+"\n" {
			t.Errorf("got %s, want %s", got, fstabText)
		}
	})
	t.Run("a volume is found with what is bound from it", func(t *testing.T) {
		volume, binds := volumeLines(host.ParseFstab(text), "/srv/data")
		if volume.Source != "/dev/reeve-vol-1" || len(binds) != 1 || unitOf(binds[0]) != "mariadb.service" || volumeOf(binds[0]) != "/srv/data" {
			t.Errorf("got %v, %v", volume, binds)
		}
	})
}

func FuzzFstab(f *testing.F) {
	f.Add([]byte(fstabText))
	f.Add([]byte("/dev/a /srv/data ext4 x-reeve.volume 0 2\n/dev/b /srv/data ext4 x-reeve.volume"))
	f.Add([]byte("a b c d\\"))
	want := volumeLine("/dev/reeve-vol-1", "/srv/data", "ext4")
	f.Fuzz(func(t *testing.T, text []byte) {
		set := setFstab(text, want)
		if again := setFstab(set, want); !bytes.Equal(again, set) {
			t.Errorf("set twice: got %q, want %q", again, set)
		}
		found := 0
		for _, l := range host.ParseFstab(set) {
			if ours(l) && l.MPoint == want.MPoint {
				found++
			}
		}
		if found != 1 {
			t.Errorf("got %d lines of ours, want 1", found)
		}
		removed := removeFstab(text, want.MPoint)
		rest := removeFstab(set, want.MPoint)
		if !bytes.Equal(bytes.TrimSuffix(rest, []byte("\n")), bytes.TrimSuffix(removed, []byte("\n"))) {
			t.Errorf("set and removed: got %q, want %q", rest, removed)
		}
	})
}

func FuzzAccounts(f *testing.F) {
	f.Add([]byte(passwdText), "2316")
	f.Add([]byte("a:b\n\n:\n2316:x"), "2316")
	f.Fuzz(func(t *testing.T, text []byte, name string) {
		if !loginName.MatchString(name) {
			return
		}
		with := setEntry(text, name, "x", "1")
		if got := entry(with, name); len(got) != 3 || got[2] != "1" {
			t.Errorf("got entry %q of %q", got, with)
		}
		if again := setEntry(with, name, "x", "1"); !bytes.Equal(again, with) {
			t.Errorf("set twice: got %q, want %q", again, with)
		}
		if got, want := removeEntry(with, name), removeEntry(text, name); !bytes.Equal(bytes.TrimSuffix(got, []byte("\n")), bytes.TrimSuffix(want, []byte("\n"))) {
			t.Errorf("set and removed: got %q, want %q", got, want)
		}
	})
}
