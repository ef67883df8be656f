package core

import (
	"context"
	"encoding/base64"
	"maps"
	"slices"
	"time"

	"github.com/reeve-paas/reeve/agent/agentapi"
	"github.com/reeve-paas/reeve/coordinator/operation"
)

// Kinds of the operations on nodes.
const (
	OpNodeCreate   = "node.create"
	OpNodeDestroy  = "node.destroy"
	OpNodeEnroll   = "node.enroll"
	OpNodeAssign   = "node.assign"
	OpNodeRelease  = "node.release"
	OpRouterCreate = "router.create"
)

type nodeParams struct {
	NodeID  NodeID `json:"node_id"`
	NodeNum int64  `json:"node_num"`
	// What a caller asked for besides; apps' nodes have none of it.
	Pool    bool   `json:"pool,omitempty"` // enter the node into the pool of allocations
	KeyName string `json:"key_name,omitempty"`
	// PublicKey is the key that KeyName means.
	PublicKey  string            `json:"public_key,omitempty"`
	Allocation int64             `json:"allocation,omitempty"` // number of the one that is assigned or released
	Metadata   map[string]string `json:"metadata,omitempty"`
}

func (c *Core) nodeOperations() []operation.Definition {
	return []operation.Definition{
		{Kind: OpNodeCreate, Steps: c.bootSteps()},
		{Kind: OpPoolCreate, Steps: c.bootSteps()},
		{Kind: OpRouterCreate, Steps: append(c.bootSteps(), operation.Step{Name: "start router", Do: c.startRouter})},
		{Kind: OpNodeDestroy, Steps: []operation.Step{
			{Name: "wait for others", Do: c.waitForOthers, Timeout: 5 * time.Minute},
			{Name: "destroy node", Do: c.destroyNode, Timeout: 5 * time.Minute},
		}},
		{Kind: OpNodeEnroll, Steps: []operation.Step{
			{Name: "adopt machine", Do: c.adoptNode, Undo: c.destroyNode},
			{Name: "enroll agent", Do: c.awaitAgent, Timeout: 5 * time.Minute},
			{Name: "enter the pool", Do: c.poolNode},
		}},
		{Kind: OpNodeAssign, Steps: []operation.Step{
			{Name: "claim", Do: func(context.Context, *operation.Run) error { return nil }, Undo: c.takeBack, Timeout: 5 * time.Minute},
			{Name: "wait for others", Do: c.waitForOthers, Timeout: 5 * time.Minute},
			{Name: "reach agent", Do: c.awaitAgent, Timeout: time.Minute},
			{Name: "set up application", Do: c.setUpApplication, Timeout: 3 * time.Minute},
			{Name: "hand over", Do: c.handOver},
		}},
		{Kind: OpNodeRelease, Steps: []operation.Step{
			{Name: "wait for others", Do: c.waitForOthers, Timeout: 5 * time.Minute},
			{Name: "take back", Do: c.takeBack, Timeout: 5 * time.Minute},
		}},
	}
}

// bootSteps bring the node of the operation's parameters up with an agent that answers.
func (c *Core) bootSteps() []operation.Step {
	return []operation.Step{
		{Name: "create node", Do: c.createNode, Undo: c.destroyNode, Timeout: 3 * time.Minute},
		{Name: "enroll agent", Do: c.awaitAgent, Timeout: 3 * time.Minute},
	}
}

func (c *Core) nodeOf(ctx context.Context, run *operation.Run) (Node, Cloud, error) {
	var p nodeParams
	if err := run.Params(&p); err != nil {
		return Node{}, nil, err
	}
	n, err := c.node(ctx, p.NodeID)
	if err != nil {
		return n, nil, err
	}
	cloud, ok := c.Clouds.Cloud(n.Cloud)
	if !ok {
		return n, nil, Errorf(NotFound, ObjCloud, "cloud %q is not configured any more; put it back to go on", n.Cloud)
	}
	return n, cloud, nil
}

