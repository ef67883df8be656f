package sqlite

import (
	"context"
	"encoding/json"
	"time"

	"github.com/reeve-paas/reeve/coordinator/core"
	"github.com/reeve-paas/reeve/coordinator/operation"
)

const (
	groupByID    = `SELECT id, secret, undoing, undo_of, undo_status, undo_reason, ended_at FROM operation_group WHERE id = ?`
	stepsOfGroup = `SELECT o.id, s.name, s.done, s.undone, s.output, s.started_at, s.ended_at, s.attempts
		FROM operation o JOIN operation_step s ON s.operation_id = o.id WHERE o.group_id = ? ORDER BY o.seq, s.seq`
	cancelAsked = `SELECT count(*) FROM operation WHERE group_id = ? AND cancel <> 0`

	operationStart = `UPDATE operation SET status = 'in-progress', started_at = ?, updated_at = ? WHERE id = ? AND ended_at = 0`
	operationEnd   = `UPDATE operation SET status = ?, error = ?, ended_at = ?, updated_at = ? WHERE id = ? AND ended_at = 0`
	stepPut        = `INSERT INTO operation_step (operation_id, seq, name, done, undone, output, started_at, ended_at, attempts)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (operation_id, seq) DO UPDATE SET name = excluded.name,
		done = excluded.done, undone = excluded.undone, output = excluded.output, started_at = excluded.started_at,
		ended_at = excluded.ended_at, attempts = excluded.attempts`
	operationProgress = `UPDATE operation SET step = ?, updated_at = ?,
		steps_done = (SELECT count(*) FROM operation_step s WHERE s.operation_id = operation.id AND s.done <> 0) WHERE id = ?`
	stepUndone = `UPDATE operation_step SET undone = 1 WHERE operation_id = ? AND seq = ?`
	groupUndo  = `UPDATE operation_group SET undoing = 1, undo_of = ?, undo_status = ?, undo_reason = ?
		WHERE id = ? AND undoing = 0 AND ended_at = 0`
	groupEnd = `UPDATE operation_group SET ended_at = ?, secret = NULL WHERE id = ?`

	// River keeps a job as running when its process is killed; nobody else looks after it for a long time. "kind || ''"
	// keeps SQLite from reading every job of the kind, finished ones too, instead of those in the few other states.
	jobsFree = `UPDATE river_job SET state = 'available', scheduled_at = datetime('now', 'subsec')
		WHERE kind || '' = ? AND state IN ('running', 'retryable', 'scheduled')`
	jobsLive         = `SELECT args FROM river_job WHERE kind || '' = ? AND state IN ('available', 'pending', 'running', 'retryable', 'scheduled')`
	groupsUnfinished = `SELECT id FROM operation_group WHERE ended_at = 0`
)

// groupRow is a group without its operations.
type groupRow struct {
	operation.GroupState
	secret  []byte // sealed
	endedAt time.Time
}

func scanGroup(_ *tx, row scanner, g *groupRow) error {
	return row.Scan((*text)(&g.ID), &g.secret, (*flag)(&g.Undoing), (*text)(&g.UndoOf), (*text)(&g.UndoStatus),
		(*text)(&g.UndoReason), (*micros)(&g.endedAt))
}

type stepRow struct {
	operationID string
	operation.StepRecord
}

func scanStep(_ *tx, row scanner, s *stepRow) error {
	return row.Scan((*text)(&s.operationID), (*text)(&s.Name), (*flag)(&s.Done), (*flag)(&s.Undone), (*[]byte)(&s.Output),
		(*micros)(&s.StartedAt), (*micros)(&s.EndedAt), (*count)(&s.Attempts))
}

// Group implements operation.Store.
func (s *Store) Group(ctx context.Context, id string) (operation.GroupState, error) {
	var state operation.GroupState
	err := s.view(ctx, func(t *tx) error {
		var err error
		state, err = t.group(id)
		return err
	})
	return state, err
}

func (t *tx) group(id string) (operation.GroupState, error) {
	row, err := one(t, core.ObjOperation, scanGroup, groupByID, id)
	if err != nil {
		return operation.GroupState{}, err
	}
	g := row.GroupState
	g.Ended = !row.endedAt.IsZero()
	if g.Secret, err = t.unseal(row.secret, "operation_group.secret", id); err != nil {
		return g, failure(err, core.ObjOperation, "read the operations")
	}
	if g.Operations, err = list(t, core.ObjOperation, scanOperation, operationsOfGroup, id); err != nil {
		return g, err
	}
	for _, op := range g.Operations {
		g.CancelAsked = g.CancelAsked || op.Cancel
	}
	steps, err := list(t, core.ObjOperation, scanStep, stepsOfGroup, id)
	g.Steps = make(map[string][]operation.StepRecord, len(g.Operations))
	for _, step := range steps {
		g.Steps[step.operationID] = append(g.Steps[step.operationID], step.StepRecord)
	}
	return g, err
}

// change runs one statement that must find its row.
func (s *Store) change(ctx context.Context, doing, query string, args ...any) error {
	return s.update(ctx, func(t *tx) error { return t.change(doing, query, args...) })
}

