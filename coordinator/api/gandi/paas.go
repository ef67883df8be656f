package gandi

import (
	"net"
	"slices"
	"strconv"

	"github.com/reeve-paas/reeve/coordinator/core"
)

// paas is an app as the lists show it.
type paas struct {
	*core.App
	kind       string // the type's name
	datacenter int64
}

// Every scalar member of PaasListItem can be filtered by.
var paasColumns = []column[paas]{
	{name: "id", kind: intColumn, value: func(p *paas) cell { return intCell(p.Num) }},
	{name: "name", kind: textColumn, value: func(p *paas) cell { return textCell(p.Name) }},
	{name: "type", kind: textColumn, value: func(p *paas) cell { return textCell(p.kind) }},
	{name: "size", kind: textColumn, value: func(p *paas) cell { return textCell(p.SizeID) }},
	{name: "catalog_name", kind: textColumn, value: func(p *paas) cell { return textCell(p.catalogName()) }},
	{name: "state", kind: textColumn, value: func(p *paas) cell { return textCell(paasStates[p.State]) }},
	{name: "datacenter_id", kind: intColumn, value: func(p *paas) cell { return intCell(p.datacenter) }},
	{name: "data_disk_additional_size", kind: intColumn, value: func(p *paas) cell { return intCell(int64(p.ExtraGB)) }},
	{name: "date_start", kind: timeColumn, value: func(p *paas) cell { return timeCell(p.StartsAt) }},
	{name: "date_end", kind: timeColumn, value: func(p *paas) cell { return timeCell(p.EndsAt) }},
	{name: "date_end_commitment", kind: timeColumn, value: func(*paas) cell { return cell{null: true} }},
	{name: "need_upgrade", kind: boolColumn, value: func(*paas) cell { return boolCell(false) }},
}

// paasStates says core's states in this API's words.
var paasStates = map[core.AppState]string{
	core.AppCreating: "being_created",
	core.AppRunning:  "running",
	core.AppStopped:  "halted",
	core.AppFailed:   "invalid",
	core.AppDeleting: "being_deleted",
}

func (p *paas) catalogName() string { return p.kind + "_" + p.SizeID }

func (c *call) paasList() error {
	return serveList(c, paasColumns, c.loadPaas, func(c *call, p *paas) {
		c.out.BeginStruct()
		c.writePaas(p)
		c.out.MemberInt("datacenter_id", p.datacenter)
		c.out.BeginMember("servers")
		c.out.BeginArray()
		for i := range p.Nodes {
			c.out.BeginStruct()
			c.out.MemberInt("id", p.Nodes[i].Num)
			c.out.EndStruct()
		}
		c.out.EndArray()
		c.out.EndMember()
		c.out.EndStruct()
	})
}

func (c *call) paasCount() error {
	opts, err := c.options(0)
	if err != nil {
		return err
	}
	q, err := parseQuery(paasColumns, opts)
	if err != nil {
		return err
	}
	if len(q.filters) > 0 {
		return serveCount(c, paasColumns, c.loadPaas)
	}
	n, err := c.d.opts.Core.CountApps(c.ctx, c.p)
	if err != nil {
		return err
	}
	c.out.Int(int64(n))
	return nil
}

// loadPaas loads the account's apps: only the page when they are wanted as they are stored.
func (c *call) loadPaas(q *query[paas]) ([]paas, error) {
	offset, limit := 0, 0
	if q.plain() {
		offset, limit = q.offset(), q.perPage
		q.page = 0
	}
	apps, err := c.d.opts.Core.AppsPage(c.ctx, c.p, offset, limit)
	if err != nil {
		return nil, err
	}
	locations, err := c.locations()
	if err != nil {
		return nil, err
	}
	rows := make([]paas, len(apps))
	for i := range apps {
		rows[i] = paas{App: &apps[i], kind: c.typeName(&apps[i]), datacenter: locationOf(&apps[i], locations).Num}
	}
	return rows, nil
}

// locationOf is where an app runs; one that its cloud does not list any more has number 0.
func locationOf(a *core.App, all []core.Location) core.Location {
	if i := slices.IndexFunc(all, func(l core.Location) bool { return l.ID == a.LocationID }); i >= 0 {
		return all[i]
	}
	return core.Location{ID: a.LocationID, Name: a.LocationID}
}

// writePaas writes the members that list and info share.
func (c *call) writePaas(p *paas) {
	out := c.out
	out.MemberInt("id", p.Num)
	out.MemberString("name", p.Name)
	out.MemberString("type", p.kind)
	out.MemberString("size", p.SizeID)
	out.MemberString("catalog_name", p.catalogName())
	out.MemberString("state", paasStates[p.State])
	out.MemberInt("data_disk_additional_size", int64(p.ExtraGB))
	out.MemberTime("date_start", p.StartsAt)
	out.MemberTime("date_end", p.EndsAt)
	out.MemberNil("date_end_commitment")
	out.MemberBool("need_upgrade", false)
	out.MemberString("console", strconv.FormatInt(p.Login, 10)+"@"+hostOr(c.d.opts.ConsoleHost, p.App))
	out.MemberNil("snapshot_profile")
}

