package tsuru_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/reeve-paas/reeve/agent/agentapi"
	"github.com/reeve-paas/reeve/coordinator/core"
)

// world is a cloud in memory, the hosts on it with their agents, and the files they fetch.
type world struct {
	mu       sync.Mutex // protects the fields below
	nodes    map[string]core.CloudNode
	hosts    map[string]*host // by address
	files    map[string][]byte
	accepted map[string]string
	gate     chan struct{} // builds, removals of apps and new databases wait until it is closed; nil: they do not
	mongo    bool          // hosts have a MongoDB server
}

type host struct {
	apps      map[string]bool
	units     map[string]agentapi.StartUnitParams
	stopped   map[string]bool
	releases  map[string]bool
	proxies   map[string][]agentapi.Destination
	databases map[string]bool
	users     map[string]string // database by user
	logs      []agentapi.UnitLogLine
}

func newWorld() *world {
	return &world{nodes: map[string]core.CloudNode{}, hosts: map[string]*host{}, files: map[string][]byte{}, accepted: map[string]string{}}
}

// hold makes builds, removals of apps and new databases wait until release.
func (w *world) hold() (release func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	gate := make(chan struct{})
	w.gate = gate
	return sync.OnceFunc(func() {
		w.mu.Lock()
		w.gate = nil
		w.mu.Unlock()
		close(gate)
	})
}

// installMongo lets every host have a MongoDB server.
func (w *world) installMongo() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.mongo = true
}

// say lets every unit of an app print a line.
func (w *world) say(message string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, h := range w.hosts {
		for id := range h.units {
			h.logs = append(h.logs, agentapi.UnitLogLine{At: time.Now().UTC(), Unit: id, Process: "web", Message: message})
		}
	}
}

// backends are where routers send the requests for a name.
func (w *world) backends(hostname string) []agentapi.Destination {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, h := range w.hosts {
		if to, ok := h.proxies[hostname]; ok {
			return to
		}
	}
	return nil
}

// started are the parameters of all units that run.
func (w *world) started() []agentapi.StartUnitParams {
	w.mu.Lock()
	defer w.mu.Unlock()
	var all []agentapi.StartUnitParams
	for _, h := range w.hosts {
		all = append(all, slices.Collect(maps.Values(h.units))...)
	}
	return all
}

// traces counts what is left of apps and databases on any host.
func (w *world) traces() (apps, units, proxies, databases, users int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, h := range w.hosts {
		apps, units, proxies, databases, users = apps+len(h.apps), units+len(h.units), proxies+len(h.proxies), databases+len(h.databases), users+len(h.users)
	}
	return apps, units, proxies, databases, users
}

var (
	_ core.Clouds = (*world)(nil)
	_ core.Cloud  = (*world)(nil)
	_ core.Agents = (*world)(nil)
	_ core.Files  = (*world)(nil)
)

func (w *world) Cloud(name string) (core.Cloud, bool) { return w, name == "default" || name == "mem" }
func (w *world) Canonical(string) string              { return "mem" }
func (w *world) Names() []string                      { return []string{"default", "mem"} }
func (w *world) Info() core.CloudInfo {
	return core.CloudInfo{Type: "mem", Name: "memory", Agents: true, Volumes: true}
}
func (w *world) Images(context.Context) ([]core.Image, error) {
	return []core.Image{{ID: "debian"}}, nil
}
func (w *world) Sizes(context.Context) ([]core.Size, error) {
	return []core.Size{{ID: "s", MemoryMB: 512}, {ID: "m", MemoryMB: 1024}}, nil
}
func (w *world) Locations(context.Context) ([]core.Location, error) {
	return []core.Location{{ID: "here", Num: 1}}, nil
}
func (w *world) Nodes(context.Context) ([]core.CloudNode, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Collect(maps.Values(w.nodes)), nil
}
func (w *world) Node(_ context.Context, id string) (core.CloudNode, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	n, ok := w.nodes[id]
	if !ok {
		return n, core.Errorf(core.NotFound, core.ObjNode, "no such node")
	}
	return n, nil
}
func (w *world) CreateNode(_ context.Context, s core.NodeSpec) (core.CloudNode, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if n, ok := w.nodes[s.Key]; ok {
		return n, nil
	}
	ip := fmt.Sprintf("10.0.0.%d", 10+len(w.nodes))
	w.nodes[s.Key] = core.CloudNode{ID: s.Key, Key: s.Key, Name: s.Name, State: core.CloudRunning, PrivateIPs: []string{ip}}
	w.hosts[ip] = &host{apps: map[string]bool{}, units: map[string]agentapi.StartUnitParams{}, stopped: map[string]bool{}, releases: map[string]bool{},
		proxies: map[string][]agentapi.Destination{}, databases: map[string]bool{}, users: map[string]string{}}
	return w.nodes[s.Key], nil
}
func (w *world) RebootNode(context.Context, string) error { return nil }
func (w *world) DestroyNode(_ context.Context, id string) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if n, ok := w.nodes[id]; ok {
		delete(w.hosts, n.PrivateIPs[0])
		delete(w.nodes, id)
	}
	return nil
}

