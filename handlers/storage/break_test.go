package storage

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/reeve-paas/reeve/agent/agentapi"
	"github.com/reeve-paas/reeve/handlers/host"
	"github.com/reeve-paas/reeve/handlers/host/hosttest"
)

// scene is a host on which a change is to be made: the method and its parameters.
type scene struct {
	name    string
	prepare func(tb testing.TB, f *fakeHost, b *bed) (method string, pairs []any)
	// settled are calls after which the change is only completed by a repetition: what was deleted, or made larger, stays so.
	settled  []string
	tolerate []string // calls after whose failure the change is as good as complete
}

var small = object{"type": "loop", "size": 0.002, "file": "/srv/v.img", "fstype": "ext4", "mpoint": "/mnt/v"}

func loopMember(name string) object {
	return object{"type": "loop", "size": 0.002, "file": "/srv/" + name + ".img"}
}

func made(tb testing.TB, b *bed, volume object) agentapi.StorageConfig {
	tb.Helper()
	return b.ok(tb, "create", "volume", volume, "mkfs", true, "mount", true, "fstab", true)
}

var (
	groupVolume = object{"type": "lvm", "vg": "vg0", "name": "data", "size": "80%VG", "pvs": []object{loopMember("a"), loopMember("b")}, "fstype": "ext4", "mpoint": "/mnt/v"}
	arrayVolume = object{"type": "raid", "vg": "vg1", "level": 1, "disks": []object{loopMember("a"), loopMember("b")}, "fstype": "ext4", "mpoint": "/mnt/v"}
)

