package sqlite

import (
	"path/filepath"
	"testing"

	"github.com/reeve-paas/reeve/coordinator/core"
	"github.com/reeve-paas/reeve/crypto/keyring"
)

func TestVersion(t *testing.T) {
	dir := t.TempDir()
	s := openAt(t, dir)
	defer s.Close()
	version := func() int64 {
		t.Helper()
		v, err := s.Version(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
	put := func(to *Store, email string) {
		t.Helper()
		err := to.Update(t.Context(), func(tx core.Tx) error {
			return tx.PutAccount(&core.Account{ID: core.AccountID(email), Handle: email, Email: email, Active: true})
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	before := version()
	if got := version(); got != before {
		t.Errorf("with nothing written: got version %d, want %d again", got, before)
	}
	if err := s.View(t.Context(), func(r core.Reader) error { _, err := r.Accounts(); return err }); err != nil {
		t.Fatal(err)
	}
	if got := version(); got != before {
		t.Errorf("after reading: got version %d, want %d again", got, before)
	}
	put(s, "a@example.test")
	after := version()
	if after == before {
		t.Errorf("after a commit: got version %d again", after)
	}
	sealer, err := keyring.OpenSealer(filepath.Join(dir, "master"))
	if err != nil {
		t.Fatal(err)
	}
	other, err := Open(t.Context(), Options{Path: filepath.Join(dir, "reeve.db"), Sealer: sealer, Beside: true})
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	put(other, "b@example.test")
	if got := version(); got == after {
		t.Errorf("after another program's commit: got version %d again", got)
	}
	last := version()
	s.watch.close()
	if got := version(); got == last {
		t.Errorf("on a new connection: got version %d again, which counts from elsewhere", got)
	}
}

func BenchmarkVersion(b *testing.B) {
	s := openAt(b, b.TempDir())
	defer s.Close()
	for b.Loop() {
		if _, err := s.Version(b.Context()); err != nil {
			b.Fatal(err)
		}
	}
}
