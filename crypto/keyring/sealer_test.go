package keyring

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

func openSealer(t testing.TB, path string) *Sealer {
	t.Helper()
	s, err := OpenSealer(path)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestSecretsComeBack(t *testing.T) {
	path := filepath.Join(t.TempDir(), "data", "master.key")
	s := openSealer(t, path)
	secret := []byte("the key of a node")
	blob := s.Seal(secret, "node.key", "n1")
	if bytes.Contains(blob, secret) {
		t.Error("the blob shows the secret")
	}
	if again := s.Seal(secret, "node.key", "n1"); bytes.Equal(again, blob) {
		t.Error("two blobs of one secret are equal")
	}
	for name, sealer := range map[string]*Sealer{"same process": s, "after a restart": openSealer(t, path)} {
		got, err := sealer.Open(blob, "node.key", "n1")
		if err != nil || !bytes.Equal(got, secret) {
			t.Errorf("%s: got %q, %v, want %q", name, got, err, secret)
		}
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode() != 0o600 {
		t.Errorf("got mode %v, %v, want 0600", info.Mode(), err)
	}
}

func TestABlobCannotBeMoved(t *testing.T) {
	s := openSealer(t, filepath.Join(t.TempDir(), "master.key"))
	blob := s.Seal([]byte("secret"), "node.key", "n1")
	for _, description := range [][]string{nil, {"node.key"}, {"node.key", "n2"}, {"node.keyn1"}, {"node.ke", "yn1"}, {"node.key", "n1", ""}} {
		if got, err := s.Open(blob, description...); !errors.Is(err, ErrBlob) {
			t.Errorf("%q: got %q, %v, want ErrBlob", description, got, err)
		}
	}
}

func TestADamagedBlobDoesNotOpen(t *testing.T) {
	s := openSealer(t, filepath.Join(t.TempDir(), "master.key"))
	blob := s.Seal([]byte("secret"), "x")
	for i := range blob {
		bad := bytes.Clone(blob)
		bad[i] ^= 1
		if _, err := s.Open(bad, "x"); !errors.Is(err, ErrBlob) && !errors.Is(err, ErrUnknownKey) {
			t.Errorf("byte %d: got %v, want an error", i, err)
		}
		if _, err := s.Open(blob[:i], "x"); err == nil {
			t.Errorf("cut at %d: got no error", i)
		}
	}
}

func TestRotation(t *testing.T) {
	path := filepath.Join(t.TempDir(), "master.key")
	s := openSealer(t, path)
	old := s.Seal([]byte("secret"), "x")
	if s.Stale(old) {
		t.Error("a fresh blob is stale")
	}
	id, err := s.Rotate()
	if err != nil {
		t.Fatal(err)
	}
	fresh := s.Seal([]byte("secret"), "x")
	if !s.Stale(old) || s.Stale(fresh) {
		t.Errorf("got stale %v and %v, want the old blob to be stale and the new one not", s.Stale(old), s.Stale(fresh))
	}
	reopened := openSealer(t, path)
	for _, blob := range [][]byte{old, fresh} {
		if got, err := reopened.Open(blob, "x"); err != nil || string(got) != "secret" {
			t.Errorf("got %q, %v, want every key to open", got, err)
		}
	}
	if ids := reopened.KeyIDs(); len(ids) != 2 || ids[1] != id {
		t.Errorf("got ids %v, want two with %s last", ids, id)
	}
	if err := s.Retire(); err != nil {
		t.Fatal(err)
	}
	reopened = openSealer(t, path)
	if _, err := reopened.Open(old, "x"); !errors.Is(err, ErrUnknownKey) {
		t.Errorf("got %v, want ErrUnknownKey for a retired key", err)
	}
	if _, err := reopened.Open(fresh, "x"); err != nil {
		t.Errorf("got %v, want the newest key to stay", err)
	}
}

func TestProcessesThatStartTogetherShareTheKey(t *testing.T) {
	path := filepath.Join(t.TempDir(), "master.key")
	sealers := make([]*Sealer, 8)
	var wg sync.WaitGroup
	for i := range sealers {
		wg.Go(func() { sealers[i], _ = OpenSealer(path) })
	}
	wg.Wait()
	for i, s := range sealers {
		if s == nil {
			t.Fatalf("sealer %d did not open", i)
		}
		if _, err := sealers[0].Open(s.Seal([]byte("x")), ""); !errors.Is(err, ErrBlob) {
			t.Errorf("got %v, want a shared key and another description", err)
		}
		if _, err := sealers[0].Open(s.Seal([]byte("x"))); err != nil {
			t.Errorf("got %v, want the key of process %d", err, i)
		}
	}
}

func TestABadMasterFileIsRefusedWithoutQuotingIt(t *testing.T) {
	path := filepath.Join(t.TempDir(), "master.key")
	good := string(masterText([]masterKey{freshMaster()}))
	for _, text := range []string{"", "\n", "hunter2", "reeve-master-v2 hunter2 hunter2", "reeve-master-v1 00 hunter2", good + "hunter2"} {
		writeKey(t, path, text, 0o600)
		if _, err := OpenSealer(path); err == nil || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%q: got %v, want an error that does not quote it", text, err)
		}
	}
	writeKey(t, path, good, 0o640)
	if _, err := OpenSealer(path); err == nil || !strings.Contains(err.Error(), "chmod 600") {
		t.Errorf("got %v, want the command that mends the mode", err)
	}
}

func TestSealersNeverPrint(t *testing.T) {
	s := openSealer(t, filepath.Join(t.TempDir(), "master.key"))
	out := fmt.Sprintf("%v %+v %#v %s", s, s, s, s)
	if strings.TrimSpace(strings.ReplaceAll(out, "[redacted]", "")) != "" {
		t.Errorf("got %q, want only [redacted]", out)
	}
}

func FuzzSealerOpen(f *testing.F) {
	s := openSealer(f, filepath.Join(f.TempDir(), "master.key"))
	f.Add(s.Seal([]byte("secret"), "x"), "x")
	f.Add([]byte{blobVersion}, "")
	f.Fuzz(func(t *testing.T, blob []byte, description string) {
		secret, err := s.Open(blob, description)
		if err == nil && string(secret) != "secret" {
			t.Errorf("got %q, want nothing but what was sealed", secret)
		}
	})
}
