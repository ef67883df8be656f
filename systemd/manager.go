package systemd

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/coreos/go-systemd/v22/dbus"
)

// DialTimeout bounds one attempt to connect.
const DialTimeout = 10 * time.Second

// pollInterval is how often a waiting job looks whether its connection still lives.
const pollInterval = 250 * time.Millisecond

// State is a unit's state in systemd's words.
type State struct {
	Unit    string
	Load    string // loaded, not-found, masked, error, …
	Active  string // active, reloading, inactive, failed, activating, deactivating
	Sub     string // running, exited, dead, …
	MainPID int    // 0 when there is none; States leaves it 0
}

// JobError is a job that systemd ended with a result other than "done".
type JobError struct {
	Verb   string // start, stop, restart, reload
	Unit   string
	Result string // canceled, timeout, failed, dependency, skipped
}

func (e *JobError) Error() string { return fmt.Sprintf("%s %s: job %s", e.Verb, e.Unit, e.Result) }

// NotFoundError is a unit that systemd does not know.
type NotFoundError struct{ Unit string }

func (e *NotFoundError) Error() string { return fmt.Sprintf("unit %s not found", e.Unit) }

// Manager controls units. Its methods may be called from any goroutine; Close ends it.
type Manager struct {
	dial func() (conn, error)

	mu     sync.Mutex // protects the fields below; held while connecting, so that one attempt serves all callers
	conn   conn
	closed bool
}

// conn is what a Manager needs of *dbus.Conn.
type conn interface {
	Close()
	Connected() bool
	StartUnitContext(ctx context.Context, name, mode string, ch chan<- string) (int, error)
	StopUnitContext(ctx context.Context, name, mode string, ch chan<- string) (int, error)
	RestartUnitContext(ctx context.Context, name, mode string, ch chan<- string) (int, error)
	ReloadUnitContext(ctx context.Context, name, mode string, ch chan<- string) (int, error)
	ListUnitsByNamesContext(ctx context.Context, units []string) ([]dbus.UnitStatus, error)
	GetServicePropertyContext(ctx context.Context, service, property string) (*dbus.Property, error)
	EnableUnitFilesContext(ctx context.Context, files []string, runtime, force bool) (bool, []dbus.EnableUnitFileChange, error)
	DisableUnitFilesContext(ctx context.Context, files []string, runtime bool) ([]dbus.DisableUnitFileChange, error)
	ReloadContext(ctx context.Context) error
	KillUnitWithTarget(ctx context.Context, name string, target dbus.Who, signal int32) error
	ResetFailedUnitContext(ctx context.Context, name string) error
	GetAllPropertiesContext(ctx context.Context, unit string) (map[string]any, error)
}

// New returns a Manager of this host's systemd. Nothing is connected yet.
func New() *Manager { return &Manager{dial: dialSystem} }

// dialSystem connects. The context given to the library is the life of the connection, not of the attempt, so it is only
// cancelled when the attempt takes too long.
func dialSystem() (conn, error) {
	ctx, cancel := context.WithCancel(context.Background())
	timer := time.AfterFunc(DialTimeout, cancel)
	c, err := dbus.NewWithContext(ctx)
	if !timer.Stop() && err == nil {
		c.Close()
		err = context.DeadlineExceeded
	}
	if err != nil {
		cancel()
		return nil, fmt.Errorf("connect to systemd: %w", err)
	}
	return connWithCancel{c, cancel}, nil
}

// connWithCancel frees the context of a connection when the connection is closed.
type connWithCancel struct {
	*dbus.Conn
	cancel context.CancelFunc
}

func (c connWithCancel) Close() { c.Conn.Close(); c.cancel() }

// Close ends the connection; calls after it fail.
func (m *Manager) Close() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.closed = true
	if m.conn != nil {
		m.conn.Close()
		m.conn = nil
	}
	return nil
}

func (m *Manager) get() (conn, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		return nil, errors.New("systemd manager is closed")
	}
	if m.conn != nil && m.conn.Connected() {
		return m.conn, nil
	}
	if m.conn != nil {
		m.conn.Close()
		m.conn = nil
	}
	c, err := m.dial()
	if err != nil {
		return nil, err
	}
	m.conn = c
	return c, nil
}

// do runs one request, a second time when the connection turned out to be dead. Every request of this package may run
// twice without harm.
func (m *Manager) do(ctx context.Context, request func(conn) error) error {
	for attempt := 0; ; attempt++ {
		c, err := m.get()
		if err != nil {
			return err
		}
		err = request(c)
		if err == nil || ctx.Err() != nil || c.Connected() || attempt > 0 {
			return err
		}
	}
}

