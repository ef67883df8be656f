package postgresql

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/reeve-paas/reeve/agent/agentapi"
	"github.com/reeve-paas/reeve/handlers"
)

func TestDatabasesAndUsers(t *testing.T) {
	b := newBed(t)
	ctx, do := t.Context(), do(t)
	names := func() []string { return must[[]string](t)(b.ListDatabases(ctx, handlers.NoParams{})) }
	for range 2 { // the second time nothing is left to do
		do(b.CreateDatabase(ctx, agentapi.CreateDatabaseParams{Name: "shop"}))
		do(b.CreateDatabase(ctx, agentapi.CreateDatabaseParams{Name: "other"}))
		do(b.CreateUser(ctx, agentapi.CreateDatabaseUserParams{Name: "anna", Password: "hunter2 'x'\"$;", Database: "shop"}))
		do(b.CreateUser(ctx, agentapi.CreateDatabaseUserParams{Name: "bert", Password: "hunter2ü", Database: "shop", Remote: true}))
		do(b.CreateUser(ctx, agentapi.CreateDatabaseUserParams{Name: "eve", Password: "hunter2", Database: "other", Remote: true}))
	}
	if got := names(); !slices.Equal(got, []string{"other", "shop"}) {
		t.Errorf("got databases %v", got)
	}

	t.Run("users of one database share its tables", func(t *testing.T) {
		anna := must2(t)(b.login(here, "anna", "hunter2 'x'\"$;", "shop"))
		_, err := anna.Exec(ctx, "CREATE TABLE goods (name text); INSERT INTO goods VALUES ('tea')")
		b.must(err)
		bert := must2(t)(b.login(elsewhere, "bert", "hunter2ü", "shop"))
		var name string
		b.must(bert.QueryRow(ctx, "UPDATE goods SET name = 'coffee' RETURNING name").Scan(&name))
		if name != "coffee" {
			t.Errorf("got %q", name)
		}
	})
	for name, test := range map[string]struct{ from, user, password, database string }{
		"a wrong password":                    {here, "anna", "hunter3", "shop"},
		"another's database":                  {elsewhere, "eve", "hunter2", "shop"},
		"a local user from another machine":   {elsewhere, "anna", "hunter2 'x'\"$;", "shop"},
		"a database that everybody may enter": {elsewhere, "eve", "hunter2", "postgres"},
		"the same from this host":             {here, "anna", "hunter2 'x'\"$;", "template1"},
		"the superuser from another machine":  {elsewhere, "postgres", "", "postgres"},
	} {
		t.Run("does not let in: "+name, func(t *testing.T) {
			if _, err := b.login(test.from, test.user, test.password, test.database); err == nil {
				t.Error("let in")
			}
		})
	}
	t.Run("list_users", func(t *testing.T) {
		got := must[[]agentapi.DatabaseUser](t)(b.ListUsers(ctx, handlers.NoParams{}))
		want := []agentapi.DatabaseUser{{Name: "anna", Host: "localhost", Databases: []string{"shop"}},
			{Name: "bert", Host: "%", Databases: []string{"shop"}}, {Name: "eve", Host: "%", Databases: []string{"other"}}}
		if !slices.EqualFunc(got, want, func(a, b agentapi.DatabaseUser) bool {
			return a.Name == b.Name && a.Host == b.Host && slices.Equal(a.Databases, b.Databases)
		}) {
			t.Errorf("got %+v", got)
		}
	})
	t.Run("dropping a user ends its connections and leaves its tables", func(t *testing.T) {
		anna := must2(t)(b.login(here, "anna", "hunter2 'x'\"$;", "shop"))
		_, err := anna.Exec(ctx, "SET ROLE none; CREATE SCHEMA own; CREATE TABLE own.kept (x int)")
		if err != nil {
			t.Fatal(err)
		}
		for range 2 {
			do(b.DropUser(ctx, agentapi.DropDatabaseUserParams{Name: "anna"}))
		}
		if err := anna.Ping(ctx); err == nil {
			t.Error("the connection is open")
		}
		if got := b.admin("shop", "SELECT tableowner FROM pg_tables WHERE tablename = 'kept'"); got != "reeve_db_shop" {
			t.Errorf("got owner %q", got)
		}
	})
	t.Run("dropping a database ends its connections", func(t *testing.T) {
		bert := must2(t)(b.login(here, "bert", "hunter2ü", "shop"))
		for range 2 {
			do(b.DropDatabase(ctx, agentapi.NameParams{Name: "shop"}))
		}
		if err := bert.Ping(ctx); err == nil {
			t.Error("the connection is open")
		}
		do(b.DropUser(ctx, agentapi.DropDatabaseUserParams{Name: "bert"}))
		if got := b.admin("postgres", "SELECT string_agg(rolname, ' ' ORDER BY rolname) FROM pg_roles WHERE rolname !~ '^pg_'"); got != "eve postgres reeve_db_other reeve_remote reeve_users" {
			t.Errorf("got roles %s", got)
		}
	})
	t.Run("a password is nowhere in the server's log", func(t *testing.T) {
		text := must[[]byte](t)(os.ReadFile(filepath.Join(b.dir, "log")))
		if !strings.Contains(string(text), "CREATE ROLE \"anna\"") || strings.Contains(string(text), "hunter2") {
			t.Error("the log has no statements, or has a password")
		}
	})
}

