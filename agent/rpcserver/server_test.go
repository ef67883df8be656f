package rpcserver_test

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/reeve-paas/reeve/agent/agentapi"
	"github.com/reeve-paas/reeve/agent/rpcserver"
	"github.com/reeve-paas/reeve/crypto/envelope"
	"github.com/reeve-paas/reeve/handlers"
)

// keys is a key that tests may change.
type keys struct {
	mu  sync.Mutex
	key envelope.Key
	err error
}

func (k *keys) Get() (envelope.Key, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.key, k.err
}

func (k *keys) set(key envelope.Key, err error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.key, k.err = key, err
}

// server is a running Server and a bare client of it.
type server struct {
	*rpcserver.Server
	keys    *keys
	log     *safeBuffer
	metrics *prometheus.Registry
	http    *http.Client
	url     string
	stop    func() error // ends Run and returns its error; may be called twice
}

type safeBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *safeBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *safeBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

func newKey(t testing.TB) envelope.Key {
	t.Helper()
	key, err := envelope.ParseKey(envelope.NewKeyText())
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// start runs a server on loopback over a table of small methods, after change had a look at the options.
func start(t testing.TB, change func(*rpcserver.Options)) *server {
	t.Helper()
	s := &server{keys: &keys{key: newKey(t)}, log: &safeBuffer{}, metrics: prometheus.NewRegistry()}
	opts := rpcserver.Options{
		Keys: s.keys, Table: table(), Listen: []string{"127.0.0.1:0"}, Metrics: s.metrics,
		Log: slog.New(slog.NewTextHandler(s.log, &slog.HandlerOptions{Level: slog.LevelDebug})),
	}
	if change != nil {
		change(&opts)
	}
	var err error
	if s.Server, err = rpcserver.New(opts); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	s.stop = sync.OnceValue(func() error {
		cancel()
		s.http.CloseIdleConnections()
		return <-ended
	})
	s.http = &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 4}, Timeout: 20 * time.Second}
	t.Cleanup(func() { s.stop() })
	select {
	case <-s.Ready():
	case err := <-ended:
		t.Fatal(err)
	}
	s.url = "http://" + s.Addrs()[0].String()
	return s
}

// table has the names of real methods, so that the wire's vectors can be replayed.
func table() rpcserver.Table {
	system := map[string]rpcserver.Method{
		"cpu_stat": read("cpu_stat", func(context.Context, handlers.NoParams) (any, error) {
			return agentapi.CPUStat{User: 1200, Nice: 3, System: 450, Idle: 90000}, nil
		}),
		"load_average": read("load_average", func(context.Context, handlers.NoParams) (any, error) {
			return []float64{0.25, 0.5, 0.75}, nil
		}),
		"uname": read("uname", func(context.Context, handlers.NoParams) (any, error) { return agentapi.Uname{KernelName: "Linux"}, nil }),
		"get_hostname": read("get_hostname", func(ctx context.Context, _ handlers.NoParams) (any, error) {
			return "db1.example.net", nil
		}),
		"statvfs": read("statvfs", func(_ context.Context, p struct {
			MPoints []string `json:"mpoints"`
		}) (any, error) {
			sizes := map[string]any{}
			for _, m := range p.MPoints {
				sizes[m] = nil
			}
			return sizes, nil
		}),
	}
	return rpcserver.Table{"system": system, "sysinfo": system}
}

func read[P, R any](name string, fn func(context.Context, P) (R, error)) rpcserver.Method {
	return rpcserver.Method(handlers.Reader(name, fn))
}

func change[P, R any](name string, fn func(context.Context, P) (R, error)) rpcserver.Method {
	return rpcserver.Method(handlers.Func(name, fn))
}

// with adds a namespace to the table.
func with(namespace string, methods map[string]rpcserver.Method) func(*rpcserver.Options) {
	return func(o *rpcserver.Options) { o.Table[namespace] = methods }
}

