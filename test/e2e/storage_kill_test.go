//go:build e2e

package e2e

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// failpointFile says at which step boundary an agent that was built for it is killed; see agent/failpoint_on.go.
const failpointFile = "run/reeve-failpoint"

// killedStorage is a node whose agent is killed while it changes volumes of the node's cloud.
type killedStorage struct {
	*nodeCalls
	node node
	root string // of the node's files, seen from this machine
}

// killable gives a node an agent that can be told to die at a step boundary, and that systemd starts again at once.
func (s *site) killable(t *testing.T, node node) *killedStorage {
	t.Helper()
	program := filepath.Join(t.TempDir(), "reeve-agent")
	build := exec.Command("go", "build", "-tags", "failpoint", "-o", program, "./agent")
	build.Dir, build.Env = top, append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build the agent: %v\n%s", err, out)
	}
	k := &killedStorage{&nodeCalls{T: t, s: s, node: node.Name}, node, filepath.Join(s.processIn(node, "systemd"), "root")}
	faster := filepath.Join(k.root, "etc/systemd/system/reeve-agent.service.d/e2e.conf")
	data, err := os.ReadFile(program)
	for _, step := range []func() error{
		func() error { return err },
		func() error { return os.WriteFile(filepath.Join(k.root, "usr/bin/reeve-agent.new"), data, 0o755) },
		func() error {
			return os.Rename(filepath.Join(k.root, "usr/bin/reeve-agent.new"), filepath.Join(k.root, "usr/bin/reeve-agent"))
		},
		func() error { return os.MkdirAll(filepath.Dir(faster), 0o755) },
		func() error { return os.WriteFile(faster, []byte("[Service]\nRestartSec=100ms\n"), 0o644) },
	} {
		if err := step(); err != nil {
			t.Fatal(err)
		}
	}
	k.nodeCalls.sh("systemctl daemon-reload")
	k.kill()
	return k
}

// kill kills the node's agent and waits for the next one.
func (k *killedStorage) kill() {
	k.Helper()
	pid, err := strconv.Atoi(filepath.Base(k.s.processIn(k.node, "reeve-agent")))
	if err == nil {
		err = syscall.Kill(pid, syscall.SIGKILL)
	}
	if err != nil {
		k.Fatal(err)
	}
	k.awaitNext()
}

func (k *killedStorage) awaitNext() {
	k.Helper()
	k.s.await(time.Minute, "the next agent to answer", func() (bool, string) {
		out, err := k.try("system.get_hostname", dict{})
		return err == nil, out
	})
}

// state is what is there of volumes: on the node, in its cloud, and in the coordinator's store.
func (k *killedStorage) state() string {
	k.Helper()
	var lines []string
	read := func(file string) string {
		data, err := os.ReadFile(file)
		if err != nil {
			k.Fatal(err)
		}
		return string(data)
	}
	for line := range strings.Lines(read(filepath.Join(k.root, "etc/fstab"))) {
		lines = append(lines, "fstab "+line)
	}
	for line := range strings.Lines(read(filepath.Join(filepath.Dir(k.root), "mounts"))) {
		if strings.Contains(line, " /mnt/") {
			lines = append(lines, "mounted "+line)
		}
	}
	for _, dir := range []string{"mnt", "dev/reeve", "var/lib/reeve-agent/storage/journal"} {
		entries, err := os.ReadDir(filepath.Join(k.root, dir))
		if err != nil && !os.IsNotExist(err) {
			k.Fatal(err)
		}
		for _, e := range entries {
			lines = append(lines, dir+" "+e.Name())
		}
	}
	for kind, file := range map[string]string{"volumes": "volume.json", "snapshots": "snapshot.json"} {
		for _, id := range k.s.stateEntries(kind) {
			var record struct {
				ID       string
				Size     int64 `json:"size_bytes"`
				Node     string
				Complete bool
			}
			if err := json.Unmarshal([]byte(read(filepath.Join(k.s.dir, "data", "clouds", "nspawn", kind, id, file))), &record); err != nil {
				k.Fatal(err)
			}
			lines = append(lines, fmt.Sprintf("%s %+v", kind, record))
		}
	}
	rows, err := exec.Command("python3", "-c", `import sqlite3, sys
for row in sqlite3.connect(sys.argv[1]).execute("SELECT cloud_id, size_bytes FROM volume"):
    print("row", *row)`, filepath.Join(k.s.dir, "data", "reeve.db")).CombinedOutput()
	if err != nil {
		k.Fatalf("%v: %s", err, rows)
	}
	lines = append(lines, strings.Split(string(rows), "\n")...)
	for i := range lines {
		lines[i] = strings.TrimSpace(lines[i])
	}
	slices.Sort(lines)
	return strings.TrimSpace(strings.Join(lines, "\n"))
}

