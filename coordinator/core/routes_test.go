package core_test

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"

	"github.com/reeve-paas/reeve/coordinator/core"
	"github.com/reeve-paas/reeve/coordinator/operation"
)

// running makes an app and waits until it is up.
func (b *bed) running(s core.AppSpec) core.App {
	b.Helper()
	app, ops := b.create(s)
	b.wantStatuses(b.ends(ops...), "completed", "completed", "completed")
	app, err := b.App(b.Context(), b.alice, app.Num)
	b.must(err)
	return app
}

func (b *bed) addRoute(app core.App, name string) []operation.Record {
	b.Helper()
	_, op, err := b.AddRoute(b.Context(), b.alice, app.Num, core.RouteSpec{Hostname: name})
	b.must(err)
	return b.ends(op)
}

// wantServed checks what routers send where, and which virtual hosts the app's node has.
func (b *bed) wantServed(app core.App, name string, want bool) {
	b.Helper()
	route, err := view(b, name)
	if want && (err != nil || route.State != core.RouteRunning || route.AppID != app.ID) {
		b.Errorf("%s: got the route %+v, %v, want it running", name, route, err)
	}
	b.world.mu.Lock()
	defer b.world.mu.Unlock()
	node := b.world.hosts[app.Nodes[0].Address]
	if _, got := node.vhosts[name]; got != want {
		b.Errorf("%s: the node has a virtual host: %t, want %t", name, got, want)
	}
	for _, h := range b.world.hosts {
		if h.router {
			if got := h.proxies[name]; (got == app.Nodes[0].Address) != want {
				b.Errorf("%s: the router sends it to %q, want it served: %t", name, got, want)
			}
		}
	}
}

func view(b *bed, name string) (route core.Route, err error) {
	return route, b.store.View(context.WithoutCancel(b.Context()), func(r core.Reader) error {
		var err error
		route, err = r.Route(name)
		return err
	})
}

