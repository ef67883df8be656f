package deploy

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/reeve-paas/reeve/agent/agentapi"
	"github.com/reeve-paas/reeve/agent/operation"
	"github.com/reeve-paas/reeve/handlers"
	"github.com/reeve-paas/reeve/handlers/host"
	"github.com/reeve-paas/reeve/handlers/host/hosttest"
	"github.com/reeve-paas/reeve/test/ports"
)

const unitA, unitB = "0123456789ab", "ba9876543210"

// unitHost is a host with the app shop and its releases 1 and 2, whose web processes listen when they run.
type unitHost struct {
	*hosttest.Host
	t       testing.TB
	handler http.HandlerFunc

	mu      sync.Mutex
	servers map[string]*http.Server
}

func newUnitHost(tb testing.TB, port int, handler http.HandlerFunc) *unitHost {
	tb.Helper()
	h := &unitHost{Host: newHost(tb), t: tb, handler: handler, servers: map[string]*http.Server{}}
	s := unitService1(h)
	must[agentapi.AppPaths](tb)(s.CreateApp(tb.Context(), shop))
	store := newStore(tb)
	for n := 1; n <= 2; n++ {
		must[handlers.Null](tb)(s.FetchRelease(tb.Context(), agentapi.FetchReleaseParams{App: "shop", Release: n, Source: store.put(archive(tb, file{name: "app", body: fmt.Sprint(n)}))}))
	}
	h.Runner.Succeed("systemd-run")
	h.Runner.Print("journalctl", "")
	h.Host.Units.OnStart(func(unit string) (host.UnitDetail, error) {
		if strings.HasSuffix(unit, "-web.service") {
			h.listen(unit, port)
		}
		return host.UnitDetail{UnitState: host.UnitState{Load: "loaded", Active: "active", Sub: "running", MainPID: 7}}, nil
	})
	tb.Cleanup(h.silence)
	h.ClearCalls()
	return h
}

func (h *unitHost) listen(unit string, port int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.servers[unit] != nil {
		return
	}
	l, err := net.Listen("tcp", fmt.Sprintf("%s:%d", loopback, port))
	if err != nil {
		h.t.Error(err)
		return
	}
	h.servers[unit] = &http.Server{Handler: h.handler}
	go h.servers[unit].Serve(l)
}

// silence ends what listens.
func (h *unitHost) silence() {
	h.mu.Lock()
	defer h.mu.Unlock()
	for unit, server := range h.servers {
		server.Close()
		delete(h.servers, unit)
	}
}

// unitService1 is a service on the host that does not wait long.
func unitService1(h *unitHost) *Service {
	s := newService(h.Host)
	s.now = time.Now
	ops, err := operation.Open(operation.Options{})
	if err != nil {
		h.t.Fatal(err)
	}
	s.ops, s.address = ops, func() string { return loopback }
	s.pauses = pauses{first: time.Millisecond, most: 10 * time.Millisecond, settle: 20 * time.Millisecond, answer: 5 * time.Second}
	return s
}

// store keeps one blob per path and wants a token.
type store struct {
	*httptest.Server
	tb    testing.TB
	mu    sync.Mutex
	files map[string][]byte
	put1  func(http.ResponseWriter, *http.Request)
}

func newStore(tb testing.TB) *store {
	st := &store{tb: tb, files: map[string][]byte{}}
	st.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		st.mu.Lock()
		defer st.mu.Unlock()
		data, ok := st.files[r.URL.Path]
		switch {
		case r.Header.Get("Authorization") != "Bearer let-me-in":
			http.Error(w, "no", http.StatusForbidden)
		case r.Method == http.MethodPut:
			if st.put1 != nil {
				st.put1(w, r)
				return
			}
			st.files[r.URL.Path], _ = io.ReadAll(r.Body)
		case !ok:
			http.NotFound(w, r)
		default:
			w.Write(data)
		}
	}))
	tb.Cleanup(st.Close)
	return st
}

func (st *store) put(data []byte) agentapi.Blob {
	st.mu.Lock()
	defer st.mu.Unlock()
	name := fmt.Sprint("/blob-", len(st.files))
	st.files[name] = data
	return agentapi.Blob{URL: st.URL + name, Token: "let-me-in", SHA256: sumOf(data)}
}

func ok(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "all is well\nindeed") }

func unitParams(port int) agentapi.StartUnitParams {
	return agentapi.StartUnitParams{App: "shop", Unit: unitA, Release: 1, Port: port, MemoryMB: 128, SwapMB: 64, CPUPercent: 150,
		Processes:   []agentapi.Process{{Name: "web", Command: `bin/web --name "a b" --listen 0.0.0.0:$PORT`}, {Name: "worker", Command: "work | cat"}},
		Env:         map[string]agentapi.Secret{"A_SECRET": "p\"w\\$`\n\tä", "lower": ""},
		HealthCheck: &agentapi.HealthCheck{Path: "/health", Match: "well.*indeed"}}
}

