package core

import (
	"context"
	"encoding/json"
	"slices"
	"time"

	"github.com/reeve-paas/reeve/coordinator/operation"
)

// Kinds of the operations on an app's units.
const (
	OpAppDeploy = "app.deploy" // build a release, if it is not, and let it serve
	OpAppSite   = "app.site"   // the same where a web server serves it: nothing is built
	OpAppRoll   = "app.roll"   // let a release serve with a number of units
	OpAppHalt   = "app.halt"   // stop the units and keep them
	OpAppSwap   = "app.swap"   // exchange the names of two apps
)

// rollParams say what shall serve when a roll is over.
type rollParams struct {
	AppID   AppID  `json:"app_id"`
	AppNum  int64  `json:"app_num"`
	Name    string `json:"name"`
	Release int    `json:"release"`
	Count   int    `json:"count"`
	Fresh   bool   `json:"fresh,omitempty"` // new units also where the release runs already
	Deploy  bool   `json:"deploy,omitempty"`
	// Of a site: the route that it is for alone, and the release before.
	RouteID string `json:"route_id,omitempty"`
	Before  int    `json:"before,omitempty"`
	// Of a swap: the other app, and the names that each had before.
	Other      AppID    `json:"other,omitempty"`
	Names      []string `json:"names,omitempty"`
	OtherNames []string `json:"other_names,omitempty"`
}

// DeploySpec asks for a deployment.
type DeploySpec struct {
	Source string // SHA-256 of a file in Files: the source as tar.gz
	Origin Origin
	Commit string // for people; may be ""
	Route  string // host name that it is for alone, where a web server serves the app; "": it is the app's
}

// Deploy builds a source as a new release of the app and, when its units are healthy, lets it serve. What it prints is told
// by FollowOperation.
//
// Errors: not_found (also the route), forbidden, busy (something else is being done with the app), invalid (a site without its
// document root; a route of an app that runs as units), unavailable (the source has to be stored again)
// Effects: a release; units on the app's nodes or those of the pool, and routes; or what the web server of the app's node serves
func (c *Core) Deploy(ctx context.Context, p Principal, id AppID, spec DeploySpec) (Release, operation.Record, error) {
	c.filesMu.RLock()
	defer c.filesMu.RUnlock()
	if err := c.stillThere(spec.Source); err != nil {
		return Release{}, operation.Record{}, err
	}
	return c.deploy(ctx, p, "app.deploy", id, func(_ Reader, app App) (Release, error) {
		rel := Release{State: ReleaseBuilding, Origin: spec.Origin, Commit: clip(spec.Commit), Source: spec.Source}
		if app.hasVHosts() {
			rel.State, rel.Artifact = ReleaseBuilt, rel.Source
			if err := c.wantDocumentRoot(rel.Source); err != nil {
				return rel, err
			}
		}
		if spec.Route == "" {
			return rel, nil
		}
		i := slices.IndexFunc(app.Routes, func(r Route) bool { return r.Hostname == spec.Route })
		switch {
		case !app.hasVHosts():
			return rel, Errorf(Invalid, ObjRoute, "%s runs as units, for all its names", app.Name)
		case i < 0:
			return rel, Errorf(NotFound, ObjRoute, "%s is no name of %s", clip(spec.Route), app.Name)
		}
		rel.RouteID = app.Routes[i].ID
		return rel, nil
	})
}

// Rollback lets what was built for an older release serve again, as a new one.
//
// Errors: those of Deploy, not_found (no such release, or it was never built)
func (c *Core) Rollback(ctx context.Context, p Principal, id AppID, number int) (Release, operation.Record, error) {
	return c.deploy(ctx, p, "app.rollback", id, func(r Reader, app App) (Release, error) {
		old, err := r.Release(id, number)
		if err == nil && (old.State != ReleaseBuilt || old.Artifact == "") {
			err = Errorf(NotFound, ObjRelease, "there is no release %d to go back to", number)
		}
		if err == nil && old.RouteID != "" && !app.hasRoute(old.RouteID) {
			err = Errorf(NotFound, ObjRoute, "the name that release %d served is gone", number)
		}
		return Release{State: ReleaseBuilt, Origin: OriginRollback, Commit: old.Commit, RouteID: old.RouteID, Source: old.Source, Artifact: old.Artifact,
			SizeBytes: old.SizeBytes, Manifest: old.Manifest}, err
	})
}

func (c *Core) deploy(ctx context.Context, p Principal, action string, id AppID, release func(Reader, App) (Release, error)) (rel Release, op operation.Record, err error) {
	op, err = c.rollApp(ctx, p, action, OpAppDeploy, id, func(tx Tx, app App, params *rollParams) error {
		if rel, err = release(tx, app); err != nil {
			return err
		}
		all, err := tx.Releases(app.ID)
		if err != nil {
			return err
		}
		if rel.Number = 1; len(all) > 0 {
			rel.Number = all[0].Number + 1
		}
		rel.AppID, rel.Account, rel.CreatedAt = app.ID, p.Account.Email, c.now()
		if err := tx.PutRelease(&rel); err != nil {
			return err
		}
		params.Release, params.Count, params.Fresh, params.Deploy = rel.Number, max(app.UnitCount, 1), true, true
		if app.hasVHosts() {
			params.Count, params.RouteID, params.Before = 0, rel.RouteID, served(all, rel.RouteID)
		}
		return nil
	})
	return rel, op, err
}

