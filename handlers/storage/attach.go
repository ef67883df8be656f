package storage

import (
	"context"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/reeve-paas/reeve/agent/agentapi"
	"github.com/reeve-paas/reeve/handlers/host"
)

// errGone is a volume that has an id and is nowhere.
var errGone = errors.New("volume not found")

// fstabMark is the option by which our lines of fstab are known.
const fstabMark = host.StorageMark

// create attaches or makes a volume, and then what else is wanted of it.
func (w *work) create(ctx context.Context, v *volume, u use) error {
	if u.mount && v.text("mpoint") == "" {
		return missing("mpoint")
	}
	err := w.ensure(ctx, v)
	if isGone(err) && v.flag("recreate_if_missing") {
		w.log.Warn("volume is missing and made anew", "id", v.text("id"))
		v.set("id", nil)
		v.set("device", nil)
		u.mkfs, u.mount = true, u.mount || v.text("mpoint") != ""
		err = w.ensure(ctx, v)
	}
	if err != nil {
		return err
	}
	return w.use(ctx, v, u)
}

func isGone(err error) bool { return errors.Is(err, errGone) }

// ensure attaches or makes a volume and gives it an id.
func (w *work) ensure(ctx context.Context, v *volume) error {
	err := w.driver(v).ensure(ctx, w, v)
	if errors.Is(err, errGone) {
		return &agentapi.Error{Kind: agentapi.KindNotFound, Class: "VolumeNotExistsError", Err: err, Text: fmt.Sprintf("Volume not found: %s. Most likely it was deleted. "+
			`You can check "Regenerate storage if missing volumes" in UI to create clean storage volume with the same settings`, v.text("id"))}
	}
	if err != nil {
		return err
	}
	if v.text("device") == "" {
		return missing("device")
	}
	if v.text("id") == "" {
		v.set("id", newID("vol", v.kind()))
	}
	v.set("snap", nil)
	return nil
}

func (w *work) driver(v *volume) driver { return w.s.drivers[v.kind()] }

// use makes a filesystem, mounts, and keeps the mount in fstab, as far as each is wanted and not so already.
func (w *work) use(ctx context.Context, v *volume, u use) error {
	if v.kind() == "tmpfs" { // is one, and is mounted
		if u.fstab && u.mount {
			return w.keepMounted(v, tmpfsLine(v))
		}
		return nil
	}
	if !u.mkfs && !u.mount {
		return nil
	}
	if err := w.ensureFilesystem(ctx, v, u.mkfs); err != nil || !u.mount {
		return err
	}
	if err := w.mount(ctx, v); err != nil {
		return err
	}
	if !u.fstab {
		return nil
	}
	return w.keepMounted(v, host.FstabLine{Source: v.text("device"), MPoint: v.text("mpoint"), FSType: v.text("fstype"),
		Options: []string{"defaults", fstabMark, "nofail"}, Pass: "0"})
}

// ensureFilesystem sets fstype to what is on the device; where nothing at all is, it makes a filesystem if it may.
func (w *work) ensureFilesystem(ctx context.Context, v *volume, mkfs bool) error {
	device := v.text("device")
	found, err := w.s.host.ProbeDevice(ctx, device)
	switch {
	case err != nil:
		return err
	case found["TYPE"] != "":
		v.set("fstype", found["TYPE"])
		return nil
	case len(found) > 0:
		return agentapi.Errorf(agentapi.KindConflict, "FileSystemError", "%s holds %s and is left alone; wipe it by hand if it is no longer needed", device, found)
	case !mkfs:
		return agentapi.Errorf(agentapi.KindInvalid, "FileSystemError", "%s holds no filesystem; pass mkfs to have one made", device)
	}
	if err := w.will("wipe-filesystem", device); err != nil {
		return err
	}
	return w.s.host.MakeFilesystem(ctx, device, v.text("fstype"))
}

