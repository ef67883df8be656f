package director

import (
	"cmp"
	"encoding/json"
	"strings"
	"time"

	"github.com/reeve-paas/reeve/coordinator/core"
)

// typeText is what a manager calls its type.
var typeText = map[string]string{"php": "PHP", "java": "JAVA", "mysql": "galera"}

func (c *managerCall) service() (core.Service, error) {
	return c.m.o.Core.Service(c.ctx(), c.caller, c.num)
}

type stateAnswer struct {
	State string `json:"state"`
}

func (c *managerCall) getServiceInfo() (any, error) {
	s, err := c.service()
	return map[string]string{"state": string(s.State), "type": cmp.Or(typeText[s.Type], s.Type)}, err
}

// inItsCloud refuses a cloud that is not the service's. Tools say default for none in particular.
func (c *managerCall) inItsCloud() error {
	name := c.text("cloud")
	if name == "" || name == "default" || name == defaultCloud {
		return nil
	}
	s, err := c.service()
	if err != nil || name == s.App.Cloud {
		return err
	}
	return core.Errorf(core.Unsupported, core.ObjCloud, "ERROR: all nodes of a service are in its own cloud, %s, not in %s", cloudLabel(c.m.o.Core, s.App.Cloud), clip(name))
}

func (c *managerCall) startup() (any, error) {
	err := c.inItsCloud()
	if err == nil {
		err = c.m.o.Core.StartupService(c.ctx(), c.caller, c.num)
	}
	return stateAnswer{string(core.ServicePrologue)}, err
}

func (c *managerCall) shutdown() (any, error) {
	return stateAnswer{string(core.ServiceEpilogue)}, c.m.o.Core.ShutdownService(c.ctx(), c.caller, c.num)
}

// delete does not wait: the address that answers goes too.
func (c *managerCall) delete() (any, error) {
	_, err := c.m.o.Core.DeleteApp(c.ctx(), c.caller, c.num)
	return struct{}{}, err
}

// nodeID names a node within its service.
func nodeID(cloud string, n core.Node) string { return cloud + n.CloudID }

// nodesUp are the nodes on which the service is deployed; a service that is not started has none.
func nodesUp(s core.Service) []core.Node {
	switch s.State {
	case core.ServiceInit, core.ServicePrologue, core.ServiceStopped:
		return nil
	}
	var up []core.Node
	for _, n := range s.App.Nodes {
		if n.State == core.NodeRunning || n.State == core.NodeUnreachable {
			up = append(up, n)
		}
	}
	return up
}

// roles lists the roles of a type's nodes and which of its nodes have them. The first node of a web service is its proxy:
// there is the service's address, and every node serves the whole site. cloud is how the nodes' cloud is shown.
func roles(cloud string, s core.Service) map[string][]string {
	ids := []string{}
	for _, n := range nodesUp(s) {
		ids = append(ids, nodeID(cloud, n))
	}
	switch {
	case s.App.Engine == "mysql":
		return map[string][]string{"nodes": ids, "glb_nodes": {}}
	case s.App.Platform == "generic":
		return map[string][]string{"master": ids[:min(1, len(ids))], "node": ids[min(1, len(ids)):]}
	}
	return map[string][]string{"proxy": ids[:min(1, len(ids))], "web": ids, "backend": ids}
}

func (c *managerCall) listNodes() (any, error) {
	s, err := c.service()
	return roles(cloudLabel(c.m.o.Core, s.App.Cloud), s), err
}

func (c *managerCall) getNodeInfo() (any, error) {
	s, err := c.service()
	if err != nil {
		return nil, err
	}
	cloud := cloudLabel(c.m.o.Core, s.App.Cloud)
	for i, n := range nodesUp(s) {
		if nodeID(cloud, n) != c.text("serviceNodeId") {
			continue
		}
		info := map[string]any{"id": nodeID(cloud, n), "ip": n.Address, "vmid": n.CloudID, "cloud": cloud}
		switch {
		case s.App.Engine == "mysql":
			info["isNode"], info["isGlb_node"] = true, false
		case s.App.Platform == "generic":
			info["role"], info["is_master"] = map[bool]string{true: "master", false: "node"}[i == 0], i == 0
		default:
			info["isRunningProxy"], info["isRunningWeb"], info["isRunningBackend"] = i == 0, true, true
		}
		return map[string]any{"serviceNode": info}, nil
	}
	return nil, core.Errorf(core.NotFound, core.ObjNode, "ERROR: Invalid serviceNodeId")
}

