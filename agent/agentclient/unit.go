package agentclient

import (
	"context"
	"encoding/json"
	"strings"
	"time"

	"github.com/reeve-paas/reeve/agent/agentapi"
)

// BuildRelease builds a source on the host and tells each line that the build prints as it comes.
func (d Deploy) BuildRelease(ctx context.Context, p agentapi.BuildReleaseParams, line func(string)) (agentapi.ReleaseBuild, error) {
	p.Async = true
	return follow[agentapi.ReleaseBuild](ctx, d.client, "build_release", p, line)
}

// FetchRelease puts a built release on the host.
func (d Deploy) FetchRelease(ctx context.Context, p agentapi.FetchReleaseParams) error {
	return d.client.call(ctx, deploy, "fetch_release", p, nil)
}

// StartUnit runs a release as a unit and returns when it serves.
func (d Deploy) StartUnit(ctx context.Context, p agentapi.StartUnitParams) (agentapi.Unit, error) {
	return invoke[agentapi.Unit](ctx, d.client, deploy, "start_unit", p)
}

// StopUnit ends a unit.
func (d Deploy) StopUnit(ctx context.Context, p agentapi.StopUnitParams) error {
	return d.client.call(ctx, deploy, "stop_unit", p, nil)
}

// ListUnits lists the units of an app, or of all.
func (d Deploy) ListUnits(ctx context.Context, p agentapi.ListUnitsParams) ([]agentapi.Unit, error) {
	return invoke[[]agentapi.Unit](ctx, d.client, deploy, "list_units", p)
}

// UnitLog reads what units printed.
func (d Deploy) UnitLog(ctx context.Context, p agentapi.UnitLogParams) (agentapi.UnitLog, error) {
	return invoke[agentapi.UnitLog](ctx, d.client, deploy, "unit_log", p)
}

// RunCommand runs a command of the app's owner and tells each line it prints as it comes.
func (d Deploy) RunCommand(ctx context.Context, p agentapi.RunCommandParams, line func(string)) (agentapi.CommandResult, error) {
	p.Async = true
	return follow[agentapi.CommandResult](ctx, d.client, "run_command", p, line)
}

// followPause is how often the logs of long work are asked for.
const followPause = 200 * time.Millisecond

// operationError is how an operation that did not complete failed, as the call itself would have failed.
func operationError(op agentapi.Operation) error {
	e := &agentapi.Error{Kind: op.Kind, Class: "OperationError", Text: string(op.Status)}
	if op.Error != nil {
		e.Text = *op.Error
	}
	if op.Trace != nil {
		if class, _, ok := strings.Cut(*op.Trace, ": "); ok && !strings.ContainsAny(class, " '\"") {
			e.Class = class
		}
	}
	if e.Class == "AgentRestarted" {
		e.Kind = agentapi.KindUnavailable
	}
	if e.Kind == "" {
		e.Kind = agentapi.KindInternal
	}
	return e
}

// follow starts an asynchronous method of the deploy namespace and waits for its end. When ctx ends first the work is
// canceled on the host.
func follow[R any](ctx context.Context, c *Client, method string, params any, line func(string)) (R, error) {
	var result R
	id, err := invoke[string](ctx, c, deploy, method, params)
	if err != nil {
		return result, err
	}
	tick := time.NewTicker(followPause)
	defer tick.Stop()
	told := 0
	for {
		op, err := c.Operations().ResultFrom(ctx, id, told)
		if err != nil && ctx.Err() == nil {
			return result, err
		}
		if err == nil {
			for _, text := range op.Logs {
				line(text)
			}
			told += len(op.Logs)
			switch op.Status {
			case agentapi.OperationCompleted:
				raw, err := json.Marshal(op.Result)
				if err == nil {
					err = json.Unmarshal(raw, &result)
				}
				return result, err
			case agentapi.OperationFailed, agentapi.OperationCanceled:
				return result, operationError(op)
			}
		}
		select {
		case <-ctx.Done():
			stop, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
			defer cancel()
			if err := c.Operations().Cancel(stop, id); err != nil {
				return result, err
			}
			return result, context.Cause(ctx)
		case <-tick.C:
		}
	}
}
