package core

import (
	"context"
	"slices"
	"strings"
	"time"
)

// isAdmin looks at the account as it is stored: a principal may be some seconds old.
func isAdmin(r Reader, p Principal) (bool, error) {
	if p.Anonymous() || p.App != "" {
		return false, nil
	}
	account, err := r.Account(p.Account.ID)
	return account.Admin && account.Active, err
}

// RequireAdmin refuses everybody who is no administrator.
//
// Errors: unauthenticated, forbidden
func (c *Core) RequireAdmin(ctx context.Context, p Principal) error {
	return c.Store.View(ctx, func(r Reader) error { return requireAdmin(r, p) })
}

func requireAdmin(r Reader, p Principal) error {
	if err := known(p); err != nil {
		return err
	}
	admin, err := isAdmin(r, p)
	if err == nil && !admin {
		err = Errorf(Forbidden, ObjAccount, "You must be an admin")
	}
	return err
}

// mayUseApp says whether the caller may see and change an app: a program inside it, a member of one of its teams, its owner
// when no team shares it, an administrator.
func mayUseApp(r Reader, p Principal, app App) (bool, error) {
	if p.App != "" {
		return p.App == app.ID, nil
	}
	if len(app.Teams) == 0 && app.AccountID == p.Account.ID {
		return true, nil
	}
	if len(app.Teams) > 0 {
		teams, err := r.Teams(p.Account.ID)
		if err != nil || slices.ContainsFunc(teams, func(t Team) bool { return slices.Contains(app.Teams, t.Name) }) {
			return err == nil, err
		}
	}
	return isAdmin(r, p)
}

// usableApp finds an app by its name. Apps that share nodes have one space of names; of the others the caller's own is meant.
//
// Errors: not_found, forbidden
func usableApp(r Reader, p Principal, name string) (App, error) {
	if err := known(p); err != nil {
		return App{}, err
	}
	app, err := r.SharedApp(name)
	if isNotFound(err) {
		if app, err = r.AppNamed(p.Account.ID, name); isNotFound(err) {
			err = Errorf(NotFound, ObjApp, "App %s not found.", clip(name))
		}
	}
	if err != nil {
		return App{}, err
	}
	may, err := mayUseApp(r, p, app)
	if err == nil && !may {
		err = Errorf(Forbidden, ObjApp, "User does not have access to this app")
	}
	if err != nil {
		return App{}, err
	}
	app.State = app.seen()
	return app, nil
}

// AppByName is an app that the caller may use.
//
// Errors: not_found, forbidden
func (c *Core) AppByName(ctx context.Context, p Principal, name string) (App, error) {
	return view(ctx, c.Store, func(r Reader) (App, error) { return usableApp(r, p, name) })
}

// UsableApps lists what the caller may use, by name: of an administrator all there is.
func (c *Core) UsableApps(ctx context.Context, p Principal) ([]App, error) {
	if err := known(p); err != nil {
		return nil, err
	}
	apps, err := view(ctx, c.Store, func(r Reader) ([]App, error) {
		if p.App != "" {
			app, err := r.App(p.App)
			return []App{app}, err
		}
		admin, err := isAdmin(r, p)
		if err != nil {
			return nil, err
		}
		if admin {
			return r.Apps("", 0, 0)
		}
		return r.UsableApps(p.Account.ID)
	})
	for i := range apps {
		apps[i].State = apps[i].seen()
	}
	slices.SortStableFunc(apps, func(a, b App) int { return strings.Compare(a.Name, b.Name) })
	return apps, err
}

// change writes in one transaction and records who asked for it. subject is opaque; "" when it is not known.
func (c *Core) change(ctx context.Context, p Principal, action, subject string, fn func(Tx) error) error {
	err := known(p)
	if err == nil {
		err = c.Store.Update(ctx, func(tx Tx) error {
			if err := fn(tx); err != nil {
				return err
			}
			return tx.Audit(c.auditRecord(p, action, subject, "", "accepted"))
		})
	}
	if err != nil {
		c.refused(ctx, p, action, subject, err)
	}
	return err
}

// Work is what goes on with an app.
type Work struct {
	Who   string // e-mail of who asked for it; "" when it was the platform
	What  string // kind of the operation
	Since time.Time
}

// Working says what unfinished operation works on an app, if any. As long as one does, nothing else is changed about the app.
func (c *Core) Working(ctx context.Context, id AppID) (w Work, busy bool, err error) {
	err = c.Store.View(ctx, func(r Reader) error {
		w, busy, err = workingOn(r, id)
		return err
	})
	return w, busy, err
}

func workingOn(r Reader, id AppID) (w Work, busy bool, err error) {
	ops, err := r.Operations(OperationFilter{Subject: string(id), Unfinished: true})
	if err != nil || len(ops) == 0 {
		return w, false, err
	}
	w = Work{What: ops[0].Kind, Since: ops[0].CreatedAt}
	if ops[0].Account != "" {
		account, err := r.Account(AccountID(ops[0].Account))
		if err != nil && !isNotFound(err) {
			return w, true, err
		}
		w.Who = account.Email
	}
	return w, true, nil
}

// Healthy says whether the store answers.
//
// Errors: whatever the store has
func (c *Core) Healthy(ctx context.Context) error {
	_, err := view(ctx, c.Store, func(r Reader) (int, error) { return r.CountApps("") })
	return err
}
