package core

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"slices"
	"time"
)

const (
	maxNodeVolumes    = 32       // that the agents of one app, or of one account's nodes in a cloud, may have
	maxNodeVolumeSize = 16 << 40 // bytes
	volumeCallTimeout = 2 * time.Minute
)

// volumeKinds is how agents call the volumes of a cloud, by the type of its driver. Others are called as the driver is.
var volumeKinds = map[string]string{"ec2": "ebs", "openstack": "cinder", "cloudstack": "csvol", "gce": "gce_persistent"}

// VolumeRef names a volume that an agent made: by its cloud's id, or by the key it was made under.
type VolumeRef struct{ Kind, ID, Key string }

// NodeVolume is a volume as the node that asks sees it. Device is "" unless it is Here.
type NodeVolume struct {
	CloudVolume
	Here bool // attached to that node
}

// VolumeChange is what an agent asks to be done about a volume. Request names the request: a repetition of its bytes is told
// by it and refused.
type VolumeChange struct {
	VolumeRef
	Request     string
	SizeBytes   int64  // to make it with, or to grow it to; 0 with a snapshot: its size
	SnapshotID  string // to make it of, or to destroy
	SnapshotKey string // under which a snapshot is made, and found
}

// VolumeKind is how the agent of a node calls the volumes it may ask for; "" when its cloud has none for it.
func (c *Core) VolumeKind(n Node) string {
	vc, err := c.volumeCloud(n.Cloud)
	if err != nil || !vc.Info().Volumes || n.CloudID == "" {
		return ""
	}
	kind := vc.Info().Type
	if agents, known := volumeKinds[kind]; known {
		return agents
	}
	return kind
}

// owns is the one rule about which volumes the agent of a node may touch: those that the agents of its app's nodes made,
// or, of a node without an app, those of its account's other such nodes in its cloud. What an operation made is not theirs.
func (n Node) owns(v Volume) bool {
	return v.MadeBy != "" && v.Cloud == n.Cloud && v.AppID == n.AppID && (n.AppID != "" || v.AccountID == n.AccountID)
}

// nodeKey is the key under which a cloud makes what an agent named by a key of its own. It says nothing to others.
func nodeKey(n Node, key string) string {
	sum := sha256.Sum256([]byte(string(n.ID) + "\n" + key))
	return "agent-" + hex.EncodeToString(sum[:16])
}

func (v VolumeRef) names(n Node, row Volume) bool {
	if v.ID != "" {
		return row.CloudID == v.ID
	}
	return v.Key != "" && row.MadeBy == n.ID && row.Key == nodeKey(n, v.Key)
}

// volumesFor is the cloud of a node, if it has volumes of this kind.
func (c *Core) volumesFor(n Node, kind string) (VolumeCloud, error) {
	has := c.VolumeKind(n)
	switch {
	case has == "":
		return nil, Errorf(Unsupported, ObjVolume, "the cloud of this node has no volumes")
	case has != kind:
		return nil, Errorf(Invalid, ObjVolume, "the cloud of this node has volumes of type %s, not %s", has, clip(kind))
	}
	return c.volumeCloud(n.Cloud)
}

// findVolume looks a volume up that a node may touch: its row, and what the cloud has of it.
//
// Errors: not_found (no row; or a row, which is returned then, of a volume that the cloud does not have)
func (c *Core) findVolume(ctx context.Context, vc VolumeCloud, n Node, ref VolumeRef) (row Volume, cv CloudVolume, err error) {
	rows, err := view(ctx, c.Store, func(r Reader) ([]Volume, error) { return r.VolumesMade(n.Cloud) })
	if err != nil {
		return row, cv, err
	}
	i := slices.IndexFunc(rows, func(v Volume) bool { return n.owns(v) && ref.names(n, v) })
	if i < 0 {
		return row, cv, Errorf(NotFound, ObjVolume, "there is no such volume")
	}
	all, err := vc.Volumes(ctx)
	if err != nil {
		return rows[i], cv, classified(err, Unavailable, ObjVolume, "look for the volume")
	}
	j := slices.IndexFunc(all, func(v CloudVolume) bool {
		return v.ID == rows[i].CloudID || v.Key != "" && v.Key == rows[i].Key
	})
	if j < 0 {
		return rows[i], cv, Errorf(NotFound, ObjVolume, "there is no such volume")
	}
	return rows[i], all[j], nil
}

func seenBy(n Node, cv CloudVolume) NodeVolume {
	v := NodeVolume{CloudVolume: cv, Here: cv.NodeID == n.CloudID}
	if !v.Here {
		v.Device = ""
	}
	return v
}

