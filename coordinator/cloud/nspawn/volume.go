package nspawn

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/reeve-paas/reeve/coordinator/core"
)

// volume is <volumes>/<id>/volume.json. It exists before the volume's file does and goes after it.
type volume struct {
	ID        string    `json:"id"`
	Key       string    `json:"key"`
	SizeBytes int64     `json:"size_bytes"`
	Node      string    `json:"node,omitempty"` // whom it is attached to; written before the device exists
	CreatedAt time.Time `json:"created_at"`
}

const fileVolume = "volume.json"

func volumeDir(stateDir, id string) string { return filepath.Join(stateDir, dirVolumes, id) }

// devicePath is where a node finds the volume.
func (v volume) devicePath() string { return deviceFolder + "/" + v.ID }

func (v volume) view() core.CloudVolume {
	c := core.CloudVolume{ID: v.ID, Key: v.Key, SizeBytes: v.SizeBytes, NodeID: v.Node}
	if v.Node != "" {
		c.Device = v.devicePath()
	}
	return c
}

func (v volume) write(stateDir string) error {
	return writeJSON(filepath.Join(volumeDir(stateDir, v.ID), fileVolume), v)
}

// readVolumes reads every volume's record, oldest first.
func readVolumes(stateDir string) ([]volume, error) {
	entries, err := os.ReadDir(filepath.Join(stateDir, dirVolumes))
	if err != nil {
		return nil, err
	}
	var volumes []volume
	for _, e := range entries {
		var v volume
		err := readJSON(filepath.Join(volumeDir(stateDir, e.Name()), fileVolume), &v)
		if errors.Is(err, fs.ErrNotExist) {
			continue // being made or removed
		}
		if err != nil {
			return nil, err
		}
		volumes = append(volumes, v)
	}
	slices.SortFunc(volumes, func(a, b volume) int {
		if c := a.CreatedAt.Compare(b.CreatedAt); c != 0 {
			return c
		}
		return strings.Compare(a.ID, b.ID)
	})
	return volumes, nil
}

func volumesOf(stateDir, nodeID string) []volume {
	volumes, _ := readVolumes(stateDir)
	return slices.DeleteFunc(volumes, func(v volume) bool { return v.Node != nodeID })
}

// Volumes lists every volume.
func (d *Driver) Volumes(context.Context) ([]core.CloudVolume, error) {
	volumes, err := readVolumes(d.opts.StateDir)
	if err != nil {
		return nil, core.Wrap(core.Unavailable, core.ObjVolume, err, "read the volumes")
	}
	list := make([]core.CloudVolume, 0, len(volumes))
	for _, v := range volumes {
		list = append(list, v.view())
	}
	return list, nil
}

func (d *Driver) volume(id string) (volume, error) {
	volumes, err := readVolumes(d.opts.StateDir)
	if err != nil {
		return volume{}, core.Wrap(core.Unavailable, core.ObjVolume, err, "read the volumes")
	}
	for _, v := range volumes {
		if v.ID == id {
			return v, nil
		}
	}
	return volume{}, core.Errorf(core.NotFound, core.ObjVolume, "no volume %q", id)
}

// CreateVolume makes an empty volume: a sparse file, without a file system.
func (d *Driver) CreateVolume(_ context.Context, key string, sizeBytes int64) (core.CloudVolume, error) {
	if key == "" || sizeBytes <= 0 {
		return core.CloudVolume{}, core.Errorf(core.Invalid, core.ObjVolume, "a volume needs an idempotency key and a size")
	}
	v, err := d.claimVolume(key, sizeBytes)
	if err != nil {
		return core.CloudVolume{}, err
	}
	if err := sizeFile(filepath.Join(volumeDir(d.opts.StateDir, v.ID), fileDisk), v.SizeBytes); err != nil {
		return core.CloudVolume{}, core.Wrap(core.Unavailable, core.ObjVolume, err, "make the volume")
	}
	return v.view(), nil
}

// claimVolume finds the volume of this key, or writes a record for it. Whole it is once its file is there.
func (d *Driver) claimVolume(key string, sizeBytes int64) (volume, error) {
	d.volumeMu.Lock()
	defer d.volumeMu.Unlock()
	volumes, err := readVolumes(d.opts.StateDir)
	if err != nil {
		return volume{}, core.Wrap(core.Unavailable, core.ObjVolume, err, "read the volumes")
	}
	if i := slices.IndexFunc(volumes, func(v volume) bool { return v.Key == key }); i >= 0 {
		return volumes[i], nil
	}
	v := volume{ID: newID("v-"), Key: key, SizeBytes: (sizeBytes + 4095) &^ 4095, CreatedAt: time.Now().UTC()}
	if err := d.newVolume(v); err != nil {
		return volume{}, copyFailure(err, "make the volume")
	}
	return v, nil
}

func (d *Driver) newVolume(v volume) error {
	if err := os.Mkdir(volumeDir(d.opts.StateDir, v.ID), 0o700); err != nil {
		return err
	}
	return v.write(d.opts.StateDir)
}

