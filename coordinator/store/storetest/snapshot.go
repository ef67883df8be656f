package storetest

import (
	"testing"

	"github.com/reeve-paas/reeve/coordinator/core"
)

func testSnapshots(t *testing.T, s *suite) {
	owner, other := account(t, s, "a"), account(t, s, "b")
	a, b := app(t, s, owner.ID, "shop"), app(t, s, other.ID, "blog")
	a.SnapshotProfile = 7
	s.update(t, func(tx core.Tx) error { return tx.PutApp(&a) })
	same(t, "profile", get(t, s, func(r core.Reader) (core.App, error) { return r.App(a.ID) }).SnapshotProfile, 7)

	first := put(t, s, core.Snapshot{AppID: a.ID, Cloud: "c", Key: "k1", Schedules: []string{"daily", "weekly"}, SizeBytes: 1 << 40,
		State: core.SnapshotCreating, CreatedAt: at(1)}, core.Tx.PutSnapshot)
	second := put(t, s, core.Snapshot{AppID: b.ID, Cloud: "c", Key: "k2", State: core.SnapshotReady, CreatedAt: at(2)}, core.Tx.PutSnapshot)
	third := put(t, s, core.Snapshot{AppID: a.ID, Cloud: "c", Key: "k3", State: core.SnapshotReady, CreatedAt: at(3)}, core.Tx.PutSnapshot)
	first.CloudID, first.State = "s-1", core.SnapshotReady
	s.update(t, func(tx core.Tx) error { return tx.PutSnapshot(&first) })
	list := func(account core.AccountID, app core.AppID) []core.Snapshot {
		t.Helper()
		return get(t, s, func(r core.Reader) ([]core.Snapshot, error) { return r.Snapshots(account, app) })
	}
	same(t, "snapshot", get(t, s, func(r core.Reader) (core.Snapshot, error) { return r.Snapshot(first.ID) }), first)
	same(t, "snapshot by number", get(t, s, func(r core.Reader) (core.Snapshot, error) { return r.SnapshotByNum(second.Num) }), second)
	same(t, "an account's", list(owner.ID, ""), []core.Snapshot{first, third})
	same(t, "an app's", list("", b.ID), []core.Snapshot{second})
	same(t, "all", list("", ""), []core.Snapshot{first, second, third})
	wantKind(t, s.View(t.Context(), func(r core.Reader) error { _, err := r.SnapshotByNum(99); return err }), core.NotFound, core.ObjSnapshot)

	due := func(minute int) []core.AppID {
		t.Helper()
		return get(t, s, func(r core.Reader) ([]core.AppID, error) { return r.DueSnapshots(at(minute)) })
	}
	turn := func(app core.AppID, schedule string, minute int) core.SnapshotTurn {
		x := core.SnapshotTurn{AppID: app, Schedule: schedule, DueAt: at(minute)}
		s.update(t, func(tx core.Tx) error { return tx.PutSnapshotTurn(x) })
		return x
	}
	weekly, daily := turn(a.ID, "weekly", 5), turn(a.ID, "daily", 3)
	turn(b.ID, "daily", 9)
	turn(b.ID, "daily", 2)
	same(t, "turns", get(t, s, func(r core.Reader) ([]core.SnapshotTurn, error) { return r.SnapshotTurns(a.ID) }), []core.SnapshotTurn{daily, weekly})
	same(t, "nothing due", due(1), nil)
	same(t, "one due", due(2), []core.AppID{b.ID})
	same(t, "each app once, the longest due first", due(6), []core.AppID{b.ID, a.ID})
	s.update(t, func(tx core.Tx) error { return tx.DeleteSnapshotTurns(b.ID) })
	same(t, "due without turns", due(9), []core.AppID{a.ID})

	if err := s.Update(t.Context(), func(tx core.Tx) error { return tx.DeleteApp(a.ID) }); err == nil {
		t.Error("an app was forgotten before its snapshots")
	}
	s.update(t, func(tx core.Tx) error {
		for _, x := range []core.Snapshot{first, third, third} {
			if err := tx.DeleteSnapshot(x.ID); err != nil {
				return err
			}
		}
		return tx.DeleteApp(a.ID)
	})
	same(t, "due of what is gone", due(9), nil)
	same(t, "left", list("", ""), []core.Snapshot{second})
}
