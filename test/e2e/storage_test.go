//go:build e2e

package e2e

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
)

// nodeCalls calls the agent of a node as its operator does.
type nodeCalls struct {
	*testing.T
	s       *site
	node    string
	scripts int
}

// try calls a method with parameters that become JSON.
func (n *nodeCalls) try(method string, params any) (string, error) {
	n.Helper()
	text, err := json.Marshal(params)
	if err != nil {
		n.Fatal(err)
	}
	out, err := n.s.command("node", "call", n.node, method, string(text)).CombinedOutput()
	return strings.TrimSpace(string(out)), err
}

func (n *nodeCalls) call(method string, params any) string {
	n.Helper()
	out, err := n.try(method, params)
	if err != nil {
		n.Fatalf("%s %v: %v\n%s", method, params, err, out)
	}
	return out
}

// sh runs a script on the node and returns what it prints.
func (n *nodeCalls) sh(script string) string {
	n.Helper()
	n.scripts++
	id := fmt.Sprintf("storage-%d", n.scripts)
	n.call("system.execute_scripts", dict{"event_name": "Storage", "scripts": []dict{
		{"name": "look", "execution_id": id, "timeout": 60, "body": "#!/bin/sh\nexec 2>&1\nset -e\n" + script + "\necho done"}}})
	var logs struct{ Stdout string }
	if err := json.Unmarshal([]byte(n.call("system.get_script_logs", dict{"exec_script_id": id})), &logs); err != nil {
		n.Fatal(err)
	}
	out, err := base64.StdEncoding.DecodeString(strings.TrimSpace(logs.Stdout))
	text, ok := strings.CutSuffix(strings.TrimSpace(string(out)), "done")
	if err != nil || !ok {
		n.Fatalf("%s: %v\n%s", script, err, out)
	}
	return strings.TrimSpace(text)
}

// storage calls a method of storage and returns the volume that it answers.
func (n *nodeCalls) storage(method string, params dict) dict {
	n.Helper()
	var volume dict
	if err := json.Unmarshal([]byte(n.call("storage."+method, params)), &volume); err != nil {
		n.Fatal(err)
	}
	return volume
}

type dict = map[string]any

const (
	fillVolume = `head -c 3000000 /dev/urandom >/mnt/v/file; mkdir /mnt/v/sub; head -c 50000 /dev/urandom >/mnt/v/sub/file; sync`
	sumVolume  = `cd /mnt/v && find . -type f -not -path './lost+found*' | sort | xargs sha256sum | sha256sum`
	sizeVolume = `df --output=size -B1M /mnt/v | tail -1 | tr -d ' '`
	// makeLoops is what udev does on a machine that has one.
	makeLoops = `for i in $(seq 0 63); do [ -e /dev/loop$i ] || mknod -m 660 /dev/loop$i b 7 $i; done; [ -e /dev/loop-control ] || mknod /dev/loop-control c 10 237`
	stateOfFS = `cat /etc/fstab; grep /mnt/ /proc/mounts || true; ls /mnt; ls /dev/reeve 2>/dev/null || true`
)

// volumes drives every method of storage with volumes of a node's cloud, which its coordinator makes, attaches, grows, copies
// and destroys for it.
func (s *site) volumes(t *testing.T, node string) {
	n := &nodeCalls{T: t, s: s, node: node}
	t.Run("of the cloud", func(t *testing.T) {
		n.T = t
		before, had := n.sh(stateOfFS), s.stateEntries("volumes")
		v := n.storage("create", dict{"volume": dict{"type": "nspawn", "size": 0.1, "fstype": "ext4", "mpoint": "/mnt/v"}, "mkfs": true, "mount": true, "fstab": true})
		if device, _ := v["device"].(string); !strings.HasPrefix(device, "/dev/reeve/") || len(s.stateEntries("volumes")) != len(had)+1 {
			t.Fatalf("got %v", v)
		}
		if again := n.storage("create", dict{"volume": v, "mkfs": true, "mount": true, "fstab": true}); fmt.Sprint(again) != fmt.Sprint(v) {
			t.Errorf("again: got %v, want %v", again, v)
		}
		n.sh(fillVolume)
		want, size := n.sh(sumVolume), n.sh(sizeVolume)
		bigger := n.storage("grow", dict{"volume": v, "growth": dict{"size": 0.3}})
		if got := n.sh(sumVolume); got != want || bigger["id"] != v["id"] || n.sh(sizeVolume) == size {
			t.Errorf("after it grew: got %v with %s of %s MB, want %s and more than %s MB", bigger, got, n.sh(sizeVolume), want, size)
		}
		if lines := n.sh(`grep -c /mnt/v /etc/fstab`); lines != "1" {
			t.Errorf("got %s lines of fstab", lines)
		}
		snap := n.storage("snapshot", dict{"volume": bigger, "description": "before it is written to"})
		n.sh(`rm -r /mnt/v/sub; sync`)
		restored := n.storage("create", dict{"volume": dict{"type": "nspawn", "snap": snap, "fstype": "ext4", "mpoint": "/mnt/r"}, "mount": true})
		if got := n.sh(strings.ReplaceAll(sumVolume, "/mnt/v", "/mnt/r")); got != want || restored["id"] == v["id"] {
			t.Errorf("of the snapshot: got %v with %s, want %s", restored, got, want)
		}
		n.storage("destroy", dict{"volume": restored})
		want = n.sh(`rmdir /mnt/r; ` + sumVolume)
		detached := n.storage("detach", dict{"volume": bigger})
		if after := n.sh(`rmdir /mnt/v; ` + stateOfFS); detached["device"] != nil || after != before {
			t.Errorf("detached: got %v and %s, want %s", detached, after, before)
		}
		attached := n.storage("create", dict{"volume": detached, "mount": true})
		if got := n.sh(sumVolume); got != want || attached["id"] != v["id"] {
			t.Errorf("attached again: got %v with %s, want %s", attached, got, want)
		}
		n.storage("destroy", dict{"volume": attached})
		n.sh(`rmdir /mnt/v`)
		if after, has := n.sh(stateOfFS), s.stateEntries("volumes"); after != before || len(has) != len(had) {
			t.Errorf("got %s and volumes %v, want %s and %v", after, has, before, had)
		}
		if out, err := n.try("storage.create", dict{"volume": detached}); err == nil || !strings.Contains(out, "Volume not found: ") {
			t.Errorf("what is destroyed: got %s, %v", out, err)
		}
		if out, err := n.try("storage.create", dict{"volume": dict{"type": "ebs", "size": 1}}); err == nil || !strings.Contains(out, "EC2 connection required") {
			t.Errorf("another cloud's: got %s, %v", out, err)
		}
	})
}
