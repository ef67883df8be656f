package core_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/reeve-paas/reeve/agent/agentapi"
	"github.com/reeve-paas/reeve/coordinator/core"
	"github.com/reeve-paas/reeve/coordinator/operation"
)

// shared puts an app that shares nodes into the store, with one name.
func (b *bed) shared(name string) core.App {
	b.Helper()
	app := core.App{ID: core.AppID("app-" + name), AccountID: b.alice.Account.ID, Name: name, Platform: "python", Cloud: "mem", State: core.AppRunning,
		Placement: core.PlacementShared}
	route := core.Route{AppID: app.ID, Hostname: name + ".hosted.test", State: core.RouteRunning, Generated: true}
	b.must(b.store.Update(b.Context(), func(tx core.Tx) error {
		app.Num, route.Num = 0, 0
		if err := tx.PutApp(&app); err != nil {
			return err
		}
		return tx.PutRoute(&route)
	}))
	return b.app(app.ID)
}

func (b *bed) app(id core.AppID) core.App {
	b.Helper()
	return read(b, func(r core.Reader) (core.App, error) { return r.App(id) })
}

func (b *bed) source(text string) string {
	b.Helper()
	sum, _, err := b.world.files.Put(b.Context(), strings.NewReader(text))
	b.must(err)
	return sum
}

func (b *bed) deploy(app core.App, text string) (core.Release, []operation.Record) {
	b.Helper()
	rel, op, err := b.Deploy(b.Context(), b.alice, app.ID, core.DeploySpec{Source: b.source(text), Origin: core.OriginUpload, Commit: "c0ffee"})
	b.must(err)
	return rel, b.ends(op)
}

// done waits for the end of an operation that must succeed.
func (b *bed) done(op operation.Record, err error) {
	b.Helper()
	b.must(err)
	b.wantStatuses(b.ends(op), operation.StatusCompleted)
}

// unitsOnHosts are the units that hosts run, by id.
func (b *bed) unitsOnHosts() map[string]agentapi.Unit {
	b.world.mu.Lock()
	defer b.world.mu.Unlock()
	all := map[string]agentapi.Unit{}
	for _, h := range b.world.hosts {
		for id, u := range h.units {
			all[id] = u
		}
	}
	return all
}

// wantUnits checks that the store, the hosts and the router agree on the units of an app.
func (b *bed) wantUnits(app core.App, release, count int) core.App {
	b.Helper()
	got := b.app(app.ID)
	hosts := b.unitsOnHosts()
	var backends []string
	if len(got.Units) != count || got.UnitCount != count || got.Release != release {
		b.Errorf("got %d units (wanted: %d) of release %d; want %d of %d", len(got.Units), got.UnitCount, got.Release, count, release)
	}
	for _, u := range got.Units {
		there, ok := hosts[u.ID]
		if !ok || there.Release != release || there.Port != u.Port || u.State != core.UnitStarted {
			b.Errorf("unit %s is %s in the store and %+v on its host (known: %v)", u.ID, u.State, there, ok)
		}
		backends = append(backends, fmt.Sprintf("%s:%d", u.Address, u.Port))
	}
	slices.Sort(backends)
	b.world.mu.Lock()
	defer b.world.mu.Unlock()
	for _, h := range b.world.hosts {
		if !h.router {
			continue
		}
		for _, r := range got.Routes {
			balance := slices.Sorted(slices.Values(h.balance[r.Hostname]))
			if !slices.Equal(balance, backends) {
				b.Errorf("the router sends %s to %q, want %q", r.Hostname, balance, backends)
			}
		}
	}
	return got
}

