package fake

import (
	"context"
	"maps"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"

	"github.com/reeve-paas/reeve/coordinator/core"
)

// Driver is one dummy cloud. Its state ends with the process.
//
// Two rules of core.Cloud give way to the dummy's own: ids repeat after a deletion, and destroying an id that is there
// twice removes the first. CreateNode is idempotent by key as everywhere.
type Driver struct {
	mu    sync.Mutex // protects the fields below
	nodes []core.CloudNode

	version atomic.Uint64 // counts changes of nodes
}

var _ core.VersionedCloud = (*Driver)(nil)

// NodesVersion implements core.VersionedCloud.
func (d *Driver) NodesVersion() uint64 { return d.version.Load() }

// New makes a cloud with the two nodes that a dummy begins with.
func New() *Driver {
	return &Driver{nodes: []core.CloudNode{
		newNode("1", "127.0.0.1", ""),
		newNode("2", "127.0.0.1", ""), // sic: not .2
	}}
}

// newNode is a node as the dummy makes it: its size and image are none of the listed ones.
func newNode(id, addr, key string) core.CloudNode {
	return core.CloudNode{
		ID: id, Name: "dummy-" + id, Key: key, State: core.CloudRunning,
		PublicIPs: []string{addr}, PrivateIPs: []string{},
		ImageID: "i2", SizeID: "s1", Extra: map[string]any{"foo": "bar"},
	}
}

// Info describes the driver.
//
// Source: spec/orchestrator section 3
func (d *Driver) Info() core.CloudInfo {
	return core.CloudInfo{Type: "dummy", Name: "Dummy Node Provider", Host: "127.0.0.1", InMemory: true, Anonymous: true}
}

// Images lists the dummy's three images.
func (d *Driver) Images(context.Context) ([]core.Image, error) {
	return []core.Image{{ID: "1", Name: "Ubuntu 9.10"}, {ID: "2", Name: "Ubuntu 9.04"}, {ID: "3", Name: "Slackware 4"}}, nil
}

// Sizes lists the dummy's four sizes; it does not know their CPUs.
func (d *Driver) Sizes(context.Context) ([]core.Size, error) {
	return []core.Size{
		{ID: "1", Name: "Small", MemoryMB: 128, DiskGB: 4},
		{ID: "2", Name: "Medium", MemoryMB: 512, DiskGB: 16},
		{ID: "3", Name: "Big", MemoryMB: 4096, DiskGB: 32},
		{ID: "4", Name: "XXL Big", MemoryMB: 8192, DiskGB: 128},
	}, nil
}

// Locations lists the dummy's three locations.
func (d *Driver) Locations(context.Context) ([]core.Location, error) {
	return []core.Location{
		{ID: "1", Name: "Paul's Room", Country: "US", ISO: "US", Num: 1},
		{ID: "2", Name: "London Loft", Country: "GB", ISO: "GB", Num: 2},
		{ID: "3", Name: "Island Datacenter", Country: "FJ", ISO: "FJ", Num: 3},
	}, nil
}

// Nodes lists the nodes in the order they were made.
func (d *Driver) Nodes(context.Context) ([]core.CloudNode, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	list := make([]core.CloudNode, 0, len(d.nodes))
	for _, n := range d.nodes {
		list = append(list, clone(n))
	}
	return list, nil
}

// Node returns the first node with this id.
func (d *Driver) Node(_ context.Context, id string) (core.CloudNode, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	i := d.indexLocked(id)
	if i < 0 {
		return core.CloudNode{}, core.Errorf(core.NotFound, core.ObjNode, "no node %q", id)
	}
	return clone(d.nodes[i]), nil
}

// CreateNode appends a node numbered by the length of the list and ignores everything but the key. An empty key always
// makes a node.
func (d *Driver) CreateNode(_ context.Context, spec core.NodeSpec) (core.CloudNode, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if i := slices.IndexFunc(d.nodes, func(n core.CloudNode) bool { return n.Key == spec.Key }); spec.Key != "" && i >= 0 {
		return clone(d.nodes[i]), nil
	}
	id := strconv.Itoa(len(d.nodes) + 1)
	d.nodes = append(d.nodes, newNode(id, "127.0.0."+id, spec.Key))
	d.version.Add(1)
	return clone(d.nodes[len(d.nodes)-1]), nil
}

// RebootNode leaves the node rebooting for ever.
func (d *Driver) RebootNode(_ context.Context, id string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	i := d.indexLocked(id)
	if i < 0 {
		return core.Errorf(core.NotFound, core.ObjNode, "no node %q", id)
	}
	d.nodes[i].State = core.CloudRebooting
	d.version.Add(1)
	return nil
}

// DestroyNode removes the first node with this id; no such node is success.
func (d *Driver) DestroyNode(_ context.Context, id string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if i := d.indexLocked(id); i >= 0 {
		d.nodes = slices.Delete(d.nodes, i, i+1)
		d.version.Add(1)
	}
	return nil
}

func (d *Driver) indexLocked(id string) int {
	return slices.IndexFunc(d.nodes, func(n core.CloudNode) bool { return n.ID == id })
}

// clone keeps callers from changing what the cloud holds.
func clone(n core.CloudNode) core.CloudNode {
	n.PublicIPs, n.PrivateIPs, n.Extra = slices.Clone(n.PublicIPs), slices.Clone(n.PrivateIPs), maps.Clone(n.Extra)
	return n
}
