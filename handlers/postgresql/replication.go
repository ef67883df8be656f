package postgresql

import (
	"context"
	"errors"
	"path"
	"regexp"
	"strconv"

	"github.com/reeve-paas/reeve/agent/agentapi"
	"github.com/reeve-paas/reeve/handlers"
)

// replicationQuery tells: a standby or not; whether it replays, in seconds behind; whether anything feeds it. A standby that
// has replayed all it received is not behind, however long ago that was.
const replicationQuery = `SELECT pg_is_in_recovery(),
 CASE WHEN NOT pg_is_in_recovery() THEN NULL
  WHEN pg_last_wal_receive_lsn() = pg_last_wal_replay_lsn() THEN 0
  ELSE trunc(extract(epoch FROM now() - pg_last_xact_replay_timestamp())) END,
 EXISTS (SELECT 1 FROM pg_stat_wal_receiver WHERE status = 'streaming') OR current_setting('restore_command', true) <> ''`

// ReplicationStatus asks the server itself what it is (spec agent-core 6.5). A standby that nothing feeds is down, though it
// answers: Scalarizr took it for up, without delay.
func (s *Service) ReplicationStatus(ctx context.Context, _ handlers.NoParams) (agentapi.ReplicationStatus, error) {
	standby := func(r agentapi.ReplicationRole) (agentapi.ReplicationStatus, error) {
		return agentapi.ReplicationStatus{Slave: &r}, nil
	}
	rows, err := s.ask(ctx, replicationQuery)
	if err != nil {
		e, ok := errors.AsType[*agentapi.Error](err)
		if ok && e.Kind != agentapi.KindUnsupported && s.isStandby() {
			return standby(agentapi.ReplicationRole{Error: e.Text})
		}
		return agentapi.ReplicationStatus{}, err
	}
	row := rows[0]
	if row[0] != "t" {
		return agentapi.ReplicationStatus{Master: &agentapi.ReplicationRole{Up: true}}, nil
	}
	delay, err := strconv.Atoi(row[1])
	switch {
	case err != nil: // nothing was replayed yet
		return standby(agentapi.ReplicationRole{})
	case row[2] != "t":
		return standby(agentapi.ReplicationRole{Error: "the standby receives nothing from its primary"})
	}
	return standby(agentapi.ReplicationRole{Up: true, Delay: &delay})
}

// ask runs a query on the server, if it runs.
func (s *Service) ask(ctx context.Context, query string) ([][]string, error) {
	srv, err := s.server()
	if err != nil {
		return nil, err
	}
	return srv.query(ctx, superuser, query)
}

var replicationMaster = regexp.MustCompile(`(?m)^\s*replication_master\s*=\s*([01])\s*$`)

// isStandby says what a server that does not answer would be: the server's own mark, before PostgreSQL 12 recovery.conf, or
// else what Scalarizr wrote down.
func (s *Service) isStandby() bool {
	c, err := s.cluster()
	if err != nil {
		return false
	}
	for _, mark := range []string{"standby.signal", "recovery.conf"} {
		if s.host.Exists(path.Join(s.dataDir(c), mark)) {
			return true
		}
	}
	text, _ := s.host.ReadFile("/etc/scalr/private.d/postgresql.ini")
	m := replicationMaster.FindSubmatch(text)
	return m != nil && string(m[1]) == "0"
}
