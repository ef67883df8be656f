package host

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"testing"
	"time"
)

func TestUpdateFile(t *testing.T) {
	h := New(Options{Root: t.TempDir(), Layout: &Debian})
	if err := os.WriteFile(h.Path("/shadow"), []byte("old"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(h.Path("/shadow"), 0o640); err != nil {
		t.Fatal(err)
	}
	gid := os.Getegid()
	if os.Geteuid() == 0 {
		gid = 42
		if err := os.Chown(h.Path("/shadow"), 0, gid); err != nil {
			t.Fatal(err)
		}
	}
	check := func(t *testing.T, want string) {
		t.Helper()
		data, err := h.ReadFile("/shadow")
		if err != nil || string(data) != want {
			t.Errorf("got %q, %v, want %q", data, err, want)
		}
		st, err := h.Stat("/shadow")
		if err != nil || st.Mode() != 0o640 {
			t.Errorf("got mode %v, %v, want 0640", st.Mode(), err)
		}
		if _, got, err := h.Owner("/shadow"); err != nil || got != gid {
			t.Errorf("got group %d, %v, want %d", got, err, gid)
		}
		if entries, _ := h.ReadDir("/"); len(entries) != 1 {
			t.Errorf("got %v, want no temporary file left", entries)
		}
	}
	c := h.Begin()
	changed, err := c.UpdateFile("/shadow", []byte("new"))
	if !changed || err != nil {
		t.Fatalf("got %v, %v", changed, err)
	}
	t.Run("mode and owner are kept", func(t *testing.T) { check(t, "new") })
	if changed, err := c.UpdateFile("/shadow", []byte("new")); changed || err != nil {
		t.Errorf("the same again: got %v, %v", changed, err)
	}
	if err := c.Rollback(); err != nil {
		t.Fatal(err)
	}
	t.Run("a rollback brings the content back", func(t *testing.T) { check(t, "old") })
	t.Run("a file that is not there is an error", func(t *testing.T) {
		if err := h.UpdateFile("/missing", nil); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("got %v, want not exist", err)
		}
	})
}

func TestReplaceLink(t *testing.T) {
	h := New(Options{Root: t.TempDir(), Layout: &Debian})
	if err := os.Symlink("left by a killed agent", h.Path("/.current.new")); err != nil {
		t.Fatal(err)
	}
	for _, target := range []string{"releases/1", "releases/2"} {
		if err := h.ReplaceLink("/current", target); err != nil {
			t.Fatal(err)
		}
		if got, err := h.ReadLink("/current"); err != nil || got != target {
			t.Errorf("got %q, %v, want %q", got, err, target)
		}
	}
	if h.Exists("/.current.new") {
		t.Error("the temporary link is still there")
	}
}

func TestLock(t *testing.T) {
	h := New(Options{Root: t.TempDir(), Layout: &Debian})
	unlock, err := h.Lock(t.Context(), "/lock")
	if err != nil {
		t.Fatal(err)
	}
	t.Run("a second holder waits until its context ends", func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Millisecond)
		defer cancel()
		if _, err := h.Lock(ctx, "/lock"); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v, want the deadline", err)
		}
	})
	t.Run("or until the first is done", func(t *testing.T) {
		got := make(chan error, 1)
		go func() {
			unlock, err := h.Lock(t.Context(), "/lock")
			if err == nil {
				unlock()
			}
			got <- err
		}()
		unlock()
		if err := <-got; err != nil {
			t.Error(err)
		}
	})
}

func TestOwnBelow(t *testing.T) {
	h := New(Options{Root: t.TempDir(), Layout: &Debian})
	outside := h.Path("/outside")
	if err := errors.Join(os.WriteFile(outside, nil, 0o600), h.MkdirAll("/in", 0o700), os.Symlink(outside, h.Path("/in/link"))); err != nil {
		t.Fatal(err)
	}
	root, err := h.OpenRoot("/in")
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	if err := h.OwnBelow(root, "link", 12, 34, 0o777); err != nil {
		t.Error(err)
	}
	st, err := os.Stat(outside)
	if err != nil || st.Mode() != 0o600 {
		t.Errorf("got mode %v of the link's target, %v, want it untouched", st.Mode(), err)
	}
	if uid, _, _ := h.Owner("/outside"); uid != os.Geteuid() {
		t.Errorf("got owner %d of the link's target", uid)
	}
}
