package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"

	"github.com/reeve-paas/reeve/coordinator/core"
)

const busyRetries = 5

// View implements core.Store. fn sees the state at its first read, whatever is written meanwhile.
func (s *Store) View(ctx context.Context, fn func(core.Reader) error) error {
	return s.view(ctx, func(t *tx) error { return fn(t) })
}

// Update implements core.Store. Updates run one after the other.
func (s *Store) Update(ctx context.Context, fn func(core.Tx) error) error {
	return s.update(ctx, func(t *tx) error { return fn(t) })
}

func (s *Store) view(ctx context.Context, fn func(*tx) error) error {
	return s.run(ctx, s.read, &sql.TxOptions{ReadOnly: true}, fn)
}

func (s *Store) update(ctx context.Context, fn func(*tx) error) error {
	return s.run(ctx, s.write, nil, fn)
}

// run tries again when another process (a backup, a command beside us) holds the database longer than busy_timeout.
func (s *Store) run(ctx context.Context, p *pool, o *sql.TxOptions, fn func(*tx) error) error {
	pause := 20 * time.Millisecond
	for n := 1; ; n++ {
		err := s.once(ctx, p, o, fn)
		if n == busyRetries || !busy(err) {
			return err
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(pause/2 + rand.N(pause)):
			pause *= 2
		}
	}
}

func (s *Store) once(ctx context.Context, p *pool, o *sql.TxOptions, fn func(*tx) error) error {
	stx, err := p.db.BeginTx(ctx, o)
	if err != nil {
		return failure(err, "", "begin a transaction")
	}
	defer stx.Rollback() // does nothing after Commit
	t := &tx{store: s, ctx: ctx, sql: stx, stmts: p.stmts, writes: o == nil}
	if err := fn(t); err != nil {
		return err
	}
	if err := stx.Commit(); err != nil {
		return failure(err, "", "write to the database")
	}
	if t.enqueued {
		s.look.Store(true)
	}
	return nil
}

// tx is one transaction; it implements core.Tx, and core.Reader when it does not write. It ends before the call that
// brought the context does.
type tx struct {
	store  *Store
	ctx    context.Context
	sql    *sql.Tx
	stmts  map[string]*sql.Stmt
	writes bool

	enqueued bool // a group was put in line
}

func (t *tx) query(query string, args ...any) (*sql.Rows, error) {
	if stmt, ok := t.stmts[query]; ok {
		return t.sql.StmtContext(t.ctx, stmt).QueryContext(t.ctx, args...)
	}
	return t.sql.QueryContext(t.ctx, query, args...)
}

// exec returns how many rows it changed.
func (t *tx) exec(query string, args ...any) (int64, error) {
	var res sql.Result
	var err error
	if stmt, ok := t.stmts[query]; ok {
		res, err = t.sql.StmtContext(t.ctx, stmt).ExecContext(t.ctx, args...)
	} else {
		res, err = t.sql.ExecContext(t.ctx, query, args...)
	}
	if err != nil {
		return 0, err
	}
	return res.RowsAffected()
}

// put inserts when *num is 0, with a fresh number, and otherwise replaces the row that has it. Both statements take the
// same arguments; update takes the number as the last one.
func (t *tx) put(object core.Object, num *int64, insert, update string, args ...any) error {
	what := string(object)
	if *num != 0 {
		n, err := t.exec(update, append(args, *num)...)
		if err == nil && n == 0 {
			return core.Errorf(core.NotFound, object, "the %s does not exist any more", what)
		}
		return failure(err, object, "store the "+what)
	}
	rows, err := t.query(insert+" RETURNING num", args...)
	if err != nil {
		return failure(err, object, "store the "+what)
	}
	defer rows.Close()
	if rows.Next() {
		if err := rows.Scan(num); err != nil {
			return failure(err, object, "store the "+what)
		}
	}
	return failure(errors.Join(rows.Err(), rows.Close()), object, "store the "+what)
}

// drop deletes one row. What is not there is success: steps may run twice.
func (t *tx) drop(object core.Object, query string, key any) error {
	_, err := t.exec(query, key)
	return failure(err, object, "delete the "+string(object))
}

type scanner interface{ Scan(dest ...any) error }

// list reads all rows of a query. It returns nil when there are none.
func list[T any](t *tx, object core.Object, scan func(*tx, scanner, *T) error, query string, args ...any) ([]T, error) {
	doing := "read from " + string(object)
	rows, err := t.query(query, args...)
	if err != nil {
		return nil, failure(err, object, doing)
	}
	defer rows.Close()
	var all []T
	for rows.Next() {
		var v T
		if err := scan(t, rows, &v); err != nil {
			return nil, failure(err, object, doing)
		}
		all = append(all, v)
	}
	return all, failure(rows.Err(), object, doing)
}

// one reads the only row of a query.
func one[T any](t *tx, object core.Object, scan func(*tx, scanner, *T) error, query string, args ...any) (v T, err error) {
	all, err := list(t, object, scan, query, args...)
	if err != nil {
		return v, err
	}
	if len(all) == 0 {
		return v, core.Errorf(core.NotFound, object, "the %s does not exist", object)
	}
	return all[0], nil
}

// failure classifies an error of the database; classified ones stay as they are.
func failure(err error, object core.Object, doing string) error {
	if err == nil {
		return nil
	}
	if _, ok := errors.AsType[*core.Error](err); ok {
		return err
	}
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return core.Wrap(core.Unavailable, object, err, "%s: not in time", doing)
	}
	switch code := resultCode(err); {
	case code == sqlite3.SQLITE_CONSTRAINT_UNIQUE || code == sqlite3.SQLITE_CONSTRAINT_PRIMARYKEY:
		return core.Wrap(core.Exists, object, err, "the %s exists already", object)
	case code == sqlite3.SQLITE_CONSTRAINT_FOREIGNKEY:
		return core.Wrap(core.Internal, object, fmt.Errorf("something still refers to what was deleted, or refers to nothing: %w", err), "%s", doing)
	case busyCode(code):
		return core.Wrap(core.Unavailable, object, err, "the database is busy")
	case code&0xff == sqlite3.SQLITE_INTERRUPT:
		return core.Wrap(core.Unavailable, object, err, "%s: interrupted", doing)
	}
	return core.Wrap(core.Internal, object, err, "%s", doing)
}

func resultCode(err error) int {
	if e, ok := errors.AsType[*sqlite.Error](err); ok {
		return e.Code()
	}
	return 0
}

func busy(err error) bool { return busyCode(resultCode(err)) }

func busyCode(code int) bool {
	return code&0xff == sqlite3.SQLITE_BUSY || code&0xff == sqlite3.SQLITE_LOCKED
}
