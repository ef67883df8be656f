package core

import (
	"context"
	"encoding/json"
	"slices"

	"github.com/reeve-paas/reeve/coordinator/operation"
)

// Apps lists the caller's apps by ascending number.
func (c *Core) Apps(ctx context.Context, p Principal) ([]App, error) { return c.AppsPage(ctx, p, 0, 0) }

// AppsPage lists a part of the caller's apps by ascending number; limit 0 means all.
func (c *Core) AppsPage(ctx context.Context, p Principal, offset, limit int) ([]App, error) {
	if err := known(p); err != nil {
		return nil, err
	}
	apps, err := view(ctx, c.Store, func(r Reader) ([]App, error) { return r.Apps(p.Account.ID, offset, limit) })
	for i := range apps {
		apps[i].State = apps[i].seen()
	}
	return apps, err
}

// seen is the app's state as its node's makes it look: one whose node does not answer is stopped, whatever is wanted.
func (a App) seen() AppState {
	if a.State == AppRunning && slices.ContainsFunc(a.Nodes, func(n Node) bool { return n.State == NodeUnreachable || n.State == NodeFailed }) {
		return AppStopped
	}
	return a.State
}

// CountApps counts the caller's apps.
func (c *Core) CountApps(ctx context.Context, p Principal) (int, error) {
	if err := known(p); err != nil {
		return 0, err
	}
	return view(ctx, c.Store, func(r Reader) (int, error) { return r.CountApps(p.Account.ID) })
}

// App is one app of the caller. What is not theirs does not exist.
func (c *Core) App(ctx context.Context, p Principal, num int64) (App, error) {
	app, err := view(ctx, c.Store, func(r Reader) (App, error) { return ownApp(r, p, num) })
	app.State = app.seen()
	return app, err
}

func ownApp(r Reader, p Principal, num int64) (App, error) {
	if err := known(p); err != nil {
		return App{}, err
	}
	app, err := r.AppByNum(num)
	may := app.AccountID == p.Account.ID
	if err == nil && len(app.Teams) > 0 {
		may, err = mayUseApp(r, p, app)
	}
	if err == nil && !may {
		err = Errorf(NotFound, ObjApp, "the app does not exist") // in the words for one that is not there at all
	}
	if err != nil {
		return App{}, err
	}
	return app, nil
}

// DeleteApp asks for the end of an app and all that belongs to it. Operations that are creating it are canceled first.
//
// Errors: not_found, busy (it is being deleted already)
func (c *Core) DeleteApp(ctx context.Context, p Principal, num int64) (operation.Record, error) {
	var group operation.Group
	err := c.Store.Update(ctx, func(tx Tx) error {
		app, err := ownApp(tx, p, num)
		if err != nil {
			return err
		}
		ops, err := tx.Operations(OperationFilter{Subject: string(app.ID), Unfinished: true})
		if err != nil {
			return err
		}
		if slices.ContainsFunc(ops, func(op operation.Record) bool { return op.Kind == OpAppDelete }) {
			return Errorf(Busy, ObjApp, "the app is being deleted")
		}
		if _, err := tx.RequestCancel(string(app.ID), ""); err != nil {
			return err
		}
		app.State = AppDeleting
		if err := tx.PutApp(&app); err != nil {
			return err
		}
		if err := tx.RevokeCertificates(app.AccountID, app.Num, c.now()); err != nil {
			return err
		}
		params, err := json.Marshal(appParams{AppID: app.ID, AppNum: app.Num, Name: app.Name})
		if err != nil {
			return err
		}
		group = c.newGroup(p, string(app.ID), params, OpAppDelete)
		if err := tx.Enqueue(&group); err != nil {
			return err
		}
		return tx.Audit(c.auditRecord(p, "app.delete", string(app.ID), group.Operations[0].ID, "accepted"))
	})
	if err != nil {
		c.refused(ctx, p, "app.delete", numbered(num), err)
		return operation.Record{}, err
	}
	return group.Operations[0], nil
}

// Operations lists the caller's operations by ascending number.
func (c *Core) Operations(ctx context.Context, p Principal, f OperationFilter) ([]operation.Record, error) {
	if err := known(p); err != nil {
		return nil, err
	}
	f.Account = p.Account.ID
	return view(ctx, c.Store, func(r Reader) ([]operation.Record, error) { return r.Operations(f) })
}

// Operation is one operation of the caller.
func (c *Core) Operation(ctx context.Context, p Principal, num int64) (operation.Record, error) {
	return view(ctx, c.Store, func(r Reader) (operation.Record, error) { return ownOperation(r, p, num) })
}

func ownOperation(r Reader, p Principal, num int64) (operation.Record, error) {
	if err := known(p); err != nil {
		return operation.Record{}, err
	}
	op, err := r.Operation(num)
	if err == nil && op.Account != string(p.Account.ID) {
		err = Errorf(NotFound, ObjOperation, "the operation does not exist")
	}
	if err != nil {
		return operation.Record{}, err
	}
	return op, nil
}

// CancelOperation asks an operation, and those started with it, to stop; what was done is taken back.
//
// Errors: not_found, busy (it has ended, or cannot be stopped)
func (c *Core) CancelOperation(ctx context.Context, p Principal, num int64) error {
	return c.cancel(ctx, p, numbered(num), func(tx Tx) (operation.Record, error) { return ownOperation(tx, p, num) })
}

// CancelWork asks an operation on an app that the caller may use to stop; what was done is taken back.
//
// Errors: not_found (it has ended, or is none on such an app), busy (it cannot be stopped)
func (c *Core) CancelWork(ctx context.Context, p Principal, id string) error {
	return c.cancel(ctx, p, clip(id), func(tx Tx) (operation.Record, error) {
		missing := Errorf(NotFound, ObjOperation, "no work of this id goes on")
		ops, err := tx.Operations(OperationFilter{Unfinished: true})
		if err != nil {
			return operation.Record{}, err
		}
		i := slices.IndexFunc(ops, func(op operation.Record) bool { return op.ID == id })
		if i < 0 {
			return operation.Record{}, missing
		}
		app, err := tx.App(AppID(ops[i].Subject))
		if isNotFound(err) {
			return operation.Record{}, missing
		}
		if err != nil {
			return operation.Record{}, err
		}
		may, err := mayUseApp(tx, p, app)
		if err == nil && !may {
			err = missing
		}
		return ops[i], err
	})
}

func (c *Core) cancel(ctx context.Context, p Principal, asked string, find func(Tx) (operation.Record, error)) error {
	err := known(p)
	if err != nil {
		return err
	}
	err = c.Store.Update(ctx, func(tx Tx) error {
		op, err := find(tx)
		if err != nil {
			return err
		}
		if op.Status.Final() || op.Kind == OpAppDelete || op.Kind == OpKeyRemove || op.Kind == OpRouteRemove || op.Kind == OpNodeDestroy ||
			op.Kind == OpSnapshotDelete || op.Kind == OpAppRestore && op.StepsDone+1 >= op.Steps { // what was there is being destroyed
			return Errorf(Busy, ObjOperation, "the operation cannot be canceled any more")
		}
		if _, err := tx.RequestCancel(op.Subject, op.GroupID); err != nil {
			return err
		}
		return tx.Audit(c.auditRecord(p, "operation.cancel", op.Subject, op.ID, "accepted"))
	})
	if err != nil {
		c.refused(ctx, p, "operation.cancel", asked, err)
	}
	return err
}
