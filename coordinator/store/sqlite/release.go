package sqlite

import (
	"encoding/json"
	"fmt"

	"github.com/reeve-paas/reeve/coordinator/core"
)

const (
	releaseSelect = `SELECT num, app_id, number, state, origin, commit_id, account, source, artifact, size_bytes, manifest, error,
		created_at, ended_at, route_id FROM release`
	releaseInsert = `INSERT INTO release (app_id, number, state, origin, commit_id, account, source, artifact, size_bytes, manifest,
		error, created_at, ended_at, route_id) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`
	releaseUpdate = `UPDATE release SET app_id = ?, number = ?, state = ?, origin = ?, commit_id = ?, account = ?, source = ?,
		artifact = ?, size_bytes = ?, manifest = ?, error = ?, created_at = ?, ended_at = ?, route_id = ? WHERE num = ?`
)

func scanRelease(_ *tx, row scanner, r *core.Release) error {
	var manifest []byte
	var size number
	err := row.Scan((*number)(&r.Num), (*text)(&r.AppID), (*count)(&r.Number), (*text)(&r.State), (*text)(&r.Origin),
		(*text)(&r.Commit), (*text)(&r.Account), (*text)(&r.Source), (*text)(&r.Artifact), &size, &manifest, (*text)(&r.Error),
		(*micros)(&r.CreatedAt), (*micros)(&r.EndedAt), (*text)(&r.RouteID))
	r.SizeBytes = int64(size)
	if err == nil && len(manifest) > 0 {
		if err = json.Unmarshal(manifest, &r.Manifest); err != nil {
			err = fmt.Errorf("manifest of release %d: %w", r.Num, err)
		}
	}
	return err
}

func (t *tx) Releases(app core.AppID) ([]core.Release, error) {
	return list(t, core.ObjRelease, scanRelease, releaseSelect+` WHERE app_id = ? ORDER BY number DESC`, string(app))
}

func (t *tx) Release(app core.AppID, number int) (core.Release, error) {
	return one(t, core.ObjRelease, scanRelease, releaseSelect+` WHERE app_id = ? AND number = ?`, string(app), number)
}

func (t *tx) PutRelease(r *core.Release) error {
	manifest, err := json.Marshal(r.Manifest)
	if err != nil {
		return err
	}
	return t.put(core.ObjRelease, &r.Num, releaseInsert, releaseUpdate, string(r.AppID), int64(r.Number), string(r.State),
		string(r.Origin), r.Commit, r.Account, r.Source, r.Artifact, r.SizeBytes, manifest, r.Error, timeValue(r.CreatedAt), timeValue(r.EndedAt), r.RouteID)
}

// FileUsed implements core.Reader.
func (t *tx) FileUsed(sha string) (bool, error) {
	n, err := one(t, core.ObjRelease, scanCount, `SELECT (SELECT count(*) FROM release WHERE artifact = ?1 OR source = ?1) +
		(SELECT count(*) FROM code_version WHERE file = ?1 AND file <> '')`, sha)
	return n > 0, err
}
