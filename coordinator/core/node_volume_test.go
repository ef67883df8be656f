package core_test

import (
	"context"
	"fmt"
	"testing"

	"github.com/reeve-paas/reeve/coordinator/core"
)

// asking is an agent that asks for volumes; every request has a name of its own.
type asking struct {
	*bed
	node core.Node
	last int
}

func (a *asking) change(ref core.VolumeRef, size int64) core.VolumeChange {
	a.last++
	ref.Kind = "mem"
	return core.VolumeChange{VolumeRef: ref, Request: fmt.Sprintf("%s-%d", a.node.ID, a.last), SizeBytes: size}
}

// asks is the agent of a new node.
func (b *bed) asks(name string, app core.AppID, account core.AccountID) *asking {
	b.Helper()
	created, err := b.world.CreateNode(b.Context(), core.NodeSpec{Key: name, Name: name})
	b.must(err)
	n := core.Node{ID: core.NodeID(name), Key: name, AppID: app, AccountID: account, Cloud: "mem", CloudID: created.ID, State: core.NodeRunning, AgentKey: make([]byte, 40)}
	b.must(b.store.Update(b.Context(), func(tx core.Tx) error { return tx.PutNode(&n) }))
	return &asking{bed: b, node: n}
}

var agentCaller = core.Principal{Via: "agent", From: "192.0.2.7", Dialect: "agent"}

func TestAgentsTouchVolumesOfTheirOwnOnly(t *testing.T) {
	b := newBed(t)
	app, other := core.App{ID: "app-1", Name: "shop", AccountID: b.alice.Account.ID, Platform: "php"}, core.App{ID: "app-2", Name: "blog", AccountID: b.alice.Account.ID, Platform: "php"}
	data := core.Volume{ID: "data", AppID: app.ID, Cloud: "mem", CloudID: "v-data", Key: "data"}
	b.must(b.store.Update(b.Context(), func(tx core.Tx) error {
		for _, a := range []*core.App{&app, &other} {
			if err := tx.PutApp(a); err != nil {
				return err
			}
		}
		return tx.PutVolume(&data)
	}))
	_, err := b.world.CreateVolume(b.Context(), "data", 1<<30)
	b.must(err)
	first, second := b.asks("n-1", app.ID, app.AccountID), b.asks("n-2", app.ID, app.AccountID)
	foreign, alone, bobs := b.asks("n-3", other.ID, app.AccountID), b.asks("n-4", "", b.alice.Account.ID), b.asks("n-5", "", b.bob.Account.ID)

	v, err := b.CreateNodeVolume(b.Context(), agentCaller, first.node, first.change(core.VolumeRef{Key: "op-1"}, 1<<30))
	b.must(err)
	again, err := b.CreateNodeVolume(b.Context(), agentCaller, first.node, first.change(core.VolumeRef{Key: "op-1"}, 2<<30))
	if err != nil || again.ID != v.ID || again.SizeBytes != 1<<30 {
		t.Errorf("the same key again: got %+v, %v; want %+v", again, err, v)
	}
	own, err := b.CreateNodeVolume(b.Context(), agentCaller, alone.node, alone.change(core.VolumeRef{Key: "op-1"}, 1<<30))
	if err != nil || own.ID == v.ID {
		t.Errorf("the same key of another node: got %+v, %v", own, err)
	}
	for _, test := range []struct {
		name string
		a    *asking
		ref  core.VolumeRef
		want bool
	}{
		{"its own", first, core.VolumeRef{ID: v.ID}, true},
		{"its own, by the key", first, core.VolumeRef{Key: "op-1"}, true},
		{"its app's", second, core.VolumeRef{ID: v.ID}, true},
		{"its app's, by a key of its own", second, core.VolumeRef{Key: "op-1"}, false},
		{"its app's data, which an operation made", first, core.VolumeRef{ID: "v-data"}, false},
		{"another app's of the same account", foreign, core.VolumeRef{ID: v.ID}, false},
		{"an app's, of a node without one", alone, core.VolumeRef{ID: v.ID}, false},
		{"another account's", bobs, core.VolumeRef{ID: own.ID}, false},
		{"none", first, core.VolumeRef{}, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			before := len(b.world.volumes)
			ref := test.ref
			ref.Kind = "mem"
			_, err := b.NodeVolume(b.Context(), test.a.node, ref)
			if got := err == nil; got != test.want || err != nil && core.KindOf(err) != core.NotFound {
				t.Errorf("got %v, want found: %v", err, test.want)
			}
			if test.want {
				return
			}
			for name, do := range map[string]func() error{
				"attach": func() error {
					_, err := b.AttachNodeVolume(b.Context(), agentCaller, test.a.node, test.a.change(test.ref, 0))
					return err
				},
				"grow": func() error {
					_, err := b.GrowNodeVolume(b.Context(), agentCaller, test.a.node, test.a.change(test.ref, 9<<30))
					return err
				},
				"destroy": func() error {
					_, err := b.DestroyNodeVolume(b.Context(), agentCaller, test.a.node, test.a.change(test.ref, 0))
					return err
				},
			} {
				if err := do(); core.KindOf(err) != core.NotFound || len(b.world.volumes) != before {
					t.Errorf("%s: got %v and %d volumes, want not found and %d", name, err, len(b.world.volumes), before)
				}
			}
		})
	}
}

