//go:build e2e

package e2e

import (
	"errors"
	"fmt"
	"regexp"
	"strings"
	"testing"

	"github.com/reeve-paas/reeve/agent/agentapi"
	"github.com/reeve-paas/reeve/agent/agentclient"
	"github.com/reeve-paas/reeve/test/hosts"
)

// storageHost is a host whose storage is driven over RPC.
type storageHost struct {
	*hosts.Host
	client *agentclient.Client
}

// call calls a method of storage and returns the volume that it answers.
func (s storageHost) call(t *testing.T, method string, params dict) dict {
	t.Helper()
	var volume dict
	if err := s.client.Call(t.Context(), "storage."+method, params, &volume); err != nil {
		t.Fatalf("storage.%s: %v", method, err)
	}
	return volume
}

// refuses wants a method to end with an error of code -32603 that contains the text.
func (s storageHost) refuses(t *testing.T, text, method string, params dict) {
	t.Helper()
	var answer any
	err := s.client.Call(t.Context(), "storage."+method, params, &answer)
	wantRefusal(t, err, text)
	if e, ok := errors.AsType[*agentapi.Error](err); ok && e.Code != agentapi.CodeInternal {
		t.Errorf("storage.%s: got code %d, want %d", method, e.Code, agentapi.CodeInternal)
	}
}

// sh runs a script on the host.
func (s storageHost) sh(t *testing.T, script string) string {
	t.Helper()
	return s.Exec(t, "sh", "-ec", script)
}

// disks are the loop devices of the files below /srv/disks, and those files.
const disks = `losetup --list --noheadings --output BACK-FILE | grep /srv/disks | sort || true; ls /srv/disks`

