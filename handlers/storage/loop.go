package storage

import (
	"context"
	"errors"
	"io/fs"
	"math"
	"path"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/reeve-paas/reeve/agent/agentapi"
	"github.com/reeve-paas/reeve/handlers/host"
)

// loop is a volume in a file.
type loop struct{ s *Service }

func (loop) defaults() map[string]any {
	return map[string]any{"file": nil, "size": nil, "zerofill": nil, "adjust_size": true}
}

const mib = 1 << 20

var percent = regexp.MustCompile(`^([0-9]{1,3})%root$`)

func (l loop) ensure(ctx context.Context, w *work, v *volume) error {
	if snap := v.snap(); snap != nil {
		return l.restore(ctx, w, v, snap)
	}
	file := v.text("file")
	switch {
	case file != "" && w.s.host.Exists(file):
	case v.text("id") != "":
		return errGone
	case v.text("size") == "":
		return storageError(agentapi.KindInvalid, "You must specify size of a new loop device or existing file")
	default:
		if err := l.make(ctx, w, v); err != nil {
			return err
		}
	}
	return l.attach(ctx, w, v)
}

// make makes the file of a new volume.
func (l loop) make(ctx context.Context, w *work, v *volume) error {
	size, err := l.wantedSize(ctx, v)
	if err != nil {
		return err
	}
	file := v.text("file")
	if file == "" {
		file = "/mnt/loopdev" + w.s.stamp()
	}
	if err := w.makeDirs(path.Dir(file)); err != nil {
		return err
	}
	if err := w.will("remove-file", file); err != nil {
		return err
	}
	if err := w.s.host.MakeImage(file, size, v.flag("zerofill")); err != nil {
		return err
	}
	v.set("file", file)
	return nil
}

// wantedSize is what size asks for, in bytes.
func (l loop) wantedSize(ctx context.Context, v *volume) (int64, error) {
	if m := percent.FindStringSubmatch(v.text("size")); m != nil {
		root, err := l.s.host.StatFS(ctx, "/")
		if err != nil {
			return 0, err
		}
		share, _ := strconv.ParseUint(m[1], 10, 16)
		size := root.SizeBytes / 100 * share
		if size > root.AvailBytes {
			if !v.flag("adjust_size") {
				return 0, storageError(agentapi.KindInvalid, "%s of the root filesystem is more than is free on it", v.text("size"))
			}
			size = root.AvailBytes
		}
		return int64(size / mib * mib), nil
	}
	gb, ok, err := number(v.StorageConfig, "size")
	if err != nil || !ok {
		return 0, errors.Join(err, storageError(agentapi.KindInvalid, "You must specify size of a new loop device or existing file"))
	}
	if bytes := bytesOf(gb); bytes > 0 {
		return bytes, nil
	}
	return 0, storageError(agentapi.KindInvalid, "a loop device has at least 1 MB")
}

// bytesOf is a size in GB as the old agent made files of it: whole MB.
func bytesOf(gb float64) int64 { return int64(math.Floor(gb*1024)) * mib }

// attach gives the file a loop device: the one it has, the one asked for, or the first that is free.
func (l loop) attach(ctx context.Context, w *work, v *volume) error {
	file := v.text("file")
	have, err := l.s.loopsOf(file)
	if err != nil {
		return err
	}
	wanted := v.text("device")
	if len(have) > 0 {
		v.set("device", have[0])
		for _, device := range have {
			if device == wanted {
				v.set("device", wanted)
			}
		}
		return nil
	}
	if err := w.will("loop-detach", file); err != nil {
		return err
	}
	device, err := l.s.attachLoop(ctx, file, wanted)
	if err != nil {
		return err
	}
	v.set("device", device)
	return nil
}

func (l loop) locate(_ context.Context, _ *work, v *volume) error {
	if v.text("file") == "" {
		return nil
	}
	have, err := l.s.loopsOf(v.text("file"))
	switch {
	case err != nil:
		return err
	case len(have) == 0:
		v.set("device", nil)
	default:
		v.set("device", have[0])
	}
	return nil
}

func (l loop) detach(ctx context.Context, w *work, v *volume, _ bool) error {
	device, file := v.text("device"), v.text("file")
	if file == "" { // an older configuration may name the device only
		var err error
		if file, err = l.s.fileOf(device); err != nil || file == "" {
			return err
		}
	}
	if err := w.will("loop-attach", file, device); err != nil {
		return err
	}
	return l.s.detachLoops(ctx, file)
}

