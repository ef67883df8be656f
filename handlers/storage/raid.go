package storage

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/reeve-paas/reeve/agent/agentapi"
	"github.com/reeve-paas/reeve/handlers/host"
)

// raid is one logical volume on an array of volumes of other types.
type raid struct {
	s   *Service
	lvm *lvm
}

func (*raid) defaults() map[string]any {
	return map[string]any{"disks": []string{}, "level": nil, "vg": nil, "raid_pv": nil, "pv_uuid": nil, "lvm_group_cfg": nil}
}

const (
	raidVolume  = "lvol0" // the one logical volume of an array
	arrayWait   = 2 * time.Minute
	rebuildWait = 24 * time.Hour
	maxArrays   = 128
)

var raidLevels = []string{"0", "1", "5", "10"}

func (r *raid) ensure(ctx context.Context, w *work, v *volume) error {
	if snap := v.snap(); snap != nil {
		if err := r.fromSnapshot(v, snap); err != nil {
			return err
		}
	}
	switch {
	case v.text("level") == "":
		return missing("level")
	case !slices.Contains(raidLevels, v.text("level")):
		return storageError(agentapi.KindInvalid, "Unknown raid level: %.20s", v.text("level"))
	case v.text("vg") == "":
		return missing("vg")
	case len(v.members("disks")) == 0:
		return missing("disks")
	}
	devices, err := w.ensureMembers(ctx, v, "disks")
	if err != nil {
		return err
	}
	if v.text("lvm_group_cfg") == "" {
		return r.make(ctx, w, v, devices)
	}
	return r.bringUp(ctx, w, v, devices)
}

// make makes an array of disks that belong to none, and the one logical volume on it.
func (r *raid) make(ctx context.Context, w *work, v *volume, devices []string) error {
	for _, d := range devices {
		if err := r.refuseMember(ctx, d); err != nil {
			return err
		}
		if err := w.unmount(ctx, d); err != nil {
			return err
		}
	}
	if err := r.keepAutoAssemblyOff(w); err != nil {
		return err
	}
	md, err := r.freeArray()
	if err != nil {
		return err
	}
	if err := w.will("md-stop", append([]string{md, "zero"}, devices...)...); err != nil {
		return err
	}
	args := []string{"--create", "--run", "--force", "--level=" + v.text("level"), "--assume-clean",
		"--raid-devices=" + strconv.Itoa(len(devices)), "--metadata=default", r.s.host.Path(md)}
	if err := r.s.lvm(ctx, "mdadm", append(args, r.s.paths(devices)...)...); err != nil {
		return err
	}
	if err := r.s.waitFor(ctx, md, arrayWait); err != nil {
		return err
	}
	if err := w.makePhysical(ctx, md); err != nil {
		return err
	}
	vg := v.text("vg")
	if exists, err := r.s.groupExists(ctx, vg); err != nil || exists {
		return errors.Join(err, storageError(agentapi.KindConflict, "there is a volume group %s already", vg))
	}
	if err := w.will("vg-remove", vg); err != nil {
		return err
	}
	if err := r.s.lvm(ctx, "vgcreate", "--yes", vg, r.s.host.Path(md)); err != nil {
		return err
	}
	if err := w.will("lv-remove", vg, raidVolume); err != nil {
		return err
	}
	if err := r.s.lvm(ctx, "lvcreate", "--yes", "--wipesignatures", "y", "--name", raidVolume, "--extents", "100%FREE", vg); err != nil {
		return err
	}
	return r.describe(ctx, w, v, md)
}

// refuseMember refuses a disk that carries a superblock: making another array of it would lose the first one's data.
func (r *raid) refuseMember(ctx context.Context, device string) error {
	out, err := r.s.tool(ctx, "mdadm", "--examine", r.s.host.Path(device))
	if err != nil && strings.Contains(string(out.Stderr), "No md superblock") {
		return nil
	}
	if err != nil {
		return err
	}
	return agentapi.Errorf(agentapi.KindConflict, "MdadmError", "%s belongs to an array already: pass the configuration that its creation returned, "+
		"or run mdadm --zero-superblock %s when its data is not needed", device, device)
}

