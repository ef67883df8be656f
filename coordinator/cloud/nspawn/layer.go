package nspawn

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// A layer is what an installation changed of the layers below it: the upper directory of an overlay, which any node can use as a
// lower one.

// Extra is something that an image has beside what every one has, in a layer of its own.
type Extra struct {
	Name     string   // a platform's
	Packages []string // Debian's names of what it needs
}

// layersVersion is to be raised when buildExtraLayer does something else.
const layersVersion = 1

// buildExtraLayer installs the packages of extras on top of the base. It is made once per set of packages, in a directory for
// itself and the agents on top of it.
func buildExtraLayer(ctx context.Context, home string, extras []Extra, lock *os.File, progress Progress) (final, layer string, err error) {
	var packages []string
	for _, e := range extras {
		packages = append(packages, e.Packages...)
	}
	slices.Sort(packages)
	data, err := json.Marshal([]any{layersVersion, slices.Compact(packages)})
	if err != nil {
		return "", "", err
	}
	sum := sha256.Sum256(data)
	final = filepath.Join(home, "with-"+hex.EncodeToString(sum[:]))
	layer = filepath.Join(final, dirLayer)
	if exists(layer) {
		progress("extra", 1, 1, "already there")
		return final, layer, privateDir(final)
	}
	tmp := filepath.Join(home, "with.new")
	err = makeLayer(final, tmp, []string{filepath.Join(home, dirRootfs)}, func(root *os.Root, merged string) error {
		return installPackages(ctx, root, merged, packages, lock, progress)
	})
	return final, layer, err
}

// installPackages fetches packages from the sources that the base came from, and leaves nothing of that but the packages.
func installPackages(ctx context.Context, root *os.Root, merged string, packages []string, lock *os.File, progress Progress) error {
	const resolver = "etc/resolv.conf"
	_, err := root.Lstat(resolver)
	if os.IsNotExist(err) {
		if err := copyInto(root, resolver, "/"+resolver); err != nil {
			return err
		}
		defer func() { _ = root.Remove(resolver) }() // a failure leaves a layer that is thrown away
	}
	apt := func(line func(string), args ...string) error {
		args = append([]string{merged, "apt-get", "--yes", "-o", "Acquire::Languages=none", "-o", "Acquire::Queue-Mode=access", "-o", "Dir::Cache::pkgcache=",
			"-o", "Dir::Cache::srcpkgcache=", "-o", "Dpkg::Use-Pty=0", "-o", "Dpkg::Options::=--force-unsafe-io"}, args...)
		cmd := exec.CommandContext(ctx, "chroot", args...)
		cmd.Env = append(os.Environ(), layerEnv...)
		cmd.ExtraFiles = []*os.File{lock} // as for the base
		cmd.Cancel = func() error { return cmd.Process.Signal(unix.SIGTERM) }
		cmd.WaitDelay = 10 * time.Second
		return runFollowed(cmd, line)
	}
	follow := newAptFollower("extra", progress)
	if err := apt(func(string) {}, "update"); err != nil {
		return err
	}
	if err := apt(follow.line, append([]string{"install", "--no-install-recommends", "--"}, packages...)...); err != nil {
		return err
	}
	if err := apt(func(string) {}, "clean"); err != nil {
		return err
	}
	const lists = "var/lib/apt/lists"
	return errors.Join(root.RemoveAll(lists), root.MkdirAll(lists+"/partial", 0o755))
}

// buildAgentLayer installs the agent's package on top of the layers given, topmost first, and keeps only what that changed. It is
// made once per package contents, in home.
func buildAgentLayer(ctx context.Context, home string, below []string, deb string, progress Progress) (string, error) {
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
	err = makeLayer(final, filepath.Join(home, "agent.new"), below, func(root *os.Root, merged string) error {
		const inside = "var/tmp/reeve-agent.deb"
		if err := copyInto(root, inside, deb); err != nil {
			return err
		}
		cmd := exec.CommandContext(ctx, "chroot", merged, "dpkg", "--force-unsafe-io", "--install", "/"+inside)
		cmd.Env = layerEnv
		return errors.Join(runFollowed(cmd, func(string) {}), root.Remove(inside))
	})
	if err == nil {
		progress("agent", 1, 1, filepath.Base(deb))
	}
	return layer, err
}

// layerEnv is the environment of what installs something.
var layerEnv = []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C", "DEBIAN_FRONTEND=noninteractive"}

// makeLayer makes <final>/root of what install changes in a tree over the layers below, topmost first. It appears by a rename of
// tmp, complete or not at all.
func makeLayer(final, tmp string, below []string, install func(root *os.Root, merged string) error) error {
	if err := removeRootfs(tmp); err != nil {
		return err
	}
	if err := fillLayer(tmp, below, install); err != nil {
		return errors.Join(err, removeRootfs(tmp))
	}
	return os.Rename(tmp, final)
}

func fillLayer(tmp string, below []string, install func(root *os.Root, merged string) error) (err error) {
	if err := privateDir(tmp); err != nil {
		return err
	}
	upper, work, merged := filepath.Join(tmp, dirLayer), filepath.Join(tmp, "work"), filepath.Join(tmp, "merged")
	for _, dir := range []string{upper, work, merged} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
	}
	if err := unix.Mount("reeve-layer", merged, "overlay", 0, "lowerdir="+strings.Join(below, ":")+",upperdir="+upper+",workdir="+work); err != nil {
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
	const policy = "usr/sbin/policy-rc.d"
	// 101: package scripts must not start what they install; nothing runs here that could start it.
	if err := root.WriteFile(policy, []byte("#!/bin/sh\nexit 101\n"), 0o755); err != nil {
		return err
	}
	if err := install(root, merged); err != nil {
		return err
	}
	return root.Remove(policy)
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