func TestUnitFiles(t *testing.T) {
	p := unitParams(20001)
	a := app{App: "my-shop", Platform: "php", Base: "/srv/data/apps", Env: shop.Env}
	p.App = "my-shop"
	for _, process := range p.Processes {
		text := must[[]byte](t)(renderService(a, p, process, "/var/lib/reeve-agent/deploy/units/my-shop."+unitA+".env"))
		golden(t, "unit-"+process.Name, string(text))
	}
	golden(t, "unit-slice", string(renderSlice(p)))
	golden(t, "unit-env", string(renderEnvFile(processEnv(a, p.Env, p.Port))))
}

func TestStartUnit(t *testing.T) {
	port := ports.Free(t)
	h := newUnitHost(t, port, ok)
	before := everything(h.Host)
	s := unitService1(h)
	p := unitParams(port)
	u := must[agentapi.Unit](t)(s.StartUnit(t.Context(), p))
	services := []string{unitService("shop", unitA, "web"), unitService("shop", unitA, "worker")}

	t.Run("it serves", func(t *testing.T) {
		if u.App != "shop" || u.Unit != unitA || u.Release != 1 || u.Port != port || u.State != agentapi.UnitStarted || u.Since.IsZero() {
			t.Errorf("got %+v", u)
		}
		for _, service := range services {
			if !h.Host.Units.Running(service) || !h.Host.Units.Enabled(service) {
				t.Errorf("%s does not run, or not at boot", service)
			}
		}
	})
	t.Run("secrets lie in files of root only", func(t *testing.T) {
		for line := range strings.Lines(h.Tree("/")) {
			if strings.Contains(line, "A_SECRET") && !strings.HasPrefix(line, "-rw------- ") {
				t.Errorf("got %s", line)
			}
		}
	})
	t.Run("the same call again only looks", func(t *testing.T) {
		files := h.Tree("/")
		again := p
		again.TimeoutSeconds = 7
		must[agentapi.Unit](t)(s.StartUnit(t.Context(), again))
		if got := h.Tree("/"); got != files {
			t.Errorf("got\n%s\nwant\n%s", got, files)
		}
	})
	t.Run("other parameters, and a port that is taken, are a conflict", func(t *testing.T) {
		for name, change := range map[string]func(*agentapi.StartUnitParams){
			"release": func(p *agentapi.StartUnitParams) { p.Release = 2 },
			"env":     func(p *agentapi.StartUnitParams) { p.Env = map[string]agentapi.Secret{"A_SECRET": "other"} },
			"command": func(p *agentapi.StartUnitParams) { p.Processes = p.Processes[:1] },
			"memory":  func(p *agentapi.StartUnitParams) { p.MemoryMB++ },
			"a unit's port": func(p *agentapi.StartUnitParams) {
				p.Unit = unitB
			},
			"another's port": func(p *agentapi.StartUnitParams) {
				l, err := net.Listen("tcp", loopback+":0")
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(func() { l.Close() })
				p.Unit, p.Port = unitB, l.Addr().(*net.TCPAddr).Port
			},
		} {
			other := p
			change(&other)
			if _, err := s.StartUnit(t.Context(), other); !isKind(err, agentapi.KindConflict) {
				t.Errorf("%s: got %v, want a conflict", name, err)
			}
		}
	})
	t.Run("its release is kept, however many come", func(t *testing.T) {
		store := newStore(t)
		for n := 3; n <= keepReleases+5; n++ {
			must[handlers.Null](t)(s.FetchRelease(t.Context(), agentapi.FetchReleaseParams{App: "shop", Release: n, Source: store.put(archive(t, file{name: "app"}))}))
		}
		apps := must[[]agentapi.AppInfo](t)(s.ListApps(t.Context(), handlers.NoParams{}))
		if got, want := fmt.Sprint(apps[0].Releases), "[0 1 6 7 8 9 10 11 12 13 14 15]"; got != want {
			t.Errorf("got releases %s, want %s", got, want)
		}
		must[handlers.Null](t)(s.FetchRelease(t.Context(), agentapi.FetchReleaseParams{App: "shop", Release: 2, Source: store.put(archive(t, file{name: "app"}))}))
		if !h.Exists("/srv/data/apps/shop/releases/2") {
			t.Error("an old release that was fetched just now is gone")
		}
		for n := 2; n <= keepReleases+5; n++ {
			a := must[app](t)(s.load("shop"))
			if err := errors.Join(s.host.RemoveAll(a.release(n)), s.host.Remove(a.releaseNote(n))); err != nil {
				t.Fatal(err)
			}
		}
	})
	t.Run("what it does is told apart", func(t *testing.T) {
		list := func() agentapi.Unit {
			t.Helper()
			units := must[[]agentapi.Unit](t)(s.ListUnits(t.Context(), agentapi.ListUnitsParams{App: "shop"}))
			if len(units) != 1 {
				t.Fatalf("got %+v", units)
			}
			return units[0]
		}
		running := host.UnitState{Load: "loaded", Active: "active", Sub: "running"}
		h.Host.Units.SetDetail(unitSlice("shop", unitA), host.UnitDetail{UnitState: running, MemoryBytes: 77})
		h.Host.Units.SetDetail(services[0], host.UnitDetail{UnitState: running, Restarts: 2, Since: time.Now().Add(time.Hour)})
		if u := list(); u.State != agentapi.UnitStarted || u.Restarts != 2 || u.MemoryBytes != 77 || !u.Since.After(time.Now()) {
			t.Errorf("got %+v", u)
		}
		h.Host.Units.SetDetail(services[1], host.UnitDetail{UnitState: host.UnitState{Load: "loaded", Active: "activating", Sub: "auto-restart"}})
		if u := list(); u.State != agentapi.UnitError {
			t.Errorf("got %+v, want error", u)
		}
		h.Host.Units.SetDetail(services[1], host.UnitDetail{UnitState: running})
		h.silence()
		if u := list(); u.State != agentapi.UnitUnreachable {
			t.Errorf("got %+v, want unreachable", u)
		}
		if none := must[[]agentapi.Unit](t)(s.ListUnits(t.Context(), agentapi.ListUnitsParams{App: "sho"})); none == nil || len(none) != 0 {
			t.Errorf("got %+v, want an empty list", none)
		}
	})
	t.Run("kept when stopped, it starts again, also with other parameters", func(t *testing.T) {
		for range 2 {
			must[handlers.Null](t)(s.StopUnit(t.Context(), agentapi.StopUnitParams{App: "shop", Unit: unitA, Keep: true}))
		}
		units := must[[]agentapi.Unit](t)(s.ListUnits(t.Context(), agentapi.ListUnitsParams{}))
		if len(units) != 1 || units[0].State != agentapi.UnitStopped || h.Host.Units.Running(services[0]) || h.Host.Units.Enabled(services[0]) {
			t.Errorf("got %+v", units)
		}
		if err := errors.Join(s.Start(t.Context()), s.watchUnits(t.Context())); err != nil || h.Host.Units.Running(services[0]) {
			t.Errorf("a stopped unit runs when the agent starts: %v", err)
		}
		p.Env = map[string]agentapi.Secret{"A_SECRET": "new"}
		h.silence()
		h.ClearCalls()
		if u := must[agentapi.Unit](t)(s.StartUnit(t.Context(), p)); u.State != agentapi.UnitStarted {
			t.Errorf("got %+v", u)
		}
		if env := h.Text(s.unitEnvFile("shop", unitA)); !strings.Contains(env, "A_SECRET=\"new\"\n") {
			t.Errorf("got %s", env)
		}
	})
	t.Run("stopped, nothing of it is left", func(t *testing.T) {
		for range 2 {
			must[handlers.Null](t)(s.StopUnit(t.Context(), agentapi.StopUnitParams{App: "shop", Unit: unitA}))
		}
		must[handlers.Null](t)(s.FetchRelease(t.Context(), agentapi.FetchReleaseParams{App: "shop", Release: 2, Source: newStore(t).put(archive(t, file{name: "app", body: "2"}))}))
		if got := everything(h.Host); got != before {
			t.Errorf("got\n%s\nwant\n%s", got, before)
		}
	})
}

