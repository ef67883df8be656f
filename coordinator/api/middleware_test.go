package api_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/reeve-paas/reeve/coordinator/api"
	"github.com/reeve-paas/reeve/coordinator/core"
)

// routes is a dialect made of a function.
type routes func(mux *http.ServeMux)

func (f routes) Register(mux *http.ServeMux) { f(mux) }

func failJSON(w http.ResponseWriter, _ *http.Request, status int, err *core.Error) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(map[string]string{"oops": err.Msg})
}

type fixture struct {
	handler http.Handler
	log     *bytes.Buffer
	reg     *prometheus.Registry
}

func newFixture(t *testing.T, o api.HandlerOptions, register func(mux *http.ServeMux)) fixture {
	t.Helper()
	f := fixture{log: &bytes.Buffer{}, reg: prometheus.NewRegistry()}
	o.Log, o.Registry = slog.New(slog.NewJSONHandler(f.log, nil)), f.reg
	h, err := api.NewHandler(o,
		api.Mount{Name: "one", Prefixes: []string{"/one/"}, Dialect: routes(register), Fail: failJSON},
		api.Mount{Name: "rest", Prefixes: []string{"/"}, Dialect: routes(func(mux *http.ServeMux) {
			mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, "ok") })
		}), Uncapped: true, Quiet: true},
	)
	if err != nil {
		t.Fatal(err)
	}
	f.handler = h
	return f
}

func (f fixture) do(r *http.Request) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	f.handler.ServeHTTP(w, r)
	return w
}

func (f fixture) lastLine(t *testing.T) map[string]any {
	t.Helper()
	lines := strings.Split(strings.TrimSpace(f.log.String()), "\n")
	var line map[string]any
	if err := json.Unmarshal([]byte(lines[len(lines)-1]), &line); err != nil {
		t.Fatalf("log %q: %v", f.log, err)
	}
	return line
}

func TestAccessLog(t *testing.T) {
	f := newFixture(t, api.HandlerOptions{}, func(mux *http.ServeMux) {
		mux.HandleFunc("POST /one/{thing}", func(w http.ResponseWriter, r *http.Request) {
			p := api.SetPrincipal(r.Context(), core.Principal{Account: core.Account{ID: "a", Handle: "RV1-REEVE"}, Via: "token"})
			if got := core.CallerOf(r.Context()); got != api.Caller(r.Context()) || got.From == "" || got.Dialect == "" {
				t.Errorf("got %+v, want the caller without an account", got)
			}
			if got := api.Principal(r.Context()); got != p {
				t.Errorf("got principal %+v, want %+v", got, p)
			}
			if p.From != "192.0.2.1" || p.RequestID != "req-7" || p.Dialect != "one" {
				t.Errorf("got %+v, want address, request id and dialect filled in", p)
			}
			w.WriteHeader(http.StatusAccepted)
			_, _ = io.WriteString(w, "hello")
		})
	})
	r := httptest.NewRequest("POST", "/one/x?auth_token=hunter2", strings.NewReader("bodysecret"))
	r.Header.Set("X-Request-Id", "req-7")
	r.Header.Set("X-Auth-Token", "headersecret")
	w := f.do(r)
	if got := w.Header().Get("X-Request-Id"); got != "req-7" {
		t.Errorf("got request id %q, want the caller's", got)
	}
	line := f.lastLine(t)
	for key, want := range map[string]any{
		"method": "POST", "route": "POST /one/{thing}", "status": 202.0, "bytes": 5.0, "dialect": "one",
		"principal": "RV1-REEVE", "from": "192.0.2.1", "request_id": "req-7", "msg": "request",
	} {
		if line[key] != want {
			t.Errorf("%s: got %v, want %v", key, line[key], want)
		}
	}
	for _, secret := range []string{"hunter2", "bodysecret", "headersecret"} {
		if strings.Contains(f.log.String(), secret) {
			t.Errorf("log %q contains %q", f.log, secret)
		}
	}
	if n := strings.Count(f.log.String(), "\n"); n != 1 {
		t.Errorf("got %d log lines, want 1", n)
	}
}

func TestRequestIDsOfCallersAreCheckedBeforeTheyReachTheLog(t *testing.T) {
	f := newFixture(t, api.HandlerOptions{}, func(mux *http.ServeMux) {})
	for _, id := range []string{"", "a b", "x\ny", strings.Repeat("a", 65), "é"} {
		r := httptest.NewRequest("GET", "/one/", nil)
		r.Header["X-Request-Id"] = []string{id}
		got := f.do(r).Header().Get("X-Request-Id")
		if got == id || len(got) != 16 {
			t.Errorf("id %q: got %q, want a new one of 16 digits", id, got)
		}
	}
}

func TestPanics(t *testing.T) {
	f := newFixture(t, api.HandlerOptions{}, func(mux *http.ServeMux) {
		mux.HandleFunc("/one/early", func(w http.ResponseWriter, r *http.Request) { panic("boom") })
		mux.HandleFunc("/one/late", func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.WriteString(w, "half")
			panic("boom")
		})
	})
	t.Run("before an answer are answered in the dialect's form without their text", func(t *testing.T) {
		w := f.do(httptest.NewRequest("GET", "/one/early", nil))
		if w.Code != 500 || !strings.Contains(w.Body.String(), `{"oops":"internal error; request `) {
			t.Errorf("got %d %s", w.Code, w.Body)
		}
		if !strings.Contains(f.log.String(), `"panic":"boom"`) || f.lastLine(t)["status"] != 500.0 {
			t.Errorf("got log %s, want the panic and a line with status 500", f.log)
		}
	})
	t.Run("in the middle of an answer cut the connection", func(t *testing.T) {
		defer func() {
			if got := recover(); got != http.ErrAbortHandler {
				t.Errorf("got panic %v, want ErrAbortHandler", got)
			}
		}()
		f.do(httptest.NewRequest("GET", "/one/late", nil))
	})
}

