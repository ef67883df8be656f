package core_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/reeve-paas/reeve/coordinator/core"
)

var anyone = core.Principal{Via: "anonymous", From: "192.0.2.7", Dialect: "test"}

func node(name string) core.NodeSpec {
	return core.NodeSpec{Name: name, ImageID: "image-1", SizeID: "s", Metadata: map[string]string{"color": "red"}}
}

func (b *bed) pool() (names []string) {
	b.Helper()
	rows, err := b.Allocations(b.Context(), b.alice, "mem")
	b.must(err)
	for _, a := range rows {
		names = append(names, a.Hostname+" "+a.User)
	}
	return names
}

func (b *bed) wantPool(want ...string) {
	b.Helper()
	if got := b.pool(); fmt.Sprint(got) != fmt.Sprint(want) {
		b.Errorf("got the pool %q, want %q", got, want)
	}
}

// inMemory is a bed whose cloud keeps nothing.
func inMemory(t *testing.T) *bed {
	b := newBed(t)
	b.world.info = core.CloudInfo{Type: "dummy", InMemory: true, Anonymous: true}
	return b
}

func TestNodesOfACloudInMemory(t *testing.T) {
	t.Parallel()
	b := inMemory(t)
	n, err := b.StartNode(t.Context(), anyone, "default", node("one"))
	b.must(err)
	b.wantPool("one ")
	if len(b.nodes(core.NodeFilter{}))+len(b.operations(core.OperationFilter{})) > 0 {
		t.Error("something about the node was stored")
	}
	_, err = b.AssignNode(t.Context(), anyone, "mem", n.ID, "", "user", "php")
	b.must(err)
	b.wantPool("one user")
	_, err = b.AssignNode(t.Context(), anyone, "mem", "", "one", "other", "php")
	b.wantKind(err, core.Busy)
	a, _, err := b.ReleaseNode(t.Context(), anyone, "mem", n.ID, "")
	if err != nil || a.User != "" || a.NodeID != n.ID {
		t.Errorf("got %+v, %v, want the node released", a, err)
	}
	b.wantPool()
	if nodes, _ := b.world.Nodes(t.Context()); len(nodes) > 0 {
		t.Errorf("got the nodes %v after the release, want none", nodes)
	}
	_, err = b.StopNode(t.Context(), anyone, "mem", n.ID, "")
	b.wantKind(err, core.NotFound)
	_, _, err = b.ReleaseNode(t.Context(), anyone, "mem", n.ID, "")
	b.wantKind(err, core.NotFound)
	_, err = b.AssignNode(t.Context(), anyone, "mem", "nothing", "", "user", "php")
	b.wantKind(err, core.NotFound)
	b.wantAudit("node.create accepted", "node.assign accepted", "node.assign busy", "node.release accepted",
		"node.destroy not_found", "node.release not_found", "node.assign not_found")
}

func TestAllocationsOfVanishedNodesAreLeftOut(t *testing.T) {
	t.Parallel()
	b := inMemory(t)
	_, err := b.StartNode(t.Context(), anyone, "mem", node("one"))
	b.must(err)
	gone, err := b.StartNode(t.Context(), anyone, "mem", node("two"))
	b.must(err)
	b.must(b.world.DestroyNode(t.Context(), gone.ID)) // as by a restart
	b.wantPool("one ")
	_, err = b.AssignNode(t.Context(), anyone, "mem", gone.ID, "", "user", "php")
	b.wantKind(err, core.NotFound)
	b.world.always("Nodes", temporary)
	_, err = b.Allocations(t.Context(), anyone, "mem")
	b.wantKind(err, core.Unavailable) // never an empty pool
}

func TestOneNodeForManyAtOnceIsAssignedOnce(t *testing.T) {
	t.Parallel()
	b := inMemory(t)
	n, err := b.StartNode(t.Context(), anyone, "mem", node("one"))
	b.must(err)
	var wg sync.WaitGroup
	errs := make([]error, 10)
	for i := range errs {
		wg.Go(func() { _, errs[i] = b.AssignNode(t.Context(), anyone, "mem", n.ID, "", fmt.Sprint("user", i), "php") })
	}
	wg.Wait()
	won := 0
	for _, err := range errs {
		if err == nil {
			won++
		} else {
			b.wantKind(err, core.Busy)
		}
	}
	if won != 1 {
		t.Errorf("got %d assignments, want 1", won)
	}
}

