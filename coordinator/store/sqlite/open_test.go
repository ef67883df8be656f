package sqlite

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/reeve-paas/reeve/coordinator/core"
	"github.com/reeve-paas/reeve/coordinator/operation"
	"github.com/reeve-paas/reeve/crypto/keyring"
)

func wantError(t *testing.T, err error, texts ...string) {
	t.Helper()
	if err == nil {
		t.Fatal("got no error")
	}
	for _, text := range texts {
		if !strings.Contains(err.Error(), text) {
			t.Errorf("got error %q, want it to say %q", err, text)
		}
	}
}

func TestASecondCoordinatorIsRefused(t *testing.T) {
	dir := t.TempDir()
	first := openAt(t, dir)
	_, err := tryOpen(t, dir)
	wantError(t, err, "in use by another coordinator", strings.TrimSpace(pidText()), "stop it first")
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	openAt(t, dir).Close()
}

func TestACommandWorksBesideTheCoordinator(t *testing.T) {
	dir := t.TempDir()
	beside := Options{Path: filepath.Join(dir, "reeve.db"), Beside: true}
	var err error
	if beside.Sealer, err = keyring.OpenSealer(filepath.Join(dir, "master")); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(t.Context(), beside); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("without a database: got error %v, want that it does not exist", err)
	}
	s := openAt(t, dir)
	defer s.Close()
	other, err := Open(t.Context(), beside)
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	a := core.Account{Email: "a"}
	app := core.App{Name: "shop"}
	err = other.Update(t.Context(), func(tx core.Tx) error {
		if err := tx.PutAccount(&a); err != nil {
			return err
		}
		app.AccountID = a.ID
		return tx.PutApp(&app)
	})
	if err != nil {
		t.Fatal(err)
	}
	wantName := func(want string) {
		t.Helper()
		err := s.View(t.Context(), func(r core.Reader) error {
			apps, err := r.Apps(a.ID, 0, 0)
			if len(apps) != 1 || apps[0].Name != want {
				t.Errorf("got apps %+v, want the one that the other process named %q", apps, want)
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	wantName("shop")
	app.Name = "store"
	if err := other.Update(t.Context(), func(tx core.Tx) error { return tx.PutApp(&app) }); err != nil {
		t.Fatal(err)
	}
	wantName("store")
}

func TestADatabaseOfANewerCoordinatorIsRefused(t *testing.T) {
	for name, statement := range map[string]string{
		"our tables":   "INSERT INTO goose_db_version (version_id, is_applied) VALUES (999, 1)",
		"queue tables": "INSERT INTO river_migration (line, version) VALUES ('main', 999)",
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			s := openAt(t, dir)
			if _, err := s.write.db.ExecContext(t.Context(), statement); err != nil {
				t.Fatal(err)
			}
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			_, err := tryOpen(t, dir)
			wantError(t, err, "newer coordinator", "999", "install that version")
		})
	}
}

func TestAFileThatIsNoDatabaseIsRefused(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "reeve.db"), []byte(strings.Repeat("not a database ", 500)), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := tryOpen(t, dir)
	wantError(t, err, "reeve.db")
}

func TestNobodyElseReadsTheFiles(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "reeve.db")
	if err := os.WriteFile(path, nil, 0o644); err != nil { // an empty file is an empty database
		t.Fatal(err)
	}
	s := openAt(t, dir)
	defer s.Close()
	for _, suffix := range []string{"", "-wal", "-shm", ".lock"} {
		info, err := os.Stat(path + suffix)
		if err != nil {
			t.Error(err)
		} else if info.Mode().Perm() != 0o600 {
			t.Errorf("%s: got mode %v, want 0600", info.Name(), info.Mode().Perm())
		}
	}
}

func TestPathsNeedNoEscaping(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a b%20?x=1#y")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	openAt(t, dir).Close()
	if _, err := os.Stat(filepath.Join(dir, "reeve.db")); err != nil {
		t.Error(err)
	}
}

func TestConnectionsAreSetUp(t *testing.T) {
	s := openAt(t, t.TempDir())
	defer s.Close()
	for _, c := range []struct {
		pool    *pool
		pragma  string
		want    string
		meaning string
	}{
		{s.write, "journal_mode", "wal", "readers do not wait for writers"},
		{s.write, "synchronous", "2", "a commit survives a power cut"},
		{s.write, "foreign_keys", "1", "references are checked"},
		{s.write, "busy_timeout", "10000", "others may hold the database for a while"},
		{s.read, "query_only", "1", "readers cannot write"},
		{s.read, "busy_timeout", "10000", "others may hold the database for a while"},
	} {
		var got string
		if err := c.pool.db.QueryRowContext(t.Context(), "PRAGMA "+c.pragma).Scan(&got); err != nil || got != c.want {
			t.Errorf("%s (%s): got %q, error %v, want %q", c.pragma, c.meaning, got, err, c.want)
		}
	}
}

