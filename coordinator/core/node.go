package core

import (
	"slices"
	"time"
)

// NodeID is opaque.
type NodeID string

// NodeState is where a node is in its life.
//
//	pending -> booting -> enrolling -> running -> stopping -> gone
//	                 any -> failed;  running <-> unreachable
type NodeState string

// The states of a node.
const (
	NodePending     NodeState = "pending"
	NodeBooting     NodeState = "booting"
	NodeEnrolling   NodeState = "enrolling"
	NodeRunning     NodeState = "running"
	NodeStopping    NodeState = "stopping"
	NodeUnreachable NodeState = "unreachable"
	NodeFailed      NodeState = "failed"
	NodeGone        NodeState = "gone"
)

// Role is what a node is for; it may have several.
type Role string

// The roles of nodes.
const (
	RoleRouter Role = "router" // nginx in front
	RoleApp    Role = "app"
	RoleDB     Role = "db"
	RolePool   Role = "pool" // shared: runs units and databases of many apps
)

// Node is a VM the coordinator manages.
type Node struct {
	ID        NodeID
	Num       int64
	AccountID AccountID // "" for the system's own, such as routers
	AppID     AppID     // "" unless dedicated to an app
	Cloud     string    // configured cloud
	CloudID   string    // the provider's id; "" until created
	Key       string    // idempotency key of its creation
	Name      string
	ImageID   string
	SizeID    string
	Roles     []Role
	State     NodeState
	Error     string // why it failed; for people
	Address   string // where its agent listens and routers reach it
	AgentKey  []byte // 40 bytes, sealed at rest by the store
	CreatedAt time.Time
	SeenAt    time.Time // last answer of its agent
}

// Has says that the node has the role.
func (n Node) Has(r Role) bool { return slices.Contains(n.Roles, r) }

// alive says that the node came up and was not given up since.
func (n Node) alive() bool { return n.State == NodeRunning || n.State == NodeUnreachable }

// Volume is block storage that outlives a node: of an app, or made by the agent of a node.
type Volume struct {
	ID        string
	Num       int64
	AppID     AppID     // "" when the node that made it is of no app
	AccountID AccountID // with MadeBy: of that node; "" otherwise
	MadeBy    NodeID    // whose agent made it; "" when an operation did
	Cloud     string
	CloudID   string
	Key       string
	SizeBytes int64
	NodeID    NodeID // "" when detached
	Device    string // path inside the node; "" when detached
	CreatedAt time.Time
}

// Allocation is one node of a cloud in the pool that Orchestrator users are given nodes from.
type Allocation struct {
	Num       int64
	Cloud     string
	Hostname  string
	NodeID    string // the provider's id
	User      string // "" while it is free
	VMType    string
	State     AllocationState
	Login     string   // Unix name of the user on the node; "" where nothing is set up on nodes
	PublicKey string   // of who started the node, "" without one
	Services  []string // that were started on the node for the user
}

// AllocationState is how far a node is on its way to its user, or back.
type AllocationState string

// The states of an allocation.
const (
	AllocationFree      AllocationState = ""
	AllocationAssigning AllocationState = "assigning"
	AllocationAssigned  AllocationState = "assigned"
	AllocationReleasing AllocationState = "releasing"
)

// Enrollment is a token that lets one machine into a cloud of existing machines, once. Only its hash is kept.
type Enrollment struct {
	Hash      [32]byte // SHA-256 of the text
	Cloud     string
	Name      string    // of the node
	AccountID AccountID // who owns the node
	CreatedAt time.Time
	ExpiresAt time.Time
}
