package host

import (
	"context"

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
