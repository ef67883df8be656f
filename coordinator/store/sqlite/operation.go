package sqlite

import (
	"github.com/reeve-paas/reeve/coordinator/core"
	"github.com/reeve-paas/reeve/coordinator/operation"
	"github.com/reeve-paas/reeve/coordinator/store"
)

// An operation has not ended while ended_at is 0. The text is the same everywhere, so that the indexes on the few
// unfinished ones serve.
const (
	operationColumns = `num, id, group_id, seq, kind, account_id, subject, params, status, step, steps_done, steps, error,
		cancel, created_at, updated_at, started_at, ended_at`
	operationSelect   = `SELECT ` + operationColumns + ` FROM operation`
	operationByNum    = operationSelect + ` WHERE num = ?`
	operationsOfGroup = operationSelect + ` WHERE group_id = ? ORDER BY seq`
	operationInsert   = `INSERT INTO operation (id, group_id, seq, kind, account_id, subject, params, status, steps, created_at,
		updated_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`
	groupInsert = `INSERT INTO operation_group (id, secret) VALUES (?, ?)`

	groupsToCancel = `SELECT g.id FROM operation_group g WHERE g.ended_at = 0
		AND EXISTS (SELECT 1 FROM operation o WHERE o.group_id = g.id AND o.subject = ?)`
	groupToCancel = `SELECT g.id FROM operation_group g WHERE g.ended_at = 0 AND g.id = ?`
	groupCancel   = `UPDATE operation SET cancel = 1 WHERE group_id = ? AND ended_at = 0`
)

func scanOperation(_ *tx, row scanner, r *operation.Record) error {
	return row.Scan((*number)(&r.Num), (*text)(&r.ID), (*text)(&r.GroupID), (*count)(&r.Seq), (*text)(&r.Kind),
		(*text)(&r.Account), (*text)(&r.Subject), (*[]byte)(&r.Params), (*text)(&r.Status), (*text)(&r.Step),
		(*count)(&r.StepsDone), (*count)(&r.Steps), (*text)(&r.Error), (*flag)(&r.Cancel), (*micros)(&r.CreatedAt),
		(*micros)(&r.UpdatedAt), (*micros)(&r.StartedAt), (*micros)(&r.EndedAt))
}

func scanID(_ *tx, row scanner, id *string) error { return row.Scan((*text)(id)) }

func (t *tx) Operation(num int64) (operation.Record, error) {
	return one(t, core.ObjOperation, scanOperation, operationByNum, num)
}

func (t *tx) Operations(f core.OperationFilter) ([]operation.Record, error) {
	query, args := operationsQuery(f)
	return list(t, core.ObjOperation, scanOperation, query, args...)
}

func operationsQuery(f core.OperationFilter) (string, []any) {
	var where []string
	var args []any
	for _, c := range []struct{ column, value string }{
		{"account_id", string(f.Account)}, {"subject", f.Subject}, {"group_id", f.GroupID},
	} {
		if c.value != "" {
			where = append(where, c.column+" = ?")
			args = append(args, c.value)
		}
	}
	if f.Unfinished {
		where = append(where, "ended_at = 0")
	}
	return operationSelect + conditions(where) + " ORDER BY num", args
}

// Enqueue stores the group and puts it in line; the queue sees it when the transaction is committed.
func (t *tx) Enqueue(g *operation.Group) error {
	const doing = "store the operations"
	if len(g.Operations) == 0 {
		return core.Errorf(core.Internal, core.ObjOperation, "a group of no operations")
	}
	if g.ID == "" {
		g.ID = store.NewUUID()
	}
	if _, err := t.exec(groupInsert, g.ID, t.seal(g.Secret, "operation_group.secret", g.ID)); err != nil {
		return failure(err, core.ObjOperation, doing)
	}
	now := t.store.now()
	for i := range g.Operations {
		op := &g.Operations[i]
		if op.ID == "" {
			op.ID = store.NewID()
		}
		op.Num, op.GroupID, op.Seq, op.Status, op.CreatedAt, op.UpdatedAt = 0, g.ID, i, operation.StatusNew, now, now
		err := t.put(core.ObjOperation, &op.Num, operationInsert, "", op.ID, op.GroupID, op.Seq, op.Kind, op.Account,
			op.Subject, []byte(op.Params), string(op.Status), op.Steps, timeValue(now), timeValue(now))
		if err != nil {
			return err
		}
	}
	t.enqueued = true
	return failure(t.store.queue.InsertTx(t.ctx, t.sql, g.ID), core.ObjOperation, doing)
}

// RequestCancel returns how many groups it asked. A group whose operations all ended has nothing left to stop.
func (t *tx) RequestCancel(subject, groupID string) (int, error) {
	query, key := groupsToCancel, subject
	if groupID != "" {
		query, key = groupToCancel, groupID
	}
	groups, err := list(t, core.ObjOperation, scanID, query, key)
	if err != nil {
		return 0, err
	}
	asked := 0
	for _, id := range groups {
		n, err := t.exec(groupCancel, id)
		if err != nil {
			return 0, failure(err, core.ObjOperation, "ask the operation to stop")
		}
		if n > 0 {
			asked++
		}
	}
	return asked, nil
}
