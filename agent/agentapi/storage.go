package agentapi

import "encoding/json"

// The storage namespace makes, grows, copies and removes volumes of this host. Every method runs as an operation: with
// async it answers the operation's id, a string, at once. What a method began and could not finish is taken back, also when
// the agent was killed in between. Source: spec agent-core 5.
//
// Common errors: AssertionError (invalid: a parameter or member), KeyError (invalid: an unknown type), VolumeNotExistsError
// (not_found), FileSystemError (conflict: a volume in use), StorageError, PopenError (a command of the system failed).

// StorageConfig is the configuration of a volume, or of a snapshot: a JSON object whose members depend on its "type".
// Members that the agent does not know are kept as they are, so what a method returned is what to pass to the next.
//
// Of a volume, always there in a result: version ("2.0"), type, id, device, fstype, mpoint, snap, tags,
// recreate_if_missing; sizes are GB (2^30 bytes) unless their type says otherwise. Own members of each type are in
// handlers/storage/doc.go. Of a snapshot: version, type, id, tags.
type StorageConfig map[string]json.RawMessage

// Text is a member that is a string, or the digits of one that is a number; "" for any other.
func (c StorageConfig) Text(member string) string {
	var t Text
	if raw := c[member]; len(raw) == 0 || json.Unmarshal(raw, &t) != nil {
		return ""
	}
	return string(t)
}

// CreateVolumeParams are the parameters of storage.create: make the volume, or attach it when it exists.
//
// Result:  the volume's config
// Effects: the type's own (a file, a loop device, a logical volume, …); a filesystem where nothing at all is, when asked for;
// the mount point and the mount; a line of /etc/fstab
type CreateVolumeParams struct {
	Volume StorageConfig `json:"volume"` // also accepted as storage_config, in every method
	MkFS   Bool          `json:"mkfs,omitempty"`
	Mount  Bool          `json:"mount,omitempty"`
	FSTab  Bool          `json:"fstab,omitempty"` // with mount only
	Async  Bool          `json:"async,omitempty"`
}

// SnapshotVolumeParams are the parameters of storage.snapshot. Writers wait while the copy is made.
//
// Result:  the snapshot's config; pass it as member snap of a volume to storage.create
type SnapshotVolumeParams struct {
	Volume      StorageConfig   `json:"volume" rpc:"required"`
	Description *string         `json:"description,omitempty"`
	Tags        map[string]Text `json:"tags,omitempty"`
	Async       Bool            `json:"async,omitempty"`
}

// DetachVolumeParams are the parameters of storage.detach: unmount, drop the line of fstab, give the device back. Data stays.
//
// Result:  the volume's config, device null
// Errors:  FileSystemError (conflict: something uses it)
type DetachVolumeParams struct {
	Volume StorageConfig `json:"volume" rpc:"required"`
	Force  Bool          `json:"force,omitempty"` // passed to the cloud
	Async  Bool          `json:"async,omitempty"`
}

// DestroyVolumeParams are the parameters of storage.destroy: detach, then delete. What is deleted is gone; a call that
// failed after the first deletion is to be repeated.
//
// Result:  the volume's config, device null
type DestroyVolumeParams struct {
	Volume      StorageConfig `json:"volume" rpc:"required"`
	Force       Bool          `json:"force,omitempty"`        // loop: the file too; lvm: group and physical volumes too
	RemoveDisks Bool          `json:"remove_disks,omitempty"` // raid: the disks too
	Async       Bool          `json:"async,omitempty"`
}

// GrowStorageParams are the parameters of storage.grow: a larger volume with the same data. The old one stays, detached.
// A volume that its cloud grows in place keeps its id, and a failure may leave it larger than it says.
//
// Result:  the config of the new volume, with a new id, mounted if the old one was
// Errors:  NoOpError, StorageError ("Volume growth failed: …": the old volume is back as it was)
type GrowStorageParams struct {
	Volume StorageConfig `json:"volume" rpc:"required"`
	// Growth: size (GB; loop and clouds), iops, volume_type (ebs), disks, disks_count (raid), resize_fs (default true).
	Growth StorageConfig `json:"growth" rpc:"required"`
	Async  Bool          `json:"async,omitempty"`
}

// ReplaceRAIDDiskParams are the parameters of storage.replace_raid_disk: put another disk in the place of one, wait until
// the data is on it, and destroy the old one.
//
// Result:  the volume's config
type ReplaceRAIDDiskParams struct {
	Volume StorageConfig   `json:"volume" rpc:"required"`
	Index  int             `json:"index" rpc:"required"` // from 0, in the volume's disks
	Disk   json.RawMessage `json:"disk" rpc:"required"`  // a volume's config, or the path of a device
	Async  Bool            `json:"async,omitempty"`
}
