package cloudtest

import (
	"context"
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
