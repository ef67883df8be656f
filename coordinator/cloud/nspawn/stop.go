package nspawn

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/reeve-paas/reeve/coordinator/core"
)

// RebootNode restarts a running node in good order on the same root; a stopped one is started.
func (d *Driver) RebootNode(ctx context.Context, id string) error {
	n, err := d.take(ctx, id)
	if err != nil {
		return err
	}
	defer n.release()
	rec, run := n.snapshot()
	switch {
	case rec.Intent == intentStopped || run.ended():
		return d.startNode(ctx, n)
	case run.State == core.CloudPending || run.State == core.CloudRebooting:
		return nil // it is booting already
	}
	n.update(func() { n.run.State = core.CloudRebooting }) // so that the caller does not see the old state again
	return run.Supervisor.signal(unix.SIGUSR1)
}

// StopNode turns a node off in good order; after 30 seconds it is killed. It returns when the node is off.
func (d *Driver) StopNode(ctx context.Context, id string) error {
	n, err := d.take(ctx, id)
	if err != nil {
		return err
	}
	defer n.release()
	if err := n.want(intentStopped); err != nil {
		return err
	}
	return d.end(ctx, n, true)
}

// StartNode turns a node on. One that runs is left alone.
func (d *Driver) StartNode(ctx context.Context, id string) error {
	n, err := d.take(ctx, id)
	if err != nil {
		return err
	}
	defer n.release()
	return d.startNode(ctx, n)
}

func (d *Driver) startNode(ctx context.Context, n *node) error {
	if err := d.ensureNetwork(ctx); err != nil {
		return core.Wrap(core.Unavailable, core.ObjNode, err, "network")
	}
	// A supervisor that is on its way out must not be taken for one that works.
	if _, run := n.snapshot(); run.ended() {
		if err := n.wait(ctx, func() bool { return n.conn == nil }); err != nil {
			return core.Wrap(core.Busy, core.ObjNode, err, "the node is still stopping")
		}
	}
	if err := n.want(intentRunning); err != nil {
		return err
	}
	return d.attend(n)
}

// DestroyNode removes a node and everything of it; its volumes are detached and stay. What is not there is success.
func (d *Driver) DestroyNode(ctx context.Context, id string) error {
	n, err := d.take(ctx, id)
	if core.KindOf(err) == core.NotFound {
		return nil
	}
	if err != nil {
		return err
	}
	defer n.release()
	return d.destroy(ctx, n)
}

// take finds a node and acquires it. A node that somebody destroyed meanwhile is not found.
func (d *Driver) take(ctx context.Context, id string) (*node, error) {
	n, err := d.find(id)
	if err != nil {
		return nil, err
	}
	if err := n.acquire(ctx); err != nil {
		return nil, err
	}
	if rec, _ := n.snapshot(); rec.Intent == intentCreating || rec.Intent == intentDestroyed {
		return n, nil
	}
	if _, err := d.find(id); err != nil {
		n.release()
		return nil, err
	}
	return n, nil
}

// destroy goes on wherever an earlier try was cut off: the record says so, and it is the last to go.
func (d *Driver) destroy(ctx context.Context, n *node) error {
	if !exists(filepath.Join(n.dir, fileState)) {
		d.forget(n)
		return nil
	}
	if err := n.want(intentDestroyed); err != nil {
		return err
	}
	// A node without volumes has nothing to write back, so it need not say goodbye.
	attached := len(volumesOf(d.opts.StateDir, n.id)) > 0
	if err := d.end(ctx, n, attached); err != nil {
		return err
	}
	if err := d.releaseVolumes(n.id); err != nil {
		return err
	}
	if err := removeNodeFiles(n.dir); err != nil {
		return core.Wrap(core.Unavailable, core.ObjNode, err, "remove the node's files")
	}
	d.forget(n)
	return nil
}

func (d *Driver) forget(n *node) {
	d.mu.Lock()
	delete(d.nodes, n.id)
	d.mu.Unlock()
	n.update(func() { n.gone = true })
}

