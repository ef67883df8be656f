package host

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// UpdateFile replaces the content of a file that exists in one step, and keeps its mode, owner and SELinux label: what
// /etc/shadow and its like need to stay readable for exactly those who read them before.
func (h *Host) UpdateFile(path string, data []byte) error {
	full := h.Path(path)
	var st unix.Stat_t
	if err := unix.Stat(full, &st); err != nil {
		return &fs.PathError{Op: "update", Path: path, Err: err}
	}
	tmp, err := os.CreateTemp(filepath.Dir(full), "."+filepath.Base(full)+".*") // 0600 until it is complete
	if err != nil {
		return err
	}
	defer os.Remove(tmp.Name()) // gone already when the rename worked
	_, err = tmp.Write(data)
	if os.Geteuid() == 0 {
		err = errors.Join(err, tmp.Chown(int(st.Uid), int(st.Gid)))
	}
	err = errors.Join(err, tmp.Chmod(fs.FileMode(st.Mode&0o777)), copyLabel(full, tmp), tmp.Sync(), tmp.Close())
	if err != nil {
		return err
	}
	if err := os.Rename(tmp.Name(), full); err != nil {
		return err
	}
	return syncDir(filepath.Dir(full))
}

const selinuxLabel = "security.selinux"

func copyLabel(from string, to *os.File) error {
	label := make([]byte, 1024)
	n, err := unix.Lgetxattr(from, selinuxLabel, label)
	if err != nil { // no label, or no SELinux
		return nil
	}
	return unix.Fsetxattr(int(to.Fd()), selinuxLabel, label[:n], 0)
}

// UpdateFile is Host.UpdateFile, taken back by restoring the content. It says whether the content changed.
func (c *Change) UpdateFile(path string, data []byte) (changed bool, err error) {
	old, err := c.h.ReadFile(path)
	if err != nil {
		return false, err
	}
	if string(old) == string(data) {
		return false, nil
	}
	c.OnRollback(func() error { return c.h.UpdateFile(path, old) })
	return true, c.h.UpdateFile(path, data)
}

// Chown sets the owner of a file, or of a link itself. Without root rights it does nothing below a root prefix, where
// only tests are.
func (h *Host) Chown(path string, uid, gid int) error {
	if h.root != "/" && os.Geteuid() != 0 {
		return nil
	}
	return os.Lchown(h.Path(path), uid, gid)
}

// Chmod sets the mode of a file, including the set-group-id bit.
func (h *Host) Chmod(path string, mode fs.FileMode) error { return os.Chmod(h.Path(path), mode) }

// OwnBelow sets owner, then mode of what lies in a directory that the names cannot leave; the link itself, not its target,
// when it is one. The order matters: a change of owner clears the set-group-id bit. See Chown for tests without root rights.
func (h *Host) OwnBelow(root *os.Root, name string, uid, gid int, mode fs.FileMode) error {
	if h.root == "/" || os.Geteuid() == 0 {
		if err := root.Lchown(name, uid, gid); err != nil {
			return err
		}
	}
	if st, err := root.Lstat(name); err != nil || st.Mode()&fs.ModeSymlink != 0 {
		return err
	}
	return root.Chmod(name, mode)
}

// Stat describes a file, following links.
func (h *Host) Stat(path string) (fs.FileInfo, error) { return os.Stat(h.Path(path)) }

// Owner is who owns a file, or a link itself.
func (h *Host) Owner(path string) (uid, gid int, err error) {
	st, err := os.Lstat(h.Path(path))
	if err != nil {
		return 0, 0, err
	}
	sys := st.Sys().(*syscall.Stat_t)
	return int(sys.Uid), int(sys.Gid), nil
}

// ReadDir lists a directory by name; one that is not there is empty.
func (h *Host) ReadDir(path string) ([]fs.DirEntry, error) {
	entries, err := os.ReadDir(h.Path(path))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return entries, err
}

// Rename moves a file or directory within one filesystem; it is on disk when Rename returns.
func (h *Host) Rename(from, to string) error {
	if err := os.Rename(h.Path(from), h.Path(to)); err != nil {
		return err
	}
	return syncDir(filepath.Dir(h.Path(to)))
}

// RemoveAll deletes a tree without following links out of it; one that is not there is no error.
func (h *Host) RemoveAll(path string) error { return os.RemoveAll(h.Path(path)) }

// ReadLink is the target of a symbolic link.
func (h *Host) ReadLink(path string) (string, error) { return os.Readlink(h.Path(path)) }

