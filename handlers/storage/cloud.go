package storage

import (
	"context"
	"encoding/json"
	"errors"
	"path"
	"strconv"
	"strings"
	"time"

	"github.com/reeve-paas/reeve/agent/agentapi"
)

// Provider is the block storage of the cloud this host is in, as its agent reaches it: through the coordinator's driver of
// that cloud, which has the SDK and the credentials, or by itself. Kind is a type of volume: ebs, csvol, cinder,
// gce_persistent. Credentials that came with the call are in ctx (agentapi.PlatformAccessDataFrom).
//
// Every method waits until the cloud has done what was asked, and may be repeated: what is so already is no error. An
// object is named by the cloud's id, or by the key it was made under when its id is not known.
type Provider interface {
	// Serves says whether this host can be given volumes of this type.
	Serves(ctx context.Context, kind string) (bool, error)
	// Volume describes a volume; ErrNoVolume when there is none.
	Volume(ctx context.Context, r Ref) (CloudVolume, error)
	// CreateVolume makes a volume in this host's zone, or finds the one of the same key.
	CreateVolume(ctx context.Context, key string, s VolumeSpec) (CloudVolume, error)
	// AttachVolume attaches a volume to this host. One that is attached to another is detached there first, or refused, as
	// the cloud has it. Device is where it appears, or "" when the cloud does not know.
	AttachVolume(ctx context.Context, r Ref) (device string, err error)
	DetachVolume(ctx context.Context, r Ref, force bool) error
	DeleteVolume(ctx context.Context, r Ref) error
	// GrowVolume makes a volume at least this large and keeps what is on it; ErrNotInPlace when the cloud cannot.
	GrowVolume(ctx context.Context, r Ref, sizeGB float64) (CloudVolume, error)
	// TagVolume adds tags to a volume; a cloud without tags does nothing.
	TagVolume(ctx context.Context, r Ref, tags map[string]string) error
	// CreateSnapshot copies a volume as it is at one moment of the call, or finds the snapshot of the same key. What was synced
	// before the call is in it.
	CreateSnapshot(ctx context.Context, key string, volume Ref, description string, tags map[string]string) (id string, err error)
	DeleteSnapshot(ctx context.Context, r Ref) error
}

// Ref names a volume or snapshot.
type Ref struct {
	Kind    string
	ID, Key string // one of them
}

// ErrNoVolume is a volume that the cloud does not have.
var ErrNoVolume = errors.New("the cloud has no such volume")

// ErrNotInPlace is a volume that grows only as a copy of itself.
var ErrNotInPlace = errors.New("the cloud does not grow volumes in place")

// CloudVolume is a volume as its cloud describes it.
type CloudVolume struct {
	ID     string
	Name   string
	Link   string // gce
	Zone   string
	SizeGB float64
	Here   bool   // attached to this host
	Device string // where, when the cloud knows
}

// VolumeSpec is a volume to make.
type VolumeSpec struct {
	Kind       string
	Name       string
	Zone       string
	SizeGB     float64 // 0: that of the snapshot
	SnapshotID string
	VolumeType string // ebs, cinder: type; csvol: id of the disk offering
	IOPS       int    // ebs
	Encrypted  bool   // ebs
	Tags       map[string]string
}

// cloudMembers are what the types of volumes call the members they share.
type cloudMembers struct {
	defaults         map[string]any
	zone, volumeType string
	unreachable      string // text when a volume is to be made and no cloud is reached
	byID             func(v *volume) []string
}

var clouds = map[string]cloudMembers{
	"ebs": {
		defaults: map[string]any{"name": nil, "avail_zone": nil, "size": nil, "volume_type": "standard", "iops": nil, "encrypted": false},
		zone:     "avail_zone", volumeType: "volume_type",
		unreachable: "Volume has no ID and EC2 connection required for volume construction is not available",
		byID: func(v *volume) []string {
			return []string{"nvme-Amazon_Elastic_Block_Store_" + strings.ReplaceAll(v.text("id"), "-", "")}
		},
	},
	"csvol": {
		defaults: map[string]any{"name": nil, "snapshot_id": nil, "zone_id": nil, "disk_offering_id": nil, "size": nil},
		zone:     "zone_id", volumeType: "disk_offering_id",
		unreachable: "Volume construction failed: CloudStack connection is not available",
		byID:        virtioID,
	},
	"cinder": {
		defaults: map[string]any{"size": nil, "snapshot_id": nil, "avail_zone": nil, "volume_type": nil},
		zone:     "avail_zone", volumeType: "volume_type",
		unreachable: "Volume has no ID and Openstack connection required for volume construction is not available",
		byID:        virtioID,
	},
	"gce_persistent": {
		defaults: map[string]any{"name": nil, "link": nil, "size": nil, "zone": nil, "last_attached_to": nil},
		zone:     "zone", volumeType: "type",
		unreachable: "Volume has no link and GCE connection required for volume construction is not available",
		byID:        func(v *volume) []string { return []string{"google-" + v.text("name")} },
	},
	"nspawn": { // of our own cloud
		defaults:    map[string]any{"size": nil},
		unreachable: "Volume has no ID and the coordinator required for volume construction is not available",
		byID:        func(*volume) []string { return nil },
	},
}

