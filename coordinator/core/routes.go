package core

import (
	"context"
	"encoding/json"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/net/publicsuffix"

	"github.com/reeve-paas/reeve/agent/agentapi"
	"github.com/reeve-paas/reeve/coordinator/operation"
)

// Kinds of the operations on single routes of an app that runs.
const (
	OpRouteAdd    = "route.add"
	OpRouteRemove = "route.remove"
)

// RouteSpec asks for a host name of an app. Comments name the members as problems call them.
type RouteSpec struct {
	Hostname string // hostname
	Override bool   // take the name over from whoever serves it, if the caller proves to own it
	Free     bool   // a name that nobody serves needs no proof
}

// RouteDNS is what the owner of a name publishes to prove it and to have it lead here.
type RouteDNS struct {
	Hostname  string
	Label     string   // relative to the registered domain; "@" for that itself
	TXT       string   // value of the TXT record that proves ownership
	Addresses []string // of the routers; never nil
}

func (c *Core) routeOperations() []operation.Definition {
	return []operation.Definition{
		{Kind: OpRouteAdd, Steps: []operation.Step{
			{Name: "wait for others", Do: c.waitForOthers, Undo: c.failRoute, Timeout: 10 * time.Minute},
			{Name: "serve the name", Do: c.serveRoute, Undo: c.unserveRoute, Timeout: 3 * time.Minute},
			{Name: "publish the name", Do: c.publishRoute, Undo: c.withdrawRoute, Timeout: 3 * time.Minute},
			{Name: "finish", Do: c.finishRoute},
		}},
		{Kind: OpRouteRemove, Steps: []operation.Step{
			{Name: "wait for others", Do: c.waitForOthers, Timeout: 10 * time.Minute},
			{Name: "withdraw the name", Do: c.withdrawRoute, Timeout: 5 * time.Minute},
			{Name: "stop serving the name", Do: c.unserveRoute, Timeout: 5 * time.Minute},
			{Name: "forget the name", Do: c.forgetRoute},
		}},
	}
}

// routePlan is a checked RouteSpec.
type routePlan struct {
	app   App
	name  string
	taken Route // by whom the name is served now; zero when by nobody
}

// CheckRoute finds every problem of a spec without changing anything; none means that AddRoute would accept it.
//
// Errors: not_found (app), busy (the app's state)
func (c *Core) CheckRoute(ctx context.Context, p Principal, appNum int64, spec RouteSpec) ([]Problem, error) {
	_, problems, err := c.planRoute(ctx, p, appNum, spec)
	return problems, err
}

// planRoute checks a spec, which takes a look-up in the DNS where ownership has to be proven.
func (c *Core) planRoute(ctx context.Context, p Principal, appNum int64, spec RouteSpec) (pl routePlan, problems []Problem, err error) {
	bad := func(code ProblemCode, msg string, allowed ...string) []Problem {
		return []Problem{{Field: "hostname", Code: code, Msg: msg, Allowed: allowed}}
	}
	name, ok := NormalHostname(spec.Hostname)
	if pl.name = name; !ok {
		return pl, bad(ProblemPattern, "not a host name: "+clip(spec.Hostname)), known(p)
	}
	mine := false
	err = c.Store.View(ctx, func(r Reader) (err error) {
		if pl.app, err = ownApp(r, p, appNum); err != nil {
			return err
		}
		if err := changeable(pl.app); err != nil {
			return err
		}
		pl.taken, mine, err = c.servedBy(r, p.Account.ID, name)
		return err
	})
	if err != nil {
		return pl, nil, err
	}
	others := slices.DeleteFunc(slices.Clone(pl.app.Routes), func(r Route) bool { return r.Hostname == name })
	switch {
	case len(others) >= maxRoutes:
		return pl, nil, Errorf(Quota, ObjRoute, "an app has at most %d names", maxRoutes)
	case isWildcard(name) && slices.ContainsFunc(others, func(r Route) bool { return isWildcard(r.Hostname) }):
		return pl, bad(ProblemDuplicate, oneWildcard), nil
	case pl.taken.ID != "" && !spec.Override && !(mine && pl.taken.State == RouteFailed):
		return pl, bad(ProblemTaken, name+" is served already"), nil
	case pl.taken.State == RouteCreating || pl.taken.State == RouteDeleting:
		return pl, bad(ProblemTaken, name+" is served, and being changed"), nil
	case pl.taken.ID != "" && pl.taken.AppID == pl.app.ID && pl.taken.State != RouteFailed:
		return pl, bad(ProblemTaken, name+" is served by this app already"), nil
	case spec.Free && c.ownName(name):
		return pl, bad(ProblemTaken, name+" is a name that apps are given"), nil
	case !mine && !(spec.Free && pl.taken.ID == "") && !c.owned(ctx, p.Account.ID, name, pl.taken.ID != ""):
		return pl, []Problem{c.unproven("hostname", p.Account.ID, name)}, nil
	}
	return pl, nil, nil
}