// NodeVolume describes a volume to the agent of a node.
//
// Errors: not_found (also what it may not touch), unsupported, invalid (the kind), unavailable
func (c *Core) NodeVolume(ctx context.Context, n Node, ref VolumeRef) (NodeVolume, error) {
	vc, err := c.volumesFor(n, ref.Kind)
	if err != nil {
		return NodeVolume{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, volumeCallTimeout)
	defer cancel()
	_, cv, err := c.findVolume(ctx, vc, n, ref)
	return seenBy(n, cv), err
}

// noteRequest refuses a change that was asked for before, and records this one.
func (c *Core) noteRequest(tx Tx, p Principal, n Node, action string, ch VolumeChange) error {
	if !goodMessageID.MatchString(ch.Request) {
		return Errorf(Invalid, ObjVolume, "a request needs a name")
	}
	now := c.now()
	if err := tx.ForgetMessages(n.ID, now.Add(-keepMessageIDs)); err != nil {
		return err
	}
	fresh, err := tx.NoteMessage(n.ID, ch.Request, now)
	if err != nil {
		return err
	}
	if !fresh {
		return Errorf(Forbidden, ObjVolume, "the request was sent before")
	}
	p.Account.ID = n.AccountID
	subject := cmp.Or(ch.ID, ch.Key, ch.SnapshotID, ch.SnapshotKey)
	return tx.Audit(c.auditRecord(p, action, string(n.ID)+" "+clip(subject), clip(ch.Request), "accepted"))
}

// volumeTurn waits until no other request of a node is about the same volume or snapshot, by the name that this one calls it. From
// there on the request is carried out whole, also when the agent that asked is killed: the next agent takes back what it noted
// under that name, and must find what there is of it.
func (c *Core) volumeTurn(ctx context.Context, n Node, ch VolumeChange) (whole context.Context, done func(), err error) {
	name := string(n.ID) + "\n" + cmp.Or(ch.SnapshotKey, ch.ID, ch.Key, ch.SnapshotID)
	turn := make(chan struct{})
	for {
		taken, loaded := c.volumeTurns.LoadOrStore(name, turn)
		if !loaded {
			break
		}
		select {
		case <-taken.(chan struct{}):
		case <-ctx.Done():
			return nil, nil, Wrap(Unavailable, ObjVolume, ctx.Err(), "wait for an earlier request")
		}
	}
	whole, cancel := context.WithTimeout(context.WithoutCancel(ctx), copyTimeout)
	return whole, func() {
		cancel()
		c.volumeTurns.Delete(name)
		close(turn)
	}, nil
}

// CreateNodeVolume makes a volume, empty or of a snapshot, for the agent of a node, or finds the one that it made under the same key. The row is
// there before the volume is, so that nothing is made that nobody knows of.
//
// Errors: invalid (kind, key, size), quota, unsupported, unavailable, forbidden (a repeated request)
func (c *Core) CreateNodeVolume(ctx context.Context, p Principal, n Node, ch VolumeChange) (NodeVolume, error) {
	vc, err := c.volumesFor(n, ch.Kind)
	switch {
	case err != nil:
		return NodeVolume{}, err
	case !goodMessageID.MatchString(ch.Key):
		return NodeVolume{}, Errorf(Invalid, ObjVolume, "a new volume needs a key")
	case ch.SizeBytes < 0 || ch.SizeBytes == 0 && ch.SnapshotID == "" || ch.SizeBytes > maxNodeVolumeSize:
		return NodeVolume{}, Errorf(Invalid, ObjVolume, "a volume has more than 0 and at most %d bytes", int64(maxNodeVolumeSize))
	}
	ch.ID, ch.SnapshotKey = "", ""
	ctx, done, err := c.volumeTurn(ctx, n, ch)
	if err != nil {
		return NodeVolume{}, err
	}
	defer done()
	var row Volume
	err = c.Store.Update(ctx, func(tx Tx) error {
		if err := c.noteRequest(tx, p, n, "volume.create", ch); err != nil {
			return err
		}
		rows, err := tx.VolumesMade(n.Cloud)
		if err != nil {
			return err
		}
		rows = slices.DeleteFunc(rows, func(v Volume) bool { return !n.owns(v) })
		if i := slices.IndexFunc(rows, func(v Volume) bool { return ch.names(n, v) }); i >= 0 {
			row = rows[i]
			return nil
		}
		if len(rows) >= maxNodeVolumes {
			return Errorf(Quota, ObjVolume, "there are %d volumes of this node's app or account; destroy one first", len(rows))
		}
		row = Volume{ID: "vol-" + randomHex(8), AppID: n.AppID, AccountID: n.AccountID, MadeBy: n.ID, Cloud: n.Cloud, Key: nodeKey(n, ch.Key),
			SizeBytes: ch.SizeBytes, CreatedAt: c.now()}
		return tx.PutVolume(&row)
	})
	if err != nil {
		return NodeVolume{}, err
	}
	cv, err := c.makeNodeVolume(ctx, vc, n, ch, row)
	if err != nil {
		return NodeVolume{}, classified(err, Unavailable, ObjVolume, "create the volume")
	}
	row.CloudID, row.SizeBytes = cv.ID, cv.SizeBytes
	return seenBy(n, cv), c.Store.Update(ctx, func(tx Tx) error { return tx.PutVolume(&row) })
}

// changeVolume does something about a volume that a node may touch and that no other node has.
func (c *Core) changeVolume(ctx context.Context, p Principal, n Node, action string, ch VolumeChange,
	do func(ctx context.Context, vc VolumeCloud, row Volume, cv CloudVolume) (CloudVolume, error)) (NodeVolume, error) {
	vc, err := c.volumesFor(n, ch.Kind)
	if err != nil {
		return NodeVolume{}, err
	}
	ctx, done, err := c.volumeTurn(ctx, n, ch)
	if err != nil {
		return NodeVolume{}, err
	}
	defer done()
	if err := c.Store.Update(ctx, func(tx Tx) error { return c.noteRequest(tx, p, n, action, ch) }); err != nil {
		return NodeVolume{}, err
	}
	row, cv, err := c.findVolume(ctx, vc, n, ch.VolumeRef)
	if isNotFound(err) && row.ID != "" && action == "volume.destroy" { // it is gone: so goes its row
		return NodeVolume{}, c.Store.Update(ctx, func(tx Tx) error { return tx.DeleteVolume(row.ID) })
	}
	if err != nil {
		return NodeVolume{}, err
	}
	if cv.NodeID != "" && cv.NodeID != n.CloudID {
		return NodeVolume{}, Errorf(Forbidden, ObjVolume, "the volume is attached to another node; detach it there first")
	}
	cv, err = do(ctx, vc, row, cv)
	return seenBy(n, cv), err
}

// AttachNodeVolume attaches a volume to the node that asks. A volume that another node has is refused.
//
// Errors: those of NodeVolume, forbidden (attached to another node; a repeated request), busy
func (c *Core) AttachNodeVolume(ctx context.Context, p Principal, n Node, ch VolumeChange) (NodeVolume, error) {
	return c.changeVolume(ctx, p, n, "volume.attach", ch, func(ctx context.Context, vc VolumeCloud, _ Volume, cv CloudVolume) (CloudVolume, error) {
		device, err := vc.AttachVolume(ctx, cv.ID, n.CloudID)
		cv.NodeID, cv.Device = n.CloudID, device
		return cv, classified(err, Unavailable, ObjVolume, "attach the volume")
	})
}

// DetachNodeVolume detaches a volume from the node that asks.
//
// Errors: those of AttachNodeVolume, busy (it is mounted)
func (c *Core) DetachNodeVolume(ctx context.Context, p Principal, n Node, ch VolumeChange) (NodeVolume, error) {
	return c.changeVolume(ctx, p, n, "volume.detach", ch, func(ctx context.Context, vc VolumeCloud, _ Volume, cv CloudVolume) (CloudVolume, error) {
		err := vc.DetachVolume(ctx, cv.ID)
		cv.NodeID, cv.Device = "", ""
		return cv, classified(err, Unavailable, ObjVolume, "detach the volume")
	})
}

// GrowNodeVolume makes a volume at least this large, where the cloud does that in place.
//
// Errors: those of AttachNodeVolume, unsupported (not in place), invalid (the size)
func (c *Core) GrowNodeVolume(ctx context.Context, p Principal, n Node, ch VolumeChange) (NodeVolume, error) {
	if ch.SizeBytes <= 0 || ch.SizeBytes > maxNodeVolumeSize {
		return NodeVolume{}, Errorf(Invalid, ObjVolume, "a volume has more than 0 and at most %d bytes", int64(maxNodeVolumeSize))
	}
	return c.changeVolume(ctx, p, n, "volume.grow", ch, func(ctx context.Context, vc VolumeCloud, row Volume, cv CloudVolume) (CloudVolume, error) {
		grower, can := vc.(GrowCloud)
		if !can || !vc.Info().Grow {
			return cv, Errorf(Unsupported, ObjVolume, "the cloud of this node does not grow volumes")
		}
		cv, err := grower.GrowVolume(ctx, cv.ID, ch.SizeBytes)
		if err != nil {
			return cv, classified(err, Unavailable, ObjVolume, "grow the volume")
		}
		row.SizeBytes = cv.SizeBytes
		return cv, c.Store.Update(ctx, func(tx Tx) error { return tx.PutVolume(&row) })
	})
}

// DestroyNodeVolume deletes a volume and what is on it. Its row goes last, so that a killed coordinator forgets nothing.
//
// Errors: those of DetachNodeVolume
func (c *Core) DestroyNodeVolume(ctx context.Context, p Principal, n Node, ch VolumeChange) (NodeVolume, error) {
	return c.changeVolume(ctx, p, n, "volume.destroy", ch, func(ctx context.Context, vc VolumeCloud, row Volume, cv CloudVolume) (CloudVolume, error) {
		if cv.NodeID != "" {
			if err := vc.DetachVolume(ctx, cv.ID); err != nil {
				return cv, classified(err, Unavailable, ObjVolume, "detach the volume")
			}
		}
		if err := vc.DestroyVolume(ctx, cv.ID); err != nil {
			return cv, classified(err, Unavailable, ObjVolume, "destroy the volume")
		}
		return CloudVolume{}, c.Store.Update(ctx, func(tx Tx) error { return tx.DeleteVolume(row.ID) })
	})
}
