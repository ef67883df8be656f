package deploy

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/reeve-paas/reeve/agent/agentapi"
	"github.com/reeve-paas/reeve/handlers"
)

const (
	enrolledFile = "/etc/reeve/enrolled" // who enrolled this host; lines of key=value
	agentKeyFile = "/etc/reeve/keys/default"
	agentUnit    = "reeve-agent.service"
	leaveDelay   = 300 * time.Millisecond // for the answer to go out
)

// Leave makes a host that its administrator enrolled with a token a host of its own again: the agent's key, the marker and
// what says whom to ask and tell go, and the agent ends after it has answered and does not come back at the next boot. On any other host nothing happens.
//
// Result:  null
// Errors:  InitdError
// Effects: /etc/reeve/enrolled, /etc/reeve/keys/default, the settings of agentapi.CoordinatorSettingsFile, the agent's own unit
func (s *Service) Leave(ctx context.Context, _ handlers.NoParams) (handlers.Null, error) {
	text, err := s.host.ReadFile(enrolledFile)
	if errors.Is(err, fs.ErrNotExist) {
		return handlers.Null{}, nil
	}
	if err != nil {
		return handlers.Null{}, err
	}
	if !slices.Contains(strings.Split(string(text), "\n"), "token=yes") {
		return handlers.Null{}, nil // who came over SSH goes that way
	}
	if err := s.host.Units().Disable(ctx, agentUnit); err != nil {
		return handlers.Null{}, err
	}
	err = errors.Join(s.host.Remove(agentapi.CoordinatorSettingsFile), s.host.Remove(agentapi.CoordinatorCAFile))
	_ = os.Remove(s.host.Path(path.Dir(agentapi.CoordinatorSettingsFile))) // not empty: others' settings
	if err := errors.Join(err, s.host.Remove(agentKeyFile), s.host.Remove(enrolledFile)); err != nil {
		return handlers.Null{}, err
	}
	s.log.Info("this host has left its coordinator; the agent ends")
	time.AfterFunc(leaveDelay, func() {
		if err := s.host.Units().Stop(context.Background(), agentUnit); err != nil {
			s.log.Error("stop the agent", "err", err)
		}
	})
	return handlers.Null{}, nil
}
