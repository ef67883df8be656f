package postgresql

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/md5"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/reeve-paas/reeve/agent/agentapi"
	"github.com/reeve-paas/reeve/handlers"
	"github.com/reeve-paas/reeve/handlers/host"
)

// fill makes databases with what a dump must carry.
func (b *bed) fill() {
	b.t.Helper()
	ctx, do := b.t.Context(), do(b.t)
	do(b.CreateDatabase(ctx, agentapi.CreateDatabaseParams{Name: "shop"}))
	do(b.CreateUser(ctx, agentapi.CreateDatabaseUserParams{Name: "anna", Password: "hunter2", Database: "shop"}))
	conn := must2(b.t)(b.login(here, "anna", "hunter2", "shop"))
	_, err := conn.Exec(ctx, `CREATE TABLE goods (id serial PRIMARY KEY, name text, pic bytea);
		INSERT INTO goods (name, pic) SELECT 'tea ''' || n || E''' ☕\n', decode(md5(n::text), 'hex') FROM generate_series(1, 5000) n;
		CREATE VIEW cheap AS SELECT * FROM goods WHERE id < 10;
		CREATE FUNCTION twice(n int) RETURNS int LANGUAGE sql AS 'SELECT n * 2'`)
	b.must(err)
}

// content is what a database holds, as text.
func (b *bed) content(database string) string {
	return b.admin(database, "SELECT count(*), md5(string_agg(id || name || encode(pic, 'hex'), ',' ORDER BY id)) FROM goods; SELECT * FROM cheap ORDER BY id; SELECT twice(21);"+
		"SELECT tablename, tableowner FROM pg_tables WHERE schemaname = 'public'; SELECT last_value FROM goods_id_seq")
}

func (b *bed) backupDir() string { return filepath.Join(b.dir, "backups", "postgresql") }

// wait returns the record of an operation that has ended.
func (b *bed) wait(id any) agentapi.Operation {
	b.t.Helper()
	for {
		op := must[agentapi.Operation](b.t)(b.ops.Result(id.(string)))
		if op.Status != agentapi.OperationInProgress {
			return op
		}
		select {
		case <-b.t.Context().Done():
			b.t.Fatal("the operation does not end")
		default:
			b.must(machineSleep(b.t.Context()))
		}
	}
}

// machineSleep waits for a moment, by a process of its own: nothing tells of an operation's end but asking.
func machineSleep(ctx context.Context) error { return exec.CommandContext(ctx, "sleep", "0.02").Run() }

