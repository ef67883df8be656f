package postgresql

import (
	"context"
	"errors"
	"fmt"
	"path"
	"strings"
	"time"

	"github.com/reeve-paas/reeve/agent/agentapi"
	"github.com/reeve-paas/reeve/handlers/host"
)

const (
	blockBegin = "# BEGIN reeve-agent: the first line that fits counts, so these stay on top\n"
	blockEnd   = "# END reeve-agent\n"

	// Users of create_user come in with their password, from this host or from anywhere, and not into the databases that
	// everybody may connect to. The superusers whose password reset_password sets come in from this host.
	hbaLines = "host\tpostgres,template1\t+" + usersRole + "\tall\treject\n" +
		"host\tall\t+" + remoteRole + "\tall\tscram-sha-256\n" +
		"host\tall\t+" + usersRole + "," + superuser + "," + masterUser + "\tsamehost\tscram-sha-256\n"

	listenFile = "# Written by reeve-agent: a user may connect from other machines.\nlisten_addresses = '*'\n"
	includeDir = "include_dir = 'conf.d'"
)

func stagingDir(c host.PostgreSQLCluster) string { return path.Join(c.ConfDir, ".reeve-staging") }

func listenPath(c host.PostgreSQLCluster) string {
	return path.Join(c.ConfDir, "conf.d", "90-reeve.conf")
}

// access is a change of who may connect from where: files, and what the server was told about them.
type access struct {
	srv       *server
	staged    *host.Staged
	change    *host.Change
	reloaded  bool
	restarted bool
	done      bool
}

// openFor lets the server's users in: over TCP from this host and, when remote, from anywhere. When all is right already
// nothing happens. The caller commits, or rolls back, also after an error.
func (srv *server) openFor(ctx context.Context, remote bool) (*access, error) {
	a := &access{srv: srv, change: srv.service.host.Begin()}
	settings, err := srv.query(ctx, superuser, "SELECT current_setting('hba_file'), current_setting('listen_addresses')")
	if err != nil {
		return a, err
	}
	hbaPath, listens := settings[0][0], settings[0][1]
	if a.staged, err = srv.service.host.Stage(stagingDir(srv.PostgreSQLCluster), host.Readers{}); err != nil {
		return a, err
	}
	if err := a.stageHBA(hbaPath); err != nil {
		return a, err
	}
	restart := remote && listens != "*"
	if restart {
		if err := a.stageListen(ctx); err != nil {
			return a, err
		}
	}
	if a.staged.Empty() && !restart {
		return a, nil
	}
	if err := a.staged.Apply(); err != nil {
		return a, err
	}
	return a, a.tell(ctx, restart)
}

// stageHBA puts our lines on top of pg_hba.conf.
func (a *access) stageHBA(name string) error {
	text, err := a.srv.service.host.ReadFile(name)
	if err != nil {
		return err
	}
	wanted := withBlock(string(text))
	if wanted == string(text) {
		return nil
	}
	_, err = a.staged.Write(name, []byte(wanted), 0o640)
	return err
}

// withBlock is the text with our lines on top, and nowhere else.
func withBlock(text string) string {
	if before, rest, found := strings.Cut(text, blockBegin); found {
		_, after, closed := strings.Cut(rest, blockEnd)
		if closed {
			text = before + after
		}
	}
	return blockBegin + hbaLines + blockEnd + text
}

// stageListen makes the server listen on every address from its next start on, and has the server's own program read the
// configuration with the new file in it.
func (a *access) stageListen(ctx context.Context) error {
	h, c := a.srv.service.host, a.srv.PostgreSQLCluster
	main, err := h.ReadFile(path.Join(c.ConfDir, "postgresql.conf"))
	if err != nil {
		return err
	}
	if !includesConfD(string(main)) {
		text := strings.TrimSuffix(string(main), "\n") + "\n" + includeDir + "\t# added by reeve-agent\n"
		if _, err := a.staged.Write(path.Join(c.ConfDir, "postgresql.conf"), []byte(text), 0o644); err != nil {
			return err
		}
	}
	if err := a.change.MkdirAll(path.Dir(listenPath(c)), 0o755); err != nil {
		return err
	}
	staged, err := a.staged.Write(listenPath(c), []byte(listenFile), 0o644)
	if err != nil {
		return err
	}
	return a.testListen(ctx, staged)
}

func includesConfD(conf string) bool {
	for line := range strings.Lines(conf) {
		line, _, _ = strings.Cut(line, "#")
		if words := strings.Fields(strings.ReplaceAll(line, "=", " ")); len(words) == 2 && words[0] == "include_dir" && strings.Trim(words[1], "'") == "conf.d" {
			return true
		}
	}
	return false
}

