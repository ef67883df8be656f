package core_test

import (
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/reeve-paas/reeve/coordinator/core"
	"github.com/reeve-paas/reeve/coordinator/operation"
)

const day = 24 * time.Hour

// clock is one that only moves when it is told to.
type clock struct{ micros atomic.Int64 }

func newClock() *clock {
	c := &clock{}
	c.micros.Store(time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC).UnixMicro())
	return c
}

func (c *clock) now() time.Time         { return time.UnixMicro(c.micros.Load()) }
func (c *clock) pass(d time.Duration)   { c.micros.Add(d.Microseconds()) }
func (c *clock) option(o *core.Options) { o.Clock = c.now }
func fast(p ...core.SnapshotProfile) func(*core.Options) {
	return func(o *core.Options) { o.Profiles = p }
}

var profile = core.SnapshotProfile{ID: 7, Name: "often", QuotaFactor: 2, Schedules: []core.SnapshotSchedule{
	{Name: "daily", Every: day, Keep: 3}, {Name: "weekly", Every: 7 * day, Keep: 2}}}

// write changes what is on an app's volume, and content reads it.
func (b *bed) write(app core.App, text string) {
	b.Helper()
	id := b.volume(app).CloudID
	b.world.mu.Lock()
	defer b.world.mu.Unlock()
	b.world.content[id] = text
}

func (b *bed) content(app core.App) string {
	b.Helper()
	id := b.volume(app).CloudID
	b.world.mu.Lock()
	defer b.world.mu.Unlock()
	if h := b.world.hosts[app.Nodes[0].Address]; h.mounted != "/dev/"+id {
		b.Errorf("got %q mounted, want the app's one volume, %s", h.mounted, id)
	}
	return b.world.content[id]
}

// volume is the one volume an app has.
func (b *bed) volume(app core.App) core.Volume {
	b.Helper()
	all := read(b, func(r core.Reader) ([]core.Volume, error) { return r.Volumes(app.ID) })
	if len(all) != 1 || all[0].NodeID == "" {
		b.Fatalf("got the volumes %+v, want one that is attached", all)
	}
	return all[0]
}

func (b *bed) snapshots(app core.App) []core.Snapshot {
	b.Helper()
	return read(b, func(r core.Reader) ([]core.Snapshot, error) { return r.Snapshots("", app.ID) })
}

// snapshot takes one and waits for it.
func (b *bed) snapshot(app core.App) core.AppSnapshot {
	b.Helper()
	s, op, err := b.CreateSnapshot(b.Context(), b.alice, app.Num)
	b.must(err)
	b.wantStatuses(b.ends(op), "completed")
	s, err = b.Snapshot(b.Context(), b.alice, s.Num)
	b.must(err)
	return s
}

func (b *bed) restore(s core.AppSnapshot) []operation.Record {
	b.Helper()
	op, err := b.RestoreApp(b.Context(), b.alice, s.Num)
	b.must(err)
	return b.ends(op)
}

func (b *bed) wantCopies(n int) {
	b.Helper()
	b.world.mu.Lock()
	defer b.world.mu.Unlock()
	if len(b.world.copies) != n {
		b.Errorf("got %d snapshots at the cloud, want %d", len(b.world.copies), n)
	}
}

