package cloudtest

import (
	"context"
	"slices"
	"testing"

	"github.com/reeve-paas/reeve/coordinator/core"
)

const volumeSize = 16 << 20

// volumes gives the driver's volume side, or ends the test where the driver declares that it has none.
func (s suite) volumes(t *testing.T) core.VolumeCloud {
	t.Helper()
	if !s.info.Volumes {
		t.Skip("the driver declares no volumes")
	}
	return s.cloud.(core.VolumeCloud)
}

func createVolume(t *testing.T, c core.VolumeCloud, key string) core.CloudVolume {
	t.Helper()
	v, err := c.CreateVolume(t.Context(), key, volumeSize)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if err := c.DestroyVolume(ctx, v.ID); err != nil {
			t.Errorf("destroy volume %s: %v", v.ID, err)
		}
	})
	return v
}

func findVolume(t *testing.T, c core.VolumeCloud, id string) (core.CloudVolume, bool) {
	t.Helper()
	list, err := c.Volumes(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range list {
		if v.ID == id {
			return v, true
		}
	}
	return core.CloudVolume{}, false
}

func lifeOfAVolume(t *testing.T, s suite) {
	c := s.volumes(t)
	v := createVolume(t, c, "data")
	if v.SizeBytes < volumeSize || v.Key != "data" || v.NodeID != "" || v.Device != "" {
		t.Errorf("got %+v, want a detached volume of %d bytes", v, volumeSize)
	}
	if again, err := c.CreateVolume(t.Context(), "data", volumeSize); err != nil || again.ID != v.ID {
		t.Errorf("created again: got %q, %v; want %q", again.ID, err, v.ID)
	}
	n, other := s.create(t, core.NodeSpec{Key: "holder", Name: "holder"}), s.create(t, core.NodeSpec{Key: "other", Name: "other"})
	s.await(t, n.ID, core.CloudRunning)
	device, err := c.AttachVolume(t.Context(), v.ID, n.ID)
	if err != nil {
		t.Fatal(err)
	}
	if again, err := c.AttachVolume(t.Context(), v.ID, n.ID); err != nil || again != device {
		t.Errorf("attached again: got %q, %v; want %q", again, err, device)
	}
	_, err = c.AttachVolume(t.Context(), v.ID, other.ID)
	wantKind(t, "attach to a second node", err, core.Busy)
	if got, ok := findVolume(t, c, v.ID); !ok || got.NodeID != n.ID || got.Device != device {
		t.Errorf("got %+v, want it on node %s as %s", got, n.ID, device)
	}
	for range 2 {
		if err := c.DetachVolume(t.Context(), v.ID); err != nil {
			t.Errorf("detach: %v", err)
		}
	}
	for range 2 {
		if err := c.DestroyVolume(t.Context(), v.ID); err != nil {
			t.Errorf("destroy: %v", err)
		}
	}
	if err := c.DetachVolume(t.Context(), "no-such-volume"); err != nil {
		t.Errorf("detach what never was: %v", err)
	}
	_, err = c.AttachVolume(t.Context(), v.ID, n.ID)
	wantKind(t, "attach a destroyed volume", err, core.NotFound)
}

func volumesOutliveNodes(t *testing.T, s suite) {
	c := s.volumes(t)
	v := createVolume(t, c, "kept")
	n := s.create(t, core.NodeSpec{Key: "mortal", Name: "mortal"})
	s.await(t, n.ID, core.CloudRunning)
	if _, err := c.AttachVolume(t.Context(), v.ID, n.ID); err != nil {
		t.Fatal(err)
	}
	s.destroy(t, n.ID)
	if got, ok := findVolume(t, c, v.ID); !ok || got.NodeID != "" {
		t.Errorf("got %+v (there: %t), want a detached volume", got, ok)
	}
}

func volumesGrow(t *testing.T, s suite) {
	if !s.info.Grow {
		t.Skip("the driver declares that volumes do not grow")
	}
	c := s.cloud.(core.GrowCloud)
	v := createVolume(t, c, "growing")
	n := s.create(t, core.NodeSpec{Key: "grower", Name: "grower"})
	s.await(t, n.ID, core.CloudRunning)
	if _, err := c.AttachVolume(t.Context(), v.ID, n.ID); err != nil {
		t.Fatal(err)
	}
	for _, size := range []int64{2 * volumeSize, 2 * volumeSize, volumeSize} { // again, and never smaller
		got, err := c.GrowVolume(t.Context(), v.ID, size)
		if err != nil || got.SizeBytes < 2*volumeSize || got.NodeID != n.ID {
			t.Errorf("grow to %d: got %+v, %v; want at least %d bytes", size, got, err, 2*volumeSize)
		}
	}
	if got, ok := findVolume(t, c, v.ID); !ok || got.SizeBytes < 2*volumeSize {
		t.Errorf("got %+v, want it to be listed as grown", got)
	}
	_, err := c.GrowVolume(t.Context(), v.ID, 0)
	wantKind(t, "grow to nothing", err, core.Invalid)
	_, err = c.GrowVolume(t.Context(), "no-such-volume", volumeSize)
	wantKind(t, "grow what is not there", err, core.NotFound)
}

func lifeOfASnapshot(t *testing.T, s suite) {
	if !s.info.Snapshots {
		t.Skip("the driver declares no snapshots")
	}
	c := s.cloud.(core.SnapshotCloud)
	find := func(id string) (core.CloudSnapshot, bool) {
		t.Helper()
		list, err := c.Snapshots(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		i := slices.IndexFunc(list, func(x core.CloudSnapshot) bool { return x.ID == id })
		if i < 0 {
			return core.CloudSnapshot{}, false
		}
		return list[i], true
	}
	v := createVolume(t, c, "original")
	snap, err := c.SnapshotVolume(t.Context(), "copy", v.ID)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.DestroySnapshot(context.WithoutCancel(t.Context()), snap.ID); err != nil {
			t.Errorf("destroy snapshot %s: %v", snap.ID, err)
		}
	})
	if listed, ok := find(snap.ID); !ok || listed != snap || !snap.Complete || snap.Key != "copy" || snap.VolumeID != v.ID || snap.SizeBytes != v.SizeBytes {
		t.Errorf("got %+v, listed as %+v (%t), want a whole copy of %s", snap, listed, ok, v.ID)
	}
	if again, err := c.SnapshotVolume(t.Context(), "copy", v.ID); err != nil || again != snap {
		t.Errorf("taken again: got %+v, %v; want %+v", again, err, snap)
	}
	if other, err := c.SnapshotVolume(t.Context(), "second copy", v.ID); err != nil || other.ID == snap.ID {
		t.Errorf("another key: got %+v, %v; want another snapshot", other, err)
	} else if err := c.DestroySnapshot(t.Context(), other.ID); err != nil {
		t.Error(err)
	}
	if err := c.DestroyVolume(t.Context(), v.ID); err != nil {
		t.Fatal(err)
	}
	if again, err := c.SnapshotVolume(t.Context(), "copy", v.ID); err != nil || again != snap {
		t.Errorf("asked again without its volume: got %+v, %v; want %+v", again, err, snap)
	}
	for key, size := range map[string]int64{"as large": volumeSize, "larger": 2 * volumeSize, "not smaller": volumeSize / 2} {
		got, err := c.RestoreSnapshot(t.Context(), key, snap.ID, size)
		if err != nil {
			t.Fatal(err)
		}
		if want := max(size, volumeSize); got.SizeBytes < want || got.Key != key || got.NodeID != "" || got.ID == v.ID {
			t.Errorf("%s: got %+v, want a new detached volume of %d bytes", key, got, want)
		}
		if again, err := c.RestoreSnapshot(t.Context(), key, snap.ID, size); err != nil || again.ID != got.ID {
			t.Errorf("%s, again: got %q, %v; want %q", key, again.ID, err, got.ID)
		}
		if err := c.DestroyVolume(t.Context(), got.ID); err != nil {
			t.Error(err)
		}
	}
	for range 2 {
		if err := c.DestroySnapshot(t.Context(), snap.ID); err != nil {
			t.Errorf("destroy: %v", err)
		}
	}
	if _, ok := find(snap.ID); ok {
		t.Error("a destroyed snapshot is listed")
	}
	_, err = c.SnapshotVolume(t.Context(), "of nothing", "no-such-volume")
	wantKind(t, "a snapshot of what is not there", err, core.NotFound)
	_, err = c.RestoreSnapshot(t.Context(), "from nothing", snap.ID, volumeSize)
	wantKind(t, "a volume of what is not there", err, core.NotFound)
	if err := c.DestroySnapshot(t.Context(), "no-such-snapshot"); err != nil {
		t.Errorf("destroy what never was: %v", err)
	}
}

