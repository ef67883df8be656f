package agentclient

import (
	"context"

	"github.com/reeve-paas/reeve/agent/agentapi"
)

// Storage is the namespace storage; see agentapi/storage.go for parameters, errors and effects. A volume's configuration is
// what the last call returned.
//
// Every method waits for the end of the work, whatever Async says. For work that outlives a connection there is Start.
type Storage struct{ client *Client }

// Storage makes, grows, copies and removes volumes of the host.
func (c *Client) Storage() Storage { return Storage{c} }

const storage = "storage"

// Create makes a volume, or attaches it when it exists.
func (s Storage) Create(ctx context.Context, p agentapi.CreateVolumeParams) (agentapi.StorageConfig, error) {
	p.Async = false
	return invoke[agentapi.StorageConfig](ctx, s.client, storage, "create", p)
}

// Snapshot copies a volume as it is now.
func (s Storage) Snapshot(ctx context.Context, p agentapi.SnapshotVolumeParams) (agentapi.StorageConfig, error) {
	p.Async = false
	return invoke[agentapi.StorageConfig](ctx, s.client, storage, "snapshot", p)
}

// Detach takes a volume off the host; its data stays.
func (s Storage) Detach(ctx context.Context, p agentapi.DetachVolumeParams) (agentapi.StorageConfig, error) {
	p.Async = false
	return invoke[agentapi.StorageConfig](ctx, s.client, storage, "detach", p)
}

// Destroy detaches a volume and deletes it.
func (s Storage) Destroy(ctx context.Context, p agentapi.DestroyVolumeParams) (agentapi.StorageConfig, error) {
	p.Async = false
	return invoke[agentapi.StorageConfig](ctx, s.client, storage, "destroy", p)
}

// Grow makes a larger volume of the same data.
func (s Storage) Grow(ctx context.Context, p agentapi.GrowStorageParams) (agentapi.StorageConfig, error) {
	p.Async = false
	return invoke[agentapi.StorageConfig](ctx, s.client, storage, "grow", p)
}

// ReplaceRAIDDisk puts another disk into an array.
func (s Storage) ReplaceRAIDDisk(ctx context.Context, p agentapi.ReplaceRAIDDiskParams) (agentapi.StorageConfig, error) {
	p.Async = false
	return invoke[agentapi.StorageConfig](ctx, s.client, storage, "replace_raid_disk", p)
}

// Start begins the work of any of these parameters and returns the operation's id for Client.Operations.
func (s Storage) Start(ctx context.Context, params any) (operationID string, err error) {
	var method string
	switch p := params.(type) {
	case agentapi.CreateVolumeParams:
		p.Async, method = true, "create"
		params = p
	case agentapi.SnapshotVolumeParams:
		p.Async, method = true, "snapshot"
		params = p
	case agentapi.DetachVolumeParams:
		p.Async, method = true, "detach"
		params = p
	case agentapi.DestroyVolumeParams:
		p.Async, method = true, "destroy"
		params = p
	case agentapi.GrowStorageParams:
		p.Async, method = true, "grow"
		params = p
	case agentapi.ReplaceRAIDDiskParams:
		p.Async, method = true, "replace_raid_disk"
		params = p
	default:
		return "", agentapi.Errorf(agentapi.KindInvalid, "TypeError", "%T are no parameters of storage", params)
	}
	return invoke[string](ctx, s.client, storage, method, params)
}
