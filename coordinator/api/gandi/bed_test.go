package gandi_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/reeve-paas/reeve/agent/agentapi"
	"github.com/reeve-paas/reeve/coordinator/api"
	"github.com/reeve-paas/reeve/coordinator/api/gandi"
	"github.com/reeve-paas/reeve/coordinator/api/gandi/xmlrpc/xmlrpctest"
	"github.com/reeve-paas/reeve/coordinator/auth"
	"github.com/reeve-paas/reeve/coordinator/core"
	"github.com/reeve-paas/reeve/coordinator/operation"
	"github.com/reeve-paas/reeve/coordinator/store/sqlite"
	"github.com/reeve-paas/reeve/crypto/keyring"
)

// bed is the dialect over the real core, store, auth and engine. Only the cloud and the agents are made up.
type bed struct {
	testing.TB
	url    string // of /xmlrpc/
	server *httptest.Server
	core   *core.Core
	auth   *auth.Auth
	store  *sqlite.Store
	cloud  *memCloud
	agents *memAgents
	zone   *zone
	log    *lockedBuffer
	key    string // of the account alice
	other  string // of the account bob
	stop   func() // stops the engine
}

// newBed starts everything but the engine: operations wait until work is called.
func newBed(t testing.TB, change ...func(*gandi.Options, *core.Options)) *bed {
	t.Helper()
	dir := t.TempDir()
	b := &bed{TB: t, cloud: newMemCloud(), agents: &memAgents{}, zone: &zone{}, log: &lockedBuffer{}, stop: func() {}}
	sealer, err := keyring.OpenSealer(filepath.Join(dir, "master"))
	b.must(err)
	var co core.Options
	clock := func() time.Time { // a change below may stop the time, for the store too
		if co.Clock != nil {
			return co.Clock()
		}
		return time.Now()
	}
	b.store, err = sqlite.Open(t.Context(), sqlite.Options{Path: filepath.Join(dir, "reeve.db"), Sealer: sealer, Clock: clock})
	b.must(err)
	t.Cleanup(func() { _ = b.store.Close() })
	co = core.Options{
		PlatformNames: []string{"php", "python", "static"},
		Store:         b.store, Clouds: b.cloud, Agents: agentsOf{b.agents}, Prover: b.zone, Log: slog.New(slog.NewTextHandler(b.log, nil)),
		HostedZones: []string{"hosted.test"}, OwnershipSecret: bytes.Repeat([]byte{7}, 32),
		HashPassword: func(string) (string, error) { return "$6$hash", nil },
	}
	o := gandi.Options{
		Log: slog.New(slog.NewTextHandler(b.log, nil)),
		GraphURL: func(n core.Node, metric string, r *http.Request) string {
			return fmt.Sprintf("http://%s/graph/?key=%d-%s", r.Host, n.Num, metric)
		},
	}
	for _, f := range change {
		f(&o, &co)
	}
	b.core = core.New(co)
	b.auth, err = auth.New(auth.Options{Store: b.store, BcryptCost: 4})
	b.must(err)
	b.key, b.other = b.account("alice@example.test"), b.account("bob@example.test")
	o.Core, o.Auth = b.core, b.auth
	handler, err := api.NewHandler(api.HandlerOptions{Log: slog.New(slog.NewTextHandler(b.log, nil))},
		api.Mount{Name: "gandi", Prefixes: []string{"/xmlrpc", "/RPC2"}, Dialect: gandi.New(o), Fail: gandi.Fail, MaxBody: -1})
	b.must(err)
	b.server = httptest.NewServer(handler)
	t.Cleanup(b.server.Close)
	b.url = b.server.URL + "/xmlrpc/"
	return b
}

func (b *bed) account(email string) string {
	_, _, key, err := b.auth.CreateAccount(b.Context(), email, "", false)
	b.must(err)
	return string(key)
}

// work starts the engine and a router node.
func (b *bed) work() *bed {
	b.Helper()
	b.must(b.core.EnsureRouter(b.Context()))
	engine, err := operation.New(operation.Options{Driver: b.store.Driver(), Store: b.store, Definitions: b.core.Definitions(),
		Poll: 5 * time.Millisecond, Log: slog.New(slog.NewTextHandler(b.log, nil))})
	b.must(err)
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { _ = engine.Run(ctx) })
	b.stop = sync.OnceFunc(func() { cancel(); wg.Wait() })
	b.Cleanup(b.stop)
	return b
}

func (b *bed) must(err error) {
	b.Helper()
	if err != nil {
		b.Fatal(err)
	}
}

