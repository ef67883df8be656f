package keyring

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
)

// Where an agent's key lies: our own path, and the one of a Scalarizr agent that was replaced in place.
const (
	DefaultPath   = "/etc/reeve/keys/default"
	ScalarizrPath = "/etc/scalr/private.d/keys/default"
)

// DefaultPaths are the paths of an agent's key, the preferred one first.
func DefaultPaths() []string { return []string{DefaultPath, ScalarizrPath} }

const maxKeyFile = 64 << 10 // bytes; a key file has 57

// File is a key that lies in a file. It may be used from any goroutine.
type File[K any] struct {
	parse func([]byte) (K, error)
	paths []string

	mu    sync.Mutex // protects the fields below
	path  string     // what key was read from
	state fileState
	key   K
}

// fileState changes whenever a file's content may have: the change time alone cannot be set back by a writer.
type fileState struct {
	dev, ino uint64
	size     int64
	mode     uint32
	mtime    syscall.Timespec
	ctime    syscall.Timespec
}

// NewFile reads keys with parse from the first of paths that exists. parse must not quote the text in its errors.
func NewFile[K any](parse func([]byte) (K, error), paths ...string) *File[K] {
	return &File[K]{parse: parse, paths: paths}
}

// Get returns the key as it is on disk now. It costs one stat of each path up to the one that exists.
//
// Errors: no file at any path, a file that group or others may use (with the command that mends it), a key that does
// not parse
func (f *File[K]) Get() (K, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	key, err := f.getLocked()
	if err != nil {
		var none K
		f.path, f.key = "", none // never go on with a key that was taken away
		return none, err
	}
	return key, nil
}

// Path is where the last successful Get found the key.
func (f *File[K]) Path() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.path
}

func (f *File[K]) getLocked() (K, error) {
	var none K
	path, state, err := firstThatExists(f.paths)
	if err != nil {
		return none, err
	}
	if path == f.path && state == f.state {
		return f.key, nil
	}
	file, err := os.Open(path)
	if err != nil {
		return none, err
	}
	defer file.Close()
	info, err := file.Stat() // of what is read, not of what lay there before
	if err != nil {
		return none, err
	}
	text, err := readPrivate(file, info, maxKeyFile)
	if err != nil {
		return none, err
	}
	key, err := f.parse(text)
	if err != nil {
		return none, fmt.Errorf("key file %s: %w", path, err)
	}
	f.path, f.state, f.key = path, fileState{}, key
	if s, ok := info.Sys().(*syscall.Stat_t); ok {
		f.state = stateOf(s)
	}
	return key, nil
}

func firstThatExists(paths []string) (string, fileState, error) {
	var s syscall.Stat_t // not os.Stat: this happens for every request
	for _, p := range paths {
		err := syscall.Stat(p, &s)
		for err == syscall.EINTR {
			err = syscall.Stat(p, &s)
		}
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return "", fileState{}, &fs.PathError{Op: "stat", Path: p, Err: err}
		}
		return p, stateOf(&s), nil
	}
	return "", fileState{}, fmt.Errorf("no key file at %s; make one with: reeve-agent keygen, or put the coordinator's there: %w",
		strings.Join(paths, " or "), fs.ErrNotExist)
}

func stateOf(s *syscall.Stat_t) fileState {
	return fileState{dev: s.Dev, ino: s.Ino, size: s.Size, mode: s.Mode, mtime: s.Mtim, ctime: s.Ctim}
}

// readPrivate reads an open file that nobody but its owner may use.
func readPrivate(file *os.File, info fs.FileInfo, limit int64) ([]byte, error) {
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is not a regular file", file.Name())
	}
	if info.Mode().Perm()&0o077 != 0 {
		return nil, fmt.Errorf("%s may be used by others (mode %04o); mend it with: chmod 600 %s",
			file.Name(), info.Mode().Perm(), file.Name())
	}
	if info.Size() > limit {
		return nil, fmt.Errorf("%s is too large to be a key: %d bytes", file.Name(), info.Size())
	}
	text := make([]byte, info.Size())
	n, err := file.ReadAt(text, 0)
	if n == len(text) {
		return text, nil
	}
	return nil, fmt.Errorf("read %s: %w", file.Name(), err)
}

// WriteFile puts text at path, mode 0600, whole or not at all, and makes the directories above it, mode 0700.
// Without force a file that exists is left as it is, and the error says so.
func WriteFile(path string, text []byte, force bool) error {
	dir := filepath.Dir(path)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	temp, err := os.CreateTemp(dir, "."+filepath.Base(path)+"-*") // mode 0600
	if err != nil {
		return err
	}
	defer os.Remove(temp.Name())
	_, err = temp.Write(text)
	err = errors.Join(err, temp.Sync(), temp.Close())
	if err != nil {
		return err
	}
	if force {
		err = os.Rename(temp.Name(), path)
	} else {
		err = os.Link(temp.Name(), path) // fails when path exists, whoever was quicker
	}
	if errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("%s exists and was left as it is: %w", path, fs.ErrExist)
	}
	if err != nil {
		return err
	}
	return syncDir(dir)
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}
