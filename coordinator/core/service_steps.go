package core

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/reeve-paas/reeve/agent/agentapi"
	"github.com/reeve-paas/reeve/coordinator/operation"
)

// Kinds of the operations on managed services. A change is a group: what claims the change, and says what to go back to,
// then a node each, then what brings all nodes to what is wanted.
const (
	OpServiceCreate    = "service.create"
	OpServiceStartup   = "service.startup"
	OpServiceShutdown  = "service.shutdown"
	OpServiceGrow      = "service.grow"
	OpServiceShrink    = "service.shrink"
	OpServiceConfigure = "service.configure"
	OpServiceNode      = "service.node"
	OpServiceDeploy    = "service.deploy"
	OpServicePassword  = "service.password"
	OpServiceScript    = "service.script"
)

func (c *Core) serviceOperations() []operation.Definition {
	nothing := func(context.Context, *operation.Run) error { return nil }
	boot := []operation.Step{
		{Name: "create node", Do: c.createNode, Undo: c.takeNodeBack, Timeout: 3 * time.Minute},
		{Name: "enroll agent", Do: c.awaitAgent, Timeout: 3 * time.Minute},
	}
	return []operation.Definition{
		{Kind: OpServiceCreate, Steps: slices.Concat([]operation.Step{{Name: "claim", Do: nothing, Undo: c.forgetFailedService}}, boot, []operation.Step{
			{Name: "reserve address", Do: c.reserveAddress, Undo: c.releaseAddress},
			{Name: "finish", Do: c.finishService},
		})},
		{Kind: OpServiceNode, Steps: boot},
		{Kind: OpServiceStartup, Steps: []operation.Step{{Name: "claim", Do: nothing, Undo: c.settle(ServiceStopped)}}},
		{Kind: OpServiceGrow, Steps: []operation.Step{{Name: "claim", Do: nothing, Undo: c.takeNodesBack}}},
		{Kind: OpServiceConfigure, Steps: []operation.Step{{Name: "claim", Do: nothing, Undo: c.goBack}}},
		{Kind: OpServiceDeploy, Steps: []operation.Step{
			{Name: "deploy", Do: c.deployService, Timeout: 10 * time.Minute},
			{Name: "notify", Do: c.notifyScripts, Timeout: 2 * time.Minute},
			{Name: "publish", Do: c.publishService, Timeout: 3 * time.Minute},
			{Name: "finish", Do: c.settle(ServiceRunning)},
		}},
		{Kind: OpServiceShrink, Steps: []operation.Step{
			{Name: "publish", Do: c.publishService, Undo: c.settle(ServiceRunning), Timeout: 3 * time.Minute},
			{Name: "destroy nodes", Do: c.destroyServiceNodes, Timeout: 5 * time.Minute},
			{Name: "notify", Do: c.notifyScripts, Timeout: 2 * time.Minute},
			{Name: "finish", Do: c.settle(ServiceRunning)},
		}},
		{Kind: OpServiceShutdown, Steps: []operation.Step{
			{Name: "withdraw routes", Do: c.withdrawRoutes, Undo: c.settle(ServiceError), Timeout: 3 * time.Minute},
			{Name: "undeploy", Do: c.undeployService, Timeout: 3 * time.Minute},
			{Name: "destroy nodes", Do: c.destroyServiceNodes, Timeout: 5 * time.Minute},
			{Name: "finish", Do: c.settle(ServiceStopped)},
		}},
		{Kind: OpServiceScript, Steps: []operation.Step{
			{Name: "start script", Do: c.startScript, Timeout: 2 * time.Minute},
			{Name: "end what is interrupted", Do: c.endInterrupted, Timeout: 2 * time.Minute},
		}},
		{Kind: OpServicePassword, Steps: []operation.Step{{Name: "set password", Do: c.setServicePassword, Timeout: time.Minute}}},
	}
}

