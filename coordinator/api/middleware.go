package api

import (
	"cmp"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"runtime/debug"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/reeve-paas/reeve/coordinator/core"
)

// Dialect is one public API style, or any other set of routes.
type Dialect interface {
	// Register adds the dialect's routes; it is called once.
	Register(mux *http.ServeMux)
}

// FailFunc writes a failure that the plumbing found, in the form the dialect's clients know. status is what plain HTTP
// would say: 413 (body too big), 500 (panic), 503 (too many requests at once). Headers may be set; nothing is written yet.
type FailFunc func(w http.ResponseWriter, r *http.Request, status int, err *core.Error)

// Mount puts a dialect into a Server.
type Mount struct {
	Name     string   // label of logs and metrics, e.g. "gandi"
	Prefixes []string // paths it answers under; the longest prefix of all mounts wins. "/" is everything else
	Dialect  Dialect
	Fail     FailFunc // nil: plain text
	MaxBody  int64    // bytes of a request's body; 0 means Options.MaxBody, negative means no limit here
	Uncapped bool     // does not count against MaxConcurrent: health checks and metrics must get through
	Quiet    bool     // successes are logged at debug level
}

// HandlerOptions tune NewHandler; the zero value works.
type HandlerOptions struct {
	Log           *slog.Logger          // nil: slog.Default
	Registry      prometheus.Registerer // nil: metrics are kept but not registered
	MaxBody       int64                 // bytes; 0 means 1 MiB
	MaxConcurrent int                   // requests at once; 0 means 1024
}

type mount struct {
	name     string
	fail     FailFunc
	maxBody  int64
	uncapped bool
	quiet    bool
}

type prefix struct {
	path  string
	mount *mount
}

type handler struct {
	mux           http.Handler
	prefixes      []prefix // longest first
	rest          *mount   // for what no prefix covers
	log           *slog.Logger
	metrics       *metrics
	maxConcurrent int64
	inFlight      atomic.Int64
}

// NewHandler builds one handler over all mounts. It panics when two of them register the same route, as ServeMux does.
func NewHandler(o HandlerOptions, mounts ...Mount) (http.Handler, error) {
	m, err := newMetrics(o.Registry)
	if err != nil {
		return nil, fmt.Errorf("register HTTP metrics: %w", err)
	}
	mux := http.NewServeMux()
	h := &handler{
		mux: mux, metrics: m,
		log:           cmp.Or(o.Log, slog.Default()),
		maxConcurrent: int64(cmp.Or(o.MaxConcurrent, 1024)),
		rest:          &mount{name: "none", fail: failPlain, maxBody: cmp.Or(o.MaxBody, 1<<20)},
	}
	for _, mt := range mounts {
		mt.Dialect.Register(mux)
		fail := mt.Fail
		if fail == nil {
			fail = failPlain
		}
		one := &mount{name: mt.Name, fail: fail, maxBody: cmp.Or(mt.MaxBody, o.MaxBody, 1<<20), uncapped: mt.Uncapped, quiet: mt.Quiet}
		for _, p := range mt.Prefixes {
			h.prefixes = append(h.prefixes, prefix{p, one})
		}
	}
	slices.SortStableFunc(h.prefixes, func(a, b prefix) int { return len(b.path) - len(a.path) })
	return h, nil
}

func failPlain(w http.ResponseWriter, _ *http.Request, status int, err *core.Error) {
	http.Error(w, err.Msg, status)
}

func (h *handler) mountOf(path string) *mount {
	for i := range h.prefixes {
		if strings.HasPrefix(path, h.prefixes[i].path) {
			return h.prefixes[i].mount
		}
	}
	return h.rest
}

// ServeHTTP carries one request through the plumbing.
func (h *handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	x := &exchange{
		Context: r.Context(), ResponseWriter: w,
		id: requestID(r), from: addressOf(r.RemoteAddr), mount: h.mountOf(r.URL.Path), start: time.Now(),
	}
	w.Header()["X-Request-Id"] = []string{x.id}
	r = r.WithContext(x)
	n := h.inFlight.Add(1)
	h.metrics.inFlight.Inc()
	defer h.finish(x, r)

	switch {
	case n > h.maxConcurrent && !x.mount.uncapped:
		h.refuse(x, r, http.StatusServiceUnavailable, "overload",
			core.Errorf(core.Unavailable, "", "too many requests at once; try again in a few seconds"))
	case x.mount.maxBody >= 0 && r.ContentLength > x.mount.maxBody:
		x.Header().Set("Connection", "close") // the rest of the body is not read
		drain(x, r)
		h.refuse(x, r, http.StatusRequestEntityTooLarge, "body",
			core.Errorf(core.Invalid, "", "the request's body is larger than %d bytes", x.mount.maxBody))
	default:
		if x.mount.maxBody >= 0 && r.ContentLength < 0 {
			r.Body = http.MaxBytesReader(x, r.Body, x.mount.maxBody)
		}
		h.mux.ServeHTTP(x, r)
	}
}