// virtioID is how udev names a disk whose serial number is its id: 20 characters of it.
func virtioID(v *volume) []string {
	id := v.text("id")
	return []string{"virtio-" + id[:min(20, len(id))], "scsi-0QEMU_QEMU_HARDDISK_" + id}
}

const (
	deviceWait = 30 * time.Second
	noCloud    = "this agent reaches no cloud that has such volumes: make and attach the volume through the coordinator (or the cloud's own tools), and pass its id and device"
)

// cloudVolume is a volume of the cloud this host is in.
type cloudVolume struct {
	s    *Service
	kind string
}

func (c *cloudVolume) members() cloudMembers { return clouds[c.kind] }

func (c *cloudVolume) defaults() map[string]any {
	d := map[string]any{}
	for k, v := range c.members().defaults {
		d[k] = v
	}
	return d
}

func (c *cloudVolume) ref(v *volume) Ref { return Ref{Kind: c.kind, ID: v.text("id")} }

// reach is the cloud that has volumes of this type; nil when this host is in none.
func (c *cloudVolume) reach(ctx context.Context) (Provider, error) {
	if c.s.cloud == nil {
		return nil, nil
	}
	if serves, err := c.s.cloud.Serves(ctx, c.kind); !serves || err != nil {
		return nil, c.failed(err)
	}
	return c.s.cloud, nil
}

func (c *cloudVolume) ensure(ctx context.Context, w *work, v *volume) error {
	cloud, err := c.reach(ctx)
	if cloud == nil {
		alone := c.ensureAlone(v)
		if err != nil && (alone != nil || !c.s.host.Exists(v.text("device"))) {
			return err
		}
		return alone
	}
	cv, err := c.find(ctx, w, v)
	if err != nil {
		return err
	}
	c.describe(v, cv)
	if cv.Here && cv.Device != "" && c.s.host.Exists(cv.Device) {
		v.set("device", cv.Device)
		return nil
	}
	if !cv.Here {
		if err := w.will("cloud-detach", c.kind, cv.ID); err != nil {
			return err
		}
		if cv.Device, err = cloud.AttachVolume(ctx, c.ref(v)); err != nil {
			return c.failed(err)
		}
	}
	return c.waitForDevice(ctx, v, cv.Device)
}

// ensureAlone is ensure without a cloud: a volume that is attached already is taken as it is.
func (c *cloudVolume) ensureAlone(v *volume) error {
	if v.text("id") == "" && v.text("link") == "" {
		return storageError(agentapi.KindUnsupported, "%s; %s", c.members().unreachable, noCloud)
	}
	if v.text("device") != "" {
		return nil
	}
	if device := c.known(v); device != "" {
		v.set("device", device)
		return nil
	}
	return storageError(agentapi.KindUnsupported, "%s is not attached to this host, and %s", v.text("id"), noCloud)
}

// known is the device that udev names after the volume, "" when there is none.
func (c *cloudVolume) known(v *volume) string {
	for _, name := range c.members().byID(v) {
		link := path.Join("/dev/disk/by-id", name)
		if path.Dir(link) == "/dev/disk/by-id" && c.s.host.Exists(link) {
			return c.s.realPath(link)
		}
	}
	return ""
}

func (c *cloudVolume) waitForDevice(ctx context.Context, v *volume, device string) error {
	deadline := time.NewTimer(deviceWait)
	defer deadline.Stop()
	tick := time.NewTicker(devicePoll)
	defer tick.Stop()
	for {
		if found := c.known(v); found != "" {
			device = found
		}
		if device != "" && c.s.host.Exists(device) {
			v.set("device", device)
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-deadline.C:
			return storageError(agentapi.KindUnavailable, "Disk should be attached, but corresponding device not found in system")
		}
	}
}

