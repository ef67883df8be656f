package nginx

import (
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/reeve-paas/reeve/agent/agentapi"
	"github.com/reeve-paas/reeve/handlers/web"
	"github.com/reeve-paas/reeve/handlers/web/webtest"
)

// roleServers are backends that share a port, as the servers of a role do. Each answers with its address.
func roleServers(t testing.TB, addresses ...string) (port int) {
	t.Helper()
	port = webtest.FreePort(t)
	for _, addr := range addresses {
		ln, err := net.Listen("tcp", fmt.Sprintf("%s:%d", addr, port))
		if err != nil {
			t.Skipf("%s cannot be used on this host: %v", addr, err)
		}
		srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, addr) }))
		srv.Listener.Close()
		srv.Listener = ln
		srv.Start()
		t.Cleanup(srv.Close)
	}
	return port
}

// answers are the backends that answer for a host name, sorted.
func (n *realNginx) answers(name string) string {
	n.t.Helper()
	seen := []string{}
	for range 6 {
		if body := n.get("http://" + name + "/").Body; !slices.Contains(seen, body) {
			seen = append(seen, body)
		}
	}
	slices.Sort(seen)
	return strings.Join(seen, " ")
}

func (n *realNginx) wantsAnswers(name, want string) {
	n.t.Helper()
	if got := n.answers(name); got != want {
		n.t.Errorf("%s: got answers %q, want %q; upstreams:\n%s", name, got, want, n.read("app-servers.include"))
	}
}

// idle makes a call that must succeed without touching a file or nginx.
func (n *realNginx) idle(method, params string, args ...any) {
	n.t.Helper()
	before := n.tree()
	n.units.Calls()
	n.ok(method, params, args...)
	if calls := n.units.Calls(); len(calls) != 0 {
		n.t.Errorf("%s: got %q, want nginx left alone", method, calls)
	}
	if after := n.tree(); after != before {
		n.t.Errorf("%s: files changed:\n%s\nwant\n%s", method, after, before)
	}
}

// table is the table of backends on disk.
func (n *realNginx) table() backendTable {
	n.t.Helper()
	table := backendTable{}
	if err := json.Unmarshal([]byte(n.read("private.d/nginx-backends.json")), &table); err != nil {
		n.t.Fatal(err)
	}
	return table
}

