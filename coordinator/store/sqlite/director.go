package sqlite

import (
	"encoding/json"
	"time"

	"github.com/reeve-paas/reeve/coordinator/core"
)

const (
	creditTake = `UPDATE account SET credit = credit - ? WHERE id = ? AND credit >= ?`
	creditGive = `UPDATE account SET credit = credit + ? WHERE id = ?`

	applicationColumns = `num, account_id, name, created_at`
	applicationByNum   = `SELECT ` + applicationColumns + ` FROM application WHERE num = ?`
	applicationList    = `SELECT ` + applicationColumns + ` FROM application WHERE account_id = ? ORDER BY num`
	applicationInsert  = `INSERT INTO application (account_id, name, created_at) VALUES (?, ?, ?)`
	applicationUpdate  = `UPDATE application SET account_id = ?, name = ?, created_at = ? WHERE num = ?`

	serviceSelect = `SELECT s.app_id, s.application, s.type, s.label, s.state, s.address, s.version, s.release, s.settings
		FROM managed_service s`
	serviceByApp = serviceSelect + ` WHERE s.app_id = ?`
	serviceList  = serviceSelect + ` JOIN app a ON a.id = s.app_id WHERE a.account_id = ? ORDER BY a.num`
	serviceAll   = serviceSelect + ` JOIN app a ON a.id = s.app_id ORDER BY a.num`
	servicePut   = `INSERT INTO managed_service (app_id, application, type, label, state, address, version, release, settings)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (app_id) DO UPDATE SET application = excluded.application, type = excluded.type,
		label = excluded.label, state = excluded.state, address = excluded.address, version = excluded.version,
		release = excluded.release, settings = excluded.settings`

	eventInsert = `INSERT INTO service_event (app_id, at, state, reason) VALUES (?, ?, ?, ?)`
	eventList   = `SELECT at, state, reason FROM service_event WHERE app_id = ? ORDER BY num`

	codeInsert = `INSERT INTO code_version (app_id, filename, description, created_at, file, size_bytes, archive) VALUES (?, ?, ?, ?, ?, ?, ?)`
	codeUpdate = `UPDATE code_version SET app_id = ?, filename = ?, description = ?, created_at = ?, file = ?, size_bytes = ?, archive = ? WHERE num = ?`
	codeList   = `SELECT num, app_id, filename, description, created_at, file, size_bytes, NULL FROM code_version WHERE app_id = ? ORDER BY num DESC`
	codeByNum  = `SELECT num, app_id, filename, description, created_at, file, size_bytes, archive FROM code_version WHERE app_id = ? AND num = ?`

	leasePut   = `INSERT INTO lease (node_id, app_id, paid_until) VALUES (?, ?, ?) ON CONFLICT (node_id) DO UPDATE SET paid_until = excluded.paid_until`
	leaseList  = `SELECT l.node_id, l.app_id, l.paid_until FROM lease l JOIN node n ON n.id = l.node_id WHERE l.app_id = ? ORDER BY n.num`
	leaseOwing = `SELECT DISTINCT a.num FROM lease l JOIN app a ON a.id = l.app_id WHERE l.paid_until <= ? ORDER BY a.num`

	clockRead = `SELECT counted, boot, uptime, wall FROM billing_clock WHERE id = 1`
	clockPut  = `INSERT INTO billing_clock (id, counted, boot, uptime, wall) VALUES (1, ?, ?, ?, ?) ON CONFLICT (id) DO UPDATE SET
		counted = excluded.counted, boot = excluded.boot, uptime = excluded.uptime, wall = excluded.wall`

	certificateColumns  = `serial, account_id, role, service, created_at, ends_at, revoked_at`
	certificateBySerial = `SELECT ` + certificateColumns + ` FROM certificate WHERE serial = ?`
	certificateInsert   = `INSERT INTO certificate (` + certificateColumns + `) VALUES (?, ?, ?, ?, ?, ?, ?)`
	certificateRevoke   = `UPDATE certificate SET revoked_at = ? WHERE account_id = ? AND service = ? AND revoked_at = 0`
)

func (t *tx) TakeCredit(account core.AccountID, n int) (bool, error) {
	rows, err := t.exec(creditTake, n, string(account), n)
	return rows == 1, failure(err, core.ObjAccount, "take credit")
}

func (t *tx) GiveCredit(account core.AccountID, n int) error {
	_, err := t.exec(creditGive, n, string(account))
	return failure(err, core.ObjAccount, "give credit back")
}

func scanApplication(_ *tx, row scanner, a *core.Application) error {
	return row.Scan((*number)(&a.Num), (*text)(&a.AccountID), (*text)(&a.Name), (*micros)(&a.CreatedAt))
}

func (t *tx) Application(num int64) (core.Application, error) {
	return one(t, core.ObjApplication, scanApplication, applicationByNum, num)
}

func (t *tx) Applications(account core.AccountID) ([]core.Application, error) {
	return list(t, core.ObjApplication, scanApplication, applicationList, string(account))
}

func (t *tx) PutApplication(a *core.Application) error {
	return t.put(core.ObjApplication, &a.Num, applicationInsert, applicationUpdate, string(a.AccountID), a.Name, timeValue(a.CreatedAt))
}

func (t *tx) DeleteApplication(num int64) error {
	return t.drop(core.ObjApplication, `DELETE FROM application WHERE num = ?`, num)
}

func scanService(_ *tx, row scanner, s *core.ManagedService) error {
	var settings text
	err := row.Scan((*text)(&s.AppID), (*number)(&s.Application), (*text)(&s.Type), (*text)(&s.Label), (*text)(&s.State),
		(*text)(&s.Address), (*number)(&s.Version), (*count)(&s.Release), &settings)
	if err != nil {
		return err
	}
	return json.Unmarshal([]byte(settings), &s.Settings)
}

