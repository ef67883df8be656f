package metrics

import (
	"context"
	"errors"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/reeve-paas/reeve/handlers/host"
)

// Load reads /proc/loadavg and /proc/uptime.
type Load struct{ Host *host.Host }

var (
	loadAverage = desc("load_average", "Tasks that ran or waited, averaged over a number of minutes.", "minutes")
	uptime      = desc("host_uptime_seconds", "Time since the host was booted.")
)

var loadMinutes = [...]string{"1", "5", "15"}

// Name implements Collector.
func (c Load) Name() string { return "load" }

// Collect implements Collector.
func (c Load) Collect(_ context.Context, ch chan<- prometheus.Metric) error {
	var f columns
	err := eachLine(c.Host, "/proc/loadavg", func(line []byte) error {
		f.cut(line)
		if f.n < len(loadMinutes) {
			return errors.New("less than three columns")
		}
		for i, minutes := range loadMinutes {
			v, err := decimal(f.col[i])
			if err != nil {
				return err
			}
			ch <- gauge(loadAverage, v, minutes)
		}
		return nil
	})
	return errors.Join(err, eachLine(c.Host, "/proc/uptime", func(line []byte) error {
		f.cut(line)
		if f.n < 1 {
			return errors.New("empty")
		}
		v, err := decimal(f.col[0])
		if err == nil {
			ch <- gauge(uptime, v)
		}
		return err
	}))
}
