package sqlite

import "github.com/reeve-paas/reeve/coordinator/core"

const auditInsert = `INSERT INTO audit (at, account_id, dialect, origin, action, subject, operation_id, outcome)
	VALUES (?, ?, ?, ?, ?, ?, ?, ?)`

func (t *tx) Audit(r core.AuditRecord) error {
	if r.At.IsZero() {
		r.At = t.store.now()
	}
	_, err := t.exec(auditInsert, timeValue(r.At), string(r.AccountID), r.Dialect, r.From, r.Action, r.Subject,
		r.OperationID, r.Outcome)
	return failure(err, "", "write the audit record")
}
