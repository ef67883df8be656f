package core_test

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"

	"github.com/reeve-paas/reeve/agent/agentapi"
	"github.com/reeve-paas/reeve/coordinator/core"
)

// world is a cloud in memory and the hosts on it with their agents. Every call that an operation makes goes through call,
// which records it and can make it fail or wait.
type world struct {
	info  core.CloudInfo
	files *memFiles

	mu         sync.Mutex // protects the fields below
	last       int
	images     []core.Image
	sizes      []core.Size
	nodes      map[string]*core.CloudNode
	volumes    map[string]*core.CloudVolume
	copies     map[string]*core.CloudSnapshot
	content    map[string]string // of a volume or snapshot, by its id
	hosts      map[string]*host  // by the address of their node
	calls      []string          // since the last arm
	fails      map[int]error     // by the number of the call, from 1
	loses      map[int]error     // the same, but what the call does is done: the answer is lost
	refuse     map[string]error  // by its name, every time
	gates      map[string]chan struct{}
	waiting    map[string]chan struct{}
	heldAt     int // number of the call that waits at heldGate; 0 is none
	heldGate   chan struct{}
	heldName   chan string
	quiet      bool // no agent gives an answer
	withoutTLS bool // routers are of a version that takes no certificates
}

// host is what an agent keeps.
type host struct {
	key       string
	mounted   string
	databases map[string]bool
	users     map[string]string // password by name
	apps      map[string]agentapi.CreateAppParams
	vhosts    map[string]string // template by name
	proxies   map[string]string // backend by name
	shown     map[string]string // id of the certificate by name
	enabled   map[string]bool
	started   map[string]bool
	router    bool
	login     agentapi.SetLoginParams
	grown     int
	boots     int
	releases  map[string]bool // "app/number"
	current   map[string]int  // number of the release that is switched to, by app
	units     map[string]agentapi.Unit
	balance   map[string][]string // backends by proxy, as host:port
	lacks     map[string]bool     // services that are not installed
	dead      bool                // it gives no answer
}

func newWorld() *world {
	w := &world{
		files:  newFiles(),
		info:   core.CloudInfo{Type: "mem", Name: "memory", Agents: true, Volumes: true, Power: true, Resize: true, Grow: true, Snapshots: true},
		images: []core.Image{{ID: "image-1", Name: "Debian"}},
		sizes:  []core.Size{{ID: "s"}, {ID: "m"}},
		nodes:  map[string]*core.CloudNode{}, volumes: map[string]*core.CloudVolume{}, copies: map[string]*core.CloudSnapshot{}, content: map[string]string{}, hosts: map[string]*host{},
		refuse: map[string]error{}, gates: map[string]chan struct{}{}, waiting: map[string]chan struct{}{},
	}
	return w
}

// arm forgets the calls so far and lets calls fail by their number.
func (w *world) arm(fails map[int]error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.calls, w.fails, w.loses = nil, fails, nil
}

func (w *world) made() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.calls)
}

// always lets every call of a name fail; nil lets it work again.
func (w *world) always(name string, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.refuse[name] = err
}

// hold makes calls of a name wait until release. waits is closed when one does.
func (w *world) hold(name string) (waits <-chan struct{}, release func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	gate, waiting := make(chan struct{}), make(chan struct{})
	w.gates[name], w.waiting[name] = gate, waiting
	return waiting, func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		delete(w.gates, name)
		close(gate)
	}
}

// holdAt makes the n-th call since the last arm wait until release; its name comes through waits.
func (w *world) holdAt(n int) (waits <-chan string, release func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	gate, name := make(chan struct{}), make(chan string, 1)
	w.heldAt, w.heldGate, w.heldName = n, gate, name
	return name, func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.heldAt = 0
		close(gate)
	}
}

// burn destroys every node but the routers, behind everybody's back.
func (w *world) burn() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for id, n := range w.nodes {
		if h := w.hosts[n.PrivateIPs[0]]; h == nil || !h.router {
			delete(w.hosts, n.PrivateIPs[0])
			delete(w.nodes, id)
		}
	}
}

