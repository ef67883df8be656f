package core

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/reeve-paas/reeve/coordinator/operation"
)

// Kinds of the operations with snapshots.
const (
	OpSnapshotCreate = "snapshot.create"
	OpSnapshotDelete = "snapshot.delete"
	OpAppRestore     = "app.restore"
)

const (
	copyTimeout     = 30 * time.Minute // of a whole volume
	snapshotRetry   = 10 * time.Minute // until a schedule whose snapshot failed is due again
	snapshotsAtOnce = 4                // that schedules start, beside which hosts have their other work to do
)

// SnapshotProfile says when snapshots of an app's volume are taken, and how many are kept.
type SnapshotProfile struct {
	ID   int64  // positive
	Name string // e.g. "paas_normal"
	// QuotaFactor is what the disk of an app with the profile counts for, as a multiple of its size.
	QuotaFactor float64
	Schedules   []SnapshotSchedule
}

// SnapshotSchedule wants a snapshot each time a period is over, and keeps the newest ones it asked for.
type SnapshotSchedule struct {
	Name  string
	Every time.Duration
	Keep  int
}

// Kept is how many snapshots there are of an app that has the profile for long.
func (p SnapshotProfile) Kept() int {
	n := 0
	for _, s := range p.Schedules {
		n += s.Keep
	}
	return n
}

// DefaultSnapshotProfiles are those of a Core without configured ones.
func DefaultSnapshotProfiles() []SnapshotProfile {
	const day = 24 * time.Hour
	return []SnapshotProfile{
		{ID: 1, Name: "paas_normal", QuotaFactor: 1.3, Schedules: []SnapshotSchedule{
			{Name: "daily", Every: day, Keep: 1}, {Name: "weekly", Every: 7 * day, Keep: 1}, {Name: "weekly4", Every: 28 * day, Keep: 1}}},
		{ID: 2, Name: "paas_daily", QuotaFactor: 1.7, Schedules: []SnapshotSchedule{{Name: "daily", Every: day, Keep: 7}}},
	}
}

// SnapshotState is where a snapshot is in its life.
//
//	creating -> ready -> deleting -> (gone);  creating -> (gone)
type SnapshotState string

// The states of a snapshot.
const (
	SnapshotCreating SnapshotState = "creating"
	SnapshotReady    SnapshotState = "ready"
	SnapshotDeleting SnapshotState = "deleting"
)

// Snapshot is a copy of an app's volume as it was at one moment.
type Snapshot struct {
	ID        string
	Num       int64
	AppID     AppID
	Cloud     string
	CloudID   string // the provider's id; "" until it is known
	Key       string
	Schedules []string // that asked for it; none: a person did, and it stays until somebody deletes it
	SizeBytes int64    // of the volume
	State     SnapshotState
	CreatedAt time.Time
}

// SnapshotTurn is when a schedule of an app's profile is due next.
type SnapshotTurn struct {
	AppID    AppID
	Schedule string
	DueAt    time.Time
}

// AppSnapshot is a snapshot with the number of its app.
type AppSnapshot struct {
	Snapshot
	AppNum int64
}

func (c *Core) snapshotOperations() []operation.Definition {
	return []operation.Definition{
		{Kind: OpSnapshotCreate, Steps: []operation.Step{
			{Name: "wait for others", Do: c.waitForOthers, Undo: c.dropSnapshot, Timeout: 10 * time.Minute},
			{Name: "copy volume", Do: c.takeSnapshot, Timeout: copyTimeout},
			{Name: "drop old snapshots", Do: c.dropOldSnapshots, Timeout: 10 * time.Minute},
		}},
		{Kind: OpSnapshotDelete, Steps: []operation.Step{
			{Name: "wait for others", Do: c.waitForOthers, Timeout: 10 * time.Minute},
			{Name: "destroy snapshot", Do: c.dropSnapshot, Timeout: 5 * time.Minute},
		}},
		// The volume that was there stays until the one of the snapshot serves: up to then all of it can be taken back.
		{Kind: OpAppRestore, Steps: []operation.Step{
			{Name: "wait for others", Do: c.waitForOthers, Undo: c.dropNewVolume, Timeout: 10 * time.Minute},
			{Name: "make volume", Do: c.makeRestored, Timeout: copyTimeout},
			{Name: "unmount volume", Do: c.unmountOld, Undo: c.mountOld, Timeout: 3 * time.Minute},
			{Name: "exchange volumes", Do: c.attachNew, Undo: c.attachOld, Timeout: 3 * time.Minute},
			{Name: "mount new volume", Do: c.mountNew, Undo: c.unmountNew, Timeout: 10 * time.Minute},
			{Name: "start services", Do: c.startServices, Timeout: 3 * time.Minute},
			{Name: "destroy old volume", Do: c.destroyReplaced, Timeout: 5 * time.Minute},
		}},
	}
}

