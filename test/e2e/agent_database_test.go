//go:build e2e

package e2e

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"github.com/reeve-paas/reeve/agent/agentapi"
	"github.com/reeve-paas/reeve/agent/agentclient"
	"github.com/reeve-paas/reeve/test/hosts"
)

// TestDatabasesOnRealHosts drives PostgreSQL, MariaDB and a stand-in for MongoDB on one host with the same calls, as the
// coordinator's broker does, and comes to them from another.
func TestDatabasesOnRealHosts(t *testing.T) {
	t.Parallel()
	cloud := hosts.NewCloud(t, true)
	db := cloud.Boot(t, hosts.Options{Name: "db", Agent: true, Size: "m"})
	web := cloud.Boot(t, hosts.Options{Name: "web"})
	c := connect(t, db, db.Key())
	ctx := t.Context()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	installMongo(t, db)

	// login reaches a database over the network, from the other host or from the database's own.
	login := map[string]func(from *hosts.Host, user, password string) error{
		agentapi.EngineMySQL: func(from *hosts.Host, user, password string) error {
			_, err := from.Try(t, "env", "MYSQL_PWD="+password, "mariadb", "-h", address(from, db), "-u", user, "shop", "-e",
				"CREATE TABLE IF NOT EXISTS t (x int); INSERT INTO t VALUES (1)")
			return err
		},
		agentapi.EnginePostgreSQL: func(from *hosts.Host, user, password string) error {
			_, err := from.Try(t, "env", "PGPASSWORD="+password, "psql", "-X", "-v", "ON_ERROR_STOP=1", "-h", address(from, db), "-U", user, "-d", "shop", "-c",
				"CREATE TABLE IF NOT EXISTS t (x int)", "-c", "INSERT INTO t VALUES (1)")
			return err
		},
		agentapi.EngineMongoDB: func(from *hosts.Host, user, password string) error {
			if from == db {
				return nil // no client is in the image; handlers/mongodb has this case
			}
			m, err := mongo.Connect(options.Client().SetHosts([]string{db.Addr.String() + ":27017"}).SetDirect(true).SetServerSelectionTimeout(3 * time.Second).
				SetAuth(options.Credential{AuthSource: "shop", Username: user, Password: password}))
			if err != nil {
				return err
			}
			defer m.Disconnect(ctx)
			_, err = m.Database("shop").Collection("t").InsertOne(ctx, bson.D{{Key: "x", Value: 1}})
			return err
		},
	}
	for engine, login := range login {
		t.Run(engine, func(t *testing.T) {
			api := c.Database(engine)
			must(c.Deploy().EnableService(ctx, agentapi.EnableServiceParams{Service: engine}))
			must(api.Start(ctx))
			near := agentapi.CreateDatabaseUserParams{Name: "near", Password: "pw'near", Database: "shop"}
			far := agentapi.CreateDatabaseUserParams{Name: "far", Password: `pw"far$;`, Database: "shop", Remote: true}
			for range 2 {
				must(api.CreateDatabase(ctx, agentapi.CreateDatabaseParams{Name: "shop"}))
				must(api.CreateUser(ctx, near))
				must(api.CreateUser(ctx, far))
			}
			if err := login(db, "near", string(near.Password)); err != nil {
				t.Errorf("from its own host: %v", err)
			}
			if err := login(web, "far", string(far.Password)); err != nil {
				t.Errorf("from another host: %v", err)
			}
			if err := login(web, "near", string(near.Password)); err == nil && engine != agentapi.EngineMongoDB { // which cannot tell its users apart
				t.Error("a user of its own host came in from another")
			}
			if err := login(web, "far", "wrong"); err == nil {
				t.Error("a wrong password came in")
			}
			must(api.DropUser(ctx, agentapi.DropDatabaseUserParams{Name: "far", Database: "shop"}))
			if err := login(web, "far", string(far.Password)); err == nil {
				t.Error("a dropped user came in")
			}
		})
	}
	t.Run("71 72 73 74 postgresql", func(t *testing.T) { postgresOnAHost(t, db, c) })
	t.Run("75 mongodb", func(t *testing.T) {
		got, err := c.MongoDB().EnableMMS(ctx, agentapi.EnableMMSParams{APIKey: "k", SecretKey: "g"})
		if must(err); got.Status != "Fail" || got.Error == "" {
			t.Errorf("enable_mms without the package: got %+v", got)
		}
		if got, err = c.MongoDB().DisableMMS(ctx); err != nil || got.Status != "Ok" {
			t.Errorf("disable_mms when nothing runs: got %+v, %v", got, err)
		}
		var none any
		if err := c.Call(ctx, "mongodb.enable_mms", map[string]string{"api_key": "k"}, &none); err == nil || !strings.Contains(err.Error(), "TypeError") {
			t.Errorf("a missing secret_key: got %v", err)
		}
	})
	t.Run("presets", func(t *testing.T) {
		set := agentapi.SetPresetParams{Behavior: "postgresql", Values: agentapi.Preset{"postgresql.conf": {"work_mem": "7MB"}}}
		must(c.Call(ctx, "service.set_preset", set, nil))
		var got agentapi.Preset
		must(c.Call(ctx, "service.get_preset", agentapi.GetPresetParams{Behavior: "postgresql"}, &got))
		if got["postgresql.conf"]["work_mem"] != "7MB" || got["postgresql.conf"]["listen_addresses"] != "*" {
			t.Errorf("got %v", got)
		}
	})
	t.Run("metrics", func(t *testing.T) {
		response, err := http.Get(db.MetricsURL())
		must(err)
		defer response.Body.Close()
		text, err := io.ReadAll(response.Body)
		must(err)
		for _, want := range []string{"reeve_postgresql_up 1\n", "reeve_mysql_up 1\n", "reeve_mongodb_up 1\n", `reeve_postgresql_database_size_bytes{database="shop"} `,
			`reeve_scrape_collector_success{collector="mysql"} 1`} {
			if !strings.Contains(string(text), want) {
				t.Errorf("no %q", want)
			}
		}
	})
	t.Run("after a reboot they run and are reached", func(t *testing.T) {
		db.Reboot(t)
		far := agentapi.CreateDatabaseUserParams{Name: "far", Password: "again", Database: "shop", Remote: true}
		awaitAnswer(t, c)
		for engine, login := range login {
			hosts.Eventually(t, engine+" runs", func() bool { s, err := c.Service(engine).Status(ctx); return err == nil && s == 0 })
			hosts.Eventually(t, engine+" answers", func() bool { return c.Database(engine).CreateUser(ctx, far) == nil })
			if err := login(web, "far", "again"); err != nil {
				t.Errorf("%s: %v", engine, err)
			}
		}
	})
}

