package core

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/reeve-paas/reeve/agent/agentapi"
	"github.com/reeve-paas/reeve/coordinator/operation"
)

// Prover looks whether the owner of a name published what proves it.
type Prover interface {
	Proven(ctx context.Context, name, value string) (bool, error)
}

// Options configure a Core. Store, Clouds and Agents are needed; the rest has defaults.
type Options struct {
	Store  Store
	Clouds Clouds
	Agents Agents
	Prover Prover // nil: no name outside HostedZones can be proven
	Files  Files  // nil: no releases can be deployed, and only apps with virtual hosts be made
	Broker Broker // nil: there are no services of providers
	// RouteAuthority issues the certificates of routes for which nobody uploaded one; nil: those are served without TLS.
	RouteAuthority RouteAuthority
	Log            *slog.Logger
	Clock          Clock

	ScalingMetrics  []ScalingMetric
	AppCloud        string // cloud that apps run on; "" means "default"
	Types           []AppType
	PlatformNames   []string                              // what shared apps can be made of, sorted
	PlatformNeeds   map[string]PlatformNeeds              // of those that do not run on every node, in any unit
	HostedZones     []string                              // names in these zones need no proof of ownership
	OwnershipSecret []byte                                // 32 bytes; makes the values that prove ownership
	MaxApps         int                                   // per account, unless it has a limit of its own; 0 means no limit
	AppDomain       string                                // zone of the names that apps are given; "" means "apps.test"
	MaxUnits        int                                   // per app, likewise
	AdminTeam       string                                // name of the team of administrators; "" means "admin"
	MaxDiskGB       int                                   // most a volume may have; 0 means 1000
	AgentConfig     func(Node) []BootstrapFile            // what else a new node finds on its disk, beside its key
	HashPassword    func(password string) (string, error) // crypt(3) form, for logins on nodes; nil: apps get no login
	SSHKeys         []string                              // let in as root on every node
	PoolNodes       int                                   // nodes that apps share; 0 means 2
	PoolSize        string                                // of each; "" means the first with 1 GiB of memory

	Profiles     []SnapshotProfile // of snapshots; nil: DefaultSnapshotProfiles
	MaxSnapshots int               // per app, of those that no schedule asked for; 0 means 10

	ServiceKinds []ServiceKind                  // nil: DefaultServiceKinds
	ServiceZone  string                         // managed services get names below it on the routers; "": none
	Uptime       func() (string, time.Duration) // names this boot of the machine and how long it is up; nil: of this process
}

// Core is the one set of rules under every dialect. Its methods may be called from any goroutine.
type Core struct {
	Options
	outputs outputs
	healer  healer
	filesMu sync.RWMutex // held to delete a file, shared to store one until something names it

	volumeTurns sync.Map // name -> chan struct{}, closed when the request that is about it has ended
}

// New builds a Core.
func New(o Options) *Core {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Clock == nil {
		o.Clock = time.Now
	}
	if o.AppCloud == "" {
		o.AppCloud = "default"
	}
	if o.Clouds != nil {
		o.AppCloud = o.Clouds.Canonical(o.AppCloud)
	}
	if o.Types == nil {
		o.Types = DefaultTypes()
	}
	if o.Profiles == nil {
		o.Profiles = DefaultSnapshotProfiles()
	}
	if o.MaxSnapshots == 0 {
		o.MaxSnapshots = 10
	}
	if o.ServiceKinds == nil {
		o.ServiceKinds = DefaultServiceKinds()
	}
	if o.Uptime == nil {
		boot, start := randomHex(8), time.Now()
		o.Uptime = func() (string, time.Duration) { return boot, time.Since(start) }
	}
	if o.MaxDiskGB == 0 {
		o.MaxDiskGB = 1000
	}
	if o.PoolNodes == 0 {
		o.PoolNodes = 2
	}
	return &Core{Options: o}
}

// DefaultTypes lists the combinations of platform and database that the agents can really run.
func DefaultTypes() []AppType {
	return []AppType{
		{Name: "phpmysql", Platform: "php", PlatformLabel: "PHP", Engine: agentapi.EngineMySQL, EngineLabel: "MySQL"},
		{Name: "phppgsql", Platform: "php", PlatformLabel: "PHP", Engine: agentapi.EnginePostgreSQL, EngineLabel: "PostgreSQL"},
		{Name: "nodejspgsql", Platform: "nodejs", PlatformLabel: "Node.js", Engine: agentapi.EnginePostgreSQL, EngineLabel: "PostgreSQL"},
		{Name: "nodejsmysql", Platform: "nodejs", PlatformLabel: "Node.js", Engine: agentapi.EngineMySQL, EngineLabel: "MySQL"},
		{Name: "pythonmysql", Platform: "python", PlatformLabel: "Python", Engine: agentapi.EngineMySQL, EngineLabel: "MySQL"},
		{Name: "pythonpgsql", Platform: "python", PlatformLabel: "Python", Engine: agentapi.EnginePostgreSQL, EngineLabel: "PostgreSQL"},
		{Name: "rubymysql", Platform: "ruby", PlatformLabel: "Ruby", Engine: agentapi.EngineMySQL, EngineLabel: "MySQL"},
		{Name: "rubypgsql", Platform: "ruby", PlatformLabel: "Ruby", Engine: agentapi.EnginePostgreSQL, EngineLabel: "PostgreSQL"},
	}
}

