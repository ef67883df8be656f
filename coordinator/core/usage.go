package core

import (
	"context"
	"math"
	"time"
)

// Metric is one picture of what a node uses.
type Metric string

// The metrics of a node.
const (
	MetricCPU  Metric = "cpu"
	MetricDisk Metric = "disk"
	MetricNet  Metric = "net"
)

// Units of series.
const (
	UnitPercent = "%" // of one CPU: two busy CPUs are 200
	UnitBytes   = "B"
	UnitRate    = "B/s"
	UnitOps     = "ops/s"
	UnitPackets = "packets/s"
)

// Usage is what a node used, in steps of equal length.
type Usage struct {
	From   time.Time // start of the first step
	Step   time.Duration
	CPUs   int64 // Unknown until a sample told
	Series []Series
}

// Series is one line of a picture.
type Series struct {
	Label  string
	Unit   string
	Values []float64 // one per step, NaN where nothing is known
}

// Empty says that nothing is known at all.
func (u Usage) Empty() bool {
	for _, s := range u.Series {
		for _, v := range s.Values {
			if !math.IsNaN(v) {
				return false
			}
		}
	}
	return true
}

// line says how a series comes from samples: the growth of a counter per second times scale, or a gauge as it is.
type line struct {
	label, unit string
	scale       float64
	value       func(*Counters) int64
	gauge       bool
}

// lines of each metric. The first are what pictures show; spec gandi 5.
var lines = map[Metric][]line{
	MetricCPU: {
		{label: "total", unit: UnitPercent, scale: 100e-6, value: func(c *Counters) int64 {
			if c.UserMicros == Unknown || c.SystemMicros == Unknown {
				return Unknown
			}
			return c.UserMicros + c.SystemMicros
		}},
		{label: "user", unit: UnitPercent, scale: 100e-6, value: func(c *Counters) int64 { return c.UserMicros }},
		{label: "system", unit: UnitPercent, scale: 100e-6, value: func(c *Counters) int64 { return c.SystemMicros }},
		{label: "steal", unit: UnitPercent, scale: 100e-6, value: func(c *Counters) int64 { return c.StealMicros }},
	},
	MetricDisk: {
		{label: "read", unit: UnitRate, scale: 1, value: func(c *Counters) int64 { return c.ReadBytes }},
		{label: "written", unit: UnitRate, scale: 1, value: func(c *Counters) int64 { return c.WriteBytes }},
		{label: "read operations", unit: UnitOps, scale: 1, value: func(c *Counters) int64 { return c.Reads }},
		{label: "write operations", unit: UnitOps, scale: 1, value: func(c *Counters) int64 { return c.Writes }},
		{label: "used", unit: UnitBytes, gauge: true, value: func(c *Counters) int64 { return c.DataUsed }},
		{label: "total", unit: UnitBytes, gauge: true, value: func(c *Counters) int64 { return c.DataTotal }},
	},
	MetricNet: {
		{label: "in", unit: UnitRate, scale: 1, value: func(c *Counters) int64 { return c.RxBytes }},
		{label: "out", unit: UnitRate, scale: 1, value: func(c *Counters) int64 { return c.TxBytes }},
		{label: "packets in", unit: UnitPackets, scale: 1, value: func(c *Counters) int64 { return c.RxPackets }},
		{label: "packets out", unit: UnitPackets, scale: 1, value: func(c *Counters) int64 { return c.TxPackets }},
	},
}

// A pair of samples further apart than this has something missing between them. Old samples are thinned out.
const (
	fineGap   = 5 * SampleStep / 2
	coarseGap = 5 * CoarseStep / 2
	gaugeHold = dataInterval + fineGap // how long a gauge is believed
)

