package core_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/reeve-paas/reeve/agent/agentapi"
	"github.com/reeve-paas/reeve/coordinator/core"
	"github.com/reeve-paas/reeve/coordinator/operation"
)

// Operations under fire: whatever happens while one runs, it ends as failed or canceled with a reason a person can act on,
// nothing is left over, and the next try succeeds.

// fire is one kind of call, made on an app that runs, and what its operations may leave.
type fire struct {
	name string
	// prepare makes the call possible again and again.
	prepare func(b *bed, app core.App)
	call    func(b *bed, app core.App) []operation.Record
	// stays is what has to be true after the call did not succeed.
	stays func(b *bed, app core.App)
	// fixed operations go on to their end once they were accepted.
	fixed bool
}

const extraName = "extra.hosted.test"

func (b *bed) now(app core.App) core.App {
	b.Helper()
	got, err := b.App(b.Context(), b.alice, app.Num)
	b.must(err)
	return got
}

func one(op operation.Record, err error) func(*bed) []operation.Record {
	return func(b *bed) []operation.Record { b.Helper(); b.must(err); return []operation.Record{op} }
}

func fires() []fire {
	asBefore := func(b *bed, app core.App) {
		b.Helper()
		got := b.now(app)
		if got.State != core.AppRunning || got.Name != app.Name || got.Nodes[0].ID != app.Nodes[0].ID {
			b.Errorf("got the app %s, %s, want it as before", got.State, got.Name)
		}
	}
	dropExtra := func(b *bed, app core.App) {
		b.Helper()
		if _, err := read2(b, extraName); err == nil {
			_, op, err := b.RemoveRoute(b.Context(), b.alice, extraName)
			b.wantStatuses(b.ends(one(op, err)(b)...), "completed")
		}
	}
	addExtra := func(b *bed, app core.App) {
		b.Helper()
		if _, err := read2(b, extraName); err != nil {
			b.wantStatuses(b.addRoute(app, extraName), "completed")
		}
	}
	return []fire{
		{name: "update", call: func(b *bed, app core.App) []operation.Record {
			b.Helper()
			size := map[string]string{"s": "m", "m": "s"}[b.now(app).SizeID]
			ops, err := b.UpdateApp(b.Context(), b.alice, app.Num, core.AppUpdate{SizeID: &size, Console: new(true)})
			b.must(err)
			return ops
		}, stays: func(b *bed, app core.App) {
			b.Helper()
			if got := b.now(app); got.State != core.AppRunning || got.Nodes[0].SizeID != "" && got.Nodes[0].SizeID != got.SizeID {
				b.Errorf("got the app %s of size %s on a node of size %s", got.State, got.SizeID, got.Nodes[0].SizeID)
			}
		}},
		{name: "restart", call: func(b *bed, app core.App) []operation.Record {
			b.Helper()
			return one(b.RestartApp(b.Context(), b.alice, app.Num))(b)
		}, stays: asBefore},
		{name: "vhost", prepare: dropExtra, call: func(b *bed, app core.App) []operation.Record {
			b.Helper()
			_, op, err := b.AddRoute(b.Context(), b.alice, app.Num, core.RouteSpec{Hostname: extraName})
			return one(op, err)(b)
		}, stays: func(b *bed, app core.App) {
			b.Helper()
			asBefore(b, app)
			if r, err := read2(b, extraName); err != nil || r.State != core.RouteFailed {
				b.Errorf("got the route %s, %v, want it listed as failed", r.State, err)
			}
			b.world.mu.Lock()
			defer b.world.mu.Unlock()
			for address, h := range b.world.hosts {
				if h.proxies[extraName] != "" || h.vhosts[extraName] != "" {
					b.Errorf("%s still knows the name", address)
				}
			}
		}},
		{name: "vhost removal", fixed: true, prepare: addExtra, call: func(b *bed, app core.App) []operation.Record {
			b.Helper()
			_, op, err := b.RemoveRoute(b.Context(), b.alice, extraName)
			return one(op, err)(b)
		}, stays: asBefore},
		{name: "snapshot", call: func(b *bed, app core.App) []operation.Record {
			b.Helper()
			_, op, err := b.CreateSnapshot(b.Context(), b.alice, app.Num)
			return one(op, err)(b)
		}, stays: func(b *bed, app core.App) {
			b.Helper()
			asBefore(b, app)
			b.wantCopies(len(b.snapshots(app)))
		}},
	}
}

