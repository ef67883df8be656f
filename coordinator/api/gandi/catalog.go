package gandi

import (
	"slices"

	"github.com/reeve-paas/reeve/coordinator/api/gandi/xmlrpc"
	"github.com/reeve-paas/reeve/coordinator/core"
)

// product is one line of the catalog: a type of instance in a size, and what is done with it. Nothing is charged, so every
// price is 0. Wire struct:
//
//	{product: {type: "paas", description: "phpmysql_m"}, action: {name: string, duration: double, param: struct or nil},
//	 unit_price: [{id: int, currency: string, grid: string, price: 0.0, min_duration: 1, max_duration: 120,
//	               duration_unit: "m", special_op: false, price_type: nil}]}
type product struct {
	id          int64
	description string
}

var productColumns = []column[product]{
	{name: "id", kind: intColumn, value: func(p *product) cell { return intCell(p.id) }},
	{name: "description", kind: textColumn, value: func(p *product) cell { return textCell(p.description) }},
}

const paasProduct = "paas"

// Action names of the original; those that instances have no use for cost as little.
var catalogActions = []string{"create", "renew", "update", "delete", "release", "restore", "add", "remove", "transfer", "change_owner"}

// catalogQuery is what catalog.list was asked for.
type catalogQuery struct {
	rows           query[product]
	paas           bool // products of this API, and not of another
	action         string
	duration       float64
	currency, grid string
}

func (c *call) catalogList() error {
	q, err := c.catalogQuery()
	if err != nil {
		return err
	}
	var rows []product
	if q.paas {
		sizes, err := c.d.opts.Core.Sizes(c.ctx)
		if err != nil {
			return err
		}
		for _, t := range c.d.opts.Core.AppTypes() {
			for _, s := range sizes {
				rows = append(rows, product{int64(len(rows) + 1), t.Name + "_" + s.ID})
			}
		}
	}
	c.out.BeginArray()
	page := q.rows.list(rows)
	for i := range page {
		writeProduct(c, &q, &page[i])
	}
	c.out.EndArray()
	return nil
}

// catalogQuery reads the arguments: a struct of options, and optionally currency, grid and the date of the prices.
func (c *call) catalogQuery() (catalogQuery, error) {
	q := catalogQuery{action: "create", duration: 1, currency: "EUR", grid: "A"}
	opts, err := c.argStruct(0)
	if err != nil {
		return q, err
	}
	filters := xmlrpc.Value{Kind: xmlrpc.Struct}
	hasProduct := false
	for _, m := range opts.Members {
		switch m.Name {
		case "product":
			hasProduct = true
			err = q.readProduct(m.Value, &filters)
		case "action":
			err = q.readAction(m.Value)
		default: // paging and sorting
			if !slices.Contains([]string{"items_per_page", "page", "sort_by"}, m.Name) {
				return q, faultf(unknownKey, "unknown key '%s'", clip(m.Name))
			}
			filters.Members = append(filters.Members, m)
		}
		if err != nil {
			return q, err
		}
	}
	if !hasProduct {
		return q, faultf(missingKey, "missing mandatory key 'product'")
	}
	for i, into := range []*string{&q.currency, &q.grid} {
		if len(c.params) > i+1 && c.params[i+1].Kind != xmlrpc.Nil {
			if *into, err = c.argString(i + 1); err != nil {
				return q, err
			}
		}
	}
	q.rows, err = parseQuery(productColumns, filters)
	return q, err
}

func (q *catalogQuery) readProduct(v xmlrpc.Value, filters *xmlrpc.Value) error {
	s, ok := v.AsStruct(false)
	if !ok {
		return faultf(notStruct, "product must be a struct, not %s", v.What())
	}
	typed := false
	for _, m := range s.Members {
		switch m.Name {
		case "type":
			text, ok := m.Value.AsString()
			if !ok {
				return faultf(notString, "type must be a string, not %s", m.Value.What())
			}
			typed, q.paas = true, text == paasProduct
		case "quantity":
			if _, ok := m.Value.AsInt(); !ok {
				return faultf(notInteger, "quantity must be an integer, not %s", m.Value.What())
			}
		default:
			filters.Members = append(filters.Members, m)
		}
	}
	if !typed {
		return faultf(missingKey, "missing mandatory key 'type'")
	}
	return nil
}

func (q *catalogQuery) readAction(v xmlrpc.Value) error {
	s, ok := v.AsStruct(true)
	if !ok {
		return faultf(notStruct, "action must be a struct, not %s", v.What())
	}
	for _, m := range s.Members {
		switch m.Name {
		case "name":
			text, ok := m.Value.AsString()
			if !ok {
				return faultf(notString, "name must be a string, not %s", m.Value.What())
			}
			if !slices.Contains(catalogActions, text) {
				return faultf(badParameter, "there is no action '%s'", clip(text))
			}
			q.action = text
		case "duration":
			d, ok := m.Value.AsDouble()
			if !ok {
				return faultf(code{5, 18, 10}, "duration must be a number, not %s", m.Value.What())
			}
			q.duration = d
		case "param":
			if _, ok := m.Value.AsStruct(true); !ok {
				return faultf(notStruct, "param must be a struct, not %s", m.Value.What())
			}
		default:
			return faultf(unknownKey, "unknown key '%s'", clip(m.Name))
		}
	}
	return nil
}

func writeProduct(c *call, q *catalogQuery, p *product) {
	out := c.out
	out.BeginStruct()
	fieldProduct.Begin(out)
	out.BeginStruct()
	fieldType.String(out, paasProduct)
	fieldDescription.String(out, p.description)
	out.EndStruct()
	out.EndMember()
	fieldAction.Begin(out)
	out.BeginStruct()
	fieldName.String(out, q.action)
	fieldDuration.Double(out, q.duration)
	fieldParam.Nil(out)
	out.EndStruct()
	out.EndMember()
	fieldUnitPrice.Begin(out)
	out.BeginArray()
	out.BeginStruct()
	fieldID.Int(out, p.id)
	fieldCurrency.String(out, q.currency)
	fieldGrid.String(out, q.grid)
	fieldPrice.Double(out, 0)
	fieldMinDuration.Int(out, 1)
	fieldMaxDuration.Int(out, core.MaxMonths)
	fieldDurationUnit.String(out, "m")
	fieldSpecialOp.Bool(out, false)
	fieldPriceType.Nil(out)
	out.EndStruct()
	out.EndArray()
	out.EndMember()
	out.EndStruct()
}