// Start starts a unit and waits until it is up.
func (m *Manager) Start(ctx context.Context, unit string) error {
	return m.job(ctx, "start", unit, conn.StartUnitContext)
}

// Stop stops a unit and waits until it is down.
func (m *Manager) Stop(ctx context.Context, unit string) error {
	return m.job(ctx, "stop", unit, conn.StopUnitContext)
}

// Restart restarts a unit, or starts one that is down, and waits until it is up.
func (m *Manager) Restart(ctx context.Context, unit string) error {
	return m.job(ctx, "restart", unit, conn.RestartUnitContext)
}

// Reload makes a running unit read its configuration again and waits until it did.
func (m *Manager) Reload(ctx context.Context, unit string) error {
	return m.job(ctx, "reload", unit, conn.ReloadUnitContext)
}

type startJob func(c conn, ctx context.Context, name, mode string, ch chan<- string) (int, error)

func (m *Manager) job(ctx context.Context, verb, unit string, start startJob) error {
	var used conn
	result := make(chan string, 2) // a request that ran twice may report twice
	err := m.do(ctx, func(c conn) error {
		used = c
		_, err := start(c, ctx, unit, "replace", result)
		return err
	})
	if err != nil {
		return m.explain(ctx, verb, unit, err)
	}
	poll := time.NewTicker(pollInterval)
	defer poll.Stop()
	for {
		select {
		case r := <-result:
			return jobResult(verb, unit, r)
		case <-ctx.Done():
			return fmt.Errorf("%s %s: job not finished: %w", verb, unit, context.Cause(ctx))
		case <-poll.C:
			if !used.Connected() {
				return m.outcome(ctx, verb, unit)
			}
		}
	}
}

func jobResult(verb, unit, result string) error {
	if result == "done" {
		return nil
	}
	return &JobError{Verb: verb, Unit: unit, Result: result}
}

// outcome judges a job whose signal was lost with the connection: it waits until the unit has no job left and looks at
// the unit's state.
func (m *Manager) outcome(ctx context.Context, verb, unit string) error {
	poll := time.NewTicker(pollInterval)
	defer poll.Stop()
	for {
		states, err := m.list(ctx, []string{unit})
		if err == nil && len(states) == 1 && states[0].JobId == 0 {
			up := states[0].ActiveState == "active"
			finished := states[0].ActiveState == "inactive" && (verb == "start" || verb == "restart") // a oneshot
			if (verb == "stop") != up || finished {
				return nil
			}
			return &JobError{Verb: verb, Unit: unit, Result: "ended unseen, unit is " + states[0].ActiveState}
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%s %s: connection to systemd lost: %w", verb, unit, context.Cause(ctx))
		case <-poll.C:
		}
	}
}

// explain turns systemd's refusal of a request into an error that names the unit once.
func (m *Manager) explain(ctx context.Context, verb, unit string, err error) error {
	if ctx.Err() != nil {
		return fmt.Errorf("%s %s: %w", verb, unit, context.Cause(ctx))
	}
	text := err.Error()
	if strings.Contains(text, "not found") || strings.Contains(text, "not loaded") || strings.Contains(text, "does not exist") || strings.Contains(text, "No such file") {
		return fmt.Errorf("%s %s: %w", verb, unit, &NotFoundError{unit})
	}
	return fmt.Errorf("%s %s: %w", verb, unit, err)
}

func (m *Manager) list(ctx context.Context, units []string) (list []dbus.UnitStatus, err error) {
	err = m.do(ctx, func(c conn) error {
		list, err = c.ListUnitsByNamesContext(ctx, units)
		return err
	})
	return list, err
}

// State is the state of one unit. A unit that does not exist has Load "not-found" and is no error.
func (m *Manager) State(ctx context.Context, unit string) (State, error) {
	states, err := m.States(ctx, unit)
	if err != nil {
		return State{}, err
	}
	s := states[0]
	if strings.HasSuffix(unit, ".service") && s.Active != "inactive" {
		err = m.do(ctx, func(c conn) error {
			p, err := c.GetServicePropertyContext(ctx, unit, "MainPID")
			if err != nil {
				return err
			}
			if pid, ok := p.Value.Value().(uint32); ok {
				s.MainPID = int(pid)
			}
			return nil
		})
		if err != nil {
			return State{}, m.explain(ctx, "state of", unit, err)
		}
	}
	return s, nil
}