func read2(b *bed, hostname string) (r core.Route, err error) {
	err = b.store.View(b.Context(), func(x core.Reader) (err error) { r, err = x.Route(hostname); return err })
	return r, err
}

// hasty gives the engine so little patience that what does not answer is given up.
func hasty(d []operation.Definition) []operation.Definition {
	for i := range d {
		for j := range d[i].Steps {
			d[i].Steps[j].Timeout = time.Second
		}
	}
	return d
}

// wantReason checks that the one operation that failed says why, in words that name what did not work.
func (b *bed) wantReason(ops []operation.Record, words ...string) {
	b.Helper()
	i := slices.IndexFunc(ops, func(op operation.Record) bool { return op.Status == operation.StatusFailed })
	if i < 0 {
		b.Errorf("got the statuses %q, want one failed", statuses(ops))
		return
	}
	for _, w := range words {
		if !strings.Contains(ops[i].Error, w) {
			b.Errorf("%s: got the reason %q, want it to say %q", ops[i].Kind, ops[i].Error, w)
		}
	}
}

func TestUnderFireTheAgentsDoNotAnswer(t *testing.T) {
	t.Parallel()
	b := newBed(t).work(hasty)
	b.router()
	quiet := func(b *bed, on bool) {
		b.world.mu.Lock()
		defer b.world.mu.Unlock()
		b.world.quiet = on
	}
	t.Run("create", func(t *testing.T) {
		b := b.in(t)
		quiet(b, true)
		app, ops := b.create(spec())
		b.wantReason(b.ends(ops...), "gave up after", "the agent gives no answer")
		quiet(b, false)
		b.wantStatuses(b.delete(app), "completed")
		b.wantTraces(0, 0, 0)
		b.wantNothingOf(app)
	})
	app := b.running(spec())
	for _, f := range fires() {
		if f.name == "snapshot" {
			continue // asks no agent
		}
		t.Run(f.name, func(t *testing.T) {
			b := b.in(t)
			if f.prepare != nil {
				f.prepare(b, app)
			}
			quiet(b, true)
			got := b.ends(f.call(b, app)...)
			quiet(b, false)
			b.wantReason(got, "gave up after", "the agent gives no answer")
			if !f.fixed && !strings.Contains(got[0].Error, "could not be undone") {
				f.stays(b, app)
			}
			b.wantStatuses(b.ends(f.call(b, app)...), "completed")
			b.wantTraces(1, 1, b.proxies(app))
		})
	}
	t.Run("delete", func(t *testing.T) {
		b := b.in(t)
		quiet(b, true)
		b.wantReason(b.delete(app), "gave up after", "the agent gives no answer") // routers serve its names
		quiet(b, false)
		b.wantStatuses(b.delete(app), "completed")
		b.wantTraces(0, 0, 0)
		b.wantNothingOf(app)
	})
}

// proxies is how many there have to be of an app on the one router.
func (b *bed) proxies(app core.App) int { return len(b.now(app).Routes) }

