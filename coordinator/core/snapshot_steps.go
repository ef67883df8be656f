package core

import (
	"cmp"
	"context"
	"slices"

	"github.com/reeve-paas/reeve/coordinator/operation"
)

func (c *Core) snapshotCloud(name string) (SnapshotCloud, error) {
	cloud, ok := c.Clouds.Cloud(name)
	if !ok {
		return nil, Errorf(NotFound, ObjCloud, "cloud %q is not configured any more; put it back to go on", name)
	}
	sc, ok := cloud.(SnapshotCloud)
	if !ok || !cloud.Info().Snapshots {
		return nil, Errorf(Unsupported, ObjCloud, "cloud %q takes no snapshots", name)
	}
	return sc, nil
}

// snapshotOf loads the snapshot of the operation and its cloud.
func (c *Core) snapshotOf(ctx context.Context, run *operation.Run) (appParams, Snapshot, SnapshotCloud, error) {
	var p appParams
	if err := run.Params(&p); err != nil {
		return p, Snapshot{}, nil, err
	}
	s, err := view(ctx, c.Store, func(r Reader) (Snapshot, error) { return r.Snapshot(p.SnapshotID) })
	if err != nil {
		return p, s, nil, err
	}
	cloud, err := c.snapshotCloud(s.Cloud)
	return p, s, cloud, err
}

func (c *Core) takeSnapshot(ctx context.Context, run *operation.Run) error {
	p, s, cloud, err := c.snapshotOf(ctx, run)
	if err != nil {
		return err
	}
	vol, err := view(ctx, c.Store, func(r Reader) (Volume, error) { return r.Volume(p.VolumeID) })
	if err != nil {
		return err
	}
	cs, err := cloud.SnapshotVolume(ctx, s.Key, vol.CloudID)
	if err != nil {
		return cloudFailure(err, Unavailable, ObjVolume, "copy the data volume")
	}
	s.CloudID, s.SizeBytes, s.State = cs.ID, cs.SizeBytes, SnapshotReady
	return c.Store.Update(ctx, func(tx Tx) error { return tx.PutSnapshot(&s) })
}

// dropSnapshot removes the operation's snapshot, whole or not. Schedules that wanted it are due again in a while.
func (c *Core) dropSnapshot(ctx context.Context, run *operation.Run) error {
	_, s, cloud, err := c.snapshotOf(ctx, run)
	if isNotFound(err) && s.ID == "" {
		return nil
	}
	if err != nil {
		return err
	}
	if err := c.destroySnapshot(ctx, cloud, s); err != nil || run.Operation.Kind != OpSnapshotCreate || len(s.Schedules) == 0 {
		return err
	}
	return c.Store.Update(ctx, func(tx Tx) error {
		turns, err := tx.SnapshotTurns(s.AppID)
		if err != nil {
			return err
		}
		for _, t := range turns {
			if again := c.now().Add(snapshotRetry); slices.Contains(s.Schedules, t.Schedule) && t.DueAt.After(again) {
				t.DueAt = again
				if err := tx.PutSnapshotTurn(t); err != nil {
					return err
				}
			}
		}
		return nil
	})
}

// destroySnapshot removes a snapshot from its cloud and forgets it. One that was never recorded is found by its key.
func (c *Core) destroySnapshot(ctx context.Context, cloud SnapshotCloud, s Snapshot) error {
	all, err := cloud.Snapshots(ctx)
	if err != nil {
		return classified(err, Unavailable, ObjVolume, "look for the snapshot")
	}
	for _, cs := range all {
		if cs.ID != s.CloudID && (cs.Key == "" || cs.Key != s.Key) {
			continue
		}
		if err := cloud.DestroySnapshot(ctx, cs.ID); err != nil && !isNotFound(err) {
			return cloudFailure(err, Unavailable, ObjVolume, "destroy the snapshot")
		}
	}
	return ignoreNotFound(c.Store.Update(ctx, func(tx Tx) error { return tx.DeleteSnapshot(s.ID) }))
}

// dropOldSnapshots destroys those that no schedule keeps any more. What fails here is made up for after the next snapshot.
func (c *Core) dropOldSnapshots(ctx context.Context, run *operation.Run) error {
	p, app, found, err := c.appOf(ctx, run)
	if err != nil || !found {
		return err
	}
	all, err := view(ctx, c.Store, func(r Reader) ([]Snapshot, error) { return r.Snapshots("", p.AppID) })
	if err != nil {
		return err
	}
	profile, _ := c.SnapshotProfile(app.SnapshotProfile)
	for _, s := range unkept(profile, all) {
		cloud, err := c.snapshotCloud(s.Cloud)
		if err == nil {
			err = c.destroySnapshot(ctx, cloud, s)
		}
		if err != nil {
			run.Log().Warn("an old snapshot stays for now", "snapshot", s.ID, "err", err)
		}
	}
	return nil
}

// unkept are the snapshots of all that schedules asked for, and none of the profile's schedules keeps.
func unkept(profile SnapshotProfile, all []Snapshot) []Snapshot {
	newest := slices.SortedFunc(slices.Values(all), func(a, b Snapshot) int { return cmp.Compare(b.Num, a.Num) })
	keep := map[string]bool{}
	for _, schedule := range profile.Schedules {
		left := schedule.Keep
		for _, s := range newest {
			if left > 0 && s.State == SnapshotReady && slices.Contains(s.Schedules, schedule.Name) {
				keep[s.ID] = true
				left--
			}
		}
	}
	return slices.DeleteFunc(newest, func(s Snapshot) bool { return keep[s.ID] || s.State != SnapshotReady || len(s.Schedules) == 0 })
}

// destroySnapshots removes all snapshots of an app that is deleted.
func (c *Core) destroySnapshots(ctx context.Context, run *operation.Run) error {
	p, _, _, err := c.appOf(ctx, run)
	if err != nil {
		return err
	}
	all, err := view(ctx, c.Store, func(r Reader) ([]Snapshot, error) { return r.Snapshots("", p.AppID) })
	if err != nil {
		return err
	}
	for _, s := range all {
		cloud, err := c.snapshotCloud(s.Cloud)
		if err != nil {
			return err
		}
		if err := c.destroySnapshot(ctx, cloud, s); err != nil {
			return err
		}
	}
	return nil
}
