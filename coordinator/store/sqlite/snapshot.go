package sqlite

import (
	"strings"
	"time"

	"github.com/reeve-paas/reeve/coordinator/core"
	"github.com/reeve-paas/reeve/coordinator/store"
)

const (
	snapshotSelect = `SELECT s.num, s.id, s.app_id, s.cloud, s.cloud_id, s.key, s.schedules, s.size_bytes, s.state, s.created_at FROM snapshot s`
	snapshotInsert = `INSERT INTO snapshot (id, app_id, cloud, cloud_id, key, schedules, size_bytes, state, created_at)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)`
	snapshotUpdate = `UPDATE snapshot SET id = ?, app_id = ?, cloud = ?, cloud_id = ?, key = ?, schedules = ?, size_bytes = ?, state = ?,
		created_at = ? WHERE num = ?`
	snapshotDue = `SELECT app_id FROM snapshot_turn WHERE due_at <= ? GROUP BY app_id ORDER BY min(due_at), app_id`
	turnPut     = `INSERT INTO snapshot_turn (app_id, schedule, due_at) VALUES (?, ?, ?)
		ON CONFLICT (app_id, schedule) DO UPDATE SET due_at = excluded.due_at`
)

func scanSnapshot(_ *tx, row scanner, s *core.Snapshot) error {
	var schedules text
	err := row.Scan((*number)(&s.Num), (*text)(&s.ID), (*text)(&s.AppID), (*text)(&s.Cloud), (*text)(&s.CloudID), (*text)(&s.Key),
		&schedules, (*number)(&s.SizeBytes), (*text)(&s.State), (*micros)(&s.CreatedAt))
	if schedules != "" {
		s.Schedules = strings.Split(string(schedules), ",")
	}
	return err
}

func (t *tx) Snapshot(id string) (core.Snapshot, error) {
	return one(t, core.ObjSnapshot, scanSnapshot, snapshotSelect+` WHERE s.id = ?`, id)
}

func (t *tx) SnapshotByNum(num int64) (core.Snapshot, error) {
	return one(t, core.ObjSnapshot, scanSnapshot, snapshotSelect+` WHERE s.num = ?`, num)
}

func (t *tx) Snapshots(account core.AccountID, app core.AppID) ([]core.Snapshot, error) {
	switch {
	case app != "":
		return list(t, core.ObjSnapshot, scanSnapshot, snapshotSelect+` WHERE s.app_id = ? ORDER BY s.num`, string(app))
	case account != "":
		return list(t, core.ObjSnapshot, scanSnapshot, snapshotSelect+` JOIN app a ON a.id = s.app_id WHERE a.account_id = ? ORDER BY s.num`, string(account))
	}
	return list(t, core.ObjSnapshot, scanSnapshot, snapshotSelect+` ORDER BY s.num`)
}

func (t *tx) PutSnapshot(s *core.Snapshot) error {
	if s.ID == "" {
		s.ID = store.NewID()
	}
	return t.put(core.ObjSnapshot, &s.Num, snapshotInsert, snapshotUpdate, s.ID, string(s.AppID), s.Cloud, s.CloudID, s.Key,
		strings.Join(s.Schedules, ","), s.SizeBytes, string(s.State), timeValue(s.CreatedAt))
}

func (t *tx) DeleteSnapshot(id string) error {
	return t.drop(core.ObjSnapshot, `DELETE FROM snapshot WHERE id = ?`, id)
}

func (t *tx) SnapshotTurns(app core.AppID) ([]core.SnapshotTurn, error) {
	scan := func(_ *tx, row scanner, x *core.SnapshotTurn) error {
		return row.Scan((*text)(&x.AppID), (*text)(&x.Schedule), (*micros)(&x.DueAt))
	}
	return list(t, core.ObjSnapshot, scan, `SELECT app_id, schedule, due_at FROM snapshot_turn WHERE app_id = ? ORDER BY schedule`, string(app))
}

func (t *tx) DueSnapshots(at time.Time) ([]core.AppID, error) {
	scan := func(_ *tx, row scanner, id *core.AppID) error { return row.Scan((*text)(id)) }
	return list(t, core.ObjSnapshot, scan, snapshotDue, timeValue(at))
}

func (t *tx) PutSnapshotTurn(x core.SnapshotTurn) error {
	_, err := t.exec(turnPut, string(x.AppID), x.Schedule, timeValue(x.DueAt))
	return failure(err, core.ObjSnapshot, "store when a snapshot is due")
}

func (t *tx) DeleteSnapshotTurns(app core.AppID) error {
	return t.drop(core.ObjSnapshot, `DELETE FROM snapshot_turn WHERE app_id = ?`, string(app))
}