// fireAt makes a call that is held at its n-th step outside, lets something happen, and returns how it ended. ok is false
// when the call made fewer.
func (b *bed) fireAt(n int, call func() []operation.Record, happen func(ops []operation.Record)) (got []operation.Record, where string, ok bool) {
	b.Helper()
	b.world.arm(nil)
	waits, release := b.world.holdAt(n)
	ops := call()
	ended := false
	b.until("a held call, or the end", func() bool {
		select {
		case where = <-waits:
			return true
		default:
		}
		g, err := b.store.Group(b.Context(), ops[0].GroupID)
		b.must(err)
		ended = g.Ended
		return ended
	})
	if ended && where == "" {
		release()
		return b.ends(ops...), "", false
	}
	happen(ops)
	release()
	return b.ends(ops...), where, true
}

func TestUnderFireCancelAtEachStep(t *testing.T) {
	t.Parallel()
	b := newBed(t).work()
	b.router()
	t.Run("create", func(t *testing.T) {
		steps := 0
		for n := 1; ; n++ {
			b := b.in(t)
			var app core.App
			got, where, ok := b.fireAt(n, func() (ops []operation.Record) { app, ops = b.create(spec()); return ops }, func(ops []operation.Record) {
				b.must(b.CancelOperation(t.Context(), b.alice, ops[len(ops)-1].Num))
			})
			if ok {
				steps++
				if !slices.ContainsFunc(got, func(op operation.Record) bool {
					return op.Status == operation.StatusCanceled && op.Error == "canceled on request"
				}) && statuses(got)[2] != operation.StatusCompleted { // the last call was the last thing to do
					t.Errorf("%s (%d): got %q", where, n, statuses(got))
				}
				if statuses(got)[2] != operation.StatusCompleted {
					b.wantTraces(0, 0, 0)
					if a := b.now(app); a.State != core.AppFailed {
						t.Errorf("%s (%d): got the app %s", where, n, a.State)
					}
				}
			}
			b.wantStatuses(b.delete(app), "completed")
			b.wantTraces(0, 0, 0)
			b.wantNothingOf(app)
			if !ok {
				break
			}
		}
		if steps < 15 {
			t.Errorf("canceled at %d steps only", steps)
		}
	})
	app := b.running(spec())
	for _, f := range fires() {
		t.Run(f.name, func(t *testing.T) {
			for n := 1; ; n++ {
				b := b.in(t)
				if f.prepare != nil {
					f.prepare(b, app)
				}
				got, where, ok := b.fireAt(n, func() []operation.Record { return f.call(b, app) }, func(ops []operation.Record) {
					err := b.CancelOperation(t.Context(), b.alice, ops[0].Num)
					if f.fixed {
						b.wantKind(err, core.Busy)
					} else {
						b.must(err)
					}
				})
				if !ok {
					if n == 1 {
						t.Error("it never waited")
					}
					break
				}
				switch {
				case f.fixed:
					b.wantStatuses(got, "completed")
				case got[0].Status == operation.StatusCanceled:
					if got[0].Error != "canceled on request" {
						t.Errorf("%s (%d): got the reason %q", where, n, got[0].Error)
					}
					f.stays(b, app)
				default: // held in its last call: there was nothing left to stop
					b.wantStatuses(got, "completed")
				}
				if f.prepare != nil {
					f.prepare(b, app)
				}
				b.wantStatuses(b.ends(f.call(b, app)...), "completed")
			}
			b.in(t).wantTraces(1, 1, b.proxies(app))
		})
	}
	t.Run("delete", func(t *testing.T) {
		b := b.in(t)
		got, _, _ := b.fireAt(1, func() []operation.Record { return one(b.DeleteApp(t.Context(), b.alice, app.Num))(b) }, func(ops []operation.Record) {
			b.wantKind(b.CancelOperation(t.Context(), b.alice, ops[0].Num), core.Busy)
		})
		b.wantStatuses(got, "completed")
		b.wantTraces(0, 0, 0)
		b.wantNothingOf(app)
	})
}

