package storetest

import (
	"slices"
	"testing"

	"github.com/reeve-paas/reeve/agent/agentapi"
	"github.com/reeve-paas/reeve/coordinator/core"
)

func testUnits(t *testing.T, s *suite) {
	owner := account(t, s, "a")
	shared := put(t, s, core.App{ID: "app-blog", AccountID: owner.ID, Name: "blog", Cloud: "c", State: core.AppRunning,
		Placement: core.PlacementShared, UnitCount: 2, Release: 3, Deploys: 4, MemoryMB: 256, SwapMB: 128, Halted: true}, core.Tx.PutApp)
	node := put(t, s, core.Node{Key: "k", Roles: []core.Role{core.RoleApp}, State: core.NodeRunning}, core.Tx.PutNode)
	read := func() core.App {
		return get(t, s, func(r core.Reader) (core.App, error) { return r.SharedApp("blog") })
	}
	same(t, "app", read(), shared)
	for i := range 2 {
		shared.Units = append(shared.Units, put(t, s, core.AppUnit{ID: "unit-" + name(i), AppID: shared.ID, NodeID: node.ID, Address: "10.0.0.1", Port: 20000 + i,
			Release: 3, State: core.UnitStarting, CreatedAt: at(1), SeenAt: at(2)}, core.Tx.PutUnit))
		same(t, "app with units", read(), shared)
	}
	same(t, "unit", get(t, s, func(r core.Reader) (core.AppUnit, error) { return r.Unit("unit-001") }), shared.Units[1])
	same(t, "units of all apps", get(t, s, func(r core.Reader) ([]core.AppUnit, error) { return r.Units() }), shared.Units)
	wantKind(t, s.Update(t.Context(), func(tx core.Tx) error {
		return tx.PutUnit(&core.AppUnit{ID: "third", AppID: shared.ID, NodeID: node.ID, Port: 20001})
	}), core.Exists, core.ObjUnit)
	shared.Units[0].State = core.UnitStarted
	s.update(t, func(tx core.Tx) error { return tx.PutUnit(&shared.Units[0]) })
	same(t, "app with a changed unit", read(), shared)
	s.update(t, func(tx core.Tx) error { return tx.DeleteUnit("unit-001") })
	shared.Units = shared.Units[:1]
	same(t, "app without a unit", read(), shared)

	dedicated := put(t, s, core.App{ID: "app-two", AccountID: account(t, s, "b").ID, Name: "blog", State: core.AppRunning}, core.Tx.PutApp)
	if got := get(t, s, func(r core.Reader) (core.App, error) { return r.App(dedicated.ID) }); got.Placement != core.PlacementDedicated {
		t.Errorf("got placement %q of an app that says nothing, want dedicated", got.Placement)
	}
	wantKind(t, s.Update(t.Context(), func(tx core.Tx) error {
		return tx.PutApp(&core.App{ID: "app-three", AccountID: dedicated.AccountID, Name: "blog", Placement: core.PlacementShared})
	}), core.Exists, core.ObjApp)

	s.update(t, func(tx core.Tx) error { return tx.DeleteApp(shared.ID) })
	if left := get(t, s, func(r core.Reader) ([]core.AppUnit, error) { return r.Units() }); len(left) != 0 {
		t.Errorf("got %d units of a deleted app, want none", len(left))
	}
}

