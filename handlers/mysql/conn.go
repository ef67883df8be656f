package mysql

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"io/fs"
	"net"
	"syscall"
	"time"

	driverpkg "github.com/go-sql-driver/mysql"

	"github.com/reeve-paas/reeve/agent/agentapi"
)

const (
	dialTimeout      = 5 * time.Second
	statementTimeout = 10 * time.Minute // dropping a large database takes a while; the caller may give up earlier
)

type connectorFunc func() (driver.Connector, error)

// socketConnector logs in as root over the unix socket. No password is sent: the server asks the kernel who we are.
func (s *Service) socketConnector() (driver.Connector, error) {
	cfg := driverpkg.NewConfig()
	cfg.User, cfg.Net, cfg.Addr = "root", "unix", s.host.Path(s.host.Layout().MySQLSocket)
	cfg.Timeout, cfg.ReadTimeout, cfg.WriteTimeout = dialTimeout, statementTimeout, statementTimeout
	cfg.InterpolateParams = true // one round trip, and the driver minds NO_BACKSLASH_ESCAPES
	cfg.Logger = &driverpkg.NopLogger{}
	return driverpkg.NewConnector(cfg)
}

// conn is one connection to the server, for one call.
type conn struct {
	db  *sql.DB
	sql *sql.Conn
	ctx context.Context // of the call that owns this connection
}

func (s *Service) connect(ctx context.Context) (*conn, error) {
	connector, err := s.connector()
	if err != nil {
		return nil, err
	}
	db := sql.OpenDB(connector)
	c, err := db.Conn(ctx)
	if err != nil {
		db.Close()
		return nil, serverError(err)
	}
	return &conn{db: db, sql: c, ctx: ctx}, nil
}

func (c *conn) close() {
	c.sql.Close()
	c.db.Close()
}

func (c *conn) exec(statement string, args ...any) error {
	_, err := c.sql.ExecContext(c.ctx, statement, args...)
	return err
}

// undo runs a statement that takes back an earlier one; it must also run when the caller has gone.
func (c *conn) undo(statement string) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(c.ctx), dialTimeout)
	defer cancel()
	_, err := c.sql.ExecContext(ctx, statement)
	return err
}

// exists says whether a query returns a row.
func (c *conn) exists(query string, args ...any) (bool, error) {
	var one any
	err := c.sql.QueryRowContext(c.ctx, query, args...).Scan(&one)
	if errors.Is(err, sql.ErrNoRows) {
		return false, nil
	}
	return err == nil, err
}

// rows calls each for every row of a query of text columns.
func (c *conn) rows(each func(column []string), columns int, query string, args ...any) error {
	rows, err := c.sql.QueryContext(c.ctx, query, args...)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		values, into := make([]string, columns), make([]any, columns)
		for i := range values {
			into[i] = &values[i]
		}
		if err := rows.Scan(into...); err != nil {
			return err
		}
		each(values)
	}
	return rows.Err()
}

// Server error numbers, from MariaDB's error code list.
const (
	errAccessDenied         = 1045
	errUnknownCharset       = 1115
	errCollationMismatch    = 1253
	errUnknownCollation     = 1273
	errAccessDeniedNoPasswd = 1698
	errShutdown             = 1053
)

// serverError classifies what the driver or the server said. Statements never hold secrets, so its text may be passed on.
func serverError(err error) error {
	if err == nil {
		return nil
	}
	if e, ok := errors.AsType[*agentapi.Error](err); ok {
		return e
	}
	wrap := func(kind agentapi.Kind, class, text string) error {
		return &agentapi.Error{Kind: kind, Class: class, Text: text, Err: err}
	}
	if e, ok := errors.AsType[*driverpkg.MySQLError](err); ok {
		switch e.Number {
		case errUnknownCharset, errCollationMismatch, errUnknownCollation:
			return wrap(agentapi.KindInvalid, "ValueError", e.Message)
		case errAccessDenied, errAccessDeniedNoPasswd:
			return wrap(agentapi.KindUnavailable, "OperationalError",
				"the database server does not let root in over its socket; give root@localhost the unix_socket plug-in")
		case errShutdown:
			return wrap(agentapi.KindUnavailable, "OperationalError", "the database server is shutting down")
		}
		return wrap(agentapi.KindInternal, "OperationalError", e.Message)
	}
	_, network := errors.AsType[*net.OpError](err)
	if network || errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ECONNREFUSED) ||
		errors.Is(err, driver.ErrBadConn) || errors.Is(err, driverpkg.ErrInvalidConn) {
		return wrap(agentapi.KindUnavailable, "OperationalError",
			"the database server does not answer; start it with start_service")
	}
	return err
}