func TestASealedSecretOfAnotherRowDoesNotOpen(t *testing.T) {
	s := openAt(t, t.TempDir())
	defer s.Close()
	a, b := core.Node{Key: "a", AgentKey: []byte("key a")}, core.Node{Key: "b", AgentKey: []byte("key b")}
	err := s.Update(t.Context(), func(tx core.Tx) error { return errors.Join(tx.PutNode(&a), tx.PutNode(&b)) })
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.write.db.ExecContext(t.Context(), "UPDATE node SET agent_key = (SELECT agent_key FROM node WHERE key = 'a')"); err != nil {
		t.Fatal(err)
	}
	err = s.View(t.Context(), func(r core.Reader) error { _, err := r.Node(b.ID); return err })
	if core.KindOf(err) != core.Internal || !errors.Is(err, keyring.ErrBlob) {
		t.Errorf("got error %v, want an internal one about the sealed secret", err)
	}
}

func TestABusyDatabaseIsUnavailable(t *testing.T) {
	dir := t.TempDir()
	s := openAt(t, dir)
	defer s.Close()
	if _, err := s.write.db.ExecContext(t.Context(), "PRAGMA busy_timeout = 1"); err != nil {
		t.Fatal(err)
	}
	other, err := openPool(filepath.Join(dir, "reeve.db"), 1, "immediate")
	if err != nil {
		t.Fatal(err)
	}
	defer other.close()
	hold, err := other.db.BeginTx(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	tries := 0
	write := func(tx core.Tx) error { tries++; return tx.PutAccount(&core.Account{Email: "a"}) }
	err = s.Update(t.Context(), write)
	if e, ok := errors.AsType[*core.Error](err); !ok || e.Kind != core.Unavailable || !e.Temporary() || tries != 0 {
		t.Errorf("got error %v after %d runs of fn, want Unavailable before the first", err, tries)
	}
	done := make(chan error, 1)
	go func() { done <- s.Update(t.Context(), write) }()
	hold.Rollback()
	if err := <-done; err != nil || tries != 1 {
		t.Errorf("once the database is free: got error %v after %d runs of fn, want success after one", err, tries)
	}
}

// seedOperations stores n finished operations, each a group with one step and River's finished job.
func seedOperations(t testing.TB, s *Store, n int) {
	t.Helper()
	for _, statement := range []string{
		`INSERT INTO operation_group (id, ended_at) WITH RECURSIVE c(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM c WHERE i < ?1)
			SELECT 'old-' || i, 1 FROM c`,
		`INSERT INTO operation (id, group_id, seq, kind, account_id, subject, status, steps, created_at, updated_at, ended_at)
			WITH RECURSIVE c(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM c WHERE i < ?1)
			SELECT 'old-' || i, 'old-' || i, 0, 'k', 'acc', 'app' || (i % 100), 'completed', 1, 1, 1, 1 FROM c`,
		`INSERT INTO operation_step (operation_id, seq, name, done, undone, started_at, ended_at, attempts)
			WITH RECURSIVE c(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM c WHERE i < ?1) SELECT 'old-' || i, 0, 's', 1, 0, 1, 1, 1 FROM c`,
		`INSERT INTO river_job (args, kind, max_attempts, state, finalized_at)
			WITH RECURSIVE c(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM c WHERE i < ?1)
			SELECT json_object('group_id', 'old-' || i), 'operation_group', 1000, 'completed', datetime('now', 'subsec') FROM c`,
	} {
		if n == 0 {
			return
		}
		if _, err := s.write.db.ExecContext(t.Context(), statement, n); err != nil {
			t.Fatal(err)
		}
	}
}

// TestNoStatementReadsAllOperations asks SQLite how it would find the rows: through an index, whatever has finished.
func TestNoStatementReadsAllOperations(t *testing.T) {
	s := openAt(t, t.TempDir())
	defer s.Close()
	seedOperations(t, s, 1000)
	statements := map[string]string{
		"Operation": operationByNum, "Group": groupByID, "Group operations": operationsOfGroup, "Group steps": stepsOfGroup,
		"CancelRequested": cancelAsked, "Start": operationStart, "Complete": operationEnd, "StepDone": stepPut,
		"StepDone progress": operationProgress, "StepUndone": stepUndone, "BeginUndo": groupUndo, "EndGroup": groupEnd,
		"RequestCancel": groupsToCancel, "RequestCancel of a group": groupToCancel, "cancel": groupCancel,
		"Requeue": groupsUnfinished, "Requeue jobs": jobsFree, "Requeue live jobs": jobsLive, "fetch": jobWaits,
	}
	for name, f := range map[string]core.OperationFilter{
		"account": {Account: "a"}, "subject": {Subject: "s"}, "group": {GroupID: "g"}, "unfinished": {Unfinished: true},
		"unfinished of the account": {Account: "a", Unfinished: true}, "unfinished of the subject": {Subject: "s", Unfinished: true},
		"unfinished of both": {Account: "a", Subject: "s", Unfinished: true},
	} {
		statements["Operations: "+name], _ = operationsQuery(f)
	}
	for _, analyzed := range []bool{false, true} {
		if analyzed {
			if _, err := s.write.db.ExecContext(t.Context(), "ANALYZE"); err != nil {
				t.Fatal(err)
			}
		}
		for name, statement := range statements {
			for _, line := range plan(t, s, statement) {
				fromFew := strings.Contains(line, "operation_unfinished") || strings.Contains(line, "operation_group_unfinished")
				if strings.HasPrefix(line, "SCAN") && !fromFew && line != "SCAN CONSTANT ROW" {
					t.Errorf("%s (analyzed: %v) reads everything: %s", name, analyzed, line)
				}
				if strings.Contains(name, "unfinished") && strings.HasPrefix(line, "SEARCH") && !fromFew {
					t.Errorf("%s (analyzed: %v) reads what has finished: %s", name, analyzed, line)
				}
				if strings.HasPrefix(name, "Requeue") && strings.Contains(line, "river_job_kind") {
					t.Errorf("%s (analyzed: %v) reads jobs of every state: %s", name, analyzed, line)
				}
			}
		}
	}
}

func TestAppsAreListedFromTheirIndexAlone(t *testing.T) {
	s := openAt(t, t.TempDir())
	defer s.Close()
	for statement, want := range map[string]string{
		appRefs:      "SEARCH app USING COVERING INDEX app_list (account_id=?)",
		nodesOfApps:  "SEARCH n USING INDEX node_app (app_id=?)",
		routesOfApps: "SEARCH r USING INDEX route_app (app_id=?)",
		appsByNums:   "SEARCH app USING INTEGER PRIMARY KEY (rowid=?)",
	} {
		lines := plan(t, s, statement)
		if lines[0] != want || slices.ContainsFunc(lines, func(l string) bool { return strings.Contains(l, "TEMP B-TREE") }) {
			t.Errorf("%s: got the plan %q, want %q and nothing sorted", statement, lines, want)
		}
	}
}

func plan(t *testing.T, s *Store, statement string) []string {
	t.Helper()
	args := make([]any, strings.Count(statement, "?"))
	rows, err := s.write.db.QueryContext(t.Context(), "EXPLAIN QUERY PLAN "+statement, args...)
	if err != nil {
		t.Fatalf("%s: %v", statement, err)
	}
	defer rows.Close()
	var lines []string
	for rows.Next() {
		var id, parent, unused int
		var detail string
		if err := rows.Scan(&id, &parent, &unused, &detail); err != nil {
			t.Fatal(err)
		}
		lines = append(lines, detail)
	}
	return lines
}

func TestLostJobsOfUnfinishedGroupsComeBack(t *testing.T) {
	s := openAt(t, t.TempDir())
	defer s.Close()
	seedOperations(t, s, 10)
	var ids []string
	for range 3 {
		g := operation.Group{Operations: []operation.Record{{Kind: "k"}}}
		if err := s.Update(t.Context(), func(tx core.Tx) error { return tx.Enqueue(&g) }); err != nil {
			t.Fatal(err)
		}
		ids = append(ids, g.ID)
	}
	for _, c := range []struct{ statement, id string }{
		{"UPDATE river_job SET state = 'running' WHERE json_extract(args, '$.group_id') = ?", ids[0]},
		{"UPDATE river_job SET state = 'discarded', finalized_at = datetime('now') WHERE json_extract(args, '$.group_id') = ?", ids[1]},
		{"UPDATE river_job SET state = 'scheduled', scheduled_at = datetime('now', '+1 day') WHERE json_extract(args, '$.group_id') = ?", ids[2]},
	} {
		if _, err := s.write.db.ExecContext(t.Context(), c.statement, c.id); err != nil {
			t.Fatal(err)
		}
	}
	if n, err := s.Requeue(t.Context()); n != 3 || err != nil {
		t.Fatalf("got %d groups, error %v, want 3", n, err)
	}
	for _, id := range ids {
		if available, unfinished := jobs(t, s, id); available != 1 || unfinished != 1 {
			t.Errorf("got %d jobs that are available now and %d unfinished ones for a group, want the same one", available, unfinished)
		}
	}
}

func jobs(t *testing.T, s *Store, group string) (available, unfinished int) {
	t.Helper()
	err := s.write.db.QueryRowContext(t.Context(), `SELECT count(*), count(*) FILTER (WHERE state = 'available'
		AND scheduled_at <= datetime('now', 'subsec')) FROM river_job
		WHERE finalized_at IS NULL AND json_extract(args, '$.group_id') = ?`, group).Scan(&unfinished, &available)
	if err != nil {
		t.Fatal(err)
	}
	return available, unfinished
}
