package auth

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"net/mail"
	"strings"
	"time"

	"golang.org/x/crypto/bcrypt"

	"github.com/reeve-paas/reeve/coordinator/core"
)

// firstCredit is what an account starts with that nobody asked a credit for.
const firstCredit = 50

// Credentials let an account in. Whoever must not lose them can keep them before the account is made.
type Credentials struct {
	Password core.Secret
	APIKey   core.Secret // 24 characters of [a-z0-9], more than 120 bits of chance
	Token    core.Secret // "": none. 43 URL-safe characters, 256 bits of chance; does not expire
}

// NewCredentials makes up a password, an API key and a token.
func NewCredentials() Credentials {
	return Credentials{Password: core.Secret(rand.Text()), APIKey: core.Secret(newAPIKey()), Token: core.Secret(newToken())}
}

// CreateAccount makes an active account with an API key. An empty password is replaced by a random one. Password and key
// are returned here and nowhere else ever again.
//
// Errors: invalid (e-mail address, password shorter than 8 characters), exists
func (a *Auth) CreateAccount(ctx context.Context, email, password string, admin bool) (account core.Account, plain core.Secret, apiKey core.Secret, err error) {
	c := NewCredentials()
	c.Token = ""
	if password != "" {
		c.Password = core.Secret(password)
	}
	if account, err = a.CreateAccountWith(ctx, email, c, admin); err != nil {
		return core.Account{}, "", "", err
	}
	return account, c.Password, c.APIKey, nil
}

// CreateAccountWith makes an active account and its credentials, all or nothing.
//
// Errors: invalid (e-mail address, password shorter than 8 characters), exists
func (a *Auth) CreateAccountWith(ctx context.Context, email string, c Credentials, admin bool) (core.Account, error) {
	return a.createAccount(ctx, email, c, admin, standardRule)
}

// Register makes an active account that has a password and nothing else.
//
// Errors: invalid (e-mail address, password against the rule), exists
func (a *Auth) Register(ctx context.Context, email string, password core.Secret, rule PasswordRule) (core.Account, error) {
	return a.createAccount(ctx, email, Credentials{Password: password}, false, rule)
}

func (a *Auth) createAccount(ctx context.Context, email string, c Credentials, admin bool, rule PasswordRule) (core.Account, error) {
	email = strings.ToLower(strings.TrimSpace(email))
	if err := checkEmail(email); err != nil {
		return core.Account{}, err
	}
	hash, err := a.hash(string(c.Password), rule)
	if err != nil {
		return core.Account{}, err
	}
	var account core.Account
	id := core.AccountID("acc-" + strings.ToLower(rand.Text()))
	err = a.store.Update(ctx, func(tx core.Tx) error {
		now := a.now().UTC()
		account = core.Account{ID: id, Email: email, PasswordHash: hash, Admin: admin, Active: true, CreatedAt: now, Credit: firstCredit}
		switch _, err := tx.AccountByEmail(email); {
		case err == nil:
			return core.Errorf(core.Exists, core.ObjAccount, "an account with this e-mail address exists")
		case core.KindOf(err) != core.NotFound:
			return err
		}
		account.Handle = string(id) // unique until the number is known
		if err := tx.PutAccount(&account); err != nil {
			return err
		}
		account.Handle = fmt.Sprintf("RV%d-REEVE", account.Num)
		if err := tx.PutAccount(&account); err != nil {
			return err
		}
		for kind, text := range map[core.CredentialKind]core.Secret{core.CredentialAPIKey: c.APIKey, core.CredentialToken: c.Token} {
			if text == "" {
				continue
			}
			if err := tx.PutCredential(core.Credential{Hash: sha256.Sum256([]byte(text)), Kind: kind, AccountID: id, CreatedAt: now}); err != nil {
				return err
			}
		}
		return a.audit(ctx, tx, id, "account.create")
	})
	if err != nil {
		return core.Account{}, fmt.Errorf("create account: %w", err)
	}
	account.PasswordHash = ""
	return account, nil
}

// checkEmail accepts a bare address; what it stands for is not looked at.
func checkEmail(email string) error {
	addr, err := mail.ParseAddress(email)
	if err != nil || addr.Address != email || len(email) > 254 || strings.ContainsAny(email, "\r\n\x00") {
		return core.Errorf(core.Invalid, core.ObjAccount, "the e-mail address must look like name@example.org")
	}
	return nil
}

// PasswordRule is how many bytes a password may have. Dialects differ in it; how passwords are kept is the same for all.
type PasswordRule struct{ Min, Max int }

var standardRule = PasswordRule{8, 1024}

// Check says whether a password keeps the rule.
//
// Errors: invalid
func (r PasswordRule) Check(password core.Secret) error {
	if len(password) < r.Min || len(password) > r.Max {
		return core.Errorf(core.Invalid, core.ObjAccount, "a password has %d to %d characters", r.Min, r.Max)
	}
	return nil
}