// testListen asks the server's program, which refuses to run as root, for the value it would read.
func (a *access) testListen(ctx context.Context, staged string) error {
	h, c := a.srv.service.host, a.srv.PostgreSQLCluster
	quote := func(s string) string { return strings.ReplaceAll(s, "'", "''") }
	scratch, err := a.staged.Scratch("test.conf", fmt.Appendf(nil, "include '%s'\ninclude '%s'\n",
		quote(h.Path(path.Join(c.ConfDir, "postgresql.conf"))), quote(h.Path(staged))))
	if err != nil {
		return err
	}
	if err := errors.Join(h.Chmod(stagingDir(c), 0o711), h.Chmod(scratch, 0o644)); err != nil {
		return err
	}
	out, err := h.Run(ctx, host.Cmd{Path: path.Join(c.BinDir, "postgres"), Dir: "/", UID: a.srv.user.UID, GID: a.srv.user.GID, Groups: a.srv.user.Groups,
		Args: []string{"-D", h.Path(a.srv.dataDir), "-c", "config_file=" + h.Path(scratch), "-C", "listen_addresses"}})
	if failed, ok := errors.AsType[*host.CommandError](err); ok && failed.Err == nil {
		return &agentapi.Error{Kind: agentapi.KindConfigTest, Class: "InitdError", Err: err,
			Text: "the server does not accept its configuration: " + strings.TrimSpace(string(failed.Output.Stderr))}
	}
	if err != nil {
		return err
	}
	if got := strings.TrimSpace(string(out.Stdout)); got != "*" {
		return agentapi.Errorf(agentapi.KindConfigTest, "InitdError", "something overrules %s: the server would listen on %q", listenPath(c), got)
	}
	return nil
}

// tell checks pg_hba.conf in place, which the server has not read yet, and makes the server read the files.
func (a *access) tell(ctx context.Context, restart bool) error {
	wrong, err := a.srv.value(ctx, "SELECT 'line ' || line_number || ': ' || error FROM pg_hba_file_rules WHERE error IS NOT NULL LIMIT 1")
	if err != nil {
		return err
	}
	if wrong != "" {
		return agentapi.Errorf(agentapi.KindConfigTest, "InitdError", "the server does not accept its pg_hba.conf: %s", wrong)
	}
	if !restart {
		a.reloaded = true
		return a.srv.reload(ctx)
	}
	a.restarted = true
	if err := a.srv.restart(ctx); err != nil {
		return err
	}
	listens, err := a.srv.value(ctx, "SHOW listen_addresses")
	if err == nil && listens != "*" {
		err = agentapi.Errorf(agentapi.KindConfigTest, "InitdError", "something overrules %s: the server listens on %q", listenPath(a.srv.PostgreSQLCluster), listens)
	}
	return err
}

func (a *access) commit() error {
	err := a.staged.Commit()
	if err == nil {
		a.done = true
		a.change.Commit()
	}
	return err
}

// rollback puts the files back and makes the server read them, unless the change was committed.
func (a *access) rollback(ctx context.Context) {
	if a.done {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Minute)
	defer cancel()
	var err error
	if a.staged != nil {
		err = a.staged.Rollback()
	}
	err = errors.Join(err, a.change.Rollback())
	switch {
	case a.restarted:
		err = errors.Join(err, a.srv.restart(ctx))
	case a.reloaded:
		err = errors.Join(err, a.srv.reload(ctx))
	}
	if err != nil {
		a.srv.service.log.Error("take back who may connect", "err", err)
	}
}

// recover takes back a change that was interrupted. A running server may have read it, and is told.
func (s *Service) recover(ctx context.Context, c host.PostgreSQLCluster) error {
	undone, err := s.host.RecoverStaged(stagingDir(c), host.Readers{})
	if err != nil || !undone {
		return err
	}
	s.log.Warn("took back a change of PostgreSQL's configuration that was interrupted")
	srv, err := s.serverOf(c)
	if err != nil { // it does not run; it may have died of the change
		state, err := s.host.Units().State(ctx, c.Unit)
		if err != nil || state.Active != "failed" {
			return err
		}
		return s.restartUnit(ctx, c)
	}
	if err := srv.reload(ctx); err != nil {
		return err
	}
	pending, err := srv.value(ctx, "SELECT 1 FROM pg_settings WHERE pending_restart LIMIT 1")
	if err != nil || pending == "" {
		return err
	}
	return srv.restart(ctx)
}

// reload makes the server read its files and returns when new connections see that it did.
func (srv *server) reload(ctx context.Context) error {
	before, err := srv.value(ctx, "SELECT pg_conf_load_time() FROM (SELECT pg_conf_load_time() AS t) q, pg_reload_conf()")
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	for {
		now, err := srv.value(ctx, "SELECT pg_conf_load_time()")
		if err != nil {
			return err
		}
		if now != before {
			return nil
		}
		select {
		case <-ctx.Done():
			return unavailable(ctx.Err(), "it does not read its configuration again")
		case <-time.After(pollInterval):
		}
	}
}

// restart restarts the server and finds it again: its socket may lie elsewhere now.
func (srv *server) restart(ctx context.Context) error {
	s := srv.service
	if err := s.host.Units().Restart(ctx, srv.Unit); err != nil {
		return err
	}
	if err := s.waitUntilReady(ctx, srv.PostgreSQLCluster); err != nil {
		return err
	}
	again, err := s.serverOf(srv.PostgreSQLCluster)
	if err == nil {
		*srv = *again
	}
	return err
}
