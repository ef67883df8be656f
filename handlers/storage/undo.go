package storage

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/reeve-paas/reeve/handlers/host"
)

// How long commands may take.
const (
	freezeTimeout = 5 * time.Minute // what was written must reach the device first
	copyTimeout   = 12 * time.Hour  // a whole disk
	quickTimeout  = 2 * time.Minute
	checkTimeout  = 6 * time.Hour // fsck and resize of a large filesystem
)

// ofThisBoot are the verbs that name what a reboot does away with, or gives to another device. After one they are void.
var ofThisBoot = []string{"unmount", "unmount-tmpfs", "mount", "wipe-filesystem", "thaw", "loop-detach", "loop-attach", "pv-remove", "dm-resume",
	"md-stop", "md-assemble", "md-remove", "md-add"}

// undo takes one step of a journal back. Whatever the step did, or did not get to, is fine.
func (s *Service) undo(ctx context.Context, st step) error {
	arg := func(i int) string {
		if i < len(st.Args) {
			return st.Args[i]
		}
		return ""
	}
	switch st.Verb {
	case "unmount": // mount point, device
		return s.unmountIf(ctx, arg(0), arg(1))
	case "unmount-tmpfs": // mount point
		return s.unmountTmpfs(ctx, arg(0))
	case "mount": // type, device, mount point, options, the file of a loop device
		return s.mountIf(ctx, arg(0), arg(1), arg(2), arg(3), arg(4))
	case "remove-dirs": // from the innermost
		for _, dir := range st.Args {
			os.Remove(s.host.Path(dir)) // not empty: somebody else uses it by now
		}
		return nil
	case "remove-file":
		return s.removeImage(arg(0))
	case "remove-tree":
		return s.host.RemoveAll(arg(0))
	case "restore-fstab": // before, after, whether there was one
		before := []byte(arg(0))
		if arg(2) == "" {
			before = nil
		}
		return s.host.RestoreFstab(before, []byte(arg(1)))
	case "wipe-filesystem":
		return s.wipe(ctx, arg(0))
	case "thaw":
		return s.thaw(ctx, arg(0))
	case "loop-detach": // file
		return s.detachLoops(ctx, arg(0))
	case "loop-attach": // file, device
		return s.attachLoopAgain(ctx, arg(0), arg(1))
	}
	if done, err := s.undoLVM(ctx, st.Verb, arg); done {
		return err
	}
	if done, err := s.undoRAID(ctx, st); done {
		return err
	}
	if done, err := s.undoCloud(ctx, st.Verb, arg); done {
		return err
	}
	s.log.Error("the journal has a step that this agent does not know", "step", st.Verb, "args", strings.Join(st.Args, " "))
	return nil
}

func (s *Service) unmountIf(ctx context.Context, mpoint, device string) error {
	mounts, err := s.host.Mounts()
	if err != nil {
		return err
	}
	if m, mounted := host.MountedAt(mounts, mpoint); !mounted || !s.host.SameDevice(m.Source, device) {
		return nil
	}
	return s.host.Unmount(ctx, mpoint)
}

func (s *Service) unmountTmpfs(ctx context.Context, mpoint string) error {
	mounts, err := s.host.Mounts()
	if err != nil {
		return err
	}
	if m, mounted := host.MountedAt(mounts, mpoint); !mounted || m.FSType != "tmpfs" {
		return nil
	}
	return s.host.Unmount(ctx, mpoint)
}

// mountIf mounts again what was unmounted. A loop device may have another number by now, and its old one another file.
func (s *Service) mountIf(ctx context.Context, fstype, device, mpoint, options, file string) error {
	if file != "" {
		devices, err := s.loopsOf(file)
		if err != nil {
			return err
		}
		if len(devices) == 0 {
			return fmt.Errorf("%s is no disk any more", file)
		}
		device = devices[0]
	}
	mounts, err := s.host.Mounts()
	if err != nil {
		return err
	}
	if m, mounted := host.MountedAt(mounts, mpoint); mounted && s.host.SameDevice(m.Source, device) {
		return nil
	}
	if options == "" || options == "rw" {
		return s.host.Mount(ctx, fstype, device, mpoint)
	}
	return s.host.Mount(ctx, fstype, device, mpoint, options)
}

// wipe takes the filesystem away that was about to be made: the device held nothing.
func (s *Service) wipe(ctx context.Context, device string) error {
	if !s.host.Exists(device) {
		return nil
	}
	_, err := s.host.Run(ctx, host.Cmd{Path: "wipefs", Args: []string{"--all", "--quiet", s.host.Path(device)}, Timeout: quickTimeout})
	return err
}

// thaw lets writers go on. One that is not frozen is no error.
func (s *Service) thaw(ctx context.Context, mpoint string) error {
	_, err := s.host.Run(ctx, host.Cmd{Path: "fsfreeze", Args: []string{"--unfreeze", s.host.Path(mpoint)}, Timeout: quickTimeout})
	if e, ok := errors.AsType[*host.CommandError](err); ok && e.Err == nil && strings.Contains(string(e.Output.Stderr), "Invalid argument") {
		return nil
	}
	return err
}
