package tsuru

import (
	"context"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/reeve-paas/reeve/coordinator/api"
	"github.com/reeve-paas/reeve/coordinator/auth"
	"github.com/reeve-paas/reeve/coordinator/core"
)

// The versions of client, crane and admin tool that this API was made for. Clients of these versions show no warning.
const (
	supportedClient = "0.12.0"
	supportedCrane  = "0.5.1"
	supportedAdmin  = "0.6.0"
)

// passwordRule is this dialect's: 6 to 50 bytes.
var passwordRule = auth.PasswordRule{Min: 6, Max: 50}

// Mailer brings messages to people.
type Mailer interface {
	Send(ctx context.Context, to, subject, text string) error
}

// Repositories hand out what was pushed. coordinator/release has them.
type Repositories interface {
	// Archive stores the state of a branch, tag or commit of an app's repository as tar.gz in core's files, and says which
	// commit that is. Errors: not_found
	Archive(ctx context.Context, app core.App, version, commit string) (source, head string, err error)
}

// Proxy passes requests through to providers of services. coordinator/broker has it.
type Proxy interface {
	Proxy(w http.ResponseWriter, r *http.Request, s core.Offer, callback string) error
}

// Options configure a Dialect. Core and Auth are needed.
type Options struct {
	Core  *core.Core
	Auth  *auth.Auth
	Mail  Mailer       // nil: passwords cannot be reset
	Git   Repositories // nil: there are none
	Proxy Proxy        // nil: there are no services of providers
	Log   *slog.Logger // nil: slog.Default

	PublicURL      string        // under which callers reach us, for links; "" means what the request says
	GitHost        string        // host in push URLs; "" means the request's host
	TokenTTL       time.Duration // of logins; 0 means 7 days
	NoRegistration bool          // only administrators make accounts
	JSONStreams    bool          // also on paths without a version: for clients 0.13 to 0.18
	MaxUpload      int64         // bytes of an uploaded archive; 0 means 512 MiB
	Silence        time.Duration // after which a deploy says that it goes on; 0 means 30 s
}

// Dialect answers the tsuru API.
type Dialect struct {
	o      Options
	core   *core.Core
	auth   *auth.Auth
	log    *slog.Logger
	routes *node
	// fetcher loads archives from addresses that callers name.
	fetcher *http.Client

	mu   sync.Mutex // protects the field below
	held map[core.AppID]holder
}

// New builds the dialect.
func New(o Options) *Dialect {
	if o.Log == nil {
		o.Log = slog.Default()
	}
	if o.TokenTTL == 0 {
		o.TokenTTL = 7 * 24 * time.Hour
	}
	if o.MaxUpload == 0 {
		o.MaxUpload = 512 << 20
	}
	if o.Silence == 0 {
		o.Silence = 30 * time.Second
	}
	return &Dialect{o: o, core: o.Core, auth: o.Auth, log: o.Log.With("dialect", "tsuru"), routes: compile(routes), fetcher: newFetcher(),
		held: map[core.AppID]holder{}}
}

// Mount is how the dialect goes into a server: it answers what nobody else does. It limits bodies itself.
func (d *Dialect) Mount() api.Mount {
	return api.Mount{Name: "tsuru", Prefixes: []string{"/"}, Dialect: d, MaxBody: -1, Fail: fail}
}

// Register adds the dialect to a mux.
func (d *Dialect) Register(mux *http.ServeMux) { mux.Handle("/", d) }

// ServeHTTP finds the row of the table that answers.
func (d *Dialect) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	c := &call{d: d, w: w, r: r, vars: map[string]string{}}
	path, versioned := version(r.URL.EscapedPath())
	c.versioned = versioned
	method := r.Method
	if method == http.MethodHead {
		method = http.MethodGet
	}
	c.row = d.routes.find(method, strings.TrimRight(path, "/"), c.vars)
	if c.row == nil {
		api.SetRoute(r.Context(), "not found")
		c.fail(http.StatusNotFound, "404 page not found")
		return
	}
	api.SetRoute(r.Context(), c.row.method+" "+c.row.pattern)
	h := w.Header()
	h.Set("Supported-Tsuru", supportedClient)
	h.Set("Supported-Crane", supportedCrane)
	h.Set("Supported-Tsuru-Admin", supportedAdmin)
	if err := c.run(); err != nil {
		c.failWith(err)
	}
}
