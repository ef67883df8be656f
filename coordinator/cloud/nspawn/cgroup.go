package nspawn

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// limits are what the kernel holds a node to.
type limits struct {
	CPUs     int `json:"cpus"` // as time per period: 1 means one core's worth
	MemoryMB int `json:"memory_mb"`
	Pids     int `json:"pids"`
	DiskGB   int `json:"disk_gb"`
}

const cpuPeriod = 100_000 // µs

// v1Controllers are the hierarchies a node is placed in on a hybrid host. "systemd" is there because without it two nodes
// would see each other's units.
var v1Controllers = []string{"systemd", "memory", "cpu", "cpuacct", "pids"}

// cgroups is the host's cgroup layout.
type cgroups struct {
	unified string   // the cgroup2 mount, "" when there is none
	v1      []string // v1 mounts we use, each once; empty on a pure v2 host
	v1of    map[string]string
}

// findCgroups reads the layout below mount, normally /sys/fs/cgroup.
func findCgroups(mount string) (cgroups, error) {
	if exists(filepath.Join(mount, "cgroup.controllers")) {
		return cgroups{unified: mount}, nil
	}
	c := cgroups{v1of: map[string]string{}}
	for _, name := range v1Controllers {
		dir, err := filepath.EvalSymlinks(filepath.Join(mount, name)) // cpu may be a link to cpu,cpuacct
		if err != nil {
			continue
		}
		c.v1of[name] = dir
		if !slices.Contains(c.v1, dir) {
			c.v1 = append(c.v1, dir)
		}
	}
	if dir := filepath.Join(mount, "unified"); exists(filepath.Join(dir, "cgroup.procs")) {
		c.unified = dir
	}
	if c.v1of["systemd"] == "" {
		return c, fmt.Errorf("no cgroup hierarchy for systemd below %s", mount)
	}
	return c, nil
}

// pure says that the controllers live in the unified hierarchy.
func (c cgroups) pure() bool { return len(c.v1) == 0 }

// group is one cgroup, the same path in every hierarchy: "<app>" or "<app>/<node>".
type group struct {
	c    cgroups
	path string
}

func (c cgroups) group(elem ...string) group { return group{c, filepath.Join(elem...)} }

// dirs lists the group's directory in every hierarchy.
func (g group) dirs() []string {
	dirs := g.dirsV1()
	if g.c.unified != "" {
		dirs = append(dirs, filepath.Join(g.c.unified, g.path))
	}
	return dirs
}

// create makes the group in every hierarchy and, on a pure v2 host, hands the controllers down to it.
func (g group) create() error {
	for _, dir := range g.dirs() {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return fmt.Errorf("create cgroup: %w", err)
		}
	}
	if !g.c.pure() {
		return nil
	}
	for dir := filepath.Dir(g.path); ; dir = filepath.Dir(dir) {
		file := filepath.Join(g.c.unified, dir, "cgroup.subtree_control")
		// The root comes last, yet must be enabled first: collect upwards, write downwards.
		defer func() { _ = os.WriteFile(file, []byte("+cpu +memory +pids"), 0o644) }()
		if dir == "." || dir == "/" {
			return nil
		}
	}
}

// limit sets the limits of the group and everything below it.
func (g group) limit(l limits) error {
	quota := strconv.Itoa(l.CPUs * cpuPeriod)
	memory := strconv.FormatInt(int64(l.MemoryMB)<<20, 10)
	pids := strconv.Itoa(l.Pids)
	type setting struct{ controller, file, value string }
	settings := []setting{
		{"memory", "memory.limit_in_bytes", memory},
		{"cpu", "cpu.cfs_period_us", strconv.Itoa(cpuPeriod)},
		{"cpu", "cpu.cfs_quota_us", quota},
		{"pids", "pids.max", pids},
	}
	if g.c.pure() {
		settings = []setting{
			{"", "memory.max", memory},
			{"", "memory.swap.max", "0"},
			{"", "cpu.max", quota + " " + strconv.Itoa(cpuPeriod)},
			{"", "pids.max", pids},
		}
	}
	for _, s := range settings {
		mount := g.c.unified
		if s.controller != "" {
			mount = g.c.v1of[s.controller]
		}
		if mount == "" {
			return fmt.Errorf("this host has no %s controller, so the limit cannot be set", s.controller)
		}
		err := os.WriteFile(filepath.Join(mount, g.path, s.file), []byte(s.value), 0o644)
		if s.file == "memory.swap.max" && errors.Is(err, fs.ErrNotExist) {
			continue // a host without swap accounting
		}
		if err != nil {
			return fmt.Errorf("set %s: %w", s.file, err)
		}
	}
	return nil
}

// memoryInUse is what the group's processes hold and the kernel cannot drop, in bytes.
func (g group) memoryInUse() (int64, bool) {
	mount, want := g.c.v1of["memory"], []string{"total_rss", "total_shmem"}
	if g.c.pure() {
		mount, want = g.c.unified, []string{"anon", "shmem"}
	}
	data, err := os.ReadFile(filepath.Join(mount, g.path, "memory.stat"))
	if err != nil || mount == "" {
		return 0, false
	}
	sum := int64(0)
	for line := range strings.Lines(string(data)) {
		if name, value, ok := strings.Cut(strings.TrimSpace(line), " "); ok && slices.Contains(want, name) {
			n, _ := strconv.ParseInt(value, 10, 64)
			sum += n
		}
	}
	return sum, true
}

