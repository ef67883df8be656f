package core

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/reeve-paas/reeve/agent/agentapi"
	"github.com/reeve-paas/reeve/coordinator/operation"
)

// A service of scripts (spec director 5.5, generic) is code whose owner says what happens with it: init.sh runs on a node that
// got a code version, notify.sh on the others when nodes came or went, and run.sh, interrupt.sh and cleanup.sh when they are
// asked for. They run as the app's user, like units, and find out about the others from their environment and a file.

// platformScripts is the agents' platform of such services.
const platformScripts = "generic"

// agentsFile is where a script finds the nodes of its service.
const agentsFile = "/var/cache/cpsagent/agents.json"

// The scripts of a service, in the order in which they are listed.
const (
	scriptInit      = "init.sh"
	scriptNotify    = "notify.sh"
	scriptRun       = "run.sh"
	scriptInterrupt = "interrupt.sh"
	scriptCleanup   = "cleanup.sh"
)

// ServiceScripts names the scripts that a service of scripts may have.
func ServiceScripts() []string {
	return []string{scriptInit, scriptNotify, scriptRun, scriptInterrupt, scriptCleanup}
}

// interruptWait is how long interrupt.sh may take before what it should have ended is ended for it.
const interruptWait = 30 * time.Second

func (s Service) runsScripts() bool { return s.Managed && s.App.Platform == platformScripts }

// deployScripts brings a code version to a node and lets its init.sh run, once.
func (c *Core) deployScripts(ctx context.Context, s Service, n Node, agent Agent, code *CodeVersion) error {
	if code == nil {
		return nil // nothing to run yet
	}
	blob, err := c.Files.Lend(n, code.File)
	if err != nil {
		return err
	}
	if err := agent.FetchRelease(ctx, agentapi.FetchReleaseParams{App: appName(s.App), Release: s.Release, Source: blob}); err != nil {
		return classified(err, Internal, ObjService, "put the code on "+n.Name)
	}
	return c.runScript(ctx, s, n, scriptInit, fmt.Sprintf("release-%d", s.Release), nil, true)
}

// scriptNode is a node as scripts are told of it.
type scriptNode struct {
	ID   string `json:"id"`
	IP   string `json:"ip"`
	Role string `json:"role"`
}

// runScript starts a script on a node. With optional, one that the code does not have, or that runs still, is left alone.
func (c *Core) runScript(ctx context.Context, s Service, n Node, script, once string, arguments []string, optional bool) error {
	agent, err := c.Agents.Agent(n)
	if err != nil {
		return err
	}
	p := agentapi.StartScriptParams{App: appName(s.App), Release: s.Release, Script: script, Arguments: arguments, Once: once,
		Env: map[string]agentapi.Secret{"MY_IP": agentapi.Secret(n.Address)}}
	var nodes []scriptNode
	for i, other := range s.runningNodes() {
		role := "node"
		if i == 0 {
			role = "master"
			p.Env["MASTER_IP"] = agentapi.Secret(other.Address)
		}
		if other.ID == n.ID {
			p.Env["MY_ROLE"] = agentapi.Secret(role)
		}
		nodes = append(nodes, scriptNode{other.CloudID, other.Address, role})
	}
	text, err := json.Marshal(nodes)
	if err != nil {
		return err
	}
	p.Files = map[string]string{agentsFile: string(text)}
	err = agent.StartScript(ctx, p)
	if kind := KindOf(err); optional && err != nil && (kind == NotFound || kind == Exists || kind == Busy) {
		return nil
	}
	if e, ok := errors.AsType[*agentapi.Error](err); ok && (e.Kind == agentapi.KindNotFound || e.Kind == agentapi.KindInvalid) {
		return Errorf(Invalid, ObjService, "ERROR: %s", e.Text)
	}
	return classified(err, Internal, ObjService, "start "+script+" on "+n.Name)
}

