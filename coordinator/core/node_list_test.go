package core_test

import (
	"context"
	"strings"
	"testing"

	"github.com/reeve-paas/reeve/coordinator/core"
)

// upkeep runs the upkeep once more, until ok.
func (b *bed) upkeep(what string, ok func() bool) {
	b.Helper()
	ctx, cancel := context.WithCancel(b.Context())
	done := make(chan error)
	go func() { done <- b.Core.Run(ctx) }()
	b.until(what, ok)
	cancel()
	b.must(<-done)
}

// shown is the state of a node as callers see it, "" when it is not listed.
func (b *bed) shown(name string) core.CloudNodeState {
	b.Helper()
	all, err := b.Nodes(b.Context(), b.alice, "mem")
	b.must(err)
	for _, n := range all {
		if n.Name == name {
			return n.State
		}
	}
	return ""
}

// named is a node that Orchestrator users were given.
func (b *bed) named(name string) core.Node {
	b.Helper()
	for _, n := range b.nodes(core.NodeFilter{}) {
		if n.Name == name {
			return n
		}
	}
	return core.Node{}
}

func TestNodesAreShownAsWeKnowThem(t *testing.T) {
	t.Parallel()
	b, _ := started(t, false)
	for state, want := range map[core.NodeState]core.CloudNodeState{
		core.NodeRunning: core.CloudRunning, core.NodeBooting: core.CloudPending, core.NodeUnreachable: core.CloudUnknown,
		core.NodeFailed: core.CloudError, core.NodeStopping: core.CloudStopping,
	} {
		n := b.named("one")
		n.State = state
		b.must(b.store.Update(t.Context(), func(tx core.Tx) error { return tx.PutNode(&n) }))
		if got := b.shown("one"); got != want {
			t.Errorf("a node that is %s is shown as %q, want %q", state, got, want)
		}
	}
}

func TestANodeThatItsCloudLost(t *testing.T) {
	t.Parallel()
	b, n := started(t, false)
	b.world.mu.Lock()
	kept := b.world.nodes[n.ID]
	delete(b.world.nodes, n.ID)
	b.world.mu.Unlock()
	b.upkeep("the loss to be noted", func() bool { return b.named("one").State == core.NodeFailed })
	if got := b.named("one"); !strings.Contains(got.Error, "does not know this node any more") || b.shown("one") != core.CloudTerminated {
		t.Errorf("got %+v, shown as %s", got, b.shown("one"))
	}
	b.wantPool()
	b.world.mu.Lock()
	b.world.nodes[n.ID] = kept
	b.world.mu.Unlock()
	b.upkeep("the node to be found again", func() bool { return b.named("one").State == core.NodeUnreachable })
	b.must(b.world.DestroyNode(t.Context(), n.ID))
	b.upkeep("the second loss", func() bool { return b.named("one").State == core.NodeFailed })
	for _, other := range []core.Principal{b.bob, anyone} {
		if _, err := b.StopNode(t.Context(), other, "mem", "", "one"); err == nil {
			t.Error("somebody else stopped the node")
		}
	}
	if _, err := b.StopNode(t.Context(), b.alice, "mem", "", "one"); err != nil {
		t.Errorf("stopping what is lost: %v", err)
	}
	if b.shown("one") != "" || b.named("one").ID != "" {
		t.Error("the node is still there")
	}
	if _, err := b.StartNode(t.Context(), b.alice, "mem", node("one")); err != nil {
		t.Errorf("another node of the name: %v", err)
	}
}

func TestACloudThatDoesNotAnswerHasLostNothing(t *testing.T) {
	t.Parallel()
	b, _ := started(t, false)
	b.world.always("Nodes", temporary)
	b.upkeep("the upkeep to be told off", func() bool { return strings.Contains(b.log.String(), "upkeep failed") })
	if got := b.named("one").State; got != core.NodeRunning {
		t.Errorf("got a node that is %s, want it running", got)
	}
}

// TestANodeDestroyedUnderAnAssignment ends at once, not after the patience for agents that do not answer.
func TestANodeDestroyedUnderAnAssignment(t *testing.T) {
	t.Parallel()
	b, n := started(t, true)
	waits, release := b.world.hold("CreateApp")
	done := make(chan error)
	go func() {
		_, err := b.AssignNode(context.WithoutCancel(t.Context()), b.alice, "mem", n.ID, "", "alice", "php")
		done <- err
	}()
	<-waits
	b.must(b.world.DestroyNode(t.Context(), n.ID))
	release()
	if err := <-done; err == nil || !strings.Contains(err.Error(), "does not know this node any more") {
		t.Errorf("got %v, want the reason", err)
	}
	b.until("the end", func() bool { return len(b.unfinished()) == 0 })
	b.upkeep("the loss to be noted", func() bool { return b.named("one").State == core.NodeFailed })
	_, err := b.StopNode(t.Context(), b.alice, "mem", n.ID, "")
	b.must(err)
	b.until("the router that upkeep makes", func() bool { return len(b.unfinished()) == 0 })
	b.wantTraces(0, 0, 0)
}