func TestRefusals(t *testing.T) {
	b := newBed(t)
	ctx := t.Context()
	b.admin("postgres", "CREATE ROLE byhand LOGIN SUPERUSER; ")
	b.admin("postgres", "CREATE DATABASE byhand")
	user := func(p agentapi.CreateDatabaseUserParams) func() error {
		return func() error {
			if p.Password == "" {
				p.Password = "hunter2"
			}
			_, err := b.CreateUser(ctx, p)
			return err
		}
	}
	database := func(p agentapi.CreateDatabaseParams) func() error {
		return func() error { _, err := b.CreateDatabase(ctx, p); return err }
	}
	before := b.state()
	for name, test := range map[string]struct {
		do   func() error
		want agentapi.Kind
	}{
		"a name with a quote":        {database(agentapi.CreateDatabaseParams{Name: `x"; DROP DATABASE postgres; --`}), agentapi.KindInvalid},
		"a name that is too long":    {database(agentapi.CreateDatabaseParams{Name: strings.Repeat("x", 55)}), agentapi.KindInvalid},
		"the server's own database":  {database(agentapi.CreateDatabaseParams{Name: "template1"}), agentapi.KindInvalid},
		"an unknown character set":   {database(agentapi.CreateDatabaseParams{Name: "x", Charset: "klingon"}), agentapi.KindInvalid},
		"an unknown collation":       {database(agentapi.CreateDatabaseParams{Name: "x", Collation: "tlh"}), agentapi.KindInvalid},
		"a collation of our making":  {database(agentapi.CreateDatabaseParams{Name: "x", Collation: "x'y"}), agentapi.KindInvalid},
		"the superuser":              {user(agentapi.CreateDatabaseUserParams{Name: "postgres"}), agentapi.KindInvalid},
		"a role of our own":          {user(agentapi.CreateDatabaseUserParams{Name: "reeve_users"}), agentapi.KindInvalid},
		"a user made by hand":        {user(agentapi.CreateDatabaseUserParams{Name: "byhand"}), agentapi.KindConflict},
		"a host":                     {user(agentapi.CreateDatabaseUserParams{Name: "x", Host: "%"}), agentapi.KindInvalid},
		"a database that is missing": {user(agentapi.CreateDatabaseUserParams{Name: "x", Database: "nope"}), agentapi.KindNotFound},
		"a database made by hand":    {user(agentapi.CreateDatabaseUserParams{Name: "x", Database: "byhand"}), agentapi.KindConflict},
		"a password with a NUL":      {user(agentapi.CreateDatabaseUserParams{Name: "x", Password: "a\x00b"}), agentapi.KindInvalid},
		"dropping a user made by hand": {func() error {
			_, err := b.DropUser(ctx, agentapi.DropDatabaseUserParams{Name: "byhand"})
			return err
		}, agentapi.KindConflict},
		"resetting a user that is missing": {func() error {
			_, err := b.ResetPassword(ctx, agentapi.ResetPasswordParams{User: "nobody"})
			return err
		}, agentapi.KindNotFound},
	} {
		t.Run(name, func(t *testing.T) {
			wantKind(t, test.do(), test.want)
			if after := b.state(); after != before {
				t.Errorf("something changed\nbefore:\n%s\nafter:\n%s", before, after)
			}
		})
	}
	t.Run("a database made by hand is left as it is", func(t *testing.T) {
		do(t)(b.CreateDatabase(ctx, agentapi.CreateDatabaseParams{Name: "byhand"}))
		if after := b.state(); after != before {
			t.Errorf("something changed\nbefore:\n%s\nafter:\n%s", before, after)
		}
	})
	t.Run("a server that is down is unavailable, with a hint", func(t *testing.T) {
		do(t)(b.StopService(ctx, agentapi.ReasonParams{}))
		err := database(agentapi.CreateDatabaseParams{Name: "x"})()
		wantKind(t, err, agentapi.KindUnavailable)
		if !strings.Contains(err.Error(), "start_service") {
			t.Errorf("got %v", err)
		}
	})
}