func TestStartUnitRefuses(t *testing.T) {
	h := newUnitHost(t, 0, ok)
	s := unitService1(h)
	before := everything(h.Host)
	for name, c := range map[string]struct {
		change func(*agentapi.StartUnitParams)
		kind   agentapi.Kind
	}{
		"no such app":            {func(p *agentapi.StartUnitParams) { p.App = "other" }, agentapi.KindNotFound},
		"an app outside":         {func(p *agentapi.StartUnitParams) { p.App = "../shop" }, agentapi.KindInvalid},
		"no such release":        {func(p *agentapi.StartUnitParams) { p.Release = 9 }, agentapi.KindNotFound},
		"a unit's name":          {func(p *agentapi.StartUnitParams) { p.Unit = "../0123456789ab" }, agentapi.KindInvalid},
		"a short unit's name":    {func(p *agentapi.StartUnitParams) { p.Unit = "0123" }, agentapi.KindInvalid},
		"a low port":             {func(p *agentapi.StartUnitParams) { p.Port = 80 }, agentapi.KindInvalid},
		"no process":             {func(p *agentapi.StartUnitParams) { p.Processes = nil }, agentapi.KindInvalid},
		"a process twice":        {func(p *agentapi.StartUnitParams) { p.Processes[1].Name = "web" }, agentapi.KindInvalid},
		"a process's name":       {func(p *agentapi.StartUnitParams) { p.Processes[0].Name = "a\nExecStart=" }, agentapi.KindInvalid},
		"a command of two lines": {func(p *agentapi.StartUnitParams) { p.Processes[0].Command = "a\nUser=root" }, agentapi.KindInvalid},
		"an open quote":          {func(p *agentapi.StartUnitParams) { p.Processes[0].Command = `a "b` }, agentapi.KindInvalid},
		"a hook with a NUL":      {func(p *agentapi.StartUnitParams) { p.RestartBefore = []string{"a\x00b"} }, agentapi.KindInvalid},
		"a variable's name":      {func(p *agentapi.StartUnitParams) { p.Env = map[string]agentapi.Secret{"A B": ""} }, agentapi.KindInvalid},
		"a variable's value":     {func(p *agentapi.StartUnitParams) { p.Env = map[string]agentapi.Secret{"A": "\x1b"} }, agentapi.KindInvalid},
		"a broken expression":    {func(p *agentapi.StartUnitParams) { p.HealthCheck.Match = "(" }, agentapi.KindInvalid},
		"a broken path":          {func(p *agentapi.StartUnitParams) { p.HealthCheck.Path = "/ x\x7f" }, agentapi.KindInvalid},
		"a negative limit":       {func(p *agentapi.StartUnitParams) { p.MemoryMB = -1 }, agentapi.KindInvalid},
	} {
		p := unitParams(ports.Free(t))
		c.change(&p)
		if _, err := s.StartUnit(t.Context(), p); !isKind(err, c.kind) {
			t.Errorf("%s: got %v, want %s", name, err, c.kind)
		}
	}
	if got := everything(h.Host); got != before || len(h.Calls()) != 0 {
		t.Errorf("got calls %v and\n%s\nwant none and\n%s", h.Calls(), got, before)
	}
}

