package sqlite

import (
	"path/filepath"
	"testing"

	"github.com/reeve-paas/reeve/coordinator/store"
	"github.com/reeve-paas/reeve/coordinator/store/storetest"
	"github.com/reeve-paas/reeve/crypto/keyring"
)

var _ store.Sealer = (*keyring.Sealer)(nil)

func TestStore(t *testing.T) {
	storetest.Run(t, func(t testing.TB, dir string) storetest.Store { return openAt(t, dir) })
}

func openAt(t testing.TB, dir string) *Store {
	t.Helper()
	s, err := tryOpen(t, dir)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func tryOpen(t testing.TB, dir string) (*Store, error) {
	t.Helper()
	sealer, err := keyring.OpenSealer(filepath.Join(dir, "master"))
	if err != nil {
		t.Fatal(err)
	}
	return Open(t.Context(), Options{Path: filepath.Join(dir, "reeve.db"), Sealer: sealer})
}
