package operation_test

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/reeve-paas/reeve/agent/agentapi"
	"github.com/reeve-paas/reeve/agent/operation"
)

func open(t *testing.T, o operation.Options) *operation.Registry {
	t.Helper()
	r, err := operation.Open(o)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func returns(value any, err error) func(context.Context, *operation.Op) (any, error) {
	return func(context.Context, *operation.Op) (any, error) { return value, err }
}

// startAsync starts a task that runs until release is closed.
func startAsync(t *testing.T, r *operation.Registry, task operation.Task) (id string, release chan struct{}) {
	t.Helper()
	release = make(chan struct{})
	inner := task.Run
	task.Async = true
	task.Run = func(ctx context.Context, op *operation.Op) (any, error) {
		<-release
		return inner(ctx, op)
	}
	got, err := r.Start(t.Context(), task)
	if err != nil {
		t.Fatal(err)
	}
	return got.(string), release
}

func result(t *testing.T, r *operation.Registry, id string) agentapi.Operation {
	t.Helper()
	o, err := r.Result(id)
	if err != nil {
		t.Fatal(err)
	}
	return o
}

// Conformance 34: result of an unknown id.
func TestConformance34_UnknownID(t *testing.T) {
	r := open(t, operation.Options{})
	want := "OperationNotFoundError: 'nope' not found"
	if _, err := r.Result("nope"); err == nil || err.Error() != want {
		t.Errorf("result: got %v, want %s", err, want)
	}
	if err := r.Cancel("nope"); err == nil || err.Error() != want {
		t.Errorf("cancel: got %v, want %s", err, want)
	}
}

// Conformance 35: an asynchronous call answers with a UUID at once; the record has the members of the wire.
func TestConformance35_AsyncAnswersWithAUUID(t *testing.T) {
	r := open(t, operation.Options{})
	id, release := startAsync(t, r, operation.Task{Name: "storage.create", Run: returns(map[string]string{"type": "loop"}, nil)})
	if !regexp.MustCompile(`^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$`).MatchString(id) {
		t.Errorf("got id %q, want a random UUID", id)
	}
	data, err := json.Marshal(result(t, r, id))
	if err != nil {
		t.Fatal(err)
	}
	want := `{"id":"` + id + `","name":"storage.create","status":"in-progress","result":null,"error":null,"trace":null,"logs":[]}`
	if string(data) != want {
		t.Errorf("while it runs: got %s, want %s", data, want)
	}
	close(release)
	finish(t, r)
	data, _ = json.Marshal(result(t, r, id))
	want = `{"id":"` + id + `","name":"storage.create","status":"completed","result":{"type":"loop"},"error":null,"trace":null,"logs":[]}`
	if string(data) != want {
		t.Errorf("afterwards: got %s, want %s", data, want)
	}
}

// finish stops a registry, which waits for its operations.
func finish(t *testing.T, r *operation.Registry) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := r.Run(ctx); err != nil {
		t.Fatal(err)
	}
}

// Conformance 36: a status only moves forward.
func TestConformance36_StatusMovesForward(t *testing.T) {
	r := open(t, operation.Options{})
	id, release := startAsync(t, r, operation.Task{Name: "a", Run: returns(1, nil)})
	if got := result(t, r, id).Status; got != agentapi.OperationInProgress {
		t.Errorf("got %s, want in-progress", got)
	}
	close(release)
	finish(t, r)
	if got := result(t, r, id).Status; got != agentapi.OperationCompleted {
		t.Errorf("got %s, want completed", got)
	}
}

// Conformance 37: a failed asynchronous operation has the error without its class, and no result.
func TestConformance37_FailedAsync(t *testing.T) {
	r := open(t, operation.Options{})
	id, release := startAsync(t, r, operation.Task{Name: "a", Run: returns(nil, agentapi.Errorf(agentapi.KindInvalid, "StorageError", "no space"))})
	close(release)
	finish(t, r)
	o := result(t, r, id)
	if o.Status != agentapi.OperationFailed || o.Error == nil || *o.Error != "no space" || o.Result != nil || o.Trace == nil {
		t.Errorf("got %+v, want failed with error %q, a trace and no result", o, "no space")
	}
}

