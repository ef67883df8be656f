package auth

import (
	"cmp"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"runtime"
	"strings"
	"time"

	"golang.org/x/crypto/bcrypt"

	"github.com/reeve-paas/reeve/coordinator/core"
)

// Options configure an Auth. Only Store is needed.
type Options struct {
	Store      core.Store
	Clock      core.Clock
	BcryptCost int           // 0 means 10
	CacheTTL   time.Duration // how long a found key or token is believed; 0 means 5 s, negative means not at all
	CacheSize  int           // most credentials remembered; 0 means 10,000

	// FreeAttempts wrong passwords in a row cost nothing; each further one doubles a delay that starts at FirstDelay and
	// ends at MaxDelay, during which attempts are refused unseen. 0 means 3, 1 s and 5 min.
	FreeAttempts int
	FirstDelay   time.Duration
	MaxDelay     time.Duration

	// FreeUsers accounts that one address makes cost nothing; each further one doubles a delay that starts at a minute and
	// ends at an hour. It is forgotten after two hours without any. 0 means 20.
	FreeUsers int
}

// Auth checks credentials. Its methods may be called from any goroutine.
type Auth struct {
	store     core.Store
	now       core.Clock
	cost      int
	dummyHash []byte        // compared against when there is no account, so that both cases take the same time
	checks    chan struct{} // one token per password being checked: bcrypt is meant to be expensive
	cache     *cache
	slow      *limiter
	makes     *limiter // of accounts
}

// New builds an Auth.
func New(o Options) (*Auth, error) {
	a := &Auth{store: o.Store, now: o.Clock, cost: cmp.Or(o.BcryptCost, bcrypt.DefaultCost)}
	if a.now == nil {
		a.now = time.Now
	}
	if a.cost < bcrypt.MinCost || a.cost > bcrypt.MaxCost {
		return nil, fmt.Errorf("bcrypt cost %d is not between %d and %d", a.cost, bcrypt.MinCost, bcrypt.MaxCost)
	}
	var err error
	if a.dummyHash, err = bcrypt.GenerateFromPassword([]byte(rand.Text()), a.cost); err != nil {
		return nil, fmt.Errorf("prepare password check: %w", err)
	}
	a.checks = make(chan struct{}, max(2, runtime.GOMAXPROCS(0)))
	a.cache = newCache(cmp.Or(o.CacheTTL, 5*time.Second), cmp.Or(o.CacheSize, 10000), a.now)
	a.slow = &limiter{
		now: a.now, free: cmp.Or(o.FreeAttempts, 3),
		first: cmp.Or(o.FirstDelay, time.Second), most: cmp.Or(o.MaxDelay, 5*time.Minute),
		size: 10000, rows: map[limiterKey]*attempts{},
	}
	a.makes = &limiter{now: a.now, free: cmp.Or(o.FreeUsers, 20), first: time.Minute, most: time.Hour, size: 10000, rows: map[limiterKey]*attempts{}}
	return a, nil
}

func refused() error {
	return core.Errorf(core.Unauthenticated, core.ObjAccount, "the credential is not valid")
}

// APIKey finds whose API key it is.
//
// Errors: unauthenticated
func (a *Auth) APIKey(ctx context.Context, key, from string) (core.Principal, error) {
	return a.credential(ctx, core.CredentialAPIKey, key, from)
}

// Token finds whose token it is.
//
// Errors: unauthenticated (also when it expired or was revoked)
func (a *Auth) Token(ctx context.Context, token, from string) (core.Principal, error) {
	return a.credential(ctx, core.CredentialToken, token, from)
}

func (a *Auth) credential(ctx context.Context, kind core.CredentialKind, text, from string) (core.Principal, error) {
	if text == "" || len(text) > 1024 {
		return core.Principal{}, refused()
	}
	hash := sha256.Sum256([]byte(text))
	if account, ok := a.cache.get(kind, hash); ok {
		return principal(account, kind, from), nil
	}
	generation := a.cache.generation()
	var account core.Account
	var expires time.Time
	err := a.store.View(ctx, func(r core.Reader) error {
		c, err := r.Credential(hash)
		if err != nil {
			return err
		}
		if c.Kind != kind || c.Revoked || !c.ExpiresAt.IsZero() && !a.now().Before(c.ExpiresAt) {
			return refused()
		}
		expires = c.ExpiresAt
		account, err = r.Account(c.AccountID)
		if err == nil && !account.Active {
			return refused()
		}
		return err
	})
	switch {
	case core.KindOf(err) == core.NotFound, core.KindOf(err) == core.Unauthenticated:
		return core.Principal{}, refused()
	case err != nil:
		return core.Principal{}, fmt.Errorf("look up credential: %w", err)
	}
	account.PasswordHash = "" // a principal travels far
	a.cache.put(kind, hash, account, expires, generation)
	return principal(account, kind, from), nil
}