func TestAUnitThatDoesNotComeUp(t *testing.T) {
	printed := `{"__CURSOR":"s=1","__REALTIME_TIMESTAMP":"` + fmt.Sprint(time.Now().Add(time.Hour).UnixMicro()) + `","MESSAGE":"no such table","_PID":"7","_SYSTEMD_SLICE":"` +
		unitSlice("shop", unitA) + `","_SYSTEMD_UNIT":"` + unitService("shop", unitA, "web") + `"}` + "\n"
	for name, c := range map[string]struct {
		handler http.HandlerFunc
		change  func(*agentapi.StartUnitParams)
		start   func(string) (host.UnitDetail, error)
		run     func(host.Cmd) (host.Output, error)
		want    string
	}{
		"a wrong status": {handler: func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(500) },
			change: func(p *agentapi.StartUnitParams) { p.HealthCheck.Match = "" },
			want:   "UnitError: the health check failed: GET /health answers 500 Internal Server Error, not 200; it printed last:\nno such table"},
		"a wrong body": {handler: func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "ill") },
			want: "does not match \"well.*indeed\"; it printed last:\nno such table"},
		"a redirect is an answer": {handler: func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/login", http.StatusFound) },
			change: func(p *agentapi.StartUnitParams) { p.HealthCheck.Match = "" }, want: "answers 302 Found, not 200"},
		"a process that ends": {start: func(string) (host.UnitDetail, error) {
			return host.UnitDetail{UnitState: host.UnitState{Load: "loaded", Active: "activating", Sub: "auto-restart"}, Result: "exit-code", ExitStatus: 3}, nil
		}, want: "UnitError: process web ended (exit code 3); it printed last:\nno such table"},
		"a unit that systemd refuses": {start: func(string) (host.UnitDetail, error) {
			return host.UnitDetail{}, &agentapi.Error{Kind: agentapi.KindInternal, Class: "InitdError", Text: "start x: job failed"}
		}, want: "UnitError: start x: job failed; it printed last:\nno such table"},
		"nothing listens": {start: func(string) (host.UnitDetail, error) {
			return host.UnitDetail{UnitState: host.UnitState{Load: "loaded", Active: "active", Sub: "running"}}, nil
		}, change: func(p *agentapi.StartUnitParams) { p.TimeoutSeconds = 1 }, want: "UnitError: it did not serve in time: "},
		"a hook that fails": {change: func(p *agentapi.StartUnitParams) { p.RestartAfter = []string{"migrate"} },
			run: func(c host.Cmd) (host.Output, error) {
				fmt.Fprintln(c.StdoutFile, "no database")
				return host.Output{Code: 4}, nil
			}, want: "UnitError: hook restart.after: migrate: exit code 4\nno database; it printed last:\nno such table"},
	} {
		t.Run(name, func(t *testing.T) {
			port := ports.Free(t)
			if c.handler == nil {
				c.handler = ok
			}
			h := newUnitHost(t, port, c.handler)
			before := everything(h.Host)
			h.Runner.Print("journalctl", printed)
			if c.start != nil {
				h.Host.Units.OnStart(c.start)
			}
			if c.run != nil {
				h.Runner.Handle("systemd-run", c.run)
			}
			p := unitParams(port)
			if c.change != nil {
				c.change(&p)
			}
			_, err := unitService1(h).StartUnit(t.Context(), p)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %s", err, c.want)
			}
			if got := everything(h.Host); got != before {
				t.Errorf("got\n%s\nwant\n%s", got, before)
			}
		})
	}
}

func TestAUnitWithoutAPortHasToStayUp(t *testing.T) {
	port := ports.Free(t)
	h := newUnitHost(t, port, ok)
	p := unitParams(port)
	p.Processes, p.HealthCheck = p.Processes[1:], nil
	u := must[agentapi.Unit](t)(unitService1(h).StartUnit(t.Context(), p))
	if u.State != agentapi.UnitUnreachable {
		t.Errorf("got %+v, want unreachable: it is a worker", u)
	}
}

func TestStartUnitFailsAtEachStep(t *testing.T) {
	port := ports.Free(t)
	var now *unitHost
	var before string
	hosttest.BreakEachCall(t, func(tb testing.TB) *hosttest.Host {
		if now != nil {
			now.silence()
		}
		now = newUnitHost(tb, port, ok)
		before = everything(now.Host)
		return now.Host
	}, func(*hosttest.Host) error {
		p := unitParams(port)
		p.RestartBefore = []string{"prepare"}
		_, err := unitService1(now).StartUnit(t.Context(), p)
		return err
	}, func(t *testing.T, h *hosttest.Host, err error) {
		if got := everything(h); got != before {
			t.Errorf("got\n%s\nwant\n%s", got, before)
		}
	})
}

