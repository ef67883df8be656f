package core_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"strings"
	"testing"

	"github.com/reeve-paas/reeve/coordinator/core"
	"github.com/reeve-paas/reeve/coordinator/operation"
)

// site is a source with a document root.
func (b *bed) site(file string) string {
	b.Helper()
	var buf bytes.Buffer
	zw := gzip.NewWriter(&buf)
	tw := tar.NewWriter(zw)
	b.must(tw.WriteHeader(&tar.Header{Name: file, Mode: 0o644}))
	b.must(tw.Close())
	b.must(zw.Close())
	return b.source(buf.String())
}

func (b *bed) deploySite(app core.App, route, file string) (core.Release, []operation.Record) {
	b.Helper()
	rel, op, err := b.Deploy(b.Context(), b.alice, app.ID, core.DeploySpec{Source: b.site(file), Origin: core.OriginGit, Route: route})
	b.must(err)
	return rel, b.ends(op)
}

func TestSites(t *testing.T) {
	t.Parallel()
	b := newBed(t).work()
	b.router()
	app, ops := b.create(spec())
	b.ends(ops...)
	app = b.app(app.ID)
	one := app.Routes[0]
	own := "a1-" + strings.TrimPrefix(one.ID, "rt-")
	current := func() map[string]int {
		b.world.mu.Lock()
		defer b.world.mu.Unlock()
		got := map[string]int{}
		for name, n := range b.world.hosts[app.Nodes[0].Address].current {
			got[name] = n
		}
		return got
	}
	has := func(name string) bool {
		b.world.mu.Lock()
		defer b.world.mu.Unlock()
		_, ok := b.world.hosts[app.Nodes[0].Address].apps[name]
		return ok
	}

	var calls []string // of a deployment
	t.Run("what cannot be served is refused", func(t *testing.T) {
		b := b.in(t)
		for want, s := range map[core.Kind]core.DeploySpec{
			core.Invalid:  {Source: b.site("index.php")},
			core.NotFound: {Source: b.site("htdocs/index.php"), Route: "other.hosted.test"},
		} {
			_, _, err := b.Deploy(t.Context(), b.alice, app.ID, s)
			b.wantKind(err, want)
		}
		_, _, err := b.Deploy(t.Context(), b.alice, app.ID, core.DeploySpec{Source: b.source("no archive")})
		b.wantKind(err, core.Invalid)
		_, _, err = b.Deploy(t.Context(), b.bob, app.ID, core.DeploySpec{Source: b.site("htdocs/index.php")})
		b.wantKind(err, core.Forbidden)
		if got := read(b, func(r core.Reader) ([]core.Release, error) { return r.Releases(app.ID) }); len(got) != 0 {
			t.Errorf("got the releases %+v, want none", got)
		}
	})
	t.Run("for all names, and for one alone", func(t *testing.T) {
		b := b.in(t)
		_, got := b.deploySite(app, "", "htdocs/all")
		b.wantStatuses(got, "completed")
		b.world.arm(nil)
		_, got = b.deploySite(app, one.Hostname, "htdocs/one")
		b.wantStatuses(got, "completed")
		calls = b.world.made()
		if now := current(); now["a1"] != 1 || now[own] != 2 {
			t.Errorf("got the releases %v", now)
		}
		if now := b.app(app.ID); now.Release != 1 || now.Deploys != 2 || now.UnitCount != 0 {
			t.Errorf("got release %d, %d deployments, %d units", now.Release, now.Deploys, now.UnitCount)
		}
		b.world.mu.Lock()
		defer b.world.mu.Unlock()
		h := b.world.hosts[app.Nodes[0].Address]
		if len(h.apps["a1"].Env) == 0 || h.apps[own].Env["MYSQL_PASSWORD"] != h.apps["a1"].Env["MYSQL_PASSWORD"] || h.apps[own].Login != nil {
			t.Error("the site of a name has another environment, or a login")
		}
	})
	t.Run("a failure leaves what served", func(t *testing.T) {
		b := b.in(t)
		two := app.Routes[1]
		if len(calls) < 5 {
			t.Fatalf("got only the calls %v", calls)
		}
		for n, call := range calls {
			b.world.arm(map[int]error{n + 1: permanent})
			_, got := b.deploySite(app, two.Hostname, "htdocs/two")
			b.wantFailed(got)
			if has("a1-" + strings.TrimPrefix(two.ID, "rt-")) {
				t.Errorf("%s (%d) failed: the site is still there", call, n+1)
			}
		}
		b.world.arm(nil)
		if now := current(); now["a1"] != 1 || now[own] != 2 {
			t.Errorf("got the releases %v, want them as before", now)
		}
	})
	t.Run("back to an older one", func(t *testing.T) {
		b := b.in(t)
		_, got := b.deploySite(app, one.Hostname, "htdocs/newer")
		b.wantStatuses(got, "completed")
		rel, op, err := b.Rollback(t.Context(), b.alice, app.ID, 2)
		b.done(op, err)
		if now := current(); now[own] != rel.Number || now["a1"] != 1 {
			t.Errorf("got the releases %v, want %d of the name", now, rel.Number)
		}
	})
	t.Run("a name takes its site along", func(t *testing.T) {
		b := b.in(t)
		_, op, err := b.RemoveRoute(t.Context(), b.alice, one.Hostname)
		b.done(op, err)
		if has(own) || !has("a1") {
			t.Error("the site is still there, or the app is not")
		}
		_, _, err = b.Rollback(t.Context(), b.alice, app.ID, 2)
		b.wantKind(err, core.NotFound)
	})
	t.Run("its end leaves nothing", func(t *testing.T) {
		b := b.in(t)
		b.wantStatuses(b.delete(app), "completed")
		b.wantNothingOf(app)
	})
}
