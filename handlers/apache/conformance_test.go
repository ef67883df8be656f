package apache

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/reeve-paas/reeve/agent/agentapi"
	"github.com/reeve-paas/reeve/agent/operation"
	"github.com/reeve-paas/reeve/handlers"
	"github.com/reeve-paas/reeve/handlers/web"
	"github.com/reeve-paas/reeve/handlers/web/webtest"
)

// The numbers are those of the conformance checklist of spec agent-web 7. Every test runs the real Apache.

func (a *realApache) params(name string, port int, template string) agentapi.CreateVHostParams {
	return agentapi.CreateVHostParams{Hostname: name, Port: text(port), Template: template}
}

// refuses makes a call that must fail with a text, and checks that no file changed and that the sites are still served.
func (a *realApache) refuses(want string, p agentapi.CreateVHostParams) {
	a.t.Helper()
	before := a.tree()
	_, err := a.CreateVHost(a.t.Context(), p)
	if err == nil || !strings.Contains(err.Error(), want) {
		a.t.Errorf("got error %v, want one with %q", err, want)
	}
	if after := a.tree(); after != before {
		a.t.Errorf("files changed:\n%s\nwant\n%s", after, before)
	}
	if got := a.body("nobody.test"); got != "default site" {
		a.t.Errorf("afterwards the default site answers %q", got)
	}
}

// tree is every file outside run and log, with its content.
func (a *realApache) tree() string {
	a.t.Helper()
	var b strings.Builder
	err := filepath.WalkDir(a.dir, func(p string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() && (d.Name() == "run") {
			return filepath.SkipDir
		}
		if d.IsDir() || strings.HasSuffix(p, ".log") {
			fmt.Fprintln(&b, p)
			return nil
		}
		data, err := os.ReadFile(p)
		fmt.Fprintf(&b, "%s %s %q\n", p, d.Type(), data)
		return err
	})
	if err != nil {
		a.t.Fatal(err)
	}
	return b.String()
}

func (a *realApache) delete(name string, port int) {
	a.t.Helper()
	_, err := a.DeleteVHosts(a.t.Context(), agentapi.DeleteVHostsParams{VHosts: []agentapi.VHostRef{{Hostname: name, Port: text(port)}}})
	if err != nil {
		a.t.Fatal(err)
	}
}

func (a *realApache) vhostFile(name string, port int) string {
	return filepath.Join(a.vhostDir(), fmt.Sprintf("%s-%d%s", name, port, vhostSuffix))
}

