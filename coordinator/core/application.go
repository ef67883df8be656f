package core

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/reeve-paas/reeve/coordinator/operation"
)

// FirstApplication is the name of the application that every account of the Director starts with.
const FirstApplication = "New Application"

// OpApplicationDelete is the kind of the operation that deletes an application.
const OpApplicationDelete = "application.delete"

// Application groups managed services of an account under a name.
type Application struct {
	Num       int64
	AccountID AccountID
	Name      string // unique per account
	CreatedAt time.Time
}

type applicationParams struct {
	Application int64 `json:"application"`
}

func (c *Core) applicationOperations() []operation.Definition {
	return []operation.Definition{{Kind: OpApplicationDelete, Steps: []operation.Step{
		{Name: "wait for services", Do: c.waitForServices, Timeout: 15 * time.Minute},
		{Name: "forget application", Do: c.forgetApplication},
	}}}
}

// Applications lists the caller's applications by ascending number. An account that was not made by the Director gets its
// first one here.
func (c *Core) Applications(ctx context.Context, p Principal) ([]Application, error) {
	if err := known(p); err != nil {
		return nil, err
	}
	all, err := view(ctx, c.Store, func(r Reader) ([]Application, error) { return r.Applications(p.Account.ID) })
	if err != nil || len(all) > 0 || p.Account.Username != "" {
		return all, err
	}
	err = c.Store.Update(ctx, func(tx Tx) error {
		if all, err = tx.Applications(p.Account.ID); err != nil || len(all) > 0 {
			return err
		}
		a := Application{AccountID: p.Account.ID, Name: FirstApplication, CreatedAt: c.now()}
		all = nil
		if err := tx.PutApplication(&a); err != nil {
			return err
		}
		all = []Application{a}
		return nil
	})
	return all, err
}

func goodLabel(name string) bool {
	return name != "" && len(name) <= 256 && printable(name)
}

// CreateApplication makes an application.
//
// Errors: invalid (name), exists
func (c *Core) CreateApplication(ctx context.Context, p Principal, name string) (Application, error) {
	a := Application{AccountID: p.Account.ID, Name: name, CreatedAt: c.now()}
	if _, err := c.Applications(ctx, p); err != nil { // the first one comes before any other
		return a, err
	}
	err := c.Store.Update(ctx, func(tx Tx) error {
		a.Num = 0
		if err := nameApplication(tx, a); err != nil {
			return err
		}
		if err := tx.PutApplication(&a); err != nil {
			return err
		}
		return tx.Audit(c.auditRecord(p, "application.create", fmt.Sprint(a.Num), "", "accepted"))
	})
	if err != nil {
		c.refused(ctx, p, "application.create", "", err)
	}
	return a, err
}

// nameApplication checks the name an application is to have.
func nameApplication(r Reader, a Application) error {
	if !goodLabel(a.Name) {
		return Errorf(Invalid, ObjApplication, "a name has 1 to 256 printable characters")
	}
	all, err := r.Applications(a.AccountID)
	if err != nil {
		return err
	}
	if slices.ContainsFunc(all, func(b Application) bool { return b.Num != a.Num && b.Name == a.Name }) {
		return Errorf(Exists, ObjApplication, "an application of this name exists")
	}
	return nil
}

func ownApplication(r Reader, p Principal, num int64) (Application, error) {
	if err := known(p); err != nil {
		return Application{}, err
	}
	a, err := r.Application(num)
	if err == nil && a.AccountID != p.Account.ID {
		err = Errorf(NotFound, ObjApplication, "the application does not exist")
	}
	return a, err
}

// RenameApplication gives an application another name.
//
// Errors: not_found, invalid (name), exists
func (c *Core) RenameApplication(ctx context.Context, p Principal, num int64, name string) error {
	err := c.Store.Update(ctx, func(tx Tx) error {
		a, err := ownApplication(tx, p, num)
		if err != nil {
			return err
		}
		a.Name = name
		if err := nameApplication(tx, a); err != nil {
			return err
		}
		if err := tx.PutApplication(&a); err != nil {
			return err
		}
		return tx.Audit(c.auditRecord(p, "application.rename", fmt.Sprint(num), "", "accepted"))
	})
	if err != nil {
		c.refused(ctx, p, "application.rename", "", err)
	}
	return err
}

// DeleteApplication stops every service of an application and forgets it when they are gone, which it waits for.
//
// Errors: not_found, busy (a deletion is under way), unavailable (it takes long and goes on)
func (c *Core) DeleteApplication(ctx context.Context, p Principal, num int64) error {
	err := c.Store.Update(ctx, func(tx Tx) error {
		if _, err := ownApplication(tx, p, num); err != nil {
			return err
		}
		subject := fmt.Sprintf("application/%d", num)
		ops, err := tx.Operations(OperationFilter{Subject: subject, Unfinished: true})
		if err != nil {
			return err
		}
		if len(ops) > 0 {
			return Errorf(Busy, ObjApplication, "the application is being deleted")
		}
		params, err := json.Marshal(applicationParams{num})
		if err != nil {
			return err
		}
		g := c.newGroup(p, subject, params, OpApplicationDelete)
		if err := tx.Enqueue(&g); err != nil {
			return err
		}
		return tx.Audit(c.auditRecord(p, "application.delete", fmt.Sprint(num), g.Operations[0].ID, "accepted"))
	})
	if err != nil {
		c.refused(ctx, p, "application.delete", "", err)
		return err
	}
	return c.await(ctx, answerWithin, func(r Reader) (bool, error) {
		_, err := r.Application(num)
		if isNotFound(err) {
			return true, nil
		}
		return false, err
	})
}

func (c *Core) waitForServices(ctx context.Context, run *operation.Run) error {
	var p applicationParams
	if err := run.Params(&p); err != nil {
		return err
	}
	all, err := view(ctx, c.Store, func(r Reader) ([]ManagedService, error) { return r.ManagedServices(AccountID(run.Operation.Account)) })
	if err != nil {
		return err
	}
	for _, s := range all {
		if s.Application != p.Application {
			continue
		}
		app, err := view(ctx, c.Store, func(r Reader) (App, error) { return r.App(s.AppID) })
		if isNotFound(err) {
			continue
		}
		if err != nil {
			return err
		}
		if app.State != AppDeleting { // started meanwhile, or we were killed before it was asked for
			owner, err := view(ctx, c.Store, func(r Reader) (Account, error) { return r.Account(app.AccountID) })
			if err != nil {
				return err
			}
			if _, err := c.DeleteApp(ctx, Principal{Account: owner, Via: "local", Dialect: "application"}, app.Num); err != nil && KindOf(err) != Busy && !isNotFound(err) {
				return err
			}
		}
		return operation.RetryAfter(50*time.Millisecond, "a service of the application is there")
	}
	return nil
}

func (c *Core) forgetApplication(ctx context.Context, run *operation.Run) error {
	var p applicationParams
	if err := run.Params(&p); err != nil {
		return err
	}
	return c.Store.Update(ctx, func(tx Tx) error { return tx.DeleteApplication(p.Application) })
}
