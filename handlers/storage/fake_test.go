package storage

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/reeve-paas/reeve/handlers/host"
	"github.com/reeve-paas/reeve/handlers/host/hosttest"
)

// fakeHost is a host whose disks, mounts, arrays and volume groups are files and a table. A device's file holds what blkid
// finds on it; a loop device is a hard link to its file.
type fakeHost struct {
	*hosttest.Host

	mu     sync.Mutex // protects the fields below
	pvs    map[string]string
	lvs    map[string]bool     // "vg/name" -> active
	raids  map[string][]string // running arrays
	super  map[string]bool     // devices with a superblock
	frozen map[string]bool     // mount points and mappings that stand still
}

// on finds the fake of a host, for tests that are handed a hosttest.Host.
var on sync.Map

func newFake(tb testing.TB) *fakeHost {
	tb.Helper()
	f := &fakeHost{Host: hosttest.New(tb), pvs: map[string]string{}, lvs: map[string]bool{}, raids: map[string][]string{}, super: map[string]bool{}, frozen: map[string]bool{}}
	on.Store(f.Host, f)
	tb.Cleanup(func() { on.Delete(f.Host) })
	f.WriteText("/dev/loop-control", "")
	f.WriteText("/etc/fstab", "# the host's own\n/dev/vda / ext4 defaults 0 1\n")
	f.WriteText(host.MountsFile, "25 1 259:2 / / rw,relatime shared:1 - ext4 /dev/vda rw\n")
	f.WriteText("/proc/mdstat", "Personalities : [raid1] [raid5]\nunused devices: <none>\n")
	f.WriteText("/proc/sys/kernel/random/boot_id", "this-boot\n")
	f.WriteText("/srv/.keep", "")
	f.WriteText("/etc/mdadm/mdadm.conf", "MAILADDR root\n")
	f.Runner.Print("blockdev", "1073741824\n")
	f.Runner.Succeed("e2fsck", "resize2fs", "xfs_growfs", "pvresize", "lvresize", "lvextend", "btrfs")
	f.disks()
	f.mounts()
	f.volumeGroups()
	f.arrays()
	return f
}

func (f *fakeHost) local(p string) string { return strings.TrimPrefix(p, f.Root) }

func (f *fakeHost) handle(program string, fn func(args []string) (string, int)) {
	f.Runner.Handle(program, func(c host.Cmd) (host.Output, error) {
		f.mu.Lock()
		defer f.mu.Unlock()
		out, code := fn(c.Args)
		if code != 0 {
			return host.Output{Code: code, Stderr: []byte(out)}, nil
		}
		return host.Output{Stdout: []byte(out)}, nil
	})
}

func last(args []string) string { return args[len(args)-1] }

func signature(file string) string {
	data, _ := os.ReadFile(file)
	text, _, _ := bytes.Cut(data, []byte{0})
	return string(text)
}

