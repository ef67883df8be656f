package host

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/google/renameio/v2"
)

// ReadFile reads a file of the host.
func (h *Host) ReadFile(path string) ([]byte, error) { return os.ReadFile(h.Path(path)) }

// Exists says whether anything, also a dangling link, has this path.
func (h *Host) Exists(path string) bool {
	_, err := os.Lstat(h.Path(path))
	return err == nil
}

// WriteFile replaces a file in one step: a reader, or a crash, sees the old content or the new. The file has its final
// mode from the start and is on disk when WriteFile returns.
func (h *Host) WriteFile(path string, data []byte, perm fs.FileMode) error {
	full := h.Path(path)
	// Not renameio.WriteFile: that one keeps the mode of the file it replaces.
	f, err := renameio.NewPendingFile(full, renameio.WithTempDir(filepath.Dir(full)), renameio.WithStaticPermissions(perm))
	if err != nil {
		return err
	}
	defer f.Cleanup()
	if _, err := f.Write(data); err != nil {
		return err
	}
	if err := f.CloseAtomicallyReplace(); err != nil {
		return err
	}
	sweepPending(full)
	return syncDir(filepath.Dir(full))
}

// started is when this process began to be.
var started = time.Now()

// pendingDigits is the least that a pending file's random number has; a shorter one comes once in a billion writes.
const pendingDigits = 10

// sweepPending removes what a killed process left when it was about to replace a file: files named as renameio names them,
// older than this process.
func sweepPending(full string) {
	entries, err := os.ReadDir(filepath.Dir(full))
	if err != nil {
		return
	}
	for _, e := range entries {
		number, ok := strings.CutPrefix(e.Name(), "."+filepath.Base(full))
		if !ok || len(number) < pendingDigits || strings.Trim(number, "0123456789") != "" || !e.Type().IsRegular() {
			continue
		}
		if info, err := e.Info(); err == nil && info.ModTime().Before(started) {
			_ = os.Remove(filepath.Join(filepath.Dir(full), e.Name()))
		}
	}
}

// Remove deletes a file; one that is not there is no error.
func (h *Host) Remove(path string) error {
	full := h.Path(path)
	if err := os.Remove(full); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return syncDir(filepath.Dir(full))
}

// MkdirAll makes a directory and its parents.
func (h *Host) MkdirAll(path string, perm fs.FileMode) error { return os.MkdirAll(h.Path(path), perm) }

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}

// Change is a change to the host that undoes itself: each step pushes how to take it back, Rollback runs these in
// reverse, Commit drops them.
//
//	c := h.Begin()
//	defer c.Rollback()
//	if err := c.WriteFile(path, text, 0o644); err != nil { return err }
//	…
//	c.Commit()
type Change struct {
	h     *Host
	undos []func() error
}

// Begin starts a change.
func (h *Host) Begin() *Change { return &Change{h: h} }

// OnRollback adds how to take the step just done back.
func (c *Change) OnRollback(undo func() error) { c.undos = append(c.undos, undo) }

// WriteFile is Host.WriteFile, taken back by restoring bytes, mode and owner, or absence. It says whether the content
// changed; equal content with the same mode is not written again.
func (c *Change) WriteFile(path string, data []byte, perm fs.FileMode) (changed bool, err error) {
	restore, old, err := c.snapshot(path)
	if err != nil {
		return false, err
	}
	if old != nil && bytes.Equal(old.data, data) && old.mode == perm {
		return false, nil
	}
	c.OnRollback(restore)
	return true, c.h.WriteFile(path, data, perm)
}

// Remove is Host.Remove, taken back by restoring the file.
func (c *Change) Remove(path string) error {
	restore, old, err := c.snapshot(path)
	if err != nil || old == nil {
		return err
	}
	c.OnRollback(restore)
	return c.h.Remove(path)
}

// MkdirAll is Host.MkdirAll, taken back by removing the directories it made that are still empty.
func (c *Change) MkdirAll(path string, perm fs.FileMode) error {
	full := c.h.Path(path)
	var made []string
	for p := full; ; p = filepath.Dir(p) {
		if _, err := os.Lstat(p); err == nil {
			break
		}
		made = append(made, p)
	}
	c.OnRollback(func() error {
		for _, p := range made {
			os.Remove(p) // not empty: somebody else uses it by now
		}
		return nil
	})
	return os.MkdirAll(full, perm)
}

type savedFile struct {
	data     []byte
	mode     fs.FileMode
	uid, gid int
}

func (c *Change) snapshot(path string) (restore func() error, old *savedFile, err error) {
	full := c.h.Path(path)
	st, err := os.Lstat(full)
	if errors.Is(err, fs.ErrNotExist) {
		return func() error { return c.h.Remove(path) }, nil, nil
	}
	if err != nil {
		return nil, nil, err
	}
	if st.Mode().Type() != 0 {
		return nil, nil, &fs.PathError{Op: "change", Path: path, Err: errors.New("not a regular file")}
	}
	data, err := os.ReadFile(full)
	if err != nil {
		return nil, nil, err
	}
	old = &savedFile{data: data, mode: st.Mode().Perm()}
	if sys, ok := st.Sys().(*syscall.Stat_t); ok {
		old.uid, old.gid = int(sys.Uid), int(sys.Gid)
	}
	return func() error {
		if err := c.h.WriteFile(path, old.data, old.mode); err != nil {
			return err
		}
		if old.uid == os.Getuid() && old.gid == os.Getgid() {
			return nil
		}
		return os.Chown(full, old.uid, old.gid)
	}, old, nil
}

// Commit keeps the change.
func (c *Change) Commit() { c.undos = nil }

// Rollback takes every step back, the last one first, and goes on after an error. After Commit it does nothing.
func (c *Change) Rollback() error {
	var errs []error
	for i := len(c.undos) - 1; i >= 0; i-- {
		errs = append(errs, c.undos[i]())
	}
	c.undos = nil
	return errors.Join(errs...)
}

// CreateFile makes a new file to write to and read from; one that is there is an error.
func (h *Host) CreateFile(path string, perm fs.FileMode) (*os.File, error) {
	return os.OpenFile(h.Path(path), os.O_RDWR|os.O_CREATE|os.O_EXCL|syscall.O_NOFOLLOW, perm)
}
