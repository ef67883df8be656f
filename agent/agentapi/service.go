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
