package host

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/reeve-paas/reeve/agent/agentapi"
)

const mkfsTimeout = 10 * time.Minute

// mkfs is how a filesystem is made: without touching every block first, which the kernel does later in the background.
var mkfs = map[string][]string{
	"ext3":  {"mkfs.ext3", "-q", "-m", "1", "-E", "lazy_itable_init=1,lazy_journal_init=1"},
	"ext4":  {"mkfs.ext4", "-q", "-m", "1", "-E", "lazy_itable_init=1,lazy_journal_init=1"},
	"xfs":   {"mkfs.xfs", "-q"},
	"btrfs": {"mkfs.btrfs", "-q"},
}

// Filesystems are the types that MakeFilesystem knows, in alphabetical order.
func Filesystems() []string { return slices.Sorted(maps.Keys(mkfs)) }

// MakeFilesystem makes a filesystem of a known type on a device that holds nothing; a program of mkfs refuses what is not
// blank, and is not forced.
func (h *Host) MakeFilesystem(ctx context.Context, device, fstype string) error {
	args := mkfs[fstype]
	if args == nil {
		return agentapi.Errorf(agentapi.KindInvalid, "FileSystemError", "%.40q is not one of %s", fstype, strings.Join(Filesystems(), ", "))
	}
	args = append(slices.Clone(args), h.Path(device))
	if _, err := h.Run(ctx, Cmd{Path: args[0], Args: args[1:], Timeout: mkfsTimeout}); err != nil {
		return &agentapi.Error{Kind: agentapi.KindInternal, Class: "FileSystemError", Text: err.Error(), Err: err}
	}
	return nil
}

// Signature is what lies on a device, in blkid's words: TYPE, USAGE, PTTYPE, …; empty for a blank one.
type Signature map[string]string

// Filesystem is the type of the filesystem; "" when there is none, or something else.
func (s Signature) Filesystem() string {
	if s["USAGE"] != "filesystem" {
		return ""
	}
	return s["TYPE"]
}

// String says what was found.
func (s Signature) String() string {
	for _, key := range []string{"TYPE", "PTTYPE"} {
		if s[key] != "" {
			return "something of type " + s[key]
		}
	}
	if len(s) == 0 {
		return "nothing"
	}
	return "several things at once"
}

// Exit codes of blkid --probe.
const (
	probeNothing   = 2
	probeAmbiguous = 8
)

// ProbeDevice reads the signatures on a device, never a cache of them.
func (h *Host) ProbeDevice(ctx context.Context, device string) (Signature, error) {
	// blkid answers "nothing" also for what it cannot read; blockdev does not.
	if _, err := h.Run(ctx, Cmd{Path: "blockdev", Args: []string{"--getsize64", h.Path(device)}}); err != nil {
		return nil, LinuxError(err)
	}
	out, err := h.Run(ctx, Cmd{Path: "blkid", Args: []string{"-p", "-o", "export", h.Path(device)}})
	if err != nil {
		e, _ := errors.AsType[*CommandError](err)
		switch {
		case e == nil || e.Err != nil:
			return nil, LinuxError(err)
		case out.Code == probeNothing && len(strings.TrimSpace(string(out.Stderr))) == 0:
			return nil, nil
		case out.Code == probeAmbiguous:
			return Signature{"AMBIGUOUS": "yes"}, nil
		}
		return nil, LinuxError(err)
	}
	found := Signature{}
	for line := range strings.Lines(string(out.Stdout)) {
		if key, value, ok := strings.Cut(strings.TrimSpace(line), "="); ok && key != "DEVNAME" {
			found[key] = value
		}
	}
	if len(found) == 0 {
		return nil, &agentapi.Error{Kind: agentapi.KindInternal, Class: "LinuxError", Text: "blkid said nothing about " + device}
	}
	return found, nil
}

// LinuxError shows a failed command under the class that old callers know.
func LinuxError(err error) error {
	return &agentapi.Error{Kind: agentapi.KindInternal, Class: "LinuxError", Text: err.Error(), Err: err}
}
