package web

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/reeve-paas/reeve/handlers/host"
)

// PollInterval is how often a reload is looked at. What is looked at is a line of /proc, which costs microseconds.
const PollInterval = 5 * time.Millisecond

// Children are the live child processes of pid's first thread, which is the one that forks in both web servers; ok is false
// when this host does not tell.
//
// The kernel may leave out a child that lives when another one ends while the list is read, as old workers do after a reload.
// What two readings in a row say is whole: the one that ended would be missing in the second.
func Children(h *host.Host, pid int) (pids map[int]bool, ok bool) {
	if pid == 0 {
		return nil, false
	}
	var data, again []byte
	for range childrenReadings {
		data = again
		var err error
		if again, err = h.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", pid, pid)); err != nil {
			return nil, false
		}
		if data != nil && bytes.Equal(data, again) {
			break
		}
	}
	pids = map[int]bool{}
	for word := range strings.FieldsSeq(string(again)) {
		if child, err := strconv.Atoi(word); err == nil && Alive(h, child) {
			pids[child] = true
		}
	}
	return pids, true
}

// childrenReadings bounds how often the children of a process that starts and loses them all the time are read.
const childrenReadings = 100

// Alive says that a process exists and has not ended.
func Alive(h *host.Host, pid int) bool {
	data, err := h.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return false
	}
	_, rest, _ := strings.Cut(string(data[bytes.LastIndexByte(data, ')')+1:]), " ")
	return rest != "" && rest[0] != 'Z' && rest[0] != 'X'
}

// Poll calls done every PollInterval until it says yes, fails, or ctx ends.
func Poll(ctx context.Context, done func() (bool, error)) error {
	tick := time.NewTicker(PollInterval)
	defer tick.Stop()
	for {
		if ok, err := done(); ok || err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-tick.C:
		}
	}
}

// Tail is the part of a log that is written after a moment.
type Tail struct {
	path  string
	start int64
}

// TailFrom remembers where a log file ends now.
func TailFrom(h *host.Host, path string) Tail {
	t := Tail{path: h.Path(path)}
	if path == "" {
		t.path = ""
	} else if st, err := os.Stat(t.path); err == nil {
		t.start = st.Size()
	}
	return t
}

const tailLimit = 64 << 10

// Text is what was written since, at most 64 KiB. A log that was rotated meanwhile is read from its start.
func (t Tail) Text() string {
	if t.path == "" {
		return ""
	}
	f, err := os.Open(t.path)
	if err != nil {
		return ""
	}
	defer f.Close()
	start := t.start
	if st, err := f.Stat(); err == nil && st.Size() < start {
		start = 0
	}
	buf := make([]byte, tailLimit)
	n, _ := f.ReadAt(buf, start)
	return string(buf[:n])
}

// LastLines are the last n lines of a text, for an error message.
func LastLines(text string, n int) string {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], " | ")
}

// Listens says that a process listens on a TCP port.
func Listens(h *host.Host, pid, port int) bool {
	inodes := map[string]bool{}
	for _, table := range []string{"/proc/net/tcp", "/proc/net/tcp6"} {
		data, _ := h.ReadFile(table)
		for row := range strings.Lines(string(data)) {
			f := strings.Fields(row) // sl local remote st … inode at index 9; 0A is LISTEN
			if len(f) > 9 && f[3] == "0A" && strings.HasSuffix(f[1], fmt.Sprintf(":%04X", port)) {
				inodes["socket:["+f[9]+"]"] = true
			}
		}
	}
	dir := fmt.Sprintf("/proc/%d/fd", pid)
	fds, _ := os.ReadDir(h.Path(dir))
	for _, fd := range fds {
		if link, err := os.Readlink(h.Path(dir + "/" + fd.Name())); err == nil && inodes[link] {
			return true
		}
	}
	return false
}

// UserIDs are the ids of a user of the host.
func UserIDs(h *host.Host, name string) (uid, gid int, err error) {
	data, err := h.ReadFile("/etc/passwd")
	if err != nil {
		return 0, 0, err
	}
	for row := range strings.Lines(string(data)) {
		f := strings.Split(row, ":")
		if len(f) < 4 || f[0] != name {
			continue
		}
		uid, err1 := strconv.Atoi(f[2])
		gid, err2 := strconv.Atoi(f[3])
		return uid, gid, errors.Join(err1, err2)
	}
	return 0, 0, fmt.Errorf("there is no user %q on this host", name)
}
