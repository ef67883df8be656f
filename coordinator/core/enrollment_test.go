package core_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/reeve-paas/reeve/agent/agentapi"
	"github.com/reeve-paas/reeve/coordinator/core"
	"github.com/reeve-paas/reeve/coordinator/operation"
)

// Adopt makes the world a cloud that takes in machines. A machine's host is there when somebody put it there.
func (w *world) Adopt(ctx context.Context, s core.NodeSpec, address string) (n core.CloudNode, err error) {
	err = w.act(ctx, "Adopt", func() error {
		if old := w.nodes[s.Name]; old != nil && old.Key != s.Key {
			return core.Errorf(core.Exists, core.ObjNode, "another machine has this name")
		}
		n = core.CloudNode{ID: s.Name, Name: s.Name, Key: s.Key, State: core.CloudRunning, PrivateIPs: []string{address}, PublicIPs: []string{}}
		w.nodes[n.ID] = &n
		return nil
	})
	return n, err
}

// plug puts a machine with an agent at an address.
func (w *world) plug(address string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.hosts[address] = &host{databases: map[string]bool{}, users: map[string]string{}, apps: map[string]agentapi.CreateAppParams{},
		vhosts: map[string]string{}, proxies: map[string]string{}, enabled: map[string]bool{}, started: map[string]bool{}}
}

func static(t *testing.T) *bed {
	b := newBed(t)
	b.world.info.Permanent = true
	return b
}

func TestATokenEnrolsOneMachine(t *testing.T) {
	t.Parallel()
	b := static(t).work()
	token, err := b.NewEnrollment(t.Context(), b.alice, "default", "web-1", time.Minute)
	b.must(err)
	if strings.Contains(fmt.Sprint(token), "enroll-") {
		t.Error("the token prints itself")
	}
	b.world.plug("192.0.2.9")
	n, err := b.Redeem(t.Context(), anyone, string(token), "192.0.2.9")
	b.must(err)
	if n.Name != "web-1" || len(n.AgentKey) != 40 || n.AccountID != b.alice.Account.ID {
		t.Errorf("got %+v", n)
	}
	_, err = b.Redeem(t.Context(), anyone, string(token), "192.0.2.9")
	b.wantKind(err, core.Unauthenticated)
	b.until("the machine to be taken in", func() bool { return len(b.unfinished()) == 0 })
	if got := b.named("web-1"); got.State != core.NodeRunning || got.Address != "192.0.2.9" || got.CloudID != "web-1" {
		t.Errorf("got %+v", got)
	}
	b.wantPool("web-1 ")
	_, err = b.StopNode(t.Context(), b.alice, "mem", "web-1", "")
	b.must(err)
	if b.named("web-1").ID != "" {
		t.Error("the node is still stored")
	}
}

func TestATokenIsRedeemedByOneOfMany(t *testing.T) {
	t.Parallel()
	b := static(t)
	token, err := b.NewEnrollment(t.Context(), b.alice, "mem", "web-1", time.Minute)
	b.must(err)
	errs := make([]error, 10)
	var wg sync.WaitGroup
	for i := range errs {
		wg.Go(func() { _, errs[i] = b.Redeem(t.Context(), anyone, string(token), "192.0.2.9") })
	}
	wg.Wait()
	won := 0
	for _, err := range errs {
		if err == nil {
			won++
		} else {
			b.wantKind(err, core.Unauthenticated)
		}
	}
	if nodes := b.nodes(core.NodeFilter{}); won != 1 || len(nodes) != 1 {
		t.Errorf("got %d redeemed and %d nodes, want 1", won, len(nodes))
	}
}

func TestTokensThatAreRefused(t *testing.T) {
	t.Parallel()
	now := time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)
	b := newBed(t, func(o *core.Options) { o.Clock = func() time.Time { return now } })
	b.world.info.Permanent = true
	for name, tc := range map[string]struct {
		p     core.Principal
		cloud string
		node  string
		ttl   time.Duration
		want  core.Kind
	}{
		"nobody's":         {anyone, "mem", "x", time.Minute, core.Unauthenticated},
		"an unknown cloud": {b.alice, "cumulus", "x", time.Minute, core.NotFound},
		"a bad name":       {b.alice, "mem", "X y", time.Minute, core.Invalid},
		"no time":          {b.alice, "mem", "x", 0, core.Invalid},
		"too much time":    {b.alice, "mem", "x", 25 * time.Hour, core.Invalid},
	} {
		_, err := b.NewEnrollment(t.Context(), tc.p, tc.cloud, tc.node, tc.ttl)
		if core.KindOf(err) != tc.want {
			t.Errorf("%s: got %v, want %s", name, err, tc.want)
		}
	}
	token, err := b.NewEnrollment(t.Context(), b.alice, "mem", "x", time.Minute)
	b.must(err)
	for _, address := range []string{"", "a b", "http://x"} {
		_, err := b.Redeem(t.Context(), anyone, string(token), address)
		b.wantKind(err, core.Invalid)
	}
	now = now.Add(time.Minute)
	for _, bad := range []string{string(token), "", "enroll-x"} {
		_, err := b.Redeem(t.Context(), anyone, bad, "192.0.2.9")
		b.wantKind(err, core.Unauthenticated)
	}
	if len(b.nodes(core.NodeFilter{})) > 0 {
		t.Error("got a node nevertheless")
	}
}

