package nginx

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/reeve-paas/reeve/agent/agentapi"
	"github.com/reeve-paas/reeve/handlers/host"
	"github.com/reeve-paas/reeve/handlers/host/hosttest"
	"github.com/reeve-paas/reeve/handlers/nginx/nginxtest"
)

const fakeMain = "user www-data;\nevents {\n}\nhttp {\n\tinclude /etc/nginx/conf.d/*.conf;\n\tinclude /etc/nginx/sites-enabled/*;\n}\n"

// bareHost is a Debian host with a running nginx that no agent has seen.
func bareHost(tb testing.TB) *hosttest.Host {
	h := hosttest.New(tb)
	h.WriteText("/etc/nginx/nginx.conf", fakeMain)
	h.WriteText("/etc/nginx/sites-available/default", "server {\n}\n")
	if err := os.MkdirAll(h.Path("/etc/nginx/sites-enabled"), 0o755); err != nil {
		tb.Fatal(err)
	}
	if err := os.Symlink("/etc/nginx/sites-available/default", h.Path("/etc/nginx/sites-enabled/default")); err != nil {
		tb.Fatal(err)
	}
	h.Runner.Succeed("nginx")
	h.Units.SetRunning("nginx.service")
	return h
}

func fakeService(h *hosttest.Host) *Service {
	return New(Options{Host: h.Host, Roles: nginxtest.NewCoordinator(), Settle: 1})
}

func fakeMake(h *hosttest.Host, name, backend string) error {
	_, err := fakeService(h).MakeProxy(context.Background(), agentapi.ProxyParams{Hostname: name, Backends: []agentapi.Destination{{Host: backend}}})
	return err
}

// testPair is a certificate as it comes with a proxy.
type testPair struct {
	ID   string
	Pair agentapi.KeyPair
}

func newPairOf(t *testing.T) (p testPair) {
	p.ID, p.Pair = delivered(t, "a.test")
	return p
}

func fakeMakeTLS(h *hosttest.Host, p testPair) error {
	_, err := fakeService(h).MakeProxy(context.Background(), agentapi.ProxyParams{Hostname: "a.test", Backends: []agentapi.Destination{{Host: "192.0.2.1"}},
		SSL: agentapi.Ptr(agentapi.Bool(true)), SSLCertificateID: agentapi.Ptr(agentapi.Text(p.ID)), SSLCertificate: &p.Pair})
	return err
}

