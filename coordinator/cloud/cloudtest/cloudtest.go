package cloudtest

import (
	"context"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/reeve-paas/reeve/coordinator/core"
)

// patience is how long a state may take to come; only clouds of real machines need any.
const patience = 2 * time.Minute

// Run checks a driver against the contract. open makes a fresh driver, or one whose nodes and volumes the caller removes;
// the suite destroys what it creates.
func Run(t *testing.T, open func(t *testing.T) core.Cloud) {
	for _, c := range []struct {
		name string
		test func(t *testing.T, s suite)
	}{
		{"it describes itself as it is", describesItself},
		{"its lists have ids and names", listsHaveIDs},
		{"an unknown node is not found", unknownNode},
		{"a created node is listed, found and destroyed", lifeOfANode},
		{"creating twice with one key gives one node", idempotentCreate},
		{"creating at the same time with one key gives one node", concurrentCreate},
		{"destroying is idempotent", idempotentDestroy},
		{"what a caller does to a result does not change the cloud", resultsAreCopies},
		{"an impossible request is invalid", invalidRequests},
		{"a volume is created, attached, detached and destroyed", lifeOfAVolume},
		{"a node that goes leaves its volumes", volumesOutliveNodes},
		{"a volume grows while it is in use", volumesGrow},
		{"a snapshot is taken, restored and destroyed", lifeOfASnapshot},
		{"a node gets another size", nodesAreResized},
		{"a node is stopped and started", stopAndStart},
	} {
		t.Run(c.name, func(t *testing.T) {
			d := open(t)
			c.test(t, suite{d, d.Info()})
		})
	}
}

type suite struct {
	cloud core.Cloud
	info  core.CloudInfo
}

// create makes a node that the test removes.
func (s suite) create(t *testing.T, spec core.NodeSpec) core.CloudNode {
	t.Helper()
	n, err := s.cloud.CreateNode(t.Context(), spec)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.destroy(t, n.ID) })
	return n
}

// destroy removes a node as often as it takes.
func (s suite) destroy(t *testing.T, id string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := s.cloud.DestroyNode(ctx, id); err != nil {
		t.Errorf("destroy node %s: %v", id, err)
	}
}