// Conformance 38: a failed synchronous operation is an error, and recorded as failed; with the quirk it is null.
func TestConformance38_FailedSync(t *testing.T) {
	for _, quirk := range []bool{false, true} {
		var ended []agentapi.Operation
		r := open(t, operation.Options{NullOnFailure: quirk, OnEnd: func(_ context.Context, o agentapi.Operation) error {
			ended = append(ended, o)
			return nil
		}})
		value, err := r.Start(t.Context(), operation.Task{Name: "a", Run: returns("x", agentapi.Errorf("", "StorageError", "no space"))})
		if !quirk && (err == nil || err.Error() != "StorageError: no space") {
			t.Errorf("got %v, %v, want StorageError: no space", value, err)
		}
		if quirk && (value != nil || err != nil) {
			t.Errorf("with the quirk: got %v, %v, want null and no error", value, err)
		}
		finish(t, r)
		if len(ended) != 1 || ended[0].Status != agentapi.OperationFailed {
			t.Errorf("got ends %+v, want one that failed", ended)
		}
	}
}

// Conformance 39: cancel asks, the work goes on, then the status is canceled and the result is kept.
func TestConformance39_CancelRunning(t *testing.T) {
	for _, test := range []struct {
		name, wantError string
		err             error
	}{
		{"the function succeeds", "User canceled", nil},
		{"the function fails", "broke off", errors.New("broke off")},
	} {
		t.Run(test.name, func(t *testing.T) {
			r := open(t, operation.Options{})
			hooked := make(chan struct{})
			id, release := startAsync(t, r, operation.Task{Name: "a", OnCancel: func() { close(hooked) },
				Run: func(_ context.Context, op *operation.Op) (any, error) {
					<-op.Canceled()
					return "kept", test.err
				}})
			for range 2 {
				if err := r.Cancel(id); err != nil {
					t.Fatal(err)
				}
			}
			<-hooked
			if got := result(t, r, id).Status; got != agentapi.OperationInProgress {
				t.Errorf("before the work ended: got %s, want in-progress", got)
			}
			close(release)
			finish(t, r)
			o := result(t, r, id)
			if o.Status != agentapi.OperationCanceled || *o.Error != test.wantError {
				t.Errorf("got %s, %q, want canceled, %q", o.Status, *o.Error, test.wantError)
			}
			if raw, _ := json.Marshal(o.Result); test.err == nil && string(raw) != `"kept"` {
				t.Errorf("got result %s, want it kept", raw)
			}
		})
	}
}

// Conformance 40: cancel of a finished operation changes nothing.
func TestConformance40_CancelFinished(t *testing.T) {
	r := open(t, operation.Options{})
	id, release := startAsync(t, r, operation.Task{Name: "a", Run: returns(1, nil)})
	close(release)
	finish(t, r)
	if err := r.Cancel(id); err != nil {
		t.Fatal(err)
	}
	if o := result(t, r, id); o.Status != agentapi.OperationCompleted || o.Error != nil {
		t.Errorf("got %+v, want completed without error", o)
	}
}

// Conformance 41: has_in_progress.
func TestConformance41_HasInProgress(t *testing.T) {
	r := open(t, operation.Options{})
	if r.HasInProgress() {
		t.Error("got true before, want false")
	}
	_, release := startAsync(t, r, operation.Task{Name: "a", Run: returns(1, nil)})
	if !r.HasInProgress() {
		t.Error("got false during, want true")
	}
	close(release)
	finish(t, r)
	if r.HasInProgress() {
		t.Error("got true after, want false")
	}
}