func TestEveryStepIsTakenBack(t *testing.T) {
	withProxies := func(tb testing.TB) *hosttest.Host {
		h := bareHost(tb)
		for _, name := range []string{"a.test", "b.test"} {
			if err := fakeMake(h, name, "192.0.2.1"); err != nil {
				tb.Fatal(err)
			}
		}
		return h
	}
	withRole := func(tb testing.TB) *hosttest.Host {
		h := withProxies(tb)
		p := agentapi.ProxyParams{Hostname: "r.test", Backends: []agentapi.Destination{{FarmRoleID: "1"}}}
		if _, err := fakeService(h).MakeProxy(context.Background(), p); err != nil {
			tb.Fatal(err)
		}
		if _, err := fakeService(h).AddServerToRole(context.Background(), agentapi.RoleServerParams{Server: "192.0.2.1", RoleID: "1"}); err != nil {
			tb.Fatal(err)
		}
		return h
	}
	withLegacy := func(tb testing.TB) *hosttest.Host {
		h := bareHost(tb)
		h.WriteText("/etc/nginx/nginx.conf", strings.TrimSuffix(fakeMain, "}\n")+"server { location / { proxy_pass http://backend; } }\n}\n")
		h.WriteText("/etc/nginx/app-servers.include", "upstream backend { server 192.0.2.1; }\n")
		h.WriteText("/etc/nginx/proxies.include", "")
		return h
	}
	oldPair, newPair := newPairOf(t), newPairOf(t)
	withCertificate := func(tb testing.TB) *hosttest.Host {
		h := withProxies(tb)
		if err := fakeMakeTLS(h, oldPair); err != nil {
			tb.Fatal(err)
		}
		return h
	}
	for name, c := range map[string]struct {
		start func(testing.TB) *hosttest.Host
		do    func(*hosttest.Host) error
	}{
		"the first proxy of a host":             {bareHost, func(h *hosttest.Host) error { return fakeMake(h, "a.test", "192.0.2.1") }},
		"a proxy whose certificate is replaced": {withCertificate, func(h *hosttest.Host) error { return fakeMakeTLS(h, newPair) }},
		"a proxy that is replaced":              {withProxies, func(h *hosttest.Host) error { return fakeMake(h, "a.test", "192.0.2.2") }},
		"remove_proxy": {withProxies, func(h *hosttest.Host) error {
			_, err := fakeService(h).RemoveProxy(context.Background(), agentapi.RemoveProxyParams{Hostname: "a.test"})
			return err
		}},
		"recreate_proxying": {withProxies, func(h *hosttest.Host) error {
			list := []json.RawMessage{[]byte(`{"name": "b.test", "backends": [{"host": "192.0.2.7"}]}`), []byte(`{"name": "c.test", "backends": [{"farm_role_id": 1}]}`)}
			_, err := fakeService(h).RecreateProxying(context.Background(), agentapi.RecreateProxyingParams{ProxyList: list})
			return err
		}},
		"reconfigure with an older agent's server in nginx.conf": {withLegacy, func(h *hosttest.Host) error {
			_, err := fakeService(h).Reconfigure(context.Background(), agentapi.ReconfigureProxiesParams{Proxies: []json.RawMessage{}, Async: agentapi.Ptr(agentapi.Bool(false))})
			return err
		}},
		"add_server_to_role": {withRole, func(h *hosttest.Host) error {
			_, err := fakeService(h).AddServerToRole(context.Background(), agentapi.RoleServerParams{Server: "192.0.2.2", RoleID: "1"})
			return err
		}},
		"remove_server_from_role of the last one": {withRole, func(h *hosttest.Host) error {
			_, err := fakeService(h).RemoveServerFromRole(context.Background(), agentapi.RoleServerParams{Server: "192.0.2.1", RoleID: "1"})
			return err
		}},
		"remove_server_from_all_backends": {withRole, func(h *hosttest.Host) error {
			_, err := fakeService(h).RemoveServerFromAllBackends(context.Background(), agentapi.AllBackendsParams{Server: "192.0.2.1"})
			return err
		}},
		"remove_server of the last one": {withProxies, func(h *hosttest.Host) error {
			_, err := fakeService(h).RemoveServer(context.Background(), agentapi.UpstreamServerParams{Backend: "b.test", Server: "192.0.2.1"})
			return err
		}},
	} {
		t.Run(name, func(t *testing.T) {
			before := c.start(t).Tree("/")
			hosttest.BreakEachCall(t, c.start, c.do, func(t *testing.T, h *hosttest.Host, _ error) {
				if got := h.Tree("/"); got != before {
					t.Errorf("got\n%s\nwant\n%s", got, before)
				}
				if !h.Units.Running("nginx.service") {
					t.Error("nginx does not run")
				}
			})
		})
	}
}

