package tsuru_test

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/reeve-paas/reeve/coordinator/api"
	"github.com/reeve-paas/reeve/coordinator/api/tsuru"
	"github.com/reeve-paas/reeve/coordinator/auth"
	"github.com/reeve-paas/reeve/coordinator/core"
	"github.com/reeve-paas/reeve/coordinator/operation"
	"github.com/reeve-paas/reeve/coordinator/store/sqlite"
	"github.com/reeve-paas/reeve/crypto/keyring"
)

// bed is the dialect over the real core, store, auth and engine. Only cloud and agents are made up.
type bed struct {
	testing.TB
	server *httptest.Server
	core   *core.Core
	auth   *auth.Auth
	store  *sqlite.Store
	mail   *outbox
	world  *world
	log    *lockedBuffer
	now    *clock
	admin  string // tokens
	ann    string // of team red
	bob    string // of team blue
}

const password = "correct-horse"

// clock is a time that tests move on.
type clock struct {
	mu    sync.Mutex // protects the field below
	ahead time.Duration
}

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return time.Now().Add(c.ahead)
}

func (c *clock) advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ahead += d
}

// outbox keeps messages.
type outbox struct {
	mu   sync.Mutex // protects the field below
	sent []string
}

func (o *outbox) Send(_ context.Context, to, _, text string) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.sent = append(o.sent, "To: "+to+"\n\n"+text)
	return nil
}

// last finds what a pattern matches in the newest message.
func (o *outbox) last(t testing.TB, to, pattern string) string {
	t.Helper()
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(o.sent) == 0 || !strings.HasPrefix(o.sent[len(o.sent)-1], "To: "+to+"\n") {
		t.Fatalf("got the messages %q, want the newest to be for %s", o.sent, to)
	}
	found := regexp.MustCompile(pattern).FindStringSubmatch(o.sent[len(o.sent)-1])
	if found == nil {
		t.Fatalf("got %q, want it to match %s", o.sent[len(o.sent)-1], pattern)
	}
	return found[1]
}

type lockedBuffer struct {
	mu sync.Mutex // protects the field below
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func newBed(t testing.TB, change ...func(*tsuru.Options, *core.Options)) *bed {
	t.Helper()
	dir := t.TempDir()
	b := &bed{TB: t, mail: &outbox{}, world: newWorld(), log: &lockedBuffer{}, now: &clock{}}
	sealer, err := keyring.OpenSealer(filepath.Join(dir, "master"))
	b.must(err)
	b.store, err = sqlite.Open(t.Context(), sqlite.Options{Path: filepath.Join(dir, "reeve.db"), Sealer: sealer})
	b.must(err)
	t.Cleanup(func() { _ = b.store.Close() })
	log := slog.New(slog.NewTextHandler(b.log, nil))
	co := core.Options{Store: b.store, PlatformNames: []string{"go", "nodejs", "php", "python", "ruby", "static"}, Log: log, Clouds: b.world, Agents: b.world, Files: b.world, AppDomain: "apps.test", OwnershipSecret: bytes.Repeat([]byte{7}, 32), HostedZones: []string{"hosted.test"}}
	o := tsuru.Options{Mail: b.mail, Log: log, GitHost: "git.example.test"}
	for _, f := range change {
		f(&o, &co)
	}
	b.core = core.New(co)
	b.auth, err = auth.New(auth.Options{Store: b.store, BcryptCost: 4, Clock: b.now.Now})
	b.must(err)
	_, _, _, err = b.auth.CreateAccount(t.Context(), "root@example.test", password, true)
	b.must(err)
	b.must(b.core.EnsureAdminTeam(t.Context()))
	o.Core, o.Auth = b.core, b.auth
	handler, err := api.NewHandler(api.HandlerOptions{Log: log}, tsuru.New(o).Mount())
	b.must(err)
	b.server = httptest.NewServer(handler)
	t.Cleanup(b.server.Close)
	b.admin = b.login("root@example.test", password)
	b.ann, b.bob = b.account("ann@example.test", "red"), b.account("bob@example.test", "blue")
	return b
}

// work starts the engine until the test ends, and a router and nodes for apps.
func (b *bed) work() *bed {
	b.Helper()
	engine, err := operation.New(operation.Options{Driver: b.store.Driver(), Store: b.store, Definitions: b.core.Definitions(),
		Poll: 2 * time.Millisecond, Log: slog.New(slog.NewTextHandler(b.log, nil)), Public: core.PublicError})
	b.must(err)
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { _ = engine.Run(ctx) })
	b.Cleanup(func() { cancel(); wg.Wait() })
	b.must(b.core.EnsureRouter(b.Context()))
	b.must(b.core.EnsurePool(b.Context(), ""))
	b.until("nodes", func() bool {
		var up int
		b.must(b.store.View(context.WithoutCancel(b.Context()), func(r core.Reader) error {
			nodes, err := r.Nodes(core.NodeFilter{})
			for _, n := range nodes {
				if n.State == core.NodeRunning {
					up++
				}
			}
			return err
		}))
		return up == 3
	})
	return b
}

