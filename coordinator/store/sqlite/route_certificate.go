package sqlite

import (
	"strings"

	"github.com/reeve-paas/reeve/coordinator/core"
)

const (
	routeCertificateColumns = `id, account_id, route_id, names, chain, starts_at, ends_at, created_at, deleting, key`
	routeCertificateSelect  = `SELECT num, ` + routeCertificateColumns + ` FROM route_certificate`
	routeCertificateByNum   = routeCertificateSelect + ` WHERE num = ?`
	routeCertificateByRoute = routeCertificateSelect + ` WHERE route_id = ?`
	routeCertificateByID    = routeCertificateSelect + ` WHERE id = ? ORDER BY num`
	routeCertificatesOf     = `SELECT num, id, account_id, route_id, names, chain, starts_at, ends_at, created_at, deleting, NULL FROM route_certificate
		WHERE account_id = ? AND account_id <> '' ORDER BY num`
	routeCertificateInsert = `INSERT INTO route_certificate (` + routeCertificateColumns + `) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`
	routeCertificateUpdate = `UPDATE route_certificate SET id = ?, account_id = ?, route_id = ?, names = ?, chain = ?, starts_at = ?, ends_at = ?,
		created_at = ?, deleting = ?, key = ? WHERE num = ?`
)

func scanRouteCertificate(t *tx, row scanner, c *core.RouteCertificate) error {
	var key []byte
	var names text
	err := row.Scan((*number)(&c.Num), (*text)(&c.ID), (*text)(&c.AccountID), (*text)(&c.RouteID), &names, &c.Chain, (*micros)(&c.StartsAt),
		(*micros)(&c.EndsAt), (*micros)(&c.CreatedAt), (*flag)(&c.Deleting), &key)
	c.Names = strings.Fields(string(names))
	if err == nil {
		c.Key, err = t.unseal(key, "route_certificate.key", c.ID)
	}
	return err
}

func (t *tx) RouteCertificates(account core.AccountID) ([]core.RouteCertificate, error) {
	return list(t, core.ObjCertificate, scanRouteCertificate, routeCertificatesOf, string(account))
}

func (t *tx) RouteCertificate(num int64) (core.RouteCertificate, error) {
	return one(t, core.ObjCertificate, scanRouteCertificate, routeCertificateByNum, num)
}

func (t *tx) IssuedCertificate(routeID string) (core.RouteCertificate, error) {
	return one(t, core.ObjCertificate, scanRouteCertificate, routeCertificateByRoute, routeID)
}

func (t *tx) RouteCertificatesWithID(id string) ([]core.RouteCertificate, error) {
	return list(t, core.ObjCertificate, scanRouteCertificate, routeCertificateByID, id)
}

func (t *tx) PutRouteCertificate(c *core.RouteCertificate) error {
	return t.put(core.ObjCertificate, &c.Num, routeCertificateInsert, routeCertificateUpdate, c.ID, string(c.AccountID), reference(c.RouteID),
		strings.Join(c.Names, " "), c.Chain, timeValue(c.StartsAt), timeValue(c.EndsAt), timeValue(c.CreatedAt), flagValue(c.Deleting),
		t.seal(c.Key, "route_certificate.key", c.ID))
}

func (t *tx) DeleteRouteCertificate(num int64) error {
	return t.drop(core.ObjCertificate, `DELETE FROM route_certificate WHERE num = ?`, num)
}