func TestBodyLimit(t *testing.T) {
	f := newFixture(t, api.HandlerOptions{MaxBody: 8}, func(mux *http.ServeMux) {
		mux.HandleFunc("/one/echo", func(w http.ResponseWriter, r *http.Request) {
			data, err := api.ReadBody(r)
			if err != nil {
				failJSON(w, r, 413, core.Errorf(core.KindOf(err), "", "%v", err))
				return
			}
			_, _ = w.Write(data)
		})
	})
	for _, tc := range []struct {
		name    string
		body    string
		chunked bool
		want    int
	}{
		{"a body of the limit passes", "12345678", false, 200},
		{"a declared longer body is refused unread", "123456789", false, 413},
		{"a chunked body of the limit passes", "12345678", true, 200},
		{"a chunked longer body is cut off", "123456789", true, 413},
		{"no body passes", "", false, 200},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r := httptest.NewRequest("POST", "/one/echo", strings.NewReader(tc.body))
			if tc.chunked {
				r.ContentLength = -1
			}
			w := f.do(r)
			if w.Code != tc.want {
				t.Errorf("got %d %s, want %d", w.Code, w.Body, tc.want)
			}
			if tc.want == 200 && w.Body.String() != tc.body {
				t.Errorf("got body %q, want %q", w.Body, tc.body)
			}
			if tc.want == 413 && !strings.Contains(w.Body.String(), "oops") {
				t.Errorf("got %q, want the dialect's own form", w.Body)
			}
		})
	}
}

func TestConcurrencyCap(t *testing.T) {
	entered, leave := make(chan struct{}), make(chan struct{})
	f := newFixture(t, api.HandlerOptions{MaxConcurrent: 1}, func(mux *http.ServeMux) {
		mux.HandleFunc("/one/wait", func(w http.ResponseWriter, r *http.Request) {
			close(entered)
			<-leave
		})
	})
	done := make(chan int)
	go func() { done <- f.do(httptest.NewRequest("GET", "/one/wait", nil)).Code }()
	<-entered
	w := f.do(httptest.NewRequest("GET", "/one/wait", nil))
	if w.Code != 503 || !strings.Contains(w.Body.String(), "oops") || w.Header().Get("Retry-After") == "" {
		t.Errorf("got %d %s, want 503 in the dialect's form with Retry-After", w.Code, w.Body)
	}
	if w := f.do(httptest.NewRequest("GET", "/healthz", nil)); w.Code != 200 {
		t.Errorf("health check at the cap: got %d, want 200", w.Code)
	}
	close(leave)
	if code := <-done; code != 200 {
		t.Errorf("request under the cap: got %d, want 200", code)
	}
}

func TestMetricsAreCountedByRouteNotPath(t *testing.T) {
	f := newFixture(t, api.HandlerOptions{}, func(mux *http.ServeMux) {
		mux.HandleFunc("GET /one/{id}", func(w http.ResponseWriter, r *http.Request) {})
		mux.HandleFunc("GET /one/named/{id}", func(w http.ResponseWriter, r *http.Request) {
			api.SetRoute(r.Context(), "named")
			w.WriteHeader(404)
		})
	})
	for _, path := range []string{"/one/1", "/one/2", "/one/named/3", "/nowhere"} {
		f.do(httptest.NewRequest("GET", path, nil))
	}
	want := []string{
		`code=200 dialect=one route=GET /one/{id} 2`,
		`code=404 dialect=one route=named 1`,
		`code=404 dialect=rest route=unmatched 1`,
	}
	families, err := f.reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, family := range families {
		if family.GetName() != "reeve_http_requests_total" {
			continue
		}
		for _, m := range family.GetMetric() {
			line := ""
			for _, l := range m.GetLabel() {
				line += l.GetName() + "=" + l.GetValue() + " "
			}
			got = append(got, line+fmt.Sprint(m.GetCounter().GetValue()))
		}
	}
	slices.Sort(got)
	if !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestStreamsPassThroughTheMiddleware(t *testing.T) {
	f := newFixture(t, api.HandlerOptions{}, func(mux *http.ServeMux) {
		mux.HandleFunc("GET /one/stream", func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.WriteString(w, "first")
			w.(http.Flusher).Flush()
			<-r.Context().Done()
		})
		mux.HandleFunc("GET /one/hijack", func(w http.ResponseWriter, r *http.Request) {
			conn, rw, err := http.NewResponseController(w).Hijack()
			if err != nil {
				t.Error(err)
				return
			}
			defer conn.Close()
			_, _ = rw.WriteString("HTTP/1.1 101 Switching Protocols\r\nUpgrade: echo\r\nConnection: Upgrade\r\n\r\nmine")
			_ = rw.Flush()
		})
	})
	server := httptest.NewServer(f.handler)
	defer server.Close()
	t.Run("what is flushed arrives before the end", func(t *testing.T) {
		resp, err := http.Get(server.URL + "/one/stream")
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		data := make([]byte, 5)
		if _, err := io.ReadFull(resp.Body, data); err != nil || string(data) != "first" {
			t.Errorf("got %q, %v", data, err)
		}
	})
	t.Run("a connection can be taken over", func(t *testing.T) {
		resp, err := http.Get(server.URL + "/one/hijack")
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		if resp.StatusCode != 101 {
			t.Errorf("got %s", resp.Status)
		}
	})
}
