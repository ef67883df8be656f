package nginx

import (
	"bytes"
	"crypto/sha256"
	"crypto/tls"
	"encoding/pem"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/reeve-paas/reeve/agent/agentapi"
	"github.com/reeve-paas/reeve/handlers"
	"github.com/reeve-paas/reeve/handlers/web"
	"github.com/reeve-paas/reeve/handlers/web/webtest"
)

// The numbers are those of the conformance checklist of spec agent-web 7. Every test runs the real nginx.

// call makes an RPC by its wire form.
func (n *realNginx) call(method, params string, args ...any) error {
	n.t.Helper()
	result, err := n.Methods()[method].Call(n.t.Context(), fmt.Appendf(nil, params, args...))
	if err == nil && result != (handlers.Null{}) {
		n.t.Errorf("%s: got result %v, want null", method, result)
	}
	return err
}

func (n *realNginx) ok(method, params string, args ...any) {
	n.t.Helper()
	if err := n.call(method, params, args...); err != nil {
		n.t.Errorf("%s: %v", method, err)
	}
}

// refuses makes a call that must fail with a text and change no file.
func (n *realNginx) refuses(want, method, params string, args ...any) {
	n.t.Helper()
	before := n.tree()
	if err := n.call(method, params, args...); err == nil || !strings.Contains(err.Error(), want) {
		n.t.Errorf("%s %.200s: got error %v, want one with %q", method, fmt.Sprintf(params, args...), err, want)
	}
	if after := n.tree(); after != before {
		n.t.Errorf("files changed:\n%s\nwant\n%s", after, before)
	}
}

func (n *realNginx) tree() string {
	n.t.Helper()
	var b strings.Builder
	err := filepath.WalkDir(n.dir, func(p string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() && d.Name() == "tmp" {
			return filepath.SkipDir
		}
		if d.IsDir() || strings.HasSuffix(p, ".log") {
			fmt.Fprintln(&b, p)
			return nil
		}
		st, err := d.Info()
		if err != nil {
			return err
		}
		data, err := os.ReadFile(p)
		fmt.Fprintf(&b, "%s %s %q\n", p, st.Mode(), data)
		return err
	})
	if err != nil {
		n.t.Fatal(err)
	}
	return b.String()
}

// wire is a destination as JSON members.
func wire(d agentapi.Destination) string {
	return fmt.Sprintf(`"host": %q, "port": %q`, d.Host, d.Port)
}