func TestConformanceRoles(t *testing.T) {
	t.Parallel()
	n := newRealNginx(t).start()
	port := roleServers(t, "127.0.0.2", "127.0.0.3", "127.0.0.4")
	b9 := roleServers(t, "127.0.0.9")
	hash := hashName("r.test")
	n.roles["123"] = []web.RoleServer{{InternalIP: "127.0.0.2", CloudLocation: "here"}}
	n.ok("make_proxy", `{"hostname": "r.test", "port": %d, "backend_port": %d, "backend_max_fails": 2, "backends": [
		{"farm_role_id": 123}, {"farm_role_id": "7", "location": "/seven", "port": %d, "fail_timeout": "5s"}]}`, n.port, port, b9)
	n.ok("make_proxy", `{"hostname": "h.test", "port": %d, "backends": [{"host": "127.0.0.2", "port": %d}, {"host": "127.0.0.3", "port": %d}]}`, n.port, port, port)

	t.Run("64: a server joins a role, with the proxy's port and options, by number and by text", func(t *testing.T) {
		n.wantsAnswers("r.test", "127.0.0.2")
		n.ok("add_server_to_role", `{"server": "127.0.0.3", "role_id": 123}`)
		n.wantsAnswers("r.test", "127.0.0.2 127.0.0.3")
		if want := fmt.Sprintf("server   127.0.0.3:%d max_fails=2;", port); !strings.Contains(n.read("app-servers.include"), want) {
			t.Errorf("%q is missing in %s", want, n.read("app-servers.include"))
		}
		n.idle("add_server_to_role", `{"server": "127.0.0.3", "role_id": "123"}`)
		n.idle("add_server_to_role", `{"server": {"host": "127.0.0.3"}, "role_id": "123"}`)
	})
	t.Run("64: the placeholder goes when the first server comes", func(t *testing.T) {
		n.wants("http://r.test/seven", "No application here yet")
		n.ok("add_server_to_role", `{"server": "127.0.0.9", "role_id": "7"}`)
		n.wants("http://r.test/seven", "127.0.0.9")
		if got := n.read("app-servers.include"); strings.Contains(got, "127.0.0.1") || !strings.Contains(got, fmt.Sprintf("127.0.0.9:%d max_fails=2 fail_timeout=5s;", b9)) {
			t.Errorf("got %s", got)
		}
	})
	t.Run("64: an unused role, no role and no server change nothing and leave nginx alone", func(t *testing.T) {
		for _, method := range []string{"add_server_to_role", "remove_server_from_role"} {
			n.idle(method, `{"server": "127.0.0.4", "role_id": "999"}`)
			n.idle(method, `{"server": "127.0.0.4", "role_id": ""}`)
			n.idle(method, `{"server": "127.0.0.4", "role_id": null}`)
			n.idle(method, `{"server": "", "role_id": 123}`)
			n.idle(method, `{"server": null, "role_id": 123}`)
			n.idle(method, `{"server": "127.0.0.4", "role_id": 123, "update_conf": "0"}`)
		}
	})
	t.Run("65: an object's own port and options count", func(t *testing.T) {
		n.ok("add_server_to_role", `{"server": {"host": "127.0.0.9", "port": %d, "weight": "3"}, "role_id": "123"}`, b9)
		if want := fmt.Sprintf("127.0.0.9:%d max_fails=2 weight=3;", b9); !strings.Contains(n.read("app-servers.include"), want) {
			t.Errorf("%q is missing in %s", want, n.read("app-servers.include"))
		}
		n.idle("add_server_to_role", `{"server": {"host": "127.0.0.9", "port": %d, "weight": "3"}, "role_id": "123"}`, b9)
		n.idle("remove_server_from_role", `{"server": {"host": "127.0.0.9", "port": 1}, "role_id": "123"}`)
		n.ok("remove_server_from_role", `{"server": {"host": "127.0.0.9", "port": %d}, "role_id": "123"}`, b9)
		n.wantsAnswers("r.test", "127.0.0.2 127.0.0.3")
		n.wants("http://r.test/seven", "127.0.0.9")
	})
	t.Run("68: role calls work after a restart of the agent", func(t *testing.T) {
		n.Service = n.newService()
		if err := n.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		n.ok("add_server_to_role", `{"server": "127.0.0.4", "role_id": 123}`)
		n.wantsAnswers("r.test", "127.0.0.2 127.0.0.3 127.0.0.4")
		if got := n.table()[hash+"__123"].Destinations[0].Servers; !slices.Equal(got, []string{"127.0.0.2", "127.0.0.3", "127.0.0.4"}) {
			t.Errorf("the table has %q", got)
		}
	})
	t.Run("68: and after the table was lost or damaged", func(t *testing.T) {
		for i, damage := range []func(string) error{os.Remove, func(p string) error { return os.WriteFile(p, []byte(`{"x"`), 0o644) }} {
			if err := damage(filepath.Join(n.dir, "private.d/nginx-backends.json")); err != nil {
				t.Fatal(err)
			}
			n.ok("remove_server_from_role", `{"server": "127.0.0.4", "role_id": 123}`)
			n.wantsAnswers("r.test", "127.0.0.2 127.0.0.3")
			n.ok("add_server_to_role", `{"server": "127.0.0.4", "role_id": 123}`)
			n.wantsAnswers("r.test", "127.0.0.2 127.0.0.3 127.0.0.4")
			if want := fmt.Sprintf("127.0.0.4:%d max_fails=2;", port); !strings.Contains(n.read("app-servers.include"), want) {
				t.Errorf("damage %d: %q is missing in %s", i, want, n.read("app-servers.include"))
			}
		}
	})
	t.Run("66: the last server leaves the no-app page, and one that comes back restores service", func(t *testing.T) {
		for _, addr := range []string{"127.0.0.2", "127.0.0.3", "127.0.0.4"} {
			n.ok("remove_server_from_role", `{"server": %q, "role_id": "123"}`, addr)
		}
		n.wants("http://r.test/", "No application here yet")
		n.wantsAnswers("h.test", "127.0.0.2 127.0.0.3")
		n.idle("remove_server_from_role", `{"server": "127.0.0.2", "role_id": "123"}`)
		n.ok("add_server_to_role", `{"server": "127.0.0.2", "role_id": "123"}`)
		n.wantsAnswers("r.test", "127.0.0.2")
	})
	t.Run("67: a server leaves every proxy, also those of plain hosts", func(t *testing.T) {
		n.ok("remove_server_from_all_backends", `{"server": "127.0.0.2"}`)
		n.wants("http://r.test/", "No application here yet")
		n.wantsAnswers("h.test", "127.0.0.3")
		n.idle("remove_server_from_all_backends", `{"server": "127.0.0.2"}`)
		n.idle("remove_server_from_all_backends", `{"server": "192.0.2.77"}`)
		n.idle("remove_server_from_all_backends", `{"server": "127.0.0.1"}`) // a placeholder is no server
		n.idle("remove_server_from_all_backends", `{"server": ""}`)
		n.idle("remove_server_from_all_backends", `{"server": {"host": "127.0.0.3", "port": 1}}`)
		n.ok("add_server_to_role", `{"server": "127.0.0.2", "role_id": "123"}`)
		n.wantsAnswers("r.test", "127.0.0.2")
	})
	t.Run("without reload traffic stays until reload_service", func(t *testing.T) {
		n.ok("add_server_to_role", `{"server": "127.0.0.3", "role_id": 123, "reload_service": "0"}`)
		n.wantsAnswers("r.test", "127.0.0.2")
		n.ok("reload_service", `{}`)
		n.wantsAnswers("r.test", "127.0.0.2 127.0.0.3")
	})
	t.Run("a server that looks like a placeholder joins once", func(t *testing.T) {
		n.ok("add_server_to_role", `{"server": "127.0.0.1 down", "role_id": 123}`)
		n.idle("add_server_to_role", `{"server": "127.0.0.1 down", "role_id": 123}`)
		n.wantsAnswers("r.test", "127.0.0.2 127.0.0.3")
	})
	t.Run("hostile servers change nothing", func(t *testing.T) {
		for _, server := range []string{"a;b", "1.2.3.4 evil", "1.2.3.4 weight=0", "x\ny;z"} {
			n.refuses("ValueError: ", "add_server_to_role", `{"server": %q, "role_id": 123}`, server)
			n.refuses("ValueError: ", "remove_server_from_role", `{"server": %q, "role_id": 123}`, server)
			n.refuses("ValueError: ", "remove_server_from_all_backends", `{"server": %q}`, server)
		}
	})
	t.Run("a server that nginx refuses changes neither files nor table", func(t *testing.T) {
		n.refuses("host not found", "add_server_to_role", `{"server": "no-such-host.invalid", "role_id": 123}`)
	})
	t.Run("remove_proxy drops the table's entries", func(t *testing.T) {
		n.ok("remove_proxy", `{"hostname": "r.test"}`)
		for name := range n.table() {
			if strings.HasPrefix(name, hash) {
				t.Errorf("%s is left over", name)
			}
		}
		n.idle("add_server_to_role", `{"server": "127.0.0.3", "role_id": 123}`)
	})
}

