package postgresql

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/reeve-paas/reeve/agent/agentapi"
	"github.com/reeve-paas/reeve/agent/operation"
	"github.com/reeve-paas/reeve/handlers"
	"github.com/reeve-paas/reeve/handlers/host"
	"github.com/reeve-paas/reeve/handlers/web/webtest"
)

const (
	major    = 15
	bin      = "/usr/lib/postgresql/15/bin"
	testUnit = "postgresql@15-main.service"
)

// bed is a private cluster of one test, laid out as Debian does, and the handler in front of it. Units and accounts of the
// host are faked; everything else is real.
type bed struct {
	*Service
	t    testing.TB
	dir  string
	host *host.Host
	ops  *operation.Registry
	port int
	user host.User
	faults
	redHat   bool // configuration among the data, and no conf.d
	sent     messages
	storage  Storage
	accounts []string // what useradd, userdel and chpasswd were asked
}

// faults makes the nth command or unit call fail.
type faults struct {
	mu     sync.Mutex
	calls  []string
	failAt int
}

var errInjected = errors.New("failure injected by the test")

func (f *faults) call(name string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if strings.HasPrefix(name, "run pg_isready") { // asked again until the server answers
		return nil
	}
	f.calls = append(f.calls, name)
	if f.failAt--; f.failAt == 0 {
		return errInjected
	}
	return nil
}

// breakCall makes the nth call from now on fail; 0 none.
func (f *faults) breakCall(n int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.calls, f.failAt = nil, n
}

// broke says whether the failure happened.
func (f *faults) broke() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.failAt <= 0
}

var machine = host.New(host.Options{})

func newBed(t testing.TB) *bed {
	t.Helper()
	webtest.NeedBinary(t, bin+"/postgres")
	if os.Geteuid() != 0 {
		t.Skip("needs root: the agent runs psql as the user postgres")
	}
	user, err := machine.LookupUser(superuser)
	if err != nil {
		t.Fatal(err)
	}
	dir, err := os.MkdirTemp("", "reeve-pg-") // short: a socket's path has room for 107 bytes
	if err != nil {
		t.Fatal(err)
	}
	b := &bed{t: t, dir: dir, user: user, port: webtest.FreePort(t)}
	t.Cleanup(func() { os.RemoveAll(dir) })
	b.own(dir)
	b.initCluster()
	t.Cleanup(func() { b.ctl(context.Background(), "stop", "-m", "immediate") })
	b.must(b.ctl(t.Context(), "start"))
	b.host = host.New(host.Options{Units: (*bedUnits)(b), Runner: (*bedRunner)(b), Layout: &host.Layout{
		Family: "debian", PostgreSQL: []host.PostgreSQLLayout{{
			Dir: dir + "/etc", Conf: dir + "/etc/*/main", Data: dir + "/elsewhere/*", Bin: "/usr/lib/postgresql/*/bin", Unit: "postgresql@*-main.service"}}}})
	b.ops = must[*operation.Registry](t)(operation.Open(operation.Options{Dir: filepath.Join(dir, "operations")}))
	b.Service = b.newService()
	return b
}

func (b *bed) newService() *Service {
	return New(Options{Host: b.host, Operations: b.ops, Storage: b.storage, Messages: &b.sent, BackupDir: filepath.Join(b.dir, "backups"), StartTimeout: 20 * time.Second})
}

// messages keeps what was sent.
type messages struct {
	mu   sync.Mutex
	list []string
}

func (m *messages) Send(_ context.Context, queue, name string, body any) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	text, err := json.Marshal(body)
	m.list = append(m.list, queue+" "+name+" "+string(text))
	return err
}

func (m *messages) last() string {
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.list) == 0 {
		return ""
	}
	return m.list[len(m.list)-1]
}

func (b *bed) must(err error) {
	b.t.Helper()
	if err != nil {
		b.t.Fatal(err)
	}
}

