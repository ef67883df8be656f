package agentclient

import (
	"context"

	"github.com/reeve-paas/reeve/agent/agentapi"
)

// Apache is the namespace apache; see agentapi/apache.go for parameters, errors and effects.
type Apache struct{ Service }

// Apache drives the host's Apache.
func (c *Client) Apache() Apache { return Apache{c.Service("apache")} }

// CreateVHost writes a virtual host and returns the path of its file.
func (a Apache) CreateVHost(ctx context.Context, p agentapi.CreateVHostParams) (string, error) {
	return invoke[string](ctx, a.client, a.namespace, "create_vhost", p)
}

// DeleteVHosts removes virtual hosts. Those that are not there are skipped.
func (a Apache) DeleteVHosts(ctx context.Context, p agentapi.DeleteVHostsParams) error {
	return a.verb(ctx, "delete_vhosts", p)
}

// SetDefaultSSLCertificate points the packaged TLS site at a certificate of the host; "" is the default one.
func (a Apache) SetDefaultSSLCertificate(ctx context.Context, id string) error {
	return a.verb(ctx, "set_default_ssl_certificate", agentapi.DefaultCertificateParams{ID: new(agentapi.Text(id))})
}

// WebserverStatistics is what Apache's mod_status tells, by its keys, or one text under "errmsg".
func (a Apache) WebserverStatistics(ctx context.Context) (map[string]string, error) {
	return invoke[map[string]string](ctx, a.client, a.namespace, "get_webserver_statistics", nil)
}

// ListServedVirtualHosts returns the file names of the virtual hosts that Apache serves.
func (a Apache) ListServedVirtualHosts(ctx context.Context) ([]string, error) {
	return invoke[[]string](ctx, a.client, a.namespace, "list_served_virtual_hosts", nil)
}
