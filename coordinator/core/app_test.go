package core_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/reeve-paas/reeve/coordinator/core"
)

func TestAnAppComesUp(t *testing.T) {
	t.Parallel()
	b := newBed(t).work()
	routers := []core.Node{b.router(), b.secondRouter()}
	app, ops := b.create(spec())
	if app.State != core.AppCreating || len(app.Nodes) != 1 || len(app.Routes) != 2 || app.Login != 2000+app.Num {
		t.Errorf("got the app %+v", app)
	}
	g, err := b.store.Group(t.Context(), ops[0].GroupID)
	b.must(err)
	databasePassword := struct{ Database string }{}
	if len(g.Secret) > 0 { // else it ended already
		b.must(json.Unmarshal(g.Secret, &databasePassword))
	}
	got := b.ends(ops...)
	b.wantStatuses(got, "completed", "completed", "completed")
	for i, kind := range []string{core.OpAppCreateNode, core.OpAppCreateVolume, core.OpAppCreateRoute} {
		if got[i].Kind != kind || got[i].StepsDone != got[i].Steps || got[i].Subject != string(app.ID) || i > 0 && got[i].StartedAt.Before(got[i-1].EndedAt) {
			t.Errorf("got operation %d %+v, want a finished %s after the one before", i, got[i], kind)
		}
	}

	app, err = b.App(t.Context(), b.alice, app.Num)
	b.must(err)
	node := app.Nodes[0]
	if app.State != core.AppRunning || app.Routes[0].State != core.RouteRunning || app.Routes[1].State != core.RouteRunning || node.State != core.NodeRunning {
		t.Errorf("got the app %+v, want all of it running", app)
	}
	b.world.mu.Lock()
	defer b.world.mu.Unlock()
	h := b.world.hosts[node.Address]
	name := fmt.Sprintf("a%d", app.Num)
	deployed := h.apps[name]
	user := h.users["app"]
	if !h.databases["app"] || h.users["root"] != password || len(user) != 24 || databasePassword.Database != "" && user != databasePassword.Database {
		t.Errorf("got the databases %v and users %v", h.databases, h.users)
	}
	if env := deployed.Env; string(env["MYSQL_PASSWORD"]) != user || string(env["DATABASE_URL"]) != "mysql://app:"+user+"@localhost:3306/app" {
		t.Errorf("got an environment that does not open the database: %d members", len(env))
	}
	if deployed.Platform != "php" || deployed.Base != "/srv/apps" || deployed.Login.User != fmt.Sprint(app.Login) || deployed.Login.PasswordHash != "hash of "+password {
		t.Errorf("got the app %+v on its host", deployed)
	}
	if h.mounted == "" || !h.enabled["mysql"] || !h.started["mysql"] || !h.enabled["apache"] || !h.started["apache"] {
		t.Errorf("got mounted %q, enabled %v, started %v", h.mounted, h.enabled, h.started)
	}
	for _, r := range app.Routes {
		if vhost := h.vhosts[r.Hostname]; !strings.Contains(vhost, "ServerName "+r.Hostname+"\n") || !strings.Contains(vhost, `DocumentRoot "/web"`) {
			t.Errorf("got the virtual host %q for %s", vhost, r.Hostname)
		}
		for _, router := range routers {
			if got := b.world.hosts[router.Address].proxies[r.Hostname]; got != node.Address {
				t.Errorf("got a proxy of %s on %s to %q, want %q", r.Hostname, router.Name, got, node.Address)
			}
		}
	}
	b.wantAudit("app.create accepted")
	b.wantNoSecrets(ops[0].GroupID, password, user)
}

// wantNoSecrets looks for secrets where nobody may find them: operations, the log, and the files of the store.
func (b *bed) wantNoSecrets(group string, secrets ...string) {
	b.Helper()
	g, err := b.store.Group(b.Context(), group)
	b.must(err)
	if len(g.Secret) > 0 {
		b.Error("the operations' secret is kept after their end")
	}
	records, err := json.Marshal(g)
	b.must(err)
	places := map[string][]byte{"operations": records, "log": []byte(b.log.String())}
	files, err := filepath.Glob(filepath.Join(b.dir, "reeve.db*"))
	b.must(err)
	for _, name := range files {
		places[filepath.Base(name)], err = os.ReadFile(name)
		b.must(err)
	}
	for place, data := range places {
		for i, secret := range secrets {
			if bytes.Contains(data, []byte(secret)) {
				b.Errorf("secret %d is readable in %s", i, place)
			}
		}
	}
}