// onScriptNodes does something on every node of a service of scripts that has code; others have none to do it on.
func (c *Core) onScriptNodes(ctx context.Context, run *operation.Run, do func(context.Context, serviceParams, Service, Node) error) error {
	p, s, found, err := c.serviceOf(ctx, run)
	if err != nil || !found || !s.runsScripts() || s.Version == 0 {
		return err
	}
	var each []func(context.Context, *operation.Run) error
	for _, n := range s.runningNodes() {
		each = append(each, func(ctx context.Context, _ *operation.Run) error { return do(ctx, p, s, n) })
	}
	return atOnce(each...)(ctx, run)
}

// notifyScripts tells the nodes that stayed when others came or went.
func (c *Core) notifyScripts(ctx context.Context, run *operation.Run) error {
	return c.onScriptNodes(ctx, run, func(ctx context.Context, p serviceParams, s Service, n Node) error {
		if len(p.Nodes) == 0 || slices.Contains(p.Nodes, n.ID) {
			return nil
		}
		return c.runScript(ctx, s, n, scriptNotify, run.Operation.GroupID, nil, true)
	})
}

func (c *Core) startScript(ctx context.Context, run *operation.Run) error {
	return c.onScriptNodes(ctx, run, func(ctx context.Context, p serviceParams, s Service, n Node) error {
		return c.runScript(ctx, s, n, p.Script, run.Operation.ID, p.Arguments, p.Script == scriptInterrupt)
	})
}

// endInterrupted waits for interrupt.sh and ends what it left running.
func (c *Core) endInterrupted(ctx context.Context, run *operation.Run) error {
	return c.onScriptNodes(ctx, run, func(ctx context.Context, p serviceParams, s Service, n Node) error {
		if p.Script != scriptInterrupt {
			return nil
		}
		agent, err := c.Agents.Agent(n)
		if err != nil {
			return err
		}
		app := agentapi.AppParams{App: appName(s.App)}
		deadline := time.NewTimer(interruptWait)
		defer deadline.Stop()
		tick := time.NewTicker(100 * time.Millisecond)
		defer tick.Stop()
		for waiting := true; ; {
			scripts, err := agent.ListScripts(ctx, app)
			if err != nil {
				return classified(err, Internal, ObjService, "list the scripts of "+n.Name)
			}
			if waiting && slices.ContainsFunc(scripts, func(x Script) bool {
				return x.Script == scriptInterrupt && x.State == ScriptRunning
			}) {
				select {
				case <-tick.C:
				case <-deadline.C:
					waiting = false
				case <-ctx.Done():
					return context.Cause(ctx)
				}
				continue
			}
			for _, x := range scripts {
				if x.State != ScriptRunning {
					continue
				}
				if err := agent.StopScript(ctx, agentapi.ScriptParams{App: app.App, Script: x.Script}); err != nil {
					return classified(err, Internal, ObjService, "end "+x.Script+" on "+n.Name)
				}
			}
			return nil
		}
	})
}

// ExecuteScript runs run.sh, interrupt.sh or cleanup.sh on all nodes of a running service, and returns when they are started.
// interrupt.sh is waited for, and what still runs after it is ended.
//
// Errors: not_found, busy (only in RUNNING; the script runs already), invalid (no such command; the code has no such script;
// nothing runs that could be interrupted), unsupported (the type runs no scripts), unavailable
func (c *Core) ExecuteScript(ctx context.Context, p Principal, num int64, command string, arguments []string) error {
	script := command + ".sh"
	if !slices.Contains([]string{scriptRun, scriptInterrupt, scriptCleanup}, script) {
		return Errorf(Invalid, ObjService, "ERROR: invalid command")
	}
	s, nodes, err := c.Scripts(ctx, p, num)
	if err != nil {
		return err
	}
	if s.Version == 0 {
		return Errorf(Invalid, ObjService, "ERROR: no code version is active")
	}
	running := func(name string) bool {
		return slices.ContainsFunc(nodes, func(n NodeScripts) bool {
			return slices.ContainsFunc(n.Scripts, func(x Script) bool {
				return (name == "" || x.Script == name) && x.State == ScriptRunning
			})
		})
	}
	switch {
	case script == scriptInterrupt && !running(""):
		return Errorf(Invalid, ObjService, "ERROR: No scripts are currently running inside agents. Nothing to interrupt.")
	case script != scriptInterrupt && running(script):
		return Errorf(Busy, ObjService, "ERROR: Script '%s' is already running inside at least one agent. Please wait for it to finish execution or call 'interrupt' first.", script)
	}
	group, err := c.changeService(ctx, p, num, "service.script", []ServiceState{ServiceRunning},
		func(_ Tx, _ *Service, params *serviceParams) ([]string, []byte, error) {
			params.Script, params.Arguments = script, arguments
			return []string{OpServiceScript}, nil, nil
		})
	if err != nil {
		return err
	}
	if err := c.awaitGroup(ctx, group, ObjService); err != nil && !isLate(err) {
		return err
	}
	return nil
}

