package hosttest

import (
	"context"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"syscall"

	"github.com/reeve-paas/reeve/handlers/host"
)

// Units is an init system in memory. A unit is known after Install, or when its file lies in one of systemd's unit
// directories on the host and it is asked for; a file that changes later needs DaemonReload, as with systemd itself.
type Units struct {
	root string
	log  *callLog

	mu      sync.Mutex // protects the fields below
	states  map[string]*unit
	onStart func(string) (host.UnitDetail, error)
	pid     int
}

type unit struct {
	state     host.UnitState
	detail    host.UnitDetail // beside state
	enabled   bool
	installed bool // by the test, not by a file
}

func newUnits(root string, log *callLog) *Units {
	return &Units{root: root, log: log, states: map[string]*unit{}, pid: 1000}
}

// Install makes a unit known: loaded, stopped, disabled.
func (u *Units) Install(name string) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.states[name] = &unit{state: stopped, installed: true}
}

// Set installs a unit in a given state.
func (u *Units) Set(name string, s host.UnitState) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.states[name] = &unit{state: s, installed: true}
}

// SetRunning installs a unit that runs.
func (u *Units) SetRunning(name string) {
	u.Install(name)
	u.mu.Lock()
	defer u.mu.Unlock()
	u.states[name].state = u.runningLocked()
}

// Running says whether a unit is up.
func (u *Units) Running(name string) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	s := u.states[name]
	return s != nil && s.state.Running()
}

// Enabled says whether a unit starts at boot.
func (u *Units) Enabled(name string) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	s := u.states[name]
	return s != nil && s.enabled
}

// Names are the known units, sorted.
func (u *Units) Names() []string {
	u.mu.Lock()
	defer u.mu.Unlock()
	return slices.Sorted(maps.Keys(u.states))
}

var stopped = host.UnitState{Load: "loaded", Active: "inactive", Sub: "dead"}

func (u *Units) runningLocked() host.UnitState {
	u.pid++
	return host.UnitState{Load: "loaded", Active: "active", Sub: "running", MainPID: u.pid}
}

// call does one recorded unit call.
func (u *Units) call(ctx context.Context, verb, name string, change func(*unit) error) error {
	if u.log.add(verb + " " + name) {
		return fmt.Errorf("%s %s: %w", verb, name, ErrInjected)
	}
	if ctx.Err() != nil {
		return fmt.Errorf("%s %s: %w", verb, name, context.Cause(ctx))
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	s := u.findLocked(name)
	if s == nil {
		return fmt.Errorf("%s %s: unit not found", verb, name)
	}
	return change(s)
}

// unitDirs are where systemd looks for unit files.
var unitDirs = []string{"/usr/lib/systemd/system", "/lib/systemd/system", "/run/systemd/system", "/etc/systemd/system"}

// findLocked finds a unit, or loads it from its file.
func (u *Units) findLocked(name string) *unit {
	if s := u.states[name]; s != nil {
		return s
	}
	for _, dir := range unitDirs {
		if st, err := os.Stat(filepath.Join(u.root, dir, name)); err == nil && st.Mode().IsRegular() {
			u.states[name] = &unit{state: stopped}
			return u.states[name]
		}
	}
	return nil
}

// OnStart makes fn decide what starting a unit does; nil is what it does by default. What fn returns is the unit's state.
func (u *Units) OnStart(fn func(name string) (host.UnitDetail, error)) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.onStart = fn
}

// SetDetail changes what a known unit shows.
func (u *Units) SetDetail(name string, d host.UnitDetail) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if s := u.states[name]; s != nil {
		s.state, s.detail = d.UnitState, d
	} else {
		u.states[name] = &unit{state: d.UnitState, detail: d}
	}
}

