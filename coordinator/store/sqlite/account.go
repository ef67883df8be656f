package sqlite

import (
	"fmt"
	"strings"

	"github.com/reeve-paas/reeve/coordinator/core"
	"github.com/reeve-paas/reeve/coordinator/store"
)

const (
	accountColumns = `num, id, handle, email, password_hash, admin, active, created_at, username, first_name, last_name, affiliation, uuid,
		openid, credit`
	accountByID    = `SELECT ` + accountColumns + ` FROM account WHERE id = ?`
	accountByEmail = `SELECT ` + accountColumns + ` FROM account WHERE email_key = ?`
	accountByName  = `SELECT ` + accountColumns + ` FROM account WHERE username = ?`
	accountList    = `SELECT ` + accountColumns + ` FROM account ORDER BY num`
	accountInsert  = `INSERT INTO account (id, handle, email, email_key, password_hash, admin, active, created_at, username,
		first_name, last_name, affiliation, uuid, openid, credit) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`
	// Credit changes by TakeCredit and GiveCredit alone: whoever replaces an account may have read an older amount.
	accountUpdate = `UPDATE account SET id = ?, handle = ?, email = ?, email_key = ?, password_hash = ?, admin = ?, active = ?,
		created_at = ?, username = ?, first_name = ?, last_name = ?, affiliation = ?, uuid = ?, openid = ? WHERE num = ?`

	credentialColumns = `hash, kind, account_id, app_id, created_at, expires_at, revoked`
	credentialByHash  = `SELECT ` + credentialColumns + ` FROM credential WHERE hash = ?`
	credentialsOf     = `SELECT ` + credentialColumns + ` FROM credential WHERE account_id = ? ORDER BY created_at, hash`
	credentialPut     = `INSERT INTO credential (hash, kind, account_id, app_id, created_at, expires_at, revoked) VALUES (?, ?, ?, ?, ?, ?, ?)
		ON CONFLICT (hash) DO UPDATE SET kind = excluded.kind, account_id = excluded.account_id, app_id = excluded.app_id,
		created_at = excluded.created_at, expires_at = excluded.expires_at, revoked = excluded.revoked`
)

func scanAccount(_ *tx, row scanner, a *core.Account) error {
	return row.Scan((*number)(&a.Num), (*text)(&a.ID), (*text)(&a.Handle), (*text)(&a.Email), (*text)(&a.PasswordHash),
		(*flag)(&a.Admin), (*flag)(&a.Active), (*micros)(&a.CreatedAt), (*text)(&a.Username), (*text)(&a.FirstName), (*text)(&a.LastName),
		(*text)(&a.Affiliation), (*text)(&a.UUID), (*text)(&a.OpenID), (*number)(&a.Credit))
}

func (t *tx) Account(id core.AccountID) (core.Account, error) {
	return one(t, core.ObjAccount, scanAccount, accountByID, string(id))
}

func (t *tx) AccountByEmail(email string) (core.Account, error) {
	return one(t, core.ObjAccount, scanAccount, accountByEmail, strings.ToLower(email))
}

func (t *tx) AccountByUsername(name string) (core.Account, error) {
	return one(t, core.ObjAccount, scanAccount, accountByName, name)
}

func (t *tx) Accounts() ([]core.Account, error) {
	return list(t, core.ObjAccount, scanAccount, accountList)
}

func (t *tx) PutAccount(a *core.Account) error {
	if a.ID == "" {
		a.ID = core.AccountID(store.NewID())
	}
	args := []any{string(a.ID), a.Handle, a.Email, strings.ToLower(a.Email), a.PasswordHash, flagValue(a.Admin), flagValue(a.Active),
		timeValue(a.CreatedAt), a.Username, a.FirstName, a.LastName, a.Affiliation, a.UUID, a.OpenID}
	if a.Num == 0 {
		args = append(args, a.Credit)
	}
	return t.put(core.ObjAccount, &a.Num, accountInsert, accountUpdate, args...)
}

func scanCredential(_ *tx, row scanner, c *core.Credential) error {
	var hash []byte
	err := row.Scan(&hash, (*text)(&c.Kind), (*text)(&c.AccountID), (*text)(&c.AppID), (*micros)(&c.CreatedAt), (*micros)(&c.ExpiresAt),
		(*flag)(&c.Revoked))
	if err == nil && copy(c.Hash[:], hash) != len(c.Hash) {
		err = fmt.Errorf("the hash of a credential has %d bytes", len(hash))
	}
	return err
}

func (t *tx) Credential(hash [32]byte) (core.Credential, error) {
	return one(t, core.ObjAccount, scanCredential, credentialByHash, hash[:])
}

func (t *tx) PutCredential(c core.Credential) error {
	_, err := t.exec(credentialPut, c.Hash[:], string(c.Kind), string(c.AccountID), string(c.AppID), timeValue(c.CreatedAt),
		timeValue(c.ExpiresAt), flagValue(c.Revoked))
	return failure(err, core.ObjAccount, "store the credential")
}

func (t *tx) Credentials(account core.AccountID) ([]core.Credential, error) {
	return list(t, core.ObjAccount, scanCredential, credentialsOf, string(account))
}

func (t *tx) DeleteCredential(hash [32]byte) error {
	return t.drop(core.ObjAccount, `DELETE FROM credential WHERE hash = ?`, hash[:])
}
