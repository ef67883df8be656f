package mongodb

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"
	"go.yaml.in/yaml/v3"

	"github.com/reeve-paas/reeve/agent/agentapi"
	"github.com/reeve-paas/reeve/handlers"
	"github.com/reeve-paas/reeve/handlers/host"
	"github.com/reeve-paas/reeve/test/mongostandin"
	"github.com/reeve-paas/reeve/test/ports"
)

// bed is a host in a directory with a stand-in for mongod as its one unit, configured by its mongod.conf.
type bed struct {
	*Service
	t    *testing.T
	root string
	port string
	host *host.Host

	mu     sync.Mutex // protects the fields below
	server *mongostandin.Server
	data   mongostandin.Data
	mms    host.UnitState
	on     map[string]bool // enabled units
	calls  []string
	failAt int
}

var errInjected = errors.New("failure injected by the test")

const conf = "# mongod.conf\nnet:\n  port: %s # as packaged\n  bindIp: 127.0.0.1\n\n#security:\n\nstorage:\n  dbPath: /var/lib/mongodb\n"

func newBed(t *testing.T) *bed {
	t.Helper()
	port := strconv.Itoa(ports.Free(t))
	b := &bed{t: t, root: t.TempDir(), port: port, on: map[string]bool{}}
	layout := host.Debian
	b.host = host.New(host.Options{Root: b.root, Units: b, Runner: b, Layout: &layout})
	b.write(modernConf, fmt.Sprintf(conf, port))
	b.write("/etc/passwd", "root:x:0:0::/root:/bin/sh\n")
	b.write("/etc/group", "root:x:0:\n")
	b.Service = New(Options{Host: b.host, StateDir: "/var/lib/reeve-agent", StartTimeout: 5 * time.Second})
	b.must(b.Start(t.Context(), "mongod.service"))
	t.Cleanup(func() { b.stop() })
	b.breakCall(0)
	return b
}

func (b *bed) must(err error) {
	b.t.Helper()
	if err != nil {
		b.t.Fatal(err)
	}
}

func (b *bed) write(path, text string) {
	b.t.Helper()
	full := filepath.Join(b.root, path)
	b.must(os.MkdirAll(filepath.Dir(full), 0o755))
	b.must(os.WriteFile(full, []byte(text), 0o644))
}

func (b *bed) read(path string) string {
	text, err := os.ReadFile(filepath.Join(b.root, path))
	if err != nil {
		return err.Error()
	}
	return string(text)
}

func (b *bed) call(name string) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.calls = append(b.calls, name)
	if b.failAt--; b.failAt == 0 {
		return errInjected
	}
	return nil
}

func (b *bed) breakCall(n int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.calls, b.failAt = nil, n
}

// Run is mongod --outputConfig.
func (b *bed) Run(_ context.Context, c host.Cmd) (host.Output, error) {
	if err := b.call("run " + c.Path); err != nil {
		return host.Output{}, err
	}
	text, err := os.ReadFile(c.Args[1])
	var into map[string]any
	if err = errors.Join(err, yaml.Unmarshal(text, &into)); err != nil {
		return host.Output{Code: 2, Stderr: []byte(err.Error())}, nil
	}
	return host.Output{}, nil
}

func (b *bed) start() error {
	var c struct {
		Net struct {
			BindIP string `yaml:"bindIp"`
		}
		Security struct{ Authorization string }
	}
	if err := yaml.Unmarshal([]byte(b.read(modernConf)), &c); err != nil {
		return err
	}
	s, err := mongostandin.New(net.JoinHostPort(c.Net.BindIP, b.port), mongostandin.Options{Auth: c.Security.Authorization == "enabled", Data: b.data})
	if err != nil {
		return err
	}
	b.server = s
	go s.Serve()
	return nil
}

func (b *bed) stop() {
	if b.server != nil {
		b.data = b.server.Data()
		b.server.Close()
		b.server = nil
	}
}

func (b *bed) unit(verb, unit string) error {
	if err := b.call(verb + " " + unit); err != nil {
		return err
	}
	if unit == mmsUnit {
		if b.mms.Load != "loaded" {
			return errors.New("no such unit")
		}
		switch verb {
		case "start", "restart":
			b.mms.Active = "active"
		case "stop":
			b.mms.Active = "inactive"
		case "enable", "disable":
			b.on[unit] = verb == "enable"
		}
		return nil
	}
	if verb == "stop" || verb == "restart" {
		b.stop()
	}
	if verb == "start" && b.server == nil || verb == "restart" {
		return b.start()
	}
	return nil
}