func TestConformanceCreateVHost(t *testing.T) {
	t.Parallel()
	a := newRealApache(t).start()

	t.Run("5, 6, 8, 9: root and logs are made, and a root outside /var/www is served", func(t *testing.T) {
		a.create("a.test", a.port)
		if got := a.body("a.test"); !strings.Contains(got, "It works") {
			t.Errorf("got %q", got)
		}
		uid, gid, _ := web.UserIDs(a.host, apacheUser())
		st, err := os.Stat(filepath.Join(a.dir, "www/a.test/index.html"))
		if err != nil || !strings.Contains(fmt.Sprintf("%+v", st.Sys()), fmt.Sprintf("Uid:%d Gid:%d", uid, gid)) {
			t.Errorf("got %+v, %v, want owner %d:%d", st, err, uid, gid)
		}
		if _, err := os.Stat(filepath.Join(a.dir, "log/a.test/access.log")); err != nil {
			t.Error(err)
		}
	})
	t.Run("7: content of an existing root stays", func(t *testing.T) {
		a.write("www/own.test/index.html", "mine")
		a.create("own.test", a.port)
		if got := a.body("own.test"); got != "mine" {
			t.Errorf("got %q, want mine", got)
		}
	})
	t.Run("10: the same call again changes no file", func(t *testing.T) {
		before, _ := os.Stat(a.vhostFile("a.test", a.port))
		a.create("a.test", a.port)
		after, _ := os.Stat(a.vhostFile("a.test", a.port))
		if !os.SameFile(before, after) || !before.ModTime().Equal(after.ModTime()) {
			t.Error("the file was written again")
		}
	})
	t.Run("11: without reload the site waits for reload_service", func(t *testing.T) {
		p := a.params("late.test", a.port, a.template("late.test", a.port))
		p.Reload = new(agentapi.Bool(false))
		if _, err := a.CreateVHost(t.Context(), p); err != nil {
			t.Fatal(err)
		}
		if got := a.body("late.test"); got != "default site" {
			t.Errorf("before reload: got %q", got)
		}
		if _, err := a.Methods()["reload_service"].Call(t.Context(), []byte(`{}`)); err != nil {
			t.Fatal(err)
		}
		if got := a.body("late.test"); !strings.Contains(got, "It works") {
			t.Errorf("after reload: got %q", got)
		}
	})
	t.Run("17: an unknown directive is named, and the file is absent", func(t *testing.T) {
		bad := strings.Replace(a.template("bad.test", a.port), "ServerName", "Bogus on\n   ServerName", 1)
		a.refuses("Bogus", a.params("bad.test", a.port, bad))
		a.refuses(a.vhostFile("bad.test", a.port), a.params("bad.test", a.port, bad))
	})
	t.Run("17: the previous version of a vhost survives a bad one, and a restart works", func(t *testing.T) {
		bad := strings.Replace(a.template("a.test", a.port), "ServerName", "Bogus on\n   ServerName", 1)
		a.refuses("InitdError: ", a.params("a.test", a.port, bad))
		if _, err := a.Methods()["restart_service"].Call(t.Context(), []byte(`{"reason": "test"}`)); err != nil {
			t.Fatal(err)
		}
		if got := a.body("a.test"); !strings.Contains(got, "It works") {
			t.Errorf("got %q", got)
		}
	})
	t.Run("18: an unclosed section is refused before anything is written", func(t *testing.T) {
		a.refuses("ParseError: line 1: <VirtualHost> is not closed", a.params("open.test", a.port, "<VirtualHost *:80>\n"))
	})
	t.Run("21: bad names and ports create no file anywhere", func(t *testing.T) {
		for _, name := range []string{"../../x", "a;b", "a\nb", "", "a{b", "a b", "-a.test", strings.Repeat("a.", 150) + "test", strings.Repeat("a", 64), "$HOME", `a"b`, "a/b", "..", "a..b", "a.test\x00"} {
			a.refuses("ValueError: ", a.params(name, a.port, a.template("x.test", a.port)))
		}
		for _, port := range []agentapi.Text{"0", "70000", "80x", "", "-1", "080", " 80", "1e3"} {
			p := a.params("x.test", 80, a.template("x.test", a.port))
			p.Port = port
			a.refuses("ValueError: ", p)
		}
	})
	t.Run("S13: the system's own directories are no document roots", func(t *testing.T) {
		for _, root := range []string{
			"/", "/etc", "/usr", "/proc/x", "/var/../etc", "/dev/shm/x", a.privateDir + "/x", "/etc/reeve/private.d/keys", "/root/site/www",
			"/boot/a/b", "/sys/kernel", "/run/user/0/www", "/var/run/www",
		} {
			a.refuses("ValueError: ", a.params("x.test", a.port, fmt.Sprintf("<VirtualHost *:%d>\nDocumentRoot %s\n</VirtualHost>", a.port, root)))
		}
	})
}

