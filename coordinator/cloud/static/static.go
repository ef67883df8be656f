package static

import (
	"context"
	"crypto/rand"
	"errors"
	"io/fs"
	"log/slog"
	"maps"
	"net/netip"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/google/renameio/v2"

	"github.com/reeve-paas/reeve/coordinator/core"
)

// Ids of the only image, size and location.
const (
	imageID    = "existing"
	sizeID     = "as-it-is"
	locationID = "site"
)

// Options configure a Driver. StateDir and Package are needed.
type Options struct {
	StateDir string // made when it is missing
	Hosts    []Host // of the configuration
	// Package finds the agent's package for a machine. family is "deb" or "rpm", arch a name of uname -m.
	Package   func(family, arch string) (path string, err error)
	Platforms []string      // that the machines run beside those that all do
	Location  core.Location // how the only one is shown; id and number are the driver's own
	Anonymous bool
	Log       *slog.Logger
}

// Driver is one cloud of existing machines. Its methods may be called from any goroutine, and by several processes.
type Driver struct {
	o     Options
	owner string // who we are to machines
}

var _ core.Cloud = (*Driver)(nil)

// Open opens the cloud and enters the configured hosts. One that is not configured any more stays while it is a node.
func Open(ctx context.Context, o Options) (*Driver, error) {
	d := &Driver{o: o}
	if d.o.Log == nil {
		d.o.Log = slog.New(slog.DiscardHandler)
	}
	for _, h := range o.Hosts {
		if err := checkHost(h); err != nil {
			return nil, err
		}
	}
	if err := os.MkdirAll(o.StateDir, 0o700); err != nil {
		return nil, err
	}
	if err := d.openOwner(ctx); err != nil {
		return nil, err
	}
	return d, d.change(ctx, func(all []machine) ([]machine, error) {
		all = slices.DeleteFunc(all, func(m machine) bool {
			return m.Configured && m.Key == "" && !slices.ContainsFunc(o.Hosts, func(h Host) bool { return h.Name == m.Name })
		})
		for _, h := range o.Hosts {
			all = put(all, h, true)
		}
		return all, nil
	})
}

// put enters a host, or what is new about it.
func put(all []machine, h Host, configured bool) []machine {
	if i := slices.IndexFunc(all, func(m machine) bool { return m.Name == h.Name }); i >= 0 {
		all[i].Host, all[i].Configured = h, configured || all[i].Configured
		return all
	}
	return append(all, machine{Host: h, Configured: configured})
}

// openOwner reads, or makes up, the name under which machines know us.
func (d *Driver) openOwner(ctx context.Context) error {
	unlock, err := d.lock(ctx, "machines")
	if err != nil {
		return err
	}
	defer unlock()
	file := filepath.Join(d.o.StateDir, "owner")
	data, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		data = []byte(strings.ToLower(rand.Text()) + "\n")
		err = renameio.WriteFile(file, data, 0o600)
	}
	d.owner = strings.TrimSpace(string(data))
	return err
}

func checkHost(h Host) error {
	switch {
	case !machineName.MatchString(h.Name):
		return core.Errorf(core.Invalid, core.ObjNode, "a machine's name has lower-case letters, digits and dashes, at most 63: %.80q", h.Name)
	case h.Address == "" || strings.ContainsAny(h.Address, " /\n"):
		return core.Errorf(core.Invalid, core.ObjNode, "machine %s has no address", h.Name)
	case h.Port < 0 || h.Port > 65535:
		return core.Errorf(core.Invalid, core.ObjNode, "machine %s has no port %d", h.Name, h.Port)
	}
	_, err := parseHostKey(h)
	return err
}

// Info implements core.Cloud.
func (d *Driver) Info() core.CloudInfo {
	return core.CloudInfo{Type: "static", Name: "Existing machines", Host: "localhost", Agents: true, Permanent: true, Anonymous: d.o.Anonymous}
}

