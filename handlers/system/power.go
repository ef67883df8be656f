package system

import (
	"context"
	"errors"
	"os"
	"strings"
	"time"

	"github.com/reeve-paas/reeve/agent/agentapi"
	"github.com/reeve-paas/reeve/handlers"
	"github.com/reeve-paas/reeve/handlers/host"
)

const shutdownHook = "/usr/local/scalarizr/hooks/auth-shutdown"

// CallAuthShutdownHook asks the host's own hook whether it may be shut down.
//
// Params:  none
// Result:  what the hook printed, trimmed; its exit code does not matter
// Errors:  Exception "File not exists: …" (absent or not executable), Exception (no answer within 60 s)
// Effects: runs /usr/local/scalarizr/hooks/auth-shutdown
// Source:  spec agent-core 4.2
func (s *Service) CallAuthShutdownHook(ctx context.Context, _ handlers.NoParams) (string, error) {
	st, err := os.Stat(s.host.Path(shutdownHook))
	if err != nil || !st.Mode().IsRegular() || st.Mode()&0o111 == 0 {
		return "", agentapi.Errorf(agentapi.KindNotFound, "Exception", "File not exists: %s", shutdownHook)
	}
	out, err := s.host.Run(ctx, host.Cmd{Path: s.host.Path(shutdownHook), Timeout: time.Minute})
	if failed, ok := errors.AsType[*host.CommandError](err); ok && failed.Err == nil {
		err = nil
	}
	if err != nil {
		return "", agentapi.Errorf(agentapi.KindUnavailable, "Exception", "%s: %v", shutdownHook, err)
	}
	return strings.TrimSpace(string(out.Stdout)), nil
}

// Reboot starts the reboot of this host and answers. The init system stops the agent in its turn, which lets requests
// in flight finish first, so the answer still reaches the caller.
//
// Params:  none
// Result:  null
// Errors:  PopenError (the init system refuses)
// Effects: systemctl --no-block reboot
// Source:  spec agent-core 4.2
func (s *Service) Reboot(ctx context.Context, _ handlers.NoParams) (handlers.Null, error) {
	s.log.Info("rebooting this host because a caller asked for it")
	// The agent may be told to stop before systemctl has returned: that must not look like a failure.
	_, err := s.host.Run(context.WithoutCancel(ctx), host.Cmd{Path: "systemctl", Args: []string{"--no-block", "reboot"}})
	return handlers.Null{}, err
}
