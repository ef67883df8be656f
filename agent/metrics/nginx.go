package metrics

import (
	"context"

	"github.com/prometheus/client_golang/prometheus"
)

// NginxStats is what nginx's stub_status tells.
type NginxStats struct {
	Accepted, Handled, Requests       float64 // since nginx was started
	Active, Reading, Writing, Waiting float64 // connections now; Active is all of them
}

// Nginx shows what the proxy does. One that does not run, or tells nothing, is left out.
type Nginx struct {
	Stats func(context.Context) (stats NginxStats, ok bool, err error)
}

var (
	nginxRequests    = desc("nginx_requests_total", "Requests that nginx took since it was started.")
	nginxAccepted    = desc("nginx_connections_accepted_total", "Connections that nginx accepted since it was started.")
	nginxHandled     = desc("nginx_connections_handled_total", "Connections that nginx handled since it was started; less than accepted when it ran out of them.")
	nginxConnections = desc("nginx_connections", "Connections of nginx now.", "state")
)

// Name implements Collector.
func (c Nginx) Name() string { return "nginx" }

// Collect implements Collector.
func (c Nginx) Collect(ctx context.Context, ch chan<- prometheus.Metric) error {
	s, ok, err := c.Stats(ctx)
	if err != nil || !ok {
		return err
	}
	ch <- counter(nginxRequests, s.Requests)
	ch <- counter(nginxAccepted, s.Accepted)
	ch <- counter(nginxHandled, s.Handled)
	ch <- gauge(nginxConnections, s.Reading, "reading")
	ch <- gauge(nginxConnections, s.Writing, "writing")
	ch <- gauge(nginxConnections, s.Waiting, "waiting")
	return nil
}
