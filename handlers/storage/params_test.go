package storage

import (
	"strings"
	"testing"

	"github.com/reeve-paas/reeve/handlers/host/hosttest"
)

func TestConformanceParameters(t *testing.T) {
	h := hosttest.New(t)
	b := newBed(t, h.Host, stateDir, nil)
	type call struct{ name, method, text, params string }
	for _, c := range []call{
		{"60 create without volume", "create", "AssertionError: 'volume' is invalid, '<type 'dict'>' expected", `{}`},
		{"60 volume is a string", "create", "AssertionError: 'volume' is invalid, '<type 'dict'>' expected", `{"volume": "x"}`},
		{"60 volume is null", "detach", "AssertionError: 'volume' is invalid, '<type 'dict'>' expected", `{"volume": null}`},
		{"60 storage_config is the volume", "create", "KeyError: Unknown volume type 'none'. Have you registered it in storage2.volume_types?", `{"storage_config": {"type": "none"}}`},
		{"60 both names of the volume, unequal", "create", "AssertionError: 'volume' and 'storage_config' are one parameter, and differ", `{"storage_config": {"type": "loop"}, "volume": {"type": "base"}}`},
		{"60 both names of the volume, equal", "create", "KeyError: Unknown volume type 'none'", `{"storage_config": {"type": "none"}, "volume": { "type":"none"}}`},
		{"60 an unknown parameter", "create", "TypeError: create() got an unexpected keyword argument 'zzz'", `{"volume": {}, "zzz": 1}`},
		{"61 snapshot without id", "snapshot", "AssertionError: 'volume.id' can't be blank", `{"volume": {"type": "loop"}}`},
		{"61 detach without id", "detach", "AssertionError: 'volume.id' can't be blank", `{"volume": {"type": "loop", "id": ""}}`},
		{"61 destroy without id", "destroy", "AssertionError: 'volume.id' can't be blank", `{"volume": {"type": "loop", "id": null}, "odd": 1}`},
		{"61 replace_raid_disk without id", "replace_raid_disk", "AssertionError: 'volume.id' can't be blank", `{"volume": {"type": "raid"}, "index": 0, "disk": "/dev/sdx"}`},
		{"grow without id", "grow", "StorageError: Failed to grow volume: volume has no id.", `{"volume": {"type": "loop"}, "growth": {"size": 1}}`},
		{"grow of a type that cannot", "grow", "StorageError: tmpfs volume type does not' support grow.", `{"volume": {"type": "tmpfs", "id": "x"}, "growth": {"size": 1}}`},
		{"68 grow without growth", "grow", "TypeError: grow() takes at least 3 arguments (2 given)", `{"volume": {"type": "loop", "id": "x"}}`},
		{"snapshot without volume", "snapshot", "TypeError: snapshot() takes at least 2 arguments (1 given)", `{}`},
		{"description is a number", "snapshot", "AssertionError: 'description' is invalid, '<type 'basestring'>' expected", `{"volume": {"id": "x"}, "description": 5}`},
		{"tags are a list", "snapshot", "AssertionError: 'tags' is invalid, '<type 'dict'>' expected", `{"volume": {"id": "x"}, "tags": []}`},
		{"index is a string (D6)", "replace_raid_disk", "AssertionError: 'index' is invalid, '<type 'int'>' expected", `{"volume": {"id": "x", "type": "raid"}, "index": "0", "disk": "/dev/sdx"}`},
		{"growth is a number", "grow", "AssertionError: 'growth' is invalid, '<type 'dict'>' expected", `{"volume": {"id": "x", "type": "loop"}, "growth": 1}`},
		{"an unknown filesystem", "create", "KeyError: Unknown filesystem type 'ntfs'. Have you registered it in storage2.filesystem_types?", `{"volume": {"type": "loop", "fstype": "ntfs"}}`},
		{"loop without size and file", "create", "StorageError: You must specify size of a new loop device or existing file", `{"volume": {"type": "loop"}}`},
		{"base without device", "create", "AssertionError: Attribute should be specified: device", `{"volume": {}}`},
		{"mount without mpoint", "create", "AssertionError: Attribute should be specified: mpoint", `{"volume": {"device": "/dev/x"}, "mount": true}`},
		{"a volume that is gone", "snapshot", "VolumeNotExistsError: Volume not found: vol-loop-1. Most likely it was deleted.", `{"volume": {"type": "loop", "id": "vol-loop-1", "file": "/srv/gone"}}`},
		{"loop grow without size", "grow", "StorageError: Size argument is missing from grow config", `{"volume": {"type": "loop", "id": "x", "file": "/srv/f"}, "growth": {}}`},
		{"unknown raid level", "create", "StorageError: Unknown raid level: 7", `{"volume": {"type": "raid", "level": 7, "vg": "v", "disks": ["/dev/x"]}}`},
		{"raid10 does not grow", "grow", "StorageError: Raid10 doesn't support growth", `{"volume": {"type": "raid", "id": "x", "level": "10", "vg": "v", "disks": ["/dev/x"]}, "growth": {"disks_count": 3}}`},
		{"fewer disks", "grow", "StorageError: Disk count can only be increased.", `{"volume": {"type": "raid", "id": "x", "level": 1, "vg": "v", "disks": ["/dev/x", "/dev/y"]}, "growth": {"disks_count": 1}}`},
		{"as many disks", "grow", "NoOpError: Configurations are equal. Nothing to do", `{"volume": {"type": "raid", "id": "x", "level": 1, "vg": "v", "disks": ["/dev/x", "/dev/y"]}, "growth": {"disks_count": "2"}}`},
		{"eph without vg", "create", `StorageError: Missing ephemeral volume attribute "vg"`, `{"volume": {"type": "eph"}}`},
		{"eph without disk", "create", `StorageError: Missing "disk" or "disks" attribute`, `{"volume": {"type": "eph", "vg": "v"}}`},

		{"a mount point of the system", "create", "mpoint cannot be /etc/x: the system lives there", `{"volume": {"device": "/dev/x", "mpoint": "/etc/x"}}`},
		{"a mount point with dots", "create", "mpoint has to be an absolute path", `{"volume": {"device": "/dev/x", "mpoint": "/srv/../etc"}}`},
		{"a mount point with a line's end", "create", "mpoint has to be an absolute path", `{"volume": {"device": "/dev/x", "mpoint": "/srv/a\n/dev/x / ext4"}}`},
		{"a device that is a file", "create", "device has to lie below /dev", `{"volume": {"device": "/etc/passwd"}}`},
		{"a device that is an option", "create", "device has to be an absolute path", `{"volume": {"device": "-x"}}`},
		{"a file of the system", "create", "file cannot be /etc/passwd", `{"volume": {"type": "loop", "file": "/etc/passwd"}}`},
		{"a group that is an option", "create", "vg is no name that LVM takes", `{"volume": {"type": "lvm", "vg": "--force", "name": "a", "size": 1}}`},
		{"a size that is an option", "create", "size is none that LVM takes", `{"volume": {"type": "lvm", "vg": "v", "name": "a", "size": "1g --force"}}`},
		{"a member that is an option", "create", "device has to be an absolute path", `{"volume": {"type": "lvm", "vg": "v", "name": "a", "size": 1, "pvs": ["--force"]}}`},
		{"a snapshot that is a string", "create", "'snap' is invalid, '<type 'dict'>' expected", `{"volume": {"type": "loop", "snap": "snap-1"}}`},
		{"volumes in volumes in volumes", "create", "too deeply", `{"volume": {"type":"lvm","pvs":[{"type":"lvm","pvs":[{"type":"lvm","pvs":[{"type":"lvm","pvs":[{"type":"lvm","pvs":[{"type":"lvm"}]}]}]}]}]}}`},
	} {
		t.Run(c.name, func(t *testing.T) {
			h.WriteText("/srv/f", "content")
			before, calls := h.Tree("/"), len(h.Calls())
			_, err := b.methods[c.method].Call(t.Context(), []byte(c.params))
			if got := messageOf(err); len(got) < len(c.text) || !strings.Contains(got, c.text) {
				t.Errorf("got %q, want %q", got, c.text)
			}
			if h.Tree("/") != before {
				t.Errorf("the host changed: %s", h.Tree("/"))
			}
			if len(h.Calls()) != calls {
				t.Errorf("got calls %v, want none", h.Calls()[calls:])
			}
		})
	}
}