// address is how a host reaches another, or itself.
func address(from, to *hosts.Host) string {
	if from == to {
		return "127.0.0.1"
	}
	return to.Addr.String()
}

func awaitAnswer(t *testing.T, c *agentclient.Client) {
	t.Helper()
	hosts.Eventually(t, "the agent answers", func() bool { _, err := c.System().Hostname(t.Context()); return err == nil })
}

// installMongo puts the stand-in on a host in place of MongoDB's package.
func installMongo(t *testing.T, h *hosts.Host) {
	t.Helper()
	program := filepath.Join(t.TempDir(), "mongod")
	build := exec.CommandContext(t.Context(), "go", "build", "-o", program, "./test/mongostandin/mongod")
	build.Dir = top
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	h.CopyIn(t, program, "/usr/bin/mongod")
	h.WriteFile(t, "/etc/mongod.conf", 0o644, []byte("storage:\n  dbPath: /var/lib/mongodb\nnet:\n  port: 27017\n  bindIp: 127.0.0.1\n"))
	h.WriteFile(t, "/etc/systemd/system/mongod.service", 0o644, []byte("[Service]\nExecStart=/usr/bin/mongod --config /etc/mongod.conf\nStateDirectory=mongodb\n[Install]\nWantedBy=multi-user.target\n"))
	h.Exec(t, "chmod", "755", "/usr/bin/mongod")
	h.Exec(t, "systemctl", "daemon-reload")
}