func TestALineOfTwoDestinationsStaysForTheOther(t *testing.T) {
	t.Parallel()
	n := newRealNginx(t)
	n.roles["1"] = []web.RoleServer{{InternalIP: "192.0.2.1"}, {InternalIP: "192.0.2.2"}}
	n.roles["2"] = []web.RoleServer{{InternalIP: "192.0.2.2"}}
	n.start()
	n.ok("make_proxy", `{"hostname": "m.test", "port": %d, "backends": [{"farm_role_id": 1}, {"farm_role_id": 2}, {"host": "192.0.2.3"}]}`, n.port)
	lines := func(want ...string) {
		t.Helper()
		f, err := parseFile(n.read("app-servers.include"))
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, s := range servers(f.items[0].n) {
			got = append(got, s.address())
		}
		if !slices.Equal(got, want) {
			t.Errorf("got %q, want %q", got, want)
		}
	}
	n.ok("remove_server_from_role", `{"server": "192.0.2.3", "role_id": "1"}`) // not of that role
	n.ok("remove_server_from_role", `{"server": "192.0.2.2", "role_id": "1"}`) // of the other too
	lines("192.0.2.1", "192.0.2.2", "192.0.2.3")
	n.ok("remove_server_from_role", `{"server": "192.0.2.2", "role_id": "2"}`)
	lines("192.0.2.1", "192.0.2.3")
	n.ok("add_server", `{"backend": "m.test", "server": "192.0.2.9", "update_backend_table": "1"}`)
	if got := n.table()[hashName("m.test")+"__1_2"].Destinations; len(got) != 4 || got[3].Host != "192.0.2.9" {
		t.Errorf("update_backend_table: got %+v", got)
	}
	n.ok("remove_server", `{"backend": "m.test", "server": "192.0.2.9", "update_backend_table": 1}`)
	if got := n.table()[hashName("m.test")+"__1_2"].Destinations; len(got) != 3 {
		t.Errorf("update_backend_table: got %+v", got)
	}
	// Without a table nobody knows whose a server is, so the caller is believed.
	if err := os.Remove(n.tablePath()); err != nil {
		t.Fatal(err)
	}
	n.ok("remove_server_from_role", `{"server": "192.0.2.1", "role_id": "2"}`)
	lines("192.0.2.3")
	n.ok("add_server_to_role", `{"server": "192.0.2.4", "role_id": "2"}`)
	n.ok("add_server_to_role", `{"server": "192.0.2.4", "role_id": "1"}`)
	lines("192.0.2.3", "192.0.2.4")
}

