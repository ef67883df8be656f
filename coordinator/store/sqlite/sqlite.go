package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/riverqueue/river/riverdriver"
	"github.com/riverqueue/river/riverdriver/riversqlite"
	_ "modernc.org/sqlite" // the database/sql driver "sqlite"

	"github.com/reeve-paas/reeve/coordinator/core"
	"github.com/reeve-paas/reeve/coordinator/operation"
	"github.com/reeve-paas/reeve/coordinator/store"
)

const readers = 4 // connections that read

var (
	_ core.Store      = (*Store)(nil)
	_ operation.Store = (*Store)(nil)
)

// Options configure Open. Path and Sealer are needed.
type Options struct {
	Path   string // database file; made when it does not exist, in a directory that does
	Sealer store.Sealer
	Log    *slog.Logger
	Clock  core.Clock
	// Beside opens the file without taking the lock, for a short command next to a running coordinator. It changes no
	// tables: the file must have the schema of this program.
	Beside bool
}

// Store is one open database. Its methods may be called from any goroutine.
type Store struct {
	opts   Options
	lock   *os.File // nil when Beside
	write  *pool
	read   *pool
	driver riverdriver.Driver[*sql.Tx]
	queue  *operation.Queue
	apps   appCache
	look   atomic.Bool // work was put in line since the queue was looked at

	watching *pool // the connection of watch
	watch    watch
}

// Open opens the database and brings its tables up to date.
//
// Errors: another coordinator uses the file; a newer coordinator wrote it; the file cannot be opened or is no database
// Effects: Path, Path-wal, Path-shm and Path.lock, mode 0600
func Open(ctx context.Context, o Options) (_ *Store, err error) {
	if o.Sealer == nil {
		return nil, errors.New("open the database: Sealer is needed")
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Clock == nil {
		o.Clock = time.Now
	}
	s := &Store{opts: o}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.Close())
		}
	}()
	if !o.Beside {
		if s.lock, err = lockFile(o.Path); err != nil {
			return nil, err
		}
	}
	if err := private(o.Path, !o.Beside); err != nil {
		return nil, fmt.Errorf("open the database: %w", err)
	}
	if err := s.connect(ctx); err != nil {
		return nil, fmt.Errorf("open the database %s: %w", o.Path, err)
	}
	return s, nil
}

func (s *Store) connect(ctx context.Context) (err error) {
	if s.write, err = openPool(s.opts.Path, 1, "immediate", "journal_mode(WAL)", "synchronous(FULL)"); err != nil {
		return err
	}
	s.driver = driver{riversqlite.New(s.write.db), s, new(atomic.Int64)}
	if err := s.migrate(ctx); err != nil {
		return err
	}
	if s.queue, err = operation.NewQueue(s.driver, s.opts.Log); err != nil {
		return err
	}
	if s.read, err = openPool(s.opts.Path, readers, "deferred", "query_only(true)"); err != nil {
		return err
	}
	if s.watching, err = openPool(s.opts.Path, 1, "deferred", "query_only(true)"); err != nil {
		return err
	}
	if err := s.write.prepare(ctx, hotReads, hotWrites); err != nil {
		return err
	}
	return s.read.prepare(ctx, hotReads)
}

// Driver is what River works through; it shares the connection that writes.
func (s *Store) Driver() riverdriver.Driver[*sql.Tx] { return s.driver }

// Close closes the database and gives the lock back. No transaction may be open and no engine run.
func (s *Store) Close() error {
	s.watch.close()
	errs := []error{s.watching.close(), s.read.close(), s.write.close()} // the writer last: it folds the log into the file
	if s.lock != nil {
		errs = append(errs, s.lock.Close())
	}
	return errors.Join(errs...)
}

func (s *Store) now() time.Time { return s.opts.Clock().UTC().Truncate(time.Microsecond) }

// pool is a set of connections and the statements that were prepared for them. stmts does not change after Open: a
// statement that had to be prepared inside a transaction would wait for the connection that the transaction holds.
type pool struct {
	db    *sql.DB
	stmts map[string]*sql.Stmt
}

func openPool(path string, connections int, begin string, pragmas ...string) (*pool, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return nil, err
	}
	query := url.Values{"_txlock": {begin}, "_pragma": {"busy_timeout(10000)", "foreign_keys(true)"}}
	for _, p := range pragmas {
		query.Add("_pragma", p)
	}
	db, err := sql.Open("sqlite", "file:"+(&url.URL{Path: path}).EscapedPath()+"?"+query.Encode())
	if err != nil {
		return nil, err
	}
	db.SetMaxOpenConns(connections)
	db.SetMaxIdleConns(connections)
	return &pool{db: db, stmts: map[string]*sql.Stmt{}}, nil
}

func (p *pool) prepare(ctx context.Context, lists ...[]string) error {
	for _, list := range lists {
		for _, query := range list {
			stmt, err := p.db.PrepareContext(ctx, query)
			if err != nil {
				return fmt.Errorf("prepare %q: %w", query, err)
			}
			p.stmts[query] = stmt
		}
	}
	return nil
}

func (p *pool) close() error {
	if p == nil {
		return nil
	}
	return p.db.Close() // closes the statements too
}

// private makes the file before SQLite does, so that nobody else can ever read it. SQLite gives its log the same mode.
func private(path string, create bool) error {
	flags := os.O_RDWR
	if create {
		flags |= os.O_CREATE
	}
	f, err := os.OpenFile(path, flags, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	return f.Chmod(0o600)
}

func pidText() string { return strconv.Itoa(os.Getpid()) + "\n" }