// Images implements core.Cloud: there is one, what is on the machine.
func (d *Driver) Images(context.Context) ([]core.Image, error) {
	return []core.Image{{ID: imageID, Name: "What is installed", Platforms: d.o.Platforms}}, nil
}

// Sizes implements core.Cloud: there is one, with the numbers of the smallest machine that was probed.
func (d *Driver) Sizes(context.Context) ([]core.Size, error) {
	size := core.Size{ID: sizeID, Name: "As the machine is", MemoryMB: 1, DiskGB: 1}
	all, err := d.load()
	first := true
	for _, m := range all {
		f := m.Facts
		if f.MemoryMB == 0 || f.DiskGB == 0 {
			continue
		}
		if first {
			size.CPUs, size.MemoryMB, size.DiskGB, first = f.CPUs, f.MemoryMB, f.DiskGB, false
			continue
		}
		size.CPUs, size.MemoryMB, size.DiskGB = min(size.CPUs, f.CPUs), min(size.MemoryMB, f.MemoryMB), min(size.DiskGB, f.DiskGB)
	}
	return []core.Size{size}, err
}

// Locations implements core.Cloud.
func (d *Driver) Locations(context.Context) ([]core.Location, error) {
	unknown := core.Location{Name: "Where the machines are", Country: "Nowhere", ISO: "ZZ", Code: "ZZ-SITE1"}
	return []core.Location{core.Location{ID: locationID, Num: 1}.Or(d.o.Location).Or(unknown)}, nil
}

// Nodes implements core.Cloud. What it lists was enrolled; whether a machine is up is seen from its agent.
func (d *Driver) Nodes(context.Context) ([]core.CloudNode, error) {
	all, err := d.load()
	if err != nil {
		return nil, err
	}
	var nodes []core.CloudNode
	for _, m := range all {
		if m.Key != "" {
			nodes = append(nodes, m.node())
		}
	}
	return nodes, nil
}

// Node implements core.Cloud.
func (d *Driver) Node(_ context.Context, id string) (core.CloudNode, error) {
	m, err := d.machine(id)
	if err == nil && m.Key == "" {
		err = core.Errorf(core.NotFound, core.ObjNode, "there is no such node")
	}
	if err != nil {
		return core.CloudNode{}, err
	}
	return m.node(), nil
}

func (d *Driver) machine(name string) (machine, error) {
	all, err := d.load()
	if err != nil {
		return machine{}, err
	}
	i := slices.IndexFunc(all, func(m machine) bool { return m.Name == name })
	if i < 0 {
		return machine{}, core.Errorf(core.NotFound, core.ObjNode, "there is no such node")
	}
	return all[i], nil
}

func (m machine) node() core.CloudNode {
	n := core.CloudNode{ID: m.Name, Name: m.NodeName, Key: m.Key, State: m.State, PublicIPs: []string{}, PrivateIPs: []string{}, ImageID: imageID, SizeID: sizeID,
		Extra: map[string]any{"machine": m.Name, "enrolled": "ssh"}}
	if m.Token {
		n.Extra["enrolled"] = "token"
	}
	if m.Facts.OS != "" {
		n.Extra["os"] = m.Facts.OS
	}
	if len(m.Metadata) > 0 {
		n.Extra["metadata"] = maps.Clone(m.Metadata)
	}
	if addr, err := netip.ParseAddr(m.Address); err == nil && !private(addr) {
		n.PublicIPs = append(n.PublicIPs, m.Address)
	} else {
		n.PrivateIPs = append(n.PrivateIPs, m.Address)
	}
	return n
}

var shared = netip.MustParsePrefix("100.64.0.0/10") // RFC 6598

func private(a netip.Addr) bool {
	return a.IsPrivate() || a.IsLoopback() || a.IsLinkLocalUnicast() || shared.Contains(a)
}

