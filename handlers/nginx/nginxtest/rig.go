// Package nginxtest checks what spec agent-web 7 asks of nginx from outside: it calls methods, looks at files, and visits what
// is served. The suites run against whatever a Rig reaches: a private nginx beside the handler in the test's own process, or
// the packaged one of a booted host behind sealed RPC.
package nginxtest

import (
	"context"
	"crypto/sha1"
	"encoding/json"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/reeve-paas/reeve/agent/agentapi"
	"github.com/reeve-paas/reeve/handlers/web/webtest"
)

// Rig is a running nginx, its files, and an agent that drives it. Unknown names get a page "default site" on Port.
type Rig struct {
	T testing.TB // whose failures they are

	// Call makes a call, such as "nginx.make_proxy", with a JSON object of parameters, and returns the result as it is on the wire.
	Call func(ctx context.Context, method string, params []byte) (json.RawMessage, error)
	// Listen takes a port where nginx runs, as another program there.
	Listen func(addr string) (net.Listener, error)
	// Dial connects from where nginx runs.
	Dial func(addr string) (net.Conn, error)
	// FreePort is a port that nobody has where nginx runs.
	FreePort func() int
	// RestartAgent ends the agent and starts another one.
	RestartAgent func()
	// Coordinator is whom the agent asks.
	Coordinator *Coordinator

	Addr    string // of nginx, without a port, as visitors know it
	Visitor string // from where they come, as nginx sees it
	Port    int    // of the default site
	Usual   bool   // whether ports 80 and 443 may be taken

	Root       string // where this process finds the files of nginx's host; "" is its own
	Dir        string // of nginx.conf, there
	PrivateDir string // of the agent, there
	PIDFile    string // of nginx, there
}

// item runs the test of some items, whose failures are its own.
func (r *Rig) item(t *testing.T, name string, f func(*Rig)) {
	t.Run(name, func(t *testing.T) {
		own := *r
		own.T = t
		f(&own)
	})
}

// Try makes a call of nginx's namespace whose result must be null.
func (r *Rig) Try(method, params string, args ...any) error {
	r.T.Helper()
	result, err := r.Call(r.T.Context(), "nginx."+method, fmt.Appendf(nil, params, args...))
	if err == nil && string(result) != "null" {
		r.T.Errorf("%s: got result %s, want null", method, result)
	}
	return err
}

// OK makes a call that must succeed.
func (r *Rig) OK(method, params string, args ...any) {
	r.T.Helper()
	if err := r.Try(method, params, args...); err != nil {
		r.T.Errorf("%s: %v", method, err)
	}
}

// Refuses makes a call that must fail with a text and change no file.
func (r *Rig) Refuses(want, method, params string, args ...any) {
	r.T.Helper()
	check := r.unchanged()
	r.fails(want, method, params, args...)
	check()
}

func (r *Rig) fails(want, method, params string, args ...any) {
	r.T.Helper()
	if err := r.Try(method, params, args...); err == nil || !strings.Contains(err.Error(), want) {
		r.T.Errorf("%s %.200s: got error %v, want one with %q", method, fmt.Sprintf(params, args...), err, want)
	}
}

// Idle makes a call that must succeed without touching a file or nginx.
func (r *Rig) Idle(method, params string, args ...any) {
	r.T.Helper()
	check, before := r.unchanged(), r.workers()
	r.OK(method, params, args...)
	check()
	for _, pid := range r.workers() {
		if !slices.Contains(before, pid) {
			r.T.Errorf("%s: nginx got new workers", method)
		}
	}
}

// unchanged returns a check that no file changed since then.
func (r *Rig) unchanged() func() {
	r.T.Helper()
	before := r.Tree()
	return func() {
		r.T.Helper()
		if after := r.Tree(); after != before {
			r.T.Errorf("files changed:\n%s\nwant\n%s", after, before)
		}
	}
}

// Tree is every file of nginx's directory and the agent's private one, with modes, but without logs.
func (r *Rig) Tree() string {
	r.T.Helper()
	var b strings.Builder
	for _, dir := range []string{r.Dir, r.PrivateDir} {
		err := filepath.WalkDir(r.Root+dir, func(p string, d fs.DirEntry, err error) error {
			switch {
			case os.IsNotExist(err) && p == r.Root+dir:
				return nil
			case err != nil:
				return err
			case d.IsDir() && d.Name() == "tmp":
				return fs.SkipDir
			case d.IsDir() || strings.HasSuffix(p, ".log"):
				fmt.Fprintln(&b, p)
				return nil
			}
			st, err := d.Info()
			if err != nil {
				return err
			}
			if d.Type()&fs.ModeSymlink != 0 {
				target, err := os.Readlink(p)
				fmt.Fprintln(&b, p, target)
				return err
			}
			data, err := os.ReadFile(p)
			fmt.Fprintf(&b, "%s %s %q\n", p, st.Mode(), data)
			return err
		})
		if err != nil {
			r.T.Fatal(err)
		}
	}
	return b.String()
}

// Path is where this process finds a file of nginx's directory.
func (r *Rig) Path(name string) string { return filepath.Join(r.Root+r.Dir, name) }

// Private is where this process finds a file of the agent's private directory.
func (r *Rig) Private(name string) string { return filepath.Join(r.Root+r.PrivateDir, name) }

// Read reads a file of nginx's directory.
func (r *Rig) Read(name string) string {
	r.T.Helper()
	data, err := os.ReadFile(r.Path(name))
	if err != nil {
		r.T.Fatal(err)
	}
	return string(data)
}

