package core

import (
	"context"
	"errors"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/reeve-paas/reeve/agent/agentapi"
)

// Healers look at what should run and mend what does not. Each may be run at any time, also beside itself. Spec tsuru 5.9.

const (
	healEvery  = 5 * time.Second
	healMisses = 2 // looks at a host without an answer before its units count as down
)

// Healers are the names of the healers.
func (c *Core) Healers() []string { return []string{"node", "unit"} }

// Heal runs one healer once and returns when it has looked at everything; what it starts are operations.
//
// Errors: not_found (no such healer)
func (c *Core) Heal(ctx context.Context, name string) error {
	switch name {
	case "unit":
		return c.healUnits(ctx)
	case "node":
		return errors.Join(c.EnsureRouter(ctx), c.tendNodes(ctx), c.healPool(ctx))
	}
	return Errorf(NotFound, ObjOperation, "there is no healer of this name")
}

// healer is what the look before this one saw.
type healer struct {
	mu     sync.Mutex // protects the field below
	missed map[NodeID]int
}

func (h *healer) saw(id NodeID, answered bool) (misses int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.missed == nil {
		h.missed = map[NodeID]int{}
	}
	if answered {
		delete(h.missed, id)
		return 0
	}
	h.missed[id]++
	return h.missed[id]
}

// misses says that the node gave no answer lately.
func (h *healer) misses(id NodeID) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.missed[id] >= healMisses
}

// healPool keeps the pool at its size while an app needs it.
func (c *Core) healPool(ctx context.Context) error {
	nodes, err := view(ctx, c.Store, func(r Reader) ([]Node, error) { return r.Nodes(NodeFilter{Cloud: c.AppCloud, Role: RolePool}) })
	if err != nil || len(nodes) == 0 {
		return err
	}
	return c.EnsurePool(ctx, "")
}

// healUnits compares every host that runs units with what is wanted of it: states are noted, what nobody wants is stopped,
// apps that lost units get new ones elsewhere, and routers learn which units serve.
func (c *Core) healUnits(ctx context.Context) error {
	var nodes []Node
	var units map[NodeID][]AppUnit
	err := c.Store.View(ctx, func(r Reader) (err error) {
		if units, err = unitsByNode(r); err != nil {
			return err
		}
		if nodes, err = r.Nodes(NodeFilter{Role: RolePool}); err != nil {
			return err
		}
		inPool := make(map[NodeID]bool, len(nodes))
		for _, n := range nodes {
			inPool[n.ID] = true
		}
		for id := range units {
			if inPool[id] {
				continue
			}
			n, err := r.Node(id)
			if err != nil {
				return err
			}
			nodes = append(nodes, n)
		}
		return nil
	})
	if err != nil || len(nodes) == 0 {
		return err
	}
	errs := make([]error, len(nodes))
	down := make([]bool, len(nodes))
	var wg sync.WaitGroup
	for i, n := range nodes {
		wg.Go(func() { down[i], errs[i] = c.lookAtUnits(ctx, n, units[n.ID]) })
	}
	wg.Wait()
	if lost := count(down); lost > 1 && lost*2 > len(nodes) {
		c.Log.Warn("more than half of the nodes with units do not answer; nothing is moved until some do", "nodes", len(nodes), "lost", lost)
		return errors.Join(errs...)
	}
	return errors.Join(append(errs, c.replaceLost(ctx))...)
}

func count(flags []bool) (n int) {
	for _, f := range flags {
		if f {
			n++
		}
	}
	return n
}

// lookAtUnits notes the states of a node's units. down says that the node does not answer.
func (c *Core) lookAtUnits(ctx context.Context, n Node, units []AppUnit) (down bool, err error) {
	agent, err := c.Agents.Agent(n)
	if err != nil {
		return false, err
	}
	call, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	var there []agentapi.Unit
	if n.alive() {
		there, err = agent.ListUnits(call, agentapi.ListUnitsParams{})
	} else {
		err = Errorf(Unavailable, ObjNode, "the node is %s", n.State)
	}
	if err != nil && ctx.Err() != nil {
		return false, nil
	}
	misses := c.healer.saw(n.ID, err == nil)
	if err != nil && (KindOf(err) != Unavailable || misses < healMisses) {
		return false, nil // it may be restarting
	}
	if err == nil {
		c.sweepUnits(ctx, agent, n, units, there)
		err = c.sweepApps(ctx, agent, n)
	}
	if err != nil && KindOf(err) != Unavailable {
		return false, err
	}
	for _, u := range units {
		state := u.State
		switch i := slices.IndexFunc(there, func(t agentapi.Unit) bool { return t.Unit == u.ID }); {
		case u.State == UnitStarting || u.State == UnitStopping: // an operation's
		case err != nil:
			state = UnitDown
		case i < 0:
			state = UnitDown
		default:
			state = UnitState(there[i].State)
		}
		if state == u.State && c.now().Sub(u.SeenAt) < time.Minute {
			continue
		}
		if err := c.noteUnit(ctx, u, state, err == nil); err != nil {
			return misses > 0, err
		}
	}
	return misses > 0, nil
}