func TestTheLifeOfAnAgentsVolume(t *testing.T) {
	b := newBed(t)
	a, other := b.asks("n-1", "", b.alice.Account.ID), b.asks("n-2", "", b.alice.Account.ID)
	if got := b.VolumeKind(a.node); got != "mem" {
		t.Errorf("got type %q", got)
	}
	wrong := a.change(core.VolumeRef{Key: "k"}, 1<<30)
	wrong.Kind = "ebs"
	for name, ch := range map[string]core.VolumeChange{
		"another cloud's type": wrong,
		"no key":               a.change(core.VolumeRef{}, 1<<30),
		"no size":              a.change(core.VolumeRef{Key: "k"}, 0),
		"too large":            a.change(core.VolumeRef{Key: "k"}, 17<<40),
		"no name":              {VolumeRef: core.VolumeRef{Kind: "mem", Key: "k"}, SizeBytes: 1 << 30},
	} {
		if _, err := b.CreateNodeVolume(b.Context(), agentCaller, a.node, ch); core.KindOf(err) != core.Invalid || len(b.world.volumes) != 0 {
			t.Errorf("%s: got %v", name, err)
		}
	}
	create := a.change(core.VolumeRef{Key: "k"}, 1<<30)
	v, err := b.CreateNodeVolume(b.Context(), agentCaller, a.node, create)
	b.must(err)
	if _, err := b.CreateNodeVolume(b.Context(), agentCaller, a.node, create); core.KindOf(err) != core.Forbidden {
		t.Errorf("the same request again: got %v, want forbidden", err)
	}
	ref := core.VolumeRef{ID: v.ID}
	v, err = b.AttachNodeVolume(b.Context(), agentCaller, a.node, a.change(ref, 0))
	if err != nil || !v.Here || v.Device == "" {
		t.Errorf("got %+v, %v", v, err)
	}
	if _, err := b.AttachNodeVolume(b.Context(), agentCaller, other.node, other.change(ref, 0)); core.KindOf(err) != core.Forbidden {
		t.Errorf("attached elsewhere: got %v, want forbidden", err)
	}
	if seen, err := b.NodeVolume(b.Context(), other.node, core.VolumeRef{Kind: "mem", ID: v.ID}); err != nil || seen.Here || seen.Device != "" {
		t.Errorf("seen from elsewhere: got %+v, %v", seen, err)
	}
	if v, err = b.GrowNodeVolume(b.Context(), agentCaller, a.node, a.change(ref, 2<<30)); err != nil || v.SizeBytes != 2<<30 {
		t.Errorf("got %+v, %v", v, err)
	}
	// A coordinator that is killed while it destroys ends so: the volume is gone and its row is not.
	b.world.mu.Lock()
	delete(b.world.volumes, v.ID)
	b.world.mu.Unlock()
	_, err = b.DestroyNodeVolume(b.Context(), agentCaller, a.node, a.change(ref, 0))
	b.must(err)
	b.must(b.store.View(b.Context(), func(r core.Reader) error {
		rows, err := r.VolumesMade("mem")
		if len(rows) > 0 {
			t.Errorf("got rows %+v after the volume was destroyed", rows)
		}
		return err
	}))
	for i := range 33 {
		_, err = b.CreateNodeVolume(b.Context(), agentCaller, a.node, a.change(core.VolumeRef{Key: fmt.Sprint("k-", i)}, 1<<30))
	}
	if core.KindOf(err) != core.Quota || len(b.world.volumes) != 32 {
		t.Errorf("the 33rd: got %v and %d volumes, want quota and 32", err, len(b.world.volumes))
	}
}

// An agent that is killed while it asks takes back what it asked for when it is started again. It must not overtake itself: what is
// being made is made, and then found.
func TestAKilledAgentsRequestEndsBeforeItIsTakenBack(t *testing.T) {
	b := newBed(t)
	a := b.asks("n", "", b.alice.Account.ID)
	ref := core.VolumeRef{Key: "k"}
	create, early, late := a.change(ref, 1<<30), a.change(ref, 0), a.change(ref, 0)
	making, release := b.world.hold("CreateVolume")
	asked, kill := context.WithCancel(b.Context())
	made := make(chan error)
	go func() {
		_, err := b.CreateNodeVolume(asked, agentCaller, a.node, create)
		made <- err
	}()
	<-making
	kill()
	if _, err := b.DestroyNodeVolume(asked, agentCaller, a.node, early); core.KindOf(err) != core.Unavailable {
		t.Errorf("while it is being made: got %v, want to wait", err)
	}
	release()
	if err := <-made; err != nil || len(b.world.volumes) != 1 {
		t.Errorf("got %v and %d volumes, want what was begun", err, len(b.world.volumes))
	}
	_, err := b.DestroyNodeVolume(b.Context(), agentCaller, a.node, late)
	if err != nil || len(b.world.volumes) > 0 {
		t.Errorf("got %v and %d volumes", err, len(b.world.volumes))
	}
	if _, err := b.NodeVolume(b.Context(), a.node, core.VolumeRef{Kind: "mem", Key: "k"}); core.KindOf(err) != core.NotFound {
		t.Errorf("its row: got %v", err)
	}
}

