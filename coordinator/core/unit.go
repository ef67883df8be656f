package core

import "time"

// Placement says where an app's units run.
type Placement string

// The placements.
const (
	PlacementDedicated Placement = "dedicated" // on nodes of its own
	PlacementShared    Placement = "shared"    // packed with others on nodes of the pool
)

// UnitState is where a unit is in its life.
//
//	starting -> started <-> unreachable, error;  any -> stopping -> (gone);  stopped: kept, on request
type UnitState string

// The states of a unit.
const (
	UnitStarting    UnitState = "starting"
	UnitStarted     UnitState = "started"
	UnitUnreachable UnitState = "unreachable" // up, but its port does not answer
	UnitError       UnitState = "error"       // its processes fail
	UnitDown        UnitState = "down"        // its node does not answer
	UnitStopped     UnitState = "stopped"
	UnitStopping    UnitState = "stopping"
)

// AppUnit is one running copy of an app: a systemd unit on a node, with a port of its own.
type AppUnit struct {
	ID        string // 12 lower-case hex characters
	Num       int64
	AppID     AppID
	NodeID    NodeID
	Address   string // of its node
	Port      int
	Release   int // number
	State     UnitState
	CreatedAt time.Time
	SeenAt    time.Time // when its state was last looked at
}

// Serves says that requests may be sent to the unit.
func (u AppUnit) Serves() bool { return u.State == UnitStarted || u.State == UnitUnreachable }

// EnvVar is one variable of an app's environment. The value is sealed at rest.
type EnvVar struct {
	Name   string
	Value  Secret
	Public bool   // the owner set it, and may see and change it
	Tag    string // the service instance it comes from; "" when none
}

// LogLine is one line of an app's log.
type LogLine struct {
	Num     int64 // order of arrival; 0 for lines that are read from their node
	At      time.Time
	Source  string // "app" for what programs print, "tsuru" for what the platform says
	Unit    string // id of the unit; "api" for the platform
	Process string
	Message string
}
