package operation

import (
	"context"
	"encoding/json"
	"errors"
	"time"
)

// Status is the state of an operation, the same words on agent and coordinator.
type Status string

// The states of an operation.
const (
	StatusNew        Status = "new"
	StatusInProgress Status = "in-progress"
	StatusCompleted  Status = "completed"
	StatusFailed     Status = "failed"
	StatusCanceled   Status = "canceled"
)

// Final says that the operation will not change any more.
func (s Status) Final() bool { return s == StatusCompleted || s == StatusFailed || s == StatusCanceled }

// Record is one operation as it is stored and shown.
type Record struct {
	ID        string // opaque
	Num       int64  // stable small integer
	GroupID   string // UUID shared by the operations of one call
	Seq       int    // place in the group, from 0
	Kind      string // names the Definition, e.g. "app.create.node"
	Account   string // who owns it
	Subject   string // opaque id of what it changes
	Params    json.RawMessage
	Status    Status
	Step      string // name of the step that runs, or ran last
	StepsDone int
	Steps     int
	Error     string // for people; "" unless failed or canceled
	Cancel    bool   // asked to stop
	CreatedAt time.Time
	UpdatedAt time.Time
	StartedAt time.Time // zero until it runs
	EndedAt   time.Time // zero until it is final
}

// StepRecord is what is known of one step.
type StepRecord struct {
	Name      string
	Done      bool
	Undone    bool
	Output    json.RawMessage // what Do stored with Run.SetOutput
	StartedAt time.Time
	EndedAt   time.Time
	Attempts  int
}

// Group is what one call starts.
type Group struct {
	ID         string
	Operations []Record // Num and times are filled in by the store
	Secret     []byte   // sealed by the store, dropped when the group ends; for what steps need and nobody may see
}

// Step is one idempotent part of an operation.
type Step struct {
	Name string
	// Do brings the effect about, or finds it there. An error that Temporary reports is retried until Timeout.
	Do func(ctx context.Context, run *Run) error
	// Undo takes the effect back, also one that Do did not finish. nil: there is nothing to take back.
	Undo func(ctx context.Context, run *Run) error
	// Timeout bounds Do over all its attempts, and Undo likewise. 0 means two minutes.
	Timeout time.Duration
}

// Definition is how one kind of operation is carried out.
type Definition struct {
	Kind  string
	Steps []Step
}

// RetryError asks for another attempt of the step after a pause.
type RetryError struct {
	After  time.Duration
	Reason string
}

func (e *RetryError) Error() string   { return e.Reason }
func (e *RetryError) Temporary() bool { return true }

// RetryAfter is the error of a step that waits for a condition.
func RetryAfter(d time.Duration, reason string) error { return &RetryError{After: d, Reason: reason} }

// Temporary says that err, or a cause of it, calls itself temporary.
func Temporary(err error) bool {
	var t interface{ Temporary() bool }
	return errors.As(err, &t) && t.Temporary()
}