// bringUp assembles an array whose disks are attached and activates its logical volume.
func (r *raid) bringUp(ctx context.Context, w *work, v *volume, devices []string, options ...string) error {
	md, err := r.arrayOf(devices)
	if err != nil {
		return err
	}
	if md == "" {
		if err := r.keepAutoAssemblyOff(w); err != nil {
			return err
		}
		if md, err = r.freeArray(); err != nil {
			return err
		}
		if err := w.will("md-stop", append([]string{md, ""}, devices...)...); err != nil {
			return err
		}
		args := append([]string{"--assemble", "--run"}, options...)
		if err := r.s.lvm(ctx, "mdadm", append(append(args, r.s.host.Path(md)), r.s.paths(devices)...)...); err != nil {
			return err
		}
		if err := r.s.waitFor(ctx, md, arrayWait); err != nil {
			return err
		}
	}
	if err := r.restoreGroup(ctx, w, v, md); err != nil {
		return err
	}
	lv, exists, err := r.s.logicalVolume(ctx, v.text("vg"), raidVolume)
	switch {
	case err != nil:
		return err
	case !exists:
		return errGone
	case !lv.active:
		if err := w.activate(ctx, v.text("vg"), raidVolume); err != nil {
			return err
		}
	}
	return r.describe(ctx, w, v, md)
}

// describe waits for the volume and keeps in its configuration what finds it again.
func (r *raid) describe(ctx context.Context, w *work, v *volume, md string) error {
	v.set("device", lvDevice(v.text("vg"), raidVolume))
	v.set("raid_pv", md)
	if err := r.s.waitFor(ctx, v.text("device"), arrayWait); err != nil {
		return err
	}
	return r.rememberGroup(ctx, w, v, md)
}

// rememberGroup keeps the group's metadata and the physical volume's identifier in the configuration.
func (r *raid) rememberGroup(ctx context.Context, w *work, v *volume, md string) error {
	file := path.Join(r.s.dir, w.id+".vg")
	if err := r.s.host.MkdirAll(r.s.dir, 0o700); err != nil {
		return err
	}
	defer r.s.host.Remove(file)
	if err := r.s.lvm(ctx, "vgcfgbackup", "--file", r.s.host.Path(file), v.text("vg")); err != nil {
		return err
	}
	text, err := r.s.host.ReadFile(file)
	if err != nil {
		return err
	}
	rows, err := r.s.lvmReport(ctx, "pvs", "pv", "pv_name,pv_uuid")
	if err != nil {
		return err
	}
	for _, row := range rows {
		if r.s.realPath(r.s.local(row["pv_name"])) == r.s.realPath(md) {
			v.set("pv_uuid", row["pv_uuid"])
		}
	}
	v.set("lvm_group_cfg", base64.StdEncoding.EncodeToString(text))
	return nil
}

// restoreGroup writes the group's metadata to an array that has none: an older agent takes it away when it detaches.
func (r *raid) restoreGroup(ctx context.Context, w *work, v *volume, md string) error {
	vg := v.text("vg")
	if ours, err := r.carries(ctx, md, vg); err != nil || ours {
		return err
	}
	if exists, err := r.s.groupExists(ctx, vg); err != nil || exists {
		return errors.Join(err, storageError(agentapi.KindConflict, "there is a volume group %s on other disks", vg))
	}
	text, err := base64.StdEncoding.DecodeString(strings.Map(dropBlanks, v.text("lvm_group_cfg")))
	if err != nil {
		return assertion("'lvm_group_cfg' is invalid, base64 is expected")
	}
	uuid := v.text("pv_uuid")
	if uuid == "" || strings.Trim(uuid, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-") != "" {
		return assertion("'pv_uuid' is invalid: %.60q", uuid)
	}
	file := path.Join(r.s.dir, w.id+".vg")
	if err := errors.Join(r.s.host.MkdirAll(r.s.dir, 0o700), r.s.host.WriteFile(file, text, 0o600)); err != nil {
		return err
	}
	defer r.s.host.Remove(file)
	if err := w.will("pv-remove", md); err != nil {
		return err
	}
	if err := r.s.lvm(ctx, "pvcreate", "--yes", "--force", "--uuid", uuid, "--restorefile", r.s.host.Path(file), r.s.host.Path(md)); err != nil {
		return err
	}
	if err := w.will("vg-remove", vg); err != nil {
		return err
	}
	return r.s.lvm(ctx, "vgcfgrestore", "--yes", "--file", r.s.host.Path(file), vg)
}

