package keyring

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func readText(text []byte) (string, error) {
	if len(text) < 3 {
		return "", errors.New("the key is too short")
	}
	return strings.TrimSpace(string(text)), nil
}

func writeKey(t *testing.T, path, text string, mode fs.FileMode) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), mode); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, mode); err != nil {
		t.Fatal(err)
	}
}

func wantKey(t *testing.T, f *File[string], want string) {
	t.Helper()
	got, err := f.Get()
	if err != nil || got != want {
		t.Errorf("got %q, %v, want %q", got, err, want)
	}
}

func TestAKeyFileIsReadAgainWhenItChanges(t *testing.T) {
	path := filepath.Join(t.TempDir(), "default")
	writeKey(t, path, "first\n", 0o600)
	reads := 0
	f := NewFile(func(text []byte) (string, error) { reads++; return readText(text) }, path)
	wantKey(t, f, "first")
	wantKey(t, f, "first")
	if reads != 1 {
		t.Errorf("got %d reads of an unchanged file, want 1", reads)
	}
	if err := WriteFile(path, []byte("third\n"), true); err != nil { // same size, other inode
		t.Fatal(err)
	}
	wantKey(t, f, "third")
	if f.Path() != path {
		t.Errorf("got path %s, want %s", f.Path(), path)
	}
}

func TestTheFirstPathThatExistsWins(t *testing.T) {
	dir := t.TempDir()
	ours, theirs := filepath.Join(dir, "reeve"), filepath.Join(dir, "scalr")
	f := NewFile(readText, ours, theirs)
	if _, err := f.Get(); !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), "keygen") {
		t.Errorf("got %v, want what to do about a missing file", err)
	}
	writeKey(t, theirs, "theirs", 0o400)
	wantKey(t, f, "theirs")
	writeKey(t, ours, "ours", 0o600)
	wantKey(t, f, "ours")
	if err := os.Remove(ours); err != nil {
		t.Fatal(err)
	}
	wantKey(t, f, "theirs")
}

func TestAKeyThatOthersMayReadIsRefused(t *testing.T) {
	path := filepath.Join(t.TempDir(), "default")
	for _, mode := range []fs.FileMode{0o640, 0o604, 0o644, 0o620, 0o610} {
		writeKey(t, path, "secret", mode)
		_, err := NewFile(readText, path).Get()
		if err == nil || !strings.Contains(err.Error(), "chmod 600 "+path) {
			t.Errorf("mode %o: got %v, want the command that mends it", mode, err)
		}
		if err != nil && strings.Contains(err.Error(), "secret") {
			t.Errorf("mode %o: the error quotes the key: %v", mode, err)
		}
	}
}

func TestAKeyThatBecameUnusableIsNotUsedOn(t *testing.T) {
	path := filepath.Join(t.TempDir(), "default")
	for name, spoil := range map[string]func() error{
		"removed":                  func() error { return os.Remove(path) },
		"truncated":                func() error { return os.Truncate(path, 0) },
		"made readable for others": func() error { return os.Chmod(path, 0o644) },
		"far too large":            func() error { return os.Truncate(path, maxKeyFile+1) },
	} {
		t.Run(name, func(t *testing.T) {
			os.Remove(path)
			writeKey(t, path, "secret", 0o600)
			f := NewFile(readText, path)
			wantKey(t, f, "secret")
			if err := spoil(); err != nil {
				t.Fatal(err)
			}
			if got, err := f.Get(); err == nil || got != "" {
				t.Errorf("got %q, %v, want an error and no key", got, err)
			}
		})
	}
}

func TestADirectoryIsNoKey(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "default")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if _, err := NewFile(readText, dir).Get(); err == nil {
		t.Error("got no error, want one")
	}
}

func TestWriteFileIsPrivateAndDoesNotReplaceUnasked(t *testing.T) {
	path := filepath.Join(t.TempDir(), "keys", "default")
	if err := WriteFile(path, []byte("one"), false); err != nil {
		t.Fatal(err)
	}
	if err := WriteFile(path, []byte("two"), false); !errors.Is(err, fs.ErrExist) {
		t.Errorf("got %v, want that the file exists", err)
	}
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(path); err != nil || string(got) != "one" || info.Mode() != 0o600 {
		t.Errorf("got %q, %v, mode %o, want the first content, mode 600", got, err, info.Mode())
	}
	if err := WriteFile(path, []byte("two"), true); err != nil {
		t.Fatal(err)
	}
	if got, _ := os.ReadFile(path); string(got) != "two" {
		t.Errorf("got %q, want the new content when forced", got)
	}
	left, err := os.ReadDir(filepath.Dir(path))
	if err != nil || len(left) != 1 {
		t.Errorf("got %v, %v, want nothing left beside the key", left, err)
	}
}