func (b *bed) Start(_ context.Context, unit string) error   { return b.unit("start", unit) }
func (b *bed) Stop(_ context.Context, unit string) error    { return b.unit("stop", unit) }
func (b *bed) Restart(_ context.Context, unit string) error { return b.unit("restart", unit) }
func (b *bed) Reload(_ context.Context, unit string) error  { return b.unit("reload", unit) }
func (b *bed) Enable(_ context.Context, unit string) error  { return b.unit("enable", unit) }
func (b *bed) Disable(_ context.Context, unit string) error { return b.unit("disable", unit) }
func (b *bed) DaemonReload(context.Context) error           { return nil }
func (b *bed) State(_ context.Context, unit string) (host.UnitState, error) {
	if unit == mmsUnit {
		if b.mms.Load == "" {
			return host.UnitState{Load: "not-found", Active: "inactive"}, nil
		}
		return b.mms, nil
	}
	if b.server == nil {
		return host.UnitState{Load: "loaded", Active: "inactive"}, nil
	}
	return host.UnitState{Load: "loaded", Active: "active"}, nil
}

// client logs in as a stock client does.
func (b *bed) client(mechanism, user, password, database string) (*mongo.Client, error) {
	b.t.Helper()
	o := options.Client().ApplyURI("mongodb://127.0.0.1:" + b.port + "/?directConnection=true").SetServerSelectionTimeout(5 * time.Second)
	if user != "" {
		o.SetAuth(options.Credential{AuthMechanism: mechanism, AuthSource: database, Username: user, Password: password})
	}
	c, err := mongo.Connect(o)
	if err != nil {
		return nil, err
	}
	b.t.Cleanup(func() { c.Disconnect(context.Background()) })
	return c, c.Ping(b.t.Context(), nil)
}

func (b *bed) login(user, password, database string) error {
	b.t.Helper()
	_, err := b.client("", user, password, database)
	return err
}

// state is everything our methods may change, as text that two states are compared by.
func (b *bed) state() string {
	b.t.Helper()
	var text strings.Builder
	if b.server != nil {
		users := b.server.Data().Users
		keys := make([]string, 0, len(users))
		for k, u := range users {
			keys = append(keys, fmt.Sprint(k, " ", u.Password, u.Roles))
		}
		slices.Sort(keys)
		fmt.Fprintln(&text, b.server.Address(), strings.Join(keys, "\n"))
	}
	fmt.Fprintln(&text, b.mms, b.on[mmsUnit])
	b.must(filepath.WalkDir(b.root, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		data, err := os.ReadFile(path)
		fmt.Fprintln(&text, info.Mode(), strings.TrimPrefix(path, b.root), string(data))
		return err
	}))
	return text.String()
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

