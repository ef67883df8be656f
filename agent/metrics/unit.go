package metrics

import (
	"context"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/reeve-paas/reeve/handlers/host"
)

// UnitStates asks the init system for the states of units; *host.SystemdUnits does.
type UnitStates interface {
	States(ctx context.Context, units ...string) (map[string]host.UnitState, error)
}

// Unit shows the state of the configured units. A unit that is not installed is left out.
type Unit struct {
	Source UnitStates
	Units  []string
}

var unitState = desc("unit_state", "Whether a unit of systemd is in a state.", "unit", "state")

var unitStates = [...]string{"active", "reloading", "inactive", "failed", "activating", "deactivating"}

// Name implements Collector.
func (c Unit) Name() string { return "unit" }

// Collect implements Collector.
func (c Unit) Collect(ctx context.Context, ch chan<- prometheus.Metric) error {
	states, err := c.Source.States(ctx, c.Units...)
	if err != nil {
		return err
	}
	for _, unit := range c.Units {
		s, ok := states[unit]
		if !ok || s.Load == "not-found" {
			continue
		}
		for _, state := range unitStates {
			ch <- gauge(unitState, boolean(s.Active == state), unit, state)
		}
	}
	return nil
}
