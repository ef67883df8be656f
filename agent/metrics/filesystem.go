package metrics

import (
	"context"
	"errors"
	"slices"
	"strconv"
	"strings"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/reeve-paas/reeve/handlers/host"
)

// maxFilesystems bounds the label values.
const maxFilesystems = 64

// Filesystem asks every mounted filesystem that holds data how full it is. A filesystem that is mounted at several places
// is shown once, at the first of them. One that does not answer, such as a dead NFS server, fails the scrape of this
// collector and of no other.
type Filesystem struct{ Host *host.Host }

var (
	fsLabels   = []string{"mountpoint", "fstype"}
	fsSize     = desc("filesystem_size_bytes", "Size of the filesystem.", fsLabels...)
	fsFree     = desc("filesystem_free_bytes", "Space that nothing uses.", fsLabels...)
	fsAvail    = desc("filesystem_available_bytes", "Space that users other than root can use.", fsLabels...)
	fsFiles    = desc("filesystem_files", "Files the filesystem can hold; 0 when it has no limit.", fsLabels...)
	fsFreeFile = desc("filesystem_free_files", "Files the filesystem can still take.", fsLabels...)
	fsReadOnly = desc("filesystem_readonly", "Whether the filesystem is mounted read-only.", fsLabels...)
)

// noData are the types of filesystems that hold nothing of the host's own.
var noData = []string{
	"autofs", "binfmt_misc", "bpf", "cgroup", "cgroup2", "configfs", "debugfs", "devpts", "devtmpfs", "efivarfs", "fuse.gvfsd-fuse",
	"fusectl", "hugetlbfs", "iso9660", "mqueue", "nsfs", "proc", "pstore", "ramfs", "rootfs", "rpc_pipefs", "securityfs", "selinuxfs",
	"squashfs", "sysfs", "tmpfs", "tracefs",
}

// Name implements Collector.
func (c Filesystem) Name() string { return "filesystem" }

// Collect implements Collector.
func (c Filesystem) Collect(ctx context.Context, ch chan<- prometheus.Metric) error {
	type mount struct{ mpoint, fstype string }
	var mounts []mount
	devices := map[string]bool{}
	var f columns
	err := eachLine(c.Host, "/proc/mounts", func(line []byte) error {
		f.cut(line)
		if f.n < 4 || len(mounts) == maxFilesystems {
			return nil
		}
		m := mount{unescape(string(f.col[1])), string(f.col[2])}
		device := string(f.col[0])
		overlay := m.fstype == "overlay" && m.mpoint != "/" // of containers
		if slices.Contains(noData, m.fstype) || overlay || devices[device] || isKernelPath(m.mpoint) {
			return nil
		}
		devices[device] = true
		mounts = append(mounts, m)
		return nil
	})
	errs := []error{err}
	for _, m := range mounts {
		u, err := c.Host.StatFS(ctx, m.mpoint)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		ch <- gauge(fsSize, float64(u.SizeBytes), m.mpoint, m.fstype)
		ch <- gauge(fsFree, float64(u.FreeBytes), m.mpoint, m.fstype)
		ch <- gauge(fsAvail, float64(u.AvailBytes), m.mpoint, m.fstype)
		ch <- gauge(fsFiles, float64(u.Files), m.mpoint, m.fstype)
		ch <- gauge(fsFreeFile, float64(u.FilesFree), m.mpoint, m.fstype)
		ch <- gauge(fsReadOnly, boolean(u.ReadOnly), m.mpoint, m.fstype)
	}
	return errors.Join(errs...)
}

// isKernelPath finds what is not mounted for data, such as what a container gets of its host below /dev.
func isKernelPath(p string) bool {
	for _, top := range []string{"/dev", "/proc", "/run", "/sys"} {
		if p == top || strings.HasPrefix(p, top+"/") {
			return true
		}
	}
	return false
}

func boolean(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

// unescape reads the octal form in which the kernel writes blanks in the mount table.
func unescape(s string) string {
	var b strings.Builder
	for {
		before, after, found := strings.Cut(s, `\`)
		b.WriteString(before)
		if !found {
			return b.String()
		}
		if len(after) >= 3 {
			if c, err := strconv.ParseUint(after[:3], 8, 8); err == nil {
				b.WriteByte(byte(c))
				s = after[3:]
				continue
			}
		}
		b.WriteByte('\\')
		s = after
	}
}
