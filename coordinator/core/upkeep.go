package core

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/reeve-paas/reeve/coordinator/operation"
)

// routerSubject is the subject of all operations on the routers of a cloud, so that one finds what became of the last.
func routerSubject(cloud string) string { return "router/" + cloud }

// routerPause is how long to wait after n failures in a row: 15 s, 30 s, 1 min, … but no more than half an hour.
func routerPause(n int) time.Duration { return min(15*time.Second<<min(n-1, 10), 30*time.Minute) }

// EnsureRouter makes sure that the cloud of apps has a router node, or one on its way. Without an image there is nothing
// to make it from yet, which is no error. A router whose creation failed is tried again after a pause; what its undo had to
// leave behind is destroyed first.
func (c *Core) EnsureRouter(ctx context.Context) error {
	cloud, err := c.appCloud()
	if err != nil {
		return err
	}
	if !cloud.Info().Agents {
		return nil
	}
	images, err := cloud.Images(ctx)
	if err != nil || len(images) == 0 {
		return err
	}
	sizes, err := cloud.Sizes(ctx)
	if err != nil || len(sizes) == 0 {
		return err
	}
	return c.Store.Update(ctx, func(tx Tx) error {
		routers, err := tx.Nodes(NodeFilter{Cloud: c.AppCloud, Role: RoleRouter})
		if err != nil {
			return err
		}
		for _, r := range routers {
			if r.alive() {
				return nil
			}
			// A database of before may have the node itself as the subject.
			if old, err := tx.Operations(OperationFilter{Subject: string(r.ID), Unfinished: true}); err != nil || len(old) > 0 {
				return err
			}
		}
		ops, err := tx.Operations(OperationFilter{Subject: routerSubject(c.AppCloud)})
		if err != nil || !c.routerDue(ops) {
			return err
		}
		if len(routers) > 0 {
			return c.enqueueRouter(tx, OpNodeDestroy, routers[0])
		}
		node := c.newNode("", c.AppCloud, images[0].ID, sizes[0].ID, RoleRouter)
		if err := tx.PutNode(&node); err != nil {
			return err
		}
		return c.enqueueRouter(tx, OpRouterCreate, node)
	})
}

// routerDue says that none of the operations works on a router, and that the last failure was long enough ago.
func (c *Core) routerDue(ops []operation.Record) bool {
	failures := 0
	for _, op := range ops {
		switch {
		case !op.Status.Final():
			return false
		case op.Status == operation.StatusCompleted && op.Kind == OpRouterCreate:
			failures = 0
		case op.Status != operation.StatusCompleted:
			failures++
		}
	}
	return failures == 0 || !c.now().Before(ops[len(ops)-1].EndedAt.Add(routerPause(failures)))
}

func (c *Core) enqueueRouter(tx Tx, kind string, n Node) error {
	params, err := json.Marshal(nodeParams{NodeID: n.ID, NodeNum: n.Num})
	if err != nil {
		return err
	}
	g := c.newGroup(Principal{Via: "local"}, routerSubject(n.Cloud), params, kind)
	return tx.Enqueue(&g)
}

// Run looks after what should be there until ctx ends: a router, nodes that stopped or are gone, payment of the hours of nodes,
// certificates, and snapshots that are due.
func (c *Core) Run(ctx context.Context) error {
	tick := time.NewTicker(15 * time.Second)
	defer tick.Stop()
	told := ""
	var certificates time.Time // when they are looked at next
	for {
		err := errors.Join(c.EnsureRouter(ctx), c.tendNodes(ctx), c.ChargeHours(ctx), c.TakeDueSnapshots(ctx))
		if now := c.now(); !now.Before(certificates) {
			left, cerr := c.RenewCertificates(ctx)
			if err = errors.Join(err, cerr); cerr == nil {
				certificates = now.Add(time.Hour)
			}
			if left {
				certificates = now.Add(time.Minute)
			}
		}
		if ctx.Err() != nil {
			return nil
		}
		if text := fmt.Sprint(err); err != nil && text != told { // a cloud may be out of order for days
			c.Log.Warn("upkeep failed; it is tried again", "err", err)
			told = text
		}
		if err == nil {
			told = ""
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// ForgetPools drops the pools of clouds that keep their nodes in memory: those nodes ended with the last process. It is
// called before anybody is served.
func (c *Core) ForgetPools(ctx context.Context) error {
	return c.Store.Update(ctx, func(tx Tx) error {
		for _, name := range c.Clouds.Names() {
			if cloud, ok := c.Clouds.Cloud(name); !ok || !cloud.Info().InMemory {
				continue
			}
			rows, err := tx.Allocations(c.Clouds.Canonical(name))
			if err != nil {
				return err
			}
			for _, a := range rows {
				if err := tx.DeleteAllocation(a.Num); err != nil {
					return err
				}
			}
		}
		return nil
	})
}

// tendNodes compares nodes with what their clouds say: those that stopped (after a reboot of their host, say) are started
// again, those that a cloud does not know any more are marked as failed, and that is taken back when they are there again.
// Lost routers are left alone: what goes through them is restored by hand. A cloud that does not answer has lost nothing.
func (c *Core) tendNodes(ctx context.Context) error {
	stored, err := view(ctx, c.Store, func(r Reader) ([]Node, error) { return r.Nodes(NodeFilter{}) })
	if err != nil {
		return err
	}
	byCloud := map[string][]Node{}
	for _, n := range stored {
		if n.CloudID != "" && (n.alive() || lost(n)) {
			byCloud[n.Cloud] = append(byCloud[n.Cloud], n)
		}
	}
	var errs []error
	for name, nodes := range byCloud {
		cloud, ok := c.Clouds.Cloud(name)
		if !ok {
			continue
		}
		all, err := cloud.Nodes(ctx) // after the store was read: what it has was made before
		if err != nil {
			errs = append(errs, err)
			continue
		}
		states := make(map[string]CloudNodeState, len(all))
		for _, n := range all {
			states[n.ID] = n.State
		}
		power, can := cloud.(PowerCloud)
		for _, n := range nodes {
			state, there := states[n.CloudID]
			switch {
			case there && n.alive() && state == CloudStopped && can:
				c.Log.Info("starting a node that stopped", "node", n.Name)
				errs = append(errs, power.StartNode(ctx, n.CloudID))
			case there != n.alive() && !n.Has(RoleRouter):
				errs = append(errs, c.markLost(ctx, n, !there))
			}
		}
	}
	return errors.Join(errs...)
}