func TestSnapshotsBringOldContentBack(t *testing.T) {
	t.Parallel()
	b := newBed(t).work()
	b.router()
	app := b.running(spec())
	b.write(app, "old rows")
	s := b.snapshot(app)
	if s.State != core.SnapshotReady || s.SizeBytes != 10<<30 || s.AppNum != app.Num || len(s.Schedules) != 0 {
		t.Errorf("got %+v", s)
	}
	b.write(app, "new rows")
	b.wantStatuses(b.update(app, core.AppUpdate{ExtraGB: new(5)}), "completed")
	b.wantStatuses(b.restore(s), "completed")
	if got := b.content(app); got != "old rows" {
		t.Errorf("got %q after the restoration", got)
	}
	if v := b.volume(app); v.SizeBytes != 15<<30 {
		t.Errorf("got a volume of %d bytes, want it as large as before", v.SizeBytes)
	}
	if h := b.hostOf(app); !h.started["mysql"] || !h.started["apache"] {
		t.Errorf("got the services %v running", h.started)
	}
	b.wantTraces(1, 1, 2)
	t.Run("another time, from the same snapshot", func(t *testing.T) {
		b := b.in(t)
		b.write(app, "newer rows")
		b.wantStatuses(b.restore(s), "completed")
		if got := b.content(app); got != "old rows" {
			t.Errorf("got %q", got)
		}
	})
	t.Run("what is another's does not exist", func(t *testing.T) {
		b := b.in(t)
		for _, num := range []int64{s.Num, 999} {
			for _, try := range []func() error{
				func() error { _, err := b.Snapshot(t.Context(), b.bob, num); return err },
				func() error { _, err := b.RestoreApp(t.Context(), b.bob, num); return err },
				func() error { _, err := b.DeleteSnapshot(t.Context(), b.bob, num); return err },
			} {
				if err := try(); err == nil || core.KindOf(err) != core.NotFound || !strings.HasSuffix(err.Error(), fmt.Sprintf("Snapshot '%d' doesn't exist.", num)) {
					t.Errorf("got %v, want the words for what is not there", err)
				}
			}
		}
		if list, err := b.Snapshots(t.Context(), b.bob); err != nil || len(list) != 0 {
			t.Errorf("got %+v, %v", list, err)
		}
		_, _, err := b.CreateSnapshot(t.Context(), b.bob, app.Num)
		b.wantKind(err, core.NotFound)
	})
	t.Run("as many as the limit, and no more", func(t *testing.T) {
		b := b.in(t)
		for len(b.snapshots(app)) < 10 {
			b.snapshot(app)
		}
		_, _, err := b.CreateSnapshot(t.Context(), b.alice, app.Num)
		b.wantKind(err, core.Quota)
		op, err := b.DeleteSnapshot(t.Context(), b.alice, s.Num)
		b.must(err)
		_, err = b.DeleteSnapshot(t.Context(), b.alice, s.Num)
		if err == nil {
			t.Error("deleted twice")
		}
		b.wantStatuses(b.ends(op), "completed")
		b.wantCopies(9)
		b.snapshot(app)
	})
	t.Run("deleting the app leaves none", func(t *testing.T) {
		b := b.in(t)
		b.wantStatuses(b.delete(app), "completed")
		b.wantTraces(0, 0, 0)
		b.wantCopies(0)
		b.wantNothingOf(app)
		if left := b.snapshots(app); len(left) > 0 {
			t.Errorf("got %+v left", left)
		}
	})
}

// Every call that a restoration makes fails once: for a while, and for good. The content is the old or the new one, never
// something between, and the app is served.
func TestBreakEachCallOfARestoration(t *testing.T) {
	t.Parallel()
	const shares = 4
	for share := range shares {
		t.Run(fmt.Sprintf("share %d", share), func(t *testing.T) {
			t.Parallel()
			b := newBed(t).work()
			b.router()
			app := b.running(spec())
			b.write(app, "old rows")
			s := b.snapshot(app)
			b.world.arm(nil)
			b.wantStatuses(b.restore(s), "completed")
			calls := b.world.made()
			if len(calls) < 9 {
				t.Fatalf("got only the calls %v", calls)
			}
			for n := 1 + share; n <= len(calls); n += shares {
				for _, failure := range []error{temporary, permanent} {
					t.Run(fmt.Sprintf("%s (%d) fails with %s", calls[n-1], n, core.KindOf(failure)), func(t *testing.T) {
						b := b.in(t)
						b.write(app, "new rows")
						b.world.arm(map[int]error{n: failure})
						got := b.restore(s)
						b.world.arm(nil)
						want := "old rows"
						if got[0].Status != operation.StatusCompleted {
							want = "new rows"
							if failure == temporary || !strings.HasSuffix(got[0].Error, "it cannot be") {
								t.Errorf("got %s %q", got[0].Status, got[0].Error)
							}
						}
						b.wantStatuses(b.update(app, core.AppUpdate{}), "completed")
						if all := read(b, func(r core.Reader) ([]core.Volume, error) { return r.Volumes(app.ID) }); len(all) > 1 {
							// The one that was replaced could not be destroyed; it goes with the app.
							if got[0].Status != operation.StatusCompleted || failure == temporary {
								t.Errorf("got the volumes %+v", all)
							}
							b.forgetDetached(all)
						}
						if now := b.content(app); now != want {
							t.Errorf("got %q, want %q", now, want)
						}
						if h := b.hostOf(app); !h.started["mysql"] || !h.started["apache"] {
							t.Errorf("got the services %v running", h.started)
						}
						b.wantTraces(1, 1, 2)
					})
				}
				// The call is carried out and its answer lost, as when the coordinator is killed right after it.
				t.Run(fmt.Sprintf("%s (%d) is done and repeated", calls[n-1], n), func(t *testing.T) {
					b := b.in(t)
					b.write(app, "new rows")
					b.world.arm(nil)
					b.world.mu.Lock()
					b.world.loses = map[int]error{n: temporary}
					b.world.mu.Unlock()
					b.wantStatuses(b.restore(s), "completed")
					b.world.arm(nil)
					if got := b.content(app); got != "old rows" {
						t.Errorf("got %q", got)
					}
					b.wantTraces(1, 1, 2)
				})
			}
		})
	}
}

