package gandi

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"mime"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/reeve-paas/reeve/coordinator/api/gandi/xmlrpc"
	"github.com/reeve-paas/reeve/coordinator/core"
	"github.com/reeve-paas/reeve/coordinator/operation"
)

// Limits of one request.
const (
	maxBody     = 1 << 20
	maxDrain    = 16 << 20 // of a body over the limit is still read, so that its sender reads the fault
	readTimeout = 30 * time.Second
)

// Core is what this dialect asks of the rules; *core.Core has it.
type Core interface {
	AppsPage(ctx context.Context, p core.Principal, offset, limit int) ([]core.App, error)
	CountApps(ctx context.Context, p core.Principal) (int, error)
	App(ctx context.Context, p core.Principal, num int64) (core.App, error)
	CheckApp(ctx context.Context, p core.Principal, spec core.AppSpec) ([]core.Problem, error)
	CreateApp(ctx context.Context, p core.Principal, spec core.AppSpec) (core.App, []operation.Record, error)
	DeleteApp(ctx context.Context, p core.Principal, num int64) (operation.Record, error)
	CheckUpdate(ctx context.Context, p core.Principal, num int64, u core.AppUpdate) ([]core.Problem, error)
	UpdateApp(ctx context.Context, p core.Principal, num int64, u core.AppUpdate) ([]operation.Record, error)
	CheckRestart(ctx context.Context, p core.Principal, num int64) error
	RestartApp(ctx context.Context, p core.Principal, num int64) (operation.Record, error)
	CheckRenew(ctx context.Context, p core.Principal, num int64, months int) ([]core.Problem, error)
	RenewApp(ctx context.Context, p core.Principal, num int64, months int) ([]operation.Record, error)
	AccountSSHKeys(ctx context.Context, p core.Principal) ([]core.SSHKey, error)
	AddSSHKey(ctx context.Context, p core.Principal, name, text string) (core.SSHKey, error)
	DeleteSSHKey(ctx context.Context, p core.Principal, num int64) (operation.Record, error)
	RouteOf(ctx context.Context, p core.Principal, hostname string) (core.App, core.Route, error)
	CheckRoute(ctx context.Context, p core.Principal, app int64, spec core.RouteSpec) ([]core.Problem, error)
	AddRoute(ctx context.Context, p core.Principal, app int64, spec core.RouteSpec) (core.Route, operation.Record, error)
	CheckRemoveRoute(ctx context.Context, p core.Principal, hostname string) error
	RemoveRoute(ctx context.Context, p core.Principal, hostname string) (core.Route, operation.Record, error)
	UploadCertificate(ctx context.Context, p core.Principal, chain string, key core.Secret) (core.RouteCertificate, []operation.Record, error)
	RouteCertificates(ctx context.Context, p core.Principal) ([]core.RouteCertificate, error)
	RemoveCertificate(ctx context.Context, p core.Principal, num int64) ([]operation.Record, error)
	RouteDNS(ctx context.Context, p core.Principal, hostname string) (core.RouteDNS, error)
	Operations(ctx context.Context, p core.Principal, f core.OperationFilter) ([]operation.Record, error)
	Operation(ctx context.Context, p core.Principal, num int64) (operation.Record, error)
	CancelOperation(ctx context.Context, p core.Principal, num int64) error
	SnapshotProfiles() []core.SnapshotProfile
	SnapshotProfile(id int64) (core.SnapshotProfile, bool)
	Snapshots(ctx context.Context, p core.Principal) ([]core.AppSnapshot, error)
	Snapshot(ctx context.Context, p core.Principal, num int64) (core.AppSnapshot, error)
	CreateSnapshot(ctx context.Context, p core.Principal, app int64) (core.AppSnapshot, operation.Record, error)
	DeleteSnapshot(ctx context.Context, p core.Principal, num int64) (operation.Record, error)
	RestoreApp(ctx context.Context, p core.Principal, snapshot int64) (operation.Record, error)
	AppTypes() []core.AppType
	Sizes(ctx context.Context) ([]core.Size, error)
	Locations(ctx context.Context) ([]core.Location, error)
}

// Authenticator finds out who an API key belongs to. Errors are *core.Error: Unauthenticated, RateLimited, Unavailable. from
// is the caller's address without a port.
type Authenticator interface {
	APIKey(ctx context.Context, key, from string) (core.Principal, error)
}

// Options configure a Dialect. Core and Auth are needed; the rest has defaults.
type Options struct {
	Core Core
	Auth Authenticator
	Log  *slog.Logger // nil: nothing is logged
	// GraphURL is the address of a picture of a node's metric: "vcpu", "vdi" or "vif". nil: there are no pictures, and
	// graph_urls holds empty strings.
	GraphURL func(n core.Node, metric string, r *http.Request) string
	// Hosts people use for files and the console. "": the address of the instance's own node.
	FTPHost, ConsoleHost string
	// GitHost is where git is served. "": the request's host.
	GitHost string
	// RouterHost is a name that leads to the routers, for CNAME records. "": they have none.
	RouterHost string
	// StrictContentType refuses requests that do not say they are XML, with status 415.
	StrictContentType bool
	Clock             core.Clock
}

