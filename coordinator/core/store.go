package core

import (
	"context"
	"time"

	"github.com/reeve-paas/reeve/coordinator/operation"
)

// Store keeps everything. What was written in one Update is there as a whole or not at all, also after a power cut.
// Lookups that find nothing return a NotFound *Error.
type Store interface {
	// View reads one consistent state.
	View(ctx context.Context, fn func(Reader) error) error
	// Update reads and writes in one transaction; an error of fn writes nothing. fn may run again after a conflict.
	Update(ctx context.Context, fn func(Tx) error) error
}

// Reader reads.
type Reader interface {
	Account(id AccountID) (Account, error)
	AccountByEmail(email string) (Account, error)
	AccountByUsername(name string) (Account, error) // exactly
	Accounts() ([]Account, error)
	Credential(hash [32]byte) (Credential, error)
	Credentials(account AccountID) ([]Credential, error)
	// SSHKeys lists an account's keys, oldest first.
	SSHKeys(account AccountID) ([]SSHKey, error)
	SSHKeyByFingerprint(fingerprint string) (SSHKey, error)
	// Limit is the limit of an account or an app, and whether it has one of its own.
	Limit(subject string) (most int, own bool, err error)

	Team(name string) (Team, error)
	// Teams lists an account's teams by name; "" means all.
	Teams(account AccountID) ([]Team, error)
	// UsableApps lists, by ascending Num, what the account may use: apps shared with one of its teams, and its own ones that
	// are shared with none.
	UsableApps(account AccountID) ([]App, error)
	// TeamApps lists the apps shared with a team.
	TeamApps(team string) ([]App, error)

	App(id AppID) (App, error)
	AppByNum(num int64) (App, error)
	// Apps lists the account's apps by ascending Num, with nodes and routes; "" means every account. limit 0 means all.
	Apps(account AccountID, offset, limit int) ([]App, error)
	CountApps(account AccountID) (int, error)
	AppNamed(account AccountID, name string) (App, error)
	// SharedApp finds an app by name among those that share nodes, whose names are one space.
	SharedApp(name string) (App, error)
	AppEnv(app AppID) ([]EnvVar, error)    // by name
	Releases(app AppID) ([]Release, error) // newest first
	Release(app AppID, number int) (Release, error)
	// FileUsed says whether any release or code version, of any app, needs the stored file of this sum.
	FileUsed(sha string) (bool, error)
	Unit(id string) (AppUnit, error)
	Units() ([]AppUnit, error) // of all apps, in the order they were made
	// AppLog lists the newest lines with Num > after, oldest first; source and unit are exact when not "". limit 0 means all.
	AppLog(app AppID, after int64, source, unit string, limit int) ([]LogLine, error)

	AppLogin(app AppID) (AppLogin, error)

	Node(id NodeID) (Node, error)
	Nodes(filter NodeFilter) ([]Node, error)
	Route(hostname string) (Route, error)
	// RouteCertificates lists what an account uploaded, oldest first, without keys.
	RouteCertificates(account AccountID) ([]RouteCertificate, error)
	RouteCertificate(num int64) (RouteCertificate, error)
	IssuedCertificate(routeID string) (RouteCertificate, error)
	RouteCertificatesWithID(id string) ([]RouteCertificate, error)
	Volumes(app AppID) ([]Volume, error)
	Volume(id string) (Volume, error)
	// VolumesMade lists, by ascending Num, the volumes of a cloud that agents of nodes made.
	VolumesMade(cloud string) ([]Volume, error)
	Snapshot(id string) (Snapshot, error)
	SnapshotByNum(num int64) (Snapshot, error)
	// Snapshots lists by ascending Num those of one account's apps, or of one app; "" means every one.
	Snapshots(account AccountID, app AppID) ([]Snapshot, error)
	SnapshotTurns(app AppID) ([]SnapshotTurn, error) // by schedule
	// DueSnapshots lists the apps that have a turn with DueAt <= at, the one that waits longest first.
	DueSnapshots(at time.Time) ([]AppID, error)
	ServiceInstances(app AppID) ([]ServiceInstance, error)
	Instance(name string) (ServiceInstance, error)
	InstanceByID(id string) (ServiceInstance, error)
	InstancesOf(service string) ([]ServiceInstance, error) // by name
	Offer(name string) (Offer, error)
	Offers() ([]Offer, error)
	Bindings(app AppID) ([]Binding, error) // oldest first
	BindingsOf(instance string) ([]Binding, error)
	Allocations(cloud string) ([]Allocation, error)
	Enrollment(hash [32]byte) (Enrollment, error)
	Certificate(serial string) (Certificate, error)
	Application(num int64) (Application, error)
	// Applications lists by ascending Num.
	Applications(account AccountID) ([]Application, error)
	ManagedService(app AppID) (ManagedService, error)
	// ManagedServices lists by ascending App.Num; "" means every account.
	ManagedServices(account AccountID) ([]ManagedService, error)
	ServiceEvents(app AppID) ([]ServiceEvent, error) // oldest first
	// CodeVersions lists without archives, newest first.
	CodeVersions(app AppID) ([]CodeVersion, error)
	CodeVersion(app AppID, num int64) (CodeVersion, error)
	// Leases lists by ascending number of the node.
	Leases(app AppID) ([]Lease, error)
	// OwingApps lists the numbers of apps that have a lease with PaidUntil <= at, ascending.
	OwingApps(at time.Duration) ([]int64, error)
	BillingClock() (BillingClock, error)
	// Samples lists a node's samples with from <= At < to, oldest first.
	Samples(node NodeID, from, to time.Time) ([]Sample, error)

	Operation(num int64) (operation.Record, error)
	// Operations lists by ascending Num.
	Operations(filter OperationFilter) ([]operation.Record, error)
}

