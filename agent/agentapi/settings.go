package agentapi

// Where a host that a coordinator enrols or makes finds whom its agent asks and tells. They are settings of the agent's unit, not
// its own file: that is its administrator's, and the agent of an older image would not start with a key that it does not know.
const (
	CoordinatorSettingsFile = "/etc/systemd/system/reeve-agent.service.d/coordinator.conf"
	CoordinatorCAFile       = "/etc/reeve/coordinator-ca.crt" // certificate of the coordinator's authority, PEM
)