// call calls a method with alice's key and fails the test on a fault.
func (b *bed) call(method string, params ...any) any {
	b.Helper()
	v, err := b.try(method, params...)
	if err != nil {
		b.Fatalf("%s%v: %v", method, params, err)
	}
	return v
}

func (b *bed) try(method string, params ...any) (any, error) {
	return xmlrpctest.Call(b.url, method, append([]any{b.key}, params...)...)
}

// faults checks the number of a call's fault.
func (b *bed) faults(want int, method string, params ...any) string {
	b.Helper()
	v, err := b.try(method, params...)
	if got := xmlrpctest.CodeOf(err); got != want {
		b.Errorf("%s %v: got %v, %v, want fault %d", method, params, v, err, want)
		return ""
	}
	return err.(*xmlrpctest.Fault).Text
}

// spec is the seed document's, with a name that is hosted here.
func spec(changes ...any) map[string]any {
	s := map[string]any{
		"name": "My PaaS", "size": "m", "type": "phpmysql", "datacenter_id": 1, "vhosts": []string{"vhost.hosted.test"},
		"quantity": 0, "duration": "3m", "password": secretPassword,
	}
	for i := 0; i < len(changes); i += 2 {
		if changes[i+1] == absent {
			delete(s, changes[i].(string))
		} else {
			s[changes[i].(string)] = changes[i+1]
		}
	}
	return s
}

const (
	secretPassword = "xK9xxxxxQ7"
	absent         = "\x00absent"
)

// create creates an instance and returns its id and its operations.
func (b *bed) create(changes ...any) (int, []map[string]any) {
	b.Helper()
	ops := structs(b.call("paas.create", spec(changes...)))
	if len(ops) != 3 {
		b.Fatalf("got %d operations, want 3", len(ops))
	}
	return ops[0]["paas_id"].(int), ops
}

// await polls an operation until it ends and returns it.
func (b *bed) await(id any) map[string]any {
	b.Helper()
	var op map[string]any
	b.until(func() bool {
		op = b.call("operation.info", id).(map[string]any)
		return slices.Contains([]any{"DONE", "ERROR", "CANCEL"}, op["step"])
	})
	return op
}

// until waits for a condition.
func (b *bed) until(done func() bool) {
	b.Helper()
	deadline := time.After(time.Minute)
	tick := time.NewTicker(3 * time.Millisecond)
	defer tick.Stop()
	for !done() {
		select {
		case <-tick.C:
		case <-deadline:
			b.Fatalf("what was waited for did not happen within a minute; the log says:\n%s", b.log)
		}
	}
}

func structs(v any) []map[string]any {
	out := []map[string]any{}
	for _, item := range v.([]any) {
		out = append(out, item.(map[string]any))
	}
	return out
}

// column picks one member of every struct.
func column(v any, name string) []any {
	out := []any{}
	for _, s := range structs(v) {
		out = append(out, s[name])
	}
	return out
}

type lockedBuffer struct {
	mu sync.Mutex
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

// zone is the DNS as the prover sees it: values by name.
type zone struct {
	mu  sync.Mutex
	txt map[string]string
}

func (z *zone) publish(name, value string) {
	z.mu.Lock()
	defer z.mu.Unlock()
	if z.txt == nil {
		z.txt = map[string]string{}
	}
	z.txt[name] = value
}

func (z *zone) Proven(_ context.Context, name, value string) (bool, error) {
	z.mu.Lock()
	defer z.mu.Unlock()
	return z.txt[name] == value, nil
}

// memCloud is a cloud of nothing: nodes run as soon as they are created.
type memCloud struct {
	mu      sync.Mutex
	nodes   map[string]core.CloudNode
	volumes map[string]core.CloudVolume
	closed  bool                          // answers nothing
	copies  map[string]core.CloudSnapshot // nil: it takes no snapshots
}

func newMemCloud() *memCloud {
	return &memCloud{nodes: map[string]core.CloudNode{}, volumes: map[string]core.CloudVolume{}}
}

var _ core.VolumeCloud = (*memCloud)(nil)

func (m *memCloud) Cloud(name string) (core.Cloud, bool) {
	return m, name == "default" || name == "mem"
}
func (m *memCloud) Canonical(string) string { return "mem" }
func (m *memCloud) Names() []string         { return []string{"default", "mem"} }
func (m *memCloud) Info() core.CloudInfo {
	return core.CloudInfo{Type: "mem", Name: "Memory", Agents: true, Volumes: true, Resize: true, Grow: true, Snapshots: m.copies != nil}
}

func (m *memCloud) down() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		return core.Wrap(core.Unavailable, core.ObjCloud, io.ErrUnexpectedEOF, "the cloud does not answer")
	}
	return nil
}