// NodeFilter selects nodes; zero members select all.
type NodeFilter struct {
	Cloud   string
	AppID   AppID
	Account AccountID
	Role    Role
	Key     string
}

// OperationFilter selects operations; zero members select all.
type OperationFilter struct {
	Account    AccountID
	Subject    string
	GroupID    string
	Unfinished bool
}

// Tx reads and writes.
type Tx interface {
	Reader
	// PutX inserts what has Num 0 and sets Num, and replaces what has one.
	PutAccount(*Account) error
	PutCredential(Credential) error
	PutSSHKey(*SSHKey) error
	PutLimit(subject string, most int) error
	PutTeam(*Team) error // with exactly its members
	PutAppTeam(app AppID, team string, owner bool) error
	PutApp(*App) error          // without Nodes and Routes
	PutAppLogin(AppLogin) error // inserts or replaces; it goes with its app
	PutNode(*Node) error
	PutRoute(*Route) error
	PutRouteCertificate(*RouteCertificate) error // with its key; an issued one is deleted with its route
	PutVolume(*Volume) error
	PutSnapshot(*Snapshot) error
	PutSnapshotTurn(SnapshotTurn) error // inserts or replaces; it goes with its app
	PutServiceInstance(*ServiceInstance) error
	PutOffer(*Offer) error // with exactly its teams
	PutBinding(*Binding) error
	PutAllocation(*Allocation) error
	PutEnv(AppID, EnvVar) error
	PutRelease(*Release) error
	PutUnit(*AppUnit) error
	// AddLog appends lines to an app's log and keeps its newest keep lines.
	AddLog(app AppID, lines []LogLine, keep int) error
	PutEnrollment(Enrollment) error // a new one
	// PutSamples stores samples; one of the same node and time is replaced, one of a node that is gone is dropped. A node's
	// samples are deleted with it.
	PutSamples([]Sample) error

	// NoteMessage remembers the id of a message of a node's agent, and says whether it was new. Ids go with the node.
	NoteMessage(node NodeID, id string, at time.Time) (fresh bool, err error)
	ForgetMessages(node NodeID, before time.Time) error

	DeleteCredential(hash [32]byte) error
	DeleteSSHKey(num int64) error
	DeleteTeam(name string) error
	DeleteAppTeam(app AppID, team string) error
	// TakeCredit lowers an account's credit by n and says whether there was so much; if not, nothing changes.
	TakeCredit(account AccountID, n int) (bool, error)
	GiveCredit(account AccountID, n int) error
	AddCertificate(Certificate) error // a serial that is known is Exists
	// RevokeCertificates revokes what an account was issued for one of its services, or for itself when service is 0.
	RevokeCertificates(account AccountID, service int64, at time.Time) error
	PutApplication(*Application) error
	PutManagedService(ManagedService) error // deleted with its app, as are the next four
	AddServiceEvent(AppID, ServiceEvent) error
	PutCodeVersion(*CodeVersion) error // fills in Num
	PutLease(Lease) error              // deleted with its node, too
	PutBillingClock(BillingClock) error

	DeleteApplication(num int64) error
	DeleteCodeVersion(num int64) error
	DeleteLease(NodeID) error
	DeleteApp(AppID) error
	DeleteNode(NodeID) error
	DeleteRoute(id string) error
	DeleteRouteCertificate(num int64) error
	DeleteSnapshot(id string) error
	DeleteSnapshotTurns(app AppID) error
	DeleteVolume(id string) error
	DeleteServiceInstance(id string) error
	DeleteOffer(name string) error
	DeleteBinding(id string) error
	DeleteAllocation(num int64) error
	DeleteEnv(app AppID, name string) error
	DeleteUnit(id string) error
	DeleteLog(app AppID) error // "" deletes every app's
	DeleteEnrollment(hash [32]byte) error
	// ThinSamples keeps the first of a node's samples in every step, counted from 1970, with from <= At < to.
	ThinSamples(node NodeID, from, to time.Time, step time.Duration) error
	// DeleteSamples deletes a node's samples with At < before.
	DeleteSamples(node NodeID, before time.Time) error

	// Enqueue stores a group of operations and puts it in line. It fills in IDs, Nums and times.
	Enqueue(*operation.Group) error
	// RequestCancel asks every unfinished group about the subject to stop, or the one group given.
	RequestCancel(subject, groupID string) (int, error)
	Audit(AuditRecord) error
}

// Clock tells the time; nil options mean time.Now.
type Clock func() time.Time