// mount mounts a volume at its mount point, and nowhere else.
func (w *work) mount(ctx context.Context, v *volume) error {
	device, mpoint := v.text("device"), v.text("mpoint")
	mounts, err := w.s.host.Mounts()
	if err != nil {
		return err
	}
	if m, taken := host.MountedAt(mounts, mpoint); taken {
		if w.s.host.SameDevice(m.Source, device) {
			return nil
		}
		return agentapi.Errorf(agentapi.KindConflict, "FileSystemError", "%s is mounted at %s already", m.Source, mpoint)
	}
	if err := w.unmount(ctx, device); err != nil {
		return err
	}
	return w.mountAt(ctx, v.text("fstype"), device, mpoint)
}

func (w *work) mountAt(ctx context.Context, fstype, device, mpoint string, options ...string) error {
	if err := w.makeDirs(mpoint); err != nil {
		return err
	}
	if err := w.will("unmount", mpoint, device); err != nil {
		return err
	}
	return w.s.host.Mount(ctx, fstype, device, mpoint, options...)
}

// makeDirs makes a directory and its parents.
func (w *work) makeDirs(dir string) error {
	var made []string
	for p := dir; p != "/" && !w.s.host.Exists(p); p = path.Dir(p) {
		made = append(made, p)
	}
	if len(made) == 0 {
		return nil
	}
	if err := w.will("remove-dirs", made...); err != nil {
		return err
	}
	return w.s.host.MkdirAll(dir, 0o755)
}

// unmount unmounts whatever is mounted from a device, the last first.
func (w *work) unmount(ctx context.Context, device string) error {
	mounts, err := w.s.host.Mounts()
	if err != nil {
		return err
	}
	for _, m := range slices.Backward(mounts) {
		if !w.s.host.SameDevice(m.Source, device) {
			continue
		}
		if m.Root != "/" {
			return agentapi.Errorf(agentapi.KindConflict, "FileSystemError", "a directory of %s is mounted at %s; unmount that first", device, m.MPoint)
		}
		file, err := w.s.fileOf(m.Source)
		if err != nil {
			return err
		}
		if err := w.will("mount", m.FSType, m.Source, m.MPoint, m.Options, file); err != nil {
			return err
		}
		if err := w.s.host.Unmount(ctx, m.MPoint); err != nil {
			return err
		}
	}
	return nil
}

// mountedOn are the places a device is mounted at.
func (w *work) mountedOn(device string) ([]host.Mount, error) {
	mounts, err := w.s.host.Mounts()
	return w.s.host.MountsOf(mounts, device), err
}

// keepMounted writes a line of fstab, unless one of the device is there. One of ours for the same place is replaced: it is of
// a device that was, and whose name another may have by now.
func (w *work) keepMounted(v *volume, line host.FstabLine) error {
	return w.editFstab(func(text []byte) []byte {
		for _, l := range host.ParseFstab(text) {
			if v.kind() != "tmpfs" && w.s.host.SameDevice(l.Source, line.Source) {
				return text
			}
		}
		return host.SetFstab(text, line, func(l host.FstabLine) bool { return l.MPoint == line.MPoint && l.Has(fstabMark) })
	})
}

// dropLines removes a device's lines of fstab.
func (w *work) dropLines(v *volume) error {
	return w.editFstab(func(text []byte) []byte {
		return host.RemoveFstab(text, func(l host.FstabLine) bool {
			if v.kind() == "tmpfs" {
				return l.FSType == "tmpfs" && l.MPoint == v.text("mpoint") && l.Has(fstabMark)
			}
			return w.s.host.SameDevice(l.Source, v.text("device"))
		})
	})
}

// editFstab edits fstab; the journal knows both texts before the file changes.
func (w *work) editFstab(edit func([]byte) []byte) error {
	var journal error
	_, _, err := w.s.host.EditFstab(func(text []byte) []byte {
		after := edit(text)
		if string(after) == string(text) {
			return text
		}
		existed := "yes"
		if !w.s.host.Exists(host.FstabFile) {
			existed = ""
		}
		if journal = w.will("restore-fstab", string(text), string(after), existed); journal != nil {
			return text
		}
		return after
	})
	return errors.Join(journal, err)
}

