package storage

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/reeve-paas/reeve/agent/agentapi"
	"github.com/reeve-paas/reeve/handlers/host"
)

// lvm is a logical volume on volumes of other types.
type lvm struct{ s *Service }

func (*lvm) defaults() map[string]any {
	return map[string]any{"pvs": []string{}, "vg": nil, "name": nil, "size": nil}
}

func (l *lvm) ensure(ctx context.Context, w *work, v *volume) error {
	snap := v.snap()
	if snap != nil {
		if err := l.fromSnapshot(v, snap); err != nil {
			return err
		}
	}
	for _, member := range []string{"vg", "name"} {
		if v.text(member) == "" {
			return missing(member)
		}
	}
	devices, err := w.ensureMembers(ctx, v, "pvs")
	if err != nil {
		return err
	}
	if snap != nil {
		if err := l.renameCopy(ctx, w, v, devices); err != nil {
			return err
		}
	}
	group, err := l.ensureGroup(ctx, w, v, devices)
	if err != nil {
		return err
	}
	return l.ensureVolume(ctx, w, v, group)
}

// ensureMembers ensures the volumes of a list and returns their devices.
func (w *work) ensureMembers(ctx context.Context, v *volume, list string) ([]string, error) {
	members := v.members(list)
	devices := make([]string, len(members))
	for i, m := range members {
		if err := w.ensure(ctx, m); err != nil {
			return nil, err
		}
		devices[i] = m.text("device")
	}
	v.setMembers(list, members)
	return devices, nil
}

// group is what ensureGroup did to a volume group.
type group struct {
	made     bool
	extended bool
}

// ensureGroup makes the devices physical volumes of one group.
func (l *lvm) ensureGroup(ctx context.Context, w *work, v *volume, devices []string) (g group, err error) {
	vg := v.text("vg")
	known, err := l.s.physicalVolumes(ctx)
	if err != nil {
		return g, err
	}
	exists, err := l.s.groupExists(ctx, vg)
	if err != nil {
		return g, err
	}
	var fresh []string
	for _, device := range devices {
		pv, isPV := known[l.s.realPath(device)]
		switch {
		case isPV && pv == vg:
			continue
		case isPV && pv != "":
			return g, storageError(agentapi.KindConflict, "Can not add physical volume %s to volume group %s: already in volume group %s", device, vg, pv)
		case !isPV:
			if err := w.makePhysical(ctx, device); err != nil {
				return g, err
			}
		}
		fresh = append(fresh, device)
	}
	switch {
	case exists && len(fresh) == 0:
		return g, nil
	case exists:
		return group{extended: true}, w.extendGroup(ctx, vg, fresh)
	case v.text("id") != "" && v.kind() == "lvm":
		return g, errGone
	case len(fresh) == 0:
		return g, missing("pvs")
	}
	if err := w.will("vg-remove", vg); err != nil {
		return g, err
	}
	return group{made: true}, l.s.lvm(ctx, "vgcreate", append([]string{"--yes", vg}, l.s.paths(fresh)...)...)
}

// makePhysical makes a device a physical volume; what it held is lost.
func (w *work) makePhysical(ctx context.Context, device string) error {
	if err := w.unmount(ctx, device); err != nil {
		return err
	}
	if err := w.will("pv-remove", device); err != nil {
		return err
	}
	return w.s.lvm(ctx, "pvcreate", "--yes", "--force", w.s.host.Path(device))
}

func (w *work) extendGroup(ctx context.Context, vg string, devices []string) error {
	for _, device := range devices {
		if err := w.will("vg-reduce", vg, device); err != nil {
			return err
		}
	}
	return w.s.lvm(ctx, "vgextend", append([]string{"--yes", vg}, w.s.paths(devices)...)...)
}