func (b *bed) own(path string) {
	b.t.Helper()
	b.must(os.Chmod(path, 0o755))
	b.must(os.Chown(path, int(b.user.UID), int(b.user.GID)))
}

func (b *bed) conf() string {
	if b.redHat {
		return b.data()
	}
	return filepath.Join(b.dir, "etc/15/main")
}

func (b *bed) data() string { return filepath.Join(b.dir, "data") }

// as runs a command as PostgreSQL's user.
func (b *bed) as(ctx context.Context, name string, args ...string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir, cmd.Env = "/", []string{"PATH=" + bin + ":/usr/bin:/bin", "LC_ALL=C.UTF-8"}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: b.user.UID, Gid: b.user.GID}}
	out, err := cmd.Output()
	if e, ok := errors.AsType[*exec.ExitError](err); ok {
		err = fmt.Errorf("%s %v: %w: %s", name, args, err, e.Stderr)
	}
	return out, err
}

// template is one initialised data directory, which tests copy: initdb takes a second.
var template struct {
	once sync.Once
	dir  string
	err  error
}

func TestMain(m *testing.M) {
	code := m.Run()
	if template.dir != "" {
		os.RemoveAll(template.dir)
	}
	os.Exit(code)
}

func (b *bed) initCluster() {
	b.t.Helper()
	template.once.Do(func() {
		if template.dir, template.err = os.MkdirTemp("", "reeve-pg-template-"); template.err == nil {
			b.own(template.dir)
			_, template.err = b.as(context.Background(), bin+"/initdb", "-D", template.dir+"/data", "-A", "peer", "--no-sync", "-E", "UTF8", "--locale=C.UTF-8")
		}
	})
	b.must(template.err)
	_, err := b.as(b.t.Context(), "cp", "-a", template.dir+"/data", b.data())
	b.must(err)
	for _, d := range []string{"etc", "etc/15", "etc/15/main", "etc/15/main/conf.d"} {
		b.must(os.MkdirAll(filepath.Join(b.dir, d), 0o755))
		b.own(filepath.Join(b.dir, d))
	}
	b.write("postgresql.conf", fmt.Sprintf("data_directory = '%s'\t\t# use data in another directory\nhba_file = '%s/pg_hba.conf'\nport = %d\n"+
		"unix_socket_directories = '%s'\nfsync = off\nshared_buffers = 16MB\nmax_connections = 30\nlog_statement = all\ninclude_dir = 'conf.d'\t# as Debian has it\n", b.data(), b.conf(), b.port, b.dir))
	b.write("pg_hba.conf", "local   all   postgres                 peer\nlocal   all   all                      peer\nhost    all   all   127.0.0.1/32       scram-sha-256\nlocal   replication   all   peer\n")
}

func (b *bed) write(name, text string) {
	b.t.Helper()
	path := filepath.Join(b.conf(), name)
	b.must(os.WriteFile(path, []byte(text), 0o640))
	b.must(os.Chown(path, int(b.user.UID), int(b.user.GID)))
}

func (b *bed) ctl(ctx context.Context, verb string, args ...string) error {
	_, err := b.as(ctx, bin+"/pg_ctl", append([]string{verb, "-w", "-s", "-t", "30", "-D", b.data(), "-l", filepath.Join(b.dir, "log"),
		"-o", "-c config_file=" + b.conf() + "/postgresql.conf"}, args...)...)
	if err != nil {
		text, _ := os.ReadFile(filepath.Join(b.dir, "log"))
		err = fmt.Errorf("%w\n%s", err, text[max(0, len(text)-2000):])
	}
	return err
}

func (b *bed) running() bool {
	_, err := os.Stat(filepath.Join(b.data(), "postmaster.pid"))
	return err == nil
}

// bedRunner runs commands for real, except those that would change this machine's accounts.
type bedRunner bed

