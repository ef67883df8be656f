package metrics

import (
	"context"

	"github.com/prometheus/client_golang/prometheus"
)

// ApacheStats is what Apache's mod_status tells. A member it does not tell is 0.
type ApacheStats struct {
	Requests, SentBytes      float64 // since Apache was started
	BusyWorkers, IdleWorkers float64
}

// Apache shows what the web server does. One that does not run, or tells nothing, is left out.
type Apache struct {
	Stats func(context.Context) (stats ApacheStats, ok bool, err error)
}

var (
	apacheRequests = desc("apache_requests_total", "Requests that Apache answered since it was started.")
	apacheSent     = desc("apache_sent_bytes_total", "Bytes that Apache sent since it was started.")
	apacheWorkers  = desc("apache_workers", "Workers of Apache.", "state")
)

// Name implements Collector.
func (c Apache) Name() string { return "apache" }

// Collect implements Collector.
func (c Apache) Collect(ctx context.Context, ch chan<- prometheus.Metric) error {
	s, ok, err := c.Stats(ctx)
	if err != nil || !ok {
		return err
	}
	ch <- counter(apacheRequests, s.Requests)
	ch <- counter(apacheSent, s.SentBytes)
	ch <- gauge(apacheWorkers, s.BusyWorkers, "busy")
	ch <- gauge(apacheWorkers, s.IdleWorkers, "idle")
	return nil
}
