package apache

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/reeve-paas/reeve/agent/agentapi"
	"github.com/reeve-paas/reeve/agent/operation"
	"github.com/reeve-paas/reeve/handlers/apache/apachetest"
	"github.com/reeve-paas/reeve/handlers/web/webtest"
)

// TestConformance runs the suites of apachetest, each with an Apache of its own.
func TestConformance(t *testing.T) {
	t.Parallel()
	for _, suite := range apachetest.Suites {
		t.Run(suite.Name, func(t *testing.T) {
			t.Parallel()
			suite.Run(t, newRealApache(t).rig())
		})
	}
}

// Debian's Apache has the MPM event until mod_php is installed. Each MPM tells of a reload in its own way.
func TestConformanceOfOtherMPMs(t *testing.T) {
	t.Parallel()
	for _, mpm := range []string{"event", "worker"} {
		for _, suite := range apachetest.Suites {
			if suite.Name == "sites" || suite.Name == "reconfigure" {
				t.Run(mpm+" "+suite.Name, func(t *testing.T) {
					t.Parallel()
					suite.Run(t, newRealApacheOf(t, mpm).rig())
				})
			}
		}
	}
}

// statusConf loads mod_status as Debian does.
const statusConf = "LoadModule status_module /usr/lib/apache2/modules/mod_status.so\nExtendedStatus On\n<Location /server-status>\n   SetHandler server-status\n   Require all granted\n</Location>\n"

// rig starts the Apache, with mod_status, and calls the handler's methods in this process.
func (a *realApache) rig() *apachetest.Rig {
	a.t.Helper()
	registry, err := operation.Open(operation.Options{Dir: a.t.TempDir()})
	if err != nil {
		a.t.Fatal(err)
	}
	a.operations, a.statusAddr = registry, fmt.Sprintf("127.0.0.1:%d", a.port)
	a.write("sites-enabled/status.conf", statusConf)
	a.start()
	in := func(name string) string { return filepath.Join(a.dir, name) }
	return &apachetest.Rig{
		Coordinator: a.far, Addr: "127.0.0.1", Port: a.port, TLSPort: a.tlsPort, OtherPort: webtest.FreePort(a.t),
		Conf: a.conf(), SitesDir: in("sites-enabled"), StatusModule: in("sites-enabled/status.conf"), TLSSite: in("sites-available/default-ssl.conf"),
		SystemCert: in("system.crt"), SystemKey: in("system.key"), PIDFile: in("run/apache2.pid"), PrivateDir: a.privateDir,
		Roots: in("www"), Logs: in("log"), User: apacheUser(), Kept: []string{a.dir}, Top: a.dir,
		Call: func(t testing.TB, namespace, method, params string) (json.RawMessage, error) {
			var result any
			var err error
			if namespace == "operation" {
				var p agentapi.OperationResultParams
				if err := json.Unmarshal([]byte(params), &p); err != nil {
					return nil, err
				}
				result, err = registry.Result(p.OperationID)
			} else {
				result, err = a.Methods()[method].Call(t.Context(), []byte(params))
			}
			if err != nil {
				return nil, err
			}
			return json.Marshal(result)
		},
		Try: func(t testing.TB, argv ...string) (string, error) {
			out, err := exec.CommandContext(t.Context(), argv[0], argv[1:]...).CombinedOutput()
			return strings.TrimSpace(string(out)), err
		},
		Write: func(t testing.TB, file string, mode fs.FileMode, data []byte) {
			if err := errors.Join(os.MkdirAll(filepath.Dir(file), 0o755), os.WriteFile(file, data, mode)); err != nil {
				t.Fatal(err)
			}
		},
		EnableTLSSite: func(testing.TB) { a.defaultSite() },
	}
}

func (a *realApache) params(name string, port int, template string) agentapi.CreateVHostParams {
	return agentapi.CreateVHostParams{Hostname: name, Port: text(port), Template: template}
}