func TestConformanceMakeProxy(t *testing.T) {
	t.Parallel()
	n := newRealNginx(t).start()
	b1, b2 := backend(t, "B1"), backend(t, "B2")

	t.Run("40, 41: the backend is reached, with the client's headers", func(t *testing.T) {
		n.ok("make_proxy", `{"hostname": "p.test", "port": %d, "backends": [{%s}]}`, n.port, wire(b1))
		n.wants("http://p.test/x?y=1", "B1 /x?y=1 host=p.test real=127.0.0.1 for=127.0.0.1")
		if want := "upstream " + hashName("p.test") + " {"; !strings.Contains(n.read("app-servers.include"), want) {
			t.Errorf("got %s, want %s", n.read("app-servers.include"), want)
		}
	})
	t.Run("42: locations reach their own backends", func(t *testing.T) {
		n.ok("make_proxy", `{"hostname": "two.test", "port": "%d", "backends": [{%s, "location": "/"}, {%s, "location": "/api"}]}`, n.port, wire(b1), wire(b2))
		n.wants("http://two.test/z", "B1 /z")
		n.wants("http://two.test/api/z", "B2 /api/z")
	})
	t.Run("43, 44: a role's servers are looked up, by network", func(t *testing.T) {
		n.roles["123"] = []web.RoleServer{{InternalIP: "127.0.0.1", ExternalIP: "192.0.2.1", CloudLocation: "here"}, {InternalIP: "192.0.2.3", ExternalIP: "127.0.0.2", CloudLocation: "there"}}
		for network, want := range map[string][]string{"": {"127.0.0.1", "127.0.0.2"}, `, "network": "public"`: {"192.0.2.1", "127.0.0.2"}, `, "network": "private"`: {"127.0.0.1", "192.0.2.3"}} {
			n.ok("make_proxy", `{"hostname": "role.test", "port": %d, "backends": [{"farm_role_id": 123, "port": 8000%s}]}`, n.port, network)
			for _, addr := range want {
				if line := "server   " + addr + ":8000;"; !strings.Contains(n.read("app-servers.include"), line) {
					t.Errorf("%s: %q is missing in %s", network, line, n.read("app-servers.include"))
				}
			}
		}
		if want := hashName("role.test") + "__123 {"; !strings.Contains(n.read("app-servers.include"), want) {
			t.Errorf("no upstream %s", want)
		}
	})
	t.Run("45: a role without servers shows the no-app page, on any port and with any template", func(t *testing.T) {
		for _, extra := range []string{"", `, "backend_port": 8000`, `, "templates": [{"server": "1", "content": "client_max_body_size 1m;"}]`} {
			n.ok("make_proxy", `{"hostname": "empty.test", "port": %d, "backends": [{"farm_role_id": "9"}]%s}`, n.port, extra)
			n.wants("http://empty.test/x", "No application here yet")
		}
		if !strings.Contains(n.read("app-servers.include"), "127.0.0.1") {
			t.Error("no placeholder")
		}
	})
	t.Run("roles without a source are refused", func(t *testing.T) {
		n.Service.roles = nil
		n.refuses("this agent knows no roles", "make_proxy", `{"hostname": "r.test", "backends": [{"farm_role_id": 1}]}`)
		n.Service.roles = n.roles
	})
	t.Run("47: a backup serves while the primary is down", func(t *testing.T) {
		gone := webtest.FreePort(t)
		n.ok("make_proxy", `{"hostname": "b.test", "port": %d, "backends": [{%s}, {%s, "backup": "1"}]}`, n.port, wire(b1), wire(b2))
		n.wants("http://b.test/", "B1")
		n.ok("make_proxy", `{"hostname": "b.test", "port": %d, "backends": [{"host": "127.0.0.1", "port": %d}, {%s, "backup": "1"}]}`, n.port, gone, wire(b2))
		n.wants("http://b.test/", "B2")
		n.ok("make_proxy", `{"hostname": "b.test", "port": %d, "backends": [{%s, "down": "1"}, {%s}]}`, n.port, wire(b1), wire(b2))
		n.wants("http://b.test/", "B2")
	})
	t.Run("48: ip_hash with a backup is refused and the previous proxy lives", func(t *testing.T) {
		n.refuses("PopenError: ", "make_proxy", `{"hostname": "p.test", "port": %d, "backend_ip_hash": "1", "backends": [{%s}, {%s, "backup": true}]}`, n.port, wire(b1), wire(b2))
		n.wants("http://p.test/", "B1")
		n.ok("make_proxy", `{"hostname": "p.test", "port": %d, "backend_ip_hash": "1", "backends": [{%s}]}`, n.port, wire(b1))
		n.wants("http://p.test/", "B1")
	})
	t.Run("49: options render alike as text and number", func(t *testing.T) {
		for _, opts := range []string{`"max_fails": "3", "fail_timeout": "10", "weight": "5"`, `"max_fails": 3, "fail_timeout": 10, "weight": 5`, `"max_fails": 3, "fail_timeout": "10s", "weight": 5`} {
			n.ok("make_proxy", `{"hostname": "o.test", "port": %d, "backends": [{"host": "::1", "port": 81, %s}]}`, n.port, opts)
			if want := "server   [::1]:81 max_fails=3 fail_timeout=10s weight=5;"; !strings.Contains(n.read("app-servers.include"), want) {
				t.Errorf("got %s, want %s", n.read("app-servers.include"), want)
			}
		}
	})
	t.Run("50: errors of the backend get our pages", func(t *testing.T) {
		if r := n.get("http://p.test/fail"); r.Status != 500 || !strings.Contains(r.Body, "Something went wrong") {
			t.Errorf("got %d %s", r.Status, r.Body)
		}
		n.ok("make_proxy", `{"hostname": "down.test", "port": %d, "backends": [{"host": "127.0.0.1", "port": %d}]}`, n.port, webtest.FreePort(t))
		if r := n.get("http://down.test/"); r.Status != 502 || !strings.Contains(r.Body, "Not available") {
			t.Errorf("got %d %s", r.Status, r.Body)
		}
	})
	t.Run("54, 55: equal ports and no destinations are refused", func(t *testing.T) {
		n.refuses("Exception: HTTP and HTTPS ports are equal", "make_proxy", `{"hostname": "p.test", "port": 80, "ssl_port": "80", "ssl": 1, "backends": [{%s}]}`, wire(b1))
		n.refuses("Exception: no destinations", "make_proxy", `{"hostname": "p.test", "backends": []}`)
		n.refuses("Exception: ", "make_proxy", `{"hostname": "p.test", "backends": [{"port": 80}]}`)
	})
	t.Run("56: what nginx refuses changes nothing", func(t *testing.T) {
		n.refuses("host not found", "make_proxy", `{"hostname": "p.test", "port": %d, "backends": [{"host": "no-such-host.invalid"}]}`, n.port)
		n.refuses("ValueError: invalid port", "make_proxy", `{"hostname": "p.test", "backends": [{"host": "127.0.0.1", "port": "80x"}]}`)
		n.refuses("ParseError: ", "make_proxy", `{"hostname": "p.test", "backends": [{%s}], "templates": [{"server": 1, "content": "} server {"}]}`, wire(b1))
		n.refuses("PopenError: ", "make_proxy", `{"hostname": "p.test", "port": %d, "backends": [{%s}], "templates": [{"server": 1, "content": "bogus on;"}]}`, n.port, wire(b1))
		n.refuses("proxies.include:", "make_proxy", `{"hostname": "p.test", "port": %d, "backends": [{%s}], "templates": [{"server": 1, "content": "bogus on;"}]}`, n.port, wire(b1))
		n.refuses("ParseError: ", "make_proxy", `{"hostname": "p.test", "backends": [{%s}], "templates": [{"server": 1, "content": "content_by_lua_block { x }"}]}`, wire(b1))
		n.wants("http://p.test/", "B1")
		n.wants("http://two.test/api/", "B2")
	})
	t.Run("57: a second call replaces, without leftovers", func(t *testing.T) {
		n.ok("make_proxy", `{"hostname": "two.test", "port": %d, "backends": [{%s}]}`, n.port, wire(b2))
		n.wants("http://two.test/", "B2")
		if got := n.read("app-servers.include"); strings.Contains(got, hashName("two.test")+"_api") || strings.Count(got, hashName("two.test")) != 1 {
			t.Errorf("got %s", got)
		}
		before := n.tree()
		n.ok("make_proxy", `{"hostname": "two.test", "port": %d, "backends": [{%s}]}`, n.port, wire(b2))
		if n.tree() != before {
			t.Error("the same call again changed files")
		}
	})
	t.Run("58: templates", func(t *testing.T) {
		n.ok("make_proxy", `{"hostname": "t.test", "port": %d, "backends": [{%s}, {%s, "location": "/api"}], "templates": [
			{"server": "1", "content": "server { server_name wrong.test; add_header X-Server yes always; proxy_set_header Host template.test; location /api { return 403; } location /static { return 204; } }"},
			{"location": "/api", "content": "proxy_set_header X-Real-IP 192.0.2.9;"}]}`, n.port, wire(b1), wire(b2))
		if r := n.get("http://t.test/"); r.Header.Get("X-Server") != "yes" || !strings.Contains(r.Body, "host=template.test") {
			t.Errorf("got %v %s", r.Header, r.Body)
		}
		n.wants("http://t.test/api", "real=192.0.2.9")
		if r := n.get("http://t.test/static"); r.Status != 204 {
			t.Errorf("got %d", r.Status)
		}
	})
	t.Run("61: without reload traffic stays until reload_service", func(t *testing.T) {
		n.ok("make_proxy", `{"hostname": "late.test", "port": %d, "backends": [{%s}], "reload_service": "0"}`, n.port, wire(b1))
		n.wants("http://late.test/", "default site")
		n.ok("reload_service", `{}`)
		n.wants("http://late.test/", "B1")
	})
	t.Run("74: hostile text changes nothing", func(t *testing.T) {
		for _, name := range []string{`a; }`, "../x", "a\nb", "a{", `a\"`, "$host", "", strings.Repeat("a.", 150), "a b", "~^x"} {
			n.refuses("ValueError: ", "make_proxy", `{"hostname": %q, "backends": [{%s}]}`, name, wire(b1))
		}
		for _, location := range []string{"/{", "@x", "/a;b", "/a b", "x", "~ a{2}", `~ "a`, `= x`, "/a\n}", `/a"`, "/a#b", `/\\`, "~ a;"} {
			n.refuses("ValueError: ", "make_proxy", `{"hostname": "p.test", "backends": [{%s, "location": %q}]}`, wire(b1), location)
		}
		for _, host := range []string{"1.2.3.4 backup; server evil", "a;b", "unix:/x", "fe80::1%eth0", "a/b", "*.x"} {
			n.refuses("ValueError: ", "make_proxy", `{"hostname": "p.test", "backends": [{"host": %q}]}`, host)
		}
	})
	t.Run("unknown members are ignored, and callers of older agents are understood", func(t *testing.T) {
		n.ok("make_proxy", `{"hostname": "old.test", "port": %d, "servers": ["%s:%s"], "restart_service": 1, "grace": 5, "http": null}`, n.port, b2.Host, b2.Port)
		n.wants("http://old.test/", "B2")
	})
	t.Run("59: remove_proxy takes its own and leaves the others", func(t *testing.T) {
		n.ok("remove_proxy", `{"hostname": "two.test"}`)
		n.wants("http://two.test/", "default site")
		n.wants("http://p.test/", "B1")
		if got := n.read("app-servers.include") + n.read("proxies.include"); strings.Contains(got, hashName("two.test")) {
			t.Errorf("left over in %s", got)
		}
		n.ok("remove_proxy", `{"hostname": "nobody.test"}`)
	})
}

