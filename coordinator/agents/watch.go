package agents

import (
	"cmp"
	"context"
	"hash/fnv"
	"slices"
	"sync"
	"time"

	"github.com/reeve-paas/reeve/coordinator/core"
)

// WatchOptions tune Watch; the zero value works.
type WatchOptions struct {
	Interval    time.Duration // between two questions to the same node; 0 means 30 s
	Timeout     time.Duration // for an answer; 0 means 5 s
	Concurrency int           // questions at once; 0 means 64
	Misses      int           // answers missed in a row before a node is unreachable; 0 means 2
	SaveSeen    time.Duration // how old a stored SeenAt gets before it is written again; 0 means 5 min
}

// slots divide the interval: each node has its own by its id, so that a thousand nodes make a steady trickle.
const slots = 30

// watch is one run of Watch.
type watch struct {
	WatchOptions
	agents *Agents
	store  core.Store
	turns  chan struct{}

	mu     sync.Mutex // protects the fields below
	nodes  []core.Node
	health map[core.NodeID]*health
}

type health struct {
	asking bool
	misses int
	seen   time.Time // last answer
	saved  time.Time // last SeenAt that was written
}

// Watch asks running and unreachable nodes whether they answer, until ctx ends, and keeps their State and SeenAt in the
// store. A node whose state was changed by somebody else meanwhile is left alone.
func (a *Agents) Watch(ctx context.Context, store core.Store) error {
	w := &watch{WatchOptions: a.o.Watch, agents: a, store: store, health: map[core.NodeID]*health{}}
	w.Interval = cmp.Or(w.Interval, 30*time.Second)
	w.Timeout = cmp.Or(w.Timeout, 5*time.Second)
	w.Concurrency = cmp.Or(w.Concurrency, 64)
	w.Misses = cmp.Or(w.Misses, 2)
	w.SaveSeen = cmp.Or(w.SaveSeen, 5*time.Minute)
	w.turns = make(chan struct{}, w.Concurrency)

	var wg sync.WaitGroup
	defer wg.Wait()
	tick := time.NewTicker(max(w.Interval/slots, time.Millisecond))
	defer tick.Stop()
	for slot := 0; ; slot = (slot + 1) % slots {
		if slot == 0 {
			if err := w.load(ctx); err != nil && ctx.Err() == nil {
				a.log.Warn("nodes could not be listed; the list of before is watched", "err", err)
			}
		}
		for _, n := range w.due(slot) {
			wg.Go(func() { w.ask(ctx, n) })
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// load lists the nodes to watch and writes down when they were seen.
func (w *watch) load(ctx context.Context) error {
	var nodes []core.Node
	all := map[core.NodeID]bool{}
	err := w.store.View(ctx, func(r core.Reader) error {
		rows, err := r.Nodes(core.NodeFilter{})
		nodes = rows
		return err
	})
	if err != nil {
		return err
	}
	for _, n := range nodes {
		all[n.ID] = true
	}
	w.agents.keep(all)
	nodes = slices.DeleteFunc(nodes, func(n core.Node) bool {
		return n.Address == "" || n.State != core.NodeRunning && n.State != core.NodeUnreachable
	})
	w.mu.Lock()
	w.nodes = nodes
	for id := range w.health {
		if !all[id] {
			delete(w.health, id)
		}
	}
	for _, n := range nodes {
		if w.health[n.ID] == nil {
			w.health[n.ID] = &health{saved: n.SeenAt}
		}
	}
	w.mu.Unlock()
	return w.saveSeen(ctx)
}

// due are the nodes of a slot, and those that missed an answer and are not given up yet, six times as often.
func (w *watch) due(slot int) []core.Node {
	w.mu.Lock()
	defer w.mu.Unlock()
	var due []core.Node
	for _, n := range w.nodes {
		h := w.health[n.ID]
		mine := slotOf(n.ID)
		suspect := h.misses > 0 && h.misses < w.Misses && slot%(slots/6) == mine%(slots/6)
		if !h.asking && (slot == mine || suspect) {
			h.asking = true
			due = append(due, n)
		}
	}
	return due
}

func slotOf(id core.NodeID) int {
	h := fnv.New32a()
	_, _ = h.Write([]byte(id))
	return int(h.Sum32() % slots)
}

// ask asks one node and acts on what changed.
func (w *watch) ask(ctx context.Context, n core.Node) {
	w.turns <- struct{}{}
	defer func() { <-w.turns }()
	if ctx.Err() != nil {
		return
	}
	answered, err := w.ping(ctx, n)
	if ctx.Err() != nil {
		return
	}
	w.mu.Lock()
	h := w.health[n.ID]
	if h == nil { // gone meanwhile
		w.mu.Unlock()
		return
	}
	h.asking = false
	var want core.NodeState
	if !answered {
		h.misses++
		if h.misses >= w.Misses {
			want = core.NodeUnreachable
		}
	} else {
		h.misses = 0
		h.seen = time.Now()
		want = core.NodeRunning
	}
	w.mu.Unlock()
	if want == "" {
		return
	}
	if current, ok := w.stateOf(n.ID); !ok || current == want {
		return
	}
	if uerr := w.setState(ctx, n.ID, want); uerr != nil {
		w.agents.log.Error("state of a node could not be stored; it is tried again", "node", n.Name, "state", want, "err", uerr)
		return
	}
	if want == core.NodeUnreachable {
		w.agents.log.Warn("node does not answer", "node", n.Name, "err", err)
	} else {
		w.agents.log.Info("node answers again", "node", n.Name)
	}
}

// ping says whether the agent answered; a refusal is an answer too. err is why not.
func (w *watch) ping(ctx context.Context, n core.Node) (answered bool, err error) {
	a, err := w.agents.Agent(n)
	if err != nil {
		return false, err
	}
	ctx, cancel := context.WithTimeout(ctx, w.Timeout)
	defer cancel()
	_, err = a.Hostname(ctx)
	return err == nil || core.KindOf(err) != core.Unavailable, err
}

// stateOf is a node's state as far as the watch knows.
func (w *watch) stateOf(id core.NodeID) (core.NodeState, bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for i := range w.nodes {
		if w.nodes[i].ID == id {
			return w.nodes[i].State, true
		}
	}
	return "", false
}

// setState stores that a running node is unreachable, or the other way round, and nothing else.
func (w *watch) setState(ctx context.Context, id core.NodeID, want core.NodeState) error {
	var now core.Node
	err := w.store.Update(ctx, func(tx core.Tx) error {
		n, err := tx.Node(id)
		if err != nil {
			return err
		}
		now = n
		if n.State == want || n.State != core.NodeRunning && n.State != core.NodeUnreachable {
			return nil
		}
		n.State = want
		if seen := w.seen(id); !seen.IsZero() {
			n.SeenAt = seen.UTC()
		}
		now = n
		return tx.PutNode(&n)
	})
	if err != nil {
		return err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for i := range w.nodes {
		if w.nodes[i].ID == id {
			w.nodes[i].State = now.State
		}
	}
	return nil
}

func (w *watch) seen(id core.NodeID) time.Time {
	w.mu.Lock()
	defer w.mu.Unlock()
	if h := w.health[id]; h != nil {
		return h.seen
	}
	return time.Time{}
}

// saveSeen writes the SeenAt that got old, a hundred nodes per transaction.
func (w *watch) saveSeen(ctx context.Context) error {
	w.mu.Lock()
	var old []core.NodeID
	for _, n := range w.nodes {
		if h := w.health[n.ID]; h.seen.Sub(h.saved) >= w.SaveSeen {
			old = append(old, n.ID)
		}
	}
	w.mu.Unlock()
	for ids := range slices.Chunk(old, 100) {
		err := w.store.Update(ctx, func(tx core.Tx) error {
			for _, id := range ids {
				n, err := tx.Node(id)
				if core.KindOf(err) == core.NotFound {
					continue
				}
				if err != nil {
					return err
				}
				n.SeenAt = w.seen(id).UTC()
				if err := tx.PutNode(&n); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
		w.mu.Lock()
		for _, id := range ids {
			if h := w.health[id]; h != nil {
				h.saved = h.seen
			}
		}
		w.mu.Unlock()
	}
	return nil
}
