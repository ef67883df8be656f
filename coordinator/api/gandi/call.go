package gandi

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"regexp"
	"runtime/debug"
	"time"

	"github.com/reeve-paas/reeve/coordinator/api"
	"github.com/reeve-paas/reeve/coordinator/api/gandi/xmlrpc"
	"github.com/reeve-paas/reeve/coordinator/core"
)

// call is one method call on its way: a request, or one of the calls inside a system.multicall.
type call struct {
	ctx    context.Context
	d      *Dialect
	r      *http.Request
	p      core.Principal // who calls; nobody for system.*
	params []xmlrpc.Value // without the key
	out    *xmlrpc.Encoder
	inner  bool // inside a system.multicall
}

// do carries out one call and writes its result. The order of the checks is the original's: method, key, number of
// arguments, then whatever the method itself checks. A panic is a fault, never a broken connection: some clients silently
// repeat a call whose connection broke.
func (c *call) do(name string, params []xmlrpc.Value) (err error) {
	start := time.Now()
	defer func() {
		if cause := recover(); cause != nil {
			c.d.opts.Log.Error("panic in call", "request_id", c.requestID(), "panic", fmt.Sprint(cause), "stack", string(debug.Stack()))
			err = core.Errorf(core.Internal, "", "panic")
		}
		c.d.logCall(c, name, start, err)
	}()
	m, ok := c.d.methods[name]
	if !ok {
		return unsupported(name)
	}
	if !c.inner {
		api.SetRoute(c.ctx, name)
	}
	c.params = params
	if !m.public {
		if err := c.authenticate(params); err != nil {
			return err
		}
		c.params = params[1:]
	}
	switch least, most := m.arguments(); {
	case len(c.params) < least:
		return faultf(tooFewArgs, "%s takes %s", name, m.takes())
	case len(c.params) > most:
		return faultf(tooManyArgs, "%s takes %s", name, m.takes())
	}
	return m.serve(c)
}

func unsupported(name string) *fault {
	return &fault{text: fmt.Sprintf("Method \"%s\" is not supported", clip(name)), kind: core.Unsupported}
}

var keyPattern = regexp.MustCompile(`^[a-z0-9]{24}$`)

// authenticate finds out whose key the first parameter is. A key that nobody has and that is not even formed like one gets
// a code of its own.
func (c *call) authenticate(params []xmlrpc.Value) error {
	if len(params) == 0 {
		return faultf(tooFewArgs, "the first argument must be the API key")
	}
	key, ok := params[0].AsString()
	if !ok {
		return faultf(notString, "the first argument must be the API key, a string")
	}
	p, err := c.d.opts.Auth.APIKey(c.ctx, key, c.from())
	switch {
	case err == nil:
	case core.KindOf(err) != core.Unauthenticated:
		return err
	case !keyPattern.MatchString(key):
		return &fault{code: badParameter, text: "string '...' does not match '^[a-z0-9]{24}$'", kind: core.Unauthenticated}
	default:
		return &fault{code: badKey, text: "Invalid API key", kind: core.Unauthenticated}
	}
	if p.Anonymous() { // core would take nobody's account for everybody's
		return core.Errorf(core.Internal, core.ObjAccount, "a key belongs to nobody")
	}
	p.Dialect, p.From, p.RequestID = "gandi", c.from(), c.requestID()
	c.p = p
	if !c.inner {
		c.p = api.SetPrincipal(c.ctx, p)
	}
	return nil
}

func (c *call) from() string {
	if from := api.Caller(c.ctx).From; from != "" {
		return from
	}
	host, _, err := net.SplitHostPort(c.r.RemoteAddr)
	if err != nil {
		return c.r.RemoteAddr
	}
	return host
}

func (c *call) requestID() string { return api.RequestID(c.ctx) }

// logCall writes one line per call: who called what, how it ended and how long it took. Never parameters: the first is a
// key, and others are passwords.
func (d *Dialect) logCall(c *call, name string, start time.Time, err error) {
	level, kind, number, cause := slog.LevelInfo, "ok", 0, slog.Attr{}
	if err != nil {
		f := faultOf(err)
		kind, number = string(f.kind), f.number()
		if f.kind == core.Internal || f.kind == core.Unavailable {
			level, cause = slog.LevelError, slog.Any("err", err)
		}
	}
	if !d.opts.Log.Enabled(c.ctx, level) {
		return
	}
	if _, known := d.methods[name]; !known {
		name = "unknown"
	}
	d.opts.Log.LogAttrs(c.ctx, level, "call",
		slog.String("method", name),
		slog.String("principal", cmp.Or(c.p.Account.Handle, "anonymous")),
		slog.String("kind", kind),
		slog.Int("fault", number),
		slog.Duration("duration", time.Since(start)),
		slog.String("from", c.from()),
		slog.String("request_id", c.requestID()),
		cause,
	)
}

// argInt is the i-th argument after the key as an integer.
func (c *call) argInt(i int) (int64, error) {
	n, ok := c.params[i].AsInt()
	if !ok {
		return 0, faultf(notInteger, "argument %d must be an integer, not %s", i+1, c.params[i].What())
	}
	return n, nil
}

// argString is the i-th argument after the key as a text.
func (c *call) argString(i int) (string, error) {
	s, ok := c.params[i].AsString()
	if !ok {
		return "", faultf(notString, "argument %d must be a string, not %s", i+1, c.params[i].What())
	}
	return s, nil
}

// argStruct is the i-th argument after the key as a struct.
func (c *call) argStruct(i int) (xmlrpc.Value, error) {
	v, ok := c.params[i].AsStruct(false)
	if !ok {
		return v, faultf(notStruct, "argument %d must be a struct, not %s", i+1, c.params[i].What())
	}
	return v, nil
}

// options is the i-th argument after the key as a struct of options; absent is empty.
func (c *call) options(i int) (xmlrpc.Value, error) {
	if i >= len(c.params) {
		return xmlrpc.Value{Kind: xmlrpc.Struct}, nil
	}
	v, ok := c.params[i].AsStruct(true)
	if !ok {
		return v, faultf(notStruct, "argument %d must be a struct of options, not %s", i+1, c.params[i].What())
	}
	return v, nil
}
