package agents

import (
	"bytes"
	"cmp"
	"log/slog"
	"net"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/reeve-paas/reeve/agent/agentclient"
	"github.com/reeve-paas/reeve/coordinator/core"
	"github.com/reeve-paas/reeve/crypto/envelope"
)

// Options configure Agents; the zero value works.
type Options struct {
	Log       *slog.Logger      // nil: slog.Default
	Port      int               // agents listen on; 0 means 8010
	Transport http.RoundTripper // nil: one that suits thousands of agents
	Watch     WatchOptions
}

// Agents finds the agent of a node. Its methods may be called from any goroutine.
type Agents struct {
	o         Options
	log       *slog.Logger
	transport http.RoundTripper

	mu      sync.Mutex // protects the field below
	clients map[core.NodeID]*known
}

var _ core.Agents = (*Agents)(nil)

// known is the client of a node, and what it was made from.
type known struct {
	address string
	key     []byte
	client  *agentclient.Client
}

// New builds Agents.
func New(o Options) *Agents {
	a := &Agents{o: o, log: o.Log, transport: o.Transport, clients: map[core.NodeID]*known{}}
	a.o.Port = cmp.Or(o.Port, 8010)
	if a.log == nil {
		a.log = slog.Default()
	}
	if a.transport == nil {
		t := agentclient.NewTransport(nil)
		t.DialContext = (&net.Dialer{Timeout: 5 * time.Second, KeepAlive: -1}).DialContext // pings tell sooner than keep-alives
		t.ReadBufferSize, t.WriteBufferSize = 2<<10, 2<<10                                 // there may be a thousand of them
		a.transport = t
	}
	return a
}

// Close closes idle connections.
func (a *Agents) Close() {
	if t, ok := a.transport.(interface{ CloseIdleConnections() }); ok {
		t.CloseIdleConnections()
	}
}

// Agent finds the agent of a node. Nothing is sent yet.
//
// Errors: unavailable (the node has no address yet), internal (its key is unusable)
func (a *Agents) Agent(n core.Node) (core.Agent, error) {
	if n.Address == "" {
		return nil, core.Errorf(core.Unavailable, core.ObjNode, "the node %s has no address yet", n.Name)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if k := a.clients[n.ID]; k != nil && k.address == n.Address && bytes.Equal(k.key, n.AgentKey) {
		return &agent{client: k.client, node: n.Name}, nil
	}
	key, err := envelope.NewKey(n.AgentKey)
	if err != nil {
		return nil, core.Wrap(core.Internal, core.ObjNode, err, "the key of node %s is unusable", n.Name)
	}
	client, err := agentclient.New(a.url(n.Address), key, &agentclient.Options{Transport: a.transport, ServerID: string(n.ID)})
	if err != nil {
		return nil, core.Wrap(core.Internal, core.ObjNode, err, "the address of node %s is unusable", n.Name)
	}
	a.clients[n.ID] = &known{address: n.Address, key: bytes.Clone(n.AgentKey), client: client}
	return &agent{client: client, node: n.Name}, nil
}

// url is where an agent listens; an address may carry a port of its own.
func (a *Agents) url(address string) string {
	if _, _, err := net.SplitHostPort(address); err != nil {
		address = net.JoinHostPort(address, strconv.Itoa(a.o.Port))
	}
	return "http://" + address
}

// keep forgets the clients of all nodes but these.
func (a *Agents) keep(nodes map[core.NodeID]bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for id := range a.clients {
		if !nodes[id] {
			delete(a.clients, id)
		}
	}
}