func TestBackup(t *testing.T) {
	b := newBed(t)
	ctx := t.Context()
	b.fill()
	b.chunkSize = 40 << 10 // several chunks
	before := b.content("shop")

	id := must[any](t)(b.CreateBackup(ctx, agentapi.CreateBackupParams{}))
	op := b.wait(id)
	if op.Status != agentapi.OperationCompleted || op.Name != "postgresql.create-backup" {
		t.Fatalf("got %+v", op)
	}
	var parts []agentapi.BackupPart
	b.must(json.Unmarshal(must[[]byte](t)(json.Marshal(op.Result)), &parts))
	dirs := must[[]os.DirEntry](t)(os.ReadDir(b.backupDir()))
	if len(dirs) != 1 {
		t.Fatalf("got %v", dirs)
	}
	dir := filepath.Join(b.backupDir(), dirs[0].Name())
	var manifest host.Manifest
	b.must(json.Unmarshal(must[[]byte](t)(os.ReadFile(filepath.Join(dir, "manifest.json"))), &manifest))

	t.Run("73 one set of chunks for each database, as the manifest says", func(t *testing.T) {
		var names, listed []string
		for _, f := range manifest.Files {
			names = append(names, f.Name)
			for i, c := range f.Chunks {
				data := must[[]byte](t)(os.ReadFile(filepath.Join(dir, c.Name)))
				sum := md5.Sum(data)
				if c.MD5 != hex.EncodeToString(sum[:]) || c.Size != int64(len(data)) {
					t.Errorf("%s: the manifest says %+v", c.Name, c)
				}
				if want := f.Name + ".gz.00" + strconv.Itoa(i); c.Name != want {
					t.Errorf("got chunk %s, want %s", c.Name, want)
				}
				listed = append(listed, "file://"+dir+"/"+c.Name+" "+strconv.FormatInt(c.Size, 10))
			}
		}
		if want := []string{"postgres.sql", "shop.sql"}; !slices.Equal(names, want) {
			t.Errorf("got %v, want %v", names, want)
		}
		if len(manifest.Files[1].Chunks) < 2 {
			t.Errorf("got %d chunks", len(manifest.Files[1].Chunks))
		}
		var got []string
		for _, p := range parts {
			got = append(got, p.Path+" "+strconv.FormatInt(p.Size, 10))
		}
		if !slices.Equal(got, listed) {
			t.Errorf("got parts %v, want %v", got, listed)
		}
		if last := b.sent.last(); !strings.HasPrefix(last, `control DbMsr_CreateBackupResult {"db_type":"postgresql","status":"ok","backup_parts":[{"path":"file:///`) {
			t.Errorf("sent %s", last)
		}
	})
	t.Run("the backup restores", func(t *testing.T) {
		b.admin("postgres", "DROP DATABASE shop WITH (FORCE)")
		do(t)(b.CreateDatabase(ctx, agentapi.CreateDatabaseParams{Name: "shop"}))
		var text bytes.Buffer
		for _, c := range manifest.Files[1].Chunks {
			text.Write(must[[]byte](t)(os.ReadFile(filepath.Join(dir, c.Name))))
		}
		plain := must[*gzip.Reader](t)(gzip.NewReader(&text))
		file := filepath.Join(b.dir, "restore.sql")
		b.must(os.WriteFile(file, must[[]byte](t)(io.ReadAll(plain)), 0o644))
		_, err := b.as(ctx, bin+"/psql", "-Xq", "-v", "ON_ERROR_STOP=1", "-h", b.dir, "-p", strconv.Itoa(b.port), "-d", "shop", "-f", file)
		b.must(err)
		if after := b.content("shop"); after != before {
			t.Errorf("got\n%s\nwant\n%s", after, before)
		}
		do(t)(b.CreateUser(ctx, agentapi.CreateDatabaseUserParams{Name: "anna", Password: "hunter2", Database: "shop"}))
		conn := must2(t)(b.login(here, "anna", "hunter2", "shop"))
		if _, err := conn.Exec(ctx, "DELETE FROM goods"); err != nil {
			t.Errorf("the users' role does not own what came back: %v", err)
		}
	})
	t.Run("73 a broken dump fails the operation and leaves nothing", func(t *testing.T) {
		b.admin("shop", "CREATE FUNCTION gone() RETURNS int LANGUAGE c AS '$libdir/plpgsql', 'plpgsql_call_handler'; UPDATE pg_proc SET prolang = 99999 WHERE proname = 'gone'")
		op := b.wait(must[any](t)(b.CreateBackup(ctx, agentapi.CreateBackupParams{})))
		if op.Status != agentapi.OperationFailed || op.Error == nil || !strings.HasPrefix(*op.Error, "Error while dumping database shop: ") {
			t.Errorf("got %+v", op)
		}
		if last := b.sent.last(); !strings.HasPrefix(last, `control DbMsr_CreateBackupResult {"db_type":"postgresql","status":"error","last_error":"Error while dumping database shop: `) {
			t.Errorf("sent %s", last)
		}
		if left := must[[]os.DirEntry](t)(os.ReadDir(b.backupDir())); len(left) != 1 {
			t.Errorf("got %v", left)
		}
		b.admin("shop", "UPDATE pg_proc SET prolang = (SELECT oid FROM pg_language WHERE lanname = 'c') WHERE proname = 'gone'; DROP FUNCTION gone()")
	})
	t.Run("each step that fails leaves nothing", func(t *testing.T) {
		for n := 1; ; n++ {
			b.breakCall(n)
			_, err := b.CreateBackup(ctx, agentapi.CreateBackupParams{Async: agentapi.Ptr(agentapi.Bool(false))})
			broke := b.broke()
			b.breakCall(0)
			if !broke {
				b.must(err)
				break
			}
			if err == nil {
				t.Fatalf("call %d was broken and nobody was told", n)
			}
			if left := must[[]os.DirEntry](t)(os.ReadDir(b.backupDir())); len(left) != 1 {
				t.Fatalf("call %d was broken: %v", n, left)
			}
		}
	})
	t.Run("what a killed agent left of a backup goes with the next start", func(t *testing.T) {
		b.must(os.MkdirAll(filepath.Join(b.backupDir(), "20200101-000000-abc.partial"), 0o700))
		b.must(b.newService().Start(ctx))
		for _, e := range must[[]os.DirEntry](t)(os.ReadDir(b.backupDir())) {
			if strings.HasSuffix(e.Name(), partialSuffix) {
				t.Errorf("%s is there", e.Name())
			}
		}
	})
	t.Run("42 a second backup at once is refused, and a cancelled one ends", func(t *testing.T) {
		locker := must2(t)(b.login(here, "anna", "hunter2", "shop"))
		_, err := locker.Exec(ctx, "BEGIN; LOCK TABLE goods") // pg_dump waits for it
		b.must(err)
		id := must[any](t)(b.CreateBackup(ctx, agentapi.CreateBackupParams{}))
		if !b.ops.HasInProgress() {
			t.Error("41 has_in_progress is false")
		}
		_, err = b.CreateBackup(ctx, agentapi.CreateBackupParams{})
		e, ok := errors.AsType[*agentapi.Error](err)
		if !ok || e.Class != "AlreadyInProgressError" || !strings.Contains(e.Text, id.(string)) {
			t.Errorf("got %v, want AlreadyInProgressError with %s", err, id)
		}
		b.must(b.ops.Cancel(id.(string)))
		if op := b.wait(id); op.Status != agentapi.OperationCanceled {
			t.Errorf("got %+v", op)
		}
	})
}