func (l loop) destroy(ctx context.Context, w *work, v *volume, d deletion) error {
	if v.text("device") != "" {
		if err := l.detach(ctx, w, v, d.force); err != nil {
			return err
		}
	}
	if file := v.text("file"); d.force && file != "" {
		if err := w.commit(); err != nil { // the file is the last to go
			return err
		}
		return l.s.host.Remove(file)
	}
	return nil
}

// snapshot copies the file while nothing is written to it. On btrfs and xfs the copy shares its blocks with the file, so it
// takes no time and no space.
func (l loop) snapshot(ctx context.Context, w *work, v *volume, about label) (*volume, error) {
	file := v.text("file")
	if file == "" {
		return nil, missing("file")
	}
	copied := l.s.unused(file + ".snap.")
	err := w.frozen(ctx, v.text("device"), func() error { return w.copyImage(ctx, file, copied) })
	if err != nil {
		return nil, err
	}
	snap := newSnapshot("loop", about)
	snap.set("file", copied)
	return snap, nil
}

func (l loop) dropSnapshot(_ context.Context, _ *work, snap *volume) error {
	return l.s.removeImage(snap.text("file"))
}

// restore makes the volume of a copy of the snapshot's file, and attaches it.
func (l loop) restore(ctx context.Context, w *work, v *volume, snap agentapi.StorageConfig) error {
	from := snap.Text("file")
	if from == "" {
		return missing("snap.file")
	}
	if err := checkPath("snap.file", from); err != nil {
		return err
	}
	if !w.s.host.Exists(from) {
		return storageError(agentapi.KindNotFound, "the snapshot's file %s is not there", from)
	}
	file := v.text("file")
	if file == "" || w.s.host.Exists(file) {
		file = l.s.sibling(from)
	}
	if err := w.makeDirs(path.Dir(file)); err != nil {
		return err
	}
	if err := w.copyImage(ctx, from, file); err != nil {
		return err
	}
	v.set("file", file)
	return l.attach(ctx, w, v)
}

func (w *work) copyImage(ctx context.Context, from, to string) error {
	if err := w.will("remove-file", to); err != nil {
		return err
	}
	if err := w.s.host.CopyFile(ctx, from, to, copyTimeout); err != nil {
		return storageErrorOf(err)
	}
	return nil
}

func storageErrorOf(err error) error {
	return &agentapi.Error{Kind: agentapi.KindInternal, Class: "StorageError", Text: err.Error(), Err: err}
}

func (l loop) checkGrowth(_ context.Context, _ *work, v *volume, growth agentapi.StorageConfig) error {
	gb, ok, err := number(growth, "size")
	switch {
	case err != nil:
		return err
	case !ok:
		return storageError(agentapi.KindInvalid, "Size argument is missing from grow config")
	}
	st, err := l.s.host.Stat(v.text("file"))
	if errors.Is(err, fs.ErrNotExist) || v.text("file") == "" {
		return storageError(agentapi.KindNotFound, "the volume's file %s is not there", v.text("file"))
	}
	if err != nil {
		return err
	}
	if bytesOf(gb) < st.Size() {
		return storageError(agentapi.KindInvalid, "New loop device size is less than current.")
	}
	return nil
}

// bigger copies the file, makes the copy larger and attaches it.
func (l loop) bigger(ctx context.Context, w *work, v *volume, growth agentapi.StorageConfig) (*volume, error) {
	gb, _, err := number(growth, "size")
	if err != nil {
		return nil, err
	}
	file := l.s.sibling(v.text("file"))
	if err := w.copyImage(ctx, v.text("file"), file); err != nil {
		return nil, err
	}
	if err := l.s.host.GrowFile(file, bytesOf(gb)); err != nil {
		return nil, err
	}
	n := v.clone()
	n.set("id", nil)
	n.set("device", nil)
	n.set("file", file)
	n.set("size", growth["size"])
	return n, l.attach(ctx, w, n)
}

// stamp is the time as the old agent put it into names.
func (s *Service) stamp() string {
	t := s.now()
	return strconv.FormatInt(t.Unix(), 10) + "." + strconv.Itoa(t.Nanosecond()/1000 + 1_000_000)[1:]
}

// unused is a path that begins so and is nobody's.
func (s *Service) unused(prefix string) string {
	p := prefix + s.stamp()
	for n := 1; s.host.Exists(p); n++ {
		p = prefix + s.stamp() + "-" + strconv.Itoa(n)
	}
	return p
}

// sibling names a copy of a file: its name up to the first dot, and the time.
func (s *Service) sibling(file string) string {
	name, _, _ := strings.Cut(path.Base(file), ".")
	return s.unused(path.Join(path.Dir(file), name) + ".")
}