func (m *memCloud) Images(context.Context) ([]core.Image, error) {
	return []core.Image{{ID: "debian", Name: "Debian"}}, m.down()
}

func (m *memCloud) Sizes(context.Context) ([]core.Size, error) {
	var sizes []core.Size
	for i, id := range []string{"s", "s+", "m", "l", "xl", "xxl"} {
		sizes = append(sizes, core.Size{ID: id, Name: id, CPUs: 1, MemoryMB: []int{512, 768, 1024, 2048, 4096, 8192}[i]})
	}
	return sizes, m.down()
}

func (m *memCloud) Locations(context.Context) ([]core.Location, error) {
	return []core.Location{
		{ID: "lu", Name: "Bissen", Country: "Luxembourg", ISO: "LU", Code: "LU-BI1", Num: 3},
		{ID: "fr", Name: "Saint-Denis", Country: "France", ISO: "FR", Code: "FR-SD2", Num: 1},
	}, m.down()
}

func (m *memCloud) Nodes(context.Context) ([]core.CloudNode, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	var all []core.CloudNode
	for _, n := range m.nodes {
		all = append(all, n)
	}
	return all, nil
}

func (m *memCloud) Node(_ context.Context, id string) (core.CloudNode, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	n, ok := m.nodes[id]
	if !ok {
		return n, core.Errorf(core.NotFound, core.ObjNode, "there is no node %s", id)
	}
	return n, nil
}

func (m *memCloud) CreateNode(_ context.Context, s core.NodeSpec) (core.CloudNode, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	n, ok := m.nodes[s.Key]
	if !ok {
		n = core.CloudNode{ID: s.Key, Name: s.Name, Key: s.Key, State: core.CloudRunning, SizeID: s.SizeID,
			PrivateIPs: []string{fmt.Sprintf("10.0.0.%d", 10+len(m.nodes))}}
		m.nodes[s.Key] = n
	}
	return n, nil
}

func (m *memCloud) ResizeNode(_ context.Context, id, size string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	n := m.nodes[id]
	n.SizeID = size
	m.nodes[id] = n
	return nil
}

func (m *memCloud) GrowVolume(_ context.Context, id string, size int64) (core.CloudVolume, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	v := m.volumes[id]
	v.SizeBytes = size
	m.volumes[id] = v
	return v, nil
}

func (m *memCloud) RebootNode(context.Context, string) error { return nil }

func (m *memCloud) DestroyNode(_ context.Context, id string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.nodes, id)
	return nil
}

func (m *memCloud) Volumes(context.Context) ([]core.CloudVolume, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	var all []core.CloudVolume
	for _, v := range m.volumes {
		all = append(all, v)
	}
	return all, nil
}

func (m *memCloud) CreateVolume(_ context.Context, key string, size int64) (core.CloudVolume, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.volumes[key] = core.CloudVolume{ID: key, Key: key, SizeBytes: size}
	return m.volumes[key], nil
}

func (m *memCloud) AttachVolume(_ context.Context, volume, _ string) (string, error) {
	return "/dev/" + volume, nil
}
func (m *memCloud) DetachVolume(context.Context, string) error { return nil }

func (m *memCloud) DestroyVolume(_ context.Context, id string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.volumes, id)
	return nil
}

func (m *memCloud) Snapshots(context.Context) ([]core.CloudSnapshot, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Collect(maps.Values(m.copies)), nil
}

func (m *memCloud) SnapshotVolume(_ context.Context, key, volume string) (core.CloudSnapshot, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	s := core.CloudSnapshot{ID: key, Key: key, VolumeID: volume, SizeBytes: m.volumes[volume].SizeBytes, Complete: true}
	m.copies[key] = s
	return s, nil
}

func (m *memCloud) RestoreSnapshot(ctx context.Context, key, _ string, size int64) (core.CloudVolume, error) {
	return m.CreateVolume(ctx, key, size)
}

func (m *memCloud) DestroySnapshot(_ context.Context, id string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.copies, id)
	return nil
}

// agentsOf finds the one agent for every node.
type agentsOf struct{ *memAgents }

func (a agentsOf) Agent(core.Node) (core.Agent, error) { return a.memAgents, nil }

// memAgents are agents that do everything at once, unless a call is told to fail.
type memAgents struct {
	core.Agent // nil: what no operation of an app calls
	mu         sync.Mutex
	fail       map[string]error
	got        []string // routes made
	login      agentapi.SetLoginParams
}