func (a *Auth) hash(password string, rule PasswordRule) (string, error) {
	if err := rule.Check(core.Secret(password)); err != nil {
		return "", err
	}
	hash, err := bcrypt.GenerateFromPassword(passwordBytes(password), a.cost)
	if err != nil {
		return "", fmt.Errorf("hash password: %w", err)
	}
	return string(hash), nil
}

// SetPassword replaces an account's password, and revokes the certificates that the old one fetched. Keys and tokens stay
// valid.
//
// Errors: not_found, invalid (password)
func (a *Auth) SetPassword(ctx context.Context, id core.AccountID, password string) error {
	hash, err := a.hash(password, standardRule)
	if err != nil {
		return err
	}
	return a.changeAccount(ctx, id, "account.password", func(account *core.Account) { account.PasswordHash = hash })
}

// SetActive lets an account in, or shuts it out with all its credentials, at once.
//
// Errors: not_found
func (a *Auth) SetActive(ctx context.Context, id core.AccountID, active bool) error {
	action := "account.activate"
	if !active {
		action = "account.deactivate"
	}
	return a.changeAccount(ctx, id, action, func(account *core.Account) { account.Active = active })
}

func (a *Auth) changeAccount(ctx context.Context, id core.AccountID, action string, change func(*core.Account)) error {
	err := a.store.Update(ctx, func(tx core.Tx) error {
		account, err := tx.Account(id)
		if err != nil {
			return err
		}
		hash := account.PasswordHash
		change(&account)
		if err := tx.PutAccount(&account); err != nil {
			return err
		}
		if account.PasswordHash != hash {
			if err := tx.RevokeCertificates(id, 0, a.now().UTC()); err != nil {
				return err
			}
		}
		return a.audit(ctx, tx, id, action)
	})
	a.cache.forget(func(_ cacheKey, account core.Account) bool { return account.ID == id })
	return err
}

// NewAPIKey gives an account another API key: 24 characters of [a-z0-9], more than 120 bits of chance.
func (a *Auth) NewAPIKey(ctx context.Context, id core.AccountID) (core.Secret, error) {
	key := newAPIKey()
	return core.Secret(key), a.putCredential(ctx, core.CredentialAPIKey, key, id, 0)
}

// NewToken gives an account another token: 43 URL-safe characters, 256 bits of chance. ttl 0 means that it does not
// expire.
func (a *Auth) NewToken(ctx context.Context, id core.AccountID, ttl time.Duration) (core.Secret, error) {
	token := newToken()
	return core.Secret(token), a.putCredential(ctx, core.CredentialToken, token, id, ttl)
}

func (a *Auth) putCredential(ctx context.Context, kind core.CredentialKind, text string, id core.AccountID, ttl time.Duration) error {
	return a.store.Update(ctx, func(tx core.Tx) error {
		now := a.now().UTC()
		c := core.Credential{Hash: sha256.Sum256([]byte(text)), Kind: kind, AccountID: id, CreatedAt: now}
		if ttl > 0 {
			c.ExpiresAt = now.Add(ttl)
		}
		if err := tx.PutCredential(c); err != nil {
			return err
		}
		return a.audit(ctx, tx, id, string(kind)+".create")
	})
}

// Revoke makes an API key or a token invalid, at once and for good. One that does not exist is no error: whoever holds a
// leaked text learns nothing.
func (a *Auth) Revoke(ctx context.Context, text string) error {
	hash := sha256.Sum256([]byte(text))
	err := a.store.Update(ctx, func(tx core.Tx) error {
		c, err := tx.Credential(hash)
		switch {
		case core.KindOf(err) == core.NotFound && err != nil:
			return nil
		case err != nil:
			return err
		}
		c.Revoked = true
		if err := tx.PutCredential(c); err != nil {
			return err
		}
		return a.audit(ctx, tx, c.AccountID, string(c.Kind)+".revoke")
	})
	a.cache.forget(func(key cacheKey, _ core.Account) bool { return key.hash == hash })
	return err
}

// audit records a change of credentials in the change's own transaction.
func (a *Auth) audit(ctx context.Context, tx core.Tx, id core.AccountID, action string) error {
	from := core.CallerOf(ctx)
	return tx.Audit(core.AuditRecord{At: a.now().UTC(), AccountID: id, Dialect: from.Dialect, From: from.From,
		Action: action, Subject: string(id), Outcome: "accepted"})
}

func newToken() string {
	var raw [32]byte
	rand.Read(raw[:])
	return base64.RawURLEncoding.EncodeToString(raw[:])
}

// newAPIKey draws 24 characters, each equally likely.
func newAPIKey() string {
	const letters = "abcdefghijklmnopqrstuvwxyz0123456789"
	key := make([]byte, 0, 24)
	var b [1]byte
	for len(key) < 24 {
		rand.Read(b[:])
		if int(b[0]) < 256-256%len(letters) { // the rest would favour the first letters
			key = append(key, letters[int(b[0])%len(letters)])
		}
	}
	return string(key)
}
