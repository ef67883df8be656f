package core

import (
	"cmp"
	"context"
	"io/fs"
)

// Cloud drives one configured provider account. It is declared here because core is its consumer; package cloud holds
// the contract's test suite, cloudtest, and one package per provider.
//
// Contract:
//   - Methods may be called from any goroutine. Every call has a deadline in its context and does not wait for a state:
//     CreateNode returns a node that may be pending, and callers poll Node.
//   - CreateNode is idempotent by NodeSpec.Key: called again with the same key it returns the node that exists. A key is
//     stamped into the node before it exists in any other way, so that a crash leaves nothing that Nodes does not show.
//   - DestroyNode, DetachVolume and DestroyVolume are idempotent: what is not there is success, what is half made is
//     removed. They return when nothing of it is left.
//   - Failures are *Error: NotFound, Busy (retry later), Quota (no capacity), Unavailable (retry), Unauthenticated
//     (configuration), Invalid (never retry), Unsupported.
//   - "Cannot reach the provider" is Unavailable and never an empty list.
type Cloud interface {
	Info() CloudInfo
	Images(ctx context.Context) ([]Image, error)
	Sizes(ctx context.Context) ([]Size, error)
	Locations(ctx context.Context) ([]Location, error)
	Nodes(ctx context.Context) ([]CloudNode, error)
	Node(ctx context.Context, id string) (CloudNode, error)
	CreateNode(ctx context.Context, spec NodeSpec) (CloudNode, error)
	RebootNode(ctx context.Context, id string) error
	DestroyNode(ctx context.Context, id string) error
}

// VolumeCloud is a Cloud that has volumes (CloudInfo.Volumes).
type VolumeCloud interface {
	Cloud
	Volumes(ctx context.Context) ([]CloudVolume, error)
	// CreateVolume makes an empty volume; idempotent by key.
	CreateVolume(ctx context.Context, key string, sizeBytes int64) (CloudVolume, error)
	// AttachVolume makes the volume a block device of a running node, also after the node's reboots, and returns the
	// device's path inside the node. Idempotent.
	AttachVolume(ctx context.Context, volumeID, nodeID string) (device string, err error)
	DetachVolume(ctx context.Context, volumeID string) error
	DestroyVolume(ctx context.Context, volumeID string) error
}

// PowerCloud is a Cloud that stops and starts nodes (CloudInfo.Power).
type PowerCloud interface {
	Cloud
	StopNode(ctx context.Context, id string) error
	StartNode(ctx context.Context, id string) error
}

// VersionedCloud is a Cloud that tells at once whether its nodes are what they were, so that a list which callers poll need
// not be made again.
type VersionedCloud interface {
	Cloud
	// NodesVersion is another number after every change of what Nodes returns, by the time the call that changes it ends, and
	// never one that it was before.
	NodesVersion() uint64
}

// ResizeCloud is a Cloud that changes the size of nodes that exist (CloudInfo.Resize).
type ResizeCloud interface {
	Cloud
	// ResizeNode gives a node the CPUs and the memory of another size; its disk stays as it is. A node that runs goes on
	// running where the cloud can do that, and is restarted otherwise. Idempotent.
	ResizeNode(ctx context.Context, id, sizeID string) error
}

// GrowCloud is a VolumeCloud whose volumes can become larger (CloudInfo.Grow).
type GrowCloud interface {
	VolumeCloud
	// GrowVolume makes a volume, attached or not, at least this large; what is on it stays. A running node sees the size of
	// the device change. Idempotent; volumes never shrink.
	GrowVolume(ctx context.Context, volumeID string, sizeBytes int64) (CloudVolume, error)
}

// SnapshotCloud is a VolumeCloud that keeps copies of volumes (CloudInfo.Snapshots). A snapshot outlives its volume.
type SnapshotCloud interface {
	VolumeCloud
	Snapshots(ctx context.Context) ([]CloudSnapshot, error)
	// SnapshotVolume copies a volume, attached or not, as it is at one moment between the call and its return: all that was
	// synced to it before the call is in the copy, and of what is written meanwhile nothing without what was written before
	// it. That is what a power cut leaves: journaling file systems and databases recover from it, and no committed
	// transaction is lost. It returns once the copy is whole. Idempotent by key: called again it finishes what was cut off.
	SnapshotVolume(ctx context.Context, key, volumeID string) (CloudSnapshot, error)
	// RestoreSnapshot makes a new, detached volume of a snapshot's content, at least as large as either. It returns once the
	// volume is whole. Idempotent by key, as CreateVolume is.
	RestoreSnapshot(ctx context.Context, key, snapshotID string, sizeBytes int64) (CloudVolume, error)
	// DestroySnapshot is idempotent; it removes half-made ones too.
	DestroySnapshot(ctx context.Context, snapshotID string) error
}