// ensureVolume makes or activates the logical volume, and makes it larger when its group has become so.
func (l *lvm) ensureVolume(ctx context.Context, w *work, v *volume, g group) error {
	vg, name, size := v.text("vg"), v.text("name"), v.text("size")
	lv, exists, err := l.s.logicalVolume(ctx, vg, name)
	switch {
	case err != nil:
		return err
	case !exists && v.text("id") != "" && v.kind() == "lvm":
		return errGone
	case !exists && size == "":
		return missing("size")
	case !exists:
		if err := w.will("lv-remove", vg, name); err != nil {
			return err
		}
		if err := l.s.lvm(ctx, "lvcreate", append([]string{"--yes", "--wipesignatures", "y", "--name", name}, append(sizeArgs(size), vg)...)...); err != nil {
			return err
		}
	case !lv.active:
		if err := w.activate(ctx, vg, name); err != nil {
			return err
		}
	}
	v.set("device", lvDevice(vg, name))
	if err := l.s.waitFor(ctx, v.text("device"), activeWait); err != nil || !exists || !g.extended {
		return err
	}
	return l.extend(ctx, w, v)
}

// extend gives a logical volume what its group has got. When the filesystem cannot follow, the volume stays large: that
// harms nothing, and making it smaller again might.
func (l *lvm) extend(ctx context.Context, w *work, v *volume) error {
	size := []string{"--extents", "+100%FREE"}
	if strings.Contains(v.text("size"), "%") {
		size = sizeArgs(v.text("size"))
	}
	if err := l.s.lvm(ctx, "lvextend", append(append([]string{"--yes"}, size...), v.text("vg")+"/"+v.text("name"))...); err != nil {
		return err
	}
	if err := w.commit(); err != nil {
		return err
	}
	return w.growInPlace(ctx, v)
}

// growInPlace makes a filesystem as large as its device, mounted or not.
func (w *work) growInPlace(ctx context.Context, v *volume) error {
	at, err := w.mountedOn(v.text("device"))
	if err != nil {
		return err
	}
	if len(at) == 0 {
		return w.growFilesystem(ctx, v, nil, true)
	}
	return w.s.host.GrowFilesystem(ctx, at[0])
}

func (w *work) activate(ctx context.Context, vg, name string) error {
	if err := w.will("lv-deactivate", vg, name); err != nil {
		return err
	}
	return w.s.lvm(ctx, "lvchange", "--yes", "--activate", "y", vg+"/"+name)
}

func (w *work) deactivate(ctx context.Context, vg, name string) error {
	if err := w.will("lv-activate", vg, name); err != nil {
		return err
	}
	return w.s.lvm(ctx, "lvchange", "--yes", "--activate", "n", vg+"/"+name)
}

func (l *lvm) locate(ctx context.Context, w *work, v *volume) error {
	v.set("device", nil)
	ours, err := l.ours(ctx, w, v)
	if err != nil || !ours {
		return err
	}
	lv, exists, err := l.s.logicalVolume(ctx, v.text("vg"), v.text("name"))
	if exists && lv.active {
		v.set("device", lvDevice(v.text("vg"), v.text("name")))
	}
	return err
}

// ours says whether the group of the volume's name lies on the volume's own disks. Groups are named by callers, and a copy of
// a volume has the same name: what is another's must not be taken for ours, least of all to be removed.
func (l *lvm) ours(ctx context.Context, w *work, v *volume) (bool, error) {
	pvs := v.members("pvs")
	if len(pvs) == 0 {
		return true, nil // the name is all there is
	}
	known, err := l.s.physicalVolumes(ctx)
	if err != nil {
		return false, err
	}
	for _, pv := range pvs {
		if err := w.driver(pv).locate(ctx, w, pv); err != nil {
			return false, err
		}
		if device := pv.text("device"); device != "" && known[l.s.realPath(device)] == v.text("vg") {
			return true, nil
		}
	}
	return false, nil
}

func (l *lvm) detach(ctx context.Context, w *work, v *volume, _ bool) error {
	return w.deactivate(ctx, v.text("vg"), v.text("name"))
}

func (l *lvm) destroy(ctx context.Context, w *work, v *volume, d deletion) error {
	if v.text("device") != "" {
		if err := w.deactivate(ctx, v.text("vg"), v.text("name")); err != nil {
			return err
		}
	}
	if err := w.commit(); err != nil { // what goes now is gone
		return err
	}
	return l.remove(ctx, w, v, d)
}

