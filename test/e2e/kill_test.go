//go:build e2e

package e2e

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func (s *site) logContains(text string) bool {
	data, err := os.ReadFile(s.log.Name())
	if err != nil {
		s.t.Fatal(err)
	}
	return strings.Contains(string(data), text)
}

// stateEntries lists what the nspawn cloud keeps of a kind.
func (s *site) stateEntries(kind string) []string {
	entries, err := os.ReadDir(filepath.Join(s.dir, "data", "clouds", "nspawn", kind))
	if err != nil && !os.IsNotExist(err) {
		s.t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

// TestCoordinatorKilledAtEveryBoundary kills the coordinator with SIGKILL at each step boundary of paas.create and of
// paas.delete in turn, starts it again, and expects the end that an undisturbed run has.
func TestCoordinatorKilledAtEveryBoundary(t *testing.T) {
	s := newSite(t, 2)
	s.start(0)
	router := s.nodeWith("router")
	s.stop()
	createOver, deleteOver := false, false
	for n := 1; !createOver || !deleteOver; n++ {
		if n > 100 {
			t.Fatal("the operations have more than 100 boundaries: something repeats")
		}
		var ops []gandiOperation
		if createOver {
			s.start(0)
		} else {
			s.start(n)
		}
		s.mustGandi(&ops, "paas.create", instanceSpec("killed", "killed.test"))
		if !createOver {
			createOver = !s.diesOrEnds(ops)
		}
		if s.dead() {
			s.start(0)
		}
		s.done(ops...)
		if code, body := s.fetch(router.Address, "killed.test", "/"); code != 200 {
			t.Fatalf("boundary %d of create: got %d %s, want 200", n, code, body)
		}
		if got := s.stateEntries("nodes"); len(got) != 2 {
			t.Fatalf("boundary %d of create: got machines %v, want the router and one more", n, got)
		}
		if got := s.stateEntries("volumes"); len(got) != 1 {
			t.Fatalf("boundary %d of create: got volumes %v, want one", n, got)
		}
		s.stop()

		if deleteOver {
			s.start(0)
		} else {
			s.start(n)
		}
		var op gandiOperation
		s.mustGandi(&op, "paas.delete", ops[0].PaasID)
		if !deleteOver {
			deleteOver = !s.diesOrEnds([]gandiOperation{op})
		}
		if s.dead() {
			s.start(0)
		}
		s.done(op)
		s.assertDeleted(router.Address, "killed.test", ops[0].PaasID)
		s.stop()
		if t.Failed() {
			t.Fatalf("boundary %d left something", n)
		}
	}
}

// diesOrEnds waits until the coordinator is killed or the operations end, and says whether it was killed.
func (s *site) diesOrEnds(ops []gandiOperation) bool {
	s.t.Helper()
	s.await(2*time.Minute, "the coordinator to be killed or the operations to end", func() (bool, string) {
		if s.dead() {
			return true, ""
		}
		for _, op := range ops {
			var now gandiOperation
			if err := s.gandi(&now, "operation.info", op.ID); err != nil {
				return false, err.Error()
			}
			if now.Step != "DONE" {
				return false, now.Step
			}
		}
		return true, ""
	})
	// The boundary after the last step lies between "all DONE" and the end of the group.
	select {
	case <-s.exited:
	case <-time.After(300 * time.Millisecond):
	}
	return s.dead()
}
