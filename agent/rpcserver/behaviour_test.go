package rpcserver_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/creachadair/jrpc2"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
	"go.uber.org/goleak"

	"github.com/reeve-paas/reeve/agent/agentapi"
	"github.com/reeve-paas/reeve/agent/rpcserver"
	"github.com/reeve-paas/reeve/agent/rpcserver/rpctest"
	"github.com/reeve-paas/reeve/crypto/envelope"
	"github.com/reeve-paas/reeve/handlers"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func prefixes(t *testing.T, texts ...string) []netip.Prefix {
	t.Helper()
	var ps []netip.Prefix
	for _, text := range texts {
		p, err := netip.ParsePrefix(text)
		if err != nil {
			t.Fatal(err)
		}
		ps = append(ps, p)
	}
	return ps
}

// exposition is what a scrape would get.
func exposition(s *server) string {
	w := httptest.NewRecorder()
	promhttp.HandlerFor(s.metrics, promhttp.HandlerOpts{}).ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
	return w.Body.String()
}

// wantMetric waits for a line of the exposition: requests are counted after their reply was sent.
func wantMetric(t *testing.T, s *server, line string) {
	t.Helper()
	wait(t, "metric "+line, func() bool { return strings.Contains(exposition(s), "\n"+line+"\n") })
}

func failing(err error) rpcserver.Method {
	return rpcserver.Method{Call: func(context.Context, json.RawMessage) (any, error) { return nil, err }}
}

func TestErrorsOfMethods(t *testing.T) {
	cause := errors.New("the cause, for the log")
	for _, c := range []struct {
		name    string
		err     error
		code    int
		message string
		data    any
		kind    agentapi.Kind
	}{
		{"a classified error", &agentapi.Error{Kind: agentapi.KindNotFound, Class: "VolumeNotExistsError", Text: "vol-1", Err: cause},
			-32603, "VolumeNotExistsError: vol-1", nil, "not_found"},
		{"a wrapped classified error", fmt.Errorf("while working: %w", agentapi.Errorf(agentapi.KindConflict, "", "busy")),
			-32603, "Exception: busy", nil, "conflict"},
		{"an error with an empty text", &agentapi.Error{Kind: agentapi.KindInvalid, Class: "AssertionError"},
			-32603, "AssertionError: ", nil, "invalid"},
		{"an error with a code of its own", &agentapi.Error{Code: agentapi.CodeInvalidParams, Class: "TypeError", Text: "x"},
			-32602, "TypeError: x", nil, "internal"},
		{"any other error", errors.New("disk on fire"), -32603, "Exception: disk on fire", nil, "internal"},
		{"text that is not ASCII", errors.New("größer"), -32603, "Exception: größer", nil, "internal"},
		{"a jrpc2 error", jrpc2.Errorf(5, "five").WithData("why"), 5, "five", "why", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := start(t, with("x", map[string]rpcserver.Method{"m": failing(c.err)}))
			r := s.Call(t, "/x", `{"method": "m", "params": {}, "id": 1}`).WantError(t, c.code, c.message, c.data)
			if r.Error.Kind != c.kind {
				t.Errorf("got kind %q, want %q", r.Error.Kind, c.kind)
			}
		})
	}
}

func TestACauseGoesToTheLogOnly(t *testing.T) {
	err := &agentapi.Error{Kind: agentapi.KindNotFound, Text: "gone", Err: errors.New("inner detail")}
	s := start(t, with("x", map[string]rpcserver.Method{"m": failing(err)}))
	a := s.Call(t, "/x", `{"method": "m", "params": {}, "id": 1}`)
	s.stop()
	if strings.Contains(string(a.Plaintext), "inner") || !strings.Contains(s.log.String(), `err="inner detail"`) {
		t.Errorf("got reply %s and log %s, want the cause in the log only", a.Plaintext, s.log)
	}
}

type badJSON struct{}

func (badJSON) MarshalJSON() ([]byte, error) { panic("in MarshalJSON") }