func (r *bedRunner) Run(ctx context.Context, c host.Cmd) (host.Output, error) {
	b := (*bed)(r)
	if err := b.call("run " + filepath.Base(c.Path) + " " + strings.ReplaceAll(firstWords(string(c.Stdin)), "\n", " ")); err != nil {
		return host.Output{}, err
	}
	if strings.Contains(strings.Join(append(c.Args, c.Env...), " "), "hunter2") {
		b.t.Error("a password is on a command line or in an environment")
	}
	switch c.Path {
	case "useradd", "userdel":
		b.accounts = append(b.accounts, c.Path+" "+c.Args[len(c.Args)-1])
		return host.Output{}, nil
	case "chpasswd":
		b.accounts = append(b.accounts, "chpasswd "+strings.TrimSuffix(string(c.Stdin), "\n"))
		return host.Output{}, nil
	}
	out, err := machine.Run(ctx, c)
	if failed, ok := errors.AsType[*host.CommandError](err); ok {
		return failed.Output, failed.Err
	}
	return out, err
}

func firstWords(s string) string { return s[:min(len(s), 60)] }

// bedUnits is an init system with one unit, driven by pg_ctl.
type bedUnits bed

func (u *bedUnits) do(ctx context.Context, verb, unit string) error {
	if err := (*bed)(u).call(verb + " " + unit); err != nil {
		return err
	}
	if unit != testUnit && !(*bed)(u).redHat || unit != "postgresql.service" && (*bed)(u).redHat {
		return fmt.Errorf("unit %s not found", unit)
	}
	running := (*bed)(u).running()
	if verb == "start" && running || verb == "stop" && !running {
		return nil
	}
	return (*bed)(u).ctl(ctx, verb)
}

func (u *bedUnits) Start(ctx context.Context, unit string) error   { return u.do(ctx, "start", unit) }
func (u *bedUnits) Stop(ctx context.Context, unit string) error    { return u.do(ctx, "stop", unit) }
func (u *bedUnits) Restart(ctx context.Context, unit string) error { return u.do(ctx, "restart", unit) }
func (u *bedUnits) Reload(ctx context.Context, unit string) error  { return u.do(ctx, "reload", unit) }
func (u *bedUnits) Enable(context.Context, string) error           { return nil }
func (u *bedUnits) Disable(context.Context, string) error          { return nil }
func (u *bedUnits) DaemonReload(context.Context) error             { return nil }
func (u *bedUnits) State(context.Context, string) (host.UnitState, error) {
	if (*bed)(u).running() {
		return host.UnitState{Load: "loaded", Active: "active", Sub: "running"}, nil
	}
	return host.UnitState{Load: "loaded", Active: "inactive", Sub: "dead"}, nil
}

// admin runs a query as the superuser, over the socket, without our code.
func (b *bed) admin(database, query string) string {
	b.t.Helper()
	out, err := b.as(b.t.Context(), bin+"/psql", "-XAtq", "-v", "ON_ERROR_STOP=1", "-h", b.dir, "-p", strconv.Itoa(b.port), "-d", database, "-c", query)
	b.must(err)
	return strings.TrimSpace(string(out))
}

// login connects as a stock client does: over TCP, with a password, from an address.
func (b *bed) login(from, user, password, database string) (*pgx.Conn, error) {
	b.t.Helper()
	c, err := pgx.ParseConfig("sslmode=disable")
	b.must(err)
	c.Host, c.Port, c.User, c.Password, c.Database = "127.0.0.1", uint16(b.port), user, password, database
	c.ConnectTimeout = 10 * time.Second
	c.DialFunc = (&net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}).DialContext
	conn, err := pgx.ConnectConfig(b.t.Context(), c)
	if err == nil {
		b.t.Cleanup(func() { conn.Close(context.Background()) })
	}
	return conn, err
}

