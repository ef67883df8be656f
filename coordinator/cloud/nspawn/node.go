package nspawn

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"time"

	"github.com/reeve-paas/reeve/coordinator/core"
)

// node is the driver's side of one node.
type node struct {
	id, key string
	addr    netip.Addr
	created time.Time
	dir     string
	busy    chan struct{} // holds one token; taken by whoever changes the node
	execMu  sync.Mutex    // held while the group of Exec's commands is made or removed

	mu      sync.Mutex // protects the fields below
	rec     record
	run     runState
	conn    net.Conn      // to the supervisor; nil when there is none
	changed chan struct{} // closed and replaced at every change
	gone    bool
}

func newNode(dir string, rec record) *node {
	return &node{
		id: rec.ID, key: rec.Key, addr: rec.Addr.Addr(), created: rec.CreatedAt, dir: dir,
		busy: make(chan struct{}, 1), rec: rec, run: readRun(dir), changed: make(chan struct{}),
	}
}

// acquire takes the right to change the node.
func (n *node) acquire(ctx context.Context) error {
	select {
	case n.busy <- struct{}{}:
		return nil
	case <-ctx.Done():
		return core.Wrap(core.Busy, core.ObjNode, ctx.Err(), "another change of the node is under way")
	}
}

func (n *node) release() { <-n.busy }

// view is the node as core sees it.
func (n *node) view() core.CloudNode {
	n.mu.Lock()
	defer n.mu.Unlock()
	extra := map[string]any{"machine": n.rec.Machine}
	if len(n.rec.Metadata) > 0 {
		extra["metadata"] = n.rec.Metadata
	}
	if n.run.Detail != "" {
		extra["detail"] = n.run.Detail
	}
	if n.rec.KeyName != "" {
		extra["key_name"] = n.rec.KeyName
	}
	return core.CloudNode{
		ID: n.rec.ID, Name: n.rec.Name, Key: n.rec.Key, State: n.stateLocked(),
		PublicIPs: []string{}, PrivateIPs: []string{n.rec.Addr.Addr().String()},
		ImageID: n.rec.ImageID, SizeID: n.rec.SizeID, Extra: extra,
	}
}

func (n *node) stateLocked() core.CloudNodeState {
	switch {
	case n.gone:
		return core.CloudTerminated
	case n.rec.Intent == intentDestroyed:
		return core.CloudStopping
	case n.rec.Intent == intentCreating:
		return core.CloudPending
	case n.conn == nil && n.rec.Intent == intentStopped:
		return core.CloudStopped
	case n.conn == nil && n.run.State != core.CloudError && n.run.State != core.CloudStopped:
		return core.CloudPending // wanted, and its supervisor is being started
	case n.run.State == "":
		return core.CloudPending
	default:
		return n.run.State
	}
}

// update changes the node's memory and wakes everybody who waits for it.
func (n *node) update(change func()) {
	n.mu.Lock()
	defer n.mu.Unlock()
	change()
	close(n.changed)
	n.changed = make(chan struct{})
}

// want writes the intent down.
func (n *node) want(i intent) error {
	n.mu.Lock()
	rec := n.rec
	n.mu.Unlock()
	rec.Intent = i
	if err := rec.write(n.dir); err != nil {
		return core.Wrap(core.Unavailable, core.ObjNode, err, "write the node's record")
	}
	n.update(func() { n.rec = rec })
	return nil
}

func (n *node) snapshot() (record, runState) {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.rec, n.run
}

func (n *node) hangUp() {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.conn != nil {
		n.conn.Close()
	}
}

