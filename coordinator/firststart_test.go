package main

import (
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/crypto/bcrypt"

	"github.com/reeve-paas/reeve/coordinator/auth"
	"github.com/reeve-paas/reeve/coordinator/core"
)

func openTestBase(t *testing.T) (*base, string) {
	t.Helper()
	cfg := DefaultConfig()
	cfg.DataDir = filepath.Join(t.TempDir(), "data")
	b, err := openBase(t.Context(), cfg, slog.New(slog.NewTextHandler(io.Discard, nil)), false)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { b.Close() })
	if b.auth, err = auth.New(auth.Options{Store: b.store, BcryptCost: 4}); err != nil { // spares seconds
		t.Fatal(err)
	}
	return b, filepath.Join(cfg.DataDir, "admin.json")
}

// wantAdmin checks that the file is private and that all it holds lets its reader in as the only account.
func wantAdmin(t *testing.T, b *base, path string) adminFile {
	t.Helper()
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if info.Mode() != 0o600 {
		t.Errorf("got mode %v, want 0600", info.Mode())
	}
	if _, err := os.Stat(path + ".new"); err == nil {
		t.Error("the file of the unfinished start is still there")
	}
	f, err := readAdmin(path)
	if err != nil {
		t.Fatal(err)
	}
	for what, try := range map[string]func() (core.Principal, error){
		"password": func() (core.Principal, error) { return b.auth.Login(t.Context(), f.Email, f.Password, "test") },
		"api_key":  func() (core.Principal, error) { return b.auth.APIKey(t.Context(), f.APIKey, "test") },
		"token":    func() (core.Principal, error) { return b.auth.Token(t.Context(), f.Token, "test") },
	} {
		if p, err := try(); err != nil || !p.Account.Admin || p.Account.Email != adminEmail {
			t.Errorf("%s: got %+v, %v, want the administrator", what, p, err)
		}
	}
	var accounts []core.Account
	if err := b.store.View(t.Context(), func(r core.Reader) (err error) { accounts, err = r.Accounts(); return err }); err != nil || len(accounts) != 1 {
		t.Errorf("got %d accounts, %v, want one", len(accounts), err)
	}
	return f
}

func TestFirstStart(t *testing.T) {
	b, path := openTestBase(t)
	if err := b.firstStart(t.Context()); err != nil {
		t.Fatal(err)
	}
	first := wantAdmin(t, b, path)
	if err := b.firstStart(t.Context()); err != nil {
		t.Fatal(err)
	}
	if again := wantAdmin(t, b, path); again != first {
		t.Error("a second start changed the credentials")
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if err := b.firstStart(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(path); err == nil {
		t.Error("a file that was removed came back")
	}
}

// TestAFirstStartCutOffAnywhereIsFinished puts in place what a kill after each of the steps leaves.
func TestAFirstStartCutOffAnywhereIsFinished(t *testing.T) {
	write := func(t *testing.T, path string) adminFile {
		f, err := writeAdmin(path + ".new")
		if err != nil {
			t.Fatal(err)
		}
		return f
	}
	for name, before := range map[string]func(*testing.T, *base, string) adminFile{
		"after the credentials were written down": func(t *testing.T, _ *base, path string) adminFile { return write(t, path) },
		"after the account was made": func(t *testing.T, b *base, path string) adminFile {
			f := write(t, path)
			c := auth.Credentials{Password: core.Secret(f.Password), APIKey: core.Secret(f.APIKey), Token: core.Secret(f.Token)}
			if _, err := b.auth.CreateAccountWith(t.Context(), f.Email, c, true); err != nil {
				t.Fatal(err)
			}
			return f
		},
		"beside a file of a database that is gone": func(t *testing.T, _ *base, path string) adminFile {
			if err := os.WriteFile(path, []byte("{}"), 0o600); err != nil {
				t.Fatal(err)
			}
			return write(t, path)
		},
	} {
		t.Run(name, func(t *testing.T) {
			b, path := openTestBase(t)
			want := before(t, b, path)
			if err := b.firstStart(t.Context()); err != nil {
				t.Fatal(err)
			}
			if got := wantAdmin(t, b, path); got != want {
				t.Error("got other credentials than were written down first")
			}
		})
	}
}

func TestADamagedFileIsNamed(t *testing.T) {
	b, path := openTestBase(t)
	if err := os.WriteFile(path+".new", []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := b.firstStart(t.Context()); err == nil || !strings.Contains(err.Error(), path+".new is damaged; remove it") {
		t.Errorf("got %v, want the file named and what to do", err)
	}
}

func TestALoginTakesEveryPasswordThatIsAllowed(t *testing.T) {
	long := strings.Repeat("ü", 64) // 128 bytes
	hash, err := hashLogin(long)
	if err != nil {
		t.Fatal(err)
	}
	if err := bcrypt.CompareHashAndPassword([]byte(hash), []byte(long)[:72]); err != nil {
		t.Errorf("got a hash that does not fit: %v", err)
	}
}
