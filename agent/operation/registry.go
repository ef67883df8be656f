package operation

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"runtime/debug"
	"strings"
	"sync"
	"time"

	"github.com/reeve-paas/reeve/agent/agentapi"
)

// Retention is how long a finished record is kept.
const Retention = 48 * time.Hour

// maxFinished bounds the finished records kept, whatever their age.
const maxFinished = 5000

// Options configure a Registry.
type Options struct {
	Dir   string        // journal directory, made when missing; "" keeps records in memory only
	Log   *slog.Logger  // nil means discard
	Grace time.Duration // what Run gives running operations to finish once it is asked to stop; 0 means 20 s

	// OnEnd is told each finished record, in the goroutine of the operation. A record whose OnEnd failed, or was not
	// reached because the agent died, is told again by the next Run; the id tells a repetition. nil means nobody.
	OnEnd func(context.Context, agentapi.Operation) error

	// NullOnFailure makes a failed synchronous operation answer null without an error, as the reference does (D3).
	NullOnFailure bool
}

// Task is one piece of long work.
type Task struct {
	Name      string // e.g. "storage.create"
	Exclusive bool   // refuse a second one of this name while one runs
	Async     bool   // answer with the id at once

	// Run does the work. ctx carries the values of the request, and outlives it; it is cancelled only when the agent
	// stops. The result must be JSON-serialisable.
	Run func(ctx context.Context, op *Op) (any, error)
	// OnCancel is called when somebody cancels the operation while it runs. Optional.
	OnCancel func()
}

// Registry holds the operations of this host. Its methods may be called from any goroutine.
type Registry struct {
	opts    Options
	journal journal
	running sync.WaitGroup
	stop    context.Context // done when running operations must end
	cancel  context.CancelFunc

	mu      sync.Mutex // protects the fields below and the records of all operations
	ops     map[string]*Op
	ended   map[agentapi.OperationStatus]uint64 // since Open
	closing bool
	swept   time.Time
}

// Open reads the journal. Operations that were in progress when the last agent died are failed now.
func Open(o Options) (*Registry, error) {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Grace == 0 {
		o.Grace = 20 * time.Second
	}
	r := &Registry{opts: o, journal: journal{dir: o.Dir}, ops: map[string]*Op{}, ended: map[agentapi.OperationStatus]uint64{}, swept: time.Now()}
	r.stop, r.cancel = context.WithCancel(context.Background())
	entries, err := r.journal.load(o.Log)
	if err != nil {
		return nil, fmt.Errorf("read operation journal: %w", err)
	}
	for _, e := range entries {
		op := &Op{registry: r, entry: e, unheard: !e.Told, canceled: make(chan struct{}), done: make(chan struct{})}
		close(op.done)
		if e.Ended.IsZero() {
			op.entry.fail("agent restarted", "AgentRestarted: agent restarted")
			if err := r.journal.save(op.entry); err != nil {
				return nil, fmt.Errorf("write operation journal: %w", err)
			}
		}
		r.ops[e.ID] = op
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.sweepLocked()
	return r, nil
}

// Start runs a task. An asynchronous one answers with the operation's id, a string, at once; a synchronous one with what
// its function returned. When ctx ends before a synchronous task does, Start returns and the work goes on.
//
// Errors: AlreadyInProgressError (conflict), shutting down (unavailable), the task's own error
func (r *Registry) Start(ctx context.Context, t Task) (any, error) {
	op, err := r.begin(ctx, t)
	if err != nil {
		return nil, err
	}
	if t.Async {
		return op.ID(), nil
	}
	select {
	case <-op.done:
	case <-ctx.Done():
		return nil, fmt.Errorf("operation %s goes on: %w", op.ID(), context.Cause(ctx))
	}
	if op.err != nil && r.opts.NullOnFailure {
		return nil, nil
	}
	return op.value, op.err
}

func (r *Registry) begin(ctx context.Context, t Task) (*Op, error) {
	op := &Op{
		registry: r, onCancel: t.OnCancel, exclusive: t.Exclusive,
		canceled: make(chan struct{}), done: make(chan struct{}),
		entry: entry{ID: newID(), Name: t.Name, Status: agentapi.OperationNew, Started: time.Now()},
	}
	op.log = slog.New(&recorder{next: r.opts.Log.With("operation", t.Name, "operation_id", op.entry.ID).Handler(), op: op})

	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closing {
		return nil, agentapi.Errorf(agentapi.KindUnavailable, "Exception", "the agent is stopping")
	}
	for id, other := range r.ops {
		if other.exclusive && other.entry.Name == t.Name && other.entry.Ended.IsZero() {
			return nil, agentapi.Errorf(agentapi.KindConflict, "AlreadyInProgressError", "(\"'%s' already in progress\", '%s')", t.Name, id)
		}
	}
	op.entry.Status = agentapi.OperationInProgress
	if err := r.journal.save(op.entry); err != nil {
		return nil, fmt.Errorf("write operation journal: %w", err)
	}
	r.sweepLocked()
	r.ops[op.entry.ID] = op
	r.running.Go(func() { r.run(context.WithoutCancel(ctx), t, op) })
	return op, nil
}

// run is the goroutine of one operation.
func (r *Registry) run(ctx context.Context, t Task, op *Op) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(r.stop, cancel)()
	value, err := call(ctx, t, op)
	raw, err := encodeResult(value, err)
	op.value, op.err = value, err

	r.mu.Lock()
	op.entry.end(raw, err, op.isCanceled())
	r.ended[op.entry.Status]++
	saved := op.entry
	r.mu.Unlock()
	if err := r.journal.save(saved); err != nil {
		r.opts.Log.Error("write operation journal", "operation_id", saved.ID, "err", err)
	}
	close(op.done) // the caller need not wait for OnEnd
	r.tell(ctx, op)
}