func TestUnitsSurviveAKilledAgent(t *testing.T) {
	port := ports.Free(t)
	var all []*unitHost
	silence := func() {
		for _, h := range all {
			h.silence()
		}
	}
	start := func(tb testing.TB) *hosttest.Host {
		all = append(all, newUnitHost(tb, port, ok))
		return all[len(all)-1].Host
	}
	service := func(h *hosttest.Host) *Service {
		s := unitService1(&unitHost{Host: h, t: t})
		s.now = func() time.Time { return time.Unix(20000*24*3600, 0) }
		return s
	}
	begin := func(h *hosttest.Host) error {
		silence()
		p := unitParams(port)
		p.TimeoutSeconds = 5
		_, err := service(h).StartUnit(t.Context(), p)
		return err
	}
	t.Run("start", func(t *testing.T) { killed(t, start, begin) })
	running := func(tb testing.TB) *hosttest.Host {
		h := start(tb)
		if err := begin(h); err != nil {
			tb.Fatal(err)
		}
		return h
	}
	for _, keep := range []agentapi.Bool{false, true} {
		t.Run(fmt.Sprint("stop, keep ", keep), func(t *testing.T) {
			killed(t, running, func(h *hosttest.Host) error {
				s := service(h)
				_, err := s.StopUnit(t.Context(), agentapi.StopUnitParams{App: "shop", Unit: unitA, Keep: keep})
				return err
			})
		})
	}
	t.Run("delete_app takes its units along", func(t *testing.T) {
		h := running(t)
		must[handlers.Null](t)(service(h).DeleteApp(t.Context(), agentapi.AppParams{App: "shop"}))
		if got, want := everything(h), everything(newHost(t)); got != want {
			t.Errorf("got\n%s\nwant\n%s", got, want)
		}
	})
}

