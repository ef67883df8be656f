package nginxtest

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/reeve-paas/reeve/agent/agentapi"
	"github.com/reeve-paas/reeve/handlers/web"
)

func sets(t *testing.T, r *Rig) {
	b1, b2 := r.Backend("B1"), r.Backend("B2")
	r.make("old.test", b1)

	r.item(t, "60: exactly the list is left", func(r *Rig) {
		const two = `{"proxy_list": [{"hostname": "p1.test", "port": %d, "backends": [{%s}], "grace": 5}, {"name": "p2.test", "port": "%d", "backends": [{%s}], "http": null}]}`
		r.OK("recreate_proxying", two, r.Port, Wire(b1), r.Port, Wire(b2))
		r.Wants("http://p1.test/", "B1")
		r.Wants("http://p2.test/", "B2")
		r.Wants("http://old.test/", "default site")
		if got := r.Tree(); strings.Contains(got, upstream("old.test")) {
			r.T.Errorf("left over in %s", got)
		}
		check := r.unchanged()
		r.OK("recreate_proxying", two, r.Port, Wire(b1), r.Port, Wire(b2))
		check()
	})
	r.item(t, "60: a bad element leaves the previous set, and is named", func(r *Rig) {
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
			r.Refuses(want, "recreate_proxying", `{"proxy_list": [{"hostname": "p3.test", "port": %d, "backends": [{%s}]}, %s]}`, r.Port, Wire(b2), bad)
		}
		r.Wants("http://p1.test/", "B1")
		r.Wants("http://p3.test/", "default site")
	})
	r.item(t, "61: without reload traffic stays until reload_service", func(r *Rig) {
		r.OK("recreate_proxying", `{"proxy_list": [{"hostname": "late.test", "port": %d, "backends": [{%s}]}], "reload_service": "0"}`, r.Port, Wire(b1))
		r.Wants("http://late.test/", "default site")
		r.OK("reload_service", `{}`)
		r.Wants("http://late.test/", "B1")
	})
	r.item(t, "60: null and an empty list leave none, and nginx running", func(r *Rig) {
		for _, list := range []string{"null", "[]"} {
			r.make("p1.test", b1)
			r.OK("recreate_proxying", `{"proxy_list": %s}`, list)
			r.Wants("http://p1.test/", "default site")
			if got := r.Read("app-servers.include") + r.Read("proxies.include"); got != "" {
				r.T.Errorf("%s: got %q", list, got)
			}
		}
		r.fails("TypeError: ", "recreate_proxying", `{}`)
	})
	r.item(t, "71: a valid list is switched to, in the background unless asked otherwise", func(r *Rig) {
		id := r.inBackground(`{"proxies": [{"name": "p.test", "port": %d, "backends": [{%s}]}]}`, r.Port, Wire(b1))
		if got := r.finished(id); got.Name != "api.nginx.reconfigure" || got.Status != agentapi.OperationCompleted || got.Result != nil {
			r.T.Errorf("got %+v", got)
		}
		r.Wants("http://p.test/", "B1")
		r.OK("reconfigure", `{"async": false, "proxies": [{"hostname": "p.test", "port": %d, "backends": [{%s}]}]}`, r.Port, Wire(b2))
		r.Wants("http://p.test/", "B2")
	})
	r.item(t, "71: an invalid one fails and leaves every file", func(r *Rig) {
		defer r.unchanged()()
		const bad = `{"async": %t, "proxies": [{"hostname": "q.test", "port": %d, "backends": [{%s}]}, {"hostname": "r.test", "backends": [{"host": "no-such-host.invalid"}]}]}`
		if got := r.finished(r.inBackground(bad, true, r.Port, Wire(b1))); got.Status != agentapi.OperationFailed || got.Error == nil || !strings.Contains(*got.Error, "host not found") {
			r.T.Errorf("got %+v", got)
		}
		r.fails("host not found", "reconfigure", bad, false, r.Port, Wire(b1))
		r.Wants("http://p.test/", "B2")
		r.Wants("http://q.test/", "default site")
		if got := r.Tree(); strings.Contains(got, ".new ") {
			r.T.Errorf("left over in %s", got)
		}
	})
	r.item(t, "71: without a list there is nowhere to get one from", func(r *Rig) {
		for _, params := range []string{`{}`, `{"proxies": null}`} {
			r.Refuses("give proxies, [] for none", "reconfigure", "%s", params)
		}
	})
}

// inBackground starts a reconfigure and returns its operation's id.
func (r *Rig) inBackground(params string, args ...any) (id string) {
	r.T.Helper()
	result, err := r.Call(r.T.Context(), "nginx.reconfigure", fmt.Appendf(nil, params, args...))
	if err == nil {
		err = json.Unmarshal(result, &id)
	}
	if err != nil || strings.Count(id, "-") != 4 {
		r.T.Fatalf("got %s, %v, want a UUID", result, err)
	}
	return id
}

// finished waits for the end of an operation.
func (r *Rig) finished(id string) (o agentapi.Operation) {
	r.T.Helper()
	err := web.Poll(r.T.Context(), func() (bool, error) {
		result, err := r.Call(r.T.Context(), "operation.result", fmt.Appendf(nil, `{"operation_id": %q}`, id))
		if err == nil {
			err = json.Unmarshal(result, &o)
		}
		return o.Status != agentapi.OperationNew && o.Status != agentapi.OperationInProgress, err
	})
	if err != nil {
		r.T.Fatal(err)
	}
	return o
}
