package core

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"time"

	"github.com/reeve-paas/reeve/coordinator/operation"
)

// CloudNames lists the configured clouds, "default" first.
func (c *Core) CloudNames() []string { return c.Clouds.Names() }

// CloudFor finds a cloud that the caller may use.
//
// Errors: not_found, unauthenticated (only some clouds are open to callers without a credential)
func (c *Core) CloudFor(_ context.Context, p Principal, name string) (Cloud, error) {
	cloud, ok := c.Clouds.Cloud(name)
	if !ok {
		return nil, Errorf(NotFound, ObjCloud, "there is no cloud of this name")
	}
	if p.Anonymous() && !cloud.Info().Anonymous {
		return nil, Errorf(Unauthenticated, ObjCloud, "this cloud needs a token")
	}
	return cloud, nil
}

// StartNode makes a node and enters it into the pool of allocations. The answer is the node as its cloud knows it; it
// may still be booting.
//
// Errors: not_found (image, size), unauthenticated, unavailable
// Effects: a node; on clouds that keep nothing in memory an operation that waits for its agent
func (c *Core) StartNode(ctx context.Context, p Principal, cloudName string, spec NodeSpec) (CloudNode, error) {
	cloud, err := c.CloudFor(ctx, p, cloudName)
	if err != nil {
		return CloudNode{}, err
	}
	if err := checkNodeSpec(ctx, cloud, spec); err != nil {
		return CloudNode{}, err
	}
	cloudName = c.Clouds.Canonical(cloudName)
	var n CloudNode
	if cloud.Info().InMemory {
		n, err = cloud.CreateNode(ctx, spec)
	} else {
		n, err = c.startStoredNode(ctx, p, cloud, cloudName, spec)
	}
	if err != nil {
		return CloudNode{}, err
	}
	return n, c.Store.Update(ctx, func(tx Tx) error {
		if err := tx.PutAllocation(&Allocation{Cloud: cloudName, Hostname: n.Name, NodeID: n.ID}); err != nil {
			return err
		}
		return tx.Audit(c.auditRecord(p, "node.create", cloudName+"/"+n.ID, "", "accepted"))
	})
}

func checkNodeSpec(ctx context.Context, cloud Cloud, spec NodeSpec) error {
	images, err := cloud.Images(ctx)
	if err != nil {
		return err
	}
	if !slices.ContainsFunc(images, func(i Image) bool { return i.ID == spec.ImageID }) {
		return Errorf(NotFound, ObjImage, "there is no such image")
	}
	sizes, err := cloud.Sizes(ctx)
	if err != nil {
		return err
	}
	if !slices.ContainsFunc(sizes, func(s Size) bool { return s.ID == spec.SizeID }) {
		return Errorf(NotFound, ObjSize, "there is no such size")
	}
	return nil
}

func (c *Core) startStoredNode(ctx context.Context, p Principal, cloud Cloud, cloudName string, spec NodeSpec) (CloudNode, error) {
	node := c.newNode(p.Account.ID, cloudName, spec.ImageID, spec.SizeID, RoleApp)
	if name, ok := nodeName(spec.Name); ok {
		node.Name = name
	} else {
		return CloudNode{}, Errorf(Invalid, ObjNode, "a node's name has letters, digits and dashes, at most 63")
	}
	err := c.Store.Update(ctx, func(tx Tx) error {
		node.Num = 0
		taken, err := tx.Nodes(NodeFilter{Cloud: cloudName})
		if err != nil {
			return err
		}
		if slices.ContainsFunc(taken, func(n Node) bool { return n.Name == node.Name }) {
			return Errorf(Exists, ObjNode, "a node of this name exists")
		}
		if err := tx.PutNode(&node); err != nil {
			return err
		}
		return c.enqueueNode(tx, p, OpNodeCreate, nodeParams{NodeID: node.ID, NodeNum: node.Num, KeyName: spec.KeyName, Metadata: spec.Metadata})
	})
	if err != nil {
		return CloudNode{}, err
	}
	// The cloud's id is known as soon as the first step ran; booting goes on without the caller.
	err = c.await(ctx, time.Minute, func(r Reader) (bool, error) {
		n, err := r.Node(node.ID)
		node = n
		if isNotFound(err) {
			return false, c.failureOf(r, string(node.ID))
		}
		return n.CloudID != "", err
	})
	if err != nil {
		return CloudNode{}, err
	}
	return cloud.Node(ctx, node.CloudID)
}

// failureOf is the reason of the newest operation on a subject.
func (c *Core) failureOf(r Reader, subject string) error {
	ops, err := r.Operations(OperationFilter{Subject: subject})
	if err != nil {
		return err
	}
	reason := "the node could not be created"
	if len(ops) > 0 && ops[len(ops)-1].Error != "" {
		reason = ops[len(ops)-1].Error
	}
	return Errorf(Unavailable, ObjNode, "%s", reason)
}

