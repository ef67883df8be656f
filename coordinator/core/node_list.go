package core

import (
	"context"
	"slices"
)

// lostReason is the Error of a node that its cloud does not know any more.
const lostReason = "its cloud does not know this node any more"

// Nodes lists a cloud's nodes as the cloud knows them, with what we know besides: a node whose agent does not answer is
// unknown, one that is not up yet is pending, one that failed is in error, and one that its cloud lost is terminated until
// it is stopped.
//
// Errors: those of CloudFor, unavailable
func (c *Core) Nodes(ctx context.Context, p Principal, cloudName string) ([]CloudNode, error) {
	cloud, err := c.CloudFor(ctx, p, cloudName)
	if err != nil {
		return nil, err
	}
	nodes, err := cloud.Nodes(ctx)
	if err != nil || cloud.Info().InMemory {
		return nodes, err
	}
	stored, err := view(ctx, c.Store, func(r Reader) ([]Node, error) { return r.Nodes(NodeFilter{Cloud: c.Clouds.Canonical(cloudName)}) })
	if err != nil {
		return nil, err
	}
	byKey := make(map[string]*Node, len(stored))
	for i := range stored {
		byKey[stored[i].Key] = &stored[i]
	}
	for i := range nodes {
		n := byKey[nodes[i].Key]
		if n == nil || nodes[i].Key == "" {
			continue
		}
		nodes[i].State = seenState(nodes[i].State, n.State)
		delete(byKey, nodes[i].Key)
	}
	for _, n := range stored {
		if byKey[n.Key] != nil && lost(n) {
			nodes = append(nodes, lostNode(n))
		}
	}
	return nodes, nil
}

// seenState is what a running node is, in the light of what we know of it.
func seenState(cloud CloudNodeState, state NodeState) CloudNodeState {
	if cloud != CloudRunning {
		return cloud
	}
	switch state {
	case NodePending, NodeBooting, NodeEnrolling:
		return CloudPending
	case NodeStopping:
		return CloudStopping
	case NodeUnreachable:
		return CloudUnknown
	case NodeFailed:
		return CloudError
	}
	return cloud
}

func lost(n Node) bool { return n.State == NodeFailed && n.Error == lostReason }

func lostNode(n Node) CloudNode {
	cn := CloudNode{ID: n.CloudID, Name: n.Name, Key: n.Key, State: CloudTerminated, PublicIPs: []string{}, PrivateIPs: []string{}, ImageID: n.ImageID, SizeID: n.SizeID}
	if n.Address != "" {
		cn.PrivateIPs = append(cn.PrivateIPs, n.Address)
	}
	return cn
}

// markLost changes a node that nothing else is changing.
func (c *Core) markLost(ctx context.Context, seen Node, gone bool) error {
	err := c.Store.Update(ctx, func(tx Tx) error {
		n, err := tx.Node(seen.ID)
		if err != nil || n.State != seen.State {
			return ignoreNotFound(err)
		}
		for _, subject := range []string{string(n.ID), string(n.AppID)} {
			if subject == "" {
				continue
			}
			busy, err := tx.Operations(OperationFilter{Subject: subject, Unfinished: true})
			if err != nil || len(busy) > 0 {
				return err
			}
		}
		if n.State, n.Error = NodeFailed, lostReason; !gone {
			n.State, n.Error = NodeUnreachable, "" // until its agent answers
		}
		return tx.PutNode(&n)
	})
	if err == nil && gone {
		c.Log.Warn("a node is gone from its cloud", "node", seen.Name, "cloud", seen.Cloud, "app", seen.AppID)
	}
	return err
}

// lostNamed finds a lost node by its provider's id or its name.
func (c *Core) lostNamed(ctx context.Context, cloudName, id, hostname string) (CloudNode, bool, error) {
	stored, err := view(ctx, c.Store, func(r Reader) ([]Node, error) { return r.Nodes(NodeFilter{Cloud: cloudName}) })
	if err != nil {
		return CloudNode{}, false, err
	}
	i := slices.IndexFunc(stored, func(n Node) bool {
		return lost(n) && (id != "" && n.CloudID == id || hostname != "" && n.Name == hostname)
	})
	if i < 0 {
		return CloudNode{}, false, nil
	}
	return lostNode(stored[i]), true, nil
}
