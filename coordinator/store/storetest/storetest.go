package storetest

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/reeve-paas/reeve/coordinator/core"
	"github.com/reeve-paas/reeve/coordinator/operation"
)

// Store is what the suite needs of one.
type Store interface {
	core.Store
	operation.Store
	Close() error
}

// Open opens the store that is kept in dir, and makes it when there is none. It is called again after Close, and in
// another process.
type Open func(t testing.TB, dir string) Store

// childDir says in a process that the suite starts which store to write to until it is killed.
const childDir = "REEVE_STORETEST_DIR"

// Run runs the suite as subtests of t, which must be a top-level test that does nothing before: the suite starts the
// test binary again with this test alone.
func Run(t *testing.T, open Open) {
	if dir := os.Getenv(childDir); dir != "" {
		writeUntilKilled(t, open(t, dir))
		return
	}
	for _, c := range []struct {
		name string
		fn   func(*testing.T, *suite)
	}{
		{"accounts and credentials", testAccounts},
		{"apps come with nodes and routes", testApps},
		{"logins of apps go with them", testAppLogins},
		{"lists of apps follow every change", testAppsFollow},
		{"apps are listed in pages", testPages},
		{"nodes are filtered", testNodes},
		{"routes, volumes, service instances", testParts},
		{"snapshots and their turns belong to an app", testSnapshots},
		{"allocations are one per node of a cloud", testAllocations},
		{"units belong to an app and vanish with it", testUnits},
		{"releases are numbered per app", testReleases},
		{"an environment is sealed and vanishes with its app", testEnv},
		{"a log keeps its newest lines", testAppLog},
		{"enrolment tokens are kept until they expire", testEnrollments},
		{"samples belong to a node and vanish with it", testSamples},
		{"samples are thinned out and deleted", testThinSamples},
		{"keys of routes' certificates are sealed, and issued ones vanish with their routes", testRouteCertificates},
		{"messages of a node are told by their ids and vanish with it", testMessages},
		{"teams share apps", testTeams},
		{"SSH keys are one account's", testKeys},
		{"limits and tokens of an app go with it", testLimits},
		{"credit is never negative", testCredit},
		{"user names are told by their case", testUsernames},
		{"managed services and what is theirs go with their app", testManagedServices},
		{"the billing clock is one", testBillingClock},
		{"certificates are revoked by account and service", testCertificates},
		{"services, their instances and bindings", testOffers},
		{"what is taken exists", testExists},
		{"what is not there is not found", testNotFound},
		{"deleting what is not there is success", testDeleteTwice},
		{"numbers are never reused", testNumbers},
		{"an error writes nothing", testAtomic},
		{"a panic writes nothing", testPanic},
		{"a view sees one state", testSnapshot},
		{"updates at once are all there", testConcurrent},
		{"everything is there after closing and opening", testReopen},
		{"a context that ended is not taken for a bug", testContext},
		{"operations are stored, found and counted", testOperations},
		{"a group goes forward", testForward},
		{"a group turns round after a failure", testUndo},
		{"a group turns round when it is asked to stop", testCanceled},
		{"cancel reaches unfinished groups only", testRequestCancel},
		{"unfinished groups are taken back", testRequeue},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := &suite{open: open, dir: t.TempDir()}
			s.Store = open(t, s.dir)
			t.Cleanup(func() { s.Close() })
			c.fn(t, s)
		})
	}
	t.Run("kill -9 leaves whole transactions", func(t *testing.T) { testKill(t, open) })
}

type suite struct {
	Store
	open Open
	dir  string
}

func (s *suite) reopen(t *testing.T) {
	t.Helper()
	if err := s.Close(); err != nil {
		t.Fatalf("close: %v", err)
	}
	s.Store = s.open(t, s.dir)
}

func (s *suite) update(t testing.TB, fn func(core.Tx) error) {
	t.Helper()
	if err := s.Update(t.Context(), fn); err != nil {
		t.Fatalf("update: %v", err)
	}
}

func (s *suite) view(t testing.TB, fn func(core.Reader) error) {
	t.Helper()
	if err := s.View(t.Context(), fn); err != nil {
		t.Fatalf("view: %v", err)
	}
}