func TestReplication(t *testing.T) {
	b := newBed(t)
	ctx := t.Context()
	status := func(s *Service) string {
		r, err := s.ReplicationStatus(ctx, handlers.NoParams{})
		if err != nil {
			return err.Error()
		}
		return string(must[[]byte](t)(json.Marshal(r)))
	}
	t.Run("72 a primary", func(t *testing.T) {
		if got := status(b.Service); got != `{"master":{"status":"up"}}` {
			t.Errorf("got %s", got)
		}
	})
	standby := b.standby()
	t.Run("72 a standby that follows", func(t *testing.T) {
		b.admin("postgres", "CREATE TABLE t AS SELECT 1")
		b.until("the standby has replayed", func() bool { return status(standby.Service) == `{"slave":{"status":"up","xlog_delay":0}}` })
	})
	t.Run("changes on a standby are unsupported", func(t *testing.T) {
		_, err := standby.CreateDatabase(ctx, agentapi.CreateDatabaseParams{Name: "x"})
		wantKind(t, err, agentapi.KindUnsupported)
	})
	t.Run("a standby can be backed up", func(t *testing.T) {
		must[any](t)(standby.CreateBackup(ctx, agentapi.CreateBackupParams{Async: agentapi.Ptr(agentapi.Bool(false))}))
	})
	t.Run("72 a standby that lags behind", func(t *testing.T) {
		standby.admin("postgres", "SELECT pg_wal_replay_pause()")
		b.admin("postgres", "INSERT INTO t VALUES (2)")
		b.until("the standby is behind", func() bool {
			got := status(standby.Service)
			return strings.HasPrefix(got, `{"slave":{"status":"up","xlog_delay":`) && got != `{"slave":{"status":"up","xlog_delay":0}}`
		})
		standby.admin("postgres", "SELECT pg_wal_replay_resume()")
	})
	t.Run("the figures for metrics", func(t *testing.T) {
		of := func(s *Service) Stats {
			st, ok, err := s.Stats(ctx)
			b.must(err)
			if !ok || !st.Up || st.MaxConnections != 30 || st.DatabaseBytes["postgres"] < 1<<20 {
				t.Errorf("got %+v", st)
			}
			return st
		}
		if st := of(b.Service); st.Standby || st.Commits == 0 {
			t.Errorf("of the primary: %+v", st)
		}
		if st := of(standby.Service); !st.Standby || st.Lag < 0 {
			t.Errorf("of the standby: %+v", st)
		}
	})
	t.Run("72 a broken standby: its primary is gone", func(t *testing.T) {
		do(t)(b.StopService(ctx, agentapi.ReasonParams{}))
		b.until("the standby notices", func() bool {
			return status(standby.Service) == `{"slave":{"status":"down","error":"the standby receives nothing from its primary"}}`
		})
	})
	t.Run("72 a stopped standby", func(t *testing.T) {
		do(t)(standby.StopService(ctx, agentapi.ReasonParams{}))
		if got := status(standby.Service); !strings.HasPrefix(got, `{"slave":{"status":"down","error":"the database server does not answer`) {
			t.Errorf("got %s", got)
		}
	})
	t.Run("a stopped primary is an error", func(t *testing.T) {
		if st, ok, err := b.Stats(ctx); st.Up || !ok || err != nil {
			t.Errorf("got %+v %t %v", st, ok, err)
		}
		_, err := b.ReplicationStatus(ctx, handlers.NoParams{})
		wantKind(t, err, agentapi.KindUnavailable)
	})
	t.Run("a stopped server that Scalarizr knows as a standby", func(t *testing.T) {
		for text, want := range map[string]bool{"[postgresql]\nreplication_master = 0\n": true, "[postgresql]\nreplication_master = 1\n": false} {
			if m := replicationMaster.FindStringSubmatch(text); m == nil || (m[1] == "0") != want {
				t.Errorf("%q: got %v", text, m)
			}
		}
	})
}