func TestConformanceServers(t *testing.T) {
	t.Parallel()
	n := newRealNginx(t).start()
	b1, b2 := backend(t, "B1"), backend(t, "B2")
	n.make(n.params("p.test", b1))
	hash := hashName("p.test")
	answers := func() string {
		seen := map[string]bool{}
		for range 6 {
			seen[strings.Fields(n.get("http://p.test/").Body)[0]] = true
		}
		names := []string{}
		for name := range seen {
			names = append(names, name)
		}
		slices.Sort(names)
		return strings.Join(names, " ")
	}

	t.Run("62: a server joins once, by name, hostname and prefix", func(t *testing.T) {
		n.ok("add_server", `{"backend": %q, "server": "%s:%s"}`, hash, b2.Host, b2.Port)
		if got := answers(); got != "B1 B2" {
			t.Errorf("got %s, want B1 B2", got)
		}
		for _, backend := range []string{hash, hash[:8], "p.test"} {
			before := n.tree()
			n.ok("add_server", `{"backend": %q, "server": "%s:%s"}`, backend, b2.Host, b2.Port)
			if n.tree() != before {
				t.Errorf("%s: a repeated call changed files", backend)
			}
		}
		for range 2 {
			n.ok("add_server", `{"backend": %q, "server": {"host": "192.0.2.9", "port": 81, "max_fails": "0", "weight": 3, "down": 1}}`, hash)
		}
		if got := n.read("app-servers.include"); strings.Count(got, "192.0.2.9") != 1 || !strings.Contains(got, "server   192.0.2.9:81 max_fails=0 down weight=3;") {
			t.Errorf("got %s", got)
		}
		n.refuses("NoPathError: ", "add_server", `{"backend": "nope", "server": "192.0.2.9"}`)
		n.ok("add_server", `{"backend": "nope", "server": ""}`)
	})
	t.Run("63: a server leaves alone, and the last one leaves the no-app page", func(t *testing.T) {
		n.ok("add_server", `{"backend": %q, "server": "192.0.2.90 down"}`, hash)
		n.ok("remove_server", `{"backend": %q, "server": "192.0.2.9"}`, hash)
		if got := n.read("app-servers.include"); strings.Contains(got, "192.0.2.9:81") || !strings.Contains(got, "192.0.2.90") {
			t.Errorf("got %s", got)
		}
		n.ok("remove_server", `{"backend": %q, "server": "192.0.2.90"}`, hash)
		n.ok("remove_server", `{"backend": %q, "server": {"host": %q, "port": %q}}`, hash, b1.Host, b1.Port)
		if got := answers(); got != "B2" {
			t.Errorf("got %s, want B2", got)
		}
		n.ok("remove_server", `{"backend": %q, "server": %q}`, hash, b2.Host)
		n.wants("http://p.test/", "No application here yet")
		n.ok("remove_server", `{"backend": %q, "server": "192.0.2.77"}`, hash)
		n.refuses("NoPathError: ", "remove_server", `{"backend": "nope", "server": "192.0.2.9"}`)
	})
	t.Run("adding one back restores service", func(t *testing.T) {
		n.ok("add_server", `{"backend": "p.test", "server": {%s}}`, wire(b1))
		n.wants("http://p.test/", "B1")
		if got := n.read("app-servers.include"); strings.Contains(got, "down") {
			t.Errorf("the placeholder is still there: %s", got)
		}
	})
	t.Run("hostile servers and backends change nothing", func(t *testing.T) {
		for _, server := range []string{"a;b", "1.2.3.4 evil", "1.2.3.4 weight=0", "1.2.3.4:80x", "1.2.3.4 weight=1;}", "x\ny;z"} {
			n.refuses("ValueError: ", "add_server", `{"backend": %q, "server": %q}`, hash, server)
		}
		n.refuses("ValueError: ", "add_server", `{"backend": "a;b", "server": "192.0.2.9"}`)
		n.refuses("ValueError: ", "add_server", `{"backend": "[a", "server": "192.0.2.9"}`)
	})
}

