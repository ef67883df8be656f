package core

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"regexp"
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
	n, err := c.startNode(ctx, p, cloudName, spec)
	if err != nil {
		c.refused(ctx, p, "node.create", cloudName+"/"+spec.Name, err)
	}
	return n, err
}

func (c *Core) startNode(ctx context.Context, p Principal, cloudName string, spec NodeSpec) (CloudNode, error) {
	cloud, err := c.CloudFor(ctx, p, cloudName)
	if err != nil {
		return CloudNode{}, err
	}
	if err := checkNodeSpec(ctx, cloud, spec); err != nil {
		return CloudNode{}, err
	}
	cloudName = c.Clouds.Canonical(cloudName)
	if !cloud.Info().InMemory {
		return c.startStoredNode(ctx, p, cloud, cloudName, spec)
	}
	n, err := cloud.CreateNode(ctx, spec)
	if err != nil {
		return CloudNode{}, err
	}
	err = c.Store.Update(ctx, func(tx Tx) error {
		if err := tx.PutAllocation(&Allocation{Cloud: cloudName, Hostname: n.Name, NodeID: n.ID}); err != nil {
			return err
		}
		return tx.Audit(c.auditRecord(p, "node.create", cloudName+"/"+n.ID, "", "accepted"))
	})
	if err != nil { // nobody would ever hear of the node
		return CloudNode{}, errors.Join(err, cloud.DestroyNode(context.WithoutCancel(ctx), n.ID))
	}
	return n, nil
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
	if node.Name = spec.Name; !goodNodeName(spec.Name) {
		return CloudNode{}, errNodeName
	}
	err := c.Store.Update(ctx, func(tx Tx) error {
		node.Num = 0
		np := nodeParams{NodeID: node.ID, Pool: true, KeyName: spec.KeyName, Metadata: spec.Metadata}
		if spec.KeyName != "" {
			line, err := keyNamed(tx, p.Account.ID, spec.KeyName)
			if err != nil {
				return err
			}
			np.PublicKey = line
		}
		if err := nodeNameFree(tx, cloudName, node.Name); err != nil {
			return err
		}
		if err := tx.PutNode(&node); err != nil {
			return err
		}
		np.NodeNum = node.Num
		return c.enqueueNode(tx, p, "node.create", OpNodeCreate, np)
	})
	if err != nil {
		return CloudNode{}, err
	}
	// The cloud's id is known as soon as the first step ran; booting goes on without the caller.
	err = c.await(ctx, time.Minute, func(r Reader) (bool, error) {
		n, err := r.Node(node.ID)
		if isNotFound(err) {
			return false, createFailure(r, node.ID)
		}
		node.CloudID = n.CloudID
		return n.CloudID != "", err
	})
	if err != nil {
		return CloudNode{}, err
	}
	return cloud.Node(ctx, node.CloudID)
}

