package orchestrator

import (
	"context"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"github.com/reeve-paas/reeve/coordinator/api"
	"github.com/reeve-paas/reeve/coordinator/core"
)

// Core is what the dialect asks of core.
type Core interface {
	CloudFor(ctx context.Context, p core.Principal, name string) (core.Cloud, error)
	CloudNames() []string
	Nodes(ctx context.Context, p core.Principal, cloud string) ([]core.CloudNode, error)
	StartNode(ctx context.Context, p core.Principal, cloud string, spec core.NodeSpec) (core.CloudNode, error)
	StopNode(ctx context.Context, p core.Principal, cloud, nodeID, hostname string) (core.CloudNode, error)
	AssignNode(ctx context.Context, p core.Principal, cloud, nodeID, hostname, user, vmType string) (core.Allocation, error)
	ReleaseNode(ctx context.Context, p core.Principal, cloud, nodeID, hostname string) (a core.Allocation, destroyed bool, err error)
	Allocations(ctx context.Context, p core.Principal, cloud string) ([]core.Allocation, error)
}

// Auth is what the dialect asks of auth.
type Auth interface {
	Login(ctx context.Context, username, password, from string) (core.Principal, error)
	Token(ctx context.Context, token, from string) (core.Principal, error)
	NewToken(ctx context.Context, id core.AccountID, ttl time.Duration) (core.Secret, error)
}

// Options configure a Dialect. Core and Auth are needed.
type Options struct {
	Core     Core
	Auth     Auth
	Log      *slog.Logger  // nil: slog.Default
	TokenTTL time.Duration // of tokens from /auth; 0 means that they do not expire, as in the original
}

// Dialect answers the Orchestrator API.
type Dialect struct {
	core   Core
	auth   Auth
	log    *slog.Logger
	ttl    time.Duration
	routes *routeNode
	nodes  sync.Map // nodesKey -> nodesBody, of versioned clouds
}

// New builds the dialect.
func New(o Options) *Dialect {
	d := &Dialect{core: o.Core, auth: o.Auth, log: o.Log, ttl: o.TokenTTL, routes: compile(routes)}
	if d.log == nil {
		d.log = slog.Default()
	}
	return d
}

// Mount is how the dialect goes into a server.
func (d *Dialect) Mount() api.Mount {
	return api.Mount{Name: "orchestrator", Prefixes: []string{"/api/"}, Dialect: d, Fail: Fail}
}

// Register adds the dialect to a mux. It routes below /api/ itself: every path there has an answer of this dialect, also
// the ones that are not found, and every method of a known path has one too.
func (d *Dialect) Register(mux *http.ServeMux) {
	mux.Handle("/api/", d)
}

// ServeHTTP finds the row of the table that answers.
func (d *Dialect) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	c := &call{d: d, w: w, r: r, cloudName: "default"}
	if r.URL.Path == "/api/v1" {
		api.SetRoute(r.Context(), "/api/v1")
		http.Redirect(w, r, "/api/v1/", http.StatusMovedPermanently)
		return
	}
	leaf := d.routes.find(r.URL.Path, c)
	if leaf == nil {
		api.SetRoute(r.Context(), "not found")
		c.notFound()
		return
	}
	method := r.Method
	if method == http.MethodHead {
		method = http.MethodGet
	}
	for i := range leaf.rows {
		if row := &leaf.rows[i]; row.method == method || row.method == anyMethod {
			api.SetRoute(r.Context(), row.label)
			row.serve(c)
			return
		}
	}
	api.SetRoute(r.Context(), "not implemented")
	c.fail(http.StatusNotImplemented, msgNotImplemented)
}

// call is one request being answered.
type call struct {
	d         *Dialect
	w         http.ResponseWriter
	r         *http.Request
	cloudName string
	body      map[string]any // after readBody
}

func (c *call) ctx() context.Context { return c.r.Context() }

// caller finds out who calls. Without a token that is nobody; a token that is not valid is an error.
func (c *call) caller() (core.Principal, error) {
	token, ok := c.token()
	if !ok {
		return api.Caller(c.ctx()), nil
	}
	p, err := c.d.auth.Token(c.ctx(), token, api.Caller(c.ctx()).From)
	if err != nil {
		return core.Principal{}, err
	}
	return api.SetPrincipal(c.ctx(), p), nil
}

// open finds out who calls and opens the cloud of the path. When it returns false the call is answered.
func (c *call) open() (core.Principal, core.Cloud, bool) {
	p, err := c.caller()
	if err != nil {
		c.failCaller(err)
		return p, nil, false
	}
	cloud, err := c.d.core.CloudFor(c.ctx(), p, c.cloudName)
	switch {
	case err == nil:
		return p, cloud, true
	case core.KindOf(err) == core.Unauthenticated:
		c.failCaller(err)
	default:
		c.failWork(err)
	}
	return p, nil, false
}
