package operation

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"time"

	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver"
)

// Store keeps groups. All times are UTC.
type Store interface {
	// Group loads a group with its operations, in order, and its secret.
	Group(ctx context.Context, id string) (GroupState, error)
	// Start marks an operation in progress.
	Start(ctx context.Context, operationID string, at time.Time) error
	// StepDone stores a step as done and counts it.
	StepDone(ctx context.Context, operationID string, index int, step StepRecord) error
	// Complete marks an operation completed.
	Complete(ctx context.Context, operationID string, at time.Time) error
	// BeginUndo turns a group round: from now on it only takes back. status and reason are those of the operation that
	// failed or was asked to stop.
	BeginUndo(ctx context.Context, groupID, operationID string, status Status, reason string) error
	// StepUndone stores that a step was taken back.
	StepUndone(ctx context.Context, operationID string, index int) error
	// EndGroup stores final states, drops the secret and closes the group. trouble is what could not be taken back.
	EndGroup(ctx context.Context, groupID string, at time.Time, trouble string) error
	// CancelRequested says that somebody asked the group to stop.
	CancelRequested(ctx context.Context, groupID string) (bool, error)
	// Requeue makes every group that has not ended available to workers again. Called once, before work starts, by the
	// only coordinator on the database.
	Requeue(ctx context.Context) (int, error)
}

// GroupState is a group as the engine finds it.
type GroupState struct {
	ID          string
	Operations  []Record
	Steps       map[string][]StepRecord // by operation ID, in order
	Secret      []byte
	Undoing     bool
	UndoOf      string // operation that failed or was canceled
	UndoStatus  Status
	UndoReason  string
	Ended       bool
	CancelAsked bool
}

// Args is the River job of a group.
type Args struct {
	GroupID string `json:"group_id"`
}

// Kind names the job to River.
func (Args) Kind() string { return "operation_group" }

// Queue puts groups in line inside the caller's transaction.
type Queue struct{ client *river.Client[*sql.Tx] }

// NewQueue builds a Queue on a River driver.
func NewQueue(driver riverdriver.Driver[*sql.Tx], log *slog.Logger) (*Queue, error) {
	client, err := river.NewClient(driver, &river.Config{Logger: quiet(log)})
	if err != nil {
		return nil, fmt.Errorf("build the operation queue: %w", err)
	}
	return &Queue{client: client}, nil
}

// InsertTx puts a group in line; workers see it when tx commits.
func (q *Queue) InsertTx(ctx context.Context, tx *sql.Tx, groupID string) error {
	_, err := q.client.InsertTx(ctx, tx, Args{GroupID: groupID}, &river.InsertOpts{MaxAttempts: 1000})
	return err
}

// Point is a place where the engine may be interrupted; tests kill the process there.
type Point struct {
	Kind, Step string
	Where      string // "before", "done" (effect there, not recorded), "recorded", "undone", "end"
}

// Options configure an Engine.
type Options struct {
	Driver      riverdriver.Driver[*sql.Tx]
	Store       Store
	Definitions []Definition
	Log         *slog.Logger
	Workers     int           // groups that run at once; 0 means 64
	Poll        time.Duration // how often the queue is looked at; 0 means 15 ms, which a Store makes cheap
	Boundary    func(Point)   // nil means nothing happens
	OnEnd       func(r Record)
	// Public is what callers may read about why a step of the operation failed; all of it is in the log. nil means that
	// the error's own text is fit for them.
	Public func(operationID string, err error) string
}

// Engine runs groups.
type Engine struct {
	opts   Options
	defs   map[string]Definition
	client *river.Client[*sql.Tx]
}

