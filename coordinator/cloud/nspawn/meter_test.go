package nspawn

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/reeve-paas/reeve/coordinator/core"
)

// tree writes files below a new directory and returns it.
func tree(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		file := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestMeterOfACgroup(t *testing.T) {
	unknown := core.UnknownCounters()
	for _, c := range []struct {
		name   string
		files  map[string]string
		want   func(*core.Counters)
		broken bool
	}{
		{"unified", map[string]string{
			"cgroup.controllers": "cpu memory",
			"app/n/cpu.stat":     "usage_usec 35\nuser_usec 20\nsystem_usec 15\nnr_periods 1\nnr_throttled 1\nthrottled_usec 7\n",
		}, func(c *core.Counters) { c.UserMicros, c.SystemMicros, c.StealMicros = 20, 15, 7 }, false},
		{"unified without a limit", map[string]string{
			"cgroup.controllers": "cpu memory",
			"app/n/cpu.stat":     "usage_usec 35\nuser_usec 20\nsystem_usec 15\n",
		}, func(c *core.Counters) { c.UserMicros, c.SystemMicros = 20, 15 }, false},
		{"hybrid", map[string]string{
			"systemd/x": "", "cpuacct/app/n/cpuacct.usage_user": "20999\n", "cpuacct/app/n/cpuacct.usage_sys": "15000\n",
			"cpu/app/n/cpu.stat": "nr_periods 1\nnr_throttled 1\nthrottled_time 7000\n",
		}, func(c *core.Counters) { c.UserMicros, c.SystemMicros, c.StealMicros = 20, 15, 7 }, false},
		{"hybrid without accounting", map[string]string{"systemd/x": ""}, func(*core.Counters) {}, true},
		{"no such node", map[string]string{"cgroup.controllers": "cpu"}, func(*core.Counters) {}, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			layout, err := findCgroups(tree(t, c.files))
			if err != nil {
				t.Fatal(err)
			}
			got, want := unknown, unknown
			c.want(&want)
			if err := layout.group("app", "n").meter(&got); (err != nil) != c.broken {
				t.Errorf("got error %v, want one: %t", err, c.broken)
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("counters differ (-want +got):\n%s", diff)
			}
		})
	}
}

func TestParseDiskStat(t *testing.T) {
	reads, sectorsRead, writes, sectorsWritten, ok := parseDiskStat("     191        0     5240      189      52       7    2240      312        0      148      501        0        0        0        0        3        0\n")
	if reads != 191 || sectorsRead != 5240 || writes != 52 || sectorsWritten != 2240 || !ok {
		t.Errorf("got %d %d %d %d %t, want 191 5240 52 2240 true", reads, sectorsRead, writes, sectorsWritten, ok)
	}
	for _, text := range []string{"", "1 2 3", "1 2 3 4 x 6 7"} {
		if _, _, _, _, ok := parseDiskStat(text); ok {
			t.Errorf("%q: got success", text)
		}
	}
}

func TestEpochChangesWithTheBootAndTheDevices(t *testing.T) {
	run := runState{Leader: proc{PID: 7, Start: 8, Boot: "b"}, Detail: "x"}
	first := epoch(run, []int{1, 2})
	if run.Detail = "y"; epoch(run, []int{1, 2}) != first {
		t.Error("it changed by itself")
	}
	if epoch(run, []int{1, 3}) == first {
		t.Error("another loop device: it is the same")
	}
	if run.Leader.Start = 9; epoch(run, []int{1, 2}) == first {
		t.Error("another boot: it is the same")
	}
}

func TestAVolumeTheNodeMadeUpIsNotCounted(t *testing.T) {
	state := tree(t, map[string]string{
		"nodes/n/dev/v-other": "", "nodes/n/dev/v-none": "", "nodes/n/disk.img": "",
		"volumes/v-other/volume.json": `{"id":"v-other","node":"somebody-else"}`,
	})
	c := core.UnknownCounters()
	_, err := meterDisks(&c, state, filepath.Join(state, "nodes/n"), "n")
	want := filepath.Join(state, "nodes/n/disk.img") + " has no loop device" // and nothing about the others
	if err == nil || err.Error() != want {
		t.Errorf("got error %v, want %s", err, want)
	}
	if c != core.UnknownCounters() {
		t.Errorf("got counters %+v, want none", c)
	}
}
