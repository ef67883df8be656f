package core

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/reeve-paas/reeve/agent/agentapi"
	"github.com/reeve-paas/reeve/coordinator/operation"
)

// A roll brings an app from the units it has to those that are wanted without losing a request: new units start beside the
// old ones and pass their health check, routers are switched, and only then the old ones end. Until the routers are switched
// everything can be taken back; from then on the roll only goes forward, and what cannot be stopped because its node is gone
// is swept up later.

const (
	firstPort  = 20000
	lastPort   = 29999
	unitLimit  = 3 * time.Minute
	drainLimit = 30 * time.Second
)

// rollSteps read rollParams.
func (c *Core) rollSteps() []operation.Step {
	return []operation.Step{
		{Name: "place units", Do: c.placeUnits, Undo: c.forgetNewUnits, Timeout: 10 * time.Minute},
		{Name: "start units", Do: c.startUnits, Undo: c.stopNewUnits, Timeout: 10 * time.Minute},
		{Name: "switch routes", Do: c.switchRoutes, Undo: c.switchRoutesBack, Timeout: 3 * time.Minute},
		{Name: "stop old units", Do: c.stopOldUnits, Timeout: 10 * time.Minute},
		{Name: "finish", Do: c.finishRoll},
		{Name: "tell services", Do: c.tellServices},
	}
}

func (c *Core) rollOperations() []operation.Definition {
	return []operation.Definition{
		{Kind: OpAppDeploy, Steps: append([]operation.Step{
			{Name: "wait for others", Do: c.waitForOthers, Undo: c.failRelease, Timeout: 10 * time.Minute},
			{Name: "build", Do: c.buildRelease, Undo: c.dropBuild, Timeout: 40 * time.Minute},
		}, c.rollSteps()...)},
		{Kind: OpAppRoll, Steps: append([]operation.Step{
			{Name: "wait for others", Do: c.waitForOthers, Undo: c.endOutput, Timeout: 10 * time.Minute},
		}, c.rollSteps()...)},
		{Kind: OpAppSite, Steps: c.siteSteps()},
		{Kind: OpAppHalt, Steps: []operation.Step{
			{Name: "wait for others", Do: c.waitForOthers, Timeout: 10 * time.Minute},
			{Name: "withdraw routes", Do: c.withdrawHalted, Timeout: 3 * time.Minute},
			{Name: "stop units", Do: c.haltUnits, Timeout: 5 * time.Minute},
		}},
		{Kind: OpAppSwap, Steps: []operation.Step{
			{Name: "wait for others", Do: c.waitForOthers, Timeout: 10 * time.Minute},
			{Name: "exchange names", Do: c.exchangeNames, Undo: c.exchangeNamesBack, Timeout: 3 * time.Minute},
			{Name: "publish names", Do: c.publishSwapped, Timeout: 3 * time.Minute},
		}},
	}
}

func (c *Core) rollOf(ctx context.Context, run *operation.Run) (p rollParams, app App, err error) {
	if err = run.Params(&p); err != nil {
		return p, app, err
	}
	app, err = view(ctx, c.Store, func(r Reader) (App, error) { return r.App(p.AppID) })
	return p, app, err
}

// unitID names the nth unit that an operation makes, the same after a crash.
func unitID(op string, n int) string {
	sum := sha256.Sum256(fmt.Appendf(nil, "%s/%d", op, n))
	return hex.EncodeToString(sum[:6])
}

// newUnits are the units that the operation made.
func newUnits(app App, op string, count int) []AppUnit {
	var units []AppUnit
	for n := range count {
		id := unitID(op, n)
		if i := slices.IndexFunc(app.Units, func(u AppUnit) bool { return u.ID == id }); i >= 0 {
			units = append(units, app.Units[i])
		}
	}
	return units
}

// keeps says that a unit stays through the roll as it is.
func (p rollParams) keeps(u AppUnit) bool {
	return !p.Fresh && u.Release == p.Release && u.Serves()
}

