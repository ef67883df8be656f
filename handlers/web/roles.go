package web

import "context"

// Roles finds the servers of a role, as nginx's upstreams name them (spec agent-web 4.1).
type Roles interface {
	Servers(ctx context.Context, roleID string) ([]RoleServer, error)
}

// RoleServer is one server of a role. An address may be empty.
type RoleServer struct {
	InternalIP, ExternalIP string
	CloudLocation          string
}