// SnapshotProfiles lists the profiles that apps can have: none where the cloud of apps takes no snapshots.
func (c *Core) SnapshotProfiles() []SnapshotProfile {
	if cloud, err := c.appCloud(); err != nil || !cloud.Info().Snapshots {
		return nil
	}
	return c.Profiles
}

// SnapshotProfile finds a profile by its id.
func (c *Core) SnapshotProfile(id int64) (SnapshotProfile, bool) {
	i := slices.IndexFunc(c.Profiles, func(p SnapshotProfile) bool { return p.ID == id })
	if i < 0 || id == 0 {
		return SnapshotProfile{}, false
	}
	return c.Profiles[i], true
}

// checkProfile finds what is wrong with a profile of an app with this much disk; 0 is none.
func (c *Core) checkProfile(id int64, diskGB int) []Problem {
	if id == 0 {
		return nil
	}
	i := slices.IndexFunc(c.SnapshotProfiles(), func(p SnapshotProfile) bool { return p.ID == id })
	if i < 0 {
		return []Problem{{Field: "snapshot_profile", Code: ProblemNotFound, Msg: fmt.Sprintf("Snapshot profile '%d' doesn't exist.", id)}}
	}
	if p := c.Profiles[i]; float64(diskGB)*max(p.QuotaFactor, 1) > float64(c.MaxDiskGB) {
		return []Problem{{Field: "quantity", Code: ProblemTooBig, Msg: "with its snapshots the disk would be larger than is allowed"}}
	}
	return nil
}

// setProfile gives an app another profile.
func (c *Core) setProfile(tx Tx, app *App, id int64) error {
	if app.SnapshotProfile == id {
		return nil
	}
	app.SnapshotProfile = id
	if err := tx.DeleteSnapshotTurns(app.ID); err != nil {
		return err
	}
	return c.putTurns(tx, *app)
}

// putTurns makes the schedules of an app's profile due at once; from then on they are each period.
func (c *Core) putTurns(tx Tx, app App) error {
	profile, _ := c.SnapshotProfile(app.SnapshotProfile)
	for _, s := range profile.Schedules {
		if err := tx.PutSnapshotTurn(SnapshotTurn{AppID: app.ID, Schedule: s.Name, DueAt: c.now()}); err != nil {
			return err
		}
	}
	return nil
}

// Snapshots lists the snapshots of the caller's apps by ascending number.
func (c *Core) Snapshots(ctx context.Context, p Principal) ([]AppSnapshot, error) {
	if err := known(p); err != nil {
		return nil, err
	}
	var all []AppSnapshot
	err := c.Store.View(ctx, func(r Reader) error {
		all = nil
		list, err := r.Snapshots(p.Account.ID, "")
		if err != nil {
			return err
		}
		nums := map[AppID]int64{}
		for _, s := range list {
			if nums[s.AppID] == 0 {
				app, err := r.App(s.AppID)
				if err != nil {
					return err
				}
				nums[s.AppID] = app.Num
			}
			all = append(all, AppSnapshot{s, nums[s.AppID]})
		}
		return nil
	})
	return all, err
}

// Snapshot is one snapshot of an app of the caller. What is not theirs does not exist.
func (c *Core) Snapshot(ctx context.Context, p Principal, num int64) (AppSnapshot, error) {
	return view(ctx, c.Store, func(r Reader) (AppSnapshot, error) {
		s, app, err := ownSnapshot(r, p, num)
		return AppSnapshot{s, app.Num}, err
	})
}

