package core

import (
	"math"
	"testing"
	"time"
)

var (
	t0   = time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC)
	long = t0.Add(-48 * time.Hour) // everything in these tests is younger: kept by the minute
)

// row is a sample some seconds after t0 with one received byte count.
func row(seconds int, rx int64) Sample {
	s := Sample{Node: "n", At: t0.Add(time.Duration(seconds) * time.Second), Counters: UnknownCounters()}
	s.RxBytes = rx
	return s
}

// wantValues compares with NaN equal to NaN, and a little tolerance.
func wantValues(t *testing.T, what string, got []float64, want ...float64) {
	t.Helper()
	ok := len(got) == len(want)
	for i := 0; ok && i < len(want); i++ {
		ok = math.IsNaN(got[i]) && math.IsNaN(want[i]) || math.Abs(got[i]-want[i]) < 1e-9
	}
	if !ok {
		t.Errorf("%s: got %v, want %v", what, got, want)
	}
}

func seriesOf(t *testing.T, u Usage, label, unit string) []float64 {
	t.Helper()
	for _, s := range u.Series {
		if s.Label == label && s.Unit == unit {
			return s.Values
		}
	}
	t.Fatalf("there is no series %q in %s", label, unit)
	return nil
}

var nan = math.NaN()

func TestRates(t *testing.T) {
	boot := func(s Sample, epoch int64) Sample { s.Epoch = epoch; return s }
	for _, c := range []struct {
		name    string
		samples []Sample
		want    []float64 // bytes per second in the minutes after t0
	}{
		{"nothing", nil, []float64{nan, nan, nan, nan}},
		{"one sample says nothing", []Sample{row(0, 5)}, []float64{nan, nan, nan, nan}},
		{"on the minute", []Sample{row(0, 0), row(60, 600), row(120, 600)}, []float64{10, 0, nan, nan}},
		{"between minutes a step has a share of both", []Sample{row(-30, 0), row(30, 600), row(90, 1800)}, []float64{15, 20, nan, nan}},
		{"the step that is going on counts what it knows", []Sample{row(60, 0), row(90, 300)}, []float64{nan, 10, nan, nan}},
		{"a counter that starts again is a gap, not a peak", []Sample{row(0, 1000), row(60, 1600), row(120, 30), row(180, 90)}, []float64{10, nan, 1, nan}},
		{"another boot is a gap even when the counter grew", []Sample{boot(row(0, 0), 1), boot(row(60, 60), 1), boot(row(120, 1e12), 2), boot(row(180, 1e12+60), 2)}, []float64{1, nan, 1, nan}},
		{"an unknown counter is a gap", []Sample{row(0, 0), row(60, 60), row(120, Unknown), row(180, 200), row(240, 260)}, []float64{1, nan, nan, 1}},
		{"one missing sample is bridged", []Sample{row(0, 0), row(120, 240), row(180, 240)}, []float64{2, 2, 0, nan}},
		{"an agent that was away is a gap", []Sample{row(0, 0), row(151, 1510)}, []float64{nan, nan, nan, nan}},
		{"a clock that went back is a gap", []Sample{row(0, 0), row(0, 100), row(60, 160)}, []float64{1, nan, nan, nan}},
		{"a counter beyond 2^53 keeps its growth", []Sample{row(0, 1<<60), row(60, 1<<60+60)}, []float64{1, nan, nan, nan}},
	} {
		t.Run(c.name, func(t *testing.T) {
			u := usage(c.samples, MetricNet, t0, t0.Add(4*time.Minute), time.Minute, long)
			wantValues(t, "in", seriesOf(t, u, "in", UnitRate), c.want...)
			wantValues(t, "out", seriesOf(t, u, "out", UnitRate), nan, nan, nan, nan)
		})
	}
}

func TestCPUIsPercentOfOneCPU(t *testing.T) {
	a, b := row(0, 0), row(60, 0)
	a.CPUs, a.UserMicros, a.SystemMicros, a.StealMicros = 2, 5e6, 7e6, 0
	b.CPUs, b.UserMicros, b.SystemMicros, b.StealMicros = 2, 65e6, 37e6, 6e6 // 60 s, 30 s and 6 s of CPU time in a minute
	u := usage([]Sample{a, b}, MetricCPU, t0, t0.Add(time.Minute), time.Minute, long)
	for label, want := range map[string]float64{"total": 150, "user": 100, "system": 50, "steal": 10} {
		wantValues(t, label, seriesOf(t, u, label, UnitPercent), want)
	}
	if u.CPUs != 2 {
		t.Errorf("got %d CPUs, want 2", u.CPUs)
	}
	b.SystemMicros = Unknown
	u = usage([]Sample{a, b}, MetricCPU, t0, t0.Add(time.Minute), time.Minute, long)
	wantValues(t, "total without a part of it", seriesOf(t, u, "total", UnitPercent), nan)
	wantValues(t, "user", seriesOf(t, u, "user", UnitPercent), 100)
}

func TestDiskHasRatesAndFill(t *testing.T) {
	var samples []Sample
	for m := range 12 {
		s := row(60*m, 0)
		s.WriteBytes, s.Writes = int64(m)*6000, int64(m)*60
		if m%5 == 0 && m < 6 {
			s.DataUsed, s.DataTotal = int64(100+m), 1000
		}
		samples = append(samples, s)
	}
	u := usage(samples, MetricDisk, t0, t0.Add(14*time.Minute), time.Minute, long)
	wantValues(t, "written", seriesOf(t, u, "written", UnitRate)[:3], 100, 100, 100)
	wantValues(t, "writes", seriesOf(t, u, "write operations", UnitOps)[:3], 1, 1, 1)
	// Looked at every five minutes; the last look is believed for a while and never longer than there are samples.
	wantValues(t, "used", seriesOf(t, u, "used", UnitBytes), 100, 100, 100, 100, 100, 105, 105, 105, 105, 105, 105, 105, nan, nan)
	wantValues(t, "size", seriesOf(t, u, "total", UnitBytes)[:1], 1000)
	if u.Empty() || !usage(nil, MetricDisk, t0, t0.Add(time.Hour), time.Minute, long).Empty() {
		t.Error("empty is wrong")
	}
}

func TestOldSamplesAreFurtherApart(t *testing.T) {
	fine := t0.Add(time.Hour) // all samples are old
	samples := []Sample{row(0, 0), row(15*60, 900), row(45*60, 4500), row(85*60, 99999)}
	u := usage(samples, MetricNet, t0, t0.Add(90*time.Minute), 15*time.Minute, fine)
	wantValues(t, "in", seriesOf(t, u, "in", UnitRate), 1, 2, 2, nan, nan, nan)
}