func TestABadMethodDoesNotHurtTheServer(t *testing.T) {
	method := func(fn func() (any, error)) rpcserver.Method {
		return rpcserver.Method{Call: func(context.Context, json.RawMessage) (any, error) { return fn() }}
	}
	s := start(t, with("x", map[string]rpcserver.Method{
		"panics":        method(func() (any, error) { panic("secret detail") }),
		"panics_late":   method(func() (any, error) { return badJSON{}, nil }),
		"nil_pointer":   method(func() (any, error) { var e *agentapi.Error; return e.Text, nil }),
		"no_number":     method(func() (any, error) { return math.NaN(), nil }),
		"a_channel":     method(func() (any, error) { return make(chan int), nil }),
		"returns_nil":   method(func() (any, error) { return nil, nil }),
		"returns_null":  method(func() (any, error) { return handlers.Null{}, nil }),
		"returns_bytes": method(func() (any, error) { return []byte("hi"), nil }),
	}))
	for name, want := range map[string]string{
		"panics":        "Exception: internal error; the agent's log has the details",
		"panics_late":   "Exception: internal error; the agent's log has the details",
		"nil_pointer":   "Exception: internal error; the agent's log has the details",
		"no_number":     "TypeError: the result is not JSON serializable: unsupported value: NaN",
		"a_channel":     "TypeError: the result is not JSON serializable: unsupported type: chan int",
		"returns_nil":   "null",
		"returns_null":  "null",
		"returns_bytes": `"aGk="`,
	} {
		r := s.Call(t, "/x", `{"method": "`+name+`", "params": {}, "id": 1}`).Reply(t)
		got := string(r.Result)
		if r.Error != nil {
			got = r.Error.Message
		}
		if got != want {
			t.Errorf("%s: got %s, want %s", name, got, want)
		}
	}
	s.WantAlive(t)
	if !strings.Contains(s.log.String(), "secret detail") {
		t.Error("the panic is not in the log")
	}
}

func TestEveryRequestIsOneLogLineWithoutValues(t *testing.T) {
	s := start(t, with("x", map[string]rpcserver.Method{
		"set": change("set", func(_ context.Context, p struct {
			Password string `json:"password"`
		}) (any, error) {
			return "RESULT-" + p.Password, nil
		}),
	}))
	s.Call(t, "/x", `{"method": "set", "params": {"password": "hunter2"}, "id": "req-9"}`).Reply(t)
	s.Call(t, "/x", `{"method": "set", "params": {"password": 5}, "id": 2}`).Reply(t)
	s.Call(t, "/system", cpuStat).Reply(t)
	s.stop()
	log := s.log.String()
	if got := strings.Count(log, "msg=\"rpc request\""); got != 3 {
		t.Errorf("got %d lines, want 3:\n%s", got, log)
	}
	for _, want := range []string{"level=INFO msg=\"rpc request\" namespace=x method=set request_id=\"\\\"req-9\\\"\"", "params=[password]",
		"code=-32603 kind=invalid", "level=DEBUG msg=\"rpc request\" namespace=system method=cpu_stat"} {
		if !strings.Contains(log, want) {
			t.Errorf("got log without %s:\n%s", want, log)
		}
	}
	if strings.Contains(log, "hunter2") || strings.Contains(log, "RESULT") {
		t.Errorf("got values in the log:\n%s", log)
	}
}

func TestMetricsHaveBoundedLabels(t *testing.T) {
	s := start(t, nil)
	s.Call(t, "/system", cpuStat).Reply(t)
	for i := range 20 {
		s.Call(t, "/system", fmt.Sprintf(`{"method": "m%d", "params": {}, "id": 1}`, i)).Reply(t)
		s.Call(t, fmt.Sprintf("/n%d", i), cpuStat).Reply(t)
	}
	m := s.Seal("/system", cpuStat)
	m.Signature = "x" + m.Signature[1:]
	if m.Signature[0] == s.Seal("/system", cpuStat).Signature[0] {
		m.Signature = "y" + m.Signature[1:]
	}
	s.Send(t, m).WantStatus(t, 400)
	for _, line := range []string{
		`reeve_rpc_requests_total{code="0",method="cpu_stat",namespace="system"} 1`,
		`reeve_rpc_requests_total{code="-32601",method="other",namespace="system"} 20`,
		`reeve_rpc_requests_total{code="-32099",method="other",namespace="other"} 20`,
		`reeve_rpc_request_duration_seconds_count{method="cpu_stat",namespace="system"} 1`,
		`reeve_rpc_rejected_total{reason="signature"} 1`,
		`reeve_rpc_rejected_total{reason="replay"} 0`,
		`reeve_rpc_in_flight 0`,
	} {
		wantMetric(t, s, line)
	}
	problems, err := promlint.New(strings.NewReader(exposition(s))).Lint()
	if err != nil || len(problems) > 0 {
		t.Errorf("got lint problems %v, %v, want none", problems, err)
	}
}

