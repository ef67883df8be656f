package nspawn

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/reeve-paas/reeve/coordinator/core"
)

// The hidden subcommands that every binary which uses this driver must answer through Main.
const (
	superviseCommand = "nspawn-supervise"
	freezeCommand    = "nspawn-freeze"
)

// Exit codes of a supervisor.
const (
	exitOK         = 0
	exitFailed     = 1
	exitSupervised = 3 // another supervisor already has the node
)

// sigHalt asks a systemd that runs as PID 1 for an orderly halt: SIGRTMIN+3, counted as the C library counts.
const sigHalt = unix.Signal(34 + 3)

const (
	readyTimeout = 2 * time.Minute  // READY not seen by then: state error, until it comes after all
	stopGrace    = 30 * time.Second // from the orderly request to SIGKILL of the node's PID 1
	killGrace    = 5 * time.Second  // from there to the end of everything in its cgroup
)

// Main answers the hidden subcommands of this driver: a binary that uses the driver calls it first in main (a test binary
// in TestMain) with os.Args and, when handled, exits with code.
func Main(args []string) (handled bool, code int) {
	switch {
	case len(args) == 3 && args[1] == superviseCommand:
		return true, runSupervisor(args[2])
	case len(args) == 4 && args[1] == freezeCommand:
		return true, runFreezer(args[2], args[3])
	}
	return false, 0
}

// supervisor looks after one node: it mounts its disk, starts nspawn, hears its readiness, starts it again after a reboot
// and leaves when the node is off. It is a process of its own, so that nodes do not care whether a coordinator runs, and
// has a mount namespace of its own, so that the kernel unmounts everything when the last process of the node is gone.
//
// Signals: SIGTERM stops the node in good order, SIGUSR1 reboots it.
type supervisor struct {
	dir   string
	rec   record
	group group

	notify  *net.UnixConn
	signals chan os.Signal

	mu       sync.Mutex // protects the fields below
	run      runState
	watchers map[net.Conn]bool
}

// runSupervisor is the life of the process.
func runSupervisor(dir string) int {
	lock, err := lockFile(filepath.Join(dir, fileLock))
	if err != nil {
		return exitSupervised
	}
	defer lock.Close()
	s := &supervisor{dir: dir, signals: make(chan os.Signal, 8), watchers: map[net.Conn]bool{}}
	signal.Notify(s.signals, unix.SIGTERM, unix.SIGUSR1)
	signal.Ignore(unix.SIGHUP, unix.SIGINT, unix.SIGPIPE)
	if err := s.main(); err != nil {
		s.publish(func(r *runState) { r.State, r.Detail = core.CloudError, err.Error() })
		return exitFailed
	}
	return exitOK
}

func (s *supervisor) main() error {
	// What the host mounts and unmounts is seen here; what we mount is not seen there.
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_SLAVE, ""); err != nil {
		return fmt.Errorf("make mounts private: %w", err)
	}
	layout, err := findCgroups(cgroupMount)
	if err != nil {
		return err
	}
	if s.rec, err = readRecord(s.dir); err != nil {
		return err
	}
	s.group = layout.group(s.rec.App, s.rec.Machine)
	previous := readRun(s.dir)
	s.run = runState{State: core.CloudPending, Boots: previous.Boots, Supervisor: procOf(os.Getpid()), Since: time.Now().UTC()}
	if previous.Leader.alive() || previous.Nspawn.alive() {
		s.run = previous
		s.run.Supervisor = procOf(os.Getpid())
	}
	if first := inheritedWatcher(); first != nil {
		s.addWatcher(first)
	}
	if s.notify, err = listenNotify(filepath.Join(s.dir, fileNotify)); err != nil {
		return err
	}
	defer s.notify.Close()
	watch, err := listenWatch(filepath.Join(s.dir, fileWatch))
	if err != nil {
		return err
	}
	defer watch.Close()
	go s.accept(watch) // ends with the listener

	s.publish(nil)
	how := outcome{again: true}
	if s.run.Leader.alive() || s.run.Nspawn.alive() {
		how = s.adopt()
	}
	for how.again {
		if how, err = s.boot(); err != nil {
			s.endEverything()
			return err
		}
	}
	s.endEverything()
	s.publish(func(r *runState) {
		r.State, r.Detail, r.Resume, r.Nspawn, r.Leader = how.state, how.detail, how.resume, proc{}, proc{}
	})
	return nil
}

// outcome says what a node that ended wants next.
type outcome struct {
	again  bool // start it again on the same root
	resume bool // it was stopped although it is wanted: the next coordinator starts it
	state  core.CloudNodeState
	detail string
}