// remove deletes the logical volume and, when everything is to go, its group and what that lies on.
func (l *lvm) remove(ctx context.Context, w *work, v *volume, d deletion) error {
	vg, name := v.text("vg"), v.text("name")
	ours, err := l.ours(ctx, w, v)
	if err != nil {
		return err
	}
	if ours {
		if err := l.s.removeLV(ctx, vg, name); err != nil {
			return err
		}
	}
	if !d.force {
		return nil
	}
	if ours {
		if err := l.s.removeGroup(ctx, vg); err != nil {
			return err
		}
	}
	pvs := v.members("pvs")
	for _, pv := range pvs {
		if err := w.driver(pv).locate(ctx, w, pv); err != nil {
			return err
		}
		if pv.text("device") != "" {
			if err := l.s.removePV(ctx, pv.text("device")); err != nil {
				return err
			}
		}
		if err := w.destroy(ctx, pv, d); err != nil {
			return err
		}
	}
	v.setMembers("pvs", pvs)
	return w.commit()
}

// snapshot copies every physical volume while the logical one stands still.
func (l *lvm) snapshot(ctx context.Context, w *work, v *volume, about label) (*volume, error) {
	snap := newSnapshot("lvm", about)
	for _, member := range []string{"vg", "name", "size"} {
		snap.set(member, v.StorageConfig[member])
	}
	snaps, err := w.snapshotMembers(ctx, v, "pvs", func(i int) label {
		return label{strings.TrimSpace(fmt.Sprintf("%s PV-%d", about.description, i)), about.tags}
	})
	if err != nil {
		return nil, err
	}
	snap.setMembers("pv_snaps", snaps)
	return snap, nil
}

// snapshotMembers copies the volumes of a list at the same time, while the volume made of them is suspended. One failure
// takes the other copies back, with everything else.
func (w *work) snapshotMembers(ctx context.Context, v *volume, list string, about func(i int) label) ([]*volume, error) {
	name := strings.TrimPrefix(v.text("device"), "/dev/mapper/")
	if err := w.will("dm-resume", name); err != nil {
		return nil, err
	}
	if err := w.s.lvm(ctx, "dmsetup", "suspend", name); err != nil {
		return nil, err
	}
	members := v.members(list)
	snaps := make([]*volume, len(members))
	errs := make([]error, len(members))
	var wg sync.WaitGroup
	for i, m := range members {
		wg.Go(func() { snaps[i], errs[i] = w.snapshotOf(ctx, m, about(i)) })
	}
	wg.Wait()
	return snaps, errors.Join(append(errs, w.s.lvm(context.WithoutCancel(ctx), "dmsetup", "resume", name))...)
}

func (l *lvm) dropSnapshot(ctx context.Context, w *work, snap *volume) error {
	return w.dropSnapshots(ctx, snap, "pv_snaps")
}

func (w *work) dropSnapshots(ctx context.Context, snap *volume, list string) error {
	var errs []error
	for _, m := range snap.members(list) {
		if d, ok := w.driver(m).(snapshotter); ok {
			errs = append(errs, d.dropSnapshot(ctx, w, m))
		}
	}
	return errors.Join(errs...)
}

// fromSnapshot makes a volume's physical volumes those of a snapshot.
func (l *lvm) fromSnapshot(v *volume, snap agentapi.StorageConfig) error {
	for _, member := range []string{"vg", "name", "size"} {
		if v.text(member) == "" {
			v.set(member, snap.Text(member))
		}
	}
	if err := v.check(); err != nil {
		return err
	}
	return l.s.restoreMembers(v, snap, "pvs", "pv_snaps")
}

