package director_test

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/reeve-paas/reeve/agent/agentapi"
	"github.com/reeve-paas/reeve/coordinator/api"
	"github.com/reeve-paas/reeve/coordinator/api/director"
	"github.com/reeve-paas/reeve/coordinator/auth"
	"github.com/reeve-paas/reeve/coordinator/core"
	"github.com/reeve-paas/reeve/coordinator/operation"
	"github.com/reeve-paas/reeve/coordinator/release"
	"github.com/reeve-paas/reeve/coordinator/store/sqlite"
	"github.com/reeve-paas/reeve/crypto/authority"
	"github.com/reeve-paas/reeve/crypto/keyring"
	"github.com/reeve-paas/reeve/test/ports"
)

// bed is the Director on its real listener, over the real core, store, auth, authority and engine. Only the cloud and the
// agents are made up.
type bed struct {
	testing.TB
	addr     string
	core     *core.Core
	auth     *auth.Auth
	certs    *auth.Certificates
	ca       *authority.Authority
	managers *director.Managers
	port     int // of managers
	store    *sqlite.Store
	cloud    *memCloud
	files    *release.Files
	log      *lockedBuffer
	dir      string
	now      *clock
}

// clock is the time of day, and the time since boot; both can be moved.
type clock struct {
	mu      sync.Mutex
	wall    time.Duration // how far the wall clock is off
	elapsed time.Duration // how much more time went by than really did
	boot    string
	start   time.Time
}

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return time.Now().Add(c.wall + c.elapsed)
}

func (c *clock) Uptime() (string, time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.boot, time.Since(c.start) + c.elapsed
}

func (c *clock) pass(d time.Duration) { c.mu.Lock(); c.elapsed += d; c.mu.Unlock() }
func (c *clock) set(d time.Duration)  { c.mu.Lock(); c.wall += d; c.mu.Unlock() }

func newBed(t testing.TB, change ...func(*director.Options, *core.Options)) *bed {
	t.Helper()
	b := &bed{TB: t, dir: t.TempDir(), cloud: newMemCloud(), log: &lockedBuffer{}, now: &clock{boot: "boot-1", start: time.Now()}}
	log := slog.New(slog.NewTextHandler(b.log, nil))
	sealer, err := keyring.OpenSealer(filepath.Join(b.dir, "master"))
	b.must(err)
	b.store, err = sqlite.Open(t.Context(), sqlite.Options{Path: filepath.Join(b.dir, "reeve.db"), Sealer: sealer})
	b.must(err)
	t.Cleanup(func() { _ = b.store.Close() })
	blobs := http.NewServeMux()
	lender := httptest.NewServer(blobs)
	t.Cleanup(lender.Close)
	b.files, err = release.Open(release.Options{Dir: filepath.Join(b.dir, "files"), Secret: bytes.Repeat([]byte{1}, 32),
		BaseURL: func(core.Node) (string, error) { return lender.URL, b.cloud.failure("reach us") }})
	b.must(err)
	b.files.Register(blobs)
	co := core.Options{Files: b.files, Store: b.store, Clouds: b.cloud, Agents: agentsOf{b.cloud}, Log: log, Clock: b.now.Now, Uptime: b.now.Uptime,
		HashPassword: func(string) (string, error) { return "$6$hash", nil }}
	o := director.Options{Log: log, MaxCredit: 50, Bootstrap: func() (io.ReadSeekCloser, time.Time, error) {
		return file{bytes.NewReader([]byte("\x1f\x8bthe archive"))}, time.Now(), nil
	}}
	for _, f := range change {
		f(&o, &co)
	}
	b.core = core.New(co)
	b.auth, err = auth.New(auth.Options{Store: b.store, BcryptCost: 4})
	b.must(err)
	b.ca, err = authority.Open(b.dir, authority.Director, sealer, nil)
	b.must(err)
	b.certs = auth.NewCertificates(b.auth, b.ca)
	b.port = ports.Free(t)
	handler := func(m api.Mount) (http.Handler, error) { return api.NewHandler(api.HandlerOptions{Log: log}, m) }
	b.managers, err = director.NewManagers(director.ManagersOptions{Core: b.core, Certificates: b.certs, Log: log, Port: b.port, Handler: handler})
	b.must(err)
	o.Core, o.Auth, o.Certificates, o.Changed = b.core, b.auth, b.certs, b.managers.Changed
	so := api.ServerOptions{Log: log, TLSAddr: "127.0.0.1:0", OneRequest: true, StopTimeout: time.Second}
	so.Handler, err = handler(director.New(o).Mount())
	b.must(err)
	so.TLS, err = b.certs.DirectorConfig("director.test", "127.0.0.1")
	b.must(err)
	server, err := api.NewServer(so)
	b.must(err)
	b.must(server.Listen())
	b.addr = server.TLSAddr().String()
	engine, err := operation.New(operation.Options{Driver: b.store.Driver(), Store: b.store, Definitions: b.core.Definitions(),
		Poll: 3 * time.Millisecond, Log: log, Public: core.PublicError})
	b.must(err)
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	for _, run := range []func(context.Context) error{server.Run, engine.Run, b.managers.Run} {
		wg.Go(func() { _ = run(ctx) })
	}
	t.Cleanup(func() { cancel(); wg.Wait() })
	return b
}

