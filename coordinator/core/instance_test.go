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

// engines are the services that our agents run.
var engines = []string{agentapi.EngineMySQL, agentapi.EnginePostgreSQL, agentapi.EngineMongoDB}

// databaseBed has a pool that is up, an app without units, and a team to own instances.
func databaseBed(t *testing.T) (*bed, core.App) {
	b := newBed(t).work()
	b.router()
	_, err := b.CreateTeam(t.Context(), b.alice, "reds")
	b.must(err)
	b.must(b.EnsurePool(t.Context(), ""))
	b.until("the pool", func() bool { return len(b.poolNodes()) == 2 && len(b.unfinished()) == 0 })
	return b, b.shared("shop")
}

// poolNodes are those that run, by age.
func (b *bed) poolNodes() []core.Node {
	b.Helper()
	return slices.DeleteFunc(b.nodes(core.NodeFilter{Role: core.RolePool}), func(n core.Node) bool { return n.State != core.NodeRunning })
}

// lack says that a host has no server of an engine.
func (b *bed) lack(n core.Node, engine string, lacks bool) {
	b.world.mu.Lock()
	defer b.world.mu.Unlock()
	b.world.hosts[n.Address].lacks = map[string]bool{engine: lacks}
}

func (b *bed) instance(name, service string) []operation.Record {
	b.Helper()
	_, op, err := b.CreateInstance(b.Context(), b.alice, core.InstanceSpec{Name: name, Service: service})
	b.must(err)
	return b.ends(op)
}

func (b *bed) node(instance string) core.NodeID {
	b.Helper()
	i, err := b.InstanceByName(b.Context(), b.alice, instance, false)
	b.must(err)
	return i.NodeID
}

func TestADatabaseIsMadeWhereItsServerIs(t *testing.T) {
	t.Parallel()
	for _, engine := range engines {
		t.Run(engine, func(t *testing.T) {
			t.Parallel()
			b, _ := databaseBed(t)
			nodes := b.poolNodes()
			other := engines[(slices.Index(engines, engine)+1)%len(engines)]
			b.wantStatuses(b.instance("first", other), operation.StatusCompleted)
			crowded, empty := nodes[0], nodes[1]
			if b.node("first") == nodes[1].ID {
				crowded, empty = empty, crowded
			}
			b.lack(crowded, engine, true)
			b.wantStatuses(b.instance("rows", engine), operation.StatusCompleted)
			if got := b.node("rows"); got != empty.ID {
				t.Errorf("got it on %s, want %s, which alone has a server", got, empty.ID)
			}
			b.lack(crowded, engine, false)
			b.wantStatuses(b.instance("more", engine), operation.StatusCompleted)
			b.wantStatuses(b.instance("most", engine), operation.StatusCompleted)
			if more, most := b.node("more"), b.node("most"); more != most {
				t.Errorf("got %s and %s, want one node for both", more, most)
			}

			b.lack(crowded, engine, true)
			b.lack(empty, engine, true)
			ops := b.instance("none", engine)
			b.wantStatuses(ops, operation.StatusFailed)
			if !strings.Contains(ops[0].Error, "no host for databases has a "+engine+" server") {
				t.Errorf("got the reason %q", ops[0].Error)
			}
			if i, err := b.InstanceByName(t.Context(), b.alice, "none", false); err != nil || i.State != core.InstanceDown || i.NodeID != "" {
				t.Errorf("got it %s on %q, %v, want it down and nowhere", i.State, i.NodeID, err)
			}
			b.done(b.DeleteInstance(t.Context(), b.alice, "none"))
			if databases, users := b.databasesAndUsers(); databases != 4 || users != 0 {
				t.Errorf("got %d databases and %d users, want 4 and none", databases, users)
			}
		})
	}
}

func TestADatabaseWaitsForANodeThatMayHaveItsServer(t *testing.T) {
	t.Parallel()
	b, _ := databaseBed(t)
	nodes := b.poolNodes()
	b.lack(nodes[0], agentapi.EngineMongoDB, true)
	state := func(s core.NodeState) {
		b.must(b.store.Update(t.Context(), func(tx core.Tx) error {
			nodes[1].State = s
			return tx.PutNode(&nodes[1])
		}))
	}
	state(core.NodeEnrolling)
	b.world.arm(nil)
	_, op, err := b.CreateInstance(t.Context(), b.alice, core.InstanceSpec{Name: "rows", Service: agentapi.EngineMongoDB})
	b.must(err)
	b.until("the first node to be asked", func() bool { return slices.Contains(b.world.made(), "EnableService") })
	if len(b.unfinished()) == 0 {
		t.Error("the operation ended without the second node")
	}
	state(core.NodeRunning)
	b.wantStatuses(b.ends(op), operation.StatusCompleted)
	if got := b.node("rows"); got != nodes[1].ID {
		t.Errorf("got it on %s, want %s", got, nodes[1].ID)
	}
}