func TestStoppingWaitsForOpenConnections(t *testing.T) {
	port := ports.Free(t)
	h := newUnitHost(t, port, ok)
	s := unitService1(h)
	must[agentapi.Unit](t)(s.StartUnit(t.Context(), unitParams(port)))
	const head = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n"
	other := fmt.Sprintf("   1: 0100007F:%04X 0100007F:A000 0A 0\n   2: 0100007F:A000 0100007F:%04X 01 0\n", port, port)
	h.WriteText("/proc/net/tcp", head+other+fmt.Sprintf("   3: 0100007F:%04X 0100007F:A000 01 0\n", port))
	web := unitService("shop", unitA, "web")
	done := make(chan error, 1)
	go func() {
		_, err := s.StopUnit(context.WithoutCancel(t.Context()), agentapi.StopUnitParams{App: "shop", Unit: unitA, DrainSeconds: 60})
		done <- err
	}()
	select {
	case err := <-done:
		t.Fatalf("stopped under an open connection: %v", err)
	case <-time.After(3 * drainPoll):
	}
	if !h.Host.Units.Running(web) {
		t.Fatal("the process was ended under an open connection")
	}
	if err := h.Host.Host.WriteFile("/proc/net/tcp", []byte(head+other), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil || h.Host.Units.Running(web) {
		t.Errorf("got %v", err)
	}
}

func TestARouterWaitsForConnectionsThatAreBeingOpened(t *testing.T) {
	h := newHost(t)
	s := New(Options{Host: h.Host})
	const head = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n"
	others := "   1: 0100007F:9C40 0A00000A:4E20 01 0\n   2: 0100007F:9C41 0A00000A:4E21 02 0\n" // open; to another port
	h.WriteText("/proc/net/tcp", head+others+"   3: 0100007F:9C42 0A00000A:4E20 02 0\n")
	h.WriteText("/proc/net/tcp6", head+"   4: 00000000000000000000000001000000:9C43 B80D0120000000000000000001000000:4E20 02 0\n")
	p := agentapi.DrainRouterParams{Backends: []agentapi.Backend{{Address: "10.0.0.10", Port: 20000}, {Address: "2001:db8::1", Port: 20000}}, TimeoutSeconds: 60}
	done := make(chan error, 1)
	go func() {
		_, err := s.DrainRouter(context.WithoutCancel(t.Context()), p)
		done <- err
	}()
	for _, file := range []string{"/proc/net/tcp", "/proc/net/tcp6"} {
		select {
		case err := <-done:
			t.Fatalf("ended while a connection was being opened: %v", err)
		case <-time.After(4 * drainPoll):
		}
		if err := h.Host.WriteFile(file, []byte(head+others), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
	for _, bad := range []agentapi.DrainRouterParams{{Backends: []agentapi.Backend{{Address: "shop.test", Port: 80}}}, {Backends: []agentapi.Backend{{Address: "10.0.0.1"}}}, {TimeoutSeconds: 61}, {TimeoutSeconds: -1}} {
		if _, err := s.DrainRouter(t.Context(), bad); err == nil {
			t.Errorf("%+v was accepted", bad)
		}
	}
}

func TestStoppingInterruptsAStart(t *testing.T) {
	port := ports.Free(t)
	asked := make(chan struct{})
	var once sync.Once
	h := newUnitHost(t, port, func(w http.ResponseWriter, r *http.Request) {
		once.Do(func() { close(asked) })
		<-r.Context().Done()
	})
	before := everything(h.Host)
	s := unitService1(h)
	failed := make(chan error, 1)
	go func() {
		_, err := s.StartUnit(context.WithoutCancel(t.Context()), unitParams(port))
		failed <- err
	}()
	<-asked
	must[handlers.Null](t)(s.StopUnit(t.Context(), agentapi.StopUnitParams{App: "shop", Unit: unitA}))
	if err := <-failed; !errors.Is(err, errStopped) {
		t.Errorf("got %v, want %v", err, errStopped)
	}
	if got := everything(h.Host); got != before {
		t.Errorf("got\n%s\nwant\n%s", got, before)
	}
}

func TestAProcessThatSystemdGaveUpIsStartedWithGrowingPauses(t *testing.T) {
	port := ports.Free(t)
	h := newUnitHost(t, port, ok)
	s := unitService1(h)
	must[agentapi.Unit](t)(s.StartUnit(t.Context(), unitParams(port)))
	clock := time.Now()
	s.now = func() time.Time { return clock }
	worker := unitService("shop", unitA, "worker")
	gaveUp := host.UnitDetail{UnitState: host.UnitState{Load: "loaded", Active: "failed", Sub: "failed"}, Result: "start-limit-hit"}
	h.Host.Units.OnStart(func(string) (host.UnitDetail, error) { return gaveUp, nil }) // it fails again at once
	h.Host.Units.SetDetail(worker, gaveUp)
	h.ClearCalls()
	var waited []time.Duration
	last := clock
	for end := clock.Add(25 * time.Minute); clock.Before(end); clock = clock.Add(watchEvery) {
		if err := s.watchUnits(t.Context()); err != nil {
			t.Fatal(err)
		}
		if len(h.Calls()) > 0 {
			if got, want := fmt.Sprint(h.Calls()), fmt.Sprintf("[reset %s start %s]", worker, worker); got != want {
				t.Fatalf("got calls %s, want %s", got, want)
			}
			h.ClearCalls()
			waited, last = append(waited, clock.Sub(last)), clock
		}
	}
	if got, want := fmt.Sprint(waited), "[10s 25s 45s 1m25s 2m45s 5m5s 5m5s 5m5s]"; got != want {
		t.Errorf("got pauses %s, want %s", got, want)
	}
	units := must[[]agentapi.Unit](t)(s.ListUnits(t.Context(), agentapi.ListUnitsParams{}))
	if units[0].State != agentapi.UnitError || units[0].Restarts != len(waited) {
		t.Errorf("got %+v, want error and %d restarts", units[0], len(waited))
	}
	must[handlers.Null](t)(s.StopUnit(t.Context(), agentapi.StopUnitParams{App: "shop", Unit: unitA}))
	if err := s.watchUnits(t.Context()); err != nil || len(s.watch.failed) != 0 {
		t.Errorf("got %v, and %d processes remembered of units that are gone", err, len(s.watch.failed))
	}
}

func TestUnitLog(t *testing.T) {
	h := newUnitHost(t, 0, ok)
	s := unitService1(h)
	record := func(cursor, slice, process, message, pid string) string {
		return `{"__CURSOR":"` + cursor + `","__REALTIME_TIMESTAMP":"1700000000000001","MESSAGE":` + message + `,"_PID":"` + pid + `","_SYSTEMD_SLICE":"` + slice +
			`","_SYSTEMD_UNIT":"` + unitService("shop", unitA, process) + `"}` + "\n"
	}
	mine := unitSlice("shop", unitA)
	h.Runner.Print("journalctl", record("s=1", mine, "web", `"one"`, "7")+record("s=2", mine, "web", `"Started x"`, "1")+
		record("s=3", "reeve-other_"+unitA+".slice", "web", `"forged"`, "8")+record("s=4", mine, "worker", `[116,119,111,255]`, "7")+
		record("s=5", mine, "web", `"three"`, "7")+`{"__CURSOR":"s=6","cut`)
	part := must[agentapi.UnitLog](t)(s.UnitLog(t.Context(), agentapi.UnitLogParams{App: "shop", Unit: unitA, Cursor: "s=0", Lines: 2}))
	at := time.UnixMicro(1700000000000001).UTC()
	want := agentapi.UnitLog{Cursor: "s=4", Lines: []agentapi.UnitLogLine{{At: at, Unit: unitA, Process: "web", Message: "one"}, {At: at, Unit: unitA, Process: "worker", Message: "two?"}}}
	if fmt.Sprint(part) != fmt.Sprint(want) {
		t.Errorf("got %+v, want %+v", part, want)
	}
	if got, want := h.Calls()[0], "run journalctl --output=json --quiet --no-pager --all --output-fields=MESSAGE,_PID,_SYSTEMD_SLICE,_SYSTEMD_UNIT --after-cursor=s=0 REEVE_APP=shop REEVE_UNIT="+unitA; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	t.Run("before anything was printed there is a cursor to go on from", func(t *testing.T) {
		h.Runner.Handle("journalctl", func(c host.Cmd) (host.Output, error) {
			if strings.Contains(strings.Join(c.Args, " "), "REEVE_APP") {
				return host.Output{}, nil
			}
			return host.Output{Stdout: []byte(`{"__CURSOR":"s=9"}` + "\n")}, nil
		})
		part := must[agentapi.UnitLog](t)(s.UnitLog(t.Context(), agentapi.UnitLogParams{App: "shop"}))
		if part.Cursor != "s=9" || part.Lines == nil || len(part.Lines) != 0 {
			t.Errorf("got %+v", part)
		}
	})
	for _, p := range []agentapi.UnitLogParams{{App: "shop", Cursor: "--file=/x"}, {App: "shop", Unit: "x"}, {App: "shop", Lines: 5001}, {App: "shop", Lines: -1}} {
		if _, err := s.UnitLog(t.Context(), p); !isKind(err, agentapi.KindInvalid) {
			t.Errorf("%+v: got %v, want invalid", p, err)
		}
	}
}

func TestRunCommand(t *testing.T) {
	h := newUnitHost(t, 0, ok)
	s := unitService1(h)
	before := everything(h.Host)
	var seen string
	h.Runner.Handle("systemd-run", func(c host.Cmd) (host.Output, error) {
		for _, arg := range c.Args {
			if file, ok := strings.CutPrefix(arg, "--property=EnvironmentFile="); ok {
				st, err := os.Stat(h.Path(file))
				if err != nil || st.Mode().Perm() != 0o600 {
					t.Errorf("got %v, %v, want 0600", st, err)
				}
				seen = h.Text(file)
			}
		}
		if strings.Contains(strings.Join(c.Args, " "), "seen-nowhere") {
			t.Errorf("the secret is an argument: %q", c.Args)
		}
		if got, want := strings.Join(c.Args[len(c.Args)-4:], " "), "-- /bin/sh -c echo $$HOME"; got != want {
			t.Errorf("got %s, want %s", got, want)
		}
		io.WriteString(c.StdoutFile, "one\r\ntwo\xff\n"+strings.Repeat("x", maxPrinted+10))
		return host.Output{Code: 3}, nil
	})
	id := must[any](t)(s.RunCommand(t.Context(), agentapi.RunCommandParams{App: "shop", Release: 1, Command: "echo $HOME", Env: map[string]agentapi.Secret{"B": "seen-nowhere"}, Async: true}))
	var op agentapi.Operation
	for op.Status != agentapi.OperationCompleted && op.Status != agentapi.OperationFailed {
		op = must[agentapi.Operation](t)(s.ops.Result(id.(string)))
		time.Sleep(time.Millisecond)
	}
	if want := []string{"one", "two?", strings.Repeat("x", maxPrinted), strings.Repeat("x", 10)}; fmt.Sprint(op.Logs) != fmt.Sprint(want) {
		t.Errorf("got %q", op.Logs)
	}
	if got := fmt.Sprintf("%s", op.Result); got != `{"exit_code":3}` {
		t.Errorf("got %s", got)
	}
	if !strings.Contains(seen, "B=\"seen-nowhere\"\n") || !strings.Contains(seen, "MYSQL_USER=\"u\"\n") || !strings.Contains(seen, "TSURU_APPDIR=\"/home/application/current\"\n") {
		t.Errorf("got environment %s", seen)
	}
	if got := everything(h.Host); got != before {
		t.Errorf("got\n%s\nwant\n%s", got, before)
	}
	t.Run("what a killed agent left is ended and removed", func(t *testing.T) {
		left := path.Join(s.runDir(), "reeve-run-abc.service")
		h.WriteText(left, "SECRET=1")
		h.Host.Units.SetRunning("reeve-run-abc.service")
		if err := s.Start(t.Context()); err != nil || h.Exists(left) || h.Host.Units.Running("reeve-run-abc.service") {
			t.Errorf("got %v, and it is still there", err)
		}
	})
	for _, p := range []agentapi.RunCommandParams{{App: "shop", Release: 1, Command: " "}, {App: "shop", Release: 1, Command: "a\x00b"}, {App: "shop", Release: 1, Command: "a", TimeoutSeconds: -1}} {
		if _, err := s.RunCommand(t.Context(), p); !isKind(err, agentapi.KindInvalid) {
			t.Errorf("%+v: got %v, want invalid", p, err)
		}
	}
	if _, err := s.RunCommand(t.Context(), agentapi.RunCommandParams{App: "shop", Release: 8, Command: "a"}); !isKind(err, agentapi.KindNotFound) {
		t.Errorf("got %v, want not_found", err)
	}
}

func TestFetchReleaseRefuses(t *testing.T) {
	h := newUnitHost(t, 0, ok)
	s := unitService1(h)
	before := everything(h.Host)
	st := newStore(t)
	good := st.put(archive(t, file{name: "app", body: "3"}))
	with := func(change func(*agentapi.Blob)) agentapi.FetchReleaseParams {
		b := good
		change(&b)
		return agentapi.FetchReleaseParams{App: "shop", Release: 3, Source: b}
	}
	for name, c := range map[string]struct {
		p    agentapi.FetchReleaseParams
		kind agentapi.Kind
	}{
		"no sum":             {with(func(b *agentapi.Blob) { b.SHA256 = "" }), agentapi.KindInvalid},
		"another sum":        {with(func(b *agentapi.Blob) { b.SHA256 = sumOf([]byte("x")) }), agentapi.KindInvalid},
		"a wrong token":      {with(func(b *agentapi.Blob) { b.Token = "x" }), agentapi.KindInvalid},
		"a file":             {with(func(b *agentapi.Blob) { b.URL = "file:///etc/shadow" }), agentapi.KindInvalid},
		"a missing one":      {with(func(b *agentapi.Blob) { b.URL += "x" }), agentapi.KindInvalid},
		"nobody there":       {with(func(b *agentapi.Blob) { b.URL = fmt.Sprintf("http://%s:%d/x", loopback, ports.Free(t)) }), agentapi.KindUnavailable},
		"no certificate":     {with(func(b *agentapi.Blob) { b.CACert = "x" }), agentapi.KindInvalid},
		"no archive":         {agentapi.FetchReleaseParams{App: "shop", Release: 3, Source: st.put([]byte("x"))}, agentapi.KindInvalid},
		"a link out of it":   {agentapi.FetchReleaseParams{App: "shop", Release: 3, Source: st.put(archive(t, file{name: "l", kind: '2', target: "/etc/shadow"}))}, agentapi.KindInvalid},
		"a link by another":  {agentapi.FetchReleaseParams{App: "shop", Release: 3, Source: st.put(archive(t, file{name: "a", kind: '2', target: "b"}, file{name: "b", kind: '2', target: "/etc/shadow"}))}, agentapi.KindInvalid},
		"a link in a circle": {agentapi.FetchReleaseParams{App: "shop", Release: 3, Source: st.put(archive(t, file{name: "a", kind: '2', target: "b"}, file{name: "b", kind: '2', target: "a"}))}, agentapi.KindInvalid},
		"a link over /usr":   {agentapi.FetchReleaseParams{App: "shop", Release: 3, Source: st.put(archive(t, file{name: "l", kind: '2', target: "/usr/../etc/shadow"}))}, agentapi.KindInvalid},
		"behind a link":      {agentapi.FetchReleaseParams{App: "shop", Release: 3, Source: st.put(archive(t, file{name: "l", kind: '2', target: "/usr/bin"}, file{name: "l/x"}))}, agentapi.KindInvalid},
		"other content":      {agentapi.FetchReleaseParams{App: "shop", Release: 2, Source: good}, agentapi.KindConflict},
		"no such app":        {agentapi.FetchReleaseParams{App: "other", Release: 3, Source: good}, agentapi.KindNotFound},
		"release number 0":   {agentapi.FetchReleaseParams{App: "shop", Release: 0, Source: good}, agentapi.KindInvalid},
		"a token of 2 lines": {with(func(b *agentapi.Blob) { b.Token = "a\nb" }), agentapi.KindInvalid},
	} {
		_, err := s.FetchRelease(t.Context(), c.p)
		if !isKind(err, c.kind) {
			t.Errorf("%s: got %v, want %s", name, err, c.kind)
		}
		if err != nil && strings.Contains(err.Error(), "blob-") {
			t.Errorf("%s: the error shows the address: %v", name, err)
		}
	}
	if got := everything(h.Host); got != before {
		t.Errorf("got\n%s\nwant\n%s", got, before)
	}
	t.Run("a link to the distribution's interpreter is right", func(t *testing.T) {
		p := agentapi.FetchReleaseParams{App: "shop", Release: 3, Source: st.put(archive(t, file{name: ".venv/bin/python", kind: '2', target: "python3"},
			file{name: ".venv/bin/python3", kind: '2', target: "/usr/bin/python3"}, file{name: "b", kind: '2', target: "app"}, file{name: "app"}))}
		for range 2 {
			must[handlers.Null](t)(s.FetchRelease(t.Context(), p))
		}
		if got, err := s.host.ReadLink("/srv/data/apps/shop/releases/3/.venv/bin/python3"); got != "/usr/bin/python3" || err != nil {
			t.Errorf("got %q, %v", got, err)
		}
	})
	t.Run("a server with a certificate of the named authority is trusted, others are not", func(t *testing.T) {
		tls := httptest.NewUnstartedServer(st.Config.Handler)
		tls.Config.ErrorLog = log.New(io.Discard, "", 0)
		tls.StartTLS()
		t.Cleanup(tls.Close)
		b := good
		b.URL = tls.URL + strings.TrimPrefix(good.URL, st.URL)
		p := agentapi.FetchReleaseParams{App: "shop", Release: 4, Source: b}
		if _, err := s.FetchRelease(t.Context(), p); !isKind(err, agentapi.KindUnavailable) {
			t.Errorf("got %v, want unavailable", err)
		}
		p.Source.CACert = certPEM(tls.Certificate())
		must[handlers.Null](t)(s.FetchRelease(t.Context(), p))
	})
}