// hostOr is a configured host name, else the address of the instance's own node. It is "" until the node has one.
func hostOr(configured string, a *core.App) string {
	if configured != "" || len(a.Nodes) == 0 {
		return configured
	}
	address := a.Nodes[0].Address
	if host, _, err := net.SplitHostPort(address); err == nil {
		return host
	}
	return address
}

func (c *call) paasInfo() error {
	num, err := c.argInt(0)
	if err != nil {
		return err
	}
	app, err := c.app(num)
	if err != nil {
		return err
	}
	locations, err := c.locations()
	if err != nil {
		return err
	}
	sizes, err := c.d.opts.Core.Sizes(c.ctx)
	if err != nil {
		return err
	}
	location := locationOf(&app, locations)
	c.out.BeginStruct()
	c.writePaas(&paas{App: &app, kind: c.typeName(&app), datacenter: location.Num})
	c.writePaasDetails(&app, &location)
	if i := slices.IndexFunc(sizes, func(s core.Size) bool { return s.ID == app.SizeID }); i >= 0 {
		c.out.MemberInt("memory", int64(sizes[i].MemoryMB))
	}
	c.out.EndStruct()
	return nil
}

// app loads an instance of the caller; what is not theirs does not exist. A public client matches the fault's text.
func (c *call) app(num int64) (core.App, error) {
	app, err := c.d.opts.Core.App(c.ctx, c.p, num)
	return app, paasMissing(num, err)
}

func paasMissing(num int64, err error) error {
	if err == nil || core.KindOf(err) != core.NotFound {
		return err
	}
	f := faultf(noPaas, "Paas '%d' doesn't exist.", num)
	f.kind = core.NotFound
	return f
}

// writePaasDetails writes what only info shows.
func (c *call) writePaasDetails(a *core.App, l *core.Location) {
	out := c.out
	out.MemberNil("autorenew")
	out.BeginMember("datacenter")
	out.BeginStruct()
	writeDatacenterName(c, l)
	out.EndStruct()
	out.EndMember()
	out.MemberDouble("datadisk_total_size", float64(a.BaseDiskGB+a.ExtraGB))
	out.MemberString("ftp_server", hostOr(c.d.opts.FTPHost, a))
	out.MemberString("git_server", hostOr(c.d.opts.GitHost, a))
	out.BeginMember("owner")
	out.BeginStruct()
	out.MemberString("handle", c.p.Account.Handle)
	out.MemberInt("id", c.p.Account.Num)
	out.EndStruct()
	out.EndMember()
	out.MemberInt("user", a.Login)
	out.BeginMember("servers")
	out.BeginArray()
	for i := range a.Nodes {
		c.writeServer(a.Nodes[i])
	}
	out.EndArray()
	out.EndMember()
	out.BeginMember("vhosts")
	out.BeginArray()
	for i := range a.Routes {
		out.BeginStruct()
		writeVhostName(c, &a.Routes[i])
		out.EndStruct()
	}
	out.EndArray()
	out.EndMember()
}

func (c *call) writeServer(n core.Node) {
	c.out.BeginStruct()
	c.out.MemberInt("id", n.Num)
	c.out.MemberInt("uuid", n.Num)
	c.out.BeginMember("graph_urls")
	c.out.BeginStruct()
	for _, metric := range []string{"vcpu", "vdi", "vif"} {
		url := ""
		if c.d.opts.GraphURL != nil {
			url = c.d.opts.GraphURL(n, metric, c.r)
		}
		c.out.BeginMember(metric)
		c.out.BeginArray()
		c.out.String(url)
		c.out.EndArray()
		c.out.EndMember()
	}
	c.out.EndStruct()
	c.out.EndMember()
	c.out.EndStruct()
}

// paasDelete answers with one operation. An optional struct may ask for a dry run, which finds no problems: what cannot be
// deleted at all is a fault in a dry run too.
func (c *call) paasDelete() error {
	num, err := c.argInt(0)
	if err != nil {
		return err
	}
	dry, err := c.onlyDryRun(1)
	if err != nil {
		return err
	}
	if dry {
		app, err := c.app(num)
		if err != nil {
			return err
		}
		if app.State == core.AppDeleting {
			return core.Errorf(core.Busy, core.ObjApp, "the app is being deleted")
		}
		return c.writeProblems(nil)
	}
	op, err := c.d.opts.Core.DeleteApp(c.ctx, c.p, num)
	if err != nil {
		return paasMissing(num, err)
	}
	writeOperation(c, c.accepted(op))
	return nil
}
