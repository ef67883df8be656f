package storetest

import (
	"testing"
	"time"

	"github.com/reeve-paas/reeve/coordinator/core"
)

func testMessages(t *testing.T, s *suite) {
	n := put(t, s, core.Node{Key: "a"}, core.Tx.PutNode)
	other := put(t, s, core.Node{Key: "b"}, core.Tx.PutNode)
	note := func(node core.NodeID, id string, at time.Time) (fresh bool) {
		t.Helper()
		s.update(t, func(tx core.Tx) (err error) { fresh, err = tx.NoteMessage(node, id, at); return err })
		return fresh
	}
	for i, step := range []struct {
		node core.NodeID
		id   string
		want bool
	}{{n.ID, "1", true}, {n.ID, "1", false}, {other.ID, "1", true}, {n.ID, "2", true}, {"gone", "1", false}} {
		if got := note(step.node, step.id, midnight.Add(time.Duration(i)*time.Minute)); got != step.want {
			t.Errorf("step %d: got fresh %v, want %v", i, got, step.want)
		}
	}
	s.update(t, func(tx core.Tx) error { return tx.ForgetMessages(n.ID, midnight.Add(time.Minute)) })
	if !note(n.ID, "1", midnight) || note(n.ID, "2", midnight) || note(other.ID, "1", midnight) {
		t.Error("got other messages forgotten than the old ones of one node")
	}
	s.update(t, func(tx core.Tx) error { return tx.DeleteNode(n.ID) })
}