func TestRoutesOfAnAppThatRuns(t *testing.T) {
	t.Parallel()
	b := newBed(t).work()
	b.router()
	app := b.running(spec())
	t.Run("a name is served, and not any more", func(t *testing.T) {
		b := b.in(t)
		b.wantStatuses(b.addRoute(app, "Blog.Hosted.test."), "completed")
		b.wantServed(app, "blog.hosted.test", true)
		route, op, err := b.RemoveRoute(t.Context(), b.alice, "BLOG.hosted.test")
		b.must(err)
		if route.State != core.RouteDeleting {
			t.Errorf("got the state %s, want deleting", route.State)
		}
		b.wantStatuses(b.ends(op), "completed")
		b.wantServed(app, "blog.hosted.test", false)
		_, _, err = b.RemoveRoute(t.Context(), b.alice, "blog.hosted.test")
		b.wantKind(err, core.NotFound)
	})
	t.Run("what cannot be added", func(t *testing.T) {
		b := b.in(t)
		b.wantStatuses(b.addRoute(app, "*.wild.hosted.test"), "completed")
		for _, tc := range []struct {
			p    core.Principal
			name string
			app  int64
			want core.Kind
			code core.ProblemCode
		}{
			{b.alice, "not a name", app.Num, core.Invalid, core.ProblemPattern},
			{b.alice, "shop.hosted.test", app.Num, core.Exists, core.ProblemTaken},
			{b.alice, "*.more.hosted.test", app.Num, core.Invalid, core.ProblemDuplicate},
			{b.alice, "shop.example.org", app.Num, core.Unproven, core.ProblemUnproven},
			{b.bob, "mine.hosted.test", app.Num, core.NotFound, ""},
			{b.alice, "mine.hosted.test", 999, core.NotFound, ""},
			{core.Principal{Via: "anonymous"}, "mine.hosted.test", app.Num, core.Unauthenticated, ""},
		} {
			problems, checkErr := b.CheckRoute(t.Context(), tc.p, tc.app, core.RouteSpec{Hostname: tc.name})
			_, _, err := b.AddRoute(t.Context(), tc.p, tc.app, core.RouteSpec{Hostname: tc.name})
			b.wantKind(err, tc.want)
			if tc.code == "" {
				b.wantKind(checkErr, tc.want)
			} else if checkErr != nil || len(problems) != 1 || problems[0].Code != tc.code || problems[0].Field != "hostname" {
				t.Errorf("%s: got the problems %+v, %v, want %s", tc.name, problems, checkErr, tc.code)
			}
		}
		_, _, err := b.RemoveRoute(t.Context(), b.bob, "shop.hosted.test")
		b.wantKind(err, core.NotFound)
	})
	t.Run("a removal that fails can be asked for again", func(t *testing.T) {
		b := b.in(t)
		b.wantStatuses(b.addRoute(app, "again.hosted.test"), "completed")
		b.world.always("DeleteVHosts", permanent)
		_, op, err := b.RemoveRoute(t.Context(), b.alice, "again.hosted.test")
		b.must(err)
		b.wantStatuses(b.ends(op), "failed")
		b.world.always("DeleteVHosts", nil)
		_, op, err = b.RemoveRoute(t.Context(), b.alice, "again.hosted.test")
		b.must(err)
		b.wantStatuses(b.ends(op), "completed")
		b.wantServed(app, "again.hosted.test", false)
	})
	t.Run("many at once, each name once", func(t *testing.T) {
		b := b.in(t)
		var wg sync.WaitGroup
		var mu sync.Mutex
		var ops []operation.Record
		for i := range 20 {
			wg.Go(func() {
				_, op, err := b.AddRoute(t.Context(), b.alice, app.Num, core.RouteSpec{Hostname: fmt.Sprintf("n%d.hosted.test", i/2)})
				mu.Lock()
				defer mu.Unlock()
				if err == nil {
					ops = append(ops, op)
				} else if core.KindOf(err) != core.Exists {
					t.Errorf("got %v, want exists", err)
				}
			})
		}
		wg.Wait()
		if len(ops) != 10 {
			t.Errorf("got %d accepted, want one per name", len(ops))
		}
		for _, op := range ops {
			b.wantStatuses(b.ends(op), "completed")
		}
		for i := range 10 {
			b.wantServed(app, fmt.Sprintf("n%d.hosted.test", i), true)
		}
	})
}

func TestARouteIsTakenBackWhenItFails(t *testing.T) {
	t.Parallel()
	b := newBed(t).work()
	b.router()
	b.secondRouter()
	app := b.running(spec())
	b.world.arm(nil)
	b.wantStatuses(b.addRoute(app, "x.hosted.test"), "completed")
	calls := b.world.made()
	_, op, err := b.RemoveRoute(t.Context(), b.alice, "x.hosted.test")
	b.must(err)
	b.ends(op)
	if want := []string{"AppPaths", "CreateVHost", "MakeProxy", "MakeProxy"}; !slices.Equal(calls, want) {
		t.Fatalf("got the calls %v, want %v", calls, want)
	}
	for n, call := range calls {
		t.Run(fmt.Sprintf("%s (%d)", call, n+1), func(t *testing.T) {
			b := b.in(t)
			name := fmt.Sprintf("x%d.hosted.test", n)
			b.world.arm(map[int]error{n + 1: permanent, n + 2: temporary})
			b.wantStatuses(b.addRoute(app, name), "failed")
			b.world.arm(nil)
			b.wantServed(app, name, false)
			if route, err := view(b, name); err != nil || route.State != core.RouteFailed {
				t.Errorf("got %+v, %v, want the route marked as failed", route, err)
			}
			if app, err := b.App(t.Context(), b.alice, app.Num); err != nil || app.State != core.AppRunning {
				t.Errorf("got the app %s, %v, want it running as before", app.State, err)
			}
			b.world.arm(map[int]error{n + 1: temporary})
			b.wantStatuses(b.addRoute(app, name), "completed") // the same again, and an agent that answers late
			b.wantServed(app, name, true)
		})
	}
	t.Run("canceled", func(t *testing.T) {
		b := b.in(t)
		b.world.arm(nil)
		waits, release := b.world.hold("MakeProxy")
		_, op, err := b.AddRoute(t.Context(), b.alice, app.Num, core.RouteSpec{Hostname: "late.hosted.test"})
		b.must(err)
		<-waits
		b.must(b.CancelOperation(t.Context(), b.alice, op.Num))
		release()
		b.wantStatuses(b.ends(op), "canceled")
		b.wantServed(app, "late.hosted.test", false)
	})
	b.wantStatuses(b.delete(app), "completed")
	b.wantTraces(0, 0, 0)
	b.wantNothingOf(app)
}

