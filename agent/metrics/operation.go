package metrics

import (
	"context"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/reeve-paas/reeve/agent/agentapi"
	"github.com/reeve-paas/reeve/agent/operation"
)

// Operation shows the operations of this host.
type Operation struct{ Registry *operation.Registry }

var (
	operationRecords = desc("operation_records", "Operations on record, which are kept for two days.", "status")
	operationEnded   = desc("operation_ended_total", "Operations that ended since the agent was started.", "status")
)

var endedStatuses = [...]agentapi.OperationStatus{agentapi.OperationCompleted, agentapi.OperationFailed, agentapi.OperationCanceled}

// Name implements Collector.
func (c Operation) Name() string { return "operation" }

// Collect implements Collector.
func (c Operation) Collect(_ context.Context, ch chan<- prometheus.Metric) error {
	records, ended := c.Registry.Counts(), c.Registry.Ended()
	ch <- gauge(operationRecords, float64(records[agentapi.OperationInProgress]), string(agentapi.OperationInProgress))
	for _, status := range endedStatuses {
		ch <- gauge(operationRecords, float64(records[status]), string(status))
		ch <- counter(operationEnded, float64(ended[status]), string(status))
	}
	return nil
}