func (a *memAgents) failOn(method string, err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.fail = map[string]error{method: err}
}

func (a *memAgents) result(method string) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.fail[method]
}

func (a *memAgents) served(host string) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.Contains(a.got, host)
}

func (a *memAgents) Hostname(context.Context) (string, error) {
	return "host", a.result("Hostname")
}
func (a *memAgents) UnmountVolume(context.Context, agentapi.UnmountVolumeParams) error { return nil }
func (a *memAgents) MountVolume(context.Context, agentapi.MountVolumeParams) (agentapi.VolumeMount, error) {
	return agentapi.VolumeMount{}, a.result("MountVolume")
}
func (a *memAgents) CreateApp(_ context.Context, p agentapi.CreateAppParams) (agentapi.AppPaths, error) {
	return agentapi.AppPaths{Home: p.Base + "/" + p.App}, a.result("CreateApp")
}
func (a *memAgents) GrowVolume(context.Context, agentapi.GrowVolumeParams) (agentapi.VolumeMount, error) {
	return agentapi.VolumeMount{}, a.result("GrowVolume")
}
func (a *memAgents) SetLogin(_ context.Context, p agentapi.SetLoginParams) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.login = p
	return a.fail["SetLogin"]
}
func (a *memAgents) AppPaths(_ context.Context, p agentapi.AppParams) (agentapi.AppPaths, error) {
	return agentapi.AppPaths{Home: "/srv/apps/" + p.App}, a.result("AppPaths")
}
func (a *memAgents) DeleteApp(context.Context, agentapi.AppParams) error         { return nil }
func (a *memAgents) PutRelease(context.Context, agentapi.PutReleaseParams) error { return nil }
func (a *memAgents) CreateVHost(_ context.Context, p agentapi.CreateVHostParams) (string, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.got = append(a.got, p.Hostname)
	return "/etc/apache2/" + p.Hostname, nil
}
func (a *memAgents) DeleteVHosts(context.Context, agentapi.DeleteVHostsParams) error   { return nil }
func (a *memAgents) StartService(context.Context, string) error                        { return nil }
func (a *memAgents) DrainRouter(context.Context, agentapi.DrainRouterParams) error     { return nil }
func (a *memAgents) PrepareRouter(context.Context) error                               { return nil }
func (a *memAgents) EnableService(context.Context, agentapi.EnableServiceParams) error { return nil }
func (a *memAgents) MakeProxy(context.Context, agentapi.ProxyParams) error {
	return a.result("MakeProxy")
}
func (a *memAgents) RemoveProxy(context.Context, agentapi.RemoveProxyParams) error { return nil }
func (a *memAgents) CreateDatabase(context.Context, string, agentapi.CreateDatabaseParams) error {
	return a.result("CreateDatabase")
}
func (a *memAgents) DropDatabase(context.Context, string, string) error { return nil }
func (a *memAgents) DumpDatabase(context.Context, string, agentapi.DumpDatabaseParams) error {
	return nil
}
func (a *memAgents) LoadDump(context.Context, string, agentapi.LoadDumpParams) error { return nil }
func (a *memAgents) CreateDatabaseUser(context.Context, string, agentapi.CreateDatabaseUserParams) error {
	return nil
}
func (a *memAgents) DropDatabaseUser(context.Context, string, agentapi.DropDatabaseUserParams) error {
	return nil
}
func (a *memAgents) ResetDatabasePassword(context.Context, string, agentapi.ResetPasswordParams) error {
	return nil
}
func (a *memAgents) Call(context.Context, string, any, any) error { return nil }

// noSecrets fails the test when anything secret reached the log.
func (b *bed) noSecrets() {
	b.Helper()
	for _, secret := range []string{secretPassword, b.key, b.other} {
		if strings.Contains(b.log.String(), secret) {
			b.Errorf("the log contains the secret %.4q…:\n%s", secret, b.log)
		}
	}
}

// newRecorded calls a dialect without a server and returns its fault's text.
func newRecorded(t *testing.T, o gandi.Options, key, method string) string {
	t.Helper()
	mux := http.NewServeMux()
	gandi.New(o).Register(mux)
	w := httptest.NewRecorder()
	mux.ServeHTTP(w, httptest.NewRequest("POST", "/xmlrpc/", bytes.NewReader(xmlrpctest.Encode(method, key))))
	_, err := xmlrpctest.Parse(w.Body.Bytes())
	return fmt.Sprint(err)
}
