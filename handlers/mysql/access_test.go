package mysql

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	driverpkg "github.com/go-sql-driver/mysql"

	"github.com/reeve-paas/reeve/agent/agentapi"
	"github.com/reeve-paas/reeve/handlers/host"
	"github.com/reeve-paas/reeve/handlers/web/webtest"
)

// confined is a server of one test that reads configuration files, as a unit of the handler's host.
type confined struct {
	t    *testing.T
	dir  string
	port int
	host *host.Host

	mu     sync.Mutex // protects the fields below
	cmd    *exec.Cmd
	calls  []string
	failAt int
}

func newConfined(t *testing.T) (*Service, *confined) {
	t.Helper()
	startServer(t) // skips with the reason
	c := &confined{t: t, port: webtest.FreePort(t)}
	var err error
	if c.dir, err = os.MkdirTemp("", "reeve-mysql-"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.stop(); os.RemoveAll(c.dir) })
	if out, err := exec.Command("mariadb-install-db", "--no-defaults", "--user=root", "--datadir="+c.dir+"/data", "--innodb-log-file-size=4M",
		"--skip-test-db", "--auth-root-authentication-method=socket", "--auth-root-socket-user=root").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if err := os.Mkdir(c.dir+"/conf.d", 0o755); err != nil {
		t.Fatal(err)
	}
	c.write("conf.d/50-server.cnf", "[mysqld]\nbind-address = 127.0.0.1\n")
	c.write("my.cnf", fmt.Sprintf("[mysqld]\nuser = root\ndatadir = %[1]s/data\nsocket = %[1]s/sock\nport = %[2]d\ninnodb-buffer-pool-size = 8M\ninnodb-log-file-size = 4M\n"+
		"innodb-flush-log-at-trx-commit = 0\n!includedir %[1]s/conf.d/\n", c.dir, c.port))
	layout := host.Debian
	layout.MySQLSocket, layout.MySQLConf, layout.MySQLConfDir = c.dir+"/sock", c.dir+"/my.cnf", c.dir+"/conf.d"
	c.host = host.New(host.Options{Layout: &layout, Units: c, Runner: c})
	s := New(Options{Host: c.host, StartTimeout: 20 * time.Second})
	if err := c.start(); err != nil {
		t.Fatal(err)
	}
	if err := s.waitUntilReady(t.Context()); err != nil {
		t.Fatal(err)
	}
	return s, c
}

func (c *confined) write(name, text string) {
	c.t.Helper()
	if err := os.WriteFile(filepath.Join(c.dir, name), []byte(text), 0o644); err != nil {
		c.t.Fatal(err)
	}
}

func (c *confined) start() error {
	c.cmd = exec.Command("mariadbd", "--defaults-file="+c.dir+"/my.cnf")
	return c.cmd.Start()
}

func (c *confined) stop() {
	if c.cmd != nil && c.cmd.Process != nil {
		c.cmd.Process.Kill()
		c.cmd.Wait()
	}
}

// call makes the failAt-th call fail.
func (c *confined) call(name string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.calls = append(c.calls, name)
	if len(c.calls) == c.failAt {
		return errBroken
	}
	return nil
}

var machine = host.New(host.Options{})

func (c *confined) Run(ctx context.Context, cmd host.Cmd) (host.Output, error) {
	if err := c.call("run " + cmd.Path); err != nil {
		return host.Output{}, err
	}
	out, err := machine.Run(ctx, cmd)
	if failed, ok := errors.AsType[*host.CommandError](err); ok {
		return failed.Output, failed.Err
	}
	return out, err
}

func (c *confined) Restart(_ context.Context, unit string) error {
	if err := c.call("restart " + unit); err != nil {
		return err
	}
	c.stop()
	return c.start()
}
func (c *confined) Start(context.Context, string) error   { return c.call("start") }
func (c *confined) Stop(context.Context, string) error    { return c.call("stop") }
func (c *confined) Reload(context.Context, string) error  { return c.call("reload") }
func (c *confined) Enable(context.Context, string) error  { return nil }
func (c *confined) Disable(context.Context, string) error { return nil }
func (c *confined) DaemonReload(context.Context) error    { return nil }
func (c *confined) State(context.Context, string) (host.UnitState, error) {
	return host.UnitState{Load: "loaded", Active: "active", Sub: "running"}, nil
}

// login connects from an address of this machine over TCP.
func (c *confined) login(t *testing.T, from, user, password string) error {
	t.Helper()
	cfg := driverpkg.NewConfig()
	cfg.User, cfg.Passwd, cfg.Net, cfg.Addr, cfg.Logger = user, password, "tcp", fmt.Sprintf("127.0.0.1:%d", c.port), &driverpkg.NopLogger{}
	cfg.DialFunc = func(ctx context.Context, network, addr string) (net.Conn, error) {
		return (&net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}).DialContext(ctx, network, addr)
	}
	connector, err := driverpkg.NewConnector(cfg)
	if err != nil {
		t.Fatal(err)
	}
	db := sql.OpenDB(connector)
	defer db.Close()
	return db.PingContext(t.Context())
}

