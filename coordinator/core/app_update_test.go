package core_test

import (
	"fmt"
	"slices"
	"testing"

	"github.com/reeve-paas/reeve/coordinator/core"
	"github.com/reeve-paas/reeve/coordinator/operation"
)

func (b *bed) update(app core.App, u core.AppUpdate) []operation.Record {
	b.Helper()
	ops, err := b.UpdateApp(b.Context(), b.alice, app.Num, u)
	b.must(err)
	return b.ends(ops...)
}

// hostOf is what the agent on an app's node keeps.
func (b *bed) hostOf(app core.App) *host {
	b.world.mu.Lock()
	defer b.world.mu.Unlock()
	return b.world.hosts[app.Nodes[0].Address]
}

func (b *bed) volumeSize() int64 {
	b.world.mu.Lock()
	defer b.world.mu.Unlock()
	for _, v := range b.world.volumes {
		return v.SizeBytes
	}
	return 0
}

func TestUpdateAnApp(t *testing.T) {
	t.Parallel()
	b := newBed(t).work()
	b.router()
	app := b.running(spec())
	get := func() core.App {
		t.Helper()
		app, err := b.App(t.Context(), b.alice, app.Num)
		b.must(err)
		return app
	}
	t.Run("everything at once", func(t *testing.T) {
		b := b.in(t)
		ops := b.update(app, core.AppUpdate{Name: new("renamed"), SizeID: new("m"), ExtraGB: new(5), Password: new(core.Secret("another-word")), Console: new(true)})
		b.wantStatuses(ops, "completed", "completed")
		if ops[0].Kind != core.OpAppUpdateNode || ops[1].Kind != core.OpAppUpdateVolume {
			t.Errorf("got the kinds %s, %s, want the node's first", ops[0].Kind, ops[1].Kind)
		}
		got, h := get(), b.hostOf(app)
		if got.Name != "renamed" || got.SizeID != "m" || got.Nodes[0].SizeID != "m" || got.ExtraGB != 5 || got.State != core.AppRunning || b.volumeSize() != 15<<30 || h.grown != 1 {
			t.Errorf("got %+v with a volume of %d bytes", got, b.volumeSize())
		}
		if l := h.login.Login; l == nil || l.User != fmt.Sprint(app.Login) || l.PasswordHash != "hash of another-word" || !l.Shell || h.users["root"] != "another-word" {
			t.Errorf("got the login %+v and users %v", h.login, len(h.users))
		}
		b.wantNoSecrets(ops[0].GroupID, "another-word")
	})
	t.Run("nothing is an update too", func(t *testing.T) {
		b := b.in(t)
		b.world.arm(nil)
		ops := b.update(app, core.AppUpdate{})
		b.wantStatuses(ops, "completed")
		if calls := b.world.made(); len(calls) > 0 || ops[0].Kind != core.OpAppUpdateNode {
			t.Errorf("got the calls %v, want none", calls)
		}
	})
	t.Run("only the disk is an update of the volume alone, and the console leaves the password", func(t *testing.T) {
		b := b.in(t)
		if ops := b.update(app, core.AppUpdate{ExtraGB: new(7)}); len(ops) != 1 || ops[0].Kind != core.OpAppUpdateVolume {
			t.Errorf("got %d operations, want the volume's", len(ops))
		}
		b.update(app, core.AppUpdate{Console: new(false)})
		if h := b.hostOf(app); h.login.Login.PasswordHash != "hash of another-word" || h.login.Login.Shell || h.users["root"] != "another-word" {
			t.Errorf("got the login %+v", h.login)
		}
		b.update(app, core.AppUpdate{RootPassword: new(core.Secret("for-the-database"))})
		if h := b.hostOf(app); h.users["root"] != "for-the-database" || h.login.Login.PasswordHash != "hash of another-word" {
			t.Error("the database's password is not the one that was given, or the login's is")
		}
	})
	t.Run("what is refused", func(t *testing.T) {
		b := b.in(t)
		s := spec()
		s.Name, s.Routes = "other", nil
		b.running(s)
		for name, tc := range map[string]struct {
			u    core.AppUpdate
			want core.Kind
			code core.ProblemCode
		}{
			"a smaller disk":     {core.AppUpdate{ExtraGB: new(6)}, core.Invalid, core.ProblemShrinks},
			"a negative disk":    {core.AppUpdate{ExtraGB: new(-1)}, core.Invalid, core.ProblemTooSmall},
			"an immense disk":    {core.AppUpdate{ExtraGB: new(1 << 40)}, core.Invalid, core.ProblemTooBig},
			"no such size":       {core.AppUpdate{SizeID: new("x")}, core.Invalid, core.ProblemNotInList},
			"an empty name":      {core.AppUpdate{Name: new("")}, core.Invalid, core.ProblemTooShort},
			"a name that exists": {core.AppUpdate{Name: new("other")}, core.Exists, core.ProblemTaken},
			"a short password":   {core.AppUpdate{Password: new(core.Secret("short"))}, core.Invalid, core.ProblemPassword},
			"a short root one":   {core.AppUpdate{RootPassword: new(core.Secret("short"))}, core.Invalid, core.ProblemPassword},
		} {
			problems, err := b.CheckUpdate(t.Context(), b.alice, app.Num, tc.u)
			if err != nil || len(problems) != 1 || problems[0].Code != tc.code {
				t.Errorf("%s: got the problems %+v, %v, want %s", name, problems, err, tc.code)
			}
			_, err = b.UpdateApp(t.Context(), b.alice, app.Num, tc.u)
			b.wantKind(err, tc.want)
		}
		for _, p := range []core.Principal{b.bob, {Via: "anonymous"}} {
			want := core.NotFound
			if p.Anonymous() {
				want = core.Unauthenticated
			}
			_, err := b.UpdateApp(t.Context(), p, app.Num, core.AppUpdate{})
			b.wantKind(err, want)
			_, err = b.RestartApp(t.Context(), p, app.Num)
			b.wantKind(err, want)
			_, err = b.RenewApp(t.Context(), p, app.Num, 1)
			b.wantKind(err, want)
		}
	})
	t.Run("one change at a time", func(t *testing.T) {
		b := b.in(t)
		waits, release := b.world.hold("ResizeNode")
		ops, err := b.UpdateApp(t.Context(), b.alice, app.Num, core.AppUpdate{SizeID: new("s")})
		b.must(err)
		<-waits
		_, err = b.UpdateApp(t.Context(), b.alice, app.Num, core.AppUpdate{ExtraGB: new(9)})
		b.wantKind(err, core.Busy)
		_, err = b.RestartApp(t.Context(), b.alice, app.Num)
		b.wantKind(err, core.Busy)
		b.wantKind(b.CheckRestart(t.Context(), b.alice, app.Num), core.Busy)
		_, err = b.CheckRenew(t.Context(), b.alice, app.Num, 1)
		b.wantKind(err, core.Busy)
		_, op, err := b.AddRoute(t.Context(), b.alice, app.Num, core.RouteSpec{Hostname: "beside.hosted.test"}) // waits its turn
		b.must(err)
		release()
		b.wantStatuses(b.ends(ops...), "completed")
		b.wantStatuses(b.ends(op), "completed")
		if get().SizeID != "s" {
			t.Error("the size is not what it was changed to")
		}
	})
	t.Run("a restart boots the node, a renewal adds months", func(t *testing.T) {
		b := b.in(t)
		boots := b.hostOf(app).boots
		op, err := b.RestartApp(t.Context(), b.alice, app.Num)
		b.must(err)
		b.wantStatuses(b.ends(op), "completed")
		if got := b.hostOf(app).boots; got != boots+1 {
			t.Errorf("got %d boots more, want one", got-boots)
		}
		end := get().EndsAt
		ops, err := b.RenewApp(t.Context(), b.alice, app.Num, 2)
		b.must(err)
		b.wantStatuses(b.ends(ops...), "completed", "completed")
		if got := get().EndsAt; !got.Equal(core.AddMonths(end, 2)) {
			t.Errorf("got the end %s, want two months after %s", got, end)
		}
		for _, months := range []int{0, -1, 121, 119} {
			_, err := b.RenewApp(t.Context(), b.alice, app.Num, months)
			b.wantKind(err, core.Invalid)
		}
	})
}

