package core_test

import (
	"context"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/reeve-paas/reeve/coordinator/core"
)

func TestThereIsOneRouter(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	var wg sync.WaitGroup
	for range 10 {
		wg.Go(func() {
			if err := b.EnsureRouter(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if nodes, ops := b.nodes(core.NodeFilter{}), b.operations(core.OperationFilter{}); len(nodes) != 1 || len(ops) != 1 {
		t.Fatalf("got %d nodes and %d operations, want one of each", len(nodes), len(ops))
	}
	b.work()
	router := b.router()
	b.world.mu.Lock()
	defer b.world.mu.Unlock()
	if h := b.world.hosts[router.Address]; !h.router || !h.started["nginx"] || router.AccountID != "" {
		t.Errorf("got the router %+v on the host %+v", router, h)
	}
}

func TestARouterThatFailsIsTriedAgainAfterPauses(t *testing.T) {
	t.Parallel()
	var later atomic.Int64 // how far the clock is ahead
	b := newBed(t, func(o *core.Options) {
		o.Clock = func() time.Time { return time.Now().Add(time.Duration(later.Load())) }
	}).work()
	attempts := func() int {
		b.must(b.EnsureRouter(t.Context()))
		b.until("the end of the attempt", func() bool { return len(b.unfinished()) == 0 })
		return len(b.operations(core.OperationFilter{}))
	}
	b.world.always("PrepareRouter", permanent)
	for i, pause := range []time.Duration{0, 15 * time.Second, 30 * time.Second, time.Minute} {
		later.Add(int64(pause))
		if got := attempts(); got != i+1 {
			t.Fatalf("got %d attempts after the pause %d, want %d", got, i, i+1)
		}
		if got := attempts(); got != i+1 {
			t.Errorf("got %d attempts at once, want %d", got, i+1)
		}
		b.wantTraces(0, 0, 0)
		if nodes, rows := len(b.world.nodes), b.nodes(core.NodeFilter{}); nodes+len(rows) > 0 {
			t.Errorf("got %d nodes and %d rows piled up", nodes, len(rows))
		}
	}
	b.world.always("PrepareRouter", nil)
	later.Add(int64(30 * time.Minute)) // never longer than that
	b.router()
	b.must(b.EnsureRouter(t.Context()))
	if got := len(b.operations(core.OperationFilter{})); got != 5 {
		t.Errorf("got %d operations, want 5", got)
	}
}

func TestWhatAFailedRouterLeftIsDestroyedBeforeTheNext(t *testing.T) {
	t.Parallel()
	var later atomic.Int64
	b := newBed(t, func(o *core.Options) {
		o.Clock = func() time.Time { return time.Now().Add(time.Duration(later.Load())) }
	}).work()
	b.world.always("PrepareRouter", permanent)
	b.world.always("DestroyNode", permanent)
	b.must(b.EnsureRouter(t.Context()))
	b.until("the failure", func() bool { return len(b.unfinished()) == 0 })
	if rows := b.nodes(core.NodeFilter{}); len(rows) != 1 || rows[0].State == core.NodeRunning {
		t.Fatalf("got the nodes %+v, want one that does not serve", rows)
	}
	b.world.always("PrepareRouter", nil)
	b.world.always("DestroyNode", nil)
	later.Add(int64(time.Hour))
	b.must(b.EnsureRouter(t.Context()))
	b.until("the destruction", func() bool { return len(b.unfinished()) == 0 })
	if rows := b.nodes(core.NodeFilter{}); len(rows)+len(b.world.nodes) > 0 {
		t.Fatalf("got %+v left, want nothing", rows)
	}
	later.Add(int64(time.Hour))
	b.router()
}

func TestUpkeepStartsWhatStopped(t *testing.T) {
	t.Parallel()
	b := newBed(t).work()
	router := b.router()
	app, ops := b.create(spec())
	b.ends(ops...)
	app, err := b.App(t.Context(), b.alice, app.Num)
	b.must(err)
	for _, id := range []string{router.CloudID, app.Nodes[0].CloudID} {
		b.must(b.world.StopNode(t.Context(), id))
	}
	stray, err := b.world.CreateNode(t.Context(), core.NodeSpec{Name: "stray"})
	b.must(err)
	b.must(b.world.StopNode(t.Context(), stray.ID))
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- b.Core.Run(ctx) }()
	state := func(id string) core.CloudNodeState {
		n, err := b.world.Node(t.Context(), id)
		b.must(err)
		return n.State
	}
	b.until("the nodes to run again", func() bool {
		return state(router.CloudID) == core.CloudRunning && state(app.Nodes[0].CloudID) == core.CloudRunning
	})
	cancel()
	b.must(<-done)
	if got := state(stray.ID); got != core.CloudStopped {
		t.Errorf("got a node of somebody else %s, want it left stopped", got)
	}
}