func TestDatabasesAndUsers(t *testing.T) {
	b := newBed(t)
	ctx, do := t.Context(), do(t)
	far := agentapi.CreateDatabaseUserParams{Name: "far", Password: "hunter2 'x\"$ü", Database: "shop", Remote: true}
	do(b.CreateDatabase(ctx, agentapi.CreateDatabaseParams{Name: "shop"}))
	do(b.CreateUser(ctx, agentapi.CreateDatabaseUserParams{Name: "near", Password: "hunter2", Database: "shop"}))
	for range 2 { // the second time nothing is left to do
		do(b.CreateUser(ctx, far))
	}
	t.Run("a user from other machines makes mongod listen and ask for passwords", func(t *testing.T) {
		if !strings.HasPrefix(b.server.Address(), "0.0.0.0:") && !strings.HasPrefix(b.server.Address(), "[::]:") {
			t.Errorf("it listens on %s", b.server.Address())
		}
		c := must[*mongo.Client](t)(b.client("", "", "", ""))
		if err := c.Database("shop").RunCommand(ctx, bson.D{{Key: "usersInfo", Value: 1}}).Err(); !isCode(err, codeUnauthorized) {
			t.Errorf("without a login: %v", err)
		}
		if text := b.read(modernConf); !strings.Contains(text, "# as packaged") || !strings.Contains(text, "dbPath: /var/lib/mongodb") {
			t.Errorf("the rest of the file did not stay:\n%s", text)
		}
	})
	t.Run("users have their database, and theirs only", func(t *testing.T) {
		for _, mechanism := range []string{"SCRAM-SHA-1", "SCRAM-SHA-256"} {
			c := must[*mongo.Client](t)(b.client(mechanism, "far", string(far.Password), "shop"))
			if _, err := c.Database("shop").Collection("goods").InsertOne(ctx, bson.D{{Key: "name", Value: mechanism}}); err != nil {
				t.Error(err)
			}
			if _, err := c.Database("other").Collection("goods").InsertOne(ctx, bson.D{{Key: "name", Value: "x"}}); err == nil {
				t.Error("wrote to another database")
			}
		}
		if err := b.login("far", "wrong", "shop"); err == nil {
			t.Error("a wrong password let in")
		}
	})
	t.Run("list_users and list_databases", func(t *testing.T) {
		users := must[[]agentapi.DatabaseUser](t)(b.ListUsers(ctx, handlers.NoParams{}))
		if len(users) != 2 || users[0].Name != "far" || users[0].Host != "%" || !slices.Equal(users[0].Databases, []string{"shop"}) || users[1].Name != "near" {
			t.Errorf("got %+v", users)
		}
		if got := must[[]string](t)(b.ListDatabases(ctx, handlers.NoParams{})); !slices.Equal(got, []string{"shop"}) {
			t.Errorf("got %v", got)
		}
	})
	t.Run("drop_user and drop_database", func(t *testing.T) {
		for range 2 {
			do(b.DropUser(ctx, agentapi.DropDatabaseUserParams{Name: "near", Database: "shop"}))
		}
		if err := b.login("near", "hunter2", "shop"); err == nil {
			t.Error("a dropped user came in")
		}
		for range 2 {
			do(b.DropDatabase(ctx, agentapi.NameParams{Name: "shop"}))
		}
		if err := b.login("far", string(far.Password), "shop"); err == nil {
			t.Error("a user of a dropped database came in")
		}
		if got := must[[]string](t)(b.ListDatabases(ctx, handlers.NoParams{})); len(got) != 0 {
			t.Errorf("got %v", got)
		}
	})
}

func TestEveryFailedStepIsUndone(t *testing.T) {
	b := newBed(t)
	ctx := t.Context()
	b.mms = host.UnitState{Load: "loaded", Active: "inactive"}
	mms := agentapi.EnableMMSParams{APIKey: "key", SecretKey: "5f1e"}
	for name, change := range map[string]func() error{
		"create_user, the first from other machines": func() error {
			_, err := b.CreateUser(ctx, agentapi.CreateDatabaseUserParams{Name: "far", Password: "hunter2", Database: "shop", Remote: true})
			return err
		},
		"enable_mms": func() error {
			if r, _ := b.EnableMMS(ctx, mms); r.Status != "Ok" {
				return errors.New(r.Error)
			}
			return nil
		},
	} {
		t.Run(name, func(t *testing.T) {
			before := b.state()
			for n := 1; ; n++ {
				b.breakCall(n)
				err := change()
				broke, calls := b.failAt <= 0, b.calls
				b.breakCall(0)
				if !broke {
					b.must(err)
					if n == 1 {
						t.Error("nothing was called")
					}
					return
				}
				if err == nil {
					t.Fatalf("call %d was broken (%s) and nobody was told", n, calls[n-1])
				}
				if after := b.state(); after != before {
					t.Fatalf("call %d was broken (%s): %v\nbefore:\n%s\nafter:\n%s", n, calls[n-1], err, before, after)
				}
			}
		})
	}
	t.Run("the server refuses the user", func(t *testing.T) {
		b := newBed(t)
		before := b.state()
		b.server.FailNext("createUser") // of the administrator
		if _, err := b.CreateUser(ctx, agentapi.CreateDatabaseUserParams{Name: "far", Password: "hunter2", Database: "shop", Remote: true}); err == nil {
			t.Error("nobody was told")
		}
		b.must(os.RemoveAll(filepath.Join(b.root, "var"))) // the password that may have been set
		if after := b.state(); after != before {
			t.Errorf("before:\n%s\nafter:\n%s", before, after)
		}
	})
}