func TestConformanceTLS(t *testing.T) {
	t.Parallel()
	a := newRealApache(t).start()
	cert, key, chain := webtest.Certificate(t, "shop.test", true)
	_, otherKey, _ := webtest.Certificate(t, "other.test", false)
	a.certs.pairs = map[string][3][]byte{"77": {cert, key, chain}, "78": {cert, otherKey, nil}, "79": {[]byte("junk"), key, nil}}
	template := a.tlsTemplate("shop.test")
	tlsParams := func(id agentapi.Text, template string) agentapi.CreateVHostParams {
		p := a.params("shop.test", a.tlsPort, template)
		p.SSL, p.SSLCertificateID = true, &id
		return p
	}

	t.Run("12: without ssl no certificate is fetched", func(t *testing.T) {
		a.create("plain.test", a.port)
		if len(a.certs.fetched) != 0 {
			t.Errorf("fetched %q", a.certs.fetched)
		}
	})
	t.Run("16: a template without certificate directives is refused", func(t *testing.T) {
		a.refuses("ApacheError: ", tlsParams("77", a.template("shop.test", a.tlsPort)))
		if len(a.certs.fetched) != 0 {
			t.Errorf("fetched %q", a.certs.fetched)
		}
	})
	t.Run("19: a key of another certificate is refused before the reload", func(t *testing.T) {
		a.refuses("do not fit together", tlsParams("78", template))
		a.refuses("do not fit together", tlsParams("79", template))
	})
	t.Run("an unknown certificate is refused", func(t *testing.T) {
		a.refuses("there is no certificate", tlsParams("80", template))
		a.refuses("ValueError: invalid certificate id", tlsParams("../80", template))
	})
	t.Run("without a source the error says what to do", func(t *testing.T) {
		source := a.certificates
		a.certificates = nil
		a.refuses("put it at", tlsParams("77", template))
		a.certificates = source
	})
	t.Run("13, 14, 20: HTTPS presents the certificate and its chain, on a port of its own", func(t *testing.T) {
		if _, err := a.CreateVHost(t.Context(), tlsParams("77", template)); err != nil {
			t.Fatal(err)
		}
		r := webtest.Get(t, a.tlsPort, "https://shop.test/")
		if r.Status != 200 || len(r.TLS.PeerCertificates) != 2 || !sameCert(r.TLS.PeerCertificates[0], cert) || !sameCert(r.TLS.PeerCertificates[1], chain) {
			t.Errorf("got %d with %d certificates, want 200 with leaf and chain", r.Status, len(r.TLS.PeerCertificates))
		}
		for name, mode := range map[string]os.FileMode{"https_77.key": 0o600, "https_77.crt": 0o644, "https_77-ca.crt": 0o644, "": 0o700} {
			st, err := os.Stat(filepath.Join(a.privateDir, "keys", name))
			if err != nil || st.Mode().Perm() != mode {
				t.Errorf("keys/%s: got %v, %v, want mode %o", name, st, err, mode)
			}
		}
	})
	t.Run("15: a certificate on disk is not fetched again", func(t *testing.T) {
		a.certs.fetched = nil
		if _, err := a.CreateVHost(t.Context(), tlsParams("77", template)); err != nil {
			t.Fatal(err)
		}
		if len(a.certs.fetched) != 0 {
			t.Errorf("fetched %q", a.certs.fetched)
		}
	})
	t.Run("the template's own pair is checked too", func(t *testing.T) {
		p := tlsParams("77", strings.ReplaceAll(template, "/dummy/https.crt", filepath.Join(a.privateDir, "keys/https_77.crt")))
		p.SSL = false
		a.refuses("key file /dummy/https.key cannot be read", p)
	})
}

func (a *realApache) tlsTemplate(name string) string {
	return fmt.Sprintf("<IfModule mod_ssl.c>\n<VirtualHost *:%d>\nServerName %s\nDocumentRoot %s/www/%s\nSSLEngine on\nSSLCertificateFile /dummy/https.crt\n"+
		"SSLCertificateKeyFile /dummy/https.key\nSSLCACertificateFile /dummy/ca.crt\n</VirtualHost>\n</IfModule>\n", a.tlsPort, name, a.dir, name)
}

func sameCert(c *x509.Certificate, data []byte) bool {
	block, _ := pem.Decode(data)
	return block != nil && bytes.Equal(c.Raw, block.Bytes)
}