func TestEveryFailedStepIsUndone(t *testing.T) {
	b := newBed(t)
	ctx := t.Context()
	t.Run("create_database", func(t *testing.T) {
		b.breakEachCall(func() error {
			_, err := b.CreateDatabase(ctx, agentapi.CreateDatabaseParams{Name: "shop"})
			return err
		})
	})
	t.Run("create_user, the first that is remote", func(t *testing.T) {
		b.breakEachCall(func() error {
			_, err := b.CreateUser(ctx, agentapi.CreateDatabaseUserParams{Name: "anna", Password: "hunter2", Database: "shop", Remote: true})
			return err
		})
	})
	t.Run("reset_password", func(t *testing.T) {
		b.breakEachCall(func() error {
			_, err := b.ResetPassword(ctx, agentapi.ResetPasswordParams{})
			return err
		})
	})
	t.Run("reset_password again", func(t *testing.T) {
		b.breakEachCall(func() error {
			_, err := b.ResetPassword(ctx, agentapi.ResetPasswordParams{})
			return err
		})
	})
}

func TestInterruptedChange(t *testing.T) {
	b := newBed(t)
	ctx := t.Context()
	before := b.state()
	srv := must[*server](t)(b.server())
	if _, err := srv.openFor(ctx, true); err != nil { // and killed here, before the user was made
		t.Fatal(err)
	}
	if b.state() == before {
		t.Fatal("nothing changed")
	}
	if err := b.newService().Start(ctx); err != nil {
		t.Fatal(err)
	}
	if after := b.state(); after != before {
		t.Errorf("before:\n%s\nafter:\n%s", before, after)
	}
}

