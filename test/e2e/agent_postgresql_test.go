//go:build e2e

package e2e

import (
	"crypto/md5"
	"encoding/json"
	"fmt"
	"path"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/reeve-paas/reeve/agent/agentapi"
	"github.com/reeve-paas/reeve/agent/agentclient"
	"github.com/reeve-paas/reeve/test/hosts"
)

const (
	postgresUnit = "postgresql@15-main.service"
	postgresConf = "/etc/postgresql/15/main"
	postgresData = "/var/lib/postgresql/15/main"
)

// madeUp is a password that an agent made up.
var madeUp = regexp.MustCompile(`^[A-Za-z0-9]{10}$`)

// psql runs statements as the superuser of a host's PostgreSQL and returns the rows.
func psql(t testing.TB, h *hosts.Host, database string, statements ...string) string {
	t.Helper()
	argv := []string{"runuser", "-u", "postgres", "--", "psql", "-XAtq", "-v", "ON_ERROR_STOP=1", "-d", database}
	for _, s := range statements {
		argv = append(argv, "-c", s)
	}
	return h.Exec(t, argv...)
}

// ended waits for the end of an operation and returns its record.
func ended(t testing.TB, c *agentclient.Client, id string) (op agentapi.Operation) {
	t.Helper()
	hosts.Eventually(t, "operation "+id+" ends", func() bool {
		var err error
		if op, err = c.Operations().Result(t.Context(), id); err != nil {
			t.Fatal(err)
		}
		return op.Status != agentapi.OperationInProgress && op.Status != agentapi.OperationNew
	})
	return op
}

// postgresOnHosts proves items 71 to 74 of spec agent-core 8: on a server with a database "shop", which listens for other
// hosts, and on another host, whose server becomes its standby.
func postgresOnHosts(t *testing.T, primary, standby *hosts.Host, c *agentclient.Client) {
	t.Run("71 reset_password", func(t *testing.T) { resetPostgres(t, primary, c) })
	t.Run("72 replication_status", func(t *testing.T) { replicatePostgres(t, primary, standby, c, connect(t, standby, standby.Key())) })
	t.Run("73 create_backup", func(t *testing.T) { backUpPostgres(t, primary, c) })
	t.Run("74 service verbs", func(t *testing.T) { verbsOfPostgres(t, primary, c) })
}

func resetPostgres(t *testing.T, h *hosts.Host, c *agentclient.Client) {
	password, err := c.PostgreSQL().ResetPassword(t.Context(), agentapi.ResetPasswordParams{})
	if err != nil || !madeUp.MatchString(string(password)) {
		t.Errorf("got %q, %v, want ten letters and digits", string(password), err)
	}
	login := func(password agentapi.Secret) error {
		_, err := h.Try(t, "env", "PGPASSWORD="+string(password), "psql", "-X", "-h", "127.0.0.1", "-U", "scalr_master", "-c", "SELECT 1")
		return err
	}
	if err := login(password); err != nil {
		t.Errorf("log in as scalr_master: %v", err)
	}
	odd := agentapi.Secret(`a'b"c$d;e\f`)
	if got, err := c.PostgreSQL().ResetPassword(t.Context(), agentapi.ResetPasswordParams{NewPassword: &odd}); err != nil || got != odd {
		t.Errorf("got %q, %v, want the password that was given", string(got), err)
	}
	if err := login(odd); err != nil {
		t.Errorf("log in as scalr_master with %s: %v", string(odd), err)
	}
	if login(password) == nil {
		t.Error("the old password came in")
	}
	if got := h.Exec(t, "sh", "-c", "getent passwd scalr_master | cut -d: -f1; id -gn scalr_master; getent shadow scalr_master | cut -c1-15"); !strings.HasPrefix(got, "scalr_master\npostgres\nscalr_master:$") {
		t.Errorf("got the account %s", got)
	}
}