func TestAnUpdateIsTakenBackWhenItFails(t *testing.T) {
	t.Parallel()
	b := newBed(t).work()
	b.router()
	app := b.running(spec())
	all := core.AppUpdate{Name: new("renamed"), SizeID: new("m"), ExtraGB: new(3), Password: new(core.Secret("another-word"))}
	want := []string{"ResizeNode", "Node", "Hostname", "SetLogin", "GrowCloudVolume", "GrowVolume", "ResetDatabasePassword"}
	for n, call := range want {
		t.Run(fmt.Sprintf("%s (%d)", call, n+1), func(t *testing.T) {
			b := b.in(t)
			b.world.arm(map[int]error{n + 1: permanent, n + 2: temporary})
			ops := b.update(app, all)
			if got := b.world.made(); len(got) <= n || !slices.Equal(got[:n+1], want[:n+1]) {
				t.Errorf("got the calls %v, want them to begin as %v", got, want[:n+1])
			}
			failed := ops[0]
			if n >= 4 {
				failed = ops[1]
			}
			if failed.Status != operation.StatusFailed {
				t.Errorf("got %s %q, want it failed", failed.Status, failed.Error)
			}
			got, err := b.App(t.Context(), b.alice, app.Num)
			b.must(err)
			if got.Name != "shop" || got.SizeID != "s" || got.ExtraGB != 0 || got.State != core.AppRunning || got.Nodes[0].SizeID == "m" {
				t.Errorf("got %+v, want it as before", got)
			}
			if h := b.hostOf(app); n >= 3 && (h.login.Login == nil || h.login.Login.PasswordHash != "hash of "+password) {
				t.Errorf("got the login %+v, want the old password", h.login)
			}
			if h := b.hostOf(app); h.users["root"] != password {
				t.Error("the database has the new password")
			}
		})
	}
	b.world.arm(map[int]error{1: temporary, 3: temporary, 5: temporary})
	b.wantStatuses(b.update(app, all), "completed", "completed")
	t.Run("deleted while it is updated", func(t *testing.T) {
		b := b.in(t)
		waits, release := b.world.hold("SetLogin")
		ops, err := b.UpdateApp(t.Context(), b.alice, app.Num, core.AppUpdate{Password: new(core.Secret("yet-another-word"))})
		b.must(err)
		<-waits
		op, err := b.DeleteApp(t.Context(), b.alice, app.Num)
		b.must(err)
		release()
		b.wantStatuses(b.ends(ops...), "canceled")
		b.wantStatuses(b.ends(op), "completed")
		b.wantTraces(0, 0, 0)
		b.wantNothingOf(app)
	})
}

func TestAnAppThatIsNotUpCannotBeChanged(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	app, _ := b.create(spec())
	_, err := b.UpdateApp(t.Context(), b.alice, app.Num, core.AppUpdate{SizeID: new("m")})
	b.wantKind(err, core.Busy)
	_, err = b.RestartApp(t.Context(), b.alice, app.Num)
	b.wantKind(err, core.Busy)
	_, err = b.DeleteApp(t.Context(), b.alice, app.Num)
	b.must(err)
	_, err = b.UpdateApp(t.Context(), b.alice, app.Num, core.AppUpdate{SizeID: new("m")})
	b.wantKind(err, core.Busy)
}
