package deploy

import (
	"context"
	"errors"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/reeve-paas/reeve/agent/agentapi"
	"github.com/reeve-paas/reeve/handlers"
	"github.com/reeve-paas/reeve/handlers/host"
)

const seedTimeout = 2 * time.Hour

// volumeTypes are the filesystems a volume may be asked to get.
var volumeTypes = []string{"ext4", "xfs"}

// ownedBySystem are directories that no app's volume may cover, besides those that no volume at all may.
var ownedBySystem = []string{"/home", "/opt", "/root", "/run", "/srv", "/tmp", "/var", "/var/lib", "/var/log", "/var/cache"}

func checkMount(p agentapi.MountVolumeParams) error {
	if err := errors.Join(checkPath("device", p.Device), checkTarget("mpoint", p.MPoint)); err != nil {
		return err
	}
	if !strings.HasPrefix(p.Device, "/dev/") {
		return invalid("device has to lie below /dev, not %.200q", p.Device)
	}
	if !slices.Contains(volumeTypes, p.FSType) {
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
	if host.SystemPath(p) || slices.Contains(ownedBySystem, p) {
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

// GrowVolume lets a mounted filesystem fill its device.
func (s *Service) GrowVolume(ctx context.Context, p agentapi.GrowVolumeParams) (agentapi.VolumeMount, error) {
	if err := checkTarget("mpoint", p.MPoint); err != nil {
		return agentapi.VolumeMount{}, err
	}
	s.volumeMu.Lock()
	defer s.volumeMu.Unlock()
	mounts, err := s.host.Mounts()
	if err != nil {
		return agentapi.VolumeMount{}, err
	}
	m, mounted := host.MountedAt(mounts, p.MPoint)
	if !mounted {
		return agentapi.VolumeMount{}, notFound("nothing is mounted at %s", p.MPoint)
	}
	if err := s.host.GrowFilesystem(ctx, m); errors.Is(err, host.ErrGrowMounted) {
		if err := s.growUnmounted(ctx, mounts, m); err != nil {
			return agentapi.VolumeMount{}, err
		}
	} else if err != nil {
		return agentapi.VolumeMount{}, err
	}
	result, err := s.describe(ctx, agentapi.MountVolumeParams{Device: m.Source, MPoint: p.MPoint})
	if err == nil {
		s.log.Info("volume fills its device", "device", m.Source, "mpoint", p.MPoint, "size_bytes", result.SizeBytes)
	}
	return result, err
}

// growUnmounted takes a volume off the host for as long as it takes to grow it; services that live on it, and units of apps that
// do, are stopped meanwhile. An agent that is killed in between mounts it again when it starts, and starts what it stopped.
func (s *Service) growUnmounted(ctx context.Context, mounts []host.Mount, m host.Mount) (err error) {
	text, err := s.host.ReadFstab()
	if err != nil {
		return err
	}
	volume, binds := volumeLines(host.ParseFstab(text), m.MPoint)
	if volume.MPoint == "" {
		return conflict("what is mounted at %s was not mounted by mount_volume, and cannot grow while it is mounted", m.MPoint)
	}
	c := s.host.Begin()
	defer rollback(c, &err)
	for _, b := range binds {
		if err := s.stopUnit(ctx, c, unitOf(b)); err != nil {
			return err
		}
	}
	lines := append([]host.FstabLine{volume}, binds...)
	services, unlock, err := s.stopUnitsOn(ctx, c, lines)
	defer unlock()
	if err != nil {
		return err
	}
	for _, l := range slices.Backward(lines) {
		if _, mounted := host.MountedAt(mounts, l.MPoint); !mounted {
			continue
		}
		if err := s.host.Unmount(ctx, l.MPoint); err != nil {
			return err
		}
		c.OnRollback(func() error { return s.mountLine(l)(context.WithoutCancel(ctx)) })
	}
	if err := s.host.CheckAndGrow(ctx, m.Source); err != nil {
		return err
	}
	for _, l := range lines {
		if err := s.mount(ctx, c, l.MPoint, s.mountLine(l)); err != nil {
			return err
		}
	}
	for _, b := range binds {
		if err := s.startIfNoted(ctx, c, unitOf(b)); err != nil {
			return err
		}
	}
	for _, service := range services {
		c.OnRollback(func() error { return s.host.Units().Stop(context.WithoutCancel(ctx), service) })
		if err := s.host.Units().Start(ctx, service); err != nil {
			return err
		}
	}
	c.Commit()
	return nil
}

// stopUnitsOn stops the processes of units whose app lies on mounts, and returns their services. Nobody else starts or stops
// such a unit until unlock. A killed agent starts them again by their records.
func (s *Service) stopUnitsOn(ctx context.Context, c *host.Change, lines []host.FstabLine) (services []string, unlock func(), err error) {
	var locks []func()
	unlock = func() {
		for _, free := range locks {
			free()
		}
	}
	records, err := s.units("")
	if err != nil {
		return nil, unlock, err
	}
	for _, r := range records {
		a, err := s.load(r.App)
		if err != nil {
			return nil, unlock, err
		}
		on := slices.ContainsFunc(lines, func(l host.FstabLine) bool { return strings.HasPrefix(a.home(), l.MPoint+"/") })
		if !on {
			continue
		}
		_, free, err := s.locks.take(ctx, r.App+"."+r.Unit, false)
		if err != nil {
			return nil, unlock, err
		}
		locks = append(locks, free)
		for _, process := range r.Processes {
			service := unitService(r.App, r.Unit, process.Name)
			d, err := s.host.UnitControl().Detail(ctx, service)
			if err != nil {
				return nil, unlock, err
			}
			if d.Active == "inactive" || d.Active == "failed" {
				continue
			}
			c.OnRollback(func() error { return s.host.Units().Start(context.WithoutCancel(ctx), service) })
			if err := s.host.Units().Stop(ctx, service); err != nil {
				return nil, unlock, err
			}
			services = append(services, service)
		}
	}
	return services, unlock, nil
}

func (s *Service) describe(ctx context.Context, p agentapi.MountVolumeParams) (agentapi.VolumeMount, error) {
	mounts, err := s.host.Mounts()
	if err != nil {
		return agentapi.VolumeMount{}, err
	}
	m, _ := host.MountedAt(mounts, p.MPoint)
	use, err := s.host.StatFS(ctx, p.MPoint)
	return agentapi.VolumeMount{Device: p.Device, MPoint: p.MPoint, FSType: m.FSType,
		SizeBytes: int64(use.SizeBytes), FreeBytes: int64(use.AvailBytes)}, err
}

// mountDevice mounts the device unless it is mounted there, and keeps it in fstab.
func (s *Service) mountDevice(ctx context.Context, c *host.Change, p agentapi.MountVolumeParams) error {
	mounts, err := s.host.Mounts()
	if err != nil {
		return err
	}
	if m, taken := host.MountedAt(mounts, p.MPoint); taken {
		if !s.host.SameDevice(m.Source, p.Device) {
			return conflict("%s is mounted at %s already", m.Source, p.MPoint)
		}
		return s.keepMounted(c, volumeLine(p.Device, p.MPoint, m.FSType))
	}
	if at := s.host.MountsOf(mounts, p.Device); len(at) > 0 {
		return conflict("%s is mounted at %s already", p.Device, at[0].MPoint)
	}
	fstype, err := s.ensureFilesystem(ctx, p.Device, p.FSType)
	if err != nil {
		return err
	}
	if err := c.MkdirAll(p.MPoint, 0o755); err != nil {
		return err
	}
	line := volumeLine(p.Device, p.MPoint, fstype)
	if err := s.keepMounted(c, line); err != nil {
		return err
	}
	return s.mount(ctx, c, p.MPoint, s.mountLine(line))
}

// ensureFilesystem finds out what is on the device, and makes a filesystem only where nothing at all is: no filesystem,
// no partition table, no member of a volume group or an array, no swap.
func (s *Service) ensureFilesystem(ctx context.Context, device, want string) (fstype string, err error) {
	found, err := s.host.ProbeDevice(ctx, device)
	if err != nil {
		return "", err
	}
	switch {
	case len(found) == 0:
		return want, s.host.MakeFilesystem(ctx, device, want)
	case found.Filesystem() != "":
		return found.Filesystem(), nil
	}
	return "", &agentapi.Error{Kind: agentapi.KindConflict, Class: "FileSystemError",
		Text: device + " holds " + found.String() + " and is left alone; wipe it by hand if it is no longer needed"}
}

// mount mounts, by one of Host's ways; taking it back unmounts.
func (s *Service) mount(ctx context.Context, c *host.Change, mpoint string, how func(context.Context) error) error {
	if err := how(ctx); err != nil {
		return err
	}
	c.OnRollback(func() error { return s.host.Unmount(context.WithoutCancel(ctx), mpoint) })
	return nil
}

// mountLine mounts what a line of fstab says.
func (s *Service) mountLine(l host.FstabLine) func(context.Context) error {
	return func(ctx context.Context) error {
		if isBind(l) {
			return s.host.BindMount(ctx, l.Source, l.MPoint)
		}
		return s.host.Mount(ctx, l.FSType, l.Source, l.MPoint)
	}
}

// keepMounted writes a line of fstab, which also serves as our record of the mount.
func (s *Service) keepMounted(c *host.Change, line host.FstabLine) error {
	return c.EditFstab(func(text []byte) []byte { return setFstab(text, line) })
}

// dropLine removes our line of a mount point.
func (s *Service) dropLine(c *host.Change, mpoint string) error {
	return c.EditFstab(func(text []byte) []byte { return removeFstab(text, mpoint) })
}

// UnmountVolume takes a volume, and what was bound from it, off the host. Services that live on it stay stopped: what
// lies below their directories now is what was there before the volume came.
func (s *Service) UnmountVolume(ctx context.Context, p agentapi.UnmountVolumeParams) (_ handlers.Null, err error) {
	if err := checkTarget("mpoint", p.MPoint); err != nil {
		return handlers.Null{}, err
	}
	s.volumeMu.Lock()
	defer s.volumeMu.Unlock()
	text, err := s.host.ReadFstab()
	if err != nil {
		return handlers.Null{}, err
	}
	mounts, err := s.host.Mounts()
	if err != nil {
		return handlers.Null{}, err
	}
	volume, binds := volumeLines(host.ParseFstab(text), p.MPoint)
	if _, mounted := host.MountedAt(mounts, p.MPoint); volume.MPoint == "" && mounted {
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
	if _, mounted := host.MountedAt(mounts, p.MPoint); mounted {
		if err := s.host.Unmount(ctx, p.MPoint); err != nil {
			return handlers.Null{}, err
		}
		c.OnRollback(func() error { return s.mountLine(volume)(context.WithoutCancel(ctx)) })
	}
	if err := s.dropLine(c, p.MPoint); err != nil {
		return handlers.Null{}, err
	}
	c.Commit()
	s.log.Info("volume is unmounted", "mpoint", p.MPoint)
	return handlers.Null{}, nil
}

// volumeLines are our lines for a volume: its own, and those of the directories bound from it.
func volumeLines(lines []host.FstabLine, mpoint string) (volume host.FstabLine, binds []host.FstabLine) {
	for _, l := range lines {
		switch {
		case !ours(l):
		case l.MPoint == mpoint && !isBind(l):
			volume = l
		case isBind(l) && strings.HasPrefix(path.Clean(l.Source), mpoint+"/"):
			binds = append(binds, l)
		}
	}
	return volume, binds
}
