package core

import (
	"context"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// keepMessageIDs is how long an agent's message is known by its id. An agent repeats one within minutes of its delivery, when it
// was killed before it noted that.
const keepMessageIDs = 30 * 24 * time.Hour

// AgentNode finds the node that an agent says it is on, with its key. What proves it is the caller's to check.
//
// Errors: not found (also a node that is going, or that has no key yet)
func (c *Core) AgentNode(ctx context.Context, id string) (Node, error) {
	n, err := view(ctx, c.Store, func(r Reader) (Node, error) { return r.Node(NodeID(id)) })
	if err == nil && (len(n.AgentKey) == 0 || n.State == NodeStopping || n.State == NodeGone) {
		return Node{}, Errorf(NotFound, ObjNode, "there is no such node")
	}
	return n, err
}

// NodeRole is the nodes that do one thing for one app, or for the whole cloud.
type NodeRole struct {
	ID        int64 // the same as long as the app lives
	Name      string
	Behaviour string // in the words of agents: www, app, mysql2, base
	Hosts     []Node // up, by Num
}

// NodeRoleFilter selects roles; empty members select all.
type NodeRoleFilter struct {
	ID, Name, Behaviour string
	Starting            bool // hosts that are not up yet too
}

// agentRoles are the roles of nodes as agents know them. Their order is part of the ids.
var agentRoles = []struct {
	role      Role
	behaviour string
}{{RoleRouter, "www"}, {RoleApp, "app"}, {RoleDB, "mysql2"}, {RolePool, "base"}}

// NodeRoles lists the roles that a node may know of: those of its own app; a node without one sees its account's in its cloud
// that have none either, such as routers.
func (c *Core) NodeRoles(ctx context.Context, n Node, filter NodeRoleFilter) ([]NodeRole, error) {
	type found struct {
		app   App
		nodes []Node
	}
	f, err := view(ctx, c.Store, func(r Reader) (f found, err error) {
		if n.AppID != "" {
			if f.app, err = r.App(n.AppID); err != nil {
				return f, err
			}
		}
		f.nodes, err = r.Nodes(NodeFilter{Cloud: n.Cloud, AppID: n.AppID})
		return f, err
	})
	if err != nil {
		return nil, err
	}
	var list []NodeRole
	for i, known := range agentRoles {
		role := NodeRole{ID: f.app.Num*10 + int64(i) + 1, Name: strings.TrimPrefix(f.app.Name+"-"+string(known.role), "-"), Behaviour: known.behaviour}
		if !filter.selects(role) {
			continue
		}
		for _, other := range f.nodes {
			up := other.State == NodeRunning || filter.Starting && (other.State == NodeBooting || other.State == NodeEnrolling)
			if other.Has(known.role) && other.AppID == n.AppID && other.AccountID == n.AccountID && up && other.Address != "" {
				role.Hosts = append(role.Hosts, other)
			}
		}
		if len(role.Hosts) > 0 {
			list = append(list, role)
		}
	}
	return list, nil
}

func (f NodeRoleFilter) selects(r NodeRole) bool {
	return (f.ID == "" || f.ID == strconv.FormatInt(r.ID, 10)) && (f.Name == "" || f.Name == r.Name) && (f.Behaviour == "" || f.Behaviour == r.Behaviour)
}

// NodeSite is a virtual host of a node.
type NodeSite struct{ Hostname, Template string }

// NodeSites lists the virtual hosts that the web server of a node has to serve. Where they lie its agent is asked.
func (c *Core) NodeSites(ctx context.Context, n Node) ([]NodeSite, error) {
	if n.AppID == "" || !n.Has(RoleApp) {
		return nil, nil
	}
	app, err := view(ctx, c.Store, func(r Reader) (App, error) { return r.App(n.AppID) })
	if err != nil || !app.hasVHosts() {
		return nil, err
	}
	var list []NodeSite
	agent, err := c.Agents.Agent(n)
	if err != nil {
		return nil, err
	}
	for _, route := range app.Routes {
		if route.State == RouteDeleting || route.State == RouteFailed {
			continue
		}
		paths, err := c.routePaths(ctx, agent, app, route)
		if err != nil {
			return nil, classified(err, Unavailable, ObjApp, "find the app on its node")
		}
		list = append(list, NodeSite{Hostname: route.Hostname, Template: vhostTemplate(route.Hostname, paths)})
	}
	return list, nil
}

// NodeVariables is the environment of the app whose node it is, by name; a node that apps share, or of none, has no variables.
func (c *Core) NodeVariables(ctx context.Context, n Node) ([]EnvVar, error) {
	if n.AppID == "" {
		return nil, nil
	}
	return view(ctx, c.Store, func(r Reader) ([]EnvVar, error) { return r.AppEnv(n.AppID) })
}

// ScalingMetric is a number that nodes are to tell of themselves, for whoever decides how many there have to be.
type ScalingMetric struct {
	ID   int // its place in the list, from 1
	Name string
	Path string // on the node: of a program that prints the number, or of a file that begins with it
	Read bool   // it is a file
	Role Role   // of the nodes that tell it; "" means all
}

// NodeMetrics are the metrics that a node tells.
func (c *Core) NodeMetrics(n Node) []ScalingMetric {
	var list []ScalingMetric
	for _, m := range c.ScalingMetrics {
		if m.Role == "" || n.Has(m.Role) {
			list = append(list, m)
		}
	}
	return list
}

// ServesSites says whether the web server of a node serves virtual hosts that NodeSites lists.
func (c *Core) ServesSites(ctx context.Context, n Node) (bool, error) {
	if n.AppID == "" || !n.Has(RoleApp) {
		return false, nil
	}
	app, err := view(ctx, c.Store, func(r Reader) (App, error) { return r.App(n.AppID) })
	return app.hasVHosts(), err
}

// NodeCertificate is a certificate, with its key, that a node serves a name with: a router those of every app of its cloud, the
// web server of an app those of this app.
//
// Errors: not found (also one that is none of the node's business)
func (c *Core) NodeCertificate(ctx context.Context, n Node, id string) (found RouteCertificate, err error) {
	serves := func(app App) bool {
		return n.Has(RoleRouter) && n.Cloud == app.Cloud || n.Has(RoleApp) && n.AppID == app.ID && app.hasVHosts()
	}
	err = c.Store.View(ctx, func(r Reader) error {
		list, err := r.RouteCertificatesWithID(id)
		if err != nil {
			return err
		}
		for _, rc := range list {
			apps, err := appsShowing(r, rc, c.now())
			if err != nil {
				return err
			}
			if slices.ContainsFunc(apps, serves) {
				found = rc
				return nil
			}
		}
		return Errorf(NotFound, ObjCertificate, "there is no such certificate")
	})
	return found, err
}

// AgentMessage is what an agent tells by itself.
type AgentMessage struct {
	ID, Name string
	Subject  string // of an OperationResult: the operation's name; of an ExecScriptResult: the script's; of a DbMsr_…: the engine
	Outcome  string // the status; the script's exit code
}

// agentActions are the audit records of messages.
var agentActions = map[string]string{
	"OperationResult": "agent.operation", "ExecScriptResult": "agent.script", "HostUpdate": "agent.host",
	"DbMsr_CreateBackupResult": "agent.backup", "DbMsr_CreateDataBundleResult": "agent.databundle",
}

var goodMessageID = regexp.MustCompile(`^[0-9A-Za-z-]{1,64}$`)

// NoteAgentMessage takes a message once: a repetition, by the id, changes nothing. What ended on a node is kept as an audit
// record agent.operation, agent.script, agent.backup or agent.databundle, and another port of an agent as agent.host; of other messages only the id is kept. What messages hold beside that is not kept:
// results may hold secrets, and nobody reads them here.
//
// Errors: invalid (no usable id or name)
func (c *Core) NoteAgentMessage(ctx context.Context, p Principal, n Node, m AgentMessage) (fresh bool, err error) {
	if !goodMessageID.MatchString(m.ID) || m.Name == "" {
		return false, Errorf(Invalid, ObjNode, "a message needs an id and a name")
	}
	err = c.Store.Update(ctx, func(tx Tx) error {
		now := c.now()
		if err := tx.ForgetMessages(n.ID, now.Add(-keepMessageIDs)); err != nil {
			return err
		}
		if fresh, err = tx.NoteMessage(n.ID, m.ID, now); err != nil || !fresh {
			return err
		}
		action := agentActions[m.Name]
		if action == "" {
			return nil
		}
		p.Account.ID = n.AccountID
		return tx.Audit(c.auditRecord(p, action, string(n.ID)+" "+clip(m.Subject), clip(m.ID), clip(m.Outcome)))
	})
	return fresh, err
}
