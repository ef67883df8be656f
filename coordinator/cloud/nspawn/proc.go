package nspawn

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// proc names one process for good: a pid alone is reused, a pid with its start time within one boot of the host is not.
type proc struct {
	PID   int    `json:"pid,omitempty"`
	Start uint64 `json:"start,omitempty"` // clock ticks after the host's boot; field 22 of /proc/<pid>/stat
	Boot  string `json:"boot,omitempty"`  // the host's boot id
}

// hostBootID tells one boot of this host from the next; it is the reason why a pid file of before a crash is harmless.
var hostBootID = sync.OnceValue(func() string {
	data, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(data))
})

// procOf describes a living process; the zero proc when there is none.
func procOf(pid int) proc {
	_, start, ok := readStat(pid)
	if !ok {
		return proc{}
	}
	return proc{PID: pid, Start: start, Boot: hostBootID()}
}

// alive says whether this very process still runs; a zombie does not.
func (p proc) alive() bool {
	if p.PID <= 0 || p.Boot != hostBootID() {
		return false
	}
	state, start, ok := readStat(p.PID)
	return ok && start == p.Start && state != 'Z' && state != 'X'
}

// signal sends sig to this very process; one that is gone is no error.
func (p proc) signal(sig unix.Signal) error {
	if !p.alive() {
		return nil
	}
	fd, err := unix.PidfdOpen(p.PID, 0)
	if err != nil {
		return ignore(err, unix.ESRCH)
	}
	defer unix.Close(fd)
	if !p.alive() { // the pid was reused between the look and the open
		return nil
	}
	return ignore(unix.PidfdSendSignal(fd, sig, nil, 0), unix.ESRCH)
}

// wait returns once the process is gone, without being its parent.
func (p proc) wait(ctx context.Context) error {
	fd, err := unix.PidfdOpen(p.PID, 0)
	if err != nil {
		return nil // ESRCH
	}
	defer unix.Close(fd)
	for p.alive() {
		timeout := 1000 // a cancelled context is noticed within a second
		if deadline, ok := ctx.Deadline(); ok {
			timeout = max(0, min(timeout, int(time.Until(deadline).Milliseconds())))
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		if _, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, timeout); err != nil && err != unix.EINTR {
			return fmt.Errorf("wait for process %d: %w", p.PID, err)
		}
	}
	return nil
}

// readStat returns state and start time of a process.
func readStat(pid int) (state byte, start uint64, ok bool) {
	data, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return 0, 0, false
	}
	return parseStat(data)
}

// parseStat reads /proc/<pid>/stat. The command name may hold blanks and brackets, so counting starts behind the last ")".
func parseStat(data []byte) (state byte, start uint64, ok bool) {
	end := bytes.LastIndexByte(data, ')')
	if end < 0 {
		return 0, 0, false
	}
	fields := strings.Fields(string(data[end+1:]))
	if len(fields) < 20 || len(fields[0]) != 1 {
		return 0, 0, false
	}
	start, err := strconv.ParseUint(fields[19], 10, 64) // field 22 of the file
	return fields[0][0], start, err == nil
}
