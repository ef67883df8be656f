package gandi_test

import (
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/reeve-paas/reeve/coordinator/core"
)

func TestSnapshots(t *testing.T) {
	b := newBed(t).work()
	b.cloud.copies = map[string]core.CloudSnapshot{}
	normal := map[string]any{"id": 1, "name": "paas_normal", "kept_total": 3, "quota_factor": 1.3, "schedules": []any{
		map[string]any{"name": "daily", "kept_version": 1}, map[string]any{"name": "weekly", "kept_version": 1}, map[string]any{"name": "weekly4", "kept_version": 1}}}
	t.Run("profiles are listed", func(t *testing.T) {
		all := structs(b.call("paas.snapshotprofile.list"))
		if diff := cmp.Diff(normal, all[0]); diff != "" || b.call("paas.snapshotprofile.count") != len(all) {
			t.Errorf("got other profiles (-want +got):\n%s", diff)
		}
		if got := column(b.call("paas.snapshotprofile.list", map[string]any{"name": "paas_daily"}), "id"); !slices.Equal(got, []any{2}) {
			t.Errorf("got the ids %v by name", got)
		}
		if got := b.call("hosting.snapshotprofile.list").([]any); len(got) != 0 {
			t.Errorf("got %v of disks, of which there are none", got)
		}
	})
	id, ops := b.create("snapshot_profile", 1)
	for _, op := range ops {
		b.await(op["id"])
	}
	profile := func() any { return b.call("paas.info", id).(map[string]any)["snapshot_profile"] }
	t.Run("an instance shows its profile, in list and info", func(t *testing.T) {
		for what, got := range map[string]any{"info": profile(), "list": structs(b.call("paas.list"))[0]["snapshot_profile"]} {
			if diff := cmp.Diff(any(normal), got); diff != "" {
				t.Errorf("%s shows another profile (-want +got):\n%s", what, diff)
			}
		}
	})
	t.Run("it is changed and removed by an operation of the disk", func(t *testing.T) {
		update := func(v any) {
			t.Helper()
			done := structs(b.call("paas.update", id, map[string]any{"snapshot_profile": v}))
			if len(done) != 1 || done[0]["type"] != "paas_disk_update" || b.await(done[0]["id"])["step"] != "DONE" {
				t.Errorf("got %v", done)
			}
		}
		update(2)
		if got := profile().(map[string]any)["name"]; got != "paas_daily" {
			t.Errorf("got the profile %v", got)
		}
		update("")
		if got := profile(); got != nil {
			t.Errorf("got the profile %v, want none", got)
		}
		b.faults(537842, "paas.update", id, map[string]any{"snapshot_profile": 99})
		items := structs(b.call("paas.update", id, map[string]any{"snapshot_profile": 99, "--dry-run": true}))
		if len(items) != 1 || items[0]["field"] != "snapshot_profile" {
			t.Errorf("got %v of a dry run", items)
		}
	})
	var snapshot any
	t.Run("one is taken, shown, restored and deleted", func(t *testing.T) {
		do := func(method string, num any, want string) map[string]any {
			t.Helper()
			op := b.call(method, num).(map[string]any)
			if op["type"] != want || op["step"] != "BILL" || op["paas_id"] != id {
				t.Errorf("%s: got the operation %v", method, op)
			}
			if done := b.await(op["id"]); done["step"] != "DONE" {
				t.Errorf("%s: got %v, %v", method, done["step"], done["last_error"])
			}
			return op["params"].(map[string]any)
		}
		snapshot = do("paas.snapshot.create", id, "paas_snapshot_create")["snapshot_id"]
		row := structs(b.call("paas.snapshot.list", map[string]any{"paas_id": id, "state": "created"}))[0]
		wantMembers(t, "a snapshot", row, map[string]string{"id": "int", "paas_id": "int", "state": "string", "size": "int", "date_created": "time.Time", "schedules": "array"})
		if row["id"] != snapshot || row["size"] != 10 || len(row["schedules"].([]any)) != 0 {
			t.Errorf("got %v", row)
		}
		if diff := cmp.Diff(any(row), b.call("paas.snapshot.info", snapshot)); diff != "" {
			t.Errorf("info differs (-list +info):\n%s", diff)
		}
		do("paas.snapshot.restore", snapshot, "paas_restore")
		if got := b.call("paas.snapshot.count"); got != 1 {
			t.Errorf("got %v snapshots after the restoration", got)
		}
		b.faults(530442, "paas.snapshot.info", 99)
		b.faults(530442, "paas.snapshot.restore", 99)
		b.faults(530442, "paas.snapshot.delete", 99)
		b.faults(537542, "paas.snapshot.create", 99)
		b.faults(501010, "paas.snapshot.info", "x")
		do("paas.snapshot.delete", snapshot, "paas_snapshot_delete")
		b.faults(530442, "paas.snapshot.info", snapshot)
		if got := b.call("paas.snapshot.count"); got != 0 {
			t.Errorf("got %v snapshots, want none", got)
		}
	})
}