// forgetDetached removes volumes by hand, as deleting their app would.
func (b *bed) forgetDetached(all []core.Volume) {
	b.Helper()
	for _, v := range all {
		if v.NodeID == "" {
			b.must(b.world.DestroyVolume(b.Context(), v.CloudID))
			b.must(b.store.Update(b.Context(), func(tx core.Tx) error { return tx.DeleteVolume(v.ID) }))
		}
	}
}

func TestCancelARestorationAnywhere(t *testing.T) {
	t.Parallel()
	b := newBed(t).work()
	b.router()
	app := b.running(spec())
	b.write(app, "old rows")
	s := b.snapshot(app)
	for _, call := range []string{"RestoreSnapshot", "UnmountVolume", "AttachVolume", "MountVolume", "StartService"} {
		t.Run(call, func(t *testing.T) {
			b := b.in(t)
			b.write(app, "new rows")
			waits, release := b.world.hold(call)
			op, err := b.RestoreApp(t.Context(), b.alice, s.Num)
			b.must(err)
			<-waits
			b.must(b.CancelOperation(t.Context(), b.alice, op.Num))
			release()
			b.wantStatuses(b.ends(op), "canceled")
			if got := b.content(app); got != "new rows" {
				t.Errorf("got %q, want what was there", got)
			}
			b.wantTraces(1, 1, 2)
		})
	}
	b.wantStatuses(b.restore(s), "completed")
}

func TestSchedulesTakeAndKeepSnapshots(t *testing.T) {
	t.Parallel()
	time := newClock()
	b := newBed(t, time.option, fast(profile)).work()
	b.router()
	s := spec()
	s.SnapshotProfile = 7
	app := b.running(s)
	if app.SnapshotProfile != 7 {
		t.Fatalf("got the profile %d", app.SnapshotProfile)
	}
	look := func() []string { // what there is after upkeep came by, the schedules of each
		b.Helper()
		b.must(b.TakeDueSnapshots(t.Context()))
		b.until("the snapshot", func() bool { return len(b.unfinished()) == 0 })
		var got []string
		for _, s := range b.snapshots(app) {
			got = append(got, strings.Join(s.Schedules, "+"))
		}
		return got
	}
	want := func(when string, want ...string) {
		t.Helper()
		for range 2 { // coming by twice takes no more
			if got := look(); !slices.Equal(got, want) {
				t.Errorf("%s: got %q, want %q", when, got, want)
			}
		}
	}
	both := "daily+weekly"
	want("at once one that serves both schedules", both)
	time.pass(day - 1e9)
	want("a second before the day is over", both)
	time.pass(1e9)
	want("after a day", both, "daily")
	for range 2 {
		time.pass(day)
		look()
	}
	want("after three days the first stays for its weekly", both, "daily", "daily", "daily")
	for range 4 {
		time.pass(day)
		look()
	}
	want("after a week three for the days and two for the weeks", both, "daily", "daily", both)
	for range 7 {
		time.pass(day)
		look()
	}
	want("after two weeks the first has gone", both, "daily", "daily", both)
	t.Run("days without a coordinator are not made up for", func(t *testing.T) {
		time.pass(3*day + 5e9)
		before := len(b.operations(core.OperationFilter{}))
		if got := look(); len(b.operations(core.OperationFilter{})) != before+1 || got[len(got)-1] != "daily" {
			t.Errorf("got %q, %d operations, want one more", got, len(b.operations(core.OperationFilter{}))-before)
		}
	})
	t.Run("one that fails is tried again", func(t *testing.T) {
		time.pass(day)
		had := len(look())
		time.pass(day)
		b.world.always("SnapshotVolume", permanent)
		look()
		failed := b.operations(core.OperationFilter{Subject: string(app.ID)})
		if last := failed[len(failed)-1]; last.Status != operation.StatusFailed || !strings.HasSuffix(last.Error, "it cannot be") {
			t.Errorf("got %s %q", last.Status, last.Error)
		}
		b.world.always("SnapshotVolume", nil)
		before := b.snapshots(app)
		look()
		if got := b.snapshots(app); len(got) != len(before) {
			t.Error("it was tried again at once")
		}
		time.pass(10 * 60 * 1e9)
		look()
		if got := b.snapshots(app); got[len(got)-1].Num <= before[len(before)-1].Num || len(got) < had-1 {
			t.Errorf("got %d snapshots, want a new one", len(got))
		}
		b.wantCopies(len(b.snapshots(app)))
	})
	t.Run("a person's stay", func(t *testing.T) {
		mine := b.in(t).snapshot(app)
		for range 10 {
			time.pass(day)
			look()
		}
		if got, err := b.Snapshot(t.Context(), b.alice, mine.Num); err != nil || got.State != core.SnapshotReady {
			t.Errorf("got %+v, %v", got, err)
		}
	})
	t.Run("an app that is stopped has to wait", func(t *testing.T) {
		time.pass(day)
		n := b.nodes(core.NodeFilter{AppID: app.ID})[0]
		for _, step := range []struct {
			state core.NodeState
			more  int
		}{{core.NodeUnreachable, 0}, {core.NodeRunning, 1}} {
			n.State = step.state
			b.must(b.store.Update(t.Context(), func(tx core.Tx) error { return tx.PutNode(&n) }))
			before := len(b.operations(core.OperationFilter{}))
			look()
			if got := len(b.operations(core.OperationFilter{})) - before; got != step.more {
				t.Errorf("%s: got %d operations, want %d", step.state, got, step.more)
			}
		}
	})
	t.Run("without a profile none is taken any more, and those there are stay until another is", func(t *testing.T) {
		b := b.in(t)
		there := len(b.snapshots(app))
		ops := b.update(app, core.AppUpdate{SnapshotProfile: new(int64(0))})
		if b.wantStatuses(ops, "completed"); ops[0].Kind != core.OpAppUpdateVolume {
			t.Errorf("got the kind %s", ops[0].Kind)
		}
		time.pass(30 * day)
		if got := look(); len(got) != there {
			t.Errorf("got %d snapshots, want %d", len(got), there)
		}
	})
	t.Run("and with one again", func(t *testing.T) {
		b := b.in(t)
		b.wantStatuses(b.update(app, core.AppUpdate{SnapshotProfile: new(int64(7))}), "completed")
		if got := look(); got[len(got)-1] != both {
			t.Errorf("got %q", got)
		}
		b.wantStatuses(b.delete(app), "completed")
		b.wantCopies(0)
		if due := read(b, func(r core.Reader) ([]core.AppID, error) { return r.DueSnapshots(time.now().Add(100 * day)) }); len(due) > 0 {
			t.Errorf("got %v due of a deleted app", due)
		}
	})
}

