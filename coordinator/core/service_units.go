package core

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/reeve-paas/reeve/agent/agentapi"
	"github.com/reeve-paas/reeve/coordinator/operation"
)

// A web service whose platform runs as units has one on each of its nodes, behind the node's own nginx, which answers at the
// node's address. A change starts new units beside those that serve, turns nodes and routers to them, and then ends the old ones.
// What was built of a code version is kept for nodes that come later, and for the way back.

// platformJava is the agents' platform of web applications in Java.
const platformJava = "java"

func (s Service) runsUnits() bool {
	return s.Managed && s.App.Platform != "" && !s.App.hasVHosts() && !s.runsScripts()
}

// nodeReserveMB is the memory of a node that its system takes.
const nodeReserveMB = 128

// serviceUnitMB is the memory of a unit on a service's node, on which there are two of them while one takes the other's place.
// 0 when the size does not tell.
func serviceUnitMB(size Size) int { return max(0, size.MemoryMB-nodeReserveMB) / 2 }

// deployUnits brings every node of a service to a unit of what it runs.
func (c *Core) deployUnits(ctx context.Context, run *operation.Run, s Service, code *CodeVersion) error {
	var apps, units []func(context.Context, *operation.Run) error
	for _, n := range s.runningNodes() {
		apps = append(apps, func(ctx context.Context, _ *operation.Run) error {
			agent, err := c.Agents.Agent(n)
			if err != nil {
				return err
			}
			return c.createAppOn(ctx, agent, s.App)
		})
	}
	if err := atOnce(apps...)(ctx, run); err != nil {
		return err
	}
	rel, err := c.serviceRelease(ctx, run, s, code)
	if err != nil {
		return err
	}
	for _, n := range s.runningNodes() {
		units = append(units, func(ctx context.Context, _ *operation.Run) error { return c.startServiceUnit(ctx, s.App, n, rel) })
	}
	if err := atOnce(units...)(ctx, run); err != nil {
		return err
	}
	return c.turnToRelease(ctx, s, rel)
}

// serviceRelease is the release of a code version, or of the page before there is one. It is built if it never was.
func (c *Core) serviceRelease(ctx context.Context, run *operation.Run, s Service, code *CodeVersion) (rel Release, err error) {
	c.filesMu.RLock() // nobody takes the source for one that is not needed before a release names it
	rel = Release{AppID: s.AppID, State: ReleaseBuilding, Origin: OriginWelcome, CreatedAt: c.now()}
	if code != nil {
		rel.Origin, rel.Source = OriginUpload, code.File
	} else {
		rel.Source, err = c.putWelcome(ctx, s.App)
	}
	if err == nil {
		rel, err = c.putServiceRelease(ctx, s, rel)
	}
	c.filesMu.RUnlock()
	if err != nil || rel.State == ReleaseBuilt {
		return rel, err
	}
	node, agent, err := c.builder(ctx, s.App)
	if err != nil {
		return rel, err
	}
	defer c.outputs.end(run.Operation.ID)
	built, err := c.build(ctx, run, s.App, rel, node, agent)
	if err != nil && !operation.Temporary(err) {
		rel.State, rel.Error, rel.EndedAt = ReleaseFailed, PublicError("", err), c.now()
		return rel, errors.Join(err, c.Store.Update(context.WithoutCancel(ctx), func(tx Tx) error { return tx.PutRelease(&rel) }))
	}
	return built, err
}

// putServiceRelease is the release of a service that has this source already, or makes it the next one.
func (c *Core) putServiceRelease(ctx context.Context, s Service, rel Release) (Release, error) {
	err := c.Store.Update(ctx, func(tx Tx) error {
		all, err := tx.Releases(s.AppID)
		if err != nil {
			return err
		}
		if i := slices.IndexFunc(all, func(r Release) bool { return r.Source == rel.Source && r.State != ReleaseFailed }); i >= 0 {
			rel = all[i]
			return nil
		}
		rel.Num, rel.Number = 0, 1
		if len(all) > 0 {
			rel.Number = all[0].Number + 1
		}
		owner, err := tx.Account(s.App.AccountID)
		if err != nil {
			return err
		}
		rel.Account = owner.Email
		return tx.PutRelease(&rel)
	})
	return rel, err
}

// startServiceUnit lets a release run on a node, beside what serves there.
func (c *Core) startServiceUnit(ctx context.Context, app App, n Node, rel Release) error {
	var unit AppUnit
	err := c.Store.Update(ctx, func(tx Tx) error {
		units, err := unitsByNode(tx)
		if err != nil {
			return err
		}
		there := units[n.ID]
		unit = AppUnit{ID: serviceUnitID(n, rel), AppID: app.ID, NodeID: n.ID, Address: n.Address, Release: rel.Number, State: UnitStarting, CreatedAt: c.now()}
		if i := slices.IndexFunc(there, func(u AppUnit) bool { return u.ID == unit.ID }); i >= 0 {
			unit = there[i]
			return nil
		}
		if unit.Port, err = freePort(there); err != nil {
			return err
		}
		return tx.PutUnit(&unit)
	})
	if err != nil || unit.State == UnitStarted {
		return err
	}
	if err := c.startUnit(ctx, app, rel, unit); err != nil {
		return err
	}
	return c.updateUnit(ctx, unit.ID, func(u *AppUnit) { u.State, u.SeenAt = UnitStarted, c.now() })
}

