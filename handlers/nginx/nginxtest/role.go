package nginxtest

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/reeve-paas/reeve/handlers/web"
)

func roles(t *testing.T, r *Rig) {
	const table = "nginx-backends.json"
	port, other := r.roleServers("127.0.0.2", "127.0.0.3", "127.0.0.4"), r.roleServers("127.0.0.9")
	r.Coordinator.SetRole("123", web.RoleServer{InternalIP: "127.0.0.2", CloudLocation: Location})
	r.Coordinator.SetRole("7")
	r.OK("make_proxy", `{"hostname": "r.test", "port": %d, "backend_port": %d, "backend_max_fails": 2, "backends": [
		{"farm_role_id": 123}, {"farm_role_id": "7", "location": "/seven", "port": %d, "fail_timeout": "5s"}]}`, r.Port, port, other)
	r.OK("make_proxy", `{"hostname": "h.test", "port": %d, "backends": [{"host": "127.0.0.2", "port": %d}, {"host": "127.0.0.3", "port": %d}]}`, r.Port, port, port)

	r.item(t, "64: a server joins a role, with the proxy's port and options, by number and by text", func(r *Rig) {
		r.WantsAnswers("r.test", "127.0.0.2")
		r.OK("add_server_to_role", `{"server": "127.0.0.3", "role_id": 123}`)
		r.WantsAnswers("r.test", "127.0.0.2 127.0.0.3")
		r.has("app-servers.include", fmt.Sprintf("server   127.0.0.3:%d max_fails=2;", port))
		r.Idle("add_server_to_role", `{"server": "127.0.0.3", "role_id": "123"}`)
		r.OK("remove_server_from_role", `{"server": "127.0.0.3", "role_id": 123}`)
		r.OK("add_server_to_role", `{"server": "127.0.0.3", "role_id": "123"}`)
		r.WantsAnswers("r.test", "127.0.0.2 127.0.0.3")
	})
	r.item(t, "64: the placeholder goes when the first server comes", func(r *Rig) {
		r.Wants("http://r.test/seven", "No application here yet")
		r.OK("add_server_to_role", `{"server": "127.0.0.9", "role_id": "7"}`)
		r.Wants("http://r.test/seven", "127.0.0.9")
		if got := r.Read("app-servers.include"); strings.Contains(got, "127.0.0.1") || !strings.Contains(got, fmt.Sprintf("127.0.0.9:%d max_fails=2 fail_timeout=5s;", other)) {
			r.T.Errorf("got %s", got)
		}
	})
	r.item(t, "64: an unused role, no role and no server change nothing and leave nginx alone", func(r *Rig) {
		for _, method := range []string{"add_server_to_role", "remove_server_from_role"} {
			for _, params := range []string{
				`"server": "127.0.0.4", "role_id": "999"`, `"server": "127.0.0.4", "role_id": ""`, `"server": "127.0.0.4", "role_id": null`,
				`"server": "", "role_id": 123`, `"server": null, "role_id": 123`, `"server": "127.0.0.4", "role_id": 123, "update_conf": "0"`,
			} {
				r.Idle(method, "{%s}", params)
			}
		}
	})
	r.item(t, "65: an object means its address; its own port and options count", func(r *Rig) {
		r.Idle("add_server_to_role", `{"server": {"host": "127.0.0.3"}, "role_id": "123"}`)
		const whole = `{"server": {"host": "127.0.0.9", "port": %d, "weight": "3"}, "role_id": "123"}`
		r.OK("add_server_to_role", whole, other)
		r.has("app-servers.include", fmt.Sprintf("127.0.0.9:%d max_fails=2 weight=3;", other))
		r.WantsAnswers("r.test", "127.0.0.2 127.0.0.3 127.0.0.9")
		r.Idle("add_server_to_role", whole, other)
		r.Idle("remove_server_from_role", `{"server": {"host": "127.0.0.9", "port": 1}, "role_id": "123"}`)
		r.OK("remove_server_from_role", `{"server": {"host": "127.0.0.9", "port": %d}, "role_id": "123"}`, other)
		r.WantsAnswers("r.test", "127.0.0.2 127.0.0.3")
		r.Wants("http://r.test/seven", "127.0.0.9")
	})
	r.item(t, "68: role calls work after a restart of the agent", func(r *Rig) {
		r.RestartAgent()
		r.OK("add_server_to_role", `{"server": "127.0.0.4", "role_id": 123}`)
		r.WantsAnswers("r.test", "127.0.0.2 127.0.0.3 127.0.0.4")
		r.has("app-servers.include", fmt.Sprintf("127.0.0.4:%d max_fails=2;", port))
	})
	r.item(t, "68: and after the table was lost or damaged", func(r *Rig) {
		for _, damage := range []func(string) error{os.Remove, func(p string) error { return os.WriteFile(p, []byte(`{"x"`), 0o644) }} {
			if err := damage(r.Private(table)); err != nil {
				r.T.Fatal(err)
			}
			r.OK("remove_server_from_role", `{"server": "127.0.0.4", "role_id": 123}`)
			r.WantsAnswers("r.test", "127.0.0.2 127.0.0.3")
			r.OK("add_server_to_role", `{"server": "127.0.0.4", "role_id": 123}`)
			r.WantsAnswers("r.test", "127.0.0.2 127.0.0.3 127.0.0.4")
			r.has("app-servers.include", fmt.Sprintf("127.0.0.4:%d max_fails=2;", port))
		}
	})
	r.item(t, "66: the last server leaves the no-app page, and one that comes back restores service", func(r *Rig) {
		for _, addr := range []string{"127.0.0.2", "127.0.0.3", "127.0.0.4"} {
			r.OK("remove_server_from_role", `{"server": %q, "role_id": "123"}`, addr)
		}
		r.Wants("http://r.test/", "No application here yet")
		r.has("app-servers.include", upstream("r.test")+"__123 {\n   server   127.0.0.1 down;\n}")
		r.WantsAnswers("h.test", "127.0.0.2 127.0.0.3")
		r.Idle("remove_server_from_role", `{"server": "127.0.0.2", "role_id": "123"}`)
		r.OK("add_server_to_role", `{"server": "127.0.0.2", "role_id": "123"}`)
		r.WantsAnswers("r.test", "127.0.0.2")
	})
	r.item(t, "67: a server leaves every proxy, also those of plain hosts", func(r *Rig) {
		r.OK("remove_server_from_all_backends", `{"server": "127.0.0.2"}`)
		r.Wants("http://r.test/", "No application here yet")
		r.WantsAnswers("h.test", "127.0.0.3")
		for _, server := range []string{`"127.0.0.2"`, `"192.0.2.77"`, `"127.0.0.1"` /* a placeholder is no server */, `""`, `{"host": "127.0.0.3", "port": 1}`} {
			r.Idle("remove_server_from_all_backends", `{"server": %s}`, server)
		}
		r.OK("add_server_to_role", `{"server": "127.0.0.2", "role_id": "123"}`)
		r.WantsAnswers("r.test", "127.0.0.2")
	})
	r.item(t, "61: without reload traffic stays until reload_service", func(r *Rig) {
		r.OK("add_server_to_role", `{"server": "127.0.0.3", "role_id": 123, "reload_service": "0"}`)
		r.WantsAnswers("r.test", "127.0.0.2")
		r.OK("reload_service", `{}`)
		r.WantsAnswers("r.test", "127.0.0.2 127.0.0.3")
	})
	r.item(t, "a server that looks like a placeholder joins once", func(r *Rig) {
		r.OK("add_server_to_role", `{"server": "127.0.0.1 down", "role_id": 123}`)
		r.Idle("add_server_to_role", `{"server": "127.0.0.1 down", "role_id": 123}`)
		r.WantsAnswers("r.test", "127.0.0.2 127.0.0.3")
	})
	r.item(t, "74: hostile servers change nothing", func(r *Rig) {
		defer r.unchanged()()
		for _, server := range []string{"a;b", "1.2.3.4 evil", "1.2.3.4 weight=0", "x\ny;z"} {
			r.fails("ValueError: ", "add_server_to_role", `{"server": %q, "role_id": 123}`, server)
			r.fails("ValueError: ", "remove_server_from_role", `{"server": %q, "role_id": 123}`, server)
			r.fails("ValueError: ", "remove_server_from_all_backends", `{"server": %q}`, server)
		}
	})
	r.item(t, "56: a server that nginx refuses changes neither files nor table", func(r *Rig) {
		r.Refuses("host not found", "add_server_to_role", `{"server": "no-such-host.invalid", "role_id": 123}`)
	})
	r.item(t, "59: remove_proxy drops the table's entries", func(r *Rig) {
		for _, there := range []bool{true, false} {
			data, err := os.ReadFile(r.Private(table))
			if err != nil || strings.Contains(string(data), upstream("r.test")) != there {
				r.T.Errorf("got %s, %v, want it there: %v", data, err, there)
			}
			r.OK("remove_proxy", `{"hostname": "r.test"}`)
		}
		r.Idle("add_server_to_role", `{"server": "127.0.0.3", "role_id": 123}`)
	})
}