// servedBy finds the route of a name, and says whether it is the account's.
func (c *Core) servedBy(r Reader, account AccountID, name string) (route Route, mine bool, err error) {
	route, err = r.Route(name)
	if isNotFound(err) {
		return Route{}, false, nil
	}
	if err != nil {
		return Route{}, false, err
	}
	app, err := r.App(route.AppID)
	return route, err == nil && app.AccountID == account, err
}

// changeable says whether an app's state lets it be changed. One whose node does not answer may be: the operation waits.
func changeable(app App) error {
	switch app.State {
	case AppRunning, AppStopped:
		return nil
	case AppCreating:
		return Errorf(Busy, ObjApp, "the app is still being created")
	case AppDeleting:
		return Errorf(Busy, ObjApp, "the app is being deleted")
	}
	return Errorf(Busy, ObjApp, "the app could not be created; delete it")
}

// AddRoute serves an app under another host name. The route is listed when AddRoute returns; an operation brings it up. A
// name that failed before is tried again.
//
// Errors: not_found (app), busy (the app's state), invalid, exists, unproven (Problems holds why)
// Effects: the app's node and every router of its cloud; with Override also the node that served the name
func (c *Core) AddRoute(ctx context.Context, p Principal, appNum int64, spec RouteSpec) (Route, operation.Record, error) {
	route, op, err := c.addRoute(ctx, p, appNum, spec)
	if err != nil {
		c.refused(ctx, p, "route.add", spec.Hostname, err)
	}
	return route, op, err
}

func (c *Core) addRoute(ctx context.Context, p Principal, appNum int64, spec RouteSpec) (route Route, op operation.Record, err error) {
	pl, problems, err := c.planRoute(ctx, p, appNum, spec)
	if err != nil {
		return route, op, err
	}
	if len(problems) > 0 {
		return route, op, problemError(problems)
	}
	err = c.Store.Update(ctx, func(tx Tx) error {
		app, err := tx.App(pl.app.ID)
		if err != nil {
			return err
		}
		if err := changeable(app); err != nil {
			return err
		}
		now, _, err := c.servedBy(tx, p.Account.ID, pl.name)
		if err != nil {
			return err
		}
		if now.ID != pl.taken.ID || now.AppID != pl.taken.AppID {
			return Errorf(Exists, ObjRoute, "%s is served already", pl.name) // since we looked
		}
		if len(app.Routes) >= maxRoutes {
			return Errorf(Quota, ObjRoute, "an app has at most %d names", maxRoutes)
		}
		params := appParams{AppID: app.ID, AppNum: app.Num, Name: app.Name, Route: pl.name}
		if len(app.Nodes) > 0 {
			params.NodeID, params.NodeNum = app.Nodes[0].ID, app.Nodes[0].Num
		}
		route = now
		if now.ID == "" {
			route = Route{ID: "rt-" + randomHex(8), CreatedAt: c.now()}
		} else if now.AppID != app.ID && now.State != RouteFailed {
			params.FromID = now.AppID
		}
		if now.AppID != "" && now.AppID != app.ID { // the key is not for another's nodes
			old, err := tx.IssuedCertificate(now.ID)
			if err == nil {
				err = tx.DeleteRouteCertificate(old.Num)
			}
			if err != nil && !isNotFound(err) {
				return err
			}
		}
		route.Hostname, route.AppID, route.State = pl.name, app.ID, RouteCreating
		if err := tx.PutRoute(&route); err != nil {
			return err
		}
		params.RouteID = route.ID
		op, err = c.enqueueApp(tx, p, "route.add", OpRouteAdd, params, nil)
		return err
	})
	return route, op, err
}

// enqueueApp starts one operation on an app, with a secret if there is one, and records who asked for it.
func (c *Core) enqueueApp(tx Tx, p Principal, action, kind string, ap appParams, secret any) (operation.Record, error) {
	ops, err := c.enqueueApps(tx, p, action, []string{kind}, ap, secret)
	if err != nil {
		return operation.Record{}, err
	}
	return ops[0], nil
}

