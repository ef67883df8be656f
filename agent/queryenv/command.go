package queryenv

import (
	"context"
	"encoding/json"
	"strings"

	"github.com/reeve-paas/reeve/agent/agentapi"
)

// ScalingMetrics are the definitions of what system.scaling_metrics measures.
//
// Errors: QueryEnvError, InvalidSignatureError
// Source: spec agent-core A.2, get-scaling-metrics
func (c *Client) ScalingMetrics(ctx context.Context) ([]agentapi.ScalingMetricDefinition, error) {
	reply, err := c.ask(ctx, "get-scaling-metrics", nil)
	if err != nil {
		return nil, err
	}
	var list []agentapi.ScalingMetricDefinition
	for _, m := range reply.child("metrics").Children {
		list = append(list, agentapi.ScalingMetricDefinition{ID: m.get("id"), Name: m.get("name"), Path: m.get("path"), Method: m.get("retrieve-method")})
	}
	return list, nil
}

// Certificate fetches a certificate by its id; "" is the default one. All parts are PEM; chain may be empty, and so is
// everything when the coordinator has no such certificate.
//
// Errors: QueryEnvError, InvalidSignatureError
// Source: spec agent-core A.2, get-https-certificate; agent-web 4.1
func (c *Client) Certificate(ctx context.Context, id string) (cert, key, chain []byte, err error) {
	params := map[string]string{}
	if id != "" {
		params["id"] = id
	}
	reply, err := c.ask(ctx, "get-https-certificate", params)
	if err != nil {
		return nil, nil, nil, err
	}
	found := reply.child("virtualhost")
	if !found.has("cert") || !found.has("pkey") {
		return nil, nil, nil, nil
	}
	return []byte(found.get("cert")), []byte(found.get("pkey")), []byte(found.get("ca_cert")), nil
}

// VirtualHost is a site that this host serves.
type VirtualHost struct {
	Hostname string
	Type     string // of the server it is written for, such as "apache"
	HTTPS    bool
	Raw      string // its configuration
}

// VirtualHosts lists the sites of this host.
//
// Errors: QueryEnvError, InvalidSignatureError
// Source: spec agent-core A.2, list-virtualhosts
func (c *Client) VirtualHosts(ctx context.Context) ([]VirtualHost, error) {
	reply, err := c.ask(ctx, "list-virtualhosts", nil)
	if err != nil {
		return nil, err
	}
	var list []VirtualHost
	for _, v := range reply.child("vhosts").Children {
		https := v.get("https")
		list = append(list, VirtualHost{Hostname: v.get("hostname"), Type: v.get("type"), HTTPS: https != "" && https != "0", Raw: v.get("raw")})
	}
	return list, nil
}

// RoleHost is a server of a role. An address may be empty.
type RoleHost struct {
	InternalIP, ExternalIP, CloudLocation, Status string
}

// RoleHosts lists the servers of a role by its id, without those that are still starting.
//
// Errors: QueryEnvError, InvalidSignatureError
// Source: spec agent-core A.2, list-roles; agent-web 4.1
func (c *Client) RoleHosts(ctx context.Context, farmRoleID string) ([]RoleHost, error) {
	reply, err := c.ask(ctx, "list-roles", map[string]string{"farm-role-id": farmRoleID})
	if err != nil {
		return nil, err
	}
	var list []RoleHost
	for _, role := range reply.child("roles").Children {
		for _, h := range role.child("hosts").Children {
			list = append(list, RoleHost{InternalIP: h.get("internal-ip"), ExternalIP: h.get("external-ip"), CloudLocation: h.get("cloud-location"), Status: h.get("status")})
		}
	}
	return list, nil
}

// FarmRoleParams are the parameters of this host's role, by behaviour. All leaves are texts.
//
// Errors: QueryEnvError, InvalidSignatureError
// Source: spec agent-core A.2, list-farm-role-params
func (c *Client) FarmRoleParams(ctx context.Context) (map[string]json.RawMessage, error) {
	params := map[string]string{}
	if c.o.FarmRoleID != "" {
		params["farm-role-id"] = c.o.FarmRoleID
	}
	reply, err := c.ask(ctx, "list-farm-role-params", params)
	if err != nil {
		return nil, err
	}
	kept := map[string]json.RawMessage{}
	for _, behaviour := range reply.Children {
		raw, err := json.Marshal(behaviour.value())
		if err != nil {
			return nil, err
		}
		kept[behaviour.XMLName.Local] = raw
	}
	return kept, nil
}

// value is an element as a JSON value: items are a list, other children an object, and what has neither is a text or null.
func (e element) value() any {
	if len(e.Children) == 0 {
		if text := strings.TrimSpace(e.Text); text != "" {
			return text
		}
		return nil
	}
	if e.Children[0].XMLName.Local == "item" {
		list := make([]any, len(e.Children))
		for i, c := range e.Children {
			list[i] = c.value()
		}
		return list
	}
	object := map[string]any{}
	for _, c := range e.Children {
		object[c.XMLName.Local] = c.value()
	}
	return object
}
