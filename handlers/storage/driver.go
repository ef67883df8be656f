package storage

import (
	"context"

	"github.com/reeve-paas/reeve/agent/agentapi"
)

// driver is what one type of volume does in its own way. A step it does is noted first with work.will.
type driver interface {
	// defaults are the members of the type.
	defaults() map[string]any
	// ensure attaches the volume, or makes it when it is new, and sets its device. A volume that has an id and is not there
	// is errGone.
	ensure(ctx context.Context, w *work, v *volume) error
	// locate sets device to where the volume is attached now, null if nowhere. It changes nothing.
	locate(ctx context.Context, w *work, v *volume) error
	// detach gives the device back. Nothing is mounted from it any more.
	detach(ctx context.Context, w *work, v *volume, force bool) error
	// destroy deletes what locate found. Nothing is mounted from it any more. It commits before the first step that cannot
	// be taken back; what follows can be repeated.
	destroy(ctx context.Context, w *work, v *volume, d deletion) error
}

// snapshotter is a driver whose volumes can be copied. The volume is attached.
type snapshotter interface {
	snapshot(ctx context.Context, w *work, v *volume, l label) (*volume, error)
	// dropSnapshot deletes a snapshot; one that is not there is no error.
	dropSnapshot(ctx context.Context, w *work, snap *volume) error
}

// grower is a driver whose volumes can grow.
type grower interface {
	// checkGrowth refuses what cannot be, before anything is touched.
	checkGrowth(ctx context.Context, w *work, v *volume, growth agentapi.StorageConfig) error
	// bigger makes the larger volume of a detached one and attaches it.
	bigger(ctx context.Context, w *work, v *volume, growth agentapi.StorageConfig) (*volume, error)
}

// tagger is a driver that tells others how a volume is meant.
type tagger interface {
	tag(ctx context.Context, w *work, v *volume, status string) error
}

// use is what is wanted of a volume beyond being there.
type use struct{ mkfs, mount, fstab bool }

// deletion is how much goes when a volume is destroyed.
type deletion struct{ force, disks bool }

// label is what a snapshot is given along.
type label struct {
	description string
	tags        map[string]agentapi.Text
}

func (s *Service) newDrivers() map[string]driver {
	volumeGroup := &lvm{s}
	drivers := map[string]driver{
		"base":          base{},
		"tmpfs":         tmpfs{},
		"loop":          loop{s},
		"lvm":           volumeGroup,
		"raid":          &raid{s, volumeGroup},
		"eph":           &eph{s, volumeGroup},
		"ec2_ephemeral": instanceDisk{s, "ec2_ephemeral"},
		"gce_ephemeral": instanceDisk{s, "gce_ephemeral"},
	}
	for kind := range clouds {
		drivers[kind] = &cloudVolume{s, kind}
	}
	return drivers
}

// base is a block device that is there anyway.
type base struct{}

func (base) defaults() map[string]any { return nil }

func (base) ensure(context.Context, *work, *volume) error { return nil }

func (base) locate(context.Context, *work, *volume) error { return nil }

func (base) detach(context.Context, *work, *volume, bool) error { return nil }

func (base) destroy(context.Context, *work, *volume, deletion) error { return nil }
