package api_test

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/reeve-paas/reeve/coordinator/api"
)

func startServer(t *testing.T, h http.Handler, stopTimeout time.Duration) (s *api.Server, client *http.Client, stop func() error) {
	t.Helper()
	certs := httptest.NewTLSServer(http.NotFoundHandler()) // only for its certificate
	defer certs.Close()
	pool := certs.Client().Transport.(*http.Transport).TLSClientConfig.RootCAs
	s, err := api.NewServer(api.ServerOptions{
		Handler: h, Log: slog.New(slog.DiscardHandler),
		TLSAddr: "127.0.0.1:0", TLS: &tls.Config{Certificates: certs.TLS.Certificates},
		PlainAddr: "127.0.0.1:0", StopTimeout: stopTimeout,
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Listen(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	client = &http.Client{Transport: &http.Transport{
		TLSClientConfig: &tls.Config{RootCAs: pool}, ForceAttemptHTTP2: true,
	}}
	return s, client, func() error {
		cancel()
		err := <-done
		client.CloseIdleConnections()
		return err
	}
}

func TestServerServesTheSameRoutesWithAndWithoutTLS(t *testing.T) {
	defer goleak.VerifyNone(t)
	s, client, stop := startServer(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, r.Proto)
	}), time.Second)
	for url, want := range map[string]string{
		"https://" + s.TLSAddr().String():  "HTTP/2.0",
		"http://" + s.PlainAddr().String(): "HTTP/1.1",
	} {
		resp, err := client.Get(url)
		if err != nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(resp.Body)
		resp.Body.Close()
		if string(body) != want {
			t.Errorf("%s: got %q, want %q", url, body, want)
		}
	}
	if err := stop(); err != nil {
		t.Errorf("got %v after a stop, want nil", err)
	}
}

// curl --http1.0 offers http/1.0 alone.
func TestServerSpeaksWhatItsClientsOffer(t *testing.T) {
	defer goleak.VerifyNone(t)
	s, _, stop := startServer(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, r.Proto) }), time.Second)
	for _, offer := range [][]string{nil, {"http/1.1"}, {"http/1.0"}, {"http/1.0", "http/1.1"}} {
		conn, err := tls.Dial("tcp", s.TLSAddr().String(), &tls.Config{InsecureSkipVerify: true, NextProtos: offer})
		if err != nil {
			t.Errorf("offer %q: %v", offer, err)
			continue
		}
		_, _ = io.WriteString(conn, "GET / HTTP/1.0\r\n\r\n")
		answer, err := io.ReadAll(conn)
		conn.Close()
		if err != nil || !strings.HasSuffix(string(answer), "HTTP/1.0") {
			t.Errorf("offer %q: got %q, %v, want an answer", offer, answer, err)
		}
	}
	if err := stop(); err != nil {
		t.Error(err)
	}
}

// Python and old libcurl write the whole request before they read.
func TestServerAnswersClientsThatSendABodyOverTheLimitFirst(t *testing.T) {
	defer goleak.VerifyNone(t)
	f := newFixture(t, api.HandlerOptions{MaxBody: 8}, func(*http.ServeMux) {})
	s, client, stop := startServer(t, f.handler, time.Second)
	const size = 15 << 20 // more than the kernel keeps for a reader that does not read
	conn, err := net.Dial("tcp", s.PlainAddr().String())
	if err != nil {
		t.Fatal(err)
	}
	request := fmt.Sprintf("POST /one/echo HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s", size, strings.Repeat("x", size))
	if _, err := io.WriteString(conn, request); err != nil {
		t.Errorf("send: %v", err)
	}
	answer, err := io.ReadAll(conn)
	conn.Close()
	if err != nil || !strings.HasPrefix(string(answer), "HTTP/1.1 413 ") || !strings.Contains(string(answer), "oops") {
		t.Errorf("got %q, %v, want 413 in the dialect's own form", answer, err)
	}

	t.Run("the same over HTTP/2", func(t *testing.T) {
		body := &countingReader{r: strings.NewReader(strings.Repeat("x", size))}
		req, _ := http.NewRequestWithContext(t.Context(), "POST", "https://"+s.TLSAddr().String()+"/one/echo", body)
		req.ContentLength = size
		resp, err := client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		if answer, err := io.ReadAll(resp.Body); err != nil || resp.StatusCode != 413 || resp.ProtoMajor != 2 || !strings.Contains(string(answer), "oops") || body.n.Load() != size {
			t.Errorf("got %s %s %q, %v after %d bytes, want 413 after all of them", resp.Proto, resp.Status, answer, err, body.n.Load())
		}
	})
	t.Run("who waits for 100 Continue is answered at once", func(t *testing.T) {
		conn, err := net.Dial("tcp", s.PlainAddr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		request := fmt.Sprintf("POST /one/echo HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: %d\r\n\r\n", size)
		if _, err := io.WriteString(conn, request); err != nil {
			t.Errorf("send: %v", err)
		}
		if answer, err := io.ReadAll(conn); err != nil || !strings.HasPrefix(string(answer), "HTTP/1.1 413 ") {
			t.Errorf("got %q, %v, want 413", answer, err)
		}
	})
	if err := stop(); err != nil {
		t.Error(err)
	}
}

type countingReader struct {
	r io.Reader
	n atomic.Int64
}

func (c *countingReader) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n.Add(int64(n))
	return n, err
}

