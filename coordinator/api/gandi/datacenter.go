package gandi

import (
	"cmp"
	"slices"

	"github.com/reeve-paas/reeve/coordinator/core"
)

// Wire struct of datacenter.list:
//
//	{id: int, iso: string, name: string, country: string, dc_code: string, can_migrate_to: [int], deactivate_at: nil,
//	 iaas_closed_for: "NONE", paas_closed_for: "NONE"}
//
// Every location that a cloud lists is open to everybody.
var datacenterColumns = []column[core.Location]{
	{name: "id", kind: intColumn, value: func(l *core.Location) cell { return intCell(l.Num) }},
	{name: "iso", kind: textColumn, value: func(l *core.Location) cell { return textCell(l.ISO) }},
	{name: "name", kind: textColumn, value: func(l *core.Location) cell { return textCell(l.Name) }},
	{name: "country", kind: textColumn, value: func(l *core.Location) cell { return textCell(l.Country) }},
	{name: "dc_code", kind: textColumn, value: func(l *core.Location) cell { return textCell(l.Code) }},
	{name: "deactivate_at", kind: timeColumn, value: func(*core.Location) cell { return cell{null: true} }},
	{name: "iaas_closed_for", kind: textColumn, value: func(*core.Location) cell { return textCell(openToAll) }},
	{name: "paas_closed_for", kind: textColumn, value: func(*core.Location) cell { return textCell(openToAll) }},
	{name: "iaas_opened", kind: boolColumn, value: func(*core.Location) cell { return boolCell(true) }, filterOnly: true},
	{name: "paas_opened", kind: boolColumn, value: func(*core.Location) cell { return boolCell(true) }, filterOnly: true},
	{name: "iaas_closed", kind: boolColumn, value: func(*core.Location) cell { return boolCell(false) }, filterOnly: true},
	{name: "paas_closed", kind: boolColumn, value: func(*core.Location) cell { return boolCell(false) }, filterOnly: true},
}

const openToAll = "NONE"

func (c *call) datacenterList() error {
	return serveList(c, datacenterColumns, func(*query[core.Location]) ([]core.Location, error) { return c.locations() }, writeDatacenter)
}

// locations are the datacenters by ascending number.
func (c *call) locations() ([]core.Location, error) {
	all, err := c.d.opts.Core.Locations(c.ctx)
	return slices.SortedFunc(slices.Values(all), func(a, b core.Location) int { return cmp.Compare(a.Num, b.Num) }), err
}

func writeDatacenter(c *call, l *core.Location) {
	c.out.BeginStruct()
	writeDatacenterName(c, l)
	fieldCanMigrateTo.Begin(c.out)
	c.out.BeginArray()
	c.out.EndArray()
	c.out.EndMember()
	fieldDeactivateAt.Nil(c.out)
	fieldIaasClosedFor.String(c.out, openToAll)
	fieldPaasClosedFor.String(c.out, openToAll)
	c.out.EndStruct()
}

// writeDatacenterName writes the members by which an instance names its datacenter too.
func writeDatacenterName(c *call, l *core.Location) {
	fieldID.Int(c.out, l.Num)
	fieldISO.String(c.out, l.ISO)
	fieldName.String(c.out, l.Name)
	fieldCountry.String(c.out, l.Country)
	fieldDCCode.String(c.out, l.Code)
}