// call runs the function; a panic is a failure of this operation only.
func call(ctx context.Context, t Task, op *Op) (value any, err error) {
	defer func() {
		if p := recover(); p != nil {
			op.log.Error("operation panicked", "panic", fmt.Sprint(p), "stack", string(debug.Stack()))
			value, err = nil, agentapi.Errorf(agentapi.KindInternal, "Exception", "internal error in %s, see the agent's log", t.Name)
		}
	}()
	return t.Run(ctx, op)
}

func encodeResult(value any, err error) (json.RawMessage, error) {
	if err != nil {
		return nil, err
	}
	raw, err := json.Marshal(value)
	if err != nil {
		return nil, agentapi.Errorf(agentapi.KindInternal, "TypeError", "%T is not JSON serializable", value)
	}
	return raw, nil
}

// tell reports an end to OnEnd and notes that it was told.
func (r *Registry) tell(ctx context.Context, op *Op) {
	if r.opts.OnEnd == nil {
		return
	}
	r.mu.Lock()
	e := op.entry
	r.mu.Unlock()
	err := r.opts.OnEnd(context.WithoutCancel(ctx), e.record())
	e.Told = err == nil
	r.mu.Lock()
	op.entry.Told, op.unheard = e.Told, !e.Told
	r.mu.Unlock()
	if err != nil {
		r.opts.Log.Warn("report operation result", "operation_id", e.ID, "err", err)
		return
	}
	if err := r.journal.save(e); err != nil {
		r.opts.Log.Error("write operation journal", "operation_id", e.ID, "err", err)
	}
}

// Run reports the ends that an earlier agent could not report. Every hour it reports again what was not heard and drops
// old records. When ctx ends it
// refuses new operations, gives running ones Options.Grace to finish, cancels the rest and waits for them.
func (r *Registry) Run(ctx context.Context) error {
	tick := time.NewTicker(time.Hour)
	defer tick.Stop()
	for {
		for _, op := range r.unheard() {
			r.tell(ctx, op)
		}
		select {
		case <-tick.C:
			r.mu.Lock()
			r.sweepLocked()
			r.mu.Unlock()
		case <-ctx.Done():
			r.shutdown()
			return nil
		}
	}
}

func (r *Registry) shutdown() {
	r.mu.Lock()
	r.closing = true
	r.mu.Unlock()
	defer time.AfterFunc(r.opts.Grace, r.cancel).Stop()
	r.running.Wait()
	r.cancel()
}

// unheard takes the operations whose end is to be told by Run; the goroutine of an operation that just ended tells its own.
func (r *Registry) unheard() []*Op {
	r.mu.Lock()
	defer r.mu.Unlock()
	var list []*Op
	for _, op := range r.ops {
		if op.unheard {
			op.unheard = false
			list = append(list, op)
		}
	}
	return list
}

// Result is the record of an operation.
func (r *Registry) Result(id string) (agentapi.Operation, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	op, err := r.findLocked(id)
	if err != nil {
		return agentapi.Operation{}, err
	}
	return op.entry.record(), nil
}

// Cancel asks an operation to end. A finished one stays as it is.
func (r *Registry) Cancel(id string) error {
	r.mu.Lock()
	op, err := r.findLocked(id)
	first := err == nil && op.entry.Ended.IsZero() && !op.isCanceled()
	if first {
		close(op.canceled)
	}
	r.mu.Unlock()
	if first && op.onCancel != nil {
		op.onCancel()
	}
	return err
}

// HasInProgress says whether any operation runs.
func (r *Registry) HasInProgress() bool { return r.Counts()[agentapi.OperationInProgress] > 0 }

// Counts are the numbers of records by status.
func (r *Registry) Counts() map[agentapi.OperationStatus]int {
	r.mu.Lock()
	defer r.mu.Unlock()
	counts := map[agentapi.OperationStatus]int{}
	for _, op := range r.ops {
		counts[op.entry.Status]++
	}
	return counts
}

// Ended are the numbers of operations that ended since Open, by status.
func (r *Registry) Ended() map[agentapi.OperationStatus]uint64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return maps.Clone(r.ended)
}

func (r *Registry) findLocked(id string) (*Op, error) {
	if op := r.ops[id]; op != nil {
		return op, nil
	}
	return nil, agentapi.Errorf(agentapi.KindNotFound, "OperationNotFoundError", "'%s' not found", id)
}

// sweepLocked drops records that finished more than Retention ago, and the oldest ones above maxFinished.
func (r *Registry) sweepLocked() {
	r.swept = time.Now()
	finished := 0
	var oldest *Op
	for id, op := range r.ops {
		switch {
		case op.entry.Ended.IsZero():
		case r.swept.Sub(op.entry.Ended) > Retention:
			r.dropLocked(id)
		default:
			finished++
			if oldest == nil || op.entry.Ended.Before(oldest.entry.Ended) {
				oldest = op
			}
		}
	}
	if finished > maxFinished {
		r.dropLocked(oldest.entry.ID)
	}
}

func (r *Registry) dropLocked(id string) {
	delete(r.ops, id)
	if err := r.journal.remove(id); err != nil {
		r.opts.Log.Warn("remove operation from journal", "operation_id", id, "err", err)
	}
}

// newID is a random UUID (RFC 9562 section 5.4).
func newID() string {
	var b [16]byte
	rand.Read(b[:])
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}

// errorText is the text of an error without its class, as the record carries it.
func errorText(err error) string {
	text := err.Error()
	if e, ok := errors.AsType[*agentapi.Error](err); ok {
		text = strings.Replace(text, e.Message(), e.Text, 1)
	}
	return text
}