func checkSpec(spec core.NodeSpec) error {
	bad := func(format string, args ...any) error {
		return core.Errorf(core.Invalid, core.ObjNode, format, args...)
	}
	switch {
	case spec.Key == "" || strings.ContainsAny(spec.Key, "\n="):
		return bad("a node needs a key")
	case !machineName.MatchString(spec.Name):
		return bad("a node's name has lower-case letters, digits and dashes, at most 63: %.80q", spec.Name)
	case spec.ImageID != "" && spec.ImageID != imageID:
		return bad("there is no image %.80q", spec.ImageID)
	case spec.SizeID != "" && spec.SizeID != sizeID:
		return bad("there is no size %.80q", spec.SizeID)
	case spec.LocationID != "" && spec.LocationID != locationID:
		return bad("there is no location %.80q", spec.LocationID)
	}
	for _, f := range spec.Files {
		if !path.IsAbs(f.Path) || path.Clean(f.Path) != f.Path || f.Path == "/" {
			return bad("bootstrap file path %q is not absolute and clean", f.Path)
		}
	}
	for _, k := range spec.SSHKeys {
		if strings.ContainsAny(k, "\n\r") {
			return bad("an SSH key is one line")
		}
	}
	return nil
}

// CreateNode implements core.Cloud: it enrols a machine that is no node yet. It returns when the agent was started.
//
// Errors: quota (every machine is a node already), and those of Enroll
func (d *Driver) CreateNode(ctx context.Context, spec core.NodeSpec) (core.CloudNode, error) {
	return d.enroll(ctx, "", spec)
}

// Enroll is CreateNode on a machine of the caller's choice.
//
// Errors: invalid (spec; a machine that another coordinator enrolled; a changed host key), not_found (machine), busy (it is
// another node), unauthenticated (SSH lets us not in), unsupported (no systemd, no package for it), unavailable (retry)
func (d *Driver) Enroll(ctx context.Context, name string, spec core.NodeSpec) (core.CloudNode, error) {
	return d.enroll(ctx, name, spec)
}

func (d *Driver) enroll(ctx context.Context, name string, spec core.NodeSpec) (core.CloudNode, error) {
	if err := checkSpec(spec); err != nil {
		return core.CloudNode{}, err
	}
	m, err := d.claim(ctx, name, spec)
	if err != nil {
		return core.CloudNode{}, err
	}
	unlock, err := d.lock(ctx, "machine-"+m.Name)
	if err != nil {
		return core.CloudNode{}, err
	}
	defer unlock()
	if m, err = d.machine(m.Name); err != nil {
		return core.CloudNode{}, err
	}
	switch {
	case m.Key != spec.Key: // destroyed while we waited
		return core.CloudNode{}, core.Errorf(core.Busy, core.ObjNode, "the machine %s was given to somebody else", m.Name)
	case m.State == core.CloudRunning:
		return m.node(), nil
	case m.State == core.CloudStopping:
		return core.CloudNode{}, core.Errorf(core.Busy, core.ObjNode, "the node is being destroyed")
	}
	found, err := d.install(ctx, m, spec)
	if err != nil {
		return core.CloudNode{}, err
	}
	err = d.update(ctx, m.Name, func(m *machine) { m.State, m.Facts = core.CloudRunning, found })
	if err != nil {
		return core.CloudNode{}, err
	}
	d.o.Log.Info("machine is enrolled", "machine", m.Name, "node", spec.Name)
	m.State, m.Facts = core.CloudRunning, found
	return m.node(), nil
}

