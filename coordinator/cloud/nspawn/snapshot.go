package nspawn

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/reeve-paas/reeve/coordinator/core"
)

// snapshot is <snapshots>/<id>/snapshot.json. It exists before the snapshot's file does and goes after it.
type snapshot struct {
	ID        string    `json:"id"`
	Key       string    `json:"key"`
	VolumeID  string    `json:"volume_id"`
	SizeBytes int64     `json:"size_bytes"`
	Complete  bool      `json:"complete"`
	CreatedAt time.Time `json:"created_at"`
}

const (
	fileSnapshot = "snapshot.json"
	filePart     = "disk.part" // a copy that is being made
)

func snapshotDir(stateDir, id string) string { return filepath.Join(stateDir, dirSnapshots, id) }

func (s snapshot) view() core.CloudSnapshot {
	return core.CloudSnapshot{ID: s.ID, Key: s.Key, VolumeID: s.VolumeID, SizeBytes: s.SizeBytes, Complete: s.Complete}
}

func (s snapshot) write(stateDir string) error {
	return writeJSON(filepath.Join(snapshotDir(stateDir, s.ID), fileSnapshot), s)
}

func (d *Driver) readSnapshots() ([]snapshot, error) {
	entries, err := os.ReadDir(d.path(dirSnapshots))
	if err != nil {
		return nil, core.Wrap(core.Unavailable, core.ObjVolume, err, "read the snapshots")
	}
	var all []snapshot
	for _, e := range entries {
		var s snapshot
		err := readJSON(d.path(dirSnapshots, e.Name(), fileSnapshot), &s)
		if errors.Is(err, fs.ErrNotExist) {
			continue // being made or removed
		}
		if err != nil {
			return nil, core.Wrap(core.Unavailable, core.ObjVolume, err, "read the snapshots")
		}
		all = append(all, s)
	}
	slices.SortFunc(all, func(a, b snapshot) int {
		if c := a.CreatedAt.Compare(b.CreatedAt); c != 0 {
			return c
		}
		return strings.Compare(a.ID, b.ID)
	})
	return all, nil
}

// Snapshots lists every snapshot, half-made ones included, oldest first.
func (d *Driver) Snapshots(context.Context) ([]core.CloudSnapshot, error) {
	all, err := d.readSnapshots()
	if err != nil {
		return nil, err
	}
	list := make([]core.CloudSnapshot, 0, len(all))
	for _, s := range all {
		list = append(list, s.view())
	}
	return list, nil
}

func (d *Driver) snapshot(id string) (snapshot, error) {
	all, err := d.readSnapshots()
	if err != nil {
		return snapshot{}, err
	}
	if i := slices.IndexFunc(all, func(s snapshot) bool { return s.ID == id }); i >= 0 {
		return all[i], nil
	}
	return snapshot{}, core.Errorf(core.NotFound, core.ObjVolume, "no snapshot %q", id)
}

// SnapshotVolume copies the volume's file while the file system on it stands still: at once where the host's file system
// shares blocks (btrfs, xfs), by its data otherwise. Writers inside the node wait meanwhile, for two minutes at most.
//
// Errors: not_found, quota (the host's disk is full), busy (it would take too long), unavailable
func (d *Driver) SnapshotVolume(ctx context.Context, key, volumeID string) (core.CloudSnapshot, error) {
	if key == "" {
		return core.CloudSnapshot{}, core.Errorf(core.Invalid, core.ObjVolume, "a snapshot needs an idempotency key")
	}
	s, err := d.claimSnapshot(key, volumeID)
	if err != nil {
		return core.CloudSnapshot{}, err
	}
	dir := snapshotDir(d.opts.StateDir, s.ID)
	lock, err := lockFileContext(ctx, filepath.Join(dir, "lock"), func() {})
	if err != nil {
		return core.CloudSnapshot{}, core.Wrap(core.Busy, core.ObjVolume, err, "the snapshot is being made or removed")
	}
	defer lock.Close()
	if s, err = d.snapshot(s.ID); err != nil || s.Complete { // it may have been made, or removed, while we waited
		return s.view(), err
	}
	source := filepath.Join(volumeDir(d.opts.StateDir, volumeID), fileDisk)
	part := filepath.Join(dir, filePart)
	if err := d.copyVolume(ctx, volumeID, source, part); err != nil {
		_ = os.Remove(part)
		return core.CloudSnapshot{}, copyFailure(err, "copy the volume")
	}
	if err := settle(part, filepath.Join(dir, fileDisk)); err != nil {
		return core.CloudSnapshot{}, copyFailure(err, "copy the volume")
	}
	s.Complete = true
	if err := s.write(d.opts.StateDir); err != nil {
		return core.CloudSnapshot{}, core.Wrap(core.Unavailable, core.ObjVolume, err, "copy the volume")
	}
	return s.view(), nil
}

