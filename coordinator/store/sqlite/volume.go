package sqlite

import (
	"github.com/reeve-paas/reeve/coordinator/core"
	"github.com/reeve-paas/reeve/coordinator/store"
)

const (
	volumeColumns = `num, id, app_id, cloud, cloud_id, key, size_bytes, node_id, device, created_at, account_id, made_by`
	volumeByID    = `SELECT ` + volumeColumns + ` FROM volume WHERE id = ?`
	volumesOfApp  = `SELECT ` + volumeColumns + ` FROM volume WHERE app_id = ? ORDER BY num`
	volumesMade   = `SELECT ` + volumeColumns + ` FROM volume WHERE cloud = ? AND made_by <> '' ORDER BY num`
	volumeInsert  = `INSERT INTO volume (id, app_id, cloud, cloud_id, key, size_bytes, node_id, device, created_at, account_id, made_by)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`
	volumeUpdate = `UPDATE volume SET id = ?, app_id = ?, cloud = ?, cloud_id = ?, key = ?, size_bytes = ?, node_id = ?,
		device = ?, created_at = ?, account_id = ?, made_by = ? WHERE num = ?`
)

func scanVolume(_ *tx, row scanner, v *core.Volume) error {
	return row.Scan((*number)(&v.Num), (*text)(&v.ID), (*text)(&v.AppID), (*text)(&v.Cloud), (*text)(&v.CloudID),
		(*text)(&v.Key), (*number)(&v.SizeBytes), (*text)(&v.NodeID), (*text)(&v.Device), (*micros)(&v.CreatedAt), (*text)(&v.AccountID), (*text)(&v.MadeBy))
}

func (t *tx) Volume(id string) (core.Volume, error) {
	return one(t, core.ObjVolume, scanVolume, volumeByID, id)
}

func (t *tx) Volumes(app core.AppID) ([]core.Volume, error) {
	return list(t, core.ObjVolume, scanVolume, volumesOfApp, string(app))
}

func (t *tx) VolumesMade(cloud string) ([]core.Volume, error) {
	return list(t, core.ObjVolume, scanVolume, volumesMade, cloud)
}

func (t *tx) PutVolume(v *core.Volume) error {
	if v.ID == "" {
		v.ID = store.NewID()
	}
	return t.put(core.ObjVolume, &v.Num, volumeInsert, volumeUpdate, v.ID, reference(v.AppID), v.Cloud, v.CloudID, v.Key,
		v.SizeBytes, string(v.NodeID), v.Device, timeValue(v.CreatedAt), string(v.AccountID), string(v.MadeBy))
}

func (t *tx) DeleteVolume(id string) error {
	return t.drop(core.ObjVolume, `DELETE FROM volume WHERE id = ?`, id)
}
