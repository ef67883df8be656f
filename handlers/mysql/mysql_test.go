package mysql

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/reeve-paas/reeve/agent/agentapi"
	"github.com/reeve-paas/reeve/handlers"
	"github.com/reeve-paas/reeve/handlers/host"
)

func wantKind(t *testing.T, err error, want agentapi.Kind) {
	t.Helper()
	e, ok := errors.AsType[*agentapi.Error](err)
	if !ok || e.Kind != want {
		t.Errorf("got error %v, want kind %s", err, want)
	}
}

func must[T any](t *testing.T) func(T, error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

// mustDo fails the test when a method that returns null fails.
func mustDo(t *testing.T) func(handlers.Null, error) {
	return func(_ handlers.Null, err error) { t.Helper(); must[int](t)(0, err) }
}

func TestDatabases(t *testing.T) {
	s, srv := newService(t)
	do, ctx := mustDo(t), t.Context()
	names := func() []string { return must[[]string](t)(s.ListDatabases(ctx, handlers.NoParams{})) }

	t.Run("creating one twice leaves the first as it is", func(t *testing.T) {
		do(s.CreateDatabase(ctx, agentapi.CreateDatabaseParams{Name: "shop_1"}))
		srv.admin(t, "CREATE TABLE shop_1.kept (id INT)")
		before := srv.state(t)
		do(s.CreateDatabase(ctx, agentapi.CreateDatabaseParams{Name: "shop_1", Charset: "latin1"}))
		if got := srv.state(t); got != before {
			t.Errorf("got %s, want %s", got, before)
		}
		srv.admin(t, "SELECT id FROM shop_1.kept")
	})
	t.Run("the list leaves out the server's own schemas", func(t *testing.T) {
		if got, want := names(), []string{"shop_1"}; !slices.Equal(got, want) {
			t.Errorf("got %v, want %v", got, want)
		}
	})
	t.Run("the character set is utf8mb4 unless asked otherwise", func(t *testing.T) {
		do(s.CreateDatabase(ctx, agentapi.CreateDatabaseParams{Name: "latin", Charset: "latin1", Collation: "latin1_bin"}))
		state := srv.state(t)
		for _, want := range []string{"shop_1\tutf8mb4\n", "latin\tlatin1\n"} {
			if !strings.Contains(state, want) {
				t.Errorf("got %s, want it to hold %q", state, want)
			}
		}
	})
	t.Run("an unknown character set or collation is the caller's mistake", func(t *testing.T) {
		for _, p := range []agentapi.CreateDatabaseParams{
			{Name: "x", Charset: "klingon"}, {Name: "x", Collation: "klingon_ci"}, {Name: "x", Charset: "latin1", Collation: "utf8mb4_bin"},
			{Name: "x", Charset: "utf8; DROP DATABASE shop_1"}, {Name: "x", Collation: "a b"},
		} {
			_, err := s.CreateDatabase(ctx, p)
			wantKind(t, err, agentapi.KindInvalid)
		}
		if slices.Contains(names(), "x") {
			t.Error("database x was created")
		}
	})
	t.Run("names that are no plain names, or the server's, are refused", func(t *testing.T) {
		for _, name := range []string{"", "a b", "a`b", "a-b", "ä", strings.Repeat("a", 65), "mysql", "SYS", "Information_Schema", "a\x00", "../etc", "a\n"} {
			_, err := s.CreateDatabase(ctx, agentapi.CreateDatabaseParams{Name: name})
			wantKind(t, err, agentapi.KindInvalid)
			_, err = s.DropDatabase(ctx, agentapi.NameParams{Name: name})
			wantKind(t, err, agentapi.KindInvalid)
		}
	})
	t.Run("dropping one takes the privileges on it, and on no other, along", func(t *testing.T) {
		for _, db := range []string{"a_b", "axb"} {
			do(s.CreateDatabase(ctx, agentapi.CreateDatabaseParams{Name: db}))
			do(s.CreateUser(ctx, agentapi.CreateDatabaseUserParams{Name: "u_" + db, Password: "pw", Database: db}))
		}
		srv.admin(t, "CREATE USER 'we`ird'@'%'")
		srv.admin(t, "GRANT SELECT ON `a_b`.* TO 'we`ird'@'%' WITH GRANT OPTION")
		do(s.DropDatabase(ctx, agentapi.NameParams{Name: "a_b"}))
		do(s.DropDatabase(ctx, agentapi.NameParams{Name: "a_b"}))
		var grants []string
		for _, u := range must[[]agentapi.DatabaseUser](t)(s.ListUsers(ctx, handlers.NoParams{})) {
			grants = append(grants, fmt.Sprint(u))
		}
		want := []string{"{u_a_b localhost []}", "{u_axb localhost [axb]}", "{we`ird % []}"}
		if !slices.Equal(grants, want) {
			t.Errorf("got %v, want %v", grants, want)
		}
		srv.admin(t, "DROP USER 'we`ird'@'%'")
		for _, db := range []string{"a_b", "axb"} {
			do(s.DropDatabase(ctx, agentapi.NameParams{Name: db}))
			do(s.DropUser(ctx, agentapi.DropDatabaseUserParams{Name: "u_" + db}))
		}
	})
	for _, db := range []string{"shop_1", "latin"} {
		do(s.DropDatabase(ctx, agentapi.NameParams{Name: db}))
	}
	if got := names(); len(got) != 0 {
		t.Errorf("got databases %v after dropping all, want none", got)
	}
}

// passwords is text that went wrong somewhere before.
var passwords = []agentapi.Secret{
	"aaaaaaaaaa", `it's "quoted" \ back\\slash \'`, "$HOME `id` ; DROP TABLE x; -- #", "пароль密码🔑é", " leading and trailing ",
	"%s%d?:@/#&=+", agentapi.Secret(strings.Repeat("x", 64)), "a\tb\x01\x7f", "*2470C0C06DEE42FD1618BB99005ADCA2EC9D1E19",
}

func TestUsers(t *testing.T) {
	s, srv := newService(t)
	do, ctx := mustDo(t), t.Context()
	for _, db := range []string{"one_db", "oneXdb"} {
		do(s.CreateDatabase(ctx, agentapi.CreateDatabaseParams{Name: db}))
		defer func() { do(s.DropDatabase(context.Background(), agentapi.NameParams{Name: db})) }()
	}
	create := func(t *testing.T, p agentapi.CreateDatabaseUserParams) {
		t.Helper()
		mustDo(t)(s.CreateUser(ctx, p))
	}

	t.Run("any password text works literally", func(t *testing.T) {
		for _, mode := range []string{"DEFAULT", "'NO_BACKSLASH_ESCAPES'", "'ANSI_QUOTES'"} {
			srv.admin(t, "SET GLOBAL sql_mode = "+mode)
			for _, pw := range passwords {
				create(t, agentapi.CreateDatabaseUserParams{Name: "lit", Password: pw, Database: "one_db"})
				if err := srv.login(t, "lit", string(pw), "one_db"); err != nil {
					t.Errorf("password %q: %v", string(pw), err)
				}
				if err := srv.login(t, "lit", string(pw)+"x", "one_db"); err == nil {
					t.Errorf("password %q with more behind it was accepted", string(pw))
				}
			}
		}
		srv.admin(t, "SET GLOBAL sql_mode = DEFAULT")
	})
	t.Run("a user gets its database and no other", func(t *testing.T) {
		create(t, agentapi.CreateDatabaseUserParams{Name: "lim", Password: "pw", Database: "one_db"})
		if err := srv.login(t, "lim", "pw", "one_db"); err != nil {
			t.Error(err)
		}
		for _, db := range []string{"oneXdb", "mysql"} {
			if err := srv.login(t, "lim", "pw", db); err == nil {
				t.Errorf("user of one_db was let into %s", db)
			}
		}
		db, _ := srv.open("lim", "pw", "one_db")
		defer db.Close()
		for statement, allowed := range map[string]bool{
			"CREATE TABLE IF NOT EXISTS notes (body TEXT)":   true,
			"DROP TABLE IF EXISTS notes":                     true,
			"CREATE DATABASE stolen":                         false,
			"CREATE USER thief":                              false,
			"GRANT ALL ON `one\\_db`.* TO 'lit'@'localhost'": false,
		} {
			if _, err := db.ExecContext(ctx, statement); (err == nil) != allowed {
				t.Errorf("%s: got error %v, want allowed %v", statement, err, allowed)
			}
		}
	})
	t.Run("the same call twice changes nothing", func(t *testing.T) {
		p := agentapi.CreateDatabaseUserParams{Name: "twice", Host: "%", Password: "pw", Database: "one_db"}
		create(t, p)
		before := withoutTimes(srv.state(t))
		create(t, p)
		if got := withoutTimes(srv.state(t)); got != before {
			t.Errorf("got %s, want %s", got, before)
		}
	})
	t.Run("a user of a missing database is not created", func(t *testing.T) {
		_, err := s.CreateUser(ctx, agentapi.CreateDatabaseUserParams{Name: "lost", Password: "pw", Database: "nowhere"})
		wantKind(t, err, agentapi.KindNotFound)
		if err := srv.login(t, "lost", "pw", ""); err == nil {
			t.Error("user lost exists")
		}
	})
	t.Run("bad names, hosts and passwords are refused", func(t *testing.T) {
		for _, p := range []agentapi.CreateDatabaseUserParams{
			{Name: "", Password: "pw"}, {Name: "a'b", Password: "pw"}, {Name: "root", Password: "pw"}, {Name: "ROOT", Password: "pw"},
			{Name: "mysql", Password: "pw"}, {Name: "mariadb.sys", Password: "pw"}, {Name: "PUBLIC", Password: "pw"},
			{Name: strings.Repeat("u", 81), Password: "pw"}, {Name: "a", Host: "x'y", Password: "pw"}, {Name: "a", Host: `\`, Password: "pw"},
			{Name: "a", Password: ""}, {Name: "a", Password: "a\x00b"}, {Name: "a", Password: agentapi.Secret(strings.Repeat("p", 1025))},
			{Name: "a", Password: "pw", Database: "b`c"}, {Name: "a", Password: "pw", Database: "mysql"},
		} {
			_, err := s.CreateUser(ctx, p)
			wantKind(t, err, agentapi.KindInvalid)
		}
		for _, name := range []string{"root", "mysql", "mariadb.sys"} {
			_, err := s.DropUser(ctx, agentapi.DropDatabaseUserParams{Name: name})
			wantKind(t, err, agentapi.KindInvalid)
		}
	})
	t.Run("users are listed with their databases, then dropped, twice", func(t *testing.T) {
		var got []string
		for _, u := range must[[]agentapi.DatabaseUser](t)(s.ListUsers(ctx, handlers.NoParams{})) {
			got = append(got, fmt.Sprint(u))
			for range 2 {
				do(s.DropUser(ctx, agentapi.DropDatabaseUserParams{Name: u.Name, Host: u.Host}))
			}
		}
		want := []string{"{lim localhost [one_db]}", "{lit localhost [one_db]}", "{twice % [one_db]}"}
		if !slices.Equal(got, want) {
			t.Errorf("got %v, want %v", got, want)
		}
		if left := must[[]agentapi.DatabaseUser](t)(s.ListUsers(ctx, handlers.NoParams{})); len(left) != 0 {
			t.Errorf("got %v after dropping all, want none", left)
		}
	})
}

// withoutTimes removes the time of the last password change, which the server renews even when the password is the same.
func withoutTimes(state string) string {
	var kept []string
	for line := range strings.Lines(state) {
		before, after, found := strings.Cut(line, `"password_last_changed":`)
		if found {
			after = strings.TrimLeft(after, "0123456789")
		}
		kept = append(kept, before+after)
	}
	return strings.Join(kept, "")
}

func TestResetPassword(t *testing.T) {
	s, srv := newService(t)
	do, ctx := mustDo(t), t.Context()

	t.Run("root gets the password and keeps its socket login", func(t *testing.T) {
		for _, pw := range passwords {
			got, err := s.ResetPassword(ctx, agentapi.ResetPasswordParams{NewPassword: &pw})
			if err != nil || got != string(pw) {
				t.Fatalf("got %q, %v, want %q", got, err, string(pw))
			}
		}
		do(s.CreateDatabase(ctx, agentapi.CreateDatabaseParams{Name: "still_in"}))
		do(s.DropDatabase(ctx, agentapi.NameParams{Name: "still_in"}))
		// These tests run as root, whom the socket lets in with any password: the stored hash is the proof.
		if want := must[string](t)(nativeHash(passwords[len(passwords)-1])); !strings.Contains(srv.state(t), want) {
			t.Errorf("got %s, want root to have hash %s", srv.state(t), want)
		}
		if err := loginAs(t, srv, 65534, string(passwords[len(passwords)-1])); err != nil {
			t.Errorf("another Unix user with root's password: %v", err)
		}
		if err := loginAs(t, srv, 65534, "wrong"); err == nil {
			t.Error("another Unix user got in with a wrong password")
		}
	})
	t.Run("without a password a random one is made", func(t *testing.T) {
		do(s.CreateUser(ctx, agentapi.CreateDatabaseUserParams{Name: "rnd", Password: "pw"}))
		got := must[string](t)(s.ResetPassword(ctx, agentapi.ResetPasswordParams{User: "rnd"}))
		if len(got) < 20 {
			t.Errorf("got a password of %d characters, want at least 20", len(got))
		}
		if err := srv.login(t, "rnd", got, ""); err != nil {
			t.Error(err)
		}
		do(s.DropUser(ctx, agentapi.DropDatabaseUserParams{Name: "rnd"}))
	})
	t.Run("unknown users are not found, the server's are refused", func(t *testing.T) {
		_, err := s.ResetPassword(ctx, agentapi.ResetPasswordParams{User: "nobody_here"})
		wantKind(t, err, agentapi.KindNotFound)
		_, err = s.ResetPassword(ctx, agentapi.ResetPasswordParams{User: "mysql"})
		wantKind(t, err, agentapi.KindInvalid)
	})
	t.Run("no password is in any log of the server", func(t *testing.T) {
		secret := agentapi.Secret("swordfish-4711")
		do(s.CreateUser(ctx, agentapi.CreateDatabaseUserParams{Name: "quiet", Password: "first-" + secret}))
		do(s.CreateUser(ctx, agentapi.CreateDatabaseUserParams{Name: "quiet", Password: secret}))
		must[string](t)(s.ResetPassword(ctx, agentapi.ResetPasswordParams{User: "quiet", NewPassword: &secret}))
		do(s.DropUser(ctx, agentapi.DropDatabaseUserParams{Name: "quiet"}))
		logs, _ := filepath.Glob(filepath.Join(srv.dir, "*"))
		seen := false
		for _, name := range logs {
			data, err := os.ReadFile(name)
			if err != nil {
				continue // directories, the socket
			}
			seen = seen || strings.Contains(string(data), "quiet")
			if strings.Contains(string(data), string(secret)) {
				t.Errorf("%s holds the password", name)
			}
		}
		if !seen {
			t.Error("no log holds the statements at all: the test looked at the wrong files")
		}
	})
}

// TestEachStatementFails breaks the Nth statement of every change, for every N, and wants the server as it was.
func TestEachStatementFails(t *testing.T) {
	s, srv := newService(t)
	do, ctx := mustDo(t), t.Context()
	do(s.CreateDatabase(ctx, agentapi.CreateDatabaseParams{Name: "have"}))
	do(s.CreateDatabase(ctx, agentapi.CreateDatabaseParams{Name: "other"}))
	do(s.CreateUser(ctx, agentapi.CreateDatabaseUserParams{Name: "old", Password: "pw", Database: "have"}))
	defer func() {
		s.connector = s.socketConnector
		for _, db := range []string{"have", "other", "new"} {
			s.DropDatabase(context.Background(), agentapi.NameParams{Name: db})
		}
		s.DropUser(context.Background(), agentapi.DropDatabaseUserParams{Name: "old"})
	}()
	pw := agentapi.Secret("changed")
	null := func(_ handlers.Null, err error) error { return err }
	for _, change := range []struct {
		name string
		call func() error
	}{
		{"create_database", func() error { return null(s.CreateDatabase(ctx, agentapi.CreateDatabaseParams{Name: "new"})) }},
		{"create_user", func() error {
			return null(s.CreateUser(ctx, agentapi.CreateDatabaseUserParams{Name: "fresh", Password: "pw", Database: "have"}))
		}},
		{"create_user again", func() error {
			return null(s.CreateUser(ctx, agentapi.CreateDatabaseUserParams{Name: "old", Password: pw, Database: "have"}))
		}},
		{"create_user with another database", func() error {
			return null(s.CreateUser(ctx, agentapi.CreateDatabaseUserParams{Name: "old", Password: pw, Database: "other"}))
		}},
		{"reset_password", func() error {
			_, err := s.ResetPassword(ctx, agentapi.ResetPasswordParams{User: "old", NewPassword: &pw})
			return err
		}},
		{"drop_user", func() error { return null(s.DropUser(ctx, agentapi.DropDatabaseUserParams{Name: "old"})) }},
	} {
		t.Run(change.name, func(t *testing.T) {
			before := srv.state(t)
			for n := 1; ; n++ {
				f := &failing{at: n}
				s.connector = f.wrap(s.socketConnector)
				err := change.call()
				if !f.failed {
					if err != nil {
						t.Errorf("without a failure: %v", err)
					}
					if n == 1 {
						t.Error("no statement was run")
					}
					return
				}
				if err == nil {
					t.Errorf("statement %d failed and nobody noticed", n)
				}
				if got := srv.state(t); got != before {
					t.Errorf("statement %d failed:\ngot  %s\nwant %s", n, got, before)
				}
			}
		})
	}
}

var errBroken = errors.New("broken on purpose")

// failing is a driver that fails the at-th statement.
type failing struct {
	at, count int
	failed    bool
}

func (f *failing) wrap(real connectorFunc) connectorFunc {
	return func() (driver.Connector, error) {
		c, err := real()
		return failingConnector{c, f}, err
	}
}

func (f *failing) next() error {
	if f.count++; f.count == f.at {
		f.failed = true
		return errBroken
	}
	return nil
}

type failingConnector struct {
	driver.Connector
	f *failing
}

func (c failingConnector) Connect(ctx context.Context) (driver.Conn, error) {
	conn, err := c.Connector.Connect(ctx)
	return failingConn{conn, c.f}, err
}

type failingConn struct {
	driver.Conn
	f *failing
}

func (c failingConn) ExecContext(ctx context.Context, q string, args []driver.NamedValue) (driver.Result, error) {
	if err := c.f.next(); err != nil {
		return nil, err
	}
	return c.Conn.(driver.ExecerContext).ExecContext(ctx, q, args)
}

func (c failingConn) QueryContext(ctx context.Context, q string, args []driver.NamedValue) (driver.Rows, error) {
	if err := c.f.next(); err != nil {
		return nil, err
	}
	return c.Conn.(driver.QueryerContext).QueryContext(ctx, q, args)
}

func TestNoServer(t *testing.T) {
	s := New(Options{Host: host.New(host.Options{Root: t.TempDir(), Layout: &host.Debian})})
	t.Run("a server that is not there is unavailable, with a hint", func(t *testing.T) {
		_, err := s.ListDatabases(t.Context(), handlers.NoParams{})
		wantKind(t, err, agentapi.KindUnavailable)
		if err == nil || !strings.Contains(err.Error(), "start_service") {
			t.Errorf("got %v, want a hint at start_service", err)
		}
	})
}
