package gandi

import (
	"cmp"
	"net"
	"slices"
	"strconv"

	"github.com/reeve-paas/reeve/coordinator/api"
	"github.com/reeve-paas/reeve/coordinator/api/gandi/xmlrpc"
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
	opts, err := c.options(0)
	if err != nil {
		return err
	}
	q, err := parseQuery(paasColumns, opts)
	if err != nil {
		return err
	}
	store, can := c.d.opts.Core.(versioned)
	if !can || !q.plain() {
		return c.writePaasList(&q)
	}
	version, ok := store.Version(c.ctx) // before anything is read
	if !ok {
		return c.writePaasList(&q)
	}
	locations, err := c.locations()
	if err != nil {
		return err
	}
	key := pageKey{c.p.Account.ID, q.page, q.perPage, c.out.NilAsString}
	if xml, ok := c.d.pages.get(key, version, locations); ok {
		c.out.Append(xml)
		return nil
	}
	mark := c.out.Mark()
	if err := c.writePaasList(&q); err != nil {
		return err
	}
	c.d.pages.put(key, version, locations, c.out.Since(mark))
	return nil
}

func (c *call) writePaasList(q *query[paas]) error {
	return writeList(c, q, c.loadPaas, func(c *call, p *paas) {
		c.out.BeginStruct()
		c.writePaas(p)
		fieldDatacenterID.Int(c.out, p.datacenter)
		fieldServers.Begin(c.out)
		c.out.BeginArray()
		for i := range p.Nodes {
			c.out.BeginStruct()
			fieldID.Int(c.out, p.Nodes[i].Num)
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
	fieldID.Int(out, p.Num)
	fieldName.String(out, p.Name)
	fieldType.String(out, p.kind)
	fieldSize.String(out, p.SizeID)
	fieldCatalogName.Strings(out, p.kind, "_", p.SizeID)
	fieldState.String(out, paasStates[p.State])
	fieldDataDiskAdditionalSize.Int(out, int64(p.ExtraGB))
	fieldDateStart.Time(out, p.StartsAt)
	fieldDateEnd.Time(out, p.EndsAt)
	fieldDateEndCommitment.Nil(out)
	fieldNeedUpgrade.Bool(out, false)
	var login [20]byte
	fieldConsole.Strings(out, string(strconv.AppendInt(login[:0], p.Login, 10)), "@", hostOr(c.d.opts.ConsoleHost, p.App))
	c.writeProfileOf(p.App)
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
		fieldMemory.Int(c.out, int64(sizes[i].MemoryMB))
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
	fieldAutorenew.Nil(out)
	fieldDatacenter.Begin(out)
	out.BeginStruct()
	writeDatacenterName(c, l)
	out.EndStruct()
	out.EndMember()
	fieldDatadiskTotalSize.Double(out, float64(a.BaseDiskGB+a.ExtraGB))
	fieldFtpServer.String(out, hostOr(c.d.opts.FTPHost, a))
	fieldGitServer.String(out, cmp.Or(c.d.opts.GitHost, api.RequestHost(c.r)))
	fieldOwner.Begin(out)
	out.BeginStruct()
	fieldHandle.String(out, c.p.Account.Handle)
	fieldID.Int(out, c.p.Account.Num)
	out.EndStruct()
	out.EndMember()
	fieldUser.Int(out, a.Login)
	fieldServers.Begin(out)
	out.BeginArray()
	for i := range a.Nodes {
		c.writeServer(a.Nodes[i])
	}
	out.EndArray()
	out.EndMember()
	fieldVhosts.Begin(out)
	out.BeginArray()
	for i := range a.Routes {
		out.BeginStruct()
		writeVhostName(c, &a.Routes[i])
		out.EndStruct()
	}
	out.EndArray()
	out.EndMember()
}

// graphs are the pictures of a server.
var graphs = []struct {
	metric string
	field  xmlrpc.Field
}{{"vcpu", xmlrpc.NewField("vcpu")}, {"vdi", xmlrpc.NewField("vdi")}, {"vif", xmlrpc.NewField("vif")}}

func (c *call) writeServer(n core.Node) {
	c.out.BeginStruct()
	fieldID.Int(c.out, n.Num)
	fieldUUID.Int(c.out, n.Num)
	fieldGraphUrls.Begin(c.out)
	c.out.BeginStruct()
	for i := range graphs {
		url := ""
		if c.d.opts.GraphURL != nil {
			url = c.d.opts.GraphURL(n, graphs[i].metric, c.r)
		}
		graphs[i].field.Begin(c.out)
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
