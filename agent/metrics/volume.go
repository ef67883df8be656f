package metrics

import (
	"context"
	"errors"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/reeve-paas/reeve/handlers/host"
)

// maxVolumes bounds the label values.
const maxVolumes = 64

// Volume shows the volumes that the agent is to keep mounted, which its lines of fstab say, and how full they are. Unlike
// Filesystem it tells of a volume that is not mounted, too.
type Volume struct{ Host *host.Host }

var (
	volumeMounted = desc("volume_mounted", "Whether a volume that fstab wants mounted is.", "mountpoint")
	volumeSize    = desc("volume_size_bytes", "Size of a mounted volume's filesystem.", "mountpoint")
	volumeUsed    = desc("volume_used_bytes", "Space in use on a mounted volume.", "mountpoint")
	volumeAvail   = desc("volume_available_bytes", "Space that users other than root can use on a mounted volume.", "mountpoint")
)

// Name implements Collector.
func (c Volume) Name() string { return "volume" }

// Collect implements Collector.
func (c Volume) Collect(ctx context.Context, ch chan<- prometheus.Metric) error {
	text, err := c.Host.ReadFstab()
	if err != nil {
		return err
	}
	var wanted []string
	seen := map[string]bool{}
	for _, l := range host.ParseFstab(text) {
		if l.Volume() && !seen[l.MPoint] && len(wanted) < maxVolumes {
			seen[l.MPoint] = true
			wanted = append(wanted, l.MPoint)
		}
	}
	if len(wanted) == 0 {
		return nil // most hosts: nothing else is read
	}
	mounts, err := c.Host.Mounts()
	if err != nil {
		return err
	}
	var errs []error
	for _, mpoint := range wanted {
		_, mounted := host.MountedAt(mounts, mpoint)
		ch <- gauge(volumeMounted, boolean(mounted), mpoint)
		if !mounted {
			continue
		}
		u, err := c.Host.StatFS(ctx, mpoint)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		ch <- gauge(volumeSize, float64(u.SizeBytes), mpoint)
		ch <- gauge(volumeUsed, float64(u.SizeBytes-u.FreeBytes), mpoint)
		ch <- gauge(volumeAvail, float64(u.AvailBytes), mpoint)
	}
	return errors.Join(errs...)
}
