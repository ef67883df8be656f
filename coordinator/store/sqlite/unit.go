package sqlite

import (
	"github.com/reeve-paas/reeve/coordinator/core"
	"github.com/reeve-paas/reeve/coordinator/store"
)

const (
	unitSelect = `SELECT u.num, u.id, u.app_id, u.node_id, u.release, u.port, u.state, u.address, u.created_at, u.seen_at
		FROM app_unit u`
	unitInsert = `INSERT INTO app_unit (id, app_id, node_id, release, port, state, address, created_at, seen_at)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)`
	unitUpdate = `UPDATE app_unit SET id = ?, app_id = ?, node_id = ?, release = ?, port = ?, state = ?, address = ?,
		created_at = ?, seen_at = ? WHERE num = ?`
)

func scanUnit(_ *tx, row scanner, u *core.AppUnit) error {
	return row.Scan((*number)(&u.Num), (*text)(&u.ID), (*text)(&u.AppID), (*text)(&u.NodeID), (*count)(&u.Release),
		(*count)(&u.Port), (*text)(&u.State), (*text)(&u.Address), (*micros)(&u.CreatedAt), (*micros)(&u.SeenAt))
}

func (t *tx) Unit(id string) (core.AppUnit, error) {
	return one(t, core.ObjUnit, scanUnit, unitSelect+` WHERE u.id = ?`, id)
}

func (t *tx) Units() ([]core.AppUnit, error) {
	return list(t, core.ObjUnit, scanUnit, unitSelect+` ORDER BY u.num`)
}

func (t *tx) PutUnit(u *core.AppUnit) error {
	if u.ID == "" {
		u.ID = store.NewID()
	}
	return t.put(core.ObjUnit, &u.Num, unitInsert, unitUpdate, u.ID, string(u.AppID), string(u.NodeID), int64(u.Release),
		int64(u.Port), string(u.State), u.Address, timeValue(u.CreatedAt), timeValue(u.SeenAt))
}

func (t *tx) DeleteUnit(id string) error {
	return t.drop(core.ObjUnit, `DELETE FROM app_unit WHERE id = ?`, id)
}

const envPut = `INSERT INTO app_env (app_id, name, value, public, tag) VALUES (?, ?, ?, ?, ?)
	ON CONFLICT (app_id, name) DO UPDATE SET value = excluded.value, public = excluded.public, tag = excluded.tag`

// envRow is where a value is sealed for.
func envRow(app core.AppID, name string) string { return string(app) + "/" + name }

func (t *tx) AppEnv(app core.AppID) ([]core.EnvVar, error) {
	scan := func(t *tx, row scanner, v *core.EnvVar) error {
		var value []byte
		if err := row.Scan((*text)(&v.Name), &value, (*flag)(&v.Public), (*text)(&v.Tag)); err != nil {
			return err
		}
		value, err := t.unseal(value, "app_env.value", envRow(app, v.Name))
		v.Value = core.Secret(value)
		return err
	}
	return list(t, core.ObjApp, scan, `SELECT name, value, public, tag FROM app_env WHERE app_id = ? ORDER BY name`, string(app))
}

func (t *tx) PutEnv(app core.AppID, v core.EnvVar) error {
	_, err := t.exec(envPut, string(app), v.Name, t.seal([]byte(v.Value), "app_env.value", envRow(app, v.Name)), flagValue(v.Public), v.Tag)
	return failure(err, core.ObjApp, "store the variable")
}

func (t *tx) DeleteEnv(app core.AppID, name string) error {
	_, err := t.exec(`DELETE FROM app_env WHERE app_id = ? AND name = ?`, string(app), name)
	return failure(err, core.ObjApp, "delete the variable")
}

func (t *tx) AppLog(app core.AppID, after int64, source, unit string, limit int) ([]core.LogLine, error) {
	if limit <= 0 {
		limit = -1 // no limit
	}
	scan := func(_ *tx, row scanner, l *core.LogLine) error {
		return row.Scan((*number)(&l.Num), (*micros)(&l.At), (*text)(&l.Source), (*text)(&l.Unit), (*text)(&l.Message))
	}
	return list(t, core.ObjApp, scan, `SELECT num, at, source, unit, message FROM (
		SELECT num, at, source, unit, message FROM app_log
		WHERE app_id = ?1 AND num > ?2 AND (?3 = '' OR source = ?3) AND (?4 = '' OR unit = ?4) ORDER BY num DESC LIMIT ?5) ORDER BY num`,
		string(app), after, source, unit, limit)
}

func (t *tx) AddLog(app core.AppID, lines []core.LogLine, keep int) error {
	for _, l := range lines {
		if _, err := t.exec(`INSERT INTO app_log (app_id, at, source, unit, message) VALUES (?, ?, ?, ?, ?)`,
			string(app), timeValue(l.At), l.Source, l.Unit, l.Message); err != nil {
			return failure(err, core.ObjApp, "store the log")
		}
	}
	_, err := t.exec(`DELETE FROM app_log WHERE app_id = ?1 AND num <= (
		SELECT num FROM app_log WHERE app_id = ?1 ORDER BY num DESC LIMIT 1 OFFSET ?2)`, string(app), keep)
	return failure(err, core.ObjApp, "trim the log")
}

func (t *tx) DeleteLog(app core.AppID) error {
	_, err := t.exec(`DELETE FROM app_log WHERE ?1 = '' OR app_id = ?1`, string(app))
	return failure(err, core.ObjApp, "delete the log")
}