func (w *world) Put(_ context.Context, r io.Reader) (string, int64, error) {
	data, err := io.ReadAll(r)
	if err != nil {
		return "", 0, core.Wrap(core.Invalid, core.ObjRelease, err, "incomplete")
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.keep(data), int64(len(data)), nil
}
func (w *world) keep(data []byte) string {
	sum := sha256.Sum256(data)
	name := hex.EncodeToString(sum[:])
	w.files[name] = data
	return name
}
func (w *world) Open(sum string) (io.ReadSeekCloser, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	data, ok := w.files[sum]
	if !ok {
		return nil, core.Errorf(core.NotFound, core.ObjRelease, "no such file")
	}
	return whole{bytes.NewReader(data)}, nil
}

type whole struct{ *bytes.Reader }

func (whole) Close() error { return nil }

func (w *world) Lend(_ core.Node, sum string) (agentapi.Blob, error) {
	_, err := w.Open(sum)
	return agentapi.Blob{URL: "mem:" + sum, SHA256: sum}, err
}
func (w *world) Accept(_ core.Node, name string) (agentapi.Blob, error) {
	return agentapi.Blob{URL: "mem:" + name}, nil
}
func (w *world) Accepted(name string) (string, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	sum, ok := w.accepted[name]
	if !ok {
		return "", core.Errorf(core.NotFound, core.ObjRelease, "nothing was written")
	}
	return sum, nil
}
func (w *world) Delete(sum string) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.files, sum)
	return nil
}

// agent is the agent of one node. What no test needs is missing.
type agent struct {
	core.Agent
	w *world
	n core.Node
}

func (w *world) Agent(n core.Node) (core.Agent, error) { return agent{w: w, n: n}, nil }

func (a agent) do(change func(*host) error) error {
	a.w.mu.Lock()
	defer a.w.mu.Unlock()
	h := a.w.hosts[a.n.Address]
	if h == nil {
		return core.Errorf(core.Unavailable, core.ObjNode, "the agent gives no answer")
	}
	return change(h)
}