// Of a body that is refused this much is read, for this long in all and this long after the last byte came.
const (
	maxDrain  = 16 << 20
	drainTime = 10 * time.Second
	drainIdle = 500 * time.Millisecond
)

// drain reads a body that is refused. Many clients send all of it before they read, and would find a broken connection
// instead of the answer. Those that wait for "100 Continue" have not begun; others that wait send nothing.
func drain(w http.ResponseWriter, r *http.Request) {
	if r.Header.Get("Expect") != "" {
		return
	}
	control, end := http.NewResponseController(w), time.Now().Add(drainTime)
	for read := int64(0); read < maxDrain; {
		next := time.Now().Add(drainIdle)
		if next.After(end) || control.SetReadDeadline(next) != nil { // the latter: no connection to break
			break
		}
		n, err := io.CopyN(io.Discard, r.Body, 64<<10)
		if read += n; err != nil {
			break
		}
	}
	_ = control.SetReadDeadline(time.Time{})
}

func (h *handler) refuse(x *exchange, r *http.Request, status int, reason string, err *core.Error) {
	h.metrics.refused.WithLabelValues(x.mount.name, reason).Inc()
	x.route = "refused"
	if status == http.StatusServiceUnavailable {
		x.Header().Set("Retry-After", "2")
	}
	x.mount.fail(x, r, status, err)
}

// finish runs after the answer, also after a panic: it answers the caller if nothing is written yet, counts and logs.
func (h *handler) finish(x *exchange, r *http.Request) {
	h.inFlight.Add(-1)
	h.metrics.inFlight.Dec()
	cause := recover()
	if cause != nil && cause != http.ErrAbortHandler {
		h.log.Error("panic in request", "request_id", x.id, "dialect", x.mount.name, "panic", fmt.Sprint(cause), "stack", string(debug.Stack()))
		if x.status == 0 && !x.hijacked {
			x.mount.fail(x, r, http.StatusInternalServerError, core.Errorf(core.Internal, "", "internal error; request %s", x.id))
			cause = nil
		} else {
			cause = http.ErrAbortHandler // half an answer must not look whole
		}
	}
	status := x.status
	if status == 0 {
		status = http.StatusOK // net/http writes it for a handler that wrote nothing
	}
	route := x.route
	if route == "" {
		route = cmp.Or(r.Pattern, "unmatched")
	}
	took := time.Since(x.start)
	h.metrics.observe(x.mount.name, route, status, took)
	h.access(x, r, route, status, took)
	if cause != nil {
		panic(cause)
	}
}

// access writes the request's one line. It holds no path, query, header or body: those may carry credentials.
func (h *handler) access(x *exchange, r *http.Request, route string, status int, took time.Duration) {
	level := slog.LevelInfo
	if x.mount.quiet && status < 400 {
		level = slog.LevelDebug
	}
	ctx := x.Context
	if !h.log.Enabled(ctx, level) {
		return
	}
	h.log.LogAttrs(ctx, level, "request",
		slog.String("method", boundedMethod(r.Method)),
		slog.String("route", route),
		slog.Int("status", status),
		slog.Duration("duration", took),
		slog.Int64("bytes", x.bytes),
		slog.String("dialect", x.mount.name),
		slog.String("principal", cmp.Or(x.principal.Account.Handle, "anonymous")),
		slog.String("from", x.from),
		slog.String("request_id", x.id),
	)
}

func boundedMethod(m string) string {
	if len(m) > 16 {
		return m[:16]
	}
	return m
}

// ReadBody reads the whole body. A body over the mount's limit is an Invalid *core.Error; a broken connection is too.
func ReadBody(r *http.Request) ([]byte, error) {
	if r.Body == nil || r.Body == http.NoBody || r.ContentLength == 0 {
		return nil, nil
	}
	if n := r.ContentLength; n > 0 && n <= 1<<20 {
		buf := make([]byte, n)
		if _, err := io.ReadFull(r.Body, buf); err != nil {
			return nil, core.Wrap(core.Invalid, "", err, "the request's body is incomplete")
		}
		return buf, nil
	}
	data, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, core.Wrap(core.Invalid, "", err, "the request's body is incomplete or too large")
	}
	return data, nil
}
