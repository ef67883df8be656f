package agentclient

import (
	"context"
	"encoding/json"

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

// RecreateProxying makes the proxies exactly those of the list; an empty one removes all.
func (n Nginx) RecreateProxying(ctx context.Context, proxies []agentapi.ProxyParams) error {
	list, err := proxyList(proxies)
	if err != nil {
		return err
	}
	return n.verb(ctx, "recreate_proxying", agentapi.RecreateProxyingParams{ProxyList: list})
}

// Reconfigure is RecreateProxying in the background: it returns the id of an operation.
func (n Nginx) Reconfigure(ctx context.Context, proxies []agentapi.ProxyParams) (string, error) {
	list, err := proxyList(proxies)
	if err != nil {
		return "", err
	}
	return invoke[string](ctx, n.client, n.namespace, "reconfigure", agentapi.ReconfigureProxiesParams{Proxies: list})
}

func proxyList(proxies []agentapi.ProxyParams) ([]json.RawMessage, error) {
	list := make([]json.RawMessage, len(proxies))
	for i, p := range proxies {
		var err error
		if list[i], err = json.Marshal(p); err != nil {
			return nil, err
		}
	}
	return list, nil
}

// AddServer adds a server to an upstream.
func (n Nginx) AddServer(ctx context.Context, p agentapi.UpstreamServerParams) error {
	return n.verb(ctx, "add_server", p)
}

// RemoveServer takes a server out of an upstream.
func (n Nginx) RemoveServer(ctx context.Context, p agentapi.UpstreamServerParams) error {
	return n.verb(ctx, "remove_server", p)
}

// AddServerToRole puts a server behind every destination of a role.
func (n Nginx) AddServerToRole(ctx context.Context, p agentapi.RoleServerParams) error {
	return n.verb(ctx, "add_server_to_role", p)
}

// RemoveServerFromRole takes a server from every destination of a role.
func (n Nginx) RemoveServerFromRole(ctx context.Context, p agentapi.RoleServerParams) error {
	return n.verb(ctx, "remove_server_from_role", p)
}

// RemoveServerFromAllBackends takes a server out of every upstream.
func (n Nginx) RemoveServerFromAllBackends(ctx context.Context, p agentapi.AllBackendsParams) error {
	return n.verb(ctx, "remove_server_from_all_backends", p)
}