// await polls the store until done or a deadline; requests use it where the wire promises a finished change.
func (c *Core) await(ctx context.Context, limit time.Duration, done func(Reader) (bool, error)) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		ok, err := view(ctx, c.Store, done)
		if ok || err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return Wrap(Unavailable, "", ctx.Err(), "it takes longer than expected; it goes on in the background")
		case <-tick.C:
		}
	}
}

func (c *Core) enqueueNode(tx Tx, p Principal, kind string, np nodeParams) error {
	params, err := json.Marshal(np)
	if err != nil {
		return err
	}
	g := c.newGroup(p, string(np.NodeID), params, kind)
	return tx.Enqueue(&g)
}

func nodeName(name string) (string, bool) {
	if name == "" || len(name) > 63 || name[0] == '-' || name[len(name)-1] == '-' {
		return "", false
	}
	for i := range len(name) {
		switch ch := name[i]; {
		case ch >= 'a' && ch <= 'z', ch >= '0' && ch <= '9', ch == '-':
		default:
			return "", false
		}
	}
	return name, true
}

// StopNode destroys the first node whose id or name matches, and returns what it was.
//
// Errors: not_found (node), busy (it belongs to an app), unauthenticated, forbidden (another account's)
func (c *Core) StopNode(ctx context.Context, p Principal, cloudName, id, hostname string) (CloudNode, error) {
	cloud, err := c.CloudFor(ctx, p, cloudName)
	if err != nil {
		return CloudNode{}, err
	}
	cloudName = c.Clouds.Canonical(cloudName)
	n, err := findCloudNode(ctx, cloud, id, hostname)
	if err != nil {
		return n, err
	}
	if cloud.Info().InMemory {
		err = cloud.DestroyNode(ctx, n.ID)
		if err == nil {
			err = c.forgetAllocation(ctx, p, cloudName, n.ID)
		}
		return n, err
	}
	return n, c.stopStoredNode(ctx, p, cloud, cloudName, n)
}

func findCloudNode(ctx context.Context, cloud Cloud, id, hostname string) (CloudNode, error) {
	nodes, err := cloud.Nodes(ctx)
	if err != nil {
		return CloudNode{}, err
	}
	for _, n := range nodes {
		if id != "" && n.ID == id || hostname != "" && n.Name == hostname {
			return n, nil
		}
	}
	return CloudNode{}, Errorf(NotFound, ObjNode, "there is no such node")
}

func (c *Core) stopStoredNode(ctx context.Context, p Principal, cloud Cloud, cloudName string, n CloudNode) error {
	var node Node
	err := c.Store.Update(ctx, func(tx Tx) error {
		nodes, err := tx.Nodes(NodeFilter{Cloud: cloudName, Key: n.Key})
		if err != nil {
			return err
		}
		if len(nodes) == 0 {
			return Errorf(NotFound, ObjNode, "the node was not started here")
		}
		node = nodes[0]
		switch {
		case !p.Account.Admin && node.AccountID != p.Account.ID:
			return Errorf(Forbidden, ObjNode, "the node belongs to somebody else")
		case node.AppID != "":
			return Errorf(Busy, ObjNode, "the node belongs to an app; delete the app instead")
		case node.Has(RoleRouter):
			return Errorf(Busy, ObjNode, "the node is a router of the platform")
		}
		if _, err := tx.RequestCancel(string(node.ID), ""); err != nil {
			return err
		}
		if err := c.enqueueNode(tx, p, OpNodeDestroy, nodeParams{NodeID: node.ID, NodeNum: node.Num}); err != nil {
			return err
		}
		return tx.Audit(c.auditRecord(p, "node.destroy", string(node.ID), "", "accepted"))
	})
	if err != nil {
		return err
	}
	return c.await(ctx, 2*time.Minute, func(r Reader) (bool, error) {
		_, err := r.Node(node.ID)
		if isNotFound(err) {
			return true, nil
		}
		if err != nil {
			return false, err
		}
		ops, err := r.Operations(OperationFilter{Subject: string(node.ID)})
		if err != nil || len(ops) == 0 {
			return false, err
		}
		if last := ops[len(ops)-1]; last.Status == operation.StatusFailed {
			return false, Errorf(Unavailable, ObjNode, "%s", last.Error)
		}
		return false, nil
	})
}

func (c *Core) forgetAllocation(ctx context.Context, p Principal, cloud, nodeID string) error {
	return c.Store.Update(ctx, func(tx Tx) error {
		rows, err := tx.Allocations(cloud)
		if err != nil {
			return err
		}
		for _, a := range rows {
			if a.NodeID == nodeID {
				if err := tx.DeleteAllocation(a.Num); err != nil {
					return err
				}
			}
		}
		return tx.Audit(c.auditRecord(p, "node.destroy", cloud+"/"+nodeID, "", "accepted"))
	})
}

// Allocations lists the pool of a cloud. Rows of a cloud that forgot its nodes are dropped first.
func (c *Core) Allocations(ctx context.Context, p Principal, cloudName string) ([]Allocation, error) {
	cloud, err := c.CloudFor(ctx, p, cloudName)
	if err != nil {
		return nil, err
	}
	cloudName = c.Clouds.Canonical(cloudName)
	nodes, err := cloud.Nodes(ctx)
	if err != nil {
		return nil, err
	}
	rows, err := view(ctx, c.Store, func(r Reader) ([]Allocation, error) { return r.Allocations(cloudName) })
	return slices.DeleteFunc(rows, func(a Allocation) bool {
		return !slices.ContainsFunc(nodes, func(n CloudNode) bool { return n.ID == a.NodeID && n.Name == a.Hostname })
	}), err
}