func TestConformanceTLS(t *testing.T) {
	t.Parallel()
	n := newRealNginx(t).start()
	b1 := backend(t, "B1")
	cert, key, chain := webtest.Certificate(t, "s.test", true)
	other, otherKey, _ := webtest.Certificate(t, "s.test", false)
	n.certs.pairs = map[string][3][]byte{"77": {cert, key, chain}, "78": {cert, otherKey, nil}, "79": {other, otherKey, nil}}
	tlsPort, redirectPort := webtest.FreePort(t), webtest.FreePort(t)
	presents := func(want []byte) {
		t.Helper()
		r := webtest.Get(t, tlsPort, "https://s.test/")
		block, _ := pem.Decode(want)
		if r.Status != 200 || !bytes.Equal(r.TLS.PeerCertificates[0].Raw, block.Bytes) {
			t.Errorf("got %d and another certificate", r.Status)
		}
	}

	t.Run("a pair that does not match, or is unknown, changes nothing", func(t *testing.T) {
		for id, want := range map[string]string{"78": "do not fit together", "80": "there is no certificate", "../x": "invalid certificate id"} {
			n.refuses(want, "make_proxy", `{"hostname": "s.test", "port": %d, "ssl": "1", "ssl_port": %d, "ssl_certificate_id": %q, "backends": [{%s}]}`, n.port, tlsPort, id, wire(b1))
		}
	})
	t.Run("51: HTTPS and plain", func(t *testing.T) {
		n.ok("make_proxy", `{"hostname": "s.test", "port": %d, "ssl": "1", "ssl_port": "%d", "ssl_certificate_id": "77", "backends": [{%s}]}`, n.port, tlsPort, wire(b1))
		presents(cert)
		n.wants("http://s.test/", "B1")
		if r := webtest.Get(t, tlsPort, "https://s.test/"); len(r.TLS.PeerCertificates) != 2 {
			t.Errorf("got %d certificates, want the chain too", len(r.TLS.PeerCertificates))
		}
		for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
			conn, err := tls.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", tlsPort), &tls.Config{InsecureSkipVerify: true, MinVersion: version, MaxVersion: version})
			if err != nil {
				t.Fatalf("%s: %v", tls.VersionName(version), err)
			}
			conn.Close()
		}
	})
	t.Run("52: plain requests are redirected with path and query once", func(t *testing.T) {
		n.ok("make_proxy", `{"hostname": "s.test", "port": %d, "http": "0", "ssl": "1", "ssl_port": %d, "ssl_certificate_id": "77", "backends": [{%s}]}`, redirectPort, tlsPort, wire(b1))
		r := webtest.Get(t, redirectPort, "http://s.test/a%20b?x=1")
		if want := fmt.Sprintf("https://s.test:%d/a%%20b?x=1", tlsPort); r.Status != 301 || r.Header.Get("Location") != want {
			t.Errorf("got %d %s, want 301 %s", r.Status, r.Header.Get("Location"), want)
		}
		presents(cert)
	})
	t.Run("69: disable_ssl gives the redirector's port to the proxy", func(t *testing.T) {
		n.ok("disable_ssl", `{"hostname": "s.test"}`)
		if _, err := webtest.TryGet(tlsPort, "https://s.test/"); err == nil {
			t.Error("HTTPS still answers")
		}
		if r := webtest.Get(t, redirectPort, "http://s.test/"); !strings.Contains(r.Body, "B1") {
			t.Errorf("got %d %s", r.Status, r.Body)
		}
		n.units.Calls()
		n.ok("disable_ssl", `{"hostname": "s.test"}`)
		if calls := n.units.Calls(); len(calls) != 0 {
			t.Errorf("a repeated call did %q", calls)
		}
	})
	t.Run("69, 70: enable_ssl serves it again, and replaces certificates", func(t *testing.T) {
		n.ok("enable_ssl", `{"hostname": "s.test", "ssl_port": "%d", "ssl_certificate_id": "77"}`, tlsPort)
		presents(cert)
		before := n.tree()
		n.ok("enable_ssl", `{"hostname": "s.test", "ssl_port": "%d", "ssl_certificate_id": "77"}`, tlsPort)
		if n.tree() != before {
			t.Error("a repeated call changed files")
		}
		n.write("proxies.include", "\n\n# by hand\n"+n.read("proxies.include"))
		before = n.tree()
		n.units.Calls()
		n.ok("enable_ssl", `{"hostname": "s.test", "ssl_port": "%d", "ssl_certificate_id": "77"}`, tlsPort)
		if calls := n.units.Calls(); n.tree() != before || len(calls) != 0 {
			t.Errorf("a repeated call changed what lies between the proxies, and did %q", calls)
		}
		n.refuses("there is no certificate", "enable_ssl", `{"hostname": "s.test", "ssl_port": %d, "ssl_certificate_id": "80"}`, tlsPort)
		n.refuses("serves plain HTTP", "enable_ssl", `{"hostname": "s.test", "ssl_port": %d, "ssl_certificate_id": "77"}`, redirectPort)
		n.ok("enable_ssl", `{"hostname": "s.test", "ssl_port": %d, "ssl_certificate_id": 79}`, tlsPort)
		presents(other)
		n.ok("enable_ssl", `{"hostname": "nobody.test"}`)
		n.ok("enable_ssl", `{"hostname": ""}`)
	})
	t.Run("53: without ssl http is forced", func(t *testing.T) {
		n.ok("make_proxy", `{"hostname": "f.test", "port": %d, "http": "0", "backends": [{%s}]}`, n.port, wire(b1))
		n.wants("http://f.test/", "B1")
	})
}