// Conformance 42: a second exclusive operation of one name is refused with the id of the first.
func TestConformance42_Exclusive(t *testing.T) {
	r := open(t, operation.Options{})
	backup := operation.Task{Name: "postgresql.create-backup", Exclusive: true, Run: returns(1, nil)}
	id, release := startAsync(t, r, backup)
	_, err := r.Start(t.Context(), backup)
	want := `AlreadyInProgressError: ("'postgresql.create-backup' already in progress", '` + id + `')`
	if err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
	if _, err := r.Start(t.Context(), operation.Task{Name: "other", Exclusive: true, Run: returns(1, nil)}); err != nil {
		t.Errorf("another name: got %v", err)
	}
	close(release)
	for r.HasInProgress() {
		if _, err := r.Result(id); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := r.Start(t.Context(), backup); err != nil {
		t.Errorf("after it ended: got %v", err)
	}
}

// Conformance 43: every end is told, of synchronous operations too, and again after a restart when it was not heard.
func TestConformance43_EveryEndIsTold(t *testing.T) {
	dir := t.TempDir()
	var mu sync.Mutex
	heard := map[string]bool{}
	deaf := open(t, operation.Options{Dir: dir, OnEnd: func(_ context.Context, o agentapi.Operation) error {
		mu.Lock()
		defer mu.Unlock()
		heard[o.Name] = true
		if o.Name == "unheard" {
			return errors.New("queue is full")
		}
		return nil
	}})
	for _, name := range []string{"heard", "unheard"} {
		if _, err := deaf.Start(t.Context(), operation.Task{Name: name, Run: returns(name, nil)}); err != nil {
			t.Fatal(err)
		}
	}
	finish(t, deaf)
	if !heard["heard"] || !heard["unheard"] {
		t.Errorf("got %v, want both told", heard)
	}
	var again []agentapi.Operation
	next := open(t, operation.Options{Dir: dir, OnEnd: func(_ context.Context, o agentapi.Operation) error {
		again = append(again, o)
		return nil
	}})
	finish(t, next)
	if len(again) != 1 || again[0].Name != "unheard" {
		t.Fatalf("after the restart: got %+v, want the one that was not heard", again)
	}
	if raw, _ := json.Marshal(again[0].Result); string(raw) != `"unheard"` {
		t.Errorf("got result %s, want it kept", raw)
	}
	last := open(t, operation.Options{Dir: dir, OnEnd: func(_ context.Context, o agentapi.Operation) error {
		t.Errorf("told %s again", o.Name)
		return nil
	}})
	finish(t, last)
}

func TestAnOperationThatTheAgentDiedInIsFailedAfterTheRestart(t *testing.T) {
	dir := t.TempDir()
	r := open(t, operation.Options{Dir: dir})
	id, release := startAsync(t, r, operation.Task{Name: "storage.grow", Exclusive: true, Run: returns(1, nil)})
	defer finish(t, r)
	defer close(release)
	// A second registry on the same directory is what a restarted agent sees: the first one never wrote an end.
	next := open(t, operation.Options{Dir: dir})
	o := result(t, next, id)
	if o.Status != agentapi.OperationFailed || o.Error == nil || *o.Error != "agent restarted" || o.Trace == nil {
		t.Errorf("got %+v, want failed, agent restarted", o)
	}
	if next.HasInProgress() {
		t.Error("got has_in_progress true, want false")
	}
	info, err := os.Stat(filepath.Join(dir, id+".json"))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("got mode %v, %v, want 0600", info.Mode(), err)
	}
}

func TestALeftoverOrForeignFileDoesNotStopTheAgent(t *testing.T) {
	dir := t.TempDir()
	os.WriteFile(filepath.Join(dir, ".x.json123"), []byte("{"), 0o600)
	os.WriteFile(filepath.Join(dir, "bad.json"), []byte("{"), 0o600)
	open(t, operation.Options{Dir: dir})
	if _, err := os.Stat(filepath.Join(dir, ".x.json123")); err == nil {
		t.Error("the temporary file is still there")
	}
	if _, err := os.Stat(filepath.Join(dir, "bad.json")); err != nil {
		t.Error("the unreadable record was removed")
	}
}

func TestRecordsAreDroppedTwoDaysAfterTheyFinished(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		r := open(t, operation.Options{Dir: dir})
		id, release := startAsync(t, r, operation.Task{Name: "a", Run: returns(1, nil)})
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- r.Run(ctx) }()
		time.Sleep(60 * time.Hour) // it still runs
		result(t, r, id)
		close(release)
		synctest.Wait()
		time.Sleep(47 * time.Hour)
		result(t, r, id)
		time.Sleep(3 * time.Hour)
		if _, err := r.Result(id); err == nil {
			t.Error("the record is still there after 50 hours")
		}
		if left, _ := filepath.Glob(filepath.Join(dir, "*")); len(left) != 0 {
			t.Errorf("got files %q, want none", left)
		}
		cancel()
		<-done
	})
}

