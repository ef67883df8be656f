package nginx

import (
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/reeve-paas/reeve/agent/agentapi"
	"github.com/reeve-paas/reeve/handlers/host"
	"github.com/reeve-paas/reeve/handlers/web/webtest"
)

// nginx lies in the same places on Red Hat, but its packaged site is part of nginx.conf, and there is no link to remove.
func TestRealNginxInRedHatsLayout(t *testing.T) {
	t.Parallel()
	webtest.NeedBinary(t, nginxBinary)
	n := &realNginx{Rig: newRig(t)}
	for dir := n.Dir; strings.HasPrefix(dir, os.TempDir()+"/"); dir = filepath.Dir(dir) {
		if err := os.Chmod(dir, 0o755); err != nil { // the workers are another user
			t.Fatal(err)
		}
	}
	for _, dir := range []string{"etc/nginx/conf.d", "etc/nginx/default.d", "var/log/nginx", "run", "usr/share/nginx/html", "usr/share/nginx/modules"} {
		if err := os.MkdirAll(filepath.Join(n.Dir, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	name := "www-data"
	if u, err := user.Current(); err == nil && os.Getuid() != 0 {
		name = u.Username
	}
	data, err := os.ReadFile("testdata/redhat/nginx.conf")
	if err != nil {
		t.Fatal(err)
	}
	places := []string{"DIR", n.Dir, "PORT", strconv.Itoa(n.Port), "USER", name}
	back := []string{n.Dir, "DIR", strconv.Itoa(n.Port), "PORT", name, "USER"}
	n.Write("etc/nginx/nginx.conf", strings.NewReplacer(places...).Replace(strings.SplitN(string(data), "\n", 2)[1]))
	n.Write("etc/nginx/mime.types", "types {\n    text/html html;\n}\n")
	n.Write("usr/share/nginx/html/index.html", "packaged site")
	layout := host.RedHat
	layout.NginxBin, layout.NginxConf = nginxBinary, n.Dir+layout.NginxConf
	n.units = &webtest.Units{Daemons: map[string]webtest.Daemon{layout.NginxUnit: {
		PIDFile: filepath.Join(n.Dir, "run/nginx.pid"), Start: []string{nginxBinary, "-c", layout.NginxConf},
		Reload: [][]string{{nginxBinary, "-c", layout.NginxConf, "-s", "reload"}},
	}}}
	t.Cleanup(n.units.StopAll)
	n.Service = New(Options{Host: host.New(host.Options{Units: n.units, Layout: &layout}), PrivateDir: filepath.Join(n.Dir, "private.d"), PagesDir: filepath.Join(n.Dir, "usr/share/nginx/html")})
	n.start()

	n.make(n.params("a.test", agentapi.Destination{Host: "192.0.2.1", Port: "81", Location: "/x"}, n.Backend("B1")))
	n.Wants("http://a.test/", "B1")
	n.Wants("http://other.test/", "packaged site")
	if _, err := n.MakeProxy(t.Context(), agentapi.ProxyParams{Hostname: "bad.test", Backends: []agentapi.Destination{{Host: "192.0.2.1"}}, Templates: []agentapi.Template{{Server: true, Content: "no_such_directive on;"}}}); err == nil || !strings.Contains(err.Error(), "no_such_directive") {
		t.Errorf("got %v", err)
	}
	if _, err := n.RemoveServer(t.Context(), agentapi.UpstreamServerParams{Backend: hashName("a.test"), Server: "127.0.0.1"}); err != nil {
		t.Error(err) // its port is another one in each run
	}
	n.Wants("http://a.test/", "No application here yet")
	var b strings.Builder
	for _, name := range []string{"nginx.conf", "app-servers.include", "proxies.include"} {
		b.WriteString("# --- " + name + "\n" + n.Read("etc/nginx/"+name))
	}
	golden(t, "redhat", strings.NewReplacer(back...).Replace(b.String()))
	if got := strings.Join(n.units.Calls(), ", "); !strings.HasSuffix(got, "reload nginx.service") {
		t.Errorf("got %s", got)
	}
}