func TestResetPassword(t *testing.T) {
	b := newBed(t)
	ctx := t.Context()
	t.Run("71 a random password lets scalr_master in", func(t *testing.T) {
		password := must[string](t)(b.ResetPassword(ctx, agentapi.ResetPasswordParams{}))
		if !regexp.MustCompile(`^[A-Za-z0-9]{10}$`).MatchString(password) {
			t.Errorf("got %q", password)
		}
		conn := must2(t)(b.login(here, "scalr_master", password, "scalr_master"))
		var super string
		b.must(conn.QueryRow(ctx, "SHOW is_superuser").Scan(&super))
		if super != "on" {
			t.Errorf("is_superuser is %s", super)
		}
		if want := []string{"useradd scalr_master", "chpasswd scalr_master:" + password}; !slices.Equal(b.accounts, want) {
			t.Errorf("got account calls %v", b.accounts)
		}
	})
	for name, password := range map[string]string{
		"71 quotes, $ and ; work literally": `a'b"c$d;e\f$(id)` + "`x`", "letters beyond ASCII": "pässwörd ①", "control characters": "a\tb\x01",
	} {
		t.Run(name, func(t *testing.T) {
			got := must[string](t)(b.ResetPassword(ctx, agentapi.ResetPasswordParams{NewPassword: agentapi.Ptr(agentapi.Secret(password))}))
			if got != password {
				t.Errorf("got %q", got)
			}
			b.stockLogin("scalr_master", password)
		})
	}
	t.Run("the superuser's, by name", func(t *testing.T) {
		password := must[string](t)(b.ResetPassword(ctx, agentapi.ResetPasswordParams{User: "postgres"}))
		must2(t)(b.login(here, "postgres", password, "postgres"))
	})
	t.Run("a line break is refused where an account of the host would get it", func(t *testing.T) {
		_, err := b.ResetPassword(ctx, agentapi.ResetPasswordParams{NewPassword: agentapi.Ptr(agentapi.Secret("a\nroot:x"))})
		wantKind(t, err, agentapi.KindInvalid)
	})
}

func TestServiceVerbs(t *testing.T) {
	b := newBed(t)
	ctx, do := t.Context(), do(t)
	status := func() int { return must[int](t)(b.ServiceStatus(ctx, handlers.NoParams{})) }
	pid := func() string { return b.admin("postgres", "SELECT pg_postmaster_start_time()") }
	if got := status(); got != 0 {
		t.Errorf("74 a running server: got %d", got)
	}
	started := pid()
	do(b.StartService(ctx, agentapi.ReasonParams{}))
	do(b.ReloadService(ctx, agentapi.ReasonParams{}))
	if pid() != started {
		t.Error("start or reload of a running server restarted it")
	}
	do(b.RestartService(ctx, agentapi.ReasonParams{}))
	if pid() == started {
		t.Error("74 restart_service did not restart at once")
	}
	for range 2 {
		do(b.StopService(ctx, agentapi.ReasonParams{}))
		if got := status(); got != 3 {
			t.Errorf("74 a stopped server: got %d", got)
		}
	}
	do(b.ReloadService(ctx, agentapi.ReasonParams{}))
	if got := status(); got != 0 {
		t.Errorf("reload of a stopped server: got %d", got)
	}
	t.Run("what a killed server leaves does not look like one", func(t *testing.T) {
		left := must[[]byte](t)(os.ReadFile(filepath.Join(b.data(), "postmaster.pid")))
		do(b.StopService(ctx, agentapi.ReasonParams{}))
		b.must(os.WriteFile(filepath.Join(b.data(), "postmaster.pid"), left, 0o600))
		if got := status(); got != 3 {
			t.Errorf("got %d", got)
		}
		_, err := b.ListDatabases(ctx, handlers.NoParams{})
		wantKind(t, err, agentapi.KindUnavailable)
		b.must(os.Remove(filepath.Join(b.data(), "postmaster.pid")))
	})
}

// stockLogin logs in with PostgreSQL's own client library.
func (b *bed) stockLogin(user, password string) {
	b.t.Helper()
	cmd := exec.CommandContext(b.t.Context(), bin+"/psql", "-XAtq", "-h", here, "-p", strconv.Itoa(b.port), "-U", user, "-d", "postgres", "-c", "SELECT 1")
	cmd.Env = []string{"PGPASSWORD=" + password, "LC_ALL=C.UTF-8"}
	if out, err := cmd.CombinedOutput(); err != nil {
		b.t.Errorf("psql: %v: %s", err, out)
	}
}

func must2(t testing.TB) func(*pgx.Conn, error) *pgx.Conn { return must[*pgx.Conn](t) }
