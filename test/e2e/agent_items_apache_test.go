//go:build e2e

package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"html"
	"io/fs"
	"net/netip"
	"strings"
	"testing"

	"github.com/reeve-paas/reeve/agent/agentapi"
	"github.com/reeve-paas/reeve/agent/agentclient"
	"github.com/reeve-paas/reeve/handlers/apache/apachetest"
	"github.com/reeve-paas/reeve/handlers/web/webtest"
	"github.com/reeve-paas/reeve/test/hosts"
)

// sitesAndCertificates answers an agent's questions with what a coordinator knows.
func sitesAndCertificates(ctx context.Context, c *apachetest.Coordinator) func(string, map[string]string) (string, error) {
	twice := func(s string) string { return html.EscapeString(html.EscapeString(s)) } // the agent decodes once before it parses
	return func(command string, params map[string]string) (string, error) {
		switch command {
		case "get-https-certificate":
			return certificateReply(c.Certificate(ctx, params["id"]))
		case "list-virtualhosts":
			sites, err := c.VHosts(ctx)
			var b strings.Builder
			for _, s := range sites {
				fmt.Fprintf(&b, `<vhost hostname="%s" type="apache" https="0"><raw>%s</raw></vhost>`, s.Hostname, twice(s.Template))
			}
			return "<vhosts>" + b.String() + "</vhosts>", err
		}
		return "", errors.New("unknown operation")
	}
}

// apacheRig is the packaged Apache of a booted host. Calls go to the namespaces apache and app in turn: one object has both names.
func apacheRig(h *hosts.Host, c *agentclient.Client, far *apachetest.Coordinator) *apachetest.Rig {
	calls := 0
	return &apachetest.Rig{
		Coordinator: far, Addr: h.Addr.String(), Port: 80, TLSPort: 443, OtherPort: 8080,
		Conf: "/etc/apache2/apache2.conf", SitesDir: "/etc/apache2/sites-enabled", StatusModule: "/etc/apache2/mods-enabled/status.load",
		TLSModule: sslLoad, TLSSite: "/etc/apache2/sites-available/default-ssl.conf",
		SystemCert: "/etc/ssl/certs/ssl-cert-snakeoil.pem", SystemKey: "/etc/ssl/private/ssl-cert-snakeoil.key", PIDFile: "/run/apache2/apache2.pid",
		PrivateDir: "/etc/reeve/private.d", Roots: "/srv", Logs: "/var/log/sites", User: "www-data",
		Kept: []string{"/etc", "/srv", "/var/www", "/var/log/sites", "/usr/local"}, Top: "/",
		Call: func(t testing.TB, namespace, method, params string) (result json.RawMessage, err error) {
			if calls++; namespace == "apache" && calls%2 == 0 {
				namespace = "app"
			}
			err = c.Call(t.Context(), namespace+"."+method, json.RawMessage(params), &result)
			return result, err
		},
		Try:   func(t testing.TB, argv ...string) (string, error) { return h.Try(t, argv...) },
		Write: func(t testing.TB, file string, mode fs.FileMode, data []byte) { h.WriteFile(t, file, mode, data) },
		EnableTLSSite: func(t testing.TB) {
			cert, key, _ := webtest.Certificate(t, "system.test", false)
			h.WriteFile(t, "/etc/ssl/certs/ssl-cert-snakeoil.pem", 0o644, cert)
			h.WriteFile(t, "/etc/ssl/private/ssl-cert-snakeoil.key", 0o640, key)
			h.Exec(t, "a2ensite", "--quiet", "default-ssl")
		},
	}
}

const sslLoad = "/etc/apache2/mods-enabled/ssl.load"

