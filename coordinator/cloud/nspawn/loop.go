package nspawn

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

const (
	loopAutoclear = 4      // LO_FLAGS_AUTOCLEAR: detaches itself with its last user
	loopCtlFree   = 0x4C82 // LOOP_CTL_GET_FREE
	loopClrFD     = 0x4C01 // LOOP_CLR_FD
	loopCapacity  = 0x4C07 // LOOP_SET_CAPACITY
	loopMajor     = 7
)

// attachLoop makes a block device of a file and returns its number and an open descriptor, which keeps an autoclear
// device alive until it is mounted.
func attachLoop(file string, autoclear bool) (num int, dev *os.File, err error) {
	backing, err := os.OpenFile(file, os.O_RDWR, 0)
	if err != nil {
		return 0, nil, err
	}
	defer backing.Close()
	ctl, err := os.OpenFile("/dev/loop-control", os.O_RDWR, 0)
	if err != nil {
		return 0, nil, fmt.Errorf("loop devices: %w", err)
	}
	defer ctl.Close()
	cfg := unix.LoopConfig{Fd: uint32(backing.Fd())}
	copy(cfg.Info.File_name[:], file)
	if autoclear {
		cfg.Info.Flags = loopAutoclear
	}
	for range 64 { // somebody else may take the free device between the two calls
		n, err := unix.IoctlRetInt(int(ctl.Fd()), loopCtlFree)
		if err != nil {
			return 0, nil, fmt.Errorf("find a free loop device: %w", err)
		}
		dev, err := openLoop(n)
		if err != nil {
			return 0, nil, err
		}
		err = unix.IoctlLoopConfigure(int(dev.Fd()), &cfg)
		if err == nil {
			return n, dev, nil
		}
		dev.Close()
		if err != unix.EBUSY {
			return 0, nil, fmt.Errorf("attach %s: %w", loopPath(n), err)
		}
	}
	return 0, nil, errors.New("no free loop device after 64 tries")
}

func loopPath(num int) string { return "/dev/loop" + strconv.Itoa(num) }

// openLoop opens a loop device, making its node where no udev does.
func openLoop(num int) (*os.File, error) {
	path := loopPath(num)
	dev, err := os.OpenFile(path, os.O_RDWR, 0)
	if errors.Is(err, fs.ErrNotExist) {
		if err := unix.Mknod(path, unix.S_IFBLK|0o660, int(unix.Mkdev(loopMajor, uint32(num)))); err != nil && err != unix.EEXIST {
			return nil, fmt.Errorf("make %s: %w", path, err)
		}
		dev, err = os.OpenFile(path, os.O_RDWR, 0)
	}
	return dev, err
}

// loopsBelow maps loop numbers to backing files that are, or were before their deletion, inside dir.
func loopsBelow(dir string) map[int]string {
	found := map[int]string{}
	files, _ := filepath.Glob("/sys/block/loop*/loop/backing_file")
	for _, f := range files {
		data, err := os.ReadFile(f)
		if err != nil {
			continue
		}
		backing := strings.TrimSuffix(strings.TrimSuffix(string(data), "\n"), " (deleted)")
		num, err := strconv.Atoi(strings.TrimPrefix(strings.Split(f, "/")[3], "loop"))
		if err == nil && (backing == dir || strings.HasPrefix(backing, dir+"/")) {
			found[num] = backing
		}
	}
	return found
}

// detachLoop frees a loop device. One that is mounted is not touched and gives EBUSY: the kernel would only mark it, and
// the caller would believe that nothing is left.
func detachLoop(num int) error {
	dev, err := os.OpenFile(loopPath(num), os.O_RDONLY|unix.O_EXCL, 0)
	if err != nil {
		return ignore(err, fs.ErrNotExist, unix.ENXIO)
	}
	defer dev.Close()
	if err := unix.IoctlSetInt(int(dev.Fd()), loopClrFD, 0); err != nil && err != unix.ENXIO {
		return fmt.Errorf("detach %s: %w", loopPath(num), err)
	}
	return nil
}

// refreshLoop lets a loop device have the size that its file has by now.
func refreshLoop(num int) error {
	dev, err := os.OpenFile(loopPath(num), os.O_RDONLY, 0)
	if err != nil {
		return err
	}
	defer dev.Close()
	if err := unix.IoctlSetInt(int(dev.Fd()), loopCapacity, 0); err != nil {
		return fmt.Errorf("resize %s: %w", loopPath(num), err)
	}
	return nil
}

// waitLoopsGone returns once no loop device has file behind it. Devices that free themselves do so a moment after their
// last user, and attaching the same file twice would mean two file systems over the same blocks.
func waitLoopsGone(file string) error {
	for range 500 {
		if len(loopsBelow(file)) == 0 {
			return nil
		}
		time.Sleep(10 * time.Millisecond)
	}
	return fmt.Errorf("%s is still attached to a loop device", file)
}