var madeID = regexp.MustCompile(`\b[vs]-[0-9a-z]{6,}\b`)

// linesOf are the lines of a state without the names of what was made, which differ each time.
func linesOf(state string) []string {
	lines := strings.Split(madeID.ReplaceAllString(state, "ID"), "\n")
	slices.Sort(lines)
	return lines
}

// without takes one of each of some lines out.
func without(lines, some []string) []string {
	lines = slices.Clone(lines)
	for _, line := range some {
		if i := slices.Index(lines, line); i >= 0 {
			lines = slices.Delete(lines, i, i+1)
		}
	}
	return lines
}

// effect is what a change does to a state, and how large it leaves the filesystem.
type effect struct {
	gone, come []string
	size       string
}

// seen says whether a state came of another one by the effect.
func (e effect) seen(before, after string) bool {
	want := append(without(linesOf(before), e.gone), e.come...)
	slices.Sort(want)
	return slices.Equal(want, linesOf(after))
}

var mountedVolume = dict{"volume": dict{"type": "nspawn", "size": 0.05, "fstype": "ext4", "mpoint": "/mnt/v"}, "mkfs": true, "mount": true, "fstab": true}

// killedChange is a change of a cloud's volume in which an agent, or the coordinator, is killed.
type killedChange struct {
	method string
	params func(volume dict) dict // of one that is mounted; create makes it
	action string                 // what the coordinator notes of it
}

var killedChanges = []killedChange{
	{"create", func(dict) dict { return mountedVolume }, "volume.create"},
	{"grow", func(v dict) dict { return dict{"volume": v, "growth": dict{"size": 0.1}} }, "volume.grow"},
	{"snapshot", func(v dict) dict { return dict{"volume": v} }, "volume.snapshot"},
	{"destroy", func(v dict) dict { return dict{"volume": v} }, "volume.destroy"},
}

// sh runs a script about /mnt/v from outside: it takes a tenth of the time.
func (k *killedStorage) sh(script string) string {
	k.Helper()
	return tool(k, "sh", "-ec", strings.ReplaceAll(script, "/mnt/v", filepath.Join(k.root, "mnt/v")))
}

// prepare makes the volume that a change is about, and says what is on it.
func (k *killedStorage) prepare(c killedChange) (volume dict, sum string) {
	k.Helper()
	if c.method == "create" {
		return nil, ""
	}
	volume = k.storage("create", mountedVolume)
	k.sh(fillVolume)
	return volume, k.sh(sumVolume)
}

// clear destroys the volume that is mounted, if one is.
func (k *killedStorage) clear(state string) {
	k.Helper()
	if id := regexp.MustCompile(`(?m)^mounted /dev/reeve/(\S+) /mnt/v `).FindStringSubmatch(state); id != nil {
		k.storage("destroy", dict{"volume": dict{"type": "nspawn", "id": id[1]}})
	}
	if err := os.Remove(filepath.Join(k.root, "mnt/v")); err != nil && !os.IsNotExist(err) {
		k.Fatal(err)
	}
}

// killedVolumes kills the agent of a node, and then the coordinator, in the middle of every change of a cloud's volume.
func (s *site) killedVolumes(t *testing.T, node node) {
	k := s.killable(t, node)
	for _, c := range killedChanges {
		t.Run(c.method, func(t *testing.T) {
			k.T = t
			e := k.undisturbed(c)
			t.Run("agent", func(t *testing.T) { k.T = t; k.killedEverywhere(c, e) })
			t.Run("coordinator", func(t *testing.T) { k.T = t; k.withoutCoordinator(c, e) })
		})
	}
}