func (t *tx) change(doing, query string, args ...any) error {
	n, err := t.exec(query, args...)
	if err == nil && n == 0 {
		return core.Errorf(core.NotFound, core.ObjOperation, "%s: it does not exist or has ended", doing)
	}
	return failure(err, core.ObjOperation, doing)
}

// Start implements operation.Store.
func (s *Store) Start(ctx context.Context, operationID string, at time.Time) error {
	return s.change(ctx, "start the operation", operationStart, timeValue(at), timeValue(at), operationID)
}

// StepDone implements operation.Store.
func (s *Store) StepDone(ctx context.Context, operationID string, index int, step operation.StepRecord) error {
	return s.update(ctx, func(t *tx) error {
		_, err := t.exec(stepPut, operationID, index, step.Name, flagValue(step.Done), flagValue(step.Undone),
			[]byte(step.Output), timeValue(step.StartedAt), timeValue(step.EndedAt), step.Attempts)
		if err != nil {
			return failure(err, core.ObjOperation, "store the step")
		}
		return t.change("count the step", operationProgress, step.Name, timeValue(step.EndedAt), operationID)
	})
}

// Complete implements operation.Store.
func (s *Store) Complete(ctx context.Context, operationID string, at time.Time) error {
	return s.change(ctx, "complete the operation", operationEnd, string(operation.StatusCompleted), "", timeValue(at),
		timeValue(at), operationID)
}

// BeginUndo implements operation.Store. What was stored first stays.
func (s *Store) BeginUndo(ctx context.Context, groupID, operationID string, status operation.Status, reason string) error {
	return s.update(ctx, func(t *tx) error {
		_, err := t.exec(groupUndo, operationID, string(status), reason, groupID)
		return failure(err, core.ObjOperation, "turn the operations round")
	})
}

// StepUndone implements operation.Store.
func (s *Store) StepUndone(ctx context.Context, operationID string, index int) error {
	return s.change(ctx, "store the undone step", stepUndone, operationID, index)
}

// EndGroup implements operation.Store.
func (s *Store) EndGroup(ctx context.Context, groupID string, at time.Time, trouble string) error {
	return s.update(ctx, func(t *tx) error {
		row, err := one(t, core.ObjOperation, scanGroup, groupByID, groupID)
		if err != nil || !row.endedAt.IsZero() {
			return err
		}
		if row.Undoing {
			if err := t.endUndone(row.GroupState, at, trouble); err != nil {
				return err
			}
		}
		_, err = t.exec(groupEnd, timeValue(at), groupID)
		return failure(err, core.ObjOperation, "end the operations")
	})
}

// endUndone gives the operation that failed its status, and those that never started the reason why.
func (t *tx) endUndone(g operation.GroupState, at time.Time, trouble string) error {
	ops, err := list(t, core.ObjOperation, scanOperation, operationsOfGroup, g.ID)
	if err != nil {
		return err
	}
	var kind string
	for _, op := range ops {
		if op.ID == g.UndoOf {
			kind = op.Kind
		}
	}
	for _, op := range ops {
		status, reason := operation.StatusCanceled, "not started: "+kind+" ended "+string(g.UndoStatus)
		if op.ID == g.UndoOf {
			status, reason = g.UndoStatus, g.UndoReason+trouble
		}
		_, err := t.exec(operationEnd, string(status), reason, timeValue(at), timeValue(at), op.ID) // ended ones stay
		if err != nil {
			return failure(err, core.ObjOperation, "end the operations")
		}
	}
	return nil
}

// CancelRequested implements operation.Store.
func (s *Store) CancelRequested(ctx context.Context, groupID string) (bool, error) {
	var n int64
	err := s.view(ctx, func(t *tx) error {
		var err error
		n, err = one(t, core.ObjOperation, scanCount, cancelAsked, groupID)
		return err
	})
	return n > 0, err
}

// Requeue implements operation.Store. It returns how many groups have not ended.
func (s *Store) Requeue(ctx context.Context) (int, error) {
	var unfinished []string
	err := s.update(ctx, func(t *tx) error {
		const doing = "take unfinished operations back"
		kind := operation.Args{}.Kind()
		if _, err := t.exec(jobsFree, kind); err != nil {
			return failure(err, core.ObjOperation, doing)
		}
		jobs, err := list(t, core.ObjOperation, scanArgs, jobsLive, kind)
		if err != nil {
			return err
		}
		live := make(map[string]bool, len(jobs))
		for _, args := range jobs {
			live[args.GroupID] = true
		}
		if unfinished, err = list(t, core.ObjOperation, scanID, groupsUnfinished); err != nil {
			return err
		}
		for _, id := range unfinished {
			if live[id] {
				continue
			}
			if err := s.queue.InsertTx(ctx, t.sql, id); err != nil {
				return failure(err, core.ObjOperation, doing)
			}
		}
		return nil
	})
	return len(unfinished), err
}

func scanArgs(_ *tx, row scanner, a *operation.Args) error {
	var data []byte
	if err := row.Scan(&data); err != nil {
		return err
	}
	return json.Unmarshal(data, a)
}