// oldUnits are those the roll ends: all that are neither new nor kept, and of the kept ones those over the count, newest first.
func oldUnits(app App, p rollParams, op string) []AppUnit {
	fresh := newUnits(app, op, p.Count)
	kept := 0
	var old []AppUnit
	for _, u := range app.Units {
		switch {
		case slices.ContainsFunc(fresh, func(n AppUnit) bool { return n.ID == u.ID }):
		case p.keeps(u) && kept+len(fresh) < p.Count:
			kept++
		default:
			old = append(old, u)
		}
	}
	return old
}

// placeUnits chooses nodes and ports for the units that are missing, in one transaction: spread over the nodes that have
// fewest of the app, then fewest of all.
func (c *Core) placeUnits(ctx context.Context, run *operation.Run) error {
	p, app, err := c.rollOf(ctx, run)
	if err != nil {
		return err
	}
	if app.Shared() {
		if err := c.EnsurePool(ctx, app.Platform); err != nil {
			return err
		}
	}
	able, err := c.poolRuns(ctx, app.Platform)
	if err != nil {
		return err
	}
	var wait error
	err = c.Store.Update(ctx, func(tx Tx) error {
		wait = nil
		app, err := tx.App(p.AppID)
		if err != nil {
			return err
		}
		if app.Halted {
			p.Count = 0
		}
		if len(newUnits(app, run.Operation.ID, p.Count)) > 0 {
			return nil // placed before a crash
		}
		missing := p.Count
		for _, u := range app.Units {
			if missing > 0 && p.keeps(u) {
				missing--
			}
		}
		if missing == 0 {
			return nil
		}
		nodes, there, err := c.nodesForUnits(tx, app, able)
		if err != nil {
			return err
		}
		if len(nodes) == 0 {
			wait = operation.RetryAfter(250*time.Millisecond, "no node for units is up yet")
			return nil
		}
		for n := range missing {
			node := slices.MinFunc(nodes, func(a, b Node) int {
				if d := countOf(there[a.ID], app.ID, p) - countOf(there[b.ID], app.ID, p); d != 0 {
					return d
				}
				return len(there[a.ID]) - len(there[b.ID])
			})
			u := AppUnit{ID: unitID(run.Operation.ID, n), AppID: app.ID, NodeID: node.ID, Address: node.Address, Release: p.Release,
				State: UnitStarting, CreatedAt: c.now()}
			if u.Port, err = freePort(there[node.ID]); err != nil {
				return err
			}
			if err := tx.PutUnit(&u); err != nil {
				return err
			}
			there[node.ID] = append(there[node.ID], u)
		}
		return nil
	})
	return errors.Join(err, wait)
}

// countOf counts an app's units that stay, or are being started.
func countOf(units []AppUnit, app AppID, p rollParams) int {
	n := 0
	for _, u := range units {
		if u.AppID == app && (p.keeps(u) || u.State == UnitStarting) {
			n++
		}
	}
	return n
}

func freePort(units []AppUnit) (int, error) {
	for port := firstPort; port <= lastPort; port++ {
		if !slices.ContainsFunc(units, func(u AppUnit) bool { return u.Port == port }) {
			return port, nil
		}
	}
	return 0, Errorf(Quota, ObjUnit, "the node has no port left for a unit")
}

func (c *Core) forgetNewUnits(ctx context.Context, run *operation.Run) error {
	return c.eachNewUnit(ctx, run, func(u AppUnit) error {
		return c.Store.Update(ctx, func(tx Tx) error { return tx.DeleteUnit(u.ID) })
	})
}

// eachNewUnit does something to every unit of the operation that is still there, side by side.
func (c *Core) eachNewUnit(ctx context.Context, run *operation.Run, do func(AppUnit) error) error {
	p, app, err := c.rollOf(ctx, run)
	if isNotFound(err) {
		return nil
	}
	if err != nil {
		return err
	}
	return sideBySide(newUnits(app, run.Operation.ID, p.Count), do)
}

