package rpcserver_test

import (
	"bytes"
	"context"
	"log/slog"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/reeve-paas/reeve/agent/agentapi"
	"github.com/reeve-paas/reeve/agent/rpcserver"
	"github.com/reeve-paas/reeve/agent/rpcserver/rpctest"
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

func (k *keys) now() envelope.Key {
	key, _ := k.Get()
	return key
}

// server is a running Server and a bare client of it.
type server struct {
	*rpcserver.Server
	*rpctest.Client
	keys    *keys
	log     *safeBuffer
	metrics *prometheus.Registry
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
		s.HTTP.CloseIdleConnections()
		return <-ended
	})
	s.Client = &rpctest.Client{HTTP: &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 4}, Timeout: 20 * time.Second}, Key: s.keys.now}
	t.Cleanup(func() { s.stop() })
	select {
	case <-s.Ready():
	case err := <-ended:
		t.Fatal(err)
	}
	s.URL = "http://" + s.Addrs()[0].String()
	return s
}

const cpuStat = `{"method": "cpu_stat", "params": {}, "id": 1340184043.523402}`

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
	operation := map[string]rpcserver.Method{
		"has_in_progress": read("has_in_progress", func(context.Context, handlers.NoParams) (any, error) { return nil, nil }),
	}
	return rpcserver.Table{"system": system, "sysinfo": system, "operation": operation}
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
