package core

import (
	"context"
	"errors"
	"time"

	"github.com/reeve-paas/reeve/agent/agentapi"
	"github.com/reeve-paas/reeve/coordinator/operation"
)

// exchange is what the steps of a restoration work with.
type exchange struct {
	app      App
	node     Node
	agent    Agent
	old, new Volume
	cloud    SnapshotCloud
}

// exchangeOf loads it. gone says that the app, or one of the volumes, is not there any more.
func (c *Core) exchangeOf(ctx context.Context, run *operation.Run) (x exchange, gone bool, err error) {
	p, app, found, err := c.appOf(ctx, run)
	if err != nil || !found || len(app.Nodes) == 0 {
		return x, true, err
	}
	x.app, x.node = app, app.Nodes[0]
	err = c.Store.View(ctx, func(r Reader) (err error) {
		if x.old, err = r.Volume(p.VolumeID); err == nil {
			x.new, err = r.Volume(p.NewVolumeID)
		}
		return err
	})
	if err != nil {
		return x, isNotFound(err), err
	}
	if x.cloud, err = c.snapshotCloud(x.old.Cloud); err != nil {
		return x, false, err
	}
	x.agent, err = c.Agents.Agent(x.node)
	return x, false, err
}

func (c *Core) makeRestored(ctx context.Context, run *operation.Run) error {
	_, s, cloud, err := c.snapshotOf(ctx, run)
	if err != nil {
		return err
	}
	x, _, err := c.exchangeOf(ctx, run)
	if err != nil {
		return err
	}
	cv, err := cloud.RestoreSnapshot(ctx, x.new.Key, s.CloudID, x.old.SizeBytes)
	if err != nil {
		return cloudFailure(err, Unavailable, ObjVolume, "make a volume of the snapshot")
	}
	x.new.CloudID, x.new.SizeBytes = cv.ID, cv.SizeBytes
	return c.Store.Update(ctx, func(tx Tx) error { return tx.PutVolume(&x.new) })
}

func (c *Core) dropNewVolume(ctx context.Context, run *operation.Run) error {
	x, gone, err := c.exchangeOf(ctx, run)
	if gone {
		return ignoreNotFound(err) // deleting the app looks for all of its volumes
	}
	if err != nil {
		return err
	}
	return c.destroyVolume(ctx, x.new)
}

func (c *Core) unmountOld(ctx context.Context, run *operation.Run) error {
	return c.unmountData(ctx, run)
}

// mountOld brings the old volume back, and what lives on it. It is there that an undo waits for an agent, so it is patient.
func (c *Core) mountOld(ctx context.Context, run *operation.Run) error {
	x, gone, err := c.exchangeOf(ctx, run)
	if gone || err != nil {
		return ignoreNotFound(err)
	}
	if err := c.mountData(ctx, x.agent, x.app, x.old); err != nil {
		return err
	}
	return c.startServices(ctx, run)
}

func (c *Core) mountNew(ctx context.Context, run *operation.Run) error {
	x, _, err := c.exchangeOf(ctx, run)
	if err != nil {
		return err
	}
	if err := c.mountData(ctx, x.agent, x.app, x.new); err != nil {
		return err
	}
	// The snapshot may be of a time when the disk was smaller.
	_, err = x.agent.GrowVolume(ctx, agentapi.GrowVolumeParams{MPoint: dataMount})
	return classified(err, Internal, ObjVolume, "grow the filesystem of the data volume")
}

func (c *Core) unmountNew(ctx context.Context, run *operation.Run) error {
	return c.unmountData(ctx, run)
}

func (c *Core) unmountData(ctx context.Context, run *operation.Run) error {
	x, gone, err := c.exchangeOf(ctx, run)
	if gone && run.Reason() != "" {
		return ignoreNotFound(err)
	}
	if err != nil {
		return err
	}
	if !x.app.hasVHosts() { // what the agent does not know to live on the volume
		if err := sideBySide(x.app.Units, func(u AppUnit) error { return c.stopOnHost(ctx, x.app, u) }); err != nil {
			return err
		}
	}
	err = x.agent.UnmountVolume(ctx, agentapi.UnmountVolumeParams{MPoint: dataMount})
	return classified(err, Internal, ObjVolume, "unmount the data volume; somebody may be logged in on it")
}

func (c *Core) attachNew(ctx context.Context, run *operation.Run) error {
	return c.swap(ctx, run, func(x *exchange) (out, in *Volume) { return &x.old, &x.new })
}

func (c *Core) attachOld(ctx context.Context, run *operation.Run) error {
	return c.swap(ctx, run, func(x *exchange) (out, in *Volume) { return &x.new, &x.old })
}

// swap puts one volume in the place of the other. A call that was cut off anywhere is repeated.
func (c *Core) swap(ctx context.Context, run *operation.Run, pick func(*exchange) (out, in *Volume)) error {
	x, gone, err := c.exchangeOf(ctx, run)
	if gone && run.Reason() != "" {
		return ignoreNotFound(err)
	}
	if err != nil {
		return err
	}
	out, in := pick(&x)
	if out.CloudID != "" {
		if err := x.cloud.DetachVolume(ctx, out.CloudID); err != nil && !isNotFound(err) {
			return cloudFailure(err, Unavailable, ObjVolume, "detach the volume")
		}
	}
	device, err := x.cloud.AttachVolume(ctx, in.CloudID, x.node.CloudID)
	if err != nil {
		return cloudFailure(err, Unavailable, ObjVolume, "attach the volume")
	}
	out.NodeID, out.Device = "", ""
	in.NodeID, in.Device = x.node.ID, device
	return c.Store.Update(ctx, func(tx Tx) error { return errors.Join(tx.PutVolume(out), tx.PutVolume(in)) })
}

// destroyReplaced removes the volume that the snapshot's took the place of. One that cannot be removed goes with its app: to
// take the restoration back now would bring back what may be half destroyed.
func (c *Core) destroyReplaced(ctx context.Context, run *operation.Run) error {
	x, gone, err := c.exchangeOf(ctx, run)
	if gone {
		return ignoreNotFound(err)
	}
	if err == nil {
		err = c.destroyVolume(ctx, x.old)
	}
	if deadline, ok := ctx.Deadline(); operation.Temporary(err) && ok && time.Until(deadline) > time.Minute {
		return err
	}
	if err != nil && ctx.Err() == nil {
		run.Log().Error("the replaced volume stays until its app is deleted", "volume", x.old.ID, "err", err)
		return nil
	}
	return err
}