// Dialect answers the XML-RPC API.
type Dialect struct {
	opts    Options
	methods map[string]*method
	names   []string // sorted
	pages   pages
}

// New builds the dialect.
func New(o Options) *Dialect {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Clock == nil {
		o.Clock = time.Now
	}
	o.Log = o.Log.With("dialect", "gandi")
	d := &Dialect{opts: o}
	d.methods, d.names = methodTable()
	return d
}

// Paths are where the dialect answers.
var Paths = []string{"/xmlrpc", "/xmlrpc/{$}", "/xmlrpc/2.0", "/xmlrpc/2.0/{$}", "/RPC2", "/RPC2/{$}"}

// Register adds the dialect's routes. Each is given with and without a slash, because a redirect turns a POST into a GET.
// Each HTTP method is named, so that another dialect's "GET /" does not collide.
func (d *Dialect) Register(mux *http.ServeMux) {
	for _, path := range Paths {
		mux.HandleFunc("POST "+path, d.serve)
		for _, other := range []string{"GET", "PUT", "PATCH", "DELETE", "OPTIONS"} {
			mux.HandleFunc(other+" "+path, notAllowed)
		}
	}
}

func notAllowed(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Allow", "POST")
	http.Error(w, "XML-RPC calls are POST requests", http.StatusMethodNotAllowed)
}

// Fail answers with a fault for a failure that was found before the dialect saw the request. Like all faults it has status
// 200; the status that plain HTTP would have picks the fault.
func Fail(w http.ResponseWriter, _ *http.Request, status int, err *core.Error) {
	f := faultOf(err)
	if status == http.StatusRequestEntityTooLarge {
		f = faultf(badSyntax, "%s", err.Msg)
	}
	out := xmlrpc.NewEncoder()
	defer out.Free()
	out.Fault(f.number(), f.Error())
	reply(w, out)
}

func (d *Dialect) serve(w http.ResponseWriter, r *http.Request) {
	if d.opts.StrictContentType && !isXML(r.Header.Get("Content-Type")) {
		http.Error(w, "send the call as text/xml", http.StatusUnsupportedMediaType)
		return
	}
	out := xmlrpc.NewEncoder()
	defer out.Free()
	out.NilAsString = r.URL.Query().Get("nil") == "string"
	request, err := d.read(w, r)
	if err != nil {
		d.logCall(&call{ctx: r.Context(), r: r}, "", time.Now(), err)
		f := faultOf(err)
		out.Fault(f.number(), f.Error())
		reply(w, out)
		return
	}
	c := &call{ctx: r.Context(), d: d, r: r, out: out}
	out.BeginReply()
	if err := c.do(request.Method, request.Params); err != nil {
		out.Rewind(xmlrpc.Mark{})
		f := faultOf(err)
		out.Fault(f.number(), f.Error())
	} else {
		out.EndReply()
	}
	reply(w, out)
}

// read takes the whole body and decodes it. Whatever is wrong with it is a fault.
func (d *Dialect) read(w http.ResponseWriter, r *http.Request) (xmlrpc.Call, error) {
	control := http.NewResponseController(w)
	_ = control.SetReadDeadline(time.Now().Add(readTimeout)) // a recorder has none
	body, err := io.ReadAll(io.LimitReader(r.Body, maxBody+1))
	tooBig := len(body) > maxBody
	if tooBig {
		_, _ = io.CopyN(io.Discard, r.Body, maxDrain)
	}
	_ = control.SetReadDeadline(time.Time{})
	if _, limited := errors.AsType[*http.MaxBytesError](err); limited || tooBig {
		return xmlrpc.Call{}, faultf(badSyntax, "the request is larger than %d bytes", maxBody)
	}
	if err != nil {
		return xmlrpc.Call{}, faultf(badSyntax, "the request ended before its announced length, or took longer than %s", readTimeout)
	}
	call, err := xmlrpc.Decode(body)
	if err != nil {
		if coding := r.Header.Get("Content-Encoding"); coding != "" { // some clients call a charset that, and are understood
			return call, faultf(badSyntax, "the Content-Encoding '%s' is not supported: send the call without one", clip(coding))
		}
		return call, faultf(badSyntax, "%s", err)
	}
	return call, nil
}

func reply(w http.ResponseWriter, out *xmlrpc.Encoder) {
	h := w.Header()
	h.Set("Content-Type", "text/xml; charset=utf-8")
	h.Set("Content-Length", strconv.Itoa(out.Len()))
	w.WriteHeader(http.StatusOK)
	_, _ = out.WriteTo(w) // whoever hung up does not want it
}

func isXML(contentType string) bool {
	if contentType == "" {
		return true
	}
	kind, _, err := mime.ParseMediaType(contentType)
	return err == nil && (strings.EqualFold(kind, "text/xml") || strings.EqualFold(kind, "application/xml"))
}
