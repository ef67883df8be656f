package deploy

import (
	"context"
	"errors"
	"path"

	"github.com/reeve-paas/reeve/handlers/host"
)

// Start implements handlers.Starter. It mounts the volumes that fstab records as ours and that are not mounted, because
// systemd itself skips devices of fstab in a container, and starts the units that wait for them; and it starts units that
// a killed agent stopped. A volume whose device is not there (yet) is left for a later mount_volume. Then it ends what a
// killed agent was running, brings a router's answer to unknown names up to date, and starts the units of apps that are to run.
func (s *Service) Start(ctx context.Context) error {
	return errors.Join(s.mountVolumes(ctx), s.endTasks(ctx), s.sweepApps(), s.renewUnknownHosts(ctx), s.startUnits(ctx))
}

func (s *Service) mountVolumes(ctx context.Context) error {
	s.volumeMu.Lock()
	defer s.volumeMu.Unlock()
	text, err := s.host.ReadFstab()
	if err != nil {
		return err
	}
	var errs []error
	for _, l := range host.ParseFstab(text) {
		if ours(l) {
			errs = append(errs, s.mountAgain(ctx, l))
		}
	}
	notes, err := s.host.ReadDir(s.stoppedDir())
	errs = append(errs, err)
	for _, n := range notes {
		if unitName.MatchString(n.Name()) {
			errs = append(errs, s.startIfNoted(ctx, s.host.Begin(), n.Name()))
		}
	}
	return errors.Join(errs...)
}

// mountAgain mounts one line of fstab. Volumes come before what is bound from them: they were written first.
func (s *Service) mountAgain(ctx context.Context, l host.FstabLine) error {
	mounts, err := s.host.Mounts()
	if err != nil {
		return err
	}
	if _, mounted := host.MountedAt(mounts, l.MPoint); mounted {
		switch {
		case !isBind(l):
			return nil
		case !boundFromVolume(mounts, l):
			return conflict("something else than %s is mounted at %s", l.Source, l.MPoint)
		}
		return s.finishBind(ctx, s.host.Begin(), l)
	}
	if _, mounted := host.MountedAt(mounts, volumeOf(l)); isBind(l) && !mounted || !s.host.Exists(l.Source) {
		return nil // what lies at the source is not the volume's
	}
	if err := s.host.MkdirAll(l.MPoint, 0o755); err != nil {
		return err
	}
	c := s.host.Begin() // never rolled back: what is mounted may stay so
	if err := s.mount(ctx, c, l.MPoint, s.mountLine(l)); err != nil {
		return err
	}
	s.log.Info("mounted again", "mpoint", l.MPoint)
	if !isBind(l) {
		return nil
	}
	if err := s.finishBind(ctx, c, l); err != nil {
		return err
	}
	return s.startIfWanted(ctx, unitOf(l))
}

// startIfWanted starts a unit that is to run from boot on, and could not while its directory was missing.
func (s *Service) startIfWanted(ctx context.Context, unit string) error {
	if unit == "" || !s.host.Exists(path.Join(unitDir, "multi-user.target.wants", unit)) {
		return nil
	}
	return s.host.Units().Start(ctx, unit)
}