// rollApp starts an operation on an app's units.
func (c *Core) rollApp(ctx context.Context, p Principal, action, kind string, id AppID, fill func(Tx, App, *rollParams) error) (operation.Record, error) {
	var group operation.Group
	err := c.Store.Update(ctx, func(tx Tx) error {
		app, err := usableByID(tx, p, id)
		if err != nil {
			return err
		}
		kind, changeable := kind, unitsChangeable
		if kind == OpAppDeploy && app.hasVHosts() {
			kind, changeable = OpAppSite, undisturbed
		}
		if err := changeable(tx, app); err != nil {
			return err
		}
		params := rollParams{AppID: app.ID, AppNum: app.Num, Name: app.Name, Release: app.Release, Count: app.UnitCount}
		if err := fill(tx, app, &params); err != nil {
			return err
		}
		if group, err = c.enqueueRoll(tx, p, kind, params); err != nil {
			return err
		}
		return tx.Audit(c.auditRecord(p, action, string(app.ID), group.Operations[0].ID, "accepted"))
	})
	if err != nil {
		c.refused(ctx, p, action, string(id), err)
		return operation.Record{}, err
	}
	return group.Operations[0], nil
}

func (c *Core) enqueueRoll(tx Tx, p Principal, kind string, params rollParams) (operation.Group, error) {
	data, err := json.Marshal(params)
	if err != nil {
		return operation.Group{}, err
	}
	group := c.newGroup(p, string(params.AppID), data, kind)
	return group, tx.Enqueue(&group)
}

// unitsChangeable refuses what cannot be done with an app's units now.
func unitsChangeable(r Reader, app App) error {
	if err := hasUnits(r, app); err != nil {
		return err
	}
	return undisturbed(r, app)
}

// hasUnits refuses apps that are no units, or not those of their owner's.
func hasUnits(r Reader, app App) error {
	if app.hasVHosts() && app.State != AppDeleting {
		return Errorf(Unsupported, ObjApp, "%s runs in the web server of its node, not as units", app.Platform)
	}
	if _, err := r.ManagedService(app.ID); err == nil {
		return Errorf(Unsupported, ObjApp, "%s is a service; its manager changes what runs on its nodes", app.Name)
	} else if !isNotFound(err) {
		return err
	}
	return nil
}

// undisturbed refuses an app on which an operation works.
func undisturbed(r Reader, app App) error {
	if app.State == AppDeleting {
		return Errorf(NotFound, ObjApp, "App %s not found.", app.Name)
	}
	ops, err := r.Operations(OperationFilter{Subject: string(app.ID), Unfinished: true})
	if err == nil && len(ops) > 0 {
		err = Errorf(Busy, ObjApp, "%s is being worked on: %s since %s", app.Name, ops[0].Kind, ops[0].CreatedAt.Format(time.RFC3339))
	}
	return err
}

// deployed refuses what needs a release when there is none.
func deployed(app App) error {
	if app.Release == 0 {
		return Errorf(Unavailable, ObjRelease, "New units can only be added after the first deployment")
	}
	return nil
}

// ChangeUnits adds units of the release that serves, or removes some when by is negative.
//
// Errors: those of Deploy, unavailable (nothing was deployed yet), quota, invalid (fewer than one would be left)
func (c *Core) ChangeUnits(ctx context.Context, p Principal, id AppID, by int) (operation.Record, error) {
	return c.rollApp(ctx, p, "app.units", OpAppRoll, id, func(tx Tx, app App, params *rollParams) error {
		if err := deployed(app); err != nil {
			return err
		}
		if params.Count = app.UnitCount + by; params.Count < 1 {
			return Errorf(Invalid, ObjUnit, "can not remove %d units from this app because it has only %d units", -by, app.UnitCount)
		}
		if by > 0 {
			return c.roomForUnits(tx, app, by)
		}
		return nil
	})
}

// RestartUnits replaces every unit by a new one, which reads the environment anew. An app without units has nothing to do: ok
// is false.
//
// Errors: those of Deploy
func (c *Core) RestartUnits(ctx context.Context, p Principal, id AppID) (op operation.Record, ok bool, err error) {
	app, err := c.usable(ctx, p, id)
	if err != nil || !app.restarts() {
		return operation.Record{}, false, err
	}
	op, err = c.rollApp(ctx, p, "app.restart", OpAppRoll, id, func(_ Tx, _ App, params *rollParams) error {
		params.Fresh = true
		return nil
	})
	return op, err == nil, err
}

