package nspawn

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/pem"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/reeve-paas/reeve/coordinator/core"
)

// CreateNode makes a node and starts it; the node is pending until its default target is reached. A node that a crash
// left half made is completed by the same call.
//
// Errors:  invalid (name, size, image, files), quota (no address), unavailable (no image built yet, disk)
// Effects: <state>/nodes/<id>, a supervisor process, a cgroup, a veth on the bridge
func (d *Driver) CreateNode(ctx context.Context, spec core.NodeSpec) (core.CloudNode, error) {
	if !nodeName.MatchString(spec.Name) {
		return core.CloudNode{}, core.Errorf(core.Invalid, core.ObjNode, "node name %q: want 1 to 63 of [a-z0-9-], no hyphen at either end", spec.Name)
	}
	if spec.Key == "" {
		return core.CloudNode{}, core.Errorf(core.Invalid, core.ObjNode, "a node needs an idempotency key")
	}
	if err := checkFiles(spec.Files); err != nil {
		return core.CloudNode{}, err
	}
	n, err := d.reserve(spec)
	if err != nil {
		return core.CloudNode{}, err
	}
	if err := n.acquire(ctx); err != nil {
		return core.CloudNode{}, err
	}
	defer n.release()
	rec, run := n.snapshot()
	if rec.Intent == intentRunning && run.State == "" { // its very first start was cut off
		return n.view(), d.attend(n)
	}
	if rec.Intent != intentCreating {
		return n.view(), nil
	}
	if err := d.build(ctx, n, spec); err != nil {
		return core.CloudNode{}, core.Wrap(core.Unavailable, core.ObjNode, err, "create node %s", spec.Name)
	}
	if err := n.want(intentRunning); err != nil {
		return core.CloudNode{}, err
	}
	if err := d.attend(n); err != nil {
		return core.CloudNode{}, err
	}
	return n.view(), nil
}

// reserve finds the node of this key or writes the record of a new one.
func (d *Driver) reserve(spec core.NodeSpec) (*node, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if n := d.findKeyLocked(spec.Key); n != nil {
		return n, nil
	}
	if spec.LocationID != "" && spec.LocationID != "local" {
		return nil, core.Errorf(core.Invalid, core.ObjLocation, "no location %q", spec.LocationID)
	}
	image, err := d.image(spec.ImageID)
	if err != nil {
		return nil, err
	}
	size, err := d.size(spec.SizeID)
	if err != nil {
		return nil, err
	}
	addr, err := d.freeAddrLocked()
	if err != nil {
		return nil, err
	}
	id := newID("n-")
	rec := record{
		ID: id, Name: spec.Name, Key: spec.Key, Machine: d.opts.AppName + "-" + id[2:],
		App: d.opts.AppName, Bridge: d.opts.Bridge, Addr: addr,
		ImageID: image.ID, SizeID: size.ID, Layers: image.Layers,
		Limits:  limits{CPUs: max(1, size.CPUs), MemoryMB: size.MemoryMB, Pids: d.opts.MaxPids, DiskGB: size.DiskGB},
		KeyName: spec.KeyName, Metadata: spec.Metadata, Intent: intentCreating, CreatedAt: time.Now().UTC(),
	}
	dir := d.nodeDir(id)
	if err := os.Mkdir(dir, 0o700); err != nil {
		return nil, core.Wrap(core.Unavailable, core.ObjNode, err, "node directory")
	}
	if err := rec.write(dir); err != nil {
		_ = os.RemoveAll(dir)
		return nil, core.Wrap(core.Unavailable, core.ObjNode, err, "node record")
	}
	n := newNode(dir, rec)
	d.nodes[id] = n
	return n, nil
}

// build makes what a node needs on disk. Everything in it may already be there from a try that was cut off.
func (d *Driver) build(ctx context.Context, n *node, spec core.NodeSpec) error {
	rec, _ := n.snapshot()
	if err := d.ensureNetwork(ctx); err != nil {
		return err
	}
	if err := newDir(n.dir); err != nil {
		return err
	}
	if err := makeDisk(ctx, filepath.Join(n.dir, fileDisk), rec.Limits.DiskGB); err != nil {
		return err
	}
	private, public, err := newHostKey(rec.Name)
	if err != nil {
		return err
	}
	nameservers := d.opts.Nameservers
	if nameservers == nil {
		nameservers = hostNameservers()
	}
	return writeJSON(filepath.Join(n.dir, fileSeed), seedFiles(rec, nameservers, private, public, spec.SSHKeys, spec.Files))
}

// makeDisk makes an empty file system in a sparse file: some milliseconds and 4 MB on disk whatever its size.
func makeDisk(ctx context.Context, file string, sizeGB int) error {
	_ = os.Remove(file)
	f, err := os.OpenFile(file, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := f.Truncate(int64(max(1, sizeGB)) << 30); err != nil {
		return err
	}
	out, err := exec.CommandContext(ctx, "mkfs.ext4", "-q", "-F", "-m", "0", "-J", "size=8", "-i", strconv.Itoa(32<<10),
		"-E", "lazy_itable_init=1,lazy_journal_init=1,nodiscard", file).CombinedOutput()
	if err != nil {
		return fmt.Errorf("mkfs.ext4: %w: %s", err, out)
	}
	return nil
}

// newHostKey makes the node's SSH host key here: inside it would be on the way of the first boot.
func newHostKey(comment string) (private, public []byte, err error) {
	pub, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	block, err := ssh.MarshalPrivateKey(key, comment)
	if err != nil {
		return nil, nil, err
	}
	sshPub, err := ssh.NewPublicKey(pub)
	if err != nil {
		return nil, nil, err
	}
	return pem.EncodeToMemory(block), ssh.MarshalAuthorizedKey(sshPub), nil
}
