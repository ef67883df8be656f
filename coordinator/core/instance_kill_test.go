package core_test

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/reeve-paas/reeve/coordinator/core"
	"github.com/reeve-paas/reeve/coordinator/operation"
)

// provider is a service of somebody else who counts: what was asked of it twice is refused, and kept.
type provider struct {
	whole bool // it knows bind-app, as later ones do

	mu    sync.Mutex      // protects the fields below
	has   map[string]bool // resources, and what is bound to them: "i", "i/app", "i/unit"
	calls []string
	twice []string
}

func (p *provider) add(what string) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.calls = append(p.calls, "+"+what)
	if p.has[what] {
		p.twice = append(p.twice, what)
		return core.Errorf(core.Invalid, core.ObjService, "%s exists", what)
	}
	p.has[what] = true
	return nil
}

func (p *provider) drop(what string) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.calls = append(p.calls, "-"+what)
	delete(p.has, what)
	return nil
}

// took is what is there, and what was asked twice since the last time.
func (p *provider) took() (has, twice []string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	has, twice = slices.Sorted(maps.Keys(p.has)), p.twice
	p.twice = nil
	return has, twice
}

func (p *provider) Create(_ context.Context, _ core.Offer, i core.ServiceInstance, _ string) error {
	return p.add(i.Name)
}
func (p *provider) Remove(_ context.Context, _ core.Offer, instance string) error {
	return p.drop(instance)
}

func (p *provider) BindApp(_ context.Context, _ core.Offer, instance, app string) (map[string]string, bool, error) {
	if !p.whole {
		return nil, false, nil
	}
	return map[string]string{"KEY": "app"}, true, p.add(instance + "/" + app)
}

func (p *provider) UnbindApp(_ context.Context, _ core.Offer, instance, app string) error {
	return p.drop(instance + "/" + app)
}

func (p *provider) BindUnit(_ context.Context, _ core.Offer, instance, _, unit string, whole bool) (map[string]string, error) {
	if whole != p.whole {
		return nil, core.Errorf(core.Invalid, core.ObjService, "no such call")
	}
	return map[string]string{"KEY": "unit"}, p.add(instance + "/" + unit)
}

func (p *provider) UnbindUnit(_ context.Context, _ core.Offer, instance, _, unit string, whole bool) error {
	if whole != p.whole {
		return nil // 404: what is not there is gone
	}
	return p.drop(instance + "/" + unit)
}

func (p *provider) Status(_ context.Context, _ core.Offer, instance string) (core.InstanceState, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.has[instance] {
		return "", core.Errorf(core.Invalid, core.ObjService, "there is no %s", instance)
	}
	return core.InstanceUp, nil
}

func (p *provider) Info(context.Context, core.Offer, string) ([]core.Label, error) { return nil, nil }
func (p *provider) Plans(context.Context, core.Offer) ([]core.Plan, error)         { return nil, nil }

// databasesAnd users of all hosts.
func (b *bed) databasesAndUsers() (databases, users int) {
	b.world.mu.Lock()
	defer b.world.mu.Unlock()
	for _, h := range b.world.hosts {
		databases += len(h.databases)
		users += len(h.users)
	}
	return databases, users
}

// killed lets an engine work on what call starts until boundary number at, where it stops for ever as if the process were
// gone, and then another one until the end. at 0 is an undisturbed run. It returns the boundaries passed before.
func (b *bed) killed(at int, call func() (operation.Record, error)) (passed int, ops []operation.Record) {
	b.Helper()
	here := func(operation.Point) bool {
		passed++ // one group works at a time
		return passed == at
	}
	ops = b.killedWhere(at > 0, here, call)
	return passed, ops
}

// killedWhere is killed at a point of one's choice; without a kill it waits for the end.
func (b *bed) killedWhere(kill bool, here func(operation.Point) bool, call func() (operation.Record, error)) []operation.Record {
	b.Helper()
	dead, released := make(chan struct{}), make(chan struct{})
	stop := b.engine(func(p operation.Point) {
		if here(p) && kill {
			close(dead)
			<-released
		}
	})
	op, err := call()
	b.must(err)
	if !kill {
		ops := b.ends(op)
		b.must(stop())
		return ops
	}
	<-dead
	stopped := make(chan struct{})
	go func() { defer close(stopped); _ = stop() }() // takes no more work from now on; that its work hangs is what a kill is here
	next := b.run(nil)
	ops := b.ends(op)
	next()
	close(released)
	<-stopped
	return ops
}

