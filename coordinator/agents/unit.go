package agents

import (
	"context"
	"time"

	"github.com/reeve-paas/reeve/agent/agentapi"
)

const (
	forBuild   = 35 * time.Minute
	forCommand = 15 * time.Minute
)

func (a *agent) BuildRelease(ctx context.Context, p agentapi.BuildReleaseParams, line func(string)) (agentapi.ReleaseBuild, error) {
	return do(ctx, a, "deploy.build_release", forBuild, func(ctx context.Context) (agentapi.ReleaseBuild, error) {
		return a.client.Deploy().BuildRelease(ctx, p, line)
	})
}

func (a *agent) FetchRelease(ctx context.Context, p agentapi.FetchReleaseParams) error {
	return run(ctx, a, "deploy.fetch_release", forVolume, func(ctx context.Context) error { return a.client.Deploy().FetchRelease(ctx, p) })
}

func (a *agent) SwitchRelease(ctx context.Context, p agentapi.SwitchReleaseParams) error {
	return run(ctx, a, "deploy.switch_release", forChange, func(ctx context.Context) error { return a.client.Deploy().SwitchRelease(ctx, p) })
}

func (a *agent) StartUnit(ctx context.Context, p agentapi.StartUnitParams) (agentapi.Unit, error) {
	return do(ctx, a, "deploy.start_unit", forVolume, func(ctx context.Context) (agentapi.Unit, error) {
		return a.client.Deploy().StartUnit(ctx, p)
	})
}

func (a *agent) StopUnit(ctx context.Context, p agentapi.StopUnitParams) error {
	return run(ctx, a, "deploy.stop_unit", forChange, func(ctx context.Context) error { return a.client.Deploy().StopUnit(ctx, p) })
}

func (a *agent) DrainRouter(ctx context.Context, p agentapi.DrainRouterParams) error {
	return run(ctx, a, "deploy.drain_router", forChange, func(ctx context.Context) error { return a.client.Deploy().DrainRouter(ctx, p) })
}

func (a *agent) ListUnits(ctx context.Context, p agentapi.ListUnitsParams) ([]agentapi.Unit, error) {
	return do(ctx, a, "deploy.list_units", forAnswer, func(ctx context.Context) ([]agentapi.Unit, error) {
		return a.client.Deploy().ListUnits(ctx, p)
	})
}

func (a *agent) ListApps(ctx context.Context) ([]agentapi.AppInfo, error) {
	return do(ctx, a, "deploy.list_apps", forAnswer, a.client.Deploy().ListApps)
}

func (a *agent) UnitLog(ctx context.Context, p agentapi.UnitLogParams) (agentapi.UnitLog, error) {
	return do(ctx, a, "deploy.unit_log", forAnswer, func(ctx context.Context) (agentapi.UnitLog, error) {
		return a.client.Deploy().UnitLog(ctx, p)
	})
}

func (a *agent) RunCommand(ctx context.Context, p agentapi.RunCommandParams, line func(string)) (agentapi.CommandResult, error) {
	return do(ctx, a, "deploy.run_command", forCommand, func(ctx context.Context) (agentapi.CommandResult, error) {
		return a.client.Deploy().RunCommand(ctx, p, line)
	})
}

func (a *agent) StartScript(ctx context.Context, p agentapi.StartScriptParams) error {
	return run(ctx, a, "deploy.start_script", forChange, func(ctx context.Context) error { return a.client.Deploy().StartScript(ctx, p) })
}

func (a *agent) StopScript(ctx context.Context, p agentapi.ScriptParams) error {
	return run(ctx, a, "deploy.stop_script", forChange, func(ctx context.Context) error { return a.client.Deploy().StopScript(ctx, p) })
}

func (a *agent) ListScripts(ctx context.Context, p agentapi.AppParams) ([]agentapi.AppScript, error) {
	return do(ctx, a, "deploy.list_scripts", forAnswer, func(ctx context.Context) ([]agentapi.AppScript, error) {
		return a.client.Deploy().ListScripts(ctx, p)
	})
}

func (a *agent) ScriptLog(ctx context.Context, p agentapi.AppParams) (agentapi.ScriptLog, error) {
	return do(ctx, a, "deploy.script_log", forAnswer, func(ctx context.Context) (agentapi.ScriptLog, error) {
		return a.client.Deploy().ScriptLog(ctx, p)
	})
}
