package system

import (
	"context"
	"log/slog"
	"net/netip"
	"os"
	"time"

	"github.com/reeve-paas/reeve/agent/agentapi"
	"github.com/reeve-paas/reeve/agent/operation"
	"github.com/reeve-paas/reeve/handlers"
	"github.com/reeve-paas/reeve/handlers/host"
	"golang.org/x/sys/unix"
)

// Definitions tells which scaling metrics the coordinator wants.
type Definitions interface {
	ScalingMetrics(ctx context.Context) ([]agentapi.ScalingMetricDefinition, error)
}

// Messages takes messages for the coordinator and delivers them later.
type Messages interface {
	Send(ctx context.Context, queue, name string, body any) error
}

// Options configure a Service.
type Options struct {
	Host       *host.Host          // required
	Operations *operation.Registry // required
	Metrics    Definitions         // nil: scaling_metrics fails with a QueryEnvError
	Messages   Messages            // nil: ExecScriptResult is not sent

	// PrivateIP is the address that set_hostname maps to the new name. nil means the address this host uses towards
	// other networks, or 127.0.1.1 when it has none.
	PrivateIP func() (netip.Addr, error)

	// SetKernelName names the running kernel; nil means sethostname(2). /proc/sys is read-only in containers.
	SetKernelName func(string) error

	LogFile       string        // "" means /var/log/scalarizr.log
	DebugLogFile  string        // "" means /var/log/scalarizr_debug.log
	UpdateLogFile string        // "" means /var/log/scalarizr_update.log
	ScriptLogDir  string        // "" means /var/log/scalarizr/scripting
	KeepScripts   time.Duration // age at which script logs are deleted; 0 means 24 h
}

// Service is the namespace. Run must run beside it.
type Service struct {
	opts Options
	host *host.Host
	log  *slog.Logger
	stat *host.ProcFile

	scripts background
}

var _ handlers.Handler = (*Service)(nil)

// New builds the service.
func New(o Options) *Service {
	for _, d := range []struct {
		field *string
		value string
	}{
		{&o.LogFile, "/var/log/scalarizr.log"},
		{&o.DebugLogFile, "/var/log/scalarizr_debug.log"},
		{&o.UpdateLogFile, "/var/log/scalarizr_update.log"},
		{&o.ScriptLogDir, "/var/log/scalarizr/scripting"},
	} {
		if *d.field == "" {
			*d.field = d.value
		}
	}
	if o.KeepScripts == 0 {
		o.KeepScripts = 24 * time.Hour
	}
	if o.PrivateIP == nil {
		o.PrivateIP = privateIP
	}
	if o.SetKernelName == nil {
		o.SetKernelName = func(name string) error { return os.NewSyscallError("sethostname", unix.Sethostname([]byte(name))) }
	}
	s := &Service{opts: o, host: o.Host, log: o.Host.Log().With("handler", "system"), stat: o.Host.ProcFile("/proc/stat")}
	s.scripts.init()
	return s
}

// Namespaces implements handlers.Handler.
func (s *Service) Namespaces() []string { return []string{"system", "sysinfo"} }

// Methods implements handlers.Handler.
func (s *Service) Methods() map[string]handlers.Method {
	return map[string]handlers.Method{
		"get_hostname":            handlers.Reader("get_hostname", s.GetHostname),
		"set_hostname":            handlers.Func("set_hostname", s.SetHostname),
		"uname":                   handlers.Reader("uname", s.Uname),
		"dist":                    handlers.Reader("dist", s.Dist),
		"pythons":                 handlers.Reader("pythons", s.Pythons),
		"cpu_info":                handlers.Reader("cpu_info", s.CPUInfo),
		"cpu_stat":                handlers.Reader("cpu_stat", s.CPUStat),
		"mem_info":                handlers.Reader("mem_info", s.MemInfo),
		"load_average":            handlers.Reader("load_average", s.LoadAverage),
		"block_devices":           handlers.Reader("block_devices", s.BlockDevices),
		"disk_stats":              handlers.Reader("disk_stats", s.DiskStats),
		"net_stats":               handlers.Reader("net_stats", s.NetStats),
		"statvfs":                 handlers.Reader("statvfs", s.StatVFS),
		"mounts":                  handlers.Reader("mounts", s.Mounts),
		"call_auth_shutdown_hook": handlers.Func("call_auth_shutdown_hook", s.CallAuthShutdownHook),
		"reboot":                  handlers.Func("reboot", s.Reboot),
		"execute_scripts":         handlers.Func("execute_scripts", s.ExecuteScripts),
		"get_script_logs":         handlers.Reader("get_script_logs", s.GetScriptLogs),
		"get_log":                 handlers.Reader("get_log", s.GetLog),
		"get_debug_log":           handlers.Reader("get_debug_log", s.GetDebugLog),
		"get_update_log":          handlers.Reader("get_update_log", s.GetUpdateLog),
		"scaling_metrics":         handlers.Reader("scaling_metrics", s.ScalingMetrics),
	}
}

// Run deletes old script logs every hour. When ctx ends it stops the asynchronous scripts and waits for them.
func (s *Service) Run(ctx context.Context) error {
	tick := time.NewTicker(time.Hour)
	defer tick.Stop()
	defer s.scripts.stop()
	for {
		if err := s.removeOldScriptLogs(time.Now()); err != nil {
			s.log.Warn("remove old script logs", "err", err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}
