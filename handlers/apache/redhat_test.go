package apache

import (
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

// redHatLayout is host.RedHat below a directory, with this machine's Apache in place of httpd.
func redHatLayout(dir string) *host.Layout {
	l := host.RedHat
	for _, p := range []*string{&l.ApacheConf, &l.ApacheLogDir, &l.ApacheEnabledDir, &l.SystemCert, &l.SystemKey} {
		*p = dir + *p
	}
	l.ApacheTLSSites = []string{dir + host.RedHat.ApacheTLSSites[0]}
	l.ApacheCtl, l.ApacheUser = apacheBinary, apacheUser()
	return &l
}

// newRedHatApache is a private Apache that is laid out as Red Hat lays httpd out: with the packaged main file, modules in
// conf.modules.d, and a logs link beside them.
func newRedHatApache(t *testing.T) *realApache {
	t.Helper()
	webtest.NeedBinary(t, apacheBinary)
	a := &realApache{t: t, dir: t.TempDir(), port: webtest.FreePort(t), tlsPort: webtest.FreePort(t), far: &apachetest.Coordinator{}}
	for dir := a.dir; strings.HasPrefix(dir, os.TempDir()+"/"); dir = filepath.Dir(dir) {
		if err := os.Chmod(dir, 0o755); err != nil { // the workers are another user
			t.Fatal(err)
		}
	}
	layout := redHatLayout(a.dir)
	for _, err := range []error{
		os.MkdirAll(filepath.Join(a.dir, "etc/httpd/conf.modules.d"), 0o755), os.MkdirAll(layout.ApacheLogDir, 0o755),
		os.MkdirAll(filepath.Join(a.dir, "run/httpd"), 0o755), os.MkdirAll(filepath.Join(a.dir, "var/www/cgi-bin"), 0o755),
		os.Symlink("../../var/log/httpd", filepath.Join(a.dir, "etc/httpd/logs")), os.Symlink("../../run/httpd", filepath.Join(a.dir, "etc/httpd/run")),
		os.Symlink("/usr/lib/apache2/modules", filepath.Join(a.dir, "etc/httpd/modules")),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	a.write("var/www/html/index.html", "default site")
	a.write("etc/httpd/conf/httpd.conf", a.packaged("httpd.conf"))
	a.write("etc/httpd/conf.d/welcome.conf", "<LocationMatch \"^/+$\">\n    Options -Indexes\n</LocationMatch>\n")
	// What the file of Debian's build says elsewhere, or its default paths do.
	a.write("etc/httpd/conf.modules.d/00-base.conf", "PidFile run/httpd.pid\nServerName localhost\nDefaultRuntimeDir run\nMutex file:"+a.dir+"/run/httpd default\n"+
		"LoadModule mpm_prefork_module modules/mod_mpm_prefork.so\nStartServers 1\n"+
		"LoadModule authz_core_module modules/mod_authz_core.so\nLoadModule mime_module modules/mod_mime.so\nLoadModule dir_module modules/mod_dir.so\nLoadModule alias_module modules/mod_alias.so\n")
	conf := layout.ApacheConf
	a.units = &webtest.Units{Daemons: map[string]webtest.Daemon{"httpd.service": {
		PIDFile: filepath.Join(a.dir, "run/httpd/httpd.pid"), Start: []string{apacheBinary, "-f", conf, "-k", "start"},
		Reload: [][]string{{apacheBinary, "-f", conf, "-k", "graceful"}}, // the unit's ExecReload; it has no test of its own
	}}}
	t.Cleanup(a.units.StopAll)
	a.Service = New(Options{Host: host.New(host.Options{Units: a.units, Layout: layout}), PrivateDir: filepath.Join(a.dir, "private.d"), Certificates: a.far})
	return a
}

// withModSSL installs the package mod_ssl.
func (a *realApache) withModSSL() {
	a.write("etc/httpd/conf.modules.d/00-ssl.conf", "LoadModule ssl_module modules/mod_ssl.so\n")
	cert, key, _ := webtest.Certificate(a.t, "localhost", false)
	a.write("etc/pki/tls/certs/localhost.crt", string(cert))
	a.write("etc/pki/tls/private/localhost.key", string(key))
	a.write("etc/httpd/conf.d/ssl.conf", a.packaged("ssl.conf"))
}

func (a *realApache) placeholders() []string {
	group := apacheUser()
	if u, err := user.Lookup(group); err == nil {
		if g, err := user.LookupGroupId(u.Gid); err == nil {
			group = g.Name
		}
	}
	return []string{"DIR", a.dir, "PLAIN", strconv.Itoa(a.port), "TLS", strconv.Itoa(a.tlsPort), "USER", apacheUser(), "GROUP", group}
}

func (a *realApache) packaged(name string) string {
	a.t.Helper()
	data, err := os.ReadFile(filepath.Join("testdata/redhat", name))
	if err != nil {
		a.t.Fatal(err)
	}
	lines := strings.SplitN(string(data), "\n", 2) // the first one tells of the file itself
	return strings.NewReplacer(a.placeholders()...).Replace(lines[1])
}

// texts are the files of directories, with the test's own paths and ports as placeholders.
func (a *realApache) texts(dirs ...string) string {
	a.t.Helper()
	var b strings.Builder
	names := a.placeholders()[:6]
	for i := 0; i < len(names); i += 2 {
		names[i], names[i+1] = names[i+1], names[i]
	}
	for _, dir := range dirs {
		err := filepath.WalkDir(filepath.Join(a.dir, dir), func(path string, d os.DirEntry, err error) error {
			if err != nil || !d.Type().IsRegular() {
				return err
			}
			data, err := os.ReadFile(path)
			b.WriteString("# --- " + path + "\n" + string(data))
			return err
		})
		if err != nil {
			a.t.Fatal(err)
		}
	}
	return strings.NewReplacer(names...).Replace(b.String())
}

func TestRealApacheInRedHatsLayout(t *testing.T) {
	t.Parallel()
	a := newRedHatApache(t).start()
	packaged := a.texts("etc/httpd/conf")
	cert, key, _ := webtest.Certificate(t, "t.test", false)
	a.write("private.d/keys/https_77.crt", string(cert))
	a.write("private.d/keys/https_77.key", string(key))
	secure := agentapi.CreateVHostParams{Hostname: "t.test", Port: text(a.tlsPort), SSL: true, SSLCertificateID: new(agentapi.Text("77")),
		Template: strings.Replace(a.template("t.test", a.tlsPort), "</V", "   SSLEngine on\n   SSLCertificateFile x\n   SSLCertificateKeyFile y\n</V", 1)}

	if got := a.body("a.test"); got != "default site" { // that of the main file, which is no virtual host: see doc.go
		t.Errorf("got %q", got)
	}
	a.create("a.test", a.port)
	if got := a.body("a.test"); !strings.Contains(got, "It works") {
		t.Errorf("got %q", got)
	}
	if _, err := a.CreateVHost(t.Context(), secure); err == nil || !strings.Contains(err.Error(), "install the package mod_ssl") {
		t.Errorf("TLS without mod_ssl: got %v", err)
	}
	a.withModSSL()
	if _, err := a.SetDefaultSSLCertificate(t.Context(), agentapi.DefaultCertificateParams{ID: new(agentapi.Text("77"))}); err != nil {
		t.Error(err)
	}
	if _, err := a.CreateVHost(t.Context(), secure); err != nil {
		t.Error(err)
	}
	if r := webtest.Get(t, a.tlsPort, "https://t.test/"); r.Status != 200 || r.TLS.PeerCertificates[0].DNSNames[0] != "t.test" {
		t.Errorf("got %d of %v", r.Status, r.TLS.PeerCertificates)
	}
	broken := secure
	broken.Template += "NoSuchDirective on\n"
	if _, err := a.CreateVHost(t.Context(), broken); err == nil || !strings.Contains(err.Error(), "NoSuchDirective") {
		t.Errorf("got %v", err)
	}
	if listed, err := a.ListServedVirtualHosts(t.Context(), handlers.NoParams{}); err != nil || len(listed) != 2 {
		t.Errorf("got %q, %v", listed, err)
	}
	if after := a.texts("etc/httpd/conf"); after != packaged {
		t.Errorf("the package's main file changed: %s", after)
	}
	golden(t, "redhat", a.texts("etc/httpd/conf.d", "private.d/vhosts"))
	if got := strings.Join(a.units.Calls(), ", "); strings.Contains(got, "apache2") || !strings.Contains(got, "reload httpd.service") {
		t.Errorf("got %s", got)
	}
}
