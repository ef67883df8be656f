package mysql

import (
	"bytes"
	"database/sql"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	driverpkg "github.com/go-sql-driver/mysql"

	"github.com/reeve-paas/reeve/handlers/host"
)

// server is a private MariaDB server, one for all tests of this package: no network, its own directory and socket.
type server struct {
	dir, socket string
	cmd         *exec.Cmd
	log         bytes.Buffer
}

var private struct {
	once   sync.Once
	server *server
	skip   string
	err    error
}

func TestMain(m *testing.M) {
	code := m.Run()
	if private.server != nil {
		private.server.stop()
	}
	os.Exit(code)
}

// startServer starts the server with the first test that needs it.
func startServer(t *testing.T) *server {
	t.Helper()
	private.once.Do(func() { private.server, private.skip, private.err = newServer() })
	if private.skip != "" {
		t.Skip(private.skip)
	}
	if private.err != nil {
		t.Fatal(private.err)
	}
	return private.server
}

func newServer() (srv *server, skip string, err error) {
	daemon, err := exec.LookPath("mariadbd")
	if err != nil {
		return nil, "needs mariadbd (apt-get install mariadb-server)", nil
	}
	if os.Geteuid() != 0 {
		return nil, "needs root: the agent logs in over the socket as root", nil
	}
	dir, err := os.MkdirTemp("", "reeve-mysql-")
	if err != nil {
		return nil, "", err
	}
	defer func() {
		if srv == nil {
			os.RemoveAll(dir)
		}
	}()
	if err := os.Chmod(dir, 0o711); err != nil { // other Unix users reach the socket
		return nil, "", err
	}
	common := []string{"--no-defaults", "--user=root", "--datadir=" + dir + "/data", "--innodb-log-file-size=4M"}
	out, err := exec.Command("mariadb-install-db", append(common, "--skip-test-db",
		"--auth-root-authentication-method=socket", "--auth-root-socket-user=root")...).CombinedOutput()
	if err != nil {
		return nil, "", fmt.Errorf("mariadb-install-db: %w\n%s", err, out)
	}
	s := &server{dir: dir, socket: filepath.Join(dir, "mysqld.sock")}
	s.cmd = exec.Command(daemon, append(common, "--skip-networking", "--socket="+s.socket, "--pid-file="+dir+"/pid",
		"--innodb-buffer-pool-size=8M", "--general-log", "--general-log-file="+dir+"/general.log", "--log-bin="+dir+"/bin")...)
	s.cmd.Stdout, s.cmd.Stderr = &s.log, &s.log
	if err := s.cmd.Start(); err != nil {
		return nil, "", err
	}
	deadline := time.Now().Add(time.Minute)
	for {
		db, _ := s.open("root", "", "")
		err := db.Ping()
		db.Close()
		if err == nil {
			return s, "", nil
		}
		if time.Now().After(deadline) {
			s.stop()
			return nil, "", fmt.Errorf("mariadbd does not answer: %w\n%s", err, s.log.Bytes())
		}
		time.Sleep(5 * time.Millisecond) // a condition of another process: nothing to wait on but asking again
	}
}

func (s *server) stop() {
	s.cmd.Process.Kill()
	s.cmd.Wait()
	os.RemoveAll(s.dir)
}

// open connects as a stock client would, with a password.
func (s *server) open(user, password, database string) (*sql.DB, error) {
	cfg := driverpkg.NewConfig()
	cfg.User, cfg.Passwd, cfg.Net, cfg.Addr, cfg.DBName = user, password, "unix", s.socket, database
	cfg.Logger = &driverpkg.NopLogger{}
	c, err := driverpkg.NewConnector(cfg)
	return sql.OpenDB(c), err
}

// login says whether the server lets a user in.
func (s *server) login(t *testing.T, user, password, database string) error {
	t.Helper()
	db, err := s.open(user, password, database)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	return db.PingContext(t.Context())
}

// loginAs is login by another Unix user, whom the socket does not know as root.
func loginAs(t *testing.T, s *server, uid uint32, password string) error {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "mariadb", "--no-defaults", "--user=root", "--socket="+s.socket, "--execute=SELECT 1")
	cmd.Env = []string{"MYSQL_PWD=" + password, "LC_ALL=C.UTF-8"}
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: uid}}
	out, err := cmd.CombinedOutput()
	if err != nil {
		return fmt.Errorf("%w: %s", err, out)
	}
	return nil
}

// admin runs a statement as root.
func (s *server) admin(t *testing.T, statement string, args ...any) {
	t.Helper()
	db, err := s.open("root", "", "")
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if _, err := db.ExecContext(t.Context(), statement, args...); err != nil {
		t.Fatalf("%s: %v", statement, err)
	}
}

// state is everything our methods may change, as text that two states are compared by.
func (s *server) state(t *testing.T) string {
	t.Helper()
	db, err := s.open("root", "", "")
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	var text string
	for _, query := range []string{
		"SELECT schema_name, default_character_set_name FROM information_schema.schemata ORDER BY 1",
		"SELECT CONCAT(User, '@', Host), Priv FROM mysql.global_priv ORDER BY 1",
		"SELECT CONCAT(User, '@', Host), CONCAT(Db, ' ', Select_priv, Drop_priv, Grant_priv) FROM mysql.db ORDER BY 1, 2",
	} {
		rows, err := db.QueryContext(t.Context(), query)
		if err != nil {
			t.Fatal(err)
		}
		for rows.Next() {
			var a, b string
			if err := rows.Scan(&a, &b); err != nil {
				t.Fatal(err)
			}
			text += a + "\t" + b + "\n"
		}
		if err := rows.Close(); err != nil {
			t.Fatal(err)
		}
	}
	return text
}

// newService is the handler under test, in front of the private server.
func newService(t *testing.T) (*Service, *server) {
	t.Helper()
	srv := startServer(t)
	layout := host.Debian
	layout.MySQLSocket = srv.socket
	return New(Options{Host: host.New(host.Options{Layout: &layout}), StartTimeout: 5 * time.Second}), srv
}
