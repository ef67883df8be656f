package auth

import (
	"context"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/crypto/bcrypt"

	"github.com/reeve-paas/reeve/coordinator/core"
)

func newAuth(t testing.TB, m *memory, o Options) *Auth {
	t.Helper()
	o.Store, o.BcryptCost = m, bcrypt.MinCost
	a, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func create(t testing.TB, a *Auth, email, password string) (core.Account, string, string) {
	t.Helper()
	account, plain, key, err := a.CreateAccount(t.Context(), email, password, false)
	if err != nil {
		t.Fatal(err)
	}
	return account, string(plain), string(key)
}

func wantKind(t *testing.T, err error, want core.Kind) {
	t.Helper()
	if err == nil || core.KindOf(err) != want {
		t.Errorf("got error %v of kind %q, want %q", err, core.KindOf(err), want)
	}
}

func TestCreateAccount(t *testing.T) {
	m := newMemory()
	a := newAuth(t, m, Options{})
	account, password, key := create(t, a, "Ada@Example.org", "")
	t.Run("makes a key of 24 characters and a password nobody can guess", func(t *testing.T) {
		if !regexp.MustCompile(`^[a-z0-9]{24}$`).MatchString(key) {
			t.Errorf("got key %q", key)
		}
		if len(password) < 20 {
			t.Errorf("got password of %d characters", len(password))
		}
	})
	t.Run("gives it a handle and keeps the address in lower case", func(t *testing.T) {
		if account.Handle != "RV1-REEVE" || account.Email != "ada@example.org" || !account.Active || account.Admin {
			t.Errorf("got %+v", account)
		}
	})
	t.Run("stores hashes only", func(t *testing.T) {
		stored := fmt.Sprintf("%+v %+v", m.accounts, m.credentials)
		if strings.Contains(stored, key) || strings.Contains(stored, password) {
			t.Error("the store holds a credential in clear text")
		}
	})
	t.Run("refuses an address twice without regard to case", func(t *testing.T) {
		_, _, _, err := a.CreateAccount(t.Context(), "ADA@example.org", "password", false)
		wantKind(t, err, core.Exists)
	})
	for _, bad := range []string{"", "ada", "ada@", "Ada <ada@example.org>", "a b@example.org", "a@b\nc"} {
		t.Run(fmt.Sprintf("refuses the address %q", bad), func(t *testing.T) {
			_, _, _, err := a.CreateAccount(t.Context(), bad, "password", false)
			wantKind(t, err, core.Invalid)
		})
	}
	t.Run("refuses a short password", func(t *testing.T) {
		_, _, _, err := a.CreateAccount(t.Context(), "b@example.org", "1234567", false)
		wantKind(t, err, core.Invalid)
	})
	t.Run("errors and results do not print secrets", func(t *testing.T) {
		_, plain, apiKey, err := a.CreateAccount(t.Context(), "c@example.org", "", false)
		if text := fmt.Sprintf("%v %+v %v %#v", plain, apiKey, err, plain); strings.Contains(text, string(plain)) {
			t.Errorf("got %q", text)
		}
	})
}

func TestLogin(t *testing.T) {
	m := newMemory()
	a := newAuth(t, m, Options{FreeAttempts: 1000})
	long := strings.Repeat("x", 72)
	account, _, _ := create(t, a, "ada@example.org", "correct horse")
	create(t, a, "long@example.org", long+"tail")
	m.accounts["plain"] = core.Account{ID: "plain", Num: 99, Handle: "nopassword", Email: "n@example.org", Active: true}

	for _, tc := range []struct {
		name, user, password string
		ok                   bool
	}{
		{"by address", "ada@example.org", "correct horse", true},
		{"by address in other case", " ADA@Example.ORG ", "correct horse", true},
		{"by handle", "RV1-REEVE", "correct horse", true},
		{"by handle in other case", "rv1-reeve", "correct horse", true},
		{"wrong password", "ada@example.org", "wrong", false},
		{"empty password", "ada@example.org", "", false},
		{"unknown address", "bob@example.org", "correct horse", false},
		{"unknown handle", "bob", "correct horse", false},
		{"nothing", "", "", false},
		{"account without a password", "nopassword", "", false},
		{"long password", "long@example.org", long + "tail", true},
		{"long password cut at 72 bytes", "long@example.org", long, false},
		{"long password with another end", "long@example.org", long + "liat", false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			p, err := a.Login(t.Context(), tc.user, tc.password, "192.0.2.1")
			if !tc.ok {
				wantKind(t, err, core.Unauthenticated)
				if !p.Anonymous() {
					t.Errorf("got principal %+v beside the error", p)
				}
				return
			}
			if err != nil || p.Anonymous() || p.From != "192.0.2.1" || p.Account.PasswordHash != "" {
				t.Errorf("got %+v, %v", p, err)
			}
		})
	}
	t.Run("is refused to an account that is not active", func(t *testing.T) {
		if err := a.SetActive(t.Context(), account.ID, false); err != nil {
			t.Fatal(err)
		}
		_, err := a.Login(t.Context(), "ada@example.org", "correct horse", "x")
		wantKind(t, err, core.Unauthenticated)
	})
	t.Run("works with a new password only after a change", func(t *testing.T) {
		if err := a.SetActive(t.Context(), account.ID, true); err != nil {
			t.Fatal(err)
		}
		if err := a.SetPassword(t.Context(), account.ID, "battery staple"); err != nil {
			t.Fatal(err)
		}
		_, err := a.Login(t.Context(), "ada@example.org", "correct horse", "x")
		wantKind(t, err, core.Unauthenticated)
		if _, err := a.Login(t.Context(), "ada@example.org", "battery staple", "x"); err != nil {
			t.Error(err)
		}
	})
}

