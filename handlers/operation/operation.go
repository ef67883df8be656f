// Package operation is the RPC namespace `operation`: it reads the records that agent/operation keeps of long work on
// this host.
//
// It lives here and not in agent/operation because handlers import that package to start their work. It touches no path
// of the host itself.
package operation

import (
	"context"

	"github.com/reeve-paas/reeve/agent/agentapi"
	"github.com/reeve-paas/reeve/agent/operation"
	"github.com/reeve-paas/reeve/handlers"
)

// Service is the namespace.
type Service struct{ registry *operation.Registry }

var _ handlers.Handler = (*Service)(nil)

// New offers the operations of a registry.
func New(r *operation.Registry) *Service { return &Service{r} }

// Namespaces implements handlers.Handler.
func (s *Service) Namespaces() []string { return []string{"operation"} }

// Methods implements handlers.Handler.
func (s *Service) Methods() map[string]handlers.Method {
	return map[string]handlers.Method{
		"result":          handlers.Reader("result", s.Result),
		"cancel":          handlers.Func("cancel", s.Cancel),
		"has_in_progress": handlers.Reader("has_in_progress", s.HasInProgress),
	}
}

// Result is the record of one operation.
//
// Params:  {"operation_id": string, "logs_from": int (default 0)}
// Result:  agentapi.Operation; result is null until it is completed
// Errors:  OperationNotFoundError (no such id, or finished more than two days ago)
// Source:  spec agent-core 3.1; logs_from is our own
func (s *Service) Result(_ context.Context, p agentapi.OperationResultParams) (agentapi.Operation, error) {
	o, err := s.registry.Result(p.OperationID)
	if err == nil {
		o.Logs = o.Logs[min(max(0, p.LogsFrom), len(o.Logs)):]
	}
	return o, err
}

// Cancel asks an operation to end; its work is not interrupted, and a finished one stays as it is.
//
// Params:  {"operation_id": string}
// Result:  null
// Errors:  OperationNotFoundError
// Source:  spec agent-core 3.1, 3.2
func (s *Service) Cancel(_ context.Context, p agentapi.OperationIDParams) (handlers.Null, error) {
	return handlers.Null{}, s.registry.Cancel(p.OperationID)
}

// HasInProgress says whether any operation runs.
//
// Params:  none
// Result:  bool
// Source:  spec agent-core 3.1
func (s *Service) HasInProgress(context.Context, handlers.NoParams) (bool, error) {
	return s.registry.HasInProgress(), nil
}
