package storage

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/reeve-paas/reeve/agent/agentapi"
	"github.com/reeve-paas/reeve/handlers/host"
)

// memoryCloud is the block storage of a cloud that has one machine: f.
type memoryCloud struct {
	f       *fakeHost
	volumes map[string]*memoryVolume // by id
	snaps   map[string]string        // id -> key
	data    map[string]string        // what is on a snapshot, by id
	next    int

	inPlace bool // it grows volumes
	none    bool // it has none for this host
	calls   []string
	failAt  int // the nth call fails; 0: none does
}

type memoryVolume struct {
	key, data, device string // device: "" while it is not attached
	size              float64
	tags              map[string]string
}

func newCloud(f *fakeHost) *memoryCloud {
	return &memoryCloud{f: f, volumes: map[string]*memoryVolume{}, snaps: map[string]string{}, data: map[string]string{}}
}

func (c *memoryCloud) call(format string, args ...any) error {
	c.calls = append(c.calls, fmt.Sprintf(format, args...))
	if len(c.calls) == c.failAt {
		return errors.New("the cloud is out of order")
	}
	return nil
}

func (c *memoryCloud) find(r Ref) (string, *memoryVolume, error) {
	for id, v := range c.volumes {
		if id == r.ID || r.Key != "" && v.key == r.Key {
			return id, v, nil
		}
	}
	return "", nil, ErrNoVolume
}

func (c *memoryCloud) describe(id string, v *memoryVolume) CloudVolume {
	return CloudVolume{ID: id, Zone: "z1", SizeGB: v.size, Here: v.device != "", Device: v.device}
}

func (c *memoryCloud) Volume(_ context.Context, r Ref) (CloudVolume, error) {
	if err := c.call("volume"); err != nil {
		return CloudVolume{}, err
	}
	id, v, err := c.find(r)
	if err != nil {
		return CloudVolume{}, err
	}
	return c.describe(id, v), nil
}

func (c *memoryCloud) CreateVolume(_ context.Context, key string, s VolumeSpec) (CloudVolume, error) {
	c.next++
	id := fmt.Sprintf("vol-%d", c.next)
	v := &memoryVolume{key: key, size: s.SizeGB, data: c.data[s.SnapshotID], tags: s.Tags}
	c.volumes[id] = v
	return c.describe(id, v), c.call("create %s %g GB of %q", s.Kind, s.SizeGB, s.SnapshotID) // made, and the answer lost
}

func (c *memoryCloud) AttachVolume(_ context.Context, r Ref) (string, error) {
	_, v, err := c.find(r)
	if err := errors.Join(err, c.call("attach")); err != nil {
		return "", err
	}
	if v.device == "" {
		v.device = "/dev/xvd" + string(rune('f'+len(c.attached())))
		c.f.WriteText(v.device, v.data+strings.Repeat("\x00", 512-len(v.data)))
	}
	return v.device, nil
}

func (c *memoryCloud) attached() (devices []string) {
	for _, v := range c.volumes {
		if v.device != "" {
			devices = append(devices, v.device)
		}
	}
	return devices
}

func (c *memoryCloud) keep(v *memoryVolume) {
	if v.device != "" {
		v.data = signature(c.f.Path(v.device))
	}
}

func (c *memoryCloud) DetachVolume(_ context.Context, r Ref, _ bool) error {
	_, v, err := c.find(r)
	if err := errors.Join(err, c.call("detach")); err != nil {
		return err
	}
	c.keep(v)
	if v.device != "" {
		os.Remove(c.f.Path(v.device))
	}
	v.device = ""
	return nil
}

func (c *memoryCloud) DeleteVolume(_ context.Context, r Ref) error {
	id, v, err := c.find(r)
	if err := errors.Join(err, c.call("delete")); err != nil {
		return err
	}
	if v.device != "" {
		return errors.New("the volume is attached")
	}
	delete(c.volumes, id)
	return nil
}

func (c *memoryCloud) Serves(context.Context, string) (bool, error) { return !c.none, nil }

func (c *memoryCloud) GrowVolume(_ context.Context, r Ref, sizeGB float64) (CloudVolume, error) {
	if !c.inPlace {
		return CloudVolume{}, ErrNotInPlace
	}
	id, v, err := c.find(r)
	if err := errors.Join(err, c.call("grow to %g GB", sizeGB)); err != nil {
		return CloudVolume{}, err
	}
	v.size = max(v.size, sizeGB)
	return c.describe(id, v), nil
}

