package host

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Readers are the processes that read a configuration of several files: a service's own start and reload, and its test that
// anybody may run at any moment. One that began before a change can read one file as it was before and another as it is
// after. A change whose files fit each other only one way therefore waits for those that have begun (see Staged.Quiet).
type Readers struct {
	// File is the main file. A reader keeps it open while it reads what that includes, which is how it is told from a server
	// that runs.
	File string
	// Programs are the names of the programs that read it. Whoever else has the file open, as a pager does, is no reader.
	Programs []string
}

const (
	readersPoll = 5 * time.Millisecond
	// readersWait bounds the wait for a reader that does not go on. Reading takes milliseconds.
	readersWait = 10 * time.Second
	// viewerPolls is how often somebody who is no reader is found with the file open before it is changed under them.
	viewerPolls = 3
)

// quiet waits until nobody is in the middle of reading. Where it can it returns a lease, until whose end nobody begins: the
// kernel holds back who opens the file, and ends the lease with this process however that ends. There is none, and nil is
// returned, while a pager has the file open, or on a filesystem without leases.
func (h *Host) quiet(r Readers) *os.File {
	if r.File == "" {
		return nil
	}
	viewers := 0
	for end := time.Now().Add(readersWait); time.Now().Before(end); time.Sleep(readersPoll) {
		if h.isRead(r) {
			viewers = 0
			continue
		}
		held, err := lease(h.Path(r.File))
		if err == nil {
			return held
		}
		// EAGAIN: somebody has it open who had not a moment ago, or is no reader.
		if viewers++; viewers > viewerPolls || !errors.Is(err, unix.EAGAIN) {
			return nil
		}
	}
	h.log.Warn("a reader of the configuration does not end; it is changed nevertheless", "file", r.File, "waited", readersWait)
	return nil
}

// AwaitReaders waits until nobody is in the middle of reading who began before.
func (h *Host) AwaitReaders(r Readers) {
	q := hush{h: h, readers: r}
	q.begin()
	q.end()
}

// lease opens a file that nobody else has open, and makes those who open it wait until it is closed again. It does not wait
// itself.
func lease(path string) (*os.File, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	if _, err := unix.FcntlInt(f.Fd(), unix.F_SETLEASE, unix.F_WRLCK); err != nil {
		_ = f.Close()
		return nil, err
	}
	return f, nil
}

// isRead says that a process is reading now. One that reads a file which was replaced meanwhile counts too.
func (h *Host) isRead(r Readers) bool {
	file := h.Path(r.File)
	if real, err := filepath.EvalSymlinks(file); err == nil {
		file = real
	}
	processes, err := os.ReadDir(h.Path("/proc"))
	if err != nil {
		return false
	}
	return slices.ContainsFunc(processes, func(p fs.DirEntry) bool {
		if _, err := strconv.Atoi(p.Name()); err != nil {
			return false
		}
		dir := h.Path("/proc/" + p.Name())
		return slices.Contains(r.Programs, programOf(dir)) && ownedByUs(dir) && hasOpen(dir, file)
	})
}

func programOf(dir string) string {
	name, _ := os.ReadFile(filepath.Join(dir, "comm"))
	return strings.TrimSuffix(string(name), "\n")
}

// ownedByUs keeps other users from holding up changes by a program of theirs that has the right name.
func ownedByUs(dir string) bool {
	info, err := os.Stat(dir)
	if err != nil {
		return false
	}
	sys, ok := info.Sys().(*syscall.Stat_t)
	return ok && (sys.Uid == 0 || int(sys.Uid) == os.Geteuid())
}

func hasOpen(dir, file string) bool {
	fds, _ := os.ReadDir(filepath.Join(dir, "fd"))
	return slices.ContainsFunc(fds, func(fd fs.DirEntry) bool {
		target, err := os.Readlink(filepath.Join(dir, "fd", fd.Name()))
		return err == nil && strings.TrimSuffix(target, " (deleted)") == file
	})
}

// hush is the quiet of one series of steps: begun before the first that needs it, and kept until the end where it can be.
type hush struct {
	h       *Host
	readers Readers
	lease   *os.File
}

// begin waits for readers, unless they are held back already.
func (q *hush) begin() {
	if q.lease == nil {
		q.lease = q.h.quiet(q.readers)
	}
}

func (q *hush) end() {
	if q.lease != nil {
		_ = q.lease.Close()
	}
}
