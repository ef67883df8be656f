package apache

import (
	"errors"
	"fmt"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/reeve-paas/reeve/agent/agentapi"
	"github.com/reeve-paas/reeve/handlers"
	"github.com/reeve-paas/reeve/handlers/apache/apachetest"
	"github.com/reeve-paas/reeve/handlers/host"
	"github.com/reeve-paas/reeve/handlers/web/webtest"
)

const apacheBinary = "/usr/sbin/apache2"

// realApache is a private Apache of one test: the real binary on a free port.
type realApache struct {
	*Service
	t       testing.TB
	mpm     string
	dir     string
	port    int
	tlsPort int
	units   *webtest.Units
	far     *apachetest.Coordinator
}

func newRealApache(t testing.TB) *realApache {
	t.Helper()
	return newRealApacheOf(t, "prefork")
}

// newRealApacheOf is one of an MPM.
func newRealApacheOf(t testing.TB, mpm string) *realApache {
	t.Helper()
	webtest.NeedBinary(t, apacheBinary)
	a := &realApache{t: t, mpm: mpm, dir: t.TempDir(), port: webtest.FreePort(t), tlsPort: webtest.FreePort(t), far: &apachetest.Coordinator{}}
	for dir := a.dir; strings.HasPrefix(dir, os.TempDir()+"/"); dir = filepath.Dir(dir) {
		if err := os.Chmod(dir, 0o755); err != nil { // Apache's workers are another user
			t.Fatal(err)
		}
	}
	for _, dir := range []string{"run", "log", "sites-enabled", "www/default"} {
		if err := os.MkdirAll(filepath.Join(a.dir, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	a.write("www/default/index.html", "default site")
	a.write("apache2.conf", a.mainConfig())
	a.write("sites-enabled/000-default.conf", fmt.Sprintf("<VirtualHost *:%d>\n   DocumentRoot %s/www/default\n   <Directory %s/www/default>\n      Require all granted\n   </Directory>\n</VirtualHost>\n", a.port, a.dir, a.dir))
	a.units = &webtest.Units{Daemons: map[string]webtest.Daemon{"apache2.service": {
		PIDFile: filepath.Join(a.dir, "run/apache2.pid"),
		Start:   []string{apacheBinary, "-f", a.conf(), "-k", "start"},
		Reload:  [][]string{{apacheBinary, "-t", "-f", a.conf()}, {apacheBinary, "-f", a.conf(), "-k", "graceful"}}, // as apachectl does
	}}}
	t.Cleanup(a.units.StopAll)
	a.Service = a.newService()
	return a
}

func (a *realApache) newService() *Service { return serviceIn(a.dir, a.units, a.far) }

func serviceIn(dir string, units host.Units, far *apachetest.Coordinator) *Service {
	h := host.New(host.Options{Units: units, Layout: &host.Layout{
		Family: "debian", ApacheUnit: "apache2.service", ApacheCtl: apacheBinary, ApacheConf: filepath.Join(dir, "apache2.conf"),
		ApacheUser: apacheUser(), ApacheLogDir: filepath.Join(dir, "log"), ApacheEnabledDir: filepath.Join(dir, "sites-enabled"),
		ApacheTLSSites: []string{filepath.Join(dir, "sites-available/default-ssl"), filepath.Join(dir, "sites-available/default-ssl.conf")},
		SystemCert:     filepath.Join(dir, "system.crt"), SystemKey: filepath.Join(dir, "system.key"),
	}})
	return New(Options{Host: h, PrivateDir: filepath.Join(dir, "private.d"), Certificates: far, Sites: far})
}

// apacheUser is who the workers run as: only root may choose.
func apacheUser() string {
	if os.Getuid() == 0 {
		return "www-data"
	}
	u, err := user.Current()
	if err != nil {
		return strconv.Itoa(os.Getuid())
	}
	return u.Username
}

func (a *realApache) mainConfig() string {
	var b strings.Builder
	fmt.Fprintf(&b, "Define APACHE_LOG_DIR %s/log\nServerRoot %s\nServerName localhost\nPidFile run/apache2.pid\nErrorLog ${APACHE_LOG_DIR}/error.log\n", a.dir, a.dir)
	fmt.Fprintf(&b, "Mutex file:%s/run default\nDefaultRuntimeDir run\nListen 127.0.0.1:%d\n", a.dir, a.port)
	for _, m := range []string{"mpm_" + a.mpm, "authz_core", "mime", "dir", "alias", "ssl", "access_compat"} {
		fmt.Fprintf(&b, "LoadModule %s_module /usr/lib/apache2/modules/mod_%s.so\n", m, m)
	}
	if os.Getuid() == 0 {
		b.WriteString("User www-data\nGroup www-data\n")
	}
	if a.mpm == "prefork" {
		b.WriteString("MaxSpareServers 2\n")
	} else { // as Debian has it
		b.WriteString("MinSpareThreads 25\nMaxSpareThreads 75\nThreadLimit 64\nThreadsPerChild 25\nMaxRequestWorkers 150\n")
	}
	b.WriteString("TypesConfig /etc/mime.types\nStartServers 2\n<Directory />\n   AllowOverride None\n   Require all denied\n</Directory>\n")
	b.WriteString("LogFormat \"%h %t \\\"%r\\\" %>s\" common\nIncludeOptional sites-enabled/*.conf\n")
	return b.String()
}

func (a *realApache) conf() string { return filepath.Join(a.dir, "apache2.conf") }

func (a *realApache) write(name, text string) {
	a.t.Helper()
	full := filepath.Join(a.dir, name)
	if err := os.MkdirAll(filepath.Dir(full), 0o755); err != nil {
		a.t.Fatal(err)
	}
	if err := os.WriteFile(full, []byte(text), 0o644); err != nil {
		a.t.Fatal(err)
	}
}

func (a *realApache) start() *realApache {
	a.t.Helper()
	if err := a.Start(a.t.Context()); err != nil {
		a.t.Fatal(err)
	}
	if err := a.server.Start(a.t.Context()); err != nil {
		a.t.Fatal(err)
	}
	return a
}

// template is a plain virtual host with a document root of its own.
func (a *realApache) template(name string, port int) string {
	return fmt.Sprintf("<VirtualHost *:%d>\n   ServerName %s\n   DocumentRoot %s/www/%s\n   ErrorLog %s/log/%s/error.log\n   CustomLog %s/log/%s/access.log common\n</VirtualHost>\n",
		port, name, a.dir, name, a.dir, name, a.dir, name)
}

func (a *realApache) create(name string, port int) string {
	a.t.Helper()
	p, err := a.CreateVHost(a.t.Context(), agentapi.CreateVHostParams{Hostname: name, Port: text(port), Template: a.template(name, port)})
	if err != nil {
		a.t.Fatal(err)
	}
	return p
}

func text(n int) agentapi.Text { return agentapi.Text(strconv.Itoa(n)) }

// body is what the virtual host answers on Apache's plain port.
func (a *realApache) body(name string) string {
	a.t.Helper()
	r := webtest.Get(a.t, a.port, "http://"+name+"/")
	if r.Status != 200 {
		a.t.Errorf("%s answers %d: %s", name, r.Status, r.Body)
	}
	return r.Body
}

func (a *realApache) testPasses() {
	a.t.Helper()
	if _, err := a.ConfigTest(a.t.Context(), agentapi.ReasonParams{}); err != nil {
		a.t.Errorf("config test: %v", err)
	}
}

func TestRealApacheServesAVHost(t *testing.T) {
	t.Parallel()
	a := newRealApache(t).start()
	p := a.create("a.test", a.port)
	if want := fmt.Sprintf("%s/private.d/vhosts/a.test-%d.vhost.conf", a.dir, a.port); p != want {
		t.Errorf("got path %s, want %s", p, want)
	}
	if got := a.body("a.test"); !strings.Contains(got, "It works") {
		t.Errorf("got %q, want the placeholder page", got)
	}
	if got := a.body("other.test"); got != "default site" {
		t.Errorf("another name gets %q, want the default site", got)
	}
	got, err := a.ListServedVirtualHosts(t.Context(), handlers.NoParams{})
	if err != nil || len(got) != 1 || got[0] != filepath.Base(p) {
		t.Errorf("got %q, %v, want %s", got, err, filepath.Base(p))
	}
}

func TestDebiansOwnConfigurationIsUnderstood(t *testing.T) {
	t.Parallel()
	webtest.NeedBinary(t, apacheBinary)
	webtest.NeedBinary(t, "/etc/apache2/sites-enabled/000-default.conf")
	if os.Getuid() != 0 {
		t.Skip("apache2ctl makes directories in /run, which needs root")
	}
	dir := t.TempDir()
	s := New(Options{Host: host.New(host.Options{Layout: &host.Debian}), PrivateDir: dir})
	l, err := s.load()
	if err != nil {
		t.Fatal(err)
	}
	if !l.listens[80] || !l.oursReached || l.vhostsInMain || l.errorLog != "/var/log/apache2/error.log" || !l.modules["authz_core_module"] {
		t.Errorf("got %+v", l)
	}
	// The staged configuration of a host as it is packaged: nothing below /etc is written for the test.
	vhost, main := filepath.Join(dir, "a.conf"), filepath.Join(dir, "main.conf")
	for want, body := range map[string]string{"": "ServerName a.test", "Bogus": "Bogus on"} {
		if err := errors.Join(os.WriteFile(vhost, []byte("<VirtualHost *:80>\n"+body+"\n</VirtualHost>\n"), 0o644),
			os.WriteFile(main, []byte(stagedMain(l.main, s.vhostMask(), []string{vhost})), 0o644)); err != nil {
			t.Fatal(err)
		}
		err := s.testFile(t.Context(), main, stagedDefine)
		if (err != nil) != (want != "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v", body, err)
		}
	}
}
