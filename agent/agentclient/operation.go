package agentclient

import (
	"context"

	"github.com/reeve-paas/reeve/agent/agentapi"
)

// Operations is the namespace operation: long work that the agent was asked for with async.
type Operations struct{ client *Client }

// Operations reads the agent's records of long work.
func (c *Client) Operations() Operations { return Operations{c} }

const operation = "operation"

// Result is the record of one operation.
//
// Errors: OperationNotFoundError (no such id, or finished more than two days ago)
func (o Operations) Result(ctx context.Context, id string) (agentapi.Operation, error) {
	return o.ResultFrom(ctx, id, 0)
}

// ResultFrom is Result without the first lines of its logs, which the caller has already.
func (o Operations) ResultFrom(ctx context.Context, id string, lines int) (agentapi.Operation, error) {
	return invoke[agentapi.Operation](ctx, o.client, operation, "result", agentapi.OperationResultParams{OperationID: id, LogsFrom: lines})
}

// Cancel asks an operation to end. A finished one stays as it is.
//
// Errors: OperationNotFoundError
func (o Operations) Cancel(ctx context.Context, id string) error {
	return o.client.call(ctx, operation, "cancel", agentapi.OperationIDParams{OperationID: id}, nil)
}

// HasInProgress tells whether any operation runs.
func (o Operations) HasInProgress(ctx context.Context) (bool, error) {
	return invoke[bool](ctx, o.client, operation, "has_in_progress", nil)
}