func principal(account core.Account, via core.CredentialKind, from string) core.Principal {
	return core.Principal{Account: account, Via: string(via), From: from}
}

// Login checks a password. The user name is the account's own, exactly, or its e-mail address or its handle, without regard
// to case. Wrong attempts are counted per account and address.
//
// Errors: unauthenticated (unknown, wrong, not active), rate_limited, unavailable
func (a *Auth) Login(ctx context.Context, username, password, from string) (core.Principal, error) {
	account, err := a.accountNamed(ctx, username)
	known := err == nil
	if err != nil && core.KindOf(err) != core.NotFound {
		return core.Principal{}, fmt.Errorf("look up account: %w", err)
	}
	subject := strings.ToLower(username)
	if known {
		subject = string(account.ID) // the same row for e-mail and handle
	}
	if err := a.attempt(ctx, subject, from, account.PasswordHash, passwordBytes(password), known && account.Active); err != nil {
		return core.Principal{}, err
	}
	account.PasswordHash = ""
	return core.Principal{Account: account, Via: "password", From: from}, nil
}

// AppLogin checks the password of the login of an app's node. Wrong attempts are counted as those of accounts are.
//
// Errors: unauthenticated, rate_limited, unavailable
func (a *Auth) AppLogin(ctx context.Context, name, password, from string) (core.Principal, error) {
	var login core.AppLogin
	var p core.Principal
	err := a.store.View(ctx, func(r core.Reader) (err error) {
		login, p, err = core.LoginNamed(r, name)
		return err
	})
	if err != nil && core.KindOf(err) != core.NotFound {
		return core.Principal{}, fmt.Errorf("look up login: %w", err)
	}
	crypt := []byte(password)[:min(len(password), 72)] // crypt(3) on the node looks at no more
	if err := a.attempt(ctx, "login "+name, from, string(login.PasswordHash), crypt, err == nil); err != nil {
		return core.Principal{}, err
	}
	p.From = from
	return p, nil
}

// attempt compares a password with a hash, slowly for who guesses. It takes the same time when there is no hash.
func (a *Auth) attempt(ctx context.Context, subject, from, hash string, password []byte, known bool) error {
	if err := a.slow.check(subject, from); err != nil {
		return err // before waiting for a turn
	}
	select {
	case a.checks <- struct{}{}:
		defer func() { <-a.checks }()
	case <-ctx.Done():
		return core.Wrap(core.Unavailable, core.ObjAccount, ctx.Err(), "too many logins at once")
	}
	// Again with the turn: of many attempts sent at once only as many slip through as there are turns.
	if err := a.slow.check(subject, from); err != nil {
		return err
	}
	if good := a.passwordMatches(hash, password); !good || !known {
		a.slow.failed(subject, from)
		return refused()
	}
	a.slow.succeeded(subject, from)
	return nil
}

// passwordMatches takes the same time when there is no hash.
func (a *Auth) passwordMatches(hash string, password []byte) bool {
	against := []byte(hash)
	if len(against) == 0 {
		against = a.dummyHash
	}
	return bcrypt.CompareHashAndPassword(against, password) == nil && hash != ""
}

// passwordBytes is what bcrypt sees: it reads 72 bytes, so that longer passwords go in as the hash of all of them.
func passwordBytes(password string) []byte {
	if len(password) <= 72 {
		return []byte(password)
	}
	sum := sha256.Sum256([]byte(password))
	return []byte(base64.RawStdEncoding.EncodeToString(sum[:]))
}

// accountNamed finds an account by user name, e-mail address or handle. Handles contain no "@", so that one look decides
// which; no user name is somebody else's address or handle.
func (a *Auth) accountNamed(ctx context.Context, username string) (core.Account, error) {
	var found core.Account
	err := a.store.View(ctx, func(r core.Reader) error {
		var err error
		if found, err = r.AccountByUsername(username); username != "" && (err == nil || core.KindOf(err) != core.NotFound) {
			return err
		}
		username = strings.TrimSpace(username)
		found, err = r.AccountByEmail(strings.ToLower(username))
		if core.KindOf(err) != core.NotFound || strings.Contains(username, "@") {
			return err
		}
		accounts, err := r.Accounts() // next to a bcrypt comparison, reading thousands of rows is cheap
		if err != nil {
			return err
		}
		for _, one := range accounts {
			if username != "" && strings.EqualFold(one.Handle, username) {
				found = one
				return nil
			}
		}
		return core.Errorf(core.NotFound, core.ObjAccount, "there is no such account")
	})
	return found, err
}