// AddressCloud is a Cloud whose network has addresses for the coordinator itself, beside its nodes': a service's manager
// answers at one. Both methods are idempotent by key.
type AddressCloud interface {
	Cloud
	// ReserveAddress makes an address of the nodes' network one of this machine, also after a restart of it.
	ReserveAddress(ctx context.Context, key string) (string, error)
	ReleaseAddress(ctx context.Context, key string) error
}

// CloudInfo describes a driver. Capabilities are data, not type switches in callers.
type CloudInfo struct {
	Type      string // driver type, e.g. "dummy", "nspawn"
	Name      string // display name, e.g. "Dummy Node Provider"
	Host      string // where it is reached
	InMemory  bool   // forgets everything when the process ends: nothing about it is stored
	Agents    bool   // its nodes run our agent: bootstrap files are delivered
	Volumes   bool
	Power     bool
	Resize    bool
	Grow      bool
	Snapshots bool
	Anonymous bool // callers without a credential may use it
	Permanent bool // its machines were there before and stay: a released node is cleaned and free again, not destroyed
}

// Image is what a node boots from.
type Image struct {
	ID, Name  string
	Platforms []string // that its nodes run beside those that all images do
}

// Size is CPU, memory and disk of a node.
type Size struct {
	ID, Name string
	CPUs     int // 0 when unknown
	MemoryMB int
	DiskGB   int
}

// Location is where nodes stand. Num and the codes serve dialects that list data centers.
type Location struct {
	ID, Name string
	Country  string // name, e.g. "France"
	ISO      string // ISO 3166 code
	Code     string // e.g. "FR-SD2"; clients may turn what people type into capitals
	Num      int64
}

// Or is l with what it leaves out taken from other.
func (l Location) Or(other Location) Location {
	return Location{ID: cmp.Or(l.ID, other.ID), Name: cmp.Or(l.Name, other.Name), Country: cmp.Or(l.Country, other.Country),
		ISO: cmp.Or(l.ISO, other.ISO), Code: cmp.Or(l.Code, other.Code), Num: cmp.Or(l.Num, other.Num)}
}

// CloudNodeState is the shared set of states of a provider's node.
type CloudNodeState string

// The states; what a provider calls otherwise is unknown, never terminated.
const (
	CloudPending    CloudNodeState = "pending"
	CloudRunning    CloudNodeState = "running"
	CloudRebooting  CloudNodeState = "rebooting"
	CloudStopping   CloudNodeState = "stopping"
	CloudStopped    CloudNodeState = "stopped"
	CloudSuspended  CloudNodeState = "suspended"
	CloudPaused     CloudNodeState = "paused"
	CloudTerminated CloudNodeState = "terminated"
	CloudError      CloudNodeState = "error"
	CloudUnknown    CloudNodeState = "unknown"
)

// CloudNode is a node as its provider sees it.
type CloudNode struct {
	ID         string
	Name       string
	Key        string // idempotency key it was created with; "" when the provider cannot tell
	State      CloudNodeState
	PublicIPs  []string // never nil
	PrivateIPs []string // never nil
	ImageID    string
	SizeID     string
	Extra      map[string]any // driver-specific, may be empty
}

// NodeSpec asks for a node.
type NodeSpec struct {
	Key        string // idempotency key, unique per coordinator
	Name       string // [a-z0-9-]{1,63}
	ImageID    string
	SizeID     string // "" means the driver's smallest
	LocationID string
	KeyName    string            // registered SSH key, may be ""
	SSHKeys    []string          // public keys let in as root
	Metadata   map[string]string // shown in Extra where the provider can
	Files      []BootstrapFile   // identity and settings, in place before the node's first boot
}

// BootstrapFile is a file of a new node, owned by root.
type BootstrapFile struct {
	Path string // absolute
	Mode fs.FileMode
	Data []byte
}

// CloudVolume is a volume as its provider sees it.
type CloudVolume struct {
	ID        string
	Key       string
	SizeBytes int64
	NodeID    string // "" when detached
	Device    string // path inside the node; "" when detached
}

// CloudSnapshot is a copy of a volume as its provider sees it.
type CloudSnapshot struct {
	ID        string
	Key       string
	VolumeID  string // of what it is a copy; that volume may be gone
	SizeBytes int64  // of the volume
	Complete  bool   // false: it was cut off, or is being made
}

// Clouds finds configured clouds by name. "default" is always one of them.
type Clouds interface {
	Cloud(name string) (Cloud, bool)
	// Canonical is the name under which what belongs to a cloud is stored: "default" may stand for another one.
	Canonical(name string) string
	Names() []string // "default" first, then sorted
}
