package storage

import (
	"context"
	"strconv"

	"github.com/reeve-paas/reeve/agent/agentapi"
	"github.com/reeve-paas/reeve/handlers/host"
)

// tmpfs is a filesystem in memory. Its device is its mount point.
type tmpfs struct{}

func (tmpfs) defaults() map[string]any { return map[string]any{"size": nil} }

func (tmpfs) ensure(ctx context.Context, w *work, v *volume) error {
	mpoint := v.text("mpoint")
	if mpoint == "" {
		return missing("mpoint")
	}
	size, err := tmpfsSize(v)
	if err != nil {
		return err
	}
	mounts, err := w.s.host.Mounts()
	if err != nil {
		return err
	}
	if m, taken := host.MountedAt(mounts, mpoint); taken {
		if m.FSType != "tmpfs" {
			return agentapi.Errorf(agentapi.KindConflict, "FileSystemError", "%s is mounted at %s already", m.Source, mpoint)
		}
		v.set("device", mpoint)
		return nil
	}
	if err := w.makeDirs(mpoint); err != nil {
		return err
	}
	if err := w.will("unmount-tmpfs", mpoint); err != nil {
		return err
	}
	args := []string{"-t", "tmpfs", "-o", "size=" + size + "M", "tmpfs", w.s.host.Path(mpoint)}
	if _, err := w.s.host.Run(ctx, host.Cmd{Path: "mount", Args: args, Timeout: quickTimeout}); err != nil {
		return agentapi.Errorf(agentapi.KindInternal, "FileSystemError", "%v", err)
	}
	v.set("device", mpoint)
	return nil
}

func tmpfsSize(v *volume) (string, error) {
	mb, ok, err := number(v.StorageConfig, "size")
	switch {
	case err != nil:
		return "", err
	case !ok:
		return "", missing("size")
	case mb != float64(int64(mb)):
		return "", assertion("size is invalid, whole MB are expected")
	}
	return strconv.FormatInt(int64(mb), 10), nil
}

func tmpfsLine(v *volume) host.FstabLine {
	size, _ := tmpfsSize(v)
	return host.FstabLine{Source: "tmpfs", MPoint: v.text("mpoint"), FSType: "tmpfs", Options: []string{"size=" + size + "M", fstabMark, "nofail"}, Pass: "0"}
}

func (tmpfs) locate(_ context.Context, w *work, v *volume) error {
	mounts, err := w.s.host.Mounts()
	if err != nil {
		return err
	}
	if m, mounted := host.MountedAt(mounts, v.text("mpoint")); !mounted || m.FSType != "tmpfs" {
		v.set("device", nil)
		return nil
	}
	v.set("device", v.text("mpoint"))
	return nil
}

// detach loses the content: memory is all there is. It cannot be taken back, and is the last step.
func (tmpfs) detach(ctx context.Context, w *work, v *volume, _ bool) error {
	return w.s.host.Unmount(ctx, v.text("mpoint"))
}

func (t tmpfs) destroy(ctx context.Context, w *work, v *volume, _ deletion) error {
	if v.text("device") == "" {
		return nil
	}
	return t.detach(ctx, w, v, false)
}
