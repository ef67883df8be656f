package director

import (
	"errors"
	"fmt"

	"github.com/reeve-paas/reeve/coordinator/core"
)

// serviceRecord is a service as lists show it. All rows of a list have the same keys.
type serviceRecord struct {
	SID         int64   `json:"sid"`
	Name        string  `json:"name"`
	Type        string  `json:"type"`
	State       string  `json:"state"`
	Created     string  `json:"created"`
	Manager     string  `json:"manager"`
	VMID        string  `json:"vmid"`
	Cloud       string  `json:"cloud"`
	Subnet      *string `json:"subnet"` // of a VPN; there is none
	UserID      int64   `json:"user_id"`
	Application int64   `json:"application_id"`
	// What callers of 2.x look for besides.
	Service *modernService     `json:"service,omitempty"`
	Owner   *applicationRecord `json:"application,omitempty"`
}

type modernService struct {
	RecID       int64   `json:"rec_id"`
	SID         int64   `json:"sid"`
	Name        string  `json:"name"`
	Type        string  `json:"type"`
	State       string  `json:"state"`
	Created     string  `json:"created"`
	Cloud       string  `json:"cloud"`
	Subnet      *string `json:"subnet"`
	Application int64   `json:"application_id"`
}

// defaultCloud is what the default cloud is called inside.
const defaultCloud = "iaas"

func cloudLabel(c Core, name string) string {
	if name == c.DefaultCloud() {
		return defaultCloud
	}
	return name
}

func (d *Dialect) cloudName(name string) string { return cloudLabel(d.core, name) }

// record is a service as this caller's generation knows it. apps are the owner's applications.
func (c *call) record(s core.Service, apps []core.Application) serviceRecord {
	r := serviceRecord{SID: s.App.Num, Name: s.Label, Type: s.Type, State: string(s.State), Created: s.App.CreatedAt.UTC().Format(timeLayout),
		Manager: s.Address, Cloud: c.d.cloudName(s.App.Cloud), UserID: c.peer.UID, Application: s.Application}
	if len(s.App.Nodes) > 0 {
		r.VMID = s.App.Nodes[0].CloudID
	}
	if !c.modern() {
		return r
	}
	r.Service = &modernService{RecID: r.SID, SID: r.SID, Name: r.Name, Type: r.Type, State: r.State, Created: r.Created, Cloud: r.Cloud, Application: r.Application}
	for _, a := range apps {
		if a.Num == s.Application {
			owner := c.application(a, []core.Service{s})
			r.Owner = &owner
		}
	}
	return r
}

func (c *call) availableServices() {
	types, err := c.d.core.ServiceTypes(c.ctx())
	if err != nil {
		c.log(err)
		types = []string{}
	}
	c.answer(types)
}

// start serves /start, and /add of 2.x: a service of 2.x is started by its manager likewise.
func (c *call) start() {
	spec := core.ServiceSpec{Type: c.values[0]}
	if len(c.values) > 1 && c.values[1] != defaultCloud {
		spec.Cloud = c.values[1]
	}
	if text := c.text("appid"); text != "" {
		if spec.Application = c.number("appid"); spec.Application <= 0 {
			spec.Application = -1 // no application has it
		}
	}
	s, err := c.d.core.CreateService(c.ctx(), c.peer.Principal, spec)
	if err != nil {
		c.log(err)
		c.fail(c.startFailure(err))
		return
	}
	c.d.opts.Changed(c.ctx())
	apps, err := c.d.core.Applications(c.ctx(), c.peer.Principal)
	if err != nil {
		c.log(err)
	}
	c.answer(c.record(s, apps))
}

// startFailure is the original's text where it has one.
func (c *call) startFailure(err error) string {
	const creation = "Error upon service creation: "
	e, _ := errors.AsType[*core.Error](err)
	if e == nil {
		return creation + textOf(err)
	}
	switch (subject{e.Kind, e.Object}) {
	case subject{core.Invalid, core.ObjApplication}:
		return "No existing applications"
	case subject{core.Invalid, core.ObjService}:
		return "Unknown service type: " + clip(c.values[0])
	case subject{core.NotFound, core.ObjApplication}:
		return "Application not found"
	case subject{core.NotFound, core.ObjCloud}:
		if len(c.values) > 1 {
			return creation + fmt.Sprintf("There is no cloud named %s.", clip(c.values[1]))
		}
	case subject{core.Quota, core.ObjCredit}:
		return creation + "Could not add nodes. Not enough credits."
	}
	return creation + textOf(err)
}

// subject is a kind of failure about an object.
type subject struct {
	kind   core.Kind
	object core.Object
}

func (c *call) stop() {
	err := c.d.core.StopService(c.ctx(), c.peer.Principal, c.id("service_id"))
	c.d.opts.Changed(c.ctx())
	if err != nil {
		c.no(err)
		return
	}
	c.done()
}

func (c *call) rename() {
	name := c.text("name")
	if err := c.d.core.RenameService(c.ctx(), c.peer.Principal, c.id("service_id"), name); err != nil {
		c.no(err)
		return
	}
	c.done()
}

// list serves all services, or those of one application. Another user's application has none.
func (c *call) list() {
	var application int64
	if len(c.values) > 0 {
		if application = c.id(""); application == 0 {
			application = -1
		}
	}
	services, err := c.d.core.Services(c.ctx(), c.peer.Principal, application)
	if err != nil {
		c.no(err)
		return
	}
	apps, err := c.d.core.Applications(c.ctx(), c.peer.Principal)
	if err != nil {
		c.no(err)
		return
	}
	rows := []serviceRecord{}
	for _, s := range services {
		rows = append(rows, c.record(s, apps))
	}
	c.answer(rows)
}

// resource is one node as callers of 2.x list them.
type resource struct {
	RID     int64  `json:"rid"`
	VMID    string `json:"vmid"`
	IP      string `json:"ip"`
	App     int64  `json:"app_id"`
	Service int64  `json:"service_id"`
	Role    string `json:"role"`
	Cloud   string `json:"cloud"`
	Charged int    `json:"charged"`
	Created string `json:"created"`
	AppName string `json:"app_name"`
}

func (c *call) listResources() {
	services, err := c.d.core.Services(c.ctx(), c.peer.Principal, 0)
	if err != nil {
		c.no(err)
		return
	}
	apps, err := c.d.core.Applications(c.ctx(), c.peer.Principal)
	if err != nil {
		c.no(err)
		return
	}
	names := map[int64]string{}
	for _, a := range apps {
		names[a.Num] = a.Name
	}
	rows := []resource{}
	for _, s := range services {
		for i, n := range s.App.Nodes {
			role := "agent"
			if i == 0 {
				role = "manager"
			}
			rows = append(rows, resource{RID: n.Num, VMID: n.CloudID, IP: n.Address, App: s.Application, Service: s.App.Num, Role: role,
				Cloud: c.d.cloudName(n.Cloud), Charged: startedHours(n), Created: n.CreatedAt.UTC().Format(timeLayout), AppName: names[s.Application]})
		}
	}
	c.answer(rows)
}