// TestStorageOnARealHost proves items 60 to 69 of spec agent-core 8 over RPC. Item 70 needs a kernel with device-mapper and md
// and is proved on one of its own (make test-kernel); volumes of a cloud are in storage_test.go.
func TestStorageOnARealHost(t *testing.T) {
	t.Parallel()
	h := hosts.Boot(t, hosts.Options{Name: "storage", Agent: true})
	s := storageHost{h, connect(t, h, h.Key())}
	s.sh(t, makeLoops+`; mkdir -p /srv/disks`)
	before := s.sh(t, stateOfFS)
	small := dict{"type": "loop", "size": 0.05, "file": "/srv/disks/v.img", "fstype": "ext4", "mpoint": "/mnt/v"}
	all := func(volume dict) dict { return dict{"volume": volume, "mkfs": true, "mount": true, "fstab": true} }

	t.Run("60 create without a volume", func(t *testing.T) {
		s.refuses(t, "'volume' is invalid, '<type 'dict'>' expected", "create", dict{})
		s.refuses(t, "Unknown volume type 'none'. Have you registered it in storage2.volume_types?", "create", dict{"storage_config": dict{"type": "none"}})
	})
	t.Run("61 snapshot, detach and destroy without an id", func(t *testing.T) {
		for _, method := range []string{"snapshot", "detach", "destroy"} {
			s.refuses(t, "'volume.id' can't be blank", method, dict{"volume": dict{"type": "loop", "file": "/srv/disks/v.img"}})
		}
	})
	var v dict
	var want string
	t.Run("62 unknown members come back, fscreated does not", func(t *testing.T) {
		odd := dict{"odd": dict{"kept": true}, "fscreated": 1}
		for name, value := range small {
			odd[name] = value
		}
		v = s.call(t, "create", all(odd))
		if _, has := v["fscreated"]; fmt.Sprint(v["odd"]) != "map[kept:true]" || has {
			t.Errorf("got %v", v)
		}
	})
	t.Run("63 a loop volume of 51 MB with ext4, and the same call with its result", func(t *testing.T) {
		if !regexp.MustCompile(`^vol-loop-[0-9a-f]{8}$`).MatchString(fmt.Sprint(v["id"])) || v["version"] != "2.0" || v["snap"] != nil {
			t.Errorf("got %v", v)
		}
		wantText(t, h, fmt.Sprintf("%s ext4 /srv/disks/v.img 53477376", v["device"]), "sh", "-c",
			`set -- $(findmnt --noheadings --output SOURCE,FSTYPE /mnt/v); echo $1 $2 $(losetup --noheadings --output BACK-FILE $1) $(blockdev --getsize64 $1)`)
		s.sh(t, fillVolume)
		want = s.sh(t, sumVolume)
		if again := s.call(t, "create", all(v)); fmt.Sprint(again) != fmt.Sprint(v) || s.sh(t, sumVolume) != want {
			t.Errorf("again: got %v with %s, want %v with %s", again, s.sh(t, sumVolume), v, want)
		}
	})
	t.Run("65 one line of fstab, which detach removes", func(t *testing.T) {
		wantText(t, h, fmt.Sprintf("%s /mnt/v ext4 defaults,comment=scalr,nofail 0 0", v["device"]), "grep", "/mnt/v", "/etc/fstab")
		device := v["device"]
		if v = s.call(t, "detach", dict{"volume": v, "anything": 1}); v["device"] != nil || v["file"] != "/srv/disks/v.img" {
			t.Errorf("got %v", v)
		}
		wantText(t, h, before+"\nv.img", "sh", "-c", "rmdir /mnt/v;"+stateOfFS+";"+disks)
		if out, err := h.Try(t, "losetup", fmt.Sprint(device)); err == nil {
			t.Errorf("%s is not free: %s", device, out)
		}
	})
	t.Run("64 mkfs keeps a filesystem that is there, and tells it", func(t *testing.T) {
		v["fstype"] = "xfs"
		if v = s.call(t, "create", all(v)); v["fstype"] != "ext4" || s.sh(t, sumVolume) != want {
			t.Errorf("got %v with %s, want ext4 with %s", v, s.sh(t, sumVolume), want)
		}
	})
	t.Run("66 a snapshot is a copy of the file, which restores", func(t *testing.T) {
		snap := s.call(t, "snapshot", dict{"volume": v, "description": "before", "tags": dict{"a": "b"}})
		if file := fmt.Sprint(snap["file"]); snap["type"] != "loop" || !strings.HasPrefix(file, "/srv/disks/v.img.snap.") || snap["description"] != "before" || fmt.Sprint(snap["tags"]) != "map[a:b]" {
			t.Errorf("got %v", snap)
		}
		s.sh(t, `rm -r /mnt/v/sub; sync`)
		restored := s.call(t, "create", dict{"volume": dict{"type": "loop", "snap": snap, "mpoint": "/mnt/r"}, "mount": true})
		if got := s.sh(t, strings.ReplaceAll(sumVolume, "/mnt/v", "/mnt/r")); got != want || restored["snap"] != nil || restored["id"] == v["id"] || restored["file"] == v["file"] {
			t.Errorf("got %v with %s, want %s", restored, got, want)
		}
		s.call(t, "destroy", dict{"volume": restored, "force": true})
		s.sh(t, fmt.Sprintf(`rmdir /mnt/r; rm %s`, snap["file"]))
		want = s.sh(t, sumVolume)
	})
	t.Run("68 growth that is none", func(t *testing.T) {
		s.refuses(t, "New loop device size is less than current.", "grow", dict{"volume": v, "growth": dict{"size": 0.04}})
		s.refuses(t, "TypeError: ", "grow", dict{"volume": v})
		if got := s.sh(t, sumVolume); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	})
	t.Run("67 a growth that fails leaves the old volume mounted and nothing of the new one", func(t *testing.T) {
		state := stateOfFS + ";" + disks
		was := s.sh(t, state)
		s.sh(t, `mv /usr/sbin/resize2fs /usr/sbin/resize2fs.away`)
		s.refuses(t, "Volume growth failed: ", "grow", dict{"volume": v, "growth": dict{"size": 0.1}})
		s.sh(t, `mv /usr/sbin/resize2fs.away /usr/sbin/resize2fs`)
		if got := s.sh(t, sumVolume); got != want || s.sh(t, state) != was {
			t.Errorf("got %s and %s, want %s and %s", got, s.sh(t, state), want, was)
		}
	})
	t.Run("69 destroy keeps the file, and with force it does not", func(t *testing.T) {
		v = s.call(t, "destroy", dict{"volume": v})
		wantText(t, h, before+"\nv.img", "sh", "-c", "rmdir /mnt/v;"+stateOfFS+";"+disks)
		if gone := s.call(t, "destroy", dict{"volume": v, "force": true}); v["device"] != nil || gone["device"] != nil {
			t.Errorf("got %v, and with force %v", v, gone)
		}
		wantText(t, h, "", "ls", "/srv/disks")
		s.refuses(t, "VolumeNotExistsError: Volume not found: "+fmt.Sprint(v["id"]), "create", dict{"volume": v})
	})
	for _, c := range []struct {
		fstype   string
		from, to float64
	}{{"ext3", 0.05, 0.1}, {"ext4", 0.05, 0.1}, {"xfs", 0.3, 0.4}, {"btrfs", 0.15, 0.3}} {
		t.Run("67 "+c.fstype+" grows", func(t *testing.T) {
			v := s.call(t, "create", all(dict{"type": "loop", "size": c.from, "file": "/srv/disks/" + c.fstype + ".img", "fstype": c.fstype, "mpoint": "/mnt/v"}))
			s.sh(t, fillVolume)
			want, size := s.sh(t, sumVolume), s.sh(t, sizeVolume)
			bigger := s.call(t, "grow", dict{"volume": v, "growth": dict{"size": c.to}})
			if got := s.sh(t, sumVolume); got != want || s.sh(t, sizeVolume) == size || bigger["id"] == v["id"] || bigger["fstype"] != c.fstype {
				t.Errorf("got %v with %s of %s MB, want %s of more than %s MB", bigger, got, s.sh(t, sizeVolume), want, size)
			}
			wantText(t, h, fmt.Sprintf("%s\n%d", bigger["device"], int64(c.to*1024)<<20), "sh", "-c",
				`findmnt --noheadings --output SOURCE /mnt/v; blockdev --getsize64 $(findmnt --noheadings --output SOURCE /mnt/v)`)
			wantText(t, h, fmt.Sprintf("%s /mnt/v %s defaults,comment=scalr,nofail 0 0", bigger["device"], c.fstype), "grep", "/mnt/v", "/etc/fstab")
			s.sh(t, fmt.Sprintf(`test -f %s`, v["file"])) // the old one stays, detached
			for _, volume := range []dict{bigger, v} {
				s.call(t, "destroy", dict{"volume": volume, "force": true})
			}
			wantText(t, h, before, "sh", "-c", "rmdir /mnt/v;"+stateOfFS+";"+disks)
		})
	}
	t.Run("a volume in memory", func(t *testing.T) {
		v := s.call(t, "create", dict{"volume": dict{"type": "tmpfs", "size": 8, "mpoint": "/mnt/v"}, "mount": true, "fstab": true})
		wantText(t, h, "8\n1", "sh", "-c", sizeVolume+`; grep -c ' /mnt/v tmpfs ' /etc/fstab`)
		s.call(t, "destroy", dict{"volume": v})
		wantText(t, h, before, "sh", "-c", "rmdir /mnt/v;"+stateOfFS)
	})
}