// undisturbed makes a change without a kill.
func (k *killedStorage) undisturbed(c killedChange) (e effect) {
	k.Helper()
	volume, _ := k.prepare(c)
	before := linesOf(k.state())
	k.call("storage."+c.method, c.params(volume))
	after := k.state()
	e.gone, e.come = without(before, linesOf(after)), without(linesOf(after), before)
	if len(e.gone)+len(e.come) == 0 {
		k.Fatal("the change changes nothing")
	}
	if c.method == "grow" {
		e.size = k.sh(sizeVolume)
	}
	k.clear(after)
	return e
}

// killedEverywhere kills the agent at each step boundary of a change in turn. When the next agent answers, node, cloud and
// coordinator are as before the change, or as after all of it; the data are there; and the call can be repeated.
func (k *killedStorage) killedEverywhere(c killedChange, e effect) {
	k.Helper()
	undone, done := 0, 0
	for n, killed := 1, true; killed; n++ {
		volume, sum := k.prepare(c)
		before, out := k.state(), ""
		out, killed = k.killedAt(n, c, volume)
		after := k.state()
		whole := e.seen(before, after)
		switch {
		case whole && killed:
			done++
		case killed && after == before:
			undone++
		case !whole:
			k.Errorf("boundary %d, killed %v: got %s and\n%s\nbefore\n%s", n, killed, out, after, before)
		}
		hasData := c.method == "grow" || c.method == "snapshot" || c.method == "destroy" && !whole
		if hasData && k.sh(sumVolume) != sum {
			k.Errorf("boundary %d: the data changed", n)
		}
		if killed && !(c.method == "create" && whole) {
			k.call("storage."+c.method, c.params(volume))
		}
		if c.method == "grow" && (k.sh(sizeVolume) != e.size || k.sh(sumVolume) != sum) {
			k.Errorf("boundary %d, repeated: got %s MB, want %s and the same data", n, k.sh(sizeVolume), e.size)
		}
		k.clear(k.state())
	}
	k.Logf("killed at %d boundaries: taken back %d times, whole %d times", undone+done, undone, done)
	if undone < 2 || done < 1 {
		k.Error("these are too few to be all")
	}
}

// withoutCoordinator kills the coordinator once a change has begun, and starts it again: the change ends well.
func (k *killedStorage) withoutCoordinator(c killedChange, e effect) {
	k.Helper()
	volume, sum := k.prepare(c)
	before, noted := k.state(), len(k.s.told(c.action))
	ended := make(chan error, 1)
	go func() {
		out, err := k.try("storage."+c.method, c.params(volume))
		if err != nil {
			err = fmt.Errorf("%w: %s", err, out)
		}
		ended <- err
	}()
	k.s.await(time.Minute, "the coordinator to be asked", func() (bool, string) { return len(k.s.told(c.action)) > noted, "not yet" })
	if err := k.s.process.Process.Kill(); err != nil {
		k.Fatal(err)
	}
	<-k.s.exited
	k.s.start(0)
	if err := <-ended; err != nil {
		k.Error(err)
	}
	if after := k.state(); !e.seen(before, after) {
		k.Errorf("got\n%s\nbefore\n%s", after, before)
	}
	if (c.method == "grow" || c.method == "snapshot") && k.sh(sumVolume) != sum {
		k.Error("the data changed")
	}
	k.clear(k.state())
}

// killedAt makes a change whose agent dies at its nth boundary, and says whether it came so far. A next agent answers then.
func (k *killedStorage) killedAt(n int, c killedChange, volume dict) (out string, killed bool) {
	k.Helper()
	file := filepath.Join(k.root, failpointFile)
	if err := os.WriteFile(file, []byte(strconv.Itoa(n)), 0o600); err != nil {
		k.Fatal(err)
	}
	out, err := k.try("storage."+c.method, c.params(volume))
	if removed := os.Remove(file); removed == nil { // it was not the agent that did it
		if err != nil {
			k.Fatalf("storage.%s: %v\n%s", c.method, err, out)
		}
		return out, false
	}
	k.awaitNext()
	return out, true
}