func TestANameMovesToWhomProvesToOwnIt(t *testing.T) {
	t.Parallel()
	b := newBed(t).work()
	b.router()
	first := b.running(spec())
	s := spec()
	s.Name, s.Routes = "other", []string{"other.hosted.test"}
	mine := b.running(s)
	theirs, ops, err := b.CreateApp(t.Context(), b.bob, core.AppSpec{Name: "theirs", Type: "phpmysql", SizeID: "s", LocationID: "here", Months: 1, Password: password})
	b.must(err)
	b.ends(ops...)
	theirs, err = b.App(t.Context(), b.bob, theirs.Num)
	b.must(err)
	take := func(p core.Principal, app core.App) error {
		_, op, err := b.AddRoute(t.Context(), p, app.Num, core.RouteSpec{Hostname: "shop.hosted.test", Override: true})
		if err == nil {
			b.wantStatuses(b.ends(op), "completed")
		}
		return err
	}
	b.must(take(b.alice, mine)) // the same account needs no proof
	b.wantServed(mine, "shop.hosted.test", true)
	b.world.mu.Lock()
	if _, left := b.world.hosts[first.Nodes[0].Address].vhosts["shop.hosted.test"]; left {
		t.Error("the node that served the name before still has a virtual host of it")
	}
	b.world.mu.Unlock()

	err = take(b.bob, theirs)
	b.wantKind(err, core.Unproven) // also in a hosted zone: somebody serves it
	_, problem := b.CheckRoute(t.Context(), b.bob, theirs.Num, core.RouteSpec{Hostname: "shop.hosted.test"})
	b.must(problem)
	b.zone.publish("shop.hosted.test", "vhost="+core.OwnershipToken(b.OwnershipSecret, b.bob.Account.ID, "shop.hosted.test"))
	b.world.arm(map[int]error{3: permanent}) // MakeProxy
	_, op, err := b.AddRoute(t.Context(), b.bob, theirs.Num, core.RouteSpec{Hostname: "shop.hosted.test", Override: true})
	b.must(err)
	b.wantStatuses(b.ends(op), "failed")
	b.wantServed(mine, "shop.hosted.test", true) // given back
	b.must(take(b.bob, theirs))
	b.wantServed(theirs, "shop.hosted.test", true)
}

func TestRouteDNS(t *testing.T) {
	t.Parallel()
	b := newBed(t).work()
	router := b.router()
	for name, want := range map[string]string{"Example.org.": "@", "www.example.org": "www", "*.example.org": "*", "a.b.example.co.uk": "a.b", "*.a.example.co.uk": "*.a", "example.co.uk": "@"} {
		got, err := b.RouteDNS(t.Context(), b.alice, name)
		b.must(err)
		normal, _ := core.NormalHostname(name)
		if got.Label != want || !slices.Equal(got.Addresses, []string{router.Address}) || got.TXT != "vhost="+core.OwnershipToken(b.OwnershipSecret, b.alice.Account.ID, normal) {
			t.Errorf("%s: got %+v, want the label %s and the router", name, got, want)
		}
	}
	_, err := b.RouteDNS(t.Context(), b.alice, "no name")
	b.wantKind(err, core.Invalid)
}