// end brings a node and its supervisor to an end and returns when no process, cgroup and loop device of it is left.
func (d *Driver) end(ctx context.Context, n *node, orderly bool) error {
	rec, run := n.snapshot()
	group := d.cgroups.group(rec.App, rec.Machine)
	if run.Supervisor.PID == 0 { // a supervisor that never came to write anything
		run = readRun(n.dir)
	}
	if orderly && run.Supervisor.alive() {
		_ = run.Supervisor.signal(unix.SIGTERM)
		patience, cancel := context.WithTimeout(ctx, stopGrace+killGrace+5*time.Second)
		err := run.Supervisor.wait(patience)
		cancel()
		if ctx.Err() != nil {
			return core.Wrap(core.Busy, core.ObjNode, err, "the node is still stopping")
		}
	}
	_ = run.Supervisor.signal(unix.SIGKILL) // first, or it would start the node again
	if err := d.endLocked(ctx, n, group, run); err != nil {
		return core.Wrap(core.Busy, core.ObjNode, err, "the node does not end")
	}
	if err := n.wait(ctx, func() bool { return n.conn == nil }); err != nil {
		return core.Wrap(core.Busy, core.ObjNode, err, "the node's supervisor does not end")
	}
	removeLink("vb-" + rec.Machine) // nspawn does that, unless it was killed; then the kernel does it some time later
	_ = os.Remove(filepath.Join("/run/systemd/nspawn/propagate", rec.Machine))
	return nil
}

// endLocked takes the supervisor's lock, so that none can start, and removes what the kernel still holds of the node.
func (d *Driver) endLocked(ctx context.Context, n *node, group group, run runState) error {
	for {
		lock, err := lockFile(filepath.Join(n.dir, fileLock))
		if err == nil {
			defer lock.Close()
			break
		}
		if !errors.Is(err, unix.EWOULDBLOCK) {
			return err
		}
		// A supervisor that was starting when we looked has by now written who it is, or soon will.
		_ = readRun(n.dir).Supervisor.signal(unix.SIGKILL)
		if err := pause(ctx, 5*time.Millisecond); err != nil {
			return err
		}
	}
	if last := readRun(n.dir); last.Leader.PID != 0 {
		run.Leader, run.Nspawn = last.Leader, last.Nspawn
	}
	group.kill()
	for _, p := range []proc{run.Nspawn, run.Leader} {
		if err := p.wait(ctx); err != nil {
			return err
		}
	}
	if err := group.remove(); err != nil {
		return err
	}
	if err := waitLoopsGone(filepath.Join(n.dir, fileDisk)); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(n.dir, fileRun), []byte(`{"state":"stopped"}`), 0o600)
}

// pause waits a moment unless ctx ends first.
func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// removeNodeFiles deletes a node's directory, its record last. It refuses while anything is mounted below: deleting
// through a mounted root would delete inside the node.
func removeNodeFiles(dir string) error {
	if err := unmountBelow(dir); err != nil {
		return err
	}
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	for _, e := range entries {
		if e.Name() != fileState {
			if err := os.RemoveAll(filepath.Join(dir, e.Name())); err != nil {
				return err
			}
		}
	}
	if err := os.Remove(filepath.Join(dir, fileState)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return ignore(os.Remove(dir), fs.ErrNotExist)
}

// unmountBelow unmounts what somebody mounted below dir in the host's own namespace, deepest first. We never do.
func unmountBelow(dir string) error {
	points, err := mountsBelow(dir)
	if err != nil {
		return err
	}
	for i := len(points) - 1; i >= 0; i-- {
		if err := unix.Unmount(points[i], 0); err != nil {
			if err := unix.Unmount(points[i], unix.MNT_DETACH); err != nil {
				return fmt.Errorf("unmount %s: %w", points[i], err)
			}
		}
	}
	if points, err = mountsBelow(dir); err == nil && len(points) > 0 {
		return fmt.Errorf("%s is still mounted", points[0])
	}
	return err
}

// mountsBelow lists the mount points in dir in the order they were mounted.
func mountsBelow(dir string) ([]string, error) {
	data, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return nil, err
	}
	var points []string
	for line := range strings.Lines(string(data)) {
		fields := strings.Fields(line)
		if len(fields) > 4 && (fields[4] == dir || strings.HasPrefix(fields[4], dir+"/")) {
			points = append(points, fields[4])
		}
	}
	return points, nil
}
