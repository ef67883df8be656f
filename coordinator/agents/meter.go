package agents

import (
	"context"
	"strconv"
	"strings"
	"time"

	"github.com/reeve-paas/reeve/agent/agentapi"
	"github.com/reeve-paas/reeve/coordinator/core"
)

// tick is the unit of system.cpu_stat: 1/100 s on every architecture that Linux is built for today.
const tick = int64(10 * time.Millisecond / time.Microsecond)

// Counters asks for CPU, disks and network one after the other; they belong together closely enough.
func (a *agent) Counters(ctx context.Context) (core.Counters, error) {
	c := core.UnknownCounters()
	cpu, err := do(ctx, a, "system.cpu_stat", forAnswer, a.client.System().CPUStat)
	if err != nil {
		return c, err
	}
	c.UserMicros, c.SystemMicros = int64(cpu.User+cpu.Nice)*tick, int64(cpu.System)*tick
	disks, err := do(ctx, a, "system.disk_stats", forAnswer, a.client.System().DiskStats)
	if err != nil {
		return c, err
	}
	countDisks(&c, disks)
	links, err := do(ctx, a, "system.net_stats", forAnswer, a.client.System().NetStats)
	if err != nil {
		return c, err
	}
	countLinks(&c, links)
	return c, nil
}

// countDisks adds up whole disks. What lies on top of others would be counted twice.
func countDisks(c *core.Counters, disks map[string]agentapi.DiskStat) {
	for name, d := range disks {
		if hasPrefix(name, "loop", "ram", "zram", "dm-", "md", "sr", "fd") || isPartition(name, disks) {
			continue
		}
		add(&c.ReadBytes, d.Read.Bytes)
		add(&c.WriteBytes, d.Write.Bytes)
		add(&c.Reads, d.Read.Num)
		add(&c.Writes, d.Write.Num)
	}
}

// isPartition says that the disk of the device is listed too: sda of sda1, nvme0n1 of nvme0n1p1. Some clouds have devices
// that are called like a partition and are none.
func isPartition(name string, disks map[string]agentapi.DiskStat) bool {
	disk := strings.TrimRight(name, "0123456789")
	if disk == name {
		return false
	}
	if _, ok := disks[disk]; ok {
		return true
	}
	whole, ok := strings.CutSuffix(disk, "p")
	if ok {
		_, ok = disks[whole]
	}
	return ok
}

// countLinks adds up interfaces that lead outside; bridges, tunnels and the like carry the same packets again.
func countLinks(c *core.Counters, links map[string]agentapi.NetStat) {
	for name, l := range links {
		if name == "lo" || strings.Contains(name, ".") || hasPrefix(name, "veth", "vb-", "ve-", "docker", "br", "virbr", "bond", "team", "tun", "tap", "wg") {
			continue
		}
		addText(&c.RxBytes, l.Receive.Bytes)
		addText(&c.RxPackets, l.Receive.Packets)
		addText(&c.TxBytes, l.Transmit.Bytes)
		addText(&c.TxPackets, l.Transmit.Packets)
	}
}

func add(sum *int64, v uint64) { *sum = max(*sum, 0) + int64(v) }

func addText(sum *int64, text string) {
	if v, err := strconv.ParseUint(text, 10, 63); err == nil {
		add(sum, v)
	}
}

func hasPrefix(s string, prefixes ...string) bool {
	for _, p := range prefixes {
		if strings.HasPrefix(s, p) {
			return true
		}
	}
	return false
}

func (a *agent) CPUs(ctx context.Context) (int, error) {
	cpus, err := do(ctx, a, "system.cpu_info", forAnswer, a.client.System().CPUInfo)
	return len(cpus), err
}

func (a *agent) FSUse(ctx context.Context, mount string) (used, total int64, err error) {
	sizes, err := do(ctx, a, "system.statvfs", forAnswer, func(ctx context.Context) (map[string]*agentapi.FSSize, error) {
		return a.client.System().StatVFS(ctx, mount)
	})
	if err != nil {
		return 0, 0, err
	}
	size := sizes[mount]
	if size == nil {
		return 0, 0, core.Errorf(core.NotFound, core.ObjVolume, "nothing is mounted at %s on %s", mount, a.node)
	}
	return int64(size.Total-min(size.Free, size.Total)) << 10, int64(size.Total) << 10, nil
}
