package sqlite

import (
	"github.com/reeve-paas/reeve/coordinator/core"
	"github.com/reeve-paas/reeve/coordinator/store"
)

const (
	teamByName    = `SELECT name, created_at FROM team WHERE name = ?`
	teamsAll      = `SELECT name, created_at FROM team ORDER BY name`
	teamsOf       = `SELECT t.name, t.created_at FROM team t JOIN team_member m ON m.team = t.name WHERE m.account_id = ? ORDER BY t.name`
	membersOfTeam = `SELECT account_id FROM team_member WHERE team = ? ORDER BY account_id`
	teamPut       = `INSERT INTO team (name, created_at) VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET created_at = excluded.created_at`
	memberPut     = `INSERT INTO team_member (team, account_id) VALUES (?, ?) ON CONFLICT DO NOTHING`

	teamsOfApps = `SELECT app_id, team, owner FROM app_team WHERE app_id IN (SELECT value FROM json_each(?)) ORDER BY app_id, team`
	appTeamPut  = `INSERT INTO app_team (app_id, team, owner) VALUES (?, ?, ?)
		ON CONFLICT (app_id, team) DO UPDATE SET owner = excluded.owner`
	// An app that no team shares is its owner's alone.
	appRefsUsable = `SELECT num, revision FROM app a WHERE EXISTS (SELECT 1 FROM app_team x JOIN team_member m ON m.team = x.team
		WHERE x.app_id = a.id AND m.account_id = ?1) OR a.account_id = ?1 AND NOT EXISTS (SELECT 1 FROM app_team x WHERE x.app_id = a.id)
		ORDER BY num`
	appRefsOfTeam = `SELECT a.num, a.revision FROM app a JOIN app_team x ON x.app_id = a.id WHERE x.team = ? ORDER BY a.num`

	keyColumns       = `num, id, account_id, name, key, fingerprint, created_at`
	keysOf           = `SELECT ` + keyColumns + ` FROM ssh_key WHERE account_id = ? ORDER BY num`
	keyByFingerprint = `SELECT ` + keyColumns + ` FROM ssh_key WHERE fingerprint = ?`
	keyInsert        = `INSERT INTO ssh_key (id, account_id, name, key, fingerprint, created_at) VALUES (?, ?, ?, ?, ?, ?)`
	keyUpdate        = `UPDATE ssh_key SET id = ?, account_id = ?, name = ?, key = ?, fingerprint = ?, created_at = ? WHERE num = ?`

	quotaOf  = `SELECT most FROM quota WHERE subject = ?`
	quotaPut = `INSERT INTO quota (subject, most) VALUES (?, ?) ON CONFLICT (subject) DO UPDATE SET most = excluded.most`
)

func scanTeam(_ *tx, row scanner, t *core.Team) error {
	return row.Scan((*text)(&t.Name), (*micros)(&t.CreatedAt))
}

func scanText(_ *tx, row scanner, s *string) error { return row.Scan((*text)(s)) }

func (t *tx) Team(name string) (core.Team, error) {
	team, err := one(t, core.ObjTeam, scanTeam, teamByName, name)
	if err != nil {
		return team, err
	}
	return team, t.members(&team)
}

func (t *tx) Teams(account core.AccountID) ([]core.Team, error) {
	query, args := teamsOf, []any{string(account)}
	if account == "" {
		query, args = teamsAll, nil
	}
	teams, err := list(t, core.ObjTeam, scanTeam, query, args...)
	for i := range teams {
		if err == nil {
			err = t.members(&teams[i])
		}
	}
	return teams, err
}

func (t *tx) members(team *core.Team) error {
	ids, err := list(t, core.ObjTeam, scanText, membersOfTeam, team.Name)
	for _, id := range ids {
		team.Members = append(team.Members, core.AccountID(id))
	}
	return err
}

// PutTeam stores a team with exactly its members.
func (t *tx) PutTeam(team *core.Team) error {
	_, err := t.exec(teamPut, team.Name, timeValue(team.CreatedAt))
	if err == nil {
		_, err = t.exec(`DELETE FROM team_member WHERE team = ?`, team.Name)
	}
	for _, id := range team.Members {
		if err == nil {
			_, err = t.exec(memberPut, team.Name, string(id))
		}
	}
	return failure(err, core.ObjTeam, "store the team")
}

func (t *tx) DeleteTeam(name string) error {
	return t.drop(core.ObjTeam, `DELETE FROM team WHERE name = ?`, name)
}

type appTeam struct {
	app   core.AppID
	team  string
	owner bool
}

func scanAppTeam(_ *tx, row scanner, a *appTeam) error {
	return row.Scan((*text)(&a.app), (*text)(&a.team), (*flag)(&a.owner))
}

func (t *tx) UsableApps(account core.AccountID) ([]core.App, error) {
	return t.appsOf(appRefsUsable, string(account))
}

func (t *tx) TeamApps(team string) ([]core.App, error) { return t.appsOf(appRefsOfTeam, team) }

func (t *tx) appsOf(query, key string) ([]core.App, error) {
	refs, err := list(t, core.ObjApp, scanAppRef, query, key)
	if err != nil || len(refs) == 0 {
		return nil, err
	}
	return t.load(refs)
}

func (t *tx) PutAppTeam(app core.AppID, team string, owner bool) error {
	_, err := t.exec(appTeamPut, string(app), team, flagValue(owner))
	return failure(err, core.ObjTeam, "share the app with the team")
}

func (t *tx) DeleteAppTeam(app core.AppID, team string) error {
	_, err := t.exec(`DELETE FROM app_team WHERE app_id = ? AND team = ?`, string(app), team)
	return failure(err, core.ObjTeam, "take the app from the team")
}

func scanSSHKey(_ *tx, row scanner, k *core.SSHKey) error {
	return row.Scan((*number)(&k.Num), (*text)(&k.ID), (*text)(&k.AccountID), (*text)(&k.Name), (*text)(&k.Key),
		(*text)(&k.Fingerprint), (*micros)(&k.CreatedAt))
}

func (t *tx) SSHKeys(account core.AccountID) ([]core.SSHKey, error) {
	return list(t, core.ObjKey, scanSSHKey, keysOf, string(account))
}

func (t *tx) SSHKeyByFingerprint(fingerprint string) (core.SSHKey, error) {
	return one(t, core.ObjKey, scanSSHKey, keyByFingerprint, fingerprint)
}

func (t *tx) PutSSHKey(k *core.SSHKey) error {
	if k.ID == "" {
		k.ID = store.NewID()
	}
	return t.put(core.ObjKey, &k.Num, keyInsert, keyUpdate, k.ID, string(k.AccountID), k.Name, k.Key, k.Fingerprint, timeValue(k.CreatedAt))
}

func (t *tx) DeleteSSHKey(num int64) error {
	return t.drop(core.ObjKey, `DELETE FROM ssh_key WHERE num = ?`, num)
}

func (t *tx) Limit(subject string) (int, bool, error) {
	rows, err := list(t, core.ObjAccount, scanCount, quotaOf, subject)
	if err != nil || len(rows) == 0 {
		return 0, false, err
	}
	return int(rows[0]), true, nil
}

func (t *tx) PutLimit(subject string, most int) error {
	_, err := t.exec(quotaPut, subject, most)
	return failure(err, core.ObjAccount, "store the limit")
}
