package postgresql

import (
	"context"
	"strconv"
)

// Stats are figures of the server, for metrics.
type Stats struct {
	Up             bool
	Standby        bool
	Lag            float64 // seconds a standby is behind; -1 when it is not known
	Connections    float64
	MaxConnections float64
	Commits        float64
	Rollbacks      float64
	DatabaseBytes  map[string]float64
}

const statsQuery = `SELECT 'standby', CASE WHEN pg_is_in_recovery() THEN 1 ELSE 0 END
UNION ALL SELECT 'lag', CASE WHEN NOT pg_is_in_recovery() THEN -1
 WHEN pg_last_wal_receive_lsn() = pg_last_wal_replay_lsn() THEN 0
 ELSE coalesce(extract(epoch FROM now() - pg_last_xact_replay_timestamp()), -1) END
UNION ALL SELECT 'connections', count(*) FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()
UNION ALL SELECT 'max', current_setting('max_connections')::numeric
UNION ALL SELECT 'commits', coalesce(sum(xact_commit), 0) FROM pg_stat_database
UNION ALL SELECT 'rollbacks', coalesce(sum(xact_rollback), 0) FROM pg_stat_database
UNION ALL SELECT 'size ' || datname, pg_database_size(oid) FROM pg_database WHERE NOT datistemplate`

// Stats reads the figures with one query. ok is false on a host without PostgreSQL; a server that does not run costs no
// command.
func (s *Service) Stats(ctx context.Context) (st Stats, ok bool, err error) {
	c, ok := s.host.PostgreSQL()
	if !ok {
		return st, false, nil
	}
	srv, err := s.serverOf(c)
	if err != nil {
		return st, true, nil
	}
	rows, err := srv.query(ctx, superuser, statsQuery)
	if err != nil {
		return st, true, nil // it does not answer: that is what Up says
	}
	st.Up, st.DatabaseBytes = true, map[string]float64{}
	for _, row := range rows {
		if len(row) != 2 {
			continue // a database whose name has a line break
		}
		v, err := strconv.ParseFloat(row[1], 64)
		if err != nil {
			return st, true, err
		}
		switch row[0] {
		case "standby":
			st.Standby = v == 1
		case "lag":
			st.Lag = v
		case "connections":
			st.Connections = v
		case "max":
			st.MaxConnections = v
		case "commits":
			st.Commits = v
		case "rollbacks":
			st.Rollbacks = v
		default:
			st.DatabaseBytes[row[0][len("size "):]] = v
		}
	}
	return st, true, nil
}