func TestWhatIsNotTheCallersDoesNotExist(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	app, ops := b.create(spec())
	other := func(fn func(core.Principal, int64) error, num int64) (string, string) {
		errMine, errNone := fn(b.bob, num), fn(b.bob, 999)
		b.wantKind(errMine, core.NotFound)
		b.wantKind(errNone, core.NotFound)
		return fmt.Sprint(errMine), fmt.Sprint(errNone)
	}
	for name, try := range map[string]struct {
		fn  func(core.Principal, int64) error
		num int64
	}{
		"App":             {func(p core.Principal, n int64) error { _, err := b.App(t.Context(), p, n); return err }, app.Num},
		"DeleteApp":       {func(p core.Principal, n int64) error { _, err := b.DeleteApp(t.Context(), p, n); return err }, app.Num},
		"Operation":       {func(p core.Principal, n int64) error { _, err := b.Operation(t.Context(), p, n); return err }, ops[0].Num},
		"CancelOperation": {func(p core.Principal, n int64) error { return b.CancelOperation(t.Context(), p, n) }, ops[0].Num},
	} {
		if mine, none := other(try.fn, try.num); mine != none {
			t.Errorf("%s: got %q for another's and %q for none, want the same words", name, mine, none)
		}
		b.wantKind(try.fn(core.Principal{Via: "anonymous"}, try.num), core.Unauthenticated)
	}
	for _, p := range []core.Principal{b.bob, {Via: "anonymous"}} {
		apps, _ := b.Apps(t.Context(), p)
		n, _ := b.CountApps(t.Context(), p)
		records, _ := b.Operations(t.Context(), p, core.OperationFilter{Account: string2id(b.alice)})
		if len(apps)+n+len(records) > 0 {
			t.Errorf("%q sees %d apps, a count of %d, %d operations of alice, want none", p.Account.ID, len(apps), n, len(records))
		}
	}
	_, _, err := b.CreateApp(t.Context(), core.Principal{Via: "anonymous"}, spec())
	b.wantKind(err, core.Unauthenticated)
}

func string2id(p core.Principal) core.AccountID { return p.Account.ID }

func TestDeleteWhileAnAppIsCreated(t *testing.T) {
	t.Parallel()
	b := newBed(t).work()
	b.router()
	waits, release := b.world.hold("CreateVolume")
	app, ops := b.create(spec())
	<-waits
	op, err := b.DeleteApp(t.Context(), b.alice, app.Num)
	b.must(err)
	_, err = b.DeleteApp(t.Context(), b.alice, app.Num)
	b.wantKind(err, core.Busy)
	b.wantKind(b.CancelOperation(t.Context(), b.alice, op.Num), core.Busy)
	if got, err := b.App(t.Context(), b.alice, app.Num); err != nil || got.State != core.AppDeleting {
		t.Errorf("got the state %s, %v, want deleting", got.State, err)
	}
	release()
	b.wantStatuses(b.ends(op), "completed")
	b.wantStatuses(b.ends(ops...), "completed", "canceled", "canceled")
	b.wantTraces(0, 0, 0)
	b.wantNothingOf(app)
	_, err = b.DeleteApp(t.Context(), b.alice, app.Num)
	b.wantKind(err, core.NotFound)
	b.wantAudit("app.create accepted", "app.delete accepted", "app.delete busy", "operation.cancel busy", "app.delete not_found")
}

func TestDeleteOfAnAppThatWasNotBegun(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	app, ops := b.create(spec())
	op, err := b.DeleteApp(t.Context(), b.alice, app.Num)
	b.must(err)
	b.work()
	b.wantStatuses(b.ends(op), "completed")
	b.wantStatuses(b.ends(ops...), "canceled", "canceled", "canceled")
	b.wantTraces(0, 0, 0)
	b.wantNothingOf(app)
	if calls := b.world.made(); strings.Contains(strings.Join(calls, " "), "CreateNode") {
		t.Errorf("got the calls %v, want no node made", calls)
	}
}

