package director

import (
	"fmt"
	"time"

	"github.com/reeve-paas/reeve/coordinator/core"
)

// applicationRecord is an application in its long form; clients of 1.x look at the first two.
type applicationRecord struct {
	AID     int64   `json:"aid"`
	Name    string  `json:"name"`
	UID     int64   `json:"uid"`
	Status  string  `json:"status"`
	Manager *string `json:"manager"`
	VMID    *string `json:"vmid"`
	Cloud   *string `json:"cloud"`
}

// application shows the first of its services as its manager: in 2.x an application has one machine that manages all.
func (c *call) application(a core.Application, services []core.Service) applicationRecord {
	cloud := defaultCloud
	r := applicationRecord{AID: a.Num, Name: a.Name, UID: c.peer.UID, Status: string(core.ServiceRunning), Cloud: &cloud}
	for _, s := range services {
		if s.Application == a.Num && s.Address != "" && len(s.App.Nodes) > 0 {
			cloud := c.d.cloudName(s.App.Cloud)
			r.Manager, r.VMID, r.Cloud = &s.Address, &s.App.Nodes[0].CloudID, &cloud
			break
		}
	}
	return r
}

func (c *call) listApp() {
	apps, err := c.d.core.Applications(c.ctx(), c.peer.Principal)
	if err != nil {
		c.no(err)
		return
	}
	services, err := c.d.core.Services(c.ctx(), c.peer.Principal, 0)
	if err != nil {
		c.no(err)
		return
	}
	rows := []applicationRecord{}
	for _, a := range apps {
		rows = append(rows, c.application(a, services))
	}
	c.answer(rows)
}

func (c *call) createApp() {
	name := c.text("name")
	if name == "" {
		c.no(core.Errorf(core.Invalid, core.ObjApplication, "Missing required field: 'name'"))
		return
	}
	a, err := c.d.core.CreateApplication(c.ctx(), c.peer.Principal, name)
	switch {
	case err == nil:
		c.answer(map[string]any{"aid": a.Num, "name": a.Name})
	case core.KindOf(err) == core.Exists:
		c.fail(fmt.Sprintf("Application name \"%s\" already taken", clip(name)))
	default:
		c.failed(err)
	}
}

func (c *call) renameApp() {
	if err := c.d.core.RenameApplication(c.ctx(), c.peer.Principal, c.id(""), c.text("name")); err != nil {
		c.no(err)
		return
	}
	c.done()
}

func (c *call) deleteApp() {
	err := c.d.core.DeleteApplication(c.ctx(), c.peer.Principal, c.id(""))
	c.d.opts.Changed(c.ctx())
	if err != nil {
		c.no(err)
		return
	}
	c.done()
}

// ownApp is the application of the path, when it is the caller's. When it returns false the call is answered.
func (c *call) ownApp() (core.Application, bool) {
	apps, err := c.d.core.Applications(c.ctx(), c.peer.Principal)
	if err != nil {
		c.no(err)
		return core.Application{}, false
	}
	for _, a := range apps {
		if a.Num == c.id("") {
			return a, true
		}
	}
	c.no(core.Errorf(core.NotFound, core.ObjApplication, "Application not found"))
	return core.Application{}, false
}

// startApp has nothing to do: the coordinator manages every application, without a machine for it.
func (c *call) startApp() {
	if _, ok := c.ownApp(); ok {
		c.answer(map[string]any{})
	}
}

// stopApp ends the services of an application.
func (c *call) stopApp() {
	app, ok := c.ownApp()
	if !ok {
		return
	}
	services, err := c.d.core.Services(c.ctx(), c.peer.Principal, app.Num)
	if err != nil {
		c.no(err)
		return
	}
	for _, s := range services {
		if !s.Managed {
			continue
		}
		if err := c.d.core.StopService(c.ctx(), c.peer.Principal, s.App.Num); err != nil && core.KindOf(err) != core.Busy && core.KindOf(err) != core.NotFound {
			c.no(err)
			return
		}
	}
	c.d.opts.Changed(c.ctx())
	c.answer(map[string]any{})
}

// startedHours of a node.
func startedHours(n core.Node) int { return 1 + int(time.Since(n.CreatedAt)/time.Hour) }
