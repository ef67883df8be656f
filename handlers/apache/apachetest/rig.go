// Package apachetest checks what spec agent-web 7 asks of Apache from outside: it calls methods, looks at files, and visits
// the sites. The suites run against whatever a Rig reaches: a private Apache beside the handler in the test's own process,
// or the packaged one of a booted host behind sealed RPC.
package apachetest

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io/fs"
	"net"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/reeve-paas/reeve/agent/agentapi"
	"github.com/reeve-paas/reeve/handlers/web"
	"github.com/reeve-paas/reeve/handlers/web/webtest"
)

// Rig is a running Apache, its files, and an agent that drives it. Unknown names get a page "default site".
type Rig struct {
	// Call makes a call with a JSON object of parameters, and returns the result as it is on the wire.
	Call func(t testing.TB, namespace, method, params string) (json.RawMessage, error)
	// Try runs a command where Apache runs, and returns what it printed without the blanks around it.
	Try func(t testing.TB, argv ...string) (string, error)
	// Write makes a file there, and the directories above it.
	Write func(t testing.TB, file string, mode fs.FileMode, data []byte)
	// EnableTLSSite enables the packaged TLS site and makes its certificate, that of the system.
	EnableTLSSite func(t testing.TB)
	// Coordinator is whom the agent asks.
	Coordinator *Coordinator

	Addr      string // of Apache, without a port
	Port      int    // of the default site
	TLSPort   int    // of TLS sites
	OtherPort int    // that nobody has

	Conf         string // Apache's main file
	SitesDir     string // whose *.conf are read
	StatusModule string // the file that loads mod_status
	TLSModule    string // the file that loads mod_ssl, absent before the first TLS site; "" where it is always loaded
	TLSSite      string // the packaged TLS site's file
	SystemCert   string // that the packaged TLS site names, with SystemKey
	SystemKey    string
	PIDFile      string
	PrivateDir   string // of the agent
	Roots        string // where the suites make document roots: a directory that the main file denies
	Logs         string // where they write logs
	User         string // who gets the document roots that the agent makes

	Kept []string // directories in which a refused call changes nothing
	Top  string   // the directory in which hostile names make no file
}

type obj = map[string]any

// try calls a method of Apache's namespace.
func (r *Rig) try(t testing.TB, method string, params any) (json.RawMessage, error) {
	t.Helper()
	return r.tryIn(t, "apache", method, params)
}

func (r *Rig) tryIn(t testing.TB, namespace, method string, params any) (json.RawMessage, error) {
	t.Helper()
	text, err := json.Marshal(params)
	if err != nil {
		t.Fatal(err)
	}
	return r.Call(t, namespace, method, string(text))
}

// do is try for a call that must succeed; it decodes what the call returns.
func (r *Rig) do(t testing.TB, method string, params, result any) {
	t.Helper()
	got, err := r.try(t, method, params)
	if err == nil {
		err = json.Unmarshal(got, result)
	}
	if err != nil {
		t.Fatalf("%s: %v", method, err)
	}
}

// null makes a call that must succeed and return null.
func (r *Rig) null(t testing.TB, method string, params any) {
	t.Helper()
	if got, err := r.try(t, method, params); err != nil || string(got) != "null" {
		t.Fatalf("%s: got %s, %v, want null", method, got, err)
	}
}

// refused makes a call that must fail with a text.
func (r *Rig) refused(t testing.TB, want, method string, params any) {
	t.Helper()
	if got, err := r.try(t, method, params); err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("%s of %.200s: got %s, %v, want an error with %q", method, fmt.Sprint(params), got, err, want)
	}
}

// unchanged returns a check that since then no file has changed, that Apache is the same process, and that it still serves.
func (r *Rig) unchanged(t testing.TB) func() {
	t.Helper()
	before, pid := r.Tree(t), r.pid(t)
	return func() {
		t.Helper()
		if after := r.Tree(t); after != before {
			t.Errorf("files changed:\n%s\nwant\n%s", after, before)
		}
		if got := r.pid(t); got != pid {
			t.Errorf("Apache's process is %s, want %s as before", got, pid)
		}
		r.wantPage(t, "nobody.test", "default site")
	}
}

