package host

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"time"

	"github.com/reeve-paas/reeve/agent/agentapi"
)

// MountsFile is what is mounted, in the form of proc_pid_mountinfo(5).
const MountsFile = "/proc/self/mountinfo"

// moveTimeout is that of mount and umount, which may have a journal to replay or much to write.
const moveTimeout = 5 * time.Minute

// Mount is one line of mountinfo.
type Mount struct {
	Number  string // major:minor
	Root    string // directory of the filesystem that is mounted
	MPoint  string
	FSType  string
	Source  string
	Options string // of this mount, e.g. "rw,noatime"
}

// ParseMounts reads a text of mountinfo.
func ParseMounts(text []byte) []Mount {
	var mounts []Mount
	for line := range strings.Lines(string(text)) {
		before, after, found := strings.Cut(line, " - ")
		front, back := strings.Fields(before), strings.Fields(after)
		if !found || len(front) < 6 || len(back) < 2 {
			continue
		}
		mounts = append(mounts, Mount{front[2], unescapeMount(front[3]), unescapeMount(front[4]), back[0], unescapeMount(back[1]), front[5]})
	}
	return mounts
}

// MountedAt is what is visible at a mount point: the last one mounted there.
func MountedAt(mounts []Mount, mpoint string) (Mount, bool) {
	for i := len(mounts) - 1; i >= 0; i-- {
		if mounts[i].MPoint == mpoint {
			return mounts[i], true
		}
	}
	return Mount{}, false
}

// Mounts are the mounts of this host, in the order they were made.
func (h *Host) Mounts() ([]Mount, error) {
	text, err := h.ReadFile(MountsFile)
	return ParseMounts(text), err
}

// MountsOf are the mounts whose whole filesystem lies on a device; what is bound from one is not among them.
func (h *Host) MountsOf(mounts []Mount, device string) []Mount {
	var of []Mount
	for _, m := range mounts {
		if m.Root == "/" && h.SameDevice(m.Source, device) {
			of = append(of, m)
		}
	}
	return of
}

// SameDevice compares two device paths, following links such as those below /dev/disk.
func (h *Host) SameDevice(a, b string) bool {
	if a == b {
		return true
	}
	realA, err1 := filepath.EvalSymlinks(h.Path(a))
	realB, err2 := filepath.EvalSymlinks(h.Path(b))
	return err1 == nil && err2 == nil && realA == realB
}

// Mount mounts a device; options are those of mount(8) -o.
func (h *Host) Mount(ctx context.Context, fstype, device, mpoint string, options ...string) error {
	args := []string{"-t", fstype}
	if len(options) > 0 {
		args = append(args, "-o", strings.Join(options, ","))
	}
	return h.mount(ctx, append(args, h.Path(device), h.Path(mpoint))...)
}

// BindMount shows a directory at a second place.
func (h *Host) BindMount(ctx context.Context, source, target string) error {
	return h.mount(ctx, "--bind", h.Path(source), h.Path(target))
}

func (h *Host) mount(ctx context.Context, args ...string) error {
	if _, err := h.Run(ctx, Cmd{Path: "mount", Args: args, Timeout: moveTimeout}); err != nil {
		return &agentapi.Error{Kind: agentapi.KindInternal, Class: "FileSystemError", Text: err.Error(), Err: err}
	}
	return nil
}

// Unmount takes away what is visible at a mount point; it is a conflict while something uses it.
func (h *Host) Unmount(ctx context.Context, mpoint string) error {
	_, err := h.Run(ctx, Cmd{Path: "umount", Args: []string{h.Path(mpoint)}, Timeout: moveTimeout})
	if err == nil {
		return nil
	}
	return &agentapi.Error{Kind: agentapi.KindConflict, Class: "FileSystemError", Err: err,
		Text: "cannot unmount " + mpoint + ", something still uses it: " + err.Error()}
}

// SystemPath says that a path is the host's own, or of the kernel: no volume may cover it.
func SystemPath(p string) bool {
	switch top, _, _ := strings.Cut(strings.TrimPrefix(p, "/"), "/"); top {
	case "", "bin", "boot", "dev", "etc", "lib", "lib64", "proc", "sbin", "sys", "usr":
		return true
	}
	return false
}

