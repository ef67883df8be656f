package sqlite

import (
	"fmt"
	"testing"
	"time"

	"github.com/reeve-paas/reeve/coordinator/core"
)

// BenchmarkSamples is what one minute of a thousand nodes costs the store, and what it costs to thin out a node that
// nobody looked after for a month.
func BenchmarkSamples(b *testing.B) {
	s := openAt(b, b.TempDir())
	b.Cleanup(func() { s.Close() })
	var ids []core.NodeID
	if err := s.Update(b.Context(), func(tx core.Tx) error {
		for i := range 1000 {
			n := core.Node{Key: fmt.Sprint(i)}
			if err := tx.PutNode(&n); err != nil {
				return err
			}
			ids = append(ids, n.ID)
		}
		return nil
	}); err != nil {
		b.Fatal(err)
	}
	start := time.Date(2026, 11, 20, 0, 0, 0, 0, time.UTC)
	put := func(ids []core.NodeID, at time.Time) {
		rows := make([]core.Sample, len(ids))
		for i, id := range ids {
			rows[i] = core.Sample{Node: id, At: at, Counters: core.Counters{UserMicros: at.UnixMicro(), SystemMicros: at.UnixMicro(), ReadBytes: at.Unix(), WriteBytes: at.Unix(), RxBytes: at.Unix(), TxBytes: at.Unix()}}
		}
		if err := s.Update(b.Context(), func(tx core.Tx) error { return tx.PutSamples(rows) }); err != nil {
			b.Fatal(err)
		}
	}
	b.Run("put 1000", func(b *testing.B) {
		for b.Loop() {
			put(ids, start)
			start = start.Add(time.Minute)
		}
	})
	for m := range 3000 {
		put(ids[:1], start.Add(time.Duration(m)*15*time.Minute))
	}
	b.Run("thin a thinned month", func(b *testing.B) {
		for b.Loop() {
			if err := s.Update(b.Context(), func(tx core.Tx) error {
				return tx.ThinSamples(ids[0], time.Time{}, start.Add(1000*time.Hour), 15*time.Minute)
			}); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("read a month", func(b *testing.B) {
		for b.Loop() {
			if err := s.View(b.Context(), func(r core.Reader) error {
				_, err := r.Samples(ids[0], time.Time{}, start.Add(1000*time.Hour))
				return err
			}); err != nil {
				b.Fatal(err)
			}
		}
	})
}