// restoreMembers makes the volumes of a list copies of a snapshot's.
func (s *Service) restoreMembers(v *volume, snap agentapi.StorageConfig, list, snaps string) error {
	copies := (&volume{snap}).members(snaps)
	if len(copies) == 0 {
		return missing("snap." + snaps)
	}
	members := v.members(list)
	if len(members) != len(copies) {
		members = make([]*volume, len(copies))
		for i, c := range copies {
			m := &volume{agentapi.StorageConfig{}}
			m.set("type", c.kind())
			members[i] = m
		}
	}
	for i, m := range members {
		m.set("id", nil)
		m.set("device", nil)
		m.set("snap", copies[i].StorageConfig)
		parsed, err := s.parseAt(m.StorageConfig, 1)
		if err != nil {
			return err
		}
		members[i] = parsed
	}
	v.setMembers(list, members)
	return nil
}

// renameCopy gives a restored group identifiers of its own when the original is on this host too: LVM refuses duplicates.
func (l *lvm) renameCopy(ctx context.Context, w *work, v *volume, devices []string) error {
	args := []string{"--basevgname", v.text("vg"), "--import"}
	if err := l.s.lvm(ctx, "vgimportclone", append(args, l.s.paths(devices)...)...); err != nil {
		return err
	}
	known, err := l.s.physicalVolumes(ctx)
	if err != nil {
		return err
	}
	if vg := known[l.s.realPath(devices[0])]; vg != "" {
		v.set("vg", vg)
	}
	return nil
}

// sizeArgs are the arguments for a size: percents are extents, plain numbers GB.
func sizeArgs(size string) []string {
	switch {
	case strings.Contains(size, "%"):
		return []string{"--extents", size}
	case strings.Trim(size, "0123456789.") == "":
		return []string{"--size", size + "g"}
	}
	return []string{"--size", size}
}

// lvDevice is where device-mapper shows a logical volume.
func lvDevice(vg, name string) string {
	double := func(s string) string { return strings.ReplaceAll(s, "-", "--") }
	return "/dev/mapper/" + double(vg) + "-" + double(name)
}

const (
	activeWait = 30 * time.Second
	devicePoll = 20 * time.Millisecond
)

// waitFor waits until a device is there.
func (s *Service) waitFor(ctx context.Context, device string, limit time.Duration) error {
	deadline := time.NewTimer(limit)
	defer deadline.Stop()
	tick := time.NewTicker(devicePoll)
	defer tick.Stop()
	for !s.host.Exists(device) {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-deadline.C:
			return storageError(agentapi.KindUnavailable, "%s did not appear within %s", device, limit)
		}
	}
	return nil
}

// lvm runs a program of lvm2 or mdadm.
func (s *Service) lvm(ctx context.Context, program string, args ...string) error {
	_, err := s.tool(ctx, program, args...)
	return err
}

// packageOf says what to install for a program.
var packageOf = map[string]string{"mdadm": "mdadm", "dmsetup": "dmsetup"}

func (s *Service) tool(ctx context.Context, program string, args ...string) (host.Output, error) {
	out, err := s.host.Run(ctx, host.Cmd{Path: program, Args: args, Timeout: toolTimeout})
	if errors.Is(err, host.ErrNoProgram) || errors.Is(err, fs.ErrNotExist) {
		name := packageOf[program]
		if name == "" {
			name = "lvm2"
		}
		return out, storageError(agentapi.KindUnsupported, "this host has no program %s: install the package %s", program, name)
	}
	if err != nil {
		return out, host.LinuxError(err)
	}
	return out, nil
}

const toolTimeout = 10 * time.Minute

// lvmReport reads rows of one of lvm's reports.
func (s *Service) lvmReport(ctx context.Context, program, row, fields string) ([]map[string]string, error) {
	out, err := s.tool(ctx, program, "--reportformat", "json", "--options", fields)
	if err != nil {
		return nil, err
	}
	var report struct {
		Report []map[string]json.RawMessage `json:"report"`
	}
	if err := json.Unmarshal(out.Stdout, &report); err != nil {
		return nil, fmt.Errorf("read the report of %s: %w", program, err)
	}
	var rows []map[string]string
	for _, r := range report.Report {
		var some []map[string]string
		if err := json.Unmarshal(r[row], &some); err != nil {
			return nil, fmt.Errorf("read the report of %s: %w", program, err)
		}
		rows = append(rows, some...)
	}
	return rows, nil
}