// enqueueApps starts operations on an app that belong together.
func (c *Core) enqueueApps(tx Tx, p Principal, action string, kinds []string, ap appParams, secret any) ([]operation.Record, error) {
	params, err := json.Marshal(ap)
	if err != nil {
		return nil, err
	}
	g := c.newGroup(p, string(ap.AppID), params, kinds...)
	if secret != nil {
		if g.Secret, err = json.Marshal(secret); err != nil {
			return nil, err
		}
	}
	if err := tx.Enqueue(&g); err != nil {
		return nil, err
	}
	return g.Operations, tx.Audit(c.auditRecord(p, action, string(ap.AppID), g.Operations[0].ID, "accepted"))
}

// ownRoute finds a route of the caller. What is not theirs does not exist.
func ownRoute(r Reader, p Principal, hostname string) (App, Route, error) {
	missing := Errorf(NotFound, ObjRoute, "the route does not exist")
	if err := known(p); err != nil {
		return App{}, Route{}, err
	}
	name, ok := NormalHostname(hostname)
	if !ok {
		return App{}, Route{}, missing
	}
	route, err := r.Route(name)
	if err != nil {
		return App{}, Route{}, err
	}
	app, err := r.App(route.AppID)
	may := app.AccountID == p.Account.ID
	if err == nil && len(app.Teams) > 0 {
		may, err = mayUseApp(r, p, app)
	}
	if err == nil && !may {
		err = missing
	}
	return app, route, err
}

// RouteOf is one route of the caller with its app.
//
// Errors: not_found
func (c *Core) RouteOf(ctx context.Context, p Principal, hostname string) (app App, route Route, err error) {
	err = c.Store.View(ctx, func(r Reader) (err error) {
		app, route, err = ownRoute(r, p, hostname)
		return err
	})
	return app, route, err
}

// CheckRemoveRoute says why RemoveRoute would be refused.
func (c *Core) CheckRemoveRoute(ctx context.Context, p Principal, hostname string) error {
	return c.Store.View(ctx, func(r Reader) error { _, _, err := removableRoute(r, p, hostname); return err })
}

func removableRoute(r Reader, p Principal, hostname string) (App, Route, error) {
	app, route, err := ownRoute(r, p, hostname)
	if err != nil {
		return app, route, err
	}
	if app.State != AppFailed { // of a failed one names can be freed
		if err := changeable(app); err != nil {
			return app, route, err
		}
	}
	if route.State != RouteDeleting {
		return app, route, nil
	}
	ops, err := r.Operations(OperationFilter{Subject: string(app.ID), Unfinished: true})
	if err == nil && slices.ContainsFunc(ops, func(op operation.Record) bool { return op.Kind == OpRouteRemove && routeIDOf(op) == route.ID }) {
		err = Errorf(Busy, ObjRoute, "the name is being removed")
	}
	return app, route, err // a removal that failed may be asked for again
}

func routeIDOf(op operation.Record) string {
	var p appParams
	if json.Unmarshal(op.Params, &p) != nil {
		return ""
	}
	return p.RouteID
}

// RemoveRoute ends a host name of an app.
//
// Errors: not_found, busy (it is being removed already; the app's state)
// Effects: every router of the app's cloud, and the app's node
func (c *Core) RemoveRoute(ctx context.Context, p Principal, hostname string) (Route, operation.Record, error) {
	var route Route
	var op operation.Record
	err := c.Store.Update(ctx, func(tx Tx) error {
		app, found, err := removableRoute(tx, p, hostname)
		if err != nil {
			return err
		}
		route = found
		route.State = RouteDeleting
		if err := tx.PutRoute(&route); err != nil {
			return err
		}
		params := appParams{AppID: app.ID, AppNum: app.Num, Name: app.Name, Route: route.Hostname, RouteID: route.ID}
		if len(app.Nodes) > 0 {
			params.NodeID, params.NodeNum = app.Nodes[0].ID, app.Nodes[0].Num
		}
		op, err = c.enqueueApp(tx, p, "route.remove", OpRouteRemove, params, nil)
		return err
	})
	if err != nil {
		c.refused(ctx, p, "route.remove", hostname, err)
	}
	return route, op, err
}