// Kill implements host.UnitControl: a unit that gets SIGKILL is down.
func (u *Units) Kill(ctx context.Context, name string, signal syscall.Signal) error {
	if u.log.add(fmt.Sprintf("kill %s %d", name, signal)) {
		return fmt.Errorf("kill %s: %w", name, ErrInjected)
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	if s := u.states[name]; s != nil && signal == syscall.SIGKILL {
		s.state = stopped
	}
	return nil
}

// ResetFailed implements host.UnitControl.
func (u *Units) ResetFailed(ctx context.Context, name string) error {
	if u.log.add("reset " + name) {
		return fmt.Errorf("reset %s: %w", name, ErrInjected)
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	if s := u.states[name]; s != nil && s.state.Active == "failed" {
		s.state, s.detail = stopped, host.UnitDetail{}
	}
	return nil
}

// Detail implements host.UnitControl. It is not one of the recorded calls: how often it is asked depends on time.
func (u *Units) Detail(ctx context.Context, name string) (host.UnitDetail, error) {
	if ctx.Err() != nil {
		return host.UnitDetail{}, fmt.Errorf("state %s: %w", name, context.Cause(ctx))
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	if s := u.findLocked(name); s != nil {
		d := s.detail
		d.UnitState = s.state
		return d, nil
	}
	return host.UnitDetail{UnitState: host.UnitState{Load: "not-found", Active: "inactive", Sub: "dead"}}, nil
}

// Start implements host.Units.
func (u *Units) Start(ctx context.Context, name string) error {
	return u.call(ctx, "start", name, func(s *unit) error {
		if u.onStart != nil {
			d, err := u.onStart(name)
			s.state, s.detail = d.UnitState, d
			return err
		}
		if !s.state.Running() {
			s.state = u.runningLocked()
		}
		return nil
	})
}

// Stop implements host.Units.
func (u *Units) Stop(ctx context.Context, name string) error {
	return u.call(ctx, "stop", name, func(s *unit) error { s.state = stopped; return nil })
}

// Restart implements host.Units.
func (u *Units) Restart(ctx context.Context, name string) error {
	return u.call(ctx, "restart", name, func(s *unit) error { s.state = u.runningLocked(); return nil })
}

// Reload implements host.Units. Like systemd it refuses a unit that does not run.
func (u *Units) Reload(ctx context.Context, name string) error {
	return u.call(ctx, "reload", name, func(s *unit) error {
		if !s.state.Running() {
			return fmt.Errorf("reload %s: unit is not active", name)
		}
		return nil
	})
}

// Enable implements host.Units.
func (u *Units) Enable(ctx context.Context, name string) error {
	return u.call(ctx, "enable", name, func(s *unit) error { s.enabled = true; return nil })
}

// Disable implements host.Units.
func (u *Units) Disable(ctx context.Context, name string) error {
	return u.call(ctx, "disable", name, func(s *unit) error { s.enabled = false; return nil })
}

// State implements host.Units. A unit that is not there has the load state not-found.
func (u *Units) State(ctx context.Context, name string) (host.UnitState, error) {
	if u.log.add("state " + name) {
		return host.UnitState{}, fmt.Errorf("state %s: %w", name, ErrInjected)
	}
	if ctx.Err() != nil {
		return host.UnitState{}, fmt.Errorf("state %s: %w", name, context.Cause(ctx))
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	if s := u.findLocked(name); s != nil {
		return s.state, nil
	}
	return host.UnitState{Load: "not-found", Active: "inactive", Sub: "dead"}, nil
}

// DaemonReload implements host.Units: units whose file appeared are loaded, those whose file went are forgotten once they
// are stopped.
func (u *Units) DaemonReload(ctx context.Context) error {
	if u.log.add("daemon-reload") {
		return fmt.Errorf("daemon-reload: %w", ErrInjected)
	}
	if ctx.Err() != nil {
		return fmt.Errorf("daemon-reload: %w", context.Cause(ctx))
	}
	files := map[string]bool{}
	for _, dir := range unitDirs {
		entries, _ := os.ReadDir(filepath.Join(u.root, dir))
		for _, e := range entries {
			files[e.Name()] = !e.IsDir()
		}
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	for name, isFile := range files {
		if isFile && u.states[name] == nil {
			u.states[name] = &unit{state: stopped}
		}
	}
	for name, s := range u.states {
		if !s.installed && !files[name] && !s.state.Running() {
			delete(u.states, name)
		}
	}
	return nil
}