// serviceOf loads the service of the operation; found is false when it was forgotten already.
func (c *Core) serviceOf(ctx context.Context, run *operation.Run) (p serviceParams, s Service, found bool, err error) {
	if err = run.Params(&p); err != nil {
		return p, s, false, err
	}
	err = c.Store.View(ctx, func(r Reader) error {
		app, err := r.App(p.AppID)
		if err != nil {
			return err
		}
		m, err := r.ManagedService(p.AppID)
		s = asService(app, m, true, 0)
		return err
	})
	if isNotFound(err) {
		return p, s, false, nil
	}
	return p, s, err == nil, err
}

// settle ends a change: the service is in the state given, unless it is being deleted.
func (c *Core) settle(state ServiceState) func(context.Context, *operation.Run) error {
	return func(ctx context.Context, run *operation.Run) error {
		p, _, found, err := c.serviceOf(ctx, run)
		if err != nil || !found {
			return err
		}
		return c.Store.Update(ctx, func(tx Tx) error { return c.putState(tx, p.AppID, state, run.Reason()) })
	}
}

func (c *Core) putState(tx Tx, id AppID, state ServiceState, reason string) error {
	m, err := tx.ManagedService(id)
	if err != nil || m.State == state {
		return err
	}
	m.State = state
	if err := tx.PutManagedService(m); err != nil {
		return err
	}
	return tx.AddServiceEvent(id, ServiceEvent{At: c.now(), State: state, Reason: reason})
}

// takeNodeBack undoes the creation of a node, and of what was paid for it.
func (c *Core) takeNodeBack(ctx context.Context, run *operation.Run) error {
	var p serviceParams
	if err := run.Params(&p); err != nil {
		return err
	}
	if err := c.refundNode(ctx, p.NodeID, p.AppID); err != nil {
		return err
	}
	return c.destroyNode(ctx, run)
}

// takeNodesBack ends a growth that failed. Operations that never began have no undo of their own: their nodes, too, are paid
// back and forgotten here.
func (c *Core) takeNodesBack(ctx context.Context, run *operation.Run) error {
	p, s, found, err := c.serviceOf(ctx, run)
	if err != nil || !found {
		return err
	}
	for _, n := range s.App.Nodes {
		if !slices.Contains(p.Nodes, n.ID) {
			continue
		}
		if err := c.refundNode(ctx, n.ID, p.AppID); err != nil {
			return err
		}
	}
	if err := c.destroyServiceNodes(ctx, run); err != nil {
		return c.inError(ctx, run, err)
	}
	return c.settle(ServiceRunning)(ctx, run)
}

// inError shows that a service cannot be brought back to what it was, so that no client waits for it. Another attempt may still
// bring it back.
func (c *Core) inError(ctx context.Context, run *operation.Run, err error) error {
	return errors.Join(err, c.settle(ServiceError)(context.WithoutCancel(ctx), run))
}

// forgetFailedService leaves nothing of a service whose creation failed. One that somebody stops is left to that operation.
func (c *Core) forgetFailedService(ctx context.Context, run *operation.Run) error {
	p, s, found, err := c.serviceOf(ctx, run)
	if err != nil || !found || s.App.State == AppDeleting {
		return err
	}
	for _, n := range s.App.Nodes { // the operation was stopped before it began to create the node
		if err := c.refundNode(ctx, n.ID, p.AppID); err != nil {
			return err
		}
	}
	if err := c.destroyAppNodes(ctx, run); err != nil {
		return err
	}
	return c.forgetApp(ctx, run)
}

// addressKey names the address of a service's manager to its cloud.
func addressKey(app AppID) string { return "manager-" + string(app) }

