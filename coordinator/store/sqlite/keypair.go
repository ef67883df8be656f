package sqlite

import (
	"github.com/reeve-paas/reeve/coordinator/core"
	"github.com/reeve-paas/reeve/coordinator/store"
)

const (
	keyPairsOfAccount = `SELECT num, id, account_id, name, public_key, fingerprint, created_at FROM key_pair
		WHERE account_id = ? ORDER BY num`
	keyPairInsert = `INSERT INTO key_pair (id, account_id, name, public_key, fingerprint, created_at) VALUES (?, ?, ?, ?, ?, ?)`
	keyPairUpdate = `UPDATE key_pair SET id = ?, account_id = ?, name = ?, public_key = ?, fingerprint = ?, created_at = ?
		WHERE num = ?`
)

func scanKeyPair(_ *tx, row scanner, k *core.KeyPair) error {
	return row.Scan((*number)(&k.Num), (*text)(&k.ID), (*text)(&k.AccountID), (*text)(&k.Name), (*text)(&k.PublicKey),
		(*text)(&k.Fingerprint), (*micros)(&k.CreatedAt))
}

func (t *tx) KeyPairs(account core.AccountID) ([]core.KeyPair, error) {
	return list(t, core.ObjKeyPair, scanKeyPair, keyPairsOfAccount, string(account))
}

func (t *tx) PutKeyPair(k *core.KeyPair) error {
	if k.ID == "" {
		k.ID = store.NewID()
	}
	return t.put(core.ObjKeyPair, &k.Num, keyPairInsert, keyPairUpdate, k.ID, string(k.AccountID), k.Name, k.PublicKey,
		k.Fingerprint, timeValue(k.CreatedAt))
}

func (t *tx) DeleteKeyPair(id string) error {
	return t.drop(core.ObjKeyPair, `DELETE FROM key_pair WHERE id = ?`, id)
}
