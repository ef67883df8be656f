package apache

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/reeve-paas/reeve/handlers"
	"github.com/reeve-paas/reeve/handlers/host/hosttest"
)

// S15: whatever answers on the port, nothing else is asked and little is read.
func TestStatisticsTrustNobody(t *testing.T) {
	elsewhere := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("another server was asked") }))
	defer elsewhere.Close()
	t.Setenv("http_proxy", elsewhere.URL)
	t.Setenv("HTTP_PROXY", elsewhere.URL)
	for name, c := range map[string]struct {
		answer http.HandlerFunc
		want   string
	}{
		"a redirect":      {func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, elsewhere.URL, http.StatusFound) }, "HTTP Error 302: Found"},
		"another program": {func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "Uptime: 1\n") }, "is not Apache's status page"},
		"an endless page": {func(w http.ResponseWriter, _ *http.Request) {
			for range 40 {
				fmt.Fprint(w, "Scoreboard: ", strings.Repeat("_", statusLimit/32), "\n")
			}
		}, "longer than 1048576 bytes"},
		"a connection that ends": {func(w http.ResponseWriter, _ *http.Request) { panic(http.ErrAbortHandler) }, "EOF"},
		"an error":               {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(500) }, "HTTP Error 500: Internal Server Error"},
	} {
		t.Run(name, func(t *testing.T) {
			asked := make(chan string, 1)
			srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				asked <- r.Method + " " + r.Host + r.URL.String()
				c.answer(w, r)
			}))
			defer srv.Close()
			s := &Service{statusAddr: srv.Listener.Addr().(*net.TCPAddr).String()}
			got, err := s.GetWebserverStatistics(t.Context(), handlers.NoParams{})
			if err != nil || len(got) != 1 || !strings.Contains(got["errmsg"], c.want) {
				t.Errorf("got %v, %v, want errmsg %q", got, err, c.want)
			}
			if got := <-asked; got != "GET 127.0.0.1/server-status?auto" {
				t.Errorf("asked %s", got)
			}
		})
	}
	if s := New(Options{Host: fakeHost(t).Host}); s.statusAddr != "127.0.0.1:80" {
		t.Errorf("the default address is %s", s.statusAddr)
	}
}

func TestStatisticsDoNotWaitForASilentServer(t *testing.T) {
	srv := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }))
	defer srv.Close()
	s := &Service{statusAddr: srv.Listener.Addr().String()}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond) // sooner than the method's own limit
	defer cancel()
	if got, err := s.GetWebserverStatistics(ctx, handlers.NoParams{}); err != nil || got["errmsg"] != "timed out" {
		t.Errorf("got %v, %v, want timed out", got, err)
	}
}

func TestStatsAreNumbersOfARunningApache(t *testing.T) {
	asked := 0
	page := "localhost\nTotal Accesses: 12\nTotal kBytes: 3\nBusyWorkers: 1\nIdleWorkers: 49\nScoreboard: W_\n"
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { asked++; io.WriteString(w, page) }))
	defer server.Close()
	h := hosttest.New(t)
	s := New(Options{Host: h.Host, StatusAddr: server.Listener.Addr().String()})
	if _, ok, err := s.Stats(t.Context()); ok || err != nil || asked != 0 {
		t.Errorf("no Apache: got %v, %v after %d requests, want nothing asked", ok, err, asked)
	}
	h.Units.SetRunning("apache2.service")
	got, ok, err := s.Stats(t.Context())
	if want := (Stats{Requests: 12, SentBytes: 3072, BusyWorkers: 1, IdleWorkers: 49}); got != want || !ok || err != nil {
		t.Errorf("got %+v, %v, %v", got, ok, err)
	}
	page = "welcome"
	if _, ok, err := s.Stats(t.Context()); ok || err != nil {
		t.Errorf("another page: got %v, %v, want nothing", ok, err)
	}
}
