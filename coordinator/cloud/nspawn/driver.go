package nspawn

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/reeve-paas/reeve/coordinator/core"
)

// Driver is this host as a cloud. Make one with Open, end its use with Close: nodes do not care.
type Driver struct {
	opts    Options
	log     *slog.Logger
	cgroups cgroups
	lock    io.Closer

	watchers sync.WaitGroup
	closing  chan struct{}

	mu    sync.Mutex // protects the fields below
	nodes map[string]*node
	// addresses that are the host's own, by key; see address.go
	addresses map[string]netip.Addr
	// volumeMu serialises changes of volumes; a node's lock may be held when it is taken, never the other way round.
	volumeMu sync.Mutex
}

var (
	_ core.Cloud       = (*Driver)(nil)
	_ core.VolumeCloud = (*Driver)(nil)
	_ core.PowerCloud  = (*Driver)(nil)
	_ core.ResizeCloud = (*Driver)(nil)
	_ core.GrowCloud   = (*Driver)(nil)

	_ core.SnapshotCloud = (*Driver)(nil)
)

// instance is <state>/instance.json: what the instance calls itself on this host, for those who clean up after it.
type instance struct {
	App    string       `json:"app"`
	Bridge string       `json:"bridge"`
	Subnet netip.Prefix `json:"subnet"`
}

const (
	dirNodes     = "nodes"
	dirVolumes   = "volumes"
	dirSnapshots = "snapshots"
	fileInstance = "instance.json"
)

// Open takes the state directory, sets up the instance's network and goes on with the nodes that exist: running ones are
// watched again, ones whose supervisor or host died are started, half-destroyed ones are removed.
//
// Errors:  busy (another process uses the state directory), invalid (options), unsupported (what Doctor would name),
// unavailable (network)
// Effects: bridge, address, nft table, forwarding rules, sysctls ip_forward and fs.inotify.max_user_instances
func Open(ctx context.Context, o Options) (*Driver, error) {
	o, err := o.withDefaults()
	if err != nil {
		return nil, core.Wrap(core.Invalid, core.ObjCloud, err, "options of the nspawn cloud")
	}
	if os.Geteuid() != 0 {
		return nil, core.Errorf(core.Unsupported, core.ObjCloud, "the nspawn cloud needs root")
	}
	d := &Driver{opts: o, log: o.Log, nodes: map[string]*node{}, closing: make(chan struct{})}
	if d.cgroups, err = findCgroups(cgroupMount); err != nil {
		return nil, core.Wrap(core.Unsupported, core.ObjCloud, err, "control groups")
	}
	for _, dir := range []string{o.StateDir, d.path(dirNodes), d.path(dirVolumes), d.path(dirSnapshots)} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return nil, core.Wrap(core.Unavailable, core.ObjCloud, err, "state directory")
		}
	}
	if d.lock, err = lockState(ctx, o.StateDir); err != nil {
		return nil, err
	}
	if err := d.start(ctx); err != nil {
		d.Close()
		return nil, err
	}
	return d, nil
}

// lockState takes the instance's lock. A coordinator that was killed may have left a child between its fork and its exec,
// which holds the lock for a moment more; hence the patience.
func lockState(ctx context.Context, stateDir string) (io.Closer, error) {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	lock, err := lockFileContext(ctx, filepath.Join(stateDir, "lock"), func() {})
	if err != nil {
		return nil, core.Errorf(core.Busy, core.ObjCloud, "another process, such as a running coordinator, uses %s", stateDir)
	}
	return lock, nil
}

func (d *Driver) start(ctx context.Context) error {
	if err := d.stamp(); err != nil {
		return err
	}
	raiseInotify()
	if err := d.loadAddresses(); err != nil {
		return core.Wrap(core.Unavailable, core.ObjCloud, err, "read the addresses")
	}
	if err := d.ensureNetwork(ctx); err != nil {
		return core.Wrap(core.Unavailable, core.ObjCloud, err, "set up the bridge %s", d.opts.Bridge)
	}
	if err := d.loadNodes(); err != nil {
		return core.Wrap(core.Unavailable, core.ObjCloud, err, "read the nodes")
	}
	d.reap()
	d.resume()
	return nil
}

// stamp writes down what the instance is called. A rename with nodes around would orphan what carries the old name.
func (d *Driver) stamp() error {
	want := instance{App: d.opts.AppName, Bridge: d.opts.Bridge, Subnet: d.opts.Subnet}
	var have instance
	err := readJSON(d.path(fileInstance), &have)
	if err == nil && have == want {
		return nil
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return core.Wrap(core.Unavailable, core.ObjCloud, err, "state directory")
	}
	if err == nil {
		if entries, _ := os.ReadDir(d.path(dirNodes)); len(entries) > 0 {
			return core.Errorf(core.Invalid, core.ObjCloud, "the nodes in %s belong to bridge %s, subnet %s, name %s: destroy them first or keep these options",
				d.opts.StateDir, have.Bridge, have.Subnet, have.App)
		}
	}
	if err := writeJSON(d.path(fileInstance), want); err != nil {
		return core.Wrap(core.Unavailable, core.ObjCloud, err, "state directory")
	}
	return nil
}

// Close lets go of the state directory. Nodes go on running.
func (d *Driver) Close() error {
	select {
	case <-d.closing:
		return nil
	default:
		close(d.closing)
	}
	d.mu.Lock()
	for _, n := range d.nodes {
		n.hangUp()
	}
	d.mu.Unlock()
	d.watchers.Wait()
	return d.lock.Close()
}

func (d *Driver) path(elem ...string) string {
	return filepath.Join(append([]string{d.opts.StateDir}, elem...)...)
}

