package metrics

import (
	"bytes"
	"context"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/reeve-paas/reeve/handlers/host"
)

// Network reads /proc/net/dev, without the interfaces that containers come and go with.
type Network struct{ Host *host.Host }

// networkFields are the columns of /proc/net/dev that are shown, counted after the interface.
var networkFields = []struct {
	column int
	desc   *prometheus.Desc
}{
	{0, desc("network_receive_bytes_total", "Bytes received.", "interface")},
	{1, desc("network_receive_packets_total", "Packets received.", "interface")},
	{2, desc("network_receive_errors_total", "Packets received with an error.", "interface")},
	{3, desc("network_receive_drops_total", "Packets received and dropped.", "interface")},
	{8, desc("network_transmit_bytes_total", "Bytes sent.", "interface")},
	{9, desc("network_transmit_packets_total", "Packets sent.", "interface")},
	{10, desc("network_transmit_errors_total", "Packets that were not sent for an error.", "interface")},
	{11, desc("network_transmit_drops_total", "Packets dropped instead of sent.", "interface")},
}

// Name implements Collector.
func (c Network) Name() string { return "network" }

// Collect implements Collector.
func (c Network) Collect(_ context.Context, ch chan<- prometheus.Metric) error {
	var f columns
	return eachLine(c.Host, "/proc/net/dev", func(line []byte) error {
		name, rest, found := bytes.Cut(line, []byte(":")) // aliases have no counters of their own since Linux 2.2
		name = bytes.TrimSpace(name)
		if !found || isContainerInterface(name) {
			return nil
		}
		f.cut(rest)
		iface := string(name)
		for _, d := range networkFields {
			ch <- counter(d.desc, f.number(d.column), iface)
		}
		return nil
	})
}

func isContainerInterface(name []byte) bool {
	return bytes.HasPrefix(name, []byte("veth")) || bytes.HasPrefix(name, []byte("ve-")) || bytes.HasPrefix(name, []byte("vb-"))
}
