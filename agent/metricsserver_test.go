package main

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"
)

// serveMetrics runs a metrics server on loopback until the test ends.
func serveMetrics(t *testing.T, allow ...string) *metricsServer {
	t.Helper()
	m := &metricsServer{addr: "127.0.0.1:0", log: slog.New(slog.DiscardHandler), handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		io.WriteString(w, "up 1\n")
	})}
	for _, network := range allow {
		m.allowFrom = append(m.allowFrom, netip.MustParsePrefix(network))
	}
	if err := m.listen(t.Context()); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- m.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return m
}

func scrape(t *testing.T, m *metricsServer) (string, error) {
	t.Helper()
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: 10 * time.Second}
	res, err := client.Get("http://" + m.address() + "/metrics")
	if err != nil {
		return "", err
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	return string(body), err
}

func TestMetricsAreForAllowedNetworks(t *testing.T) {
	for name, c := range map[string]struct {
		allow []string
		want  bool
	}{
		"everyone without a list":    {nil, true},
		"a network of the list":      {[]string{"192.0.2.0/24", "127.0.0.0/8"}, true},
		"nobody outside of the list": {[]string{"192.0.2.0/24", "2001:db8::/32"}, false},
	} {
		t.Run(name, func(t *testing.T) {
			body, err := scrape(t, serveMetrics(t, c.allow...))
			if c.want && (err != nil || body != "up 1\n") {
				t.Errorf("got %q, %v, want the metrics", body, err)
			}
			if !c.want && err == nil {
				t.Errorf("got %q, want a closed connection", body)
			}
		})
	}
}

func TestMetricsConnectionsAreLimited(t *testing.T) {
	m := serveMetrics(t)
	var open []net.Conn
	for range maxScrapers {
		conn, err := net.Dial("tcp", m.address())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		open = append(open, conn)
	}
	one, err := net.Dial("tcp", m.address())
	if err != nil {
		t.Fatal(err)
	}
	defer one.Close()
	one.SetReadDeadline(time.Now().Add(10 * time.Second))
	if _, err := one.Read(make([]byte, 1)); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("got %v of a connection above the limit, want that it is closed", err)
	}
	for _, conn := range open { // those within it are served
		if _, err := io.WriteString(conn, "GET /metrics HTTP/1.0\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
		conn.SetReadDeadline(time.Now().Add(10 * time.Second))
		if answer, err := io.ReadAll(conn); err != nil || !strings.HasSuffix(string(answer), "up 1\n") {
			t.Errorf("got %q, %v", answer, err)
		}
	}
}
