package rpcserver

import (
	"strconv"
	"sync"

	"github.com/creachadair/jrpc2"
	"github.com/prometheus/client_golang/prometheus"
)

// reason is why a request was refused before it was understood; a bounded set of metric labels.
type reason string

const (
	reasonSource      reason = "source"      // not from an allowed network
	reasonConnections reason = "connections" // too many open
	reasonHeaders     reason = "headers"     // Date or X-Signature missing, or the date malformed
	reasonBodySize    reason = "body_size"
	reasonBodyRead    reason = "body_read" // incomplete or too slow
	reasonBusy        reason = "busy"      // too many large bodies at once
	reasonKey         reason = "key"       // our own key cannot be read
	reasonSignature   reason = "signature"
	reasonDecode      reason = "decode"
	reasonClock       reason = "clock"
	reasonReplay      reason = "replay"
)

var reasons = []reason{reasonSource, reasonConnections, reasonHeaders, reasonBodySize, reasonBodyRead, reasonBusy, reasonKey,
	reasonSignature, reasonDecode, reasonClock, reasonReplay}

// other stands for every name that is not in the table, so that callers cannot make series.
const other = "other"

type metrics struct {
	requests *prometheus.CounterVec
	seconds  *prometheus.HistogramVec
	inFlight prometheus.Gauge
	rejected map[reason]prometheus.Counter
}

func newMetrics(reg prometheus.Registerer) (*metrics, error) {
	m := &metrics{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "reeve_rpc_requests_total",
			Help: "RPC calls answered, by namespace, method and JSON-RPC error code (0 is success).",
		}, []string{"namespace", "method", "code"}),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "reeve_rpc_request_duration_seconds",
			Help:    "Time from the first byte of an RPC request to the last of its reply.",
			Buckets: []float64{0.001, 0.01, 0.1, 1, 10},
		}, []string{"namespace", "method"}),
		inFlight: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "reeve_rpc_in_flight",
			Help: "RPC requests being worked on.",
		}),
		rejected: map[reason]prometheus.Counter{},
	}
	rejected := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "reeve_rpc_rejected_total",
		Help: "RPC requests and connections refused before a method was looked up, by reason.",
	}, []string{"reason"})
	for _, r := range reasons {
		m.rejected[r] = rejected.WithLabelValues(string(r))
	}
	if reg == nil {
		return m, nil
	}
	for _, c := range []prometheus.Collector{m.requests, m.seconds, m.inFlight, rejected} {
		if err := reg.Register(c); err != nil {
			return nil, err
		}
	}
	return m, nil
}

// series are the metrics of one method. They are looked up once, when the method is first called.
type series struct {
	once    sync.Once
	good    prometheus.Counter
	seconds prometheus.Observer
}

// answered counts one call; of is nil for names that are not in the table.
func (m *metrics) answered(of *series, namespace, method string, code jrpc2.Code, seconds float64) {
	if of == nil {
		of = &series{}
	}
	of.once.Do(func() {
		of.good = m.requests.WithLabelValues(namespace, method, "0")
		of.seconds = m.seconds.WithLabelValues(namespace, method)
	})
	if code == 0 {
		of.good.Inc()
	} else {
		m.requests.WithLabelValues(namespace, method, strconv.Itoa(int(code))).Inc()
	}
	of.seconds.Observe(seconds)
}