func TestRefusalsAreShortAndFixed(t *testing.T) {
	s := start(t, nil)
	raw := []byte("a key that the test knows, of forty byte")
	s.tried(nil, 0).SetKey(t, raw)
	p := rpctest.NewPeer(raw)
	for _, body := range []string{"***", "AAAA", p.Base64(t, "x")[:8], strings.Repeat("A", 20) + "\n"} {
		a := s.Send(t, p.Message(body))
		if string(a.Body) != "Failed to decrypt data" {
			t.Errorf("%q: got %q, want one text for all", body, a.Body)
		}
	}
}

func TestAKeyThatCannotBeReadIsOurFault(t *testing.T) {
	s := start(t, nil)
	m := s.Seal("/system", cpuStat)
	key, _ := s.keys.Get()
	s.keys.set(envelope.Key{}, errors.New("/etc/reeve/keys/default: permission denied"))
	a := s.Send(t, m)
	a.WantStatus(t, 500)
	if len(a.Body) != 0 {
		t.Errorf("got body %q, want none", a.Body)
	}
	s.keys.set(key, nil)
	s.WantAlive(t)
	if !strings.Contains(s.log.String(), "permission denied") {
		t.Error("the reason is not in the log")
	}
}

func TestASecondServerRemembersWhatTheFirstOneSaw(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "state")
	var effects []string
	open := func(o *rpcserver.Options) { plusEffect(t, &effects)(o); o.StateDir = dir }
	first := start(t, open)
	used := first.Seal("/nginx", `{"method": "restart_service", "params": {}, "id": 1}`)
	unused := first.Seal("/nginx", `{"method": "restart_service", "params": {}, "id": 2}`)
	first.Send(t, used).Reply(t)
	first.stop()
	second := start(t, open)
	key, _ := first.keys.Get()
	second.keys.set(key, nil)
	second.Send(t, used).WantStatus(t, 400)
	second.Send(t, unused).Reply(t)
	if len(effects) != 2 {
		t.Errorf("got effects %v, want two", effects)
	}
	if info, err := os.Stat(filepath.Join(dir, "rpc-seen")); err != nil || info.Mode() != 0o600 {
		t.Errorf("got %v, %v, want a private file", info, err)
	}
}

func TestWithoutStateOldChangesAreRefusedAfterAStart(t *testing.T) {
	var effects []string
	s := start(t, plusEffect(t, &effects))
	key, _ := s.keys.Get()
	for _, c := range []struct {
		method string
		status int
	}{{"restart_service", 400}, {"cpu_stat", 200}} {
		body, date, signature := envelope.Seal(key, []byte(`{"method": "`+c.method+`", "params": {}, "id": 1}`), time.Now().Add(-10*time.Second))
		s.Send(t, rpctest.Message{Path: "/nginx", Body: body, Date: date, Signature: signature}).WantStatus(t, c.status)
	}
	if len(effects) != 0 {
		t.Errorf("got effects %v, want none", effects)
	}
}

func TestEqualRequestsAtOnceAreCarriedOutOnce(t *testing.T) {
	var mu sync.Mutex
	count := 0
	s := start(t, with("x", map[string]rpcserver.Method{
		"add": change("add", func(context.Context, handlers.NoParams) (any, error) {
			mu.Lock()
			defer mu.Unlock()
			count++
			return nil, nil
		}),
	}))
	m := s.Seal("/x", `{"method": "add", "params": {}, "id": 1}`)
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() { s.Send(t, m) })
	}
	wg.Wait()
	if count != 1 {
		t.Errorf("got %d, want 1", count)
	}
}

