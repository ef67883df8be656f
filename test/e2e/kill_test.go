//go:build e2e

package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
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

// boundaryLog is where the coordinator writes every step boundary it passes.
func (s *site) boundaryLog() string { return filepath.Join(s.dir, "boundaries") }

// boundaries are those passed since the log was last removed.
func (s *site) boundaries() []string {
	s.t.Helper()
	data, err := os.ReadFile(s.boundaryLog())
	if err != nil && !os.IsNotExist(err) {
		s.t.Fatal(err)
	}
	return strings.FieldsFunc(string(data), func(r rune) bool { return r == '\n' })
}

// awaitEnd waits until the last boundary passed is the end of a group.
func (s *site) awaitEnd(what string) {
	s.t.Helper()
	s.await(20*time.Second, what, func() (bool, string) {
		passed := s.boundaries()
		return len(passed) > 0 && strings.Contains(passed[len(passed)-1], " end"), strings.Join(passed, "\n")
	})
}

// awaitKill waits until a coordinator that was started to be killed is.
func (s *site) awaitKill(where string) {
	s.t.Helper()
	s.await(2*time.Minute, "the coordinator to be killed at "+where, func() (bool, string) { return s.dead(), "it lives" })
	if status, ok := s.process.ProcessState.Sys().(syscall.WaitStatus); !ok || status.Signal() != syscall.SIGKILL {
		s.t.Fatalf("%s: the coordinator ended with %s, want killed", where, s.process.ProcessState)
	}
}

// killCase is a call whose operations the coordinator is killed in.
type killCase struct {
	call  func() ([]gandiOperation, error)
	types []string
}

// TestCoordinatorKilledAtEveryBoundary counts the step boundaries of paas.create and paas.delete in an undisturbed run.
// Then it kills the coordinator with SIGKILL at each of them in turn, starts it again, and expects the end that the
// undisturbed run had.
func TestCoordinatorKilledAtEveryBoundary(t *testing.T) {
	s := newSite(t, 2)
	s.start(0)
	router := s.nodeWith("router")
	s.awaitEnd("the router's operation to end") // or the next coordinator goes on with it, and its boundaries count too
	s.stop()
	create := killCase{func() ([]gandiOperation, error) {
		var ops []gandiOperation
		return ops, s.gandi(&ops, "paas.create", instanceSpec("killed", "killed.test"))
	}, []string{"paas_vm_create", "paas_disk_create", "rproxy_create"}}
	var id int64
	remove := killCase{func() ([]gandiOperation, error) {
		var op gandiOperation
		err := s.gandi(&op, "paas.delete", id)
		return []gandiOperation{op}, err
	}, []string{"paas_delete"}}

	created, ops := s.undisturbed(create)
	s.assertCreated(router.Address, "create undisturbed")
	s.stop()
	id = ops[0].PaasID
	deleted, _ := s.undisturbed(remove)
	s.assertDeleted(router.Address, "killed.test", id)
	s.stop()
	if created < 3*3+1 || deleted < 3+1 { // three around each step, and the end
		t.Fatalf("got %d boundaries of create and %d of delete: too few to be all", created, deleted)
	}
	creates, deletes := 0, 0
	for n := 1; n <= max(created, deleted) && !t.Failed(); n++ {
		ops := s.killedAt(n, n <= created, create)
		if n <= created {
			creates++
		}
		s.assertCreated(router.Address, fmt.Sprintf("boundary %d of create", n))
		s.stop()
		id = ops[0].PaasID
		s.killedAt(n, n <= deleted, remove)
		if n <= deleted {
			deletes++
		}
		s.assertDeleted(router.Address, "killed.test", id)
		s.stop()
		if t.Failed() {
			t.Fatalf("boundary %d left something", n)
		}
	}
	if creates != created || deletes != deleted {
		t.Errorf("got %d kills in create and %d in delete, want %d and %d", creates, deletes, created, deleted)
	}
	t.Logf("killed at %d boundaries of create and %d of delete", creates, deletes)
}

func (s *site) assertCreated(router, when string) {
	s.t.Helper()
	if code, body := s.fetch(router, "killed.test", "/"); code != 200 {
		s.t.Fatalf("%s: got %d %s, want 200", when, code, body)
	}
	if got := s.stateEntries("nodes"); len(got) != 2 {
		s.t.Fatalf("%s: got nodes %v, want the router and one more", when, got)
	}
	if got := s.stateEntries("volumes"); len(got) != 1 {
		s.t.Fatalf("%s: got volumes %v, want one", when, got)
	}
}

// undisturbed carries a call out and counts the boundaries its operations pass, the end of their group included.
func (s *site) undisturbed(c killCase) (boundaries int, ops []gandiOperation) {
	s.t.Helper()
	if err := os.Remove(s.boundaryLog()); err != nil { // the coordinator is off; every start makes the file
		s.t.Fatal(err)
	}
	s.start(0)
	ops, err := c.call()
	if err != nil {
		s.t.Fatal(err)
	}
	s.done(ops...)
	s.awaitEnd("the operations' group to end")
	passed := s.boundaries()
	s.t.Logf("boundaries of %v:\n%s", c.types, strings.Join(passed, "\n"))
	return len(passed), ops
}

// killedAt makes a call to a coordinator that dies at its boundary n, starts it again, and sees the operations to their
// end. Without kill it only does the call. The kill may come before the call's answer: then the operations, which were
// stored before anything could be killed, are found in the list.
func (s *site) killedAt(n int, kill bool, c killCase) []gandiOperation {
	s.t.Helper()
	var before []gandiOperation
	s.start(0)
	s.mustGandi(&before, "operation.list", map[string]any{"items_per_page": 500})
	if kill {
		s.stop()
		s.start(n)
	}
	ops, err := c.call()
	if err != nil && !kill {
		s.t.Fatal(err)
	}
	if kill {
		s.awaitKill(fmt.Sprintf("boundary %d (its call: %v)", n, err))
		s.start(0)
	}
	if err != nil {
		var all []gandiOperation
		s.mustGandi(&all, "operation.list", map[string]any{"items_per_page": 500})
		ops = all[len(before):]
	}
	if len(ops) != len(c.types) {
		s.t.Fatalf("boundary %d: got operations %+v, want %v", n, ops, c.types)
	}
	s.done(ops...)
	return ops
}