// physicalVolumes maps the real paths of physical volumes to their groups, "" for none.
func (s *Service) physicalVolumes(ctx context.Context) (map[string]string, error) {
	rows, err := s.lvmReport(ctx, "pvs", "pv", "pv_name,vg_name")
	pvs := map[string]string{}
	for _, r := range rows {
		pvs[s.realPath(s.local(r["pv_name"]))] = r["vg_name"]
	}
	return pvs, err
}

func (s *Service) groupExists(ctx context.Context, vg string) (bool, error) {
	rows, err := s.lvmReport(ctx, "vgs", "vg", "vg_name")
	return slices.ContainsFunc(rows, func(r map[string]string) bool { return r["vg_name"] == vg }), err
}

type logical struct{ active bool }

func (s *Service) logicalVolume(ctx context.Context, vg, name string) (logical, bool, error) {
	rows, err := s.lvmReport(ctx, "lvs", "lv", "vg_name,lv_name,lv_active")
	for _, r := range rows {
		if r["vg_name"] == vg && r["lv_name"] == name {
			return logical{r["lv_active"] == "active"}, true, err
		}
	}
	return logical{}, false, err
}

func (s *Service) removeLV(ctx context.Context, vg, name string) error {
	if _, exists, err := s.logicalVolume(ctx, vg, name); err != nil || !exists {
		return err
	}
	return s.lvm(ctx, "lvremove", "--yes", vg+"/"+name)
}

func (s *Service) removeGroup(ctx context.Context, vg string) error {
	if exists, err := s.groupExists(ctx, vg); err != nil || !exists {
		return err
	}
	return s.lvm(ctx, "vgremove", "--yes", vg)
}

func (s *Service) removePV(ctx context.Context, device string) error {
	known, err := s.physicalVolumes(ctx)
	if err != nil {
		return err
	}
	if _, isPV := known[s.realPath(device)]; !isPV {
		return nil
	}
	return s.lvm(ctx, "pvremove", "--yes", s.host.Path(device))
}

// undoLVM takes back the steps of logical volumes.
func (s *Service) undoLVM(ctx context.Context, verb string, arg func(int) string) (known bool, err error) {
	switch verb {
	case "pv-remove": // device
		return true, s.removePV(ctx, arg(0))
	case "vg-remove": // group
		return true, s.removeGroup(ctx, arg(0))
	case "vg-reduce": // group, device
		pvs, err := s.physicalVolumes(ctx)
		if err != nil || pvs[s.realPath(arg(1))] != arg(0) {
			return true, err
		}
		return true, s.lvm(ctx, "vgreduce", arg(0), s.host.Path(arg(1)))
	case "lv-remove": // group, name
		return true, s.removeLV(ctx, arg(0), arg(1))
	case "lv-activate", "lv-deactivate": // group, name
		want := verb == "lv-activate"
		lv, exists, err := s.logicalVolume(ctx, arg(0), arg(1))
		if err != nil || !exists || lv.active == want {
			return true, err
		}
		return true, s.lvm(ctx, "lvchange", "--yes", "--activate", map[bool]string{true: "y", false: "n"}[want], arg(0)+"/"+arg(1))
	case "dm-resume": // name; one that is not suspended is no error
		return true, s.lvm(ctx, "dmsetup", "resume", arg(0))
	}
	return false, nil
}

// paths are where devices lie for a command.
func (s *Service) paths(devices []string) []string {
	var list []string
	for _, d := range devices {
		list = append(list, s.host.Path(d))
	}
	return list
}

// local is a path that a command said, without the prefix under which tests keep a host.
func (s *Service) local(p string) string {
	root := strings.TrimSuffix(s.host.Path("/"), "/")
	if root == "" {
		return p
	}
	return strings.TrimPrefix(p, root)
}

// realPath is a device without links; the path itself when it is not there.
func (s *Service) realPath(device string) string {
	if real, err := s.host.Resolve(device); err == nil {
		return real
	}
	return device
}
