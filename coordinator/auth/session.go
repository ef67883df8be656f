package auth

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"strings"
	"time"

	"github.com/reeve-paas/reeve/coordinator/core"
)

// ResetTTL is how long a mailed token for a new password is good.
const ResetTTL = 24 * time.Hour

// NewHexToken is NewToken with the token as 40 lower-case hex characters, 160 bits of chance, which is what clients of some
// dialects know.
func (a *Auth) NewHexToken(ctx context.Context, id core.AccountID, ttl time.Duration) (core.Secret, error) {
	token := randomHex(20)
	return core.Secret(token), a.putCredential(ctx, core.CredentialToken, token, id, ttl)
}

// AppToken finds which app a token is for. The principal stands for a program inside that app.
//
// Errors: unauthenticated
func (a *Auth) AppToken(ctx context.Context, token, from string) (core.Principal, error) {
	if token == "" || len(token) > 1024 {
		return core.Principal{}, refused()
	}
	var p core.Principal
	err := a.store.View(ctx, func(r core.Reader) error {
		c, err := r.Credential(sha256.Sum256([]byte(token)))
		if err != nil {
			return err
		}
		if c.Kind != core.CredentialApp || c.Revoked || !c.ExpiresAt.IsZero() && !a.now().Before(c.ExpiresAt) {
			return refused()
		}
		account, err := r.Account(c.AccountID) // also of a closed account: the app goes on
		account.PasswordHash, account.Admin = "", false
		p = core.Principal{Account: account, App: c.AppID, Via: string(core.CredentialApp), From: from}
		return err
	})
	if err != nil && core.KindOf(err) == core.NotFound {
		err = refused()
	}
	return p, err
}

// ChangePassword replaces the caller's password when the old one is right. All other tokens of the account end; keep is the
// one that the caller goes on with. Wrong attempts are counted as those of logins are.
//
// Errors: invalid (the new one against the rule), unauthenticated (the old one is wrong), rate_limited, unavailable
func (a *Auth) ChangePassword(ctx context.Context, p core.Principal, old, password core.Secret, rule PasswordRule, keep string) error {
	hash, err := a.hash(string(password), rule)
	if err != nil {
		return err
	}
	if _, err := a.Login(ctx, p.Account.Email, string(old), p.From); err != nil {
		return err
	}
	return a.replacePassword(ctx, p.Account.ID, hash, sha256.Sum256([]byte(keep)), "account.password")
}

// replacePassword sets a password's hash and ends every login but one, and the certificates that the old one fetched.
func (a *Auth) replacePassword(ctx context.Context, id core.AccountID, hash string, keep [32]byte, action string) error {
	err := a.store.Update(ctx, func(tx core.Tx) error {
		account, err := tx.Account(id)
		if err != nil {
			return err
		}
		account.PasswordHash = hash
		if err := tx.PutAccount(&account); err != nil {
			return err
		}
		if err := tx.RevokeCertificates(id, 0, a.now().UTC()); err != nil {
			return err
		}
		credentials, err := tx.Credentials(id)
		if err != nil {
			return err
		}
		for _, c := range credentials {
			if c.Kind != core.CredentialToken && c.Kind != core.CredentialReset || c.Hash == keep {
				continue
			}
			if err := tx.DeleteCredential(c.Hash); err != nil {
				return err
			}
		}
		return a.audit(ctx, tx, id, action)
	})
	a.Forget(id)
	return err
}

// Forget drops what is remembered of an account, so that what changed about it counts at once.
func (a *Auth) Forget(id core.AccountID) {
	a.cache.forget(func(_ cacheKey, account core.Account) bool { return account.ID == id })
}

// ResetToken makes a token that lets its holder have a new password for the account, once: 64 hex characters. A token made
// before stays good.
//
// Errors: not_found
func (a *Auth) ResetToken(ctx context.Context, email string) (core.Account, core.Secret, error) {
	account, err := a.activeAccount(ctx, email)
	if err != nil {
		return account, "", err
	}
	token := randomHex(32)
	return account, core.Secret(token), a.putCredential(ctx, core.CredentialReset, token, account.ID, ResetTTL)
}

// ResetPassword gives the account of a reset token a made-up password of 12 characters and ends every login and every other
// reset token.
//
// Errors: not_found (the account), invalid (the token: wrong, used, expired, another account's)
func (a *Auth) ResetPassword(ctx context.Context, email, token string) (core.Account, core.Secret, error) {
	account, err := a.activeAccount(ctx, email)
	if err != nil {
		return account, "", err
	}
	hash := sha256.Sum256([]byte(token))
	err = a.store.View(ctx, func(r core.Reader) error {
		c, err := r.Credential(hash)
		if err != nil && core.KindOf(err) != core.NotFound {
			return err
		}
		if err != nil || c.Kind != core.CredentialReset || c.AccountID != account.ID || c.Revoked || !a.now().Before(c.ExpiresAt) {
			return core.Errorf(core.Invalid, core.ObjAccount, "Invalid token")
		}
		return nil
	})
	if err != nil {
		return account, "", err
	}
	password := rand.Text()[:12]
	sealed, err := a.hash(password, PasswordRule{12, 12})
	if err != nil {
		return account, "", err
	}
	// replacePassword deletes the token too, in the same transaction. Two at once both set a password; the second one counts.
	return account, core.Secret(password), a.replacePassword(ctx, account.ID, sealed, [32]byte{}, "account.password.reset")
}

func (a *Auth) activeAccount(ctx context.Context, email string) (account core.Account, err error) {
	err = a.store.View(ctx, func(r core.Reader) error {
		account, err = r.AccountByEmail(strings.TrimSpace(email))
		if err == nil && !account.Active {
			err = core.Errorf(core.NotFound, core.ObjAccount, "User not found")
		}
		return err
	})
	account.PasswordHash = ""
	return account, err
}

// HasAccount says whether an active account has this e-mail address.
func (a *Auth) HasAccount(ctx context.Context, email string) (bool, error) {
	_, err := a.activeAccount(ctx, email)
	if err != nil && core.KindOf(err) == core.NotFound {
		return false, nil
	}
	return err == nil, err
}

func randomHex(bytes int) string {
	b := make([]byte, bytes)
	rand.Read(b)
	return hex.EncodeToString(b)
}