// restarts says that the app has units that can begin anew.
func (a App) restarts() bool {
	return a.State != AppDeleting && a.Release != 0 && a.UnitCount != 0 && !a.Halted
}

// RestartAfter is the replacement of an app's units that the end of an operation began; ok is false when there is none.
//
// Errors: not_found, forbidden
func (c *Core) RestartAfter(ctx context.Context, p Principal, id AppID, op operation.Record) (restart operation.Record, ok bool, err error) {
	if _, err := c.usable(ctx, p, id); err != nil {
		return restart, false, err
	}
	ops, err := view(ctx, c.Store, func(r Reader) ([]operation.Record, error) { return r.Operations(OperationFilter{Subject: string(id)}) })
	i := slices.IndexFunc(ops, func(o operation.Record) bool { return o.Kind == OpAppRoll && o.Num > op.Num })
	if err != nil || i < 0 {
		return restart, false, err
	}
	return ops[i], true, nil
}

// HaltUnits stops an app's units and keeps them. ok is false when there is nothing to do.
//
// Errors: those of Deploy
func (c *Core) HaltUnits(ctx context.Context, p Principal, id AppID) (op operation.Record, ok bool, err error) {
	app, err := c.usable(ctx, p, id)
	if err != nil || app.Halted || len(app.Units) == 0 {
		return operation.Record{}, false, err
	}
	op, err = c.rollApp(ctx, p, "app.stop", OpAppHalt, id, func(tx Tx, app App, _ *rollParams) error {
		app.Halted = true
		return tx.PutApp(&app)
	})
	return op, err == nil, err
}

// ResumeUnits starts what HaltUnits stopped. ok is false when there is nothing to do.
//
// Errors: those of Deploy
func (c *Core) ResumeUnits(ctx context.Context, p Principal, id AppID) (op operation.Record, ok bool, err error) {
	app, err := c.usable(ctx, p, id)
	if err != nil || !app.Halted || app.Release == 0 {
		return operation.Record{}, false, err
	}
	op, err = c.rollApp(ctx, p, "app.start", OpAppRoll, id, func(tx Tx, app App, _ *rollParams) error {
		app.Halted = false
		return tx.PutApp(&app)
	})
	return op, err == nil, err
}

// SwapApps exchanges the names of two apps; units, environment and releases stay. Spec tsuru 5.6.
//
// Errors: those of Deploy for either
func (c *Core) SwapApps(ctx context.Context, p Principal, one, two AppID) (operation.Record, error) {
	return c.rollApp(ctx, p, "app.swap", OpAppSwap, one, func(tx Tx, app App, params *rollParams) error {
		other, err := usableByID(tx, p, two)
		if err != nil {
			return err
		}
		if err := unitsChangeable(tx, other); err != nil {
			return err
		}
		if app.ID == other.ID {
			return Errorf(Invalid, ObjApp, "an app cannot be swapped with itself")
		}
		params.Other, params.Names, params.OtherNames = other.ID, app.hostnames(), other.hostnames()
		return nil
	})
}

// Releases lists an app's releases, newest first.
//
// Errors: not_found, forbidden
func (c *Core) Releases(ctx context.Context, p Principal, id AppID) ([]Release, error) {
	return view(ctx, c.Store, func(r Reader) ([]Release, error) {
		if _, err := usableByID(r, p, id); err != nil {
			return nil, err
		}
		return r.Releases(id)
	})
}

// roomForUnits refuses units beyond the app's quota.
func (c *Core) roomForUnits(r Reader, app App, by int) error {
	quota, err := c.appQuota(r, app)
	if err == nil && quota.Limit >= 0 && by > quota.Available() {
		err = Errorf(Quota, ObjUnit, "Quota exceeded. Available: %d. Requested: %d.", quota.Available(), by)
	}
	return err
}

// nodesForUnits are where new units of an app may run, those with most room first. able is what poolRuns says of its platform.
func (c *Core) nodesForUnits(r Reader, app App, able func(Node) bool) ([]Node, map[NodeID][]AppUnit, error) {
	nodes := app.Nodes
	if app.Shared() {
		var err error
		if nodes, err = r.Nodes(NodeFilter{Cloud: app.Cloud, Role: RolePool}); err != nil {
			return nil, nil, err
		}
		nodes = slices.DeleteFunc(nodes, func(n Node) bool { return !able(n) })
	}
	nodes = slices.DeleteFunc(slices.Clone(nodes), func(n Node) bool {
		return n.State != NodeRunning || n.Address == "" || !n.Has(RoleApp) || c.healer.misses(n.ID)
	})
	units, err := unitsByNode(r)
	return nodes, units, err
}

func unitsByNode(r Reader) (map[NodeID][]AppUnit, error) {
	all, err := r.Units()
	if err != nil {
		return nil, err
	}
	units := map[NodeID][]AppUnit{}
	for _, u := range all {
		units[u.NodeID] = append(units[u.NodeID], u)
	}
	return units, nil
}
