package storage

import (
	"bytes"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode"

	"github.com/reeve-paas/reeve/agent/agentapi"
	"github.com/reeve-paas/reeve/handlers/host"
)

// configVersion is that of the form of configurations.
const configVersion = "2.0"

// maxDepth bounds volumes that are made of volumes.
const maxDepth = 4

// volume is a volume's configuration while it is worked on. Members that nobody knows stay as they came.
type volume struct{ agentapi.StorageConfig }

// members every volume has, with their defaults.
var common = map[string]any{
	"version": configVersion, "type": "base", "id": nil, "device": nil, "fstype": "ext3", "mpoint": nil, "snap": nil,
	"tags": map[string]string{}, "recreate_if_missing": false,
}

// parse completes a configuration with the defaults of its type and checks what will become paths and arguments.
func (s *Service) parse(c agentapi.StorageConfig) (*volume, error) { return s.parseAt(c, 0) }

func (s *Service) parseAt(c agentapi.StorageConfig, depth int) (*volume, error) {
	if depth > maxDepth {
		return nil, assertion("volumes lie in one another too deeply")
	}
	v := &volume{maps.Clone(c)}
	delete(v.StorageConfig, "fscreated")
	if old, ok := v.StorageConfig["from_template_if_missing"]; ok {
		if _, both := v.StorageConfig["recreate_if_missing"]; !both {
			v.StorageConfig["recreate_if_missing"] = old
		}
		delete(v.StorageConfig, "from_template_if_missing")
	}
	v.fill(common)
	d := s.drivers[v.text("type")]
	if d == nil {
		return nil, agentapi.Errorf(agentapi.KindInvalid, "KeyError", "Unknown volume type '%.40s'. Have you registered it in storage2.volume_types?", v.text("type"))
	}
	v.fill(d.defaults())
	if err := v.check(); err != nil {
		return nil, err
	}
	for _, list := range []string{"pvs", "disks"} {
		if err := s.parseMembers(v, list, depth); err != nil {
			return nil, err
		}
	}
	if raw, ok := v.StorageConfig["disk"]; ok && string(raw) != "null" {
		disk, err := s.parseMemberAt(raw, depth)
		if err != nil {
			return nil, err
		}
		v.set("disk", disk.StorageConfig)
	}
	return v, nil
}

// parseExisting is parse of a volume that has an id.
func (s *Service) parseExisting(c agentapi.StorageConfig) (*volume, error) {
	if c.Text("id") == "" {
		return nil, assertion("'volume.id' can't be blank")
	}
	return s.parse(c)
}

// parseMembers completes the volumes of a list that another one is made of.
func (s *Service) parseMembers(v *volume, list string, depth int) error {
	raw, ok := v.StorageConfig[list]
	if !ok || string(raw) == "null" {
		return nil
	}
	var items []json.RawMessage
	if err := json.Unmarshal(raw, &items); err != nil {
		return assertion("'%s' is invalid, '<type 'list'>' expected", list)
	}
	parsed := []agentapi.StorageConfig{}
	for _, item := range items {
		m, err := s.parseMemberAt(item, depth)
		if err != nil {
			return err
		}
		parsed = append(parsed, m.StorageConfig)
	}
	v.set(list, parsed)
	return nil
}

func (s *Service) parseMember(raw json.RawMessage) (*volume, error) { return s.parseMemberAt(raw, 0) }

// parseMemberAt reads a volume that may be given as the path of its device.
func (s *Service) parseMemberAt(raw json.RawMessage, depth int) (*volume, error) {
	var device string
	if json.Unmarshal(raw, &device) == nil && string(raw) != "null" {
		v := &volume{agentapi.StorageConfig{}}
		v.set("type", "base")
		v.set("device", device)
		return s.parseAt(v.StorageConfig, depth+1)
	}
	var c agentapi.StorageConfig
	if json.Unmarshal(raw, &c) != nil || c == nil {
		return nil, assertion("'disk' is invalid, '<type 'dict'>' expected")
	}
	return s.parseAt(c, depth+1)
}

// members are the volumes of a list, which parse has checked.
func (v *volume) members(list string) []*volume {
	var configs []agentapi.StorageConfig
	if raw, ok := v.StorageConfig[list]; !ok || json.Unmarshal(raw, &configs) != nil {
		return nil
	}
	var volumes []*volume
	for _, c := range configs {
		volumes = append(volumes, &volume{c})
	}
	return volumes
}

func (v *volume) setMembers(list string, volumes []*volume) {
	configs := []agentapi.StorageConfig{}
	for _, m := range volumes {
		configs = append(configs, m.StorageConfig)
	}
	v.set(list, configs)
}

func (v *volume) fill(defaults map[string]any) {
	for member, value := range defaults {
		if _, sent := v.StorageConfig[member]; !sent {
			v.set(member, value)
		}
	}
}

func (v *volume) clone() *volume { return &volume{maps.Clone(v.StorageConfig)} }

func (v *volume) kind() string { return v.text("type") }

func (v *volume) text(member string) string { return v.StorageConfig.Text(member) }

