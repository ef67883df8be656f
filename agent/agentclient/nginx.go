package agentclient

import (
	"context"

	"github.com/reeve-paas/reeve/agent/agentapi"
)

// Nginx is the namespace nginx; see agentapi/nginx.go for parameters, errors and effects.
type Nginx struct{ Service }

// Nginx drives the host's nginx.
func (c *Client) Nginx() Nginx { return Nginx{c.Service("nginx")} }

// MakeProxy creates or replaces the proxy of a host name.
func (n Nginx) MakeProxy(ctx context.Context, p agentapi.ProxyParams) error {
	return n.verb(ctx, "make_proxy", p)
}

// RemoveProxy removes the proxy of a host name.
func (n Nginx) RemoveProxy(ctx context.Context, p agentapi.RemoveProxyParams) error {
	return n.verb(ctx, "remove_proxy", p)
}

// AddServer adds a server to an upstream.
func (n Nginx) AddServer(ctx context.Context, p agentapi.UpstreamServerParams) error {
	return n.verb(ctx, "add_server", p)
}

// RemoveServer takes a server out of an upstream.
func (n Nginx) RemoveServer(ctx context.Context, p agentapi.UpstreamServerParams) error {
	return n.verb(ctx, "remove_server", p)
}