func dropBlanks(c rune) rune {
	if c == ' ' || c == '\n' || c == '\r' || c == '\t' {
		return -1
	}
	return c
}

func (r *raid) locate(ctx context.Context, w *work, v *volume) error {
	v.set("device", nil)
	md, _, err := r.running(ctx, w, v)
	if err != nil || md == "" {
		return err
	}
	ours, err := r.carries(ctx, md, v.text("vg"))
	if err != nil || !ours {
		return err
	}
	lv, exists, err := r.s.logicalVolume(ctx, v.text("vg"), raidVolume)
	if exists && lv.active {
		v.set("device", lvDevice(v.text("vg"), raidVolume))
	}
	return err
}

// carries says whether the group of a name lies on an array. The old volume of one that has grown names the same group.
func (r *raid) carries(ctx context.Context, md, vg string) (bool, error) {
	known, err := r.s.physicalVolumes(ctx)
	return known[r.s.realPath(md)] == vg, err
}

// detach stops the array and detaches its disks. The group stays written on them.
func (r *raid) detach(ctx context.Context, w *work, v *volume, force bool) error {
	md, members, err := r.running(ctx, w, v)
	if err != nil {
		return err
	}
	if md != "" {
		if err := r.rememberGroup(ctx, w, v, md); err != nil {
			return err
		}
	}
	if err := w.deactivate(ctx, v.text("vg"), raidVolume); err != nil {
		return err
	}
	if md != "" {
		if err := r.stop(ctx, w, md, members); err != nil {
			return err
		}
	}
	return w.eachDisk(v, func(d *volume) error { return w.detach(ctx, d, force) })
}

// running finds the array of a volume and the disks it runs on.
func (r *raid) running(ctx context.Context, w *work, v *volume) (md string, devices []string, err error) {
	for _, d := range v.members("disks") {
		if err := w.driver(d).locate(ctx, w, d); err != nil {
			return "", nil, err
		}
		if device := d.text("device"); device != "" {
			devices = append(devices, device)
		}
	}
	md, err = r.arrayOf(devices)
	return md, devices, err
}

func (r *raid) stop(ctx context.Context, w *work, md string, members []string) error {
	if err := w.will("md-assemble", append([]string{md}, members...)...); err != nil {
		return err
	}
	return r.s.lvm(ctx, "mdadm", "--stop", r.s.host.Path(md))
}

// eachDisk works on the disks of a volume, one after the other, and keeps what became of their configurations.
func (w *work) eachDisk(v *volume, fn func(d *volume) error) error {
	disks := v.members("disks")
	for _, d := range disks {
		if err := fn(d); err != nil {
			return err
		}
	}
	v.setMembers("disks", disks)
	return nil
}

func (r *raid) destroy(ctx context.Context, w *work, v *volume, d deletion) error {
	md, members, err := r.running(ctx, w, v)
	if err != nil {
		return err
	}
	vg := v.text("vg")
	if v.text("device") != "" {
		if err := w.deactivate(ctx, vg, raidVolume); err != nil {
			return err
		}
	}
	if err := w.commit(); err != nil { // what goes now is gone
		return err
	}
	if md != "" {
		if err := r.removeGroup(ctx, md, vg); err != nil {
			return err
		}
		if err := r.s.lvm(ctx, "mdadm", "--stop", r.s.host.Path(md)); err != nil {
			return err
		}
	}
	for _, m := range members {
		if err := r.s.zeroSuperblock(ctx, m); err != nil {
			return err
		}
	}
	for _, member := range []string{"lvm_group_cfg", "pv_uuid", "raid_pv"} {
		v.set(member, nil)
	}
	err = w.eachDisk(v, func(disk *volume) error {
		if d.disks {
			return w.destroy(ctx, disk, deletion{force: true})
		}
		return w.detach(ctx, disk, d.force)
	})
	return errors.Join(err, w.commit())
}

// removeGroup removes what is on an array.
func (r *raid) removeGroup(ctx context.Context, md, vg string) error {
	ours, err := r.carries(ctx, md, vg)
	if err != nil {
		return err
	}
	if ours {
		if err := r.s.removeLV(ctx, vg, raidVolume); err != nil {
			return err
		}
		if err := r.s.removeGroup(ctx, vg); err != nil {
			return err
		}
	}
	return r.s.removePV(ctx, md)
}