func TestServerLetsRequestsFinishWhenItStops(t *testing.T) {
	defer goleak.VerifyNone(t)
	entered, leave := make(chan struct{}), make(chan struct{})
	s, client, stop := startServer(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		close(entered)
		<-leave
		_, _ = io.WriteString(w, "finished")
	}), 10*time.Second)
	answer := make(chan string, 1)
	go func() {
		resp, err := client.Get("http://" + s.PlainAddr().String())
		if err != nil {
			answer <- err.Error()
			return
		}
		defer resp.Body.Close()
		body, _ := io.ReadAll(resp.Body)
		answer <- string(body)
	}()
	<-entered
	stopped := make(chan error, 1)
	go func() { stopped <- stop() }()
	close(leave)
	if got := <-answer; got != "finished" {
		t.Errorf("got %q, want the whole answer", got)
	}
	if err := <-stopped; err != nil {
		t.Error(err)
	}
}

func TestServerCancelsRequestsThatDoNotFinish(t *testing.T) {
	defer goleak.VerifyNone(t)
	entered := make(chan struct{})
	s, client, stop := startServer(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		close(entered)
		<-r.Context().Done()
	}), 10*time.Millisecond)
	gone := make(chan error, 1)
	go func() {
		resp, err := client.Get("http://" + s.PlainAddr().String())
		if err == nil {
			resp.Body.Close()
		}
		gone <- err
	}()
	<-entered
	if err := stop(); err != nil {
		t.Error(err)
	}
	<-gone
}

func TestServerHangsUpOnSlowHeaders(t *testing.T) {
	defer goleak.VerifyNone(t)
	s, err := api.NewServer(api.ServerOptions{Handler: http.NotFoundHandler(), Log: slog.New(slog.DiscardHandler), PlainAddr: "127.0.0.1:0", HeaderTimeout: 50 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Listen(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	conn, err := net.Dial("tcp", s.PlainAddr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := io.WriteString(conn, "GET / HTTP/1.1\r\nX-Slow: "); err != nil {
		t.Fatal(err)
	}
	_ = conn.SetReadDeadline(time.Now().Add(10 * time.Second))
	if data, err := io.ReadAll(conn); err != nil {
		t.Errorf("got %q, %v, want the connection closed", data, err)
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func TestServerGivesUpOnClientsThatDoNotRead(t *testing.T) {
	defer goleak.VerifyNone(t)
	gaveUp := make(chan error, 1)
	s, err := api.NewServer(api.ServerOptions{
		Log: slog.New(slog.DiscardHandler), PlainAddr: "127.0.0.1:0", WriteStall: 50 * time.Millisecond,
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			chunk := make([]byte, 1<<20)
			for range 256 {
				if _, err := w.Write(chunk); err != nil {
					gaveUp <- err
					return
				}
			}
			gaveUp <- nil
		}),
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Listen(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	conn, err := net.Dial("tcp", s.PlainAddr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := io.WriteString(conn, "GET / HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	if err := <-gaveUp; err == nil {
		t.Error("256 MiB were written to a client that reads nothing")
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func TestServerOptions(t *testing.T) {
	h := http.NotFoundHandler()
	for _, tc := range []struct {
		name string
		o    api.ServerOptions
		want string
	}{
		{"plain HTTP beyond this machine has to be allowed", api.ServerOptions{Handler: h, PlainAddr: "0.0.0.0:0"}, "not a loopback address"},
		{"an empty host is every address", api.ServerOptions{Handler: h, PlainAddr: ":0"}, "not a loopback address"},
		{"it may be allowed", api.ServerOptions{Handler: h, PlainAddr: "0.0.0.0:0", AllowPlain: true}, ""},
		{"loopback is always allowed", api.ServerOptions{Handler: h, PlainAddr: "[::1]:0"}, ""},
		{"TLS needs a certificate", api.ServerOptions{Handler: h, TLSAddr: ":0"}, "no certificate"},
		{"some address is needed", api.ServerOptions{Handler: h}, "no address"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, err := api.NewServer(tc.o)
			switch {
			case tc.want == "" && err != nil:
				t.Errorf("got %v, want nil", err)
			case tc.want != "" && (err == nil || !strings.Contains(err.Error(), tc.want)):
				t.Errorf("got %v, want %q", err, tc.want)
			}
		})
	}
}
