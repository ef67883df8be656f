package mongodb

import (
	"context"
	"errors"
	"io/fs"
	"path"
	"regexp"
	"strings"

	"github.com/reeve-paas/reeve/agent/agentapi"
	"github.com/reeve-paas/reeve/handlers"
)

// The MongoDB Agent, which does what the monitoring agent of old did, and more (spec agent-core 7).
const (
	mmsUnit    = "mongodb-mms-automation-agent.service"
	mmsPackage = "mongodb-mms-automation-agent-manager"
	mmsConf    = "/etc/mongodb-mms/automation-agent.config"
)

var mmsValue = regexp.MustCompile(`^[A-Za-z0-9._~+/=-]{1,256}$`)

// EnableMMS gives the MongoDB Agent its keys and starts it, now and at every boot. It is never fetched from anywhere: the
// package must be installed.
func (s *Service) EnableMMS(ctx context.Context, p agentapi.EnableMMSParams) (agentapi.MMSResult, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return mmsResult(s.enableMMS(ctx, p)), nil
}

// DisableMMS stops the MongoDB Agent, now and at every boot. Where there is none it is done already.
func (s *Service) DisableMMS(ctx context.Context, _ handlers.NoParams) (agentapi.MMSResult, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return mmsResult(s.disableMMS(ctx)), nil
}

func mmsResult(err error) agentapi.MMSResult {
	if err == nil {
		return agentapi.MMSResult{Status: "Ok"}
	}
	text := err.Error()
	if e, ok := errors.AsType[*agentapi.Error](err); ok {
		text = e.Text
	}
	return agentapi.MMSResult{Status: "Fail", Error: text}
}

func (s *Service) mmsInstalled(ctx context.Context) (installed, running bool, err error) {
	state, err := s.host.Units().State(ctx, mmsUnit)
	return state.Load == "loaded", state.Running(), err
}

func (s *Service) enableMMS(ctx context.Context, p agentapi.EnableMMSParams) error {
	if !mmsValue.MatchString(string(p.APIKey)) || !mmsValue.MatchString(string(p.SecretKey)) {
		return invalid("a key is 1 to 256 letters, digits or ._~+/=-")
	}
	installed, wasRunning, err := s.mmsInstalled(ctx)
	if err != nil {
		return err
	}
	if !installed {
		return agentapi.Errorf(agentapi.KindUnsupported, "Exception", "the MongoDB Agent is not installed on this host: install the package %s", mmsPackage)
	}
	old, err := s.host.ReadFile(mmsConf)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	fresh := err != nil
	c := s.host.Begin()
	defer func() {
		if err := c.Rollback(); err != nil {
			s.log.Error("take a failed change of the MongoDB Agent back", "err", err)
		}
	}()
	if err := c.MkdirAll(path.Dir(mmsConf), 0o755); err != nil {
		return err
	}
	c.OnRollback(func() error { return s.putBackMMS(context.WithoutCancel(ctx), wasRunning) }) // when the old file is there again
	if _, err := c.WriteFile(mmsConf, mmsConfig(string(old), p), 0o600); err != nil {
		return err
	}
	if fresh {
		if err := s.ownMMS(); err != nil {
			return err
		}
	}
	if err := s.host.Units().Enable(ctx, mmsUnit); err != nil {
		return err
	}
	if err := s.host.Units().Restart(ctx, mmsUnit); err != nil {
		return err
	}
	c.Commit()
	return nil
}

// putBackMMS makes the agent as it was: a stopped one is not enabled either, as far as we ever made it.
func (s *Service) putBackMMS(ctx context.Context, wasRunning bool) error {
	if wasRunning {
		return s.host.Units().Restart(ctx, mmsUnit)
	}
	return errors.Join(s.host.Units().Stop(ctx, mmsUnit), s.host.Units().Disable(ctx, mmsUnit))
}

// ownMMS lets the agent, which is no root, read a file that it did not bring.
func (s *Service) ownMMS() error {
	user, err := s.host.LookupUser(s.host.Layout().MongoDBUser)
	if err != nil {
		return nil // it runs as root then
	}
	return s.host.Chown(mmsConf, int(user.UID), int(user.GID))
}

// mmsConfig sets our two lines and keeps the others.
func mmsConfig(old string, p agentapi.EnableMMSParams) []byte {
	set := []struct{ key, value string }{{"mmsGroupId", string(p.SecretKey)}, {"mmsApiKey", string(p.APIKey)}}
	var out strings.Builder
	done := map[string]bool{}
	for line := range strings.Lines(old) {
		key, _, _ := strings.Cut(line, "=")
		for _, s := range set {
			if strings.TrimSpace(key) == s.key {
				line = s.key + "=" + s.value + "\n"
				if done[s.key] {
					line = ""
				}
				done[s.key] = true
			}
		}
		out.WriteString(line)
		if line != "" && !strings.HasSuffix(line, "\n") {
			out.WriteString("\n")
		}
	}
	for _, s := range set {
		if !done[s.key] {
			out.WriteString(s.key + "=" + s.value + "\n")
		}
	}
	return []byte(out.String())
}

func (s *Service) disableMMS(ctx context.Context) error {
	installed, running, err := s.mmsInstalled(ctx)
	if err != nil || !installed {
		return err
	}
	if err := s.host.Units().Stop(ctx, mmsUnit); err != nil {
		return err
	}
	if err := s.host.Units().Disable(ctx, mmsUnit); err != nil {
		if running {
			err = errors.Join(err, s.host.Units().Start(context.WithoutCancel(ctx), mmsUnit))
		}
		return err
	}
	return nil
}
