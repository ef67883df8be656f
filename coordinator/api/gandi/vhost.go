package gandi

import (
	"cmp"
	"errors"
	"net/netip"
	"slices"

	"github.com/reeve-paas/reeve/coordinator/api/gandi/xmlrpc"
	"github.com/reeve-paas/reeve/coordinator/core"
)

// vhost is a route with the number of its app. Wire struct:
//
//	{id: int, name: string, paas_id: int, state: string, date_creation: dateTime, cert_id: nil or int}
type vhost struct {
	core.Route
	app  int64
	cert int64 // number of the uploaded certificate that is shown; 0: our authority's
}

var vhostColumns = []column[vhost]{
	{name: "id", kind: intColumn, value: func(v *vhost) cell { return intCell(v.Num) }},
	{name: "name", kind: textColumn, value: func(v *vhost) cell { return textCell(v.Hostname) }},
	{name: "paas_id", kind: intColumn, value: func(v *vhost) cell { return intCell(v.app) }},
	{name: "state", kind: textColumn, value: func(v *vhost) cell { return textCell(vhostState[v.State]) }},
	{name: "date_creation", kind: timeColumn, value: func(v *vhost) cell { return timeCell(v.CreatedAt) }},
	{name: "cert_id", kind: intColumn, value: func(v *vhost) cell { return cell{num: v.cert, null: v.cert == 0} }},
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
	name, err := c.vhostName()
	if err != nil {
		return err
	}
	app, route, err := c.d.opts.Core.RouteOf(c.ctx, c.p, name)
	if err != nil {
		return vhostMissing(name, err)
	}
	certs, err := c.d.opts.Core.RouteCertificates(c.ctx, c.p)
	if err != nil {
		return err
	}
	writeVhost(c, c.newVhost(app, route, certs))
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
	if err != nil {
		return nil, err
	}
	certs, err := c.d.opts.Core.RouteCertificates(c.ctx, c.p)
	if err != nil {
		return nil, err
	}
	var rows []vhost
	for _, app := range apps {
		for _, r := range app.Routes {
			rows = append(rows, *c.newVhost(app, r, certs))
		}
	}
	slices.SortFunc(rows, func(a, b vhost) int { return cmp.Compare(a.Num, b.Num) })
	return rows, nil
}

// newVhost is a route with the certificate it shows, one of those that the account uploaded.
func (c *call) newVhost(app core.App, r core.Route, certs []core.RouteCertificate) *vhost {
	v := &vhost{Route: r, app: app.Num}
	if len(certs) > 0 {
		if rc, ok := core.UploadedFor(certs, r.Hostname, c.d.opts.Clock()); ok {
			v.cert = rc.Num
		}
	}
	return v
}

// vhostReader reads the spec of paas.vhost.create.
type vhostReader struct {
	specReader
	paas int64
	spec core.RouteSpec
}

func (s *vhostReader) member(name string, v xmlrpc.Value) bool {
	switch name {
	case "paas_id":
		s.paas = s.integer(name, v)
	case "vhost":
		s.spec.Hostname = s.text(name, v)
	case "override":
		s.spec.Override = s.boolean(name, v)
	case "zone_alter":
		s.boolean(name, v)
	default:
		return false
	}
	return true
}

// vhostCreate answers with one operation, or with --dry-run with everything that is wrong. gandi.cli joins attr with blanks
// there, so it is always an array.
func (c *call) vhostCreate() error {
	v, err := c.argStruct(0)
	if err != nil {
		return err
	}
	s := &vhostReader{}
	s.read(v, []string{"paas_id", "vhost"}, s.member)
	if !s.dry {
		if len(s.problems) > 0 {
			return problemFault(s.first())
		}
		_, op, err := c.d.opts.Core.AddRoute(c.ctx, c.p, s.paas, s.spec)
		if err != nil {
			return paasMissing(s.paas, err)
		}
		writeOperation(c, c.accepted(op))
		return nil
	}
	if _, ok := core.NormalHostname(s.spec.Hostname); !ok && s.has("paas_id") && !s.has("vhost") {
		s.bad("vhost", core.ProblemPattern, "not a host name: %s", clip(s.spec.Hostname))
	}
	all := s.problems
	if !s.has("paas_id") && !s.has("vhost") {
		found, err := c.d.opts.Core.CheckRoute(c.ctx, c.p, s.paas, s.spec)
		if err != nil {
			return paasMissing(s.paas, err)
		}
		for _, p := range found {
			all = append(all, onThisWire(p))
		}
	}
	for i := range all {
		if len(all[i].Allowed) == 0 {
			all[i].Allowed = []string{clip(s.spec.Hostname)}
		}
	}
	return c.writeProblems(all)
}

