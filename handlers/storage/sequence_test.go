package storage

import (
	"flag"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// TestConformance70Sequences holds the exact commands of logical volumes and arrays against golden files; that they do what
// they should, a real kernel proves in make test-kernel.
func TestConformance70Sequences(t *testing.T) {
	for _, sc := range scenes {
		if !strings.Contains(sc.name, "lvm") && !strings.Contains(sc.name, "raid") {
			continue
		}
		t.Run("70 "+sc.name, func(t *testing.T) {
			f := newFake(t)
			b := f.bed(t)
			method, pairs := sc.prepare(t, f, b)
			f.ClearCalls()
			b.ok(t, method, pairs...)
			var lines []string
			for _, c := range f.Calls() {
				lines = append(lines, strings.ReplaceAll(strings.TrimPrefix(c, "run "), f.Root, ""))
			}
			if strings.Contains(sc.name, "snapshot") || strings.Contains(sc.name, "grow") { // copies are made at the same time
				lines = sortCopies(lines)
			}
			got := unsteady.ReplaceAllString(strings.Join(lines, "\n")+"\n", "<$1>")
			got = regexp.MustCompile(`\.[0-9]{10}\.[0-9]{6}(-[0-9]+)?`).ReplaceAllString(got, ".<time>")
			file := "testdata/" + strings.NewReplacer(" ", "-", ",", "").Replace(sc.name) + ".golden"
			if *update {
				if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(file)
			if err != nil || got != string(want) {
				t.Errorf("got\n%s\nwant (%v)\n%s", got, err, want)
			}
		})
	}
}

// unsteady are the names made up for an operation.
var unsteady = regexp.MustCompile(`[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}(\.vg)`)

// sortCopies puts the commands of each run of copies into an order of their own.
func sortCopies(lines []string) []string {
	var out []string
	for _, line := range lines {
		if strings.HasPrefix(line, "mdadm --assemble") {
			words := strings.Fields(line)
			slices.Sort(words[1:])
			line = strings.Join(words, " ")
		}
		out = append(out, line)
	}
	for i := 0; i < len(out); i++ {
		for j := i; j > 0 && concurrent(out[j]) && concurrent(out[j-1]) && out[j] < out[j-1]; j-- {
			out[j], out[j-1] = out[j-1], out[j]
		}
	}
	return out
}

func concurrent(line string) bool {
	return strings.HasPrefix(line, "cp ") || strings.HasPrefix(line, "blockdev --flushbufs") || strings.HasPrefix(line, "losetup --find")
}

func TestDestroyLeavesNothing(t *testing.T) {
	for name, volume := range map[string]object{"70 lvm": groupVolume, "70 raid": arrayVolume, "69 loop": small} {
		t.Run(name, func(t *testing.T) {
			f := newFake(t)
			b := f.bed(t)
			before := f.state(t)
			v := made(t, b, volume)
			if null(v, "device") || v.Text("device") == "" {
				t.Errorf("got %v", v)
			}
			gone := b.ok(t, "destroy", "volume", v, "force", true, "remove_disks", true)
			if !null(gone, "device") {
				t.Errorf("got %v", gone)
			}
			after := f.state(t)
			for _, kept := range []string{"/mnt\n", "/mnt/v\n", "AUTO -all\\nDEVICE /dev/null\\n"} { // the mount point and mdadm's configuration stay
				after = strings.ReplaceAll(after, kept, "")
			}
			after = strings.ReplaceAll(after, "/etc/mdadm/mdadm.conf 41", "/etc/mdadm/mdadm.conf 14")
			if after != before {
				t.Errorf("got\n%s\nwant\n%s", after, before)
			}
			if name == "69 loop" {
				b.fails(t, "VolumeNotExistsError", "snapshot", "volume", gone)
			}
		})
	}
}

// TestTheOldVolumeIsNotTheNewOne: after growth both name the same group, and only one has it on its disks.
func TestTheOldVolumeIsNotTheNewOne(t *testing.T) {
	f := newFake(t)
	b := f.bed(t)
	old := made(t, b, arrayVolume)
	grown := b.ok(t, "grow", "volume", old, "growth", object{"disks": object{"size": 0.004}})
	gone := b.ok(t, "destroy", "volume", old, "force", true, "remove_disks", true)
	if !null(gone, "device") || f.Exists("/srv/a.img") || f.Exists("/srv/b.img") {
		t.Errorf("got %v", gone)
	}
	again := b.ok(t, "create", "volume", grown, "mount", true)
	if again.Text("device") != grown.Text("device") || !strings.Contains(f.Text("/proc/self/mountinfo"), "/mnt/v") || len(f.raids) != 1 {
		t.Errorf("the grown volume is %v, was %v", again, grown)
	}
}