func testReleases(t *testing.T, s *suite) {
	a := app(t, s, account(t, s, "a").ID, "shop")
	first := put(t, s, core.Release{AppID: a.ID, Number: 1, State: core.ReleaseFailed, Origin: core.OriginGit, Commit: "abc", Account: "ann@example.com",
		Source: "s1", Error: "it broke", RouteID: "rt-1", CreatedAt: at(1), EndedAt: at(2)}, core.Tx.PutRelease)
	second := put(t, s, core.Release{AppID: a.ID, Number: 2, State: core.ReleaseBuilding, Origin: core.OriginUpload, Source: "s2", CreatedAt: at(3)}, core.Tx.PutRelease)
	second.State, second.Artifact, second.SizeBytes = core.ReleaseBuilt, "a2", 1<<40
	second.Manifest = agentapi.Manifest{Processes: []agentapi.Process{{Name: "web", Command: "./web"}}, HealthCheck: &agentapi.HealthCheck{Path: "/"}}
	s.update(t, func(tx core.Tx) error { return tx.PutRelease(&second) })
	same(t, "releases", get(t, s, func(r core.Reader) ([]core.Release, error) { return r.Releases(a.ID) }), []core.Release{second, first})
	same(t, "release", get(t, s, func(r core.Reader) (core.Release, error) { return r.Release(a.ID, 2) }), second)
	wantKind(t, s.View(t.Context(), func(r core.Reader) error { _, err := r.Release(a.ID, 3); return err }), core.NotFound, core.ObjRelease)
	for sha, want := range map[string]bool{"a2": true, "s1": true, "other": false} {
		if got := get(t, s, func(r core.Reader) (bool, error) { return r.FileUsed(sha) }); got != want {
			t.Errorf("file %s: got used %v, want %v", sha, got, want)
		}
	}
	wantKind(t, s.Update(t.Context(), func(tx core.Tx) error { return tx.PutRelease(&core.Release{AppID: a.ID, Number: 2}) }), core.Exists, core.ObjRelease)
}

func testEnv(t *testing.T, s *suite) {
	a := app(t, s, account(t, s, "a").ID, "shop")
	read := func() []core.EnvVar {
		return get(t, s, func(r core.Reader) ([]core.EnvVar, error) { return r.AppEnv(a.ID) })
	}
	vars := []core.EnvVar{{Name: "A", Value: "1", Public: true}, {Name: "B", Value: "", Tag: "db"}, {Name: "C", Value: "hidden-value"}}
	for _, v := range slices.Backward(vars) {
		s.update(t, func(tx core.Tx) error { return tx.PutEnv(a.ID, v) })
	}
	same(t, "environment", read(), vars)
	vars[0].Value = "2"
	s.update(t, func(tx core.Tx) error { return tx.PutEnv(a.ID, vars[0]) })
	s.update(t, func(tx core.Tx) error { return tx.DeleteEnv(a.ID, "B") })
	same(t, "changed environment", read(), []core.EnvVar{vars[0], vars[2]})
	s.update(t, func(tx core.Tx) error { return tx.DeleteApp(a.ID) })
	if left := read(); len(left) != 0 {
		t.Errorf("got %d variables of a deleted app, want none", len(left))
	}
}

func testAppLog(t *testing.T, s *suite) {
	owner := account(t, s, "a")
	a, b := app(t, s, owner.ID, "shop"), app(t, s, owner.ID, "blog")
	var lines []core.LogLine
	for i := range 6 {
		lines = append(lines, core.LogLine{At: at(i), Source: []string{"app", "tsuru"}[i%2], Unit: []string{"u", "v", "api"}[i%3], Message: name(i)})
	}
	s.update(t, func(tx core.Tx) error { return tx.AddLog(a.ID, lines[:4], 5) })
	s.update(t, func(tx core.Tx) error { return tx.AddLog(a.ID, lines[4:], 5) })
	s.update(t, func(tx core.Tx) error { return tx.AddLog(b.ID, lines[:1], 5) })
	messages := func(app core.AppID, after int64, source, unit string, limit int) (out []string) {
		for _, l := range get(t, s, func(r core.Reader) ([]core.LogLine, error) { return r.AppLog(app, after, source, unit, limit) }) {
			out = append(out, l.Message)
		}
		return out
	}
	same(t, "the newest five", messages(a.ID, 0, "", "", 0), []string{"001", "002", "003", "004", "005"})
	same(t, "the newest two", messages(a.ID, 0, "", "", 2), []string{"004", "005"})
	same(t, "of one source", messages(a.ID, 0, "app", "", 0), []string{"002", "004"})
	same(t, "of one unit", messages(a.ID, 0, "", "u", 0), []string{"003"})
	all := get(t, s, func(r core.Reader) ([]core.LogLine, error) { return r.AppLog(a.ID, 0, "", "", 0) })
	same(t, "what came since", messages(a.ID, all[3].Num, "", "", 0), []string{"005"})
	same(t, "the other app's", messages(b.ID, 0, "", "", 0), []string{"000"})
	s.update(t, func(tx core.Tx) error { return tx.DeleteLog(a.ID) })
	same(t, "a deleted log", messages(a.ID, 0, "", "", 0), nil)
}