// inFstab finds the line of a device.
func (w *work) inFstab(device string) (host.FstabLine, bool) {
	text, err := w.s.host.ReadFstab()
	if err != nil {
		return host.FstabLine{}, false
	}
	lines := host.ParseFstab(text)
	i := slices.IndexFunc(lines, func(l host.FstabLine) bool { return w.s.host.SameDevice(l.Source, device) })
	if i < 0 {
		return host.FstabLine{}, false
	}
	return lines[i], true
}

// release unmounts a volume and removes its line of fstab.
func (w *work) release(ctx context.Context, v *volume) error {
	if v.kind() == "tmpfs" {
		return w.dropLines(v)
	}
	if err := w.unmount(ctx, v.text("device")); err != nil {
		return err
	}
	return w.dropLines(v)
}

// detach takes a volume off the host.
func (w *work) detach(ctx context.Context, v *volume, force bool) error {
	d := w.driver(v)
	if err := d.locate(ctx, w, v); err != nil {
		return err
	}
	if v.text("device") == "" {
		return nil
	}
	if err := w.release(ctx, v); err != nil {
		return err
	}
	if err := d.detach(ctx, w, v, force); err != nil {
		return err
	}
	if v.kind() != "ec2_ephemeral" {
		v.set("device", nil)
	}
	return nil
}

// destroy detaches a volume and deletes it.
func (w *work) destroy(ctx context.Context, v *volume, del deletion) error {
	d := w.driver(v)
	if err := d.locate(ctx, w, v); err != nil {
		return err
	}
	if v.text("device") != "" {
		if err := w.release(ctx, v); err != nil {
			return err
		}
	}
	if err := d.destroy(ctx, w, v, del); err != nil {
		return err
	}
	v.set("device", nil)
	return nil
}

// snapshot copies a volume that is attached.
func (w *work) snapshot(ctx context.Context, v *volume, l label) (agentapi.StorageConfig, error) {
	snap, err := w.snapshotOf(ctx, v, l)
	if err != nil {
		return nil, err
	}
	return snap.StorageConfig, nil
}

func (w *work) snapshotOf(ctx context.Context, v *volume, l label) (*volume, error) {
	d, can := w.driver(v).(snapshotter)
	if !can {
		return nil, agentapi.Errorf(agentapi.KindUnsupported, "NotImplementedError", "volumes of type %s have no snapshots", v.kind())
	}
	return d.snapshot(ctx, w, v, l)
}

// synced returns when everything that was written to the volume is on the device. Who copies it at one moment needs no more.
func (w *work) synced(ctx context.Context, device string) error {
	at, err := w.mountedOn(device)
	if err != nil {
		return err
	}
	cmd := host.Cmd{Path: "blockdev", Args: []string{"--flushbufs", w.s.host.Path(device)}}
	if len(at) > 0 {
		cmd = host.Cmd{Path: "sync", Args: []string{"--file-system", w.s.host.Path(at[0].MPoint)}, Timeout: freezeTimeout}
	}
	if _, err := w.s.host.Run(ctx, cmd); err != nil {
		return host.LinuxError(err)
	}
	return nil
}

// frozen runs fn while nothing is written to the volume's filesystem, and everything that was is on the device.
func (w *work) frozen(ctx context.Context, device string, fn func() error) (err error) {
	at, err := w.mountedOn(device)
	if err != nil {
		return err
	}
	if len(at) == 0 {
		if _, err := w.s.host.Run(ctx, host.Cmd{Path: "blockdev", Args: []string{"--flushbufs", w.s.host.Path(device)}}); err != nil {
			return host.LinuxError(err)
		}
		return fn()
	}
	mpoint := at[0].MPoint
	if strings.HasPrefix(w.path(), mpoint+"/") {
		return storageError(agentapi.KindUnsupported, "%s cannot be frozen: the agent keeps its state there", mpoint)
	}
	if err := w.will("thaw", mpoint); err != nil {
		return err
	}
	if _, err := w.s.host.Run(ctx, host.Cmd{Path: "fsfreeze", Args: []string{"--freeze", w.s.host.Path(mpoint)}, Timeout: freezeTimeout}); err != nil {
		return host.LinuxError(err)
	}
	err = fn()
	return errors.Join(err, w.s.thaw(context.WithoutCancel(ctx), mpoint))
}
