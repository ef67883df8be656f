package storage

import (
	"context"
	"encoding/json"
	"path"
	"regexp"
	"strconv"
	"strings"

	"github.com/reeve-paas/reeve/agent/agentapi"
	"github.com/reeve-paas/reeve/handlers/host"
)

// eph is a logical volume on disks that a stop of the machine empties. Its snapshots are copies of its files elsewhere.
type eph struct {
	s   *Service
	lvm *lvm
}

const (
	ephVolume   = "data"
	ephSnapshot = "datasnap"
)

var ephSize = regexp.MustCompile(`^[0-9]{1,3}%$`)

func (*eph) defaults() map[string]any {
	return map[string]any{"vg": nil, "disk": nil, "disks": nil, "size": "80%", "cloudfs_dir": nil}
}

// inner is the logical volume the data lies on.
func (e *eph) inner(v *volume) (*volume, error) {
	if old, ok := v.StorageConfig["snap_backend"]; ok { // of older agents
		var backend struct{ Path string }
		dir := v.text("snap_backend")
		if dir == "" && json.Unmarshal(old, &backend) == nil {
			dir = backend.Path
		}
		if dir != "" {
			v.set("cloudfs_dir", strings.TrimSuffix(dir, "/")+"/")
		}
		delete(v.StorageConfig, "snap_backend")
		delete(v.StorageConfig, "lvm_group_cfg")
	}
	if v.text("vg") == "" {
		return nil, missingEph("vg")
	}
	if !ephSize.MatchString(v.text("size")) {
		return nil, missingEph("size")
	}
	disks := v.members("disks")
	if raw := v.StorageConfig["disk"]; len(raw) > 0 && string(raw) != "null" {
		disk, err := e.s.parseMember(raw)
		if err != nil {
			return nil, err
		}
		disks = []*volume{disk}
	}
	if len(disks) == 0 {
		return nil, storageError(agentapi.KindInvalid, `Missing "disk" or "disks" attribute`)
	}
	in := &volume{agentapi.StorageConfig{}}
	for member, value := range map[string]any{"type": "lvm", "vg": v.text("vg"), "name": ephVolume, "size": v.text("size") + "VG", "fstype": v.text("fstype")} {
		in.set(member, value)
	}
	in.setMembers("pvs", disks)
	return e.s.parse(in.StorageConfig)
}

func missingEph(name string) error {
	return storageError(agentapi.KindInvalid, `Missing ephemeral volume attribute "%s"`, name)
}

// keepDisks writes what became of the disks into the volume's configuration.
func (e *eph) keepDisks(v, in *volume) {
	disks := in.members("pvs")
	if raw := v.StorageConfig["disk"]; len(raw) > 0 && string(raw) != "null" && len(disks) == 1 {
		v.set("disk", disks[0].StorageConfig)
		return
	}
	v.setMembers("disks", disks)
}

func (e *eph) ensure(ctx context.Context, w *work, v *volume) error {
	in, err := e.inner(v)
	if err != nil {
		return err
	}
	if err := e.lvm.ensure(ctx, w, in); err != nil {
		return err
	}
	e.keepDisks(v, in)
	v.set("device", in.text("device"))
	if snap := v.snap(); snap != nil {
		return e.restore(ctx, w, v, snap)
	}
	return nil
}

func (e *eph) locate(ctx context.Context, w *work, v *volume) error {
	in, err := e.inner(v)
	if err != nil {
		return err
	}
	err = e.lvm.locate(ctx, w, in)
	v.StorageConfig["device"] = in.StorageConfig["device"]
	return err
}

func (e *eph) detach(ctx context.Context, w *work, v *volume, _ bool) error {
	return w.deactivate(ctx, v.text("vg"), ephVolume)
}

// destroy removes the logical volume, its group and its physical volumes; with force what the disks are made of too.
func (e *eph) destroy(ctx context.Context, w *work, v *volume, d deletion) error {
	in, err := e.inner(v)
	if err != nil {
		return err
	}
	if v.text("device") != "" {
		if err := w.deactivate(ctx, v.text("vg"), ephVolume); err != nil {
			return err
		}
	}
	if err := w.commit(); err != nil { // what goes now is gone
		return err
	}
	ours, err := e.lvm.ours(ctx, w, in)
	if err != nil {
		return err
	}
	if ours {
		if err := e.s.removeLV(ctx, v.text("vg"), ephVolume); err != nil {
			return err
		}
		if err := e.s.removeGroup(ctx, v.text("vg")); err != nil {
			return err
		}
	}
	disks := in.members("pvs")
	for _, disk := range disks {
		if err := w.driver(disk).locate(ctx, w, disk); err != nil {
			return err
		}
		if device := disk.text("device"); device != "" {
			if err := e.s.removePV(ctx, device); err != nil {
				return err
			}
		}
		if d.force {
			err = w.destroy(ctx, disk, d)
		} else {
			err = w.detach(ctx, disk, false)
		}
		if err != nil {
			return err
		}
	}
	in.setMembers("pvs", disks)
	e.keepDisks(v, in)
	return w.commit()
}

