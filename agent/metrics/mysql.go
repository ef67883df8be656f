package metrics

import (
	"context"

	"github.com/prometheus/client_golang/prometheus"
)

// MySQL shows the host's MariaDB or MySQL server. A host without one shows nothing.
type MySQL struct {
	Stats func(context.Context) (stats MySQLStats, installed bool, err error)
}

// MySQLStats are the figures of one moment.
type MySQLStats struct {
	Up             bool
	Connections    float64
	MaxConnections float64
	Queries        float64
	SlowQueries    float64
}

var (
	mysqlUp             = desc("mysql_up", "Whether the MySQL server answers.")
	mysqlConnections    = desc("mysql_connections", "Client connections to the MySQL server, without the agent's.")
	mysqlMaxConnections = desc("mysql_connections_limit", "Client connections that the MySQL server takes at most.")
	mysqlQueries        = desc("mysql_queries_total", "Statements that the MySQL server ran.")
	mysqlSlowQueries    = desc("mysql_slow_queries_total", "Statements that took longer than the MySQL server's long_query_time.")
)

// Name implements Collector.
func (c MySQL) Name() string { return "mysql" }

// Collect implements Collector.
func (c MySQL) Collect(ctx context.Context, ch chan<- prometheus.Metric) error {
	s, installed, err := c.Stats(ctx)
	if err != nil || !installed {
		return err
	}
	ch <- gauge(mysqlUp, boolean(s.Up))
	if !s.Up {
		return nil
	}
	ch <- gauge(mysqlConnections, s.Connections)
	ch <- gauge(mysqlMaxConnections, s.MaxConnections)
	ch <- counter(mysqlQueries, s.Queries)
	ch <- counter(mysqlSlowQueries, s.SlowQueries)
	return nil
}
