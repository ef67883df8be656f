package agentapi

import "encoding/json"

// ServiceReconfigureParams are the parameters of service.reconfigure.
//
// Result:  the operation's id when Async (D18), null otherwise
// Errors:  AlreadyInProgressError, QueryEnvError (parameters are to come from a coordinator and there is none), what the
// reconfigured service answers
// Source:  spec agent-core 4.5
type ServiceReconfigureParams struct {
	// BehaviorParams maps a behaviour, "www" (nginx) or "app" (apache), to the parameters of its own reconfigure. Others
	// are ignored. Null, for all or for one of them, means what the coordinator keeps for this host's role.
	BehaviorParams map[string]json.RawMessage `json:"behavior_params,omitempty"`
	Async          *Bool                      `json:"async,omitempty"` // default true
}

// Preset is a service's configuration as service.get_preset answers it: configuration file ("my.cnf", "postgresql.conf"), then
// option, then value. Options of files with sections are named "<section>/<option>".
type Preset map[string]map[string]Text

// UnsetOption is the value that makes service.set_preset delete an option.
const UnsetOption = "*unset*"

// GetPresetParams are the parameters of service.get_preset.
//
// Result:  Preset: what is in force, from all files that belong to the one that is named
// Errors:  AssertionError "Behaviour <b> is not registred in ServiceAPI (…)"; unsupported (the service is not installed)
// Source:  spec agent-core 4.5
type GetPresetParams struct {
	Behavior string `json:"behavior" rpc:"required"` // mysql2, percona, mariadb or postgresql
}

// SetPresetParams are the parameters of service.set_preset: change some options and restart the service. Options that are
// not named stay.
//
// Result:  null
// Errors:  as get_preset; ValueError (a name or a value that would be more than that); PresetError (the service's own test
// refuses the files, or it does not start with them: the old files are back and it runs with them)
// Effects: the file in which the option is in force, or a file of ours among the drop-ins; a restart
// Source:  spec agent-core 4.5
type SetPresetParams struct {
	Behavior string `json:"behavior" rpc:"required"`
	Values   Preset `json:"values" rpc:"required"`
}
