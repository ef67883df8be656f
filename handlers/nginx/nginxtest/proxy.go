package nginxtest

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/reeve-paas/reeve/agent/agentapi"
	"github.com/reeve-paas/reeve/handlers/web"
	"github.com/reeve-paas/reeve/handlers/web/webtest"
)

func proxies(t *testing.T, r *Rig) {
	b1, b2 := r.Backend("B1"), r.Backend("B2")

	r.item(t, "40: the backend is reached, with the client's headers", func(r *Rig) {
		r.OK("make_proxy", `{"hostname": "p.test", "port": "%d", "backends": [{%s}]}`, r.Port, Wire(b1))
		r.Wants("http://p.test/x?y=1", fmt.Sprintf("B1 /x?y=1 host=p.test real=%s for=%s", r.Visitor, r.Visitor))
		r.Wants("http://other.test/", "default site")
	})
	r.item(t, "40: without a port it is 80", func(r *Rig) {
		if !r.Usual {
			r.T.Skip("port 80 is not ours")
		}
		r.OK("make_proxy", `{"hostname": "usual.test", "backends": [{%s}]}`, Wire(b1))
		r.wantsAt(80, "http://usual.test/", "B1")
	})
	r.item(t, "41: the upstream's name is the SHA-1 of the host name", func(r *Rig) { r.has("app-servers.include", "upstream "+upstream("p.test")+" {") })
	r.item(t, "42: locations reach their own backends", func(r *Rig) {
		r.OK("make_proxy", `{"hostname": "two.test", "port": "%d", "backends": [{%s, "location": "/"}, {%s, "location": "/api"}]}`, r.Port, Wire(b1), Wire(b2))
		r.Wants("http://two.test/z", "B1 /z")
		r.Wants("http://two.test/api/z", "B2 /api/z")
	})
	r.item(t, "43, 44: a role's servers get traffic, by network", func(r *Rig) {
		port := r.roleServers("127.0.0.2", "127.0.0.3", "127.0.0.12", "127.0.0.13")
		r.Coordinator.SetRole("123",
			web.RoleServer{InternalIP: "127.0.0.2", ExternalIP: "127.0.0.12", CloudLocation: Location},
			web.RoleServer{InternalIP: "127.0.0.3", ExternalIP: "127.0.0.13", CloudLocation: "elsewhere"})
		for network, want := range map[string]string{"": "127.0.0.13 127.0.0.2", `, "network": "public"`: "127.0.0.12 127.0.0.13", `, "network": "private"`: "127.0.0.2 127.0.0.3"} {
			r.OK("make_proxy", `{"hostname": "role.test", "port": %d, "backends": [{"farm_role_id": 123, "port": %d%s}]}`, r.Port, port, network)
			r.WantsAnswers("role.test", want)
		}
		r.has("app-servers.include", "upstream "+upstream("role.test")+"__123 {")
	})
	r.item(t, "45: a role without servers shows the no-app page, on any port and with any template", func(r *Rig) {
		for _, extra := range []string{"", `, "backend_port": 8000`, `, "templates": [{"server": "1", "content": "client_max_body_size 1m;"}]`} {
			r.OK("make_proxy", `{"hostname": "empty.test", "port": %d, "backends": [{"farm_role_id": "9"}]%s}`, r.Port, extra)
			r.Wants("http://empty.test/x", "No application here yet")
			_, after, _ := strings.Cut(r.Read("app-servers.include"), upstream("empty.test")+"__9 {")
			if servers, _, _ := strings.Cut(after, "}"); !strings.Contains(servers, "127.0.0.1") {
				r.T.Errorf("got servers %q, want the placeholder", servers)
			}
		}
	})
	r.item(t, "46: a request from the host itself reaches the backend", func(r *Rig) {
		conn, err := r.Dial(fmt.Sprintf("127.0.0.1:%d", r.Port))
		if err != nil {
			r.T.Fatal(err)
		}
		got, err := webtest.Ask(conn, "http://p.test/")
		if err != nil || got.Status != http.StatusOK || !strings.HasPrefix(got.Body, "B1 ") || !strings.Contains(got.Body, "real=127.0.0.1") {
			r.T.Errorf("got %d %q, %v", got.Status, got.Body, err)
		}
	})
	r.item(t, "47: a backup serves while the primary is down, one that is down never", func(r *Rig) {
		primary, stop := r.backend("primary")
		r.OK("make_proxy", `{"hostname": "b.test", "port": %d, "backends": [{%s}, {%s, "backup": "1"}]}`, r.Port, Wire(primary), Wire(b2))
		r.WantsAnswers("b.test", "primary")
		stop()
		r.WantsAnswers("b.test", "B2")
		r.OK("make_proxy", `{"hostname": "b.test", "port": %d, "backends": [{%s, "down": "1"}, {%s}]}`, r.Port, Wire(b1), Wire(b2))
		r.WantsAnswers("b.test", "B2")
	})
	r.item(t, "48: ip_hash with a backup is refused and the previous proxy lives", func(r *Rig) {
		r.Refuses("PopenError: ", "make_proxy", `{"hostname": "p.test", "port": %d, "backend_ip_hash": "1", "backends": [{%s}, {%s, "backup": true}]}`, r.Port, Wire(b1), Wire(b2))
		r.Wants("http://p.test/", "B1")
	})
	r.item(t, "48: ip_hash keeps a client at one backend", func(r *Rig) {
		for option, want := range map[string]bool{"0": false, "1": true} {
			r.OK("make_proxy", `{"hostname": "sticky.test", "port": %d, "backend_ip_hash": %q, "backends": [{%s}, {%s}]}`, r.Port, option, Wire(b1), Wire(b2))
			first := r.Get("http://sticky.test/").Body
			same := true
			for range 6 {
				same = same && r.Get("http://sticky.test/").Body == first
			}
			if same != want {
				r.T.Errorf("backend_ip_hash %s: got one backend %v, want %v", option, same, want)
			}
		}
	})
	r.item(t, "49: options render alike as text and number", func(r *Rig) {
		for _, options := range []string{`"max_fails": "3", "fail_timeout": "10", "weight": "5"`, `"max_fails": 3, "fail_timeout": 10, "weight": 5`, `"max_fails": 3, "fail_timeout": "10s", "weight": 5`} {
			r.OK("make_proxy", `{"hostname": "o.test", "port": %d, "backends": [{"host": "::1", "port": 81, %s}]}`, r.Port, options)
			r.has("app-servers.include", "server   [::1]:81 max_fails=3 fail_timeout=10s weight=5;")
		}
	})
	r.item(t, "50: errors of the backend get our pages", func(r *Rig) {
		if got := r.Get("http://p.test/fail"); got.Status != 500 || !strings.Contains(got.Body, "Something went wrong") {
			r.T.Errorf("got %d %s", got.Status, got.Body)
		}
		r.OK("make_proxy", `{"hostname": "down.test", "port": %d, "backends": [{"host": "127.0.0.1", "port": %d}]}`, r.Port, r.FreePort())
		if got := r.Get("http://down.test/"); got.Status != 502 || !strings.Contains(got.Body, "Not available") {
			r.T.Errorf("got %d %s", got.Status, got.Body)
		}
	})
	r.item(t, "53: without ssl http is forced", func(r *Rig) {
		r.OK("make_proxy", `{"hostname": "f.test", "port": %d, "http": "0", "backends": [{%s}]}`, r.Port, Wire(b1))
		r.Wants("http://f.test/", "B1")
	})
	r.item(t, "54: equal ports are refused", func(r *Rig) {
		r.Refuses("Exception: HTTP and HTTPS ports are equal", "make_proxy", `{"hostname": "p.test", "port": 80, "ssl_port": "80", "ssl": 1, "backends": [{%s}]}`, Wire(b1))
	})
	r.item(t, "55: no destinations are refused", func(r *Rig) {
		r.Refuses("Exception: no destinations", "make_proxy", `{"hostname": "p.test", "backends": []}`)
		r.Refuses("Exception: ", "make_proxy", `{"hostname": "p.test", "backends": [{"port": 80}]}`)
	})
	r.item(t, "56: what nginx refuses changes nothing", func(r *Rig) {
		r.Refuses("host not found", "make_proxy", `{"hostname": "p.test", "port": %d, "backends": [{"host": "no-such-host.invalid"}]}`, r.Port)
		r.Refuses("ValueError: invalid port", "make_proxy", `{"hostname": "p.test", "backends": [{"host": "127.0.0.1", "port": "80x"}]}`)
		for _, c := range [][2]string{{"} server {", "ParseError: "}, {"bogus on;", "PopenError: "}, {"bogus on;", "proxies.include:"}, {"content_by_lua_block { x }", "ParseError: "}} {
			r.Refuses(c[1], "make_proxy", `{"hostname": "p.test", "port": %d, "backends": [{%s}], "templates": [{"server": 1, "content": %q}]}`, r.Port, Wire(b1), c[0])
		}
		r.Wants("http://p.test/", "B1")
		r.Wants("http://two.test/api/", "B2")
	})
	r.item(t, "57: a second call replaces, without leftovers", func(r *Rig) {
		r.OK("make_proxy", `{"hostname": "two.test", "port": %d, "backends": [{%s}]}`, r.Port, Wire(b2))
		r.Wants("http://two.test/", "B2")
		if got := r.Read("app-servers.include"); strings.Contains(got, upstream("two.test")+"_api") || strings.Count(got, upstream("two.test")) != 1 {
			r.T.Errorf("got %s", got)
		}
		if got := strings.Count(r.Read("proxies.include"), "two.test"); got != 1 {
			r.T.Errorf("got %d servers, want 1", got)
		}
		check := r.unchanged()
		r.OK("make_proxy", `{"hostname": "two.test", "port": %d, "backends": [{%s}]}`, r.Port, Wire(b2))
		check()
	})
	r.item(t, "58: templates", func(r *Rig) {
		r.OK("make_proxy", `{"hostname": "t.test", "port": %d, "backends": [{%s}, {%s, "location": "/api"}], "templates": [
			{"server": "1", "content": "server { server_name wrong.test; add_header X-Server yes always; proxy_set_header Host template.test; location /api { return 403; } location /static { return 204; } }"},
			{"location": "/api", "content": "proxy_set_header X-Real-IP 192.0.2.9;"}]}`, r.Port, Wire(b1), Wire(b2))
		if got := r.Get("http://t.test/"); got.Header.Get("X-Server") != "yes" || !strings.Contains(got.Body, "host=template.test") {
			r.T.Errorf("got %v %s", got.Header, got.Body)
		}
		r.Wants("http://t.test/api", "real=192.0.2.9")
		if got := r.Get("http://t.test/static"); got.Status != 204 {
			r.T.Errorf("got %d", got.Status)
		}
	})
	r.item(t, "61: without reload traffic stays until reload_service", func(r *Rig) {
		r.OK("make_proxy", `{"hostname": "late.test", "port": %d, "backends": [{%s}], "reload_service": "0"}`, r.Port, Wire(b1))
		r.has("proxies.include", "late.test")
		r.Wants("http://late.test/", "default site")
		r.OK("reload_service", `{}`)
		r.Wants("http://late.test/", "B1")
	})
	r.item(t, "74: hostile text changes nothing", func(r *Rig) {
		defer r.unchanged()()
		for _, name := range []string{`a; }`, "../x", "a\nb", "a{", `a\"`, "$host", "", strings.Repeat("a.", 150), "a b", "~^x"} {
			r.fails("ValueError: ", "make_proxy", `{"hostname": %q, "backends": [{%s}]}`, name, Wire(b1))
		}
		for _, location := range []string{"/{", "@x", "/a;b", "/a b", "x", "~ a{2}", `~ "a`, `= x`, "/a\n}", `/a"`, "/a#b", `/\\`, "~ a;"} {
			r.fails("ValueError: ", "make_proxy", `{"hostname": "p.test", "backends": [{%s, "location": %q}]}`, Wire(b1), location)
		}
		for _, host := range []string{"1.2.3.4 backup; server evil", "a;b", "unix:/x", "fe80::1%eth0", "a/b", "*.x"} {
			r.fails("ValueError: ", "make_proxy", `{"hostname": "p.test", "backends": [{"host": %q}]}`, host)
		}
	})
	r.item(t, "unknown members are ignored, and callers of older agents are understood", func(r *Rig) {
		r.OK("make_proxy", `{"hostname": "old.test", "port": %d, "servers": ["%s:%s"], "restart_service": 1, "grace": 5, "http": null}`, r.Port, b2.Host, b2.Port)
		r.Wants("http://old.test/", "B2")
	})
	r.item(t, "59: remove_proxy takes its own and leaves the others", func(r *Rig) {
		r.OK("remove_proxy", `{"hostname": "two.test"}`)
		r.Wants("http://two.test/", "default site")
		r.Wants("http://p.test/", "B1")
		if got := r.Read("app-servers.include") + r.Read("proxies.include"); strings.Contains(got, upstream("two.test")) {
			r.T.Errorf("left over in %s", got)
		}
		check := r.unchanged()
		r.OK("remove_proxy", `{"hostname": "nobody.test"}`)
		check()
	})
}

// make makes a plain proxy on Port.
func (r *Rig) make(name string, d agentapi.Destination) {
	r.T.Helper()
	r.OK("make_proxy", `{"hostname": %q, "port": %d, "backends": [{%s}]}`, name, r.Port, Wire(d))
}
