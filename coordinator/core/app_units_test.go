package core_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/reeve-paas/reeve/coordinator/core"
)

func unitSpec(kind string) core.AppSpec {
	s := spec()
	s.Type = kind
	return s
}

func TestAnAppOfItsOwnNodeComesUpAsUnits(t *testing.T) {
	t.Parallel()
	b := newBed(t).work()
	b.router()
	app, ops := b.create(unitSpec("pythonpgsql"))
	b.wantStatuses(b.ends(ops...), "completed", "completed", "completed")
	if got := []string{ops[0].Kind, ops[1].Kind, ops[2].Kind}; fmt.Sprint(got) != fmt.Sprint([]string{core.OpAppCreateNode, core.OpAppCreateVolume, core.OpAppCreateUnits}) {
		t.Errorf("got the operations %v", got)
	}
	app = b.wantUnits(app, 1, 1)
	if app.State != core.AppRunning || app.Routes[0].State != core.RouteRunning || app.Routes[1].State != core.RouteRunning {
		t.Errorf("got the app %+v, want all of it running", app)
	}
	releases := read(b, func(r core.Reader) ([]core.Release, error) { return r.Releases(app.ID) })
	if len(releases) != 1 || releases[0].Origin != core.OriginWelcome || releases[0].State != core.ReleaseBuilt || releases[0].EndedAt.IsZero() {
		t.Errorf("got the releases %+v", releases)
	}

	b.world.mu.Lock()
	h := b.world.hosts[app.Nodes[0].Address]
	user, deployed := h.users["app"], h.apps[fmt.Sprintf("a%d", app.Num)]
	if !h.databases["app"] || h.users["postgres"] != password || len(h.vhosts) != 0 || h.enabled["apache"] || !h.enabled["postgresql"] {
		t.Errorf("got the databases %v, virtual hosts %v, enabled %v", h.databases, h.vhosts, h.enabled)
	}
	if deployed.Platform != "python" || deployed.Login.User != fmt.Sprint(app.Login) || len(deployed.Env) != 0 {
		t.Errorf("got the app %+v on its host", deployed)
	}
	b.world.mu.Unlock()
	env := map[string]string{}
	for _, v := range read(b, func(r core.Reader) ([]core.EnvVar, error) { return r.AppEnv(app.ID) }) {
		env[v.Name] = string(v.Value)
	}
	for name, want := range map[string]string{"PG_HOST": "127.0.0.1", "PG_PORT": "5432", "PG_DATABASE": "app", "PG_USER": "app", "PG_PASSWORD": user,
		"DATABASE_URL": "postgresql://app:" + user + "@127.0.0.1:5432/app", "PGPASSWORD": user} {
		if env[name] != want {
			t.Errorf("%s: got another value than that of the database", name)
		}
	}
	b.wantNoSecrets(ops[0].GroupID, password, user)

	t.Run("a restart of its node starts its units anew", func(t *testing.T) {
		b := b.in(t)
		b.world.arm(nil)
		b.done(b.RestartApp(t.Context(), b.alice, app.Num))
		if calls := strings.Join(b.world.made(), " "); !strings.Contains(calls, "RebootNode") || !strings.Contains(calls, "StopUnit FetchRelease StartUnit") {
			t.Errorf("got the calls %s", calls)
		}
		b.wantUnits(app, 1, 1)
	})
	t.Run("another release and another name", func(t *testing.T) {
		b := b.in(t)
		_, got := b.deploy(app, "source")
		b.wantStatuses(got, "completed")
		b.wantUnits(app, 2, 1)
		_, op, err := b.AddRoute(t.Context(), b.alice, app.Num, core.RouteSpec{Hostname: "more.hosted.test"})
		b.done(op, err)
		b.wantUnits(app, 2, 1)
		_, op, err = b.RemoveRoute(t.Context(), b.alice, "more.hosted.test")
		b.done(op, err)
	})
	t.Run("its end leaves nothing", func(t *testing.T) {
		b := b.in(t)
		b.wantStatuses(b.delete(app), "completed")
		b.wantTraces(0, 0, 0)
		b.wantNothingOf(app)
		if n := b.world.files.count(); n != 0 {
			t.Errorf("%d archives are left", n)
		}
	})
}

func TestUnitsOfANodeThatDoesNotAnswerWaitForIt(t *testing.T) {
	t.Parallel()
	b := newBed(t).work()
	b.router()
	app, ops := b.create(unitSpec("nodejsmysql"))
	b.ends(ops...)
	app = b.wantUnits(app, 1, 1)
	dead := func(is bool) {
		b.world.mu.Lock()
		defer b.world.mu.Unlock()
		b.world.hosts[app.Nodes[0].Address].dead = is
	}
	dead(true)
	for range 3 {
		b.must(b.Heal(t.Context(), "unit"))
	}
	if got := b.app(app.ID); got.Units[0].State != core.UnitDown || len(b.unfinished()) != 0 {
		t.Errorf("got %+v and the operations %+v, want the unit down and nothing begun", got.Units, b.unfinished())
	}
	dead(false)
	b.must(b.Heal(t.Context(), "unit"))
	b.wantUnits(app, 1, 1)
}

func TestTwoAppsHaveArchivesOfTheirOwn(t *testing.T) {
	t.Parallel()
	b := newBed(t).work()
	b.router()
	one, ops := b.create(unitSpec("rubypgsql"))
	b.ends(ops...)
	s := unitSpec("rubypgsql")
	s.Name, s.Routes = "other", nil
	two, ops := b.create(s)
	b.ends(ops...)
	first := read(b, func(r core.Reader) ([]core.Release, error) { return r.Releases(one.ID) })
	second := read(b, func(r core.Reader) ([]core.Release, error) { return r.Releases(two.ID) })
	if first[0].Source == second[0].Source {
		t.Error("two apps share an archive; the end of one takes it from the other while that is being made")
	}
}

func TestWithoutAStoreOfReleasesOnlyAppsWithVirtualHostsAreMade(t *testing.T) {
	t.Parallel()
	b := newBed(t, func(o *core.Options) { o.Files = nil })
	_, _, err := b.CreateApp(t.Context(), b.alice, unitSpec("pythonmysql"))
	b.wantKind(err, core.Unsupported)
	b.create(spec())
}
