package core_test

import (
	"bytes"
	"context"
	"log/slog"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/reeve-paas/reeve/coordinator/core"
	"github.com/reeve-paas/reeve/coordinator/operation"
	"github.com/reeve-paas/reeve/coordinator/store/sqlite"
	"github.com/reeve-paas/reeve/crypto/authority"
	"github.com/reeve-paas/reeve/crypto/keyring"
)

const password = "correct horse battery"

// bed is a core over the real store and, once work was called, the real engine. Cloud and hosts are a world in memory.
type bed struct {
	*testing.T
	*core.Core
	dir       string
	authority *authority.Authority // of the names of routes
	store     *auditStore
	world     *world
	zone      *zone
	alice     core.Principal
	bob       core.Principal
	log       *lockedBuffer
	moved     chan struct{} // something ended
}

// auditStore is the store, and remembers the audit records that were committed.
type auditStore struct {
	*sqlite.Store
	mu   sync.Mutex // protects the field below
	rows []core.AuditRecord
}

type auditTx struct {
	core.Tx
	rows *[]core.AuditRecord
}

func (t auditTx) Audit(r core.AuditRecord) error {
	*t.rows = append(*t.rows, r)
	return t.Tx.Audit(r)
}

func (s *auditStore) Update(ctx context.Context, fn func(core.Tx) error) error {
	var rows []core.AuditRecord
	err := s.Store.Update(ctx, func(tx core.Tx) error { rows = nil; return fn(auditTx{tx, &rows}) })
	if err == nil {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.rows = append(s.rows, rows...)
	}
	return err
}

// zone is the name system: what was published is proven.
type zone struct {
	mu   sync.Mutex // protects the field below
	seen map[string]string
}

func (z *zone) publish(name, value string) {
	z.mu.Lock()
	defer z.mu.Unlock()
	z.seen[name] = value
}

func (z *zone) Proven(_ context.Context, name, value string) (bool, error) {
	z.mu.Lock()
	defer z.mu.Unlock()
	return z.seen[name] == value, nil
}

type lockedBuffer struct {
	mu sync.Mutex // protects the field below
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func newBed(t *testing.T, change ...func(*core.Options)) *bed {
	t.Helper()
	b := &bed{T: t, dir: t.TempDir(), world: newWorld(), zone: &zone{seen: map[string]string{}}, log: &lockedBuffer{}, moved: make(chan struct{}, 1)}
	sealer, err := keyring.OpenSealer(filepath.Join(b.dir, "master"))
	b.must(err)
	store, err := sqlite.Open(t.Context(), sqlite.Options{Path: filepath.Join(b.dir, "reeve.db"), Sealer: sealer})
	b.must(err)
	b.store = &auditStore{Store: store}
	t.Cleanup(func() { b.must(store.Close()) })
	o := core.Options{Store: b.store, PlatformNames: []string{"python", "static"}, Clouds: b.world, Agents: b.world, Files: b.world.files, Prover: b.zone, Log: slog.New(slog.NewTextHandler(b.log, nil)),
		HostedZones: []string{"hosted.test"}, OwnershipSecret: bytes.Repeat([]byte{7}, 32),
		HashPassword: func(p string) (string, error) { return "hash of " + p, nil }}
	for _, f := range change {
		f(&o)
	}
	b.Core = core.New(o)
	b.authority, err = authority.Open(b.dir, authority.Routes, sealer, func() time.Time { return b.Core.Clock() })
	b.must(err)
	b.Core.RouteAuthority = b.authority
	b.alice, b.bob = b.account("alice"), b.account("bob")
	return b
}

func (b *bed) must(err error) {
	b.Helper()
	if err != nil {
		b.Fatal(err)
	}
}

func (b *bed) account(name string) core.Principal {
	b.Helper()
	a := core.Account{ID: core.AccountID("acc-" + name), Email: name + "@example.test", Handle: name, Active: true}
	b.must(b.store.Update(b.Context(), func(tx core.Tx) error { a.Num = 0; return tx.PutAccount(&a) }))
	return core.Principal{Account: a, Via: "api_key", From: "192.0.2.7", Dialect: "test"}
}

// work starts the engine until the test ends.
func (b *bed) work(change ...func([]operation.Definition) []operation.Definition) *bed {
	b.Helper()
	b.Cleanup(b.run(nil, change...))
	return b
}

// run starts an engine until stop is called.
func (b *bed) run(boundary func(operation.Point), change ...func([]operation.Definition) []operation.Definition) (stop func()) {
	b.Helper()
	end := b.engine(boundary, change...)
	return func() {
		if err := end(); err != nil {
			b.Errorf("run the engine: %v", err)
		}
	}
}

func (b *bed) engine(boundary func(operation.Point), change ...func([]operation.Definition) []operation.Definition) (stop func() error) {
	b.Helper()
	definitions := b.Definitions()
	for _, f := range change {
		definitions = f(definitions)
	}
	engine, err := operation.New(operation.Options{Driver: b.store.Driver(), Store: b.store, Definitions: definitions, Poll: 2 * time.Millisecond,
		Log: b.Core.Log, Public: core.PublicError, Boundary: boundary, OnEnd: func(operation.Record) {
			select {
			case b.moved <- struct{}{}:
			default:
			}
		}})
	b.must(err)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- engine.Run(ctx) }()
	return func() error { cancel(); return <-ended }
}

