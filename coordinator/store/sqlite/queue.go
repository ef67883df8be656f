package sqlite

import (
	"context"
	"database/sql"
	"sync/atomic"
	"time"

	"github.com/riverqueue/river/riverdriver"
	"github.com/riverqueue/river/rivertype"
)

// jobWaits searches an index for the first job; it does not matter when it is due.
const jobWaits = `SELECT EXISTS (SELECT 1 FROM river_job WHERE state = 'available' AND queue = ?)`

// lookAnyway is how often the table is asked although nothing was put in line here: jobs come due, and other processes
// put some in.
const lookAnyway = 100 * time.Millisecond

// driver is River's, made cheap while there is nothing to do. River asks for work many times a second, so that an operation
// starts at once, with a statement that is compiled every time and waits for the connection that writes: about a
// millisecond, more than an idle coordinator may use. Ours knows without asking whether this process put work in line, and
// otherwise asks a reader now and then, with a prepared statement.
type driver struct {
	riverdriver.Driver[*sql.Tx]
	store  *Store
	looked *atomic.Int64 // nanoseconds, when the table was asked last
}

func (d driver) GetExecutor() riverdriver.Executor {
	return executor{d.Driver.GetExecutor(), d.store, d.looked}
}

type executor struct {
	riverdriver.Executor
	store  *Store
	looked *atomic.Int64
}

func (e executor) JobGetAvailable(ctx context.Context, p *riverdriver.JobGetAvailableParams) ([]*rivertype.JobRow, error) {
	now := time.Now().UnixNano()
	if !e.store.look.Swap(false) && now-e.looked.Load() < int64(lookAnyway) {
		return nil, nil
	}
	e.looked.Store(now)
	var waiting number
	err := e.store.read.stmts[jobWaits].QueryRowContext(ctx, p.Queue).Scan(&waiting)
	if err == nil && waiting == 0 {
		return nil, nil
	}
	return e.Executor.JobGetAvailable(ctx, p) // River reports what is wrong, if something is
}
