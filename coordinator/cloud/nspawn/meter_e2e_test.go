//go:build e2e

package nspawn_test

import (
	"io"
	"net/http"
	"testing"

	"github.com/reeve-paas/reeve/coordinator/core"
	"github.com/reeve-paas/reeve/test/hosts"
)

func TestMeterSeesWhatANodeDoes(t *testing.T) {
	c := hosts.NewCloud(t, false)
	h := c.Boot(t, hosts.Options{Name: "a-name-too-long-for-an-interface"})
	idle := c.Boot(t, hosts.Options{Name: "idle"})
	v, err := c.CreateVolume(t.Context(), "v", 64<<20)
	if err != nil {
		t.Fatal(err)
	}
	device, err := c.AttachVolume(t.Context(), v.ID, h.ID)
	if err != nil {
		t.Fatal(err)
	}
	meter := func(id string) core.Counters {
		t.Helper()
		got, err := c.Meter(t.Context(), id)
		if err != nil {
			t.Fatal(err)
		}
		return got
	}
	before, idleBefore := meter(h.ID), meter(idle.ID)
	h.Exec(t, "dd", "if=/dev/urandom", "of=/dev/null", "bs=1M", "count=400", "status=none")
	h.Exec(t, "dd", "if=/dev/zero", "of=/root/file", "bs=1M", "count=20", "conv=fsync", "status=none")
	h.Exec(t, "dd", "if=/dev/zero", "of="+device, "bs=1M", "count=10", "conv=fsync", "status=none")
	h.Exec(t, "systemctl", "start", "apache2")
	h.Exec(t, "truncate", "-s", "3M", "/var/www/html/big")
	if resp, err := http.Get("http://" + h.Addr.String() + "/big"); err != nil {
		t.Fatal(err)
	} else if n, err := drain(resp.Body); err != nil || n != 3<<20 {
		t.Fatalf("got %d bytes, error %v", n, err)
	}
	after, idleAfter := meter(h.ID), meter(idle.ID)
	t.Logf("before %+v\nafter %+v", before, after)
	if after.Epoch != before.Epoch {
		t.Errorf("the epoch changed without a boot")
	}
	if after.CPUs != 1 {
		t.Errorf("got %d CPUs, want the size's one", after.CPUs)
	}
	for what, c := range map[string]struct{ got, least, most int64 }{
		"CPU time":      {after.UserMicros + after.SystemMicros - before.UserMicros - before.SystemMicros, 500_000, 30_000_000},
		"bytes written": {after.WriteBytes - before.WriteBytes, 30 << 20, 100 << 20},
		"writes":        {after.Writes - before.Writes, 10, 100_000},
		"bytes sent":    {after.TxBytes - before.TxBytes, 3 << 20, 6 << 20},
		"bytes got":     {after.RxBytes - before.RxBytes, 1000, 1 << 20},
		"packets sent":  {after.TxPackets - before.TxPackets, 10, 10_000},
		"idle CPU time": {idleAfter.UserMicros - idleBefore.UserMicros, 0, 400_000},
	} {
		if c.got < c.least || c.got > c.most {
			t.Errorf("%s: got %d, want %d to %d", what, c.got, c.least, c.most)
		}
	}
	if before.StealMicros == core.Unknown || before.ReadBytes <= 0 {
		t.Errorf("got %+v, want to know time held back and bytes read", before)
	}

	if err := c.DetachVolume(t.Context(), v.ID); err != nil {
		t.Fatal(err)
	}
	if meter(h.ID).Epoch == after.Epoch {
		t.Errorf("the epoch is the same with other devices")
	}
	if err := c.StopNode(t.Context(), h.ID); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Meter(t.Context(), h.ID); core.KindOf(err) != core.Unavailable {
		t.Errorf("stopped: got error %v, want unavailable", err)
	}
	if _, err := c.Meter(t.Context(), "n-none"); core.KindOf(err) != core.NotFound {
		t.Errorf("no such node: got error %v, want not found", err)
	}
}

func drain(body io.ReadCloser) (int64, error) {
	defer body.Close()
	return io.Copy(io.Discard, body)
}
