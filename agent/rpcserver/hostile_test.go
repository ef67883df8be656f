package rpcserver_test

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/reeve-paas/reeve/agent/rpcserver"
	"github.com/reeve-paas/reeve/handlers"
)

// dial opens a bare connection.
func (s *server) dial(t *testing.T) net.Conn {
	t.Helper()
	conn, err := net.Dial("tcp", strings.TrimPrefix(s.URL, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	conn.SetDeadline(time.Now().Add(20 * time.Second))
	return conn
}

// status reads one reply from a bare connection; 0 means that the server closed it without one.
func status(t *testing.T, conn net.Conn) int {
	t.Helper()
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || strings.Contains(err.Error(), "reset") {
			return 0
		}
		t.Fatal(err)
	}
	resp.Body.Close()
	return resp.StatusCode
}

func TestHostileRequestsEndInAClearErrorAndChangeNothing(t *testing.T) {
	for _, c := range []struct {
		name string
		send func(*testing.T, *server) int
		want int
	}{
		{"a body of 20 MB is refused before it is read", func(t *testing.T, s *server) int {
			m := s.Seal("/system", cpuStat)
			conn := s.dial(t)
			fmt.Fprintf(conn, "POST /system HTTP/1.1\r\nHost: x\r\nDate: %s\r\nX-Signature: %s\r\nContent-Length: 20971520\r\n\r\n", m.Date, m.Signature)
			return status(t, conn)
		}, 413},
		{"a sender that stops in the middle of a body is cut off", func(t *testing.T, s *server) int {
			m := s.Seal("/system", cpuStat)
			conn := s.dial(t)
			fmt.Fprintf(conn, "POST /system HTTP/1.1\r\nHost: x\r\nDate: %s\r\nX-Signature: %s\r\nContent-Length: 100\r\n\r\nxx", m.Date, m.Signature)
			return status(t, conn)
		}, 408},
		{"a large body that stops is cut off", func(t *testing.T, s *server) int {
			m := s.Seal("/system", cpuStat)
			conn := s.dial(t)
			fmt.Fprintf(conn, "POST /system HTTP/1.1\r\nHost: x\r\nDate: %s\r\nX-Signature: %s\r\nContent-Length: 1000000\r\n\r\nxx", m.Date, m.Signature)
			return status(t, conn)
		}, 408},
		{"a sender that stops in the middle of the headers is cut off", func(t *testing.T, s *server) int {
			conn := s.dial(t)
			fmt.Fprintf(conn, "POST /system HTTP/1.1\r\nHost:")
			return status(t, conn)
		}, 0},
		{"a truncated body is refused", func(t *testing.T, s *server) int {
			m := s.Seal("/system", cpuStat)
			conn := s.dial(t)
			fmt.Fprintf(conn, "POST /system HTTP/1.1\r\nHost: x\r\nDate: %s\r\nX-Signature: %s\r\nContent-Length: 100\r\n\r\n%s", m.Date, m.Signature, m.Body[:9])
			conn.(*net.TCPConn).CloseWrite()
			return status(t, conn)
		}, 400},
		{"headers over the limit are refused", func(t *testing.T, s *server) int {
			conn := s.dial(t)
			fmt.Fprintf(conn, "POST /system HTTP/1.1\r\nHost: x\r\nX-Big: %s\r\n\r\n", strings.Repeat("x", 40<<10))
			return status(t, conn)
		}, 431},
		{"text that is no HTTP is refused", func(t *testing.T, s *server) int {
			conn := s.dial(t)
			fmt.Fprintf(conn, "hello\r\n\r\n")
			return status(t, conn)
		}, 400},
		{"JSON nested too deeply is an invalid request", func(t *testing.T, s *server) int {
			for _, deep := range []string{strings.Repeat("[", 100_000), strings.Repeat("[", 65) + strings.Repeat("]", 65), strings.Repeat(`{"a":`, 100_000)} {
				s.Call(t, "/system", `{"method": "cpu_stat", "params": {"x": `+deep+`}, "id": 1}`).
					WantError(t, -32600, "Invalid Request", "JSON is nested deeper than 64 levels")
			}
			return 200
		}, 200},
		{"brackets in strings are no nesting", func(t *testing.T, s *server) int {
			s.Call(t, "/system", `{"method": "statvfs", "params": {"mpoints": ["`+strings.Repeat(`[\"{`, 200)+`"]}, "id": 1}`).Reply(t)
			return 200
		}, 200},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			changed := false
			s := start(t, func(o *rpcserver.Options) {
				o.ReadTimeout = 200 * time.Millisecond
				o.Table["nginx"] = map[string]rpcserver.Method{
					"restart_service": change("restart_service", func(context.Context, handlers.NoParams) (any, error) { changed = true; return nil, nil }),
				}
			})
			if got := c.send(t, s); got != c.want {
				t.Errorf("got status %d, want %d", got, c.want)
			}
			s.WantAlive(t)
			s.stop()
			if changed {
				t.Error("something was changed")
			}
		})
	}
}

func TestSourcesThatAreNotAllowedAreClosed(t *testing.T) {
	s := start(t, func(o *rpcserver.Options) { o.AllowFrom = prefixes(t, "192.0.2.0/24", "2001:db8::/32") })
	if got := status(t, s.dial(t)); got != 0 {
		t.Errorf("got status %d, want a closed connection", got)
	}
	wantMetric(t, s, `reeve_rpc_rejected_total{reason="source"} 1`)
	s = start(t, func(o *rpcserver.Options) { o.AllowFrom = prefixes(t, "192.0.2.0/24", "127.0.0.0/8") })
	s.WantAlive(t)
}

func TestConnectionsAreLimited(t *testing.T) {
	s := start(t, func(o *rpcserver.Options) { o.MaxConnections = 2 })
	s.WantAlive(t) // holds the first one open
	second := s.dial(t)
	fmt.Fprintf(second, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
	if got := status(t, second); got != 400 {
		t.Fatalf("got status %d, want the second connection served", got)
	}
	if got := status(t, s.dial(t)); got != 0 {
		t.Errorf("got status %d, want the third connection closed", got)
	}
	second.Close()
	wait(t, "the place to be given back", func() bool {
		conn := s.dial(t)
		fmt.Fprintf(conn, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
		return status(t, conn) == 400
	})
}

// wait polls for what another goroutine does.
func wait(t testing.TB, what string, done func() bool) {
	t.Helper()
	deadline := time.Now().Add(10 * time.Second)
	for tick := time.NewTicker(2 * time.Millisecond); !done(); <-tick.C {
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain for %s", what)
		}
	}
}

func selfSigned(t *testing.T) (*tls.Config, *x509.CertPool) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(leaf)
	return &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}}, roots
}
