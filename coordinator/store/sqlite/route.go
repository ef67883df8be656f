package sqlite

import (
	"github.com/reeve-paas/reeve/coordinator/core"
	"github.com/reeve-paas/reeve/coordinator/store"
)

const (
	routeColumns = `r.num, r.id, r.app_id, r.hostname, r.state, r.created_at, r.generated, r.certificate`
	routeByName  = `SELECT ` + routeColumns + ` FROM route r WHERE r.hostname = ?`
	routeInsert  = `INSERT INTO route (id, app_id, hostname, state, created_at, generated, certificate) VALUES (?, ?, ?, ?, ?, ?, ?)`
	routeUpdate  = `UPDATE route SET id = ?, app_id = ?, hostname = ?, state = ?, created_at = ?, generated = ?, certificate = ? WHERE num = ?`
)

func scanRoute(_ *tx, row scanner, r *core.Route) error {
	return row.Scan((*number)(&r.Num), (*text)(&r.ID), (*text)(&r.AppID), (*text)(&r.Hostname), (*text)(&r.State),
		(*micros)(&r.CreatedAt), (*flag)(&r.Generated), (*text)(&r.Certificate))
}

func (t *tx) Route(hostname string) (core.Route, error) {
	return one(t, core.ObjRoute, scanRoute, routeByName, hostname)
}

func (t *tx) PutRoute(r *core.Route) error {
	if r.ID == "" {
		r.ID = store.NewID()
	}
	return t.put(core.ObjRoute, &r.Num, routeInsert, routeUpdate, r.ID, string(r.AppID), r.Hostname, string(r.State),
		timeValue(r.CreatedAt), flagValue(r.Generated), r.Certificate)
}

func (t *tx) DeleteRoute(id string) error {
	return t.drop(core.ObjRoute, `DELETE FROM route WHERE id = ?`, id)
}