// The work done for an unknown user is counted rather than timed: a comparison against a hash of the same cost.
func TestLoginOfAnUnknownUserComparesAPassword(t *testing.T) {
	a := newAuth(t, newMemory(), Options{})
	if cost, err := bcrypt.Cost(a.dummyHash); err != nil || cost != a.cost {
		t.Errorf("got a stand-in hash of cost %d (%v), want %d", cost, err, a.cost)
	}
	if a.passwordMatches("", []byte("anything")) {
		t.Error("a password matched an account that has none")
	}
}

func TestAppLogin(t *testing.T) {
	m := newMemory()
	a := newAuth(t, m, Options{FreeAttempts: 100})
	ada, _, _ := create(t, a, "ada@example.org", "correct horse")
	hash, err := bcrypt.GenerateFromPassword([]byte("battery staple"), bcrypt.MinCost)
	if err != nil {
		t.Fatal(err)
	}
	m.apps = []core.App{{ID: "one", Num: 1, Login: 2001, AccountID: ada.ID}, {ID: "two", Num: 2, Login: 2002, AccountID: ada.ID}, {ID: "shared", Num: 3, AccountID: ada.ID}}
	m.logins = map[core.AppID]core.AppLogin{"one": {AppID: "one", PasswordHash: hash}, "two": {AppID: "two"}, "shared": {AppID: "shared", PasswordHash: hash}}
	for _, tc := range []struct {
		name, login, password string
		app                   core.AppID
	}{
		{"with the password", "2001", "battery staple", "one"},
		{"with the account's", "2001", "correct horse", ""},
		{"without one", "2001", "", ""},
		{"of an app that only keys let in", "2002", "battery staple", ""},
		{"of an app without a login", "2003", "battery staple", ""},
		{"of no app", "2004", "battery staple", ""},
		{"written in another way", "02001", "battery staple", ""},
		{"too small", "1", "battery staple", ""},
		{"too long", "99999999999999999999", "battery staple", ""},
		{"with a name", "ada@example.org", "correct horse", ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			p, err := a.AppLogin(t.Context(), tc.login, tc.password, "192.0.2.1")
			if tc.app == "" {
				wantKind(t, err, core.Unauthenticated)
			}
			if p.App != tc.app || p.Account.PasswordHash != "" || p.Account.Admin {
				t.Errorf("got %+v, %v", p, err)
			}
		})
	}
	if err := a.SetActive(t.Context(), ada.ID, false); err != nil {
		t.Fatal(err)
	}
	_, err = a.AppLogin(t.Context(), "2001", "battery staple", "192.0.2.1")
	wantKind(t, err, core.Unauthenticated)
}

func TestAppLoginAttemptsAreSlowed(t *testing.T) {
	a := newAuth(t, newMemory(), Options{FreeAttempts: 2, FirstDelay: time.Minute})
	for range 3 {
		_, err := a.AppLogin(t.Context(), "2001", "wrong", "192.0.2.1")
		wantKind(t, err, core.Unauthenticated)
	}
	_, err := a.AppLogin(t.Context(), "2001", "wrong", "192.0.2.1")
	wantKind(t, err, core.RateLimited)
	_, err = a.AppLogin(t.Context(), "2001", "wrong", "192.0.2.2")
	wantKind(t, err, core.Unauthenticated)
}

