package agentclient

import (
	"context"
	"encoding/json"

	"github.com/reeve-paas/reeve/agent/agentapi"
)

// System is the namespace system: facts, counters, logs and a few actions of the host; see agentapi/system.go for units.
type System struct{ client *Client }

// System reads and changes the host itself.
func (c *Client) System() System { return System{c} }

const system = "system"

// Hostname is the host's name. It is the cheapest way to ask whether an agent is there and shares our key.
func (s System) Hostname(ctx context.Context) (string, error) {
	return invoke[string](ctx, s.client, system, "get_hostname", nil)
}

// SetHostname names the host and returns the name.
func (s System) SetHostname(ctx context.Context, name string) (string, error) {
	return invoke[string](ctx, s.client, system, "set_hostname", agentapi.SetHostnameParams{Hostname: name})
}

// Reboot reboots the host after the reply.
func (s System) Reboot(ctx context.Context) error {
	return s.client.call(ctx, system, "reboot", nil, nil)
}

// CPUStat is time spent by all CPUs since boot.
func (s System) CPUStat(ctx context.Context) (agentapi.CPUStat, error) {
	return invoke[agentapi.CPUStat](ctx, s.client, system, "cpu_stat", nil)
}

// CPUInfo has one map per CPU, as /proc/cpuinfo shows it.
func (s System) CPUInfo(ctx context.Context) ([]map[string]string, error) {
	return invoke[[]map[string]string](ctx, s.client, system, "cpu_info", nil)
}

// MemInfo is the use of memory and swap.
func (s System) MemInfo(ctx context.Context) (agentapi.MemInfo, error) {
	return invoke[agentapi.MemInfo](ctx, s.client, system, "mem_info", nil)
}

// LoadAverage is the load over 1, 5 and 15 minutes.
func (s System) LoadAverage(ctx context.Context) ([3]float64, error) {
	return invoke[[3]float64](ctx, s.client, system, "load_average", nil)
}

// DiskStats counts input and output since boot, by device.
func (s System) DiskStats(ctx context.Context) (map[string]agentapi.DiskStat, error) {
	return invoke[map[string]agentapi.DiskStat](ctx, s.client, system, "disk_stats", nil)
}

// NetStats counts traffic since boot, by interface.
func (s System) NetStats(ctx context.Context) (map[string]agentapi.NetStat, error) {
	return invoke[map[string]agentapi.NetStat](ctx, s.client, system, "net_stats", nil)
}

// StatVFS is the size of mounted filesystems by mount point; nil for a path that is none.
func (s System) StatVFS(ctx context.Context, mpoints ...string) (map[string]*agentapi.FSSize, error) {
	list, err := json.Marshal(append([]string{}, mpoints...)) // never null
	if err != nil {
		return nil, err
	}
	return invoke[map[string]*agentapi.FSSize](ctx, s.client, system, "statvfs", agentapi.StatVFSParams{MPoints: list})
}

// Mounts are the mounted filesystems by mount point, without the kernel's own.
func (s System) Mounts(ctx context.Context) (map[string]agentapi.Mount, error) {
	return invoke[map[string]agentapi.Mount](ctx, s.client, system, "mounts", nil)
}

// BlockDevices names the host's block devices.
func (s System) BlockDevices(ctx context.Context) ([]string, error) {
	return invoke[[]string](ctx, s.client, system, "block_devices", nil)
}

// Uname is the kernel's name and version.
func (s System) Uname(ctx context.Context) (agentapi.Uname, error) {
	return invoke[agentapi.Uname](ctx, s.client, system, "uname", nil)
}

// Dist is the host's distribution.
func (s System) Dist(ctx context.Context) (agentapi.Dist, error) {
	return invoke[agentapi.Dist](ctx, s.client, system, "dist", nil)
}

// Pythons are the versions of the Pythons on the host.
func (s System) Pythons(ctx context.Context) ([]string, error) {
	return invoke[[]string](ctx, s.client, system, "pythons", nil)
}

// ScalingMetrics are the values that the coordinator scales by, in the order of their definitions.
func (s System) ScalingMetrics(ctx context.Context) ([]agentapi.ScalingMetric, error) {
	return invoke[[]agentapi.ScalingMetric](ctx, s.client, system, "scaling_metrics", nil)
}

// ExecuteScripts runs scripts on the host. The id of the operation is empty unless p.Async.
func (s System) ExecuteScripts(ctx context.Context, p agentapi.ExecuteScriptsParams) (operationID string, err error) {
	return invoke[string](ctx, s.client, system, "execute_scripts", p)
}

// ScriptLogs are what one script printed.
func (s System) ScriptLogs(ctx context.Context, p agentapi.ScriptLogsParams) (agentapi.ScriptLogs, error) {
	return invoke[agentapi.ScriptLogs](ctx, s.client, system, "get_script_logs", p)
}

// Log is the agent's log in base64 text, the end of it when it is long.
func (s System) Log(ctx context.Context) (string, error) {
	return invoke[string](ctx, s.client, system, "get_log", nil)
}
