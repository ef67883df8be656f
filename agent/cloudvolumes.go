package main

import (
	"context"
	"errors"
	"math"
	"slices"

	"github.com/reeve-paas/reeve/agent/queryenv"
	"github.com/reeve-paas/reeve/handlers/storage"
)

const (
	mib = 1 << 20
	gib = 1 << 30
)

// cloudVolumes are the volumes that the coordinator gives this host, out of the cloud it is in.
type cloudVolumes struct{ *queryenv.Client }

var _ storage.Provider = cloudVolumes{}

func ref(r storage.Ref) queryenv.VolumeRef {
	return queryenv.VolumeRef{Type: r.Kind, ID: r.ID, Key: r.Key}
}

// bytesOf is a size in GB as whole MiB, rounded up.
func bytesOf(sizeGB float64) int64 { return int64(math.Ceil(sizeGB*(gib/mib))) * mib }

// described translates a reply.
func described(v queryenv.Volume, err error) (storage.CloudVolume, error) {
	if errors.Is(err, queryenv.ErrNoVolume) {
		err = storage.ErrNoVolume
	}
	return storage.CloudVolume{ID: v.ID, SizeGB: float64(v.SizeBytes) / gib, Here: v.Here, Device: v.Device}, err
}

// Serves implements storage.Provider, as all methods do.
func (c cloudVolumes) Serves(ctx context.Context, kind string) (bool, error) {
	types, err := c.VolumeTypes(ctx)
	return slices.Contains(types, kind), err
}

func (c cloudVolumes) Volume(ctx context.Context, r storage.Ref) (storage.CloudVolume, error) {
	return described(c.Client.Volume(ctx, ref(r)))
}

func (c cloudVolumes) CreateVolume(ctx context.Context, key string, s storage.VolumeSpec) (storage.CloudVolume, error) {
	return described(c.Client.CreateVolume(ctx, queryenv.VolumeRef{Type: s.Kind, Key: key}, bytesOf(s.SizeGB), s.SnapshotID))
}

func (c cloudVolumes) AttachVolume(ctx context.Context, r storage.Ref) (string, error) {
	v, err := described(c.Client.AttachVolume(ctx, ref(r)))
	return v.Device, err
}

func (c cloudVolumes) DetachVolume(ctx context.Context, r storage.Ref, _ bool) error {
	_, err := described(queryenv.Volume{}, c.Client.DetachVolume(ctx, ref(r)))
	return err
}

func (c cloudVolumes) DeleteVolume(ctx context.Context, r storage.Ref) error {
	return c.Client.DeleteVolume(ctx, ref(r))
}

func (c cloudVolumes) GrowVolume(ctx context.Context, r storage.Ref, sizeGB float64) (storage.CloudVolume, error) {
	return described(c.Client.GrowVolume(ctx, ref(r), bytesOf(sizeGB)))
}

// TagVolume does nothing: the coordinator's volumes have no tags.
func (cloudVolumes) TagVolume(context.Context, storage.Ref, map[string]string) error { return nil }

// CreateSnapshot needs no tags: the coordinator's snapshots have none, and no description.
func (c cloudVolumes) CreateSnapshot(ctx context.Context, key string, r storage.Ref, _ string, _ map[string]string) (string, error) {
	id, err := c.Client.CreateSnapshot(ctx, ref(r), key)
	if errors.Is(err, queryenv.ErrNoVolume) {
		err = storage.ErrNoVolume
	}
	return id, err
}

func (c cloudVolumes) DeleteSnapshot(ctx context.Context, r storage.Ref) error {
	return c.Client.DeleteSnapshot(ctx, ref(r))
}
