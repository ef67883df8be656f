package gandi

import (
	"cmp"
	"slices"

	"github.com/reeve-paas/reeve/coordinator/core"
)

// vhost is a route with the number of its app. Wire struct:
//
//	{id: int, name: string, paas_id: int, state: string, date_creation: dateTime, cert_id: nil}
type vhost struct {
	core.Route
	app int64
}

var vhostColumns = []column[vhost]{
	{name: "id", kind: intColumn, value: func(v *vhost) cell { return intCell(v.Num) }},
	{name: "name", kind: textColumn, value: func(v *vhost) cell { return textCell(v.Hostname) }},
	{name: "paas_id", kind: intColumn, value: func(v *vhost) cell { return intCell(v.app) }},
	{name: "state", kind: textColumn, value: func(v *vhost) cell { return textCell(vhostState[v.State]) }},
	{name: "date_creation", kind: timeColumn, value: func(v *vhost) cell { return timeCell(v.CreatedAt) }},
	{name: "cert_id", kind: intColumn, value: func(*vhost) cell { return cell{null: true} }},
}

var vhostState = map[core.RouteState]string{
	core.RouteCreating: "being_created",
	core.RouteRunning:  "running",
	core.RouteFailed:   "invalid",
	core.RouteDeleting: "being_deleted",
}

func (c *call) vhostList() error {
	return serveList(c, vhostColumns, c.loadVhosts, func(c *call, v *vhost) { writeVhost(c, v) })
}

func (c *call) vhostCount() error { return serveCount(c, vhostColumns, c.loadVhosts) }

func (c *call) vhostInfo() error {
	given, err := c.argString(0)
	if err != nil {
		return err
	}
	name, ok := core.NormalHostname(given)
	if !ok {
		return faultf(badFQDN, "string '%s' is not a host name", clip(given))
	}
	rows, err := c.loadVhosts(&query[vhost]{})
	if err != nil {
		return err
	}
	i := slices.IndexFunc(rows, func(v vhost) bool { return v.Hostname == name })
	if i < 0 {
		return faultf(noVhost, "Virtualhost '%s' doesn't exist.", name)
	}
	writeVhost(c, &rows[i])
	return nil
}

// loadVhosts collects the routes of the account's apps, or of the one app that is asked for.
func (c *call) loadVhosts(q *query[vhost]) ([]vhost, error) {
	var apps []core.App
	var err error
	if num, ok := q.only("paas_id"); ok {
		app, e := c.d.opts.Core.App(c.ctx, c.p, num.num)
		if core.KindOf(e) != core.NotFound || e == nil {
			apps, err = []core.App{app}, e
		}
	} else {
		apps, err = c.d.opts.Core.AppsPage(c.ctx, c.p, 0, 0)
	}
	var rows []vhost
	for _, app := range apps {
		for _, r := range app.Routes {
			rows = append(rows, vhost{r, app.Num})
		}
	}
	slices.SortFunc(rows, func(a, b vhost) int { return cmp.Compare(a.Num, b.Num) })
	return rows, err
}

func writeVhost(c *call, v *vhost) {
	c.out.BeginStruct()
	writeVhostName(c, &v.Route)
	fieldPaasID.Int(c.out, v.app)
	fieldCertID.Nil(c.out)
	c.out.EndStruct()
}

// writeVhostName writes the members that paas.info shows of a vhost too.
func writeVhostName(c *call, r *core.Route) {
	fieldID.Int(c.out, r.Num)
	fieldName.String(c.out, r.Hostname)
	fieldState.String(c.out, vhostState[r.State])
	fieldDateCreation.Time(c.out, r.CreatedAt)
}
