package agents

import (
	"encoding/json"
	"errors"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/reeve-paas/reeve/agent/agentapi"
	"github.com/reeve-paas/reeve/agent/rpcserver"
	"github.com/reeve-paas/reeve/coordinator/core"
)

func disk(n uint64) agentapi.DiskStat {
	return agentapi.DiskStat{Read: agentapi.DiskIO{Num: n, Bytes: 10 * n}, Write: agentapi.DiskIO{Num: 2 * n, Bytes: 20 * n}}
}

func link(bytes, packets string) agentapi.NetStat {
	return agentapi.NetStat{Receive: agentapi.NetIO{Bytes: bytes, Packets: packets}, Transmit: agentapi.NetIO{Bytes: bytes + "0", Packets: packets + "0"}}
}

func TestCountersOfAHost(t *testing.T) {
	var seen atomic.Value
	a := agentAt(t, startAgent(t, rpcserver.Table{"system": {
		"cpu_stat": record(&seen, "cpu_stat", agentapi.CPUStat{User: 100, Nice: 20, System: 30, Idle: 9000}, nil),
		"disk_stats": record(&seen, "disk_stats", map[string]agentapi.DiskStat{"sda": disk(1), "sda1": disk(50), "sda2": disk(50), "vdb": disk(2),
			"nvme0n1": disk(4), "nvme0n1p1": disk(50), "xvda1": disk(8), "loop0": disk(50), "dm-0": disk(50), "md0": disk(50), "sr0": disk(50)}, nil),
		"net_stats": record(&seen, "net_stats", map[string]agentapi.NetStat{"lo": link("999", "9"), "eth0": link("100", "1"), "ens3": link("200", "2"),
			"docker0": link("999", "9"), "vethab": link("999", "9"), "eth0.5": link("999", "9")}, nil),
		"cpu_info": record(&seen, "cpu_info", []map[string]string{{"processor": "0"}, {"processor": "1"}}, nil),
		"statvfs":  record(&seen, "statvfs", map[string]*agentapi.FSSize{"/srv/data": {Total: 100, Free: 60}, "/none": nil}, nil),
	}}))
	got, err := a.Counters(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	want := core.UnknownCounters()
	want.UserMicros, want.SystemMicros = 1_200_000, 300_000
	want.Reads, want.ReadBytes, want.Writes, want.WriteBytes = 15, 150, 30, 300
	want.RxBytes, want.RxPackets, want.TxBytes, want.TxPackets = 300, 3, 3000, 30
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("counters differ (-want +got):\n%s", diff)
	}
	if n, err := a.CPUs(t.Context()); n != 2 || err != nil {
		t.Errorf("got %d CPUs, error %v, want 2", n, err)
	}
	used, total, err := a.FSUse(t.Context(), "/srv/data")
	if used != 40<<10 || total != 100<<10 || err != nil {
		t.Errorf("got %d of %d bytes, error %v, want 40 and 100 KiB", used, total, err)
	}
	if got := seen.Load(); got != `statvfs {"mpoints":["/srv/data"]}` {
		t.Errorf("got request %v", got)
	}
	for _, path := range []string{"/none", "/else"} {
		if _, _, err := a.FSUse(t.Context(), path); core.KindOf(err) != core.NotFound {
			t.Errorf("%s: got error %v, want not found", path, err)
		}
	}
}

func TestCountersFailTogether(t *testing.T) {
	var seen atomic.Value
	table := map[string]rpcserver.Method{
		"cpu_stat":   record(&seen, "cpu_stat", agentapi.CPUStat{}, nil),
		"disk_stats": record(&seen, "disk_stats", map[string]agentapi.DiskStat{}, nil),
		"net_stats":  record(&seen, "net_stats", map[string]agentapi.NetStat{"eth0": link("many", "")}, nil),
	}
	got, err := agentAt(t, startAgent(t, rpcserver.Table{"system": table})).Counters(t.Context())
	if err != nil || got.RxBytes != core.Unknown || got.ReadBytes != core.Unknown || got.UserMicros != 0 {
		t.Errorf("a host without disks and with odd numbers: got %+v, error %v, want those unknown", got, err)
	}
	for _, method := range []string{"cpu_stat", "disk_stats", "net_stats"} {
		broken := map[string]rpcserver.Method{}
		for name, m := range table {
			broken[name] = m
		}
		broken[method] = record(&seen, method, json.RawMessage(nil), errors.New("no /proc"))
		if _, err := agentAt(t, startAgent(t, rpcserver.Table{"system": broken})).Counters(t.Context()); core.KindOf(err) != core.Internal {
			t.Errorf("%s fails: got error %v, want it", method, err)
		}
	}
}
