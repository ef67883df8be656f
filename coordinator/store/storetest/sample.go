package storetest

import (
	"testing"
	"time"

	"github.com/reeve-paas/reeve/coordinator/core"
)

// midnight is a time that every step of a sample divides.
var midnight = time.Date(2026, 11, 20, 0, 0, 0, 0, time.UTC)

func sampleAt(node core.NodeID, at time.Time) core.Sample {
	return core.Sample{Node: node, At: at, Counters: core.UnknownCounters()}
}

func samples(t testing.TB, s *suite, node core.NodeID) []core.Sample {
	t.Helper()
	return get(t, s, func(r core.Reader) ([]core.Sample, error) {
		return r.Samples(node, time.Time{}, midnight.Add(365*24*time.Hour))
	})
}

func minutesOf(samples []core.Sample) []int {
	var minutes []int
	for _, x := range samples {
		minutes = append(minutes, int(x.At.Sub(midnight)/time.Minute))
	}
	return minutes
}

func testSamples(t *testing.T, s *suite) {
	n := put(t, s, core.Node{Key: "a"}, core.Tx.PutNode)
	other := put(t, s, core.Node{Key: "b"}, core.Tx.PutNode)
	full := core.Sample{Node: n.ID, At: midnight.Add(time.Second), Counters: core.Counters{Epoch: -5, CPUs: 2, UserMicros: 1 << 60,
		SystemMicros: 4, StealMicros: 5, ReadBytes: 6, WriteBytes: 7, Reads: 8, Writes: 9, RxBytes: 10, TxBytes: 11, RxPackets: 12,
		TxPackets: 13, DataUsed: 14, DataTotal: 15}}
	zero := core.Sample{Node: n.ID, At: midnight, Counters: core.Counters{}} // 0 is not unknown
	none := sampleAt(n.ID, midnight.Add(time.Minute))
	elsewhere := sampleAt(other.ID, midnight)
	s.update(t, func(tx core.Tx) error { return tx.PutSamples([]core.Sample{none, full, elsewhere, zero}) })
	same(t, "samples of a node", samples(t, s, n.ID), []core.Sample{zero, full, none})
	same(t, "samples of another node", samples(t, s, other.ID), []core.Sample{elsewhere})
	same(t, "samples in a span", get(t, s, func(r core.Reader) ([]core.Sample, error) {
		return r.Samples(n.ID, midnight.Add(time.Second), midnight.Add(time.Minute))
	}), []core.Sample{full})

	full.Writes = 99
	s.update(t, func(tx core.Tx) error { return tx.PutSamples([]core.Sample{full}) })
	same(t, "samples after one was written again", samples(t, s, n.ID), []core.Sample{zero, full, none})

	s.update(t, func(tx core.Tx) error { return tx.DeleteNode(n.ID) })
	same(t, "samples of a deleted node", samples(t, s, n.ID), nil)
	same(t, "samples of the node that stayed", samples(t, s, other.ID), []core.Sample{elsewhere})
	s.update(t, func(tx core.Tx) error {
		return tx.PutSamples([]core.Sample{full, sampleAt(other.ID, midnight.Add(time.Hour))})
	})
	same(t, "samples put after the node was deleted", samples(t, s, n.ID), nil)
	same(t, "samples put beside them", minutesOf(samples(t, s, other.ID)), []int{0, 60})
}

func testThinSamples(t *testing.T, s *suite) {
	n := put(t, s, core.Node{Key: "a"}, core.Tx.PutNode)
	other := put(t, s, core.Node{Key: "b"}, core.Tx.PutNode)
	s.update(t, func(tx core.Tx) error {
		var all []core.Sample
		for m := range 70 {
			if m < 15 || m >= 17 { // the first two of the second step are missing
				all = append(all, sampleAt(n.ID, midnight.Add(time.Duration(m)*time.Minute)), sampleAt(other.ID, midnight.Add(time.Duration(m)*time.Minute)))
			}
		}
		return tx.PutSamples(all)
	})
	thin := func(from, to time.Time) []int {
		s.update(t, func(tx core.Tx) error { return tx.ThinSamples(n.ID, from, to, 15*time.Minute) })
		return minutesOf(samples(t, s, n.ID))
	}
	rest := []int{60, 61, 62, 63, 64, 65, 66, 67, 68, 69}
	same(t, "one step thinned out", thin(midnight.Add(45*time.Minute), midnight.Add(time.Hour))[42:], append([]int{44, 45}, rest...))
	want := append([]int{0, 17, 30, 45}, rest...)
	same(t, "all before an hour thinned out", thin(time.Time{}, midnight.Add(time.Hour)), want)
	same(t, "thinned out again", thin(time.Time{}, midnight.Add(time.Hour)), want)
	if got := len(samples(t, s, other.ID)); got != 68 {
		t.Errorf("got %d samples of the other node, want all 68", got)
	}
	s.update(t, func(tx core.Tx) error { return tx.DeleteSamples(n.ID, midnight.Add(30*time.Minute)) })
	same(t, "the old ones deleted", minutesOf(samples(t, s, n.ID)), append([]int{30, 45}, rest...))
}