// await waits until the node is in a state.
func (s suite) await(t *testing.T, id string, want core.CloudNodeState) {
	t.Helper()
	deadline := time.Now().Add(patience)
	for {
		n, err := s.cloud.Node(t.Context(), id)
		if err != nil {
			t.Fatal(err)
		}
		if n.State == want {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("node %s: got state %s, want %s", id, n.State, want)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

func describesItself(t *testing.T, s suite) {
	if s.info.Type == "" || s.info.Name == "" || s.info.Host == "" {
		t.Errorf("got %+v, want a type, a name and a host", s.info)
	}
	if _, ok := s.cloud.(core.VolumeCloud); ok != s.info.Volumes {
		t.Errorf("volumes: declared %t, methods there %t", s.info.Volumes, ok)
	}
	if _, ok := s.cloud.(core.SnapshotCloud); ok != s.info.Snapshots {
		t.Errorf("snapshots: declared %t, methods there %t", s.info.Snapshots, ok)
	}
	if _, ok := s.cloud.(core.PowerCloud); ok != s.info.Power {
		t.Errorf("power: declared %t, methods there %t", s.info.Power, ok)
	}
}

func listsHaveIDs(t *testing.T, s suite) {
	images, err := s.cloud.Images(t.Context())
	if err != nil || len(images) == 0 {
		t.Errorf("images: got %v, %v; want at least one", images, err)
	}
	sizes, err := s.cloud.Sizes(t.Context())
	if err != nil || len(sizes) == 0 {
		t.Errorf("sizes: got %v, %v; want at least one", sizes, err)
	}
	locations, err := s.cloud.Locations(t.Context())
	if err != nil || len(locations) == 0 {
		t.Errorf("locations: got %v, %v; want at least one", locations, err)
	}
	for _, i := range images {
		if i.ID == "" || i.Name == "" {
			t.Errorf("image %+v lacks an id or a name", i)
		}
	}
	for _, z := range sizes {
		if z.ID == "" || z.Name == "" || z.MemoryMB <= 0 || z.DiskGB <= 0 {
			t.Errorf("size %+v lacks an id, a name, memory or disk", z)
		}
	}
	for _, l := range locations {
		if l.ID == "" || l.Name == "" {
			t.Errorf("location %+v lacks an id or a name", l)
		}
		if s.cloud.Info().Agents && (l.Code == "" || l.ISO == "" || l.Country == "" || l.Code != strings.ToUpper(l.Code) || l.ISO != strings.ToUpper(l.ISO)) {
			t.Errorf("location %+v: want a country, and codes in capitals, by which Gandi's clients name it", l)
		}
	}
	if _, err := s.cloud.Nodes(t.Context()); err != nil {
		t.Errorf("nodes: %v", err)
	}
}

func unknownNode(t *testing.T, s suite) {
	_, err := s.cloud.Node(t.Context(), "no-such-node")
	wantKind(t, "Node", err, core.NotFound)
	wantKind(t, "RebootNode", s.cloud.RebootNode(t.Context(), "no-such-node"), core.NotFound)
	if p, ok := s.cloud.(core.PowerCloud); ok {
		wantKind(t, "StopNode", p.StopNode(t.Context(), "no-such-node"), core.NotFound)
		wantKind(t, "StartNode", p.StartNode(t.Context(), "no-such-node"), core.NotFound)
	}
}

func lifeOfANode(t *testing.T, s suite) {
	before, err := s.cloud.Nodes(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	n := s.create(t, core.NodeSpec{Key: "life", Name: "life"})
	if n.ID == "" || n.Key != "life" || n.PublicIPs == nil || n.PrivateIPs == nil {
		t.Errorf("got %+v, want an id, the key, and address lists that are not nil", n)
	}
	if n.State != core.CloudPending && n.State != core.CloudRunning {
		t.Errorf("got a new node in state %s, want pending or running", n.State)
	}
	s.await(t, n.ID, core.CloudRunning)
	found, err := s.cloud.Node(t.Context(), n.ID)
	if err != nil || found.ID != n.ID || found.Name != n.Name {
		t.Errorf("Node: got %+v, %v; want %+v", found, err, n)
	}
	after, err := s.cloud.Nodes(t.Context())
	if err != nil || len(after) != len(before)+1 {
		t.Errorf("Nodes: got %d, %v; want %d", len(after), err, len(before)+1)
	}
	s.destroy(t, n.ID)
	_, err = s.cloud.Node(t.Context(), n.ID)
	wantKind(t, "Node after its end", err, core.NotFound)
	if left, err := s.cloud.Nodes(t.Context()); err != nil || len(left) != len(before) {
		t.Errorf("Nodes after the end: got %d, %v; want %d", len(left), err, len(before))
	}
}

func idempotentCreate(t *testing.T, s suite) {
	first := s.create(t, core.NodeSpec{Key: "same", Name: "same"})
	again, err := s.cloud.CreateNode(t.Context(), core.NodeSpec{Key: "same", Name: "same"})
	if err != nil || again.ID != first.ID {
		t.Errorf("got node %q, %v; want %q again", again.ID, err, first.ID)
	}
	other := s.create(t, core.NodeSpec{Key: "other", Name: "same"}) // names need not be unique
	if other.ID == first.ID {
		t.Errorf("another key gave node %q too", first.ID)
	}
	if n := s.count(t, "same"); n != 1 {
		t.Errorf("got %d nodes of key same, want 1", n)
	}
}

func concurrentCreate(t *testing.T, s suite) {
	var wg sync.WaitGroup
	ids := make([]string, 4)
	for i := range ids {
		wg.Go(func() {
			n, err := s.cloud.CreateNode(t.Context(), core.NodeSpec{Key: "race", Name: "race"})
			if err != nil {
				t.Error(err)
			}
			ids[i] = n.ID
		})
	}
	wg.Wait()
	t.Cleanup(func() { s.destroy(t, ids[0]) })
	if slices.Sort(ids); len(slices.Compact(ids)) != 1 {
		t.Errorf("got nodes %v, want one", ids)
	}
	if n := s.count(t, "race"); n != 1 {
		t.Errorf("got %d nodes, want 1", n)
	}
}

func (s suite) count(t *testing.T, key string) int {
	t.Helper()
	nodes, err := s.cloud.Nodes(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return len(slices.DeleteFunc(nodes, func(n core.CloudNode) bool { return n.Key != key }))
}

func idempotentDestroy(t *testing.T, s suite) {
	if err := s.cloud.DestroyNode(t.Context(), "no-such-node"); err != nil {
		t.Errorf("destroy what never was: %v", err)
	}
	n := s.create(t, core.NodeSpec{Key: "gone", Name: "gone"}) // and at once, while it may still be pending
	s.destroy(t, n.ID)
	s.destroy(t, n.ID)
	if c := s.count(t, "gone"); c != 0 {
		t.Errorf("got %d nodes, want none", c)
	}
}

func resultsAreCopies(t *testing.T, s suite) {
	n := s.create(t, core.NodeSpec{Key: "copy", Name: "copy", Metadata: map[string]string{"a": "b"}})
	for i := range n.PrivateIPs {
		n.PrivateIPs[i] = "changed"
	}
	for i := range n.PublicIPs {
		n.PublicIPs[i] = "changed"
	}
	for k := range n.Extra {
		n.Extra[k] = "changed"
	}
	again, err := s.cloud.Node(t.Context(), n.ID)
	if err != nil {
		t.Fatal(err)
	}
	if slices.Contains(again.PrivateIPs, "changed") || slices.Contains(again.PublicIPs, "changed") {
		t.Errorf("got addresses %v %v", again.PublicIPs, again.PrivateIPs)
	}
	for k, v := range again.Extra {
		if v == "changed" {
			t.Errorf("got extra %q changed", k)
		}
	}
	sizes, _ := s.cloud.Sizes(t.Context())
	want := sizes[0].ID
	sizes[0].ID = "changed"
	if sizes, _ = s.cloud.Sizes(t.Context()); sizes[0].ID != want {
		t.Errorf("got size %q, want %q", sizes[0].ID, want)
	}
}

// invalidRequests is for clouds that look at what is asked; the dummy, which ignores it all, is in memory.
func invalidRequests(t *testing.T, s suite) {
	if s.info.InMemory {
		t.Skip("a cloud in memory may ignore what is asked")
	}
	for name, spec := range map[string]core.NodeSpec{
		"a name with a slash": {Key: "x", Name: "a/b"},
		"an empty name":       {Key: "x"},
		"no key":              {Name: "x"},
		"an unknown size":     {Key: "x", Name: "x", SizeID: "no-such-size"},
		"an unknown image":    {Key: "x", Name: "x", ImageID: "no-such-image"},
		"an unknown location": {Key: "x", Name: "x", LocationID: "no-such-location"},
		"a relative file":     {Key: "x", Name: "x", Files: []core.BootstrapFile{{Path: "etc/x"}}},
		"a climbing file":     {Key: "x", Name: "x", Files: []core.BootstrapFile{{Path: "/etc/../../x"}}},
	} {
		_, err := s.cloud.CreateNode(t.Context(), spec)
		wantKind(t, name, err, core.Invalid)
	}
	if n := s.count(t, "x"); n != 0 {
		t.Errorf("got %d nodes from refused requests, want none", n)
	}
}

func wantKind(t *testing.T, what string, err error, want core.Kind) {
	t.Helper()
	if err == nil || core.KindOf(err) != want {
		t.Errorf("%s: got error %v of kind %q, want kind %q", what, err, core.KindOf(err), want)
	}
}
