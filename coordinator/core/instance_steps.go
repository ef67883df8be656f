package core

import (
	"context"
	"slices"
	"time"

	"github.com/reeve-paas/reeve/agent/agentapi"
	"github.com/reeve-paas/reeve/coordinator/operation"
)

// instanceOf loads the instance of the operation and its service; found is false when it was forgotten.
func (c *Core) instanceOf(ctx context.Context, run *operation.Run) (p instanceParams, i ServiceInstance, s Offer, found bool, err error) {
	if err = run.Params(&p); err != nil {
		return p, i, s, false, err
	}
	err = c.Store.View(ctx, func(r Reader) error {
		if i, err = r.InstanceByID(p.InstanceID); err != nil {
			return err
		}
		s, err = c.offer(r, i.Service)
		return err
	})
	if isNotFound(err) {
		return p, i, s, false, nil
	}
	return p, i, s, err == nil, err
}

// makeInstance asks the provider for a resource, or an agent for a database.
func (c *Core) makeInstance(ctx context.Context, run *operation.Run) error {
	p, i, s, found, err := c.instanceOf(ctx, run)
	if err != nil {
		return err
	}
	if !found {
		return Errorf(NotFound, ObjInstance, "the service instance does not exist any more")
	}
	if !s.BuiltIn() {
		return c.makeResource(ctx, s, i, p.Email)
	}
	node, err := c.databaseNode(ctx, &i)
	if err != nil {
		return err
	}
	agent, err := c.Agents.Agent(node)
	if err != nil {
		return err
	}
	if err := agent.StartService(ctx, i.Engine); err != nil {
		return classified(err, Internal, ObjInstance, "start the "+i.Engine+" server")
	}
	err = agent.CreateDatabase(ctx, i.Engine, agentapi.CreateDatabaseParams{Name: i.Database})
	return classified(err, Internal, ObjInstance, "create the database")
}

// makeResource asks a provider for a resource, but after a crash first whether there is one: asked again it would refuse, or
// make another.
func (c *Core) makeResource(ctx context.Context, s Offer, i ServiceInstance, email string) error {
	if i.State == InstanceAsked {
		if _, err := c.Broker.Status(ctx, s, i.Name); err == nil || KindOf(err) == Unavailable {
			return final(err)
		}
	}
	i.State = InstanceAsked
	if err := c.Store.Update(ctx, func(tx Tx) error { return tx.PutServiceInstance(&i) }); err != nil {
		return err
	}
	return final(c.Broker.Create(ctx, s, i, email))
}

// final makes a failure of a provider one that is not tried again: whoever waits shall hear of it.
func final(err error) error {
	if err != nil && KindOf(err) == Unavailable {
		return Wrap(Invalid, ObjService, err, "provider")
	}
	return err
}

// databaseNode is where an instance's database is: of the nodes that have such a server, the one that has most databases, so
// that the others can be replaced. It is chosen once, and its server starts at every boot from then on.
func (c *Core) databaseNode(ctx context.Context, i *ServiceInstance) (Node, error) {
	if i.NodeID != "" {
		return c.node(ctx, i.NodeID)
	}
	if err := c.EnsurePool(ctx, ""); err != nil {
		return Node{}, err
	}
	nodes, coming, err := c.databaseNodes(ctx)
	if err != nil {
		return Node{}, err
	}
	for _, node := range nodes {
		agent, err := c.Agents.Agent(node)
		if err == nil {
			err = agent.EnableService(ctx, agentapi.EnableServiceParams{Service: i.Engine})
		}
		if err != nil && KindOf(err) == Unsupported { // it has no such server
			continue
		}
		if err != nil {
			return Node{}, classified(err, Internal, ObjInstance, "enable the "+i.Engine+" server")
		}
		return node, c.Store.Update(ctx, func(tx Tx) error {
			if *i, err = tx.InstanceByID(i.ID); err != nil {
				return err
			}
			i.NodeID = node.ID
			return tx.PutServiceInstance(i)
		})
	}
	if coming {
		return Node{}, operation.RetryAfter(500*time.Millisecond, "no node with a "+i.Engine+" server is up yet")
	}
	return Node{}, Errorf(Unsupported, ObjInstance, "no host for databases has a %s server; install one there first", i.Engine)
}

