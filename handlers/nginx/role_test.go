package nginx

import (
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/reeve-paas/reeve/agent/agentapi"
	"github.com/reeve-paas/reeve/handlers/web"
)

// table is the table of backends on disk.
func (n *realNginx) table() backendTable {
	n.T.Helper()
	table := backendTable{}
	if err := json.Unmarshal([]byte(n.Read("private.d/nginx-backends.json")), &table); err != nil {
		n.T.Fatal(err)
	}
	return table
}

func TestALineOfTwoDestinationsStaysForTheOther(t *testing.T) {
	t.Parallel()
	n := newRealNginx(t)
	n.Coordinator.SetRole("1", web.RoleServer{InternalIP: "192.0.2.1"}, web.RoleServer{InternalIP: "192.0.2.2"})
	n.Coordinator.SetRole("2", web.RoleServer{InternalIP: "192.0.2.2"})
	n.start()
	n.OK("make_proxy", `{"hostname": "m.test", "port": %d, "backends": [{"farm_role_id": 1}, {"farm_role_id": 2}, {"host": "192.0.2.3"}]}`, n.Port)
	lines := func(want ...string) {
		t.Helper()
		f, err := parseFile(n.Read("app-servers.include"))
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
	n.OK("remove_server_from_role", `{"server": "192.0.2.3", "role_id": "1"}`) // not of that role
	n.OK("remove_server_from_role", `{"server": "192.0.2.2", "role_id": "1"}`) // of the other too
	lines("192.0.2.1", "192.0.2.2", "192.0.2.3")
	n.OK("remove_server_from_role", `{"server": "192.0.2.2", "role_id": "2"}`)
	lines("192.0.2.1", "192.0.2.3")
	n.OK("add_server", `{"backend": "m.test", "server": "192.0.2.9", "update_backend_table": "1"}`)
	if got := n.table()[hashName("m.test")+"__1_2"].Destinations; len(got) != 4 || got[3].Host != "192.0.2.9" {
		t.Errorf("update_backend_table: got %+v", got)
	}
	n.OK("remove_server", `{"backend": "m.test", "server": "192.0.2.9", "update_backend_table": 1}`)
	if got := n.table()[hashName("m.test")+"__1_2"].Destinations; len(got) != 3 {
		t.Errorf("update_backend_table: got %+v", got)
	}
	// Without a table nobody knows whose a server is, so the caller is believed.
	if err := os.Remove(n.tablePath()); err != nil {
		t.Fatal(err)
	}
	n.OK("remove_server_from_role", `{"server": "192.0.2.1", "role_id": "2"}`)
	lines("192.0.2.3")
	n.OK("add_server_to_role", `{"server": "192.0.2.4", "role_id": "2"}`)
	n.OK("add_server_to_role", `{"server": "192.0.2.4", "role_id": "1"}`)
	lines("192.0.2.3", "192.0.2.4")
}

// An older agent's files name roles only in the names of upstreams, and mark no placeholder.
func TestRolesOfAnOlderAgentsFiles(t *testing.T) {
	t.Parallel()
	n := newRealNginx(t)
	hash, odd := hashName("old.test"), hashName("~ x")[:12]
	n.Write("app-servers.include", fmt.Sprintf("upstream %s__123 {\n  server 127.0.0.1:8000;\n}\nupstream %s_a_b__5_6 {\n  server 192.0.2.5:81 max_fails=3 weight=2;\n}\n"+
		"upstream %s_%s__8 {\n  server 192.0.2.8;\n}\nupstream %s_x__9 {\n  server 192.0.2.6;\n}\n", hash, hash, hash, odd, hash))
	n.Write("proxies.include", fmt.Sprintf("server {\n  listen %d;\n  server_name old.test;\n  location / { proxy_pass http://%s__123; }\n  location /a/b { proxy_pass http://%s_a_b__5_6; }\n"+
		"  location ~ x { proxy_pass http://%s_%s__8; }\n  location /x__9 { proxy_pass http://%s_x__9; }\n}\n", n.Port, hash, hash, hash, odd, hash))
	n.start()
	n.OK("add_server_to_role", `{"server": "192.0.2.1", "role_id": 123}`)
	n.OK("add_server_to_role", `{"server": "192.0.2.6", "role_id": 6}`)
	n.OK("remove_server_from_role", `{"server": "192.0.2.8", "role_id": 8}`)
	n.Idle("remove_server_from_role", `{"server": "192.0.2.6", "role_id": 9}`) // 9 is of the location's URI
	for _, want := range []string{"{\n   server   192.0.2.1:8000;\n}", "server   192.0.2.6:81 max_fails=3 weight=2;", "server   127.0.0.1 down;"} {
		if got := n.Read("app-servers.include"); !strings.Contains(got, want) {
			t.Errorf("%q is missing in %s", want, got)
		}
	}
	n.OK("remove_server_from_all_backends", `{"server": "192.0.2.5"}`)
	if got := n.Read("app-servers.include"); strings.Contains(got, "192.0.2.5") {
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
