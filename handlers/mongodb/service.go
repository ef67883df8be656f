package mongodb

import (
	"context"
	"net"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/reeve-paas/reeve/agent/agentapi"
	"github.com/reeve-paas/reeve/handlers"
)

// Service states of get_service_status, as in the other database namespaces.
const (
	statusRunning    = 0
	statusNotRunning = 3
)

const pollInterval = 20 * time.Millisecond

func (s *Service) unit() string { return s.host.Layout().MongoDBUnit }

// StartService starts the server and returns when it accepts connections. A running server is left alone.
func (s *Service) StartService(ctx context.Context, p agentapi.ReasonParams) (handlers.Null, error) {
	return s.bringUp(ctx, "start", p, s.host.Units().Start)
}

// RestartService restarts the server and returns when it accepts connections.
func (s *Service) RestartService(ctx context.Context, p agentapi.ReasonParams) (handlers.Null, error) {
	return s.bringUp(ctx, "restart", p, s.host.Units().Restart)
}

// ReloadService restarts the server: it reads its configuration at the start only.
func (s *Service) ReloadService(ctx context.Context, p agentapi.ReasonParams) (handlers.Null, error) {
	return s.bringUp(ctx, "reload", p, s.host.Units().Restart)
}

// StopService stops the server. A stopped server is left alone.
func (s *Service) StopService(ctx context.Context, p agentapi.ReasonParams) (handlers.Null, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.logVerb("stop", p)
	return handlers.Null{}, s.host.Units().Stop(ctx, s.unit())
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

func (s *Service) restart(ctx context.Context) error {
	if err := s.host.Units().Restart(ctx, s.unit()); err != nil {
		return err
	}
	return s.waitUntilReady(ctx)
}

// waitUntilReady returns when the server answers, or with the last failure when StartTimeout has passed.
func (s *Service) waitUntilReady(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, s.startTimeout)
	defer cancel()
	for {
		err := s.answers(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return &agentapi.Error{Kind: agentapi.KindUnavailable, Class: "InitdError", Err: err,
				Text: "the database server was started but does not answer; see its log (journalctl -u " + s.unit() + ")"}
		case <-time.After(pollInterval):
		}
	}
}

func (s *Service) answers(ctx context.Context) error {
	address, err := s.address()
	if err != nil {
		return err
	}
	return s.answersAt(ctx, address)
}

func (s *Service) answersAt(ctx context.Context, address string) error {
	probe, err := (&net.Dialer{Timeout: answerTimeout}).DialContext(ctx, "tcp", address) // the driver would go on trying
	if err != nil {
		return err
	}
	if err := probe.Close(); err != nil {
		return err
	}
	c, err := dial(ctx, address, "") // who may do what is no matter here
	if err != nil {
		return err
	}
	defer c.close()
	return c.run(adminDatabase, nil, bson.D{{Key: "ping", Value: 1}})
}

func (s *Service) logVerb(verb string, p agentapi.ReasonParams) {
	reason := ""
	if p.Reason != nil {
		reason = string(*p.Reason)
	}
	s.log.Info("service verb", "verb", verb, "unit", s.unit(), "reason", reason)
}
