package agentapi

import (
	"encoding/json"
	"strconv"
	"strings"
)

// The namespace system: facts, counters and logs of the host, and a few actions. Source: spec agent-core 4.

// SetHostnameParams are the parameters of system.set_hostname.
//
// Result:  the name given, string
// Errors:  AssertionError with an empty text (missing or empty), AssertionError (not a host name, RFC 1123)
// Effects: the kernel's name, /etc/hostname, one line of /etc/hosts
type SetHostnameParams struct {
	Hostname string `json:"hostname,omitempty"`
}

// Uname is the result of system.uname.
type Uname struct {
	KernelName       string `json:"kernel_name"`
	Nodename         string `json:"nodename"`
	KernelRelease    string `json:"kernel_release"`
	KernelVersion    string `json:"kernel_version"`
	Machine          string `json:"machine"`
	Processor        string `json:"processor"`         // "" when unknown, as everywhere on Linux today
	HardwarePlatform string `json:"hardware_platform"` // machine; i386 for i486 to i686
}

// Dist is the result of system.dist.
type Dist struct {
	Distributor string `json:"distributor"` // lower case: debian, ubuntu, centos, redhat, fedora, amazon, oel, …
	Release     string `json:"release"`     // point release on Debian, e.g. "12.11"
	Codename    string `json:"codename"`    // may be ""
}

// CPUStat is the result of system.cpu_stat: time all CPUs spent since boot, in clock ticks (usually 1/100 s).
type CPUStat struct {
	User   uint64 `json:"user"`
	Nice   uint64 `json:"nice"`
	System uint64 `json:"system"`
	Idle   uint64 `json:"idle"`
}

// MemInfo is the result of system.mem_info, in KiB.
type MemInfo struct {
	TotalSwap uint64 `json:"total_swap"`
	AvailSwap uint64 `json:"avail_swap"`
	TotalReal uint64 `json:"total_real"`
	TotalFree uint64 `json:"total_free"` // unused memory; caches do not count as free
	Shared    uint64 `json:"shared"`
	Buffer    uint64 `json:"buffer"`
	Cached    uint64 `json:"cached"`
}

// DiskStat is one device in the result of system.disk_stats, a map by device name.
type DiskStat struct {
	Read  DiskIO `json:"read"`
	Write DiskIO `json:"write"`
}

// DiskIO counts one direction since boot.
type DiskIO struct {
	Num     uint64 `json:"num"`
	Sectors uint64 `json:"sectors"` // of 512 bytes
	Bytes   uint64 `json:"bytes"`
}

// NetStat is one interface in the result of system.net_stats, a map by interface name.
type NetStat struct {
	Receive  NetIO `json:"receive"`
	Transmit NetIO `json:"transmit"`
}

// NetIO counts one direction since boot. The numbers are strings on the wire.
type NetIO struct {
	Bytes   string `json:"bytes"`
	Packets string `json:"packets"`
	Errors  string `json:"errors"`
}

// StatVFSParams are the parameters of system.statvfs.
//
// Result: a map of each path to FSSize, or to null when it is no mount point or does not answer
// Errors: Exception `Argument "mpoints" should be a list of strings, not <type '…'>`
type StatVFSParams struct {
	MPoints json.RawMessage `json:"mpoints,omitempty"` // list of mount points
}

// FSSize is the size of a filesystem in KiB.
type FSSize struct {
	Total uint64 `json:"total"`
	Free  uint64 `json:"free"` // what users other than root can still use
}

// Mount is one mounted filesystem in the result of system.mounts, a map by mount point.
type Mount struct {
	Device    string  `json:"device"` // symbolic links resolved
	MPoint    string  `json:"mpoint"`
	FSType    string  `json:"fstype"`
	Options   string  `json:"options"`
	Dump      string  `json:"dump"`
	FsckOrder string  `json:"fsck_order"`
	Total     *uint64 `json:"total"` // KiB; null when the filesystem does not answer
	Free      *uint64 `json:"free"`  // KiB left for users other than root
}

