package agentapi

// StartScriptParams are the parameters of deploy.start_script: run a script of a release with bash, as the app's user and in
// the sandbox that its units have, and return when it runs. It goes on without the agent; a reboot ends it. One script of a
// name runs at a time.
//
// It sees its release, read-only, as /home/application/current, its working directory; /home/application/shared and /tmp it
// may write to. Files are shown to it read-only.
//
// Result:  null
// Errors:  not_found (app, release, no such script in it), conflict (it runs), invalid
// Effects: the transient unit reeve-script-<app>-<name>.service
// Source:  spec director 5.5 (generic)
type StartScriptParams struct {
	App       string            `json:"app" rpc:"required"`
	Release   int               `json:"release" rpc:"required"`
	Script    string            `json:"script" rpc:"required"` // [a-z][a-z0-9-]{0,30}.sh, at the root of the release
	Arguments []string          `json:"arguments,omitempty"`
	Env       map[string]Secret `json:"env,omitempty"`   // over the app's
	Files     map[string]string `json:"files,omitempty"` // text by path below /var/cache
	// Once makes a repetition with the same text do nothing, also when the script has ended. "": it is run again.
	Once string `json:"once,omitempty"`
}

// ScriptParams name one script. For deploy.stop_script: one that does not run is no error. Result null.
type ScriptParams struct {
	App    string `json:"app" rpc:"required"`
	Script string `json:"script" rpc:"required"`
}

// AppScriptState is what a script does.
type AppScriptState string

// The states of a script.
const (
	AppScriptRunning AppScriptState = "running"
	AppScriptEnded   AppScriptState = "ended"
	AppScriptLost    AppScriptState = "lost" // it was stopped, or the host was restarted; nobody knows its exit code
)

// AppScript is one row of deploy.list_scripts (AppParams): a script that was started at some time, by name.
type AppScript struct {
	Script   string         `json:"script"`
	State    AppScriptState `json:"state"`
	ExitCode int            `json:"exit_code"` // when it ended; of one that a signal ended, the signal's number
}

// ScriptLog is the result of deploy.script_log (AppParams): the last 1,000 lines that the app's scripts printed, oldest first.
type ScriptLog struct {
	Lines []string `json:"lines"` // time (RFC 3339, UTC), script and text. Never null
}