// snapshot copies the files, as they are at one moment, to the place the volume names. It answers when they are there.
func (e *eph) snapshot(ctx context.Context, w *work, v *volume, about label) (*volume, error) {
	dir := v.text("cloudfs_dir")
	if dir == "" {
		return nil, missingEph("cloudfs_dir")
	}
	place, err := placeOf(dir)
	if err != nil {
		return nil, err
	}
	snap := newSnapshot("eph", about)
	vg := v.text("vg")
	if err := w.will("lv-remove", vg, ephSnapshot); err != nil {
		return nil, err
	}
	if err := e.s.lvm(ctx, "lvcreate", "--yes", "--snapshot", "--extents", "100%FREE", "--name", ephSnapshot, vg+"/"+ephVolume); err != nil {
		return nil, err
	}
	device := lvDevice(vg, ephSnapshot)
	if err := e.s.waitFor(ctx, device, activeWait); err != nil {
		return nil, err
	}
	found, err := e.s.host.ProbeDevice(ctx, device)
	if err != nil {
		return nil, err
	}
	options := []string{"ro"}
	if found.Filesystem() == "xfs" {
		options = []string{"nouuid", "ro"}
	}
	err = w.whileMounted(ctx, found.Filesystem(), device, func(mpoint string) error {
		t := transfer{s: e.s, description: about.description, tags: about.tags}
		manifest, size, err := t.upload(ctx, w, mpoint, ephVolume, place)
		snap.set("path", "file://"+manifest)
		snap.set("data_size", size)
		return err
	}, options...)
	if err != nil {
		return nil, err
	}
	return snap, e.s.removeLV(ctx, vg, ephSnapshot)
}

func (e *eph) dropSnapshot(_ context.Context, _ *work, snap *volume) error {
	place, err := placeOf(snap.text("path"))
	if err != nil || path.Base(place) != manifestName {
		return err
	}
	return e.s.host.RemoveAll(path.Dir(place))
}

// restore makes a filesystem and fills it with a snapshot's files.
func (e *eph) restore(ctx context.Context, w *work, v *volume, snap agentapi.StorageConfig) error {
	manifest, err := placeOf(snap.Text("path"))
	if err != nil {
		return err
	}
	device := v.text("device")
	if err := w.unmount(ctx, device); err != nil {
		return err
	}
	if err := w.will("wipe-filesystem", device); err != nil {
		return err
	}
	if err := e.s.wipe(ctx, device); err != nil {
		return err
	}
	if err := e.s.host.MakeFilesystem(ctx, device, v.text("fstype")); err != nil {
		return err
	}
	return w.whileMounted(ctx, v.text("fstype"), device, func(mpoint string) error {
		if err := e.checkSpace(ctx, mpoint, snap); err != nil {
			return err
		}
		return transfer{s: e.s}.download(ctx, manifest, mpoint)
	})
}

func (e *eph) checkSpace(ctx context.Context, mpoint string, snap agentapi.StorageConfig) error {
	size, err := strconv.ParseUint(snap.Text("data_size"), 10, 64)
	if err != nil { // an older agent's, which may not know
		return nil
	}
	use, err := e.s.host.StatFS(ctx, mpoint)
	if err != nil || use.AvailBytes >= size {
		return err
	}
	return storageError(agentapi.KindInvalid, "the snapshot holds %d bytes, and the volume has room for %d", size, use.AvailBytes)
}

// placeOf is the path that a URL of a store names.
func placeOf(url string) (string, error) {
	scheme, rest, found := strings.Cut(url, "://")
	if !found || rest == "" {
		return "", storageError(agentapi.KindInvalid, "%.200q is no place to keep files: file:///directory is one", url)
	}
	if scheme != "file" {
		return "", storageError(agentapi.KindUnsupported, "this agent keeps files in file:///directory only, not in %s: mount the store and name its directory", scheme)
	}
	p := path.Clean("/" + strings.TrimLeft(rest, "/"))
	if err := checkPath("cloudfs_dir", p); err != nil {
		return "", err
	}
	if host.SystemPath(p) {
		return "", assertion("files cannot be kept in %s: the system lives there", p)
	}
	return p, nil
}
