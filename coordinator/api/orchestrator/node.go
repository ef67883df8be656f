package orchestrator

import (
	"crypto/sha1"
	"encoding/hex"
	"net/http"

	"github.com/reeve-paas/reeve/coordinator/core"
)

// states are libcloud's integers from before 1.0 (spec orchestrator 4).
var states = map[core.CloudNodeState]int64{
	core.CloudRunning:    0,
	core.CloudRebooting:  1,
	core.CloudTerminated: 2,
	core.CloudPending:    3,
	core.CloudUnknown:    4,
	core.CloudStopping:   4,
	core.CloudStopped:    5,
	core.CloudSuspended:  6,
	core.CloudError:      7,
	core.CloudPaused:     8,
}

func stateNumber(s core.CloudNodeState) int64 {
	if n, ok := states[s]; ok {
		return n
	}
	return states[core.CloudUnknown]
}

// nodesKey names one body of a list of nodes, and nodesBody is what it was for a version of the cloud's nodes.
type (
	nodesKey struct {
		cloud string
		plain bool
	}
	nodesBody struct {
		version uint64
		body    []byte
	}
)

func serveNodes(c *call) {
	p, cloud, ok := c.open()
	if !ok {
		return
	}
	versioned, remembers := cloud.(core.VersionedCloud) // one in memory, which shows everybody the same
	if !remembers {
		c.listNodes(p, cloud, nil)
		return
	}
	// The version is asked for first: what is kept under it is at least as new.
	key, version := nodesKey{c.cloudName, c.plain()}, versioned.NodesVersion()
	if kept, ok := c.d.nodes.Load(key); ok && kept.(nodesBody).version == version {
		c.write(http.StatusOK, kept.(nodesBody).body)
		return
	}
	c.listNodes(p, cloud, func(body []byte) { c.d.nodes.Store(key, nodesBody{version, body}) })
}

// listNodes answers with the cloud's nodes; keep, which may be nil, gets a copy of the body.
func (c *call) listNodes(p core.Principal, cloud core.Cloud, keep func(body []byte)) {
	nodes, err := c.d.core.Nodes(c.ctx(), p, c.cloudName)
	if err != nil {
		c.failWork(err)
		return
	}
	info := cloud.Info()
	c.send(http.StatusOK, func(e *encoder) {
		list(e, "nodes", nodes, func(e *encoder, n *core.CloudNode) { e.node(info, n) })
		e.ok()
	}, keep)
}

// node writes the members of one node.
func (e *encoder) node(info core.CloudInfo, n *core.CloudNode) {
	e.str("cloud_type", info.Name)
	e.key("extra")
	if n.Extra == nil {
		e.open('{')
		e.close('}')
	} else {
		e.value(n.Extra)
	}
	e.str("id", n.ID)
	e.str("name", n.Name)
	e.strs("private_ips", n.PrivateIPs)
	e.str("provider", info.Type)
	e.strs("public_ips", n.PublicIPs)
	e.int("state", stateNumber(n.State))
	e.key("uuid")
	e.uuid(n.ID, info.Type)
}

// uuid writes libcloud's identity of a node: the SHA-1 of id and driver type in hex.
func (e *encoder) uuid(id, provider string) {
	var text [128]byte
	sum := sha1.Sum(append(append(append(text[:0], id...), ':'), provider...))
	e.buf = append(e.buf, '"')
	e.buf = hex.AppendEncode(e.buf, sum[:])
	e.buf = append(e.buf, '"')
}
