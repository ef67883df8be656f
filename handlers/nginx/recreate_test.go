package nginx

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/reeve-paas/reeve/agent/agentapi"
	"github.com/reeve-paas/reeve/agent/operation"
	"github.com/reeve-paas/reeve/handlers/web"
	"github.com/reeve-paas/reeve/handlers/web/webtest"
)

func TestConformanceRecreate(t *testing.T) {
	t.Parallel()
	n := newRealNginx(t).start()
	b1, b2 := backend(t, "B1"), backend(t, "B2")
	n.make(n.params("old.test", b1))

	t.Run("60: exactly the list is left, with one reload", func(t *testing.T) {
		n.units.Calls()
		n.ok("recreate_proxying", `{"proxy_list": [
			{"hostname": "p1.test", "port": %d, "backends": [{%s}], "grace": 5},
			{"name": "p2.test", "port": "%d", "backends": [{%s}], "http": null}]}`, n.port, wire(b1), n.port, wire(b2))
		n.wants("http://p1.test/", "B1")
		n.wants("http://p2.test/", "B2")
		n.wants("http://old.test/", "default site")
		if calls := n.units.Calls(); len(calls) != 1 {
			t.Errorf("got %q, want one reload", calls)
		}
		if got := n.read("app-servers.include") + n.read("proxies.include") + n.read("private.d/nginx-backends.json"); strings.Contains(got, hashName("old.test")) {
			t.Errorf("left over in %s", got)
		}
		before := n.tree()
		n.ok("recreate_proxying", `{"proxy_list": [
			{"hostname": "p1.test", "port": %d, "backends": [{%s}]},
			{"hostname": "p2.test", "port": "%d", "backends": [{%s}]}]}`, n.port, wire(b1), n.port, wire(b2))
		if n.tree() != before {
			t.Error("the same list again changed files")
		}
	})
	t.Run("60: a bad element leaves the previous set, and is named", func(t *testing.T) {
		for bad, want := range map[string]string{
			`{"hostname": "bad.test", "backends": []}`:                                                   "Exception: proxy bad.test: no destinations",
			`{"hostname": "bad.test", "backends": [{"host": "no-such-host.invalid"}]}`:                   "PopenError: ",
			`{"name": "bad;test", "backends": [{"host": "192.0.2.1"}]}`:                                  "ValueError: proxy bad;test: ",
			`{"backends": [{"host": "192.0.2.1"}]}`:                                                      "TypeError: element 2: ",
			`"bad.test"`:                                                                                 "TypeError: element 2: ",
			`{"hostname": "bad.test", "port": 443, "ssl": 1, "backends": [{"host": "192.0.2.1"}]}`:       "Exception: proxy bad.test: HTTP and HTTPS ports are equal",
			`{"hostname": "bad.test", "ssl": "1", "backends": [{"host": "192.0.2.1"}]}`:                  "ValueError: proxy bad.test: there is no certificate",
			`{"hostname": "o.test", "hash_backend_name": 0, "backends": [{"host": "a", "location": 1}]}`: "TypeError: element 2: ",
		} {
			n.refuses(want, "recreate_proxying", `{"proxy_list": [{"hostname": "p3.test", "port": %d, "backends": [{%s}]}, %s]}`, n.port, wire(b2), bad)
		}
		n.wants("http://p1.test/", "B1")
		n.wants("http://p3.test/", "default site")
	})
	t.Run("two proxies of one host name share the servers of both", func(t *testing.T) {
		other := webtest.FreePort(t)
		n.roles["5"] = []web.RoleServer{{InternalIP: "127.0.0.1", CloudLocation: "here"}}
		n.ok("recreate_proxying", `{"proxy_list": [{"hostname": "u.test", "port": %d, "backends": [{%s}]}, {"hostname": "u.test", "port": %d, "backends": [{%s}, {%s}]}]}`,
			n.port, wire(b1), other, wire(b2), wire(b1))
		for _, port := range []int{n.port, other} {
			seen := ""
			for range 4 {
				seen += webtest.Get(t, port, "http://u.test/").Body
			}
			if !strings.Contains(seen, "B1") || !strings.Contains(seen, "B2") {
				t.Errorf("port %d: got %q, want both", port, seen)
			}
		}
		if got := n.read("app-servers.include"); strings.Count(got, "upstream ") != 1 || strings.Count(got, "server ") != 2 {
			t.Errorf("got %s", got)
		}
		if got := n.table()[hashName("u.test")].Destinations; len(got) != 3 {
			t.Errorf("the table has %+v", got)
		}
	})
	t.Run("61: without reload traffic stays until reload_service", func(t *testing.T) {
		n.ok("recreate_proxying", `{"proxy_list": [{"hostname": "late.test", "port": %d, "backends": [{%s}]}], "reload_service": "0"}`, n.port, wire(b1))
		n.wants("http://late.test/", "default site")
		n.ok("reload_service", `{}`)
		n.wants("http://late.test/", "B1")
	})
	t.Run("60: null and an empty list leave none, and nginx running", func(t *testing.T) {
		for _, list := range []string{"null", "[]"} {
			n.make(n.params("p1.test", b1))
			n.ok("recreate_proxying", `{"proxy_list": %s}`, list)
			n.wants("http://p1.test/", "default site")
			if got := n.read("app-servers.include") + n.read("proxies.include"); got != "" {
				t.Errorf("%s: got %q", list, got)
			}
		}
		if err := n.call("recreate_proxying", `{}`); err == nil || !strings.Contains(err.Error(), "TypeError: ") {
			t.Errorf("got %v, want a TypeError", err)
		}
	})
}

