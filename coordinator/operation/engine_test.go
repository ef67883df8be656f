package operation_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/reeve-paas/reeve/coordinator/core"
	"github.com/reeve-paas/reeve/coordinator/operation"
	"github.com/reeve-paas/reeve/coordinator/store/sqlite"
	"github.com/reeve-paas/reeve/crypto/keyring"
)

func openStore(t testing.TB, dir string) *sqlite.Store {
	t.Helper()
	sealer, err := keyring.OpenSealer(filepath.Join(dir, "master"))
	if err != nil {
		t.Fatal(err)
	}
	s, err := sqlite.Open(t.Context(), sqlite.Options{Path: filepath.Join(dir, "reeve.db"), Sealer: sealer})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// rig is an engine on a fresh store that runs until the test ends.
type rig struct {
	*sqlite.Store
	ended chan operation.Record
}

func newRig(t *testing.T, defs ...operation.Definition) *rig {
	t.Helper()
	s := openStore(t, t.TempDir())
	t.Cleanup(func() { s.Close() })
	r := &rig{Store: s, ended: make(chan operation.Record, 1000)}
	t.Cleanup(r.start(t, defs, nil))
	return r
}

// start returns a function that stops the engine and waits for it.
func (r *rig) start(t *testing.T, defs []operation.Definition, boundary func(operation.Point)) (stop func()) {
	t.Helper()
	e, err := operation.New(operation.Options{Driver: r.Driver(), Store: r.Store, Definitions: defs, Poll: 2 * time.Millisecond,
		Boundary: boundary, OnEnd: func(rec operation.Record) { r.ended <- rec }})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	done := make(chan error, 1)
	go func() { done <- e.Run(ctx) }()
	return sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("run the engine: %v", err)
		}
	})
}

func (r *rig) enqueue(t testing.TB, kinds ...string) operation.Group {
	t.Helper()
	g := operation.Group{Secret: []byte("s3cret")}
	for _, kind := range kinds {
		g.Operations = append(g.Operations, operation.Record{Kind: kind, Subject: "app", Params: json.RawMessage(`{"kind":"` + kind + `"}`), Steps: 2})
	}
	if err := r.Update(t.Context(), func(tx core.Tx) error { return tx.Enqueue(&g) }); err != nil {
		t.Fatal(err)
	}
	return g
}

// await returns the group once it has ended.
func (r *rig) await(t testing.TB, id string) operation.GroupState {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	for {
		g, err := r.Group(ctx, id)
		if err != nil {
			t.Fatal(err)
		}
		if g.Ended {
			return g
		}
		select {
		case <-r.ended:
		case <-ctx.Done():
			t.Fatalf("the group has not ended: %+v", g)
		}
	}
}

// journal notes what steps did, in order.
type journal struct {
	mu    sync.Mutex // protects the field below
	lines []string
}

func (j *journal) add(format string, args ...any) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.lines = append(j.lines, fmt.Sprintf(format, args...))
}

func (j *journal) want(t testing.TB, lines ...string) {
	t.Helper()
	j.mu.Lock()
	defer j.mu.Unlock()
	if !slices.Equal(j.lines, lines) {
		t.Errorf("got steps\n\t%s\nwant\n\t%s", strings.Join(j.lines, "\n\t"), strings.Join(lines, "\n\t"))
	}
}

type do = func(context.Context, *operation.Run) error

// define makes an operation of the steps a and b that only note what they do; change replaces parts of them.
func (j *journal) define(kind string, change func(a, b *operation.Step)) operation.Definition {
	step := func(name string) operation.Step {
		return operation.Step{
			Name: name,
			Do:   func(context.Context, *operation.Run) error { j.add("do %s.%s", kind, name); return nil },
			Undo: func(context.Context, *operation.Run) error { j.add("undo %s.%s", kind, name); return nil },
		}
	}
	steps := []operation.Step{step("a"), step("b")}
	if change != nil {
		change(&steps[0], &steps[1])
	}
	return operation.Definition{Kind: kind, Steps: steps}
}

func (j *journal) three(change func(a, b *operation.Step)) []operation.Definition {
	return []operation.Definition{j.define("one", nil), j.define("two", change), j.define("three", nil)}
}

// ends says how the operations of a group ended.
func ends(t testing.TB, g operation.GroupState) []string {
	t.Helper()
	var got []string
	for _, op := range g.Operations {
		got = append(got, strings.TrimSpace(op.Kind+": "+string(op.Status)+" "+op.Error))
		if op.EndedAt.IsZero() {
			t.Errorf("%s has no time of its end", op.Kind)
		}
	}
	return got
}