func TestLoginAttemptsAreSlowed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAuth(t, newMemory(), Options{FreeAttempts: 3, FirstDelay: time.Second, MaxDelay: 8 * time.Second})
		create(t, a, "ada@example.org", "correct horse")
		login := func(user, password, from string) error {
			_, err := a.Login(t.Context(), user, password, from)
			return err
		}
		for range 4 {
			wantKind(t, login("ada@example.org", "wrong", "192.0.2.1"), core.Unauthenticated)
		}
		wantKind(t, login("ada@example.org", "correct horse", "192.0.2.1"), core.RateLimited) // not even the right one
		wantKind(t, login("rv1-reeve", "correct horse", "192.0.2.1"), core.RateLimited)       // nor by another name
		if err := login("ada@example.org", "correct horse", "192.0.2.2"); err != nil {
			t.Errorf("another address: got %v, want a login", err) // nobody can lock the owner out
		}
		for _, delay := range []time.Duration{1, 2, 4, 8, 8, 8} {
			time.Sleep(delay*time.Second - time.Millisecond)
			wantKind(t, login("ada@example.org", "wrong", "192.0.2.1"), core.RateLimited)
			time.Sleep(time.Millisecond)
			wantKind(t, login("ada@example.org", "wrong", "192.0.2.1"), core.Unauthenticated)
		}
		time.Sleep(8 * time.Second)
		if err := login("ada@example.org", "correct horse", "192.0.2.1"); err != nil {
			t.Errorf("after the delay: got %v, want a login", err)
		}
		wantKind(t, login("ada@example.org", "wrong", "192.0.2.1"), core.Unauthenticated)
		if err := login("ada@example.org", "correct horse", "192.0.2.1"); err != nil {
			t.Errorf("a success forgets the wrong ones before it; got %v", err)
		}
	})
}

func TestLoginsAtOnce(t *testing.T) {
	a := newAuth(t, newMemory(), Options{FreeAttempts: 3})
	create(t, a, "ada@example.org", "correct horse")
	count := func(password string) map[core.Kind]int {
		var mu sync.Mutex
		var wg sync.WaitGroup
		kinds := map[core.Kind]int{}
		for range 50 {
			wg.Go(func() {
				_, err := a.Login(context.Background(), "ada@example.org", password, "192.0.2.1")
				mu.Lock()
				defer mu.Unlock()
				if err == nil {
					kinds["ok"]++
				} else {
					kinds[core.KindOf(err)]++
				}
			})
		}
		wg.Wait()
		return kinds
	}
	if got := count("correct horse"); got["ok"] != 50 {
		t.Errorf("right passwords: got %v, want all let in", got)
	}
	if got := count("wrong"); got[core.Unauthenticated] > 3+1+cap(a.checks) || got[core.RateLimited] < 30 {
		t.Errorf("wrong passwords: got %v, want most refused unseen", got)
	}
}

func TestLimiterMemoryIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := &limiter{now: time.Now, free: 1, first: time.Second, most: time.Minute, size: 100, rows: map[limiterKey]*attempts{}}
		for range 40 {
			l.failed("victim", "192.0.2.1")
		}
		for i := range 10000 {
			l.failed(fmt.Sprint("user", i), "192.0.2.1")
			if len(l.rows) > 100 {
				t.Fatalf("got %d rows, want at most 100", len(l.rows))
			}
		}
		if l.check("victim", "192.0.2.1") == nil {
			t.Error("a flood of other names made it forget the one being guessed")
		}
	})
}

func TestCredentials(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMemory()
		a := newAuth(t, m, Options{CacheTTL: 5 * time.Second})
		account, _, key := create(t, a, "ada@example.org", "")
		newToken := func(ttl time.Duration) string {
			token, err := a.NewToken(t.Context(), account.ID, ttl)
			if err != nil {
				t.Fatal(err)
			}
			return string(token)
		}
		token := newToken(0)
		if !regexp.MustCompile(`^[A-Za-z0-9_-]{43}$`).MatchString(token) || token == newToken(0) {
			t.Errorf("got token %q, want a URL-safe one that is new each time", token)
		}

		p, err := a.APIKey(t.Context(), key, "192.0.2.1")
		if err != nil || p.Account.ID != account.ID || p.Via != "api_key" || p.From != "192.0.2.1" || p.Account.PasswordHash != "" {
			t.Errorf("API key: got %+v, %v", p, err)
		}
		if p, err = a.Token(t.Context(), token, "192.0.2.1"); err != nil || p.Account.ID != account.ID || p.Via != "token" {
			t.Errorf("token: got %+v, %v", p, err)
		}
		for name, call := range map[string]func() (core.Principal, error){
			"a token is no API key":      func() (core.Principal, error) { return a.APIKey(t.Context(), token, "") },
			"an API key is no token":     func() (core.Principal, error) { return a.Token(t.Context(), key, "") },
			"unknown key":                func() (core.Principal, error) { return a.APIKey(t.Context(), newAPIKey(), "") },
			"empty key":                  func() (core.Principal, error) { return a.APIKey(t.Context(), "", "") },
			"key in other case":          func() (core.Principal, error) { return a.APIKey(t.Context(), strings.ToUpper(key), "") },
			"a token with an extra byte": func() (core.Principal, error) { return a.Token(t.Context(), token+"x", "") },
		} {
			p, err := call()
			wantKind(t, err, core.Unauthenticated)
			if !p.Anonymous() || strings.Contains(err.Error(), key) || strings.Contains(err.Error(), token) {
				t.Errorf("%s: got %+v, %v", name, p, err)
			}
		}

		m.views = 0
		for range 100 {
			if _, err := a.APIKey(t.Context(), key, ""); err != nil {
				t.Fatal(err)
			}
		}
		if m.views != 0 {
			t.Errorf("got %d lookups for a key known a moment ago, want 0", m.views)
		}

		short := newToken(3 * time.Second)
		if _, err := a.Token(t.Context(), short, ""); err != nil {
			t.Fatal(err)
		}
		time.Sleep(3 * time.Second)
		_, err = a.Token(t.Context(), short, "") // although the cache would keep it for 5 s
		wantKind(t, err, core.Unauthenticated)

		if err := a.Revoke(t.Context(), token); err != nil {
			t.Fatal(err)
		}
		_, err = a.Token(t.Context(), token, "")
		wantKind(t, err, core.Unauthenticated)
		if err := a.Revoke(t.Context(), "never existed"); err != nil {
			t.Errorf("got %v, want nil", err)
		}

		if _, err := a.APIKey(t.Context(), key, ""); err != nil {
			t.Fatal(err)
		}
		if err := a.SetActive(t.Context(), account.ID, false); err != nil {
			t.Fatal(err)
		}
		_, err = a.APIKey(t.Context(), key, "")
		wantKind(t, err, core.Unauthenticated)
	})
}