func TestStart(t *testing.T) {
	t.Run("leaves a host without nginx alone", func(t *testing.T) {
		h := hosttest.New(t)
		if err := fakeService(h).Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		if got := h.Tree("/"); strings.Count(got, "\n") != 1 {
			t.Errorf("got %s", got)
		}
		if err := fakeMake(h, "a.test", "192.0.2.1"); err == nil || !strings.Contains(err.Error(), "nginx is not installed") {
			t.Errorf("got %v", err)
		}
	})
	t.Run("leaves a host alone that no agent has seen", func(t *testing.T) {
		h := bareHost(t)
		before := h.Tree("/")
		if err := fakeService(h).Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		if got := h.Tree("/"); got != before {
			t.Errorf("got\n%s\nwant\n%s", got, before)
		}
		if got := h.Calls(); len(got) != 0 {
			t.Errorf("it did %q", got)
		}
	})
	t.Run("leaves it to the first change to include the proxies last in http and to drop the packaged site", func(t *testing.T) {
		h := bareHost(t)
		if err := fakeMake(h, "a.test", "192.0.2.1"); err != nil {
			t.Fatal(err)
		}
		want := strings.TrimSuffix(fakeMain, "}\n") + "\tinclude /etc/nginx/proxies.include;\n\tinclude /etc/nginx/app-servers.include;\n}\n"
		if got := h.Text("/etc/nginx/nginx.conf"); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
		if h.Exists("/etc/nginx/sites-enabled/default") || !h.Exists("/etc/nginx/sites-available/default") {
			t.Error("only the link of the packaged site should go")
		}
		for _, name := range []string{"app-servers.include", "proxies.include", "error-pages.include"} {
			if !h.Exists("/etc/nginx/" + name) {
				t.Errorf("%s is missing", name)
			}
		}
		h.ClearCalls()
		if err := fakeService(h).Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		if got := h.Calls(); len(got) != 0 {
			t.Errorf("a second start did %q", got)
		}
	})
	t.Run("keeps the proxies of an older agent", func(t *testing.T) {
		h := bareHost(t)
		const ups, prox = "upstream x {\n\tserver 192.0.2.5;\n}\n", "server { listen 80; server_name old.test; location / { proxy_pass http://x; } }\n"
		h.WriteText("/etc/nginx/nginx.conf", strings.TrimSuffix(fakeMain, "}\n")+"include app-servers.include; include proxies.include;}\n")
		h.WriteText("/etc/nginx/app-servers.include", ups)
		h.WriteText("/etc/nginx/proxies.include", prox)
		if err := fakeMake(h, "a.test", "192.0.2.1"); err != nil {
			t.Fatal(err)
		}
		if got := h.Text("/etc/nginx/app-servers.include"); !strings.HasPrefix(got, ups) {
			t.Errorf("got %s", got)
		}
		if got := h.Text("/etc/nginx/proxies.include"); !strings.HasPrefix(got, prox) {
			t.Errorf("got %s", got)
		}
		if !h.Exists("/etc/nginx/sites-enabled/default") {
			t.Error("a host that was taken over keeps its sites")
		}
	})
}

func TestTheTestReadsStagedFilesOnly(t *testing.T) {
	h := bareHost(t)
	if err := fakeMake(h, "a.test", "192.0.2.1"); err != nil {
		t.Fatal(err)
	}
	h.ClearCalls()
	var conf, staged string
	h.Runner.Handle("nginx", func(c host.Cmd) (host.Output, error) {
		data, err := os.ReadFile(c.Args[2])
		conf = string(data)
		_, rest, _ := strings.Cut(conf, "include "+h.Root)
		path, _, _ := strings.Cut(rest, ";")
		staged = h.Text(path)
		if strings.Contains(h.Text("/etc/nginx/app-servers.include"), "192.0.2.2") {
			t.Error("the new server is in the live file before the test")
		}
		return host.Output{}, err
	})
	if err := fakeMake(h, "a.test", "192.0.2.2"); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(staged, "192.0.2.2") || !strings.HasPrefix(conf, "pid "+h.Root) {
		t.Errorf("the test read %s with %s", conf, staged)
	}
	tests := slices.DeleteFunc(h.Calls(), func(c string) bool { return !strings.HasPrefix(c, "run ") })
	if len(tests) != 1 {
		t.Errorf("got %q, want one test", tests)
	}
}