func TestADeploymentServesFromNewUnits(t *testing.T) {
	b := newBed(t).work()
	b.router()
	app := b.shared("blog")
	rel, ops := b.deploy(app, "first")
	b.wantStatuses(ops, operation.StatusCompleted)
	if rel.Number != 1 {
		t.Errorf("got release %d, want 1", rel.Number)
	}
	first := b.wantUnits(app, 1, 1)
	if pool := b.nodes(core.NodeFilter{Role: core.RolePool}); len(pool) != 2 {
		t.Errorf("got %d nodes in the pool, want 2", len(pool))
	}
	b.done(b.ChangeUnits(t.Context(), b.alice, app.ID, 3))
	four := b.wantUnits(app, 1, 4)
	perNode := map[core.NodeID]int{}
	for _, u := range four.Units {
		perNode[u.NodeID]++
	}
	for node, n := range perNode {
		if n != 2 {
			t.Errorf("got %d of four units on %s, want them spread evenly", n, node)
		}
	}
	if four.Units[0].ID != first.Units[0].ID {
		t.Error("adding units replaced the one that was there")
	}
	b.world.arm(nil)
	_, ops = b.deploy(app, "second")
	b.wantStatuses(ops, operation.StatusCompleted)
	calls := b.world.made()
	if at := slices.Index(calls, "DrainRouter"); at < 0 || slices.Index(calls, "StopUnit") < at || slices.Index(calls[at:], "MakeProxy") >= 0 || strings.Contains(b.log.String(), "was not asked") {
		t.Errorf("got the calls %q, want the router asked whether it is done with old units before these end", calls)
	}
	after := b.wantUnits(app, 2, 4)
	for _, u := range after.Units {
		if slices.ContainsFunc(four.Units, func(o core.AppUnit) bool { return o.ID == u.ID }) {
			t.Errorf("unit %s of the first release still runs", u.ID)
		}
	}
	if len(b.unitsOnHosts()) != 4 || after.Deploys != 2 {
		t.Errorf("got %d units on hosts and %d deploys, want 4 and 2", len(b.unitsOnHosts()), after.Deploys)
	}
	b.done(b.ChangeUnits(t.Context(), b.alice, app.ID, -3))
	b.wantUnits(app, 2, 1)
	_, err := b.ChangeUnits(t.Context(), b.alice, app.ID, -1)
	b.wantKind(err, core.Invalid)

	_, op, err := b.Rollback(t.Context(), b.alice, app.ID, 1)
	b.done(op, err)
	b.wantUnits(app, 3, 1)
	releases, err := b.Releases(t.Context(), b.alice, app.ID)
	b.must(err)
	if releases[0].Origin != core.OriginRollback || releases[0].Artifact != releases[2].Artifact {
		t.Errorf("got %+v after going back, want the artifact of release 1", releases[0])
	}

	b.delete(app)
	if left := b.unitsOnHosts(); len(left) != 0 || b.world.files.count() != 0 {
		t.Errorf("got %d units and %d files left, want none", len(left), b.world.files.count())
	}
	b.world.mu.Lock()
	defer b.world.mu.Unlock()
	for _, h := range b.world.hosts {
		if len(h.apps)+len(h.balance) > 0 {
			t.Errorf("got apps %v and proxies %v left on a host", h.apps, h.balance)
		}
	}
}

func TestABrokenReleaseNeverServes(t *testing.T) {
	for _, step := range []string{"BuildRelease", "FetchRelease", "StartUnit", "MakeProxy"} {
		t.Run(step, func(t *testing.T) {
			b := newBed(t).work()
			b.router()
			app := b.shared("blog")
			b.deploy(app, "good")
			before := b.wantUnits(app, 1, 1)
			files := b.world.files.count()

			b.world.arm(nil)
			b.world.always(step, core.Errorf(core.Invalid, core.ObjUnit, "it says: no module named nonsense"))
			_, op, err := b.Deploy(t.Context(), b.alice, app.ID, core.DeploySpec{Source: b.source("bad"), Origin: core.OriginGit})
			b.must(err)
			if step == "MakeProxy" { // its undo needs the router too
				b.until("a failed switch", func() bool { return slices.Contains(b.world.made(), "MakeProxy") })
				b.world.always(step, nil)
			}
			ops := b.ends(op)
			b.world.always(step, nil)
			if step != "MakeProxy" {
				b.wantStatuses(ops, operation.StatusFailed)
				if !strings.Contains(ops[0].Error, "no module named nonsense") {
					t.Errorf("got the reason %q, want what the unit says", ops[0].Error)
				}
			}
			if after := b.wantUnits(app, 1, 1); after.Units[0].ID != before.Units[0].ID || after.Deploys != 1 {
				t.Errorf("got unit %s and %d deploys, want the old unit %s and 1", after.Units[0].ID, after.Deploys, before.Units[0].ID)
			}
			if n := len(b.unitsOnHosts()); n != 1 {
				t.Errorf("got %d units on hosts, want the old one alone", n)
			}
			if n := b.world.files.count(); n != files {
				t.Errorf("got %d files, want %d as before", n, files)
			}
			rel, err := b.Releases(t.Context(), b.alice, app.ID)
			b.must(err)
			if rel[0].State != core.ReleaseFailed || rel[0].Error == "" {
				t.Errorf("got release %+v, want it failed with a reason", rel[0])
			}
			_, ops = b.deploy(app, "better")
			b.wantStatuses(ops, operation.StatusCompleted)
			b.wantUnits(app, 3, 1)
		})
	}
}