// escapeMount writes what separates fields, in fstab and mountinfo, as octal numbers.
func escapeMount(s string) string {
	if !strings.ContainsAny(s, " \t\n\\") {
		return s
	}
	var b strings.Builder
	for i := range len(s) {
		if strings.IndexByte(" \t\n\\", s[i]) >= 0 {
			fmt.Fprintf(&b, `\%03o`, s[i])
		} else {
			b.WriteByte(s[i])
		}
	}
	return b.String()
}

// unescapeMount reads the octal escapes of both files ("\040" is a space).
func unescapeMount(s string) string {
	if !strings.Contains(s, `\`) {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+3 < len(s) && isOctal(s[i+1]) && isOctal(s[i+2]) && isOctal(s[i+3]) {
			b.WriteByte((s[i+1]-'0')<<6 | (s[i+2]-'0')<<3 | (s[i+3] - '0'))
			i += 3
			continue
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

func isOctal(c byte) bool { return c >= '0' && c <= '7' }

// GrowFilesystem lets a mounted filesystem fill its device, while it is in use. One that does is left alone.
//
// Errors: unsupported (the filesystem; or ErrGrowMounted is in it, and CheckAndGrow can do it unmounted), FileSystemError
func (h *Host) GrowFilesystem(ctx context.Context, m Mount) error {
	var cmd Cmd
	switch m.FSType {
	case "ext4", "ext3", "ext2":
		cmd = Cmd{Path: "resize2fs", Args: []string{h.Path(m.Source)}}
	case "xfs":
		cmd = Cmd{Path: "xfs_growfs", Args: []string{"-d", h.Path(m.MPoint)}}
	case "btrfs":
		cmd = Cmd{Path: "btrfs", Args: []string{"filesystem", "resize", "max", h.Path(m.MPoint)}}
	default:
		return &agentapi.Error{Kind: agentapi.KindUnsupported, Class: "FileSystemError", Text: "a filesystem of type " + m.FSType + " cannot be grown"}
	}
	cmd.Timeout = growTimeout
	out, err := h.Run(ctx, cmd)
	switch {
	case err == nil:
		return nil
	case cmd.Path == "resize2fs" && bytes.Contains(out.Stderr, []byte("Permission denied")):
		return &agentapi.Error{Kind: agentapi.KindUnsupported, Class: "FileSystemError", Err: ErrGrowMounted,
			Text: "grow " + m.MPoint + ": " + ErrGrowMounted.Error()}
	}
	return &agentapi.Error{Kind: agentapi.KindInternal, Class: "FileSystemError", Text: "grow " + m.MPoint + ": " + err.Error(), Err: err}
}

// ErrGrowMounted says that a filesystem can be grown only while it is not mounted: the kernel wants CAP_SYS_RESOURCE for the
// other, which not every container host gives away.
var ErrGrowMounted = errors.New("this host does not let a mounted ext4 grow")

const growTimeout = 10 * time.Minute

// CheckAndGrow checks an ext4 filesystem that is not mounted and lets it fill its device.
//
// Errors: FileSystemError, unavailable when its errors were corrected: ask again
func (h *Host) CheckAndGrow(ctx context.Context, device string) error {
	const corrected = 1 // e2fsck(8): there were errors, and the next time there are none
	kind := agentapi.KindInternal
	out, err := h.Run(ctx, Cmd{Path: "e2fsck", Args: []string{"-f", "-p", h.Path(device)}, Timeout: growTimeout})
	if out.Code == corrected {
		kind = agentapi.KindUnavailable
	}
	if err == nil {
		_, err = h.Run(ctx, Cmd{Path: "resize2fs", Args: []string{h.Path(device)}, Timeout: growTimeout})
	}
	if err != nil {
		return &agentapi.Error{Kind: kind, Class: "FileSystemError", Text: "grow " + device + ": " + err.Error(), Err: err}
	}
	return nil
}