// RouteDNS says what the owner of a name has to publish. The app need not exist yet.
//
// Errors: invalid (not a host name)
func (c *Core) RouteDNS(ctx context.Context, p Principal, hostname string) (RouteDNS, error) {
	if err := known(p); err != nil {
		return RouteDNS{}, err
	}
	name, ok := NormalHostname(hostname)
	if !ok {
		return RouteDNS{}, problemError([]Problem{{Field: "hostname", Code: ProblemPattern, Msg: "not a host name: " + clip(hostname)}})
	}
	d := RouteDNS{Hostname: name, Label: "@", TXT: "vhost=" + OwnershipToken(c.OwnershipSecret, p.Account.ID, name), Addresses: []string{}}
	bare := strings.TrimPrefix(name, "*.")
	if domain, err := publicsuffix.EffectiveTLDPlusOne(bare); err == nil && domain != name {
		if d.Label = strings.TrimSuffix(strings.TrimSuffix(name, domain), "."); d.Label == "" {
			d.Label = "@"
		}
	}
	routers, err := c.routers(ctx, c.AppCloud)
	for _, r := range routers {
		if r.Address != "" {
			d.Addresses = append(d.Addresses, r.Address)
		}
	}
	return d, err
}

// updateRoute changes the route of the operation, if it is still the app's.
func (c *Core) updateRoute(ctx context.Context, p appParams, change func(Tx, Route) error) error {
	return c.Store.Update(ctx, func(tx Tx) error {
		route, err := tx.Route(p.Route)
		if isNotFound(err) || err == nil && (route.ID != p.RouteID || route.AppID != p.AppID) {
			return nil
		}
		if err != nil {
			return err
		}
		return change(tx, route)
	})
}

// backends are where routers send the requests for an app, its units or the web servers of its own nodes: the one rule
// about it.
func (c *Core) backends(app App) []agentapi.Destination {
	var to []agentapi.Destination
	for _, u := range app.Units {
		if u.Serves() {
			to = append(to, agentapi.Destination{Host: u.Address, Port: agentapi.Text(strconv.Itoa(u.Port))})
		}
	}
	if !app.hasVHosts() {
		return to
	}
	for _, n := range app.Nodes {
		if n.Address != "" && n.State != NodeStopping && n.State != NodeFailed {
			to = append(to, agentapi.Destination{Host: n.Address, Port: "80"})
		}
	}
	return to
}

// unitLocation lets a router turn to the next unit soon when a unit's host is lost without a word. A host that lives answers
// at once, or, when a burst has filled the unit's queue, the second or third time that it is asked: after 1 and 3 s.
const unitLocation = "proxy_connect_timeout 4s;"

// publish makes routers send the requests for names to an app, with one reload on each, and show their certificates.
func (c *Core) publish(ctx context.Context, app App, names ...string) error {
	if len(names) == 0 {
		return nil
	}
	to := c.backends(app)
	if len(to) == 0 && !app.hasVHosts() {
		return c.withdraw(ctx, app.Cloud, names...) // no unit serves; the names come back with the first that does
	}
	if len(to) == 0 {
		return Errorf(NotFound, ObjApp, "the app has no node any more")
	}
	routers, err := c.routers(ctx, app.Cloud)
	if err != nil {
		return err
	}
	if len(routers) == 0 {
		return operation.RetryAfter(250*time.Millisecond, "no router node is up yet")
	}
	certificates, err := c.certificatesFor(ctx, app, names)
	if err != nil {
		return err
	}
	changes := slices.ContainsFunc(app.Routes, func(r Route) bool {
		return slices.Contains(names, r.Hostname) && r.Certificate != certificates[r.Hostname].ID
	})
	if changes {
		if err := c.noteShown(ctx, app, names, certificates, false); err != nil {
			return err
		}
	}
	for _, router := range routers {
		agent, err := c.Agents.Agent(router)
		if err != nil {
			return err
		}
		for i, name := range names {
			p := agentapi.ProxyParams{Hostname: name, Backends: to, ReloadService: agentapi.Ptr(agentapi.Bool(i == len(names)-1))}
			if !app.hasVHosts() {
				p.Templates = []agentapi.Template{{Location: "/", Content: unitLocation}}
			}
			if err := c.makeProxy(ctx, agent, p, certificates[name]); err != nil {
				return classified(err, Internal, ObjRoute, "publish "+name)
			}
		}
	}
	if !changes {
		return nil
	}
	return c.noteShown(ctx, app, names, certificates, true)
}

// withdraw takes names off every router of a cloud, with one reload on each.
func (c *Core) withdraw(ctx context.Context, cloud string, names ...string) error {
	if len(names) == 0 {
		return nil
	}
	routers, err := c.routers(ctx, cloud)
	if err != nil {
		return err
	}
	for _, router := range routers {
		agent, err := c.Agents.Agent(router)
		if err != nil {
			return err
		}
		for i, name := range names {
			err := agent.RemoveProxy(ctx, agentapi.RemoveProxyParams{Hostname: name, ReloadService: agentapi.Ptr(agentapi.Bool(i == len(names)-1))})
			if err != nil && !isNotFound(err) {
				return classified(err, Internal, ObjRoute, "withdraw "+name)
			}
		}
	}
	return nil
}