// claimSnapshot finds the snapshot of this key, or writes a record for it.
func (d *Driver) claimSnapshot(key, volumeID string) (snapshot, error) {
	d.volumeMu.Lock()
	defer d.volumeMu.Unlock()
	all, err := d.readSnapshots()
	if err != nil {
		return snapshot{}, err
	}
	if i := slices.IndexFunc(all, func(s snapshot) bool { return s.Key == key }); i >= 0 && (all[i].Complete || all[i].VolumeID == volumeID) {
		return all[i], nil
	}
	v, err := d.volume(volumeID)
	if err != nil {
		return snapshot{}, err
	}
	s := snapshot{ID: newID("s-"), Key: key, VolumeID: v.ID, SizeBytes: v.SizeBytes, CreatedAt: time.Now().UTC()}
	err = os.Mkdir(snapshotDir(d.opts.StateDir, s.ID), 0o700)
	if err == nil {
		err = s.write(d.opts.StateDir)
	}
	if err != nil {
		return snapshot{}, copyFailure(err, "make the snapshot")
	}
	return s, nil
}

// copyVolume copies the file of a volume that does not change meanwhile.
func (d *Driver) copyVolume(ctx context.Context, volumeID, source, target string) error {
	dir := volumeDir(d.opts.StateDir, volumeID)
	lock, err := lockFileContext(ctx, filepath.Join(dir, "lock"), func() {})
	if errors.Is(err, fs.ErrNotExist) {
		return core.Errorf(core.NotFound, core.ObjVolume, "no volume %q", volumeID)
	}
	if err != nil {
		return core.Wrap(core.Busy, core.ObjVolume, err, "the volume is in use")
	}
	defer lock.Close()
	var v volume
	if err := readJSON(filepath.Join(dir, fileVolume), &v); err != nil {
		return err
	}
	thaw, err := d.freezeVolume(ctx, v)
	if err != nil {
		return err
	}
	return errors.Join(copyDisk(ctx, source, target), thaw())
}

// RestoreSnapshot makes a volume whose file is a copy of the snapshot's.
//
// Errors: not_found, quota (the host's disk is full), busy (the snapshot is not whole), unavailable
func (d *Driver) RestoreSnapshot(ctx context.Context, key, snapshotID string, sizeBytes int64) (core.CloudVolume, error) {
	if key == "" {
		return core.CloudVolume{}, core.Errorf(core.Invalid, core.ObjVolume, "a volume needs an idempotency key")
	}
	s, err := d.snapshot(snapshotID)
	if err != nil {
		return core.CloudVolume{}, err
	}
	if !s.Complete {
		return core.CloudVolume{}, core.Errorf(core.Busy, core.ObjVolume, "the snapshot is not whole")
	}
	v, err := d.claimVolume(key, max(sizeBytes, s.SizeBytes))
	if err != nil {
		return core.CloudVolume{}, err
	}
	dir := volumeDir(d.opts.StateDir, v.ID)
	lock, err := lockFileContext(ctx, filepath.Join(dir, "lock"), func() {})
	if err != nil {
		return core.CloudVolume{}, core.Wrap(core.Busy, core.ObjVolume, err, "the volume is in use")
	}
	defer lock.Close()
	if exists(filepath.Join(dir, fileDisk)) {
		return v.view(), nil
	}
	part := filepath.Join(dir, filePart)
	err = copyDisk(ctx, filepath.Join(snapshotDir(d.opts.StateDir, s.ID), fileDisk), part)
	if err == nil {
		err = sizeFile(part, v.SizeBytes)
	}
	if err == nil {
		err = settle(part, filepath.Join(dir, fileDisk))
	}
	if err != nil {
		_ = os.Remove(part)
		return core.CloudVolume{}, copyFailure(err, "make a volume of the snapshot")
	}
	return v.view(), nil
}