func (c *confined) state(t *testing.T, s *Service) string {
	t.Helper()
	srv := &server{dir: c.dir, socket: c.dir + "/sock"}
	text := srv.state(t)
	if err := s.read(t.Context(), func(conn *conn) error {
		return conn.rows(func(col []string) { text += strings.Join(col, " ") }, 2, "SELECT @@bind_address, @@skip_networking")
	}); err != nil {
		t.Fatal(err)
	}
	entries, err := os.ReadDir(c.dir + "/conf.d")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		text += "\n" + e.Name()
	}
	return text
}

func TestRemoteUsers(t *testing.T) {
	s, c := newConfined(t)
	do, ctx := mustDo(t), t.Context()
	remote := agentapi.CreateDatabaseUserParams{Name: "far", Password: "pw", Database: "d", Remote: true}
	do(s.CreateDatabase(ctx, agentapi.CreateDatabaseParams{Name: "d"}))
	do(s.CreateUser(ctx, agentapi.CreateDatabaseUserParams{Name: "near", Password: "pw", Database: "d"}))
	create := func() error { _, err := s.CreateUser(ctx, remote); return err }

	t.Run("the figures for metrics", func(t *testing.T) {
		st, ok, err := s.Stats(ctx)
		if err != nil || !ok || !st.Up || st.MaxConnections != 151 || st.Queries == 0 || st.Connections < 0 || st.Connections > 2 { // those that end are counted for a moment
			t.Errorf("got %+v %t %v", st, ok, err)
		}
	})
	t.Run("each step that fails is undone", func(t *testing.T) {
		before := c.state(t, s)
		for n := 1; n < 4; n++ { // the test of the configuration, the restart; then the statements
			c.calls, c.failAt = nil, n
			if n == 3 {
				c.failAt = 0
				f := &failing{at: 6}
				s.connector = f.wrap(s.socketConnector)
			}
			if err := create(); err == nil {
				t.Errorf("step %d failed and nobody noticed: %v", n, c.calls)
			}
			s.connector = s.socketConnector
			c.failAt = 0
			if after := c.state(t, s); after != before {
				t.Errorf("step %d failed:\ngot  %s\nwant %s", n, after, before)
			}
		}
	})
	t.Run("a configuration that overrules ours is not touched", func(t *testing.T) {
		c.write("conf.d/zzz.cnf", "[mysqld]\nbind-address = 127.0.0.1\n")
		defer os.Remove(c.dir + "/conf.d/zzz.cnf")
		before := c.state(t, s)
		c.calls = nil
		err := create()
		if after := c.state(t, s); after != before {
			t.Errorf("got  %s\nwant %s", after, before)
		}
		wantKind(t, err, agentapi.KindConfigTest)
	})
	t.Run("a user may come from elsewhere once the server listens there", func(t *testing.T) {
		for range 2 {
			if err := create(); err != nil {
				t.Fatal(err)
			}
		}
		restarts := 0
		for _, call := range c.calls {
			if strings.HasPrefix(call, "restart") {
				restarts++
			}
		}
		if restarts != 1 {
			t.Errorf("restarted %d times: %v", restarts, c.calls)
		}
		if err := c.login(t, "127.0.0.7", "far", "pw"); err != nil {
			t.Error(err)
		}
		if err := c.login(t, "127.0.0.7", "near", "pw"); err == nil {
			t.Error("a user of this host came in from elsewhere")
		}
	})
	t.Run("reset_password and drop_user find the user without its host", func(t *testing.T) {
		pw := agentapi.Secret("new")
		must[string](t)(s.ResetPassword(ctx, agentapi.ResetPasswordParams{User: "far", NewPassword: &pw}))
		if err := c.login(t, "127.0.0.7", "far", "new"); err != nil {
			t.Error(err)
		}
		do(s.DropUser(ctx, agentapi.DropDatabaseUserParams{Name: "far"}))
		if err := c.login(t, "127.0.0.7", "far", "new"); err == nil {
			t.Error("a dropped user came in")
		}
	})
	t.Run("an agent that was killed on the way takes it back at its next start", func(t *testing.T) {
		if err := os.Remove(s.listenPath()); err != nil {
			t.Fatal(err)
		}
		if err := s.restart(ctx); err != nil {
			t.Fatal(err)
		}
		before := c.state(t, s)
		if _, err := s.listen(ctx); err != nil { // and killed here
			t.Fatal(err)
		}
		if err := New(Options{Host: c.host}).Start(ctx); err != nil {
			t.Fatal(err)
		}
		if after := c.state(t, s); after != before {
			t.Errorf("got  %s\nwant %s", after, before)
		}
	})
}