// createFailure is why a node was not created, once that is known: the node is forgotten before its operation ends.
func createFailure(r Reader, id NodeID) error {
	ops, err := r.Operations(OperationFilter{Subject: string(id)})
	if err != nil {
		return err
	}
	for _, op := range ops {
		if op.Kind == OpNodeCreate && op.Status.Final() {
			return Errorf(Unavailable, ObjOperation, "the node could not be created: %s", op.Error)
		}
	}
	return nil
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

// enqueueNode starts an operation on a node and records who asked for it.
func (c *Core) enqueueNode(tx Tx, p Principal, action, kind string, np nodeParams) error {
	_, err := c.enqueueNodeSecret(tx, p, action, kind, np, nil)
	return err
}

// enqueueNodeSecret is enqueueNode with something for the steps that nobody may see.
func (c *Core) enqueueNodeSecret(tx Tx, p Principal, action, kind string, np nodeParams, secret []byte) (operation.Record, error) {
	params, err := json.Marshal(np)
	if err != nil {
		return operation.Record{}, err
	}
	g := c.newGroup(p, string(np.NodeID), params, kind)
	g.Secret = secret
	if err := tx.Enqueue(&g); err != nil {
		return operation.Record{}, err
	}
	return g.Operations[0], tx.Audit(c.auditRecord(p, action, string(np.NodeID), g.Operations[0].ID, "accepted"))
}

var nodeNamePattern = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$`)

var errNodeName = Errorf(Invalid, ObjNode, "a node's name has lower-case letters, digits and dashes, at most 63, and no dash at its ends")

func goodNodeName(name string) bool { return nodeNamePattern.MatchString(name) }

// StopNode destroys the first node whose id or name matches, and returns what it was.
//
// Errors: not_found (node), busy (it belongs to an app), unauthenticated, forbidden (another account's)
func (c *Core) StopNode(ctx context.Context, p Principal, cloudName, id, hostname string) (CloudNode, error) {
	return c.stopNode(ctx, p, "node.destroy", cloudName, id, hostname)
}

func (c *Core) stopNode(ctx context.Context, p Principal, action, cloudName, id, hostname string) (n CloudNode, err error) {
	defer func() {
		if err != nil {
			c.refused(ctx, p, action, cloudName+"/"+cmp.Or(id, hostname), err)
		}
	}()
	cloud, err := c.CloudFor(ctx, p, cloudName)
	if err != nil {
		return CloudNode{}, err
	}
	cloudName = c.Clouds.Canonical(cloudName)
	n, err = findCloudNode(ctx, cloud, id, hostname)
	if isNotFound(err) && !cloud.Info().InMemory {
		if gone, ok, lerr := c.lostNamed(ctx, cloudName, id, hostname); ok || lerr != nil {
			n, err = gone, lerr
		}
	}
	if err != nil {
		return n, err
	}
	if cloud.Info().InMemory {
		if err := cloud.DestroyNode(ctx, n.ID); err != nil {
			return n, err
		}
		return n, c.forgetAllocation(ctx, p, action, cloudName, n.ID)
	}
	return n, c.stopStoredNode(ctx, p, action, cloudName, n)
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

// storedNode is what the store has of a cloud's node.
func storedNode(r Reader, cloudName, key string) (Node, error) {
	var nodes []Node
	var err error
	if key != "" { // to the store no key means any node
		nodes, err = r.Nodes(NodeFilter{Cloud: cloudName, Key: key})
	}
	if err == nil && len(nodes) == 0 {
		err = Errorf(NotFound, ObjNode, "the node was not started here")
	}
	if err != nil {
		return Node{}, err
	}
	return nodes[0], nil
}

// mayUse says whether the caller may assign and destroy a node of a pool.
func mayUse(p Principal, n Node) error {
	switch {
	case n.AppID != "":
		return Errorf(Busy, ObjNode, "the node belongs to an app; delete the app instead")
	case n.Has(RoleRouter) || n.Has(RolePool):
		return Errorf(Busy, ObjNode, "the platform itself runs on this node")
	case !p.Account.Admin && n.AccountID != p.Account.ID:
		return Errorf(Forbidden, ObjNode, "the node belongs to somebody else")
	}
	return nil
}

func (c *Core) stopStoredNode(ctx context.Context, p Principal, action, cloudName string, n CloudNode) error {
	var node Node
	err := c.Store.Update(ctx, func(tx Tx) (err error) {
		if node, err = storedNode(tx, cloudName, n.Key); err != nil {
			return err
		}
		if err := mayUse(p, node); err != nil {
			return err
		}
		if _, err := tx.RequestCancel(string(node.ID), ""); err != nil {
			return err
		}
		return c.enqueueNode(tx, p, action, OpNodeDestroy, nodeParams{NodeID: node.ID, NodeNum: node.Num})
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
			return false, Errorf(Unavailable, ObjOperation, "the node could not be destroyed: %s", last.Error)
		}
		return false, nil
	})
}

func (c *Core) forgetAllocation(ctx context.Context, p Principal, action, cloud, nodeID string) error {
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
		return tx.Audit(c.auditRecord(p, action, cloud+"/"+nodeID, "", "accepted"))
	})
}

// Allocations lists the pool of a cloud, without nodes that the cloud does not know any more.
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

// allocation finds a node in the pool of a cloud by its name or, when there is none, its id.
func (c *Core) allocation(ctx context.Context, p Principal, cloudName, nodeID, hostname string) (Cloud, Allocation, error) {
	cloud, err := c.CloudFor(ctx, p, cloudName)
	if err != nil {
		return nil, Allocation{}, err
	}
	pool, err := c.Allocations(ctx, p, cloudName)
	if err != nil {
		return nil, Allocation{}, err
	}
	i := slices.IndexFunc(pool, func(a Allocation) bool {
		return hostname != "" && a.Hostname == hostname || hostname == "" && nodeID != "" && a.NodeID == nodeID
	})
	if i < 0 {
		return nil, Allocation{}, Errorf(NotFound, ObjAllocation, "there is no such node in the pool")
	}
	return cloud, pool[i], nil
}
