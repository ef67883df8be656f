package core

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"slices"
	"strings"
	"time"
)

// SSHKey is a public key that lets its account in over SSH.
type SSHKey struct {
	ID          string
	Num         int64
	AccountID   AccountID
	Name        string // unique per account
	Key         string // one line as in authorized_keys: "ssh-ed25519 AAAA… comment"
	Fingerprint string // "SHA256:…", as ssh-keygen -l prints it; unique
	CreatedAt   time.Time
}

// KeyFingerprint is the fingerprint of a public key in its binary form.
func KeyFingerprint(blob []byte) string {
	sum := sha256.Sum256(blob)
	return "SHA256:" + base64.RawStdEncoding.EncodeToString(sum[:])
}

// fingerprintOf finds the binary form in a line of authorized_keys: the first word that decodes and begins with the length
// of its type's name (RFC 4253 §6.6). A text that has none is no key that could ever let anybody in; it is told apart by its
// own sum, which has another prefix.
func fingerprintOf(text string) (fingerprint string, usable bool) {
	for _, word := range strings.Fields(text) {
		blob, err := base64.StdEncoding.DecodeString(word)
		if err == nil && len(blob) > 8 && blob[0] == 0 && blob[1] == 0 && int(blob[2])<<8+int(blob[3]) < len(blob)-4 {
			return KeyFingerprint(blob), true
		}
	}
	sum := sha256.Sum256([]byte(text))
	return "TEXT:" + base64.RawStdEncoding.EncodeToString(sum[:]), false
}

// UsableSSHKey says that a text looks like a public key, for dialects that take nothing else.
func UsableSSHKey(text string) bool {
	_, usable := fingerprintOf(strings.TrimSpace(text))
	return usable
}

// AddSSHKey gives the caller's account a public key. An empty name is made up: "<e-mail>-<n>".
//
// Errors: invalid (empty, more than a line, too long), exists (the key, for whichever account, or the name)
func (c *Core) AddSSHKey(ctx context.Context, p Principal, name, text string) (SSHKey, error) {
	return c.addKey(ctx, p, name, text, func(Tx) error { return nil })
}

// ReplaceSSHKey is AddSSHKey that takes the place of the caller's key of this name, if there is one.
//
// Errors: invalid (empty, more than a line, too long), exists (the key, under another name or for another account)
func (c *Core) ReplaceSSHKey(ctx context.Context, p Principal, name, text string) (SSHKey, error) {
	return c.addKey(ctx, p, name, text, func(tx Tx) error {
		keys, err := tx.SSHKeys(p.Account.ID)
		if err != nil {
			return err
		}
		if i := slices.IndexFunc(keys, func(k SSHKey) bool { return k.Name == name }); i >= 0 {
			return tx.DeleteSSHKey(keys[i].Num)
		}
		return nil
	})
}

// addKey stores a key once room is made for it.
func (c *Core) addKey(ctx context.Context, p Principal, name, text string, room func(tx Tx) error) (SSHKey, error) {
	text = strings.TrimSpace(text)
	var key SSHKey
	err := c.change(ctx, p, "key.add", string(p.Account.ID), func(tx Tx) error {
		if err := room(tx); err != nil {
			return err
		}
		if text == "" {
			return Errorf(Invalid, ObjKey, "Missing key")
		}
		if strings.ContainsAny(text, "\r\n\x00") || len(text) > 16<<10 {
			return Errorf(Invalid, ObjKey, "a key is one line of at most 16 KiB")
		}
		fingerprint, _ := fingerprintOf(text)
		if _, err := tx.SSHKeyByFingerprint(fingerprint); err == nil {
			return Errorf(Exists, ObjKey, "Key has already been added")
		} else if !isNotFound(err) {
			return err
		}
		keys, err := tx.SSHKeys(p.Account.ID)
		if err != nil {
			return err
		}
		taken := func(name string) bool {
			return slices.ContainsFunc(keys, func(k SSHKey) bool { return k.Name == name })
		}
		full := name
		for n := len(keys) + 1; full == "" || name == "" && taken(full); n++ {
			full = fmt.Sprintf("%s-%d", p.Account.Email, n)
		}
		if taken(full) {
			return Errorf(Exists, ObjKey, "a key of this name exists")
		}
		key = SSHKey{AccountID: p.Account.ID, Name: full, Key: text, Fingerprint: fingerprint, CreatedAt: c.now()}
		return tx.PutSSHKey(&key)
	})
	return key, err
}

// RemoveSSHKey takes a key from the caller's account. text is the key itself.
//
// Errors: invalid (empty), not_found
func (c *Core) RemoveSSHKey(ctx context.Context, p Principal, text string) error {
	text = strings.TrimSpace(text)
	if text == "" {
		return Errorf(Invalid, ObjKey, "Missing key")
	}
	return c.removeKey(ctx, p, func(k SSHKey) bool { return k.Key == text })
}

// RemoveSSHKeyNamed takes the key of this name from the caller's account.
//
// Errors: not_found
func (c *Core) RemoveSSHKeyNamed(ctx context.Context, p Principal, name string) error {
	return c.removeKey(ctx, p, func(k SSHKey) bool { return k.Name == name })
}

// RemoveSSHKeyNum takes the key with this number from the caller's account.
//
// Errors: not_found
func (c *Core) RemoveSSHKeyNum(ctx context.Context, p Principal, num int64) error {
	return c.removeKey(ctx, p, func(k SSHKey) bool { return k.Num == num })
}

func (c *Core) removeKey(ctx context.Context, p Principal, which func(SSHKey) bool) error {
	return c.change(ctx, p, "key.remove", string(p.Account.ID), func(tx Tx) error {
		keys, err := tx.SSHKeys(p.Account.ID)
		if err != nil {
			return err
		}
		i := slices.IndexFunc(keys, which)
		if i < 0 {
			return Errorf(NotFound, ObjKey, "User does not have this key")
		}
		return tx.DeleteSSHKey(keys[i].Num)
	})
}

// AccountSSHKeys lists the caller's keys, oldest first.
func (c *Core) AccountSSHKeys(ctx context.Context, p Principal) ([]SSHKey, error) {
	if err := known(p); err != nil {
		return nil, err
	}
	return view(ctx, c.Store, func(r Reader) ([]SSHKey, error) { return r.SSHKeys(p.Account.ID) })
}

// AccountBySSHKey finds whose key it is, by the key's binary form.
//
// Errors: not_found (nobody's, or the account is not active)
func (c *Core) AccountBySSHKey(ctx context.Context, blob []byte) (Account, SSHKey, error) {
	var key SSHKey
	account, err := view(ctx, c.Store, func(r Reader) (Account, error) {
		var err error
		if key, err = r.SSHKeyByFingerprint(KeyFingerprint(blob)); err != nil {
			return Account{}, err
		}
		account, err := r.Account(key.AccountID)
		if err == nil && !account.Active {
			err = Errorf(NotFound, ObjKey, "the key lets nobody in")
		}
		account.PasswordHash = ""
		return account, err
	})
	return account, key, err
}
