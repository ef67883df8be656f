package metrics

import (
	"context"
	"slices"

	"github.com/prometheus/client_golang/prometheus"
)

// PostgreSQL shows the host's PostgreSQL server. A host without one shows nothing.
type PostgreSQL struct {
	Stats func(context.Context) (stats PostgreSQLStats, installed bool, err error)
}

// PostgreSQLStats are the figures of one moment.
type PostgreSQLStats struct {
	Up             bool
	Standby        bool
	Lag            float64 // seconds a standby is behind; -1 when it is not known
	Connections    float64
	MaxConnections float64
	Commits        float64
	Rollbacks      float64
	DatabaseBytes  map[string]float64
}

var (
	postgresUp             = desc("postgresql_up", "Whether the PostgreSQL server answers.")
	postgresStandby        = desc("postgresql_standby", "Whether the PostgreSQL server is a standby.")
	postgresLag            = desc("postgresql_replication_lag_seconds", "Time since the last replayed commit of a standby; 0 when it has replayed all it received.")
	postgresConnections    = desc("postgresql_connections", "Client connections to the PostgreSQL server, without the agent's.")
	postgresMaxConnections = desc("postgresql_connections_limit", "Client connections that the PostgreSQL server takes at most.")
	postgresTransactions   = desc("postgresql_transactions_total", "Transactions of the PostgreSQL server that ended.", "result")
	postgresDatabaseSize   = desc("postgresql_database_size_bytes", "Disk space of a database.", "database")
)

// Name implements Collector.
func (c PostgreSQL) Name() string { return "postgresql" }

// Collect implements Collector.
func (c PostgreSQL) Collect(ctx context.Context, ch chan<- prometheus.Metric) error {
	s, installed, err := c.Stats(ctx)
	if err != nil || !installed {
		return err
	}
	ch <- gauge(postgresUp, boolean(s.Up))
	if !s.Up {
		return nil
	}
	ch <- gauge(postgresStandby, boolean(s.Standby))
	if s.Standby && s.Lag >= 0 {
		ch <- gauge(postgresLag, s.Lag)
	}
	ch <- gauge(postgresConnections, s.Connections)
	ch <- gauge(postgresMaxConnections, s.MaxConnections)
	ch <- counter(postgresTransactions, s.Commits, "commit")
	ch <- counter(postgresTransactions, s.Rollbacks, "rollback")
	names := make([]string, 0, len(s.DatabaseBytes))
	for name := range s.DatabaseBytes {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		ch <- gauge(postgresDatabaseSize, s.DatabaseBytes[name], name)
	}
	return nil
}