func TestNodesOfAStoredCloud(t *testing.T) {
	t.Parallel()
	b := newBed(t).work()
	_, err := b.StartNode(t.Context(), anyone, "mem", node("one"))
	b.wantKind(err, core.Unauthenticated)
	n, err := b.StartNode(t.Context(), b.alice, "default", node("one"))
	b.must(err)
	b.wantPool("one ")
	b.until("the node's agent", func() bool { return len(b.unfinished()) == 0 })
	stored := b.nodes(core.NodeFilter{})
	if len(stored) != 1 || stored[0].State != core.NodeRunning || stored[0].AccountID != b.alice.Account.ID || stored[0].CloudID != n.ID {
		t.Errorf("got the nodes %+v, want alice's, running", stored)
	}
	_, err = b.StartNode(t.Context(), b.alice, "mem", node("one"))
	b.wantKind(err, core.Exists)

	for name, try := range map[string]func(core.Principal) error{
		"StopNode": func(p core.Principal) error { _, err := b.StopNode(t.Context(), p, "mem", n.ID, ""); return err },
		"AssignNode": func(p core.Principal) error {
			_, err := b.AssignNode(t.Context(), p, "mem", n.ID, "", "x", "php")
			return err
		},
		"ReleaseNode": func(p core.Principal) error { _, _, err := b.ReleaseNode(t.Context(), p, "mem", n.ID, ""); return err },
	} {
		if err := try(b.bob); core.KindOf(err) != core.Forbidden {
			t.Errorf("%s of another's node: got %v, want forbidden", name, err)
		}
		if err := try(anyone); core.KindOf(err) != core.Unauthenticated {
			t.Errorf("%s by nobody: got %v, want unauthenticated", name, err)
		}
	}
	_, err = b.AssignNode(t.Context(), b.alice, "mem", "", "one", "user", "php")
	b.must(err)
	_, _, err = b.ReleaseNode(t.Context(), b.bob, "mem", "", "one")
	b.wantKind(err, core.Forbidden)
	b.wantPool("one user") // a refusal changes nothing
	_, _, err = b.ReleaseNode(t.Context(), b.alice, "mem", "", "one")
	b.must(err)
	b.wantPool()
	b.wantTraces(0, 0, 0)
	if len(b.nodes(core.NodeFilter{})) > 0 {
		t.Error("the node is still stored")
	}
	_, err = b.StopNode(t.Context(), b.alice, "mem", n.ID, "")
	b.wantKind(err, core.NotFound)
	for _, r := range b.store.rows {
		if r.Outcome == "accepted" && strings.HasPrefix(r.Action, "node.") && r.Action != "node.assign" && r.OperationID == "" {
			t.Errorf("got the audit record %+v without its operation", r)
		}
	}
}

func TestANodeIsStoppedWhileItBoots(t *testing.T) {
	t.Parallel()
	b := newBed(t).work()
	waits, release := b.world.hold("Hostname")
	n, err := b.StartNode(t.Context(), b.alice, "mem", node("one"))
	b.must(err)
	<-waits
	var wg sync.WaitGroup
	errs := make([]error, 2)
	for i := range errs { // and twice at once
		wg.Go(func() { _, errs[i] = b.StopNode(t.Context(), b.alice, "mem", n.ID, "") })
	}
	b.until("both requests", func() bool { return len(b.operations(core.OperationFilter{})) == 3 })
	release()
	wg.Wait()
	b.must(errs[0])
	b.must(errs[1])
	b.until("the end", func() bool { return len(b.unfinished()) == 0 })
	b.wantTraces(0, 0, 0)
	b.wantPool()
}

func TestANodeThatCannotBeMadeTellsWhy(t *testing.T) {
	t.Parallel()
	b := newBed(t).work()
	b.world.always("MountVolume", permanent)
	_, ops := b.create(core.AppSpec{Name: "x", Type: "phpmysql", SizeID: "s", LocationID: "here", Months: 1, Password: password})
	b.ends(ops...) // a newer failure of somebody else's, not to be told
	b.world.always("CreateNode", core.Wrap(core.Quota, core.ObjNode, fmt.Errorf("/secret/path"), "no room"))
	_, err := b.StartNode(t.Context(), b.bob, "mem", node("one"))
	b.wantKind(err, core.Unavailable)
	if text := err.Error(); !strings.HasSuffix(text, "create the node: no room") {
		t.Errorf("got %q, want the reason in words for callers", text)
	}
	b.wantPool()
	if nodes := b.nodes(core.NodeFilter{Account: b.bob.Account.ID}); len(nodes) > 0 {
		t.Errorf("got %+v left, want nothing", nodes)
	}
}