func TestConformanceReconfigure(t *testing.T) {
	t.Parallel()
	n := newRealNginx(t)
	registry, err := operation.Open(operation.Options{})
	if err != nil {
		t.Fatal(err)
	}
	n.Service.operations = registry
	n.start()
	b1, b2 := backend(t, "B1"), backend(t, "B2")
	reconfigure := func(params string, args ...any) (any, error) {
		return n.Methods()["reconfigure"].Call(t.Context(), fmt.Appendf(nil, params, args...))
	}
	finished := func(id any) agentapi.Operation {
		t.Helper()
		text, _ := id.(string)
		if strings.Count(text, "-") != 4 {
			t.Fatalf("got %v, want a UUID", id)
		}
		var r agentapi.Operation
		err := web.Poll(t.Context(), func() (done bool, err error) {
			r, err = registry.Result(text)
			return r.Status != agentapi.OperationNew && r.Status != agentapi.OperationInProgress, err
		})
		if err != nil {
			t.Fatal(err)
		}
		return r
	}

	t.Run("71: a valid list is switched to, in the background unless asked otherwise", func(t *testing.T) {
		id, err := reconfigure(`{"proxies": [{"name": "p.test", "port": %d, "backends": [{%s}]}]}`, n.port, wire(b1))
		if err != nil {
			t.Fatal(err)
		}
		if r := finished(id); r.Name != "api.nginx.reconfigure" || r.Status != agentapi.OperationCompleted || fmt.Sprintf("%s", r.Result) != "null" {
			t.Errorf("got %+v", r)
		}
		n.wants("http://p.test/", "B1")
		got, err := reconfigure(`{"async": false, "proxies": [{"hostname": "p.test", "port": %d, "backends": [{%s}]}]}`, n.port, wire(b2))
		if got != nil || err != nil {
			t.Errorf("got %v, %v, want null", got, err)
		}
		n.wants("http://p.test/", "B2")
	})
	t.Run("71: an invalid one fails and leaves every file", func(t *testing.T) {
		before := n.tree()
		const bad = `{"async": %t, "proxies": [{"hostname": "q.test", "port": %d, "backends": [{%s}]}, {"hostname": "r.test", "backends": [{"host": "no-such-host.invalid"}]}]}`
		id, err := reconfigure(bad, true, n.port, wire(b1))
		if err != nil {
			t.Fatal(err)
		}
		if r := finished(id); r.Status != agentapi.OperationFailed || r.Error == nil || !strings.Contains(*r.Error, "host not found") {
			t.Errorf("got %+v", r)
		}
		if _, err := reconfigure(bad, false, n.port, wire(b1)); err == nil || !strings.Contains(err.Error(), "host not found") {
			t.Errorf("got %v, want the error of a synchronous call", err)
		}
		if after := n.tree(); after != before {
			t.Errorf("files changed:\n%s\nwant\n%s", after, before)
		}
		n.wants("http://p.test/", "B2")
		n.wants("http://q.test/", "default site")
	})
	t.Run("a second one while the first runs is refused", func(t *testing.T) {
		n.mu.Lock() // the first waits for its turn
		id, err := reconfigure(`{"proxies": []}`)
		if err != nil {
			t.Error(err)
		}
		_, err = reconfigure(`{"proxies": []}`)
		if e, ok := errors.AsType[*agentapi.Error](err); !ok || e.Class != "AlreadyInProgressError" || !strings.Contains(e.Text, fmt.Sprint(id)) || !strings.Contains(e.Text, "api.nginx.reconfigure") {
			t.Errorf("got %v", err)
		}
		n.mu.Unlock()
		finished(id)
		n.wants("http://p.test/", "default site")
	})
	t.Run("without a list there is nowhere to get one from", func(t *testing.T) {
		for _, params := range []string{`{}`, `{"proxies": null}`} {
			if _, err := reconfigure("%s", params); err == nil || !strings.Contains(err.Error(), "give proxies, [] for none") {
				t.Errorf("got %v", err)
			}
		}
	})
	t.Run("an agent that runs nothing in the background says so", func(t *testing.T) {
		n.Service.operations = nil
		if _, err := reconfigure(`{"proxies": []}`); err == nil || !strings.Contains(err.Error(), "repeat the call with async false") {
			t.Errorf("got %v", err)
		}
		if got, err := reconfigure(`{"proxies": [], "async": 0}`); got != nil || err != nil {
			t.Errorf("got %v, %v", got, err)
		}
	})
}

