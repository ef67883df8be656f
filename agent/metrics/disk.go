package metrics

import (
	"bytes"
	"context"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/reeve-paas/reeve/handlers/host"
)

// Disk reads /proc/diskstats: whole disks, and what device-mapper and md build of them; no partitions.
type Disk struct{ Host *host.Host }

// diskFields are the columns of /proc/diskstats that are shown (kernel Documentation/admin-guide/iostats.rst).
var diskFields = []struct {
	column          int
	factor, divisor float64
	kind            prometheus.ValueType
	desc            *prometheus.Desc
}{
	{3, 1, 1, prometheus.CounterValue, desc("disk_reads_total", "Reads completed.", "device")},
	{5, 512, 1, prometheus.CounterValue, desc("disk_read_bytes_total", "Bytes read.", "device")},
	{6, 1, 1000, prometheus.CounterValue, desc("disk_read_time_seconds_total", "Time all reads took.", "device")},
	{7, 1, 1, prometheus.CounterValue, desc("disk_writes_total", "Writes completed.", "device")},
	{9, 512, 1, prometheus.CounterValue, desc("disk_written_bytes_total", "Bytes written.", "device")},
	{10, 1, 1000, prometheus.CounterValue, desc("disk_write_time_seconds_total", "Time all writes took.", "device")},
	{11, 1, 1, prometheus.GaugeValue, desc("disk_requests_in_flight", "Reads and writes in progress.", "device")},
	{12, 1, 1000, prometheus.CounterValue, desc("disk_busy_seconds_total", "Time during which something was in progress.", "device")},
}

// Name implements Collector.
func (c Disk) Name() string { return "disk" }

// Collect implements Collector.
func (c Disk) Collect(_ context.Context, ch chan<- prometheus.Metric) error {
	var f columns
	return eachLine(c.Host, "/proc/diskstats", func(line []byte) error {
		f.cut(line)
		if f.n < 14 || !isDisk(f.col[2]) {
			return nil
		}
		device := string(f.col[2])
		for _, d := range diskFields {
			ch <- prometheus.MustNewConstMetric(d.desc, d.kind, f.number(d.column)*d.factor/d.divisor, device)
		}
		return nil
	})
}

// isDisk leaves out devices that are no storage of their own, and partitions.
func isDisk(name []byte) bool {
	for _, prefix := range []string{"ram", "zram", "loop", "fd", "sr"} {
		if bytes.HasPrefix(name, []byte(prefix)) {
			return false
		}
	}
	last := name[len(name)-1]
	if last < '0' || last > '9' {
		return true
	}
	for _, prefix := range []string{"hd", "sd", "vd", "xvd"} { // sda1; a Xen guest may have xvda1 alone, see its filesystem
		if bytes.HasPrefix(name, []byte(prefix)) {
			return false
		}
	}
	for _, prefix := range []string{"nvme", "mmcblk"} { // nvme0n1p1, mmcblk0p1
		if bytes.HasPrefix(name, []byte(prefix)) {
			return bytes.LastIndexByte(name, 'p') < 0
		}
	}
	return true
}