// AppTypes lists what apps can be made of.
func (c *Core) AppTypes() []AppType { return c.Types }

// Definitions are the operations core starts and their steps, for the engine.
func (c *Core) Definitions() []operation.Definition {
	return slices.Concat(c.appOperations(), c.updateOperations(), c.routeOperations(), c.certificateOperations(), c.rollOperations(), c.nodeOperations(), c.serviceOperations(),
		c.applicationOperations(), c.instanceOperations(), c.snapshotOperations())
}

func (c *Core) now() time.Time { return c.Clock().UTC().Truncate(time.Microsecond) }

func (c *Core) appCloud() (Cloud, error) {
	cloud, ok := c.Clouds.Cloud(c.AppCloud)
	if !ok {
		return nil, Errorf(Internal, ObjCloud, "the cloud of apps, %q, is not configured", c.AppCloud)
	}
	return cloud, nil
}

// Version identifies the state of everything that is stored: while it stays the same, so does every answer that depends on
// nothing else. ok is false when the store cannot tell.
func (c *Core) Version(ctx context.Context) (version int64, ok bool) {
	s, can := c.Store.(interface {
		Version(context.Context) (int64, error)
	})
	if !can {
		return 0, false
	}
	version, err := s.Version(ctx)
	return version, err == nil
}

// Sizes lists the sizes apps can have.
func (c *Core) Sizes(ctx context.Context) ([]Size, error) {
	cloud, err := c.appCloud()
	if err != nil {
		return nil, err
	}
	return cloud.Sizes(ctx)
}

// Locations lists where apps can run.
func (c *Core) Locations(ctx context.Context) ([]Location, error) {
	cloud, err := c.appCloud()
	if err != nil {
		return nil, err
	}
	return cloud.Locations(ctx)
}

// refused writes the audit record of a refused call, also when the caller is gone; accepted ones are recorded in their own
// transaction. subject is what the caller asked for: a name, or a number as numbered writes it; it may be hostile.
func (c *Core) refused(ctx context.Context, p Principal, action, subject string, err error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer cancel()
	rec := c.auditRecord(p, action, clip(subject), "", string(KindOf(err)))
	if werr := c.Store.Update(ctx, func(tx Tx) error { return tx.Audit(rec) }); werr != nil {
		c.Log.Error("audit record lost", "action", action, "err", werr)
	}
}

// numbered is the subject of a refused call that named an object by its number.
func numbered(num int64) string { return "#" + strconv.FormatInt(num, 10) }

func (c *Core) auditRecord(p Principal, action, subject, operationID, outcome string) AuditRecord {
	return AuditRecord{At: c.now(), AccountID: p.Account.ID, Dialect: p.Dialect, From: p.From, Action: action,
		Subject: subject, OperationID: operationID, Outcome: outcome}
}

// known refuses callers without an account: to the store no account means every account.
func known(p Principal) error {
	if p.Anonymous() {
		return Errorf(Unauthenticated, ObjAccount, "a credential is needed")
	}
	return nil
}

func view[T any](ctx context.Context, s Store, fn func(Reader) (T, error)) (T, error) {
	var v T
	err := s.View(ctx, func(r Reader) error {
		var err error
		v, err = fn(r)
		return err
	})
	return v, err
}

func randomHex(bytes int) string {
	b := make([]byte, bytes)
	rand.Read(b)
	return hex.EncodeToString(b)
}

func randomBytes(n int) []byte {
	b := make([]byte, n)
	rand.Read(b)
	return b
}

// randomWord makes a password of letters and digits with more than 128 bits of chance.
func randomWord() Secret {
	const letters = "abcdefghijkmnpqrstuvwxyzABCDEFGHJKLMNPQRSTUVWXYZ23456789"
	var b strings.Builder
	for _, x := range randomBytes(24) {
		b.WriteByte(letters[int(x)%len(letters)])
	}
	return Secret(b.String())
}

// node loads a node again: another step may have changed it.
func (c *Core) node(ctx context.Context, id NodeID) (Node, error) {
	return view(ctx, c.Store, func(r Reader) (Node, error) { return r.Node(id) })
}

func (c *Core) updateNode(ctx context.Context, id NodeID, change func(*Node)) (Node, error) {
	var n Node
	err := c.Store.Update(ctx, func(tx Tx) error {
		var err error
		if n, err = tx.Node(id); err != nil {
			return err
		}
		change(&n)
		return tx.PutNode(&n)
	})
	return n, err
}

func isNotFound(err error) bool { return err != nil && KindOf(err) == NotFound }

// classified gives an error without a kind one, so that steps retry what may pass.
func classified(err error, kind Kind, object Object, doing string) error {
	if err == nil {
		return nil
	}
	if e, ok := errors.AsType[*Error](err); ok {
		return Wrap(e.Kind, e.Object, err, "%s", doing)
	}
	if errors.Is(err, context.DeadlineExceeded) {
		return Wrap(Unavailable, object, err, "%s", doing)
	}
	return Wrap(kind, object, err, "%s", doing)
}