func TestSchedulesStartAFewAtATime(t *testing.T) {
	t.Parallel()
	b := newBed(t, fast(profile)).work()
	b.router()
	for i := range 6 {
		s := spec()
		s.Name, s.Routes, s.SnapshotProfile = fmt.Sprint("app", i), nil, 7
		b.running(s)
	}
	_, release := b.world.hold("SnapshotVolume")
	for range 3 {
		b.must(b.TakeDueSnapshots(t.Context()))
	}
	if got := len(b.unfinished()); got != 4 {
		t.Errorf("got %d at once, want 4", got)
	}
	release()
	b.until("all of them", func() bool {
		b.must(b.TakeDueSnapshots(t.Context()))
		return len(b.unfinished()) == 0
	})
	b.wantCopies(6)
}

func TestWhatAProfileMayBe(t *testing.T) {
	t.Parallel()
	b := newBed(t, fast(profile), func(o *core.Options) { o.MaxDiskGB = 30 }).work()
	b.router()
	s := spec()
	s.SnapshotProfile = 8
	problems, err := b.CheckApp(t.Context(), b.alice, s)
	if err != nil || len(problems) != 1 || problems[0].Field != "snapshot_profile" || problems[0].Code != core.ProblemNotFound {
		t.Errorf("got %+v, %v", problems, err)
	}
	s.SnapshotProfile, s.ExtraGB = 7, 6 // twice 16 is more than 30
	if problems, err = b.CheckApp(t.Context(), b.alice, s); err != nil || len(problems) != 1 || problems[0].Code != core.ProblemTooBig {
		t.Errorf("got %+v, %v", problems, err)
	}
	s.ExtraGB = 5
	app := b.running(s)
	for name, u := range map[string]core.AppUpdate{
		"no such profile":            {SnapshotProfile: new(int64(8))},
		"a disk too large beside it": {ExtraGB: new(6)},
	} {
		if problems, err := b.CheckUpdate(t.Context(), b.alice, app.Num, u); err != nil || len(problems) != 1 {
			t.Errorf("%s: got %+v, %v", name, problems, err)
		}
	}
	b.wantStatuses(b.update(app, core.AppUpdate{ExtraGB: new(6), SnapshotProfile: new(int64(0))}), "completed")
	b.world.info.Snapshots = false
	if got := b.SnapshotProfiles(); len(got) != 0 {
		t.Errorf("got the profiles %+v of a cloud that takes no snapshots", got)
	}
	_, _, err = b.CreateSnapshot(t.Context(), b.alice, app.Num)
	b.wantKind(err, core.Unsupported)
}
