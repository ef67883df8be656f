package host

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func TestMountPathsAreEscaped(t *testing.T) {
	for _, p := range []string{"/srv/a", "/srv/a b\tc", `/srv/a\040`, "/srv/a\nb", "/srv/#x"} {
		l := FstabLine{"/dev/x", p, "ext4", []string{"defaults"}, "0"}
		lines := ParseFstab([]byte(l.String() + "\n"))
		if len(lines) != 1 || lines[0].MPoint != p {
			t.Errorf("%q: got %+v of %q", p, lines, l)
		}
	}
}

// FuzzFstab edits any text and takes the edit back, with and without an edit by somebody else in between.
func FuzzFstab(f *testing.F) {
	f.Add([]byte("# comment\nUUID=1 / ext4 defaults 0 1\n\n/dev/a /srv/a ext4 defaults,comment=scalr,nofail 0 0"), "/srv/a")
	f.Add([]byte(nil), "/srv/a b")
	f.Add([]byte("/dev/a\t/x\\040y xfs ro\n\n\n/dev/a /x\\040y xfs ro\n"), "/x y")
	f.Add([]byte("\\\n \n"), "/a")
	f.Fuzz(func(t *testing.T, text []byte, mpoint string) {
		if !strings.HasPrefix(mpoint, "/") || strings.ContainsAny(mpoint, "\x00\r\v\f\u0085\u00a0") || strings.TrimSpace(mpoint) != mpoint || !slices.Equal(strings.Fields(escapeMount(mpoint)), []string{escapeMount(mpoint)}) {
			t.Skip()
		}
		want := FstabLine{"/dev/loop7", mpoint, "ext4", []string{"defaults", "nofail"}, "0"}
		at := func(l FstabLine) bool { return l.MPoint == mpoint }
		set := SetFstab(text, want, at)
		if again := SetFstab(set, want, at); !bytes.Equal(again, set) {
			t.Errorf("set twice: got %q, want %q", again, set)
		}
		if n := len(slices.DeleteFunc(ParseFstab(set), func(l FstabLine) bool { return !at(l) })); n != 1 {
			t.Errorf("got %d lines, want 1 in %q", n, set)
		}
		removed := RemoveFstab(text, at)
		if rest := RemoveFstab(set, at); !bytes.Equal(bytes.TrimSuffix(rest, []byte("\n")), bytes.TrimSuffix(removed, []byte("\n"))) {
			t.Errorf("set and removed: got %q, want %q", rest, removed)
		}
		if got := revertLines(set, text, set); !bytes.Equal(got, text) {
			t.Errorf("taken back: got %q, want %q", got, text)
		}
		other := FstabLine{"/dev/other", mpoint + "/other", "xfs", []string{"defaults"}, "0"}
		late := SetFstab(set, other, func(l FstabLine) bool { return l.MPoint == other.MPoint })
		reverted := revertLines(late, text, set)
		lines := slices.DeleteFunc(ParseFstab(reverted), func(l FstabLine) bool { return l.MPoint == other.MPoint })
		before := slices.DeleteFunc(ParseFstab(text), func(l FstabLine) bool { return l.MPoint == other.MPoint })
		key := func(l FstabLine) string { return l.String() }
		if a, b := sortedBy(lines, key), sortedBy(before, key); !slices.Equal(a, b) {
			t.Errorf("taken back after another edit: got %q, want %q", a, b)
		}
		if !slices.ContainsFunc(ParseFstab(reverted), func(l FstabLine) bool { return l.String() == other.String() }) {
			t.Errorf("taking back lost what somebody else wrote: %q", reverted)
		}
	})
}

func sortedBy[T any](list []T, key func(T) string) []string {
	var keys []string
	for _, v := range list {
		keys = append(keys, key(v))
	}
	slices.Sort(keys)
	return keys
}

func TestEditFstab(t *testing.T) {
	root := t.TempDir()
	if err := os.Mkdir(filepath.Join(root, "etc"), 0o755); err != nil {
		t.Fatal(err)
	}
	h := New(Options{Root: root, Layout: &Debian})
	line := func(mpoint string) func([]byte) []byte {
		return func(text []byte) []byte {
			return SetFstab(text, FstabLine{"/dev/x", mpoint, "ext4", []string{"defaults"}, "0"}, func(l FstabLine) bool { return l.MPoint == mpoint })
		}
	}
	text := func() string { data, _ := h.ReadFstab(); return string(data) }
	t.Run("a file that was not there goes again", func(t *testing.T) {
		c := h.Begin()
		if err := c.EditFstab(line("/a")); err != nil || text() != "/dev/x /a ext4 defaults 0 0\n" {
			t.Fatalf("got %v, %q", err, text())
		}
		if err := c.Rollback(); err != nil || h.Exists(FstabFile) {
			t.Errorf("got %v, %q", err, text())
		}
	})
	t.Run("what another change wrote meanwhile stays", func(t *testing.T) {
		first, second := h.Begin(), h.Begin()
		if err := errors.Join(first.EditFstab(line("/a")), second.EditFstab(line("/b")), first.Rollback()); err != nil {
			t.Fatal(err)
		}
		if got := text(); got != "/dev/x /b ext4 defaults 0 0\n" {
			t.Errorf("got %q", got)
		}
	})
}

func TestMakeFilesystemKnowsItsTypes(t *testing.T) {
	h := New(Options{Root: t.TempDir(), Layout: &Debian})
	if err := h.MakeFilesystem(context.Background(), "/dev/x", "ntfs"); err == nil || !strings.Contains(err.Error(), "btrfs, ext3, ext4, xfs") {
		t.Errorf("got %v", err)
	}
}