// message is one HTTP request as its bytes.
type message struct {
	method, path, date, signature string
	body                          []byte
	header                        map[string]string
}

// answer is one HTTP reply.
type answer struct {
	status    int
	header    http.Header
	body      []byte
	plaintext []byte // of a sealed reply
}

func (s *server) seal(t testing.TB, path, plaintext string) message {
	t.Helper()
	key, _ := s.keys.Get()
	body, date, signature := envelope.Seal(key, []byte(plaintext), time.Now())
	return message{path: path, date: date, signature: signature, body: body}
}

func (s *server) send(t testing.TB, m message) answer {
	t.Helper()
	method := m.method
	if method == "" {
		method = http.MethodPost
	}
	req, err := http.NewRequestWithContext(t.Context(), method, s.url+m.path, bytes.NewReader(m.body))
	if err != nil {
		t.Fatal(err)
	}
	if m.date != "" {
		req.Header.Set("Date", m.date)
	}
	if m.signature != "" {
		req.Header.Set("X-Signature", m.signature)
	}
	for name, value := range m.header {
		req.Header.Set(name, value)
	}
	resp, err := s.http.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	a := answer{status: resp.StatusCode, header: resp.Header}
	if a.body, err = io.ReadAll(resp.Body); err != nil {
		t.Fatal(err)
	}
	if a.status == http.StatusOK {
		key, _ := s.keys.Get()
		if a.plaintext, err = envelope.Open(key, a.body, resp.Header.Get("Date"), resp.Header.Get("X-Signature")); err != nil {
			t.Fatalf("the reply does not open: %v", err)
		}
	}
	return a
}

// call seals and sends one request.
func (s *server) call(t testing.TB, path, plaintext string) answer {
	t.Helper()
	return s.send(t, s.seal(t, path, plaintext))
}

// rpc is a reply object.
type rpc struct {
	ID     json.RawMessage
	Result json.RawMessage
	Error  *struct {
		Code    int
		Message string
		Data    any
		Kind    agentapi.Kind
	}
}

// reply decodes a signed reply, which must have status 200 and exactly two members.
func (a answer) reply(t testing.TB) rpc {
	t.Helper()
	if a.status != http.StatusOK {
		t.Fatalf("got status %d: %s, want 200", a.status, a.body)
	}
	var members map[string]json.RawMessage
	if err := json.Unmarshal(a.plaintext, &members); err != nil {
		t.Fatalf("reply %s: %v", a.plaintext, err)
	}
	_, result := members["result"]
	_, failure := members["error"]
	if _, id := members["id"]; len(members) != 2 || !id || result == failure {
		t.Fatalf("got members of %s, want id and one of result, error", a.plaintext)
	}
	var r rpc
	if err := json.Unmarshal(a.plaintext, &r); err != nil {
		t.Fatal(err)
	}
	return r
}

// wantError checks a signed error.
func (a answer) wantError(t testing.TB, code int, message string, data any) rpc {
	t.Helper()
	r := a.reply(t)
	if r.Error == nil {
		t.Fatalf("got result %s, want error %d", r.Result, code)
	}
	if r.Error.Code != code || r.Error.Message != message || r.Error.Data != data {
		t.Errorf("got %d %q %v, want %d %q %v", r.Error.Code, r.Error.Message, r.Error.Data, code, message, data)
	}
	return r
}

func (a answer) wantStatus(t testing.TB, status int) {
	t.Helper()
	if a.status != status {
		t.Errorf("got status %d: %s, want %d", a.status, a.body, status)
	}
	if a.status != http.StatusOK && a.header.Get("X-Signature") != "" {
		t.Error("got a signature on a refusal, want none")
	}
}

// wantAlive checks that the server still serves.
func (s *server) wantAlive(t testing.TB) {
	t.Helper()
	if r := s.call(t, "/system", `{"method": "cpu_stat", "params": {}, "id": 1}`).reply(t); r.Error != nil {
		t.Errorf("got error %v, want the server alive", r.Error)
	}
}