// Write writes a file of nginx's directory.
func (r *Rig) Write(name, text string) {
	r.T.Helper()
	if err := os.WriteFile(r.Path(name), []byte(text), 0o644); err != nil {
		r.T.Fatal(err)
	}
}

// has fails the test when a file of nginx's directory lacks a text.
func (r *Rig) has(name, want string) {
	r.T.Helper()
	if got := r.Read(name); !strings.Contains(got, want) {
		r.T.Errorf("%q is missing in %s", want, got)
	}
}

// workers are the process ids of nginx's workers.
func (r *Rig) workers() []string {
	r.T.Helper()
	data, err := os.ReadFile(r.Root + r.PIDFile)
	pid := strings.TrimSpace(string(data))
	if err == nil {
		data, err = os.ReadFile(fmt.Sprintf("%s/proc/%s/task/%s/children", r.Root, pid, pid))
	}
	if err != nil || len(data) == 0 {
		r.T.Fatalf("nginx's workers: %q, %v", data, err)
	}
	return strings.Fields(string(data))
}

// Visit asks nginx for a URL such as "http://a.test/", on a port.
func (r *Rig) Visit(port int, url string) (webtest.Response, error) {
	return webtest.TryGetAt(net.JoinHostPort(r.Addr, strconv.Itoa(port)), url)
}

// get is Visit for one that must be answered.
func (r *Rig) get(port int, url string) webtest.Response {
	r.T.Helper()
	answer, err := r.Visit(port, url)
	if err != nil {
		r.T.Fatal(err)
	}
	return answer
}

// Get asks on Port.
func (r *Rig) Get(url string) webtest.Response {
	r.T.Helper()
	return r.get(r.Port, url)
}

// Wants fails the test when a URL is not answered with 200 and a text, on Port.
func (r *Rig) Wants(url, want string) {
	r.T.Helper()
	r.wantsAt(r.Port, url, want)
}

func (r *Rig) wantsAt(port int, url, want string) {
	r.T.Helper()
	if got := r.get(port, url); got.Status != http.StatusOK || !strings.Contains(got.Body, want) {
		r.T.Errorf("GET %s: got %d %q, want 200 with %q", url, got.Status, got.Body, want)
	}
}

// silent fails the test when a port is answered.
func (r *Rig) silent(port int, url string) {
	r.T.Helper()
	if got, err := r.Visit(port, url); err == nil {
		r.T.Errorf("port %d still answers %d %q", port, got.Status, got.Body)
	}
}

// WantsAnswers fails the test when not exactly these backends answer for a host name, sorted, with a blank between them.
func (r *Rig) WantsAnswers(name, want string) {
	r.T.Helper()
	var seen []string
	for range 6 {
		body, _, _ := strings.Cut(r.Get("http://"+name+"/").Body, " ")
		seen = append(seen, body)
	}
	slices.Sort(seen)
	if got := strings.Join(slices.Compact(seen), " "); got != want {
		r.T.Errorf("%s: got answers %q, want %q; upstreams:\n%s", name, got, want, r.Read("app-servers.include"))
	}
}

// Serve runs an HTTP server where nginx runs, until stop or the end of the test.
func (r *Rig) Serve(addr string, port int, h http.HandlerFunc) (d agentapi.Destination, stop func()) {
	r.T.Helper()
	l, err := r.Listen(net.JoinHostPort(addr, strconv.Itoa(port)))
	if err != nil {
		r.T.Fatal(err)
	}
	srv := httptest.NewUnstartedServer(h)
	srv.Listener.Close()
	srv.Listener = l
	srv.Start()
	r.T.Cleanup(srv.Close)
	return agentapi.Destination{Host: addr, Port: agentapi.Text(strconv.Itoa(port))}, srv.Close
}

// Backend is an application that answers with its name, and tells what it was asked.
func (r *Rig) Backend(name string) agentapi.Destination {
	r.T.Helper()
	d, _ := r.backend(name)
	return d
}

func (r *Rig) backend(name string) (d agentapi.Destination, stop func()) {
	r.T.Helper()
	return r.Serve("127.0.0.1", r.FreePort(), func(w http.ResponseWriter, req *http.Request) {
		if req.URL.Path == "/fail" {
			w.WriteHeader(http.StatusInternalServerError)
			return
		}
		fmt.Fprintf(w, "%s %s host=%s real=%s for=%s", name, req.URL, req.Host, req.Header.Get("X-Real-IP"), req.Header.Get("X-Forwarded-For"))
	})
}

// roleServers are backends that share a port, as the servers of a role do. Each answers with its address.
func (r *Rig) roleServers(addresses ...string) (port int) {
	r.T.Helper()
	port = r.FreePort()
	for _, addr := range addresses {
		r.Serve(addr, port, func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, addr) })
	}
	return port
}

// Wire is a destination as JSON members.
func Wire(d agentapi.Destination) string {
	return fmt.Sprintf(`"host": %q, "port": %q`, d.Host, d.Port)
}

// upstream is the name of the upstream behind a host name (spec agent-web 3.4): H of "test.com" is 5f54….
func upstream(name string) string { return fmt.Sprintf("%x", sha1.Sum([]byte(name))) }

// Suites are groups of items; a subtest's name begins with the numbers of its items. They can follow one another on one host
// whose proxies are removed in between.
var Suites = []struct {
	Name string
	Run  func(*testing.T, *Rig)
}{
	{"make_proxy", proxies}, {"TLS", tlsProxies}, {"servers", servers}, {"roles", roles}, {"sets", sets}, {"files and service", filesAndService},
}