// Tree is every file that is kept, with its content, except what Apache writes: logs, and all below a directory run.
func (r *Rig) Tree(t testing.TB) string {
	t.Helper()
	but := []string{"-xdev", "-name", "run", "-prune", "-o"}
	return r.sorted(t, slices.Concat([]string{"find"}, r.Kept, but, []string{"-printf", `%y %m %U %p %l\n`})) + "\n" +
		r.sorted(t, slices.Concat([]string{"find"}, r.Kept, but, []string{"-type", "f", "!", "-name", "*.log", "-exec", "sha256sum", "{}", "+"}))
}

// paths is every path below Top, except where others write meanwhile.
func (r *Rig) paths(t testing.TB) string {
	t.Helper()
	find := []string{"find", r.Top, "-xdev"}
	for _, p := range []string{"*/run", "/tmp", "/var/tmp", "/var/log", "/var/lib/systemd"} {
		find = append(find, "-path", p, "-prune", "-o")
	}
	return r.sorted(t, append(find, "-print"))
}

// sorted are the lines that a command prints.
func (r *Rig) sorted(t testing.TB, argv []string) string {
	t.Helper()
	return strings.Join(slices.Sorted(strings.SplitSeq(r.exec(t, argv...), "\n")), "\n")
}

func (r *Rig) exec(t testing.TB, argv ...string) string {
	t.Helper()
	out, err := r.Try(t, argv...)
	if err != nil {
		t.Fatalf("%s: %v", strings.Join(argv, " "), err)
	}
	return out
}

// wantText fails the test when a command does not print exactly this.
func (r *Rig) wantText(t testing.TB, want string, argv ...string) {
	t.Helper()
	if got, err := r.Try(t, argv...); err != nil || got != want {
		t.Errorf("%s: got %q, %v, want %q", strings.Join(argv, " "), got, err, want)
	}
}

func (r *Rig) exists(t testing.TB, file string) bool {
	t.Helper()
	_, err := r.Try(t, "test", "-e", file)
	return err == nil
}

func (r *Rig) pid(t testing.TB) string {
	t.Helper()
	return r.exec(t, "cat", r.PIDFile)
}

// statistics are those of Apache itself. Decoding them fails when a value is no text.
func (r *Rig) statistics(t testing.TB) map[string]string {
	t.Helper()
	var stats map[string]string
	r.do(t, "get_webserver_statistics", obj{}, &stats)
	return stats
}

func (r *Rig) number(t testing.TB, key string) int {
	t.Helper()
	stats := r.statistics(t)
	n, err := strconv.Atoi(stats[key])
	if err != nil {
		t.Fatalf("%s: %v in %v", key, err, stats)
	}
	return n
}

// reloads is how often Apache has read its configuration.
func (r *Rig) reloads(t testing.TB) int {
	t.Helper()
	return r.number(t, "ParentServerConfigGeneration")
}

// file is where the agent keeps a site.
func (r *Rig) file(name string, port int) string {
	return fmt.Sprintf("%s/vhosts/%s-%d.vhost.conf", r.PrivateDir, name, port)
}

func (r *Rig) key(file string) string { return r.PrivateDir + "/keys/" + file }

// template is a plain site with a document root and logs of its own.
func (r *Rig) template(name string, port int) string {
	return fmt.Sprintf("<VirtualHost *:%d>\n   ServerName %s\n   DocumentRoot %s/%s\n   ErrorLog %s/%s/error.log\n   CustomLog %s/%s/access.log common\n</VirtualHost>\n",
		port, name, r.Roots, name, r.Logs, name, r.Logs, name)
}

// bogus is the template with a directive that no Apache knows.
func (r *Rig) bogus(name string, port int) string {
	return strings.Replace(r.template(name, port), "ServerName", "Bogus on\n   ServerName", 1)
}

// tlsTemplate has the certificate paths that old callers send.
func (r *Rig) tlsTemplate(name string) string {
	return fmt.Sprintf("<IfModule mod_ssl.c>\n<VirtualHost *:%d>\nServerName %s\nDocumentRoot %s/%s\nSSLEngine on\nSSLCertificateFile /dummy/https.crt\n"+
		"SSLCertificateKeyFile /dummy/https.key\nSSLCACertificateFile /dummy/ca.crt\n</VirtualHost>\n</IfModule>\n", r.TLSPort, name, r.Roots, name)
}

