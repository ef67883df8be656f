package nspawn

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"

	"github.com/vishvananda/netlink"

	"github.com/reeve-paas/reeve/coordinator/core"
)

var _ core.MeterCloud = (*Driver)(nil)

// Meter reads what a node uses from outside: its cgroup, the host's end of its network and the loop devices of its disk and
// volumes. Inside, /proc shows the whole host's numbers.
//
// Errors: not_found, unavailable (the node is not running), unsupported (the host does not account for CPU time)
// Source: spec clouds 3.6
func (d *Driver) Meter(_ context.Context, id string) (core.Counters, error) {
	c := core.UnknownCounters()
	n, err := d.find(id)
	if err != nil {
		return c, err
	}
	rec, run := n.snapshot()
	if run.State != core.CloudRunning || !run.Leader.alive() {
		return c, core.Errorf(core.Unavailable, core.ObjNode, "node %q is not running", id)
	}
	c.CPUs = int64(rec.Limits.CPUs)
	if err := d.cgroups.group(rec.App, rec.Machine).meter(&c); err != nil {
		return c, core.Wrap(core.Unsupported, core.ObjNode, err, "the CPU time of node %q", id)
	}
	if err := meterLink(&c, "vb-"+rec.Machine); err != nil {
		return c, core.Wrap(core.Unavailable, core.ObjNode, err, "the traffic of node %q", id)
	}
	loops, err := meterDisks(&c, d.opts.StateDir, n.dir, id)
	if err != nil {
		return c, core.Wrap(core.Unavailable, core.ObjNode, err, "the disks of node %q", id)
	}
	c.Epoch = epoch(run, loops)
	return c, nil
}

// epoch changes with every start of the node and with its loop devices: those count on from whoever had them before.
func epoch(run runState, loops []int) int64 {
	h := fnv.New64a()
	fmt.Fprintln(h, run.Leader.Boot, run.Leader.PID, run.Leader.Start, loops)
	return int64(h.Sum64())
}

// meter reads the CPU time of the group. Steal is the time it was held back by its own limit.
func (g group) meter(c *core.Counters) error {
	if g.c.pure() {
		stat, err := readPairs(filepath.Join(g.c.unified, g.path, "cpu.stat"))
		if err != nil {
			return err
		}
		c.UserMicros, c.SystemMicros, c.StealMicros = pick(stat, "user_usec"), pick(stat, "system_usec"), pick(stat, "throttled_usec")
		return nil
	}
	mount := g.c.v1of["cpuacct"]
	if mount == "" {
		return errors.New("this host has no cpuacct controller")
	}
	for file, into := range map[string]*int64{"cpuacct.usage_user": &c.UserMicros, "cpuacct.usage_sys": &c.SystemMicros} {
		nanos, err := readNumber(filepath.Join(mount, g.path, file))
		if err != nil {
			return err
		}
		*into = nanos / 1000
	}
	if mount := g.c.v1of["cpu"]; mount != "" {
		if stat, err := readPairs(filepath.Join(mount, g.path, "cpu.stat")); err == nil && pick(stat, "throttled_time") != core.Unknown {
			c.StealMicros = stat["throttled_time"] / 1000
		}
	}
	return nil
}

// meterLink reads the host's end of the node's network: what the host receives there, the node has sent. The name may be
// too long for a name and is found as an alternative one then.
func meterLink(c *core.Counters, name string) error {
	link, err := netlink.LinkByName(name)
	if err != nil {
		return err
	}
	s := link.Attrs().Statistics
	if s == nil {
		return fmt.Errorf("interface %s has no statistics", name)
	}
	c.RxBytes, c.RxPackets = int64(s.TxBytes), int64(s.TxPackets)
	c.TxBytes, c.TxPackets = int64(s.RxBytes), int64(s.RxPackets)
	return nil
}

// meterDisks adds up the loop devices behind the node's disk and the volumes attached to it, and returns their numbers.
func meterDisks(c *core.Counters, stateDir, nodeDir, id string) ([]int, error) {
	files := []string{filepath.Join(nodeDir, fileDisk)}
	entries, err := os.ReadDir(filepath.Join(nodeDir, dirDev))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	for _, e := range entries {
		// The node can make files here too; only what the volume's own record confirms is one.
		var v volume
		if dir := volumeDir(stateDir, e.Name()); readJSON(filepath.Join(dir, fileVolume), &v) == nil && v.Node == id {
			files = append(files, filepath.Join(dir, fileDisk))
		}
	}
	var loops []int
	for _, file := range files {
		num, ok := loopNumbers.of(file)
		if !ok {
			return nil, fmt.Errorf("%s has no loop device", file)
		}
		if err := meterLoop(c, num); err != nil {
			return nil, err
		}
		loops = append(loops, num)
	}
	return loops, nil
}

const sectorBytes = 512 // in /sys/block/*/stat, whatever the device's own are

// meterLoop adds what a loop device has read and written.
func meterLoop(c *core.Counters, num int) error {
	file := "/sys/block/loop" + strconv.Itoa(num) + "/stat"
	data, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	reads, sectorsRead, writes, sectorsWritten, ok := parseDiskStat(string(data))
	if !ok {
		return fmt.Errorf("%s reads %q", file, data)
	}
	c.Reads, c.ReadBytes = max(c.Reads, 0)+reads, max(c.ReadBytes, 0)+sectorsRead*sectorBytes
	c.Writes, c.WriteBytes = max(c.Writes, 0)+writes, max(c.WriteBytes, 0)+sectorsWritten*sectorBytes
	return nil
}

// parseDiskStat reads fields 1, 3, 5 and 7 of a block device's stat file (Documentation/block/stat.rst).
func parseDiskStat(text string) (reads, sectorsRead, writes, sectorsWritten int64, ok bool) {
	fields := strings.Fields(text)
	if len(fields) < 7 {
		return 0, 0, 0, 0, false
	}
	var numbers [7]int64
	for i := range numbers {
		n, err := strconv.ParseInt(fields[i], 10, 64)
		if err != nil {
			return 0, 0, 0, 0, false
		}
		numbers[i] = n
	}
	return numbers[0], numbers[2], numbers[4], numbers[6], true
}

// loopCache remembers which loop device has which file behind it, because finding out means to look at all of them.
type loopCache struct {
	mu  sync.Mutex // protects the field below
	num map[string]int
}

var loopNumbers loopCache // of this host

// of finds the loop device of a file. What is remembered is checked first.
func (l *loopCache) of(file string) (int, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if num, ok := l.num[file]; ok {
		data, err := os.ReadFile("/sys/block/loop" + strconv.Itoa(num) + "/loop/backing_file")
		if err == nil && strings.TrimSuffix(string(data), "\n") == file {
			return num, true
		}
	}
	l.num = map[string]int{}
	for num, backing := range loopsBelow("") { // of everybody: the next question is about another one
		l.num[backing] = num
	}
	num, ok := l.num[file]
	return num, ok
}

// readNumber reads a file that holds one number.
func readNumber(file string) (int64, error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return 0, err
	}
	return strconv.ParseInt(strings.TrimSpace(string(data)), 10, 64)
}

// readPairs reads lines of a word and a number.
func readPairs(file string) (map[string]int64, error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	pairs := map[string]int64{}
	for line := range strings.Lines(string(data)) {
		word, number, _ := strings.Cut(strings.TrimSpace(line), " ")
		if n, err := strconv.ParseInt(number, 10, 64); err == nil {
			pairs[word] = n
		}
	}
	return pairs, nil
}

func pick(pairs map[string]int64, word string) int64 {
	if n, ok := pairs[word]; ok {
		return n
	}
	return core.Unknown
}