// wait returns once ok is true of the node.
func (n *node) wait(ctx context.Context, ok func() bool) error {
	for {
		n.mu.Lock()
		done, changed := ok(), n.changed
		n.mu.Unlock()
		if done {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// attend makes sure that a supervisor looks after the node and that we hear it. It is called with the node acquired, or
// before anybody else knows the node.
func (d *Driver) attend(n *node) error {
	n.mu.Lock()
	attended := n.conn != nil
	n.mu.Unlock()
	if attended {
		return nil
	}
	for range 50 {
		if conn, err := net.Dial("unix", filepath.Join(n.dir, fileWatch)); err == nil {
			d.watch(n, conn, nil)
			return nil
		}
		cmd, conn, err := startSupervisor(n.dir)
		if err != nil {
			return core.Wrap(core.Unavailable, core.ObjNode, err, "start the node")
		}
		reader := bufio.NewReader(conn)
		line, err := reader.ReadBytes('\n')
		if err == nil {
			n.update(func() { _ = json.Unmarshal(line, &n.run) })
			d.watch(n, &bufferedConn{conn, reader}, cmd)
			return nil
		}
		conn.Close()
		_ = cmd.Wait()
		if code := cmd.ProcessState.ExitCode(); code != exitSupervised {
			return core.Errorf(core.Unavailable, core.ObjNode, "the node's supervisor ended with status %d; see its console log", code)
		}
		// A supervisor that is just starting, or just ending, holds the lock without listening.
		time.Sleep(20 * time.Millisecond)
	}
	return core.Errorf(core.Unavailable, core.ObjNode, "the node's supervisor does not answer")
}

type bufferedConn struct {
	net.Conn
	r *bufio.Reader
}

func (c *bufferedConn) Read(p []byte) (int, error) { return c.r.Read(p) }

// watch follows the supervisor's reports until it ends or the driver is closed.
func (d *Driver) watch(n *node, conn net.Conn, cmd *exec.Cmd) {
	began := time.Now()
	n.update(func() { n.conn = conn })
	select {
	case <-d.closing: // Close may have looked at the node just before
		conn.Close()
	default:
	}
	d.watchers.Go(func() {
		lines := bufio.NewScanner(conn)
		for lines.Scan() {
			var run runState
			if json.Unmarshal(lines.Bytes(), &run) == nil {
				n.update(func() { n.run = run })
			}
		}
		conn.Close()
		select {
		case <-d.closing: // we hung up, the supervisor lives on
			return
		default:
		}
		if cmd != nil {
			_ = cmd.Wait() // it has closed its end, so it is ending
		} else {
			_, run := n.snapshot()
			_ = run.Supervisor.wait(context.Background())
		}
		n.update(func() { n.conn, n.run = nil, lastRun(n.dir, n.run) })
		d.lost(n, time.Since(began))
	})
}

// lastRun is what the supervisor wrote before it ended, or what it last told us.
func lastRun(dir string, told runState) runState {
	if run := readRun(dir); run.State != "" {
		return run
	}
	return told
}

// lost is called when a supervisor has ended. One that did its work leaves a node that is off; one that died leaves a
// node that runs alone, and gets a successor, though not in a tight loop.
func (d *Driver) lost(n *node, lived time.Duration) {
	if !n.orphaned() {
		return
	}
	d.log.Warn("the supervisor of a node died", "node", n.id)
	if lived < time.Second {
		select {
		case <-time.After(time.Second):
		case <-d.closing:
			return
		}
	}
	select {
	case n.busy <- struct{}{}:
	case <-d.closing:
		return
	}
	defer n.release()
	if !n.orphaned() { // it was stopped or destroyed meanwhile
		return
	}
	if err := d.attend(n); err != nil {
		d.log.Error("the node has no supervisor", "node", n.id, "err", err)
	}
}

// orphaned says that the node should run and nobody looks after it.
func (n *node) orphaned() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.conn == nil && !n.gone && n.rec.Intent == intentRunning && !n.run.ended()
}

// WaitReady returns once the node is running. It fails at once when the node cannot become so by itself.
//
// Errors: not_found, unavailable (it failed or was stopped; the deadline passed)
func (d *Driver) WaitReady(ctx context.Context, id string) error {
	n, err := d.find(id)
	if err != nil {
		return err
	}
	var state core.CloudNodeState
	err = n.wait(ctx, func() bool {
		state = n.stateLocked()
		return state != core.CloudPending && state != core.CloudRebooting && state != core.CloudStopping
	})
	_, run := n.snapshot()
	switch {
	case err != nil:
		return core.Wrap(core.Unavailable, core.ObjNode, err, "node %s is %s (%s)", id, state, run.Detail)
	case state != core.CloudRunning:
		return core.Errorf(core.Unavailable, core.ObjNode, "node %s is %s: %s", id, state, run.Detail)
	}
	return nil
}

// newDir makes the node's directories.
func newDir(dir string) error {
	for _, sub := range []string{dirDisk, dirRoot, dirDev} {
		if err := os.Mkdir(filepath.Join(dir, sub), 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
			return fmt.Errorf("node directory: %w", err)
		}
	}
	return nil
}
