package storetest

import (
	"encoding/json"
	"regexp"
	"testing"
	"time"

	"github.com/reeve-paas/reeve/coordinator/core"
	"github.com/reeve-paas/reeve/coordinator/operation"
)

// enqueue stores a group of three operations about one subject.
func enqueue(t testing.TB, s *suite, subject string) operation.Group {
	t.Helper()
	g := operation.Group{Secret: []byte("secret of " + subject)}
	for _, kind := range []string{"one", "two", "three"} {
		g.Operations = append(g.Operations, operation.Record{Kind: kind, Account: "acc", Subject: subject,
			Params: json.RawMessage(`{"of":"` + kind + `"}`), Steps: 2})
	}
	return put(t, s, g, core.Tx.Enqueue)
}

func group(t testing.TB, s *suite, id string) operation.GroupState {
	t.Helper()
	g, err := s.Group(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	return g
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func operations(t testing.TB, s *suite, f core.OperationFilter) []operation.Record {
	t.Helper()
	return get(t, s, func(r core.Reader) ([]operation.Record, error) { return r.Operations(f) })
}

var uuid = regexp.MustCompile(`^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$`)

func testOperations(t *testing.T, s *suite) {
	before := time.Now()
	g := enqueue(t, s, "app1")
	other := enqueue(t, s, "app2")
	if !uuid.MatchString(g.ID) || g.ID == other.ID {
		t.Errorf("got group ids %q and %q, want two random UUIDs", g.ID, other.ID)
	}
	for i, op := range g.Operations {
		if op.ID == "" || op.Num == 0 || op.GroupID != g.ID || op.Seq != i || op.Status != operation.StatusNew ||
			op.CreatedAt.Before(before.Truncate(time.Microsecond)) || !op.UpdatedAt.Equal(op.CreatedAt) || op.CreatedAt.Location() != time.UTC {
			t.Errorf("operation %d was not filled in: %+v", i, op)
		}
	}
	same(t, "operation", get(t, s, func(r core.Reader) (operation.Record, error) { return r.Operation(g.Operations[1].Num) }), g.Operations[1])
	same(t, "operations of the subject", operations(t, s, core.OperationFilter{Subject: "app1"}), g.Operations)
	same(t, "operations of the group", operations(t, s, core.OperationFilter{GroupID: other.ID}), other.Operations)
	same(t, "operations of the account", operations(t, s, core.OperationFilter{Account: "acc"}), append(g.Operations, other.Operations...))
	same(t, "operations of another account", operations(t, s, core.OperationFilter{Account: "x"}), nil)

	must(t, s.Complete(t.Context(), g.Operations[0].ID, at(1)))
	same(t, "unfinished operations of the subject", operations(t, s, core.OperationFilter{Subject: "app1", Unfinished: true}), g.Operations[1:])
	same(t, "unfinished operations of the account", operations(t, s, core.OperationFilter{Account: "acc", Unfinished: true}),
		append(g.Operations[1:], other.Operations...))

	state := group(t, s, g.ID)
	if string(state.Secret) != "secret of app1" || state.Ended || state.Undoing || state.CancelAsked {
		t.Errorf("got group %+v, want it open, forward and with its secret", state)
	}
	err := s.Update(t.Context(), func(tx core.Tx) error { return tx.Enqueue(&operation.Group{}) })
	wantKind(t, err, core.Internal, core.ObjOperation)
}

func testForward(t *testing.T, s *suite) {
	g := enqueue(t, s, "app1")
	for i, op := range g.Operations {
		must(t, s.Start(t.Context(), op.ID, at(10*i)))
		for n, step := range []string{"first", "second"} {
			rec := operation.StepRecord{Name: step, Done: true, Output: json.RawMessage(`{"n":1}`), StartedAt: at(10*i + n),
				EndedAt: at(10*i + n + 1), Attempts: 2}
			for range 2 { // a step may be recorded twice
				must(t, s.StepDone(t.Context(), op.ID, n, rec))
			}
			state := group(t, s, g.ID)
			same(t, "recorded step", state.Steps[op.ID][n], rec)
			got := state.Operations[i]
			if got.Status != operation.StatusInProgress || got.Step != step || got.StepsDone != n+1 || !got.UpdatedAt.Equal(rec.EndedAt) || !got.StartedAt.Equal(at(10*i)) {
				t.Errorf("after step %q: got %+v", step, got)
			}
		}
		must(t, s.Complete(t.Context(), op.ID, at(10*i+5)))
	}
	if state := group(t, s, g.ID); state.Ended || len(state.Secret) == 0 {
		t.Errorf("got group %+v, want it open before it ends", state)
	}
	for range 2 {
		must(t, s.EndGroup(t.Context(), g.ID, at(40), ""))
	}
	state := group(t, s, g.ID)
	if !state.Ended || state.Secret != nil {
		t.Errorf("got group %+v, want it ended and without secret", state)
	}
	for i, op := range state.Operations {
		if op.Status != operation.StatusCompleted || op.Error != "" || !op.EndedAt.Equal(at(10*i+5)) || op.StepsDone != 2 {
			t.Errorf("operation %d: got %+v, want it completed", i, op)
		}
	}
}

// turnRound brings a group to where its second operation stops.
func turnRound(t *testing.T, s *suite, status operation.Status, reason string) operation.Group {
	t.Helper()
	g := enqueue(t, s, "app1")
	must(t, s.Start(t.Context(), g.Operations[0].ID, at(1)))
	must(t, s.StepDone(t.Context(), g.Operations[0].ID, 0, operation.StepRecord{Name: "first", Done: true}))
	must(t, s.Complete(t.Context(), g.Operations[0].ID, at(2)))
	must(t, s.Start(t.Context(), g.Operations[1].ID, at(3)))
	must(t, s.BeginUndo(t.Context(), g.ID, g.Operations[1].ID, status, reason))
	return g
}

func testUndo(t *testing.T, s *suite) {
	g := turnRound(t, s, operation.StatusFailed, "no room")
	must(t, s.BeginUndo(t.Context(), g.ID, g.Operations[2].ID, operation.StatusCanceled, "later")) // what was first stays
	s.reopen(t)
	state := group(t, s, g.ID)
	if !state.Undoing || state.UndoOf != g.Operations[1].ID || state.UndoStatus != operation.StatusFailed || state.UndoReason != "no room" {
		t.Errorf("got group %+v, want it to undo operation two", state)
	}
	must(t, s.StepUndone(t.Context(), g.Operations[0].ID, 0))
	if !group(t, s, g.ID).Steps[g.Operations[0].ID][0].Undone {
		t.Error("the step is not marked as undone")
	}
	must(t, s.EndGroup(t.Context(), g.ID, at(5), "; first could not be undone: x"))
	wantEnd(t, s, g.ID, []operation.Status{operation.StatusCompleted, operation.StatusFailed, operation.StatusCanceled},
		[]string{"", "no room; first could not be undone: x", "not started: two ended failed"})
}

func testCanceled(t *testing.T, s *suite) {
	g := turnRound(t, s, operation.StatusCanceled, "canceled on request")
	must(t, s.EndGroup(t.Context(), g.ID, at(5), ""))
	wantEnd(t, s, g.ID, []operation.Status{operation.StatusCompleted, operation.StatusCanceled, operation.StatusCanceled},
		[]string{"", "canceled on request", "not started: two ended canceled"})
	if n := len(operations(t, s, core.OperationFilter{Unfinished: true})); n != 0 {
		t.Errorf("got %d unfinished operations, want none", n)
	}
}

func wantEnd(t *testing.T, s *suite, id string, statuses []operation.Status, reasons []string) {
	t.Helper()
	state := group(t, s, id)
	if !state.Ended || state.Secret != nil {
		t.Errorf("got group %+v, want it ended and without secret", state)
	}
	for i, op := range state.Operations {
		if op.Status != statuses[i] || op.Error != reasons[i] || op.EndedAt.IsZero() {
			t.Errorf("operation %s: got %s %q (ended %v), want %s %q", op.Kind, op.Status, op.Error, op.EndedAt, statuses[i], reasons[i])
		}
	}
}

func testRequestCancel(t *testing.T, s *suite) {
	a, b, c := enqueue(t, s, "app1"), enqueue(t, s, "app1"), enqueue(t, s, "app2")
	ended := enqueue(t, s, "app1")
	for _, op := range ended.Operations {
		must(t, s.Complete(t.Context(), op.ID, at(1)))
	}
	must(t, s.EndGroup(t.Context(), ended.ID, at(2), ""))
	must(t, s.Complete(t.Context(), a.Operations[0].ID, at(1)))
	for _, step := range []struct {
		subject, group string
		want           int
		asked          []string
	}{
		{"nothing", "", 0, nil},
		{"", "", 0, nil},
		{"", ended.ID, 0, nil},
		{"", c.ID, 1, []string{c.ID}},
		{"app1", "", 2, []string{a.ID, b.ID, c.ID}},
	} {
		var n int
		s.update(t, func(tx core.Tx) (err error) {
			n, err = tx.RequestCancel(step.subject, step.group)
			return err
		})
		if n != step.want {
			t.Errorf("RequestCancel(%q, %q): got %d, want %d", step.subject, step.group, n, step.want)
		}
		asked := map[string]bool{}
		for _, id := range step.asked {
			asked[id] = true
		}
		for _, id := range []string{a.ID, b.ID, c.ID, ended.ID} {
			got, err := s.CancelRequested(t.Context(), id)
			if must(t, err); got != asked[id] || group(t, s, id).CancelAsked != asked[id] {
				t.Errorf("after RequestCancel(%q, %q): got %v for a group, want %v", step.subject, step.group, got, asked[id])
			}
		}
	}
	if ops := group(t, s, a.ID).Operations; ops[0].Cancel || !ops[1].Cancel {
		t.Errorf("got cancel %v on the completed and %v on the waiting operation, want false and true", ops[0].Cancel, ops[1].Cancel)
	}
}

func testRequeue(t *testing.T, s *suite) {
	open, ended := enqueue(t, s, "app1"), enqueue(t, s, "app2")
	must(t, s.EndGroup(t.Context(), ended.ID, at(1), ""))
	for range 2 {
		s.reopen(t)
		n, err := s.Requeue(t.Context())
		if must(t, err); n != 1 {
			t.Errorf("got %d groups taken back, want the one that has not ended", n)
		}
	}
	if state := group(t, s, open.ID); string(state.Secret) != "secret of app1" {
		t.Errorf("got secret %q, want it kept for the next attempt", state.Secret)
	}
}
