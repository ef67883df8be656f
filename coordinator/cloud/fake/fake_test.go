package fake_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/reeve-paas/reeve/coordinator/cloud/cloudtest"
	"github.com/reeve-paas/reeve/coordinator/cloud/fake"
	"github.com/reeve-paas/reeve/coordinator/core"
)

func TestDriver(t *testing.T) {
	cloudtest.Run(t, func(*testing.T) core.Cloud { return fake.New() })
}

func TestTheDummyHasTheValuesOfTheDocument(t *testing.T) {
	d := fake.New()
	bar := map[string]any{"foo": "bar"}
	nodes, _ := d.Nodes(t.Context())
	want := []core.CloudNode{
		{ID: "1", Name: "dummy-1", State: core.CloudRunning, PublicIPs: []string{"127.0.0.1"}, PrivateIPs: []string{}, ImageID: "i2", SizeID: "s1", Extra: bar},
		{ID: "2", Name: "dummy-2", State: core.CloudRunning, PublicIPs: []string{"127.0.0.1"}, PrivateIPs: []string{}, ImageID: "i2", SizeID: "s1", Extra: bar},
	}
	if diff := cmp.Diff(want, nodes); diff != "" {
		t.Error(diff)
	}
	sizes, _ := d.Sizes(t.Context())
	wantSizes := []core.Size{
		{ID: "1", Name: "Small", MemoryMB: 128, DiskGB: 4}, {ID: "2", Name: "Medium", MemoryMB: 512, DiskGB: 16},
		{ID: "3", Name: "Big", MemoryMB: 4096, DiskGB: 32}, {ID: "4", Name: "XXL Big", MemoryMB: 8192, DiskGB: 128},
	}
	if diff := cmp.Diff(wantSizes, sizes); diff != "" {
		t.Error(diff)
	}
	if info := d.Info(); !info.InMemory || !info.Anonymous || info.Agents || info.Name != "Dummy Node Provider" || info.Type != "dummy" || info.Host != "127.0.0.1" {
		t.Errorf("got %+v", info)
	}
}

func TestANewNodeIsNumberedByTheLengthOfTheList(t *testing.T) {
	d := fake.New()
	if err := d.DestroyNode(t.Context(), "1"); err != nil {
		t.Fatal(err)
	}
	n, err := d.CreateNode(t.Context(), core.NodeSpec{Key: "k"})
	if err != nil {
		t.Fatal(err)
	}
	if n.ID != "2" || n.Name != "dummy-2" || n.PublicIPs[0] != "127.0.0.2" {
		t.Errorf("got %+v, want a second node 2 at 127.0.0.2", n)
	}
	first, _ := d.Node(t.Context(), "2")
	if first.PublicIPs[0] != "127.0.0.1" {
		t.Errorf("got the node at %s, want the first one of that id", first.PublicIPs[0])
	}
}

func TestARebootNeverEnds(t *testing.T) {
	d := fake.New()
	if err := d.RebootNode(t.Context(), "1"); err != nil {
		t.Fatal(err)
	}
	if n, _ := d.Node(t.Context(), "1"); n.State != core.CloudRebooting {
		t.Errorf("got %s, want rebooting", n.State)
	}
}

func TestEveryChangeIsAnotherVersion(t *testing.T) {
	d := fake.New()
	seen := map[uint64]bool{d.NodesVersion(): true}
	for name, change := range map[string]func() error{
		"create":  func() error { _, err := d.CreateNode(t.Context(), core.NodeSpec{}); return err },
		"reboot":  func() error { return d.RebootNode(t.Context(), "1") },
		"destroy": func() error { return d.DestroyNode(t.Context(), "2") },
	} {
		if err := change(); err != nil {
			t.Fatal(err)
		}
		if v := d.NodesVersion(); seen[v] {
			t.Errorf("%s: version %d was there before", name, v)
		} else {
			seen[v] = true
		}
	}
}