// A cloud that made the volume, and whose answer was lost, has made one: the next try under the key finds it.
func TestAVolumeWhoseAnswerWasLostIsFound(t *testing.T) {
	b := newBed(t)
	a := b.asks("n", "", b.alice.Account.ID)
	b.world.arm(nil)
	b.world.mu.Lock()
	b.world.loses = map[int]error{1: core.Errorf(core.Unavailable, core.ObjVolume, "no answer")}
	b.world.mu.Unlock()
	if _, err := b.CreateNodeVolume(b.Context(), agentCaller, a.node, a.change(core.VolumeRef{Key: "k"}, 1<<30)); core.KindOf(err) != core.Unavailable {
		t.Fatalf("got %v, want unavailable", err)
	}
	v, err := b.NodeVolume(b.Context(), a.node, core.VolumeRef{Kind: "mem", Key: "k"})
	if err != nil || v.SizeBytes != 1<<30 {
		t.Errorf("by its key: got %+v, %v", v, err)
	}
	_, err = b.DestroyNodeVolume(b.Context(), agentCaller, a.node, a.change(core.VolumeRef{Key: "k"}, 0))
	if err != nil || len(b.world.volumes) > 0 {
		t.Errorf("got %v and %d volumes", err, len(b.world.volumes))
	}
}

func TestSnapshotsOfAgents(t *testing.T) {
	b := newBed(t)
	app := core.App{ID: "app-1", Name: "shop", AccountID: b.alice.Account.ID, Platform: "php"}
	b.must(b.store.Update(b.Context(), func(tx core.Tx) error { return tx.PutApp(&app) }))
	first, second, alone := b.asks("n-1", app.ID, app.AccountID), b.asks("n-2", app.ID, app.AccountID), b.asks("n-3", "", app.AccountID)
	v, err := b.CreateNodeVolume(b.Context(), agentCaller, first.node, first.change(core.VolumeRef{Key: "v"}, 1<<30))
	b.must(err)
	take := func(a *asking, key string) (core.CloudSnapshot, error) {
		ch := a.change(core.VolumeRef{ID: v.ID}, 0)
		ch.SnapshotKey = key
		return b.SnapshotNodeVolume(b.Context(), agentCaller, a.node, ch)
	}
	s, err := take(first, "s")
	if err != nil || s.SizeBytes != 1<<30 {
		t.Fatalf("got %+v, %v", s, err)
	}
	if again, err := take(first, "s"); err != nil || again.ID != s.ID {
		t.Errorf("the same key: got %+v, %v, want %s", again, err, s.ID)
	}
	if _, err := take(first, ""); core.KindOf(err) != core.Invalid {
		t.Errorf("no key: got %v", err)
	}
	if _, err := take(alone, "s"); core.KindOf(err) != core.NotFound {
		t.Errorf("another's volume: got %v", err)
	}
	restore := func(a *asking, key, id string) (core.NodeVolume, error) {
		ch := a.change(core.VolumeRef{Key: key}, 0)
		ch.SnapshotID = id
		return b.CreateNodeVolume(b.Context(), agentCaller, a.node, ch)
	}
	if restored, err := restore(second, "r", s.ID); err != nil || restored.SizeBytes != 1<<30 || restored.ID == v.ID {
		t.Errorf("another node of the app: got %+v, %v", restored, err)
	}
	drop := func(a *asking, id, key string) error {
		ch := a.change(core.VolumeRef{}, 0)
		ch.SnapshotID, ch.SnapshotKey = id, key
		return b.DestroyNodeSnapshot(b.Context(), agentCaller, a.node, ch)
	}
	if _, err := restore(alone, "r", s.ID); core.KindOf(err) != core.Invalid {
		t.Errorf("a node of no app: got %v", err)
	}
	b.must(drop(alone, s.ID, ""))
	b.must(drop(second, "", "s")) // a key is its node's own
	b.must(drop(second, "", ""))
	if len(b.world.copies) != 1 {
		t.Fatalf("got %d snapshots, want that nobody else destroys it", len(b.world.copies))
	}
	b.must(drop(first, "", "s"))
	b.must(drop(first, "", "s"))
	if len(b.world.copies) != 0 {
		t.Errorf("got %d snapshots, want none", len(b.world.copies))
	}
}
