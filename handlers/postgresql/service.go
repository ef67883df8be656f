package postgresql

import (
	"context"
	"errors"
	"time"

	"github.com/reeve-paas/reeve/agent/agentapi"
	"github.com/reeve-paas/reeve/handlers"
	"github.com/reeve-paas/reeve/handlers/host"
)

// Service states of get_service_status (spec agent-core 6.1).
const (
	statusRunning    = 0
	statusNotRunning = 3
)

const (
	pollInterval    = 20 * time.Millisecond
	startingUpLimit = 2 * time.Minute // what get_service_status waits for a server that replays its log
)

// StartService starts the server and returns when it accepts connections. A running server is left alone.
func (s *Service) StartService(ctx context.Context, p agentapi.ReasonParams) (handlers.Null, error) {
	return s.bringUp(ctx, "start", p, s.host.Units().Start)
}

// RestartService restarts the server at once and returns when it accepts connections (D12).
func (s *Service) RestartService(ctx context.Context, p agentapi.ReasonParams) (handlers.Null, error) {
	return s.bringUp(ctx, "restart", p, s.host.Units().Restart)
}

// StopService stops the server. A stopped server is left alone.
func (s *Service) StopService(ctx context.Context, p agentapi.ReasonParams) (handlers.Null, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	c, err := s.cluster()
	if err != nil {
		return handlers.Null{}, err
	}
	s.logVerb("stop", c.Unit, p)
	return handlers.Null{}, s.host.Units().Stop(ctx, c.Unit)
}

// ReloadService makes a running server read its configuration again, at once (D12). A stopped server is started.
func (s *Service) ReloadService(ctx context.Context, p agentapi.ReasonParams) (handlers.Null, error) {
	c, err := s.cluster()
	if err != nil {
		return handlers.Null{}, err
	}
	state, err := s.host.Units().State(ctx, c.Unit)
	if err != nil {
		return handlers.Null{}, err
	}
	if !state.Running() {
		return s.StartService(ctx, p)
	}
	s.logVerb("reload", c.Unit, p)
	return s.change(ctx, func(srv *server) error { return srv.reload(ctx) })
}

// ServiceStatus is 0 when the server accepts connections and 3 when it does not. It waits for one that is starting up.
func (s *Service) ServiceStatus(ctx context.Context, _ handlers.NoParams) (int, error) {
	ctx, cancel := context.WithTimeout(ctx, startingUpLimit)
	defer cancel()
	for {
		switch state, err := s.readiness(ctx); {
		case err != nil:
			return 0, err
		case state == accepting:
			return statusRunning, nil
		case state == silent:
			return statusNotRunning, nil
		}
		select {
		case <-ctx.Done():
			return statusRunning, nil // it is there and turns clients away
		case <-time.After(pollInterval):
		}
	}
}

// readiness is what pg_isready, the server's own check, says with its exit status.
type readiness int

const (
	accepting readiness = iota
	rejecting           // starting up
	silent
)

func (s *Service) readiness(ctx context.Context) (readiness, error) {
	c, err := s.cluster()
	if err != nil {
		return silent, err
	}
	return s.readinessOf(ctx, c)
}

func (s *Service) readinessOf(ctx context.Context, c host.PostgreSQLCluster) (readiness, error) {
	srv, err := s.serverOf(c)
	if err != nil {
		if e, ok := errors.AsType[*agentapi.Error](err); ok && e.Kind == agentapi.KindUnavailable {
			return silent, nil
		}
		return silent, err
	}
	_, err = s.host.Run(ctx, srv.tool("pg_isready", "-q", "-t", "5"))
	failed, ok := errors.AsType[*host.CommandError](err)
	switch {
	case err == nil:
		return accepting, nil
	case !ok || failed.Err != nil:
		return silent, err
	case failed.Output.Code == 1:
		return rejecting, nil
	}
	return silent, nil
}

func (s *Service) bringUp(ctx context.Context, verb string, p agentapi.ReasonParams, act func(context.Context, string) error) (handlers.Null, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	c, err := s.cluster()
	if err != nil {
		return handlers.Null{}, err
	}
	s.logVerb(verb, c.Unit, p)
	if err := act(ctx, c.Unit); err != nil {
		return handlers.Null{}, err
	}
	return handlers.Null{}, s.waitUntilReady(ctx, c)
}

// waitUntilReady returns when the server answers, or with the last failure when StartTimeout has passed.
func (s *Service) waitUntilReady(ctx context.Context, c host.PostgreSQLCluster) error {
	ctx, cancel := context.WithTimeout(ctx, s.startTimeout)
	defer cancel()
	for {
		state, err := s.readinessOf(ctx, c)
		if err == nil && state == accepting {
			return nil
		}
		select {
		case <-ctx.Done():
			return &agentapi.Error{Kind: agentapi.KindUnavailable, Class: "InitdError", Err: err,
				Text: "the database server was started but does not answer; see its log (journalctl -u " + c.Unit + ")"}
		case <-time.After(pollInterval):
		}
	}
}

func (s *Service) logVerb(verb, unit string, p agentapi.ReasonParams) {
	reason := ""
	if p.Reason != nil {
		reason = string(*p.Reason)
	}
	s.log.Info("service verb", "verb", verb, "unit", unit, "reason", reason)
}
