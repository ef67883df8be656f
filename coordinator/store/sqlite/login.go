package sqlite

import (
	"strings"

	"github.com/reeve-paas/reeve/coordinator/core"
)

const (
	appLoginByApp = `SELECT app_id, password_hash, console, keys FROM app_access WHERE app_id = ?`
	appLoginPut   = `INSERT INTO app_access (app_id, password_hash, console, keys) VALUES (?, ?, ?, ?) ON CONFLICT (app_id) DO UPDATE SET
		password_hash = excluded.password_hash, console = excluded.console, keys = excluded.keys`
)

func scanAppLogin(t *tx, row scanner, l *core.AppLogin) error {
	var hash []byte
	var keys string
	err := row.Scan((*text)(&l.AppID), &hash, (*flag)(&l.Console), (*text)(&keys))
	if keys != "" {
		l.Keys = strings.Split(keys, "\n")
	}
	if err == nil {
		l.PasswordHash, err = t.unseal(hash, "app_access.password_hash", string(l.AppID))
	}
	return err
}

func (t *tx) AppLogin(app core.AppID) (core.AppLogin, error) {
	return one(t, core.ObjApp, scanAppLogin, appLoginByApp, string(app))
}

func (t *tx) PutAppLogin(l core.AppLogin) error {
	_, err := t.exec(appLoginPut, string(l.AppID), t.seal(l.PasswordHash, "app_access.password_hash", string(l.AppID)), flagValue(l.Console), strings.Join(l.Keys, "\n"))
	return failure(err, core.ObjApp, "store the login")
}
