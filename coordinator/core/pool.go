package core

import (
	"context"
	"encoding/json"
	"slices"

	"github.com/reeve-paas/reeve/coordinator/operation"
)

// OpPoolCreate makes one node of the pool.
const OpPoolCreate = "pool.create"

// poolSubject is the subject of all operations on the pool of a cloud.
func poolSubject(cloud string) string { return "pool/" + cloud }

// EnsurePool makes sure that there are nodes for apps of a platform that share them, or on their way; "" is none in particular. It
// is called when such an app is there; nodes that failed are replaced.
func (c *Core) EnsurePool(ctx context.Context, platform string) error {
	cloud, err := c.appCloud()
	if err != nil {
		return err
	}
	if !cloud.Info().Agents {
		return Errorf(Unsupported, ObjCloud, "apps need a cloud whose nodes run our agent; %q has none", c.AppCloud)
	}
	images, err := cloud.Images(ctx)
	if err != nil {
		return err
	}
	image, err := c.imageFor(images, platform)
	if err != nil {
		return err
	}
	able, err := c.poolRuns(ctx, platform)
	if err != nil {
		return err
	}
	size, err := c.poolSize(ctx, cloud)
	if err != nil {
		return err
	}
	return c.Store.Update(ctx, func(tx Tx) error {
		nodes, err := tx.Nodes(NodeFilter{Cloud: c.AppCloud, Role: RolePool})
		if err != nil {
			return err
		}
		nodes = slices.DeleteFunc(nodes, func(n Node) bool {
			return n.State == NodeFailed || n.State == NodeStopping || n.State == NodeGone || n.State == NodeUnreachable || !able(n)
		})
		ops, err := tx.Operations(OperationFilter{Subject: poolSubject(c.AppCloud)})
		if err != nil {
			return err
		}
		if failed := trailingFailures(ops); failed > 0 && c.now().Before(ops[len(ops)-1].EndedAt.Add(routerPause(failed))) {
			return nil
		}
		for range c.PoolNodes - len(nodes) {
			if err := c.enqueuePoolNode(tx, image.ID, size); err != nil {
				return err
			}
		}
		return nil
	})
}

// trailingFailures counts the operations at the end of the list that failed, one after the other.
func trailingFailures(ops []operation.Record) int {
	n := 0
	for _, op := range slices.Backward(ops) {
		if !op.Status.Final() || op.Status == operation.StatusCompleted {
			break
		}
		n++
	}
	return n
}

func (c *Core) enqueuePoolNode(tx Tx, image, size string) error {
	node := c.newNode("", c.AppCloud, image, size, RolePool, RoleApp, RoleDB)
	if err := tx.PutNode(&node); err != nil {
		return err
	}
	params, err := json.Marshal(nodeParams{NodeID: node.ID, NodeNum: node.Num})
	if err != nil {
		return err
	}
	g := c.newGroup(Principal{Via: "local"}, poolSubject(c.AppCloud), params, OpPoolCreate)
	return tx.Enqueue(&g)
}

func (c *Core) poolSize(ctx context.Context, cloud Cloud) (string, error) {
	if c.PoolSize != "" {
		return c.PoolSize, nil
	}
	sizes, err := cloud.Sizes(ctx)
	if err != nil {
		return "", err
	}
	if len(sizes) == 0 {
		return "", Errorf(Unavailable, ObjSize, "the cloud of apps lists no size")
	}
	return roomy(sizes).ID, nil
}
