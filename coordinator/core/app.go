package core

import "time"

// AppID is opaque.
type AppID string

// AppState is where an app is in its life.
//
//	creating -> running <-> stopped;  creating -> failed;  any -> deleting -> (gone)
type AppState string

// The states of an app.
const (
	AppCreating AppState = "creating"
	AppRunning  AppState = "running"
	AppStopped  AppState = "stopped" // its node does not answer
	AppFailed   AppState = "failed"
	AppDeleting AppState = "deleting"
)

// App is a platform with an owner, routes, and nodes or units it runs on.
type App struct {
	ID         AppID
	Num        int64
	AccountID  AccountID
	Name       string
	Platform   string // "php", …
	Engine     string // database beside it: "mysql", … or ""
	SizeID     string
	LocationID string
	Cloud      string
	State      AppState
	Login      int64 // login number for SFTP and console, unique
	BaseDiskGB int
	ExtraGB    int
	StartsAt   time.Time
	EndsAt     time.Time
	CreatedAt  time.Time

	Placement Placement // "" is stored as dedicated
	UnitCount int       // units that are wanted
	Release   int       // number of the release that serves; 0 before the first
	Deploys   int       // that succeeded
	MemoryMB  int       // of each unit; 0: no limit of its own
	SwapMB    int
	Halted    bool // its units are stopped, on request

	SnapshotProfile int64 // id of a profile; 0 is none

	Nodes  []Node    // its own; filled in by the store, lowest Num first
	Routes []Route   // likewise
	Units  []AppUnit // likewise

	Teams     []string // that may use it, sorted; filled in by the store. None: its owner alone
	TeamOwner string   // likewise; one of them, or ""
}

// Shared says that the app runs on nodes of the pool.
func (a App) Shared() bool { return a.Placement == PlacementShared }

// RouteState is where a route is in its life.
type RouteState string

// The states of a route.
const (
	RouteCreating RouteState = "creating"
	RouteRunning  RouteState = "running"
	RouteFailed   RouteState = "failed"
	RouteDeleting RouteState = "deleting"
)

// Route is a host name under which routers serve an app.
type Route struct {
	ID        string
	Num       int64
	AppID     AppID
	Hostname  string // lower-case A-label, no trailing dot; may start with "*."
	State     RouteState
	Generated bool // made of the app's name by us, not asked for by its owner
	CreatedAt time.Time

	Certificate string // id of what routers were given for the name; "" while it is served without TLS, "?" while that changes
}

// ServiceInstance is a database of an app, with its own user. The password is sealed at rest.
type ServiceInstance struct {
	ID        string
	AppID     AppID
	Engine    string
	Database  string
	User      string
	Password  []byte
	CreatedAt time.Time

	// Of one that is not a part of its app, but that apps are bound to. Names are one space over all services.
	Name      string
	Service   string
	Plan      string
	TeamOwner string
	AccountID AccountID // who made it
	Teams     []string  // that may use it, sorted
	NodeID    NodeID    // where the database is, of a built-in service
	State     InstanceState
	Error     string // why it is down, for people
}

// AppSpec asks for an app. Comments name the members as problems and errors call them.
type AppSpec struct {
	Name       string   // name: 1–64 printable characters, unique per account
	Type       string   // type: <platform><engine>, one of Types
	SizeID     string   // size
	LocationID string   // location, by its ID; or LocationNum
	LocationNo int64    // location by number; used when LocationID is ""
	ExtraGB    int      // quantity: GB on top of the base disk
	Months     int      // duration
	Password   Secret   // password: 8–64 printable characters; may be "" when there are keys
	KeyNums    []int64  // keys: numbers of the account's SSH keys that let onto the node
	Keys       []string // ssh_key: other OpenSSH public keys that do
	Routes     []string // vhosts

	SnapshotProfile int64 // snapshot_profile: id of a profile; 0 is none
}

// AppType is a combination of platform and database that the agents can run.
type AppType struct {
	Name          string // e.g. "phpmysql"
	Platform      string
	PlatformLabel string // e.g. "PHP"
	Engine        string
	EngineLabel   string // e.g. "MySQL"
}

// Secret is text that must not be seen.
type Secret string

func (Secret) String() string   { return "[redacted]" }
func (Secret) GoString() string { return "[redacted]" }
