package metrics

import (
	"context"
	"errors"
	"os"
	"runtime"
	rtmetrics "runtime/metrics"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sys/unix"
)

// Self shows what the agent itself costs. It reads the agent's own process, also when the host is a fake one.
type Self struct {
	Version string
	start   time.Time
}

// NewSelf starts counting from now.
func NewSelf(version string) *Self { return &Self{Version: version, start: time.Now()} }

var (
	agentInfo      = desc("agent_info", "Version of the agent, as labels.", "version", "go_version")
	agentStart     = desc("agent_start_time_seconds", "Unix time at which the agent was started.")
	agentCPU       = desc("agent_cpu_seconds_total", "CPU time the agent used.")
	agentResident  = desc("agent_resident_memory_bytes", "Memory of the agent that is in RAM.")
	agentOpenFiles = desc("agent_open_files", "File descriptors the agent has open.")
	agentRoutines  = desc("agent_goroutines", "Goroutines of the agent.")
	agentHeap      = desc("agent_heap_bytes", "Live and not yet freed objects on the agent's heap.")
	agentGC        = desc("agent_gc_cycles_total", "Garbage collections of the agent.")
)

// Name implements Collector.
func (c *Self) Name() string { return "agent" }

// Collect implements Collector.
func (c *Self) Collect(_ context.Context, ch chan<- prometheus.Metric) error {
	ch <- gauge(agentInfo, 1, c.Version, runtime.Version())
	ch <- gauge(agentStart, float64(c.start.UnixMilli())/1000)
	ch <- gauge(agentRoutines, float64(runtime.NumGoroutine()))
	samples := [...]rtmetrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}, {Name: "/gc/cycles/total:gc-cycles"}}
	rtmetrics.Read(samples[:])
	ch <- gauge(agentHeap, float64(samples[0].Value.Uint64()))
	ch <- counter(agentGC, float64(samples[1].Value.Uint64()))

	var usage unix.Rusage
	err := unix.Getrusage(unix.RUSAGE_SELF, &usage)
	if err == nil {
		ch <- counter(agentCPU, float64(usage.Utime.Nano()+usage.Stime.Nano())/1e9)
	}
	return errors.Join(err, collectResident(ch), collectOpenFiles(ch))
}

func collectResident(ch chan<- prometheus.Metric) error {
	statm, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		return err
	}
	var f columns
	f.cut(statm)
	ch <- gauge(agentResident, f.number(1)*float64(os.Getpagesize()))
	return nil
}

func collectOpenFiles(ch chan<- prometheus.Metric) error {
	dir, err := os.Open("/proc/self/fd")
	if err != nil {
		return err
	}
	defer dir.Close()
	names, err := dir.Readdirnames(-1)
	ch <- gauge(agentOpenFiles, float64(len(names)-1)) // without the one that reads the directory
	return err
}
