//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
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
// coordinator's broker does, and comes to them from another, whose PostgreSQL becomes a standby. Items 71 to 75 and the presets
// of spec agent-core 8 are subtests.
func TestDatabasesOnRealHosts(t *testing.T) {
	t.Parallel()
	cloud := hosts.NewCloud(t, true)
	db := cloud.Boot(t, hosts.Options{Name: "db", Agent: true, Size: "m"})
	web := cloud.Boot(t, hosts.Options{Name: "web", Agent: true})
	c := connect(t, db, db.Key())
	ctx := t.Context()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	installMongo(t, func(in io.Reader, argv ...string) ([]byte, error) { return cloud.Exec(ctx, db.ID, in, argv...) })

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
			return mongoInsert(t, db, "shop", user, password)
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
	postgresOnHosts(t, db, web, c)
	t.Run("75 mongodb", func(t *testing.T) { mongoOnAHost(t, db, c) })
	t.Run("presets", func(t *testing.T) { presetsOnAHost(t, db, c) })
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

// inMongo logs in with the official driver, as an address says, and does something in a database.
func inMongo(ctx context.Context, uri, database string, do func(*mongo.Database) error) error {
	m, err := mongo.Connect(options.Client().ApplyURI(uri).SetDirect(true).SetServerSelectionTimeout(3 * time.Second))
	if err != nil {
		return err
	}
	defer m.Disconnect(ctx)
	return do(m.Database(database))
}

// installMongo puts the stand-in on a host in place of MongoDB's package. inside runs a command there.
func installMongo(t *testing.T, inside func(in io.Reader, argv ...string) ([]byte, error)) {
	t.Helper()
	program := filepath.Join(t.TempDir(), "mongod")
	build := exec.CommandContext(t.Context(), "go", "build", "-o", program, "./test/mongostandin/mongod")
	build.Dir = top
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	text, err := os.ReadFile(program)
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range []struct{ path, mode, text string }{
		{"/usr/bin/mongod", "755", string(text)},
		{"/etc/mongod.conf", "644", "storage:\n  dbPath: /var/lib/mongodb\nnet:\n  port: 27017\n  bindIp: 127.0.0.1\n"},
		{"/etc/systemd/system/mongod.service", "644", "[Service]\nExecStart=/usr/bin/mongod --config /etc/mongod.conf\nStateDirectory=mongodb\n[Install]\nWantedBy=multi-user.target\n"},
	} {
		if _, err := inside(strings.NewReader(file.text), "install", "-D", "-m", file.mode, "/dev/stdin", file.path); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := inside(nil, "systemctl", "daemon-reload"); err != nil {
		t.Fatal(err)
	}
}

// mongoInsert logs in to a host's stand-in from here, with a user of a database, and writes to "shop".
func mongoInsert(t *testing.T, h *hosts.Host, database, user, password string) error {
	t.Helper()
	u := url.URL{Scheme: "mongodb", User: url.UserPassword(user, password), Host: h.Addr.String() + ":27017", Path: "/" + database}
	return inMongo(t.Context(), u.String(), "shop", func(d *mongo.Database) error {
		_, err := d.Collection("t").InsertOne(t.Context(), bson.D{{Key: "x", Value: 1}})
		return err
	})
}

// mongoOnAHost proves item 75, and reset_password, on a host whose server lets nobody in without a password by now.
func mongoOnAHost(t *testing.T, h *hosts.Host, c *agentclient.Client) {
	ctx := t.Context()
	enable := agentapi.EnableMMSParams{APIKey: "key-1", SecretKey: "5f1e"}
	want := func(what, status string, got agentapi.MMSResult, err error) {
		t.Helper()
		if err != nil || got.Status != status || (got.Error == "") != (status == "Ok") {
			t.Errorf("%s: got %+v, %v, want %s", what, got, err, status)
		}
	}
	got, err := c.MongoDB().EnableMMS(ctx, enable)
	want("enable_mms without the package", "Fail", got, err)
	got, err = c.MongoDB().DisableMMS(ctx)
	want("disable_mms when nothing runs", "Ok", got, err)
	wantRefusal(t, c.Call(ctx, "mongodb.enable_mms", map[string]string{"api_key": "k"}, nil), "TypeError")

	const unit, config = "mongodb-mms-automation-agent.service", "/etc/mongodb-mms/automation-agent.config"
	h.WriteFile(t, "/etc/systemd/system/"+unit, 0o644, []byte("[Service]\nExecStart=/usr/bin/sleep infinity\n[Install]\nWantedBy=multi-user.target\n"))
	h.WriteFile(t, config, 0o644, []byte("logFile=/var/log/x\nmmsApiKey=\n"))
	h.Exec(t, "systemctl", "daemon-reload")
	state := []string{"sh", "-c", "systemctl is-active " + unit + "; systemctl is-enabled " + unit + "; stat -c %a " + config + "; cat " + config}
	got, err = c.MongoDB().EnableMMS(ctx, enable)
	want("enable_mms", "Ok", got, err)
	wantText(t, h, "active\nenabled\n600\nlogFile=/var/log/x\nmmsApiKey=key-1\nmmsGroupId=5f1e", state...)
	got, err = c.MongoDB().DisableMMS(ctx)
	want("disable_mms", "Ok", got, err)
	wantText(t, h, "inactive\ndisabled\n600\nlogFile=/var/log/x\nmmsApiKey=key-1\nmmsGroupId=5f1e", state...)

	var passwords []string
	for range 2 {
		password, err := c.MongoDB().ResetPassword(ctx, agentapi.ResetPasswordParams{})
		if err != nil || !madeUp.MatchString(string(password)) {
			t.Fatalf("reset_password: got %q, %v, want ten letters and digits", string(password), err)
		}
		if err := mongoInsert(t, h, "admin", "scalr", string(password)); err != nil {
			t.Errorf("log in as scalr: %v", err)
		}
		passwords = append(passwords, string(password))
	}
	if mongoInsert(t, h, "admin", "scalr", passwords[0]) == nil {
		t.Error("the old password came in")
	}
}

// presetsOnAHost proves get_preset and set_preset (spec agent-core 4.5): a preset comes into force, an option is taken out of
// it, and what the server refuses changes nothing.
func presetsOnAHost(t *testing.T, h *hosts.Host, c *agentclient.Client) {
	ctx := t.Context()
	for _, s := range []struct {
		behavior, file, option string
		values                 []string // in force: by default, by the preset, and after that
		show                   func() string
	}{
		{"postgresql", "postgresql.conf", "work_mem", []string{"4MB", "7MB", "4MB"}, func() string { return psql(t, h, "postgres", "SHOW work_mem") }},
		{"mariadb", "my.cnf", "mysqld/wait_timeout", []string{"28800", "77", "28800"}, func() string {
			return h.Exec(t, "mariadb", "-BNe", "SELECT @@global.wait_timeout")
		}},
	} {
		get := func() agentapi.Preset {
			t.Helper()
			var got agentapi.Preset
			if err := c.Call(ctx, "service.get_preset", agentapi.GetPresetParams{Behavior: s.behavior}, &got); err != nil {
				t.Fatal(err)
			}
			return got
		}
		set := func(option, value string) error {
			return c.Call(ctx, "service.set_preset", agentapi.SetPresetParams{Behavior: s.behavior, Values: agentapi.Preset{s.file: {option: agentapi.Text(value)}}}, nil)
		}
		before := fmt.Sprint(get())
		if got := s.show(); got != s.values[0] {
			t.Errorf("%s begins with %s, want %s", s.option, got, s.values[0])
		}
		if err := set(s.option, s.values[1]); err != nil || s.show() != s.values[1] || string(get()[s.file][s.option]) != s.values[1] {
			t.Errorf("%s: got %s and preset %v, %v, want %s", s.option, s.show(), get(), err, s.values[1])
		}
		section, _, _ := strings.Cut(s.option, "/")
		wantRefusal(t, set(strings.TrimPrefix(section+"/no_such_option", s.option+"/"), "1"), "PresetError: ")
		if s.show() != s.values[1] {
			t.Errorf("%s: after a preset that was refused: got %s, want %s", s.option, s.show(), s.values[1])
		}
		if err := set(s.option, agentapi.UnsetOption); err != nil || s.show() != s.values[2] || fmt.Sprint(get()) != before {
			t.Errorf("%s taken out: got %s and preset %v, %v, want %s and %s", s.option, s.show(), get(), err, s.values[2], before)
		}
	}
	wantRefusal(t, c.Call(ctx, "service.get_preset", agentapi.GetPresetParams{Behavior: "redis"}, nil), "AssertionError: Behaviour redis is not registred in ServiceAPI (")
}