func nodesAreResized(t *testing.T, s suite) {
	if !s.info.Resize {
		t.Skip("the driver declares that nodes keep their size")
	}
	c := s.cloud.(core.ResizeCloud)
	sizes, err := c.Sizes(t.Context())
	if err != nil || len(sizes) < 2 {
		t.Fatalf("got the sizes %v, %v, want two", sizes, err)
	}
	n := s.create(t, core.NodeSpec{Key: "sized", Name: "sized", SizeID: sizes[0].ID})
	s.await(t, n.ID, core.CloudRunning)
	for range 2 {
		if err := c.ResizeNode(t.Context(), n.ID, sizes[1].ID); err != nil {
			t.Fatal(err)
		}
	}
	s.await(t, n.ID, core.CloudRunning)
	if got, err := c.Node(t.Context(), n.ID); err != nil || got.SizeID != sizes[1].ID {
		t.Errorf("got size %q, %v; want %q", got.SizeID, err, sizes[1].ID)
	}
	wantKind(t, "an unknown size", c.ResizeNode(t.Context(), n.ID, "no-such-size"), core.Invalid)
	wantKind(t, "an unknown node", c.ResizeNode(t.Context(), "no-such-node", sizes[1].ID), core.NotFound)
}

func stopAndStart(t *testing.T, s suite) {
	if !s.info.Power {
		t.Skip("the driver declares no power")
	}
	c := s.cloud.(core.PowerCloud)
	n := s.create(t, core.NodeSpec{Key: "power", Name: "power"})
	s.await(t, n.ID, core.CloudRunning)
	for range 2 {
		if err := c.StopNode(t.Context(), n.ID); err != nil {
			t.Fatal(err)
		}
	}
	s.await(t, n.ID, core.CloudStopped)
	for range 2 {
		if err := c.StartNode(t.Context(), n.ID); err != nil {
			t.Fatal(err)
		}
	}
	s.await(t, n.ID, core.CloudRunning)
	if err := c.RebootNode(t.Context(), n.ID); err != nil {
		t.Fatal(err)
	}
	if now, err := c.Node(t.Context(), n.ID); err != nil || now.State == core.CloudStopped {
		t.Errorf("got %s, %v after asking for a reboot", now.State, err)
	}
	s.await(t, n.ID, core.CloudRunning)
}
