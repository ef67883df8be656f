package core

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"slices"
	"strings"
)

// maxNodeSnapshots is how many the agents of one app, or of one account's nodes in a cloud, may have.
const maxNodeSnapshots = 32

// A snapshot that an agent asked for has no row of its own: its key, which its cloud keeps, says whose it is and finds it again.
// The key is of two parts, whose and which.

// snapshotScope is the part of a key that all snapshots share that a node may touch: the rule of owns.
func (n Node) snapshotScope() string {
	if n.AppID != "" {
		return appSnapshotScope(n.AppID)
	}
	return "agent-" + shortHash("account\n"+string(n.AccountID)+"\n"+n.Cloud) + "-"
}

func appSnapshotScope(id AppID) string { return "agent-" + shortHash("app\n"+string(id)) + "-" }

func shortHash(text string) string {
	sum := sha256.Sum256([]byte(text))
	return hex.EncodeToString(sum[:8])
}

func (n Node) snapshotKey(key string) string {
	return n.snapshotScope() + shortHash(string(n.ID)+"\n"+key)
}

// snapshotsFor are the snapshots of a node's cloud that it may touch.
func (c *Core) snapshotsFor(ctx context.Context, n Node, kind string) (SnapshotCloud, []CloudSnapshot, error) {
	vc, err := c.volumesFor(n, kind)
	if err != nil {
		return nil, nil, err
	}
	sc, can := vc.(SnapshotCloud)
	if !can || !vc.Info().Snapshots {
		return nil, nil, Errorf(Unsupported, ObjVolume, "the cloud of this node makes no snapshots")
	}
	all, err := sc.Snapshots(ctx)
	if err != nil {
		return nil, nil, classified(err, Unavailable, ObjVolume, "look for snapshots")
	}
	return sc, slices.DeleteFunc(slices.Clone(all), func(s CloudSnapshot) bool { return !strings.HasPrefix(s.Key, n.snapshotScope()) }), nil
}

// named says that a change is about a snapshot: by its id, or by the key that the node made it under.
func (ch VolumeChange) named(n Node, s CloudSnapshot) bool {
	if ch.SnapshotID != "" {
		return s.ID == ch.SnapshotID
	}
	return ch.SnapshotKey != "" && s.Key == n.snapshotKey(ch.SnapshotKey)
}

// SnapshotNodeVolume copies a volume for the agent of a node, or finds the copy that it made under the same key. It returns once
// the copy is whole.
//
// Errors: those of AttachNodeVolume, unsupported, quota, invalid (no key)
func (c *Core) SnapshotNodeVolume(ctx context.Context, p Principal, n Node, ch VolumeChange) (CloudSnapshot, error) {
	if !goodMessageID.MatchString(ch.SnapshotKey) {
		return CloudSnapshot{}, Errorf(Invalid, ObjVolume, "a new snapshot needs a key")
	}
	ctx, cancel := context.WithTimeout(ctx, copyTimeout)
	defer cancel()
	ch.SnapshotID = ""
	sc, have, err := c.snapshotsFor(ctx, n, ch.Kind)
	if err != nil {
		return CloudSnapshot{}, err
	}
	if len(have) >= maxNodeSnapshots && !slices.ContainsFunc(have, func(s CloudSnapshot) bool { return ch.named(n, s) }) {
		return CloudSnapshot{}, Errorf(Quota, ObjVolume, "there are %d snapshots of this node's app or account; destroy one first", len(have))
	}
	var s CloudSnapshot
	_, err = c.changeVolume(ctx, p, n, "volume.snapshot", ch, func(ctx context.Context, _ VolumeCloud, _ Volume, cv CloudVolume) (CloudVolume, error) {
		s, err = sc.SnapshotVolume(ctx, n.snapshotKey(ch.SnapshotKey), cv.ID)
		return cv, classified(err, Unavailable, ObjVolume, "copy the volume")
	})
	return s, err
}

// DestroyNodeSnapshot deletes a snapshot; one that is not there, or not the node's, is no error and nothing is done.
//
// Errors: those of SnapshotNodeVolume
func (c *Core) DestroyNodeSnapshot(ctx context.Context, p Principal, n Node, ch VolumeChange) error {
	ctx, done, err := c.volumeTurn(ctx, n, ch)
	if err != nil {
		return err
	}
	defer done()
	sc, have, err := c.snapshotsFor(ctx, n, ch.Kind)
	if err != nil {
		return err
	}
	if err := c.Store.Update(ctx, func(tx Tx) error { return c.noteRequest(tx, p, n, "volume.snapshot.destroy", ch) }); err != nil {
		return err
	}
	for _, s := range have {
		if !ch.named(n, s) {
			continue
		}
		if err := sc.DestroySnapshot(ctx, s.ID); err != nil {
			return classified(err, Unavailable, ObjVolume, "destroy the snapshot")
		}
	}
	return nil
}

// makeNodeVolume is the cloud's part of CreateNodeVolume: an empty volume, or one with what is on a snapshot.
func (c *Core) makeNodeVolume(ctx context.Context, vc VolumeCloud, n Node, ch VolumeChange, row Volume) (CloudVolume, error) {
	if ch.SnapshotID == "" {
		return vc.CreateVolume(ctx, row.Key, row.SizeBytes)
	}
	sc, have, err := c.snapshotsFor(ctx, n, ch.Kind)
	if err != nil {
		return CloudVolume{}, err
	}
	if !slices.ContainsFunc(have, func(s CloudSnapshot) bool { return ch.named(n, s) }) {
		return CloudVolume{}, Errorf(Invalid, ObjVolume, "there is no such snapshot")
	}
	return sc.RestoreSnapshot(ctx, row.Key, ch.SnapshotID, row.SizeBytes)
}

// destroyAgentSnapshots removes what the agents of an app's nodes copied. An app that is deleted leaves nothing that costs money.
func (c *Core) destroyAgentSnapshots(ctx context.Context, id AppID, cloud string) error {
	vc, err := c.volumeCloud(cloud)
	if err != nil {
		return err
	}
	sc, can := vc.(SnapshotCloud)
	if !can || !vc.Info().Snapshots {
		return nil
	}
	all, err := sc.Snapshots(ctx)
	if err != nil {
		return classified(err, Unavailable, ObjVolume, "look for snapshots")
	}
	for _, s := range all {
		if !strings.HasPrefix(s.Key, appSnapshotScope(id)) {
			continue
		}
		if err := sc.DestroySnapshot(ctx, s.ID); err != nil && !isNotFound(err) {
			return cloudFailure(err, Unavailable, ObjVolume, "destroy a snapshot")
		}
	}
	return nil
}