func ownSnapshot(r Reader, p Principal, num int64) (Snapshot, App, error) {
	missing := Errorf(NotFound, ObjSnapshot, "Snapshot '%d' doesn't exist.", num)
	if err := known(p); err != nil {
		return Snapshot{}, App{}, err
	}
	s, err := r.SnapshotByNum(num)
	if isNotFound(err) {
		return Snapshot{}, App{}, missing
	}
	if err != nil {
		return Snapshot{}, App{}, err
	}
	app, err := r.App(s.AppID)
	if err == nil {
		app, err = ownApp(r, p, app.Num)
	}
	if isNotFound(err) {
		return Snapshot{}, App{}, missing
	}
	return s, app, err
}

// CreateSnapshot copies an app's volume as it is now. The copy is what a power cut would have left: databases recover from
// it, and no transaction that was committed before is lost. It stays until it is deleted.
//
// Errors: not_found, busy (the app's state), quota, unsupported (the cloud takes none)
// Effects: programs that write to the volume may have to wait while it is copied
func (c *Core) CreateSnapshot(ctx context.Context, p Principal, appNum int64) (s AppSnapshot, op operation.Record, err error) {
	err = c.Store.Update(ctx, func(tx Tx) error {
		app, err := ownApp(tx, p, appNum)
		if err != nil {
			return err
		}
		if err := changeable(app); err != nil {
			return err
		}
		have, err := tx.Snapshots("", app.ID)
		if err != nil {
			return err
		}
		have = slices.DeleteFunc(have, func(s Snapshot) bool { return len(s.Schedules) > 0 })
		if len(have) >= c.MaxSnapshots {
			return Errorf(Quota, ObjApp, "the app has its %d snapshots already; delete one", c.MaxSnapshots)
		}
		s.AppNum = app.Num
		s.Snapshot, op, err = c.enqueueSnapshot(tx, p, app, nil)
		return err
	})
	if err != nil {
		c.refused(ctx, p, OpSnapshotCreate, "", err)
	}
	return s, op, err
}

func (c *Core) enqueueSnapshot(tx Tx, p Principal, app App, schedules []string) (Snapshot, operation.Record, error) {
	if _, err := c.snapshotCloud(app.Cloud); err != nil {
		return Snapshot{}, operation.Record{}, err
	}
	ap, err := c.changeParams(tx, app)
	if err != nil {
		return Snapshot{}, operation.Record{}, err
	}
	if ap.VolumeID == "" {
		return Snapshot{}, operation.Record{}, Errorf(Unsupported, ObjApp, "the app has no volume of its own")
	}
	s := Snapshot{ID: "snap-" + randomHex(8), AppID: app.ID, Cloud: app.Cloud, Schedules: schedules, State: SnapshotCreating,
		SizeBytes: int64(app.BaseDiskGB+app.ExtraGB) << 30, CreatedAt: c.now()}
	s.Key = s.ID
	if err := tx.PutSnapshot(&s); err != nil {
		return Snapshot{}, operation.Record{}, err
	}
	ap.SnapshotID, ap.SnapshotNum = s.ID, s.Num
	op, err := c.enqueueApp(tx, p, OpSnapshotCreate, OpSnapshotCreate, ap, nil)
	return s, op, err
}

// DeleteSnapshot asks for the end of a snapshot.
//
// Errors: not_found, busy (it is being made or deleted)
func (c *Core) DeleteSnapshot(ctx context.Context, p Principal, num int64) (op operation.Record, err error) {
	op, err = c.withSnapshot(ctx, p, num, OpSnapshotDelete, func(tx Tx, s Snapshot, app App, ap *appParams) error {
		s.State = SnapshotDeleting
		return tx.PutSnapshot(&s)
	})
	return op, err
}

// RestoreApp brings an app's volume back to what it was when the snapshot was taken: files and databases, with their users
// and passwords. What was written since is lost when the operation completed, and there as before when it did not.
//
// Errors: not_found, busy (the app's or the snapshot's state, or another change)
// Effects: the app's services are down while its volumes are exchanged
func (c *Core) RestoreApp(ctx context.Context, p Principal, num int64) (op operation.Record, err error) {
	return c.withSnapshot(ctx, p, num, OpAppRestore, func(tx Tx, _ Snapshot, app App, ap *appParams) error {
		if err := idle(tx, app); err != nil {
			return err
		}
		if ap.VolumeID == "" || ap.NodeID == "" {
			return Errorf(Busy, ObjApp, "the app has no volume on a node")
		}
		vol := Volume{ID: "vol-" + randomHex(8), AppID: app.ID, Cloud: app.Cloud, SizeBytes: int64(app.BaseDiskGB+app.ExtraGB) << 30, CreatedAt: c.now()}
		vol.Key = vol.ID
		ap.NewVolumeID = vol.ID
		return tx.PutVolume(&vol)
	})
}

