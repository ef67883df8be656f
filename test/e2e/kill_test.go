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
		killed, ops := s.killedAt(createOver, n, func() ([]gandiOperation, error) {
			var ops []gandiOperation
			return ops, s.gandi(&ops, "paas.create", instanceSpec("killed", "killed.test"))
		}, "paas_vm_create", "paas_disk_create", "rproxy_create")
		createOver = createOver || !killed
		if code, body := s.fetch(router.Address, "killed.test", "/"); code != 200 {
			t.Fatalf("boundary %d of create: got %d %s, want 200", n, code, body)
		}
		if got := s.stateEntries("nodes"); len(got) != 2 {
			t.Fatalf("boundary %d of create: got nodes %v, want the router and one more", n, got)
		}
		if got := s.stateEntries("volumes"); len(got) != 1 {
			t.Fatalf("boundary %d of create: got volumes %v, want one", n, got)
		}
		s.stop()
		id := ops[0].PaasID
		killed, _ = s.killedAt(deleteOver, n, func() ([]gandiOperation, error) {
			var op gandiOperation
			err := s.gandi(&op, "paas.delete", id)
			return []gandiOperation{op}, err
		}, "paas_delete")
		deleteOver = deleteOver || !killed
		s.assertDeleted(router.Address, "killed.test", id)
		s.stop()
		if t.Failed() {
			t.Fatalf("boundary %d left something", n)
		}
	}
}

// killedAt starts the coordinator with the failpoint n, unless over, makes a call, and sees its operations to their end,
// after a new start if the coordinator was killed. The kill may come before the call's answer: then the operations, which
// were stored before anything could be killed, are found in the list.
func (s *site) killedAt(over bool, n int, call func() ([]gandiOperation, error), types ...string) (killed bool, ops []gandiOperation) {
	s.t.Helper()
	var before []gandiOperation
	s.start(0)
	s.mustGandi(&before, "operation.list", map[string]any{"items_per_page": 500})
	s.stop()
	if over {
		n = 0
	}
	s.start(n)
	ops, err := call()
	switch {
	case err == nil && !over:
		killed = s.diesOrEnds(ops)
	case err != nil && over:
		s.t.Fatal(err)
	case err != nil:
		s.await(10*time.Second, "the coordinator to be dead after its call failed with "+err.Error(), func() (bool, string) { return s.dead(), "it lives" })
		killed = true
	}
	if killed {
		s.start(0)
	}
	if err != nil {
		var all []gandiOperation
		s.mustGandi(&all, "operation.list", map[string]any{"items_per_page": 500})
		ops = all[len(before):]
	}
	if len(ops) != len(types) {
		s.t.Fatalf("boundary %d: got operations %+v, want %v", n, ops, types)
	}
	s.done(ops...)
	return killed, ops
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