func TestConformanceFilesAndService(t *testing.T) {
	t.Parallel()
	n := newRealNginx(t)
	if err := os.Chmod(n.conf(), 0o640); err != nil {
		t.Fatal(err)
	}
	n.start()
	b1 := backend(t, "B1")
	n.make(n.params("p.test", b1))

	t.Run("76: the operator's error pages and the files' modes survive", func(t *testing.T) {
		n.write("error-pages.include", n.read("error-pages.include")+"# mine\n")
		if err := os.Chmod(filepath.Join(n.dir, "proxies.include"), 0o600); err != nil {
			t.Fatal(err)
		}
		n.make(n.params("q.test", b1))
		if !strings.HasSuffix(n.read("error-pages.include"), "# mine\n") {
			t.Error("error-pages.include was overwritten")
		}
		for name, mode := range map[string]os.FileMode{"proxies.include": 0o600, "nginx.conf": 0o640} {
			if st, err := os.Stat(filepath.Join(n.dir, name)); err != nil || st.Mode().Perm() != mode {
				t.Errorf("%s: got %v, %v, want mode %o", name, st, err, mode)
			}
		}
	})
	t.Run("blocks of an operator keep their bytes", func(t *testing.T) {
		mine := fmt.Sprintf("# by hand\nserver { listen %d; server_name  hand.test ;\n\n  return 204; # odd\n}\n", webtest.FreePort(t))
		n.write("proxies.include", mine+n.read("proxies.include"))
		n.make(n.params("r.test", b1))
		n.ok("remove_proxy", `{"hostname": "q.test"}`)
		if got := n.read("proxies.include"); !strings.HasPrefix(got, mine) {
			t.Errorf("got %s", got)
		}
	})
	t.Run("72: a port of another program leaves the previous configuration in force", func(t *testing.T) {
		ln, err := net.Listen("tcp", ":0")
		if err != nil {
			t.Fatal(err)
		}
		defer ln.Close()
		n.refuses("nginx kept its old configuration", "make_proxy", `{"hostname": "busy.test", "port": %d, "backends": [{%s}]}`, ln.Addr().(*net.TCPAddr).Port, wire(b1))
		n.wants("http://p.test/", "B1")
	})
	t.Run("73: a broken configuration is reported and the running nginx stays", func(t *testing.T) {
		good := n.read("nginx.conf")
		n.write("nginx.conf", good+"bogus on;\n")
		for _, method := range []string{"configtest", "reload_service", "restart_service"} {
			if err := n.call(method, `{}`); err == nil || !strings.Contains(err.Error(), "PopenError: ") || !strings.Contains(err.Error(), n.conf()) {
				t.Errorf("%s: got %v", method, err)
			}
		}
		n.refuses("the configuration was broken before this call", "make_proxy", `{"hostname": "x.test", "port": %d, "backends": [{%s}]}`, n.port, wire(b1))
		n.wants("http://p.test/", "B1")
		n.write("nginx.conf", strings.Replace(good, "worker_processes 1", "worker_processes auto", 1))
		n.ok("restart_service", `{}`)
		n.wants("http://p.test/", "B1")
	})
	t.Run("the service verbs and the status", func(t *testing.T) {
		status := func(want int) {
			t.Helper()
			if got, err := n.Methods()["get_service_status"].Call(t.Context(), []byte(`{}`)); got != want || err != nil {
				t.Errorf("got %v, %v, want %d", got, err, want)
			}
		}
		n.ok("configtest", `{"reason": "look"}`)
		n.ok("stop_service", `{"reason": "test"}`)
		n.ok("stop_service", `{}`)
		status(3)
		n.ok("configtest", `{}`) // leaves an empty pid file
		status(3)
		n.ok("reload_service", `{}`)
		status(0)
		n.ok("start_service", `{}`)
		n.wants("http://p.test/", "B1")
	})
	t.Run("2: internals are no methods", func(t *testing.T) {
		if _, ok := n.Methods()["add_proxy"]; ok {
			t.Error("add_proxy is offered")
		}
	})
}