// noteUnit records a unit's state, and tells routers when it begins or ends to serve.
func (c *Core) noteUnit(ctx context.Context, seen AppUnit, state UnitState, answered bool) error {
	var app App
	changed := false
	err := c.Store.Update(ctx, func(tx Tx) error {
		changed = false
		u, err := tx.Unit(seen.ID)
		if err != nil {
			return ignoreNotFound(err)
		}
		if u.State != seen.State {
			return nil // an operation was faster
		}
		changed = u.Serves() != AppUnit{State: state}.Serves()
		u.State = state
		if answered {
			u.SeenAt = c.now()
		}
		if err := tx.PutUnit(&u); err != nil || !changed {
			return err
		}
		app, err = tx.App(u.AppID)
		return err
	})
	if err != nil || !changed {
		return err
	}
	c.Log.Info("a unit changed its state", "unit", seen.ID, "app", app.Name, "was", string(seen.State), "is", string(state))
	return c.publish(ctx, app, app.hostnames()...)
}

// sweepUnits stops what runs on a host and is wanted by nobody, such as a unit whose node did not answer when it was to end.
func (c *Core) sweepUnits(ctx context.Context, agent Agent, n Node, units []AppUnit, there []agentapi.Unit) {
	for _, t := range there {
		if slices.ContainsFunc(units, func(u AppUnit) bool { return u.ID == t.Unit }) {
			continue
		}
		if _, err := view(ctx, c.Store, func(r Reader) (AppUnit, error) { return r.Unit(t.Unit) }); !isNotFound(err) {
			continue // placed meanwhile
		}
		c.Log.Info("stopping a unit that nobody wants", "unit", t.Unit, "node", n.Name)
		if err := agent.StopUnit(ctx, agentapi.StopUnitParams{App: t.App, Unit: t.Unit}); err != nil {
			c.Log.Warn("a unit that nobody wants was not stopped; it is tried again", "unit", t.Unit, "err", err)
		}
	}
}

// sweepApps removes apps from a node of the pool that were deleted while it did not answer.
func (c *Core) sweepApps(ctx context.Context, agent Agent, n Node) error {
	if !n.Has(RolePool) {
		return nil
	}
	there, err := agent.ListApps(ctx)
	if err != nil {
		return err
	}
	for _, a := range there {
		num, err := strconv.ParseInt(strings.TrimPrefix(a.App, "a"), 10, 64)
		if err != nil || appName(App{Num: num}) != a.App {
			continue // not ours
		}
		if _, err := view(ctx, c.Store, func(r Reader) (App, error) { return r.AppByNum(num) }); !isNotFound(err) {
			continue
		}
		c.Log.Info("removing an app that was deleted", "app", a.App, "node", n.Name)
		if err := agent.DeleteApp(ctx, agentapi.AppParams{App: a.App}); err != nil {
			return err
		}
	}
	return nil
}

// replaceLost starts a roll for every app that has fewer units that serve than it should, unless something works on it.
func (c *Core) replaceLost(ctx context.Context) error {
	apps, err := view(ctx, c.Store, func(r Reader) ([]App, error) { return r.Apps("", 0, 0) })
	if err != nil {
		return err
	}
	for _, app := range apps {
		if !app.lostUnits() {
			continue
		}
		able, err := c.poolRuns(ctx, app.Platform)
		if err != nil {
			return err
		}
		err = c.Store.Update(ctx, func(tx Tx) error {
			app, err := tx.App(app.ID)
			if err != nil {
				return ignoreNotFound(err)
			}
			if !app.lostUnits() || unitsChangeable(tx, app) != nil {
				return nil
			}
			if nodes, _, err := c.nodesForUnits(tx, app, able); err != nil || len(nodes) == 0 && !app.Shared() {
				return err // its own node brings them back with it
			}
			ops, err := tx.Operations(OperationFilter{Subject: string(app.ID)})
			if err != nil {
				return err
			}
			if failed := trailingFailures(ops); failed > 0 && c.now().Before(ops[len(ops)-1].EndedAt.Add(routerPause(failed))) {
				return nil
			}
			c.Log.Info("replacing lost units", "app", app.Name)
			_, err = c.enqueueRoll(tx, Principal{Via: "local", Account: Account{ID: app.AccountID}, Dialect: "healer"}, OpAppRoll,
				rollParams{AppID: app.ID, AppNum: app.Num, Name: app.Name, Release: app.Release, Count: app.UnitCount})
			return err
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// lostUnits says that units of a running app are gone: their node does not answer, or does not know them.
func (a App) lostUnits() bool {
	if a.Halted || a.Release == 0 || a.UnitCount == 0 || a.State == AppDeleting || a.hasVHosts() {
		return false
	}
	live := 0
	for _, u := range a.Units {
		if u.State != UnitDown && u.State != UnitStopped {
			live++
		}
	}
	return live < a.UnitCount
}

// RunHealers runs the healers until ctx ends.
func (c *Core) RunHealers(ctx context.Context) error {
	tick := time.NewTicker(healEvery)
	defer tick.Stop()
	for {
		if err := errors.Join(c.healUnits(ctx), c.healPool(ctx)); err != nil && ctx.Err() == nil {
			c.Log.Warn("healing failed; it is tried again", "err", err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}