// sizeFile makes a sparse file of at least this size; a larger one stays as it is.
func sizeFile(file string, size int64) error {
	f, err := os.OpenFile(file, os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil || st.Size() >= size {
		return err
	}
	return f.Truncate(size)
}

// GrowVolume makes a volume larger, also while it is in use.
//
// Errors: not_found, invalid (the size), unavailable
func (d *Driver) GrowVolume(_ context.Context, volumeID string, sizeBytes int64) (core.CloudVolume, error) {
	d.volumeMu.Lock()
	defer d.volumeMu.Unlock()
	v, err := d.volume(volumeID)
	if err != nil {
		return core.CloudVolume{}, err
	}
	if sizeBytes <= 0 {
		return core.CloudVolume{}, core.Errorf(core.Invalid, core.ObjVolume, "a volume needs a size")
	}
	if size := (sizeBytes + 4095) &^ 4095; size > v.SizeBytes {
		v.SizeBytes = size
		if err := v.write(d.opts.StateDir); err != nil {
			return core.CloudVolume{}, core.Wrap(core.Unavailable, core.ObjVolume, err, "grow the volume")
		}
	}
	// The record may be ahead of the file, and the file of its device, when a call before was cut off.
	lock, err := lockFileWait(filepath.Join(volumeDir(d.opts.StateDir, v.ID), "lock"))
	if err != nil {
		return core.CloudVolume{}, core.Wrap(core.Unavailable, core.ObjVolume, err, "grow the volume")
	}
	defer lock.Close()
	file := filepath.Join(volumeDir(d.opts.StateDir, v.ID), fileDisk)
	if err := sizeFile(file, v.SizeBytes); err != nil {
		return core.CloudVolume{}, core.Wrap(core.Unavailable, core.ObjVolume, err, "grow the volume")
	}
	for num := range loopsBelow(file) {
		if err := refreshLoop(num); err != nil {
			return core.CloudVolume{}, core.Wrap(core.Unavailable, core.ObjVolume, err, "grow the volume")
		}
	}
	return v.view(), nil
}

// AttachVolume makes the volume a block device of a node; it is there at once when the node runs, and before its first
// service after every later boot.
//
// Errors: not_found, busy (attached to another node), unavailable
func (d *Driver) AttachVolume(ctx context.Context, volumeID, nodeID string) (string, error) {
	n, err := d.take(ctx, nodeID)
	if err != nil {
		return "", err
	}
	defer n.release()
	d.volumeMu.Lock()
	defer d.volumeMu.Unlock()
	v, err := d.volume(volumeID)
	if err != nil {
		return "", err
	}
	if v.Node != "" && v.Node != nodeID {
		return "", core.Errorf(core.Busy, core.ObjVolume, "the volume is attached to node %s", v.Node)
	}
	v.Node = nodeID
	if err := v.write(d.opts.StateDir); err != nil {
		return "", core.Wrap(core.Unavailable, core.ObjVolume, err, "attach the volume")
	}
	if err := presentVolume(d.opts.StateDir, v, filepath.Join(n.dir, dirDev)); err != nil {
		return "", core.Wrap(core.Unavailable, core.ObjVolume, err, "attach the volume")
	}
	return v.devicePath(), nil
}

// presentVolumes makes the device nodes of a node's volumes, and only those, in its device directory.
func presentVolumes(stateDir, nodeID, dev string) error {
	volumes, err := readVolumes(stateDir)
	if err != nil {
		return err
	}
	entries, err := os.ReadDir(dev)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if err := os.RemoveAll(filepath.Join(dev, e.Name())); err != nil {
			return err
		}
	}
	for _, v := range volumes {
		if v.Node == nodeID {
			if err := presentVolume(stateDir, v, dev); err != nil {
				return fmt.Errorf("volume %s: %w", v.ID, err)
			}
		}
	}
	return nil
}

// presentVolume attaches the volume's file to a loop device and makes its device node. The driver and a node's supervisor
// may both come here, so it is done under the volume's lock.
func presentVolume(stateDir string, v volume, dev string) error {
	dir := volumeDir(stateDir, v.ID)
	lock, err := lockFileWait(filepath.Join(dir, "lock"))
	if err != nil {
		return ignore(err, fs.ErrNotExist) // it was destroyed since it was listed
	}
	defer lock.Close()
	var now volume // it may have been detached while we waited
	if err := readJSON(filepath.Join(dir, fileVolume), &now); err != nil || now.Node != v.Node {
		return ignore(err, fs.ErrNotExist)
	}
	file := filepath.Join(dir, fileDisk)
	num := -1
	for n := range loopsBelow(file) {
		num = n
	}
	if num < 0 {
		n, handle, err := attachLoop(file, false)
		if err != nil {
			return err
		}
		handle.Close()
		num = n
	}
	path, want := filepath.Join(dev, v.ID), unix.Mkdev(loopMajor, uint32(num))
	var st unix.Stat_t
	if unix.Lstat(path, &st) == nil {
		if st.Mode&unix.S_IFMT == unix.S_IFBLK && st.Rdev == want {
			return nil
		}
		if err := os.RemoveAll(path); err != nil {
			return err
		}
	}
	return unix.Mknod(path, unix.S_IFBLK|0o660, int(want))
}

