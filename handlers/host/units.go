package host

import (
	"context"
	"syscall"
	"time"

	"github.com/reeve-paas/reeve/agent/agentapi"
)

// UnitState is a unit's state as systemd reports it.
type UnitState struct {
	Load    string // loaded, not-found, masked
	Active  string // active, reloading, inactive, failed, activating, deactivating
	Sub     string // running, exited, dead, …
	MainPID int    // 0 when there is none
}

// Running says that the unit is up.
func (s UnitState) Running() bool { return s.Active == "active" || s.Active == "reloading" }

// Units controls services of the init system. Every method waits for the job to finish and returns an error that holds
// the job's result; ctx bounds the wait. A unit is named in full, "apache2.service".
type Units interface {
	Start(ctx context.Context, unit string) error
	Stop(ctx context.Context, unit string) error
	Restart(ctx context.Context, unit string) error
	Reload(ctx context.Context, unit string) error
	Enable(ctx context.Context, unit string) error
	Disable(ctx context.Context, unit string) error
	State(ctx context.Context, unit string) (UnitState, error)
	DaemonReload(ctx context.Context) error
}

// UnitControl is Units for what somebody else than the distribution made units of: it kills, and counts.
type UnitControl interface {
	Units
	// Kill sends a signal to every process of a unit; a unit that has none is no error.
	Kill(ctx context.Context, unit string, signal syscall.Signal) error
	// ResetFailed forgets that a unit failed and how often it was started.
	ResetFailed(ctx context.Context, unit string) error
	// Detail is State and what systemd counts; also of a slice. A unit that is not there has Load "not-found".
	Detail(ctx context.Context, unit string) (UnitDetail, error)
}

// UnitDetail is what systemd knows of a unit.
type UnitDetail struct {
	UnitState
	Since       time.Time // of the last change of its state, UTC; zero when there was none
	Restarts    int       // by systemd itself, since it was started; services only
	Result      string    // of a service's last run: success, exit-code, signal, oom-kill, start-limit-hit, …
	ExitStatus  int       // of a service's last main process: exit code, or signal
	MemoryBytes int64     // in use by its processes; 0 when systemd does not count them
}

type noUnits struct{}

var errNoUnits = agentapi.Errorf(agentapi.KindUnsupported, "InitdError", "this host is not run by systemd")

func (noUnits) Start(context.Context, string) error              { return errNoUnits }
func (noUnits) Stop(context.Context, string) error               { return errNoUnits }
func (noUnits) Restart(context.Context, string) error            { return errNoUnits }
func (noUnits) Reload(context.Context, string) error             { return errNoUnits }
func (noUnits) Enable(context.Context, string) error             { return errNoUnits }
func (noUnits) Disable(context.Context, string) error            { return errNoUnits }
func (noUnits) State(context.Context, string) (UnitState, error) { return UnitState{}, errNoUnits }
func (noUnits) DaemonReload(context.Context) error               { return errNoUnits }

// UnitControl is Units with what only some init systems can do; on others those calls fail as unsupported.
func (h *Host) UnitControl() UnitControl {
	if c, ok := h.units.(UnitControl); ok {
		return c
	}
	return withoutControl{h.units}
}

type withoutControl struct{ Units }

func (withoutControl) Kill(context.Context, string, syscall.Signal) error { return errNoUnits }
func (withoutControl) ResetFailed(context.Context, string) error          { return errNoUnits }
func (withoutControl) Detail(context.Context, string) (UnitDetail, error) {
	return UnitDetail{}, errNoUnits
}