// until waits for a condition of the store or the world.
func (b *bed) until(what string, done func() bool) {
	b.Helper()
	limit := time.NewTimer(20 * time.Second)
	defer limit.Stop()
	again := time.NewTicker(2 * time.Millisecond)
	defer again.Stop()
	for !done() {
		select {
		case <-b.moved:
		case <-again.C:
		case <-limit.C:
			b.Fatalf("%s: not in time", what)
		}
	}
}

// router makes a router node and waits until it serves.
func (b *bed) router() core.Node {
	b.Helper()
	b.must(b.EnsureRouter(b.Context()))
	b.until("a router", func() bool {
		nodes := b.nodes(core.NodeFilter{Role: core.RoleRouter})
		return len(nodes) == 1 && nodes[0].State == core.NodeRunning && len(b.unfinished()) == 0
	})
	return b.nodes(core.NodeFilter{Role: core.RoleRouter})[0]
}

// secondRouter enters another running router by hand.
func (b *bed) secondRouter() core.Node {
	b.Helper()
	cn, err := b.world.CreateNode(b.Context(), core.NodeSpec{Key: "second", Name: "second"})
	b.must(err)
	n := core.Node{ID: "node-second", Key: "second", Name: "second", Cloud: "mem", CloudID: cn.ID, Address: cn.PrivateIPs[0],
		Roles: []core.Role{core.RoleRouter}, State: core.NodeRunning}
	b.must(b.store.Update(b.Context(), func(tx core.Tx) error { n.Num = 0; return tx.PutNode(&n) }))
	return n
}

func read[T any](b *bed, fn func(core.Reader) (T, error)) T {
	b.Helper()
	var v T
	b.must(b.store.View(context.WithoutCancel(b.Context()), func(r core.Reader) (err error) { v, err = fn(r); return err }))
	return v
}

func (b *bed) nodes(f core.NodeFilter) []core.Node {
	b.Helper()
	return read(b, func(r core.Reader) ([]core.Node, error) { return r.Nodes(f) })
}

func (b *bed) operations(f core.OperationFilter) []operation.Record {
	b.Helper()
	return read(b, func(r core.Reader) ([]operation.Record, error) { return r.Operations(f) })
}

func (b *bed) unfinished() []operation.Record {
	b.Helper()
	return b.operations(core.OperationFilter{Unfinished: true})
}

// ends waits until the operations have ended and returns them.
func (b *bed) ends(ops ...operation.Record) []operation.Record {
	b.Helper()
	var got []operation.Record
	b.until("the end of the operations", func() bool {
		g, err := b.store.Group(b.Context(), ops[0].GroupID)
		b.must(err)
		got = g.Operations
		return g.Ended
	})
	return got
}