func TestRunningCallsFinishAtShutdown(t *testing.T) {
	started, release := make(chan struct{}), make(chan struct{})
	s := start(t, with("x", map[string]rpcserver.Method{
		"slow": {Call: func(ctx context.Context, _ json.RawMessage) (any, error) {
			close(started)
			<-release
			return "done", ctx.Err()
		}},
	}))
	result := make(chan rpctest.Answer, 1)
	go func() { result <- s.Call(t, "/x", `{"method": "slow", "params": {}, "id": 1}`) }()
	<-started
	stopped := make(chan error, 1)
	go func() { stopped <- s.stop() }()
	wait(t, "the listener to close", func() bool {
		conn, err := net.Dial("tcp", strings.TrimPrefix(s.URL, "http://"))
		if err == nil {
			conn.Close()
		}
		return err != nil
	})
	close(release)
	if r := (<-result).Reply(t); string(r.Result) != `"done"` {
		t.Errorf("got %s %v, want the result", r.Result, r.Error)
	}
	if err := <-stopped; err != nil {
		t.Errorf("got %v, want a clean end", err)
	}
}

func TestCallsThatDoNotFinishAreCancelled(t *testing.T) {
	s := start(t, func(o *rpcserver.Options) {
		o.StopTimeout = 50 * time.Millisecond
		o.Table["x"] = map[string]rpcserver.Method{"stuck": {Call: func(ctx context.Context, _ json.RawMessage) (any, error) {
			<-ctx.Done()
			return nil, ctx.Err()
		}}}
	})
	result := make(chan rpctest.Answer, 1)
	go func() { result <- s.Call(t, "/x", `{"method": "stuck", "params": {}, "id": 1}`) }()
	wantMetric(t, s, "reeve_rpc_in_flight 1")
	if err := s.stop(); err != nil {
		t.Errorf("got %v, want a clean end", err)
	}
	(<-result).WantError(t, -32603, "Exception: context canceled", nil)
}

func TestAMethodGoesOnWhenItsCallerHangsUp(t *testing.T) {
	started, release, ended := make(chan struct{}), make(chan struct{}), make(chan error, 1)
	s := start(t, with("x", map[string]rpcserver.Method{
		"slow": {Call: func(ctx context.Context, _ json.RawMessage) (any, error) {
			close(started)
			<-release
			ended <- ctx.Err()
			return nil, nil
		}},
	}))
	m := s.Seal("/x", `{"method": "slow", "params": {}, "id": 1}`)
	conn := s.dial(t)
	fmt.Fprintf(conn, "POST /x HTTP/1.1\r\nHost: x\r\nDate: %s\r\nX-Signature: %s\r\nContent-Length: %d\r\n\r\n%s", m.Date, m.Signature, len(m.Body), m.Body)
	<-started
	conn.Close()
	close(release)
	if err := <-ended; err != nil {
		t.Errorf("got %v, want the method not cancelled", err)
	}
}

func TestAnAddressInUseIsNamed(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	s, err := rpcserver.New(rpcserver.Options{Keys: &keys{}, Table: table(), Listen: []string{"127.0.0.1:0", l.Addr().String()}})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Run(t.Context()); err == nil || !strings.Contains(err.Error(), l.Addr().String()) {
		t.Errorf("got %v, want the address named", err)
	}
}

func TestOptionsThatCannotWorkAreRefused(t *testing.T) {
	for name, o := range map[string]rpcserver.Options{
		"no keys":  {Table: table()},
		"no table": {Keys: &keys{}},
		"no TLS":   {Keys: &keys{}, Table: table(), TLSListen: []string{":0"}},
	} {
		if _, err := rpcserver.New(o); err == nil {
			t.Errorf("%s: got no error", name)
		}
	}
	s, err := rpcserver.New(rpcserver.Options{Keys: &keys{}, Table: table()})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Run(t.Context()); err == nil {
		t.Error("no address: got no error")
	}
}
