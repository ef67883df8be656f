package system

import (
	"bytes"
	"context"
	"encoding/json"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/reeve-paas/reeve/agent/agentapi"
	"github.com/reeve-paas/reeve/handlers"
)

// StatVFS tells how full the given filesystems are.
//
// Params:  {"mpoints": [mount point, …]}
// Result:  {mount point: {"total": KiB, "free": KiB} or null}; null where nothing is mounted or nothing answers
// Errors:  Exception `Argument "mpoints" should be a list of strings, not <type '…'>`
// Source:  spec agent-core 4.1
func (s *Service) StatVFS(ctx context.Context, p agentapi.StatVFSParams) (map[string]*agentapi.FSSize, error) {
	wanted, err := mountPointList(p.MPoints)
	if err != nil {
		return nil, err
	}
	table, err := s.mountTable()
	if err != nil {
		return nil, err
	}
	mounted := map[string]bool{}
	for _, m := range table {
		mounted[m.MPoint] = true
	}
	sizes := make(map[string]*agentapi.FSSize, len(wanted))
	for _, mpoint := range wanted {
		sizes[mpoint] = nil
		if mounted[mpoint] {
			sizes[mpoint] = s.size(ctx, mpoint)
		}
	}
	return sizes, nil
}

func (s *Service) size(ctx context.Context, mpoint string) *agentapi.FSSize {
	u, err := s.host.StatFS(ctx, mpoint)
	if err != nil {
		return nil
	}
	return &agentapi.FSSize{Total: u.SizeBytes / 1024, Free: u.AvailBytes / 1024}
}

// mountPointList reads the parameter; its error names the type in the words of the old agent.
func mountPointList(raw json.RawMessage) ([]string, error) {
	var list []json.RawMessage
	if len(raw) == 0 || json.Unmarshal(raw, &list) != nil || list == nil {
		return nil, mountPointError(pythonType(raw))
	}
	names := make([]string, len(list))
	for i, item := range list {
		if pythonType(item) != "unicode" {
			return nil, mountPointError(pythonType(item))
		}
		if err := json.Unmarshal(item, &names[i]); err != nil {
			return nil, err
		}
	}
	return names, nil
}

func mountPointError(kind string) error {
	return agentapi.Errorf(agentapi.KindInvalid, "Exception", `Argument "mpoints" should be a list of strings, not <type '%s'>`, kind)
}

func pythonType(raw json.RawMessage) string {
	text := strings.TrimSpace(string(raw))
	switch {
	case text == "" || text == "null":
		return "NoneType"
	case text == "true" || text == "false":
		return "bool"
	case text[0] == '"':
		return "unicode"
	case text[0] == '{':
		return "dict"
	case text[0] == '[':
		return "list"
	case strings.ContainsAny(text, ".eE"):
		return "float"
	}
	return "int"
}

// Mounts are the mounted filesystems that hold data.
//
// Params:  none
// Result:  {mount point: agentapi.Mount}, without tmpfs, devfs and what lies in /sys, /proc, /dev and /selinux
// Source:  spec agent-core 4.1
func (s *Service) Mounts(ctx context.Context, _ handlers.NoParams) (map[string]agentapi.Mount, error) {
	table, err := s.mountTable()
	if err != nil {
		return nil, err
	}
	mounts := map[string]agentapi.Mount{}
	for _, m := range table { // a later line of the same mount point lies over the earlier one
		if m.FSType == "tmpfs" || m.FSType == "devfs" || isKernelPath(m.MPoint) {
			continue
		}
		m.Device = s.resolve(m.Device)
		if size := s.size(ctx, m.MPoint); size != nil {
			m.Total, m.Free = &size.Total, &size.Free
		}
		mounts[m.MPoint] = m
	}
	return mounts, nil
}

func isKernelPath(p string) bool {
	for _, top := range []string{"/sys", "/proc", "/dev", "/selinux"} {
		if p == top || strings.HasPrefix(p, top+"/") {
			return true
		}
	}
	return false
}

// resolve follows the symbolic links of a device such as /dev/disk/by-uuid/….
func (s *Service) resolve(device string) string {
	if !strings.HasPrefix(device, "/") {
		return device
	}
	real, err := filepath.EvalSymlinks(s.host.Path(device))
	if err != nil {
		return device
	}
	return "/" + strings.TrimPrefix(strings.TrimPrefix(real, s.host.Path("/")), "/")
}

// mountTable is /proc/mounts in its order.
func (s *Service) mountTable() ([]agentapi.Mount, error) {
	data, err := s.host.ReadFile("/proc/mounts")
	if err != nil {
		return nil, err
	}
	var table []agentapi.Mount
	for line := range bytes.Lines(data) {
		f := strings.Fields(string(line))
		if len(f) < 6 {
			continue
		}
		table = append(table, agentapi.Mount{
			Device: unescape(f[0]), MPoint: unescape(f[1]), FSType: f[2], Options: f[3], Dump: f[4], FsckOrder: f[5],
		})
	}
	return table, nil
}

// unescape reads the octal form in which the kernel writes blanks, tabs, line ends and backslashes (proc(5), fstab(5)).
func unescape(s string) string {
	if !strings.Contains(s, `\`) {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+3 < len(s) {
			if c, err := strconv.ParseUint(s[i+1:i+4], 8, 8); err == nil {
				b.WriteByte(byte(c))
				i += 3
				continue
			}
		}
		b.WriteByte(s[i])
	}
	return b.String()
}
