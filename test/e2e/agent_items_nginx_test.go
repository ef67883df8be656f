//go:build e2e

package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"testing"

	"github.com/reeve-paas/reeve/agent/agentclient"
	"github.com/reeve-paas/reeve/handlers/nginx/nginxtest"
	"github.com/reeve-paas/reeve/test/hosts"
)

// TestNginxItemsOnABootedHost proves items 40 to 78 of spec agent-web 7 with the packaged nginx, over sealed RPC. Item 75 is
// TestTheAgentIsKilledWhileSitesChange; of 77 there is only what is done by hand.
func TestNginxItemsOnABootedHost(t *testing.T) {
	t.Parallel()
	far := nginxtest.NewCoordinator()
	h := bootAsking(t, "nginx", rolesAndCertificates(t.Context(), far))
	c := connect(t, h, h.Key())
	// The packaged site goes with the first change; this one is who else answers.
	h.WriteFile(t, "/etc/nginx/conf.d/default-site.conf", 0o644, []byte("server { listen 8080 default_server; return 200 \"default site\"; }\n"))
	if err := c.Nginx().Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	rig := nginxRig(t, h, c, far)
	for _, suite := range nginxtest.Suites {
		t.Run(suite.Name, func(t *testing.T) {
			suite.Run(t, rig)
			if err := c.Nginx().RecreateProxying(t.Context(), nil); err != nil {
				t.Error(err)
			}
		})
	}
	wantText(t, h, "active\nactive", "systemctl", "is-active", "nginx", agentUnit)
}

// nginxRig is the packaged nginx of a booted host. Calls go to the namespaces nginx and www in turn: one object has both names.
func nginxRig(t *testing.T, h *hosts.Host, c *agentclient.Client, far *nginxtest.Coordinator) *nginxtest.Rig {
	calls, ports := 0, 8100
	return &nginxtest.Rig{
		T: t, Coordinator: far, Addr: h.Addr.String(), Visitor: h.Cloud.Gateway().String(), Port: 8080, Usual: true,
		Root: h.Root(t), Dir: "/etc/nginx", PrivateDir: "/etc/reeve/private.d", PIDFile: "/run/nginx.pid",
		Call: func(ctx context.Context, method string, params []byte) (result json.RawMessage, err error) {
			if calls++; calls%2 == 0 {
				method = strings.Replace(method, "nginx.", "www.", 1)
			}
			err = c.Call(ctx, method, json.RawMessage(params), &result)
			return result, err
		},
		Listen:   func(addr string) (net.Listener, error) { return h.Listen(t, addr) },
		Dial:     func(addr string) (net.Conn, error) { return h.Dial(t, addr) },
		FreePort: func() int { ports++; return ports },
		RestartAgent: func() {
			h.Exec(t, "systemctl", "restart", agentUnit)
			awaitPort(t, netip.AddrPortFrom(h.Addr, 8010))
		},
	}
}

// rolesAndCertificates answers an agent's questions with what a coordinator knows.
func rolesAndCertificates(ctx context.Context, c *nginxtest.Coordinator) func(string, map[string]string) (string, error) {
	return func(command string, params map[string]string) (string, error) {
		switch command {
		case "get-https-certificate":
			return certificateReply(c.Certificate(ctx, params["id"]))
		case "list-roles":
			servers, err := c.Servers(ctx, params["farm-role-id"])
			var b strings.Builder
			for i, s := range servers {
				fmt.Fprintf(&b, `<host index="%d" internal-ip="%s" external-ip="%s" cloud-location="%s" status="Running"/>`, i+1, s.InternalIP, s.ExternalIP, s.CloudLocation)
			}
			return fmt.Sprintf(`<roles><role id="%s"><hosts>%s</hosts></role></roles>`, params["farm-role-id"], b.String()), err
		}
		return "", errors.New("unknown operation")
	}
}