func postgresOnAHost(t *testing.T, h *hosts.Host, c *agentclient.Client) {
	pg, ctx := c.PostgreSQL(), t.Context()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	password, err := pg.ResetPassword(ctx, agentapi.ResetPasswordParams{})
	must(err)
	if !regexp.MustCompile(`^[A-Za-z0-9]{10}$`).MatchString(string(password)) {
		t.Error("71 the password is not ten letters and digits")
	}
	odd := agentapi.Secret(`a'b"c$d;e\f`)
	for _, want := range []agentapi.Secret{password, odd} {
		if want == odd {
			_, err := pg.ResetPassword(ctx, agentapi.ResetPasswordParams{NewPassword: &odd})
			must(err)
		}
		if _, err := h.Try(t, "env", "PGPASSWORD="+string(want), "psql", "-X", "-h", "127.0.0.1", "-U", "scalr_master", "-c", "SELECT 1"); err != nil {
			t.Errorf("71 login as scalr_master: %v", err)
		}
	}
	if got := h.Exec(t, "sh", "-c", "getent passwd scalr_master | cut -d: -f1; id -gn scalr_master; getent shadow scalr_master | cut -c1-15"); !strings.HasPrefix(got, "scalr_master\npostgres\nscalr_master:$") {
		t.Errorf("71 the account: %s", got)
	}
	status, err := pg.ReplicationStatus(ctx)
	must(err)
	if text, _ := json.Marshal(status); string(text) != `{"master":{"status":"up"}}` {
		t.Errorf("72 got %s", text)
	}

	id, err := pg.CreateBackup(ctx)
	must(err)
	var parts []agentapi.BackupPart
	hosts.Eventually(t, "the backup ends", func() bool {
		var op struct {
			Status, Name string
			Result       []agentapi.BackupPart
		}
		must(c.Call(ctx, "operation.result", map[string]string{"operation_id": id}, &op))
		parts = op.Result
		return op.Status == "completed" && op.Name == "postgresql.create-backup"
	})
	for i, database := range []string{"postgres", "scalr_master", "shop"} {
		if i >= len(parts) || !strings.HasSuffix(parts[i].Path, "/"+database+".sql.gz.000") {
			t.Fatalf("73 got %+v", parts)
		}
		file := strings.TrimPrefix(parts[i].Path, "file://")
		if got := h.Exec(t, "sh", "-c", fmt.Sprintf("stat -c '%%s %%a' %s; gunzip -t < %s && echo whole", file, file)); got != fmt.Sprintf("%d 600\nwhole", parts[i].Size) {
			t.Errorf("73 %s: %s", file, got)
		}
	}

	pid := func() string { return h.Exec(t, "systemctl", "show", "-P", "MainPID", "postgresql@15-main.service") }
	before := pid()
	must(pg.Restart(ctx, "test"))
	if pid() == before {
		t.Error("74 restart_service did not change the postmaster")
	}
	must(pg.Stop(ctx, "test"))
	if got, err := pg.Status(ctx); err != nil || got != 3 {
		t.Errorf("74 got status %d, %v", got, err)
	}
	_, err = pg.ReplicationStatus(ctx)
	if e, ok := errors.AsType[*agentapi.Error](err); !ok || e.Kind != agentapi.KindUnavailable {
		t.Errorf("72 of a stopped primary: got %v", err)
	}
	must(pg.Start(ctx))
	if got, err := pg.Status(ctx); err != nil || got != 0 {
		t.Errorf("74 got status %d, %v", got, err)
	}
}