func TestConformanceListen(t *testing.T) {
	t.Parallel()
	a := newRealApache(t).start()
	port := webtest.FreePort(t)

	t.Run("20: a port nobody declares is listened on while a vhost has it", func(t *testing.T) {
		a.create("one.test", port)
		a.create("two.test", port) // a second Listen of the same port would be a syntax error
		if r := webtest.Get(t, port, "http://two.test/"); r.Status != 200 {
			t.Errorf("got %d", r.Status)
		}
		a.delete("one.test", port)
		if r := webtest.Get(t, port, "http://two.test/"); r.Status != 200 {
			t.Errorf("after the first one is deleted: got %d", r.Status)
		}
		a.delete("two.test", port)
		if _, err := webtest.TryGet(port, "http://two.test/"); err == nil {
			t.Error("the port is still listened on")
		}
	})
	t.Run("8.1: a port of another program is refused and Apache lives", func(t *testing.T) {
		ln, err := net.Listen("tcp", ":0")
		if err != nil {
			t.Fatal(err)
		}
		defer ln.Close()
		busy := ln.Addr().(*net.TCPAddr).Port
		a.refuses(fmt.Sprintf("port %d is in use by another program", busy), a.params("busy.test", busy, a.template("busy.test", busy)))
	})
}

func TestConformanceUpdateAndDelete(t *testing.T) {
	t.Parallel()
	a := newRealApache(t).start()
	a.create("a.test", a.port)
	a.create("z.test", a.port)
	update := func(params string) error {
		_, err := a.Methods()["update_vhost"].Call(t.Context(), []byte(params))
		return err
	}
	signature := fmt.Sprintf(`"signature": ["a.test", %d]`, a.port)

	t.Run("23: identical data is fine", func(t *testing.T) {
		if err := update(`{` + signature + `}`); err != nil {
			t.Error(err)
		}
	})
	t.Run("24: a broken template leaves file and site", func(t *testing.T) {
		before := a.tree()
		if err := update(fmt.Sprintf(`{%s, "hostname": "c.test", "template": "<VirtualHost *:%d>\nServerName c.test\nBogus\n</VirtualHost>"}`, signature, a.port)); err == nil {
			t.Error("got no error")
		}
		if a.tree() != before {
			t.Error("files changed")
		}
		a.body("a.test")
	})
	t.Run("22: a rename moves the file and is served", func(t *testing.T) {
		if err := update(fmt.Sprintf(`{%s, "hostname": "b.test", "port": "%d"}`, signature, a.port)); err != nil {
			t.Fatal(err)
		}
		if _, err := os.Stat(a.vhostFile("a.test", a.port)); !os.IsNotExist(err) {
			t.Error("the old file is there")
		}
		data, err := os.ReadFile(a.vhostFile("b.test", a.port))
		if err != nil || !strings.Contains(string(data), "ServerName b.test") {
			t.Errorf("got %s, %v", data, err)
		}
		if got := a.body("b.test"); !strings.Contains(got, "It works") {
			t.Errorf("got %q", got)
		}
		if got := a.body("a.test"); got != "default site" {
			t.Errorf("the old name: got %q", got)
		}
	})
	t.Run("an unknown vhost without a template is an error", func(t *testing.T) {
		if err := update(`{"signature": ["none.test", 80], "hostname": "x.test"}`); err == nil || !strings.Contains(err.Error(), "ValueError") {
			t.Errorf("got %v", err)
		}
	})
	t.Run("27: only parsed files of ours are listed", func(t *testing.T) {
		a.write("private.d/vhosts/x.conf", "Bogus\n")
		got, err := a.ListServedVirtualHosts(t.Context(), handlers.NoParams{})
		want := []string{filepath.Base(a.vhostFile("b.test", a.port)), filepath.Base(a.vhostFile("z.test", a.port))}
		if err != nil || !slices.Equal(got, want) {
			t.Errorf("got %q, %v, want %q", got, err, want)
		}
	})
	t.Run("25: a deleted vhost falls back to the default site and keeps its root", func(t *testing.T) {
		a.delete("b.test", a.port)
		if got := a.body("b.test"); got != "default site" {
			t.Errorf("got %q", got)
		}
		if _, err := os.Stat(filepath.Join(a.dir, "www/a.test/index.html")); err != nil {
			t.Error(err)
		}
	})
	t.Run("25: one that is named twice is deleted once", func(t *testing.T) {
		a.create("twice.test", a.port)
		ref := agentapi.VHostRef{Hostname: "twice.test", Port: text(a.port)}
		if _, err := a.DeleteVHosts(t.Context(), agentapi.DeleteVHostsParams{VHosts: []agentapi.VHostRef{ref, ref}}); err != nil {
			t.Error(err)
		}
		if got := a.body("twice.test"); got != "default site" {
			t.Errorf("got %q", got)
		}
	})
	t.Run("26: deleting what is not there, or nothing, is null", func(t *testing.T) {
		for _, list := range []string{`[["nope", 80]]`, `[]`} {
			got, err := a.Methods()["delete_vhosts"].Call(t.Context(), []byte(`{"vhosts": `+list+`}`))
			if err != nil || got != (handlers.Null{}) {
				t.Errorf("%s: got %v, %v", list, got, err)
			}
		}
		if got := a.body("z.test"); !strings.Contains(got, "It works") {
			t.Errorf("got %q", got)
		}
	})
}