// standby is a second cluster that streams from this one.
func (b *bed) standby() *bed {
	b.t.Helper()
	s := newBed(b.t)
	ctx := b.t.Context()
	b.must(s.ctl(ctx, "stop", "-m", "immediate"))
	b.must(os.RemoveAll(s.data()))
	_, err := b.as(ctx, bin+"/pg_basebackup", "-h", b.dir, "-p", strconv.Itoa(b.port), "-D", s.data(), "-R", "-c", "fast", "--no-sync")
	b.must(err)
	b.must(s.ctl(ctx, "start"))
	return s
}

// until waits for a condition of another process.
func (b *bed) until(what string, ok func() bool) {
	b.t.Helper()
	for range 500 {
		if ok() {
			return
		}
		b.must(machineSleep(b.t.Context()))
	}
	b.t.Fatalf("waited in vain until %s", what)
}

func TestDataBundle(t *testing.T) {
	b := newBed(t)
	ctx := t.Context()
	b.fill()
	bundle := func() (any, error) {
		return b.CreateDataBundle(ctx, agentapi.CreateDataBundleParams{Async: agentapi.Ptr(agentapi.Bool(false))})
	}
	if _, err := bundle(); err == nil {
		t.Error("without a volume: nobody was told")
	}
	root := t.TempDir()
	b.must(os.MkdirAll(filepath.Join(root, filepath.Dir(volumeConf)), 0o755))
	b.must(os.WriteFile(filepath.Join(root, volumeConf), []byte(`{"type":"loop","id":"vol-loop-1a2b3c4d","mpoint":"/mnt/pgstorage"}`), 0o600))
	copied := filepath.Join(b.dir, "snapshot")
	failing := false
	b.storage = Storage{Snapshot: func(_ context.Context, volume map[string]json.RawMessage, _ string, tags map[string]string) (map[string]json.RawMessage, error) {
		if string(volume["id"]) != `"vol-loop-1a2b3c4d"` || tags["scalr-purpose"] != "postgresql-master" {
			t.Errorf("asked for %s with %v", volume, tags)
		}
		if failing {
			return nil, errors.New("Backup failed because snapshot snap-1 failed")
		}
		_, err := b.as(ctx, "cp", "-a", b.data(), copied)
		return map[string]json.RawMessage{"type": json.RawMessage(`"loop"`), "id": json.RawMessage(`"snap-1"`)}, err
	}}
	b.Service = b.newService()
	b.Service.volumeConf = filepath.Join(root, volumeConf)

	t.Run("data that lies elsewhere too is not half copied", func(t *testing.T) {
		b.must(os.Symlink("/elsewhere", filepath.Join(b.data(), "pg_tblspc", "16999")))
		defer os.Remove(filepath.Join(b.data(), "pg_tblspc", "16999"))
		_, err := bundle()
		wantKind(t, err, agentapi.KindUnsupported)
	})
	t.Run("a failed snapshot fails the operation", func(t *testing.T) {
		failing = true
		defer func() { failing = false }()
		if _, err := bundle(); err == nil || !strings.Contains(err.Error(), "snap-1 failed") {
			t.Errorf("got %v", err)
		}
		if last := b.sent.last(); last != `control DbMsr_CreateDataBundleResult {"db_type":"postgresql","status":"error","last_error":"Backup failed because snapshot snap-1 failed"}` {
			t.Errorf("sent %s", last)
		}
		if n := b.admin("postgres", "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'reeve-agent'"); n != "0" {
			t.Errorf("%s connections stay", n)
		}
	})
	t.Run("a server starts from the snapshot and has the data", func(t *testing.T) {
		got := must[any](t)(bundle()).(agentapi.DataBundle)
		if got.Type != "snap_postgresql" || string(got.Snapshot["id"]) != `"snap-1"` || got.Consistency != "crash" {
			t.Fatalf("got %+v", got)
		}
		if last := b.sent.last(); !strings.Contains(last, `"used_size":"`) || !strings.Contains(last, `"postgresql":{"snapshot_config":{"id":"snap-1","type":"loop"}}`) {
			t.Errorf("sent %s", last)
		}
		want := b.content("shop")
		b.must(b.ctl(ctx, "stop", "-m", "immediate"))
		b.must(os.RemoveAll(b.data()))
		b.must(os.Rename(copied, b.data()))
		b.must(os.Remove(filepath.Join(b.data(), "postmaster.pid")))
		b.must(b.ctl(ctx, "start"))
		if after := b.content("shop"); after != want {
			t.Errorf("got\n%s\nwant\n%s", after, want)
		}
	})
}