// New builds an Engine. Two definitions of one kind are a programming error and panic.
func New(o Options) (*Engine, error) {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Workers == 0 {
		o.Workers = 64
	}
	if o.Poll == 0 {
		o.Poll = 15 * time.Millisecond
	}
	if o.Boundary == nil {
		o.Boundary = func(Point) {}
	}
	if o.Public == nil {
		o.Public = func(_ string, err error) string { return err.Error() }
	}
	e := &Engine{opts: o, defs: make(map[string]Definition, len(o.Definitions))}
	for _, d := range o.Definitions {
		if _, twice := e.defs[d.Kind]; twice {
			panic("operation kind defined twice: " + d.Kind)
		}
		e.defs[d.Kind] = d
	}
	workers := river.NewWorkers()
	river.AddWorker(workers, &worker{engine: e})
	client, err := river.NewClient(o.Driver, &river.Config{
		Logger:                      quiet(o.Log),
		Queues:                      map[string]river.QueueConfig{river.QueueDefault: {MaxWorkers: o.Workers}},
		Workers:                     workers,
		FetchPollInterval:           o.Poll,
		FetchCooldown:               o.Poll / 2,
		JobTimeout:                  -1,                        // every step has its own deadline
		RescueStuckJobsAfter:        10 * 365 * 24 * time.Hour, // a long group is not stuck; Requeue takes back what is
		CompletedJobRetentionPeriod: time.Hour,
		PollOnly:                    true,
	})
	if err != nil {
		return nil, fmt.Errorf("build the operation engine: %w", err)
	}
	e.client = client
	return e, nil
}

// Run takes unfinished groups back and works until ctx ends. Running steps are interrupted then and go on after the next
// start.
func (e *Engine) Run(ctx context.Context) error {
	n, err := e.opts.Store.Requeue(ctx)
	switch {
	case ctx.Err() != nil:
		return nil // asked to stop before there was work
	case err != nil:
		return fmt.Errorf("take unfinished operations back: %w", err)
	}
	if n > 0 {
		e.opts.Log.Info("unfinished operations taken back", "groups", n)
	}
	if err := e.client.Start(context.WithoutCancel(ctx)); err != nil {
		return fmt.Errorf("start the operation engine: %w", err)
	}
	<-ctx.Done()
	stop, cancel := context.WithTimeout(context.WithoutCancel(ctx), 20*time.Second)
	defer cancel()
	return e.client.StopAndCancel(stop)
}

type worker struct {
	river.WorkerDefaults[Args]
	engine *Engine
}

func (w *worker) Work(ctx context.Context, job *river.Job[Args]) error {
	err := w.engine.runGroup(ctx, job.Args.GroupID)
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return river.JobSnooze(0) // stopping: the next start goes on
	}
	w.engine.opts.Log.Error("operation group could not be worked on", "group_id", job.Args.GroupID, "err", err)
	return river.JobSnooze(2 * time.Second)
}

// errStop ends the forward direction; the group turns round.
type errStop struct {
	status Status
	reason string // for callers
	step   string
	cause  error // for the log; nil when nothing failed
}

func (e *errStop) Error() string { return e.reason }

// runGroup brings a group to its end. What happened is recorded also while the engine stops (context.WithoutCancel), so
// that the next start does not repeat it. An error means that the engine itself could not work (stopping, or the store does
// not answer), never that a step failed.
func (e *Engine) runGroup(ctx context.Context, id string) error {
	g, err := e.opts.Store.Group(ctx, id)
	if err != nil {
		return err
	}
	if g.Ended {
		return nil
	}
	if !g.Undoing {
		stopped, err := e.forward(ctx, &g)
		if err != nil {
			return err
		}
		if stopped == nil {
			e.opts.Boundary(Point{Where: "end"})
			return e.end(ctx, g.ID, "")
		}
		g.Undoing = true
	}
	trouble, err := e.backward(ctx, &g)
	if err != nil {
		return err
	}
	e.opts.Boundary(Point{Where: "end"})
	return e.end(ctx, g.ID, trouble)
}

func (e *Engine) end(ctx context.Context, id, trouble string) error {
	ctx = context.WithoutCancel(ctx)
	if err := e.opts.Store.EndGroup(ctx, id, now(), trouble); err != nil {
		return err
	}
	g, err := e.opts.Store.Group(ctx, id)
	if err != nil {
		return err
	}
	for _, op := range g.Operations {
		level := slog.LevelInfo
		if op.Status == StatusFailed {
			level = slog.LevelWarn
		}
		e.opts.Log.Log(ctx, level, "operation ended", "operation_id", op.ID, "kind", op.Kind, "subject", op.Subject,
			"status", op.Status, "reason", op.Error, "duration", op.EndedAt.Sub(op.CreatedAt))
		if e.opts.OnEnd != nil {
			e.opts.OnEnd(op)
		}
	}
	return nil
}

