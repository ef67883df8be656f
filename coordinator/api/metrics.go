package api

import (
	"errors"
	"strconv"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics counts requests. Labels are bounded: dialects and routes come from tables, codes from the standard.
type metrics struct {
	requests *prometheus.CounterVec
	duration *prometheus.HistogramVec
	inFlight prometheus.Gauge
	refused  *prometheus.CounterVec

	// series keeps the children of the vectors, because looking them up by labels costs more than the counting.
	series sync.Map // seriesKey -> *series
}

type seriesKey struct {
	dialect, route string
	code           int
}

type series struct {
	requests prometheus.Counter
	duration prometheus.Observer
}

func newMetrics(reg prometheus.Registerer) (*metrics, error) {
	m := &metrics{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "reeve_http_requests_total", Help: "Requests answered, by dialect, route and status code.",
		}, []string{"dialect", "route", "code"}),
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "reeve_http_request_duration_seconds", Help: "Time from the request's header to the end of the answer.",
			Buckets: []float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10},
		}, []string{"dialect", "route"}),
		inFlight: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "reeve_http_requests_in_flight", Help: "Requests being answered.",
		}),
		refused: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "reeve_http_requests_refused_total", Help: "Requests refused before a dialect saw them.",
		}, []string{"dialect", "reason"}),
	}
	if reg == nil {
		return m, nil
	}
	var errs [4]error
	m.requests, errs[0] = register(reg, m.requests)
	m.duration, errs[1] = register(reg, m.duration)
	m.inFlight, errs[2] = register(reg, m.inFlight)
	m.refused, errs[3] = register(reg, m.refused)
	return m, errors.Join(errs[:]...)
}

// register registers a collector, or finds the one of an earlier handler: listeners with other rules count together.
func register[C prometheus.Collector](reg prometheus.Registerer, c C) (C, error) {
	err := reg.Register(c)
	if there, ok := errors.AsType[prometheus.AlreadyRegisteredError](err); ok {
		if old, ok := there.ExistingCollector.(C); ok {
			return old, nil
		}
	}
	return c, err
}

func (m *metrics) observe(dialect, route string, code int, took time.Duration) {
	key := seriesKey{dialect, route, code}
	s, ok := m.series.Load(key)
	if !ok {
		s, _ = m.series.LoadOrStore(key, &series{
			requests: m.requests.WithLabelValues(dialect, route, strconv.Itoa(code)),
			duration: m.duration.WithLabelValues(dialect, route),
		})
	}
	s.(*series).requests.Inc()
	s.(*series).duration.Observe(took.Seconds())
}