func replicatePostgres(t *testing.T, primary, standby *hosts.Host, c, follower *agentclient.Client) {
	ctx := t.Context()
	status := func(c *agentclient.Client) string {
		var got json.RawMessage
		if err := c.Call(ctx, "postgresql.replication_status", nil, &got); err != nil {
			return err.Error()
		}
		return string(got)
	}
	until := func(what, pattern string) {
		t.Helper()
		got := ""
		defer func() {
			if t.Failed() {
				t.Logf("the last status was %s", got)
			}
		}()
		hosts.Eventually(t, what, func() bool {
			got = status(follower)
			return regexp.MustCompile(pattern).MatchString(got)
		})
	}
	const follows = `^{"slave":{"status":"up","xlog_delay":0}}$`

	t.Run("a primary", func(t *testing.T) {
		if got := status(c); got != `{"master":{"status":"up"}}` {
			t.Errorf("got %s", got)
		}
	})
	psql(t, primary, "postgres", "CREATE ROLE follower LOGIN REPLICATION PASSWORD 'secret'")
	primary.Exec(t, "sh", "-c", fmt.Sprintf("echo 'host replication follower %s/32 scram-sha-256' >>%s/pg_hba.conf", standby.Addr, postgresConf))
	if err := c.PostgreSQL().Reload(ctx, "a standby comes"); err != nil {
		t.Fatal(err)
	}
	standby.Exec(t, "systemctl", "stop", postgresUnit)
	standby.Exec(t, "rm", "-r", postgresData)
	standby.Exec(t, "runuser", "-u", "postgres", "--", "env", "PGPASSWORD=secret",
		"pg_basebackup", "-h", primary.Addr.String(), "-U", "follower", "-D", postgresData, "-R", "-c", "fast", "--no-sync")
	if err := follower.PostgreSQL().Start(ctx); err != nil {
		t.Fatal(err)
	}
	t.Run("a standby that follows", func(t *testing.T) {
		psql(t, primary, "shop", "CREATE TABLE told AS SELECT 1 AS n")
		hosts.Eventually(t, "the standby has what the primary was told", func() bool {
			got, err := standby.Try(t, "runuser", "-u", "postgres", "--", "psql", "-XAtq", "-d", "shop", "-c", "SELECT n FROM told")
			return err == nil && got == "1"
		})
		until("it follows without delay", follows)
	})
	t.Run("a standby that lags behind", func(t *testing.T) {
		psql(t, standby, "postgres", "SELECT pg_wal_replay_pause()")
		psql(t, primary, "shop", "INSERT INTO told VALUES (2)")
		until("it is seconds behind", `^{"slave":{"status":"up","xlog_delay":[1-9][0-9]*}}$`)
		psql(t, standby, "postgres", "SELECT pg_wal_replay_resume()")
		until("it has caught up", follows)
	})
	t.Run("a broken standby, whose primary is stopped", func(t *testing.T) {
		if err := c.PostgreSQL().Stop(ctx, "its standby is watched"); err != nil {
			t.Fatal(err)
		}
		until("it is down", `^{"slave":{"status":"down","error":"the standby receives nothing from its primary"}}$`)
		if err := c.PostgreSQL().Start(ctx); err != nil {
			t.Fatal(err)
		}
		until("it follows again", follows)
	})
	t.Run("a stopped standby", func(t *testing.T) {
		if err := follower.PostgreSQL().Stop(ctx, "test"); err != nil {
			t.Fatal(err)
		}
		until("it is down", `^{"slave":{"status":"down","error":"the database server does not answer.+"}}$`)
	})
	t.Run("a stopped primary is an error", func(t *testing.T) {
		if err := c.PostgreSQL().Stop(ctx, "test"); err != nil {
			t.Fatal(err)
		}
		wantRefusal(t, c.Call(ctx, "postgresql.replication_status", nil, nil), "the database server does not answer")
		if err := c.PostgreSQL().Start(ctx); err != nil {
			t.Fatal(err)
		}
	})
}