// find looks the volume up, or makes a new one.
func (c *cloudVolume) find(ctx context.Context, w *work, v *volume) (CloudVolume, error) {
	if v.text("id") != "" && v.snap() == nil {
		cv, err := c.s.cloud.Volume(ctx, c.ref(v))
		if errors.Is(err, ErrNoVolume) {
			return cv, errGone
		}
		return cv, c.failed(err)
	}
	spec, err := c.spec(v)
	if err != nil {
		return CloudVolume{}, err
	}
	return c.make(ctx, w, spec)
}

func (c *cloudVolume) make(ctx context.Context, w *work, spec VolumeSpec) (CloudVolume, error) {
	key := w.key()
	if err := w.will("cloud-delete", c.kind, key); err != nil {
		return CloudVolume{}, err
	}
	cv, err := c.s.cloud.CreateVolume(ctx, key, spec)
	return cv, c.failed(err)
}

func (c *cloudVolume) spec(v *volume) (VolumeSpec, error) {
	m := c.members()
	size, _, err := number(v.StorageConfig, "size")
	if err != nil {
		return VolumeSpec{}, err
	}
	iops, _, err := number(v.StorageConfig, "iops")
	spec := VolumeSpec{Kind: c.kind, Name: v.text("name"), Zone: v.text(m.zone), SizeGB: size, SnapshotID: v.text("snapshot_id"),
		VolumeType: v.text(m.volumeType), IOPS: int(iops), Encrypted: v.flag("encrypted"), Tags: tagsOf(v)}
	if snap := v.snap(); snap != nil {
		spec.SnapshotID = snap.Text("id")
	}
	if c.kind == "gce_persistent" && spec.Name == "" {
		spec.Name = newID("scalr", "disk")
	}
	if err == nil && spec.SnapshotID == "" && size == 0 && c.kind != "csvol" {
		return spec, missing("size")
	}
	return spec, err
}

func tagsOf(v *volume) map[string]string {
	var raw map[string]agentapi.Text
	if err := json.Unmarshal(v.StorageConfig["tags"], &raw); err != nil {
		return nil
	}
	return plainTags(raw)
}

func plainTags(tags map[string]agentapi.Text) map[string]string {
	plain := map[string]string{}
	for k, v := range tags {
		plain[k] = string(v)
	}
	return plain
}

// describe writes what the cloud says into the configuration.
func (c *cloudVolume) describe(v *volume, cv CloudVolume) {
	v.set("id", cv.ID)
	for member, value := range map[string]string{"name": cv.Name, "link": cv.Link, c.members().zone: cv.Zone} {
		if _, has := c.members().defaults[member]; has && value != "" {
			v.set(member, value)
		}
	}
	if cv.SizeGB > 0 {
		v.set("size", cv.SizeGB)
	}
}

// failed shows what a provider said under the class clients know.
func (c *cloudVolume) failed(err error) error {
	if err == nil {
		return nil
	}
	if _, typed := errors.AsType[*agentapi.Error](err); typed {
		return err
	}
	text := err.Error()
	if c.kind == "csvol" {
		text = "Volume construction failed: " + text
	}
	return &agentapi.Error{Kind: agentapi.KindUnavailable, Class: "StorageError", Text: text, Err: err}
}

func (c *cloudVolume) locate(ctx context.Context, _ *work, v *volume) error {
	cloud, err := c.reach(ctx)
	if err != nil {
		return err
	}
	if cloud == nil {
		if device := v.text("device"); device == "" || !c.s.host.Exists(device) {
			v.set("device", nil)
		}
		return nil
	}
	cv, err := cloud.Volume(ctx, c.ref(v))
	switch {
	case errors.Is(err, ErrNoVolume):
		v.set("device", nil)
		return nil
	case err != nil:
		return c.failed(err)
	case !cv.Here:
		v.set("device", nil)
	case c.known(v) != "":
		v.set("device", c.known(v))
	case cv.Device != "":
		v.set("device", cv.Device)
	}
	return nil
}

func (c *cloudVolume) needsCloud(ctx context.Context, what string) error {
	if cloud, err := c.reach(ctx); cloud != nil || err != nil {
		return err
	}
	return storageError(agentapi.KindUnsupported, "cannot %s the %s volume: this agent reaches no cloud that has such volumes; it is unmounted by a volume of type base with its device, "+
		"and the rest is the coordinator's or the cloud's own tools'", what, c.kind)
}

func (c *cloudVolume) detach(ctx context.Context, w *work, v *volume, force bool) error {
	if err := c.needsCloud(ctx, "detach"); err != nil {
		return err
	}
	if err := w.will("cloud-attach", c.kind, v.text("id")); err != nil {
		return err
	}
	return c.failed(c.s.cloud.DetachVolume(ctx, c.ref(v), force))
}