// withSnapshot starts an operation with a snapshot that is ready.
func (c *Core) withSnapshot(ctx context.Context, p Principal, num int64, kind string, prepare func(Tx, Snapshot, App, *appParams) error) (op operation.Record, err error) {
	err = c.Store.Update(ctx, func(tx Tx) error {
		s, app, err := ownSnapshot(tx, p, num)
		if err != nil {
			return err
		}
		if err := changeable(app); err != nil {
			return err
		}
		if s.State != SnapshotReady {
			return Errorf(Busy, ObjSnapshot, "the snapshot is being made or deleted")
		}
		ap, err := c.changeParams(tx, app)
		if err != nil {
			return err
		}
		ap.SnapshotID, ap.SnapshotNum = s.ID, s.Num
		if err := prepare(tx, s, app, &ap); err != nil {
			return err
		}
		op, err = c.enqueueApp(tx, p, kind, kind, ap, nil)
		return err
	})
	if err != nil {
		c.refused(ctx, p, kind, "", err)
	}
	return op, err
}

// TakeDueSnapshots starts the snapshots that schedules want, a few at a time; those of an app that cannot have one now stay
// due. When several schedules of an app are due, one snapshot serves them all. A period that is over without a coordinator
// is not made up for more than once.
func (c *Core) TakeDueSnapshots(ctx context.Context) error {
	var due []AppID
	room := snapshotsAtOnce
	err := c.Store.View(ctx, func(r Reader) (err error) {
		if due, err = r.DueSnapshots(c.now()); err != nil || len(due) == 0 {
			return err
		}
		running, err := r.Operations(OperationFilter{Unfinished: true})
		for _, op := range running {
			if op.Kind == OpSnapshotCreate {
				room--
			}
		}
		return err
	})
	if err != nil {
		return err
	}
	var errs []error
	for _, id := range due {
		if room <= 0 {
			break
		}
		taken := false
		errs = append(errs, c.Store.Update(ctx, func(tx Tx) (err error) {
			taken, err = c.takeDue(tx, id)
			return err
		}))
		if taken {
			room--
		}
	}
	return errors.Join(errs...)
}

func (c *Core) takeDue(tx Tx, id AppID) (taken bool, err error) {
	app, err := tx.App(id)
	if err != nil || app.seen() != AppRunning {
		return false, ignoreNotFound(err)
	}
	ops, err := tx.Operations(OperationFilter{Subject: string(id), Unfinished: true})
	if err != nil || len(ops) > 0 {
		return false, err
	}
	turns, err := tx.SnapshotTurns(id)
	if err != nil {
		return false, err
	}
	if err := tx.DeleteSnapshotTurns(id); err != nil { // those of schedules that the profile has no more, too
		return false, err
	}
	now := c.now()
	profile, _ := c.SnapshotProfile(app.SnapshotProfile)
	var schedules []string
	for _, s := range profile.Schedules {
		turn := SnapshotTurn{AppID: id, Schedule: s.Name, DueAt: now}
		if i := slices.IndexFunc(turns, func(t SnapshotTurn) bool { return t.Schedule == s.Name }); i >= 0 {
			turn = turns[i]
		}
		if !turn.DueAt.After(now) {
			schedules = append(schedules, s.Name)
			turn.DueAt = turn.DueAt.Add((now.Sub(turn.DueAt)/s.Every + 1) * s.Every)
		}
		if err := tx.PutSnapshotTurn(turn); err != nil {
			return false, err
		}
	}
	if len(schedules) == 0 {
		return false, nil
	}
	_, _, err = c.enqueueSnapshot(tx, Principal{Account: Account{ID: app.AccountID}, Via: "schedule"}, app, schedules)
	return err == nil, err
}