// ExecuteScriptsParams are the parameters of system.execute_scripts.
//
// Result:  null, or the operation's id when Async. That a script failed is seen in the logs and in ExecScriptResult.
// Errors:  KeyError (a script without name or timeout), ValueError
// Effects: whatever the scripts do; /usr/local/bin/scalr-scripting.<id>/, /var/log/scalarizr/scripting/
type ExecuteScriptsParams struct {
	Scripts         []Script         `json:"scripts,omitempty"`
	GlobalVariables []GlobalVariable `json:"global_variables,omitempty"` // the scripts' environment
	EventName       string           `json:"event_name,omitempty"`
	RoleName        string           `json:"role_name,omitempty"`
	Async           *Bool            `json:"async,omitempty"` // default false
}

// Script is one script to execute, from exactly one of Body and Path.
type Script struct {
	Name         string          `json:"name"`                   // required
	Body         string          `json:"body,omitempty"`         // starts with a "#!" line
	Path         string          `json:"path,omitempty"`         // of a file on the host, or an http(s) URL
	Chef         json.RawMessage `json:"chef,omitempty"`         // not supported: such a script cannot be started
	Timeout      Text            `json:"timeout"`                // seconds, required
	Asynchronous *Bool           `json:"asynchronous,omitempty"` // default false: the next script waits for it
	ExecutionID  Text            `json:"execution_id,omitempty"` // names the log files
	RunAs        string          `json:"run_as,omitempty"`       // user; "" means root
}

// GlobalVariable is a variable for scripts.
type GlobalVariable struct {
	Name    string `json:"name"`
	Value   Secret `json:"value"`
	Private Bool   `json:"private,omitempty"` // the value is secret; here every value is treated so
}

// UnmarshalJSON reads a value that is a number or null as text.
func (v *GlobalVariable) UnmarshalJSON(data []byte) error {
	var wire struct {
		Name    string `json:"name"`
		Value   Text   `json:"value"`
		Private Bool   `json:"private"`
	}
	if err := json.Unmarshal(data, &wire); err != nil {
		return err
	}
	*v = GlobalVariable{Name: wire.Name, Value: Secret(wire.Value), Private: wire.Private}
	return nil
}

// ExecScriptResult is the message that follows each script, in the queue "log".
type ExecScriptResult struct {
	Stdout        string  `json:"stdout"` // base64, one line and LF, of at most the first 20000 bytes
	Stderr        string  `json:"stderr"`
	ExecutionID   string  `json:"execution_id"`
	TimeElapsed   float64 `json:"time_elapsed"` // seconds
	ScriptName    string  `json:"script_name"`
	ScriptPath    string  `json:"script_path"`
	EventName     string  `json:"event_name"`
	ReturnCode    int     `json:"return_code"` // 130 after the timeout
	EventServerID *string `json:"event_server_id"`
	EventID       *string `json:"event_id"`
	RunAs         string  `json:"run_as"`
}

// ScriptLogsParams are the parameters of system.get_script_logs.
type ScriptLogsParams struct {
	ExecScriptID Text            `json:"exec_script_id" rpc:"required"`
	MaxSize      json.RawMessage `json:"maxsize,omitempty"` // accepted and ignored
}

// ScriptLogs is the result of system.get_script_logs: base64, each one line and LF.
type ScriptLogs struct {
	Stdout string `json:"stdout"`
	Stderr string `json:"stderr"`
}

// ScalingMetric is one value in the result of system.scaling_metrics, a list in the order of the definitions.
type ScalingMetric struct {
	ID    string `json:"id"`
	Name  string `json:"name"`
	Value Float  `json:"value"` // 0.0 when Error is not empty
	Error string `json:"error"` // at most 255 characters
}

// ScalingMetricDefinition says where one metric's value comes from. The coordinator keeps the definitions.
type ScalingMetricDefinition struct {
	ID     string
	Name   string
	Path   string
	Method string // "execute" or "read"
}

// Float is a number that always has a fraction on the wire, as Python prints a float: 42.0.
type Float float64

// MarshalJSON writes the shortest form that reads back the same, with a fraction or an exponent.
func (f Float) MarshalJSON() ([]byte, error) {
	text := strconv.FormatFloat(float64(f), 'g', -1, 64)
	if !strings.ContainsAny(text, ".eIN") {
		text += ".0"
	}
	return json.RawMessage(text).MarshalJSON()
}