func (v *volume) set(member string, value any) {
	raw, err := json.Marshal(value)
	if err != nil {
		panic(fmt.Sprintf("%s of a volume: %v", member, err)) // values are ours
	}
	v.StorageConfig[member] = raw
}

// flag reads a boolean in any of the forms old callers send.
func (v *volume) flag(member string) bool {
	var b agentapi.Bool
	return json.Unmarshal(v.StorageConfig[member], &b) == nil && bool(b)
}

// number reads a positive number, which may come as a string; ok is false when the member is null, absent or "".
func number(c agentapi.StorageConfig, member string) (n float64, ok bool, err error) {
	text := c.Text(member)
	if text == "" {
		if raw := bytes.TrimSpace(c[member]); len(raw) > 0 && string(raw) != "null" && string(raw) != `""` {
			return 0, false, assertion("'%s' is invalid, a number is expected", member)
		}
		return 0, false, nil
	}
	n, err = strconv.ParseFloat(text, 64)
	if err != nil || math.IsNaN(n) || n <= 0 || n > 1<<40 {
		return 0, false, assertion("'%s' is invalid, a number above 0 is expected: %.40q", member, text)
	}
	return n, true, nil
}

// snap is the configuration of the snapshot to restore from; nil when there is none.
func (v *volume) snap() agentapi.StorageConfig {
	var c agentapi.StorageConfig
	if raw := v.StorageConfig["snap"]; len(raw) == 0 || json.Unmarshal(raw, &c) != nil || len(c) == 0 {
		return nil
	}
	return c
}

var (
	lvmName = regexp.MustCompile(`^[A-Za-z0-9_+.][A-Za-z0-9_+.-]{0,99}$`)
	lvmSize = regexp.MustCompile(`^[0-9]+(\.[0-9]+)?([bBsSkKmMgGtTpPeE]|%(VG|FREE|PVS|ORIGIN))?$`)
)

// fstypes are the filesystems the old agent knew, and btrfs.
var fstypes = host.Filesystems()

// check looks at what becomes a path or an argument of a command.
func (v *volume) check() error {
	if raw := bytes.TrimSpace(v.StorageConfig["snap"]); len(raw) > 0 && raw[0] != '{' && string(raw) != "null" {
		return notDict("snap")
	}
	if fstype := v.text("fstype"); !slices.Contains(fstypes, fstype) {
		return agentapi.Errorf(agentapi.KindInvalid, "KeyError", "Unknown filesystem type '%.40s'. Have you registered it in storage2.filesystem_types?", fstype)
	}
	for _, member := range []string{"device", "mpoint", "file", "raid_pv"} {
		if err := checkPath(member, v.text(member)); err != nil {
			return err
		}
	}
	if mpoint := v.text("mpoint"); mpoint != "" && host.SystemPath(mpoint) {
		return assertion("mpoint cannot be %s: the system lives there", mpoint)
	}
	if device := v.text("device"); v.kind() != "tmpfs" && device != "" && !strings.HasPrefix(device, "/dev/") {
		return assertion("device has to lie below /dev, not %.200q", device)
	}
	if file := v.text("file"); file != "" && host.SystemPath(file) {
		return assertion("file cannot be %s: the system lives there", file)
	}
	lvm := v.kind() == "lvm" || v.kind() == "raid" || v.kind() == "eph"
	for _, member := range []string{"vg", "name"} {
		if name := v.text(member); lvm && name != "" && (!lvmName.MatchString(name) || name == "." || name == "..") {
			return assertion("%s is no name that LVM takes: %.100q", member, name)
		}
	}
	if size := v.text("size"); v.kind() == "lvm" && size != "" && !lvmSize.MatchString(size) {
		return assertion("size is none that LVM takes: %.40q", size)
	}
	return nil
}

// checkPath wants an absolute path in its shortest form, of characters one can see; or nothing.
func checkPath(member, p string) error {
	if p == "" {
		return nil
	}
	strange := func(r rune) bool { return !unicode.IsPrint(r) || r == unicode.ReplacementChar }
	if p[0] != '/' || path.Clean(p) != p || len(p) > 1000 || strings.ContainsFunc(p, strange) {
		return assertion("%s has to be an absolute path in its shortest form, not %.200q", member, p)
	}
	return nil
}

// newID makes up what names a volume or a snapshot: "vol-loop-1a2b3c4d".
func newID(prefix, kind string) string {
	var b [4]byte
	_, _ = rand.Read(b[:])
	return prefix + "-" + kind + "-" + hex.EncodeToString(b[:])
}

// newSnapshot is a snapshot's configuration with what every one has.
func newSnapshot(kind string, l label) *volume {
	s := &volume{agentapi.StorageConfig{}}
	s.set("version", configVersion)
	s.set("type", kind)
	s.set("id", newID("snap", kind))
	tags := l.tags
	if tags == nil {
		tags = map[string]agentapi.Text{}
	}
	s.set("tags", tags)
	if l.description != "" {
		s.set("description", l.description)
	}
	return s
}