// until waits for a condition.
func (b *bed) until(what string, done func() bool) {
	b.Helper()
	limit := time.NewTimer(20 * time.Second)
	defer limit.Stop()
	tick := time.NewTicker(3 * time.Millisecond)
	defer tick.Stop()
	for !done() {
		select {
		case <-tick.C:
		case <-limit.C:
			b.Fatalf("%s: not in time; the log says:\n%s", what, troubles(b.log.String()))
		}
	}
}

func (b *bed) must(err error) {
	b.Helper()
	if err != nil {
		b.Fatal(err)
	}
}

// account makes an account and its team, and logs in.
func (b *bed) account(email, team string) string {
	b.Helper()
	_, err := b.auth.Register(b.Context(), email, password, auth.PasswordRule{Min: 6, Max: 50})
	b.must(err)
	token := b.login(email, password)
	if team != "" {
		b.as(token).post("/teams", `{"name":"`+team+`"}`).want(200)
	}
	return token
}

func (b *bed) login(email, password string) string {
	b.Helper()
	var got struct{ Token string }
	b.as("").post("/users/"+email+"/tokens", `{"password":"`+password+`"}`).want(200).into(&got)
	return got.Token
}

// caller is somebody with a token, or nobody.
type caller struct {
	*bed
	token   string
	headers []string
}

func (b *bed) as(token string) caller { return caller{bed: b, token: token} }

func (c caller) with(headers ...string) caller {
	c.headers = append(slices.Clone(c.headers), headers...)
	return c
}

func (c caller) get(path string, body ...string) answer  { return c.do("GET", path, body...) }
func (c caller) post(path string, body ...string) answer { return c.do("POST", path, body...) }
func (c caller) put(path string, body ...string) answer  { return c.do("PUT", path, body...) }
func (c caller) delete(path string, body ...string) answer {
	return c.do("DELETE", path, body...)
}

func (c caller) request(ctx context.Context, method, path string, body io.Reader) *http.Request {
	c.Helper()
	r, err := http.NewRequestWithContext(ctx, method, c.server.URL+path, body)
	c.must(err)
	if c.token != "" {
		r.Header.Set("Authorization", "bearer "+c.token)
	}
	for _, h := range c.headers {
		name, value, _ := strings.Cut(h, ": ")
		r.Header.Set(name, value)
	}
	return r
}

func (c caller) do(method, path string, body ...string) answer {
	c.Helper()
	r := c.request(c.Context(), method, path, strings.NewReader(strings.Join(body, "")))
	resp, err := http.DefaultClient.Do(r)
	c.must(err)
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	c.must(err)
	return answer{TB: c.TB, asked: method + " " + path + " " + strings.Join(body, ""), code: resp.StatusCode, header: resp.Header, body: string(data)}
}

// answer is what came back.
type answer struct {
	testing.TB
	asked  string
	code   int
	header http.Header
	body   string
}

func (a answer) want(codes ...int) answer {
	a.Helper()
	if !slices.Contains(codes, a.code) {
		a.Fatalf("%s: got %d %q, want %v", a.asked, a.code, a.body, codes)
	}
	return a
}

func (a answer) into(v any) answer {
	a.Helper()
	if err := json.Unmarshal([]byte(a.body), v); err != nil {
		a.Fatalf("%s: got %q: %v", a.asked, a.body, err)
	}
	return a
}

func (a answer) is(body string) answer {
	a.Helper()
	if a.body != body {
		a.Errorf("%s: got the body %q, want %q", a.asked, a.body, body)
	}
	return a
}

func (a answer) has(text string) answer {
	a.Helper()
	if !strings.Contains(a.body, text) {
		a.Errorf("%s: got the body %q, want %q in it", a.asked, a.body, text)
	}
	return a
}

func (a answer) lacks(text string) answer {
	a.Helper()
	if strings.Contains(a.body, text) {
		a.Errorf("%s: got the body %q, want it without %q", a.asked, a.body, text)
	}
	return a
}

func newServer(serve http.HandlerFunc) *httptest.Server { return httptest.NewServer(serve) }

// principal is an account as other dialects know it.
func (b *bed) principal(email string) core.Principal {
	b.Helper()
	var p core.Principal
	b.must(b.store.View(b.Context(), func(r core.Reader) (err error) { p.Account, err = r.AccountByEmail(email); return err }))
	return p
}

// working says that an operation works on a shared app.
func (b *bed) working(name string) bool {
	b.Helper()
	var app core.App
	b.must(b.store.View(b.Context(), func(r core.Reader) (err error) { app, err = r.SharedApp(name); return err }))
	_, busy, err := b.core.Working(b.Context(), app.ID)
	b.must(err)
	return busy
}

// troubles are the lines of a log that are not about requests.
func troubles(log string) string {
	var b strings.Builder
	for line := range strings.Lines(log) {
		if !strings.Contains(line, "msg=request ") {
			b.WriteString(line)
		}
	}
	return b.String()
}
