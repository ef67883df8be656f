package agentapi

import "time"

// Units and releases are the other half of the deploy namespace: an app's copies run as systemd units of their own, each on
// a port of its own, from releases that were built once.

// Blob is a file at the coordinator, which a host fetches or writes over HTTP. The coordinator hands it out for one file and
// a short time.
type Blob struct {
	URL    string `json:"url"` // http or https
	Token  Secret `json:"token"`
	CACert string `json:"ca_cert,omitempty"` // PEM; the only authority that is trusted for an https URL. "" means the host's own
	SHA256 string `json:"sha256,omitempty"`  // hex; what is fetched must have it. "" when the blob is written
}

// Process is one line of a Procfile.
type Process struct {
	Name    string `json:"name"`    // letters, digits and underscore; "web" is the one that listens on $PORT
	Command string `json:"command"` // words with quotes and $VARIABLES; no shell reads it unless it names one
}

// HealthCheck is how a unit is asked whether it serves. Spec tsuru 5.3.
type HealthCheck struct {
	Path   string `json:"path"`             // "/health"; "" means: the port accepts connections
	Method string `json:"method,omitempty"` // GET when ""
	Status int    `json:"status,omitempty"` // 200 when 0 and Match is ""
	Match  string `json:"match,omitempty"`  // RE2 over the body, dot matches newline
}

// Manifest is what a source says about itself: Procfile and tsuru.yaml (or tsuru.yml, app.yaml, app.yml), completed by the
// platform's defaults. Spec tsuru 5.3.
type Manifest struct {
	Processes     []Process    `json:"processes"`
	BuildHooks    []string     `json:"build_hooks,omitempty"` // run once, in the build
	RestartBefore []string     `json:"restart_before,omitempty"`
	RestartAfter  []string     `json:"restart_after,omitempty"`
	HealthCheck   *HealthCheck `json:"healthcheck,omitempty"`
}

// BuildReleaseParams are the parameters of deploy.build_release: fetch a source, build it with the app's platform as the
// app's user, and write the result to Target. What the build prints are the operation's logs, line by line. Nothing of it
// stays on the host but the platform's download cache.
//
// Result:  ReleaseBuild; with Async the operation's id
// Errors:  not_found (app), invalid (the source, a manifest; BuildError when a command of the build failed, with its last
// lines), unavailable (the blob cannot be reached)
// Limits:  512 MiB unpacked, 100,000 entries, 30 min
// Source:  spec tsuru 5.2, 5.3
type BuildReleaseParams struct {
	App     string            `json:"app" rpc:"required"`
	Release int               `json:"release" rpc:"required"` // only names the build
	Source  Blob              `json:"source"`                 // tar.gz
	Target  Blob              `json:"target"`                 // PUT, tar.gz
	Env     map[string]Secret `json:"env,omitempty"`
	Async   Bool              `json:"async,omitempty"`
}

// ReleaseBuild is a built release.
type ReleaseBuild struct {
	SHA256    string   `json:"sha256"` // of what was written to Target
	SizeBytes int64    `json:"size_bytes"`
	Manifest  Manifest `json:"manifest"`
}

// FetchReleaseParams are the parameters of deploy.fetch_release: put a built release beside the others on this host. The
// current one stays current. The same number with the same content is a no-op, with another a conflict. Releases that no
// unit runs are dropped, oldest first, when there are more than ten. Links of the archive may name files below /usr, which
// those of a source may not.
//
// Result:  null
// Errors:  not_found (app), invalid (the archive, its sum), conflict, unavailable (the blob cannot be reached)
type FetchReleaseParams struct {
	App     string `json:"app" rpc:"required"`
	Release int    `json:"release" rpc:"required"`
	Source  Blob   `json:"source"` // with its SHA256
}

// UnitState is what a unit does. Spec tsuru 5.1.
type UnitState string

// The states of a unit as its host sees it.
const (
	UnitStarting    UnitState = "starting"
	UnitStarted     UnitState = "started"     // up, and its port accepts connections
	UnitUnreachable UnitState = "unreachable" // up, but nothing listens on its port
	UnitError       UnitState = "error"       // its processes fail; they are restarted with growing pauses
	UnitStopped     UnitState = "stopped"     // stopped on request, and kept
)

// StartUnitParams are the parameters of deploy.start_unit: run a release as a unit of its own beside what runs, and wait
// until its health check passes. Every process of Processes runs in it, as the app's user, within the unit's limits; it is
// started again when it ends, with growing pauses, and at boot. Called again for a unit that runs with the same parameters
// it only checks; with other parameters it is a conflict, unless the unit is stopped and kept. On failure nothing of the
// unit stays. stop_unit interrupts it.
//
// What runs sees its release, read-only, as /home/application/current (TSURU_APPDIR, and the working directory), the app's
// shared directory as /home/application/shared, and a /tmp of its own; it may write to the latter two. Its environment is the
// app's, Env over it, PORT and port; HOME, PATH and LANG unless they are set. Names are [A-Za-z_][A-Za-z0-9_]*, values text
// in UTF-8 whose only control characters are tab and newline.
//
// The hooks of RestartBefore run one after the other before its processes, those of RestartAfter when it serves, as shell
// lines within the unit's limits; one that fails fails the start. Systemd's own restarts run no hooks. A process of a command
// that needs a shell (pipes, redirections, && and the like) gets one.
//
// Result:  Unit
// Errors:  not_found (app, release), conflict (port in use; other parameters), UnitError (it ends, or its health check
// fails: the text has its last log lines), invalid
// Effects: units reeve-<app>-<unit>[-<process>].service in a slice with the limits, below reeve.slice
// Source:  spec tsuru 5.1, 5.3, 5.4
type StartUnitParams struct {
	App            string            `json:"app" rpc:"required"`
	Unit           string            `json:"unit" rpc:"required"` // 12 to 40 of a-f, 0-9
	Release        int               `json:"release" rpc:"required"`
	Port           int               `json:"port" rpc:"required"` // 1024-65535; PORT and port in its environment
	Processes      []Process         `json:"processes" rpc:"required"`
	Env            map[string]Secret `json:"env,omitempty"`       // beside the app's; never in a world-readable file
	MemoryMB       int               `json:"memory_mb,omitempty"` // 0: no limit of its own
	SwapMB         int               `json:"swap_mb,omitempty"`
	CPUPercent     int               `json:"cpu_percent,omitempty"` // of one CPU; 0: no limit of its own
	RestartBefore  []string          `json:"restart_before,omitempty"`
	RestartAfter   []string          `json:"restart_after,omitempty"`
	HealthCheck    *HealthCheck      `json:"healthcheck,omitempty"`     // nil: the port of "web" accepts connections; without "web": it stays up
	TimeoutSeconds int               `json:"timeout_seconds,omitempty"` // for all of it; 0 means 120, the limit is 1800
}