// delivered is a certificate as it comes with a proxy.
func delivered(t *testing.T, name string) (id string, pair agentapi.KeyPair) {
	t.Helper()
	cert, key, chain := webtest.Certificate(t, name, true)
	sum := sha256.Sum256(cert)
	return fmt.Sprintf("%s%x", agentapi.DeliveredPrefix, sum[:8]), agentapi.KeyPair{Cert: string(cert) + string(chain), Key: agentapi.Secret(key)}
}

func TestCertificatesThatComeWithAProxy(t *testing.T) {
	t.Parallel()
	n := newRealNginx(t).start()
	b1, tlsPort := backend(t, "B1"), webtest.FreePort(t)
	proxy := func(name, id string, pair agentapi.KeyPair) agentapi.ProxyParams {
		p := n.params(name, b1)
		p.SSL, p.SSLPort, p.SSLCertificateID, p.SSLCertificate = agentapi.Ptr(agentapi.Bool(true)), agentapi.Ptr(text(tlsPort)), agentapi.Ptr(agentapi.Text(id)), &pair
		return p
	}
	presents := func(name string, pair agentapi.KeyPair) {
		t.Helper()
		r := webtest.Get(t, tlsPort, "https://"+name+"/")
		block, _ := pem.Decode([]byte(pair.Cert))
		if r.Status != 200 || !bytes.Equal(r.TLS.PeerCertificates[0].Raw, block.Bytes) || len(r.TLS.PeerCertificates) != 2 {
			t.Errorf("%s: got %d and another certificate", name, r.Status)
		}
	}
	keys := func() (names []string) {
		entries, _ := os.ReadDir(filepath.Join(n.dir, "private.d/keys"))
		for _, e := range entries {
			info, err := e.Info()
			if err != nil {
				t.Fatal(err)
			}
			if strings.HasSuffix(e.Name(), ".key") {
				names = append(names, strings.TrimSuffix(strings.TrimPrefix(e.Name(), "https_"), ".key"))
				if info.Mode().Perm() != 0o600 {
					t.Errorf("%s has mode %v, want 0600", e.Name(), info.Mode())
				}
			}
		}
		return names
	}
	firstID, first := delivered(t, "a.test")
	secondID, second := delivered(t, "a.test")
	otherID, other := delivered(t, "b.test")
	n.make(proxy("a.test", firstID, first))
	n.make(proxy("b.test", otherID, other))
	presents("a.test", first)
	presents("b.test", other)
	n.wants("http://a.test/", "B1")

	t.Run("bad ones are refused and change nothing", func(t *testing.T) {
		before := n.tree()
		for want, p := range map[string]agentapi.ProxyParams{
			"do not fit together":           proxy("a.test", secondID, agentapi.KeyPair{Cert: second.Cert, Key: first.Key}),
			"another certificate is on":     proxy("a.test", firstID, second),
			"begins with route-":            proxy("a.test", "77", second),
			"the id of a certificate that ": proxy("a.test", "", second),
			"invalid certificate id":        proxy("a.test", "route-../x", second),
		} {
			if _, err := n.MakeProxy(t.Context(), p); err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "PRIVATE") {
				t.Errorf("got %v, want %q", err, want)
			}
		}
		if after := n.tree(); after != before {
			t.Errorf("got\n%s\nwant\n%s", after, before)
		}
		presents("a.test", first)
	})
	t.Run("another replaces the one before, whose files go; again changes nothing", func(t *testing.T) {
		for range 2 {
			n.make(proxy("a.test", secondID, second))
			presents("a.test", second)
			presents("b.test", other)
			if got, want := keys(), slices.Sorted(slices.Values([]string{secondID, otherID})); !slices.Equal(got, want) {
				t.Errorf("got keys %q, want %q", got, want)
			}
		}
	})
	t.Run("files that did not come with a proxy stay", func(t *testing.T) {
		n.write("private.d/keys/https_77.key", "x")
		n.write("private.d/keys/https_route-left-by-a-kill.key", "x")
		n.ok("remove_proxy", `{"hostname": "b.test"}`)
		for name, want := range map[string]bool{"https_77.key": true, "https_route-left-by-a-kill.key": false, "https_" + otherID + ".key": false, "https_" + otherID + ".crt": false} {
			if _, err := os.Stat(filepath.Join(n.dir, "private.d/keys", name)); (err == nil) != want {
				t.Errorf("%s: got %v, want it there: %v", name, err, want)
			}
		}
		presents("a.test", second)
	})
}
