package metrics

import (
	"context"

	"github.com/prometheus/client_golang/prometheus"
)

// Message shows how many messages the coordinator has not taken yet.
type Message struct{ Waiting func() int }

var messagesWaiting = desc("messages_waiting", "Messages on disk that the coordinator has not taken yet.")

// Name implements Collector.
func (c Message) Name() string { return "message" }

// Collect implements Collector.
func (c Message) Collect(_ context.Context, ch chan<- prometheus.Metric) error {
	ch <- gauge(messagesWaiting, float64(c.Waiting()))
	return nil
}