// databaseNodes are the nodes for databases that run, those with most databases first. coming says that there are soon more.
func (c *Core) databaseNodes(ctx context.Context) (nodes []Node, coming bool, err error) {
	err = c.Store.View(ctx, func(r Reader) error {
		all, err := r.Nodes(NodeFilter{Cloud: c.AppCloud, Role: RoleDB})
		if err != nil {
			return err
		}
		all = slices.DeleteFunc(all, func(n Node) bool { return n.AppID != "" || n.AccountID != "" })
		nodes = slices.DeleteFunc(slices.Clone(all), func(n Node) bool { return n.State != NodeRunning })
		coming = len(nodes) == 0 || slices.ContainsFunc(all, func(n Node) bool {
			return n.State == NodePending || n.State == NodeBooting || n.State == NodeEnrolling
		})
		there := map[NodeID]int{}
		for engine := range builtIn {
			instances, err := r.InstancesOf(engine)
			if err != nil {
				return err
			}
			for _, other := range instances {
				there[other.NodeID]++
			}
		}
		slices.SortStableFunc(nodes, func(a, b Node) int { return there[b.ID] - there[a.ID] })
		return nil
	})
	return nodes, coming, err
}

// unmakeInstance takes the resource back. A provider that fails to is not waited for.
func (c *Core) unmakeInstance(ctx context.Context, run *operation.Run) error {
	_, i, s, found, err := c.instanceOf(ctx, run)
	if err != nil || !found {
		return err
	}
	if !s.BuiltIn() {
		if err := c.Broker.Remove(ctx, s, i.Name); err != nil {
			c.Log.Warn("a provider did not remove an instance", "service", s.Name, "instance", i.Name, "err", err)
		}
		return nil
	}
	agent, ok, err := c.databaseAgent(ctx, i)
	if err != nil || !ok {
		return err
	}
	err = agent.DropDatabase(ctx, i.Engine, i.Database)
	if err != nil && KindOf(err) == Unsupported { // there never was a server
		return nil
	}
	return classified(ignoreNotFound(err), Internal, ObjInstance, "drop the database")
}

// databaseAgent is the agent where an instance's database is; ok is false when there is none, or its node is gone.
func (c *Core) databaseAgent(ctx context.Context, i ServiceInstance) (agent Agent, ok bool, err error) {
	if i.NodeID == "" {
		return nil, false, nil
	}
	node, err := c.node(ctx, i.NodeID)
	if isNotFound(err) || err == nil && (node.State == NodeGone || node.State == NodeFailed) {
		return nil, false, nil
	}
	if err != nil {
		return nil, false, err
	}
	agent, err = c.Agents.Agent(node)
	return agent, err == nil, err
}

func (c *Core) finishInstance(ctx context.Context, run *operation.Run) error {
	var p instanceParams
	if err := run.Params(&p); err != nil {
		return err
	}
	return c.Store.Update(ctx, func(tx Tx) error {
		i, err := tx.InstanceByID(p.InstanceID)
		if err != nil || i.State == InstanceDeleting { // it is not to be bound any more
			return ignoreNotFound(err)
		}
		i.State = InstanceUp
		return tx.PutServiceInstance(&i)
	})
}

// forgetInstance ends an instance. One of our agents that could not be made is kept as down, because its maker was told that
// it is on its way.
func (c *Core) forgetInstance(ctx context.Context, run *operation.Run) error {
	_, i, s, found, err := c.instanceOf(ctx, run)
	if err != nil || !found {
		return err
	}
	if s.BuiltIn() && run.Operation.Kind == OpInstanceCreate {
		i.State, i.Error = InstanceDown, run.Reason()
		return c.Store.Update(ctx, func(tx Tx) error { return tx.PutServiceInstance(&i) })
	}
	return c.Store.Update(ctx, func(tx Tx) error { return tx.DeleteServiceInstance(i.ID) })
}