func TestAnInstanceThatIsRemovedWhileItIsMadeIsNotBound(t *testing.T) {
	t.Parallel()
	b, _ := databaseBed(t)
	waits, release := b.world.hold("CreateDatabase")
	_, create, err := b.CreateInstance(t.Context(), b.alice, core.InstanceSpec{Name: "rows", Service: agentapi.EnginePostgreSQL})
	b.must(err)
	<-waits
	remove, err := b.DeleteInstance(t.Context(), b.alice, "rows")
	b.must(err)
	wait, let := b.world.hold("DropDatabase")
	release()
	b.wantStatuses(b.ends(create), operation.StatusCompleted)
	<-wait
	_, err = b.BindApp(t.Context(), b.alice, "rows", "shop", false)
	b.wantKind(err, core.Busy)
	let()
	b.wantStatuses(b.ends(remove), operation.StatusCompleted)
}

// TestBreakEachCallOfADatabase makes an instance of each engine, binds an app, unbinds it and removes the instance, with each
// call to the host failing in turn: for a while, after which the work is done, and for good, after which nothing is left of what
// was asked for, or it can be asked for again.
func TestBreakEachCallOfADatabase(t *testing.T) {
	t.Parallel()
	for _, engine := range engines {
		t.Run(engine, func(t *testing.T) {
			t.Parallel()
			b, app := databaseBed(t)
			ctx := t.Context()
			steps := []struct {
				name             string
				call             func() (operation.Record, error)
				databases, users int // when it is done
				taken            int // databases when it failed for good
				again            bool
			}{
				{"create", func() (operation.Record, error) {
					_, op, err := b.CreateInstance(ctx, b.alice, core.InstanceSpec{Name: "rows", Service: engine})
					return op, err
				}, 1, 0, 0, false},
				{"bind", func() (operation.Record, error) { return b.BindApp(ctx, b.alice, "rows", "shop", false) }, 1, 1, 1, true},
				{"unbind", func() (operation.Record, error) { return b.UnbindApp(ctx, b.alice, "rows", "shop", false) }, 1, 0, 1, true},
				{"remove", func() (operation.Record, error) { return b.DeleteInstance(ctx, b.alice, "rows") }, 0, 0, 1, true},
			}
			variables := func() int {
				env := read(b, func(r core.Reader) ([]core.EnvVar, error) { return r.AppEnv(app.ID) })
				return len(slices.DeleteFunc(env, func(v core.EnvVar) bool { return v.Tag != "rows" }))
			}
			want := func(when string, databases, users int, bound bool) {
				t.Helper()
				if d, u := b.databasesAndUsers(); d != databases || u != users {
					t.Errorf("%s: got %d databases and %d users, want %d and %d", when, d, u, databases, users)
				}
				if n := variables(); (n > 0) != bound {
					t.Errorf("%s: got %d variables of the instance", when, n)
				}
			}
			broken := 0
			for _, s := range steps {
				for n := 1; ; n++ {
					b.world.arm(map[int]error{n: permanent, n + 1: temporary}) // the first call of the undo is repeated, too
					op, err := s.call()
					b.must(err)
					ops := b.ends(op)
					if ops[0].Status == operation.StatusCompleted { // there is no call n
						if n == 1 {
							t.Errorf("%s: no call can fail", s.name)
						}
						want(s.name, s.databases, s.users, s.users > 0)
						break
					}
					broken++
					when := fmt.Sprintf("%s, call %d (%s) fails for good", s.name, n, b.world.made()[n-1])
					b.wantFailed(ops)
					users := 0
					if s.name == "unbind" {
						users = 1 // its user is not dropped yet
					}
					want(when, s.taken, users, false)
					b.world.arm(nil)
					if !s.again {
						if i, err := b.InstanceByName(ctx, b.alice, "rows", false); err != nil || i.State != core.InstanceDown {
							t.Errorf("%s: got it %s, %v, want it down", when, i.State, err)
						}
						b.done(b.DeleteInstance(ctx, b.alice, "rows"))
						want(when+", removed", 0, 0, false)
					}
				}
			}
			round := func(n int) (calls int) {
				for _, s := range steps {
					b.world.arm(map[int]error{n: temporary})
					b.done(s.call())
					calls = max(calls, len(b.world.made()))
					want(fmt.Sprintf("%s, call %d fails for a while", s.name, n), s.databases, s.users, s.users > 0)
				}
				return calls
			}
			for n := 1; n <= round(n); n++ {
			}
			if broken < 6 { // enable, start, make; make the user; drop the user; drop the database
				t.Errorf("only %d calls were broken", broken)
			}
		})
	}
}
