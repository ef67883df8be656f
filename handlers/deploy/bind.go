package deploy

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"regexp"
	"slices"
	"strings"

	"github.com/reeve-paas/reeve/agent/agentapi"
	"github.com/reeve-paas/reeve/handlers/host"
)

var unitName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9@_.:-]{0,120}\.service$`)

const unitDir = "/etc/systemd/system"

// dropIn is where we add to a unit of the host.
func dropIn(unit string) string { return path.Join(unitDir, unit+".d", "reeve-volume.conf") }

// renderServiceGuard makes systemd leave a service stopped, at boot too, while a directory it lives in is not mounted: it
// must not run on the stale files below.
func renderServiceGuard(targets ...string) []byte {
	text := "# Written by reeve-agent: the service lives on a volume.\n[Unit]\n"
	for _, t := range targets {
		text += "RequiresMountsFor=" + t + "\nConditionPathIsMountPoint=" + t + "\n"
	}
	return []byte(text)
}

// renderMountGuard makes systemd leave a bind mount alone while the volume is not mounted. It would make an empty source
// directory otherwise and bind that: in a container it skips devices of fstab, but not binds.
func renderMountGuard(mpoint string) []byte {
	return []byte("# Written by reeve-agent: what is bound here lies on a volume.\n[Unit]\nConditionPathIsMountPoint=" + mpoint + "\n")
}

// mountUnit is the name of the unit that systemd makes of a mount point (systemd.unit(5), string escaping).
func mountUnit(mpoint string) string {
	var b strings.Builder
	for i, c := range []byte(strings.Trim(mpoint, "/")) {
		switch {
		case c == '/':
			b.WriteByte('-')
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', c == ':', c == '_', c == '.' && i > 0:
			b.WriteByte(c)
		default:
			fmt.Fprintf(&b, `\x%02x`, c)
		}
	}
	return b.String() + ".mount"
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
	mounts, err := s.host.Mounts()
	if err != nil {
		return err
	}
	line := bindLine(source, b.Target, mpoint, b.Unit)
	if m, taken := host.MountedAt(mounts, b.Target); taken {
		if !boundFromVolume(mounts, line) {
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
	if err := s.guard(ctx, c, line, true); err != nil { // before fstab: the line must not be without it
		return err
	}
	if err := s.keepMounted(c, line); err != nil {
		return err
	}
	if err := s.mount(ctx, c, b.Target, s.mountLine(line)); err != nil {
		return err
	}
	return s.finishBind(ctx, c, line)
}

// boundFromVolume says whether what is mounted at a line's target is the directory of its volume.
func boundFromVolume(mounts []host.Mount, line host.FstabLine) bool {
	m, mounted := host.MountedAt(mounts, line.MPoint)
	volume, there := host.MountedAt(mounts, volumeOf(line))
	return mounted && there && m.Number == volume.Number && m.Root == path.Join(volume.Root, strings.TrimPrefix(line.Source, volumeOf(line)))
}

// finishBind is what is left when the directory is bound.
func (s *Service) finishBind(ctx context.Context, c *host.Change, line host.FstabLine) error {
	if err := s.guard(ctx, c, line, true); err != nil {
		return err
	}
	if err := s.keepMounted(c, line); err != nil {
		return err
	}
	if err := c.Remove(seedNote(line.Source)); err != nil {
		return err
	}
	if unitOf(line) == "" {
		return nil
	}
	return s.startIfNoted(ctx, c, unitOf(line))
}

// targetsOf are the other directories of a unit that lie on volumes.
func (s *Service) targetsOf(unit, except string) []string {
	text, _ := s.host.ReadFstab()
	var targets []string
	for _, l := range host.ParseFstab(text) {
		if ours(l) && unitOf(l) == unit && l.MPoint != except {
			targets = append(targets, l.MPoint)
		}
	}
	return targets
}

// guard writes, or takes away, what keeps systemd from using a bound directory without its volume. It matters at the next
// boot, when systemd reads it anyway; only taking it away is told to systemd at once, because a service would wait for a
// volume that is not to come. Reading all units costs a tenth of a second on a small host.
func (s *Service) guard(ctx context.Context, c *host.Change, line host.FstabLine, on bool) error {
	files := []wantedFile{{path: dropIn(mountUnit(line.MPoint)), perm: 0o644}}
	if on {
		files[0].text = renderMountGuard(volumeOf(line))
	}
	if unit := unitOf(line); unit != "" {
		service := wantedFile{path: dropIn(unit), perm: 0o644}
		targets := s.targetsOf(unit, line.MPoint)
		if on {
			targets = append(targets, line.MPoint)
		}
		if slices.Sort(targets); len(targets) > 0 {
			service.text = renderServiceGuard(targets...)
		}
		files = append(files, service)
	}
	return s.changeAndTell(c, notice{
		name: "systemd", files: files,
		tell: func() error {
			if on {
				return nil
			}
			return s.host.Units().DaemonReload(ctx)
		},
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
		return host.LinuxError(err)
	}
	return s.host.SyncFS(to)
}

// unbindDirectory takes one bound directory off the host again; its unit stays stopped.
func (s *Service) unbindDirectory(ctx context.Context, c *host.Change, mounts []host.Mount, line host.FstabLine) error {
	unit := unitOf(line)
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
	if _, mounted := host.MountedAt(mounts, line.MPoint); mounted {
		if err := s.host.Unmount(ctx, line.MPoint); err != nil {
			return err
		}
		c.OnRollback(func() error { return s.mountLine(line)(context.WithoutCancel(ctx)) })
	}
	if err := s.dropLine(c, line.MPoint); err != nil {
		return err
	}
	return s.guard(ctx, c, line, false)
}
