package api

import (
	"bufio"
	"context"
	"encoding/hex"
	"math/rand/v2"
	"net"
	"net/http"
	"time"

	"github.com/reeve-paas/reeve/coordinator/core"
)

// exchange is one request on its way: what the middleware learns about it, and the response writer that counts. It is
// itself the request's context, so that the whole of it costs one allocation.
type exchange struct {
	context.Context // the request's own
	http.ResponseWriter

	id        string
	from      string
	mount     *mount
	start     time.Time
	route     string         // set by SetRoute; "" means the mux's pattern
	principal core.Principal // set by SetPrincipal
	status    int            // 0 until the header is written
	bytes     int64
	hijacked  bool
}

type exchangeKey struct{}

// Value answers for the exchange itself and for where the call came from, and leaves every other key to the request's context.
func (x *exchange) Value(key any) any {
	switch key {
	case exchangeKey{}:
		return x
	case core.CallerKey{}:
		return x.caller()
	}
	return x.Context.Value(key)
}

func (x *exchange) caller() core.Principal {
	return core.Principal{Via: "anonymous", From: x.from, RequestID: x.id, Dialect: x.mount.name}
}

func exchangeOf(ctx context.Context) *exchange {
	x, _ := ctx.Value(exchangeKey{}).(*exchange)
	return x
}

// RequestID is the id of the request that ctx belongs to, "" outside of one.
func RequestID(ctx context.Context) string {
	if x := exchangeOf(ctx); x != nil {
		return x.id
	}
	return ""
}

// Caller is the caller as the plumbing knows it: the address without its port, request id and dialect, and nobody's
// account. Dialects complete it with what auth returns.
func Caller(ctx context.Context) core.Principal {
	x := exchangeOf(ctx)
	if x == nil {
		return core.Principal{Via: "anonymous"}
	}
	return x.caller()
}

// Principal is who SetPrincipal said called; until then it is Caller.
func Principal(ctx context.Context) core.Principal {
	if x := exchangeOf(ctx); x != nil && !x.principal.Anonymous() {
		return x.principal
	}
	return Caller(ctx)
}

// SetPrincipal records who calls, for Principal and the access log. It fills in address, request id and dialect, and
// returns the completed principal.
func SetPrincipal(ctx context.Context, p core.Principal) core.Principal {
	x := exchangeOf(ctx)
	if x == nil {
		return p
	}
	p.From, p.RequestID, p.Dialect = x.from, x.id, x.mount.name
	x.principal = p
	return p
}

// SetRoute names the row of the dialect's table that answers, for logs and metrics. Names must come from a bounded set;
// a path is not one. A dialect whose rows are the mux's patterns need not call it.
func SetRoute(ctx context.Context, route string) {
	if x := exchangeOf(ctx); x != nil {
		x.route = route
	}
}

func (x *exchange) WriteHeader(status int) {
	if x.status == 0 && status >= 200 { // 1xx are not the answer yet
		x.status = status
	}
	x.ResponseWriter.WriteHeader(status)
}

func (x *exchange) Write(p []byte) (int, error) {
	if x.status == 0 {
		x.status = http.StatusOK
	}
	n, err := x.ResponseWriter.Write(p)
	x.bytes += int64(n)
	return n, err
}

// Unwrap lets http.ResponseController reach the connection's writer.
func (x *exchange) Unwrap() http.ResponseWriter { return x.ResponseWriter }

// Flush sends what is written so far; streaming dialects ask for http.Flusher.
func (x *exchange) Flush() {
	if x.status == 0 {
		x.status = http.StatusOK
	}
	_ = http.NewResponseController(x.ResponseWriter).Flush()
}

// Hijack hands the connection over, for websockets.
func (x *exchange) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	conn, rw, err := http.NewResponseController(x.ResponseWriter).Hijack()
	if err == nil {
		x.hijacked = true
		x.status = http.StatusSwitchingProtocols
	}
	return conn, rw, err
}

// requestID takes over a caller's own id when it is harmless in a log, else makes one. It is unique, not secret.
func requestID(r *http.Request) string {
	if ids := r.Header["X-Request-Id"]; len(ids) == 1 && harmlessID(ids[0]) {
		return ids[0]
	}
	var raw [8]byte
	n := rand.Uint64()
	for i := range raw {
		raw[i] = byte(n >> (8 * i))
	}
	var text [16]byte
	hex.Encode(text[:], raw[:])
	return string(text[:])
}

func harmlessID(id string) bool {
	if id == "" || len(id) > 64 {
		return false
	}
	for i := range len(id) {
		c := id[i]
		switch {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', c == '-', c == '_', c == '.':
		default:
			return false
		}
	}
	return true
}

// addressOf is the peer's address without its port. Forwarding headers are not believed: anybody can send them.
func addressOf(remote string) string {
	host, _, err := net.SplitHostPort(remote)
	if err != nil {
		return remote
	}
	return host
}
