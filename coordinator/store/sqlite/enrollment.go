package sqlite

import (
	"fmt"

	"github.com/reeve-paas/reeve/coordinator/core"
)

const (
	enrollmentByHash = `SELECT hash, cloud, name, account_id, created_at, expires_at FROM enrollment WHERE hash = ?`
	enrollmentPut    = `INSERT INTO enrollment (hash, cloud, name, account_id, created_at, expires_at) VALUES (?, ?, ?, ?, ?, ?)`
	enrollmentDrop   = `DELETE FROM enrollment WHERE hash = ?`
	enrollmentsOld   = `DELETE FROM enrollment WHERE expires_at < ?`
)

func scanEnrollment(_ *tx, row scanner, e *core.Enrollment) error {
	var hash []byte
	err := row.Scan(&hash, (*text)(&e.Cloud), (*text)(&e.Name), (*text)(&e.AccountID), (*micros)(&e.CreatedAt), (*micros)(&e.ExpiresAt))
	if err == nil && copy(e.Hash[:], hash) != len(e.Hash) {
		err = fmt.Errorf("the hash of an enrolment token has %d bytes", len(hash))
	}
	return err
}

func (t *tx) Enrollment(hash [32]byte) (core.Enrollment, error) {
	return one(t, core.ObjEnrollment, scanEnrollment, enrollmentByHash, hash[:])
}

// PutEnrollment stores a new token, and forgets those that have expired.
func (t *tx) PutEnrollment(e core.Enrollment) error {
	if _, err := t.exec(enrollmentsOld, timeValue(e.CreatedAt)); err != nil {
		return failure(err, core.ObjEnrollment, "forget old enrolment tokens")
	}
	_, err := t.exec(enrollmentPut, e.Hash[:], e.Cloud, e.Name, string(e.AccountID), timeValue(e.CreatedAt), timeValue(e.ExpiresAt))
	return failure(err, core.ObjEnrollment, "store the enrolment token")
}

func (t *tx) DeleteEnrollment(hash [32]byte) error {
	return t.drop(core.ObjEnrollment, enrollmentDrop, hash[:])
}
