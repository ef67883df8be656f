package metrics

import (
	"bytes"
	"context"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/reeve-paas/reeve/handlers/host"
)

// ticksPerSecond is USER_HZ, which Linux fixes at 100 on every architecture that Go supports.
const ticksPerSecond = 100

// CPU reads /proc/stat: the time each CPU spent, and what else the kernel counts there.
type CPU struct{ Host *host.Host }

var (
	cpuTime         = desc("cpu_time_seconds_total", "Time a CPU spent in a mode. Guest time is part of user and nice.", "cpu", "mode")
	contextSwitches = desc("cpu_context_switches_total", "Context switches of all CPUs.")
	forks           = desc("cpu_forks_total", "Processes and threads created.")
	runnable        = desc("cpu_runnable_tasks", "Tasks that run or wait for a CPU.")
	blocked         = desc("cpu_blocked_tasks", "Tasks that wait for a disk.")
	bootTime        = desc("host_boot_time_seconds", "Unix time at which the host was booted.")
)

var cpuModes = [...]string{"user", "nice", "system", "idle", "iowait", "irq", "softirq", "steal"}

// Name implements Collector.
func (c CPU) Name() string { return "cpu" }

// Collect implements Collector.
func (c CPU) Collect(_ context.Context, ch chan<- prometheus.Metric) error {
	var f columns
	return eachLine(c.Host, "/proc/stat", func(line []byte) error {
		f.cut(line)
		if f.n < 2 {
			return nil
		}
		switch key := f.col[0]; string(key) {
		case "cpu":
		case "ctxt":
			ch <- counter(contextSwitches, f.number(1))
		case "processes":
			ch <- counter(forks, f.number(1))
		case "procs_running":
			ch <- gauge(runnable, f.number(1))
		case "procs_blocked":
			ch <- gauge(blocked, f.number(1))
		case "btime":
			ch <- gauge(bootTime, f.number(1))
		default:
			if id, ok := bytes.CutPrefix(key, []byte("cpu")); ok {
				cpu := string(id)
				for i, mode := range cpuModes {
					ch <- counter(cpuTime, f.number(i+1)/ticksPerSecond, cpu, mode)
				}
			}
		}
		return nil
	})
}
