package metrics

import (
	"context"

	"github.com/prometheus/client_golang/prometheus"
)

// MongoDB shows whether the host's MongoDB server answers. A host without one shows nothing.
type MongoDB struct {
	Up func(context.Context) (up, installed bool)
}

var mongodbUp = desc("mongodb_up", "Whether the MongoDB server answers.")

// Name implements Collector.
func (c MongoDB) Name() string { return "mongodb" }

// Collect implements Collector.
func (c MongoDB) Collect(ctx context.Context, ch chan<- prometheus.Metric) error {
	if up, installed := c.Up(ctx); installed {
		ch <- gauge(mongodbUp, boolean(up))
	}
	return nil
}