// loopsOf are the loop devices that show a file.
func (s *Service) loopsOf(file string) ([]string, error) {
	real, err := s.host.Resolve(file)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	entries, err := s.host.ReadDir("/sys/block")
	if err != nil {
		return nil, err
	}
	var devices []string
	for _, e := range entries {
		if !strings.HasPrefix(e.Name(), "loop") {
			continue
		}
		if backing, _ := s.fileOf("/dev/" + e.Name()); backing == real {
			devices = append(devices, "/dev/"+e.Name())
		}
	}
	return devices, nil
}

// fileOf is the file that a loop device shows, "" when it is free.
func (s *Service) fileOf(device string) (string, error) {
	data, err := s.host.ReadFile(path.Join("/sys/block", path.Base(device), "loop/backing_file"))
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	file := strings.TrimSuffix(string(data), "\n")
	if root := s.host.Path("/"); root != "/" {
		file = "/" + strings.TrimPrefix(strings.TrimPrefix(file, strings.TrimSuffix(root, "/")), "/")
	}
	return file, err
}

// attachLoop shows a file as a block device; which one, the kernel decides unless the one that is wanted is free.
func (s *Service) attachLoop(ctx context.Context, file, wanted string) (string, error) {
	if !s.host.Exists("/dev/loop-control") {
		return "", storageError(agentapi.KindUnsupported, "this host has no loop devices (/dev/loop-control is missing): run modprobe loop, "+
			"or attach a block device and use type base")
	}
	if wanted != "" && strings.HasPrefix(wanted, "/dev/loop") && s.host.Exists(wanted) {
		if taken, err := s.fileOf(wanted); err == nil && taken == "" {
			_, err := s.host.Run(ctx, host.Cmd{Path: "losetup", Args: []string{s.host.Path(wanted), s.host.Path(file)}, Timeout: quickTimeout})
			if err == nil {
				return wanted, nil
			}
			s.log.Info("the loop device the volume had is not free, taking another", "device", wanted, "err", err)
		}
	}
	out, err := s.host.Run(ctx, host.Cmd{Path: "losetup", Args: []string{"--find", "--show", s.host.Path(file)}, Timeout: quickTimeout})
	if err != nil {
		return "", host.LinuxError(err)
	}
	device := strings.TrimSpace(string(out.Stdout))
	if root := s.host.Path("/"); root != "/" {
		device = "/" + strings.TrimPrefix(strings.TrimPrefix(device, strings.TrimSuffix(root, "/")), "/")
	}
	if !strings.HasPrefix(device, "/dev/loop") {
		return "", storageError(agentapi.KindInternal, "losetup said %.100q instead of a device", device)
	}
	return device, nil
}

const (
	detachWait = 10 * time.Second
	detachPoll = 10 * time.Millisecond
)

// detachLoops takes every loop device off a file and waits until it is: while somebody has one open, the kernel only
// remembers to take it off later.
func (s *Service) detachLoops(ctx context.Context, file string) error {
	devices, err := s.loopsOf(file)
	if err != nil {
		return err
	}
	for _, device := range devices {
		_, err := s.host.Run(ctx, host.Cmd{Path: "losetup", Args: []string{"--detach", s.host.Path(device)}, Timeout: quickTimeout})
		if err != nil {
			return host.LinuxError(err)
		}
	}
	deadline := time.NewTimer(detachWait)
	defer deadline.Stop()
	tick := time.NewTicker(detachPoll)
	defer tick.Stop()
	for {
		left, err := s.loopsOf(file)
		if err != nil || len(left) == 0 {
			return err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-deadline.C:
			return storageError(agentapi.KindConflict, "%s cannot be detached, something still uses it", strings.Join(left, ", "))
		}
	}
}

// attachLoopAgain undoes a detachment.
func (s *Service) attachLoopAgain(ctx context.Context, file, device string) error {
	have, err := s.loopsOf(file)
	if err != nil || len(have) > 0 {
		return err
	}
	if !s.host.Exists(file) {
		return nil
	}
	_, err = s.attachLoop(ctx, file, device)
	return err
}

// removeImage removes a file unless it is somebody's disk.
func (s *Service) removeImage(file string) error {
	used, err := s.loopsOf(file)
	if err != nil {
		return err
	}
	if len(used) > 0 {
		return storageError(agentapi.KindConflict, "%s is still the disk %s", file, used[0])
	}
	return s.host.Remove(file)
}
