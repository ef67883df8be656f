package deploy

import (
	"context"
	"errors"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/reeve-paas/reeve/agent/agentapi"
	"github.com/reeve-paas/reeve/handlers"
	"github.com/reeve-paas/reeve/handlers/host"
)

const (
	fstabFile  = "/etc/fstab"
	mountsFile = "/proc/self/mountinfo"

	mkfsTimeout = 10 * time.Minute
	moveTimeout = 5 * time.Minute // of mount and umount, which may have a journal to replay or much to write
	seedTimeout = 2 * time.Hour
)

// mkfs is how a filesystem is made: without touching every block first, which the kernel does later in the background.
var mkfs = map[string][]string{
	"ext4": {"mkfs.ext4", "-q", "-m", "1", "-E", "lazy_itable_init=1,lazy_journal_init=1"},
	"xfs":  {"mkfs.xfs", "-q"},
}

// ownedBySystem are directories that no volume may cover.
var ownedBySystem = []string{"/", "/bin", "/boot", "/dev", "/etc", "/home", "/lib", "/lib64", "/opt", "/proc", "/root", "/run",
	"/sbin", "/srv", "/sys", "/tmp", "/usr", "/var", "/var/lib", "/var/log", "/var/cache"}

func checkMount(p agentapi.MountVolumeParams) error {
	if err := errors.Join(checkPath("device", p.Device), checkTarget("mpoint", p.MPoint)); err != nil {
		return err
	}
	if !strings.HasPrefix(p.Device, "/dev/") {
		return invalid("device has to lie below /dev, not %.200q", p.Device)
	}
	if mkfs[p.FSType] == nil {
		return invalid("fstype is ext4 or xfs, not %.40q", p.FSType)
	}
	for _, b := range p.Binds {
		if err := errors.Join(checkPath("source of a bind", "/"+b.Source), checkTarget("target of a bind", b.Target)); err != nil {
			return err
		}
		if b.Target == p.MPoint || strings.HasPrefix(b.Target, p.MPoint+"/") || strings.HasPrefix(p.MPoint, b.Target+"/") {
			return invalid("the target %s and the volume's %s lie in one another", b.Target, p.MPoint)
		}
		if b.Unit != "" && !unitName.MatchString(b.Unit) {
			return invalid("unit has to be the full name of a service, not %.80q", b.Unit)
		}
	}
	return nil
}

func checkTarget(what, p string) error {
	if err := checkPath(what, p); err != nil {
		return err
	}
	top, _, _ := strings.Cut(p[1:], "/")
	if slices.Contains(ownedBySystem, p) || slices.Contains([]string{"proc", "sys", "dev", "usr", "etc", "boot"}, top) {
		return invalid("%s cannot be %s: the system lives there", what, p)
	}
	return nil
}

// MountVolume puts a filesystem on a blank device, mounts it, and moves directories of the host onto it.
func (s *Service) MountVolume(ctx context.Context, p agentapi.MountVolumeParams) (_ agentapi.VolumeMount, err error) {
	if p.FSType == "" {
		p.FSType = "ext4"
	}
	if err := checkMount(p); err != nil {
		return agentapi.VolumeMount{}, err
	}
	s.volumeMu.Lock()
	defer s.volumeMu.Unlock()
	if !s.host.Exists(p.Device) {
		return agentapi.VolumeMount{}, notFound("there is no device %s on this host", p.Device)
	}
	c := s.host.Begin()
	defer rollback(c, &err)
	if err := s.mountDevice(ctx, c, p); err != nil {
		return agentapi.VolumeMount{}, err
	}
	for _, b := range p.Binds {
		if err := s.bindDirectory(ctx, c, p.MPoint, b); err != nil {
			return agentapi.VolumeMount{}, err
		}
	}
	result, err := s.describe(ctx, p)
	if err != nil {
		return agentapi.VolumeMount{}, err
	}
	c.Commit()
	s.log.Info("volume is mounted", "device", p.Device, "mpoint", p.MPoint, "fstype", result.FSType)
	return result, nil
}

func (s *Service) describe(ctx context.Context, p agentapi.MountVolumeParams) (agentapi.VolumeMount, error) {
	mounts, err := s.mounts()
	if err != nil {
		return agentapi.VolumeMount{}, err
	}
	m, _ := mountedAt(mounts, p.MPoint)
	use, err := s.host.StatFS(ctx, p.MPoint)
	return agentapi.VolumeMount{Device: p.Device, MPoint: p.MPoint, FSType: m.FSType,
		SizeBytes: int64(use.SizeBytes), FreeBytes: int64(use.AvailBytes)}, err
}