// TestAKillAtAnyBoundaryOfAServiceEndsAsWithoutIt makes an instance, binds an app, unbinds it and removes the instance, with a
// kill at each boundary of each in turn.
func TestAKillAtAnyBoundaryOfAServiceEndsAsWithoutIt(t *testing.T) {
	t.Parallel()
	for _, service := range []string{"a provider of the time", "a later provider", "postgresql"} {
		t.Run(service, func(t *testing.T) {
			t.Parallel()
			p := &provider{whole: service == "a later provider", has: map[string]bool{}}
			b := newBed(t, func(o *core.Options) { o.Broker = p })
			stop := b.run(nil)
			b.router()
			_, err := b.CreateTeam(t.Context(), b.alice, "reds")
			b.must(err)
			offer := service
			if service != "postgresql" {
				offer = "counted"
				b.must(b.CreateOffer(t.Context(), b.alice, core.OfferSpec{Name: offer, Endpoints: map[string]string{"production": "http://counted.test"}}))
			}
			app := b.shared("shop")
			_, ops := b.deploy(app, "x")
			b.wantStatuses(ops, operation.StatusCompleted)
			b.done(b.ChangeUnits(t.Context(), b.alice, app.ID, 1))
			stop()

			resources, bound, databases, users := []string{}, []string{}, 1, 1
			if service != "postgresql" {
				databases, users, resources = 0, 0, []string{"rows"}
				bound = []string{"rows"}
				for _, u := range b.app(app.ID).Units {
					bound = append(bound, "rows/"+u.Address)
				}
				if p.whole {
					bound = append(bound, "rows/"+app.Address())
				}
				slices.Sort(bound)
			}
			ctx := t.Context()
			steps := []struct {
				name             string
				call             func() (operation.Record, error)
				provided         []string
				databases, users int
				variables        bool
			}{
				{"create", func() (operation.Record, error) {
					_, op, err := b.CreateInstance(ctx, b.alice, core.InstanceSpec{Name: "rows", Service: offer})
					return op, err
				}, resources, databases, 0, false},
				{"bind", func() (operation.Record, error) { return b.BindApp(ctx, b.alice, "rows", "shop", false) }, bound, databases, users, true},
				{"unbind", func() (operation.Record, error) { return b.UnbindApp(ctx, b.alice, "rows", "shop", false) }, resources, databases, 0, false},
				{"delete", func() (operation.Record, error) { return b.DeleteInstance(ctx, b.alice, "rows") }, []string{}, 0, 0, false},
			}
			round := func(at map[string]int) map[string]int {
				passed := map[string]int{}
				for _, s := range steps {
					when := fmt.Sprintf("%s, killed at boundary %d", s.name, at[s.name])
					var ops []operation.Record
					passed[s.name], ops = b.killed(at[s.name], s.call)
					b.wantStatuses(ops, operation.StatusCompleted)
					has, twice := p.took()
					if !slices.Equal(has, s.provided) && len(has)+len(s.provided) > 0 || len(twice) > 0 {
						t.Errorf("%s: the provider has %v, want %v; asked twice: %v", when, has, s.provided, twice)
					}
					if d, u := b.databasesAndUsers(); d != s.databases || u != s.users {
						t.Errorf("%s: got %d databases and %d users, want %d and %d", when, d, u, s.databases, s.users)
					}
					env := read(b, func(r core.Reader) ([]core.EnvVar, error) { return r.AppEnv(app.ID) })
					n := len(slices.DeleteFunc(env, func(v core.EnvVar) bool { return v.Tag != "rows" }))
					if (n > 0) != s.variables {
						t.Errorf("%s: got %d variables of the instance", when, n)
					}
					if left := b.unfinished(); len(left) > 0 {
						t.Errorf("%s: got %d unfinished operations", when, len(left))
					}
				}
				return passed
			}
			all := round(nil)
			kills := 0
			for n := 1; n <= slices.Max(slices.Collect(maps.Values(all))) && !t.Failed(); n++ {
				at := map[string]int{}
				for name, count := range all {
					if n <= count {
						at[name] = n
						kills++
					}
				}
				round(at)
			}
			if kills < 4*10 { // three around each step, and the end
				t.Errorf("got only %d boundaries: %v", kills, all)
			}
			if strings.Contains(b.log.String(), "level=ERROR") {
				t.Errorf("the log has errors: %s", b.log)
			}
		})
	}
}

// TestUnitsBeginAnewOnceTheyAreBound kills the coordinator at each boundary of the last step of a binding and of its end: the units
// are replaced once, whatever happens, so that none goes on with variables of before.
func TestUnitsBeginAnewOnceTheyAreBound(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	stop := b.run(nil)
	b.router()
	_, err := b.CreateTeam(t.Context(), b.alice, "reds")
	b.must(err)
	app := b.shared("shop")
	_, ops := b.deploy(app, "x")
	b.wantStatuses(ops, operation.StatusCompleted)
	_, op, err := b.CreateInstance(t.Context(), b.alice, core.InstanceSpec{Name: "rows", Service: "postgresql"})
	b.done(op, err)
	stop()
	for _, where := range []string{"never", "before", "done", "recorded"} {
		for _, s := range []struct {
			kind, last string
			call       func(ctx context.Context, p core.Principal, instance, app string, restart bool) (operation.Record, error)
		}{{core.OpServiceBind, "finish", b.BindApp}, {core.OpServiceUnbind, "forget binding", b.UnbindApp}} {
			before := b.app(app.ID).Units[0].ID
			here := func(p operation.Point) bool { return p.Kind == s.kind && p.Step == s.last && p.Where == where }
			ops := b.killedWhere(where != "never", here, func() (operation.Record, error) { return s.call(t.Context(), b.alice, "rows", "shop", true) })
			b.wantStatuses(ops, operation.StatusCompleted)
			stop := b.run(nil)
			restart, ok, err := b.RestartAfter(t.Context(), b.alice, app.ID, ops[0])
			b.must(err)
			if !ok {
				t.Fatalf("%s, killed at %s: nothing restarts", s.kind, where)
			}
			b.done(restart, nil)
			stop()
			again, ok, err := b.RestartAfter(t.Context(), b.alice, app.ID, restart)
			b.must(err)
			if after := b.wantUnits(app, 1, 1); ok || after.Units[0].ID == before {
				t.Errorf("%s, killed at %s: got unit %s after %s, and another restart: %v (%+v)", s.kind, where, after.Units[0].ID, before, ok, again)
			}
		}
	}
}
