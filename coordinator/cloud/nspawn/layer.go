package nspawn

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// buildAgentLayer installs the agent's package on top of the base and keeps only what that changed. It is made once per
// package contents; the result is the upper directory of an overlay, which any node can use as a lower one.
func buildAgentLayer(ctx context.Context, home, deb string, progress Progress) (string, error) {
	hash, err := fileHash(deb)
	if err != nil {
		return "", fmt.Errorf("agent package: %w", err)
	}
	final := filepath.Join(home, "agent-"+hash)
	layer := filepath.Join(final, dirLayer)
	if exists(layer) {
		progress("agent", 1, 1, "already there")
		return layer, privateDir(final)
	}
	progress("agent", 0, 1, "install "+filepath.Base(deb))
	tmp := filepath.Join(home, "agent.new")
	if err := removeRootfs(tmp); err != nil {
		return "", err
	}
	if err := installLayer(ctx, filepath.Join(home, dirRootfs), tmp, deb); err != nil {
		return "", errors.Join(err, removeRootfs(tmp))
	}
	if err := os.Rename(tmp, final); err != nil {
		return "", err
	}
	progress("agent", 1, 1, filepath.Base(deb))
	return layer, nil
}

// installLayer fills <tmp>/root by installing deb in a chroot on an overlay over base.
func installLayer(ctx context.Context, base, tmp, deb string) (err error) {
	if err := privateDir(tmp); err != nil {
		return err
	}
	upper, work, merged := filepath.Join(tmp, dirLayer), filepath.Join(tmp, "work"), filepath.Join(tmp, "merged")
	for _, dir := range []string{upper, work, merged} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
	}
	if err := unix.Mount("reeve-layer", merged, "overlay", 0, "lowerdir="+base+",upperdir="+upper+",workdir="+work); err != nil {
		return fmt.Errorf("mount the layer: %w", err)
	}
	defer func() {
		if err = errors.Join(err, unmountBelow(merged)); err == nil {
			err = errors.Join(os.RemoveAll(work), os.RemoveAll(merged))
		}
	}()
	if err := unix.Mount("proc", filepath.Join(merged, "proc"), "proc", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, ""); err != nil {
		return fmt.Errorf("mount proc: %w", err)
	}
	root, err := os.OpenRoot(merged)
	if err != nil {
		return err
	}
	defer root.Close()
	const policy, inside = "usr/sbin/policy-rc.d", "var/tmp/reeve-agent.deb"
	// 101: package scripts must not start what they install; nothing runs here that could start it.
	if err := root.WriteFile(policy, []byte("#!/bin/sh\nexit 101\n"), 0o755); err != nil {
		return err
	}
	if err := copyInto(root, inside, deb); err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, "chroot", merged, "dpkg", "--force-unsafe-io", "--install", "/"+inside)
	cmd.Env = []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C", "DEBIAN_FRONTEND=noninteractive"}
	if err := runFollowed(cmd, func(string) {}); err != nil {
		return err
	}
	return errors.Join(root.Remove(policy), root.Remove(inside))
}

func copyInto(root *os.Root, name, file string) error {
	in, err := os.Open(file)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := root.Create(name)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	return errors.Join(err, out.Close())
}