// TestAMachineThatIsNotReachedIsForgotten cancels the waiting for its agent.
func TestAMachineThatIsNotReachedIsForgotten(t *testing.T) {
	t.Parallel()
	b := static(t).work()
	token, err := b.NewEnrollment(t.Context(), b.alice, "mem", "web-1", time.Minute)
	b.must(err)
	n, err := b.Redeem(t.Context(), anyone, string(token), "192.0.2.9") // nobody is there
	b.must(err)
	b.until("the machine to be adopted", func() bool { return b.named("web-1").CloudID != "" })
	b.must(b.store.Update(t.Context(), func(tx core.Tx) error { _, err := tx.RequestCancel(string(n.ID), ""); return err }))
	b.until("the end", func() bool { return len(b.unfinished()) == 0 })
	ops := b.operations(core.OperationFilter{Subject: string(n.ID)})
	b.wantStatuses(ops, operation.StatusCanceled)
	if all, _ := b.world.Nodes(t.Context()); len(all) > 0 || len(b.nodes(core.NodeFilter{})) > 0 {
		t.Errorf("got %v left on the cloud", all)
	}
	b.wantPool()
}

func TestEnrollingWhileTheCallerWaits(t *testing.T) {
	t.Parallel()
	b := static(t)
	create := func(ctx context.Context, s core.NodeSpec) (core.CloudNode, error) { return b.world.CreateNode(ctx, s) }
	n, err := b.EnrollNode(t.Context(), b.alice, "mem", "web-1", create)
	if err != nil || n.State != core.NodeRunning || n.Num == 0 {
		t.Fatalf("got %+v, %v", n, err)
	}
	b.wantPool("web-1 ")
	again, err := b.EnrollNode(t.Context(), b.alice, "mem", "web-1", create)
	if err != nil || again.ID != n.ID {
		t.Errorf("again: got %+v, %v", again, err)
	}
	for name, fail := range map[string]func(){
		"an installation that breaks":        func() { b.world.always("CreateNode", permanent) },
		"an agent that refuses our key":      func() { b.world.always("Hostname", core.Errorf(core.Invalid, core.ObjNode, "no")) },
		"a store that is gone in the middle": func() { b.world.always("CreateNode", errors.New("boom")) },
	} {
		fail()
		if _, err := b.EnrollNode(t.Context(), b.alice, "mem", "web-2", create); err == nil {
			t.Errorf("%s: got no failure", name)
		}
		b.world.always("CreateNode", nil)
		b.world.always("Hostname", nil)
		if all, _ := b.world.Nodes(t.Context()); len(all) != 1 {
			t.Errorf("%s: got %d machines taken, want the first only", name, len(all))
		}
	}
	if _, err := b.EnrollNode(t.Context(), b.alice, "mem", "web-2", create); err != nil {
		t.Errorf("the next try: %v", err)
	}
}

func TestAnAgentThatRunsIsTakenIn(t *testing.T) {
	t.Parallel()
	b := static(t)
	key := []byte(strings.Repeat("k", 40))
	_, err := b.AdoptAgent(t.Context(), b.alice, "mem", "old-1", "192.0.2.7", key)
	b.wantKind(err, core.Unavailable)
	b.world.plug("192.0.2.7")
	n, err := b.AdoptAgent(t.Context(), b.alice, "mem", "old-1", "192.0.2.7", key)
	if err != nil || string(n.AgentKey) != string(key) {
		t.Fatalf("got %+v, %v", n, err)
	}
	b.wantPool("old-1 ")
	_, err = b.AdoptAgent(t.Context(), b.alice, "mem", "old-1", "192.0.2.7", key)
	b.wantKind(err, core.Exists)
	_, err = b.ForgetNode(t.Context(), b.bob, "mem", "old-1")
	b.wantKind(err, core.Forbidden)
	_, err = b.ForgetNode(t.Context(), b.alice, "mem", "old-1")
	b.must(err)
	_, err = b.ForgetNode(t.Context(), b.alice, "mem", "old-1")
	b.wantKind(err, core.NotFound)
	if len(b.nodes(core.NodeFilter{})) > 0 {
		t.Error("the node is still stored")
	}
}