// Usage is what a node used in the steps from from to to; what has not come yet is missing.
func (c *Core) Usage(ctx context.Context, id NodeID, m Metric, from, to time.Time, step time.Duration) (Usage, error) {
	samples, err := view(ctx, c.Store, func(r Reader) ([]Sample, error) { return r.Samples(id, from.Add(-coarseGap), to.Add(coarseGap)) })
	if err != nil {
		return Usage{}, err
	}
	return usage(samples, m, from, to, step, c.now().Add(-FineSamples)), nil
}

// usage puts samples, oldest first, into the steps between from and to. Those before fine are thinned out.
func usage(samples []Sample, m Metric, from, to time.Time, step time.Duration, fine time.Time) Usage {
	u := Usage{From: from, Step: step, CPUs: Unknown}
	for i := range samples {
		if samples[i].CPUs != Unknown {
			u.CPUs = samples[i].CPUs
		}
	}
	for _, l := range lines[m] {
		g := newGrid(from, to, step)
		if l.gauge {
			g.gauge(samples, l.value, fine)
		} else {
			g.rate(samples, l.value, l.scale, fine)
		}
		u.Series = append(u.Series, Series{Label: l.label, Unit: l.unit, Values: g.values()})
	}
	return u
}

// grid collects values that hold for some time into steps, each weighted by how long it held there.
type grid struct {
	from         time.Time
	step         time.Duration
	sum, covered []float64 // per step: value × seconds, and seconds
}

func newGrid(from, to time.Time, step time.Duration) *grid {
	n := int(to.Sub(from) / step)
	return &grid{from: from, step: step, sum: make([]float64, n), covered: make([]float64, n)}
}

// hold says that the value was v from a to b.
func (g *grid) hold(a, b time.Time, v float64) {
	start, end := a.Sub(g.from), b.Sub(g.from)
	for i := max(0, int(start/g.step)); i < len(g.sum); i++ {
		lo, hi := max(start, time.Duration(i)*g.step), min(end, time.Duration(i+1)*g.step)
		if hi <= lo {
			if time.Duration(i)*g.step >= end {
				return
			}
			continue
		}
		g.sum[i] += v * (hi - lo).Seconds()
		g.covered[i] += (hi - lo).Seconds()
	}
}

func (g *grid) values() []float64 {
	v := make([]float64, len(g.sum))
	for i := range v {
		v[i] = g.sum[i] / g.covered[i] // NaN when nothing is known: 0/0
	}
	return v
}

// rate spreads the growth of a counter evenly between two samples. What is unknown stays missing: a counter that went back
// was reset, and what it counted before that is lost.
func (g *grid) rate(samples []Sample, value func(*Counters) int64, scale float64, fine time.Time) {
	for i := 1; i < len(samples); i++ {
		a, b := &samples[i-1], &samples[i]
		x, y := value(&a.Counters), value(&b.Counters)
		if x == Unknown || y == Unknown || y < x || a.Epoch != b.Epoch || !b.At.After(a.At) || apart(a, b, fine) {
			continue
		}
		g.hold(a.At, b.At, float64(y-x)/b.At.Sub(a.At).Seconds()*scale)
	}
}

// gauge holds a value until the next one, or until it is too old to be believed.
func (g *grid) gauge(samples []Sample, value func(*Counters) int64, fine time.Time) {
	var last *Sample
	until := func(end time.Time) {
		if last == nil {
			return
		}
		hold := gaugeHold
		if last.At.Before(fine) {
			hold = coarseGap
		}
		if oldest := last.At.Add(hold); end.After(oldest) {
			end = oldest
		}
		g.hold(last.At, end, float64(value(&last.Counters)))
	}
	for i := range samples {
		if value(&samples[i].Counters) != Unknown {
			until(samples[i].At)
			last = &samples[i]
		}
	}
	if len(samples) > 0 {
		until(samples[len(samples)-1].At.Add(SampleStep))
	}
}

// apart says that there were samples missing between two neighbours.
func apart(a, b *Sample, fine time.Time) bool {
	gap := fineGap
	if a.At.Before(fine) {
		gap = coarseGap
	}
	return b.At.Sub(a.At) > gap
}