// AssignNode gives a free node of the pool to a user for a kind of application.
//
// Errors: not_found (allocation), busy (assigned already)
func (c *Core) AssignNode(ctx context.Context, p Principal, cloudName, nodeID, hostname, user, vmType string) (Allocation, error) {
	return c.changeAllocation(ctx, p, "node.assign", cloudName, nodeID, hostname, func(a *Allocation) error {
		if a.User != "" {
			return Errorf(Busy, ObjAllocation, "the node is assigned already")
		}
		a.User, a.VMType = user, vmType
		return nil
	})
}

// ReleaseNode takes a node back from its user and destroys it.
//
// Errors: not_found (allocation), and those of StopNode
func (c *Core) ReleaseNode(ctx context.Context, p Principal, cloudName, nodeID, hostname string) (Allocation, error) {
	a, err := c.changeAllocation(ctx, p, "node.release", cloudName, nodeID, hostname, func(a *Allocation) error {
		a.User, a.VMType = "", ""
		return nil
	})
	if err != nil {
		return a, err
	}
	_, err = c.StopNode(ctx, p, cloudName, a.NodeID, "")
	return a, err
}

func (c *Core) changeAllocation(ctx context.Context, p Principal, action, cloudName, nodeID, hostname string, change func(*Allocation) error) (Allocation, error) {
	known, err := c.Allocations(ctx, p, cloudName)
	if err != nil {
		return Allocation{}, err
	}
	i := slices.IndexFunc(known, func(a Allocation) bool {
		return hostname != "" && a.Hostname == hostname || hostname == "" && nodeID != "" && a.NodeID == nodeID
	})
	if i < 0 {
		return Allocation{}, Errorf(NotFound, ObjAllocation, "there is no such node in the pool")
	}
	a, cloudName := known[i], c.Clouds.Canonical(cloudName)
	err = c.Store.Update(ctx, func(tx Tx) error {
		rows, err := tx.Allocations(cloudName)
		if err != nil {
			return err
		}
		j := slices.IndexFunc(rows, func(b Allocation) bool { return b.Num == a.Num })
		if j < 0 {
			return Errorf(NotFound, ObjAllocation, "there is no such node in the pool")
		}
		a = rows[j]
		if err := change(&a); err != nil {
			return err
		}
		if err := tx.PutAllocation(&a); err != nil {
			return err
		}
		return tx.Audit(c.auditRecord(p, action, cloudName+"/"+a.NodeID, "", "accepted"))
	})
	return a, err
}

// EnsureRouter makes sure that the cloud of apps has a router node, or one on its way. Without an image there is nothing
// to make it from yet, which is no error.
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
		if err != nil || len(routers) > 0 {
			return err
		}
		node := c.newNode("", c.AppCloud, images[0].ID, sizes[0].ID, RoleRouter)
		if err := tx.PutNode(&node); err != nil {
			return err
		}
		return c.enqueueNode(tx, Principal{Via: "local"}, OpRouterCreate, nodeParams{NodeID: node.ID, NodeNum: node.Num})
	})
}

// Run looks after what should be there until ctx ends: a router, and nodes that their cloud reports as stopped (after a
// reboot of its host, say) are started again.
func (c *Core) Run(ctx context.Context) error {
	tick := time.NewTicker(15 * time.Second)
	defer tick.Stop()
	for {
		if err := errors.Join(c.EnsureRouter(ctx), c.restartStopped(ctx)); err != nil && ctx.Err() == nil {
			c.Log.Warn("upkeep failed; it is tried again", "err", err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

func (c *Core) restartStopped(ctx context.Context) error {
	nodes, err := view(ctx, c.Store, func(r Reader) ([]Node, error) { return r.Nodes(NodeFilter{}) })
	if err != nil {
		return err
	}
	byCloud := map[string]map[string]bool{}
	for _, n := range nodes {
		if n.CloudID != "" && (n.State == NodeRunning || n.State == NodeUnreachable) {
			if byCloud[n.Cloud] == nil {
				byCloud[n.Cloud] = map[string]bool{}
			}
			byCloud[n.Cloud][n.CloudID] = true
		}
	}
	var errs []error
	for name, wanted := range byCloud {
		cloud, ok := c.Clouds.Cloud(name)
		power, can := cloud.(PowerCloud)
		if !ok || !can {
			continue
		}
		all, err := cloud.Nodes(ctx)
		errs = append(errs, err)
		for _, n := range all {
			if wanted[n.ID] && n.State == CloudStopped {
				c.Log.Info("starting a node that stopped", "node", n.Name)
				errs = append(errs, power.StartNode(ctx, n.ID))
			}
		}
	}
	return errors.Join(errs...)
}