// serviceUnitID names the unit of a release on a node, whenever it is started.
func serviceUnitID(n Node, rel Release) string {
	return unitID(fmt.Sprintf("%s/%s", rel.AppID, n.ID), rel.Number)
}

// nodeServer lets a node's nginx answer whatever name is asked for at its address: as with serviceVHost, people reach the node by
// it, or by names of their own. A server of an address goes before those of any, such as the one that nginx is packaged with.
const nodeServer = `listen %s:80 default_server;
proxy_set_header Host $host;
proxy_set_header X-Real-IP $remote_addr;
proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
proxy_set_header X-Forwarded-Proto $scheme;
client_max_body_size 100m;
proxy_read_timeout 300s;
`

// turnToRelease sends the requests for a service to its units of a release, and ends all others.
func (c *Core) turnToRelease(ctx context.Context, s Service, rel Release) error {
	app, err := view(ctx, c.Store, func(r Reader) (App, error) { return r.App(s.AppID) })
	if err != nil {
		return err
	}
	for _, u := range app.Units {
		i := slices.IndexFunc(app.Nodes, func(n Node) bool { return n.ID == u.NodeID })
		if u.Release != rel.Number || i < 0 {
			continue
		}
		if err := c.turnNode(ctx, app, app.Nodes[i], u); err != nil {
			return err
		}
	}
	var old []AppUnit
	err = c.Store.Update(ctx, func(tx Tx) error {
		old = nil
		if app, err = tx.App(s.AppID); err != nil {
			return err
		}
		for i, u := range app.Units {
			if u.Release == rel.Number {
				continue
			}
			app.Units[i].State = UnitStopping
			if err := tx.PutUnit(&app.Units[i]); err != nil {
				return err
			}
			old = append(old, app.Units[i])
		}
		if rel.EndedAt.IsZero() {
			rel.EndedAt = c.now()
			return tx.PutRelease(&rel)
		}
		return nil
	})
	if err != nil {
		return err
	}
	if err := c.publish(ctx, app, app.hostnames()...); err != nil {
		return err
	}
	if len(old) == 0 {
		return nil
	}
	c.drainRouters(ctx, app, old)
	return c.endUnits(ctx, old)
}

// endUnits stops units once their last request is answered, and forgets them.
func (c *Core) endUnits(ctx context.Context, units []AppUnit) error {
	return sideBySide(units, func(u AppUnit) error {
		if err := c.stopUnit(ctx, u, drainLimit); err != nil {
			return err
		}
		return c.Store.Update(ctx, func(tx Tx) error { return tx.DeleteUnit(u.ID) })
	})
}

// turnNode lets what comes to a node's address go to a unit on it.
func (c *Core) turnNode(ctx context.Context, app App, n Node, u AppUnit) error {
	agent, err := c.Agents.Agent(n)
	if err != nil {
		return err
	}
	if err := startForGood(ctx, agent, "nginx"); err != nil {
		return classified(err, Internal, ObjService, "start the web server on "+n.Name)
	}
	err = agent.MakeProxy(ctx, agentapi.ProxyParams{Hostname: serviceHost(app),
		Backends:  []agentapi.Destination{{Host: n.Address, Port: agentapi.Text(strconv.Itoa(u.Port))}},
		Templates: []agentapi.Template{{Server: true, Content: fmt.Sprintf(nodeServer, n.Address)}}})
	return classified(err, Internal, ObjService, "turn "+n.Name+" to its unit")
}

// undeployUnits takes what a node of a service runs away from it.
func (c *Core) undeployUnits(ctx context.Context, s Service, n Node, agent Agent) error {
	err := agent.RemoveProxy(ctx, agentapi.RemoveProxyParams{Hostname: serviceHost(s.App)})
	if err != nil && !isNotFound(err) {
		return classified(err, Internal, ObjService, "take the site away from "+n.Name)
	}
	return c.endUnits(ctx, slices.DeleteFunc(slices.Clone(s.App.Units), func(u AppUnit) bool { return u.NodeID != n.ID }))
}

// unitsLog is what the units on a node printed, as text.
func (c *Core) unitsLog(ctx context.Context, s Service, n Node) (string, error) {
	agent, err := c.Agents.Agent(n)
	if err != nil {
		return "", err
	}
	log, err := agent.UnitLog(ctx, agentapi.UnitLogParams{App: appName(s.App), Lines: keepLines})
	if err != nil {
		return "", classified(err, Internal, ObjService, "read the log of "+n.Name)
	}
	var b strings.Builder
	for _, l := range log.Lines {
		b.WriteString(l.Message + "\n")
	}
	return b.String(), nil
}
