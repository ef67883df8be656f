package core

import (
	"context"

	"github.com/reeve-paas/reeve/agent/agentapi"
)

// Agent is what core asks of the agent on one node. Its errors are *Error: Unavailable when the agent cannot be reached
// (steps try again), otherwise the agent's own kind.
type Agent interface {
	Hostname(ctx context.Context) (string, error) // cheapest call: is it there, do we share the key
	MountVolume(ctx context.Context, p agentapi.MountVolumeParams) (agentapi.VolumeMount, error)
	CreateApp(ctx context.Context, p agentapi.CreateAppParams) (agentapi.AppPaths, error)
	DeleteApp(ctx context.Context, p agentapi.AppParams) error
	CreateVHost(ctx context.Context, p agentapi.CreateVHostParams) (string, error)
	DeleteVHosts(ctx context.Context, p agentapi.DeleteVHostsParams) error
	StartService(ctx context.Context, namespace string) error
	PrepareRouter(ctx context.Context) error
	EnableService(ctx context.Context, p agentapi.EnableServiceParams) error
	MakeProxy(ctx context.Context, p agentapi.ProxyParams) error
	RemoveProxy(ctx context.Context, p agentapi.RemoveProxyParams) error
	CreateDatabase(ctx context.Context, p agentapi.CreateDatabaseParams) error
	CreateDatabaseUser(ctx context.Context, p agentapi.CreateDatabaseUserParams) error
	ResetDatabasePassword(ctx context.Context, p agentapi.ResetPasswordParams) error
	MeterAgent
	// Call sends any method; for people at a terminal.
	Call(ctx context.Context, method string, params, result any) error
}

// Agents finds the agent of a node.
type Agents interface {
	Agent(n Node) (Agent, error)
}