func (c *cloudVolume) destroy(ctx context.Context, w *work, v *volume, d deletion) error {
	if err := c.needsCloud(ctx, "destroy"); err != nil {
		return err
	}
	if v.text("device") != "" {
		if err := c.detach(ctx, w, v, d.force); err != nil {
			return err
		}
	}
	if err := c.tag(ctx, w, v, statusDeleted); err != nil && !errors.Is(err, ErrNoVolume) {
		return err
	}
	if err := w.conclude("cloud-destroy", c.kind, v.text("id")); err != nil {
		return err
	}
	err := c.s.cloud.DeleteVolume(ctx, c.ref(v))
	committed := w.commit() // whoever is told of a failure repeats the call; what a kill leaves is completed
	if err != nil && !errors.Is(err, ErrNoVolume) {
		return c.failed(err)
	}
	return committed
}

func (c *cloudVolume) tag(ctx context.Context, w *work, v *volume, status string) error {
	if c.s.cloud == nil {
		return nil
	}
	if err := w.will("cloud-tag", c.kind, v.text("id"), statusActive); err != nil {
		return err
	}
	return c.failed(c.s.cloud.TagVolume(ctx, c.ref(v), map[string]string{statusTag: status}))
}

func (c *cloudVolume) snapshot(ctx context.Context, w *work, v *volume, about label) (*volume, error) {
	if err := c.needsCloud(ctx, "copy"); err != nil {
		return nil, err
	}
	if len(about.description) > 255 {
		about.description = strings.ToValidUTF8(about.description[:255], "")
	}
	snap := newSnapshot(c.kind, about)
	key := w.key()
	if err := w.will("cloud-drop-snapshot", c.kind, key); err != nil {
		return nil, err
	}
	if err := w.synced(ctx, v.text("device")); err != nil {
		return nil, err
	}
	id, err := c.s.cloud.CreateSnapshot(ctx, key, c.ref(v), about.description, plainTags(about.tags))
	if id != "" {
		snap.set("id", id)
	}
	err = c.failed(err)
	if c.kind == "gce_persistent" {
		for _, member := range []string{"name", "size", "link"} {
			snap.set(member, v.StorageConfig[member])
		}
	}
	return snap, err
}

func (c *cloudVolume) dropSnapshot(ctx context.Context, _ *work, snap *volume) error {
	if err := c.needsCloud(ctx, "copy"); err != nil {
		return err
	}
	return c.failed(c.s.cloud.DeleteSnapshot(ctx, c.ref(snap)))
}

// ebs knows rules about its operations per second.
const (
	minIOPSSize  = 10
	iopsPerGB    = 10
	ebsIOPSTypes = "io1 io2"
)

func (c *cloudVolume) checkGrowth(ctx context.Context, _ *work, v *volume, growth agentapi.StorageConfig) error {
	if err := c.needsCloud(ctx, "grow"); err != nil {
		return err
	}
	now, _, err := number(v.StorageConfig, "size")
	if err != nil {
		return err
	}
	size, sized, err := number(growth, "size")
	if err != nil {
		return err
	}
	if !sized {
		size = now
	}
	if size < now {
		return storageError(agentapi.KindInvalid, "New size is smaller than old.")
	}
	if c.kind != "ebs" {
		if size == now {
			return noOp("New %s volume configuration is equal to present. Nothing to do.", c.kind)
		}
		return nil
	}
	return checkEBS(v, growth, size, size == now)
}

func checkEBS(v *volume, growth agentapi.StorageConfig, size float64, sameSize bool) error {
	kind := growth.Text("volume_type")
	if kind == "" {
		kind = v.text("volume_type")
	}
	iops, hasIOPS, err := number(growth, "iops")
	if err != nil {
		return err
	}
	sameIOPS := !hasIOPS || growth.Text("iops") == v.text("iops")
	if sameSize && sameIOPS && kind == v.text("volume_type") {
		return noOp("New ebs volume configuration is equal to present. Nothing to do.")
	}
	provisioned := strings.Contains(ebsIOPSTypes, kind)
	if !hasIOPS && kind == v.text("volume_type") {
		iops, hasIOPS, _ = number(v.StorageConfig, "iops")
	}
	switch {
	case hasIOPS && !provisioned && (kind == "standard" || kind == "gp2"):
		return storageError(agentapi.KindInvalid, "EBS iops can only be used with io1 volume type")
	case !hasIOPS && provisioned:
		return storageError(agentapi.KindInvalid, "Iops parameter must be specified for io1 volumes")
	case provisioned && size < minIOPSSize:
		return storageError(agentapi.KindInvalid, "Volume size is too small to use provisioned iops")
	case kind == "io1" && iops/size > iopsPerGB:
		return storageError(agentapi.KindInvalid, "Maximum ratio of 10:1 is permitted between IOPS and volume size")
	}
	return nil
}

