package deploy

import (
	"context"
	"errors"
	"io/fs"
	"path"
	"regexp"
	"strings"

	"github.com/reeve-paas/reeve/agent/agentapi"
	"github.com/reeve-paas/reeve/handlers/host"
)

var unitName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9@_.:-]{0,120}\.service$`)

const unitDir = "/etc/systemd/system"

// dropIn makes systemd leave a service stopped, at boot too, while the directory it lives in is not mounted: it must not
// run on the stale files below.
func dropIn(unit string) string { return path.Join(unitDir, unit+".d", "reeve-volume.conf") }

func renderDropIn(targets ...string) []byte {
	text := "# Written by reeve-agent: the service lives on a volume.\n[Unit]\n"
	for _, t := range targets {
		text += "RequiresMountsFor=" + t + "\nConditionPathIsMountPoint=" + t + "\n"
	}
	return []byte(text)
}

// stopNote says, in the state directory, that we stopped a unit that ran. It is how a killed agent remembers to start it.
func (s *Service) stopNote(unit string) string { return path.Join(s.stoppedDir(), unit) }

func (s *Service) stoppedDir() string { return path.Join(s.dir, "stopped") }

// seedNote lies on the volume from before a copied directory gets its name until it is bound: a copy that was never bound
// is no more than a copy, and is made anew from what the host used in the meantime.
func seedNote(source string) string {
	return path.Join(path.Dir(source), ".reeve-seeding-"+path.Base(source))
}

func seedTemp(source string) string {
	return path.Join(path.Dir(source), ".reeve-copy-"+path.Base(source))
}

// bindDirectory moves one directory of the host onto a mounted volume. The order is what makes a kill harmless: the unit
// is stopped and that is noted; the copy is complete before it has its name; fstab has the line before the mount, so that
// whatever was written to the volume is found again after a reboot.
func (s *Service) bindDirectory(ctx context.Context, c *host.Change, mpoint string, b agentapi.BindMount) error {
	source := path.Join(mpoint, b.Source)
	mounts, err := s.mounts()
	if err != nil {
		return err
	}
	line := bindLine(source, b.Target, mpoint, b.Unit)
	if m, taken := mountedAt(mounts, b.Target); taken {
		if volume, _ := mountedAt(mounts, mpoint); m.Number != volume.Number || !strings.HasSuffix(m.Root, "/"+b.Source) {
			return conflict("%s is mounted at %s already", m.Source, b.Target)
		}
		return s.finishBind(ctx, c, line)
	}
	if err := s.stopUnit(ctx, c, b.Unit); err != nil {
		return err
	}
	if err := s.seed(ctx, c, source, b.Target); err != nil {
		return err
	}
	if err := c.MkdirAll(b.Target, 0o755); err != nil {
		return err
	}
	if err := s.keepMounted(c, line); err != nil {
		return err
	}
	if err := s.mount(ctx, c, b.Target, "--bind", s.host.Path(source), s.host.Path(b.Target)); err != nil {
		return err
	}
	return s.finishBind(ctx, c, line)
}

// finishBind is what is left when the directory is bound.
func (s *Service) finishBind(ctx context.Context, c *host.Change, line fstabLine) error {
	if err := s.keepMounted(c, line); err != nil {
		return err
	}
	if err := c.Remove(seedNote(line.Source)); err != nil {
		return err
	}
	unit := line.unit()
	if unit == "" {
		return nil
	}
	if err := s.guardUnit(ctx, c, unit, append(s.targetsOf(unit, line.MPoint), line.MPoint)); err != nil {
		return err
	}
	return s.startIfNoted(ctx, c, unit)
}

// targetsOf are the other directories of a unit that lie on volumes.
func (s *Service) targetsOf(unit, except string) []string {
	text, _ := s.readFstab()
	var targets []string
	for _, l := range parseFstab(text) {
		if l.ours() && l.unit() == unit && l.MPoint != except {
			targets = append(targets, l.MPoint)
		}
	}
	return targets
}

// guardUnit writes, or with no targets removes, the unit's drop-in.
func (s *Service) guardUnit(ctx context.Context, c *host.Change, unit string, targets []string) error {
	var text []byte
	if len(targets) > 0 {
		text = renderDropIn(targets...)
		if err := c.MkdirAll(path.Dir(dropIn(unit)), 0o755); err != nil {
			return err
		}
	}
	return s.changeAndTell(c, notice{
		name: "systemd", file: dropIn(unit), text: text, perm: 0o644,
		tell: func() error { return s.host.Units().DaemonReload(ctx) },
		undo: func() error { return s.host.Units().DaemonReload(context.WithoutCancel(ctx)) },
	})
}

// stopUnit stops a unit that runs, having noted that it did.
func (s *Service) stopUnit(ctx context.Context, c *host.Change, unit string) error {
	if unit == "" {
		return nil
	}
	state, err := s.host.Units().State(ctx, unit)
	if err != nil || !state.Running() {
		return err
	}
	if err := c.MkdirAll(s.stoppedDir(), 0o700); err != nil {
		return err
	}
	if _, err := c.WriteFile(s.stopNote(unit), []byte("\n"), 0o600); err != nil {
		return err
	}
	c.OnRollback(func() error { return s.host.Units().Start(context.WithoutCancel(ctx), unit) })
	return s.host.Units().Stop(ctx, unit)
}

// startIfNoted starts a unit that we, or an agent that was killed, stopped.
func (s *Service) startIfNoted(ctx context.Context, c *host.Change, unit string) error {
	if !s.host.Exists(s.stopNote(unit)) {
		return nil
	}
	c.OnRollback(func() error { return s.host.Units().Stop(context.WithoutCancel(ctx), unit) })
	if err := s.host.Units().Start(ctx, unit); err != nil {
		return err
	}
	return c.Remove(s.stopNote(unit))
}

// seed makes the source directory, with a copy of the target's content when the source is new.
func (s *Service) seed(ctx context.Context, c *host.Change, source, target string) error {
	note := seedNote(source)
	if s.host.Exists(source) {
		if !s.host.Exists(note) {
			return nil // data of its own
		}
		if err := s.host.RemoveAll(source); err != nil { // a copy that was never used
			return err
		}
	}
	temp := seedTemp(source)
	if err := s.host.RemoveAll(temp); err != nil {
		return err
	}
	if err := c.MkdirAll(path.Dir(source), 0o755); err != nil {
		return err
	}
	c.OnRollback(func() error { return s.host.RemoveAll(temp) })
	if err := s.copyTree(ctx, target, temp); err != nil {
		return err
	}
	if _, err := c.WriteFile(note, []byte("\n"), 0o600); err != nil {
		return err
	}
	c.OnRollback(func() error { return s.host.RemoveAll(source) })
	return s.host.Rename(temp, source)
}

// copyTree copies a directory with owners, modes, times and extended attributes. Blocks of zeros become holes, and where
// the filesystem can share blocks they are shared: a database's empty log costs nothing.
func (s *Service) copyTree(ctx context.Context, from, to string) error {
	st, err := s.host.Stat(from)
	if errors.Is(err, fs.ErrNotExist) {
		return s.host.MkdirAll(to, 0o755)
	}
	if err != nil {
		return err
	}
	if !st.IsDir() {
		return invalid("%s is not a directory", from)
	}
	args := []string{"-aT", "--reflink=auto", "--sparse=always", "--", s.host.Path(from), s.host.Path(to)}
	if _, err := s.host.Run(ctx, host.Cmd{Path: "cp", Args: args, Timeout: seedTimeout}); err != nil {
		return linuxError(err)
	}
	return s.host.SyncFS(to)
}

// unbindDirectory takes one bound directory off the host again; its unit stays stopped.
func (s *Service) unbindDirectory(ctx context.Context, c *host.Change, mounts []mount, line fstabLine) error {
	unit := line.unit()
	if unit != "" {
		state, err := s.host.Units().State(ctx, unit)
		if err != nil {
			return err
		}
		if state.Running() {
			c.OnRollback(func() error { return s.host.Units().Start(context.WithoutCancel(ctx), unit) })
			if err := s.host.Units().Stop(ctx, unit); err != nil {
				return err
			}
		}
	}
	if _, mounted := mountedAt(mounts, line.MPoint); mounted {
		if err := s.unmount(ctx, line.MPoint); err != nil {
			return err
		}
		c.OnRollback(func() error {
			return s.mount(context.WithoutCancel(ctx), s.host.Begin(), line.MPoint, "--bind", s.host.Path(line.Source), s.host.Path(line.MPoint))
		})
	}
	text, err := s.readFstab()
	if err != nil {
		return err
	}
	if err := s.writeFstab(c, removeFstab(text, line.MPoint)); err != nil {
		return err
	}
	if unit == "" {
		return nil
	}
	return s.guardUnit(ctx, c, unit, s.targetsOf(unit, line.MPoint))
}