func (c *Core) reserveAddress(ctx context.Context, run *operation.Run) error {
	p, s, found, err := c.serviceOf(ctx, run)
	if err != nil {
		return err
	}
	if !found || len(s.App.Nodes) == 0 {
		return Errorf(NotFound, ObjService, "the service is gone")
	}
	cloud, _ := c.Clouds.Cloud(s.App.Cloud)
	address := s.App.Nodes[0].Address
	if lender, ok := cloud.(AddressCloud); ok {
		if address, err = lender.ReserveAddress(ctx, addressKey(p.AppID)); err != nil {
			return cloudFailure(err, Unavailable, ObjService, "reserve an address for the manager")
		}
	}
	return c.Store.Update(ctx, func(tx Tx) error {
		m, err := tx.ManagedService(p.AppID)
		if err != nil {
			return err
		}
		m.Address = address
		return tx.PutManagedService(m)
	})
}

// releaseAddress gives the manager's address back; nobody is told of it any more before that.
func (c *Core) releaseAddress(ctx context.Context, run *operation.Run) error {
	p, s, found, err := c.serviceOf(ctx, run)
	if err != nil || !found {
		return err
	}
	if s.Address != "" {
		err := c.Store.Update(ctx, func(tx Tx) error {
			m, err := tx.ManagedService(p.AppID)
			if err != nil {
				return err
			}
			m.Address = ""
			return tx.PutManagedService(m)
		})
		if err != nil {
			return err
		}
	}
	cloud, _ := c.Clouds.Cloud(s.App.Cloud)
	if lender, ok := cloud.(AddressCloud); ok {
		return cloudFailure(lender.ReleaseAddress(ctx, addressKey(p.AppID)), Unavailable, ObjService, "release the address of the manager")
	}
	return nil
}

func (c *Core) finishService(ctx context.Context, run *operation.Run) error {
	var p serviceParams
	if err := run.Params(&p); err != nil {
		return err
	}
	return c.Store.Update(ctx, func(tx Tx) error {
		app, err := tx.App(p.AppID)
		if err != nil || app.State != AppCreating {
			return err
		}
		app.State = AppRunning
		if err := tx.PutApp(&app); err != nil {
			return err
		}
		return tx.AddServiceEvent(p.AppID, ServiceEvent{At: c.now(), State: ServiceInit})
	})
}

// goBack makes active what was active before a change that failed.
func (c *Core) goBack(ctx context.Context, run *operation.Run) error {
	p, s, found, err := c.serviceOf(ctx, run)
	if err != nil || !found {
		return err
	}
	if s.Version != p.Version || s.State == ServiceAdapting || s.State == ServiceError {
		err = c.Store.Update(ctx, func(tx Tx) error {
			m, err := tx.ManagedService(p.AppID)
			if err != nil {
				return err
			}
			if m.Version != p.Version {
				m.Version = p.Version
				m.Release++ // nodes may have the other one under the present number
			}
			m.Settings = p.Settings
			return tx.PutManagedService(m)
		})
		if err != nil {
			return err
		}
		if err := c.deployService(ctx, run); err != nil {
			return c.inError(ctx, run, err)
		}
	}
	return c.settle(ServiceRunning)(ctx, run)
}

// runningNodes are those that the service keeps.
func (s Service) runningNodes() []Node {
	return slices.DeleteFunc(slices.Clone(s.App.Nodes), func(n Node) bool { return n.State == NodeStopping || n.Address == "" })
}

// deployService brings every node to what the service runs.
func (c *Core) deployService(ctx context.Context, run *operation.Run) error {
	_, s, found, err := c.serviceOf(ctx, run)
	if err != nil {
		return err
	}
	if !found {
		return Errorf(NotFound, ObjService, "the service is gone")
	}
	var code *CodeVersion
	if s.Version != 0 {
		v, err := c.codeFile(ctx, s.AppID, s.Version)
		if err != nil {
			return err
		}
		code = &v
	}
	if s.runsUnits() {
		return c.deployUnits(ctx, run, s, code)
	}
	var each []func(context.Context, *operation.Run) error
	for _, n := range s.runningNodes() {
		each = append(each, func(ctx context.Context, _ *operation.Run) error { return c.deployOn(ctx, s, n, code) })
	}
	return atOnce(each...)(ctx, run)
}

