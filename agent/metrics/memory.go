package metrics

import (
	"context"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/reeve-paas/reeve/handlers/host"
)

// Memory reads /proc/meminfo.
type Memory struct{ Host *host.Host }

// memoryFields are the lines that are shown, by their key with its colon.
var memoryFields = map[string]*prometheus.Desc{
	"MemTotal:":     desc("memory_size_bytes", "Usable memory of the host."),
	"MemFree:":      desc("memory_free_bytes", "Memory that nothing uses."),
	"MemAvailable:": desc("memory_available_bytes", "Memory that programs can get without swapping."),
	"Buffers:":      desc("memory_buffers_bytes", "Memory that holds blocks of devices."),
	"Cached:":       desc("memory_cached_bytes", "Memory that holds content of files."),
	"Shmem:":        desc("memory_shared_bytes", "Shared memory and tmpfs."),
	"Dirty:":        desc("memory_dirty_bytes", "Memory that waits to be written to disk."),
	"SwapTotal:":    desc("memory_swap_size_bytes", "Swap space of the host."),
	"SwapFree:":     desc("memory_swap_free_bytes", "Swap space that nothing uses."),
}

// Name implements Collector.
func (c Memory) Name() string { return "memory" }

// Collect implements Collector. The file says kB and means KiB.
func (c Memory) Collect(_ context.Context, ch chan<- prometheus.Metric) error {
	var f columns
	return eachLine(c.Host, "/proc/meminfo", func(line []byte) error {
		f.cut(line)
		if f.n < 2 {
			return nil
		}
		if d := memoryFields[string(f.col[0])]; d != nil {
			ch <- gauge(d, f.number(1)*1024)
		}
		return nil
	})
}