func TestRestartHaltAndResume(t *testing.T) {
	b := newBed(t).work()
	b.router()
	app := b.shared("blog")
	if _, ok, err := b.RestartUnits(t.Context(), b.alice, app.ID); ok || err != nil {
		t.Errorf("got %v, %v for an app without units, want nothing to do", ok, err)
	}
	_, err := b.ChangeUnits(t.Context(), b.alice, app.ID, 1)
	b.wantKind(err, core.Unavailable)
	b.deploy(app, "first")
	before := b.wantUnits(app, 1, 1)
	op, ok, err := b.RestartUnits(t.Context(), b.alice, app.ID)
	b.done(op, err)
	if after := b.wantUnits(app, 1, 1); !ok || after.Units[0].ID == before.Units[0].ID {
		t.Error("a restart left the old unit")
	}
	op, _, err = b.HaltUnits(t.Context(), b.alice, app.ID)
	b.done(op, err)
	if got := b.app(app.ID); !got.Halted || got.Units[0].State != core.UnitStopped {
		t.Errorf("got %+v, want a halted app with a stopped unit", got)
	}
	b.world.mu.Lock()
	for _, h := range b.world.hosts {
		if len(h.balance) > 0 {
			t.Errorf("the router still sends requests: %v", h.balance)
		}
	}
	b.world.mu.Unlock()
	b.must(b.Heal(t.Context(), "unit")) // what is halted stays so
	if len(b.unfinished()) > 0 {
		t.Error("the healer works on a halted app")
	}
	op, _, err = b.ResumeUnits(t.Context(), b.alice, app.ID)
	b.done(op, err)
	b.wantUnits(app, 1, 1)
}

func TestSwappedAppsServeUnderEachOthersNames(t *testing.T) {
	b := newBed(t).work()
	b.router()
	one, two := b.shared("one"), b.shared("two")
	b.deploy(one, "1")
	b.deploy(two, "2")
	for _, want := range [][2]string{{"two.hosted.test", "one.hosted.test"}, {"one.hosted.test", "two.hosted.test"}} {
		b.done(b.SwapApps(t.Context(), b.alice, one.ID, two.ID))
		gotOne, gotTwo := b.wantUnits(one, 1, 1), b.wantUnits(two, 1, 1)
		if gotOne.Routes[0].Hostname != want[0] || gotTwo.Routes[0].Hostname != want[1] {
			t.Errorf("got the names %s and %s, want %q", gotOne.Routes[0].Hostname, gotTwo.Routes[0].Hostname, want)
		}
	}
}