func (s *Service) mounts() ([]mount, error) {
	text, err := s.host.ReadFile(mountsFile)
	return parseMounts(text), err
}

// mountDevice mounts the device unless it is mounted there, and keeps it in fstab.
func (s *Service) mountDevice(ctx context.Context, c *host.Change, p agentapi.MountVolumeParams) error {
	mounts, err := s.mounts()
	if err != nil {
		return err
	}
	if m, taken := mountedAt(mounts, p.MPoint); taken {
		if !s.sameDevice(m.Source, p.Device) {
			return conflict("%s is mounted at %s already", m.Source, p.MPoint)
		}
		return s.keepMounted(c, volumeLine(p.Device, p.MPoint, m.FSType))
	}
	for _, m := range mounts {
		if m.Root == "/" && s.sameDevice(m.Source, p.Device) {
			return conflict("%s is mounted at %s already", p.Device, m.MPoint)
		}
	}
	fstype, err := s.ensureFilesystem(ctx, p.Device, p.FSType)
	if err != nil {
		return err
	}
	if err := c.MkdirAll(p.MPoint, 0o755); err != nil {
		return err
	}
	if err := s.keepMounted(c, volumeLine(p.Device, p.MPoint, fstype)); err != nil {
		return err
	}
	return s.mount(ctx, c, p.MPoint, "-t", fstype, s.host.Path(p.Device), s.host.Path(p.MPoint))
}

// sameDevice compares two device paths, following links such as those below /dev/disk.
func (s *Service) sameDevice(a, b string) bool {
	if a == b {
		return true
	}
	realA, err1 := filepath.EvalSymlinks(s.host.Path(a))
	realB, err2 := filepath.EvalSymlinks(s.host.Path(b))
	return err1 == nil && err2 == nil && realA == realB
}

// ensureFilesystem finds out what is on the device, and makes a filesystem only where nothing at all is: no filesystem,
// no partition table, no member of a volume group or an array, no swap.
func (s *Service) ensureFilesystem(ctx context.Context, device, want string) (fstype string, err error) {
	found, err := s.probe(ctx, device)
	if err != nil {
		return "", err
	}
	switch {
	case len(found) == 0:
		args := append(slices.Clone(mkfs[want]), s.host.Path(device))
		if _, err := s.host.Run(ctx, host.Cmd{Path: args[0], Args: args[1:], Timeout: mkfsTimeout}); err != nil {
			return "", &agentapi.Error{Kind: agentapi.KindInternal, Class: "FileSystemError", Text: err.Error(), Err: err}
		}
		return want, nil
	case found["USAGE"] == "filesystem" && found["TYPE"] != "":
		return found["TYPE"], nil
	}
	return "", &agentapi.Error{Kind: agentapi.KindConflict, Class: "FileSystemError",
		Text: device + " holds " + describeProbe(found) + " and is left alone; wipe it by hand if it is no longer needed"}
}

func describeProbe(found map[string]string) string {
	for _, key := range []string{"TYPE", "PTTYPE"} {
		if found[key] != "" {
			return "something of type " + found[key]
		}
	}
	return "several things at once"
}

// Exit codes of blkid --probe.
const (
	probeNothing   = 2
	probeAmbiguous = 8
)

// probe reads the signatures on a device, never a cache of them. A blank device has none.
func (s *Service) probe(ctx context.Context, device string) (map[string]string, error) {
	// blkid answers "nothing" also for what it cannot read; blockdev does not.
	if _, err := s.host.Run(ctx, host.Cmd{Path: "blockdev", Args: []string{"--getsize64", s.host.Path(device)}}); err != nil {
		return nil, linuxError(err)
	}
	out, err := s.host.Run(ctx, host.Cmd{Path: "blkid", Args: []string{"-p", "-o", "export", s.host.Path(device)}})
	if err != nil {
		e, _ := errors.AsType[*host.CommandError](err)
		switch {
		case e == nil || e.Err != nil:
			return nil, linuxError(err)
		case out.Code == probeNothing && len(strings.TrimSpace(string(out.Stderr))) == 0:
			return nil, nil
		case out.Code == probeAmbiguous:
			return map[string]string{"AMBIGUOUS": "yes"}, nil
		}
		return nil, linuxError(err)
	}
	found := map[string]string{}
	for line := range strings.Lines(string(out.Stdout)) {
		if key, value, ok := strings.Cut(strings.TrimSpace(line), "="); ok && key != "DEVNAME" {
			found[key] = value
		}
	}
	if len(found) == 0 {
		return nil, &agentapi.Error{Kind: agentapi.KindInternal, Class: "LinuxError", Text: "blkid said nothing about " + device}
	}
	return found, nil
}

