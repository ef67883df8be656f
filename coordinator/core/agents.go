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
	UnmountVolume(ctx context.Context, p agentapi.UnmountVolumeParams) error
	CreateApp(ctx context.Context, p agentapi.CreateAppParams) (agentapi.AppPaths, error)
	GrowVolume(ctx context.Context, p agentapi.GrowVolumeParams) (agentapi.VolumeMount, error)
	SetLogin(ctx context.Context, p agentapi.SetLoginParams) error
	PutRelease(ctx context.Context, p agentapi.PutReleaseParams) error
	AppPaths(ctx context.Context, p agentapi.AppParams) (agentapi.AppPaths, error)
	DeleteApp(ctx context.Context, p agentapi.AppParams) error
	CreateVHost(ctx context.Context, p agentapi.CreateVHostParams) (string, error)
	DeleteVHosts(ctx context.Context, p agentapi.DeleteVHostsParams) error
	StartService(ctx context.Context, namespace string) error
	PrepareRouter(ctx context.Context) error
	DrainRouter(ctx context.Context, p agentapi.DrainRouterParams) error
	EnableService(ctx context.Context, p agentapi.EnableServiceParams) error
	MakeProxy(ctx context.Context, p agentapi.ProxyParams) error
	RemoveProxy(ctx context.Context, p agentapi.RemoveProxyParams) error
	// The engine of a database is agentapi.EngineMySQL, EnginePostgreSQL or EngineMongoDB.
	CreateDatabase(ctx context.Context, engine string, p agentapi.CreateDatabaseParams) error
	DropDatabase(ctx context.Context, engine, name string) error
	CreateDatabaseUser(ctx context.Context, engine string, p agentapi.CreateDatabaseUserParams) error
	DropDatabaseUser(ctx context.Context, engine string, p agentapi.DropDatabaseUserParams) error
	ResetDatabasePassword(ctx context.Context, engine string, p agentapi.ResetPasswordParams) error
	DumpAgent
	ScriptAgent
	UnitAgent
	MeterAgent
	// Call sends any method; for people at a terminal.
	Call(ctx context.Context, method string, params, result any) error
}

// DumpAgent writes databases as text, and reads them. engine is agentapi.EngineMySQL.
type DumpAgent interface {
	DumpDatabase(ctx context.Context, engine string, p agentapi.DumpDatabaseParams) error
	LoadDump(ctx context.Context, engine string, p agentapi.LoadDumpParams) error
}

// ScriptAgent runs scripts of releases.
type ScriptAgent interface {
	StartScript(ctx context.Context, p agentapi.StartScriptParams) error
	StopScript(ctx context.Context, p agentapi.ScriptParams) error
	ListScripts(ctx context.Context, p agentapi.AppParams) ([]agentapi.AppScript, error)
	ScriptLog(ctx context.Context, p agentapi.AppParams) (agentapi.ScriptLog, error)
}

// Agents finds the agent of a node.
type Agents interface {
	Agent(n Node) (Agent, error)
}

// UnitAgent runs releases of apps as units. line is told each line that a build or command prints, as it comes.
type UnitAgent interface {
	BuildRelease(ctx context.Context, p agentapi.BuildReleaseParams, line func(string)) (agentapi.ReleaseBuild, error)
	FetchRelease(ctx context.Context, p agentapi.FetchReleaseParams) error
	SwitchRelease(ctx context.Context, p agentapi.SwitchReleaseParams) error
	StartUnit(ctx context.Context, p agentapi.StartUnitParams) (agentapi.Unit, error)
	StopUnit(ctx context.Context, p agentapi.StopUnitParams) error
	ListUnits(ctx context.Context, p agentapi.ListUnitsParams) ([]agentapi.Unit, error)
	ListApps(ctx context.Context) ([]agentapi.AppInfo, error)
	UnitLog(ctx context.Context, p agentapi.UnitLogParams) (agentapi.UnitLog, error)
	RunCommand(ctx context.Context, p agentapi.RunCommandParams, line func(string)) (agentapi.CommandResult, error)
}
