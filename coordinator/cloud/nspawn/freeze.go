package nspawn

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/reeve-paas/reeve/coordinator/core"
)

const (
	ioctlFreeze = 0xC0045877 // FIFREEZE
	ioctlThaw   = 0xC0045878 // FITHAW

	// freezeLimit is how long a file system may stand still, whoever forgets about it.
	freezeLimit = 2 * time.Minute
	// fileFrozen stands beside a volume's record while its file system may be frozen.
	fileFrozen  = "frozen"
	exitOverdue = 4 // a freezer that ended the standstill itself
)

// freezeVolume lets the file system that a node has mounted from the volume write out everything and then stand still
// until thaw. A volume that is mounted nowhere does not change by itself. The standstill is held by a process of its own,
// which ends it when we die; and should both be killed, the next Open does.
func (d *Driver) freezeVolume(ctx context.Context, v volume) (thaw func() error, err error) {
	if err := d.thawLeftover(v); err != nil {
		return nil, err
	}
	leader, device, ok := d.mountedVolume(v)
	if !ok {
		return func() error { return nil }, nil
	}
	marker := filepath.Join(volumeDir(d.opts.StateDir, v.ID), fileFrozen)
	if err := os.WriteFile(marker, nil, 0o600); err != nil {
		return nil, err
	}
	cmd := exec.Command("/proc/self/exe", freezeCommand, strconv.Itoa(leader), strconv.FormatUint(device, 10))
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	var complaint strings.Builder
	cmd.Stderr = &complaint
	hold, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	said, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	end := func() error {
		hold.Close()
		err := cmd.Wait()
		if err == nil {
			return os.Remove(marker)
		}
		if e, ok := errors.AsType[*exec.ExitError](err); ok && e.ExitCode() == exitOverdue {
			err = core.Errorf(core.Busy, core.ObjVolume, "the volume could not be copied within the %s that its file system may stand still", freezeLimit)
		}
		return errors.Join(err, d.thawLeftover(v))
	}
	stop := context.AfterFunc(ctx, func() { hold.Close() }) // a file system may be long in writing out everything
	line, err := bufio.NewReader(said).ReadString('\n')
	if stop(); err != nil || ctx.Err() != nil {
		err = errors.Join(end(), ctx.Err(), fmt.Errorf("freeze the file system: %s%s", line, strings.TrimSpace(complaint.String())))
		return nil, core.Wrap(core.Unavailable, core.ObjVolume, err, "let the file system stand still")
	}
	return end, nil
}

// mountedVolume finds the node that has the volume's file system mounted, and the device of that.
func (d *Driver) mountedVolume(v volume) (leader int, device uint64, ok bool) {
	if v.Node == "" {
		return 0, 0, false
	}
	run := readRun(d.nodeDir(v.Node))
	if !run.Leader.alive() {
		return 0, 0, false
	}
	for num := range loopsBelow(filepath.Join(volumeDir(d.opts.StateDir, v.ID), fileDisk)) {
		device := unix.Mkdev(loopMajor, uint32(num))
		if points, err := mountPoints(run.Leader.PID, device); err == nil && len(points) > 0 {
			return run.Leader.PID, device, true
		}
	}
	return 0, 0, false
}

// thawLeftover ends a standstill that its holder could not end. One that has ended is no error.
func (d *Driver) thawLeftover(v volume) error {
	marker := filepath.Join(volumeDir(d.opts.StateDir, v.ID), fileFrozen)
	if !exists(marker) {
		return nil
	}
	if leader, device, ok := d.mountedVolume(v); ok {
		point, err := openMounted(leader, device)
		if err != nil {
			return err
		}
		defer point.Close()
		if err := unix.IoctlSetInt(int(point.Fd()), ioctlThaw, 0); err != nil && err != unix.EINVAL {
			return fmt.Errorf("let the file system move again: %w", err)
		}
	}
	return ignore(os.Remove(marker), fs.ErrNotExist)
}

// runFreezer is the life of the process that holds a standstill: until its standard input ends.
func runFreezer(pidText, deviceText string) int {
	signal.Ignore(unix.SIGTERM, unix.SIGHUP, unix.SIGINT, unix.SIGPIPE)
	complain := func(err error) int {
		fmt.Fprintln(os.Stderr, err)
		return exitFailed
	}
	pid, err := strconv.Atoi(pidText)
	if err != nil {
		return complain(err)
	}
	device, err := strconv.ParseUint(deviceText, 10, 64)
	if err != nil {
		return complain(err)
	}
	point, err := openMounted(pid, device)
	if err != nil {
		return complain(err)
	}
	defer point.Close()
	if err := unix.IoctlSetInt(int(point.Fd()), ioctlFreeze, 0); err != nil {
		return complain(fmt.Errorf("freeze: %w", err))
	}
	released := make(chan struct{})
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		close(released)
	}()
	fmt.Println("frozen")
	code := exitOK
	select {
	case <-released:
	case <-time.After(freezeLimit):
		code = exitOverdue
	}
	if err := unix.IoctlSetInt(int(point.Fd()), ioctlThaw, 0); err != nil {
		return complain(fmt.Errorf("thaw: %w", err))
	}
	return code
}

// openMounted opens the root of what a process's machine has mounted from a device. The path is the machine's to choose, so
// nothing on it may lead out, and what it leads to has to be on the device.
func openMounted(pid int, device uint64) (*os.File, error) {
	points, err := mountPoints(pid, device)
	if err != nil {
		return nil, err
	}
	root, err := os.Open("/proc/" + strconv.Itoa(pid) + "/root")
	if err != nil {
		return nil, err
	}
	defer root.Close()
	for _, point := range points {
		fd, err := unix.Openat2(int(root.Fd()), point, &unix.OpenHow{Flags: unix.O_RDONLY | unix.O_DIRECTORY | unix.O_CLOEXEC, Resolve: unix.RESOLVE_IN_ROOT})
		if err != nil {
			continue // a file, or covered by another mount
		}
		f := os.NewFile(uintptr(fd), point)
		var st unix.Stat_t
		if unix.Fstat(fd, &st) == nil && st.Dev == device {
			return f, nil
		}
		f.Close()
	}
	return nil, fmt.Errorf("device %d:%d is not mounted where it can be reached", unix.Major(device), unix.Minor(device))
}

// mountPoints are where a process sees something of the device mounted.
func mountPoints(pid int, device uint64) ([]string, error) {
	data, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/mountinfo")
	if err != nil {
		return nil, err
	}
	number := fmt.Sprintf("%d:%d", unix.Major(device), unix.Minor(device))
	unescape := strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`)
	var points []string
	for line := range strings.Lines(string(data)) {
		if fields := strings.Fields(line); len(fields) > 4 && fields[2] == number {
			points = append(points, unescape.Replace(fields[4]))
		}
	}
	return points, nil
}