func (d *Driver) nodeDir(id string) string { return d.path(dirNodes, id) }

// Gateway is the host's own address on the bridge: what nodes reach the coordinator at.
func (d *Driver) Gateway() netip.Addr { return d.opts.Subnet.Addr().Next() }

// Info describes the driver.
func (d *Driver) Info() core.CloudInfo {
	host, err := os.Hostname()
	if err != nil {
		host = "localhost"
	}
	return core.CloudInfo{Type: "nspawn", Name: "systemd-nspawn", Host: host, Agents: true, Volumes: true, Power: true, Resize: true, Grow: true, Snapshots: true}
}

// Images lists what nodes can boot from.
func (d *Driver) Images(context.Context) ([]core.Image, error) {
	images, err := d.images()
	if err != nil {
		return nil, core.Wrap(core.Unavailable, core.ObjImage, err, "read the image cache")
	}
	list := make([]core.Image, 0, len(images))
	for _, i := range images {
		list = append(list, core.Image{ID: i.ID, Name: i.Name, Platforms: i.Extras})
	}
	return list, nil
}

func (d *Driver) images() ([]Image, error) {
	if d.opts.Images != nil {
		return d.opts.Images, nil
	}
	return Images(d.opts.ImageCache)
}

// Sizes lists the configured sizes.
func (d *Driver) Sizes(context.Context) ([]core.Size, error) { return slices.Clone(d.opts.Sizes), nil }

// Locations lists the one location there is: this host.
func (d *Driver) Locations(context.Context) ([]core.Location, error) {
	unknown := core.Location{Name: d.Info().Host, Country: "Nowhere", ISO: "ZZ", Code: "ZZ-HERE1"}
	return []core.Location{core.Location{ID: "local", Num: 1}.Or(d.opts.Location).Or(unknown)}, nil
}

// Nodes lists every node that has a record, half-made and half-destroyed ones included, oldest first.
func (d *Driver) Nodes(context.Context) ([]core.CloudNode, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	list := make([]core.CloudNode, 0, len(d.nodes))
	for _, n := range d.sortedLocked() {
		list = append(list, n.view())
	}
	return list, nil
}

func (d *Driver) sortedLocked() []*node {
	nodes := make([]*node, 0, len(d.nodes))
	for _, n := range d.nodes {
		nodes = append(nodes, n)
	}
	slices.SortFunc(nodes, func(a, b *node) int {
		if c := a.created.Compare(b.created); c != 0 {
			return c
		}
		return strings.Compare(a.id, b.id)
	})
	return nodes
}

// Node shows one node. It is cheap: states arrive by themselves.
func (d *Driver) Node(_ context.Context, id string) (core.CloudNode, error) {
	n, err := d.find(id)
	if err != nil {
		return core.CloudNode{}, err
	}
	return n.view(), nil
}

func (d *Driver) find(id string) (*node, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if n := d.nodes[id]; n != nil {
		return n, nil
	}
	return nil, core.Errorf(core.NotFound, core.ObjNode, "no node %q", id)
}

func (d *Driver) findKeyLocked(key string) *node {
	for _, n := range d.nodes {
		if n.key == key {
			return n
		}
	}
	return nil
}

// freeAddrLocked finds an address no node has. The first is the host's, the last is the broadcast address.
func (d *Driver) freeAddrLocked() (netip.Prefix, error) {
	taken := d.takenLocked()
	for addr := d.Gateway().Next(); d.opts.Subnet.Contains(addr.Next()); addr = addr.Next() {
		if !taken[addr] {
			return netip.PrefixFrom(addr, d.opts.Subnet.Bits()), nil
		}
	}
	return netip.Prefix{}, core.Errorf(core.Quota, core.ObjNode, "no free address left in %s", d.opts.Subnet)
}

func (d *Driver) size(id string) (core.Size, error) {
	if id == "" {
		return d.opts.Sizes[0], nil
	}
	for _, s := range d.opts.Sizes {
		if s.ID == id {
			return s, nil
		}
	}
	return core.Size{}, core.Errorf(core.Invalid, core.ObjSize, "no size %q", id)
}

func (d *Driver) image(id string) (Image, error) {
	images, err := d.images()
	if err != nil {
		return Image{}, core.Wrap(core.Unavailable, core.ObjImage, err, "read the image cache")
	}
	for _, i := range images {
		if id == "" || i.ID == id {
			return i, nil
		}
	}
	if len(images) == 0 {
		return Image{}, core.Errorf(core.Unavailable, core.ObjImage, "there is no image yet; build one with: reeve-coordinator image build")
	}
	return Image{}, core.Errorf(core.Invalid, core.ObjImage, "no image %q", id)
}

// newID makes a short random id.
func newID(prefix string) string {
	var b [5]byte
	_, _ = rand.Read(b[:]) // never fails
	return prefix + hex.EncodeToString(b[:])
}

// loadNodes reads the records there are. A directory without one is the rest of a creation or a destruction that was cut
// off at its very first or last instruction: nothing else of it can exist.
func (d *Driver) loadNodes() error {
	entries, err := os.ReadDir(d.path(dirNodes))
	if err != nil {
		return err
	}
	for _, e := range entries {
		dir := d.path(dirNodes, e.Name())
		rec, err := readRecord(dir)
		if errors.Is(err, fs.ErrNotExist) {
			d.log.Info("remove the rest of a node", "node", e.Name())
			if err := os.RemoveAll(dir); err != nil {
				return err
			}
			continue
		}
		if err != nil {
			return err
		}
		if rec.ID != e.Name() {
			return fmt.Errorf("%s says it is node %q", dir, rec.ID)
		}
		d.nodes[rec.ID] = newNode(dir, rec)
	}
	return nil
}