func (c *Core) createNode(ctx context.Context, run *operation.Run) error {
	n, cloud, err := c.nodeOf(ctx, run)
	if err != nil {
		return err
	}
	var p nodeParams
	if err := run.Params(&p); err != nil {
		return err
	}
	spec := NodeSpec{Key: n.Key, Name: n.Name, ImageID: n.ImageID, SizeID: n.SizeID, KeyName: p.KeyName, SSHKeys: c.SSHKeys, Files: c.bootstrap(n),
		Metadata: map[string]string{}}
	if p.PublicKey != "" {
		spec.SSHKeys = append(slices.Clone(spec.SSHKeys), p.PublicKey)
	}
	maps.Copy(spec.Metadata, p.Metadata)
	spec.Metadata["reeve-node"] = string(n.ID)
	created, err := cloud.CreateNode(ctx, spec)
	if err != nil {
		return cloudFailure(err, Internal, ObjNode, "create the node")
	}
	return c.Store.Update(ctx, func(tx Tx) error {
		n, err := tx.Node(n.ID)
		if err != nil {
			return err
		}
		n.CloudID, n.Address = created.ID, address(created)
		if n.State == NodePending {
			n.State = NodeBooting
		}
		if err := tx.PutNode(&n); err != nil || !p.Pool {
			return err
		}
		return allocate(tx, Allocation{Cloud: n.Cloud, Hostname: created.Name, NodeID: created.ID, PublicKey: p.PublicKey})
	})
}

// allocate enters a node into its cloud's pool, unless it is there.
func allocate(tx Tx, a Allocation) error {
	rows, err := tx.Allocations(a.Cloud)
	if err != nil || slices.ContainsFunc(rows, func(b Allocation) bool { return b.NodeID == a.NodeID && b.Hostname == a.Hostname }) {
		return err
	}
	return tx.PutAllocation(&a)
}

func (c *Core) bootstrap(n Node) []BootstrapFile {
	files := []BootstrapFile{{Path: "/etc/reeve/keys/default", Mode: 0o600,
		Data: []byte(base64.StdEncoding.EncodeToString(n.AgentKey) + "\n")}}
	if c.AgentConfig != nil {
		files = append(files, c.AgentConfig(n)...)
	}
	return files
}

func address(n CloudNode) string {
	for _, ip := range slices.Concat(n.PrivateIPs, n.PublicIPs) {
		return ip
	}
	return ""
}

// readyWaiter is a cloud that tells when a node is up. Calls before that would hang on an address that nobody has yet,
// until TCP tries again a second later.
type readyWaiter interface {
	WaitReady(ctx context.Context, id string) error
}

// awaitAgent waits until the agent answers a call that is sealed with the node's key: that proves both ends.
func (c *Core) awaitAgent(ctx context.Context, run *operation.Run) error {
	n, cloud, err := c.nodeOf(ctx, run)
	if err != nil {
		return err
	}
	if w, ok := cloud.(readyWaiter); ok {
		if err := w.WaitReady(ctx, n.CloudID); err != nil {
			return classified(err, Unavailable, ObjNode, "wait for the node to boot")
		}
	}
	state, err := cloud.Node(ctx, n.CloudID)
	switch {
	case err != nil:
		return classified(err, Unavailable, ObjNode, "look at the booting node")
	case state.State == CloudError || state.State == CloudTerminated || state.State == CloudStopped:
		return Errorf(Internal, ObjNode, "the node did not boot: it is %s", state.State)
	}
	if n.Address == "" {
		if n.Address = address(state); n.Address == "" {
			return operation.RetryAfter(200*time.Millisecond, "the node has no address yet")
		}
	}
	agent, err := c.Agents.Agent(n)
	if err != nil {
		return err
	}
	call, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	if _, err := agent.Hostname(call); err != nil {
		if KindOf(err) == Unavailable {
			return operation.RetryAfter(20*time.Millisecond, "the agent does not answer yet: "+PublicError("", err))
		}
		return err
	}
	_, err = c.updateNode(ctx, n.ID, func(node *Node) {
		node.Address, node.State, node.SeenAt = n.Address, NodeRunning, c.now()
	})
	return err
}

