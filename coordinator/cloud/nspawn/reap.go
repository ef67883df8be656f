package nspawn

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"

	"github.com/vishvananda/netlink"

	"github.com/reeve-paas/reeve/coordinator/core"
)

// reap removes what belongs to no node any more: cgroups without a record and loop devices without a user.
func (d *Driver) reap() {
	machines := map[string]bool{}
	for _, n := range d.nodes {
		machines[n.rec.Machine] = true
	}
	for _, dir := range d.cgroups.group(d.opts.AppName).dirs() {
		entries, _ := os.ReadDir(dir)
		for _, e := range entries {
			if e.IsDir() && !machines[e.Name()] {
				orphan := d.cgroups.group(d.opts.AppName, e.Name())
				orphan.kill()
				if err := orphan.remove(); err != nil {
					d.log.Warn("a cgroup without a node stays", "cgroup", e.Name(), "err", err)
				}
			}
		}
	}
	d.reapVolumes()
	d.reapSnapshots()
}

// resume goes on with every node as its record wants it. Nodes are attended to in parallel: after a restart of the host
// all of them boot.
func (d *Driver) resume() {
	var wg sync.WaitGroup
	slots := make(chan struct{}, 8)
	for _, n := range d.nodes {
		wg.Go(func() {
			slots <- struct{}{}
			defer func() { <-slots }()
			if err := d.resumeNode(n); err != nil {
				d.log.Error("a node could not be resumed", "node", n.id, "err", err)
			}
		})
	}
	wg.Wait()
}

func (d *Driver) resumeNode(n *node) error {
	ctx, cancel := context.WithTimeout(context.Background(), stopGrace)
	defer cancel()
	if err := n.acquire(ctx); err != nil {
		return err
	}
	defer n.release()
	switch n.rec.Intent {
	case intentCreating: // its maker calls again, or destroys it
		return nil
	case intentDestroyed:
		return d.destroy(ctx, n)
	case intentStopped:
		return d.end(ctx, n, true)
	}
	if n.run.ended() && !n.run.Resume {
		return nil // it went off by itself; its supervisor may be just about to end
	}
	return d.attend(n)
}

// Teardown removes an instance with everything it has on this host: nodes, volumes, bridge, nft table, cgroups and the
// state directory. It knows the instance by the stamp in o.StateDir, which outranks the other options, and touches nothing
// that does not carry the stamp. The image cache stays. No driver may have the state directory open. What is not there is
// success.
func Teardown(ctx context.Context, o Options) error {
	var inst instance
	err := readJSON(filepath.Join(o.StateDir, fileInstance), &inst)
	if errors.Is(err, fs.ErrNotExist) {
		entries, err := os.ReadDir(o.StateDir)
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil || len(entries) > 0 {
			return core.Errorf(core.Invalid, core.ObjCloud, "%s is no state directory of the nspawn cloud", o.StateDir)
		}
		return os.Remove(o.StateDir)
	}
	if err != nil {
		return core.Wrap(core.Unavailable, core.ObjCloud, err, "state directory")
	}
	o.AppName, o.Bridge, o.Subnet = inst.App, inst.Bridge, inst.Subnet
	if o, err = o.withDefaults(); err != nil {
		return core.Wrap(core.Invalid, core.ObjCloud, err, "state directory")
	}
	d := &Driver{opts: o, log: o.Log, nodes: map[string]*node{}, closing: make(chan struct{})}
	if d.cgroups, err = findCgroups(cgroupMount); err != nil {
		return core.Wrap(core.Unsupported, core.ObjCloud, err, "control groups")
	}
	if d.lock, err = lockState(ctx, o.StateDir); err != nil {
		return err
	}
	defer d.Close()
	return d.teardown(ctx)
}

func (d *Driver) teardown(ctx context.Context) error {
	if err := d.loadNodes(); err != nil {
		return core.Wrap(core.Unavailable, core.ObjCloud, err, "read the nodes")
	}
	errs := d.destroyAll(ctx)
	volumes, err := d.Volumes(ctx)
	errs = append(errs, err)
	for _, v := range volumes {
		errs = append(errs, d.DestroyVolume(ctx, v.ID))
	}
	d.reap()
	errs = append(errs, removeNetwork(ctx, d.opts.AppName, d.opts.Bridge, d.alias()), d.cgroups.group(d.opts.AppName).remove())
	if err := errors.Join(errs...); err != nil {
		return core.Wrap(core.Unavailable, core.ObjCloud, err, "remove the instance")
	}
	return os.RemoveAll(d.opts.StateDir)
}

// destroyAll destroys every node it gets hold of and returns why others stay.
func (d *Driver) destroyAll(ctx context.Context) []error {
	var errs []error
	for _, n := range d.nodes {
		if err := n.acquire(ctx); err != nil {
			errs = append(errs, err)
			continue
		}
		errs = append(errs, d.destroy(ctx, n))
		n.release()
	}
	return errs
}

// Leftovers names everything on this host that still belongs to an instance: what a test looks for after a teardown.
func Leftovers(stateDir, app, bridge string) []string {
	var found []string
	if exists(stateDir) {
		found = append(found, "directory "+stateDir)
	}
	if points, err := mountsBelow(stateDir); err == nil {
		for _, p := range points {
			found = append(found, "mount "+p)
		}
	}
	for num, file := range loopsBelow(stateDir) {
		found = append(found, fmt.Sprintf("loop device %s of %s", loopPath(num), file))
	}
	if layout, err := findCgroups(cgroupMount); err == nil {
		for _, dir := range layout.group(app).dirs() {
			if exists(dir) {
				found = append(found, "cgroup "+dir)
			}
		}
	}
	links, _ := netlink.LinkList()
	for _, l := range links {
		if l.Attrs().Name == bridge || hasPrefixAny(append(l.Attrs().AltNames, l.Attrs().Name), "vb-"+app+"-") {
			found = append(found, "network interface "+l.Attrs().Name)
		}
	}
	if nftTableExists(tableName(app)) {
		found = append(found, "nft table "+tableName(app))
	}
	runs, _ := filepath.Glob("/run/systemd/nspawn/propagate/" + app + "-*")
	found = append(found, runs...)
	return append(found, processesNaming(stateDir+"/")...)
}
