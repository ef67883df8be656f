// Package webtest lets tests drive the web servers installed on this machine: a host.Units that starts the real binaries
// from a private directory, certificates, and requests that name their virtual host. Nothing here needs systemd.
package webtest

import (
	"bufio"
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/textproto"
	"net/url"
	"os"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/reeve-paas/reeve/handlers/host"
	"github.com/reeve-paas/reeve/handlers/web"
	"github.com/reeve-paas/reeve/test/ports"
)

// NeedBinary skips the test when a program is not installed.
func NeedBinary(tb testing.TB, path string) {
	tb.Helper()
	if _, err := os.Stat(path); err != nil {
		tb.Skipf("%s is not installed", path)
	}
}

// FreePort is a TCP port nobody uses now.
func FreePort(tb testing.TB) int {
	tb.Helper()
	return ports.Free(tb)
}

// Daemon is how to run a web server by hand. Reload's commands run in order; the first failure ends the reload.
type Daemon struct {
	PIDFile string
	Start   []string
	Reload  [][]string
}

// Units runs daemons in place of an init system.
type Units struct {
	Daemons map[string]Daemon

	mu    sync.Mutex // protects calls
	calls []string
}

var _ host.Units = (*Units)(nil)

// Calls are the verbs so far, such as "reload apache2.service", and forgets them.
func (u *Units) Calls() []string {
	u.mu.Lock()
	defer u.mu.Unlock()
	calls := u.calls
	u.calls = nil
	return calls
}

func (u *Units) record(verb, unit string) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.calls = append(u.calls, verb+" "+unit)
}

var machine = host.New(host.Options{})

func command(ctx context.Context, argv []string) error {
	_, err := machine.Run(ctx, host.Cmd{Path: argv[0], Args: argv[1:]})
	return err
}

func (u *Units) pid(unit string) int {
	data, err := os.ReadFile(u.Daemons[unit].PIDFile)
	if err != nil {
		return 0
	}
	pid, _ := strconv.Atoi(strings.TrimSpace(string(data)))
	if pid == 0 || !web.Alive(machine, pid) {
		return 0
	}
	return pid
}

// Start implements host.Units.
func (u *Units) Start(ctx context.Context, unit string) error {
	u.record("start", unit)
	if u.pid(unit) != 0 {
		return nil
	}
	// A process that ended but was not collected yet looks alive to its successor.
	if err := os.Remove(u.Daemons[unit].PIDFile); err != nil && !os.IsNotExist(err) {
		return err
	}
	if err := command(ctx, u.Daemons[unit].Start); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	return web.Poll(ctx, func() (bool, error) { return u.pid(unit) != 0, nil })
}

// Stop implements host.Units.
func (u *Units) Stop(ctx context.Context, unit string) error {
	u.record("stop", unit)
	return u.stop(ctx, unit)
}

func (u *Units) stop(ctx context.Context, unit string) error {
	pid := u.pid(unit)
	if pid == 0 {
		return nil
	}
	if err := syscall.Kill(pid, syscall.SIGTERM); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	return web.Poll(ctx, func() (bool, error) { return !web.Alive(machine, pid), nil })
}

// Restart implements host.Units.
func (u *Units) Restart(ctx context.Context, unit string) error {
	u.record("restart", unit)
	if err := u.stop(ctx, unit); err != nil {
		return err
	}
	return u.Start(ctx, unit)
}

// Reload implements host.Units.
func (u *Units) Reload(ctx context.Context, unit string) error {
	u.record("reload", unit)
	if u.pid(unit) == 0 {
		return fmt.Errorf("reload %s: not running", unit)
	}
	for _, argv := range u.Daemons[unit].Reload {
		if err := command(ctx, argv); err != nil {
			return err
		}
	}
	return nil
}

// Enable implements host.Units.
func (u *Units) Enable(context.Context, string) error { return nil }

// Disable implements host.Units.
func (u *Units) Disable(context.Context, string) error { return nil }

// DaemonReload implements host.Units.
func (u *Units) DaemonReload(context.Context) error { return nil }