func (s *Service) zeroSuperblock(ctx context.Context, device string) error {
	return s.lvm(ctx, "mdadm", "--zero-superblock", s.host.Path(device))
}

// snapshot copies every disk while nothing is written to the array.
func (r *raid) snapshot(ctx context.Context, w *work, v *volume, about label) (*volume, error) {
	snap := newSnapshot("raid", about)
	for _, member := range []string{"level", "vg", "pv_uuid", "lvm_group_cfg"} {
		snap.set(member, v.StorageConfig[member])
	}
	snaps, err := w.snapshotMembers(ctx, v, "disks", func(i int) label {
		return label{strings.TrimSpace(fmt.Sprintf("Raid%s disk %d. %s", v.text("level"), i, about.description)), about.tags}
	})
	if err != nil {
		return nil, err
	}
	snap.setMembers("disks", snaps)
	return snap, nil
}

func (r *raid) dropSnapshot(ctx context.Context, w *work, snap *volume) error {
	return w.dropSnapshots(ctx, snap, "disks")
}

func (r *raid) fromSnapshot(v *volume, snap agentapi.StorageConfig) error {
	for _, member := range []string{"level", "vg", "pv_uuid", "lvm_group_cfg"} {
		if v.text(member) == "" {
			v.set(member, snap[member])
		}
	}
	if err := v.check(); err != nil {
		return err
	}
	return r.s.restoreMembers(v, snap, "disks", "disks")
}

// growth is what raid grows by.
type raidGrowth struct {
	disks agentapi.StorageConfig // for every disk; nil when they stay as they are
	count int                    // of disks, afterwards
}

func (r *raid) readGrowth(v *volume, growth agentapi.StorageConfig) (g raidGrowth, err error) {
	have := len(v.members("disks"))
	g.count = have
	if raw := growth["disks"]; len(raw) > 0 && string(raw) != "null" {
		if json.Unmarshal(raw, &g.disks) != nil {
			return g, assertion("'growth.disks' is invalid, '<type 'dict'>' expected")
		}
	}
	if n, sent, err := number(growth, "disks_count"); err != nil {
		return g, err
	} else if sent {
		g.count = int(n)
	}
	switch {
	case v.text("level") != "1" && v.text("level") != "5":
		return g, storageError(agentapi.KindUnsupported, "Raid%s doesn't support growth", v.text("level"))
	case g.count < have:
		return g, storageError(agentapi.KindInvalid, "Disk count can only be increased.")
	case g.count == have && len(g.disks) == 0:
		return g, noOp("Configurations are equal. Nothing to do")
	}
	return g, nil
}

func (r *raid) checkGrowth(ctx context.Context, w *work, v *volume, growth agentapi.StorageConfig) error {
	g, err := r.readGrowth(v, growth)
	if err != nil || len(g.disks) == 0 {
		return err
	}
	for _, d := range v.members("disks") {
		driver, can := w.driver(d).(grower)
		if !can {
			return storageError(agentapi.KindUnsupported, "%s volume type does not' support grow.", d.kind())
		}
		if err := driver.checkGrowth(ctx, w, d, g.disks); err != nil {
			return err
		}
	}
	return nil
}

// bigger makes larger copies of the disks, or takes the disks themselves, and adds new ones.
func (r *raid) bigger(ctx context.Context, w *work, v *volume, growth agentapi.StorageConfig) (*volume, error) {
	g, err := r.readGrowth(v, growth)
	if err != nil {
		return nil, err
	}
	n := v.clone()
	n.set("id", nil)
	disks := v.members("disks")
	var options []string
	if len(g.disks) > 0 {
		if disks, err = r.biggerDisks(ctx, w, disks, g.disks); err != nil {
			return nil, err
		}
		options = []string{"--update=devicesize"}
	}
	n.setMembers("disks", disks)
	devices, err := w.ensureMembers(ctx, n, "disks")
	if err != nil {
		return nil, err
	}
	if err := r.bringUp(ctx, w, n, devices, options...); err != nil {
		return nil, err
	}
	md := n.text("raid_pv")
	if g.count > len(disks) {
		if err := r.addDisks(ctx, w, n, md, g.count, len(g.disks) > 0); err != nil {
			return nil, err
		}
	}
	return n, r.fill(ctx, w, n, md)
}