func linuxError(err error) error {
	return &agentapi.Error{Kind: agentapi.KindInternal, Class: "LinuxError", Text: err.Error(), Err: err}
}

// mount runs mount(8); taking it back unmounts.
func (s *Service) mount(ctx context.Context, c *host.Change, mpoint string, args ...string) error {
	if _, err := s.host.Run(ctx, host.Cmd{Path: "mount", Args: args, Timeout: moveTimeout}); err != nil {
		return &agentapi.Error{Kind: agentapi.KindInternal, Class: "FileSystemError", Text: err.Error(), Err: err}
	}
	c.OnRollback(func() error { return s.unmount(context.WithoutCancel(ctx), mpoint) })
	return nil
}

func (s *Service) unmount(ctx context.Context, mpoint string) error {
	_, err := s.host.Run(ctx, host.Cmd{Path: "umount", Args: []string{s.host.Path(mpoint)}, Timeout: moveTimeout})
	if err == nil {
		return nil
	}
	return &agentapi.Error{Kind: agentapi.KindConflict, Class: "FileSystemError", Err: err,
		Text: "cannot unmount " + mpoint + ", something still uses it: " + err.Error()}
}

// keepMounted writes a line of fstab, which also serves as our record of the mount.
func (s *Service) keepMounted(c *host.Change, line fstabLine) error {
	text, err := s.readFstab()
	if err != nil {
		return err
	}
	return s.writeFstab(c, setFstab(text, line))
}

func (s *Service) readFstab() ([]byte, error) {
	if !s.host.Exists(fstabFile) {
		return nil, nil
	}
	return s.host.ReadFile(fstabFile)
}

func (s *Service) writeFstab(c *host.Change, text []byte) error {
	var err error
	if s.host.Exists(fstabFile) {
		_, err = c.UpdateFile(fstabFile, text)
	} else if len(text) > 0 {
		_, err = c.WriteFile(fstabFile, text, 0o644)
	}
	return err
}

// UnmountVolume takes a volume, and what was bound from it, off the host. Services that live on it stay stopped: what
// lies below their directories now is what was there before the volume came.
func (s *Service) UnmountVolume(ctx context.Context, p agentapi.UnmountVolumeParams) (_ handlers.Null, err error) {
	if err := checkTarget("mpoint", p.MPoint); err != nil {
		return handlers.Null{}, err
	}
	s.volumeMu.Lock()
	defer s.volumeMu.Unlock()
	text, err := s.readFstab()
	if err != nil {
		return handlers.Null{}, err
	}
	mounts, err := s.mounts()
	if err != nil {
		return handlers.Null{}, err
	}
	volume, binds := volumeLines(parseFstab(text), p.MPoint)
	if _, mounted := mountedAt(mounts, p.MPoint); volume.MPoint == "" && mounted {
		return handlers.Null{}, conflict("what is mounted at %s was not mounted by mount_volume", p.MPoint)
	}
	if volume.MPoint == "" && len(binds) == 0 {
		return handlers.Null{}, nil
	}
	c := s.host.Begin()
	defer rollback(c, &err)
	for _, b := range slices.Backward(binds) {
		if err := s.unbindDirectory(ctx, c, mounts, b); err != nil {
			return handlers.Null{}, err
		}
	}
	if _, mounted := mountedAt(mounts, p.MPoint); mounted {
		if err := s.unmount(ctx, p.MPoint); err != nil {
			return handlers.Null{}, err
		}
		c.OnRollback(func() error {
			return s.mount(context.WithoutCancel(ctx), s.host.Begin(), p.MPoint,
				"-t", volume.FSType, s.host.Path(volume.Source), s.host.Path(p.MPoint))
		})
	}
	if text, err = s.readFstab(); err != nil {
		return handlers.Null{}, err
	}
	if err := s.writeFstab(c, removeFstab(text, p.MPoint)); err != nil {
		return handlers.Null{}, err
	}
	c.Commit()
	s.log.Info("volume is unmounted", "mpoint", p.MPoint)
	return handlers.Null{}, nil
}

// volumeLines are our lines for a volume: its own, and those of the directories bound from it.
func volumeLines(lines []fstabLine, mpoint string) (volume fstabLine, binds []fstabLine) {
	for _, l := range lines {
		switch {
		case !l.ours():
		case l.MPoint == mpoint && !l.bind():
			volume = l
		case l.bind() && strings.HasPrefix(path.Clean(l.Source), mpoint+"/"):
			binds = append(binds, l)
		}
	}
	return volume, binds
}
