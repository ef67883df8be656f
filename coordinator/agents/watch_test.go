package agents

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/reeve-paas/reeve/agent/rpcserver"
	"github.com/reeve-paas/reeve/coordinator/core"
)

// nodeStore is a core.Store of nodes; anything else panics.
type nodeStore struct {
	mu    sync.Mutex
	order []core.NodeID
	nodes map[core.NodeID]core.Node
	puts  int
	txs   int
}

func newNodeStore(nodes ...core.Node) *nodeStore {
	s := &nodeStore{nodes: map[core.NodeID]core.Node{}}
	for _, n := range nodes {
		s.nodes[n.ID] = n
		s.order = append(s.order, n.ID)
	}
	return s
}

func (s *nodeStore) View(_ context.Context, fn func(core.Reader) error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return fn(nodeTx{s: s})
}

func (s *nodeStore) Update(_ context.Context, fn func(core.Tx) error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.txs++
	return fn(nodeTx{s: s})
}

func (s *nodeStore) get(id core.NodeID) core.Node {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.nodes[id]
}

type nodeTx struct {
	core.Tx
	s *nodeStore
}

func (t nodeTx) Nodes(core.NodeFilter) ([]core.Node, error) {
	var all []core.Node
	for _, id := range t.s.order {
		all = append(all, t.s.nodes[id])
	}
	return all, nil
}

func (t nodeTx) Node(id core.NodeID) (core.Node, error) {
	n, ok := t.s.nodes[id]
	if !ok {
		return n, core.Errorf(core.NotFound, core.ObjNode, "gone")
	}
	return n, nil
}

func (t nodeTx) PutNode(n *core.Node) error {
	t.s.puts++
	t.s.nodes[n.ID] = *n
	return nil
}

// silent fails like a network without hosts on it: no sockets, so that time can be faked.
type silent struct {
	asked   sync.Map // host -> *atomic.Int64
	current atomic.Int64
	most    atomic.Int64
	hold    time.Duration
}

func (s *silent) RoundTrip(r *http.Request) (*http.Response, error) {
	count, _ := s.asked.LoadOrStore(r.URL.Hostname(), &atomic.Int64{})
	count.(*atomic.Int64).Add(1)
	now := s.current.Add(1)
	defer s.current.Add(-1)
	for most := s.most.Load(); now > most && !s.most.CompareAndSwap(most, now); most = s.most.Load() {
	}
	if s.hold > 0 {
		select {
		case <-time.After(s.hold):
		case <-r.Context().Done():
		}
	}
	return nil, errors.New("no route to host")
}

func (s *silent) count(host string) int64 {
	c, ok := s.asked.Load(host)
	if !ok {
		return 0
	}
	return c.(*atomic.Int64).Load()
}

func running(i int) core.Node {
	return core.Node{ID: core.NodeID(fmt.Sprint("node-", i)), Name: fmt.Sprint("rv-", i), Address: fmt.Sprintf("198.51.%d.%d", i/250, i%250+1),
		AgentKey: rawKey, State: core.NodeRunning}
}

func watching(t *testing.T, a *Agents, s core.Store) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- a.Watch(ctx, s) }()
	return func() {
		t.Helper()
		cancel()
		if err := <-done; err != nil {
			t.Errorf("got %v after a stop, want nil", err)
		}
	}
}

func TestANodeThatDoesNotAnswerTwiceIsUnreachable(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		net := &silent{}
		dead, stopping, booting := running(1), running(2), running(3)
		stopping.State, booting.Address = core.NodeStopping, ""
		s := newNodeStore(dead, stopping, booting)
		defer watching(t, New(Options{Transport: net}), s)()
		time.Sleep(29500 * time.Millisecond)
		if n := net.count(dead.Address); n < 1 {
			t.Errorf("got %d questions in the first round, want at least 1", n)
		}
		time.Sleep(10 * time.Second)
		if got := s.get(dead.ID).State; got != core.NodeUnreachable {
			t.Errorf("got %s, want unreachable soon after the second miss", got)
		}
		asked := net.count(dead.Address)
		time.Sleep(5 * time.Minute)
		if n := net.count(dead.Address) - asked; n < 9 || n > 11 {
			t.Errorf("got %d questions in 5 minutes to a node given up, want one per round", n)
		}
		if s.puts != 1 {
			t.Errorf("got %d writes, want 1", s.puts)
		}
		if net.count(stopping.Address) != 0 || s.get(stopping.ID).State != core.NodeStopping || s.get(booting.ID).State != core.NodeRunning {
			t.Error("a node that is stopping, or has no address, was asked or changed")
		}
	})
}

