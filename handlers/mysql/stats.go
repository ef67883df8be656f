package mysql

import (
	"context"
	"errors"
	"strconv"
)

// Stats are figures of the server, for metrics.
type Stats struct {
	Up             bool
	Connections    float64
	MaxConnections float64
	Queries        float64
	SlowQueries    float64
}

// Stats reads the figures with one connection. ok is false on a host without a server; one that does not run has no socket.
func (s *Service) Stats(ctx context.Context) (st Stats, ok bool, err error) {
	layout := s.host.Layout()
	if !s.host.Exists(layout.MySQLDaemon) {
		return st, false, nil
	}
	if !s.host.Exists(layout.MySQLSocket) {
		return st, true, nil
	}
	values := map[string]float64{}
	var parseErr error
	number := func(text string) float64 {
		v, err := strconv.ParseFloat(text, 64)
		parseErr = errors.Join(parseErr, err)
		return v
	}
	err = s.read(ctx, func(c *conn) error {
		err := c.rows(func(col []string) { values[col[0]] = number(col[1]) }, 2,
			"SHOW GLOBAL STATUS WHERE Variable_name IN ('Threads_connected', 'Queries', 'Slow_queries')")
		if err != nil {
			return err
		}
		return c.rows(func(col []string) { st.MaxConnections = number(col[0]) }, 1, "SELECT @@max_connections")
	})
	if err != nil {
		return Stats{}, true, nil // it does not answer: that is what Up says
	}
	st.Up, st.Connections, st.Queries, st.SlowQueries = true, values["Threads_connected"]-1 /* ours */, values["Queries"], values["Slow_queries"]
	return st, true, parseErr
}