func backUpPostgres(t *testing.T, h *hosts.Host, c *agentclient.Client) {
	pg, ctx := c.PostgreSQL(), t.Context()
	psql(t, h, "shop", "CREATE TABLE goods (id serial PRIMARY KEY, name text, pic bytea)",
		`INSERT INTO goods (name, pic) SELECT 'tea ''' || n || E''' ☕\n', decode(md5(n::text), 'hex') FROM generate_series(1, 5000) n`,
		"CREATE VIEW cheap AS SELECT * FROM goods WHERE id < 10")
	content := func() string {
		return psql(t, h, "shop", "SELECT count(*), md5(string_agg(id || name || encode(pic, 'hex'), ',' ORDER BY id)) FROM goods", "TABLE cheap", "SELECT last_value FROM goods_id_seq")
	}
	want := content()
	id, err := pg.CreateBackup(ctx)
	if err != nil {
		t.Fatal(err)
	}
	op := ended(t, c, id)
	var parts []agentapi.BackupPart
	text, err := json.Marshal(op.Result)
	if err == nil {
		err = json.Unmarshal(text, &parts)
	}
	if err != nil || op.Status != agentapi.OperationCompleted || op.Name != "postgresql.create-backup" || len(parts) == 0 {
		t.Fatalf("got %+v, %v", op, err)
	}
	dir := path.Dir(strings.TrimPrefix(parts[0].Path, "file://"))
	var manifest struct {
		Version float64
		Files   []struct {
			Name, Compressor string
			Streamer         *string
			Chunks           [][]any // name, sum, size
		}
	}
	if err := json.Unmarshal(h.ReadFile(t, dir+"/manifest.json"), &manifest); err != nil || manifest.Version != 2 {
		t.Fatalf("got %+v, %v", manifest, err)
	}
	t.Run("one set of chunks for each database, as the manifest says", func(t *testing.T) {
		var listed []agentapi.BackupPart
		var names []string
		for _, f := range manifest.Files {
			if names = append(names, f.Name); f.Compressor != "gzip" || f.Streamer != nil {
				t.Errorf("got %+v", f)
			}
			for i, chunk := range f.Chunks {
				name := fmt.Sprintf("%s.gz.%03d", f.Name, i)
				data := h.ReadFile(t, dir+"/"+name)
				if want := fmt.Sprintf("[%s %x %v]", name, md5.Sum(data), float64(len(data))); fmt.Sprint(chunk) != want {
					t.Errorf("the manifest says %v, want %s", chunk, want)
				}
				listed = append(listed, agentapi.BackupPart{Path: "file://" + dir + "/" + name, Size: int64(len(data))})
			}
		}
		databases := psql(t, h, "postgres", "SELECT datname || '.sql' FROM pg_database WHERE NOT datistemplate ORDER BY datname COLLATE \"C\"")
		if strings.Join(names, "\n") != databases || !slices.Equal(parts, listed) {
			t.Errorf("got files %v and parts %v, want %s and %v", names, parts, databases, listed)
		}
		wantText(t, h, "700\n600", "sh", "-c", "stat -c %a "+dir+"; stat -c %a "+dir+"/* | sort -u")
	})
	t.Run("the backup restores", func(t *testing.T) {
		psql(t, h, "postgres", "DROP DATABASE shop WITH (FORCE)")
		if err := pg.CreateDatabase(ctx, agentapi.CreateDatabaseParams{Name: "shop"}); err != nil {
			t.Fatal(err)
		}
		h.Exec(t, "sh", "-c", "cat "+dir+"/shop.sql.gz.* | gunzip | runuser -u postgres -- psql -Xq -v ON_ERROR_STOP=1 -d shop")
		if got := content(); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	})
	t.Run("a broken dump fails the operation and leaves nothing", func(t *testing.T) {
		psql(t, h, "shop", brokenDump)
		before := h.Exec(t, "ls", path.Dir(dir))
		id, err := pg.CreateBackup(ctx)
		if err != nil {
			t.Fatal(err)
		}
		if op := ended(t, c, id); op.Status != agentapi.OperationFailed || op.Error == nil || !strings.HasPrefix(*op.Error, "Error while dumping database shop: ") {
			t.Errorf("got %+v", op)
		}
		wantText(t, h, before, "ls", path.Dir(dir))
		psql(t, h, "shop", mendedDump)
	})
}

// brokenDump leaves a function in a database that pg_dump cannot tell; mendedDump removes it.
const (
	brokenDump = `CREATE FUNCTION gone() RETURNS int LANGUAGE c AS '$libdir/plpgsql', 'plpgsql_call_handler'; UPDATE pg_proc SET prolang = 99999 WHERE proname = 'gone'`
	mendedDump = `UPDATE pg_proc SET prolang = (SELECT oid FROM pg_language WHERE lanname = 'c') WHERE proname = 'gone'; DROP FUNCTION gone()`
)

func verbsOfPostgres(t *testing.T, h *hosts.Host, c *agentclient.Client) {
	pg, ctx := c.PostgreSQL(), t.Context()
	pid := func() string { return h.Exec(t, "systemctl", "show", "-P", "MainPID", postgresUnit) }
	step := func(what string, call func() error, status int, samePID bool) {
		t.Helper()
		before := pid()
		if err := call(); err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		if got, err := pg.Status(ctx); err != nil || got != status || (pid() == before) != samePID {
			t.Errorf("%s: got status %d, %v and process %s after %s, want status %d", what, got, err, pid(), before, status)
		}
	}
	start := func() error { return pg.Start(ctx) }
	step("start_service of one that runs", start, 0, true)
	step("restart_service", func() error { return pg.Restart(ctx, "test") }, 0, false)
	h.Exec(t, "sh", "-c", "echo \"application_name = 'by hand'\" >"+postgresConf+"/conf.d/50-test.conf")
	step("reload_service", func() error { return pg.Reload(ctx, "test") }, 0, true)
	if got := psql(t, h, "postgres", "SELECT setting FROM pg_file_settings WHERE name = 'application_name' AND applied"); got != "by hand" {
		t.Errorf("reload_service: got %q", got)
	}
	step("stop_service", func() error { return pg.Stop(ctx, "test") }, 3, false)
	step("stop_service of a stopped one", func() error { return pg.Stop(ctx, "test") }, 3, true)
	step("start_service", start, 0, false)
	h.Exec(t, "rm", postgresConf+"/conf.d/50-test.conf")
}