func TestAPortOfAnotherProgramIsRefusedAndApacheLives(t *testing.T) {
	t.Parallel()
	a := newRealApache(t)
	r := a.rig()
	ln, err := net.Listen("tcp", ":0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	busy := ln.Addr().(*net.TCPAddr).Port
	before := r.Tree(t)
	_, err = a.CreateVHost(t.Context(), a.params("busy.test", busy, a.template("busy.test", busy)))
	if want := fmt.Sprintf("port %d is in use by another program", busy); err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("got %v, want %q", err, want)
	}
	if after := r.Tree(t); after != before {
		t.Errorf("got\n%s\nwant\n%s", after, before)
	}
	if got := a.body("nobody.test"); got != "default site" {
		t.Errorf("afterwards the default site answers %q", got)
	}
}

func TestWithoutACoordinatorTheErrorsSayWhatToDo(t *testing.T) {
	t.Parallel()
	a := newRealApache(t)
	r := a.rig()
	a.certificates, a.sites = nil, nil
	p := a.params("shop.test", a.tlsPort, fmt.Sprintf("<VirtualHost *:%d>\nSSLCertificateFile /x.crt\nSSLCertificateKeyFile /x.key\n</VirtualHost>\n", a.tlsPort))
	p.SSL = true
	before := r.Tree(t)
	if _, err := a.CreateVHost(t.Context(), p); err == nil || !strings.Contains(err.Error(), "put it at") {
		t.Errorf("a certificate: got %v", err)
	}
	if _, err := a.Reconfigure(t.Context(), agentapi.ReconfigureVHostsParams{}); err == nil || !strings.Contains(err.Error(), "give vhosts") {
		t.Errorf("a list of sites: got %v", err)
	}
	if after := r.Tree(t); after != before {
		t.Errorf("got\n%s\nwant\n%s", after, before)
	}
}

func TestRealApacheComesBackAfterAChangeThatKillsIt(t *testing.T) {
	t.Parallel()
	a := newRealApache(t)
	r := a.rig()
	a.create("a.test", a.port)
	before := r.Tree(t)
	// A wildcard beside the specific address the main configuration listens on passes the test and then ends Apache. The
	// agent would not render it; here a file of another program does, between the test and the reload.
	trap := filepath.Join(a.dir, "sites-enabled/trap.conf")
	d := a.units.Daemons["apache2.service"]
	d.Reload = [][]string{{"/bin/sh", "-c", fmt.Sprintf("echo 'Listen %d' >%s; %s -f %s -k graceful", a.port, trap, apacheBinary, a.conf())}}
	d.Start = []string{"/bin/sh", "-c", fmt.Sprintf("rm -f %s; %s -f %s -k start", trap, apacheBinary, a.conf())}
	a.units.Daemons["apache2.service"] = d
	_, err := a.CreateVHost(t.Context(), a.params("b.test", a.port, a.template("b.test", a.port)))
	if err == nil {
		t.Fatal("got no error")
	}
	if !strings.Contains(err.Error(), "apache ended") {
		t.Errorf("got %v", err)
	}
	if after := r.Tree(t); after != before {
		t.Errorf("got\n%s\nwant\n%s", after, before)
	}
	if got := a.body("a.test"); !strings.Contains(got, "It works") {
		t.Errorf("got %q", got)
	}
}

func TestRealApacheWhoseLogIsNoFileIsReloaded(t *testing.T) {
	t.Parallel()
	a := newRealApacheOf(t, "event")
	a.write("apache2.conf", strings.Replace(a.mainConfig(), "ErrorLog ${APACHE_LOG_DIR}/error.log", "ErrorLog syslog", 1))
	a.start()
	a.create("a.test", a.port)
	if got := a.body("a.test"); !strings.Contains(got, "It works") {
		t.Errorf("got %q", got)
	}
}

func TestRealApacheChangeCostsOneTestAndOneReload(t *testing.T) {
	t.Parallel()
	a := newRealApache(t).start()
	a.create("a.test", a.port)
	a.units.Calls()
	start := time.Now()
	a.create("b.test", a.port)
	t.Logf("create_vhost took %s", time.Since(start))
	if got := a.units.Calls(); !slices.Equal(got, []string{"reload apache2.service"}) {
		t.Errorf("got %q, want one reload", got)
	}
}