// boot starts nspawn once and returns when the node has ended.
func (s *supervisor) boot() (outcome, error) {
	rec, err := readRecord(s.dir)
	if err != nil {
		return outcome{}, err
	}
	if rec.Intent != intentRunning {
		return outcome{state: core.CloudStopped}, nil
	}
	s.rec = rec
	if err := s.prepare(); err != nil {
		return outcome{}, err
	}
	cmd, err := s.spawn()
	if err != nil {
		return outcome{}, err
	}
	s.publish(func(r *runState) {
		r.Boots++
		r.Nspawn, r.Leader = procOf(cmd.Process.Pid), proc{}
		if r.State != core.CloudRebooting {
			r.State = core.CloudPending
		}
	})
	exited := make(chan int, 1)
	go func() {
		_ = cmd.Wait()
		exited <- cmd.ProcessState.ExitCode() // -1 for a signal
	}()
	return s.follow(exited), nil
}

// adopt goes on with a node whose supervisor died. We are not its parent, so no exit code will come.
func (s *supervisor) adopt() outcome {
	exited := make(chan int, 1)
	go func() {
		_ = s.run.Nspawn.wait(context.Background())
		exited <- exitUnknown
	}()
	return s.follow(exited)
}

// nspawn's exit codes.
const (
	exitReboot  = 133
	exitUnknown = -2
)

// follow handles everything that happens to a started node until it has ended.
func (s *supervisor) follow(exited <-chan int) outcome {
	messages, stopReading := readNotify(s.notify)
	defer stopReading()
	ready := time.NewTimer(readyTimeout)
	defer ready.Stop()
	var escalate <-chan time.Time
	var stopping bool // by SIGTERM to us
	var farewell string
	for {
		select {
		case code := <-exited:
			s.drain(messages, &farewell)
			stopping = s.waitLeader(code) || stopping
			rec, err := readRecord(s.dir)
			return decide(code, err == nil && rec.Intent == intentRunning, stopping, farewell)
		case m := <-messages:
			s.heard(m, &farewell)
		case <-ready.C:
			s.publish(func(r *runState) {
				if r.State == core.CloudPending || r.State == core.CloudRebooting {
					r.State, r.Detail = core.CloudError, "the node is not ready after "+readyTimeout.String()+": "+r.Detail
				}
			})
		case sig := <-s.signals:
			if sig == unix.SIGUSR1 {
				s.publish(func(r *runState) { r.State = core.CloudRebooting })
				_ = s.state().Leader.signal(unix.SIGINT)
				continue
			}
			stopping = true
			s.publish(func(r *runState) { r.State = core.CloudStopping })
			s.requestStop()
			escalate = time.After(stopGrace)
		case <-escalate:
			if leader := s.state().Leader; leader.alive() {
				_ = leader.signal(unix.SIGKILL)
				escalate = time.After(killGrace)
				continue
			}
			s.group.kill()
		}
	}
}

// requestStop asks for an orderly halt. nspawn passes SIGTERM on once the node's PID 1 runs; before that it just ends.
func (s *supervisor) requestStop() {
	if run := s.state(); run.Nspawn.alive() {
		_ = run.Nspawn.signal(unix.SIGTERM)
	} else {
		_ = run.Leader.signal(sigHalt)
	}
}

// waitLeader covers an nspawn that died before its node: the node goes on, and we with it. It says whether we were asked
// to stop the node meanwhile.
func (s *supervisor) waitLeader(code int) (stopping bool) {
	leader := s.state().Leader
	if code >= 0 || !leader.alive() {
		return false
	}
	gone := make(chan struct{})
	go func() {
		defer close(gone)
		_ = leader.wait(context.Background())
	}()
	var escalate <-chan time.Time
	for {
		select {
		case <-gone:
			return stopping
		case sig := <-s.signals:
			if sig == unix.SIGUSR1 {
				_ = leader.signal(unix.SIGINT)
				continue
			}
			stopping = true
			s.publish(func(r *runState) { r.State = core.CloudStopping })
			_ = leader.signal(sigHalt)
			escalate = time.After(stopGrace)
		case <-escalate:
			s.group.kill()
		}
	}
}