func (b *bed) must(err error) {
	b.Helper()
	if err != nil {
		b.Fatal(err)
	}
}

type file struct{ *bytes.Reader }

func (file) Close() error { return nil }

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

// answer is what came back.
type answer struct {
	status int
	header http.Header
	body   []byte
}

func (a answer) json(t testing.TB) any {
	t.Helper()
	var v any
	if err := json.Unmarshal(a.body, &v); err != nil {
		t.Fatalf("got %q, want JSON: %v", a.body, err)
	}
	return v
}

func (a answer) object(t testing.TB) map[string]any {
	t.Helper()
	m, ok := a.json(t).(map[string]any)
	if !ok {
		t.Fatalf("got %q, want an object", a.body)
	}
	return m
}

func (a answer) list(t testing.TB) []map[string]any {
	t.Helper()
	rows := []map[string]any{}
	items, ok := a.json(t).([]any)
	if !ok {
		t.Fatalf("got %q, want a list", a.body)
	}
	for _, i := range items {
		rows = append(rows, i.(map[string]any))
	}
	return rows
}

// client calls with a certificate, or with none.
func client(cert *tls.Certificate) *http.Client {
	conf := &tls.Config{InsecureSkipVerify: true} //nolint:gosec // the server's certificate is looked at where it is the question
	if cert != nil {
		// The store of Go's client would leave a certificate out that the server does not ask for.
		conf.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return cert, nil }
	}
	return &http.Client{Timeout: time.Minute, Transport: &http.Transport{TLSClientConfig: conf, DisableCompression: true}}
}

