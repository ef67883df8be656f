package storage

import (
	"context"
	"errors"
	"maps"
	"strings"

	"github.com/reeve-paas/reeve/agent/agentapi"
	"github.com/reeve-paas/reeve/handlers/host"
)

// What the tag scalr-status says of a cloud's volume.
const (
	statusTag     = "scalr-status"
	statusOld     = "archived"
	statusActive  = "active"
	statusDeleted = "pending-delete"
)

// grow makes a larger volume of the same data (spec agent-core 5.11). The old one stays, detached; after a failure it is back
// as it was. It returns the new volume. A volume that its cloud grows in place is the old one and the new one.
func (w *work) grow(ctx context.Context, v *volume, growth agentapi.StorageConfig) (*volume, error) {
	d, can := w.driver(v).(grower)
	if !can {
		return nil, storageError(agentapi.KindUnsupported, "%s volume type does not' support grow.", v.kind())
	}
	if v.text("id") == "" {
		return nil, storageError(agentapi.KindInvalid, "Failed to grow volume: volume has no id.")
	}
	growth, resize := splitResize(growth)
	if err := d.checkGrowth(ctx, w, v, growth); err != nil {
		return nil, err
	}
	if err := w.driver(v).locate(ctx, w, v); err != nil {
		return nil, err
	}
	bigger, err := w.replaceByBigger(ctx, d, v, growth, resize)
	if err != nil {
		return nil, growthFailed(err)
	}
	return bigger, nil
}

// splitResize takes resize_fs out of what a driver is asked for; its default is true.
func splitResize(growth agentapi.StorageConfig) (rest agentapi.StorageConfig, resize bool) {
	rest, resize = maps.Clone(growth), true
	if raw, sent := rest["resize_fs"]; sent && string(raw) != "null" {
		v := volume{rest}
		resize = v.flag("resize_fs")
	}
	delete(rest, "resize_fs")
	return rest, resize
}

func growthFailed(err error) error {
	text := err.Error()
	kind := agentapi.KindInternal
	if e, ok := errors.AsType[*agentapi.Error](err); ok {
		text = strings.Replace(text, e.Message(), e.Text, 1)
		kind = e.Kind
	}
	return &agentapi.Error{Kind: kind, Class: "StorageError", Text: "Volume growth failed: " + text, Err: err}
}

func (w *work) replaceByBigger(ctx context.Context, d grower, v *volume, growth agentapi.StorageConfig, resize bool) (*volume, error) {
	var at []host.Mount
	var line host.FstabLine
	kept := false
	if device := v.text("device"); device != "" {
		var err error
		if at, err = w.mountedOn(device); err != nil {
			return nil, err
		}
		line, kept = w.inFstab(device)
	}
	if t, ok := w.driver(v).(tagger); ok {
		if err := t.tag(ctx, w, v, statusOld); err != nil {
			return nil, err
		}
	}
	if err := w.detach(ctx, v, false); err != nil {
		return nil, err
	}
	n, err := d.bigger(ctx, w, v, growth)
	if err != nil {
		return nil, err
	}
	if n.text("id") == "" {
		n.set("id", newID("vol", n.kind()))
	}
	n.set("snap", nil)
	if err := w.growFilesystem(ctx, n, at, resize); err != nil {
		return nil, err
	}
	if kept {
		line.Source = n.text("device")
		if err := w.keepMounted(n, line); err != nil {
			return nil, err
		}
	}
	return n, nil
}

// growFilesystem makes the filesystem as large as its device, and mounts it where the old volume was.
func (w *work) growFilesystem(ctx context.Context, v *volume, at []host.Mount, resize bool) error {
	device := v.text("device")
	found, err := w.s.host.ProbeDevice(ctx, device)
	if err != nil {
		return err
	}
	fstype := found.Filesystem()
	if fstype != "" {
		v.set("fstype", fstype)
	}
	if resize && strings.HasPrefix(fstype, "ext") {
		if err := w.checkExt(ctx, device); err != nil {
			return err
		}
		if _, err := w.s.host.Run(ctx, host.Cmd{Path: "resize2fs", Args: []string{w.s.host.Path(device)}, Timeout: checkTimeout}); err != nil {
			return host.LinuxError(err)
		}
	}
	for _, m := range at {
		if err := w.mountAt(ctx, fstype, device, m.MPoint, optionsOf(m)...); err != nil {
			return err
		}
	}
	if !resize || fstype != "xfs" && fstype != "btrfs" {
		return nil
	}
	if len(at) > 0 {
		return w.s.host.GrowFilesystem(ctx, host.Mount{MPoint: at[0].MPoint, FSType: fstype, Source: device})
	}
	return w.whileMounted(ctx, fstype, device, func(mpoint string) error {
		return w.s.host.GrowFilesystem(ctx, host.Mount{MPoint: mpoint, FSType: fstype, Source: device})
	})
}

func optionsOf(m host.Mount) []string {
	if m.Options == "" || m.Options == "rw" || m.Options == "rw,relatime" {
		return nil
	}
	return []string{m.Options}
}

// checkExt checks an ext filesystem that is not mounted; resize2fs asks for that.
func (w *work) checkExt(ctx context.Context, device string) error {
	out, err := w.s.host.Run(ctx, host.Cmd{Path: "e2fsck", Args: []string{"-fy", w.s.host.Path(device)}, Timeout: checkTimeout})
	if e, ok := errors.AsType[*host.CommandError](err); ok && e.Err == nil && out.Code == 1 {
		return nil // it had errors and has none any more
	}
	if err != nil {
		return agentapi.Errorf(agentapi.KindInternal, "FileSystemError", "Fsck failed to correct file system errors. %v", err)
	}
	return nil
}

// whileMounted mounts a device at a place of our own while fn runs.
func (w *work) whileMounted(ctx context.Context, fstype, device string, fn func(mpoint string) error, options ...string) error {
	mpoint := w.s.dir + "/mnt-" + w.id
	if err := w.mountAt(ctx, fstype, device, mpoint, options...); err != nil {
		return err
	}
	if err := fn(mpoint); err != nil {
		return err
	}
	if err := w.s.host.Unmount(ctx, mpoint); err != nil {
		return err
	}
	return w.s.host.Remove(mpoint)
}
