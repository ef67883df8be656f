package core

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"slices"
	"strings"
	"time"
	"unicode/utf8"
)

// KeyPair is the public half of an SSH key under the name its owner gave it.
type KeyPair struct {
	ID          string
	Num         int64
	AccountID   AccountID
	Name        string
	PublicKey   string // a line of authorized_keys without options
	Fingerprint string // e.g. "SHA256:…", as ssh-keygen -l prints it
	CreatedAt   time.Time
}

// keyTypes are the kinds of keys that sshd accepts today.
var keyTypes = []string{"ssh-ed25519", "ssh-rsa", "ecdsa-sha2-nistp256", "ecdsa-sha2-nistp384", "ecdsa-sha2-nistp521",
	"sk-ssh-ed25519@openssh.com", "sk-ecdsa-sha2-nistp256@openssh.com"}

// parsePublicKey reads a line of authorized_keys and writes it in its one form.
//
// Errors: invalid
func parsePublicKey(text string) (line, fingerprint string, err error) {
	bad := Errorf(Invalid, ObjKeyPair, "a public key is one line such as \"ssh-ed25519 AAAA… comment\", as in a file id_ed25519.pub")
	text = strings.TrimSpace(text)
	if strings.ContainsFunc(text, func(r rune) bool { return r < ' ' || r == 0x7f || r == utf8.RuneError }) || len(text) > 16<<10 {
		return "", "", bad
	}
	fields := strings.Fields(text)
	if len(fields) < 2 || !slices.Contains(keyTypes, fields[0]) {
		return "", "", bad
	}
	blob, err := base64.StdEncoding.DecodeString(fields[1])
	if err != nil || len(blob) < 4 {
		return "", "", bad
	}
	if n := binary.BigEndian.Uint32(blob); uint64(n) > uint64(len(blob)-4) || string(blob[4:4+n]) != fields[0] || len(blob) < 4+int(n)+32 {
		return "", "", bad // RFC 4253 §6.6: the blob begins with the key's type
	}
	comment := strings.Map(func(r rune) rune {
		if r > '~' {
			return '?'
		}
		return r
	}, strings.Join(fields[2:], " "))
	line = strings.TrimRight(fields[0]+" "+fields[1]+" "+comment[:min(len(comment), 100)], " ")
	sum := sha256.Sum256(blob)
	return line, "SHA256:" + base64.RawStdEncoding.EncodeToString(sum[:]), nil
}

// AddKeyPair keeps a public key under a name. The same key under the same name again is no error.
//
// Errors: unauthenticated, invalid, exists (another key has the name)
func (c *Core) AddKeyPair(ctx context.Context, p Principal, name, publicKey string) (KeyPair, error) {
	k := KeyPair{AccountID: p.Account.ID, Name: name, CreatedAt: c.now()}
	err := known(p)
	if err == nil {
		k.PublicKey, k.Fingerprint, err = parsePublicKey(publicKey)
	}
	if err == nil && (name == "" || utf8.RuneCountInString(name) > 255 || !printable(name)) {
		err = Errorf(Invalid, ObjKeyPair, "a key pair's name has 1 to 255 printable characters")
	}
	if err == nil {
		err = c.Store.Update(ctx, func(tx Tx) error {
			old, err := keyNamed(tx, p.Account.ID, name)
			if err == nil && old.Fingerprint == k.Fingerprint {
				k = old
				return nil
			}
			if err == nil {
				return Errorf(Exists, ObjKeyPair, "another key pair has this name")
			}
			if !isNotFound(err) {
				return err
			}
			k.Num = 0
			if err := tx.PutKeyPair(&k); err != nil {
				return err
			}
			return tx.Audit(c.auditRecord(p, "key_pair.create", k.ID, "", "accepted"))
		})
	}
	if err != nil {
		c.refused(ctx, p, "key_pair.create", "", err)
	}
	return k, err
}

// KeyPairs lists the caller's key pairs.
//
// Errors: unauthenticated
func (c *Core) KeyPairs(ctx context.Context, p Principal) ([]KeyPair, error) {
	if err := known(p); err != nil {
		return nil, err
	}
	return view(ctx, c.Store, func(r Reader) ([]KeyPair, error) { return r.KeyPairs(p.Account.ID) })
}

// DeleteKeyPair forgets a key pair. Nodes that have the key keep it.
//
// Errors: unauthenticated, not_found
func (c *Core) DeleteKeyPair(ctx context.Context, p Principal, name string) error {
	err := known(p)
	if err == nil {
		err = c.Store.Update(ctx, func(tx Tx) error {
			k, err := keyNamed(tx, p.Account.ID, name)
			if err != nil {
				return err
			}
			if err := tx.DeleteKeyPair(k.ID); err != nil {
				return err
			}
			return tx.Audit(c.auditRecord(p, "key_pair.delete", k.ID, "", "accepted"))
		})
	}
	if err != nil {
		c.refused(ctx, p, "key_pair.delete", "", err)
	}
	return err
}

func keyNamed(r Reader, account AccountID, name string) (KeyPair, error) {
	keys, err := r.KeyPairs(account)
	if err != nil {
		return KeyPair{}, err
	}
	for _, k := range keys {
		if k.Name == name {
			return k, nil
		}
	}
	return KeyPair{}, Errorf(NotFound, ObjKeyPair, "there is no such key pair")
}
