package director

import (
	"fmt"
	"strings"

	"github.com/reeve-paas/reeve/coordinator/core"
)

func (c *managerCall) execute(command string) (any, error) {
	err := c.m.o.Core.ExecuteScript(c.ctx(), c.caller, c.num, command, strings.Fields(c.text("parameters")))
	return stateAnswer{string(core.ServiceRunning)}, err
}

func (c *managerCall) executeScript() (any, error) { return c.execute(c.text("command")) }

// runScript is what cpsclient calls.
func (c *managerCall) runScript() (any, error) { return c.execute("run") }

// scriptText is how a script's state is shown.
func scriptText(s core.Script) string {
	switch s.State {
	case core.ScriptRunning:
		return "RUNNING"
	case core.ScriptEnded:
		return fmt.Sprintf("STOPPED (return code = %d)", s.ExitCode)
	}
	return "STOPPED"
}

func (c *managerCall) getScriptStatus() (any, error) {
	s, nodes, err := c.m.o.Core.Scripts(c.ctx(), c.caller, c.num)
	if err != nil {
		return nil, err
	}
	cloud := cloudLabel(c.m.o.Core, s.App.Cloud)
	agents := map[string]map[string]string{}
	for _, n := range nodes {
		states := map[string]string{}
		for _, name := range core.ServiceScripts() {
			states[name] = "NEVER STARTED"
		}
		for _, one := range n.Scripts {
			states[one.Script] = scriptText(one)
		}
		agents[nodeID(cloud, n.Node)] = states
	}
	return map[string]any{"agents": agents}, nil
}

// getAgentLog is what the scripts or the units on a node printed. Other files of a node are nobody's to read.
func (c *managerCall) getAgentLog() (any, error) {
	s, err := c.service()
	if err != nil {
		return nil, err
	}
	if name := c.text("filename"); name != "" && name != "null" {
		return nil, core.Errorf(core.Unsupported, core.ObjNode, "ERROR: there is one log of a node, without a filename")
	}
	cloud := cloudLabel(c.m.o.Core, s.App.Cloud)
	for _, n := range nodesUp(s) {
		if nodeID(cloud, n) == c.text("agentId") {
			text, err := c.m.o.Core.NodeLog(c.ctx(), c.caller, c.num, n.ID)
			return map[string]string{"log": text}, err
		}
	}
	return nil, core.Errorf(core.NotFound, core.ObjNode, "ERROR: Invalid agentId")
}
