package agentclient

import (
	"context"

	"github.com/reeve-paas/reeve/agent/agentapi"
)

// invoke is one call with a typed result.
func invoke[R any](ctx context.Context, c *Client, namespace, method string, params any) (R, error) {
	var result R
	err := c.call(ctx, namespace, method, params, &result)
	return result, err
}

// Service is what the namespaces of web servers and databases have in common.
type Service struct {
	client    *Client
	namespace string
}

// Service drives the service of a namespace, such as "nginx".
func (c *Client) Service(namespace string) Service { return Service{c, namespace} }

// Start starts the service. A running one is left alone.
//
// Errors: InitdError, PopenError (its configuration test)
func (s Service) Start(ctx context.Context) error { return s.verb(ctx, "start_service", nil) }

// Stop stops the service; reason is only logged.
//
// Errors: InitdError
func (s Service) Stop(ctx context.Context, reason string) error {
	return s.verb(ctx, "stop_service", because(reason))
}

// Restart restarts the service after its own configuration test; reason is only logged.
//
// Errors: InitdError, PopenError (its configuration test)
func (s Service) Restart(ctx context.Context, reason string) error {
	return s.verb(ctx, "restart_service", because(reason))
}

// Reload makes the service read its configuration again, or starts it; reason is only logged.
//
// Errors: InitdError, PopenError (its configuration test)
func (s Service) Reload(ctx context.Context, reason string) error {
	return s.verb(ctx, "reload_service", because(reason))
}

// ConfigTest runs the service's own configuration test.
//
// Errors: config_test, with the test's output in the text
func (s Service) ConfigTest(ctx context.Context) error { return s.verb(ctx, "configtest", nil) }

// Status is 0 when the service runs, 3 when it does not, 1 or 2 when it died, 4 when nobody knows.
func (s Service) Status(ctx context.Context) (int, error) {
	return invoke[int](ctx, s.client, s.namespace, "get_service_status", nil)
}

func (s Service) verb(ctx context.Context, method string, params any) error {
	return s.client.call(ctx, s.namespace, method, params, nil)
}

func because(reason string) agentapi.ReasonParams {
	if reason == "" {
		return agentapi.ReasonParams{}
	}
	return agentapi.ReasonParams{Reason: agentapi.Ptr(agentapi.Text(reason))}
}