// newRedHatBed is laid out as Red Hat's own packages do.
func newRedHatBed(t testing.TB) *bed {
	t.Helper()
	b := newBed(t)
	b.must(b.ctl(t.Context(), "stop", "-m", "immediate"))
	settings := string(must[[]byte](t)(os.ReadFile(b.conf() + "/postgresql.conf")))
	before, after, _ := strings.Cut(settings, "hba_file")
	_, after, _ = strings.Cut(after, "\n")
	settings, _, _ = strings.Cut(before+after, "include_dir")
	_, settings, _ = strings.Cut(settings, "\n") // data_directory
	b.must(os.RemoveAll(b.dir + "/etc"))
	b.redHat = true
	b.write("postgresql.conf", settings)
	b.write("pg_hba.conf", "local   all   all   peer\nhost    all   all   127.0.0.1/32   ident\n")
	b.must(b.ctl(t.Context(), "start"))
	b.host = host.New(host.Options{Units: (*bedUnits)(b), Runner: (*bedRunner)(b), Layout: &host.Layout{
		Family: "redhat", PostgreSQL: []host.PostgreSQLLayout{{Conf: b.data(), Data: b.data(), Bin: bin, Unit: "postgresql.service"}}}})
	b.Service = b.newService()
	return b
}

const (
	here      = "127.0.0.1"
	elsewhere = "127.0.0.7" // no address of this machine's interfaces, so for the server somebody else's
)

// state is everything our methods may change, as text that two states are compared by.
func (b *bed) state() string {
	b.t.Helper()
	var text strings.Builder
	text.WriteString(b.admin("postgres", "SELECT rolname, rolcanlogin, rolsuper, rolpassword FROM pg_authid WHERE rolname !~ '^pg_' ORDER BY 1;"+
		"SELECT datname, pg_get_userbyid(datdba), datacl FROM pg_database ORDER BY 1;"+
		"SELECT roleid::regrole, member::regrole FROM pg_auth_members WHERE roleid::regrole::text !~ '^pg_' ORDER BY 1, 2;"+
		"SELECT setdatabase, setrole::regrole, setconfig FROM pg_db_role_setting ORDER BY 1, 2;"+
		"SHOW listen_addresses; SELECT count(*) FROM pg_hba_file_rules"))
	b.must(filepath.WalkDir(b.conf(), func(path string, d os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if b.redHat && path != b.data() && !strings.Contains(path, "conf") {
			if d.IsDir() {
				return filepath.SkipDir
			}
			return nil
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		fmt.Fprintf(&text, "%s %s %d\n", info.Mode(), path, info.Sys().(*syscall.Stat_t).Uid)
		if d.Type().IsRegular() {
			data, err := os.ReadFile(path)
			text.Write(data)
			return err
		}
		return nil
	}))
	return text.String()
}

// breakEachCall proves that do undoes itself whichever step fails.
func (b *bed) breakEachCall(do func() error) {
	b.t.Helper()
	before := b.state()
	for n := 1; ; n++ {
		b.breakCall(n)
		err := do()
		broke, calls := b.broke(), b.calls
		b.breakCall(0)
		if !broke {
			b.must(err)
			if n < 2 {
				b.t.Error("nothing was called")
			}
			return
		}
		if err == nil {
			b.t.Fatalf("call %d was broken (%s) and nobody was told", n, calls[n-1])
		}
		if after := b.state(); after != before {
			b.t.Fatalf("call %d was broken (%s): %v\nbefore:\n%s\nafter:\n%s", n, calls[n-1], err, before, after)
		}
	}
}

func must[T any](t testing.TB) func(T, error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func do(t testing.TB) func(handlers.Null, error) {
	return func(_ handlers.Null, err error) { t.Helper(); must[int](t)(0, err) }
}

func wantKind(t testing.TB, err error, want agentapi.Kind) {
	t.Helper()
	e, ok := errors.AsType[*agentapi.Error](err)
	if !ok || e.Kind != want {
		t.Errorf("got %v, want an error of kind %s", err, want)
	}
}
