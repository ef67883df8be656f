package host_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/reeve-paas/reeve/handlers/host"
	"github.com/reeve-paas/reeve/handlers/host/hosttest"
)

const stagingDir = "/etc/x/.staging"

func stagedHost(t *testing.T) *hosttest.Host {
	h := hosttest.New(t)
	h.WriteText("/etc/x/a", "old a")
	h.WriteText("/etc/x/b", "old b")
	if err := os.Chmod(h.Path("/etc/x/a"), 0o640); err != nil {
		t.Fatal(err)
	}
	return h
}

// stageAll replaces a twice, removes b and creates c.
func stageAll(t *testing.T, h *hosttest.Host) *host.Staged {
	t.Helper()
	s, err := h.Stage(stagingDir, host.Readers{})
	if err != nil {
		t.Fatal(err)
	}
	for _, step := range []struct{ path, text string }{{"/etc/x/a", "between"}, {"/etc/x/c", "new c"}, {"/etc/x/a", "new a"}} {
		if _, err := s.Write(step.path, []byte(step.text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Remove("/etc/x/b"); err != nil {
		t.Fatal(err)
	}
	return s
}

func TestStagedChange(t *testing.T) {
	t.Run("touches no target before Apply", func(t *testing.T) {
		h := stagedHost(t)
		before := h.Tree("/etc/x")
		s := stageAll(t, h)
		if err := s.Rollback(); err != nil {
			t.Fatal(err)
		}
		if got := h.Tree("/etc/x"); got != before {
			t.Errorf("got\n%s, want\n%s", got, before)
		}
	})
	t.Run("is in place after Commit, with the old modes, and leaves nothing behind", func(t *testing.T) {
		h := stagedHost(t)
		s := stageAll(t, h)
		if err := s.Apply(); err != nil {
			t.Fatal(err)
		}
		if err := s.Commit(); err != nil {
			t.Fatal(err)
		}
		if err := s.Rollback(); err != nil { // the deferred one
			t.Fatal(err)
		}
		want := "drwxr-xr-x /etc/x\n-rw-r----- /etc/x/a \"new a\"\n-rw------- /etc/x/c \"new c\"\n"
		if got := h.Tree("/etc/x"); got != want {
			t.Errorf("got\n%s, want\n%s", got, want)
		}
		if undone, err := h.RecoverStaged(stagingDir, host.Readers{}); undone || err != nil {
			t.Errorf("got %v, %v, want nothing to recover", undone, err)
		}
	})
	t.Run("refuses a target that is a link", func(t *testing.T) {
		h := stagedHost(t)
		os.Symlink("a", h.Path("/etc/x/link"))
		s, err := h.Stage(stagingDir, host.Readers{})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := s.Write("/etc/x/link", nil, 0o600); err == nil {
			t.Error("got no error")
		}
	})
}

func TestRecoverStagedUndoesAKilledChange(t *testing.T) {
	// Every state a kill can leave: the journal is there and the first n steps were done.
	for n := range 5 {
		h := stagedHost(t)
		before := h.Tree("/etc/x")
		s := stageAll(t, h)
		stop := stopAfter(n)
		err := s.ApplyUntil(stop)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := h.Stage(stagingDir, host.Readers{}); err == nil {
			t.Error("a new change starts over an interrupted one")
		}
		undone, err := h.RecoverStaged(stagingDir, host.Readers{})
		if err != nil || !undone {
			t.Fatalf("got %v, %v", undone, err)
		}
		if got := h.Tree("/etc/x"); got != before {
			t.Errorf("after %d steps: got\n%s, want\n%s", n, got, before)
		}
	}
}

func TestAnUndoThatWasKilledCanBeRepeated(t *testing.T) {
	h := stagedHost(t)
	before := h.Tree("/etc/x")
	s := stageAll(t, h)
	if err := s.ApplyUntil(stopAfter(4)); err != nil {
		t.Fatal(err)
	}
	// The first half of an undo: b is back, its link is gone.
	if err := os.Rename(filepath.Join(h.Root, stagingDir, "old-3"), h.Path("/etc/x/b")); err != nil {
		t.Fatal(err)
	}
	if _, err := h.RecoverStaged(stagingDir, host.Readers{}); err != nil {
		t.Fatal(err)
	}
	if got := h.Tree("/etc/x"); got != before {
		t.Errorf("got\n%s, want\n%s", got, before)
	}
}

func stopAfter(n int) func(int) bool { return func(done int) bool { return done >= n } }