// UnitParams name one unit.
type UnitParams struct {
	App  string `json:"app" rpc:"required"`
	Unit string `json:"unit" rpc:"required"`
}

// StopUnitParams are the parameters of deploy.stop_unit: wait until nobody is connected to the unit's port any more, end its
// processes (SIGTERM, then SIGKILL) and, unless Keep is set, forget it. A unit that is not there is no error.
//
// Result:  null
type StopUnitParams struct {
	App            string `json:"app" rpc:"required"`
	Unit           string `json:"unit" rpc:"required"`
	Keep           Bool   `json:"keep,omitempty"`            // keep it, stopped also after a reboot, for start_unit to start again
	DrainSeconds   int    `json:"drain_seconds,omitempty"`   // the longest wait for open connections; 0: none
	TimeoutSeconds int    `json:"timeout_seconds,omitempty"` // from SIGTERM to SIGKILL; 0 means 10, the limit is 60
}

// DrainRouterParams are the parameters of deploy.drain_router: wait until nothing on this host is about to connect to
// backends that its routers were told to leave. A worker of the old configuration that asks a backend whose queue is full
// asks again after 1 and 3 s, and the backend's own host knows nothing of it: a unit that ends in between refuses it.
//
// Result:  null, also when the time is over
// Errors:  invalid (an address is no IP address, a port is none, seconds out of range)
// Effects: none
type DrainRouterParams struct {
	Backends       []Backend `json:"backends" rpc:"required"`
	TimeoutSeconds int       `json:"timeout_seconds,omitempty"` // 0 means 10, the limit is 60
}

// Backend is where a unit listens.
type Backend struct {
	Address string `json:"address"` // IP address
	Port    int    `json:"port"`
}

// ListUnitsParams are the parameters of deploy.list_units.
//
// Result: [Unit], by app and unit
type ListUnitsParams struct {
	App string `json:"app,omitempty"` // "" means every app's
}

// Unit is one running copy of an app.
type Unit struct {
	App         string    `json:"app"`
	Unit        string    `json:"unit"`
	Release     int       `json:"release"`
	Port        int       `json:"port"`
	State       UnitState `json:"state"`
	Since       time.Time `json:"since"`    // when it entered the state, UTC
	Restarts    int       `json:"restarts"` // of its processes, since it was started
	MemoryBytes int64     `json:"memory_bytes"`
}

// UnitLogParams are the parameters of deploy.unit_log: what the units of an app printed, from the journal.
//
// Result: UnitLog
// Errors: not_found (app)
type UnitLogParams struct {
	App    string `json:"app" rpc:"required"`
	Unit   string `json:"unit,omitempty"`   // exact; "" means every unit's
	Cursor string `json:"cursor,omitempty"` // go on after this one; "" means the newest Lines
	Lines  int    `json:"lines,omitempty"`  // at most; 0 means 100, the limit is 5000
}

// UnitLog is a part of the log, oldest line first.
type UnitLog struct {
	Lines  []UnitLogLine `json:"lines"`  // never null
	Cursor string        `json:"cursor"` // of the newest line seen; ask again with it for what came since
}

// UnitLogLine is one line that a process printed.
type UnitLogLine struct {
	At      time.Time `json:"at"` // UTC
	Unit    string    `json:"unit"`
	Process string    `json:"process"`
	Message string    `json:"message"`
}

// RunCommandParams are the parameters of deploy.run_command: run a command line in the directory of a release, as the app's
// user, in the sandbox and with the environment that its units have, PORT left out. What it prints are the operation's logs,
// line by line, at most 5,000 lines and 512 KiB. Canceling the operation, or the end of the agent, ends the command.
//
// Result:  CommandResult; with Async the operation's id
// Errors:  not_found (app, release), invalid
// Source:  spec tsuru 2 (run)
type RunCommandParams struct {
	App            string            `json:"app" rpc:"required"`
	Release        int               `json:"release" rpc:"required"`
	Command        string            `json:"command" rpc:"required"` // read by /bin/sh -c as the app's user: it is the owner's own shell line
	Env            map[string]Secret `json:"env,omitempty"`
	TimeoutSeconds int               `json:"timeout_seconds,omitempty"` // 0 means 600
	Async          Bool              `json:"async,omitempty"`
}

// CommandResult is how a command ended.
type CommandResult struct {
	ExitCode int `json:"exit_code"`
}