func (t *tx) ManagedService(app core.AppID) (core.ManagedService, error) {
	return one(t, core.ObjService, scanService, serviceByApp, string(app))
}

func (t *tx) ManagedServices(account core.AccountID) ([]core.ManagedService, error) {
	if account == "" {
		return list(t, core.ObjService, scanService, serviceAll)
	}
	return list(t, core.ObjService, scanService, serviceList, string(account))
}

func (t *tx) PutManagedService(s core.ManagedService) error {
	if s.Settings == nil {
		s.Settings = map[string]string{}
	}
	settings, err := json.Marshal(s.Settings)
	if err != nil {
		return err
	}
	_, err = t.exec(servicePut, string(s.AppID), s.Application, s.Type, s.Label, string(s.State), s.Address, s.Version, s.Release, string(settings))
	return failure(err, core.ObjService, "store the service")
}

func scanEvent(_ *tx, row scanner, e *core.ServiceEvent) error {
	return row.Scan((*micros)(&e.At), (*text)(&e.State), (*text)(&e.Reason))
}

func (t *tx) ServiceEvents(app core.AppID) ([]core.ServiceEvent, error) {
	return list(t, core.ObjService, scanEvent, eventList, string(app))
}

func (t *tx) AddServiceEvent(app core.AppID, e core.ServiceEvent) error {
	_, err := t.exec(eventInsert, string(app), timeValue(e.At), string(e.State), e.Reason)
	return failure(err, core.ObjService, "store what happened to the service")
}

func scanCode(_ *tx, row scanner, v *core.CodeVersion) error {
	err := row.Scan((*number)(&v.Num), (*text)(&v.AppID), (*text)(&v.Filename), (*text)(&v.Description), (*micros)(&v.CreatedAt),
		(*text)(&v.File), (*number)(&v.SizeBytes), &v.Archive)
	if len(v.Archive) == 0 {
		v.Archive = nil
	}
	return err
}

func (t *tx) CodeVersions(app core.AppID) ([]core.CodeVersion, error) {
	return list(t, core.ObjCode, scanCode, codeList, string(app))
}

func (t *tx) CodeVersion(app core.AppID, num int64) (core.CodeVersion, error) {
	return one(t, core.ObjCode, scanCode, codeByNum, string(app), num)
}

func (t *tx) PutCodeVersion(v *core.CodeVersion) error {
	archive := v.Archive
	if archive == nil {
		archive = []byte{}
	}
	return t.put(core.ObjCode, &v.Num, codeInsert, codeUpdate, string(v.AppID), v.Filename, v.Description, timeValue(v.CreatedAt), v.File, v.SizeBytes, archive)
}

func (t *tx) DeleteCodeVersion(num int64) error {
	return t.drop(core.ObjCode, `DELETE FROM code_version WHERE num = ?`, num)
}

func scanLease(_ *tx, row scanner, l *core.Lease) error {
	var until int64
	err := row.Scan((*text)(&l.NodeID), (*text)(&l.AppID), (*number)(&until))
	l.PaidUntil = time.Duration(until) * time.Microsecond
	return err
}

func (t *tx) Leases(app core.AppID) ([]core.Lease, error) {
	return list(t, core.ObjNode, scanLease, leaseList, string(app))
}

func (t *tx) OwingApps(at time.Duration) ([]int64, error) {
	return list(t, core.ObjNode, scanCount, leaseOwing, at.Microseconds())
}

func (t *tx) PutLease(l core.Lease) error {
	_, err := t.exec(leasePut, string(l.NodeID), string(l.AppID), l.PaidUntil.Microseconds())
	return failure(err, core.ObjNode, "store what is paid")
}

func (t *tx) DeleteLease(id core.NodeID) error {
	return t.drop(core.ObjNode, `DELETE FROM lease WHERE node_id = ?`, string(id))
}

func scanBillingClock(_ *tx, row scanner, c *core.BillingClock) error {
	var counted, uptime int64
	err := row.Scan((*number)(&counted), (*text)(&c.Boot), (*number)(&uptime), (*micros)(&c.Wall))
	c.Counted, c.Uptime = time.Duration(counted)*time.Microsecond, time.Duration(uptime)*time.Microsecond
	return err
}

func (t *tx) BillingClock() (core.BillingClock, error) {
	return one(t, "", scanBillingClock, clockRead)
}

func (t *tx) PutBillingClock(c core.BillingClock) error {
	_, err := t.exec(clockPut, c.Counted.Microseconds(), c.Boot, c.Uptime.Microseconds(), timeValue(c.Wall))
	return failure(err, "", "store the billing clock")
}

func scanCertificate(_ *tx, row scanner, c *core.Certificate) error {
	return row.Scan((*text)(&c.Serial), (*text)(&c.AccountID), (*text)(&c.Role), (*number)(&c.Service), (*micros)(&c.CreatedAt),
		(*micros)(&c.EndsAt), (*micros)(&c.RevokedAt))
}

func (t *tx) Certificate(serial string) (core.Certificate, error) {
	return one(t, core.ObjCertificate, scanCertificate, certificateBySerial, serial)
}

func (t *tx) AddCertificate(c core.Certificate) error {
	_, err := t.exec(certificateInsert, c.Serial, string(c.AccountID), c.Role, c.Service, timeValue(c.CreatedAt), timeValue(c.EndsAt),
		timeValue(c.RevokedAt))
	return failure(err, core.ObjCertificate, "store the certificate")
}

func (t *tx) RevokeCertificates(account core.AccountID, service int64, at time.Time) error {
	_, err := t.exec(certificateRevoke, timeValue(at), string(account), service)
	return failure(err, core.ObjCertificate, "revoke certificates")
}