// DestroySnapshot removes the snapshot for good.
func (d *Driver) DestroySnapshot(ctx context.Context, snapshotID string) error {
	s, err := d.snapshot(snapshotID)
	if core.KindOf(err) == core.NotFound {
		return nil
	}
	if err != nil {
		return err
	}
	dir := snapshotDir(d.opts.StateDir, s.ID)
	lock, err := lockFileContext(ctx, filepath.Join(dir, "lock"), func() {})
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return core.Wrap(core.Busy, core.ObjVolume, err, "the snapshot is being made")
	}
	defer lock.Close()
	for _, f := range []string{filePart, fileDisk, fileSnapshot} { // the record last
		if err := os.Remove(filepath.Join(dir, f)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return core.Wrap(core.Unavailable, core.ObjVolume, err, "destroy the snapshot")
		}
	}
	if err := os.RemoveAll(dir); err != nil {
		return core.Wrap(core.Unavailable, core.ObjVolume, err, "destroy the snapshot")
	}
	return nil
}

// reapSnapshots removes rests of snapshots without a record, and lets file systems move again that a crash left frozen.
func (d *Driver) reapSnapshots() {
	entries, _ := os.ReadDir(d.path(dirSnapshots))
	for _, e := range entries {
		if !exists(d.path(dirSnapshots, e.Name(), fileSnapshot)) {
			_ = os.RemoveAll(d.path(dirSnapshots, e.Name()))
		} else {
			_ = os.Remove(d.path(dirSnapshots, e.Name(), filePart))
		}
	}
	volumes, _ := readVolumes(d.opts.StateDir)
	for _, v := range volumes {
		if err := d.thawLeftover(v); err != nil {
			d.log.Error("a file system stays frozen", "volume", v.ID, "node", v.Node, "err", err)
		}
	}
}

// copyDisk copies a file's data and leaves its holes holes. What is at target is replaced.
func copyDisk(ctx context.Context, source, target string) error {
	from, err := os.Open(source)
	if err != nil {
		return err
	}
	defer from.Close()
	st, err := from.Stat()
	if err != nil {
		return err
	}
	to, err := os.OpenFile(target, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer to.Close()
	if err := unix.IoctlFileClone(int(to.Fd()), int(from.Fd())); err == nil {
		return nil
	}
	if err := to.Truncate(st.Size()); err != nil {
		return err
	}
	return copyData(ctx, from, to, st.Size())
}

// copyData copies from one region with data to the next.
func copyData(ctx context.Context, from, to *os.File, size int64) error {
	const most = 32 << 20 // bytes between two looks at ctx
	for at := int64(0); at < size; {
		start, err := unix.Seek(int(from.Fd()), at, unix.SEEK_DATA)
		if errors.Is(err, unix.ENXIO) {
			return nil // nothing but a hole
		}
		if err != nil {
			return err
		}
		end, err := unix.Seek(int(from.Fd()), start, unix.SEEK_HOLE)
		if err != nil {
			return err
		}
		for at = start; at < end; {
			if err := ctx.Err(); err != nil {
				return err
			}
			n, err := copyRange(from, to, at, min(end-at, most))
			if err == nil && n == 0 {
				err = io.ErrUnexpectedEOF // the file became shorter
			}
			if err != nil {
				return err
			}
			at += n
		}
	}
	return nil
}

// copyRange copies inside the kernel where both files lie on one file system.
func copyRange(from, to *os.File, at, length int64) (int64, error) {
	in, out := at, at
	n, err := unix.CopyFileRange(int(from.Fd()), &in, int(to.Fd()), &out, int(length), 0)
	if errors.Is(err, unix.EXDEV) || errors.Is(err, unix.EINVAL) || errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.ENOSYS) {
		return io.Copy(io.NewOffsetWriter(to, at), io.NewSectionReader(from, at, length))
	}
	return int64(n), err
}

// settle makes a finished copy durable under its name.
func settle(part, name string) error {
	f, err := os.OpenFile(part, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := f.Sync(); err != nil {
		return err
	}
	if err := os.Rename(part, name); err != nil {
		return err
	}
	dir, err := os.Open(filepath.Dir(name))
	if err != nil {
		return err
	}
	defer dir.Close()
	return dir.Sync()
}

// copyFailure says what a copy failed of. A full disk does not become empty by trying again.
func copyFailure(err error, doing string) error {
	if errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) {
		err = core.Wrap(core.Quota, core.ObjVolume, err, "the disk of the cloud is full")
	}
	if e, ok := errors.AsType[*core.Error](err); ok {
		return core.Wrap(e.Kind, e.Object, err, "%s", doing)
	}
	return core.Wrap(core.Unavailable, core.ObjVolume, err, "%s", doing)
}