func TestLogsBelongToTheirOwnOperation(t *testing.T) {
	r := open(t, operation.Options{})
	var ids []string
	for _, word := range []string{"one", "two"} {
		id, release := startAsync(t, r, operation.Task{Name: "same", Run: func(_ context.Context, op *operation.Op) (any, error) {
			op.Log().Debug("hidden")
			op.Log().With("volume", "v1").Info("attached "+word, "seconds", 3)
			op.Log().Error("went wrong", "stack", "goroutine 1", "line", strings.Repeat("x", 5000))
			return nil, nil
		}})
		close(release)
		ids = append(ids, id)
	}
	finish(t, r)
	for i, word := range []string{"one", "two"} {
		logs := result(t, r, ids[i]).Logs
		if len(logs) != 2 || logs[0] != "attached "+word+" volume=v1 seconds=3" {
			t.Fatalf("got %q", logs)
		}
		if !strings.HasPrefix(logs[1], "went wrong line=xxx") || len(logs[1]) > 4200 {
			t.Errorf("got a second line of %d bytes: %.40s", len(logs[1]), logs[1])
		}
	}
}

func TestAPanicFailsOnlyItsOperation(t *testing.T) {
	var logged strings.Builder
	r := open(t, operation.Options{Log: slog.New(slog.NewTextHandler(&logged, nil))})
	_, err := r.Start(t.Context(), operation.Task{Name: "a", Run: func(context.Context, *operation.Op) (any, error) { panic("boom") }})
	if err == nil || err.Error() != "Exception: internal error in a, see the agent's log" {
		t.Errorf("got %v", err)
	}
	if !strings.Contains(logged.String(), "boom") {
		t.Errorf("the log does not hold the panic: %s", logged.String())
	}
}

func TestAResultThatIsNotJSONFails(t *testing.T) {
	r := open(t, operation.Options{})
	_, err := r.Start(t.Context(), operation.Task{Name: "a", Run: returns(make(chan int), nil)})
	if err == nil || err.Error() != "TypeError: chan int is not JSON serializable" {
		t.Errorf("got %v", err)
	}
}

func TestTheWorkOutlivesItsRequest(t *testing.T) {
	r := open(t, operation.Options{})
	ctx, cancel := context.WithCancel(t.Context())
	release, ended := make(chan struct{}), make(chan error, 1)
	started := make(chan struct{})
	go func() {
		_, err := r.Start(ctx, operation.Task{Name: "a", Run: func(ctx context.Context, _ *operation.Op) (any, error) {
			close(started)
			<-release
			return nil, ctx.Err()
		}})
		ended <- err
	}()
	<-started
	cancel()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want %v", err, context.Canceled)
	}
	if !r.HasInProgress() {
		t.Error("the operation ended with its request")
	}
	close(release)
	finish(t, r)
	if got := r.Counts()[agentapi.OperationCompleted]; got != 1 {
		t.Errorf("got %d completed, want 1", got)
	}
}

func TestStoppingGivesGraceThenCancels(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := open(t, operation.Options{Grace: time.Minute})
		id, release := startAsync(t, r, operation.Task{Name: "a", Run: func(ctx context.Context, _ *operation.Op) (any, error) {
			<-ctx.Done()
			return nil, ctx.Err()
		}})
		close(release)
		start := time.Now()
		finish(t, r)
		if got := time.Since(start); got != time.Minute {
			t.Errorf("stopped after %s, want the grace of one minute", got)
		}
		if got := result(t, r, id).Status; got != agentapi.OperationFailed {
			t.Errorf("got %s, want failed", got)
		}
		if _, err := r.Start(t.Context(), operation.Task{Name: "late", Run: returns(1, nil)}); err == nil {
			t.Error("a stopped registry took a new operation")
		}
	})
}