// An older agent's files name roles only in the names of upstreams, and mark no placeholder.
func TestRolesOfAnOlderAgentsFiles(t *testing.T) {
	t.Parallel()
	n := newRealNginx(t)
	hash, odd := hashName("old.test"), hashName("~ x")[:12]
	n.write("app-servers.include", fmt.Sprintf("upstream %s__123 {\n  server 127.0.0.1:8000;\n}\nupstream %s_a_b__5_6 {\n  server 192.0.2.5:81 max_fails=3 weight=2;\n}\n"+
		"upstream %s_%s__8 {\n  server 192.0.2.8;\n}\nupstream %s_x__9 {\n  server 192.0.2.6;\n}\n", hash, hash, hash, odd, hash))
	n.write("proxies.include", fmt.Sprintf("server {\n  listen %d;\n  server_name old.test;\n  location / { proxy_pass http://%s__123; }\n  location /a/b { proxy_pass http://%s_a_b__5_6; }\n"+
		"  location ~ x { proxy_pass http://%s_%s__8; }\n  location /x__9 { proxy_pass http://%s_x__9; }\n}\n", n.port, hash, hash, hash, odd, hash))
	n.start()
	n.ok("add_server_to_role", `{"server": "192.0.2.1", "role_id": 123}`)
	n.ok("add_server_to_role", `{"server": "192.0.2.6", "role_id": 6}`)
	n.ok("remove_server_from_role", `{"server": "192.0.2.8", "role_id": 8}`)
	n.idle("remove_server_from_role", `{"server": "192.0.2.6", "role_id": 9}`) // 9 is of the location's URI
	for _, want := range []string{"{\n   server   192.0.2.1:8000;\n}", "server   192.0.2.6:81 max_fails=3 weight=2;", "server   127.0.0.1 down;"} {
		if got := n.read("app-servers.include"); !strings.Contains(got, want) {
			t.Errorf("%q is missing in %s", want, got)
		}
	}
	n.ok("remove_server_from_all_backends", `{"server": "192.0.2.5"}`)
	if got := n.read("app-servers.include"); strings.Contains(got, "192.0.2.5") {
		t.Errorf("got %s", got)
	}
}

func TestRolesOfName(t *testing.T) {
	h := hashName("t.test")
	for _, c := range []struct {
		name, uri string
		want      []string
	}{
		{h + "__1", "/", []string{"1"}},
		{h + "_a__1_b-2", "/a/", []string{"1", "b-2"}},
		{"t.test_x__7", "/x", []string{"7"}},
		{h, "/", nil},
		{h + "_a", "/a", nil},
		{h + "__", "/", nil},
		{h + "__1", "/a", nil},
		{h + "__1__2", "/", nil},
		{hashName("other.test") + "__1", "/", nil},
	} {
		if got := rolesOfName(c.name, "t.test", c.uri); !slices.Equal(got, c.want) {
			t.Errorf("%s at %s: got %q, want %q", c.name, c.uri, got, c.want)
		}
	}
	for _, uri := range []string{"/", "/a/b", `~ "x y"`, "= /z"} {
		group := []agentapi.Destination{{FarmRoleID: "12"}, {Host: "h"}, {FarmRoleID: "3-4"}}
		if got := rolesOfName(upstreamName(h, uri, group, map[string]bool{}), "t.test", uri); !slices.Equal(got, []string{"12", "3-4"}) {
			t.Errorf("%s: got %q", uri, got)
		}
	}
}