func (c *Core) deployOn(ctx context.Context, s Service, n Node, code *CodeVersion) error {
	agent, err := c.Agents.Agent(n)
	if err != nil {
		return err
	}
	if s.App.Engine != "" {
		return c.deployDatabase(ctx, agent)
	}
	paths, err := agent.CreateApp(ctx, agentapi.CreateAppParams{App: appName(s.App), Platform: s.App.Platform, Base: appsBase})
	if err != nil {
		return classified(err, Internal, ObjService, "make the app on "+n.Name)
	}
	if s.runsScripts() {
		return c.deployScripts(ctx, s, n, agent, code)
	}
	if code != nil {
		if err := c.putCode(ctx, agent, s, n, *code); err != nil {
			return classified(err, Internal, ObjService, "put the code on "+n.Name)
		}
	}
	host := serviceHost(s.App)
	if _, err := agent.CreateVHost(ctx, agentapi.CreateVHostParams{Hostname: host, Port: "80", Template: serviceVHost(host, n.Address, paths, s.Settings)}); err != nil {
		return classified(err, Internal, ObjService, "make the site on "+n.Name)
	}
	return classified(startForGood(ctx, agent, "apache"), Internal, ObjService, "start the web server on "+n.Name)
}

// serviceHost is the name of a service's site on its own nodes.
func serviceHost(app App) string { return fmt.Sprintf("service-%d.internal", app.Num) }

// PHPSetting is a setting of PHP that an owner may choose.
type PHPSetting struct {
	Values  *regexp.Regexp // what its values look like
	Default string         // what a service has that was told nothing
}

// PHPSettings are the settings of PHP by name (spec director 5.3, phpconf). In Settings they are called "phpconf." and their
// name. Clients take each for granted, so each is always written; the defaults are those of PHP's own production settings.
var PHPSettings = map[string]PHPSetting{
	"display_errors":      {phpSwitch, "Off"},
	"log_errors":          {phpSwitch, "On"},
	"max_execution_time":  {phpNumber, "30"},
	"max_input_time":      {phpNumber, "60"},
	"memory_limit":        {phpSize, "128M"},
	"post_max_size":       {phpSize, "8M"},
	"upload_max_filesize": {phpSize, "2M"},
}

var (
	phpSwitch = regexp.MustCompile(`^(?i:on|off|0|1)$`)
	phpNumber = regexp.MustCompile(`^-?[0-9]{1,6}$`)
	phpSize   = regexp.MustCompile(`^[0-9]{1,9}[KMGkmg]?$`)
)

// serviceVHost answers whatever name is asked for at the node's address: people reach the node by it, or by names of their
// own. A vhost of an address goes before those of any, such as the one that Apache is packaged with, which takes the address
// for its name.
func serviceVHost(host, address string, paths agentapi.AppPaths, settings map[string]string) string {
	var php strings.Builder
	for _, name := range slices.Sorted(maps.Keys(PHPSettings)) {
		v := cmp.Or(settings["phpconf."+name], PHPSettings[name].Default)
		if PHPSettings[name].Values.MatchString(v) {
			fmt.Fprintf(&php, "   php_value %s %s\n", name, v)
		}
	}
	text := strings.Replace(vhostTemplate(host, paths), "<VirtualHost *:80>", "<VirtualHost "+address+":80>", 1)
	return strings.Replace(text, "</VirtualHost>\n", php.String()+"</VirtualHost>\n", 1)
}

// deployDatabase starts the server. Its user is made when a password is set.
func (c *Core) deployDatabase(ctx context.Context, agent Agent) error {
	return classified(startForGood(ctx, agent, "mysql"), Internal, ObjService, "start the database server")
}