var scenes = []scene{
	{name: "create loop", prepare: func(testing.TB, *fakeHost, *bed) (string, []any) {
		return "create", []any{"volume", small, "mkfs", true, "mount", true, "fstab", true}
	}},
	{name: "create loop from a snapshot", prepare: func(tb testing.TB, f *fakeHost, b *bed) (string, []any) {
		snap := b.ok(tb, "snapshot", "volume", made(tb, b, small))
		return "create", []any{"volume", object{"type": "loop", "snap": snap, "mpoint": "/mnt/restored"}, "mount", true}
	}},
	{name: "create tmpfs", prepare: func(testing.TB, *fakeHost, *bed) (string, []any) {
		return "create", []any{"volume", object{"type": "tmpfs", "size": 8, "mpoint": "/mnt/t"}, "mount", true, "fstab", true}
	}},
	{name: "create base, mounted elsewhere", prepare: func(tb testing.TB, f *fakeHost, b *bed) (string, []any) {
		v := made(tb, b, object{"device": f.disk(tb, 0), "mpoint": "/mnt/a"})
		return "create", []any{"volume", changed(v, "mpoint", "/mnt/b"), "mount", true}
	}},
	{name: "create lvm", prepare: func(testing.TB, *fakeHost, *bed) (string, []any) {
		return "create", []any{"volume", groupVolume, "mkfs", true, "mount", true, "fstab", true}
	}},
	{name: "create lvm, detached before", prepare: func(tb testing.TB, f *fakeHost, b *bed) (string, []any) {
		v := b.ok(tb, "detach", "volume", made(tb, b, groupVolume))
		return "create", []any{"volume", v, "mount", true}
	}},
	{name: "create lvm with one more disk", settled: []string{"run blkid", "run resize2fs", "run e2fsck"}, prepare: func(tb testing.TB, f *fakeHost, b *bed) (string, []any) {
		v := made(tb, b, groupVolume)
		pvs := []any{nested(tb, v, "pvs", 0), nested(tb, v, "pvs", 1), loopMember("c")}
		return "create", []any{"volume", changed(v, "pvs", pvs)}
	}},
	{name: "create raid", prepare: func(testing.TB, *fakeHost, *bed) (string, []any) {
		return "create", []any{"volume", arrayVolume, "mkfs", true, "mount", true, "fstab", true}
	}},
	{name: "create raid, detached before", prepare: func(tb testing.TB, f *fakeHost, b *bed) (string, []any) {
		v := b.ok(tb, "detach", "volume", made(tb, b, arrayVolume))
		return "create", []any{"volume", v, "mount", true}
	}},
	{name: "create raid, detached by an older agent", prepare: func(tb testing.TB, f *fakeHost, b *bed) (string, []any) {
		v := b.ok(tb, "detach", "volume", made(tb, b, arrayVolume))
		f.pvs, f.lvs = map[string]string{}, map[string]bool{}
		return "create", []any{"volume", v, "mount", true}
	}},
	{name: "snapshot loop", prepare: func(tb testing.TB, f *fakeHost, b *bed) (string, []any) {
		return "snapshot", []any{"volume", made(tb, b, small)}
	}},
	{name: "snapshot lvm", prepare: func(tb testing.TB, f *fakeHost, b *bed) (string, []any) {
		return "snapshot", []any{"volume", made(tb, b, groupVolume), "description", "nightly"}
	}},
	{name: "snapshot raid", prepare: func(tb testing.TB, f *fakeHost, b *bed) (string, []any) {
		return "snapshot", []any{"volume", made(tb, b, arrayVolume)}
	}},
	{name: "detach loop", prepare: func(tb testing.TB, f *fakeHost, b *bed) (string, []any) {
		return "detach", []any{"volume", made(tb, b, small)}
	}},
	{name: "detach lvm", prepare: func(tb testing.TB, f *fakeHost, b *bed) (string, []any) {
		return "detach", []any{"volume", made(tb, b, groupVolume)}
	}},
	{name: "detach raid", prepare: func(tb testing.TB, f *fakeHost, b *bed) (string, []any) {
		return "detach", []any{"volume", made(tb, b, arrayVolume)}
	}},
	{name: "destroy loop", prepare: func(tb testing.TB, f *fakeHost, b *bed) (string, []any) {
		return "destroy", []any{"volume", made(tb, b, small), "force", true}
	}},
	{name: "destroy lvm", settled: []string{"run lvs", "run vgs", "run pvs", "run lvremove", "run vgremove", "run pvremove", "run losetup"}, prepare: func(tb testing.TB, f *fakeHost, b *bed) (string, []any) {
		return "destroy", []any{"volume", made(tb, b, groupVolume), "force", true}
	}},
	{name: "destroy raid", settled: []string{"run lvs", "run vgs", "run pvs", "run lvremove", "run vgremove", "run pvremove", "run mdadm", "run losetup"}, prepare: func(tb testing.TB, f *fakeHost, b *bed) (string, []any) {
		return "destroy", []any{"volume", made(tb, b, arrayVolume), "remove_disks", true}
	}},
	{name: "grow loop", prepare: func(tb testing.TB, f *fakeHost, b *bed) (string, []any) {
		return "grow", []any{"volume", made(tb, b, small), "growth", object{"size": 0.004}}
	}},
	{name: "grow loop with xfs", prepare: func(tb testing.TB, f *fakeHost, b *bed) (string, []any) {
		v := made(tb, b, with(small, "fstype", "xfs"))
		return "grow", []any{"volume", b.ok(tb, "detach", "volume", v), "growth", object{"size": 0.004}}
	}},
	{name: "grow raid by larger disks and one more", prepare: func(tb testing.TB, f *fakeHost, b *bed) (string, []any) {
		return "grow", []any{"volume", made(tb, b, arrayVolume), "growth", object{"disks": object{"size": 0.004}, "disks_count": 3}}
	}},
	{name: "replace_raid_disk", tolerate: []string{"run mdadm --zero-superblock *", "run losetup --detach *"}, prepare: func(tb testing.TB, f *fakeHost, b *bed) (string, []any) {
		return "replace_raid_disk", []any{"volume", made(tb, b, arrayVolume), "index", 1, "disk", loopMember("c")}
	}},
}

func with(o object, pairs ...any) object {
	c := object{}
	for k, v := range o {
		c[k] = v
	}
	for i := 0; i < len(pairs); i += 2 {
		c[pairs[i].(string)] = pairs[i+1]
	}
	return c
}

// changed is a configuration with some members changed.
func changed(c agentapi.StorageConfig, pairs ...any) agentapi.StorageConfig {
	v := (&volume{c}).clone()
	for i := 0; i < len(pairs); i += 2 {
		v.set(pairs[i].(string), pairs[i+1])
	}
	return v.StorageConfig
}