// DetachVolume takes the volume away from its node. A volume that is still mounted inside the node is busy: to cut it
// off would lose what is not yet written.
func (d *Driver) DetachVolume(ctx context.Context, volumeID string) error {
	d.volumeMu.Lock()
	defer d.volumeMu.Unlock()
	v, err := d.volume(volumeID)
	if core.KindOf(err) == core.NotFound {
		return nil
	}
	if err != nil {
		return err
	}
	return d.detach(v)
}

func (d *Driver) detach(v volume) error {
	dir := volumeDir(d.opts.StateDir, v.ID)
	lock, err := lockFileWait(filepath.Join(dir, "lock"))
	if err != nil {
		return core.Wrap(core.Unavailable, core.ObjVolume, err, "detach the volume")
	}
	defer lock.Close()
	file := filepath.Join(dir, fileDisk)
	for num := range loopsBelow(file) {
		if err := detachLoop(num); errors.Is(err, unix.EBUSY) {
			return core.Errorf(core.Busy, core.ObjVolume, "the volume is mounted inside node %s: unmount it there, or destroy the node", v.Node)
		} else if err != nil {
			return core.Wrap(core.Unavailable, core.ObjVolume, err, "detach the volume")
		}
	}
	if err := waitLoopsGone(file); err != nil { // somebody has it open without having it mounted
		return core.Wrap(core.Busy, core.ObjVolume, err, "the volume is in use inside node %s", v.Node)
	}
	if v.Node == "" {
		return nil
	}
	if err := os.Remove(filepath.Join(d.nodeDir(v.Node), dirDev, v.ID)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return core.Wrap(core.Unavailable, core.ObjVolume, err, "detach the volume")
	}
	v.Node = ""
	if err := v.write(d.opts.StateDir); err != nil {
		return core.Wrap(core.Unavailable, core.ObjVolume, err, "detach the volume")
	}
	return nil
}

// DestroyVolume removes the volume and its data for good.
func (d *Driver) DestroyVolume(ctx context.Context, volumeID string) error {
	d.volumeMu.Lock()
	defer d.volumeMu.Unlock()
	v, err := d.volume(volumeID)
	if core.KindOf(err) == core.NotFound {
		return nil
	}
	if err != nil {
		return err
	}
	if err := d.detach(v); err != nil {
		return err
	}
	dir := volumeDir(d.opts.StateDir, v.ID)
	for _, f := range []string{fileDisk, "lock", fileVolume} { // the record last
		if err := os.Remove(filepath.Join(dir, f)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return core.Wrap(core.Unavailable, core.ObjVolume, err, "destroy the volume")
		}
	}
	if err := os.RemoveAll(dir); err != nil {
		return core.Wrap(core.Unavailable, core.ObjVolume, err, "destroy the volume")
	}
	return nil
}

// releaseVolumes detaches what a node that has ended still has.
func (d *Driver) releaseVolumes(nodeID string) error {
	d.volumeMu.Lock()
	defer d.volumeMu.Unlock()
	for _, v := range volumesOf(d.opts.StateDir, nodeID) {
		if err := d.detachPatiently(v); err != nil {
			return err
		}
	}
	return nil
}

// detachPatiently gives the kernel a moment to unmount what a dead node had mounted.
func (d *Driver) detachPatiently(v volume) error {
	var err error
	for range 200 {
		if err = d.detach(v); core.KindOf(err) != core.Busy {
			return err
		}
		time.Sleep(10 * time.Millisecond)
	}
	return err
}

// reapVolumes removes rests of volumes without a record, and loop devices of volumes that nobody has.
func (d *Driver) reapVolumes() {
	entries, _ := os.ReadDir(d.path(dirVolumes))
	for _, e := range entries {
		if !exists(d.path(dirVolumes, e.Name(), fileVolume)) {
			_ = os.RemoveAll(d.path(dirVolumes, e.Name()))
		}
	}
	for num, file := range loopsBelow(d.path(dirVolumes)) {
		if !exists(file) { // somebody deleted the volume behind our back
			if err := detachLoop(num); err != nil {
				d.log.Warn("a loop device without a volume stays", "device", loopPath(num), "err", err)
			}
		}
	}
	volumes, _ := readVolumes(d.opts.StateDir)
	for _, v := range volumes {
		if v.Node == "" || d.nodes[v.Node] == nil {
			if err := d.detach(v); err != nil {
				d.log.Warn("a volume without a node stays attached", "volume", v.ID, "err", err)
			}
		}
	}
}