// States are the states of several units, in one request and in the order asked for.
func (m *Manager) States(ctx context.Context, units ...string) ([]State, error) {
	if len(units) == 0 {
		return nil, nil
	}
	list, err := m.list(ctx, units)
	if err != nil {
		return nil, m.explain(ctx, "state of", strings.Join(units, ", "), err)
	}
	if len(list) != len(units) {
		return nil, fmt.Errorf("state of %s: systemd answered for %d of %d units", strings.Join(units, ", "), len(list), len(units))
	}
	states := make([]State, len(list))
	for i, u := range list { // systemd keeps the order; an alias comes back under the name of its unit
		states[i] = State{Unit: units[i], Load: u.LoadState, Active: u.ActiveState, Sub: u.SubState}
	}
	return states, nil
}

// Enable makes a unit start at boot. Unlike systemctl it does not make systemd read all unit files again, which costs a
// tenth of a second on a small host: the links matter at the next boot only, and systemd reads them then.
func (m *Manager) Enable(ctx context.Context, unit string) error {
	err := m.do(ctx, func(c conn) error {
		_, _, err := c.EnableUnitFilesContext(ctx, []string{unit}, false, true)
		return err
	})
	if err != nil {
		return m.explain(ctx, "enable", unit, err)
	}
	return nil
}

// Disable makes a unit not start at boot any more.
func (m *Manager) Disable(ctx context.Context, unit string) error {
	err := m.do(ctx, func(c conn) error {
		_, err := c.DisableUnitFilesContext(ctx, []string{unit}, false)
		return err
	})
	if err != nil {
		return m.explain(ctx, "disable", unit, err)
	}
	return nil
}

// Kill sends a signal to every process of a unit. A unit without processes is no error.
func (m *Manager) Kill(ctx context.Context, unit string, signal syscall.Signal) error {
	err := m.do(ctx, func(c conn) error { return c.KillUnitWithTarget(ctx, unit, dbus.All, int32(signal)) })
	if err == nil || strings.Contains(err.Error(), "No main process") || strings.Contains(err.Error(), "no process") ||
		strings.Contains(err.Error(), "not loaded") {
		return nil
	}
	return m.explain(ctx, "kill", unit, err)
}

// ResetFailed makes systemd forget that a unit failed, and how often it was started. A unit that is not loaded is no error.
func (m *Manager) ResetFailed(ctx context.Context, unit string) error {
	err := m.do(ctx, func(c conn) error { return c.ResetFailedUnitContext(ctx, unit) })
	if err == nil || strings.Contains(err.Error(), "not loaded") {
		return nil
	}
	return m.explain(ctx, "reset", unit, err)
}

// Detail is what systemd counts of a unit, beside its state.
type Detail struct {
	State
	Since       time.Time // of the last change of its state; zero when there was none
	Restarts    int       // by systemd itself, since it was started; services only
	Result      string    // of a service's last run: success, exit-code, signal, oom-kill, …
	ExitStatus  int       // of a service's last main process: exit code, or signal
	MemoryBytes int64     // in use by its processes; 0 when systemd does not count them
}

// Detail reads one unit in one request. A unit that does not exist has Load "not-found" and is no error.
func (m *Manager) Detail(ctx context.Context, unit string) (Detail, error) {
	var p map[string]any
	err := m.do(ctx, func(c conn) (err error) {
		p, err = c.GetAllPropertiesContext(ctx, unit)
		return err
	})
	if err != nil {
		return Detail{}, m.explain(ctx, "state of", unit, err)
	}
	d := Detail{State: State{Unit: unit}}
	d.Load, _ = p["LoadState"].(string)
	d.Active, _ = p["ActiveState"].(string)
	d.Sub, _ = p["SubState"].(string)
	d.Result, _ = p["Result"].(string)
	if pid, ok := p["MainPID"].(uint32); ok {
		d.MainPID = int(pid)
	}
	if n, ok := p["NRestarts"].(uint32); ok {
		d.Restarts = int(n)
	}
	if n, ok := p["ExecMainStatus"].(int32); ok {
		d.ExitStatus = int(n)
	}
	if us, ok := p["StateChangeTimestamp"].(uint64); ok && us > 0 && us < math.MaxInt64 {
		d.Since = time.UnixMicro(int64(us)).UTC()
	}
	if n, ok := p["MemoryCurrent"].(uint64); ok && n < math.MaxInt64 { // the largest number means: not counted
		d.MemoryBytes = int64(n)
	}
	return d, nil
}

// DaemonReload makes systemd read all unit files again.
func (m *Manager) DaemonReload(ctx context.Context) error {
	if err := m.do(ctx, func(c conn) error { return c.ReloadContext(ctx) }); err != nil {
		return fmt.Errorf("daemon-reload: %w", err)
	}
	return nil
}