// While an older agent had no proxies it kept a server of its own in nginx.conf.
func TestRecreateTakesAnOlderAgentsServerOutOfTheMainFile(t *testing.T) {
	t.Parallel()
	n := newRealNginx(t)
	legacy := fmt.Sprintf("\tserver { listen %d; server_name legacy.test; location / { proxy_pass http://backend; } }\n", n.port)
	clean := strings.TrimSuffix(n.mainConfig(), "}\n") + fmt.Sprintf("\tinclude %s;\n\tinclude %s;\n}\n", n.upstreamsPath(), n.proxiesPath())
	n.write("nginx.conf", strings.Replace(clean, "\tinclude", legacy+"\tinclude", 1))
	b1 := backend(t, "B1")
	n.write("app-servers.include", fmt.Sprintf("upstream backend {\n\tip_hash;\n\tserver %s:%s;\n}\n", b1.Host, b1.Port))
	n.write("proxies.include", "")
	n.start()
	n.wants("http://legacy.test/", "B1")
	n.refuses("host not found", "recreate_proxying", `{"proxy_list": [{"hostname": "p.test", "backends": [{"host": "no-such-host.invalid"}]}]}`)
	n.wants("http://legacy.test/", "B1")
	n.ok("recreate_proxying", `{"proxy_list": [{"hostname": "p.test", "port": %d, "backends": [{%s}]}]}`, n.port, wire(b1))
	n.wants("http://p.test/", "B1")
	n.wants("http://legacy.test/", "default site")
	// Its includes are in our order from then on.
	want := strings.TrimSuffix(n.mainConfig(), "}\n") + fmt.Sprintf("\tinclude %s;\n\tinclude %s;\n}\n", n.proxiesPath(), n.upstreamsPath())
	if got := strings.Replace(n.read("nginx.conf"), "\t\n", "", 1); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

var _ Operations = (*operation.Registry)(nil)