func (b *bed) try(cert *tls.Certificate, r *http.Request) (answer, error) {
	res, err := client(cert).Do(r)
	if err != nil {
		return answer{}, err
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	return answer{res.StatusCode, res.Header, body}, err
}

func (b *bed) do(cert *tls.Certificate, r *http.Request) answer {
	b.Helper()
	a, err := b.try(cert, r)
	if err != nil {
		b.Fatalf("%s %s: %v", r.Method, r.URL.Path, err)
	}
	return a
}

func (b *bed) url(path string) string { return "https://" + b.addr + path }

func values(pairs ...string) url.Values {
	v := url.Values{}
	for i := 0; i < len(pairs); i += 2 {
		v.Add(pairs[i], pairs[i+1])
	}
	return v
}

func (b *bed) get(cert *tls.Certificate, path string) answer {
	b.Helper()
	r, err := http.NewRequest("GET", b.url(path), nil)
	b.must(err)
	return b.do(cert, r)
}

func (b *bed) post(cert *tls.Certificate, path string, pairs ...string) answer {
	b.Helper()
	r, err := http.NewRequest("POST", b.url(path), strings.NewReader(values(pairs...).Encode()))
	b.must(err)
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	return b.do(cert, r)
}

// boundary is the one of ConPaaS' own client.
const boundary = "----------_BoUnDaRy_StRiNg_$"

// multipartBody writes a form as ConPaaS' own client does, with its boundary.
func multipartBody(files map[string][]byte, pairs ...string) (io.Reader, string) {
	var out bytes.Buffer
	for i := 0; i < len(pairs); i += 2 {
		fmt.Fprintf(&out, "--%s\r\nContent-Disposition: form-data; name=\"%s\"\r\n\r\n%s\r\n", boundary, pairs[i], pairs[i+1])
	}
	for name, data := range files {
		fmt.Fprintf(&out, "--%s\r\nContent-Disposition: form-data; name=\"%s\"; filename=\"%s.pem\"\r\nContent-Type: application/octet-stream\r\n\r\n%s\r\n", boundary, name, name, data)
	}
	fmt.Fprintf(&out, "--%s--\r\n\r\n", boundary)
	return &out, "multipart/form-data; boundary=" + boundary
}

func (b *bed) upload(cert *tls.Certificate, path string, files map[string][]byte, pairs ...string) answer {
	b.Helper()
	body, kind := multipartBody(files, pairs...)
	r, err := http.NewRequest("POST", b.url(path), body)
	b.must(err)
	r.Header.Set("Content-Type", kind)
	return b.do(cert, r)
}

// someone is a user with a certificate.
type someone struct {
	name, password, email string
	uid                   int64
	cert                  *tls.Certificate
	account               core.Account
}

func (b *bed) user(name, credit string) *someone {
	b.Helper()
	u := &someone{name: name, password: "pw of " + name, email: name + "@example.org"}
	got := b.post(nil, "/new_user", "username", name, "fname", "F", "lname", "L", "email", u.email, "affiliation", "A", "password", u.password, "credit", credit, "uuid", "<none>").object(b)
	id, ok := got["uid"].(float64)
	if !ok {
		b.Fatalf("new_user: got %v", got)
	}
	u.uid = int64(id)
	u.cert = b.certificate(u)
	b.must(b.store.View(b.Context(), func(r core.Reader) (err error) { u.account, err = r.AccountByUsername(name); return err }))
	return u
}

// certificate fetches one and reads it from the zip.
func (b *bed) certificate(u *someone) *tls.Certificate {
	b.Helper()
	members := unzip(b, b.post(nil, "/getcerts", "username", u.name, "password", u.password).body)
	return b.pair(members["cert.pem"], members["key.pem"])
}

func (b *bed) pair(cert, key []byte) *tls.Certificate {
	b.Helper()
	pair, err := tls.X509KeyPair(cert, key)
	b.must(err)
	pair.Leaf, err = x509.ParseCertificate(pair.Certificate[0])
	b.must(err)
	return &pair
}

func unzip(t testing.TB, data []byte) map[string][]byte {
	t.Helper()
	zr, err := zip.NewReader(bytes.NewReader(data), int64(len(data)))
	if err != nil {
		t.Fatalf("got %q, want a zip: %v", data, err)
	}
	members := map[string][]byte{}
	for _, f := range zr.File {
		in, err := f.Open()
		if err != nil {
			t.Fatal(err)
		}
		members[f.Name], _ = io.ReadAll(in)
		in.Close()
	}
	return members
}

// manager is the certificate of a service's manager, as one in a machine of its own would have.
func (b *bed) manager(u *someone, sid int64) *tls.Certificate {
	b.Helper()
	pair, err := b.certs.Manager(b.Context(), core.Principal{Account: u.account}, sid)
	b.must(err)
	return b.pair(pair.Cert, pair.Key)
}

// forged is a certificate of the real authority that was never recorded.
func (b *bed) forged(id authority.Identity) *tls.Certificate {
	b.Helper()
	pair, err := b.ca.IssuePair(authority.Order{Identity: id, Client: true, Life: time.Hour})
	b.must(err)
	return pair
}

func (b *bed) start(u *someone, kind string, pairs ...string) map[string]any {
	b.Helper()
	got := b.post(u.cert, "/start/"+kind, pairs...).object(b)
	if got["sid"] == nil {
		b.Fatalf("start %s: got %v; the log says:\n%s", kind, got, b.log)
	}
	return got
}

func sidOf(record map[string]any) int64 { return int64(record["sid"].(float64)) }

func (b *bed) credit(u *someone) int64 {
	b.Helper()
	n, ok := b.get(u.cert, "/user_credit").json(b).(float64)
	if !ok {
		b.Fatal("user_credit is no number")
	}
	return int64(n)
}

func (b *bed) want(what string, got, want any) {
	b.Helper()
	if fmt.Sprint(got) != fmt.Sprint(want) {
		b.Errorf("%s: got %v, want %v", what, got, want)
	}
}

func (b *bed) wantBody(what string, a answer, status int, body string) {
	b.Helper()
	if a.status != status || string(a.body) != body {
		b.Errorf("%s: got %d %q, want %d %q", what, a.status, a.body, status, body)
	}
}

// wantFailure checks an error dictionary.
func (b *bed) wantFailure(what string, a answer, msg string) {
	b.Helper()
	v := a.object(b)
	text, _ := v["msg"].(string)
	if a.status != 200 || v["error"] != true || text == "" || msg != "" && text != msg {
		b.Errorf("%s: got %d %s, want an error dictionary with %q", what, a.status, a.body, msg)
	}
}

// until waits for a condition.
func (b *bed) until(what string, done func() bool) {
	b.Helper()
	deadline := time.After(time.Minute)
	tick := time.NewTicker(3 * time.Millisecond)
	defer tick.Stop()
	for !done() {
		select {
		case <-tick.C:
		case <-deadline:
			b.Fatalf("%s did not happen within a minute; the log says:\n%s", what, b.log)
		}
	}
}

func pemBytes(kind string, der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
}

// memCloud is a cloud of nothing with the agents of its nodes: nodes run as soon as they are created.
type memCloud struct {
	mu        sync.Mutex
	nodes     map[string]core.CloudNode
	addresses map[string]string
	last      int
	lastAddr  int
	refuse    map[string]error // by the name of a call
	once      map[string]bool
	releases  map[string][]int  // by node address: releases put
	sizes     map[string]int    // likewise: size of the last archive
	sites     map[string]string // by node address: the vhost made last
	dumps     map[string][]byte
	code      map[string][]byte  // by node address and release
	scripts   map[string]*script // by node address and name
	started   []string           // their keys, in order
	gate      chan struct{}      // CreateNode waits for it
}

func newMemCloud() *memCloud {
	return &memCloud{nodes: map[string]core.CloudNode{}, addresses: map[string]string{}, refuse: map[string]error{}, once: map[string]bool{}, releases: map[string][]int{}, sizes: map[string]int{}, sites: map[string]string{}, dumps: map[string][]byte{}, code: map[string][]byte{}, scripts: map[string]*script{}}
}

var (
	_ core.AddressCloud = (*memCloud)(nil)
	_ core.Clouds       = (*memCloud)(nil)
)

func (m *memCloud) Cloud(name string) (core.Cloud, bool) {
	return m, name == "default" || name == "mem"
}
func (m *memCloud) Canonical(name string) string {
	if name == "default" {
		return "mem"
	}
	return name
}
func (m *memCloud) Names() []string { return []string{"default", "mem"} }
func (m *memCloud) Info() core.CloudInfo {
	return core.CloudInfo{Type: "mem", Name: "Memory", Agents: true, Volumes: true}
}
func (m *memCloud) Images(context.Context) ([]core.Image, error) {
	return []core.Image{{ID: "debian", Name: "Debian"}}, m.failure("Images")
}
func (m *memCloud) Sizes(context.Context) ([]core.Size, error) {
	return []core.Size{{ID: "s", Name: "s", CPUs: 1, MemoryMB: 512}}, nil
}
func (m *memCloud) Locations(context.Context) ([]core.Location, error) {
	return []core.Location{{ID: "here", Num: 1}}, nil
}

func (m *memCloud) fail(call string, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.refuse[call] = err
}

// failOnce lets the next call fail, and no other.
func (m *memCloud) failOnce(call string, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.refuse[call], m.once[call] = err, true
}

func (m *memCloud) failure(call string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	err := m.refuse[call]
	if m.once[call] {
		delete(m.refuse, call)
		delete(m.once, call)
	}
	return err
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

func (m *memCloud) count() (nodes, addresses int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.nodes), len(m.addresses)
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

func (m *memCloud) CreateNode(ctx context.Context, s core.NodeSpec) (core.CloudNode, error) {
	m.mu.Lock()
	gate := m.gate
	m.mu.Unlock()
	if gate != nil {
		select {
		case <-gate:
		case <-ctx.Done():
			return core.CloudNode{}, ctx.Err()
		}
	}
	if err := m.failure("CreateNode"); err != nil {
		return core.CloudNode{}, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, n := range m.nodes {
		if n.Key == s.Key {
			return n, nil
		}
	}
	m.last++
	n := core.CloudNode{ID: fmt.Sprintf("n-%d", m.last), Name: s.Name, Key: s.Key, State: core.CloudRunning, SizeID: s.SizeID,
		PrivateIPs: []string{fmt.Sprintf("10.0.%d.%d", m.last/250, m.last%250+1)}}
	m.nodes[n.ID] = n
	return n, nil
}

func (m *memCloud) RebootNode(context.Context, string) error { return nil }

func (m *memCloud) DestroyNode(_ context.Context, id string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.nodes, id)
	return nil
}

func (m *memCloud) ReserveAddress(_ context.Context, key string) (string, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.addresses[key] == "" {
		m.lastAddr++
		m.addresses[key] = fmt.Sprintf("127.7.%d.%d", m.lastAddr/250, m.lastAddr%250+1)
	}
	return m.addresses[key], nil
}

func (m *memCloud) ReleaseAddress(_ context.Context, key string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.addresses, key)
	return nil
}

// agentOf is the agent of one node.
type agentOf struct {
	core.Agent // nil: what no operation of a service calls
	*memCloud
	node core.Node
}

// agentsOf finds agents.
type agentsOf struct{ *memCloud }

func (a agentsOf) Agent(n core.Node) (core.Agent, error) { return agentOf{nil, a.memCloud, n}, nil }

func (a agentOf) Hostname(context.Context) (string, error) { return "host", a.failure("Hostname") }
func (a agentOf) CreateApp(_ context.Context, p agentapi.CreateAppParams) (agentapi.AppPaths, error) {
	return agentapi.AppPaths{Home: p.Base + "/" + p.App, DocumentRoot: "/web"}, a.failure("CreateApp")
}
func (a agentOf) DeleteApp(context.Context, agentapi.AppParams) error { return nil }
func (a agentOf) CreateVHost(_ context.Context, p agentapi.CreateVHostParams) (string, error) {
	a.mu.Lock()
	a.sites[a.node.Address] = p.Template
	a.mu.Unlock()
	return "", a.failure("CreateVHost")
}
func (a agentOf) DeleteVHosts(context.Context, agentapi.DeleteVHostsParams) error   { return nil }
func (a agentOf) StartService(context.Context, string) error                        { return nil }
func (a agentOf) EnableService(context.Context, agentapi.EnableServiceParams) error { return nil }
func (a agentOf) CreateDatabase(context.Context, string, agentapi.CreateDatabaseParams) error {
	return nil
}
func (a agentOf) CreateDatabaseUser(context.Context, string, agentapi.CreateDatabaseUserParams) error {
	return a.failure("CreateDatabaseUser")
}
func (a agentOf) PutRelease(_ context.Context, p agentapi.PutReleaseParams) error {
	if err := a.failure("PutRelease"); err != nil {
		return err
	}
	size := len(p.Archive)
	if p.Source != nil {
		data, err := useBlob(http.MethodGet, *p.Source, nil)
		if err != nil {
			return err
		}
		size = len(data)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.releases[a.node.Address] = append(a.releases[a.node.Address], p.Release)
	a.sizes[a.node.Address] = size
	return nil
}

// useBlob fetches or writes a blob as agents do.
func useBlob(method string, b agentapi.Blob, body io.Reader) ([]byte, error) {
	r, err := http.NewRequest(method, b.URL, body)
	if err != nil {
		return nil, err
	}
	r.Header.Set("Authorization", "Bearer "+string(b.Token))
	res, err := http.DefaultClient.Do(r)
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	data, err := io.ReadAll(res.Body)
	if err == nil && (res.StatusCode >= 300 || b.SHA256 != "" && fmt.Sprintf("%x", sha256.Sum256(data)) != b.SHA256) {
		err = core.Errorf(core.Invalid, core.ObjRelease, "got %s, %d bytes", res.Status, len(data))
	}
	return data, err
}

func (a agentOf) FetchRelease(_ context.Context, p agentapi.FetchReleaseParams) error {
	data, err := useBlob(http.MethodGet, p.Source, nil)
	if err != nil {
		return err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.code[fmt.Sprintf("%s/%d", a.node.Address, p.Release)] = data
	return nil
}

// script is one that a node was told to run.
type script struct {
	agentapi.StartScriptParams
	state agentapi.AppScriptState
	code  int
}

// StartScript runs what the release has, unless it was to run once and did.
func (a agentOf) StartScript(_ context.Context, p agentapi.StartScriptParams) error {
	if err := a.failure("StartScript"); err != nil {
		return err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	zr, err := gzip.NewReader(bytes.NewReader(a.code[fmt.Sprintf("%s/%d", a.node.Address, p.Release)]))
	if err != nil {
		return err
	}
	tr := tar.NewReader(zr)
	for {
		h, err := tr.Next()
		if err != nil {
			return agentapi.Errorf(agentapi.KindNotFound, "ValueError", "release %d has no %s", p.Release, p.Script)
		}
		if h.Name == p.Script {
			break
		}
	}
	key := a.node.Address + "/" + p.Script
	old := a.scripts[key]
	switch {
	case old != nil && p.Once != "" && old.Once == p.Once:
		return nil
	case old != nil && old.state == agentapi.AppScriptRunning:
		return core.Errorf(core.Busy, core.ObjNode, "it runs")
	}
	a.scripts[key] = &script{p, agentapi.AppScriptRunning, 0}
	a.started = append(a.started, key)
	return nil
}

func (a agentOf) StopScript(_ context.Context, p agentapi.ScriptParams) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if s := a.scripts[a.node.Address+"/"+p.Script]; s != nil {
		s.state = agentapi.AppScriptLost
	}
	return nil
}

func (a agentOf) ListScripts(context.Context, agentapi.AppParams) ([]agentapi.AppScript, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	var all []agentapi.AppScript
	for key, s := range a.scripts {
		if name, ok := strings.CutPrefix(key, a.node.Address+"/"); ok {
			all = append(all, agentapi.AppScript{Script: name, State: s.state, ExitCode: s.code})
		}
	}
	return all, a.refuse["ListScripts"]
}

func (a agentOf) ScriptLog(context.Context, agentapi.AppParams) (agentapi.ScriptLog, error) {
	return agentapi.ScriptLog{Lines: []string{"printed on " + a.node.Address}}, nil
}

// ends lets a script end on a node.
func (m *memCloud) ends(address, name string, code int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.scripts[address+"/"+name].state, m.scripts[address+"/"+name].code = agentapi.AppScriptEnded, code
}

// wasStarted counts how often a script was started on a node, and says with what.
func (m *memCloud) wasStarted(address, name string) (int, agentapi.StartScriptParams) {
	m.mu.Lock()
	defer m.mu.Unlock()
	n := 0
	for _, key := range m.started {
		if key == address+"/"+name {
			n++
		}
	}
	if s := m.scripts[address+"/"+name]; s != nil {
		return n, s.StartScriptParams
	}
	return n, agentapi.StartScriptParams{}
}

// The text of a database is what was loaded last.
func (a agentOf) LoadDump(_ context.Context, _ string, p agentapi.LoadDumpParams) error {
	if err := a.failure("LoadDump"); err != nil {
		return err
	}
	data, err := useBlob(http.MethodGet, p.Source, nil)
	a.mu.Lock()
	defer a.mu.Unlock()
	a.dumps[a.node.Address] = data
	return err
}

func (a agentOf) DumpDatabase(_ context.Context, _ string, p agentapi.DumpDatabaseParams) error {
	if err := a.failure("DumpDatabase"); err != nil {
		return err
	}
	a.mu.Lock()
	data := a.dumps[a.node.Address]
	a.mu.Unlock()
	_, err := useBlob(http.MethodPut, p.Target, bytes.NewReader(data))
	return err
}

func (a agentOf) Call(_ context.Context, method string, _, _ any) error { return a.failure(method) }

func (m *memCloud) site(address string) string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.sites[address]
}

// size is that of the archive which a node got last.
func (m *memCloud) size(address string) int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.sizes[address]
}

func (m *memCloud) put(address string) []int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.releases[address])
}