// at is a time as stores keep it: microseconds, UTC.
func at(seconds int) time.Time {
	return time.Date(2026, 11, 1, 12, 0, seconds, 123456000, time.UTC)
}

func put[T any](t testing.TB, s *suite, v T, fn func(core.Tx, *T) error) T {
	t.Helper()
	s.update(t, func(tx core.Tx) error { return fn(tx, &v) })
	return v
}

func get[T any](t testing.TB, s *suite, fn func(core.Reader) (T, error)) T {
	t.Helper()
	var v T
	s.view(t, func(r core.Reader) error {
		var err error
		v, err = fn(r)
		return err
	})
	return v
}

func account(t testing.TB, s *suite, email string) core.Account {
	t.Helper()
	return put(t, s, core.Account{ID: core.AccountID("acc-" + email), Handle: "RV-" + email, Email: email, PasswordHash: "hash",
		Active: true, CreatedAt: at(1)}, core.Tx.PutAccount)
}

func app(t testing.TB, s *suite, owner core.AccountID, name string) core.App {
	t.Helper()
	return put(t, s, core.App{ID: core.AppID("app-" + name), AccountID: owner, Name: name, Platform: "php", Engine: "mysql",
		SizeID: "s", LocationID: "here", Cloud: "default", State: core.AppCreating, BaseDiskGB: 3, ExtraGB: 2, StartsAt: at(2),
		EndsAt: at(3), CreatedAt: at(4)}, core.Tx.PutApp)
}

func wantKind(t testing.TB, err error, kind core.Kind, object core.Object) {
	t.Helper()
	e, ok := err.(*core.Error)
	if !ok {
		t.Errorf("got error %v (%T), want a *core.Error", err, err)
		return
	}
	if e.Kind != kind || e.Object != object {
		t.Errorf("got %s of %q (%v), want %s of %q", e.Kind, e.Object, err, kind, object)
	}
}

func testReopen(t *testing.T, s *suite) {
	owner := account(t, s, "a")
	a := app(t, s, owner.ID, "shop")
	n := put(t, s, core.Node{AppID: a.ID, Key: "k", AgentKey: []byte("forty bytes")}, core.Tx.PutNode)
	si := put(t, s, core.ServiceInstance{ID: "si", AppID: a.ID, Password: []byte("p4ssw0rd")}, core.Tx.PutServiceInstance)
	g := put(t, s, operation.Group{Secret: []byte("s3cret"), Operations: []operation.Record{{Kind: "k", Steps: 1}}}, core.Tx.Enqueue)
	s.reopen(t)

	if got := get(t, s, func(r core.Reader) (core.App, error) { return r.App(a.ID) }); len(got.Nodes) != 1 || string(got.Nodes[0].AgentKey) != string(n.AgentKey) {
		t.Errorf("got nodes %+v, want the one with its key", got.Nodes)
	}
	got := get(t, s, func(r core.Reader) ([]core.ServiceInstance, error) { return r.ServiceInstances(a.ID) })
	if len(got) != 1 || string(got[0].Password) != string(si.Password) {
		t.Errorf("got service instances %+v, want the one with its password", got)
	}
	state, err := s.Group(t.Context(), g.ID)
	if err != nil || string(state.Secret) != "s3cret" || len(state.Operations) != 1 {
		t.Errorf("got group %+v, error %v, want it with its secret", state, err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	for _, secret := range []string{"forty bytes", "p4ssw0rd", "s3cret"} {
		if file := fileWith(t, s.dir, secret); file != "" {
			t.Errorf("the secret %q can be read in %s", secret, file)
		}
	}
	s.Store = s.open(t, s.dir)
}

func testContext(t *testing.T, s *suite) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	err := s.Update(ctx, func(tx core.Tx) error { return tx.PutAccount(&core.Account{Email: "late"}) })
	wantKind(t, err, core.Unavailable, "")
	if n := len(get(t, s, core.Reader.Accounts)); n != 0 {
		t.Errorf("got %d accounts, want none", n)
	}
}

func fileWith(t testing.TB, dir, content string) string {
	t.Helper()
	var found string
	files, err := filepath.Glob(filepath.Join(dir, "*"))
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if containsText(data, content) {
			found = file
		}
	}
	return found
}

func name(i int) string { return fmt.Sprintf("%03d", i) }
