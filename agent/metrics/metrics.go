package metrics

import (
	"bytes"
	"context"
	"fmt"
	"iter"
	"log/slog"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/reeve-paas/reeve/handlers/host"
)

// scrapeTimeout bounds one scrape; Prometheus gives up after 10 s unless told otherwise.
const scrapeTimeout = 8 * time.Second

// Collector reads one subsystem. Collect is called once per scrape, beside those of other collectors and perhaps of
// another scrape; what it sent before it failed is kept.
type Collector interface {
	Name() string // value of the label "collector"
	Collect(ctx context.Context, ch chan<- prometheus.Metric) error
}

// Set is all collectors of an agent, on a registry of its own.
type Set struct {
	registry   *prometheus.Registry
	collectors []Collector
	log        *slog.Logger
}

var (
	scrapeDuration = desc("scrape_collector_duration_seconds", "Time a collector took in this scrape.", "collector")
	scrapeSuccess  = desc("scrape_collector_success", "Whether a collector succeeded in this scrape.", "collector")
)

// New builds a Set. log may be nil.
func New(log *slog.Logger, collectors ...Collector) *Set {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	s := &Set{registry: prometheus.NewRegistry(), collectors: collectors, log: log}
	s.registry.MustRegister(s)
	return s
}

// Registry is where metrics that are counted as they happen, such as those of RPC, are registered.
func (s *Set) Registry() prometheus.Registerer { return s.registry }

// Handler serves the metrics.
func (s *Set) Handler() http.Handler {
	return promhttp.HandlerFor(s.registry, promhttp.HandlerOpts{
		ErrorLog:            slog.NewLogLogger(s.log.Handler(), slog.LevelWarn),
		ErrorHandling:       promhttp.ContinueOnError,
		DisableCompression:  true, // a few dozen KB once per scrape; gzip would cost more CPU than collecting them
		MaxRequestsInFlight: 5,
	})
}

// Describe implements prometheus.Collector. The other metrics are known only when they are read.
func (s *Set) Describe(ch chan<- *prometheus.Desc) {
	ch <- scrapeDuration
	ch <- scrapeSuccess
}

// Collect implements prometheus.Collector.
func (s *Set) Collect(ch chan<- prometheus.Metric) {
	ctx, cancel := context.WithTimeout(context.Background(), scrapeTimeout)
	defer cancel()
	var wg sync.WaitGroup
	for _, c := range s.collectors {
		wg.Go(func() { s.run(ctx, c, ch) })
	}
	wg.Wait()
}

func (s *Set) run(ctx context.Context, c Collector, ch chan<- prometheus.Metric) {
	start := time.Now()
	success := 1.0
	if err := c.Collect(ctx, ch); err != nil {
		success = 0
		s.log.Warn("collect metrics", "collector", c.Name(), "err", err)
	}
	ch <- gauge(scrapeDuration, time.Since(start).Seconds(), c.Name())
	ch <- gauge(scrapeSuccess, success, c.Name())
}

func desc(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc("reeve_"+name, help, labels, nil)
}

func gauge(d *prometheus.Desc, v float64, labels ...string) prometheus.Metric {
	return prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
}

func counter(d *prometheus.Desc, v float64, labels ...string) prometheus.Metric {
	return prometheus.MustNewConstMetric(d, prometheus.CounterValue, v, labels...)
}

// buffers hold a file of /proc while it is parsed.
var buffers = sync.Pool{New: func() any { return new([16 << 10]byte) }}

// eachLine reads a file of the host and visits its lines. A line is valid only during the visit.
func eachLine(h *host.Host, path string, visit func(line []byte) error) error {
	buf := buffers.Get().(*[16 << 10]byte)
	defer buffers.Put(buf)
	data, err := h.ReadInto(path, buf[:])
	if err == nil && len(data) == len(buf) { // a host with many CPUs or disks
		data, err = h.ReadFile(path)
	}
	if err != nil {
		return err
	}
	for line := range bytes.Lines(data) {
		if err := visit(line); err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
	}
	return nil
}

// columns is a line cut at blanks, without an allocation.
type columns struct {
	col [24][]byte
	n   int
}

func (c *columns) cut(line []byte) {
	c.n = 0
	for f := range fields(line) {
		if c.n == len(c.col) {
			return
		}
		c.col[c.n] = f
		c.n++
	}
}

func fields(line []byte) iter.Seq[[]byte] { return bytes.FieldsSeq(line) }

// number reads a column as a count; a column that is missing or no number is 0.
func (c *columns) number(i int) float64 {
	if i >= c.n {
		return 0
	}
	return float64(digits(c.col[i]))
}

func digits(b []byte) uint64 {
	var v uint64
	for _, d := range b {
		if d < '0' || d > '9' {
			return 0
		}
		v = v*10 + uint64(d-'0')
	}
	return v
}

func decimal(b []byte) (float64, error) { return strconv.ParseFloat(string(b), 64) }
