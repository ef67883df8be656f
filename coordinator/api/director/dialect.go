package director

import (
	"cmp"
	"context"
	"crypto/tls"
	"io"
	"log/slog"
	"net/http"
	"time"

	"github.com/reeve-paas/reeve/coordinator/api"
	"github.com/reeve-paas/reeve/coordinator/auth"
	"github.com/reeve-paas/reeve/coordinator/core"
	"github.com/reeve-paas/reeve/coordinator/operation"
)

// Core is what this dialect asks of the rules; *core.Core has it.
type Core interface {
	Version(ctx context.Context) (version int64, ok bool)
	DefaultCloud() string
	ServiceTypes(ctx context.Context) ([]string, error)
	ServiceClouds() []string
	Services(ctx context.Context, p core.Principal, application int64) ([]core.Service, error)
	Service(ctx context.Context, p core.Principal, num int64) (core.Service, error)
	CreateService(ctx context.Context, p core.Principal, spec core.ServiceSpec) (core.Service, error)
	RenameService(ctx context.Context, p core.Principal, num int64, name string) error
	StopService(ctx context.Context, p core.Principal, num int64) error

	Applications(ctx context.Context, p core.Principal) ([]core.Application, error)
	CreateApplication(ctx context.Context, p core.Principal, name string) (core.Application, error)
	RenameApplication(ctx context.Context, p core.Principal, num int64, name string) error
	DeleteApplication(ctx context.Context, p core.Principal, num int64) error

	Credit(ctx context.Context, p core.Principal) (int64, error)
	SpendCredit(ctx context.Context, p core.Principal, service int64, n int) error

	DeleteApp(ctx context.Context, p core.Principal, num int64) (operation.Record, error)
	Managers(ctx context.Context) ([]core.Manager, error)
	StartupService(ctx context.Context, p core.Principal, num int64) error
	ShutdownService(ctx context.Context, p core.Principal, num int64) error
	GrowService(ctx context.Context, p core.Principal, num int64, n int) error
	ShrinkService(ctx context.Context, p core.Principal, num int64, n int) error
	ConfigureService(ctx context.Context, p core.Principal, num, version int64, settings map[string]string) error
	SetServiceSettings(ctx context.Context, p core.Principal, num int64, settings map[string]string) error
	UploadCode(ctx context.Context, p core.Principal, num int64, v core.CodeVersion, data io.ReaderAt, size int64) (core.CodeVersion, error)
	CodeVersions(ctx context.Context, p core.Principal, num int64) ([]core.CodeVersion, error)
	OpenCode(ctx context.Context, p core.Principal, num, version int64) (core.CodeVersion, io.ReadCloser, error)
	DeleteCode(ctx context.Context, p core.Principal, num, version int64) error
	DumpService(ctx context.Context, p core.Principal, num int64) (text io.ReadCloser, size int64, err error)
	LoadDump(ctx context.Context, p core.Principal, num int64, text io.Reader) error
	ExecuteScript(ctx context.Context, p core.Principal, num int64, command string, arguments []string) error
	Scripts(ctx context.Context, p core.Principal, num int64) (core.Service, []core.NodeScripts, error)
	NodeLog(ctx context.Context, p core.Principal, num int64, node core.NodeID) (string, error)
	ServiceEvents(ctx context.Context, p core.Principal, num int64) ([]core.ServiceEvent, error)
	ServiceLog(ctx context.Context, p core.Principal, num int64) (string, error)
	SetServicePassword(ctx context.Context, p core.Principal, num int64, user string, password core.Secret) error
}

// Auth is what the dialect asks of auth; *auth.Auth has it.
type Auth interface {
	Login(ctx context.Context, username, password, from string) (core.Principal, error)
	Taken(ctx context.Context, username, email string) error
	CreateUser(ctx context.Context, u auth.NewUser) (core.Account, error)
}

// Certificates issues certificates and knows whose they are; *auth.Certificates has it.
type Certificates interface {
	User(ctx context.Context, p core.Principal) (auth.Pair, error)
	Agent(ctx context.Context, p auth.Peer, request []byte) ([]byte, error)
	Peer(ctx context.Context, state *tls.ConnectionState) (auth.Peer, error)
	ManagerConfig(owner core.Account, service int64, names ...string) (*tls.Config, error)
}

// Options configure a Dialect. Core, Auth and Certificates are needed; the rest has defaults.
type Options struct {
	Core         Core
	Auth         Auth
	Certificates Certificates
	Log          *slog.Logger // nil: nothing is logged
	MaxCredit    int64        // of a new user; 0 or less means 50
	Closed       bool         // nobody makes a user by themselves
	Version      string       // of the Director whose API this is; "" means 1.5.1
	// Bootstrap opens what a new machine fetches to become a node. nil: there is nothing to fetch.
	Bootstrap func() (file io.ReadSeekCloser, modified time.Time, err error)
	// Changed is told when services may have come or gone. nil: nobody is.
	Changed func(ctx context.Context)
}

// Dialect answers the Director's API.
type Dialect struct {
	opts Options
	core Core
	log  *slog.Logger
}

// New builds the dialect.
func New(o Options) *Dialect {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.MaxCredit <= 0 {
		o.MaxCredit = 50
	}
	o.Version = cmp.Or(o.Version, "1.5.1")
	if o.Changed == nil {
		o.Changed = func(context.Context) {}
	}
	return &Dialect{opts: o, core: o.Core, log: o.Log.With("dialect", "director")}
}

// maxForm is the largest body of a request, in bytes.
const maxForm = 1 << 20

// Mount is how the dialect goes into a server of its own.
func (d *Dialect) Mount() api.Mount {
	return api.Mount{Name: "director", Prefixes: []string{"/"}, Dialect: d, Fail: Fail, MaxBody: maxForm}
}

// Register adds the dialect to a mux. It routes by itself: on its listener every path is the Director's.
func (d *Dialect) Register(mux *http.ServeMux) { mux.Handle("/", d) }

// Fail answers for a failure that was found before the dialect saw the request.
func Fail(w http.ResponseWriter, _ *http.Request, status int, err *core.Error) {
	w.Header().Set("Connection", "close")
	write(w, status, errorDictionary(false, err.Msg))
}

// ServeHTTP finds the row of the table that answers.
func (d *Dialect) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	c := &call{d: d, w: w, r: r}
	w.Header().Set("Connection", "close")
	rows, values := find(r.URL.Path)
	if len(rows) == 0 {
		api.SetRoute(r.Context(), "not found")
		writeText(w, http.StatusNotFound, "not found\n")
		return
	}
	for _, row := range rows {
		if row.answers(r.Method) {
			api.SetRoute(r.Context(), row.path)
			c.values = values
			c.do(row)
			return
		}
	}
	api.SetRoute(r.Context(), "not allowed")
	for _, row := range rows {
		for _, m := range []string{get, http.MethodHead, post} {
			if row.answers(m) {
				w.Header().Add("Allow", m)
			}
		}
	}
	writeText(w, http.StatusMethodNotAllowed, "method not allowed\n")
}
