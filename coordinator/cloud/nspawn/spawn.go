package nspawn

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

const (
	cgroupMount  = "/sys/fs/cgroup"
	deviceFolder = "/dev/reeve" // where a node finds its volumes
	consoleLimit = 1 << 20      // bytes; a longer console log starts anew with the next boot
)

// prepare makes everything that must be there before nspawn starts. It is repeated on every boot; what is there stays.
func (s *supervisor) prepare() error {
	if err := s.mountDisk(); err != nil {
		return err
	}
	if err := s.plantSeed(); err != nil {
		return err
	}
	if err := s.group.create(); err != nil {
		return err
	}
	s.group.clear()
	if rec, err := readRecord(s.dir); err == nil {
		s.rec.Limits, s.rec.SizeID = rec.Limits, rec.SizeID // it may have been resized since the boot before
	}
	if err := s.group.limit(s.rec.Limits); err != nil {
		return err
	}
	return presentVolumes(filepath.Dir(filepath.Dir(s.dir)), s.rec.ID, filepath.Join(s.dir, dirDev))
}

// mountDisk mounts the node's disk and the overlay on it, once per supervisor. The same upper directory must never be
// mounted twice: the lock we hold keeps other supervisors away, and a node whose supervisor died is adopted, not mounted.
func (s *supervisor) mountDisk() error {
	root := filepath.Join(s.dir, dirRoot)
	if mounted(root) {
		return nil
	}
	disk := filepath.Join(s.dir, dirDisk)
	if err := waitLoopsGone(filepath.Join(s.dir, fileDisk)); err != nil {
		return err
	}
	num, dev, err := attachLoop(filepath.Join(s.dir, fileDisk), true)
	if err != nil {
		return err
	}
	defer dev.Close()
	// Inode tables stay unwritten: a sparse file reads as zeros, so there is nothing to initialise.
	if err := unix.Mount(loopPath(num), disk, "ext4", unix.MS_NOATIME, "noinit_itable,discard"); err != nil {
		return fmt.Errorf("mount the node's disk: %w", err)
	}
	upper, work := filepath.Join(disk, "upper"), filepath.Join(disk, "work")
	for _, dir := range []string{upper, work} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
	}
	options := "lowerdir=" + strings.Join(s.rec.Layers, ":") + ",upperdir=" + upper + ",workdir=" + work
	if err := unix.Mount(s.rec.Machine, root, "overlay", 0, options); err != nil {
		return fmt.Errorf("mount the node's root: %w", err)
	}
	return nil
}

// mounted says whether something is mounted on dir in this mount namespace.
func mounted(dir string) bool {
	var here, above unix.Stat_t
	if unix.Lstat(dir, &here) != nil || unix.Lstat(filepath.Dir(dir), &above) != nil {
		return false
	}
	return here.Dev != above.Dev
}

// spawn starts systemd-nspawn inside the node's cgroup.
func (s *supervisor) spawn() (*exec.Cmd, error) {
	consolePath := filepath.Join(s.dir, fileConsole)
	flags := os.O_CREATE | os.O_WRONLY | os.O_APPEND
	if st, err := os.Stat(consolePath); err == nil && st.Size() > consoleLimit {
		flags |= os.O_TRUNC
	}
	console, err := os.OpenFile(consolePath, flags, 0o600)
	if err != nil {
		return nil, err
	}
	defer console.Close()
	program, err := exec.LookPath("systemd-nspawn")
	if err != nil {
		return nil, fmt.Errorf("systemd-nspawn is not installed; run: apt-get install systemd-container")
	}
	cmd := exec.Command(program, nspawnArgs(s.dir, s.rec)...)
	cmd.Dir = "/"
	cmd.Env = append(os.Environ(), "NOTIFY_SOCKET="+filepath.Join(s.dir, fileNotify))
	cmd.Stdout, cmd.Stderr = console, console
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := s.group.start(cmd); err != nil {
		return nil, fmt.Errorf("start systemd-nspawn: %w", err)
	}
	return cmd, nil
}

// nspawnArgs is the command line of one node.
func nspawnArgs(dir string, rec record) []string {
	return []string{
		"--quiet", "--boot", "--register=no", "--keep-unit", "--notify-ready=yes",
		"--machine=" + rec.Machine, "--hostname=" + rec.Name,
		"--directory=" + filepath.Join(dir, dirRoot),
		"--network-bridge=" + rec.Bridge,
		"--resolv-conf=off", "--timezone=off", "--link-journal=no", "--console=read-only",
		// A directory and not the devices themselves: what is linked into it later is there at once, and a reboot finds it.
		"--bind-ro=" + filepath.Join(dir, dirDev) + ":" + deviceFolder,
	}
}