func (r *raid) biggerDisks(ctx context.Context, w *work, disks []*volume, growth agentapi.StorageConfig) ([]*volume, error) {
	bigger := make([]*volume, len(disks))
	errs := make([]error, len(disks))
	var wg sync.WaitGroup
	for i, d := range disks {
		wg.Go(func() {
			bigger[i], errs[i] = w.driver(d).(grower).bigger(ctx, w, d, growth)
			if errs[i] == nil && bigger[i].text("id") == "" {
				bigger[i].set("id", newID("vol", bigger[i].kind()))
			}
		})
	}
	wg.Wait()
	return bigger, errors.Join(errs...)
}

// addDisks makes disks like the last one and reshapes the array onto them. On copies that can be taken back; otherwise the
// array's own disks change, and from there on the way leads forward only.
func (r *raid) addDisks(ctx context.Context, w *work, v *volume, md string, count int, copies bool) error {
	disks := v.members("disks")
	var fresh []string
	for len(disks) < count {
		d := disks[len(disks)-1].clone()
		for _, member := range []string{"id", "device", "snap"} {
			d.set(member, nil)
		}
		if file := d.text("file"); file != "" {
			d.set("file", r.s.sibling(file))
		}
		if err := w.ensure(ctx, d); err != nil {
			return err
		}
		disks, fresh = append(disks, d), append(fresh, d.text("device"))
	}
	for _, device := range fresh {
		if err := w.will("md-remove", md, device); err != nil {
			return err
		}
	}
	if err := r.s.lvm(ctx, "mdadm", append([]string{"--add", r.s.host.Path(md)}, r.s.paths(fresh)...)...); err != nil {
		return err
	}
	if !copies {
		if err := w.commit(); err != nil {
			return err
		}
	}
	if err := r.s.lvm(ctx, "mdadm", "--grow", "--raid-devices="+strconv.Itoa(count), r.s.host.Path(md)); err != nil {
		return err
	}
	v.setMembers("disks", disks)
	return r.wait(ctx, md)
}

// fill makes the array, its physical and its logical volume as large as the disks allow.
func (r *raid) fill(ctx context.Context, w *work, v *volume, md string) error {
	if err := r.s.lvm(ctx, "mdadm", "--grow", "--size=max", r.s.host.Path(md)); err != nil {
		return err
	}
	if err := r.wait(ctx, md); err != nil {
		return err
	}
	if err := r.s.lvm(ctx, "pvresize", r.s.host.Path(md)); err != nil {
		return err
	}
	rows, err := r.s.lvmReport(ctx, "vgs", "vg", "vg_name,vg_free_count")
	if err != nil {
		return err
	}
	free := slices.ContainsFunc(rows, func(row map[string]string) bool {
		return row["vg_name"] == v.text("vg") && row["vg_free_count"] != "0"
	})
	if free { // lvresize calls it an error when there is nothing to do
		if err := r.s.lvm(ctx, "lvresize", "--yes", "--extents", "100%VG", v.text("vg")+"/"+raidVolume); err != nil {
			return err
		}
	}
	return r.rememberGroup(ctx, w, v, md)
}

// wait waits until an array has nothing to rebuild. mdadm exits with 1 when there was nothing.
func (r *raid) wait(ctx context.Context, md string) error {
	out, err := r.s.host.Run(ctx, host.Cmd{Path: "mdadm", Args: []string{"--wait", r.s.host.Path(md)}, Timeout: rebuildWait})
	if e, ok := errors.AsType[*host.CommandError](err); ok && e.Err == nil && out.Code == 1 && len(out.Stderr) == 0 {
		return nil
	}
	if err != nil {
		return host.LinuxError(err)
	}
	return nil
}

