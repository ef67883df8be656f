package mysql

import (
	"context"
	"errors"
	"path"
	"regexp"
	"strings"
	"time"

	"github.com/reeve-paas/reeve/agent/agentapi"
	"github.com/reeve-paas/reeve/handlers/host"
)

// listenFile makes the server listen on every address, whatever files before it say.
const listenFile = "# Written by reeve-agent: a user may connect from other machines.\n[mysqld]\nskip-networking = 0\nbind-address = *\n"

func (s *Service) listenPath() string { return path.Join(s.host.Layout().MySQLConfDir, "zz-reeve.cnf") }
func (s *Service) stagingDir() string {
	return path.Join(s.host.Layout().MySQLConfDir, ".reeve-staging")
}

// listening is a change that makes the server listen on every address.
type listening struct {
	service   *Service
	staged    *host.Staged // nil when the server does already
	restarted bool
	done      bool
}

// listen makes the running server listen on every address. The file is tested by the server's own program before it is put
// in place; the server is restarted, since it cannot change its mind otherwise. The caller commits, or rolls back, also
// after an error.
func (s *Service) listen(ctx context.Context) (*listening, error) {
	l := &listening{service: s}
	everywhere, err := s.listensEverywhere(ctx)
	if err != nil || everywhere {
		return l, err
	}
	if l.staged, err = s.host.Stage(s.stagingDir(), host.Readers{}); err != nil {
		return l, err
	}
	staged, err := l.staged.Write(s.listenPath(), []byte(listenFile), 0o644)
	if err != nil {
		return l, err
	}
	if err := l.test(ctx, staged); err != nil {
		return l, err
	}
	if err := l.staged.Apply(); err != nil {
		return l, err
	}
	l.restarted = true
	if err := s.restart(ctx); err != nil {
		return l, err
	}
	if everywhere, err = s.listensEverywhere(ctx); err == nil && !everywhere {
		err = overruled(s.listenPath())
	}
	return l, err
}

func overruled(file string) error {
	return agentapi.Errorf(agentapi.KindConfigTest, "InitdError", "something overrules %s: the server would not listen on every address", file)
}

func (s *Service) restart(ctx context.Context) error {
	if err := s.host.Units().Restart(ctx, s.unit()); err != nil {
		return err
	}
	return s.waitUntilReady(ctx)
}

// listensEverywhere asks the server. It says so in several ways: an empty address is its default, all.
func (s *Service) listensEverywhere(ctx context.Context) (yes bool, err error) {
	err = s.read(ctx, func(c *conn) error {
		return c.rows(func(col []string) {
			yes = col[1] == "0" && (col[0] == "" || col[0] == "*" || col[0] == "::" || col[0] == "0.0.0.0")
		}, 2, "SELECT COALESCE(@@bind_address, ''), @@skip_networking")
	})
	return yes, err
}

var (
	bindAddress    = regexp.MustCompile(`(?m)^bind-address +(\S+)`)
	skipNetworking = regexp.MustCompile(`(?m)^skip-networking +(\S+)`)
)

// test has the server's program read its files with the staged one in its place, and print what it makes of them.
func (l *listening) test(ctx context.Context, staged string) error {
	h := l.service.host
	text := "!include " + h.Path(h.Layout().MySQLConf) + "\n!include " + h.Path(staged) + "\n"
	entries, err := h.ReadDir(h.Layout().MySQLConfDir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if name := e.Name(); name > path.Base(l.service.listenPath()) && strings.HasSuffix(name, ".cnf") { // read after ours
			text += "!include " + h.Path(path.Join(h.Layout().MySQLConfDir, name)) + "\n"
		}
	}
	scratch, err := l.staged.Scratch("test.cnf", []byte(text))
	if err != nil {
		return err
	}
	out, err := h.Run(ctx, host.Cmd{Path: h.Layout().MySQLDaemon, Args: []string{"--defaults-file=" + h.Path(scratch), "--verbose", "--help"}})
	if failed, ok := errors.AsType[*host.CommandError](err); ok && failed.Err == nil {
		return &agentapi.Error{Kind: agentapi.KindConfigTest, Class: "InitdError", Err: err,
			Text: "the server does not accept its configuration: " + strings.TrimSpace(string(failed.Output.Stderr))}
	}
	if err != nil {
		return err
	}
	address, skip := bindAddress.FindSubmatch(out.Stdout), skipNetworking.FindSubmatch(out.Stdout)
	if address == nil || string(address[1]) != "*" || skip != nil && string(skip[1]) != "FALSE" {
		return overruled(l.service.listenPath())
	}
	return nil
}

func (l *listening) commit() error {
	if l.staged == nil {
		return nil
	}
	err := l.staged.Commit()
	l.done = err == nil
	return err
}

// rollback puts the files back and makes the server read them, unless the change was committed.
func (l *listening) rollback(ctx context.Context) {
	if l.staged == nil || l.done {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Minute)
	defer cancel()
	err := l.staged.Rollback()
	if l.restarted {
		err = errors.Join(err, l.service.restart(ctx))
	}
	if err != nil {
		l.service.log.Error("take back that the server listens on every address", "err", err)
	}
}

// Start implements handlers.Starter: it takes back the change of files that a killed agent left unconfirmed, and removes the
// dumps that it left on their way.
func (s *Service) Start(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.host.RemoveAll(s.dumpDir); err != nil {
		return err
	}
	if !s.host.Exists(s.host.Layout().MySQLConfDir) {
		return nil
	}
	return s.recover(ctx)
}

// recover takes back an interrupted change. A server that runs may have read it.
func (s *Service) recover(ctx context.Context) error {
	undone, err := s.host.RecoverStaged(s.stagingDir(), host.Readers{})
	if err != nil || !undone {
		return err
	}
	s.log.Warn("took back a change of the database server's configuration that was interrupted")
	state, err := s.host.Units().State(ctx, s.unit())
	if err != nil || !state.Running() && state.Active != "failed" { // it may have died of the change
		return err
	}
	return s.restart(ctx)
}
