package core

import (
	"context"
	"slices"

	"github.com/reeve-paas/reeve/agent/agentapi"
)

// RunCommand runs a command line where the units of an app are: once, or once for every unit. It is the owner's own shell
// line, read on the host as the app's user, with the environment that units have. emit gets each line that it prints. A
// caller that goes away ends the waiting, not the command.
//
// Errors: not_found, forbidden, busy with ObjUnit (no unit runs), invalid (the command's exit status), unavailable
// Source: spec tsuru 2 (run)
func (c *Core) RunCommand(ctx context.Context, p Principal, id AppID, command string, once bool, emit func(line string)) error {
	app, err := c.usable(ctx, p, id)
	if err != nil {
		return err
	}
	units := slices.DeleteFunc(slices.Clone(app.Units), func(u AppUnit) bool { return !u.Serves() && u.State != UnitStarting })
	if len(units) == 0 {
		return Errorf(Busy, ObjUnit, "App must be available to run commands")
	}
	if once {
		units = units[:1]
	}
	if err := c.change(ctx, p, "app.run", string(id), func(Tx) error { return nil }); err != nil {
		return err
	}
	if err := c.logApp(ctx, id, "running "+clip(command)); err != nil {
		return err
	}
	env, err := c.unitEnv(ctx, app)
	if err != nil {
		return err
	}
	for _, u := range units {
		node, err := c.node(ctx, u.NodeID)
		if err != nil {
			return err
		}
		agent, err := c.Agents.Agent(node)
		if err != nil {
			return err
		}
		result, err := agent.RunCommand(ctx, agentapi.RunCommandParams{App: appName(app), Release: u.Release, Command: command, Env: env}, emit)
		if err != nil {
			return classified(err, Internal, ObjUnit, "run the command")
		}
		if result.ExitCode != 0 {
			return Errorf(Invalid, ObjUnit, "exit status %d", result.ExitCode)
		}
	}
	return nil
}