// wait is for what hold holds.
func (a agent) wait(ctx context.Context) error {
	a.w.mu.Lock()
	gate := a.w.gate
	a.w.mu.Unlock()
	if gate == nil {
		return nil
	}
	select {
	case <-gate:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (a agent) Hostname(context.Context) (string, error) {
	return a.n.Name, a.do(func(*host) error { return nil })
}
func (a agent) DrainRouter(context.Context, agentapi.DrainRouterParams) error { return nil }
func (a agent) PrepareRouter(context.Context) error                           { return nil }
func (a agent) StartService(context.Context, string) error                    { return nil }
func (a agent) EnableService(_ context.Context, p agentapi.EnableServiceParams) error {
	return a.do(func(*host) error {
		if p.Service == agentapi.EngineMongoDB && !a.w.mongo {
			return core.Errorf(core.Unsupported, core.ObjNode, "mongodb is not installed on this host")
		}
		return nil
	})
}
func (a agent) CreateApp(_ context.Context, p agentapi.CreateAppParams) (agentapi.AppPaths, error) {
	return agentapi.AppPaths{}, a.do(func(h *host) error { h.apps[p.App] = true; return nil })
}
func (a agent) DeleteApp(ctx context.Context, p agentapi.AppParams) error {
	if err := a.wait(ctx); err != nil {
		return err
	}
	return a.do(func(h *host) error {
		delete(h.apps, p.App)
		maps.DeleteFunc(h.units, func(_ string, u agentapi.StartUnitParams) bool { return u.App == p.App })
		return nil
	})
}
func (a agent) MakeProxy(_ context.Context, p agentapi.ProxyParams) error {
	return a.do(func(h *host) error { h.proxies[p.Hostname] = p.Backends; return nil })
}
func (a agent) RemoveProxy(_ context.Context, p agentapi.RemoveProxyParams) error {
	return a.do(func(h *host) error { delete(h.proxies, p.Hostname); return nil })
}
func (a agent) CreateDatabase(ctx context.Context, engine string, p agentapi.CreateDatabaseParams) error {
	if err := a.wait(ctx); err != nil {
		return err
	}
	return a.do(func(h *host) error { h.databases[engine+"/"+p.Name] = true; return nil })
}
func (a agent) DropDatabase(_ context.Context, engine, name string) error {
	return a.do(func(h *host) error { delete(h.databases, engine+"/"+name); return nil })
}
func (a agent) CreateDatabaseUser(_ context.Context, engine string, p agentapi.CreateDatabaseUserParams) error {
	return a.do(func(h *host) error {
		if !h.databases[engine+"/"+p.Database] || !bool(p.Remote) {
			return core.Errorf(core.NotFound, core.ObjApp, "no such database, or not from other machines")
		}
		h.users[p.Name] = p.Database
		return nil
	})
}
func (a agent) DropDatabaseUser(_ context.Context, _ string, p agentapi.DropDatabaseUserParams) error {
	return a.do(func(h *host) error { delete(h.users, p.Name); return nil })
}

// BuildRelease fails for sources with a file "fail" in them, and says what else is there.
func (a agent) BuildRelease(ctx context.Context, p agentapi.BuildReleaseParams, line func(string)) (b agentapi.ReleaseBuild, err error) {
	a.w.mu.Lock()
	data := a.w.files[p.Source.SHA256]
	a.w.mu.Unlock()
	if err := a.wait(ctx); err != nil {
		return b, err
	}
	names, err := tarNames(data)
	if err != nil {
		return b, core.Errorf(core.Invalid, core.ObjRelease, "the source is no tar.gz")
	}
	line("building " + strings.Join(names, " "))
	if slices.Contains(names, "fail") {
		return b, core.Errorf(core.Invalid, core.ObjRelease, "the build failed: exit status 7")
	}
	b.Manifest.Processes = []agentapi.Process{{Name: "web", Command: "./web"}}
	if slices.Contains(names, "sick") {
		b.Manifest.HealthCheck = &agentapi.HealthCheck{Path: "/sick"}
	}
	return b, a.do(func(*host) error {
		b.SHA256 = a.w.keep(append([]byte("built "), data...))
		a.w.accepted[p.Target.URL[len("mem:"):]] = b.SHA256
		return nil
	})
}
func (a agent) FetchRelease(_ context.Context, p agentapi.FetchReleaseParams) error {
	return a.do(func(h *host) error { h.releases[fmt.Sprint(p.App, "/", p.Release)] = true; return nil })
}
func (a agent) StartUnit(_ context.Context, p agentapi.StartUnitParams) (u agentapi.Unit, err error) {
	return agentapi.Unit{App: p.App, Unit: p.Unit, Port: p.Port, Release: p.Release, State: agentapi.UnitStarted}, a.do(func(h *host) error {
		if !h.releases[fmt.Sprint(p.App, "/", p.Release)] || !h.apps[p.App] {
			return core.Errorf(core.NotFound, core.ObjRelease, "no such release")
		}
		if p.HealthCheck != nil && p.HealthCheck.Path == "/sick" {
			return core.Errorf(core.Invalid, core.ObjUnit, "the health check failed: GET /sick is 500")
		}
		h.units[p.Unit] = p
		delete(h.stopped, p.Unit)
		return nil
	})
}
func (a agent) StopUnit(_ context.Context, p agentapi.StopUnitParams) error {
	return a.do(func(h *host) error {
		if bool(p.Keep) {
			h.stopped[p.Unit] = true
		} else {
			delete(h.units, p.Unit)
		}
		return nil
	})
}
func (a agent) ListUnits(context.Context, agentapi.ListUnitsParams) (all []agentapi.Unit, err error) {
	return all, a.do(func(h *host) error {
		for id, u := range h.units {
			state := agentapi.UnitStarted
			if h.stopped[id] {
				state = agentapi.UnitStopped
			}
			all = append(all, agentapi.Unit{App: u.App, Unit: id, Port: u.Port, Release: u.Release, State: state})
		}
		return nil
	})
}
func (a agent) ListApps(context.Context) (all []agentapi.AppInfo, err error) {
	return all, a.do(func(h *host) error {
		for name := range h.apps {
			all = append(all, agentapi.AppInfo{App: name})
		}
		return nil
	})
}
func (a agent) UnitLog(_ context.Context, p agentapi.UnitLogParams) (l agentapi.UnitLog, err error) {
	return l, a.do(func(h *host) error {
		from := 0
		_, _ = fmt.Sscan(p.Cursor, &from)
		for _, line := range h.logs[min(from, len(h.logs)):] {
			if p.Unit == "" || p.Unit == line.Unit {
				l.Lines = append(l.Lines, line)
			}
		}
		l.Cursor = fmt.Sprint(len(h.logs))
		return nil
	})
}
func (a agent) RunCommand(_ context.Context, p agentapi.RunCommandParams, line func(string)) (r agentapi.CommandResult, err error) {
	line("ran " + p.Command)
	if p.Command == "false" {
		r.ExitCode = 1
	}
	return r, a.do(func(*host) error { return nil })
}
func (a agent) Counters(context.Context) (core.Counters, error) { return core.UnknownCounters(), nil }
func (a agent) CPUs(context.Context) (int, error)               { return 1, nil }

// archive is a tar.gz of empty files.
func archive(names ...string) string {
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	t := tar.NewWriter(z)
	for _, name := range names {
		_ = t.WriteHeader(&tar.Header{Name: name, Mode: 0o644})
	}
	_ = t.Close()
	_ = z.Close()
	return b.String()
}

func tarNames(data []byte) (names []string, err error) {
	z, err := gzip.NewReader(bytes.NewReader(data))
	if err != nil {
		return nil, err
	}
	for t := tar.NewReader(z); ; {
		h, err := t.Next()
		if err == io.EOF {
			return names, nil
		}
		if err != nil {
			return nil, err
		}
		names = append(names, h.Name)
	}
}