// start runs cmd with the new process inside the group from its first instruction. On cgroup v1 only a task can move
// itself, so a thread of ours moves there, forks, and moves back; in the unified hierarchy the kernel clones into the group.
func (g group) start(cmd *exec.Cmd) error {
	if g.c.unified != "" {
		fd, err := unix.Open(filepath.Join(g.c.unified, g.path), unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		if err != nil {
			return fmt.Errorf("open cgroup: %w", err)
		}
		defer unix.Close(fd)
		if cmd.SysProcAttr == nil {
			cmd.SysProcAttr = &syscall.SysProcAttr{}
		}
		cmd.SysProcAttr.UseCgroupFD, cmd.SysProcAttr.CgroupFD = true, fd
	}
	if g.c.pure() {
		return cmd.Start()
	}
	done := make(chan error)
	go func() {
		runtime.LockOSThread()
		home, err := g.c.threadHome()
		if err == nil {
			err = moveThread(g.dirsV1())
		}
		if err == nil {
			err = cmd.Start()
		}
		if moveThread(home) == nil {
			runtime.UnlockOSThread() // else the thread is of no use to anybody and ends with this goroutine
		}
		done <- err
	}()
	return <-done
}

func (g group) dirsV1() []string {
	var dirs []string
	for _, mount := range g.c.v1 {
		dirs = append(dirs, filepath.Join(mount, g.path))
	}
	return dirs
}

// moveThread moves the calling thread into cgroup v1 directories.
func moveThread(dirs []string) error {
	tid := []byte(strconv.Itoa(unix.Gettid()))
	for _, dir := range dirs {
		if err := os.WriteFile(filepath.Join(dir, "tasks"), tid, 0o644); err != nil {
			return fmt.Errorf("enter cgroup: %w", err)
		}
	}
	return nil
}

// threadHome lists the v1 cgroups that the calling thread is in.
func (c cgroups) threadHome() ([]string, error) {
	data, err := os.ReadFile("/proc/thread-self/cgroup")
	if err != nil {
		return nil, err
	}
	return c.parseHome(string(data)), nil
}

// parseHome reads /proc/<pid>/cgroup: lines of hierarchy number, controllers and path.
func (c cgroups) parseHome(text string) []string {
	var dirs []string
	for line := range strings.Lines(text) {
		parts := strings.SplitN(strings.TrimSpace(line), ":", 3)
		if len(parts) != 3 {
			continue
		}
		for name := range strings.SplitSeq(parts[1], ",") {
			if mount := c.v1of[strings.TrimPrefix(name, "name=")]; mount != "" {
				dirs = append(dirs, filepath.Join(mount, parts[2]))
				break
			}
		}
	}
	return dirs
}

// procs lists the processes of the group and everything below it. The v1 hierarchies are asked too, because a process may
// be in one and not in another. Our own process is left out: v1 names it while a thread of ours is in there to fork.
func (g group) procs() []int {
	seen := map[int]bool{}
	for _, dir := range g.dirs() {
		_ = filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
			if err != nil || !e.IsDir() {
				return nil
			}
			data, _ := os.ReadFile(filepath.Join(path, "cgroup.procs"))
			for _, f := range strings.Fields(string(data)) {
				if pid, err := strconv.Atoi(f); err == nil && pid > 0 && pid != os.Getpid() {
					seen[pid] = true
				}
			}
			return nil
		})
	}
	pids := make([]int, 0, len(seen))
	for pid := range seen {
		pids = append(pids, pid)
	}
	return pids
}

// kill ends every process of the group at once; it does not wait for them to be gone.
func (g group) kill() {
	if g.c.unified != "" {
		if os.WriteFile(filepath.Join(g.c.unified, g.path, "cgroup.kill"), []byte("1"), 0o644) == nil && g.c.pure() {
			return
		}
	}
	for _, pid := range g.procs() {
		_ = unix.Kill(pid, unix.SIGKILL)
	}
}

// remove deletes the group depth first in every hierarchy; what is not there is success. It fails while processes live in
// it. A cgroup whose last process has just died may be busy for some milliseconds more.
func (g group) remove() error {
	var err error
	for range 100 {
		if err = g.removeOnce(); err == nil {
			return nil
		}
		time.Sleep(5 * time.Millisecond)
	}
	return err
}

func (g group) removeOnce() error {
	var errs []error
	for _, dir := range g.dirs() {
		errs = append(errs, removeTree(dir))
	}
	return errors.Join(errs...)
}

// clear removes what is below the group: the cgroups of a node's previous boot.
func (g group) clear() {
	for _, dir := range g.dirs() {
		entries, _ := os.ReadDir(dir)
		for _, e := range entries {
			if e.IsDir() {
				_ = removeTree(filepath.Join(dir, e.Name()))
			}
		}
	}
}

// removeTree removes a cgroup directory and those below it; their files cannot and need not be deleted.
func removeTree(dir string) error {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	for _, e := range entries {
		if e.IsDir() {
			if err := removeTree(filepath.Join(dir, e.Name())); err != nil {
				return err
			}
		}
	}
	if err := unix.Rmdir(dir); err != nil && err != unix.ENOENT {
		return fmt.Errorf("remove cgroup %s: %w", dir, err)
	}
	return nil
}

// exists says whether a path is there.
func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

// ignore drops the errors that mean "already so".
func ignore(err error, fine ...error) error {
	for _, f := range fine {
		if errors.Is(err, f) {
			return nil
		}
	}
	return err
}
