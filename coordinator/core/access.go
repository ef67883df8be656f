package core

import (
	"context"
	"encoding/json"
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

// Owners are the e-mail addresses of who made apps.
func (c *Core) Owners(ctx context.Context, apps []App) (map[AccountID]string, error) {
	return view(ctx, c.Store, func(r Reader) (map[AccountID]string, error) {
		owners := map[AccountID]string{}
		for _, app := range apps {
			if _, known := owners[app.AccountID]; known || app.AccountID == "" {
				continue
			}
			account, err := r.Account(app.AccountID)
			if err != nil && !isNotFound(err) {
				return nil, err
			}
			owners[app.AccountID] = account.Email
		}
		return owners, nil
	})
}

// Deployment is a release with the name of its app.
type Deployment struct {
	Release
	App    string
	Active bool // it serves
}

// Deployments lists what was deployed to the apps that the caller may use, newest first.
func (c *Core) Deployments(ctx context.Context, p Principal) ([]Deployment, error) {
	apps, err := c.UsableApps(ctx, p)
	if err != nil {
		return nil, err
	}
	all, err := view(ctx, c.Store, func(r Reader) (all []Deployment, err error) {
		for _, app := range apps {
			releases, err := r.Releases(app.ID)
			if err != nil {
				return nil, err
			}
			for _, rel := range releases {
				all = append(all, Deployment{rel, app.Name, app.Release == rel.Number})
			}
		}
		return all, nil
	})
	slices.SortFunc(all, func(a, b Deployment) int { return int(b.Num - a.Num) })
	return all, err
}

// ForgetLog deletes the log of an app, or of all; for administrators.
//
// Errors: forbidden, not_found
func (c *Core) ForgetLog(ctx context.Context, p Principal, name string) error {
	return c.change(ctx, p, "app.log.delete", name, func(tx Tx) error {
		if err := requireAdmin(tx, p); err != nil {
			return err
		}
		if name == "" {
			return tx.DeleteLog("")
		}
		app, err := usableApp(tx, p, name)
		if err != nil {
			return err
		}
		return tx.DeleteLog(app.ID)
	})
}

// PlatformNodes lists the nodes that are nobody's own; for administrators.
//
// Errors: forbidden
func (c *Core) PlatformNodes(ctx context.Context, p Principal) ([]Node, error) {
	return view(ctx, c.Store, func(r Reader) ([]Node, error) {
		if err := requireAdmin(r, p); err != nil {
			return nil, err
		}
		nodes, err := r.Nodes(NodeFilter{})
		return slices.DeleteFunc(nodes, func(n Node) bool { return n.AccountID != "" || n.AppID != "" }), err
	})
}

// RemovePlatformNode destroys a node that is nobody's own. Upkeep makes another one in its place, and units move there.
//
// Errors: forbidden, not_found, busy (something is being done with it already)
// Effects: a node
func (c *Core) RemovePlatformNode(ctx context.Context, p Principal, name string) error {
	return c.change(ctx, p, "node.destroy", name, func(tx Tx) error {
		if err := requireAdmin(tx, p); err != nil {
			return err
		}
		nodes, err := tx.Nodes(NodeFilter{})
		if err != nil {
			return err
		}
		i := slices.IndexFunc(nodes, func(n Node) bool {
			return n.AccountID == "" && n.AppID == "" && (n.Name == name || string(n.ID) == name)
		})
		if i < 0 {
			return Errorf(NotFound, ObjNode, "machine not found")
		}
		if nodes[i].State != NodeRunning && nodes[i].State != NodeUnreachable && nodes[i].State != NodeFailed {
			return Errorf(Busy, ObjNode, "the machine is %s", nodes[i].State)
		}
		params, err := json.Marshal(nodeParams{NodeID: nodes[i].ID, NodeNum: nodes[i].Num})
		if err != nil {
			return err
		}
		nodes[i].State = NodeStopping
		if err := tx.PutNode(&nodes[i]); err != nil {
			return err
		}
		g := c.newGroup(p, string(nodes[i].ID), params, OpNodeDestroy)
		return tx.Enqueue(&g)
	})
}

// AppGone says that there is no app of this id any more.
func (c *Core) AppGone(ctx context.Context, id AppID) (bool, error) {
	_, err := view(ctx, c.Store, func(r Reader) (App, error) { return r.App(id) })
	if isNotFound(err) {
		return true, nil
	}
	return false, err
}

// PrincipalOf is an active account as a caller, for whoever authenticated it in a way of their own.
//
// Errors: not_found, unauthenticated (not active)
func (c *Core) PrincipalOf(ctx context.Context, id AccountID) (Principal, error) {
	account, err := view(ctx, c.Store, func(r Reader) (Account, error) { return r.Account(id) })
	if err == nil && !account.Active {
		err = Errorf(Unauthenticated, ObjAccount, "the account is closed")
	}
	account.PasswordHash = ""
	return Principal{Account: account}, err
}