// hasVHosts says that an app's names are virtual hosts of the web server on its node. All other apps run as units.
func (a App) hasVHosts() bool {
	return !a.Shared() && (a.Platform == "php" || a.Platform == "static")
}

func (c *Core) serveRoute(ctx context.Context, run *operation.Run) error {
	if _, app, _, err := c.appOf(ctx, run); err != nil || !app.hasVHosts() {
		return err
	}
	p, app, _, agent, err := c.appAgent(ctx, run)
	if err != nil {
		return err
	}
	return c.makeVHost(ctx, agent, app, Route{ID: p.RouteID, Hostname: p.Route})
}

// unserveRoute removes the virtual host. A node that is gone has none.
func (c *Core) unserveRoute(ctx context.Context, run *operation.Run) error {
	p, app, found, err := c.appOf(ctx, run)
	if err != nil || !found || len(app.Nodes) == 0 || !app.hasVHosts() {
		return err
	}
	if err := c.deleteVHost(ctx, app.Nodes[0], p.Route); err != nil || run.Operation.Kind != OpRouteRemove {
		return err
	}
	return c.deleteSite(ctx, app, p.RouteID)
}

func (c *Core) deleteVHost(ctx context.Context, n Node, hostname string) error {
	agent, err := c.Agents.Agent(n)
	if err != nil {
		return err
	}
	err = agent.DeleteVHosts(ctx, agentapi.DeleteVHostsParams{VHosts: []agentapi.VHostRef{{Hostname: hostname, Port: "80"}}})
	return classified(err, Internal, ObjRoute, "remove the virtual host "+hostname)
}

func (c *Core) publishRoute(ctx context.Context, run *operation.Run) error {
	p, app, found, err := c.appOf(ctx, run)
	if err != nil {
		return err
	}
	if !found {
		return Errorf(NotFound, ObjApp, "the app does not exist any more")
	}
	return c.publish(ctx, app, p.Route)
}

// withdrawRoute takes the name off the routers, or gives it back to whom it was taken from.
func (c *Core) withdrawRoute(ctx context.Context, run *operation.Run) error {
	p, app, found, err := c.appOf(ctx, run)
	if err != nil || !found {
		return err
	}
	if p.FromID != "" {
		from, err := view(ctx, c.Store, func(r Reader) (App, error) { return r.App(p.FromID) })
		if err == nil && len(c.backends(from)) > 0 {
			return c.publish(ctx, from, p.Route)
		}
		if err != nil && !isNotFound(err) {
			return err
		}
	}
	return c.withdraw(ctx, app.Cloud, p.Route)
}

// failRoute leaves a name that did not come up marked as failed, or gives it back to the app that it was taken from.
func (c *Core) failRoute(ctx context.Context, run *operation.Run) error {
	var p appParams
	if err := run.Params(&p); err != nil {
		return err
	}
	return c.updateRoute(ctx, p, func(tx Tx, route Route) error {
		if route.State != RouteDeleting {
			route.State = RouteFailed
		}
		if p.FromID != "" {
			if _, err := tx.App(p.FromID); err == nil {
				route.AppID, route.State = p.FromID, RouteRunning
			}
		}
		return tx.PutRoute(&route)
	})
}

func (c *Core) finishRoute(ctx context.Context, run *operation.Run) error {
	var p appParams
	if err := run.Params(&p); err != nil {
		return err
	}
	err := c.updateRoute(ctx, p, func(tx Tx, route Route) error {
		if route.State == RouteCreating {
			route.State = RouteRunning
		}
		return tx.PutRoute(&route)
	})
	if err != nil || p.FromID == "" {
		return err
	}
	// What is left on the node that served the name gets no requests any more.
	from, err := view(ctx, c.Store, func(r Reader) (App, error) { return r.App(p.FromID) })
	if err == nil && len(from.Nodes) > 0 && from.hasVHosts() {
		if err := c.deleteVHost(ctx, from.Nodes[0], p.Route); err != nil {
			c.Log.Warn("a virtual host stays where its name was taken away", "hostname", p.Route, "app", from.ID, "err", err)
		}
	}
	return nil
}

func (c *Core) forgetRoute(ctx context.Context, run *operation.Run) error {
	var p appParams
	if err := run.Params(&p); err != nil {
		return err
	}
	return c.updateRoute(ctx, p, func(tx Tx, route Route) error { return tx.DeleteRoute(route.ID) })
}