// replace puts a disk into the place of another and waits until the data is on it; then the old one is destroyed.
func (r *raid) replace(ctx context.Context, w *work, v *volume, index int, disk *volume) error {
	disks := v.members("disks")
	if index < 0 || index >= len(disks) {
		return assertion("'index' is invalid: the volume has %d disks", len(disks))
	}
	if v.text("level") == "0" {
		return agentapi.Errorf(agentapi.KindUnsupported, "MdadmError", "a raid0 has no spare copy: its disks cannot be replaced")
	}
	md, _, err := r.running(ctx, w, v)
	if err != nil {
		return err
	}
	old := disks[index]
	if err := w.driver(old).locate(ctx, w, old); err != nil {
		return err
	}
	if md == "" || old.text("device") == "" {
		return agentapi.Errorf(agentapi.KindConflict, "MdadmError", "the array does not run: attach the volume first")
	}
	if err := w.ensure(ctx, disk); err != nil {
		return err
	}
	if err := r.refuseMember(ctx, disk.text("device")); err != nil {
		return err
	}
	oldPath, newPath := r.s.host.Path(old.text("device")), r.s.host.Path(disk.text("device"))
	if err := w.will("md-add", md, old.text("device")); err != nil {
		return err
	}
	for _, verb := range []string{"--fail", "--remove"} {
		if err := r.s.lvm(ctx, "mdadm", r.s.host.Path(md), verb, oldPath); err != nil {
			return err
		}
	}
	if err := w.will("md-remove", md, disk.text("device")); err != nil {
		return err
	}
	if err := r.s.lvm(ctx, "mdadm", r.s.host.Path(md), "--add", newPath); err != nil {
		return err
	}
	if err := r.wait(ctx, md); err != nil {
		return err
	}
	if degraded, err := r.s.host.ReadFile(path.Join("/sys/block", path.Base(md), "md/degraded")); err == nil && strings.TrimSpace(string(degraded)) != "0" {
		return agentapi.Errorf(agentapi.KindInternal, "MdadmError", "the array is still degraded with the new disk")
	}
	disks[index] = disk
	v.setMembers("disks", disks)
	if err := w.commit(); err != nil {
		return err
	}
	if err := errors.Join(r.s.zeroSuperblock(ctx, old.text("device")), w.destroy(ctx, old, deletion{force: true})); err != nil {
		w.log.Warn("the old disk is out of the array and could not be destroyed", "id", old.text("id"), "err", err)
	}
	return w.commit()
}

// arrayOf is the running array that one of the devices belongs to, "" when none does.
func (r *raid) arrayOf(devices []string) (string, error) {
	arrays, err := r.s.arrays()
	if err != nil {
		return "", err
	}
	for _, d := range devices {
		for md, members := range arrays {
			if slices.Contains(members, path.Base(r.s.realPath(d))) {
				return md, nil
			}
		}
	}
	return "", nil
}

// freeArray is the first array that does not exist.
func (r *raid) freeArray() (string, error) {
	for n := range maxArrays {
		md := "/dev/md" + strconv.Itoa(n)
		if !r.s.host.Exists("/sys/block/" + path.Base(md)) {
			return md, nil
		}
	}
	return "", agentapi.Errorf(agentapi.KindConflict, "MdadmError", "all %d arrays are in use", maxArrays)
}

// arrays maps running arrays to the kernel's names of their members.
func (s *Service) arrays() (map[string][]string, error) {
	text, err := s.host.ReadFile("/proc/mdstat")
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	return parseMDStat(string(text)), err
}

// parseMDStat reads lines such as "md0 : active raid1 loop1[1] loop0[0](F)".
func parseMDStat(text string) map[string][]string {
	arrays := map[string][]string{}
	for line := range strings.Lines(text) {
		name, rest, found := strings.Cut(line, " : ")
		if !found || !strings.HasPrefix(name, "md") || strings.ContainsAny(name, " \t") {
			continue
		}
		members := []string{}
		for _, word := range strings.Fields(rest) {
			if member, _, isMember := strings.Cut(word, "["); isMember {
				members = append(members, member)
			}
		}
		arrays["/dev/"+name] = members
	}
	return arrays
}

// keepAutoAssemblyOff keeps udev from assembling arrays by itself: disks come and go as we attach them. A host that has
// arrays of its own is left as it is.
func (r *raid) keepAutoAssemblyOff(w *work) error {
	file := r.s.host.Layout().MdadmConf
	old, err := r.s.host.ReadFile(file)
	existed := err == nil
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	text, change := renderMdadmConf(string(old))
	arrays, err := r.s.arrays()
	if err != nil || !change || len(arrays) > 0 {
		return err
	}
	if !existed {
		if err := w.makeDirs(path.Dir(file)); err != nil {
			return err
		}
		if err := w.will("remove-plain", file); err != nil {
			return err
		}
		return r.s.host.WriteFile(file, []byte(text), 0o644)
	}
	if err := w.will("restore-file", file, string(old)); err != nil {
		return err
	}
	return r.s.host.UpdateFile(file, []byte(text))
}