func TestUnderFireTheHostIsDestroyed(t *testing.T) {
	t.Parallel()
	for _, f := range append(fires(), fire{name: "create"}, fire{name: "delete", fixed: true}) {
		t.Run(f.name, func(t *testing.T) {
			t.Parallel()
			b := newBed(t).work(hasty)
			b.router()
			for n := 1; ; n++ {
				b := b.in(t)
				s := spec()
				var app core.App
				call := func() (ops []operation.Record) { app, ops = b.create(s); return ops }
				if f.name != "create" {
					app = b.running(s)
					if f.prepare != nil {
						f.prepare(b, app)
					}
					call = func() []operation.Record { return f.call(b, app) }
				}
				if f.name == "delete" {
					call = func() []operation.Record { return one(b.DeleteApp(t.Context(), b.alice, app.Num))(b) }
				}
				got, where, ok := b.fireAt(n, call, func([]operation.Record) { b.world.burn() })
				if ok {
					for _, op := range got {
						if op.Status == operation.StatusFailed && (op.Error == "" || strings.Contains(op.Error, "internal error")) {
							t.Errorf("%s (%d): got the reason %q", where, n, op.Error)
						}
					}
				}
				// What is gone is deleted without a trace, and the name is free again.
				if f.name != "delete" || got[0].Status != operation.StatusCompleted {
					b.wantStatuses(b.delete(app), "completed")
				}
				b.wantTraces(0, 0, 0)
				b.wantNothingOf(app)
				b.wantCopies(0)
				if !ok {
					if n == 1 {
						t.Error("it never waited")
					}
					break
				}
			}
		})
	}
}

func TestUnderFireTheDiskIsFull(t *testing.T) {
	t.Parallel()
	b := newBed(t).work()
	b.router()
	full := core.Wrap(core.Quota, core.ObjVolume, fmt.Errorf("write /var/x: no space left on device"), "the disk of the cloud is full")
	inside := core.Wrap(core.Internal, core.ObjNode, agentapi.Errorf(agentapi.KindInternal, "OSError", "No space left on device"), "deploy.create_app on rv-1")
	for call, err := range map[string]error{"CreateNode": full, "CreateVolume": full, "CreateApp": inside, "CreateDatabase": inside} {
		t.Run("create, at "+call, func(t *testing.T) {
			b := b.in(t)
			b.world.always(call, err)
			app, ops := b.create(spec())
			got := b.ends(ops...)
			b.world.always(call, nil)
			words := "is full"
			if err == inside {
				words = "No space left on device"
			}
			b.wantReason(got, words)
			b.wantTraces(0, 0, 0)
			b.wantStatuses(b.delete(app), "completed")
			b.wantNothingOf(app)
		})
	}
	app := b.running(spec())
	s := b.snapshot(app)
	for name, tc := range map[string]struct {
		call string
		do   func(*bed) []operation.Record
	}{
		"growing the disk": {"GrowCloudVolume", func(b *bed) []operation.Record {
			ops, err := b.UpdateApp(b.Context(), b.alice, app.Num, core.AppUpdate{ExtraGB: new(b.now(app).ExtraGB + 1)})
			b.must(err)
			return ops
		}},
		"a snapshot": {"SnapshotVolume", func(b *bed) []operation.Record {
			_, op, err := b.CreateSnapshot(b.Context(), b.alice, app.Num)
			return one(op, err)(b)
		}},
		"a restoration": {"RestoreSnapshot", func(b *bed) []operation.Record { return one(b.RestoreApp(b.Context(), b.alice, s.Num))(b) }},
	} {
		t.Run(name, func(t *testing.T) {
			b := b.in(t)
			b.world.always(tc.call, full)
			b.wantReason(b.ends(tc.do(b)...), "is full")
			b.world.always(tc.call, nil)
			if got := b.now(app); got.State != core.AppRunning || got.ExtraGB != 0 && name == "growing the disk" {
				t.Errorf("got %+v", got)
			}
			b.wantTraces(1, 1, 2)
			b.wantStatuses(b.ends(tc.do(b)...), "completed")
			b.wantTraces(1, 1, 2)
		})
	}
}
