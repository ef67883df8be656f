package nspawn

import (
	"context"

	"golang.org/x/sys/unix"

	"github.com/reeve-paas/reeve/coordinator/core"
)

// ResizeNode gives a node the CPUs and the memory of another size, at once and without a reboot. Only a node that uses more
// memory than it is to have is rebooted, because to take it away would kill processes of the kernel's choice.
//
// Errors: not_found, invalid (no such size), busy, unavailable
func (d *Driver) ResizeNode(ctx context.Context, id, sizeID string) error {
	size, err := d.size(sizeID)
	if err != nil {
		return err
	}
	n, err := d.take(ctx, id)
	if err != nil {
		return err
	}
	defer n.release()
	rec, run := n.snapshot()
	if rec.Intent == intentCreating || rec.Intent == intentDestroyed {
		return core.Errorf(core.Busy, core.ObjNode, "the node is being created or destroyed")
	}
	rec.SizeID = size.ID
	rec.Limits.CPUs, rec.Limits.MemoryMB = max(1, size.CPUs), size.MemoryMB
	if err := rec.write(n.dir); err != nil { // first: a boot from now on has the new size
		return core.Wrap(core.Unavailable, core.ObjNode, err, "write the node's record")
	}
	n.update(func() { n.rec = rec })
	if !run.Leader.alive() {
		return nil
	}
	group := d.cgroups.group(rec.App, rec.Machine)
	if used, ok := group.memoryInUse(); !ok || used < int64(rec.Limits.MemoryMB)<<20 {
		if err := group.limit(rec.Limits); err == nil {
			return nil
		}
	}
	d.log.Info("a node is rebooted because it uses more memory than it is to have", "node", id, "size", size.ID)
	n.update(func() { n.run.State = core.CloudRebooting })
	return run.Supervisor.signal(unix.SIGUSR1)
}