func (w *world) call(ctx context.Context, name string) error {
	w.mu.Lock()
	w.calls = append(w.calls, name)
	err := w.fails[len(w.calls)]
	if err == nil {
		err = w.refuse[name]
	}
	gate := w.gates[name]
	if len(w.calls) == w.heldAt {
		gate = w.heldGate
		w.heldName <- name
		w.heldAt = 0
	}
	if waiting := w.waiting[name]; gate != nil && waiting != nil {
		close(waiting)
		delete(w.waiting, name)
	}
	w.mu.Unlock()
	if gate != nil {
		select {
		case <-gate:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return err
}

// act is a call that changes something, if it does not fail.
func (w *world) act(ctx context.Context, name string, change func() error) error {
	if err := w.call(ctx, name); err != nil {
		return err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	lost := w.loses[len(w.calls)]
	delete(w.loses, len(w.calls))
	return errors.Join(change(), lost)
}

var (
	_ core.Clouds        = (*world)(nil)
	_ core.VolumeCloud   = (*world)(nil)
	_ core.PowerCloud    = (*world)(nil)
	_ core.ResizeCloud   = (*world)(nil)
	_ core.GrowCloud     = (*world)(nil)
	_ core.SnapshotCloud = (*world)(nil)
	_ core.Agents        = (*world)(nil)
	_ core.Agent         = agentOf{}
)

func (w *world) Cloud(name string) (core.Cloud, bool) { return w, name == "default" || name == "mem" }
func (w *world) Canonical(name string) string {
	if name == "default" {
		return "mem"
	}
	return name
}
func (w *world) Names() []string      { return []string{"default", "mem"} }
func (w *world) Info() core.CloudInfo { return w.info }
func (w *world) Images(context.Context) ([]core.Image, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.images), nil
}
func (w *world) Sizes(context.Context) ([]core.Size, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.sizes), nil
}
func (w *world) Locations(context.Context) ([]core.Location, error) {
	return []core.Location{{ID: "here", Num: 1}, {ID: "there", Num: 2}}, nil
}

func (w *world) Nodes(ctx context.Context) (all []core.CloudNode, err error) {
	err = w.act(ctx, "Nodes", func() error {
		for _, id := range slices.Sorted(maps.Keys(w.nodes)) {
			all = append(all, *w.nodes[id])
		}
		return nil
	})
	return all, err
}

func (w *world) Node(ctx context.Context, id string) (n core.CloudNode, err error) {
	err = w.act(ctx, "Node", func() error {
		if w.nodes[id] == nil {
			return core.Errorf(core.NotFound, core.ObjNode, "no such node")
		}
		n = *w.nodes[id]
		return nil
	})
	return n, err
}

func (w *world) CreateNode(ctx context.Context, s core.NodeSpec) (n core.CloudNode, err error) {
	err = w.act(ctx, "CreateNode", func() error {
		for _, old := range w.nodes {
			if s.Key != "" && old.Key == s.Key {
				n = *old
				return nil
			}
		}
		w.last++
		ip := fmt.Sprintf("10.0.0.%d", w.last)
		n = core.CloudNode{ID: fmt.Sprintf("n%04d", w.last), Name: s.Name, Key: s.Key, State: core.CloudRunning, PrivateIPs: []string{ip}, PublicIPs: []string{}}
		w.nodes[n.ID] = &n
		h := &host{databases: map[string]bool{}, users: map[string]string{}, apps: map[string]agentapi.CreateAppParams{},
			releases: map[string]bool{}, current: map[string]int{}, units: map[string]agentapi.Unit{}, balance: map[string][]string{},
			vhosts: map[string]string{}, proxies: map[string]string{}, shown: map[string]string{}, enabled: map[string]bool{}, started: map[string]bool{}}
		for _, f := range s.Files {
			if f.Path == "/etc/reeve/keys/default" {
				h.key = string(f.Data)
			}
		}
		w.hosts[ip] = h
		return nil
	})
	return n, err
}

func (w *world) RebootNode(ctx context.Context, id string) error {
	return w.act(ctx, "RebootNode", func() error {
		if w.nodes[id] == nil {
			return core.Errorf(core.NotFound, core.ObjNode, "no such node")
		}
		w.nodes[id].State = core.CloudRunning
		w.hosts[w.nodes[id].PrivateIPs[0]].boots++
		return nil
	})
}

func (w *world) DestroyNode(ctx context.Context, id string) error {
	return w.act(ctx, "DestroyNode", func() error {
		if n := w.nodes[id]; n != nil {
			delete(w.hosts, n.PrivateIPs[0])
		}
		delete(w.nodes, id)
		return nil
	})
}

func (w *world) ResizeNode(ctx context.Context, id, size string) error {
	return w.act(ctx, "ResizeNode", func() error {
		if w.nodes[id] == nil {
			return core.Errorf(core.NotFound, core.ObjNode, "no such node")
		}
		w.nodes[id].SizeID = size
		return nil
	})
}

func (w *world) GrowVolume(ctx context.Context, id string, size int64) (v core.CloudVolume, err error) {
	err = w.act(ctx, "GrowCloudVolume", func() error {
		if w.volumes[id] == nil {
			return core.Errorf(core.NotFound, core.ObjVolume, "no such volume")
		}
		w.volumes[id].SizeBytes = max(w.volumes[id].SizeBytes, size)
		v = *w.volumes[id]
		return nil
	})
	return v, err
}

func (w *world) power(ctx context.Context, name, id string, state core.CloudNodeState) error {
	return w.act(ctx, name, func() error {
		if w.nodes[id] == nil {
			return core.Errorf(core.NotFound, core.ObjNode, "no such node")
		}
		w.nodes[id].State = state
		return nil
	})
}

func (w *world) StopNode(ctx context.Context, id string) error {
	return w.power(ctx, "StopNode", id, core.CloudStopped)
}

func (w *world) StartNode(ctx context.Context, id string) error {
	return w.power(ctx, "StartNode", id, core.CloudRunning)
}

func (w *world) Volumes(ctx context.Context) (all []core.CloudVolume, err error) {
	err = w.act(ctx, "Volumes", func() error {
		for _, v := range w.volumes {
			all = append(all, *v)
		}
		return nil
	})
	return all, err
}

func (w *world) CreateVolume(ctx context.Context, key string, size int64) (v core.CloudVolume, err error) {
	err = w.act(ctx, "CreateVolume", func() error {
		if w.volumes["v-"+key] == nil {
			w.volumes["v-"+key] = &core.CloudVolume{ID: "v-" + key, Key: key, SizeBytes: size}
		}
		v = *w.volumes["v-"+key]
		return nil
	})
	return v, err
}

func (w *world) AttachVolume(ctx context.Context, volume, node string) (device string, err error) {
	err = w.act(ctx, "AttachVolume", func() error {
		if w.volumes[volume] == nil || w.nodes[node] == nil {
			return core.Errorf(core.NotFound, core.ObjVolume, "no such volume or node")
		}
		device = "/dev/" + volume
		w.volumes[volume].NodeID = node
		return nil
	})
	return device, err
}

func (w *world) DetachVolume(ctx context.Context, id string) error {
	return w.act(ctx, "DetachVolume", func() error {
		v := w.volumes[id]
		if v == nil || v.NodeID == "" {
			return nil
		}
		if n := w.nodes[v.NodeID]; n != nil && w.hosts[n.PrivateIPs[0]].mounted == "/dev/"+id {
			return core.Errorf(core.Busy, core.ObjVolume, "the volume is mounted")
		}
		v.NodeID = ""
		return nil
	})
}

func (w *world) DestroyVolume(ctx context.Context, id string) error {
	return w.act(ctx, "DestroyVolume", func() error { delete(w.volumes, id); delete(w.content, id); return nil })
}

func (w *world) Snapshots(ctx context.Context) (all []core.CloudSnapshot, err error) {
	err = w.act(ctx, "Snapshots", func() error {
		for _, s := range w.copies {
			all = append(all, *s)
		}
		return nil
	})
	return all, err
}

func (w *world) SnapshotVolume(ctx context.Context, key, volume string) (s core.CloudSnapshot, err error) {
	err = w.act(ctx, "SnapshotVolume", func() error {
		id := "s-" + key
		if w.copies[id] == nil {
			v := w.volumes[volume]
			if v == nil {
				return core.Errorf(core.NotFound, core.ObjVolume, "no such volume")
			}
			w.copies[id] = &core.CloudSnapshot{ID: id, Key: key, VolumeID: volume, SizeBytes: v.SizeBytes, Complete: true}
			w.content[id] = w.content[volume]
		}
		s = *w.copies[id]
		return nil
	})
	return s, err
}

func (w *world) RestoreSnapshot(ctx context.Context, key, snapshot string, size int64) (v core.CloudVolume, err error) {
	err = w.act(ctx, "RestoreSnapshot", func() error {
		s := w.copies[snapshot]
		if s == nil {
			return core.Errorf(core.NotFound, core.ObjVolume, "no such snapshot")
		}
		id := "v-" + key
		if w.volumes[id] == nil {
			w.volumes[id] = &core.CloudVolume{ID: id, Key: key, SizeBytes: max(size, s.SizeBytes)}
			w.content[id] = w.content[snapshot]
		}
		v = *w.volumes[id]
		return nil
	})
	return v, err
}

func (w *world) DestroySnapshot(ctx context.Context, id string) error {
	return w.act(ctx, "DestroySnapshot", func() error { delete(w.copies, id); delete(w.content, id); return nil })
}

// agentOf is the agent of the node that was asked for, found anew at every call.
type agentOf struct {
	core.DumpAgent   // nil: what no operation calls
	core.ScriptAgent // likewise
	w                *world
	n                core.Node
}

func (w *world) Agent(n core.Node) (core.Agent, error) { return agentOf{w: w, n: n}, nil }

func (a agentOf) do(ctx context.Context, name string, change func(*host) error) error {
	return a.w.act(ctx, name, func() error {
		h := a.w.hosts[a.n.Address]
		if h == nil || h.dead || a.w.quiet {
			return core.Errorf(core.Unavailable, core.ObjNode, "the agent gives no answer")
		}
		return change(h)
	})
}

func (a agentOf) Hostname(ctx context.Context) (string, error) {
	return a.n.Name, a.do(ctx, "Hostname", func(*host) error { return nil })
}

func (a agentOf) MountVolume(ctx context.Context, p agentapi.MountVolumeParams) (m agentapi.VolumeMount, err error) {
	return m, a.do(ctx, "MountVolume", func(h *host) error {
		v := a.w.volumes[strings.TrimPrefix(p.Device, "/dev/")]
		switch {
		case v == nil || a.w.nodes[v.NodeID] == nil || a.w.nodes[v.NodeID].PrivateIPs[0] != a.n.Address:
			return core.Errorf(core.NotFound, core.ObjVolume, "there is no such device")
		case h.mounted != "" && h.mounted != p.Device:
			return core.Errorf(core.Busy, core.ObjVolume, "another device is mounted there")
		}
		h.mounted = p.Device
		return nil
	})
}

func (a agentOf) UnmountVolume(ctx context.Context, _ agentapi.UnmountVolumeParams) error {
	return a.do(ctx, "UnmountVolume", func(h *host) error {
		h.mounted = ""
		clear(h.started) // what lives on it
		return nil
	})
}

func (a agentOf) CreateApp(ctx context.Context, p agentapi.CreateAppParams) (agentapi.AppPaths, error) {
	paths := agentapi.AppPaths{Home: p.Base + "/" + p.App, DocumentRoot: "/web", EnvInclude: "/env.conf", LogDir: "/log"}
	return paths, a.do(ctx, "CreateApp", func(h *host) error { h.apps[p.App] = p; return nil })
}

func (a agentOf) GrowVolume(ctx context.Context, p agentapi.GrowVolumeParams) (m agentapi.VolumeMount, err error) {
	return m, a.do(ctx, "GrowVolume", func(h *host) error { h.grown++; return nil })
}

func (a agentOf) SetLogin(ctx context.Context, p agentapi.SetLoginParams) error {
	return a.do(ctx, "SetLogin", func(h *host) error { h.login = p; return nil })
}

func (a agentOf) AppPaths(ctx context.Context, p agentapi.AppParams) (agentapi.AppPaths, error) {
	paths := agentapi.AppPaths{DocumentRoot: "/web", EnvInclude: "/env.conf", LogDir: "/log"}
	return paths, a.do(ctx, "AppPaths", func(h *host) error {
		if _, ok := h.apps[p.App]; !ok {
			return core.Errorf(core.NotFound, core.ObjNode, "no such app")
		}
		return nil
	})
}

func (a agentOf) DeleteApp(ctx context.Context, p agentapi.AppParams) error {
	return a.do(ctx, "DeleteApp", func(h *host) error {
		delete(h.apps, p.App)
		maps.DeleteFunc(h.units, func(_ string, u agentapi.Unit) bool { return u.App == p.App })
		maps.DeleteFunc(h.releases, func(key string, _ bool) bool { return strings.HasPrefix(key, p.App+"/") })
		return nil
	})
}

func (a agentOf) CreateVHost(ctx context.Context, p agentapi.CreateVHostParams) (string, error) {
	return "", a.do(ctx, "CreateVHost", func(h *host) error { h.vhosts[p.Hostname], h.started["apache"] = p.Template, true; return nil })
}

func (a agentOf) DeleteVHosts(ctx context.Context, p agentapi.DeleteVHostsParams) error {
	return a.do(ctx, "DeleteVHosts", func(h *host) error {
		for _, v := range p.VHosts {
			delete(h.vhosts, v.Hostname)
		}
		return nil
	})
}

func (a agentOf) StartService(ctx context.Context, name string) error {
	return a.do(ctx, "StartService", func(h *host) error { h.started[name] = true; return nil })
}

func (a agentOf) EnableService(ctx context.Context, p agentapi.EnableServiceParams) error {
	return a.do(ctx, "EnableService", func(h *host) error {
		if h.lacks[p.Service] {
			return core.Errorf(core.Unsupported, core.ObjNode, "%s is not installed on this host", p.Service)
		}
		h.enabled[p.Service] = true
		return nil
	})
}

func (a agentOf) PrepareRouter(ctx context.Context) error {
	return a.do(ctx, "PrepareRouter", func(h *host) error { h.router = true; return nil })
}

// DrainRouter wants to be asked about what the router was told to leave, while that still runs.
func (a agentOf) DrainRouter(ctx context.Context, p agentapi.DrainRouterParams) error {
	for _, b := range p.Backends {
		a.w.mu.Lock()
		there := a.w.hosts[b.Address] != nil && slices.ContainsFunc(slices.Collect(maps.Values(a.w.hosts[b.Address].units)), func(u agentapi.Unit) bool { return u.Port == b.Port })
		a.w.mu.Unlock()
		if !there {
			return core.Errorf(core.Invalid, core.ObjUnit, "no unit listens at %s:%d any more", b.Address, b.Port)
		}
	}
	return a.do(ctx, "DrainRouter", func(h *host) error {
		for _, b := range p.Backends {
			for name, to := range h.balance {
				if slices.Contains(to, fmt.Sprintf("%s:%d", b.Address, b.Port)) {
					return core.Errorf(core.Invalid, core.ObjUnit, "%s is still sent to %s:%d", name, b.Address, b.Port)
				}
			}
		}
		return nil
	})
}

func (a agentOf) MakeProxy(ctx context.Context, p agentapi.ProxyParams) error {
	return a.do(ctx, "MakeProxy", func(h *host) error {
		delete(h.shown, p.Hostname)
		if p.SSL.Or(false) {
			if a.w.withoutTLS {
				return core.Errorf(core.Unsupported, core.ObjNode, "there is no source to fetch the certificate from")
			}
			if _, err := tls.X509KeyPair([]byte(p.SSLCertificate.Cert), []byte(p.SSLCertificate.Key)); err != nil {
				return err
			}
			h.shown[p.Hostname] = string(*p.SSLCertificateID)
		}
		h.proxies[p.Hostname] = p.Backends[0].Host
		h.balance[p.Hostname] = nil
		for _, b := range p.Backends {
			h.balance[p.Hostname] = append(h.balance[p.Hostname], b.Host+":"+string(b.Port))
		}
		return nil
	})
}

func (a agentOf) RemoveProxy(ctx context.Context, p agentapi.RemoveProxyParams) error {
	return a.do(ctx, "RemoveProxy", func(h *host) error {
		delete(h.proxies, p.Hostname)
		delete(h.balance, p.Hostname)
		delete(h.shown, p.Hostname)
		return nil
	})
}

func (a agentOf) CreateDatabase(ctx context.Context, _ string, p agentapi.CreateDatabaseParams) error {
	return a.do(ctx, "CreateDatabase", func(h *host) error { h.databases[p.Name] = true; return nil })
}

func (a agentOf) DropDatabase(ctx context.Context, _, name string) error {
	return a.do(ctx, "DropDatabase", func(h *host) error { delete(h.databases, name); return nil })
}

func (a agentOf) CreateDatabaseUser(ctx context.Context, _ string, p agentapi.CreateDatabaseUserParams) error {
	return a.do(ctx, "CreateDatabaseUser", func(h *host) error { h.users[p.Name] = string(p.Password); return nil })
}

func (a agentOf) DropDatabaseUser(ctx context.Context, _ string, p agentapi.DropDatabaseUserParams) error {
	return a.do(ctx, "DropDatabaseUser", func(h *host) error { delete(h.users, p.Name); return nil })
}

func (a agentOf) ResetDatabasePassword(ctx context.Context, _ string, p agentapi.ResetPasswordParams) error {
	return a.do(ctx, "ResetDatabasePassword", func(h *host) error { h.users[p.User] = string(*p.NewPassword); return nil })
}

func (a agentOf) Counters(context.Context) (core.Counters, error) { return core.UnknownCounters(), nil }
func (a agentOf) CPUs(context.Context) (int, error)               { return 1, nil }
func (a agentOf) FSUse(context.Context, string) (int64, int64, error) {
	return 0, 0, core.Errorf(core.NotFound, core.ObjVolume, "nothing is mounted")
}
func (a agentOf) Call(ctx context.Context, method string, params, result any) error {
	return a.callMethod(ctx, method, params, result)
}

func (a agentOf) PutRelease(ctx context.Context, p agentapi.PutReleaseParams) error {
	return a.do(ctx, "PutRelease", func(h *host) error {
		if _, ok := h.apps[p.App]; !ok {
			return core.Errorf(core.NotFound, core.ObjNode, "no such app")
		}
		return nil
	})
}