func wantEnd(t testing.TB, g operation.GroupState, want ...string) {
	t.Helper()
	if got := ends(t, g); !slices.Equal(got, want) {
		t.Errorf("got operations\n\t%s\nwant\n\t%s", strings.Join(got, "\n\t"), strings.Join(want, "\n\t"))
	}
}

var (
	allCompleted = []string{"one: completed", "two: completed", "three: completed"}
	allCanceled  = []string{"one: completed", "two: canceled canceled on request", "three: canceled not started: two ended canceled"}
)

func fails(err error) do { return func(context.Context, *operation.Run) error { return err } }

func TestAGroupRunsItsOperationsInOrder(t *testing.T) {
	var j journal
	r := newRig(t, j.three(nil)...)
	g := r.enqueue(t, "one", "two", "three")
	end := r.await(t, g.ID)
	wantEnd(t, end, allCompleted...)
	j.want(t, "do one.a", "do one.b", "do two.a", "do two.b", "do three.a", "do three.b")
	for _, op := range end.Operations {
		if op.StepsDone != 2 || op.Step != "b" || op.StartedAt.Before(op.CreatedAt) || op.EndedAt.Before(op.StartedAt) {
			t.Errorf("got %+v, want two steps done and times in order", op)
		}
	}
}

func TestStepsSeeParamsOutputsAndSecret(t *testing.T) {
	var j journal
	r := newRig(t, j.three(func(a, b *operation.Step) {
		a.Do = func(_ context.Context, run *operation.Run) error { return run.SetOutput(map[string]int{"n": 7}) }
		b.Do = func(_ context.Context, run *operation.Run) error {
			var p struct{ Kind string }
			var out struct{ N int }
			found, err := run.Output("two", "a", &out)
			missing, err2 := run.Output("one", "a", &out)
			j.add("%v %v %v %v %v %v %s %q", run.Params(&p), p.Kind, found, err, missing, err2, run.Secret(), run.Reason())
			j.add("%d", out.N)
			return nil
		}
	})...)
	r.await(t, r.enqueue(t, "two").ID)
	j.want(t, `<nil> two true <nil> false <nil> s3cret ""`, "7")
}

func TestAFailureUndoesTheWholeGroupLastFirst(t *testing.T) {
	var j journal
	r := newRig(t, j.three(func(a, b *operation.Step) {
		b.Do = func(context.Context, *operation.Run) error { j.add("do two.b"); return errors.New("no room") }
		b.Undo = func(_ context.Context, run *operation.Run) error {
			j.add("undo two.b because of %s", run.Reason())
			return nil
		}
	})...)
	wantEnd(t, r.await(t, r.enqueue(t, "one", "two", "three").ID),
		"one: completed", "two: failed no room", "three: canceled not started: two ended failed")
	j.want(t, "do one.a", "do one.b", "do two.a", "do two.b", "undo two.b because of no room", "undo two.a", "undo one.b", "undo one.a")
}

func TestWhatCannotBeUndoneIsReportedAndTheRestIsUndone(t *testing.T) {
	var j journal
	r := newRig(t, j.three(func(a, b *operation.Step) {
		a.Undo = fails(errors.New("cloud says no"))
		b.Do, b.Undo = fails(errors.New("no room")), nil
	})...)
	wantEnd(t, r.await(t, r.enqueue(t, "one", "two", "three").ID),
		"one: completed", "two: failed no room; a could not be undone: cloud says no", "three: canceled not started: two ended failed")
	j.want(t, "do one.a", "do one.b", "do two.a", "undo one.b", "undo one.a")
}

func TestAnUnknownKindFails(t *testing.T) {
	var j journal
	r := newRig(t, j.define("one", nil))
	wantEnd(t, r.await(t, r.enqueue(t, "one", "two").ID), "one: completed", `two: failed this coordinator does not know how to do "two"`)
	j.want(t, "do one.a", "do one.b", "undo one.b", "undo one.a")
}

func TestAPanicInAStepIsAFailure(t *testing.T) {
	var j journal
	r := newRig(t, j.three(func(a, b *operation.Step) { a.Do = func(context.Context, *operation.Run) error { panic("bug") } })...)
	wantEnd(t, r.await(t, r.enqueue(t, "two").ID), "two: failed internal error: bug")
	j.want(t, "undo two.a")
}