func TestGrowVolume(t *testing.T) {
	b := newBed(t)
	ctx := t.Context()
	grow := func(volume string) (any, error) {
		return b.GrowVolume(ctx, agentapi.GrowDataVolumeParams{Volume: json.RawMessage(volume), Growth: json.RawMessage(`{"size": 2}`)})
	}
	var growErr error
	b.storage = Storage{Grow: func(_ context.Context, _, growth map[string]json.RawMessage) (map[string]json.RawMessage, error) {
		if b.running() {
			t.Error("the server runs")
		}
		if string(growth["size"]) != "2" {
			t.Errorf("got growth %s", growth)
		}
		return map[string]json.RawMessage{"id": json.RawMessage(`"vol-2"`)}, growErr
	}}
	b.Service = b.newService()
	b.Service.volumeConf = filepath.Join(b.dir, "volume.json")
	b.must(os.WriteFile(b.Service.volumeConf, []byte(`{"id": "vol-1"}`), 0o600))
	for volume, want := range map[string]string{
		`"vol-1"`: "AssertionError: volume configuration is invalid, 'dict' type expected",
		`{}`:      "AssertionError: volume.id can't be blank",
	} {
		if _, err := grow(volume); err == nil || err.Error() != want {
			t.Errorf("%s: got %v, want %s", volume, err, want)
		}
	}
	t.Run("a volume that does not grow: the server runs again", func(t *testing.T) {
		growErr = errors.New("Volume growth failed: x")
		defer func() { growErr = nil }()
		if _, err := grow(`{"id": "vol-1"}`); err == nil || !strings.Contains(err.Error(), "Volume growth failed") || !b.running() {
			t.Errorf("got %v, running %t", err, b.running())
		}
	})
	t.Run("it grows while the server is stopped", func(t *testing.T) {
		got := must[any](t)(grow(`{"id": "vol-1"}`)).(map[string]json.RawMessage)
		if string(got["id"]) != `"vol-2"` || !b.running() {
			t.Errorf("got %s, running %t", got, b.running())
		}
		if text := string(must[[]byte](t)(os.ReadFile(b.Service.volumeConf))); text != "{\"id\":\"vol-2\"}\n" {
			t.Errorf("kept %s", text)
		}
	})
	t.Run("every call that fails leaves the server running", func(t *testing.T) {
		b.breakCall(1) // the stop
		_, err := grow(`{"id": "vol-2"}`)
		b.breakCall(0)
		if err == nil || !b.running() {
			t.Errorf("got %v, running %t", err, b.running())
		}
	})
}
