package host

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// FSUsage is what statvfs says of the filesystem that holds a path. Sizes are bytes.
type FSUsage struct {
	SizeBytes, FreeBytes, AvailBytes uint64 // Avail is what is left for users other than root
	Files, FilesFree                 uint64 // inodes
	ReadOnly                         bool
}

// statTimeout is how long a filesystem may take to answer.
const statTimeout = 2 * time.Second

// stuck are the paths whose filesystem did not answer in time, such as an NFS server that is gone. The kernel does not
// let go of a thread that waits for one, so no second thread is spent on it.
var stuck struct {
	sync.Mutex
	paths map[string]bool
}

// StatFS asks the filesystem that holds a path of the host, for at most two seconds.
func (h *Host) StatFS(ctx context.Context, path string) (FSUsage, error) {
	full := h.Path(path)
	stuck.Lock()
	waiting := stuck.paths[full]
	stuck.Unlock()
	if waiting {
		return FSUsage{}, fmt.Errorf("statfs %s: the filesystem still does not answer", path)
	}
	var (
		st       unix.Statfs_t
		statErr  error
		answered = make(chan struct{})
	)
	go func() { // not waited for: only the kernel can end it
		statErr = unix.Statfs(full, &st)
		stuck.Lock()
		defer stuck.Unlock()
		delete(stuck.paths, full)
		close(answered)
	}()
	timeout := time.NewTimer(statTimeout)
	defer timeout.Stop()
	select {
	case <-answered:
		if statErr != nil {
			return FSUsage{}, fmt.Errorf("statfs %s: %w", path, statErr)
		}
		return usage(&st), nil
	case <-timeout.C:
		markStuck(full, answered)
		return FSUsage{}, fmt.Errorf("statfs %s: the filesystem did not answer within %s", path, statTimeout)
	case <-ctx.Done():
		return FSUsage{}, fmt.Errorf("statfs %s: %w", path, context.Cause(ctx))
	}
}

// markStuck notes that a path does not answer, unless it just did.
func markStuck(full string, answered <-chan struct{}) {
	stuck.Lock()
	defer stuck.Unlock()
	select {
	case <-answered:
	default:
		if stuck.paths == nil {
			stuck.paths = map[string]bool{}
		}
		stuck.paths[full] = true
	}
}

func usage(st *unix.Statfs_t) FSUsage {
	unit := uint64(st.Frsize)
	if unit == 0 {
		unit = uint64(st.Bsize)
	}
	return FSUsage{
		SizeBytes: st.Blocks * unit, FreeBytes: st.Bfree * unit, AvailBytes: st.Bavail * unit,
		Files: st.Files, FilesFree: st.Ffree, ReadOnly: st.Flags&unix.ST_RDONLY != 0,
	}
}

// ReadInto reads the beginning of a file, usually one below /proc, into buf and returns what fits. It is the cheap way
// for what is read on every scrape or poll: one open, read, close and no allocation but the path.
func (h *Host) ReadInto(path string, buf []byte) ([]byte, error) {
	full := path
	if h.root != "/" {
		full = h.Path(path)
	}
	fd, err := ignoringEINTR(func() (int, error) { return syscall.Open(full, syscall.O_RDONLY|syscall.O_CLOEXEC, 0) })
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: path, Err: err}
	}
	defer syscall.Close(fd)
	n := 0
	for n < len(buf) {
		m, err := ignoringEINTR(func() (int, error) { return syscall.Read(fd, buf[n:]) })
		if err != nil {
			return nil, &fs.PathError{Op: "read", Path: path, Err: err}
		}
		if m == 0 {
			break
		}
		n += m
	}
	return buf[:n], nil
}

// ProcFile is a file below /proc that is read again and again, and therefore kept open: opening one costs as much as reading
// it. What may be replaced by another file is none. It may be used from any goroutine.
type ProcFile struct {
	h    *Host
	path string
	file atomic.Pointer[os.File] // nil until it is read first
}

// ProcFile is the file of a path; nothing is opened yet.
func (h *Host) ProcFile(path string) *ProcFile { return &ProcFile{h: h, path: path} }

// ReadInto is Host.ReadInto for this file.
func (p *ProcFile) ReadInto(buf []byte) ([]byte, error) {
	f := p.file.Load()
	if f == nil {
		opened, err := os.Open(p.h.Path(p.path))
		if err != nil {
			return nil, err
		}
		f = opened
		if !p.file.CompareAndSwap(nil, opened) {
			_ = opened.Close() // another goroutine was first
			f = p.file.Load()
		}
	}
	n, err := f.ReadAt(buf, 0)
	if err != nil && err != io.EOF {
		return nil, err
	}
	return buf[:n], nil
}

func ignoringEINTR(call func() (int, error)) (int, error) {
	for {
		n, err := call()
		if err != syscall.EINTR {
			return n, err
		}
	}
}

// User is an account of the host.
type User struct {
	Name     string
	UID, GID uint32
	Groups   []uint32 // supplementary
	Home     string
	Shell    string
}

// LookupUser finds an account in the host's /etc/passwd and its groups in /etc/group. Accounts from elsewhere (LDAP, …)
// are not seen.
func (h *Host) LookupUser(name string) (User, error) {
	passwd, err := h.ReadFile("/etc/passwd")
	if err != nil {
		return User{}, err
	}
	for line := range bytes.Lines(passwd) {
		f := strings.Split(strings.TrimSpace(string(line)), ":")
		if len(f) != 7 || f[0] != name {
			continue
		}
		uid, err1 := strconv.ParseUint(f[2], 10, 32)
		gid, err2 := strconv.ParseUint(f[3], 10, 32)
		if err := errors.Join(err1, err2); err != nil {
			return User{}, fmt.Errorf("user %q in /etc/passwd: %w", name, err)
		}
		u := User{Name: name, UID: uint32(uid), GID: uint32(gid), Home: f[5], Shell: f[6]}
		u.Groups, err = h.groupsOf(name)
		return u, err
	}
	return User{}, fmt.Errorf("user %q does not exist on this host", name)
}

func (h *Host) groupsOf(name string) ([]uint32, error) {
	group, err := h.ReadFile("/etc/group")
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var gids []uint32
	for line := range bytes.Lines(group) {
		f := strings.Split(strings.TrimSpace(string(line)), ":")
		if len(f) != 4 {
			continue
		}
		for member := range strings.SplitSeq(f[3], ",") {
			if gid, err := strconv.ParseUint(f[2], 10, 32); err == nil && member == name {
				gids = append(gids, uint32(gid))
			}
		}
	}
	return gids, nil
}