// The name of an upstream may go from nginx.conf only while the upstream is there, so nginx can be started at any moment.
func TestAnOlderAgentsServerGoesBeforeItsUpstream(t *testing.T) {
	h := bareHost(t)
	h.WriteText("/etc/nginx/nginx.conf", "http {\nserver { location / { proxy_pass http://backend; } }\ninclude app-servers.include; include proxies.include;\n}\n")
	h.WriteText("/etc/nginx/app-servers.include", "upstream backend { server 192.0.2.1; }\n")
	s := fakeService(h)
	st, err := s.load()
	if err != nil {
		t.Fatal(err)
	}
	if err := st.dropLegacyServer(&file{}); err != nil {
		t.Fatal(err)
	}
	steps, err := s.steps(st, "", "")
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, step := range steps {
		got = append(got, step.path)
	}
	if want := []string{"/etc/nginx/nginx.conf", "/etc/nginx/app-servers.include"}; !slices.Equal(got, want) || strings.Contains(steps[0].text, "backend") {
		t.Errorf("got %q, want %q; %s", got, want, steps[0].text)
	}
}

// spyUnits calls reload before each reload, with its number.
type spyUnits struct {
	host.Units
	reload  func(n int)
	reloads int
}

func (u *spyUnits) Reload(ctx context.Context, unit string) error {
	u.reloads++
	u.reload(u.reloads)
	return u.Units.Reload(ctx, unit)
}

func spied(h *hosttest.Host, reload func(n int)) (*Service, *spyUnits) {
	units := &spyUnits{Units: h.Units, reload: reload}
	return New(Options{Host: host.New(host.Options{Root: h.Root, Runner: h.Runner, Units: units, Layout: &host.Debian}), Settle: 1}), units
}

func TestAChangeThatCannotBeKeptIsNotServedEither(t *testing.T) {
	h := bareHost(t)
	s, units := spied(h, func(n int) {
		if n == 2 {
			if h.Text("/etc/nginx/nginx.conf") != fakeMain || !h.Exists("/etc/nginx/sites-enabled/default") {
				t.Error("nginx reloads before everything is back")
			}
			return
		}
		journal := h.Path("/etc/nginx/.reeve-staging/journal.json") // a directory in its place cannot be removed
		if err := errors.Join(os.Remove(journal), os.MkdirAll(journal+"/full", 0o700)); err != nil {
			t.Error(err)
		}
	})
	if _, err := s.MakeProxy(t.Context(), agentapi.ProxyParams{Hostname: "a.test", Backends: []agentapi.Destination{{Host: "192.0.2.1"}}}); err == nil {
		t.Error("got no error of a change that was not kept")
	}
	if units.reloads != 2 {
		t.Errorf("got %d reloads, want one for the change and one after it was taken back", units.reloads)
	}
}

func TestAKillDuringTheFirstChangeLosesNoSite(t *testing.T) {
	h := bareHost(t)
	before := h.Tree("/etc/nginx/sites-enabled") + h.Text("/etc/nginx/nginx.conf")
	killed := h.Path("/etc/nginx/killed")
	s, _ := spied(h, func(n int) { // what a kill here would leave
		if n > 1 {
			return
		}
		if h.Exists("/etc/nginx/sites-enabled/default") {
			t.Error("nginx reloads with the packaged site")
		}
		if err := os.CopyFS(killed, os.DirFS(h.Path("/etc/nginx/.reeve-staging"))); err != nil {
			t.Error(err)
		}
	})
	if _, err := s.MakeProxy(t.Context(), agentapi.ProxyParams{Hostname: "a.test", Backends: []agentapi.Destination{{Host: "192.0.2.1"}}}); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(killed, h.Path("/etc/nginx/.reeve-staging")); err != nil {
		t.Fatal(err)
	}
	if err := fakeService(h).Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := h.Tree("/etc/nginx/sites-enabled") + h.Text("/etc/nginx/nginx.conf"); got != before {
		t.Errorf("got\n%s\nwant\n%s", got, before)
	}
	if h.Exists("/etc/nginx/proxies.include") {
		t.Error("the unconfirmed proxy is still there")
	}
}