func (c *Core) setServicePassword(ctx context.Context, run *operation.Run) error {
	_, s, found, err := c.serviceOf(ctx, run)
	if err != nil {
		return err
	}
	var secret passwordSecret
	if err := json.Unmarshal(run.Secret(), &secret); err != nil {
		return fmt.Errorf("read the secret of the operation: %w", err)
	}
	if !found || len(s.App.Nodes) == 0 {
		return Errorf(NotFound, ObjService, "the service is gone")
	}
	agent, err := c.Agents.Agent(s.App.Nodes[0])
	if err != nil {
		return err
	}
	if err := agent.CreateDatabase(ctx, s.App.Engine, agentapi.CreateDatabaseParams{Name: databaseUser}); err != nil {
		return classified(err, Internal, ObjService, "create the database")
	}
	err = agent.CreateDatabaseUser(ctx, s.App.Engine, agentapi.CreateDatabaseUserParams{Name: databaseUser, Remote: true, Database: databaseUser,
		Password: agentapi.Secret(secret.Password)})
	return classified(err, Internal, ObjService, "set the password")
}

// undeployService takes what the service runs away from the node that stays; the others are destroyed.
func (c *Core) undeployService(ctx context.Context, run *operation.Run) error {
	p, s, found, err := c.serviceOf(ctx, run)
	if err != nil || !found {
		return err
	}
	for _, n := range s.runningNodes() {
		if slices.Contains(p.Nodes, n.ID) {
			continue
		}
		agent, err := c.Agents.Agent(n)
		if err != nil {
			return err
		}
		if s.App.Engine != "" {
			if err := agent.Call(ctx, s.App.Engine+".stop_service", nil, nil); err != nil {
				return classified(err, Internal, ObjService, "stop the database server")
			}
			continue
		}
		switch {
		case s.runsScripts():
		case s.runsUnits():
			if err := c.undeployUnits(ctx, s, n, agent); err != nil {
				return err
			}
		default:
			refs := []agentapi.VHostRef{{Hostname: serviceHost(s.App), Port: "80"}}
			if err := agent.DeleteVHosts(ctx, agentapi.DeleteVHostsParams{VHosts: refs}); err != nil {
				return classified(err, Internal, ObjService, "take the site away from "+n.Name)
			}
		}
		if err := agent.DeleteApp(ctx, agentapi.AppParams{App: appName(s.App)}); err != nil {
			return classified(err, Internal, ObjService, "take the app away from "+n.Name)
		}
	}
	return nil
}

// destroyServiceNodes takes away the nodes that the operation names.
func (c *Core) destroyServiceNodes(ctx context.Context, run *operation.Run) error {
	p, s, found, err := c.serviceOf(ctx, run)
	if err != nil || !found {
		return err
	}
	for _, n := range s.App.Nodes {
		if !slices.Contains(p.Nodes, n.ID) {
			continue
		}
		cloud, ok := c.Clouds.Cloud(n.Cloud)
		if !ok {
			return Errorf(NotFound, ObjCloud, "cloud %q is not configured any more; put it back to go on", n.Cloud)
		}
		if err := c.removeNode(ctx, n, cloud); err != nil && !isNotFound(err) {
			return err
		}
	}
	return nil
}

// publishService lets the routers of the cloud spread requests for the service's routes over the nodes it keeps.
func (c *Core) publishService(ctx context.Context, run *operation.Run) error {
	p, s, found, err := c.serviceOf(ctx, run)
	if err != nil || !found || len(s.App.Routes) == 0 {
		return err
	}
	app := s.App
	if run.Operation.Kind == OpServiceShrink {
		app.Nodes = slices.DeleteFunc(s.runningNodes(), func(n Node) bool { return slices.Contains(p.Nodes, n.ID) })
		app.Units = slices.DeleteFunc(slices.Clone(app.Units), func(u AppUnit) bool { return slices.Contains(p.Nodes, u.NodeID) })
	}
	return c.publish(ctx, app, app.hostnames()...)
}