// sideBySide does something to several units at once. The first failure that will not pass counts.
func sideBySide(units []AppUnit, do func(AppUnit) error) error {
	errs := make([]error, len(units))
	turns := make(chan struct{}, 8)
	var wg sync.WaitGroup
	for i, u := range units {
		wg.Go(func() {
			turns <- struct{}{}
			defer func() { <-turns }()
			errs[i] = do(u)
		})
	}
	wg.Wait()
	for _, err := range errs {
		if err != nil && !operation.Temporary(err) {
			return err
		}
	}
	return errors.Join(errs...)
}

func (c *Core) startUnits(ctx context.Context, run *operation.Run) error {
	p, app, err := c.rollOf(ctx, run)
	if err != nil {
		return err
	}
	units := newUnits(app, run.Operation.ID, p.Count)
	if len(units) == 0 {
		return nil
	}
	rel, err := view(ctx, c.Store, func(r Reader) (Release, error) { return r.Release(app.ID, p.Release) })
	if err != nil {
		return err
	}
	c.say(ctx, run, app.ID, "", fmt.Sprintf("---- Starting %d new %s ----", len(units), plural(len(units), "unit")))
	err = sideBySide(units, func(u AppUnit) error {
		if u.State != UnitStarting {
			return nil // started before a crash
		}
		if err := c.startUnit(ctx, app, rel, u); err != nil {
			return err
		}
		c.say(ctx, run, app.ID, fmt.Sprintf(" ---> Started unit %s", u.ID))
		return c.updateUnit(ctx, u.ID, func(u *AppUnit) { u.State, u.SeenAt = UnitStarted, c.now() })
	})
	if err != nil && !operation.Temporary(err) {
		return errors.Join(err, c.logApp(ctx, app.ID, PublicError("", err)))
	}
	return err
}

func plural(n int, word string) string {
	if n == 1 {
		return word
	}
	return word + "s"
}

func (c *Core) updateUnit(ctx context.Context, id string, change func(*AppUnit)) error {
	return c.Store.Update(ctx, func(tx Tx) error {
		u, err := tx.Unit(id)
		if isNotFound(err) {
			return nil
		}
		if err != nil {
			return err
		}
		change(&u)
		return tx.PutUnit(&u)
	})
}

// startUnit makes the app on the unit's node, brings the release there and starts the unit.
func (c *Core) startUnit(ctx context.Context, app App, rel Release, u AppUnit) error {
	node, err := c.node(ctx, u.NodeID)
	if err != nil {
		return err
	}
	agent, err := c.Agents.Agent(node)
	if err != nil {
		return err
	}
	if err := c.makeApp(ctx, agent, app); err != nil {
		return err
	}
	blob, err := c.Files.Lend(node, rel.Artifact)
	if err != nil {
		return err
	}
	err = agent.FetchRelease(ctx, agentapi.FetchReleaseParams{App: appName(app), Release: rel.Number, Source: blob})
	if err != nil {
		return classified(err, Internal, ObjRelease, "bring the release to "+node.Name)
	}
	env, err := c.unitEnv(ctx, app)
	if err != nil {
		return err
	}
	_, err = agent.StartUnit(ctx, agentapi.StartUnitParams{App: appName(app), Unit: u.ID, Release: rel.Number, Port: u.Port,
		Processes: rel.Manifest.Processes, Env: env, MemoryMB: app.MemoryMB, SwapMB: app.SwapMB,
		RestartBefore: rel.Manifest.RestartBefore, RestartAfter: rel.Manifest.RestartAfter, HealthCheck: rel.Manifest.HealthCheck})
	return unitFailure(err)
}