func TestEveryChangeOfCredentialsIsAudited(t *testing.T) {
	m := newMemory()
	a := newAuth(t, m, Options{})
	account, _, _ := create(t, a, "ada@example.org", "")
	ctx := context.WithValue(t.Context(), core.CallerKey{}, core.Principal{Dialect: "test", From: "192.0.2.7"})
	token, err := a.NewToken(ctx, account.ID, 0)
	if err != nil {
		t.Fatal(err)
	}
	key, err := a.NewAPIKey(ctx, account.ID)
	if err != nil {
		t.Fatal(err)
	}
	for _, err := range []error{
		a.Revoke(ctx, string(token)), a.SetPassword(ctx, account.ID, "password"),
		a.SetActive(ctx, account.ID, false), a.SetActive(ctx, account.ID, true),
	} {
		if err != nil {
			t.Error(err)
		}
	}
	want := []string{"account.create", "token.create", "api_key.create", "token.revoke", "account.password", "account.deactivate", "account.activate"}
	var got []string
	for i, r := range m.audit {
		got = append(got, r.Action)
		if r.AccountID != account.ID || i > 0 && (r.Dialect != "test" || r.From != "192.0.2.7") {
			t.Errorf("got the record %+v, want whose credential it is and from where", r)
		}
	}
	if !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	if text := fmt.Sprint(m.audit); strings.Contains(text, string(token)) || strings.Contains(text, string(key)) {
		t.Error("the audit holds a credential")
	}
}

func TestARevocationElsewhereIsSeenAfterTheTTL(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMemory()
		here, there := newAuth(t, m, Options{CacheTTL: 5 * time.Second}), newAuth(t, m, Options{})
		_, _, key := create(t, here, "ada@example.org", "")
		if _, err := here.APIKey(t.Context(), key, ""); err != nil {
			t.Fatal(err)
		}
		if err := there.Revoke(t.Context(), key); err != nil {
			t.Fatal(err)
		}
		time.Sleep(5 * time.Second)
		_, err := here.APIKey(t.Context(), key, "")
		wantKind(t, err, core.Unauthenticated)
	})
}

func TestALookupThatBeganBeforeARevocationIsNotRemembered(t *testing.T) {
	c := newCache(time.Minute, 10, time.Now)
	gen := c.generation()
	c.forget(func(cacheKey, core.Account) bool { return true })
	c.put(core.CredentialToken, [32]byte{1}, core.Account{ID: "a"}, time.Time{}, gen)
	if _, ok := c.get(core.CredentialToken, [32]byte{1}); ok {
		t.Error("a stale lookup was stored")
	}
}

func TestCacheIsBounded(t *testing.T) {
	c := newCache(time.Minute, 10, time.Now)
	for i := range 1000 {
		c.put(core.CredentialToken, [32]byte{byte(i), byte(i >> 8)}, core.Account{}, time.Time{}, 0)
	}
	if len(c.rows) > 10 {
		t.Errorf("got %d rows, want at most 10", len(c.rows))
	}
}

func BenchmarkAPIKey(b *testing.B) {
	a := newAuth(b, newMemory(), Options{})
	_, _, key := create(b, a, "ada@example.org", "")
	for b.Loop() {
		if _, err := a.APIKey(b.Context(), key, ""); err != nil {
			b.Fatal(err)
		}
	}
}