// TestEveryStepIsTakenBack breaks each command of each change once, and finds the host as it was. Where something is
// deleted, a repetition of the call has to complete it.
func TestEveryStepIsTakenBack(t *testing.T) {
	for _, sc := range scenes {
		t.Run(sc.name, func(t *testing.T) {
			t.Parallel()
			var before string
			var pairs []any
			var method string
			start := func(tb testing.TB) *hosttest.Host {
				f := newFake(tb)
				method, pairs = sc.prepare(tb, f, f.bed(tb))
				before = f.state(tb)
				return f.Host
			}
			do := func(h *hosttest.Host) error {
				f := fakeOf(h)
				_, err := f.bed(t).call(t.Context(), method, pairs...)
				return err
			}
			hosttest.BreakEachCall(t, start, do, func(t *testing.T, h *hosttest.Host, err error) {
				f := fakeOf(h)
				after := f.state(t)
				if after == before {
					return
				}
				calls := h.Calls()
				if sc.settled == nil || !anyPrefix(calls, sc.settled) {
					t.Errorf("after %s: got\n%s\nwant\n%s", messageOf(err), after, before)
					return
				}
				h.ClearCalls()
				if _, err := f.bed(t).call(t.Context(), method, pairs...); err != nil {
					t.Errorf("repeated: %s", messageOf(err))
				}
			}, append(sc.tolerate, byExit...)...)
		})
	}
}

func anyPrefix(calls, prefixes []string) bool {
	for _, c := range calls {
		for _, p := range prefixes {
			if strings.HasPrefix(c, p) {
				return true
			}
		}
	}
	return false
}

// byExit are calls whose exit code 1 is an answer, not a failure.
var byExit = []string{"run e2fsck -fy *"}

// dying is a host whose agent is killed at the nth command: nothing runs any more after it, not even an undo.
type dying struct {
	host.Runner
	left atomic.Int64 // commands until then; some run side by side
	done bool         // the command is carried out before the agent dies
}

func dieAt(n int, done bool, runner host.Runner) *dying {
	d := &dying{Runner: runner, done: done}
	d.left.Store(int64(n))
	return d
}

var errKilled = errors.New("killed by the test")

func (d *dying) Run(ctx context.Context, c host.Cmd) (host.Output, error) {
	if n := d.left.Add(-1); n < 0 || n == 0 && !d.done {
		return host.Output{}, errKilled
	}
	out, err := d.Runner.Run(ctx, c)
	if d.left.Load() <= 0 {
		return host.Output{}, errKilled
	}
	return out, err
}

// TestWhatAKilledAgentLeftIsTakenBack kills the agent before and after each command of each change, starts the next one, and
// finds the host as it was.
func TestWhatAKilledAgentLeftIsTakenBack(t *testing.T) {
	for _, sc := range scenes {
		if sc.settled != nil {
			continue // after deleting began, a repetition completes it: see TestEveryStepIsTakenBack
		}
		t.Run(sc.name, func(t *testing.T) {
			t.Parallel()
			for n, done, finished := 1, false, false; !finished && n < 200; n, done = n+btoi(done), !done {
				f := newFake(t)
				method, pairs := sc.prepare(t, f, f.bed(t))
				before := f.state(t)
				runner := dieAt(n, done, f.Runner)
				h := host.New(host.Options{Root: f.Root, Runner: runner, Units: f.Units, Layout: &host.Debian})
				_, err := newBed(t, h, stateDir, nil).call(t.Context(), method, pairs...)
				if finished = err == nil && runner.left.Load() > 0; finished {
					break
				}
				if err := f.bed(t).Start(t.Context()); err != nil {
					t.Errorf("killed at command %d (done %v): start: %v", n, done, err)
				}
				after := f.state(t)
				if err == nil { // the last command: nothing was left to be taken back
					continue
				}
				if after != before {
					t.Errorf("killed at command %d (done %v): got\n%s\nwant\n%s", n, done, after, before)
				}
			}
		})
	}
}

func btoi(b bool) int {
	if b {
		return 1
	}
	return 0
}

func TestAfterARebootStepsOfTheBootAreVoid(t *testing.T) {
	f := newFake(t)
	runner := dieAt(4, true, f.Runner)
	h := host.New(host.Options{Root: f.Root, Runner: runner, Units: f.Units, Layout: &host.Debian})
	if _, err := newBed(t, h, stateDir, nil).call(t.Context(), "create", "volume", small, "mkfs", true); err == nil {
		t.Fatal("got no error")
	}
	f.WriteText("/proc/sys/kernel/random/boot_id", "next-boot\n")
	for _, p := range []string{"/sys/block/loop0", "/dev/loop0"} { // as a reboot does
		if err := f.RemoveAll(p); err != nil {
			t.Fatal(err)
		}
	}
	f.WriteText("/dev/loop0", "somebody else's data")
	f.ClearCalls()
	if err := f.bed(t).Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	if f.Text("/dev/loop0") != "somebody else's data" || len(f.Calls()) != 0 || f.Exists("/srv/v.img") {
		t.Errorf("got calls %v, device %q", f.Calls(), f.Text("/dev/loop0"))
	}
}
