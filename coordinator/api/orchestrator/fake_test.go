package orchestrator

import (
	"context"
	"io"
	"log/slog"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/reeve-paas/reeve/coordinator/api"
	"github.com/reeve-paas/reeve/coordinator/core"
)

// openCloud is a cloud for everybody; closedCloud one for callers with a token.
type testCloud struct {
	core.Cloud
	info  core.CloudInfo
	nodes []core.CloudNode
	err   error

	version *uint64 // not nil: the cloud is a core.VersionedCloud
	listed  int
}

type versionedTestCloud struct{ *testCloud }

func (c versionedTestCloud) NodesVersion() uint64 { return *c.version }

func (c *testCloud) Info() core.CloudInfo { return c.info }

func (c *testCloud) Nodes(context.Context) ([]core.CloudNode, error) {
	c.listed++
	return c.nodes, c.err
}

func (c *testCloud) Images(context.Context) ([]core.Image, error) {
	return []core.Image{{ID: "1", Name: "Ubuntu 9.10"}}, c.err
}

func (c *testCloud) Sizes(context.Context) ([]core.Size, error) {
	return []core.Size{{ID: "1", Name: "Small", MemoryMB: 128, DiskGB: 4}}, c.err
}

// testCore answers every call with the same node and allocation, or with err.
type testCore struct {
	clouds map[string]*testCloud
	err    error
	last   core.NodeSpec
}

func newTestCore() *testCore {
	one := func(anonymous bool) *testCloud {
		return &testCloud{info: core.CloudInfo{Type: "dummy", Name: "Dummy Node Provider", Host: "127.0.0.1", Anonymous: anonymous}, nodes: []core.CloudNode{dummyNode}}
	}
	return &testCore{clouds: map[string]*testCloud{"default": one(false), "fake_driver": one(true), "closed": one(false)}}
}

var dummyNode = core.CloudNode{ID: "1", Name: "dummy-1", State: core.CloudRunning,
	PublicIPs: []string{"127.0.0.1"}, PrivateIPs: []string{}, Extra: map[string]any{"foo": "bar"}}

func (c *testCore) CloudFor(_ context.Context, p core.Principal, name string) (core.Cloud, error) {
	cloud, ok := c.clouds[name]
	switch {
	case !ok:
		return nil, core.Errorf(core.NotFound, core.ObjCloud, "there is no cloud of this name")
	case p.Anonymous() && !cloud.info.Anonymous:
		return nil, core.Errorf(core.Unauthenticated, core.ObjCloud, "this cloud needs a token")
	case cloud.version != nil:
		return versionedTestCloud{cloud}, nil
	}
	return cloud, nil
}

func (c *testCore) CloudNames() []string { return []string{"default", "closed", "fake_driver"} }

func (c *testCore) Nodes(ctx context.Context, p core.Principal, name string) ([]core.CloudNode, error) {
	cloud, err := c.CloudFor(ctx, p, name)
	if err != nil {
		return nil, err
	}
	return cloud.Nodes(ctx)
}

func (c *testCore) StartNode(ctx context.Context, p core.Principal, cloud string, spec core.NodeSpec) (core.CloudNode, error) {
	c.last = spec
	return c.node(ctx, p, cloud)
}

func (c *testCore) StopNode(ctx context.Context, p core.Principal, cloud, _, _ string) (core.CloudNode, error) {
	return c.node(ctx, p, cloud)
}

func (c *testCore) node(ctx context.Context, p core.Principal, cloud string) (core.CloudNode, error) {
	if _, err := c.CloudFor(ctx, p, cloud); err != nil {
		return core.CloudNode{}, err
	}
	return dummyNode, c.err
}

func (c *testCore) AssignNode(ctx context.Context, p core.Principal, cloud, _, _, _, _ string) (core.Allocation, error) {
	a, _, err := c.ReleaseNode(ctx, p, cloud, "", "")
	return a, err
}

func (c *testCore) ReleaseNode(ctx context.Context, p core.Principal, cloud, _, _ string) (core.Allocation, bool, error) {
	if _, err := c.CloudFor(ctx, p, cloud); err != nil {
		return core.Allocation{}, false, err
	}
	return core.Allocation{Num: 7, NodeID: "1", Hostname: "dummy-1"}, true, c.err
}

func (c *testCore) Allocations(ctx context.Context, p core.Principal, cloud string) ([]core.Allocation, error) {
	a, _, err := c.ReleaseNode(ctx, p, cloud, "", "")
	return []core.Allocation{a}, err
}

// testAuth knows the tokens "user" and "admin".
type testAuth struct{ err error }

func (a *testAuth) Token(_ context.Context, token, from string) (core.Principal, error) {
	switch {
	case a.err != nil:
		return core.Principal{}, a.err
	case token == "user" || token == "admin":
		return core.Principal{Account: core.Account{ID: core.AccountID(token), Handle: token, Admin: token == "admin", Active: true}, Via: "token", From: from}, nil
	}
	return core.Principal{}, core.Errorf(core.Unauthenticated, core.ObjAccount, "the credential is not valid")
}

func (a *testAuth) Login(ctx context.Context, username, password, from string) (core.Principal, error) {
	if password != "password" && a.err == nil {
		return core.Principal{}, core.Errorf(core.Unauthenticated, core.ObjAccount, "the credential is not valid")
	}
	return a.Token(ctx, username, from)
}

func (a *testAuth) NewToken(context.Context, core.AccountID, time.Duration) (core.Secret, error) {
	return "user", nil
}

type fixture struct {
	t       testing.TB
	core    *testCore
	auth    *testAuth
	dialect *Dialect
	do      func(method, path, body string, headers ...string) *httptest.ResponseRecorder
}

func newFixture(t testing.TB) fixture {
	t.Helper()
	f := fixture{t: t, core: newTestCore(), auth: &testAuth{}}
	log := slog.New(slog.DiscardHandler)
	f.dialect = New(Options{Core: f.core, Auth: f.auth, Log: log})
	h, err := api.NewHandler(api.HandlerOptions{Log: log}, f.dialect.Mount())
	if err != nil {
		t.Fatal(err)
	}
	f.do = func(method, path, body string, headers ...string) *httptest.ResponseRecorder {
		r := httptest.NewRequest(method, path, io.NopCloser(strings.NewReader(body)))
		r.ContentLength = int64(len(body))
		for _, one := range headers {
			name, value, _ := strings.Cut(one, ": ")
			r.Header.Set(name, value)
		}
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		return w
	}
	return f
}