// bigger grows the volume in place where the cloud can. Else it makes a larger one of a snapshot of the old one; the snapshot
// goes when it is made.
func (c *cloudVolume) bigger(ctx context.Context, w *work, v *volume, growth agentapi.StorageConfig) (*volume, error) {
	n := v.clone()
	for member, raw := range growth {
		n.StorageConfig[member] = raw
	}
	if size, sized, err := number(growth, "size"); err == nil && sized && len(growth) == 1 {
		cv, err := c.s.cloud.GrowVolume(ctx, c.ref(v), size)
		if !errors.Is(err, ErrNotInPlace) {
			return n, c.grown(ctx, w, n, cv, err)
		}
	}
	for _, member := range []string{"id", "device", "snap", "link"} {
		if _, has := n.StorageConfig[member]; has {
			n.set(member, nil)
		}
	}
	if c.kind == "gce_persistent" {
		n.set("name", newID("scalr", "disk"))
	}
	key := w.key()
	if err := w.will("cloud-drop-snapshot", c.kind, key); err != nil {
		return nil, err
	}
	id, err := c.s.cloud.CreateSnapshot(ctx, key, c.ref(v), "Temporary snapshot to grow "+v.text("id"), nil)
	if err != nil {
		return nil, c.failed(err)
	}
	spec, err := c.spec(n)
	if err != nil && spec.SizeGB == 0 {
		return nil, err
	}
	spec.SnapshotID = id
	cv, err := c.make(ctx, w, spec)
	if err != nil {
		return nil, err
	}
	c.describe(n, cv)
	if err := w.will("cloud-detach", c.kind, cv.ID); err != nil {
		return nil, err
	}
	device, err := c.s.cloud.AttachVolume(ctx, c.ref(n))
	if err != nil {
		return nil, c.failed(err)
	}
	if err := c.waitForDevice(ctx, n, device); err != nil {
		return nil, err
	}
	return n, c.failed(c.s.cloud.DeleteSnapshot(ctx, Ref{Kind: c.kind, ID: id}))
}

// grown attaches a volume that has grown in place, or failed to. That it was called old is taken back: it is the new one.
func (c *cloudVolume) grown(ctx context.Context, w *work, v *volume, cv CloudVolume, err error) error {
	if err != nil {
		return c.failed(err)
	}
	c.describe(v, cv)
	if err := w.will("cloud-detach", c.kind, cv.ID); err != nil {
		return err
	}
	device, err := c.s.cloud.AttachVolume(ctx, c.ref(v))
	if err != nil {
		return c.failed(err)
	}
	if err := c.waitForDevice(ctx, v, device); err != nil {
		return err
	}
	return c.tag(ctx, w, v, statusActive)
}

// key is a name for what is made in a cloud, by which it is found again when its id was lost with this process.
func (w *work) key() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.made++
	return "reeve-" + w.id + "-" + strconv.Itoa(w.made)
}

// undoCloud takes back the steps of the cloud. Credentials that came with the call are still in ctx unless this is a later
// process; then the provider's own have to do.
func (s *Service) undoCloud(ctx context.Context, verb string, arg func(int) string) (known bool, err error) {
	if !strings.HasPrefix(verb, "cloud-") {
		return false, nil
	}
	if s.cloud == nil {
		return true, errors.New("no cloud is reached any more")
	}
	r := Ref{Kind: arg(0), ID: arg(1)}
	switch verb {
	case "cloud-delete": // kind, key
		err = s.cloud.DeleteVolume(ctx, Ref{Kind: arg(0), Key: arg(1)})
	case "cloud-destroy": // kind, id
		err = s.cloud.DeleteVolume(ctx, r)
	case "cloud-drop-snapshot": // kind, key
		err = s.cloud.DeleteSnapshot(ctx, Ref{Kind: arg(0), Key: arg(1)})
	case "cloud-detach": // kind, id
		err = s.cloud.DetachVolume(ctx, r, false)
	case "cloud-attach": // kind, id
		_, err = s.cloud.AttachVolume(ctx, r)
	case "cloud-tag": // kind, id, status
		err = s.cloud.TagVolume(ctx, r, map[string]string{statusTag: arg(2)})
	}
	if errors.Is(err, ErrNoVolume) {
		return true, nil
	}
	return true, err
}