func sign(file, text string) error {
	old, err := os.Stat(file)
	if err != nil {
		return err
	}
	data := make([]byte, max(int(old.Size()), len(text)))
	copy(data, text)
	w, err := os.OpenFile(file, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	defer w.Close()
	_, err = w.Write(data)
	return err
}

func (f *fakeHost) disks() {
	f.Runner.Handle("blkid", func(c host.Cmd) (host.Output, error) {
		found := signature(last(c.Args))
		if found == "" {
			return host.Output{Code: 2}, nil
		}
		return host.Output{Stdout: []byte("DEVNAME=x\n" + found)}, nil
	})
	for _, fstype := range host.Filesystems() {
		f.handle("mkfs."+fstype, func(args []string) (string, int) {
			if err := sign(last(args), "TYPE="+fstype+"\nUSAGE=filesystem\n"); err != nil {
				return err.Error(), 1
			}
			return "", 0
		})
	}
	f.handle("wipefs", func(args []string) (string, int) {
		old, err := os.Stat(last(args))
		if err == nil {
			err = os.WriteFile(last(args), make([]byte, old.Size()), 0o600)
		}
		if err != nil {
			return err.Error(), 1
		}
		return "", 0
	})
	f.Runner.Handle("cp", func(c host.Cmd) (host.Output, error) {
		out, err := exec.Command("cp", c.Args...).CombinedOutput()
		return host.Output{Stderr: out}, err
	})
	f.handle("losetup", func(args []string) (string, int) {
		switch {
		case args[0] == "--detach":
			name := path.Base(args[1])
			_ = os.RemoveAll(f.Path("/sys/block/" + name + "/loop"))
			_ = os.Remove(args[1])
			return "", 0
		case args[0] == "--find":
			for n := 0; ; n++ {
				if f.Exists(fmt.Sprintf("/sys/block/loop%d/loop", n)) {
					continue
				}
				device := f.Path(fmt.Sprintf("/dev/loop%d", n))
				f.WriteText(fmt.Sprintf("/sys/block/loop%d/loop/backing_file", n), last(args)+"\n")
				if err := os.Link(last(args), device); err != nil {
					return err.Error(), 1
				}
				return device + "\n", 0
			}
		}
		return "unexpected", 1
	})
}

func (f *fakeHost) mounts() {
	f.handle("mount", func(args []string) (string, int) {
		fstype, source, target := args[1], f.local(args[len(args)-2]), f.local(last(args))
		if _, err := os.Stat(last(args)); err != nil {
			return err.Error(), 32
		}
		f.WriteText(host.MountsFile, f.Text(host.MountsFile)+fmt.Sprintf("90 25 7:1 / %s rw - %s %s rw\n", target, fstype, source))
		return "", 0
	})
	f.handle("umount", func(args []string) (string, int) {
		lines := strings.SplitAfter(f.Text(host.MountsFile), "\n")
		for i, line := range slices.Backward(lines) {
			if strings.Contains(line, " "+f.local(args[0])+" rw ") {
				f.WriteText(host.MountsFile, strings.Join(slices.Delete(lines, i, i+1), ""))
				return "", 0
			}
		}
		return "not mounted", 32
	})
	f.handle("sync", func([]string) (string, int) { return "", 0 })
	f.handle("fsfreeze", func(args []string) (string, int) {
		at := f.local(args[1])
		if args[0] == "--unfreeze" && !f.frozen[at] {
			return "fsfreeze: " + at + ": unfreeze failed: Invalid argument", 1
		}
		f.frozen[at] = args[0] == "--freeze"
		return "", 0
	})
}

func (f *fakeHost) report(row string, rows []map[string]string) (string, int) {
	if rows == nil {
		rows = []map[string]string{}
	}
	data, _ := json.Marshal(object{"report": []object{{row: rows}}})
	return string(data), 0
}

func (f *fakeHost) volumeGroups() {
	f.handle("pvs", func([]string) (string, int) {
		var rows []map[string]string
		for _, pv := range slices.Sorted(maps.Keys(f.pvs)) {
			rows = append(rows, map[string]string{"pv_name": f.Path(pv), "vg_name": f.pvs[pv], "pv_uuid": "uuid-of-" + path.Base(pv)})
		}
		return f.report("pv", rows)
	})
	f.handle("vgs", func([]string) (string, int) {
		var rows []map[string]string
		for _, vg := range slices.Compact(slices.Sorted(maps.Values(f.pvs))) {
			if vg != "" {
				rows = append(rows, map[string]string{"vg_name": vg, "vg_free_count": "5"})
			}
		}
		return f.report("vg", rows)
	})
	f.handle("lvs", func([]string) (string, int) {
		var rows []map[string]string
		for _, lv := range slices.Sorted(maps.Keys(f.lvs)) {
			vg, name, _ := strings.Cut(lv, "/")
			rows = append(rows, map[string]string{"vg_name": vg, "lv_name": name, "lv_active": map[bool]string{true: "active"}[f.lvs[lv]]})
		}
		return f.report("lv", rows)
	})
	f.handle("pvcreate", func(args []string) (string, int) { f.pvs[f.local(last(args))] = ""; return "", 0 })
	f.handle("pvremove", func(args []string) (string, int) { delete(f.pvs, f.local(last(args))); return "", 0 })
	join := func(args []string) (string, int) {
		for _, pv := range args[2:] {
			f.pvs[f.local(pv)] = args[1]
		}
		return "", 0
	}
	f.handle("vgcreate", join)
	f.handle("vgextend", join)
	f.handle("vgreduce", func(args []string) (string, int) { f.pvs[f.local(args[1])] = ""; return "", 0 })
	f.handle("vgremove", func(args []string) (string, int) {
		for pv, vg := range f.pvs {
			if vg == last(args) {
				f.pvs[pv] = ""
			}
		}
		for lv := range f.lvs {
			if strings.HasPrefix(lv, last(args)+"/") {
				delete(f.lvs, lv)
			}
		}
		return "", 0
	})
	f.handle("vgimportclone", func(args []string) (string, int) {
		for _, pv := range args[3:] {
			f.pvs[f.local(pv)] = args[1] + "1"
		}
		f.lvs[args[1]+"1/data"] = false
		return "", 0
	})
	f.handle("vgcfgbackup", func(args []string) (string, int) {
		if err := os.WriteFile(args[1], []byte("group "+args[2]), 0o600); err != nil {
			return err.Error(), 1
		}
		return "", 0
	})
	f.handle("vgcfgrestore", func(args []string) (string, int) {
		for pv := range f.pvs {
			if strings.HasPrefix(pv, "/dev/md") {
				f.pvs[pv] = last(args)
			}
		}
		f.lvs[last(args)+"/lvol0"] = false
		return "", 0
	})
	f.handle("lvcreate", func(args []string) (string, int) {
		name := args[slices.Index(args, "--name")+1]
		vg, _, _ := strings.Cut(last(args), "/")
		f.setLV(vg, name, true)
		return "", 0
	})
	f.handle("lvchange", func(args []string) (string, int) {
		vg, name, _ := strings.Cut(last(args), "/")
		f.setLV(vg, name, args[2] == "y")
		return "", 0
	})
	f.handle("lvremove", func(args []string) (string, int) {
		vg, name, _ := strings.Cut(last(args), "/")
		delete(f.lvs, vg+"/"+name)
		_ = os.Remove(f.Path(lvDevice(vg, name)))
		return "", 0
	})
	f.handle("dmsetup", func(args []string) (string, int) { f.frozen[args[1]] = args[0] == "suspend"; return "", 0 })
}

// setLV makes a logical volume. What is on it survives while it is not active, in a file beside.
func (f *fakeHost) setLV(vg, name string, active bool) {
	device, store := lvDevice(vg, name), "/lv/"+vg+"-"+name
	if !f.Exists(store) {
		f.WriteText(store, strings.Repeat("\x00", 512))
	}
	f.lvs[vg+"/"+name] = active
	_ = os.Remove(f.Path(device))
	if active {
		_ = os.MkdirAll(f.Path("/dev/mapper"), 0o755)
		_ = os.Link(f.Path(store), f.Path(device))
	}
}

func (f *fakeHost) mdstat() {
	text := "Personalities : [raid1] [raid5]\n"
	for _, md := range slices.Sorted(maps.Keys(f.raids)) {
		text += path.Base(md) + " : active raid1"
		for i, m := range f.raids[md] {
			text += fmt.Sprintf(" %s[%d]", path.Base(m), i)
		}
		text += "\n"
	}
	f.WriteText("/proc/mdstat", text+"unused devices: <none>\n")
}

func (f *fakeHost) arrays() {
	start := func(md string, devices []string) {
		f.raids[md] = nil
		for _, d := range devices {
			f.raids[md] = append(f.raids[md], f.local(d))
			f.super[f.local(d)] = true
		}
		f.WriteText(md, strings.Repeat("\x00", 512))
		f.WriteText("/sys/block/"+path.Base(md)+"/md/degraded", "0\n")
	}
	f.handle("mdadm", func(args []string) (string, int) {
		defer f.mdstat()
		isDevice := func(a string) bool { return strings.HasPrefix(a, f.Root) }
		var devices []string
		for _, a := range args {
			if isDevice(a) {
				devices = append(devices, a)
			}
		}
		switch {
		case args[0] == "--examine":
			if !f.super[f.local(args[1])] {
				return "mdadm: No md superblock detected", 1
			}
		case args[0] == "--create", args[0] == "--assemble":
			start(f.local(devices[0]), devices[1:])
		case args[0] == "--stop":
			md := f.local(args[1])
			delete(f.raids, md)
			_ = os.RemoveAll(f.Path("/sys/block/" + path.Base(md)))
			_ = os.Remove(args[1])
		case args[0] == "--zero-superblock":
			delete(f.super, f.local(args[1]))
		case args[0] == "--add":
			md := f.local(args[1])
			start(md, append(f.full(f.raids[md]), args[2:]...))
		case len(args) == 3 && args[1] == "--add":
			md := f.local(args[0])
			start(md, append(f.full(f.raids[md]), args[2]))
		case len(args) == 3 && args[1] == "--remove":
			md := f.local(args[0])
			f.raids[md] = slices.DeleteFunc(f.raids[md], func(m string) bool { return m == f.local(args[2]) })
		case args[0] == "--wait":
			return "", 1
		}
		return "", 0
	})
}

func (f *fakeHost) full(devices []string) []string {
	var list []string
	for _, d := range devices {
		list = append(list, f.Path(d))
	}
	return list
}

// state is everything about the host that a change must leave as it was: files with the beginning of their content, and what
// the table says.
func (f *fakeHost) state(tb testing.TB) string {
	tb.Helper()
	f.mu.Lock()
	defer f.mu.Unlock()
	var b strings.Builder
	err := filepath.WalkDir(f.Root, func(p string, d os.DirEntry, err error) error {
		name := f.local(p)
		switch {
		case err != nil:
			return err
		case name == "" || strings.HasPrefix(name, "/lv") || strings.HasPrefix(name, "/sys") || name == stateDir || strings.HasPrefix(stateDir, name) || strings.HasPrefix(name, stateDir):
			if !strings.HasPrefix(name, stateDir+"/") || d.IsDir() {
				return nil
			}
		case d.IsDir() && (name == "/dev/mapper"):
			return nil
		}
		info, err := d.Info()
		if err != nil || d.IsDir() {
			fmt.Fprintln(&b, name)
			return err
		}
		file, err := os.Open(p)
		if err != nil {
			return err
		}
		defer file.Close()
		head, err := io.ReadAll(io.LimitReader(file, 4096))
		fmt.Fprintf(&b, "%s %d %q\n", name, info.Size(), bytes.TrimRight(head, "\x00"))
		return err
	})
	if err != nil {
		tb.Fatal(err)
	}
	for _, m := range []any{f.pvs, f.lvs, sortedArrays(f.raids), f.super} {
		fmt.Fprintln(&b, m)
	}
	for at, is := range f.frozen {
		if is {
			fmt.Fprintln(&b, "frozen:", at)
		}
	}
	return b.String()
}

// sortedArrays forgets the order of members: one that was taken out and put back is the last.
func sortedArrays(raids map[string][]string) map[string][]string {
	sorted := map[string][]string{}
	for md, members := range raids {
		sorted[md] = slices.Sorted(slices.Values(members))
	}
	return sorted
}

func (f *fakeHost) bed(tb testing.TB) *bed { return newBed(tb, f.Host.Host, stateDir, nil) }

func fakeOf(h *hosttest.Host) *fakeHost {
	f, _ := on.Load(h)
	return f.(*fakeHost)
}

// disk puts a blank block device on the host.
func (f *fakeHost) disk(tb testing.TB, n int) string {
	tb.Helper()
	device := "/dev/sd" + string(rune('a'+n))
	f.WriteText(device, strings.Repeat("\x00", 512))
	return device
}