func TestCancelTakesBackWhatWasDone(t *testing.T) {
	t.Parallel()
	b := newBed(t).work()
	b.router()
	waits, release := b.world.hold("MountVolume")
	app, ops := b.create(spec())
	<-waits
	b.must(b.CancelOperation(t.Context(), b.alice, ops[2].Num))
	release()
	b.wantStatuses(b.ends(ops...), "completed", "canceled", "canceled")
	b.wantTraces(0, 0, 0)
	if got, err := b.App(t.Context(), b.alice, app.Num); err != nil || got.State != core.AppFailed || got.Routes[0].State != core.RouteFailed {
		t.Errorf("got the app %+v, %v, want it failed", got, err)
	}
	b.wantKind(b.CancelOperation(t.Context(), b.alice, ops[2].Num), core.Busy)
	b.wantStatuses(b.delete(app), "completed")
	b.wantNothingOf(app)
}

func TestTheQuotaHoldsAgainstManyAtOnce(t *testing.T) {
	t.Parallel()
	const limit, callers = 7, 50
	b := newBed(t, func(o *core.Options) { o.MaxApps = limit })
	var wg sync.WaitGroup
	var mu sync.Mutex
	outcome := map[core.Kind]int{}
	for i := range callers {
		wg.Go(func() {
			s := spec()
			s.Name, s.Routes = fmt.Sprintf("app%d", i), nil
			_, _, err := b.CreateApp(t.Context(), b.alice, s)
			mu.Lock()
			defer mu.Unlock()
			kind := core.Kind("")
			if err != nil {
				kind = core.KindOf(err)
			}
			outcome[kind]++
		})
	}
	wg.Wait()
	if outcome[""] != limit || outcome[core.Quota] != callers-limit {
		t.Errorf("got the outcomes %v, want %d accepted and the rest over quota", outcome, limit)
	}
	if n, err := b.CountApps(t.Context(), b.alice); err != nil || n != limit {
		t.Errorf("got %d apps, %v, want %d", n, err, limit)
	}
	_, _, err := b.CreateApp(t.Context(), b.bob, spec())
	b.must(err) // another account has a quota of its own
}

func TestOneNameForManyAtOnceHasOneWinner(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	var wg sync.WaitGroup
	errs := make([]error, 8)
	for i := range errs {
		wg.Go(func() {
			s := spec()
			p := b.alice
			if i%2 == 1 {
				p, s.Name = b.bob, fmt.Sprint("other", i) // another name and the same routes
			}
			_, _, errs[i] = b.CreateApp(t.Context(), p, s)
		})
	}
	wg.Wait()
	won := 0
	for _, err := range errs {
		if err == nil {
			won++
		} else if core.KindOf(err) != core.Exists {
			t.Errorf("got %v, want exists", err)
		}
	}
	if apps := read(b, func(r core.Reader) ([]core.App, error) { return r.Apps("", 0, 0) }); won != 1 || len(apps) != 1 || len(b.operations(core.OperationFilter{})) != 3 {
		t.Errorf("got %d winners and %d apps, want one with three operations", won, len(apps))
	}
}

func TestAnAppWhoseNodeDoesNotAnswerIsStopped(t *testing.T) {
	t.Parallel()
	b := newBed(t).work()
	b.router()
	app, ops := b.create(spec())
	b.ends(ops...)
	for _, want := range []struct {
		node core.NodeState
		app  core.AppState
	}{{core.NodeUnreachable, core.AppStopped}, {core.NodeRunning, core.AppRunning}} {
		n := b.nodes(core.NodeFilter{AppID: app.ID})[0]
		n.State = want.node
		b.must(b.store.Update(t.Context(), func(tx core.Tx) error { return tx.PutNode(&n) }))
		one, err := b.App(t.Context(), b.alice, app.Num)
		b.must(err)
		all, err := b.Apps(t.Context(), b.alice)
		b.must(err)
		if one.State != want.app || all[0].State != want.app {
			t.Errorf("node %s: got the app %s, in the list %s, want %s", want.node, one.State, all[0].State, want.app)
		}
	}
}
