package sqlite

import (
	"fmt"
	"time"

	"github.com/reeve-paas/reeve/coordinator/core"
)

const (
	sampleColumns = `at, epoch, cpus, user_micros, system_micros, steal_micros, read_bytes, write_bytes, reads, writes, rx_bytes,
		tx_bytes, rx_packets, tx_packets, data_used, data_total`
	samplesOfNode = `SELECT ` + sampleColumns + ` FROM sample WHERE node = (SELECT num FROM node WHERE id = ?) AND at >= ? AND at < ?
		ORDER BY at`
	sampleInsert = `INSERT OR REPLACE INTO sample (node, ` + sampleColumns + `)
		SELECT num, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ? FROM node WHERE id = ?`
	sampleThin = `DELETE FROM sample WHERE node = (SELECT num FROM node WHERE id = ?1) AND at >= ?2 AND at < ?3 AND EXISTS (
		SELECT 1 FROM sample AS first WHERE first.node = sample.node AND first.at < sample.at AND first.at >= sample.at - sample.at % ?4)`
	sampleDelete = `DELETE FROM sample WHERE node = (SELECT num FROM node WHERE id = ?) AND at < ?`
)

// counter scans an INTEGER that may be NULL.
type counter int64

func (c *counter) Scan(v any) error {
	switch v := v.(type) {
	case int64:
		*c = counter(v)
	case nil:
		*c = core.Unknown
	default:
		return fmt.Errorf("got a %T instead of a counter", v)
	}
	return nil
}

func counterValue(v int64) any {
	if v == core.Unknown {
		return nil
	}
	return v
}

func scanSample(_ *tx, row scanner, s *core.Sample) error {
	var at int64
	err := row.Scan((*number)(&at), (*number)(&s.Epoch), (*counter)(&s.CPUs), (*counter)(&s.UserMicros), (*counter)(&s.SystemMicros),
		(*counter)(&s.StealMicros), (*counter)(&s.ReadBytes), (*counter)(&s.WriteBytes), (*counter)(&s.Reads), (*counter)(&s.Writes),
		(*counter)(&s.RxBytes), (*counter)(&s.TxBytes), (*counter)(&s.RxPackets), (*counter)(&s.TxPackets),
		(*counter)(&s.DataUsed), (*counter)(&s.DataTotal))
	s.At = time.Unix(at, 0).UTC()
	return err
}

func (t *tx) Samples(node core.NodeID, from, to time.Time) ([]core.Sample, error) {
	samples, err := list(t, core.ObjNode, scanSample, samplesOfNode, string(node), from.Unix(), to.Unix())
	for i := range samples {
		samples[i].Node = node
	}
	return samples, err
}

func (t *tx) PutSamples(samples []core.Sample) error {
	for _, s := range samples {
		_, err := t.exec(sampleInsert, s.At.Unix(), s.Epoch, counterValue(s.CPUs), counterValue(s.UserMicros), counterValue(s.SystemMicros),
			counterValue(s.StealMicros), counterValue(s.ReadBytes), counterValue(s.WriteBytes), counterValue(s.Reads), counterValue(s.Writes),
			counterValue(s.RxBytes), counterValue(s.TxBytes), counterValue(s.RxPackets), counterValue(s.TxPackets),
			counterValue(s.DataUsed), counterValue(s.DataTotal), string(s.Node))
		if err != nil {
			return failure(err, core.ObjNode, "store a sample")
		}
	}
	return nil
}

func (t *tx) ThinSamples(node core.NodeID, from, to time.Time, step time.Duration) error {
	_, err := t.exec(sampleThin, string(node), from.Unix(), to.Unix(), int64(step/time.Second))
	return failure(err, core.ObjNode, "thin out samples")
}

func (t *tx) DeleteSamples(node core.NodeID, before time.Time) error {
	_, err := t.exec(sampleDelete, string(node), before.Unix())
	return failure(err, core.ObjNode, "delete samples")
}