func (e *Engine) forward(ctx context.Context, g *GroupState) (*errStop, error) {
	for i := range g.Operations {
		op := &g.Operations[i]
		if op.Status == StatusCompleted {
			continue
		}
		if op.Status == StatusNew {
			op.StartedAt = now()
			if err := e.opts.Store.Start(ctx, op.ID, op.StartedAt); err != nil {
				return nil, err
			}
			op.Status = StatusInProgress
		}
		err := e.steps(ctx, g, op)
		var stop *errStop
		switch {
		case errors.As(err, &stop):
			if stop.cause != nil {
				e.opts.Log.Warn("step failed", "operation_id", op.ID, "kind", op.Kind, "step", stop.step, "subject", op.Subject, "err", stop.cause)
			}
			g.UndoOf, g.UndoStatus, g.UndoReason = op.ID, stop.status, stop.reason
			return stop, e.opts.Store.BeginUndo(context.WithoutCancel(ctx), g.ID, op.ID, stop.status, stop.reason)
		case err != nil:
			return nil, err
		}
		if err := e.opts.Store.Complete(context.WithoutCancel(ctx), op.ID, now()); err != nil {
			return nil, err
		}
		op.Status = StatusCompleted
	}
	return nil, nil
}

func (e *Engine) steps(ctx context.Context, g *GroupState, op *Record) error {
	def, ok := e.defs[op.Kind]
	if !ok {
		return &errStop{status: StatusFailed, reason: fmt.Sprintf("this coordinator does not know how to do %q", op.Kind)}
	}
	for i, step := range def.Steps {
		if i < len(g.Steps[op.ID]) && g.Steps[op.ID][i].Done {
			continue
		}
		e.opts.Boundary(Point{op.Kind, step.Name, "before"})
		run := e.newRun(g, op, step.Name)
		started := now()
		attempts, err := e.attempt(ctx, run, step.timeout(), true, step.Do)
		if err != nil {
			return err
		}
		e.opts.Boundary(Point{op.Kind, step.Name, "done"})
		rec := StepRecord{Name: step.Name, Done: true, Output: run.output, StartedAt: started, EndedAt: now(), Attempts: attempts}
		if err := e.opts.Store.StepDone(context.WithoutCancel(ctx), op.ID, i, rec); err != nil {
			return err
		}
		g.Steps[op.ID] = append(g.Steps[op.ID], rec)
		e.opts.Boundary(Point{op.Kind, step.Name, "recorded"})
	}
	return nil
}

// attempt calls fn until it succeeds, fails for good or the deadline passes. Stopping the engine returns ctx's error; all
// else that ends without success is an *errStop.
func (e *Engine) attempt(ctx context.Context, run *Run, timeout time.Duration, cancelable bool, fn func(context.Context, *Run) error) (int, error) {
	deadline := now().Add(timeout)
	stepCtx, cancel := context.WithDeadline(ctx, deadline)
	defer cancel()
	pause := 50 * time.Millisecond
	var last error
	for n := 1; ; n++ {
		if cancelable {
			asked, err := e.opts.Store.CancelRequested(ctx, run.group.ID)
			if err != nil {
				return n, err
			}
			if asked {
				return n, &errStop{status: StatusCanceled, reason: "canceled on request"}
			}
		}
		err := guarded(stepCtx, run, fn)
		if err == nil {
			return n, nil
		}
		if ctx.Err() != nil {
			return n, ctx.Err()
		}
		if stepCtx.Err() != nil && last != nil {
			err = last // this attempt was cut off by the deadline; why the one before failed says more
		}
		last = err
		if !Temporary(err) && stepCtx.Err() == nil {
			return n, &errStop{StatusFailed, e.opts.Public(run.Operation.ID, err), run.step, err}
		}
		wait := pause/2 + rand.N(pause)
		if again, ok := errors.AsType[*RetryError](err); ok {
			wait = again.After
		} else if pause < 5*time.Second {
			pause *= 2
		}
		if stepCtx.Err() != nil || now().Add(wait).After(deadline) {
			reason := fmt.Sprintf("gave up after %s: %s", timeout, e.opts.Public(run.Operation.ID, err))
			return n, &errStop{StatusFailed, reason, run.step, fmt.Errorf("gave up after %s: %w", timeout, err)}
		}
		select {
		case <-ctx.Done():
			return n, ctx.Err()
		case <-time.After(wait):
		}
	}
}