// renderMdadmConf is mdadm.conf(5) with automatic assembly off; change is false when it is, or when arrays are configured.
func renderMdadmConf(old string) (text string, change bool) {
	const off = "AUTO -all\nDEVICE /dev/null\n"
	var b strings.Builder
	found := map[string]bool{}
	for line := range strings.Lines(old) {
		words := strings.Fields(line)
		if len(words) > 0 {
			switch strings.ToUpper(words[0]) {
			case "ARRAY":
				return old, false
			case "AUTO", "DEVICE":
				if plain := strings.Join(words, " "); plain == "AUTO -all" || plain == "DEVICE /dev/null" {
					found[plain] = true
				} else {
					b.WriteString("#")
				}
			}
		}
		b.WriteString(line)
	}
	if len(found) == 2 {
		return old, false
	}
	if b.Len() > 0 && !strings.HasSuffix(b.String(), "\n") {
		b.WriteString("\n")
	}
	return b.String() + off, true
}

// undoRAID takes back the steps of arrays.
func (s *Service) undoRAID(ctx context.Context, st step) (known bool, err error) {
	arg := func(i int) string {
		if i < len(st.Args) {
			return st.Args[i]
		}
		return ""
	}
	switch st.Verb {
	case "md-stop", "md-assemble", "md-remove", "md-add":
	case "remove-plain": // file
		return true, s.host.Remove(arg(0))
	case "restore-file": // file, content
		return true, s.host.UpdateFile(arg(0), []byte(arg(1)))
	default:
		return false, nil
	}
	arrays, err := s.arrays()
	if err != nil {
		return true, err
	}
	md := arg(0)
	members, running := arrays[md]
	has := func(device string) bool { return slices.Contains(members, path.Base(s.realPath(device))) }
	switch st.Verb {
	case "md-stop": // array, "zero" when its disks were nobody's before, disks
		devices := st.Args[min(2, len(st.Args)):]
		if running && slices.ContainsFunc(devices, has) {
			if err := s.lvm(ctx, "mdadm", "--stop", s.host.Path(md)); err != nil {
				return true, err
			}
		}
		if arg(1) != "zero" {
			return true, nil
		}
		var errs []error
		for _, d := range devices {
			errs = append(errs, s.zeroSuperblock(ctx, d))
		}
		return true, errors.Join(errs...)
	case "md-assemble": // array, disks
		if running && slices.ContainsFunc(st.Args[1:], has) {
			return true, nil
		}
		return true, s.lvm(ctx, "mdadm", append([]string{"--assemble", "--run", s.host.Path(md)}, s.paths(st.Args[1:])...)...)
	case "md-remove": // array, disk
		if !running || !has(arg(1)) {
			return true, nil
		}
		disk := s.host.Path(arg(1))
		return true, errors.Join(s.lvm(ctx, "mdadm", s.host.Path(md), "--fail", disk), s.lvm(ctx, "mdadm", s.host.Path(md), "--remove", disk), s.zeroSuperblock(ctx, arg(1)))
	case "md-add": // array, disk
		if !running {
			return true, nil
		}
		if has(arg(1)) && !failedMember(s, md, arg(1)) {
			return true, nil
		}
		if has(arg(1)) {
			if err := s.lvm(ctx, "mdadm", s.host.Path(md), "--remove", s.host.Path(arg(1))); err != nil {
				return true, err
			}
		}
		return true, s.lvm(ctx, "mdadm", s.host.Path(md), "--add", s.host.Path(arg(1)))
	}
	return true, nil
}

// failedMember says whether an array counts a disk as failed.
func failedMember(s *Service, md, device string) bool {
	text, _ := s.host.ReadFile("/proc/mdstat")
	for line := range strings.Lines(string(text)) {
		if name, rest, _ := strings.Cut(line, " : "); "/dev/"+name == md {
			for _, word := range strings.Fields(rest) {
				if strings.HasPrefix(word, path.Base(s.realPath(device))+"[") {
					return strings.HasSuffix(word, "(F)")
				}
			}
		}
	}
	return false
}
