package sqlite

import (
	"context"
	"database/sql"

	"github.com/riverqueue/river/riverdriver"
	"github.com/riverqueue/river/rivertype"
)

// jobWaits searches an index for the first job; it does not matter when it is due.
const jobWaits = `SELECT EXISTS (SELECT 1 FROM river_job WHERE state = 'available' AND queue = ?)`

// driver is River's, made cheap while there is nothing to do. River asks for work many times a second with a statement
// that is compiled every time and waits for the connection that writes: about a millisecond, more than an idle
// coordinator may use. Ours asks a reader first, with a prepared statement.
type driver struct {
	riverdriver.Driver[*sql.Tx]
	store *Store
}

func (d driver) GetExecutor() riverdriver.Executor { return executor{d.Driver.GetExecutor(), d.store} }

type executor struct {
	riverdriver.Executor
	store *Store
}

func (e executor) JobGetAvailable(ctx context.Context, p *riverdriver.JobGetAvailableParams) ([]*rivertype.JobRow, error) {
	var waiting number
	err := e.store.read.stmts[jobWaits].QueryRowContext(ctx, p.Queue).Scan(&waiting)
	if err == nil && waiting == 0 {
		return nil, nil
	}
	return e.Executor.JobGetAvailable(ctx, p) // River reports what is wrong, if something is
}
