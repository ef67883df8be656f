//go:build e2e

package e2e

import (
	"context"
	"crypto/tls"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/reeve-paas/reeve/agent/agentapi"
	"github.com/reeve-paas/reeve/agent/agentclient"
	"github.com/reeve-paas/reeve/test/hosts"
)

const (
	apacheRandomCalls = 2000 // fewer, since each of them takes several times as long
	nginxRandomCalls  = 8000
	randomSteps       = 100 // calls of one sequence, on average; each begins with nothing served

	goodPair  = "77" // certificates on the host
	wrongPair = "78" // the key is another one's
	noPair    = "79"
	busyPort  = 9999
)

// randomHost is a host whose servers get random calls.
type randomHost struct {
	webHost
	visitor *http.Client
}

// TestTenThousandRandomCalls makes random calls to Apache and nginx of one host, good and bad ones, with a reload and
// without. After each the configuration passes the server's own test, and exactly what was confirmed is served. The model
// of a server has two sets: what lies on disk, and what the server was last told to read.
func TestTenThousandRandomCalls(t *testing.T) {
	t.Parallel()
	for name, value := range map[string]string{"rapid.checks": "5", "rapid.steps": strconv.Itoa(randomSteps), "rapid.nofailfile": "true"} {
		if err := flag.Set(name, value); err != nil {
			t.Fatal(err)
		}
	}
	h := hosts.Boot(t, hosts.Options{Name: "random", Agent: true, Size: "m"})
	c := connect(t, h, h.Key())
	r := randomHost{webHost: webHost{h, t, c, c.Apache(), c.Nginx()}, visitor: visitorOf(h)}
	_, cert, key := certificate(t, "random.test")
	_, other, _ := certificate(t, "other.test")
	for name, data := range map[string][]byte{goodPair + ".crt": cert, goodPair + ".key": key, wrongPair + ".crt": other, wrongPair + ".key": key} {
		h.WriteFile(t, "/etc/reeve/private.d/keys/https_"+name, 0o600, data)
	}
	r.squat(t, strconv.Itoa(busyPort))
	for _, err := range []error{
		c.Nginx().MakeProxy(t.Context(), proxyTo("first.test", "v0")), // makes room on port 80
		c.Nginx().Start(t.Context()), c.Apache().Start(t.Context()),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	t.Run("servers", func(t *testing.T) {
		t.Run("apache", func(t *testing.T) {
			t.Parallel()
			a := &apacheCalls{randomCaller: newCaller[hosted](t, r)}
			a.run(t, apacheRandomCalls, a.sequence)
		})
		t.Run("nginx", func(t *testing.T) {
			t.Parallel()
			n := &nginxCalls{randomCaller: newCaller[proxied](t, r)}
			n.run(t, nginxRandomCalls, n.sequence)
		})
	})
	wantText(t, h, "active\nactive\nactive", "systemctl", "is-active", "apache2", "nginx", "reeve-agent")
}

// randomCaller calls one server and keeps the model of it: S is what there is to know of one site.
type randomCaller[S any] struct {
	randomHost
	ctx          context.Context
	disk, loaded map[string]S
	calls        int
	refused      int
	texts        int  // makes every site's text another one
	looked       bool // that all of what was loaded last is served
}

func newCaller[S any](t *testing.T, r randomHost) *randomCaller[S] {
	return &randomCaller[S]{randomHost: r, ctx: t.Context()}
}

// run repeats sequences until there were enough calls.
func (c *randomCaller[S]) run(t *testing.T, enough int, sequence func(*rapid.T)) {
	start := time.Now()
	for c.calls < enough && !t.Failed() {
		rapid.Check(t, sequence)
	}
	t.Logf("%d calls, of which %d were refused as they should, in %s", c.calls, c.refused, time.Since(start).Round(time.Second))
}

// did takes over the answer of a call that had to succeed: effect changes what is on disk, and reload says that the server
// reads it.
func (c *randomCaller[S]) did(t *rapid.T, err error, reload bool, effect func(disk map[string]S)) {
	t.Helper()
	c.calls++
	if err != nil {
		t.Fatal(err)
	}
	effect(c.disk)
	if reload {
		c.reloaded()
	}
}

func (c *randomCaller[S]) reloaded() {
	c.loaded = map[string]S{}
	for name, s := range c.disk {
		c.loaded[name] = s
	}
	c.looked = false
}

// refuses takes over the answer of a call that had to fail, and change nothing.
func (c *randomCaller[S]) refuses(t *rapid.T, err error) {
	t.Helper()
	c.calls++
	c.refused++
	if !agentclient.Reached(err) {
		t.Fatalf("got %v, want a refusal", err)
	}
}

// shows says that visitors see what they should, after a moment at most: on a host without processor time to spare a worker of
// before a reload may live a little longer than the agent waits for it.
func (c *randomCaller[S]) shows(right func() bool) bool {
	for end := time.Now().Add(5 * time.Second); ; {
		if right() {
			return true
		}
		if time.Now().After(end) {
			return false
		}
	}
}

func (c *randomCaller[S]) text() string {
	c.texts++
	return fmt.Sprintf("text %d.", c.texts)
}

// pick is one of few names, so that each is met often.
func (c *randomCaller[S]) pick(t *rapid.T, names []string) string {
	return rapid.SampledFrom(names).Draw(t, "name")
}

func flip(t *rapid.T, what string) bool { return rapid.Bool().Draw(t, what) }

// seldom is for what takes long.
func seldom(t *rapid.T, what string) bool { return rapid.IntRange(0, 7).Draw(t, what) == 7 }

func boolean(b bool) *agentapi.Bool { return agentapi.Ptr(agentapi.Bool(b)) }

func textOf(port int) agentapi.Text { return agentapi.Text(strconv.Itoa(port)) }

// visitorOf is a browser that finds every name at one host, and follows no redirect.
func visitorOf(h *hosts.Host) *http.Client {
	dialer := &net.Dialer{Timeout: 5 * time.Second}
	return &http.Client{
		Timeout:       10 * time.Second,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Transport: &http.Transport{
			DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
				_, port, err := net.SplitHostPort(addr)
				if err != nil {
					return nil, err
				}
				return dialer.DialContext(ctx, network, net.JoinHostPort(h.Addr.String(), port))
			},
			TLSClientConfig:   &tls.Config{InsecureSkipVerify: true}, // signed by itself
			DisableKeepAlives: true,                                  // one that is kept occupies one of the five processes Apache has after a reload
		},
	}
}

// says is what a name says on a port: its text, "redirect", or "" when nobody answers.
func (r randomHost) says(ctx context.Context, scheme, name string, port int) string {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, fmt.Sprintf("%s://%s:%d/version", scheme, name, port), nil)
	if err != nil {
		return err.Error()
	}
	answer, err := r.visitor.Do(req)
	if err != nil {
		return ""
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	switch {
	case err != nil:
		return err.Error()
	case answer.StatusCode == http.StatusMovedPermanently:
		return "redirect"
	case !strings.HasPrefix(string(body), "text "):
		return "something else"
	}
	return string(body)
}