// decide says what the end of a node means: code is nspawn's exit status, -1 when it was killed, exitUnknown when it was not ours.
func decide(code int, wanted, stopping bool, farewell string) outcome {
	switch {
	case !wanted || stopping:
		return outcome{state: core.CloudStopped, resume: wanted}
	case code == exitReboot:
		return outcome{again: true}
	case code == 0:
		return outcome{state: core.CloudStopped, detail: "powered off from inside"}
	case code > 0:
		return outcome{state: core.CloudError, detail: fmt.Sprintf("ended with status %d", code)}
	case farewell == farewellHalt: // the exit status is lost, but nspawn said what it was about to do
		return outcome{state: core.CloudStopped, detail: "powered off from inside"}
	default:
		return outcome{again: true}
	}
}

// endEverything leaves no process of the node behind; its mounts and loop devices end with our mount namespace.
func (s *supervisor) endEverything() {
	if len(s.group.procs()) > 0 {
		s.group.kill()
	}
	_ = s.group.remove()
}

func (s *supervisor) state() runState {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.run
}

// publish changes the state, writes it down and tells every watcher.
func (s *supervisor) publish(change func(*runState)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	before := s.run.State
	if change != nil {
		change(&s.run)
	}
	if s.run.State != before {
		s.run.Since = time.Now().UTC()
	}
	_ = writeRun(s.dir, s.run)
	line, _ := json.Marshal(s.run)
	line = append(line, '\n')
	for conn := range s.watchers {
		_ = conn.SetWriteDeadline(time.Now().Add(time.Second))
		if _, err := conn.Write(line); err != nil {
			conn.Close()
			delete(s.watchers, conn)
		}
	}
}

// writeRun replaces run.json without waiting for the disk: after a crash of the host it means nothing anyway.
func writeRun(dir string, run runState) error {
	data, err := json.Marshal(run)
	if err != nil {
		return err
	}
	tmp := filepath.Join(dir, fileRun+".new")
	if err := os.WriteFile(tmp, data, 0o600); err != nil {
		return err
	}
	return os.Rename(tmp, filepath.Join(dir, fileRun))
}

// addWatcher sends the present state and every later one to conn.
func (s *supervisor) addWatcher(conn net.Conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	line, _ := json.Marshal(s.run)
	_ = conn.SetWriteDeadline(time.Now().Add(time.Second))
	if _, err := conn.Write(append(line, '\n')); err != nil {
		conn.Close()
		return
	}
	s.watchers[conn] = true
}

func (s *supervisor) accept(watch net.Listener) {
	for {
		conn, err := watch.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err == nil {
			s.addWatcher(conn)
		}
	}
}

// inheritedWatcher is the connection our starter handed us as descriptor 3; nil when there is none.
func inheritedWatcher() net.Conn {
	f := os.NewFile(3, "watcher")
	defer f.Close()
	conn, err := net.FileConn(f)
	if err != nil {
		return nil
	}
	return conn
}

func listenWatch(path string) (net.Listener, error) {
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	return net.Listen("unix", path)
}

// lockFile takes a lock that the kernel gives back when this process ends, however it ends.
func lockFile(path string) (*os.File, error) { return flock(path, unix.LOCK_EX|unix.LOCK_NB) }

// lockFileWait is lockFile that waits for its turn.
func lockFileWait(path string) (*os.File, error) { return flock(path, unix.LOCK_EX) }

func flock(path string, how int) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	for {
		err = unix.Flock(int(f.Fd()), how)
		if err == nil {
			return f, nil
		}
		if err != unix.EINTR {
			f.Close()
			return nil, err
		}
	}
}

// startSupervisor starts the supervisor of a node and returns the connection on which it reports.
func startSupervisor(dir string) (*exec.Cmd, net.Conn, error) {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, err
	}
	ours, theirs := os.NewFile(uintptr(pair[0]), "watch"), os.NewFile(uintptr(pair[1]), "watch")
	defer theirs.Close()
	defer ours.Close() // FileConn duplicates it
	conn, err := net.FileConn(ours)
	if err != nil {
		return nil, nil, err
	}
	console, err := os.OpenFile(filepath.Join(dir, fileConsole), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		conn.Close()
		return nil, nil, err
	}
	defer console.Close()
	cmd := exec.Command("/proc/self/exe", superviseCommand, dir) // this very binary, even if its file was replaced
	cmd.Dir = "/"
	cmd.Env = []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "GOMAXPROCS=1", "GOGC=20"}
	cmd.Stdout, cmd.Stderr = console, console
	cmd.ExtraFiles = []*os.File{theirs}
	// Cloneflags and not Unshareflags: the latter would cut the namespace off from the host's later unmounts.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Cloneflags: unix.CLONE_NEWNS}
	if err := cmd.Start(); err != nil {
		conn.Close()
		return nil, nil, fmt.Errorf("start the node's supervisor: %w", err)
	}
	return cmd, conn, nil
}
