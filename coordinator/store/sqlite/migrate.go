package sqlite

import (
	"context"
	"database/sql"
	"embed"
	"fmt"
	"io/fs"
	"log/slog"

	"github.com/pressly/goose/v3"
	"github.com/riverqueue/river/rivermigrate"
)

//go:embed migration/*.sql
var migrations embed.FS

// migrate brings our tables and River's up to what this program knows. A file that a newer program wrote is refused: its
// tables may mean something else.
func (s *Store) migrate(ctx context.Context) error {
	files, err := fs.Sub(migrations, "migration")
	if err != nil {
		return err
	}
	ours, err := goose.NewProvider(goose.DialectSQLite3, s.write.db, files, goose.WithDisableGlobalRegistry(true))
	if err != nil {
		return fmt.Errorf("read the migrations: %w", err)
	}
	have, want, err := ours.GetVersions(ctx)
	if err != nil {
		return fmt.Errorf("read the version of the tables: %w", err)
	}
	if have > want {
		return newer("tables", have, want)
	}
	river, err := rivermigrate.New(s.driver, &rivermigrate.Config{Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		return fmt.Errorf("read the queue's migrations: %w", err)
	}
	queueHas, queueWants, err := queueVersions(ctx, s.write.db, river.AllVersions())
	if err != nil {
		return err
	}
	switch {
	case queueHas > queueWants:
		return newer("queue tables", queueHas, queueWants)
	case have == want && queueHas == queueWants:
		return nil
	case s.opts.Beside:
		return fmt.Errorf("the tables have version %d and this program needs %d: start the coordinator once, it brings them up to date", have, want)
	}
	if _, err := ours.Up(ctx); err != nil {
		return fmt.Errorf("bring the tables up to date: %w", err)
	}
	if _, err := river.Migrate(ctx, rivermigrate.DirectionUp, nil); err != nil {
		return fmt.Errorf("bring the queue's tables up to date: %w", err)
	}
	s.opts.Log.Info("database brought up to date", "version", want, "from", have)
	return nil
}

func newer(what string, have, want int64) error {
	return fmt.Errorf("a newer coordinator wrote this database (%s have version %d, this program knows %d): install that version again, or restore a backup from before",
		what, have, want)
}

// queueVersions asks the table itself: the migrator fails on versions that it does not know.
func queueVersions(ctx context.Context, db *sql.DB, known []rivermigrate.Migration) (have, want int64, err error) {
	for _, m := range known {
		want = max(want, int64(m.Version))
	}
	var tables int
	err = db.QueryRowContext(ctx, "SELECT count(*) FROM sqlite_master WHERE type = 'table' AND name = 'river_migration'").Scan(&tables)
	if err == nil && tables > 0 {
		err = db.QueryRowContext(ctx, "SELECT coalesce(max(version), 0) FROM river_migration").Scan(&have)
	}
	if err != nil {
		return 0, 0, fmt.Errorf("read the version of the queue's tables: %w", err)
	}
	return have, want, nil
}