func TestInterruptedChange(t *testing.T) {
	b := newBed(t)
	if _, err := b.open(t.Context()); err != nil { // and killed here
		t.Fatal(err)
	}
	b.must(New(Options{Host: b.host, StateDir: "/var/lib/reeve-agent"}).Start(t.Context()))
	if got := b.read(modernConf); got != fmt.Sprintf(conf, b.port) {
		t.Errorf("got\n%s", got)
	}
	if !strings.HasPrefix(b.server.Address(), "127.0.0.1:") {
		t.Errorf("it listens on %s", b.server.Address())
	}
}

func TestResetPassword(t *testing.T) {
	b := newBed(t)
	ctx := t.Context()
	b.write(modernConf, fmt.Sprintf(conf, b.port)+"security:\n  authorization: enabled\n")
	b.must(b.Restart(ctx, "mongod.service"))
	b.write(scalarizrState, "[mongodb]\nkeyfile = /etc/key\npassword = of-old\nshard_index = 0\n")
	reset := func(p agentapi.ResetPasswordParams) string { return must[string](t)(b.ResetPassword(ctx, p)) }

	first := reset(agentapi.ResetPasswordParams{})
	if !regexp.MustCompile(`^[A-Za-z0-9]{10}$`).MatchString(first) {
		t.Errorf("got %q", first)
	}
	b.must(b.login("scalr", first, "admin"))
	if text := b.read(scalarizrState); text != "[mongodb]\nkeyfile = /etc/key\npassword = "+first+"\nshard_index = 0\n" {
		t.Errorf("Scalarizr's file is\n%s", text)
	}
	second := reset(agentapi.ResetPasswordParams{})
	b.must(b.login("scalr", second, "admin"))
	if b.login("scalr", first, "admin") == nil {
		t.Error("the old password still lets in")
	}
	if info := must[os.FileInfo](t)(os.Stat(filepath.Join(b.root, b.credentialPath()))); info.Mode().Perm() != 0o600 {
		t.Errorf("the password is kept with mode %v", info.Mode())
	}
	t.Run("killed between the server and the file, the next call goes on", func(t *testing.T) {
		b.must(b.keep(credential{Password: second, Next: "third"}))
		b.must(b.onPrimary(ctx, func(c *conn) error {
			_, err := c.putUser(adminDatabase, adminUser, "third", bson.A{bson.D{{Key: "role", Value: "root"}, {Key: "db", Value: "admin"}}})
			return err
		}))
		b.must(b.login("scalr", reset(agentapi.ResetPasswordParams{}), "admin"))
	})
	t.Run("a password that somebody else changed is told", func(t *testing.T) {
		b.must(b.keep(credential{Password: "not this"}))
		b.must(os.Remove(filepath.Join(b.root, scalarizrState)))
		_, err := b.ResetPassword(ctx, agentapi.ResetPasswordParams{})
		wantKind(t, err, agentapi.KindUnsupported)
	})
}

func TestSecondary(t *testing.T) {
	b := newBed(t)
	primary, err := mongostandin.New("127.0.0.1:0", mongostandin.Options{SetName: "rs0"})
	b.must(err)
	go primary.Serve()
	t.Cleanup(primary.Close)
	b.stop()
	b.server, err = mongostandin.New("127.0.0.1:"+b.port, mongostandin.Options{SetName: "rs0", Primary: primary.Address()})
	b.must(err)
	go b.server.Serve()
	must[string](t)(b.ResetPassword(t.Context(), agentapi.ResetPasswordParams{}))
	if _, there := primary.Data().Users["admin.scalr"]; !there {
		t.Error("the user was not made on the primary")
	}
}

