package mysql

import (
	"context"
	"time"

	"github.com/reeve-paas/reeve/agent/agentapi"
	"github.com/reeve-paas/reeve/handlers"
)

// Service states of get_service_status (spec agent-core 6.1).
const (
	statusRunning    = 0
	statusNotRunning = 3
)

const pollInterval = 10 * time.Millisecond

func (s *Service) unit() string { return s.host.Layout().MySQLUnit }

// StartService starts the server and returns when it accepts connections. A running server is left alone.
func (s *Service) StartService(ctx context.Context, p agentapi.ReasonParams) (handlers.Null, error) {
	return s.bringUp(ctx, "start", p, s.host.Units().Start)
}

// RestartService restarts the server and returns when it accepts connections.
func (s *Service) RestartService(ctx context.Context, p agentapi.ReasonParams) (handlers.Null, error) {
	return s.bringUp(ctx, "restart", p, s.host.Units().Restart)
}

// StopService stops the server. A stopped server is left alone.
func (s *Service) StopService(ctx context.Context, p agentapi.ReasonParams) (handlers.Null, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.logVerb("stop", p)
	return handlers.Null{}, s.host.Units().Stop(ctx, s.unit())
}

// ReloadService makes a running server read its privilege tables again, as "mysqladmin reload" does: the unit itself
// knows no reload. A stopped server is started.
func (s *Service) ReloadService(ctx context.Context, p agentapi.ReasonParams) (handlers.Null, error) {
	state, err := s.host.Units().State(ctx, s.unit())
	if err != nil {
		return handlers.Null{}, err
	}
	if !state.Running() {
		return s.StartService(ctx, p)
	}
	s.logVerb("reload", p)
	return s.change(ctx, func(c *conn) error { return c.exec("FLUSH PRIVILEGES") })
}

// ServiceStatus is 0 while the server's unit is up, 3 otherwise.
func (s *Service) ServiceStatus(ctx context.Context, _ handlers.NoParams) (int, error) {
	state, err := s.host.Units().State(ctx, s.unit())
	if err != nil {
		return 0, err
	}
	if state.Running() {
		return statusRunning, nil
	}
	return statusNotRunning, nil
}

func (s *Service) bringUp(ctx context.Context, verb string, p agentapi.ReasonParams, act func(context.Context, string) error) (handlers.Null, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.logVerb(verb, p)
	if err := act(ctx, s.unit()); err != nil {
		return handlers.Null{}, err
	}
	return handlers.Null{}, s.waitUntilReady(ctx)
}

// waitUntilReady returns when the server answers, or with the last failure when StartTimeout has passed.
func (s *Service) waitUntilReady(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, s.startTimeout)
	defer cancel()
	tick := time.NewTicker(pollInterval)
	defer tick.Stop()
	for {
		c, err := s.connect(ctx)
		if err == nil {
			c.close()
			return nil
		}
		select {
		case <-ctx.Done():
			return &agentapi.Error{Kind: agentapi.KindUnavailable, Class: "InitdError", Err: err,
				Text: "the database server was started but does not answer; see its log (journalctl -u " + s.unit() + ")"}
		case <-tick.C:
		}
	}
}

func (s *Service) logVerb(verb string, p agentapi.ReasonParams) {
	reason := ""
	if p.Reason != nil {
		reason = string(*p.Reason)
	}
	s.log.Info("service verb", "verb", verb, "unit", s.unit(), "reason", reason)
}