func (c *memoryCloud) TagVolume(_ context.Context, r Ref, tags map[string]string) error {
	_, v, err := c.find(r)
	if err := errors.Join(err, c.call("tag %v", tags)); err != nil {
		return err
	}
	if v.tags == nil {
		v.tags = map[string]string{}
	}
	maps.Copy(v.tags, tags)
	return nil
}

func (c *memoryCloud) CreateSnapshot(_ context.Context, key string, r Ref, _ string, _ map[string]string) (string, error) {
	_, v, err := c.find(r)
	if err != nil {
		return "", err
	}
	c.keep(v)
	c.next++
	id := fmt.Sprintf("snap-%d", c.next)
	c.snaps[id], c.data[id] = key, v.data
	return id, c.call("snapshot")
}

func (c *memoryCloud) DeleteSnapshot(_ context.Context, r Ref) error {
	for id, key := range c.snaps {
		if id == r.ID || r.Key != "" && key == r.Key {
			delete(c.snaps, id)
			return c.call("delete snapshot")
		}
	}
	return ErrNoVolume
}

// state is what the cloud has, without the names of keys and without the tag that says how a volume is meant.
func (c *memoryCloud) state() string {
	var lines []string
	for id, v := range c.volumes {
		c.keep(v)
		tags := maps.Clone(v.tags)
		if tags[statusTag] == statusActive {
			delete(tags, statusTag)
		}
		if len(tags) == 0 {
			tags = nil
		}
		lines = append(lines, fmt.Sprintf("%s %q %s %g %v", id, v.data, v.device, v.size, tags))
	}
	for id := range c.snaps {
		lines = append(lines, id)
	}
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}

var ebs = object{"type": "ebs", "size": 10, "fstype": "ext4", "mpoint": "/mnt/v", "tags": object{"who": "me"}}

func TestCloudVolume(t *testing.T) {
	f := newFake(t)
	cloud := newCloud(f)
	b := newBed(t, f.Host.Host, stateDir, cloud)
	v := made(t, b, ebs)
	if v.Text("id") != "vol-1" || v.Text("device") != "/dev/xvdf" || v.Text("avail_zone") != "z1" || v.Text("volume_type") != "standard" || cloud.volumes["vol-1"].tags["who"] != "me" {
		t.Errorf("got %v", v)
	}
	if again := made(t, b, toObject(v)); params("v", again) != params("v", v) {
		t.Errorf("again: got %v, want %v", again, v)
	}
	snap := b.ok(t, "snapshot", "volume", v, "description", "d", "tags", object{"n": 1})
	if snap.Text("type") != "ebs" || snap.Text("id") != "snap-2" || snap.Text("description") != "d" {
		t.Errorf("got %v", snap)
	}
	bigger := b.ok(t, "grow", "volume", v, "growth", object{"size": "20"})
	if bigger.Text("id") != "vol-4" || bigger.Text("size") != "20" || cloud.volumes["vol-1"].tags[statusTag] != statusOld || cloud.volumes["vol-1"].device != "" || len(cloud.snaps) != 1 {
		t.Errorf("got %v, cloud %s", bigger, cloud.state())
	}
	gone := b.ok(t, "destroy", "volume", bigger)
	if !null(gone, "device") || len(cloud.volumes) != 1 {
		t.Errorf("got %v, cloud %s", gone, cloud.state())
	}
	b.fails(t, "VolumeNotExistsError: Volume not found: vol-4", "create", "volume", gone)
	for text, growth := range map[string]object{
		"NoOpError: New ebs volume configuration is equal to present. Nothing to do.":   {"size": 10},
		"StorageError: New size is smaller than old.":                                   {"size": 5},
		"StorageError: EBS iops can only be used with io1 volume type":                  {"iops": 100},
		"StorageError: Iops parameter must be specified for io1 volumes":                {"volume_type": "io1"},
		"StorageError: Maximum ratio of 10:1 is permitted between IOPS and volume size": {"volume_type": "io1", "iops": 200},
		"AssertionError: 'size' is invalid, a number above 0 is expected: \"-1\"":       {"size": -1},
	} {
		b.fails(t, text, "grow", "volume", v, "growth", growth)
	}
}

func toObject(c agentapi.StorageConfig) object {
	o := object{}
	for k, raw := range c {
		o[k] = raw
	}
	return o
}