func TestTemporaryErrorsAreRetried(t *testing.T) {
	for name, temporary := range map[string]error{
		"after a pause of its own": operation.RetryAfter(time.Millisecond, "not yet"),
		"after a back-off":         fmt.Errorf("call the agent: %w", core.Errorf(core.Unavailable, core.ObjNode, "no answer")),
	} {
		t.Run(name, func(t *testing.T) {
			var j journal
			tries := 0
			r := newRig(t, j.three(func(a, b *operation.Step) {
				a.Do = func(context.Context, *operation.Run) error {
					if tries++; tries < 3 {
						return temporary
					}
					return nil
				}
			})...)
			end := r.await(t, r.enqueue(t, "two").ID)
			wantEnd(t, end, "two: completed")
			if n := end.Steps[end.Operations[0].ID][0].Attempts; n != 3 || tries != 3 {
				t.Errorf("got %d attempts recorded and %d made, want 3", n, tries)
			}
		})
	}
}

func TestAStepGivesUpAtItsDeadline(t *testing.T) {
	for name, do := range map[string]do{
		"while it is tried again": fails(operation.RetryAfter(time.Millisecond, "not yet")),
		"while it waits": func(ctx context.Context, _ *operation.Run) error {
			<-ctx.Done()
			return errors.New("not yet")
		},
	} {
		t.Run(name, func(t *testing.T) {
			var j journal
			r := newRig(t, j.three(func(a, b *operation.Step) { b.Do, b.Timeout = do, 30*time.Millisecond })...)
			wantEnd(t, r.await(t, r.enqueue(t, "two").ID), "two: failed gave up after 30ms: not yet")
			j.want(t, "do two.a", "undo two.b", "undo two.a")
		})
	}
}

func (r *rig) cancel(ctx context.Context) error {
	return r.Update(ctx, func(tx core.Tx) error { _, err := tx.RequestCancel("app", ""); return err })
}

func TestCancelIsHonouredBetweenAttempts(t *testing.T) {
	var j journal
	var r *rig
	tried := make(chan struct{}, 1)
	r = newRig(t, j.three(func(a, b *operation.Step) {
		b.Do = func(context.Context, *operation.Run) error {
			select {
			case tried <- struct{}{}:
			default:
			}
			return operation.RetryAfter(time.Millisecond, "waiting")
		}
	})...)
	g := r.enqueue(t, "one", "two", "three")
	<-tried
	if err := r.cancel(t.Context()); err != nil {
		t.Fatal(err)
	}
	wantEnd(t, r.await(t, g.ID), allCanceled...)
	j.want(t, "do one.a", "do one.b", "do two.a", "undo two.b", "undo two.a", "undo one.b", "undo one.a")
}

// TestCancelIsHonouredAtEveryBoundary asks for it at each point of a group that would succeed, and wants all or nothing.
func TestCancelIsHonouredAtEveryBoundary(t *testing.T) {
	for n := 1; ; n++ {
		var j journal
		s := openStore(t, t.TempDir())
		r := &rig{Store: s, ended: make(chan operation.Record, 10)}
		points, where := 0, operation.Point{}
		stop := r.start(t, j.three(nil), func(p operation.Point) {
			if points++; points == n {
				where = p
				if err := r.cancel(t.Context()); err != nil {
					t.Error(err)
				}
			}
		})
		end := r.await(t, r.enqueue(t, "one", "two", "three").ID)
		stop()
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		if points < n {
			if n < 18 {
				t.Errorf("got only %d boundaries in a group of 6 steps", n-1)
			}
			return
		}
		last := end.Operations[2].Status
		if last == operation.StatusCompleted {
			if past := where.Where == "end" || where.Kind == "three" && where.Step == "b" && where.Where != "before"; !past {
				t.Errorf("asked at %+v: the group went on to its end", where)
			}
			continue
		}
		undone := map[string]int{}
		for _, line := range j.lines {
			verb, step, _ := strings.Cut(line, " ")
			undone[step] += map[string]int{"do": 1, "undo": -1}[verb]
		}
		for step, n := range undone {
			if n > 0 {
				t.Errorf("asked at %+v: step %s was done and not undone", where, step)
			}
		}
		if last != operation.StatusCanceled {
			t.Errorf("asked at %+v: got %s as the last status, want canceled", where, last)
		}
	}
}