func TestRefusals(t *testing.T) {
	b := newBed(t)
	ctx := t.Context()
	for name, test := range map[string]struct {
		do   func() error
		want agentapi.Kind
	}{
		"a user without a database": {func() error {
			_, err := b.CreateUser(ctx, agentapi.CreateDatabaseUserParams{Name: "x", Password: "y"})
			return err
		}, agentapi.KindInvalid},
		"the server's own database": {func() error {
			_, err := b.CreateUser(ctx, agentapi.CreateDatabaseUserParams{Name: "x", Password: "y", Database: "admin"})
			return err
		}, agentapi.KindInvalid},
		"an operator for a name": {func() error {
			_, err := b.DropDatabase(ctx, agentapi.NameParams{Name: "$where"})
			return err
		}, agentapi.KindInvalid},
		"resetting a user that is missing": {func() error {
			_, err := b.ResetPassword(ctx, agentapi.ResetPasswordParams{User: "x", Database: "d"})
			return err
		}, agentapi.KindNotFound},
	} {
		t.Run(name, func(t *testing.T) { wantKind(t, test.do(), test.want) })
	}
	t.Run("a server that is down is unavailable, with a hint", func(t *testing.T) {
		if testing.Short() {
			t.Skip("waits for the server for five seconds")
		}
		do(t)(b.StopService(ctx, agentapi.ReasonParams{}))
		_, err := b.ResetPassword(ctx, agentapi.ResetPasswordParams{})
		wantKind(t, err, agentapi.KindUnavailable)
		if status := must[int](t)(b.ServiceStatus(ctx, handlers.NoParams{})); status != 3 {
			t.Errorf("got status %d", status)
		}
		if up, ok := b.Up(ctx); up || !ok {
			t.Errorf("up is %t, installed %t", up, ok)
		}
		do(t)(b.StartService(ctx, agentapi.ReasonParams{}))
		if up, ok := b.Up(ctx); !up || !ok {
			t.Errorf("up is %t, installed %t", up, ok)
		}
		if status := must[int](t)(b.ServiceStatus(ctx, handlers.NoParams{})); status != 0 {
			t.Errorf("got status %d", status)
		}
	})
	t.Run("a host without MongoDB says so", func(t *testing.T) {
		b.must(os.Remove(filepath.Join(b.root, modernConf)))
		_, err := b.ResetPassword(ctx, agentapi.ResetPasswordParams{})
		wantKind(t, err, agentapi.KindUnsupported)
	})
}

func TestMMS(t *testing.T) {
	b := newBed(t)
	ctx := t.Context()
	enable := func() agentapi.MMSResult {
		return must[agentapi.MMSResult](t)(b.EnableMMS(ctx, agentapi.EnableMMSParams{APIKey: "key-1", SecretKey: "5f1e"}))
	}
	disable := func() agentapi.MMSResult { return must[agentapi.MMSResult](t)(b.DisableMMS(ctx, handlers.NoParams{})) }
	ok := agentapi.MMSResult{Status: "Ok"}
	t.Run("75 without the package it fails in the result", func(t *testing.T) {
		before := b.state()
		if got := enable(); got.Status != "Fail" || got.Error == "" {
			t.Errorf("got %+v", got)
		}
		if got := disable(); got != ok {
			t.Errorf("disable when nothing runs: got %+v", got)
		}
		if b.state() != before {
			t.Error("something changed")
		}
	})
	t.Run("75 a missing secret_key is an error of the call", func(t *testing.T) {
		_, err := b.Methods()["enable_mms"].Call(ctx, []byte(`{"api_key":"k"}`))
		if err == nil || !strings.HasPrefix(err.Error(), "TypeError") {
			t.Errorf("got %v", err)
		}
	})
	b.mms = host.UnitState{Load: "loaded", Active: "inactive"}
	b.write(mmsConf, "# keys\nmmsGroupId=@GROUP@\nlogFile=/var/log/x\nmmsApiKey=@KEY@")
	t.Run("with the package the agent gets its keys and runs", func(t *testing.T) {
		if got := enable(); got != ok {
			t.Fatalf("got %+v", got)
		}
		if want := "# keys\nmmsGroupId=5f1e\nlogFile=/var/log/x\nmmsApiKey=key-1\n"; b.read(mmsConf) != want {
			t.Errorf("got\n%s", b.read(mmsConf))
		}
		if info := must[os.FileInfo](t)(os.Stat(filepath.Join(b.root, mmsConf))); info.Mode().Perm() != 0o600 {
			t.Errorf("its mode is %v", info.Mode())
		}
		if !b.mms.Running() || !b.on[mmsUnit] {
			t.Error("it does not run")
		}
		if got := disable(); got != ok || b.mms.Running() || b.on[mmsUnit] {
			t.Errorf("got %+v, running %t", got, b.mms.Running())
		}
	})
	t.Run("a key that is more than a value is refused", func(t *testing.T) {
		got := must[agentapi.MMSResult](t)(b.EnableMMS(ctx, agentapi.EnableMMSParams{APIKey: "k\nmmsBaseUrl=http://evil", SecretKey: "5"}))
		if got.Status != "Fail" {
			t.Errorf("got %+v", got)
		}
	})
}
