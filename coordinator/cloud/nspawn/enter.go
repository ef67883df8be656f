package nspawn

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"github.com/reeve-paas/reeve/coordinator/core"
)

// Exec runs a command inside a running node as root, in the node's namespaces and within its limits, and returns what it
// wrote to its standard output. It is for tests and for looking around; everything else goes through the agent or SSH.
//
// Errors: not_found, unavailable (the node does not run). A command that fails gives an *exec.ExitError, with what it
// wrote to its standard error in the text.
func (d *Driver) Exec(ctx context.Context, id string, stdin io.Reader, argv ...string) ([]byte, error) {
	n, err := d.find(id)
	if err != nil {
		return nil, err
	}
	rec, run := n.snapshot()
	if !run.Leader.alive() {
		return nil, core.Errorf(core.Unavailable, core.ObjNode, "node %s does not run", id)
	}
	group := d.cgroups.group(rec.App, rec.Machine, "exec")
	defer func() {
		n.execMu.Lock()
		defer n.execMu.Unlock()
		_ = group.removeOnce() // busy while another command runs, or when this one left a process behind
	}()
	args := append([]string{"-t", strconv.Itoa(run.Leader.PID), "-m", "-u", "-i", "-n", "-p", "--"}, argv...)
	cmd := exec.CommandContext(ctx, "nsenter", args...)
	cmd.Env = []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C", "HOME=/root"}
	cmd.Dir = "/"
	var stdout, stderr bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = stdin, &stdout, &stderr
	if err := n.startIn(group, cmd); err != nil {
		return nil, err
	}
	stop := keepGoing(cmd.Process.Pid)
	err = cmd.Wait()
	stop()
	if err != nil {
		return stdout.Bytes(), fmt.Errorf("%s: %w: %s", argv[0], err, bytes.TrimSpace(stderr.Bytes()))
	}
	return stdout.Bytes(), nil
}

// startIn makes the group and starts the command in it, while no command that ends can remove the group in between.
func (n *node) startIn(g group, cmd *exec.Cmd) error {
	n.execMu.Lock()
	defer n.execMu.Unlock()
	if err := g.create(); err != nil {
		return err
	}
	return g.start(cmd)
}

// keepGoing continues a process whenever it is stopped, until stop is called. A node that shuts down stops every process
// inside for a moment; nsenter then stops itself too, outside, where nobody continues it. It would never reap its child,
// and the node would wait for that for ever.
func keepGoing(pid int) (stop func()) {
	quit, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		ticker := time.NewTicker(50 * time.Millisecond)
		defer ticker.Stop()
		for {
			select {
			case <-ticker.C:
				if state, _, ok := readStat(pid); ok && state == 'T' {
					_ = unix.Kill(pid, unix.SIGCONT)
				}
			case <-quit:
				return
			}
		}
	}()
	return func() {
		close(quit)
		<-done
	}
}

// Console returns what the node's PID 1 and nspawn wrote, at most the last mebibyte or so.
func (d *Driver) Console(_ context.Context, id string) ([]byte, error) {
	n, err := d.find(id)
	if err != nil {
		return nil, err
	}
	data, err := os.ReadFile(filepath.Join(n.dir, fileConsole))
	if err != nil {
		return nil, core.Wrap(core.Unavailable, core.ObjNode, err, "read the console log")
	}
	return data, nil
}