// TestApacheItemsOnABootedHost proves items 1 to 39 of spec agent-web 7 with the packaged Apache, over sealed RPC.
func TestApacheItemsOnABootedHost(t *testing.T) {
	t.Parallel()
	far := &apachetest.Coordinator{}
	h := bootAsking(t, "apache", sitesAndCertificates(t.Context(), far))
	c := connect(t, h, h.Key())
	h.WriteFile(t, "/var/www/html/index.html", 0o644, []byte("default site"))
	h.Exec(t, "mkdir", "/var/log/sites")
	if err := c.Apache().Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	rig := apacheRig(h, c, far)
	for _, suite := range apachetest.Suites {
		t.Run(suite.Name, func(t *testing.T) { suite.Run(t, rig) })
	}
	null := func(t *testing.T, method string, params any) {
		t.Helper()
		var got json.RawMessage
		if err := c.Call(t.Context(), method, params, &got); err != nil || string(got) != "null" {
			t.Errorf("%s: got %s, %v, want null", method, got, err)
		}
	}
	t.Run("with the MPM event, which Debian has without mod_php", func(t *testing.T) {
		h.Exec(t, "a2dismod", "--quiet", "php8.2", "mpm_prefork")
		h.Exec(t, "a2enmod", "--quiet", "mpm_event")
		null(t, "apache.restart_service", nil)
		for _, suite := range apachetest.Suites {
			if suite.Name == "reconfigure" {
				suite.Run(t, rig)
			}
		}
		if stats, err := c.Apache().WebserverStatistics(t.Context()); err != nil || stats["ServerMPM"] != "event" {
			t.Errorf("got %v, %v", stats, err)
		}
	})
	t.Run("enable_mod_ssl loads the module, and nothing else", func(t *testing.T) {
		h.Exec(t, "a2dismod", "--quiet", "--force", "ssl")
		null(t, "apache.reload_service", nil)
		before := rig.Tree(t)
		null(t, "apache.enable_mod_ssl", nil)
		if after := rig.Tree(t); strings.Contains(before, sslLoad) || !strings.Contains(after, sslLoad) {
			t.Errorf("got changes\n%s", difference(before, after))
		}
		if _, err := h.Try(t, "test", "-e", "/etc/apache2/sites-enabled/default-ssl.conf"); err == nil {
			t.Error("the packaged TLS site is enabled")
		}
		null(t, "app.configtest", nil)
		null(t, "app.reload_service", nil)
		if out := h.Exec(t, "ss", "-Hltn", "sport", "=", ":443"); out == "" {
			t.Error("nobody listens on port 443")
		}
		enabled := rig.Tree(t)
		null(t, "app.enable_mod_ssl", nil)
		if again := rig.Tree(t); again != enabled {
			t.Errorf("a second call changed\n%s", difference(enabled, again))
		}
	})
	t.Run("2: internals are no methods, and a list is no parameters", func(t *testing.T) {
		proxy := map[string]any{"hostname": "p.test", "port": "8081", "backends": []map[string]any{{"host": "127.0.0.1", "port": 80}}}
		null(t, "nginx.make_proxy", proxy)
		before := rig.Tree(t)
		for _, method := range []string{
			"nginx.add_proxy", "www.add_proxy", "nginx.make_default_proxy", "nginx.init_service", "nginx.do_reconfigure",
			"apache.init_service", "app.do_reconfigure", "apache.disable_mod_ssl",
		} {
			for _, params := range []any{nil, proxy} {
				err := c.Call(t.Context(), method, params, nil)
				if e, ok := errors.AsType[*agentapi.Error](err); !ok || e.Code != agentapi.CodeMethodNotFound {
					t.Errorf("%s: got %v, want code %d", method, err, agentapi.CodeMethodNotFound)
				}
			}
		}
		for _, method := range []string{"nginx.make_proxy", "apache.create_vhost", "apache.stop_service"} {
			wantRefusal(t, c.Call(t.Context(), method, []any{}, nil), "")
		}
		if after := rig.Tree(t); after != before {
			t.Errorf("files changed:\n%s", difference(before, after))
		}
		wantText(t, h, "active\nactive", "systemctl", "is-active", "apache2", "nginx")
		wantPage(t, netip.AddrPortFrom(h.Addr, 8081), "p.test", "default site")
	})
}