// vhostDelete answers with one operation. An optional struct may ask for a dry run, as in paas.delete.
func (c *call) vhostDelete() error {
	name, err := c.vhostName()
	if err != nil {
		return err
	}
	dry, err := c.onlyDryRun(1)
	if err != nil {
		return err
	}
	if dry {
		if err := c.d.opts.Core.CheckRemoveRoute(c.ctx, c.p, name); err != nil {
			return vhostMissing(name, err)
		}
		return c.writeProblems(nil)
	}
	_, op, err := c.d.opts.Core.RemoveRoute(c.ctx, c.p, name)
	if err != nil {
		return vhostMissing(name, err)
	}
	writeOperation(c, c.accepted(op))
	return nil
}

// vhostName is the first argument after the key as a host name in its normal form.
func (c *call) vhostName() (string, error) {
	given, err := c.argString(0)
	if err != nil {
		return "", err
	}
	name, ok := core.NormalHostname(given)
	if !ok {
		return "", faultf(badFQDN, "string '%s' is not a host name", clip(given))
	}
	return name, nil
}

func vhostMissing(name string, err error) error {
	if e, ok := errors.AsType[*core.Error](err); !ok || e.Kind != core.NotFound || e.Object == core.ObjApp {
		return err
	}
	f := faultf(noVhost, "Virtualhost '%s' doesn't exist.", name)
	f.kind = core.NotFound
	return f
}

// vhostDNSEntries answers with the records that the owner of a name publishes, to prove that and to have it lead here:
//
//	{txt: {name: string, value: string}, cname: string, a: [string], aaaa: [string]}
//
// A name is "@" for the registered domain itself, else relative to it. cname is "" unless the routers have a name.
func (c *call) vhostDNSEntries() error {
	v, err := c.argStruct(0)
	if err != nil {
		return err
	}
	s := &vhostReader{}
	s.read(v, []string{"vhost"}, func(name string, v xmlrpc.Value) bool { return name != "override" && s.member(name, v) })
	if len(s.problems) > 0 {
		return problemFault(s.first())
	}
	if _, ok := v.Member("paas_id"); ok {
		if _, err := c.app(s.paas); err != nil {
			return err
		}
	}
	dns, err := c.d.opts.Core.RouteDNS(c.ctx, c.p, s.spec.Hostname)
	if err != nil {
		return err
	}
	addresses := map[bool][]string{}
	for _, a := range dns.Addresses {
		if ip, err := netip.ParseAddr(a); err == nil {
			addresses[ip.Is4()] = append(addresses[ip.Is4()], a)
		}
	}
	out := c.out
	out.BeginStruct()
	fieldTxt.Begin(out)
	out.BeginStruct()
	fieldName.String(out, dns.Label)
	fieldValue.String(out, dns.TXT)
	out.EndStruct()
	out.EndMember()
	fieldCname.String(out, c.d.opts.RouterHost)
	fieldA.List(out, addresses[true])
	fieldAaaa.List(out, addresses[false])
	out.EndStruct()
	return nil
}

func writeVhost(c *call, v *vhost) {
	c.out.BeginStruct()
	writeVhostName(c, &v.Route)
	fieldPaasID.Int(c.out, v.app)
	if v.cert == 0 {
		fieldCertID.Nil(c.out)
	} else {
		fieldCertID.Int(c.out, v.cert)
	}
	c.out.EndStruct()
}

// writeVhostName writes the members that paas.info shows of a vhost too.
func writeVhostName(c *call, r *core.Route) {
	fieldID.Int(c.out, r.Num)
	fieldName.String(c.out, r.Hostname)
	fieldState.String(c.out, vhostState[r.State])
	fieldDateCreation.Time(c.out, r.CreatedAt)
}