func TestStoppingTheEngineKeepsItsWork(t *testing.T) {
	var j journal
	s := openStore(t, t.TempDir())
	t.Cleanup(func() { s.Close() })
	r := &rig{Store: s, ended: make(chan operation.Record, 10)}
	waiting := make(chan struct{})
	blocked := true
	defs := j.three(func(a, b *operation.Step) {
		b.Do = func(ctx context.Context, _ *operation.Run) error {
			if blocked {
				close(waiting)
				<-ctx.Done()
				return ctx.Err()
			}
			j.add("do two.b")
			return nil
		}
	})
	stop := r.start(t, defs, nil)
	g := r.enqueue(t, "one", "two", "three")
	<-waiting
	stop()
	state, err := s.Group(t.Context(), g.ID)
	if err != nil || state.Ended || state.Undoing || state.Operations[1].Status != operation.StatusInProgress {
		t.Errorf("after the stop: got %+v, error %v, want the group open and forward", state, err)
	}
	blocked = false
	t.Cleanup(r.start(t, defs, nil))
	wantEnd(t, r.await(t, g.ID), allCompleted...)
	j.want(t, "do one.a", "do one.b", "do two.a", "do two.b", "do three.a", "do three.b")
}

func TestManyGroupsRunAtOnce(t *testing.T) {
	var j journal
	both := make(chan struct{})
	r := newRig(t, j.define("one", func(a, b *operation.Step) {
		a.Do = func(ctx context.Context, _ *operation.Run) error { // ends only when two run it at the same time
			select {
			case both <- struct{}{}:
			case <-both:
			case <-ctx.Done():
			}
			return ctx.Err()
		}
	}))
	var groups []operation.Group
	for range 10 {
		groups = append(groups, r.enqueue(t, "one"))
	}
	for _, g := range groups {
		wantEnd(t, r.await(t, g.ID), "one: completed")
	}
}

func TestCallersReadWhatPublicSays(t *testing.T) {
	log := &strings.Builder{}
	var mu sync.Mutex
	s := openStore(t, t.TempDir())
	t.Cleanup(func() { s.Close() })
	def := operation.Definition{Kind: "one", Steps: []operation.Step{{Name: "a", Timeout: 150 * time.Millisecond,
		Do:   func(context.Context, *operation.Run) error { return errors.New("at /secret") },
		Undo: func(context.Context, *operation.Run) error { return operation.RetryAfter(time.Hour, "not at /secret") }}}}
	e, err := operation.New(operation.Options{Driver: s.Driver(), Store: s, Definitions: []operation.Definition{def}, Poll: 2 * time.Millisecond,
		Log:    slog.New(slog.NewTextHandler(writer(func(p []byte) (int, error) { mu.Lock(); defer mu.Unlock(); return log.Write(p) }), nil)),
		Public: func(id string, err error) string { return fmt.Sprintf("sorry (%t)", id != "" && err != nil) }})
	if err != nil {
		t.Fatal(err)
	}
	r := &rig{Store: s}
	group := r.enqueue(t, "one")
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- e.Run(ctx) }()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	var g operation.GroupState
	for !g.Ended {
		<-tick.C
		if g, err = s.Group(t.Context(), group.ID); err != nil {
			t.Fatal(err)
		}
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if got, want := g.Operations[0].Error, "sorry (true); a could not be undone: gave up after 150ms: sorry (true)"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if text := log.String(); !strings.Contains(text, "err=\"at /secret\"") || !strings.Contains(text, "not at /secret") {
		t.Errorf("got the log %s, want both errors in full", text)
	}
}

type writer func([]byte) (int, error)

func (w writer) Write(p []byte) (int, error) { return w(p) }

// An attempt that the deadline cuts off fails the step for the reason that the attempt before had.
func TestTheDeadlineIsNotTheReason(t *testing.T) {
	t.Parallel()
	tries := 0
	r := newRig(t, operation.Definition{Kind: "slow", Steps: []operation.Step{{Name: "a", Timeout: 300 * time.Millisecond,
		Do: func(ctx context.Context, _ *operation.Run) error {
			if tries++; tries == 1 {
				return operation.RetryAfter(time.Millisecond, "the agent gives no answer")
			}
			<-ctx.Done()
			return fmt.Errorf("begin: %w", ctx.Err())
		}}}})
	if got, want := r.await(t, r.enqueue(t, "slow").ID).Operations[0].Error, "gave up after 300ms: the agent gives no answer"; got != want {
		t.Errorf("got the reason %q, want %q", got, want)
	}
}