// State implements host.Units.
func (u *Units) State(_ context.Context, unit string) (host.UnitState, error) {
	if _, known := u.Daemons[unit]; !known {
		return host.UnitState{Load: "not-found", Active: "inactive"}, nil
	}
	if pid := u.pid(unit); pid != 0 {
		return host.UnitState{Load: "loaded", Active: "active", Sub: "running", MainPID: pid}, nil
	}
	return host.UnitState{Load: "loaded", Active: "inactive", Sub: "dead"}, nil
}

// StopAll stops every daemon; for Cleanup.
func (u *Units) StopAll() {
	for unit := range u.Daemons {
		_ = u.stop(context.Background(), unit)
	}
}

// Certificate makes a pair for a name: signed by an authority of its own, which is the chain, or by itself.
func Certificate(tb testing.TB, name string, withChain bool) (cert, key, chain []byte) {
	tb.Helper()
	leafKey, signer := newKey(tb), newKey(tb)
	template := func(cn string, ca bool) *x509.Certificate {
		return &x509.Certificate{
			SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: cn}, DNSNames: []string{name},
			NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IsCA: ca, BasicConstraintsValid: true,
		}
	}
	parent := template("test authority of "+name, true)
	leaf := template(name, false)
	if !withChain {
		parent, signer = leaf, leafKey
	} else {
		chain = certPEM(tb, parent, parent, signer, signer)
	}
	der, err := x509.MarshalPKCS8PrivateKey(leafKey)
	if err != nil {
		tb.Fatal(err)
	}
	key = pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
	return certPEM(tb, leaf, parent, leafKey, signer), key, chain
}

func newKey(tb testing.TB) *ecdsa.PrivateKey {
	tb.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		tb.Fatal(err)
	}
	return key
}

func certPEM(tb testing.TB, c, parent *x509.Certificate, key, signer *ecdsa.PrivateKey) []byte {
	tb.Helper()
	der, err := x509.CreateCertificate(rand.Reader, c, parent, &key.PublicKey, signer)
	if err != nil {
		tb.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}

// Response is what a request got.
type Response struct {
	Status int
	Body   string
	Header textproto.MIMEHeader
	TLS    *tls.ConnectionState // nil without TLS
}

// Get asks port of this machine for a URL such as "http://a.test/x", whose host is the virtual host, over a connection of
// its own. Redirects are not followed.
func Get(tb testing.TB, port int, url string) Response {
	tb.Helper()
	r, err := TryGet(port, url)
	if err != nil {
		tb.Fatal(err)
	}
	return r
}

// TryGet is Get that returns its error.
func TryGet(port int, url string) (Response, error) {
	return TryGetAt("127.0.0.1:"+strconv.Itoa(port), url)
}

// TryGetAt is TryGet for another host.
func TryGetAt(addr, url string) (Response, error) {
	dialer := &net.Dialer{Timeout: 10 * time.Second}
	conn, err := dialer.Dial("tcp", addr)
	if err != nil {
		return Response{}, err
	}
	return Ask(conn, url)
}

// Ask asks for a URL on a connection, and closes it. It speaks HTTP/1.0, so that the body is what follows the header until the
// end.
func Ask(conn net.Conn, rawURL string) (r Response, err error) {
	defer conn.Close()
	u, err := url.Parse(rawURL)
	if err != nil {
		return r, err
	}
	if err := conn.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
		return r, err
	}
	if u.Scheme == "https" {
		secure := tls.Client(conn, &tls.Config{ServerName: u.Hostname(), InsecureSkipVerify: true}) // the test looks at the certificate itself
		if err := secure.Handshake(); err != nil {
			return r, err
		}
		state := secure.ConnectionState()
		conn, r.TLS = secure, &state
	}
	if _, err := fmt.Fprintf(conn, "GET %s HTTP/1.0\r\nHost: %s\r\n\r\n", u.RequestURI(), u.Host); err != nil {
		return r, err
	}
	in := textproto.NewReader(bufio.NewReader(conn))
	line, err := in.ReadLine()
	if err != nil {
		return r, err
	}
	if _, err := fmt.Sscanf(line, "HTTP/1.1 %d", &r.Status); err != nil {
		return r, fmt.Errorf("%q is no answer: %w", line, err)
	}
	if r.Header, err = in.ReadMIMEHeader(); err != nil {
		return r, err
	}
	body, err := io.ReadAll(in.R)
	r.Body = string(bytes.TrimSpace(body))
	return r, err
}
