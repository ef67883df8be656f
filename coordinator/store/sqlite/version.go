package sqlite

import (
	"context"
	"database/sql"
	"sync"

	"github.com/reeve-paas/reeve/coordinator/core"
)

// watch is one connection that only looks whether others committed something: SQLite counts that per connection
// (PRAGMA data_version), for commits of this process and of others.
type watch struct {
	mu    sync.Mutex // protects the fields below
	conn  *sql.Conn
	stmt  *sql.Stmt
	epoch int64 // counts connections: another one counts commits from another number on
}

// Version identifies the state of the database: while it stays the same, nothing was committed. It costs one look at the
// log's header, whatever the size of the database.
//
// Errors: unavailable
func (s *Store) Version(ctx context.Context) (int64, error) {
	s.watch.mu.Lock()
	defer s.watch.mu.Unlock()
	if s.watch.conn == nil {
		if err := s.watch.open(ctx, s.watching.db); err != nil {
			return 0, core.Wrap(core.Unavailable, "", err, "the database does not answer")
		}
	}
	var n int64
	// Waiting for ctx to end meanwhile would cost more than the look.
	if err := s.watch.stmt.QueryRowContext(context.WithoutCancel(ctx)).Scan(&n); err != nil {
		_ = s.watch.conn.Close()
		s.watch.conn = nil
		return 0, core.Wrap(core.Unavailable, "", err, "the database does not answer")
	}
	return s.watch.epoch<<32 | n&(1<<32-1), nil
}

func (w *watch) open(ctx context.Context, db *sql.DB) error {
	conn, err := db.Conn(ctx)
	if err != nil {
		return err
	}
	stmt, err := conn.PrepareContext(ctx, "PRAGMA data_version")
	if err != nil {
		_ = conn.Close()
		return err
	}
	w.conn, w.stmt, w.epoch = conn, stmt, w.epoch+1
	return nil
}

func (w *watch) close() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.conn != nil {
		_ = w.stmt.Close()
		_ = w.conn.Close()
		w.conn = nil
	}
}
