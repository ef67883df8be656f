package metrics

import (
	"context"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/reeve-paas/reeve/agent/agentapi"
)

// AppUnits lists the units of apps on this host; the deploy handler does.
type AppUnits interface {
	ListUnits(ctx context.Context, p agentapi.ListUnitsParams) ([]agentapi.Unit, error)
}

// AppUnit shows the units of apps, summed up by app: a unit's own name would be a label without bounds.
type AppUnit struct{ Source AppUnits }

var (
	appUnits        = desc("unit_app_units", "Units of an app that are in a state.", "app", "state")
	appUnitRestarts = desc("unit_app_restarts", "How often processes of an app's present units were started again.", "app")
	appUnitMemory   = desc("unit_app_memory_bytes", "Memory in use by an app's units.", "app")
)

var appUnitStates = [...]agentapi.UnitState{agentapi.UnitStarting, agentapi.UnitStarted, agentapi.UnitUnreachable, agentapi.UnitError, agentapi.UnitStopped}

// Name implements Collector.
func (c AppUnit) Name() string { return "app_unit" }

// Collect implements Collector.
func (c AppUnit) Collect(ctx context.Context, ch chan<- prometheus.Metric) error {
	list, err := c.Source.ListUnits(ctx, agentapi.ListUnitsParams{})
	if err != nil {
		return err
	}
	type sum struct {
		states           map[agentapi.UnitState]int
		restarts, memory float64
	}
	apps := map[string]*sum{}
	for _, u := range list {
		s := apps[u.App]
		if s == nil {
			s = &sum{states: map[agentapi.UnitState]int{}}
			apps[u.App] = s
		}
		s.states[u.State]++
		s.restarts += float64(u.Restarts)
		s.memory += float64(u.MemoryBytes)
	}
	for app, s := range apps {
		for _, state := range appUnitStates {
			ch <- gauge(appUnits, float64(s.states[state]), app, string(state))
		}
		ch <- gauge(appUnitRestarts, s.restarts, app)
		ch <- gauge(appUnitMemory, s.memory, app)
	}
	return nil
}