// startAgain starts an app's units anew after its node was booted, with the environment as it is now, and lets routers know.
func (c *Core) startAgain(ctx context.Context, app App) error {
	if app.Halted || len(app.Units) == 0 {
		return nil
	}
	units := slices.DeleteFunc(slices.Clone(app.Units), func(u AppUnit) bool { return u.State == UnitStarting || u.State == UnitStopping })
	err := sideBySide(units, func(u AppUnit) error {
		rel, err := view(ctx, c.Store, func(r Reader) (Release, error) { return r.Release(app.ID, u.Release) })
		if err != nil {
			return err
		}
		if err := c.stopOnHost(ctx, app, u); err != nil {
			return err
		}
		if err := c.startUnit(ctx, app, rel, u); err != nil {
			return err
		}
		return c.updateUnit(ctx, u.ID, func(u *AppUnit) { u.State, u.SeenAt = UnitStarted, c.now() })
	})
	if err != nil {
		return err
	}
	if app, err = view(ctx, c.Store, func(r Reader) (App, error) { return r.App(app.ID) }); err != nil {
		return err
	}
	return c.publish(ctx, app, app.hostnames()...)
}

// unitFailure tells the owner of an app what its unit said when it did not come up: that is theirs to know.
func unitFailure(err error) error {
	if e, ok := errors.AsType[*agentapi.Error](err); ok && (e.Kind == agentapi.KindInvalid || e.Class == "UnitError" || e.Class == "BuildError") {
		return Errorf(Invalid, ObjUnit, "%s", e.Text)
	}
	return classified(err, Internal, ObjUnit, "start the unit")
}

// makeApp makes the app's user and directories on a node of the pool. On its own nodes an app was made with them.
func (c *Core) makeApp(ctx context.Context, agent Agent, app App) error {
	if !app.Shared() {
		return nil
	}
	return c.createAppOn(ctx, agent, app)
}

func (c *Core) createAppOn(ctx context.Context, agent Agent, app App) error {
	_, err := agent.CreateApp(ctx, agentapi.CreateAppParams{App: appName(app), Platform: app.Platform, Base: appsBase})
	return classified(err, Internal, ObjApp, "make the app on its node")
}

// unitEnv is what an app's processes see beside PORT.
func (c *Core) unitEnv(ctx context.Context, app App) (map[string]agentapi.Secret, error) {
	vars, err := view(ctx, c.Store, func(r Reader) ([]EnvVar, error) { return r.AppEnv(app.ID) })
	env := make(map[string]agentapi.Secret, len(vars))
	for _, v := range vars {
		env[v.Name] = agentapi.Secret(v.Value)
	}
	if app.MemoryMB > 0 {
		env[EnvMemory] = agentapi.Secret(strconv.Itoa(app.MemoryMB))
	}
	return env, err
}

// stopNewUnits takes units back that were started. One whose node does not answer is swept up when it does.
func (c *Core) stopNewUnits(ctx context.Context, run *operation.Run) error {
	return c.eachNewUnit(ctx, run, func(u AppUnit) error { return c.stopUnit(ctx, u, 0) })
}

// stopUnit ends a unit on its host. A node that is gone or does not answer has nothing to stop now.
func (c *Core) stopUnit(ctx context.Context, u AppUnit, drain time.Duration) error {
	node, err := c.node(ctx, u.NodeID)
	if isNotFound(err) {
		return nil
	}
	if err != nil {
		return err
	}
	app, err := view(ctx, c.Store, func(r Reader) (App, error) { return r.App(u.AppID) })
	if isNotFound(err) {
		return nil
	}
	if err != nil {
		return err
	}
	agent, err := c.Agents.Agent(node)
	if err != nil {
		return err
	}
	err = agent.StopUnit(ctx, agentapi.StopUnitParams{App: appName(app), Unit: u.ID, DrainSeconds: int(drain / time.Second)})
	if err != nil && KindOf(err) == Unavailable || isNotFound(err) {
		c.Log.Info("a unit could not be stopped; it is swept up when its node answers", "unit", u.ID, "node", node.Name, "err", err)
		return nil
	}
	return classified(err, Internal, ObjUnit, "stop the unit")
}