// counted is how many nodes a call is about: each has all roles but that of the first, so that the largest number counts.
func (c *managerCall) counted() (int, error) {
	n := 0
	names := []string{"backend", "web", "nodes", "mysql", "node", "count"}
	if strings.HasPrefix(strings.TrimSpace(string(c.params["nodes"])), "{") { // of 2.x: all of them in one object
		var inner map[string]json.RawMessage
		if err := json.Unmarshal(c.params["nodes"], &inner); err != nil {
			return 0, core.Errorf(core.Invalid, "", "ERROR: nodes cannot be read")
		}
		c.params = inner
	}
	for _, name := range names {
		one, err := c.number(name)
		if err != nil {
			return 0, err
		}
		n = max(n, one)
	}
	for _, name := range []string{"proxy", "glb_nodes", "glb"} {
		one, err := c.number(name)
		if err != nil {
			return 0, err
		}
		if one > 0 {
			return 0, core.Errorf(core.Unsupported, core.ObjNode, "ERROR: a service has one %s, and there are no more of them", name)
		}
	}
	if n == 0 {
		return 0, core.Errorf(core.Invalid, core.ObjNode, "ERROR: Required a positive number of nodes")
	}
	return n, nil
}

func (c *managerCall) addNodes() (any, error) {
	if err := c.inItsCloud(); err != nil { // before counted looks into nodes
		return nil, err
	}
	n, err := c.counted()
	if err == nil {
		err = c.m.o.Core.GrowService(c.ctx(), c.caller, c.num, n)
	}
	return stateAnswer{string(core.ServiceAdapting)}, err
}

func (c *managerCall) removeNodes() (any, error) {
	n, err := c.counted()
	if err == nil {
		err = c.m.o.Core.ShrinkService(c.ctx(), c.caller, c.num, n)
	}
	return stateAnswer{string(core.ServiceAdapting)}, err
}

func (c *managerCall) getLog() (any, error) {
	text, err := c.m.o.Core.ServiceLog(c.ctx(), c.caller, c.num)
	return map[string]string{"log": text}, err
}

type stateChange struct {
	Time   float64 `json:"time"`
	State  string  `json:"state"`
	Reason string  `json:"reason"`
}

// seconds is a time as Python has it.
func seconds(t time.Time) float64 { return float64(t.UnixMicro()) / 1e6 }

func (c *managerCall) getServiceHistory() (any, error) {
	events, err := c.m.o.Core.ServiceEvents(c.ctx(), c.caller, c.num)
	log := []stateChange{}
	for _, e := range events {
		log = append(log, stateChange{seconds(e.At), string(e.State), e.Reason})
	}
	return map[string]any{"state_log": log}, err
}

// getServicePerformance has the zeros that the original has too.
func (c *managerCall) getServicePerformance() (any, error) {
	return map[string]int{"request_rate": 0, "error_rate": 0, "throughput": 0, "response_time": 0}, nil
}

// getAppInfo tells of all services of the application.
func (c *managerCall) getAppInfo() (any, error) {
	here, err := c.service()
	if err != nil {
		return nil, err
	}
	all, err := c.m.o.Core.Services(c.ctx(), c.caller, here.Application)
	ids := []string{}
	states := map[string]string{"0": string(core.ServiceRunning)}
	for _, s := range all {
		if !s.Managed {
			continue
		}
		for _, n := range nodesUp(s) {
			ids = append(ids, nodeID(cloudLabel(c.m.o.Core, s.App.Cloud), n))
		}
		states[jsonNumber(s.App.Num)] = string(s.State)
	}
	return map[string]any{"states": states, "nodes": ids, "volumes": []string{}}, err
}

func (c *managerCall) checkProcess() (any, error) { return struct{}{}, nil }

func (c *managerCall) setPassword() (any, error) {
	return struct{}{}, c.m.o.Core.SetServicePassword(c.ctx(), c.caller, c.num, c.text("user"), core.Secret(c.text("password")))
}

func (c *managerCall) loadDump() (any, error) {
	f, _, err := c.file("mysqldump_file")
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return struct{}{}, c.m.o.Core.LoadDump(c.ctx(), c.caller, c.num, f)
}

func (c *managerCall) sqlDump() (any, error) {
	text, size, err := c.m.o.Core.DumpService(c.ctx(), c.caller, c.num)
	return rawFile{"mysqldump.sql", size, text}, err
}