func TestACallerThatGoesAwayLeavesItsNodeInThePool(t *testing.T) {
	t.Parallel()
	b := newBed(t).work()
	waits, release := b.world.hold("CreateNode")
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { _, err := b.StartNode(ctx, b.alice, "mem", node("one")); done <- err }()
	<-waits
	cancel()
	b.wantKind(<-done, core.Unavailable)
	release()
	b.until("the node", func() bool { return len(b.unfinished()) == 0 })
	b.wantPool("one ")
}

func TestWhatNoNodeIsMadeOf(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	for name, tc := range map[string]struct {
		cloud  string
		change func(*core.NodeSpec)
		want   core.Kind
		object core.Object
	}{
		"an unknown cloud":     {"cumulus", func(*core.NodeSpec) {}, core.NotFound, core.ObjCloud},
		"an unknown image":     {"mem", func(s *core.NodeSpec) { s.ImageID = "x" }, core.NotFound, core.ObjImage},
		"an unknown size":      {"mem", func(s *core.NodeSpec) { s.SizeID = "x" }, core.NotFound, core.ObjSize},
		"no name":              {"mem", func(s *core.NodeSpec) { s.Name = "" }, core.Invalid, core.ObjNode},
		"a name like a path":   {"mem", func(s *core.NodeSpec) { s.Name = "../x" }, core.Invalid, core.ObjNode},
		"a name with a line":   {"mem", func(s *core.NodeSpec) { s.Name = "x\n" }, core.Invalid, core.ObjNode},
		"a name like a flag":   {"mem", func(s *core.NodeSpec) { s.Name = "-x" }, core.Invalid, core.ObjNode},
		"a name of 64":         {"mem", func(s *core.NodeSpec) { s.Name = strings.Repeat("x", 64) }, core.Invalid, core.ObjNode},
		"a name in upper case": {"mem", func(s *core.NodeSpec) { s.Name = "X" }, core.Invalid, core.ObjNode},
	} {
		s := node("one")
		tc.change(&s)
		_, err := b.StartNode(t.Context(), b.alice, tc.cloud, s)
		if e, ok := err.(*core.Error); !ok || e.Kind != tc.want || e.Object != tc.object {
			t.Errorf("%s: got %v, want %s of %s", name, err, tc.want, tc.object)
		}
	}
	if len(b.nodes(core.NodeFilter{})) > 0 {
		t.Error("got a node nevertheless")
	}
}

func TestNodesOfAppsAndRoutersAreNotStopped(t *testing.T) {
	t.Parallel()
	b := newBed(t).work()
	router := b.router()
	app, ops := b.create(spec())
	b.ends(ops...)
	app, err := b.App(t.Context(), b.alice, app.Num)
	b.must(err)
	admin := b.account("root")
	admin.Account.Admin = true
	stray, err := b.world.CreateNode(t.Context(), core.NodeSpec{Name: "stray"}) // without a key, not ours
	b.must(err)
	for _, p := range []core.Principal{b.alice, admin} {
		for id, want := range map[string]core.Kind{app.Nodes[0].CloudID: core.Busy, router.CloudID: core.Busy, stray.ID: core.NotFound} {
			_, err := b.StopNode(t.Context(), p, "mem", id, "")
			b.wantKind(err, want)
		}
	}
	if nodes, _ := b.world.Nodes(t.Context()); len(nodes) != 3 || len(b.nodes(core.NodeFilter{})) != 2 {
		t.Errorf("got %d nodes on the cloud, want all three", len(nodes))
	}
}

func TestPoolsInMemoryEndWithTheProcess(t *testing.T) {
	t.Parallel()
	b := inMemory(t)
	_, err := b.StartNode(t.Context(), anyone, "mem", node("one"))
	b.must(err)
	b.must(b.ForgetPools(t.Context()))
	b.wantPool()
}