// Script is a script that was started on a node, and its states are those of agents.
type Script = agentapi.AppScript

// The states of a script.
const (
	ScriptRunning = agentapi.AppScriptRunning
	ScriptEnded   = agentapi.AppScriptEnded
	ScriptLost    = agentapi.AppScriptLost
)

// NodeScripts are the scripts that were started on a node.
type NodeScripts struct {
	Node    Node
	Scripts []Script
}

// Scripts asks every node of a running service of scripts for the scripts that were started on it.
//
// Errors: not_found, busy (only in RUNNING), unsupported (the type runs no scripts), unavailable
func (c *Core) Scripts(ctx context.Context, p Principal, num int64) (Service, []NodeScripts, error) {
	s, err := c.runningService(ctx, p, num, Service.runsScripts)
	if err != nil {
		return s, nil, err
	}
	all := []NodeScripts{}
	for _, n := range s.runningNodes() {
		agent, err := c.Agents.Agent(n)
		if err != nil {
			return s, nil, err
		}
		scripts, err := agent.ListScripts(ctx, agentapi.AppParams{App: appName(s.App)})
		if err != nil {
			return s, nil, classified(err, Internal, ObjService, "list the scripts of "+n.Name)
		}
		all = append(all, NodeScripts{n, scripts})
	}
	return s, all, nil
}

// NodeLog is what the scripts or the units of a service printed on one of its nodes, as text.
//
// Errors: not_found (service, node), busy (only in RUNNING), unsupported (the type runs neither), unavailable
func (c *Core) NodeLog(ctx context.Context, p Principal, num int64, node NodeID) (string, error) {
	s, err := c.runningService(ctx, p, num, func(s Service) bool { return s.runsScripts() || s.runsUnits() })
	if err != nil {
		return "", err
	}
	i := slices.IndexFunc(s.App.Nodes, func(n Node) bool { return n.ID == node })
	if i < 0 {
		return "", Errorf(NotFound, ObjNode, "the service has no such node")
	}
	if s.runsUnits() {
		return c.unitsLog(ctx, s, s.App.Nodes[i])
	}
	agent, err := c.Agents.Agent(s.App.Nodes[i])
	if err != nil {
		return "", err
	}
	log, err := agent.ScriptLog(ctx, agentapi.AppParams{App: appName(s.App)})
	if err != nil {
		return "", classified(err, Internal, ObjService, "read the log of "+s.App.Nodes[i].Name)
	}
	return strings.Join(append(log.Lines, ""), "\n"), nil
}

// runningService is a service in RUNNING, of a kind that runs something of its own on its nodes.
func (c *Core) runningService(ctx context.Context, p Principal, num int64, kind func(Service) bool) (Service, error) {
	s, err := c.Service(ctx, p, num)
	switch {
	case err != nil:
	case !kind(s):
		err = Errorf(Unsupported, ObjService, "ERROR: this service runs no scripts")
	case s.State != ServiceRunning:
		err = Errorf(Busy, ObjService, "ERROR: the service is in state %s", s.State)
	}
	return s, err
}