// ReplaceLink makes path a symbolic link to target in one step: a reader, or a crash, sees the old link or the new.
func (h *Host) ReplaceLink(path, target string) error {
	full := h.Path(path)
	tmp := filepath.Join(filepath.Dir(full), "."+filepath.Base(full)+".new")
	if err := os.Remove(tmp); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := os.Symlink(target, tmp); err != nil {
		return err
	}
	if err := os.Rename(tmp, full); err != nil {
		return errors.Join(err, os.Remove(tmp))
	}
	return syncDir(filepath.Dir(full))
}

// OpenRoot opens a directory that nothing done through it can leave.
func (h *Host) OpenRoot(path string) (*os.Root, error) { return os.OpenRoot(h.Path(path)) }

// SyncFS writes the filesystem that holds path to disk.
func (h *Host) SyncFS(path string) error {
	d, err := os.Open(h.Path(path))
	if err != nil {
		return err
	}
	defer d.Close()
	return unix.Syncfs(int(d.Fd()))
}

const lockPoll = 10 * time.Millisecond

// Lock takes the write lock on a file, which it creates (0600) if needed, and waits for another holder until ctx ends.
// The lock is one that lckpwdf(3) and fcntl(2) see. unlock releases it; so does the end of the process.
func (h *Host) Lock(ctx context.Context, path string) (unlock func(), err error) {
	f, err := os.OpenFile(h.Path(path), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	tick := time.NewTicker(lockPoll)
	defer tick.Stop()
	for {
		err := unix.FcntlFlock(f.Fd(), unix.F_OFD_SETLK, &unix.Flock_t{Type: unix.F_WRLCK})
		if err == nil {
			return func() { f.Close() }, nil
		}
		if !errors.Is(err, unix.EAGAIN) && !errors.Is(err, unix.EACCES) && !errors.Is(err, unix.EINTR) {
			f.Close()
			return nil, &fs.PathError{Op: "lock", Path: path, Err: err}
		}
		select {
		case <-ctx.Done():
			f.Close()
			return nil, &fs.PathError{Op: "lock", Path: path, Err: context.Cause(ctx)}
		case <-tick.C:
		}
	}
}

// MakeImage makes a file of zeros, mode 0600, that is to be a disk. It takes no space until it is written to, unless
// allocate is set. A file that exists is an error.
func (h *Host) MakeImage(path string, size int64, allocate bool) (err error) {
	f, err := os.OpenFile(h.Path(path), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if err := f.Truncate(size); err != nil {
		return err
	}
	if allocate {
		if err := unix.Fallocate(int(f.Fd()), 0, 0, size); err != nil {
			return &fs.PathError{Op: "fallocate", Path: path, Err: err}
		}
	}
	return f.Sync()
}

// GrowFile makes a file larger, with a hole at its end.
func (h *Host) GrowFile(path string, size int64) error {
	f, err := os.OpenFile(h.Path(path), os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil || st.Size() >= size {
		return err
	}
	return errors.Join(f.Truncate(size), f.Sync())
}

// CopyFile copies a file of disk size: blocks are shared with the original where the filesystem can (btrfs, xfs), and zeros
// become holes. The copy is on disk when CopyFile returns; to must not exist.
func (h *Host) CopyFile(ctx context.Context, from, to string, timeout time.Duration) error {
	if h.Exists(to) {
		return &fs.PathError{Op: "copy", Path: to, Err: fs.ErrExist}
	}
	args := []string{"--reflink=auto", "--sparse=always", "--preserve=mode,ownership", "--", h.Path(from), h.Path(to)}
	if _, err := h.Run(ctx, Cmd{Path: "cp", Args: args, Timeout: timeout}); err != nil {
		return err
	}
	f, err := os.Open(h.Path(to))
	if err != nil {
		return err
	}
	defer f.Close()
	return errors.Join(f.Sync(), syncDir(filepath.Dir(h.Path(to))))
}

// Resolve follows the links of a path that exists, within the root prefix.
func (h *Host) Resolve(path string) (string, error) {
	full, err := filepath.EvalSymlinks(h.Path(path))
	if err != nil {
		return "", err
	}
	root, err := filepath.EvalSymlinks(h.root)
	if err != nil {
		return "", err
	}
	rel, err := filepath.Rel(root, full)
	if err != nil {
		return "", err
	}
	return filepath.Join("/", rel), nil
}