// guarded turns a panic of a step into an error that is not temporary: the group is undone instead of being tried for days.
func guarded(ctx context.Context, run *Run, fn func(context.Context, *Run) error) (err error) {
	defer func() {
		if v := recover(); v != nil {
			err = fmt.Errorf("internal error: %v", v)
		}
	}()
	return fn(ctx, run)
}

// backward takes back every step that was done or begun, and returns what could not be taken back.
func (e *Engine) backward(ctx context.Context, g *GroupState) (trouble string, err error) {
	for i := len(g.Operations) - 1; i >= 0; i-- {
		op := &g.Operations[i]
		if op.Status == StatusNew {
			continue
		}
		def := e.defs[op.Kind]
		recs := g.Steps[op.ID]
		last := min(len(recs), len(def.Steps)-1) // the first one not done may have been begun
		if op.Status == StatusCompleted {
			last = len(def.Steps) - 1
		}
		for s := last; s >= 0; s-- {
			step := def.Steps[s]
			if step.Undo == nil || s < len(recs) && recs[s].Undone {
				continue
			}
			_, err := e.attempt(ctx, e.newRun(g, op, step.Name), step.timeout(), false, step.Undo)
			var stop *errStop
			switch {
			case errors.As(err, &stop):
				e.opts.Log.Error("step could not be undone", "operation_id", op.ID, "step", step.Name, "err", stop.cause)
				trouble += fmt.Sprintf("; %s could not be undone: %s", step.Name, stop.reason)
			case err != nil:
				return "", err
			}
			if s < len(recs) {
				if err := e.opts.Store.StepUndone(context.WithoutCancel(ctx), op.ID, s); err != nil {
					return "", err
				}
			}
			e.opts.Boundary(Point{op.Kind, step.Name, "undone"})
		}
	}
	return trouble, nil
}

func (s Step) timeout() time.Duration {
	if s.Timeout == 0 {
		return 2 * time.Minute
	}
	return s.Timeout
}

// Run is what a step sees of its operation.
type Run struct {
	Operation Record
	group     *GroupState
	step      string
	output    json.RawMessage
	log       *slog.Logger
}

func (e *Engine) newRun(g *GroupState, op *Record, step string) *Run {
	return &Run{Operation: *op, group: g, step: step,
		log: e.opts.Log.With("operation_id", op.ID, "kind", op.Kind, "step", step, "subject", op.Subject)}
}

// Params decodes the operation's parameters.
func (r *Run) Params(v any) error {
	if err := json.Unmarshal(r.Operation.Params, v); err != nil {
		return fmt.Errorf("read the parameters of %s: %w", r.Operation.Kind, err)
	}
	return nil
}

// SetOutput stores what later steps read with Output, once this step is done.
func (r *Run) SetOutput(v any) error {
	data, err := json.Marshal(v)
	r.output = data
	return err
}

// Output reads what an earlier step of the group stored and says whether it did.
func (r *Run) Output(kind, step string, v any) (bool, error) {
	for _, op := range r.group.Operations {
		if op.Kind != kind {
			continue
		}
		for _, rec := range r.group.Steps[op.ID] {
			if rec.Name == step && len(rec.Output) > 0 {
				return true, json.Unmarshal(rec.Output, v)
			}
		}
	}
	return false, nil
}

// Secret is what the group was given to keep from sight.
func (r *Run) Secret() []byte { return r.group.Secret }

// Reason is why the group turned round; "" while it goes forward.
func (r *Run) Reason() string { return r.group.UndoReason }

// Log is the operation's logger.
func (r *Run) Log() *slog.Logger { return r.log }

func now() time.Time { return time.Now().UTC() }

// quiet passes River's warnings on and drops its chatter.
func quiet(log *slog.Logger) *slog.Logger {
	if log == nil {
		return slog.New(slog.DiscardHandler)
	}
	return slog.New(levelHandler{log.Handler(), slog.LevelWarn})
}

type levelHandler struct {
	slog.Handler
	min slog.Level
}

func (h levelHandler) Enabled(ctx context.Context, l slog.Level) bool {
	return l >= h.min && h.Handler.Enabled(ctx, l)
}
func (h levelHandler) WithAttrs(as []slog.Attr) slog.Handler {
	return levelHandler{h.Handler.WithAttrs(as), h.min}
}
func (h levelHandler) WithGroup(name string) slog.Handler {
	return levelHandler{h.Handler.WithGroup(name), h.min}
}