// spec is one that is fine.
func spec() core.AppSpec {
	return core.AppSpec{Name: "shop", Type: "phpmysql", SizeID: "s", LocationID: "here", Months: 1, Password: password,
		Routes: []string{"shop.hosted.test", "www.shop.hosted.test"}}
}

func (b *bed) create(s core.AppSpec) (core.App, []operation.Record) {
	b.Helper()
	app, ops, err := b.CreateApp(b.Context(), b.alice, s)
	b.must(err)
	return app, ops
}

func (b *bed) delete(app core.App) []operation.Record {
	b.Helper()
	op, err := b.DeleteApp(b.Context(), b.alice, app.Num)
	b.must(err)
	return b.ends(op)
}

func (b *bed) wantKind(err error, want core.Kind) {
	b.Helper()
	if err == nil || core.KindOf(err) != want {
		b.Errorf("got the failure %v, want kind %s", err, want)
	}
}

func statuses(ops []operation.Record) (s []operation.Status) {
	for _, op := range ops {
		s = append(s, op.Status)
	}
	return s
}

func (b *bed) wantStatuses(ops []operation.Record, want ...operation.Status) {
	b.Helper()
	if got := statuses(ops); !slices.Equal(got, want) {
		b.Errorf("got the statuses %q, want %q", got, want)
		for _, op := range ops {
			b.T.Logf("%s: %s %q", op.Kind, op.Status, op.Error)
		}
	}
}

// wantTraces checks how many nodes (routers left out), volumes and proxies there are anywhere.
func (b *bed) wantTraces(nodes, volumes, proxies int) {
	b.Helper()
	b.world.mu.Lock()
	defer b.world.mu.Unlock()
	gotNodes, gotProxies := 0, 0
	for _, h := range b.world.hosts {
		if !h.router && h.key != "" {
			gotNodes++
		}
		gotProxies += len(h.proxies)
	}
	if gotNodes != nodes || len(b.world.volumes) != volumes || gotProxies != proxies {
		b.Errorf("got %d nodes, %d volumes, %d proxies on the cloud; want %d, %d, %d", gotNodes, len(b.world.volumes), gotProxies, nodes, volumes, proxies)
	}
}

// wantNothingOf checks that nothing in the store is about the app.
func (b *bed) wantNothingOf(app core.App) {
	b.Helper()
	b.must(b.store.View(b.Context(), func(r core.Reader) error {
		if _, err := r.App(app.ID); core.KindOf(err) != core.NotFound || err == nil {
			b.Errorf("the app is still there: %v", err)
		}
		vols, err := r.Volumes(app.ID)
		b.must(err)
		instances, err := r.ServiceInstances(app.ID)
		b.must(err)
		nodes, err := r.Nodes(core.NodeFilter{AppID: app.ID})
		b.must(err)
		if len(vols)+len(instances)+len(nodes) > 0 {
			b.Errorf("got %d volumes, %d databases, %d nodes left in the store, want none", len(vols), len(instances), len(nodes))
		}
		for _, route := range app.Routes {
			if _, err := r.Route(route.Hostname); err == nil {
				b.Errorf("the route %s is still there", route.Hostname)
			}
			if _, err := r.IssuedCertificate(route.ID); err == nil {
				b.Errorf("the certificate of %s is still there", route.Hostname)
			}
		}
		return nil
	}))
}

func (b *bed) wantAudit(want ...string) {
	b.Helper()
	b.store.mu.Lock()
	defer b.store.mu.Unlock()
	var got []string
	for _, r := range b.store.rows {
		got = append(got, r.Action+" "+r.Outcome)
		if r.Dialect != "test" || r.From != "192.0.2.7" || r.At.IsZero() {
			b.Errorf("got the audit record %+v without who and from where", r)
		}
		if r.Subject == "" {
			b.Errorf("got the audit record %+v that does not say what it is about", r)
		}
	}
	if !slices.Equal(got, want) {
		b.Errorf("got the audit records %q, want %q", got, want)
	}
}
