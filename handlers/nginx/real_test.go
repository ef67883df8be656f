package nginx

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/reeve-paas/reeve/agent/agentapi"
	"github.com/reeve-paas/reeve/agent/operation"
	"github.com/reeve-paas/reeve/handlers/host"
	"github.com/reeve-paas/reeve/handlers/nginx/nginxtest"
	operationrpc "github.com/reeve-paas/reeve/handlers/operation"
	"github.com/reeve-paas/reeve/handlers/web"
	"github.com/reeve-paas/reeve/handlers/web/webtest"
)

const nginxBinary = "/usr/sbin/nginx"

// realNginx is a private nginx of one test: the real binary on a free port.
type realNginx struct {
	*Service
	*nginxtest.Rig
	units    *webtest.Units
	registry *operation.Registry
	status   string // address of its status server; "" for none
}

// newRig is the rig without an agent yet.
func newRig(t testing.TB) *nginxtest.Rig {
	dir := t.TempDir()
	return &nginxtest.Rig{
		T: t, Coordinator: nginxtest.NewCoordinator(), Addr: "127.0.0.1", Visitor: "127.0.0.1", Port: webtest.FreePort(t),
		Dir: dir, PrivateDir: filepath.Join(dir, "private.d"), PIDFile: filepath.Join(dir, "nginx.pid"),
		Listen:   func(addr string) (net.Listener, error) { return net.Listen("tcp", addr) },
		Dial:     func(addr string) (net.Conn, error) { return net.Dial("tcp", addr) },
		FreePort: func() int { return webtest.FreePort(t) },
	}
}

func newRealNginx(t testing.TB) *realNginx {
	t.Helper()
	webtest.NeedBinary(t, nginxBinary)
	registry, err := operation.Open(operation.Options{})
	if err != nil {
		t.Fatal(err)
	}
	n := &realNginx{registry: registry, Rig: newRig(t)}
	n.Call, n.RestartAgent = n.call, func() {
		n.Service = n.newService()
		if err := n.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	for dir := n.Dir; strings.HasPrefix(dir, os.TempDir()+"/"); dir = filepath.Dir(dir) {
		if err := os.Chmod(dir, 0o755); err != nil { // nginx's workers are another user
			t.Fatal(err)
		}
	}
	for _, dir := range []string{"tmp", "html"} {
		if err := os.MkdirAll(filepath.Join(n.Dir, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	n.Write("nginx.conf", n.mainConfig())
	n.units = &webtest.Units{Daemons: map[string]webtest.Daemon{"nginx.service": {
		PIDFile: filepath.Join(n.Dir, "nginx.pid"),
		Start:   []string{nginxBinary, "-c", n.conf()},
		Reload:  [][]string{{nginxBinary, "-c", n.conf(), "-s", "reload"}},
	}}}
	t.Cleanup(n.units.StopAll)
	n.Service = n.newService()
	return n
}

// counting is an nginx that gets a status server with its first change.
func (n *realNginx) counting() *realNginx {
	n.status = fmt.Sprintf("127.0.0.1:%d", webtest.FreePort(n.T))
	n.Service = n.newService()
	return n
}

func (n *realNginx) newService() *Service {
	s := serviceIn(n.Dir, n.units, n.Coordinator, n.Coordinator, n.status)
	s.operations = n.registry
	return s
}

// call is how the suites call the handler.
func (n *realNginx) call(ctx context.Context, method string, params []byte) (json.RawMessage, error) {
	namespace, name, _ := strings.Cut(method, ".")
	methods := n.Methods()
	if namespace == "operation" {
		methods = operationrpc.New(n.registry).Methods()
	}
	result, err := methods[name].Call(ctx, params)
	if err != nil {
		return nil, err
	}
	return json.Marshal(result)
}

func serviceIn(dir string, units host.Units, certs web.Certificates, roles web.Roles, status string) *Service {
	h := host.New(host.Options{Units: units, Layout: &host.Layout{
		Family: "debian", NginxUnit: "nginx.service", NginxBin: nginxBinary, NginxConf: filepath.Join(dir, "nginx.conf"),
	}})
	return New(Options{
		Host: h, PrivateDir: filepath.Join(dir, "private.d"), PagesDir: filepath.Join(dir, "html"),
		Certificates: certs, Roles: roles, CloudLocation: nginxtest.Location, StatusAddr: status,
	})
}

func (n *realNginx) mainConfig() string {
	var b strings.Builder
	if os.Getuid() == 0 {
		b.WriteString("user www-data;\n")
	}
	fmt.Fprintf(&b, "worker_processes 1;\npid %s/nginx.pid;\nerror_log %s/error.log;\nevents {\n\tworker_connections 64;\n}\n\nhttp {\n\taccess_log off;\n", n.Dir, n.Dir)
	for _, kind := range []string{"client_body", "proxy", "fastcgi", "uwsgi", "scgi"} {
		fmt.Fprintf(&b, "\t%s_temp_path %s/tmp/%s;\n", kind, n.Dir, kind)
	}
	fmt.Fprintf(&b, "\tserver {\n\t\tlisten %d default_server;\n\t\treturn 200 \"default site\";\n\t}\n}\n", n.Port)
	return b.String()
}

func (n *realNginx) conf() string { return filepath.Join(n.Dir, "nginx.conf") }

func (n *realNginx) start() *realNginx {
	n.T.Helper()
	if err := n.Start(n.T.Context()); err != nil {
		n.T.Fatal(err)
	}
	if err := n.server.Start(n.T.Context()); err != nil {
		n.T.Fatal(err)
	}
	return n
}

func text(n int) agentapi.Text { return agentapi.Text(strconv.Itoa(n)) }

func (n *realNginx) params(name string, backends ...agentapi.Destination) agentapi.ProxyParams {
	return agentapi.ProxyParams{Hostname: name, Port: new(text(n.Port)), Backends: backends}
}

func (n *realNginx) make(p agentapi.ProxyParams) {
	n.T.Helper()
	if _, err := n.MakeProxy(n.T.Context(), p); err != nil {
		n.T.Fatal(err)
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
