package nginx

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/reeve-paas/reeve/agent/agentapi"
	"github.com/reeve-paas/reeve/handlers/host"
	"github.com/reeve-paas/reeve/handlers/web"
	"github.com/reeve-paas/reeve/handlers/web/webtest"
)

const nginxBinary = "/usr/sbin/nginx"

// realNginx is a private nginx of one test: the real binary on a free port.
type realNginx struct {
	*Service
	t      testing.TB
	dir    string
	port   int
	units  *webtest.Units
	certs  *fakeCertificates
	roles  fakeRoles
	status string // address of its status server; "" for none
}

type fakeCertificates struct {
	pairs   map[string][3][]byte
	fetched []string
}

func (f *fakeCertificates) Certificate(_ context.Context, id string) (cert, key, chain []byte, err error) {
	f.fetched = append(f.fetched, id)
	p := f.pairs[id]
	return p[0], p[1], p[2], nil
}

type fakeRoles map[string][]web.RoleServer

func (f fakeRoles) Servers(_ context.Context, id string) ([]web.RoleServer, error) { return f[id], nil }

func newRealNginx(t testing.TB) *realNginx {
	t.Helper()
	webtest.NeedBinary(t, nginxBinary)
	n := &realNginx{t: t, dir: t.TempDir(), port: webtest.FreePort(t), certs: &fakeCertificates{}, roles: fakeRoles{}}
	for dir := n.dir; strings.HasPrefix(dir, os.TempDir()+"/"); dir = filepath.Dir(dir) {
		if err := os.Chmod(dir, 0o755); err != nil { // nginx's workers are another user
			t.Fatal(err)
		}
	}
	for _, dir := range []string{"tmp", "html"} {
		if err := os.MkdirAll(filepath.Join(n.dir, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	n.write("nginx.conf", n.mainConfig())
	n.units = &webtest.Units{Daemons: map[string]webtest.Daemon{"nginx.service": {
		PIDFile: filepath.Join(n.dir, "nginx.pid"),
		Start:   []string{nginxBinary, "-c", n.conf()},
		Reload:  [][]string{{nginxBinary, "-c", n.conf(), "-s", "reload"}},
	}}}
	t.Cleanup(n.units.StopAll)
	n.Service = n.newService()
	return n
}

// counting is an nginx that gets a status server with its first change.
func (n *realNginx) counting() *realNginx {
	n.status = fmt.Sprintf("127.0.0.1:%d", webtest.FreePort(n.t))
	n.Service = n.newService()
	return n
}

func (n *realNginx) newService() *Service {
	return serviceIn(n.dir, n.units, n.certs, n.roles, n.status)
}

func serviceIn(dir string, units host.Units, certs web.Certificates, roles web.Roles, status string) *Service {
	h := host.New(host.Options{Units: units, Layout: &host.Layout{
		Family: "debian", NginxUnit: "nginx.service", NginxBin: nginxBinary, NginxConf: filepath.Join(dir, "nginx.conf"),
	}})
	return New(Options{
		Host: h, PrivateDir: filepath.Join(dir, "private.d"), PagesDir: filepath.Join(dir, "html"),
		Certificates: certs, Roles: roles, CloudLocation: "here", StatusAddr: status,
	})
}

func (n *realNginx) mainConfig() string {
	var b strings.Builder
	if os.Getuid() == 0 {
		b.WriteString("user www-data;\n")
	}
	fmt.Fprintf(&b, "worker_processes 1;\npid %s/nginx.pid;\nerror_log %s/error.log;\nevents {\n\tworker_connections 64;\n}\n\nhttp {\n\taccess_log off;\n", n.dir, n.dir)
	for _, kind := range []string{"client_body", "proxy", "fastcgi", "uwsgi", "scgi"} {
		fmt.Fprintf(&b, "\t%s_temp_path %s/tmp/%s;\n", kind, n.dir, kind)
	}
	fmt.Fprintf(&b, "\tserver {\n\t\tlisten %d default_server;\n\t\treturn 200 \"default site\";\n\t}\n}\n", n.port)
	return b.String()
}

func (n *realNginx) conf() string { return filepath.Join(n.dir, "nginx.conf") }

func (n *realNginx) write(name, text string) {
	n.t.Helper()
	if err := os.WriteFile(filepath.Join(n.dir, name), []byte(text), 0o644); err != nil {
		n.t.Fatal(err)
	}
}

func (n *realNginx) read(name string) string {
	n.t.Helper()
	data, err := os.ReadFile(filepath.Join(n.dir, name))
	if err != nil {
		n.t.Fatal(err)
	}
	return string(data)
}

func (n *realNginx) start() *realNginx {
	n.t.Helper()
	if err := n.Start(n.t.Context()); err != nil {
		n.t.Fatal(err)
	}
	if err := n.server.Start(n.t.Context()); err != nil {
		n.t.Fatal(err)
	}
	return n
}

// backend is an application that answers with its name, and tells what it was asked.
func backend(t testing.TB, name string) agentapi.Destination {
	t.Helper()
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/fail" {
			w.WriteHeader(http.StatusInternalServerError)
			return
		}
		fmt.Fprintf(w, "%s %s host=%s real=%s for=%s", name, r.URL, r.Host, r.Header.Get("X-Real-IP"), r.Header.Get("X-Forwarded-For"))
	}))
	t.Cleanup(srv.Close)
	addr, port := splitAddress(srv.Listener.Addr().String())
	return agentapi.Destination{Host: addr, Port: text(port)}
}

