package nginxtest

import (
	"strings"
	"testing"
)

func servers(t *testing.T, r *Rig) {
	b1, b2 := r.Backend("B1"), r.Backend("B2")
	r.make("p.test", b1)
	hash := upstream("p.test")

	r.item(t, "62: a server joins once, by name, hostname and prefix", func(r *Rig) {
		r.OK("add_server", `{"backend": %q, "server": "%s:%s"}`, hash, b2.Host, b2.Port)
		r.WantsAnswers("p.test", "B1 B2")
		check := r.unchanged()
		for _, backend := range []string{hash, hash[:8], "p.test"} {
			r.OK("add_server", `{"backend": %q, "server": "%s:%s"}`, backend, b2.Host, b2.Port)
		}
		check()
	})
	r.item(t, "62: also with options, and by prefix first", func(r *Rig) {
		for range 2 {
			r.OK("add_server", `{"backend": %q, "server": {"host": "192.0.2.9", "port": 81, "max_fails": "0", "weight": 3, "down": 1}}`, hash[:8])
		}
		if got := r.Read("app-servers.include"); strings.Count(got, "192.0.2.9") != 1 || !strings.Contains(got, "server   192.0.2.9:81 max_fails=0 down weight=3;") {
			r.T.Errorf("got %s", got)
		}
	})
	r.item(t, "62: an unknown upstream is refused", func(r *Rig) {
		r.Refuses("NoPathError: ", "add_server", `{"backend": "nope", "server": "192.0.2.9"}`)
		r.Idle("add_server", `{"backend": "nope", "server": ""}`)
	})
	r.item(t, "63: a server leaves alone", func(r *Rig) {
		r.OK("add_server", `{"backend": %q, "server": "192.0.2.90 down"}`, hash)
		r.OK("remove_server", `{"backend": %q, "server": "192.0.2.9"}`, hash)
		if got := r.Read("app-servers.include"); strings.Contains(got, "192.0.2.9:81") || !strings.Contains(got, "192.0.2.90") {
			r.T.Errorf("got %s", got)
		}
		r.OK("remove_server", `{"backend": %q, "server": "192.0.2.90"}`, hash)
		r.OK("remove_server", `{"backend": %q, "server": {"host": %q, "port": %q}}`, hash, b1.Host, b1.Port)
		r.WantsAnswers("p.test", "B2")
	})
	r.item(t, "63: the last one leaves the no-app page", func(r *Rig) {
		r.OK("remove_server", `{"backend": %q, "server": %q}`, hash, b2.Host)
		r.Wants("http://p.test/", "No application here yet")
		r.OK("remove_server", `{"backend": %q, "server": "192.0.2.77"}`, hash)
		r.Refuses("NoPathError: ", "remove_server", `{"backend": "nope", "server": "192.0.2.9"}`)
	})
	r.item(t, "63: adding one back restores service", func(r *Rig) {
		r.OK("add_server", `{"backend": "p.test", "server": {%s}}`, Wire(b1))
		r.Wants("http://p.test/", "B1")
		if got := r.Read("app-servers.include"); strings.Contains(got, "down") {
			r.T.Errorf("the placeholder is still there: %s", got)
		}
	})
	r.item(t, "74: hostile servers and backends change nothing", func(r *Rig) {
		defer r.unchanged()()
		for _, server := range []string{"a;b", "1.2.3.4 evil", "1.2.3.4 weight=0", "1.2.3.4:80x", "1.2.3.4 weight=1;}", "x\ny;z"} {
			r.fails("ValueError: ", "add_server", `{"backend": %q, "server": %q}`, hash, server)
		}
		r.fails("ValueError: ", "add_server", `{"backend": "a;b", "server": "192.0.2.9"}`)
		r.fails("ValueError: ", "add_server", `{"backend": "[a", "server": "192.0.2.9"}`)
	})
}