func TestCloudVolumesWithoutACloud(t *testing.T) {
	f := newFake(t)
	b := f.bed(t)
	b.fails(t, "StorageError: Volume has no ID and EC2 connection required for volume construction is not available", "create", "volume", object{"type": "ebs", "size": 1})
	b.fails(t, "make and attach the volume through the coordinator", "create", "volume", object{"type": "cinder", "id": "c-1"})
	b.fails(t, "this agent reaches no cloud", "grow", "volume", object{"type": "csvol", "id": "c-1", "size": 1}, "growth", object{"size": 2})
	device := f.disk(t, 0)
	v := b.ok(t, "create", "volume", object{"type": "ebs", "id": "vol-0123abcd", "device": device, "mpoint": "/mnt/v", "fstype": "ext4"}, "mkfs", true, "mount", true)
	if v.Text("device") != device {
		t.Errorf("got %v", v)
	}
	b.fails(t, "cannot detach the ebs volume: this agent reaches no cloud", "detach", "volume", v)
	if !strings.Contains(f.Text("/proc/self/mountinfo"), "/mnt/v") {
		t.Error("a detachment that failed has unmounted the volume")
	}
	f.WriteText("/dev/nvme1n1", strings.Repeat("\x00", 512))
	if err := os.MkdirAll(f.Path("/dev/disk/by-id"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("../../nvme1n1", f.Path("/dev/disk/by-id/nvme-Amazon_Elastic_Block_Store_vol0123456789")); err != nil {
		t.Fatal(err)
	}
	if got := b.ok(t, "create", "volume", object{"type": "ebs", "id": "vol-0123456789"}); got.Text("device") != "/dev/nvme1n1" {
		t.Errorf("got %v", got)
	}
}

func TestCloudVolumesOfACloudThatHasNone(t *testing.T) {
	f := newFake(t)
	cloud := newCloud(f)
	cloud.none = true
	b := newBed(t, f.Host.Host, stateDir, cloud)
	b.fails(t, "the coordinator required for volume construction is not available", "create", "volume", object{"type": "nspawn", "size": 1})
	device := f.disk(t, 0)
	v := b.ok(t, "create", "volume", object{"type": "cinder", "id": "c-1", "device": device})
	b.fails(t, "cannot destroy the cinder volume: this agent reaches no cloud that has such volumes", "destroy", "volume", v)
	if len(cloud.calls) > 0 {
		t.Errorf("got calls %q of a cloud that has none", cloud.calls)
	}
}

func TestCloudVolumeGrowsInPlace(t *testing.T) {
	f := newFake(t)
	cloud := newCloud(f)
	cloud.inPlace = true
	b := newBed(t, f.Host.Host, stateDir, cloud)
	v := b.ok(t, "create", "volume", object{"type": "nspawn", "size": 1, "fstype": "ext4", "mpoint": "/mnt/v"}, "mkfs", true, "mount", true, "fstab", true)
	bigger := b.ok(t, "grow", "volume", v, "growth", object{"size": 2})
	id := v.Text("id")
	if bigger.Text("id") != id || bigger.Text("size") != "2" || len(cloud.volumes) != 1 || cloud.volumes[id].device == "" || cloud.volumes[id].tags[statusTag] != statusActive {
		t.Errorf("got %v, cloud %s", bigger, cloud.state())
	}
	if text := f.Text("/etc/fstab"); !strings.Contains(text, bigger.Text("device")+" /mnt/v ext4") {
		t.Errorf("got fstab %q", text)
	}
	// A call that fails leaves a volume that may be larger, and is attached and mounted as before.
	for n := 1; ; n++ {
		before, size := f.state(t), cloud.volumes[id].size
		cloud.calls, cloud.failAt = nil, n
		_, err := b.call(t.Context(), "grow", "volume", bigger, "growth", object{"size": 3})
		cloud.failAt = 0
		if err == nil && len(cloud.calls) < n {
			break
		}
		if got := f.state(t); err == nil || got != before || cloud.volumes[id].device == "" || cloud.volumes[id].size < size {
			t.Errorf("call %d (%s) failed, %v: got\n%s\n%s\nwant\n%s", n, cloud.calls[n-1], err, got, cloud.state(), before)
		}
	}
}

// TestEveryCallOfTheCloudIsTakenBack lets each call of the cloud fail once, after it had its effect where that can be.
func TestEveryCallOfTheCloudIsTakenBack(t *testing.T) {
	for name, prepare := range map[string]func(b *bed) (string, []any){
		"create":   func(*bed) (string, []any) { return "create", []any{"volume", ebs, "mkfs", true, "mount", true} },
		"snapshot": func(b *bed) (string, []any) { return "snapshot", []any{"volume", made(t, b, ebs)} },
		"detach":   func(b *bed) (string, []any) { return "detach", []any{"volume", made(t, b, ebs)} },
		"grow": func(b *bed) (string, []any) {
			return "grow", []any{"volume", made(t, b, ebs), "growth", object{"size": 20}}
		},
	} {
		t.Run(name, func(t *testing.T) {
			for n := 1; ; n++ {
				f := newFake(t)
				cloud := newCloud(f)
				b := newBed(t, f.Host.Host, stateDir, cloud)
				method, pairs := prepare(b)
				before, had := f.state(t), cloud.state()
				cloud.calls, cloud.failAt = nil, n
				_, err := b.call(t.Context(), method, pairs...)
				if err == nil && len(cloud.calls) < n {
					break
				}
				if err == nil {
					t.Errorf("call %d (%s) failed without an error", n, cloud.calls[n-1])
				}
				if got, has := f.state(t), cloud.state(); got != before || has != had {
					t.Errorf("call %d (%s) failed, %s: got\n%s\n%s\nwant\n%s\n%s", n, cloud.calls[n-1], messageOf(err), got, has, before, had)
				}
			}
		})
	}
}

// killer kills the agent at the nth of all points before and after a command, a call of the cloud or a step of the journal:
// nothing of the change is done any more after it, and nothing taken back.
type killer struct {
	host.Runner
	Provider
	left int
}

func (k *killer) point(string) {
	if k.left--; k.left == 0 {
		panic(errKilled)
	}
}

func (k *killer) Run(ctx context.Context, c host.Cmd) (host.Output, error) {
	k.point("")
	defer k.point("")
	return k.Runner.Run(ctx, c)
}

func (k *killer) CreateVolume(ctx context.Context, key string, s VolumeSpec) (CloudVolume, error) {
	k.point("")
	defer k.point("")
	return k.Provider.CreateVolume(ctx, key, s)
}

func (k *killer) AttachVolume(ctx context.Context, r Ref) (string, error) {
	k.point("")
	defer k.point("")
	return k.Provider.AttachVolume(ctx, r)
}

func (k *killer) DetachVolume(ctx context.Context, r Ref, force bool) error {
	k.point("")
	defer k.point("")
	return k.Provider.DetachVolume(ctx, r, force)
}

func (k *killer) DeleteVolume(ctx context.Context, r Ref) error {
	k.point("")
	defer k.point("")
	return k.Provider.DeleteVolume(ctx, r)
}

func (k *killer) GrowVolume(ctx context.Context, r Ref, sizeGB float64) (CloudVolume, error) {
	k.point("")
	defer k.point("")
	return k.Provider.GrowVolume(ctx, r, sizeGB)
}

func (k *killer) CreateSnapshot(ctx context.Context, key string, r Ref, description string, tags map[string]string) (string, error) {
	k.point("")
	defer k.point("")
	return k.Provider.CreateSnapshot(ctx, key, r, description, tags)
}

func (k *killer) DeleteSnapshot(ctx context.Context, r Ref) error {
	k.point("")
	defer k.point("")
	return k.Provider.DeleteSnapshot(ctx, r)
}

// TestWhatAKilledAgentLeftInItsCloudIsTakenBack kills the agent at each point of each change of a cloud's volume and starts the
// next one: host and cloud are then as before, or as after the whole change. What was deleted for good is completed.
func TestWhatAKilledAgentLeftInItsCloudIsTakenBack(t *testing.T) {
	nspawn := object{"type": "nspawn", "size": 1, "fstype": "ext4", "mpoint": "/mnt/v"}
	for name, c := range map[string]struct {
		inPlace bool
		prepare func(b *bed) (string, []any)
	}{
		"create": {false, func(*bed) (string, []any) {
			return "create", []any{"volume", nspawn, "mkfs", true, "mount", true, "fstab", true}
		}},
		"create of a snapshot": {false, func(b *bed) (string, []any) {
			snap := b.ok(t, "snapshot", "volume", made(t, b, nspawn))
			return "create", []any{"volume", object{"type": "nspawn", "snap": snap, "mpoint": "/mnt/r"}, "mount", true}
		}},
		"attach": {false, func(b *bed) (string, []any) {
			return "create", []any{"volume", b.ok(t, "detach", "volume", made(t, b, nspawn)), "mount", true, "fstab", true}
		}},
		"detach":   {false, func(b *bed) (string, []any) { return "detach", []any{"volume", made(t, b, nspawn)} }},
		"snapshot": {false, func(b *bed) (string, []any) { return "snapshot", []any{"volume", made(t, b, nspawn)} }},
		"destroy":  {false, func(b *bed) (string, []any) { return "destroy", []any{"volume", made(t, b, nspawn)} }},
		"grow": {false, func(b *bed) (string, []any) {
			return "grow", []any{"volume", made(t, b, ebs), "growth", object{"size": 20}}
		}},
		"grow in place": {true, func(b *bed) (string, []any) {
			return "grow", []any{"volume", made(t, b, nspawn), "growth", object{"size": 2}}
		}},
	} {
		t.Run(name, func(t *testing.T) {
			// Run makes the change with an agent that is killed at its nth point, 0 being none, and says what is there after a start.
			run := func(n int) (before, after string, killed bool) {
				f := newFake(t)
				cloud := newCloud(f)
				cloud.inPlace = c.inPlace
				method, pairs := c.prepare(newBed(t, f.Host.Host, stateDir, cloud))
				state := func() string { return f.state(t) + "\n" + cloud.state() }
				before = state()
				k := &killer{Runner: f.Runner, Provider: cloud, left: n}
				b := newBed(t, host.New(host.Options{Root: f.Root, Runner: k, Units: f.Units, Layout: &host.Debian}), stateDir, k)
				b.boundary = k.point
				_, err := b.call(t.Context(), method, pairs...)
				if killed = n > 0 && k.left <= 0; !killed && err != nil {
					t.Fatal(err)
				}
				if err := newBed(t, f.Host.Host, stateDir, cloud).Start(t.Context()); err != nil {
					t.Errorf("killed at point %d: start: %v", n, err)
				}
				if left := f.Tree(stateDir + "/storage/journal"); strings.Contains(left, ".json") {
					t.Errorf("killed at point %d: the journal is left: %s", n, left)
				}
				return before, state(), killed
			}
			_, done, _ := run(0)
			undone, completed := 0, 0
			for n := 1; ; n++ {
				before, after, killed := run(n)
				switch {
				case !killed:
					if undone == 0 || completed == 0 {
						t.Errorf("%d changes were taken back and %d complete, want some of each", undone, completed)
					}
					return
				case after == before:
					undone++
				case after == done:
					completed++
				default:
					t.Errorf("killed at point %d: got\n%s\nwant\n%s\nor\n%s", n, after, before, done)
				}
				if completed > 0 && after != done {
					t.Errorf("killed at point %d: taken back, though an earlier kill was too late for that", n)
				}
			}
		})
	}
}

// TestWhatTheCloudDoesNotTakeBackIsTriedAgain lets an agent be killed while its cloud is out of reach for the next one: another
// change does not make it forget the volume that nobody knows of.
func TestWhatTheCloudDoesNotTakeBackIsTriedAgain(t *testing.T) {
	f := newFake(t)
	cloud := newCloud(f)
	before := cloud.state()
	k := &killer{Runner: f.Runner, Provider: cloud, left: 1 << 30}
	b := newBed(t, host.New(host.Options{Root: f.Root, Runner: k, Units: f.Units, Layout: &host.Debian}), stateDir, k)
	b.boundary = func(step string) {
		if step == "before cloud-detach" { // it is made
			panic(errKilled)
		}
	}
	if _, err := b.call(t.Context(), "create", "volume", ebs); err == nil || len(cloud.volumes) != 1 {
		t.Fatalf("got %v and volumes %v", err, cloud.volumes)
	}
	next := newBed(t, f.Host.Host, stateDir, cloud)
	cloud.calls, cloud.failAt = nil, 1
	if err := next.Start(t.Context()); err == nil || len(cloud.volumes) != 1 {
		t.Errorf("got %v and volumes %v", err, cloud.volumes)
	}
	cloud.calls = nil
	next.ok(t, "create", "volume", object{"type": "tmpfs", "size": 8, "mpoint": "/mnt/t"}, "mount", true)
	if cloud.failAt = 0; len(cloud.volumes) != 1 {
		t.Fatalf("got volumes %v", cloud.volumes)
	}
	next.retryPause = time.Millisecond
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() { ended <- next.Run(ctx) }()
	for deadline := time.Now().Add(10 * time.Second); next.hasJournal(t); {
		if time.Now().After(deadline) {
			t.Fatal("it is not tried again")
		}
		runtime.Gosched()
	}
	stop()
	if err := <-ended; err != nil || cloud.state() != before {
		t.Errorf("got %v and %s, want %s", err, cloud.state(), before)
	}
}

// hasJournal says whether a change is still to be taken back.
func (b *bed) hasJournal(t *testing.T) bool {
	t.Helper()
	b.mu.Lock()
	defer b.mu.Unlock()
	entries, err := b.host.ReadDir(b.journalDir())
	if err != nil {
		t.Fatal(err)
	}
	return len(entries) > 0
}