// destroyNode removes the node from its cloud and forgets it. A node that was never created, or only half, is found by
// its key.
func (c *Core) destroyNode(ctx context.Context, run *operation.Run) error {
	n, cloud, err := c.nodeOf(ctx, run)
	if isNotFound(err) && cloud == nil && n.ID == "" {
		return nil // forgotten already
	}
	if err != nil {
		return err
	}
	return c.removeNode(ctx, n, cloud)
}

func (c *Core) removeNode(ctx context.Context, n Node, cloud Cloud) error {
	if n.State != NodeStopping {
		if _, err := c.updateNode(ctx, n.ID, func(n *Node) { n.State = NodeStopping }); err != nil {
			return err
		}
	}
	if cloud.Info().Permanent {
		c.askToLeave(ctx, n)
	}
	ids := []string{}
	if n.CloudID != "" {
		ids = append(ids, n.CloudID)
	} else {
		all, err := cloud.Nodes(ctx)
		if err != nil {
			return classified(err, Unavailable, ObjNode, "look for the node")
		}
		for _, cn := range all {
			if cn.Key != "" && cn.Key == n.Key {
				ids = append(ids, cn.ID)
			}
		}
	}
	for _, id := range ids {
		if err := cloud.DestroyNode(ctx, id); err != nil && !isNotFound(err) {
			return cloudFailure(err, Unavailable, ObjNode, "destroy the node")
		}
	}
	return c.Store.Update(ctx, func(tx Tx) error { return forgetNode(tx, n) })
}

// askToLeave lets the agent of a machine that its administrator enrolled forget us; there is no other way in. One that does
// not answer is left with a key that nobody has any more.
func (c *Core) askToLeave(ctx context.Context, n Node) {
	agent, err := c.Agents.Agent(n)
	if err == nil {
		ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
		defer cancel()
		err = agent.Call(ctx, "deploy.leave", struct{}{}, nil)
	}
	if err != nil {
		c.Log.Info("the agent of a node that goes was not told", "node", n.Name, "err", err)
	}
}

// cloudFailure is classified for a cloud's failure: a busy cloud is one to try again.
func cloudFailure(err error, kind Kind, object Object, doing string) error {
	if err != nil && KindOf(err) == Busy {
		return Wrap(Unavailable, object, err, "%s", doing)
	}
	return classified(err, kind, object, doing)
}

func (c *Core) startRouter(ctx context.Context, run *operation.Run) error {
	n, _, err := c.nodeOf(ctx, run)
	if err != nil {
		return err
	}
	agent, err := c.Agents.Agent(n)
	if err != nil {
		return err
	}
	if err := agent.PrepareRouter(ctx); err != nil {
		return classified(err, Internal, ObjNode, "make the node a router")
	}
	return classified(agent.StartService(ctx, "nginx"), Internal, ObjNode, "start nginx")
}

// startForGood starts a service of a host, now and at every boot.
func startForGood(ctx context.Context, agent Agent, service string) error {
	if err := agent.EnableService(ctx, agentapi.EnableServiceParams{Service: service}); err != nil {
		return err
	}
	return agent.StartService(ctx, service)
}

// waitForOthers holds an operation until no older one works on the same subject.
func (c *Core) waitForOthers(ctx context.Context, run *operation.Run) error {
	me := run.Operation
	ops, err := view(ctx, c.Store, func(r Reader) ([]operation.Record, error) {
		return r.Operations(OperationFilter{Subject: me.Subject, Unfinished: true})
	})
	if err != nil {
		return err
	}
	for _, op := range ops {
		if op.GroupID != me.GroupID && op.Num < me.Num {
			return operation.RetryAfter(50*time.Millisecond, "operation "+op.Kind+" on the same thing has not ended")
		}
	}
	return nil
}