func TestUnitsOfALostNodeComeBackElsewhere(t *testing.T) {
	b := newBed(t).work()
	b.router()
	app := b.shared("blog")
	b.deploy(app, "first")
	b.done(b.ChangeUnits(t.Context(), b.alice, app.ID, 3))
	units := b.wantUnits(app, 1, 4).Units
	b.world.mu.Lock()
	b.world.hosts[units[0].Address].dead = true
	b.world.mu.Unlock()
	b.must(b.Heal(t.Context(), "unit"))
	if got := b.app(app.ID); got.Units[0].State != core.UnitStarted {
		t.Error("one missed answer already counts as a lost node")
	}
	b.must(b.Heal(t.Context(), "unit"))
	b.until("the end of the roll", func() bool { return len(b.unfinished()) == 0 })
	after := b.wantUnits(app, 1, 4)
	for _, u := range after.Units {
		if u.Address == units[0].Address {
			t.Errorf("unit %s is still on the lost node", u.ID)
		}
	}
	b.world.mu.Lock()
	b.world.hosts[units[0].Address].dead = false // it comes back, with units that nobody wants any more
	b.world.mu.Unlock()
	b.must(b.Heal(t.Context(), "unit"))
	if n := len(b.unitsOnHosts()); n != 4 {
		t.Errorf("got %d units on hosts after the node came back, want 4", n)
	}
}

func TestNothingIsMovedWhenMostNodesAreLost(t *testing.T) {
	b := newBed(t).work()
	b.router()
	app := b.shared("blog")
	b.deploy(app, "first")
	b.done(b.ChangeUnits(t.Context(), b.alice, app.ID, 1))
	units := b.app(app.ID).Units
	b.world.mu.Lock()
	for _, u := range units {
		b.world.hosts[u.Address].dead = true
	}
	b.world.mu.Unlock()
	for range 3 {
		b.must(b.Heal(t.Context(), "unit"))
	}
	if ops := b.unfinished(); len(ops) > 0 {
		t.Errorf("got %d operations, want none while every node is lost", len(ops))
	}
}

func TestAnOperationIsFollowed(t *testing.T) {
	b := newBed(t).work()
	b.router()
	app := b.shared("blog")
	_, op, err := b.Deploy(t.Context(), b.alice, app.ID, core.DeploySpec{Source: b.source("x"), Origin: core.OriginGit})
	b.must(err)
	var lines []string
	ended, err := b.FollowOperation(t.Context(), op, func(l string) { lines = append(lines, l) })
	b.must(err)
	text := strings.Join(lines, "\n")
	if ended.Status != operation.StatusCompleted || !strings.Contains(text, "building on ") || !strings.Contains(text, "Started unit") {
		t.Errorf("got %s with the lines %q", ended.Status, lines)
	}
	log, at, err := b.AppLog(t.Context(), b.alice, app.ID, core.LogQuery{})
	b.must(err)
	var messages []string
	for _, l := range log {
		messages = append(messages, l.Source+": "+l.Message)
	}
	text = strings.Join(messages, "\n")
	if !strings.Contains(text, "tsuru: building on ") || !strings.Contains(text, "app: hello from ") {
		t.Errorf("got the log %q, want the platform's lines and the unit's", messages)
	}
	b.must(b.AddAppLog(t.Context(), b.alice, app.ID, "", "worker", []string{"one\n\ntwo"}))
	more, err := b.MoreAppLog(t.Context(), b.alice, app.ID, core.LogQuery{}, at)
	b.must(err)
	if len(more) != 2 || more[0].Message != "one" || more[1].Message != "two" || more[1].Source != "app" {
		t.Errorf("got %+v since the cursor, want the two lines", more)
	}
	_, _, err = b.AppLog(t.Context(), b.bob, app.ID, core.LogQuery{})
	b.wantKind(err, core.Forbidden)
}

// A file that another app had as well may go with that app before a deployment names it.
func TestADeploymentWantsItsSource(t *testing.T) {
	b := newBed(t).work()
	b.router()
	app := b.shared("shop")
	source := b.source("the same for two apps")
	b.must(b.world.files.Delete(source))
	if _, _, err := b.Deploy(t.Context(), b.alice, app.ID, core.DeploySpec{Source: source}); core.KindOf(err) != core.Unavailable {
		t.Errorf("got %v, want unavailable", err)
	}
	if rels := read(b, func(r core.Reader) ([]core.Release, error) { return r.Releases(app.ID) }); len(rels) > 0 {
		t.Errorf("got releases %+v", rels)
	}
	rel, ops := b.deploy(app, "the same for two apps")
	b.wantStatuses(ops, operation.StatusCompleted)
	b.wantUnits(app, rel.Number, 1)
}