func TestConformanceReconfigure(t *testing.T) {
	t.Parallel()
	a := newRealApache(t)
	registry, err := operation.Open(operation.Options{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	a.operations = registry
	a.start()
	element := func(name, extra string) string {
		return fmt.Sprintf(`{"hostname": %q, "port": "%d", "ssl": "0", "template": %q}`, name, a.port, strings.Replace(a.template(name, a.port), "ServerName", extra+"ServerName", 1))
	}
	call := func(params string) (any, error) { return a.Methods()["reconfigure"].Call(t.Context(), []byte(params)) }
	a.create("third.test", a.port)

	t.Run("28, 29: exactly the list is left, with one reload", func(t *testing.T) {
		a.units.Calls()
		got, err := call(`{"async": false, "vhosts": [` + element("b.test", "") + `, ` + element("a.test", "") + `]}`)
		if want := []string{a.vhostFile("b.test", a.port), a.vhostFile("a.test", a.port)}; err != nil || !slices.Equal(got.([]string), want) {
			t.Errorf("got %v, %v, want %q", got, err, want)
		}
		if calls := a.units.Calls(); len(calls) != 1 {
			t.Errorf("got %q, want one reload", calls)
		}
		if got := a.body("third.test"); got != "default site" {
			t.Errorf("third.test: got %q", got)
		}
		a.body("a.test")
	})
	t.Run("30, 31: a broken element leaves everything as it was", func(t *testing.T) {
		for _, rollback := range []string{"1", "0"} {
			before := a.tree()
			_, err := call(`{"async": 0, "rollback_on_error": "` + rollback + `", "vhosts": [` + element("c.test", "") + `, ` + element("d.test", "Bogus on\n") + `]}`)
			if err == nil || !strings.Contains(err.Error(), "Bogus") {
				t.Errorf("got %v", err)
			}
			if a.tree() != before {
				t.Error("files changed")
			}
			if got := a.body("a.test"); !strings.Contains(got, "It works") {
				t.Errorf("a.test: got %q", got)
			}
		}
	})
	t.Run("32: in the background", func(t *testing.T) {
		id, err := call(`{"vhosts": [` + element("e.test", "") + `]}`)
		if err != nil {
			t.Fatal(err)
		}
		var record agentapi.Operation
		wait, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		defer cancel()
		err = web.Poll(wait, func() (done bool, err error) {
			record, err = registry.Result(id.(string))
			return record.Status != agentapi.OperationInProgress, err
		})
		if err != nil || record.Status != agentapi.OperationCompleted || !strings.Contains(fmt.Sprintf("%s", record.Result), "e.test") {
			t.Errorf("got %+v, %v", record, err)
		}
	})
	t.Run("32, 33: one that fails says why, and a second one beside it is refused", func(t *testing.T) {
		a.mu.Lock() // the first waits for its turn
		id, err := call(`{"vhosts": [{"hostname": "f.test", "port": 80, "ssl": 0, "template": "<VirtualHost *:80>\nBogus on\n</VirtualHost>"}]}`)
		if err != nil {
			t.Error(err)
		}
		_, err = call(`{"vhosts": []}`)
		if e, ok := errors.AsType[*agentapi.Error](err); !ok || e.Class != "AlreadyInProgressError" || !strings.Contains(e.Text, "api.apache.reconfigure") || !strings.Contains(e.Text, fmt.Sprint(id)) {
			t.Errorf("got %v", err)
		}
		a.mu.Unlock()
		var record agentapi.Operation
		err = web.Poll(t.Context(), func() (done bool, err error) {
			record, err = registry.Result(id.(string))
			return record.Status != agentapi.OperationInProgress && record.Status != agentapi.OperationNew, err
		})
		if err != nil || record.Status != agentapi.OperationFailed || record.Error == nil || !strings.Contains(*record.Error, "Bogus") {
			t.Errorf("got %+v, %v", record, err)
		}
	})
	t.Run("34: an empty list leaves no vhost, and no list is an error", func(t *testing.T) {
		if got, err := call(`{"async": false, "vhosts": []}`); err != nil || len(got.([]string)) != 0 {
			t.Errorf("got %v, %v", got, err)
		}
		if names, err := a.vhostFiles(); err != nil || len(names) != 0 {
			t.Errorf("got %q, %v", names, err)
		}
		if _, err := call(`{"vhosts": null}`); err == nil {
			t.Error("got no error")
		}
	})
}

func TestConformanceService(t *testing.T) {
	t.Parallel()
	a := newRealApache(t).start()
	call := func(method string) (any, error) { return a.Methods()[method].Call(t.Context(), []byte(`{}`)) }
	status := func(want int) {
		t.Helper()
		if got, err := call("get_service_status"); got != want || err != nil {
			t.Errorf("status: got %v, %v, want %d", got, err, want)
		}
	}
	ok := func(method string) {
		t.Helper()
		if got, err := call(method); got != (handlers.Null{}) || err != nil {
			t.Errorf("%s: got %v, %v, want null", method, got, err)
		}
	}
	a.create("a.test", a.port)
	ok("configtest")
	status(0)
	ok("stop_service")
	ok("stop_service")
	status(3)
	ok("reload_service")
	status(0)
	ok("start_service")

	good, err := os.ReadFile(a.conf())
	if err != nil {
		t.Fatal(err)
	}
	a.write("apache2.conf", string(good)+"Bogus on\n")
	pid := a.pid()
	for _, method := range []string{"configtest", "restart_service", "reload_service"} {
		if _, err := call(method); err == nil || !strings.Contains(err.Error(), "InitdError: ") || !strings.Contains(err.Error(), a.conf()) {
			t.Errorf("%s of a broken configuration: got %v", method, err)
		}
	}
	if a.pid() != pid {
		t.Error("38: the old process is gone")
	}
	a.refuses("the configuration was broken before this call", a.params("b.test", a.port, a.template("b.test", a.port)))
	a.write("apache2.conf", string(good))
	a.create("b.test", a.port)
	if got := a.body("b.test"); !strings.Contains(got, "It works") {
		t.Errorf("got %q", got)
	}
}

func (a *realApache) pid() int {
	st, err := a.units.State(a.t.Context(), "apache2.service")
	if err != nil {
		a.t.Fatal(err)
	}
	return st.MainPID
}

func TestRealApacheComesBackAfterAChangeThatKillsIt(t *testing.T) {
	t.Parallel()
	a := newRealApache(t).start()
	a.create("a.test", a.port)
	before := a.tree()
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
	if after := a.tree(); after != before {
		t.Errorf("got\n%s\nwant\n%s", after, before)
	}
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