// claim makes a machine the node of a key, or finds the one that is.
func (d *Driver) claim(ctx context.Context, name string, spec core.NodeSpec) (claimed machine, err error) {
	err = d.change(ctx, func(all []machine) ([]machine, error) {
		i := slices.IndexFunc(all, func(m machine) bool { return m.Key == spec.Key })
		if i < 0 {
			i = slices.IndexFunc(all, func(m machine) bool { return m.Key == "" && !m.Token && (name == "" || m.Name == name) })
		}
		switch {
		case i < 0 && name != "" && slices.ContainsFunc(all, func(m machine) bool { return m.Name == name }):
			return nil, core.Errorf(core.Busy, core.ObjNode, "the machine %s is a node already", name)
		case i < 0 && name != "":
			return nil, core.Errorf(core.NotFound, core.ObjNode, "there is no machine %s", name)
		case i < 0:
			return nil, core.Errorf(core.Quota, core.ObjNode, "every machine of this cloud is a node already; enrol another one")
		}
		if all[i].Key == "" {
			all[i].Key, all[i].NodeName, all[i].State = spec.Key, spec.Name, core.CloudPending
			all[i].Metadata, all[i].Since = maps.Clone(spec.Metadata), time.Now().UTC()
		}
		claimed = all[i]
		return all, nil
	})
	return claimed, err
}

// DestroyNode implements core.Cloud: the machine is no node any more, and goes on running.
func (d *Driver) DestroyNode(ctx context.Context, id string) error {
	if !machineName.MatchString(id) {
		return nil
	}
	err := d.update(ctx, id, func(m *machine) {
		if m.Key != "" {
			m.State = core.CloudStopping
		}
	})
	if err != nil {
		return err
	}
	unlock, err := d.lock(ctx, "machine-"+id)
	if err != nil {
		return err
	}
	defer unlock()
	m, err := d.machine(id)
	if err != nil || m.Key == "" {
		if err != nil && core.KindOf(err) == core.NotFound {
			return nil
		}
		return err
	}
	if m.Touched {
		if err := d.uninstall(ctx, m); err != nil {
			return err
		}
	}
	d.o.Log.Info("machine is no node any more", "machine", id)
	return d.Forget(ctx, id)
}

// Forget makes a machine no node without touching it: for machines that are gone. One that was enrolled with a token is
// forgotten as a whole.
func (d *Driver) Forget(ctx context.Context, id string) error {
	return d.change(ctx, func(all []machine) ([]machine, error) {
		all = slices.DeleteFunc(all, func(m machine) bool { return m.Name == id && m.Token })
		for i := range all {
			if all[i].Name == id {
				all[i] = machine{Host: all[i].Host, Configured: all[i].Configured, Facts: all[i].Facts}
			}
		}
		return all, nil
	})
}

// Add enters a machine, or changes how it is reached.
//
// Errors: invalid
func (d *Driver) Add(ctx context.Context, h Host) error {
	if err := checkHost(h); err != nil {
		return err
	}
	return d.change(ctx, func(all []machine) ([]machine, error) { return put(all, h, false), nil })
}

// Remove drops a machine that was added and is no node.
func (d *Driver) Remove(ctx context.Context, name string) error {
	return d.change(ctx, func(all []machine) ([]machine, error) {
		return slices.DeleteFunc(all, func(m machine) bool { return m.Name == name && m.Key == "" && !m.Configured }), nil
	})
}

// Adopt makes a machine that its administrator enrolled with a token a node: it is only written down. Idempotent by key.
//
// Errors: invalid, exists (another machine has the name)
func (d *Driver) Adopt(ctx context.Context, spec core.NodeSpec, address string) (core.CloudNode, error) {
	if err := checkSpec(spec); err != nil {
		return core.CloudNode{}, err
	}
	var node core.CloudNode
	err := d.change(ctx, func(all []machine) ([]machine, error) {
		for _, m := range all {
			if m.Key == spec.Key {
				node = m.node()
				return all, nil
			}
			if m.Name == spec.Name {
				return nil, core.Errorf(core.Exists, core.ObjNode, "another machine is named %s", spec.Name)
			}
		}
		m := machine{Host: Host{Name: spec.Name, Address: address}, Token: true, Key: spec.Key, NodeName: spec.Name, State: core.CloudRunning,
			Metadata: maps.Clone(spec.Metadata), Since: time.Now().UTC()}
		node = m.node()
		return append(all, m), nil
	})
	return node, err
}