func TestOneMissIsNoReasonToWorry(t *testing.T) {
	w := &watch{WatchOptions: WatchOptions{Misses: 2, Timeout: time.Second}, agents: New(Options{Transport: &silent{}}), turns: make(chan struct{}, 1)}
	n := running(1)
	s := newNodeStore(n)
	w.store, w.nodes, w.health = s, []core.Node{n}, map[core.NodeID]*health{n.ID: {}}
	w.ask(t.Context(), n)
	if s.puts != 0 || w.health[n.ID].misses != 1 {
		t.Errorf("got %d writes and %d misses, want 0 and 1", s.puts, w.health[n.ID].misses)
	}
	w.ask(t.Context(), n)
	if s.get(n.ID).State != core.NodeUnreachable {
		t.Error("the second miss did not count")
	}
}

func TestAStateThatChangedMeanwhileIsLeftAlone(t *testing.T) {
	w := &watch{WatchOptions: WatchOptions{Misses: 1, Timeout: time.Second}, agents: New(Options{Transport: &silent{}}), turns: make(chan struct{}, 1)}
	n := running(1)
	now := n
	now.State = core.NodeStopping
	s := newNodeStore(now)
	w.store, w.nodes, w.health = s, []core.Node{n}, map[core.NodeID]*health{n.ID: {}}
	w.ask(t.Context(), n)
	if got := s.get(n.ID).State; got != core.NodeStopping || s.puts != 0 {
		t.Errorf("got %s after %d writes, want stopping, untouched", got, s.puts)
	}
}

func TestAThousandDeadNodesAreAskedAFewAtATime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		net := &silent{hold: time.Hour} // every question runs into its deadline
		var nodes []core.Node
		for i := range 1000 {
			nodes = append(nodes, running(i))
		}
		s := newNodeStore(nodes...)
		stop := watching(t, New(Options{Transport: net, Watch: WatchOptions{Concurrency: 64}}), s)
		time.Sleep(4 * time.Minute)
		stop()
		if most := net.most.Load(); most > 64 {
			t.Errorf("got %d questions at once, want at most 64", most)
		}
		for _, n := range nodes {
			if s.get(n.ID).State != core.NodeUnreachable {
				t.Fatalf("%s is %s after 4 minutes, want unreachable", n.ID, s.get(n.ID).State)
			}
		}
	})
}

func TestAThousandNodesThatStayAsTheyAreCostNoWrites(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		net := &silent{}
		var nodes []core.Node
		for i := range 1000 {
			n := running(i)
			n.State = core.NodeUnreachable
			nodes = append(nodes, n)
		}
		s := newNodeStore(nodes...)
		stop := watching(t, New(Options{Transport: net}), s)
		time.Sleep(10 * time.Minute)
		stop()
		if s.puts != 0 {
			t.Errorf("got %d writes although nothing changed, want 0", s.puts)
		}
		for _, n := range nodes {
			// One every 30 s, one more soon after the first miss, and one more when both ends of the time are a node's turn.
			if c := net.count(n.Address); c < 20 || c > 22 {
				t.Fatalf("%s: got %d questions in 10 minutes, want 20 to 22", n.ID, c)
			}
		}
		if most := net.most.Load(); most > 64 {
			t.Errorf("got %d questions at once", most)
		}
	})
}

func TestWatchFollowsARealAgent(t *testing.T) {
	var healthy atomic.Bool
	healthy.Store(true)
	hang := make(chan struct{})
	address := startAgent(t, rpcserver.Table{"system": {"get_hostname": {ReadOnly: true, Call: func(ctx context.Context, _ json.RawMessage) (any, error) {
		if !healthy.Load() {
			<-hang
		}
		return "web-1", nil
	}}}})
	n := nodeAt(address)
	s := newNodeStore(n)
	a := newAgents(t, Options{Watch: WatchOptions{Interval: 30 * time.Millisecond, Timeout: 200 * time.Millisecond, SaveSeen: time.Millisecond}})
	stop := watching(t, a, s)
	wait := func(what string, ok func(core.Node) bool) {
		t.Helper()
		deadline := time.Now().Add(20 * time.Second)
		for !ok(s.get(n.ID)) {
			if time.Now().After(deadline) {
				t.Fatalf("waited in vain for the node to be %s; it is %+v", what, s.get(n.ID).State)
			}
			time.Sleep(time.Millisecond)
		}
	}
	wait("seen", func(n core.Node) bool { return !n.SeenAt.IsZero() && n.State == core.NodeRunning })
	healthy.Store(false)
	wait("unreachable", func(n core.Node) bool { return n.State == core.NodeUnreachable })
	healthy.Store(true)
	close(hang)
	wait("running", func(n core.Node) bool { return n.State == core.NodeRunning })
	stop()
}