func text(n int) agentapi.Text { return agentapi.Text(strconv.Itoa(n)) }

func (n *realNginx) params(name string, backends ...agentapi.Destination) agentapi.ProxyParams {
	return agentapi.ProxyParams{Hostname: name, Port: new(text(n.port)), Backends: backends}
}

func (n *realNginx) make(p agentapi.ProxyParams) {
	n.t.Helper()
	if _, err := n.MakeProxy(n.t.Context(), p); err != nil {
		n.t.Fatal(err)
	}
}

func (n *realNginx) get(url string) webtest.Response {
	n.t.Helper()
	return webtest.Get(n.t, n.port, url)
}

func (n *realNginx) wants(url, want string) {
	n.t.Helper()
	if r := n.get(url); r.Status != 200 || !strings.Contains(r.Body, want) {
		n.t.Errorf("GET %s: got %d %q, want 200 with %q", url, r.Status, r.Body, want)
	}
}

func TestRealNginxProxiesToABackend(t *testing.T) {
	t.Parallel()
	n := newRealNginx(t).start()
	n.make(n.params("p.test", backend(t, "B1")))
	n.wants("http://p.test/x?y=1", "B1 /x?y=1 host=p.test real=127.0.0.1 for=127.0.0.1")
	n.wants("http://other.test/", "default site")
	if want := "upstream " + hashName("p.test") + " {"; !strings.Contains(n.read("app-servers.include"), want) {
		t.Errorf("got %s, want %s", n.read("app-servers.include"), want)
	}
}

func TestDebiansOwnConfigurationIsUnderstood(t *testing.T) {
	t.Parallel()
	webtest.NeedBinary(t, nginxBinary)
	webtest.NeedBinary(t, "/etc/nginx/sites-enabled/default")
	if os.Getuid() != 0 {
		t.Skip("nginx's test of the packaged configuration opens its logs, which needs root")
	}
	s := New(Options{Host: host.New(host.Options{Layout: &host.Debian}), PrivateDir: t.TempDir()})
	st, err := s.load()
	if err != nil {
		t.Fatal(err)
	}
	conf, err := s.withIncludes(st)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for want, body := range map[string]string{"": "server { server_name a.test; location / { proxy_pass http://u; } }", "nope": "server { location / { proxy_pass http://nope; } }"} {
		final := map[string]string{s.upstreamsPath(): filepath.Join(dir, "up"), s.proxiesPath(): filepath.Join(dir, "pr")}
		main, err := s.stagedMain(conf, final)
		if err != nil {
			t.Fatal(err)
		}
		main = strings.Replace(main, s.stagingDir(), dir, 1) // the pid file: nothing below /etc is written for the test
		for name, text := range map[string]string{"up": "upstream u { server 192.0.2.1; }", "pr": body, "nginx.conf": main} {
			if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		err = s.testFile(t.Context(), filepath.Join(dir, "nginx.conf"))
		if (err != nil) != (want != "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v", body, err)
		}
	}
}

func TestRealNginxFinishesADownloadAcrossAReload(t *testing.T) { // 78
	t.Parallel()
	n := newRealNginx(t).start()
	started, finish := make(chan bool), make(chan bool)
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprint(w, "first half, ")
		w.(http.Flusher).Flush()
		close(started)
		<-finish
		fmt.Fprint(w, "second half")
	}))
	t.Cleanup(srv.Close)
	addr, port := splitAddress(srv.Listener.Addr().String())
	n.make(n.params("slow.test", agentapi.Destination{Host: addr, Port: text(port)}))
	got := make(chan string)
	go func() {
		r, err := webtest.TryGet(n.port, "http://slow.test/")
		got <- fmt.Sprint(r.Body, err)
	}()
	<-started
	n.make(n.params("p.test", backend(t, "B1")))
	n.wants("http://p.test/", "B1")
	close(finish)
	if body, want := <-got, "first half, second half<nil>"; body != want {
		t.Errorf("got %q, want %q", body, want)
	}
}