// site is a plain site as create_vhost and reconfigure take it.
func (r *Rig) site(name string, port int) obj { return site(name, port, r.template(name, port)) }

func site(name string, port any, template string) obj {
	return obj{"hostname": name, "port": port, "template": template, "ssl": "0"}
}

// create makes a plain site.
func (r *Rig) create(t testing.TB, name string, port int) {
	t.Helper()
	var path string
	if r.do(t, "create_vhost", r.site(name, port), &path); path != r.file(name, port) {
		t.Errorf("got path %s, want %s", path, r.file(name, port))
	}
}

func (r *Rig) remove(t testing.TB, name string, port int) {
	t.Helper()
	r.null(t, "delete_vhosts", obj{"vhosts": []any{[]any{name, port}}})
}

func (r *Rig) get(port int, url string) (webtest.Response, error) {
	return webtest.TryGetAt(net.JoinHostPort(r.Addr, strconv.Itoa(port)), url)
}

// wantPage fails the test when a name does not answer 200 with a text on the default site's port.
func (r *Rig) wantPage(t testing.TB, name, text string) {
	t.Helper()
	r.wantPageAt(t, r.Port, name, text)
}

func (r *Rig) wantPageAt(t testing.TB, port int, name, text string) {
	t.Helper()
	if got, err := r.get(port, "http://"+name+"/"); err != nil || got.Status != 200 || !strings.Contains(got.Body, text) {
		t.Errorf("%s on port %d: got %d %.300q, %v, want 200 with %q", name, port, got.Status, got.Body, err, text)
	}
}

// wantCertificates fails the test when the TLS port shows other certificates for a name, or does not answer 200.
func (r *Rig) wantCertificates(t testing.TB, name string, want ...[]byte) webtest.Response {
	t.Helper()
	got, err := r.get(r.TLSPort, "https://"+name+"/")
	if err != nil || got.Status != 200 {
		t.Fatalf("%s: got %d, %v, want 200", name, got.Status, err)
	}
	shown := got.TLS.PeerCertificates
	if len(shown) != len(want) {
		t.Fatalf("%s: got %d certificates, want %d", name, len(shown), len(want))
	}
	for i, c := range shown {
		if !same(c, want[i]) {
			t.Errorf("%s: certificate %d is another one, of %s", name, i, c.Subject)
		}
	}
	return got
}

func same(c *x509.Certificate, data []byte) bool {
	block, _ := pem.Decode(data)
	return block != nil && bytes.Equal(c.Raw, block.Bytes)
}

// wantAsked fails the test when the agent asked for other certificates since the last time.
func (r *Rig) wantAsked(t testing.TB, ids ...string) {
	t.Helper()
	if got := r.Coordinator.Asked(); strings.Join(got, " ") != strings.Join(ids, " ") {
		t.Errorf("the agent asked for certificates %q, want %q", got, ids)
	}
}

// pair puts a certificate and its key where the agent looks for them, and returns them and the authority's certificate.
func (r *Rig) pair(t testing.TB, base, name string) (cert, key, chain []byte) {
	t.Helper()
	cert, key, chain = webtest.Certificate(t, name, true)
	r.Write(t, base+".crt", 0o644, cert)
	r.Write(t, base+".key", 0o600, key)
	return cert, key, chain
}

func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	if err := web.Poll(ctx, func() (bool, error) { return ok(), nil }); err != nil {
		t.Fatalf("it is not so that %s: %v", what, err)
	}
}

// ended waits for an operation.
func (r *Rig) ended(t testing.TB, id string) agentapi.Operation {
	t.Helper()
	var record agentapi.Operation
	eventually(t, "the operation ended", func() bool {
		got, err := r.tryIn(t, "operation", "result", obj{"operation_id": id})
		if err == nil {
			err = json.Unmarshal(got, &record)
		}
		if err != nil {
			t.Fatal(err)
		}
		return record.Status != agentapi.OperationNew && record.Status != agentapi.OperationInProgress
	})
	return record
}