// switchRoutes sends requests to the new units only, and records what serves in the same step.
func (c *Core) switchRoutes(ctx context.Context, run *operation.Run) error {
	return c.switchTo(ctx, run, func(app *App, p rollParams) {
		old := oldUnits(*app, p, run.Operation.ID)
		for i := range app.Units {
			if slices.ContainsFunc(old, func(u AppUnit) bool { return u.ID == app.Units[i].ID }) {
				app.Units[i].State = UnitStopping
			}
		}
	})
}

// switchRoutesBack sends requests to the old units again; the new ones are stopped by the steps before.
func (c *Core) switchRoutesBack(ctx context.Context, run *operation.Run) error {
	err := c.switchTo(ctx, run, func(app *App, p rollParams) {
		fresh := newUnits(*app, run.Operation.ID, p.Count)
		for i, u := range app.Units {
			switch {
			case slices.ContainsFunc(fresh, func(n AppUnit) bool { return n.ID == u.ID }):
				app.Units[i].State = UnitStarting
			case u.State == UnitStopping:
				app.Units[i].State = UnitStarted
			}
		}
	})
	if isNotFound(err) {
		return nil
	}
	return err
}

func (c *Core) switchTo(ctx context.Context, run *operation.Run, change func(*App, rollParams)) error {
	var p rollParams
	if err := run.Params(&p); err != nil {
		return err
	}
	var app App
	err := c.Store.Update(ctx, func(tx Tx) error {
		var err error
		if app, err = tx.App(p.AppID); err != nil {
			return err
		}
		before := slices.Clone(app.Units)
		change(&app, p)
		for i := range app.Units {
			if app.Units[i] != before[i] {
				if err := tx.PutUnit(&app.Units[i]); err != nil {
					return err
				}
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	return c.publish(ctx, app, app.hostnames()...)
}

// stopOldUnits ends what does not serve any more, once its last request is answered.
func (c *Core) stopOldUnits(ctx context.Context, run *operation.Run) error {
	p, app, err := c.rollOf(ctx, run)
	if err != nil {
		return err
	}
	old := slices.DeleteFunc(slices.Clone(app.Units), func(u AppUnit) bool { return u.State != UnitStopping })
	if len(old) > 0 {
		c.say(ctx, run, p.AppID, "", fmt.Sprintf("---- Removing %d old %s ----", len(old), plural(len(old), "unit")))
		c.drainRouters(ctx, app, old)
	}
	return sideBySide(old, func(u AppUnit) error {
		if err := c.stopUnit(ctx, u, drainLimit); err != nil {
			if operation.Temporary(err) {
				return err
			}
			c.Log.Error("an old unit was not stopped; it is swept up later", "unit", u.ID, "err", err)
		}
		c.say(ctx, run, p.AppID, fmt.Sprintf(" ---> Removed old unit %s", u.ID))
		return c.Store.Update(ctx, func(tx Tx) error { return tx.DeleteUnit(u.ID) })
	})
}

// drainRouters waits until no router is about to connect to units that it was told to leave. One that does not answer is not
// waited for.
func (c *Core) drainRouters(ctx context.Context, app App, units []AppUnit) {
	p := agentapi.DrainRouterParams{}
	for _, u := range units {
		if u.Address != "" {
			p.Backends = append(p.Backends, agentapi.Backend{Address: u.Address, Port: u.Port})
		}
	}
	routers, err := c.routers(ctx, app.Cloud)
	for _, r := range routers {
		agent, found := c.Agents.Agent(r)
		if found == nil {
			found = agent.DrainRouter(ctx, p)
		}
		err = errors.Join(err, found)
	}
	if err != nil {
		c.Log.Info("a router was not asked whether it is done with old units", "app", app.Name, "err", err)
	}
}

// tellServices lets providers of services know which units there are.
func (c *Core) tellServices(ctx context.Context, run *operation.Run) error {
	var p rollParams
	if err := run.Params(&p); err != nil {
		return err
	}
	c.bindNewUnits(ctx, p.AppID)
	return nil
}

func (c *Core) finishRoll(ctx context.Context, run *operation.Run) error {
	var p rollParams
	if err := run.Params(&p); err != nil {
		return err
	}
	err := c.Store.Update(ctx, func(tx Tx) error {
		app, err := tx.App(p.AppID)
		if err != nil {
			return err
		}
		if p.RouteID == "" {
			app.Release, app.UnitCount = p.Release, p.Count
		}
		if app.State == AppCreating || app.State == AppFailed {
			app.State = AppRunning
		}
		if p.Deploy {
			rel, err := tx.Release(app.ID, p.Release)
			if err != nil {
				return err
			}
			if rel.EndedAt.IsZero() { // not twice, when this step is
				app.Deploys++
				rel.EndedAt = c.now()
				if err := tx.PutRelease(&rel); err != nil {
					return err
				}
			}
		}
		return tx.PutApp(&app)
	})
	if err == nil {
		c.outputs.end(run.Operation.ID)
	}
	return err
}

func (c *Core) endOutput(_ context.Context, run *operation.Run) error {
	c.outputs.end(run.Operation.ID)
	return nil
}

func ignoreNotFound(err error) error {
	if isNotFound(err) {
		return nil
	}
	return err
}

func (c *Core) withdrawHalted(ctx context.Context, run *operation.Run) error {
	return c.switchTo(ctx, run, func(app *App, _ rollParams) {
		for i := range app.Units {
			app.Units[i].State = UnitStopped
		}
	})
}

// haltUnits stops an app's units on their hosts and keeps them, also through a reboot.
func (c *Core) haltUnits(ctx context.Context, run *operation.Run) error {
	_, app, err := c.rollOf(ctx, run)
	if err != nil {
		return err
	}
	c.drainRouters(ctx, app, app.Units)
	return sideBySide(app.Units, func(u AppUnit) error { return c.stopOnHost(ctx, app, u) })
}

// stopOnHost stops a unit on its host and keeps it there. A node that is gone has nothing to stop.
func (c *Core) stopOnHost(ctx context.Context, app App, u AppUnit) error {
	node, err := c.node(ctx, u.NodeID)
	if err != nil {
		return ignoreNotFound(err)
	}
	agent, err := c.Agents.Agent(node)
	if err != nil {
		return err
	}
	err = agent.StopUnit(ctx, agentapi.StopUnitParams{App: appName(app), Unit: u.ID, Keep: true, DrainSeconds: int(drainLimit / time.Second)})
	return classified(ignoreNotFound(err), Internal, ObjUnit, "stop the unit")
}

// removeFromPool takes an app off every node of the pool. A node that does not answer is swept when it does.
func (c *Core) removeFromPool(ctx context.Context, run *operation.Run) error {
	_, app, found, err := c.appOf(ctx, run)
	if err != nil || !found || !app.Shared() {
		return err
	}
	nodes, err := view(ctx, c.Store, func(r Reader) ([]Node, error) { return r.Nodes(NodeFilter{Cloud: app.Cloud, Role: RolePool}) })
	if err != nil {
		return err
	}
	for _, n := range nodes {
		if !n.alive() {
			continue
		}
		agent, err := c.Agents.Agent(n)
		if err != nil {
			return err
		}
		switch err := agent.DeleteApp(ctx, agentapi.AppParams{App: appName(app)}); {
		case err != nil && n.State == NodeUnreachable && KindOf(err) == Unavailable:
			c.Log.Info("an app was not removed from a node that does not answer", "app", app.Name, "node", n.Name)
		case err != nil && !isNotFound(err):
			return classified(err, Internal, ObjApp, "remove the app from "+n.Name)
		}
	}
	return nil
}
