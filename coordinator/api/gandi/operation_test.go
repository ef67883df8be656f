package gandi_test

import (
	"testing"
	"time"

	"github.com/reeve-paas/reeve/coordinator/core"
)

func TestDelete(t *testing.T) {
	b := newBed(t)
	id, ops := b.create()
	t.Run("a dry run deletes nothing", func(t *testing.T) {
		for _, yes := range []any{true, 1} {
			if got := b.call("paas.delete", id, map[string]any{"--dry-run": yes}); len(got.([]any)) != 0 {
				t.Errorf("got %v, want no problems", got)
			}
		}
		b.faults(501533, "paas.delete", id, map[string]any{"force": true})
		b.faults(501110, "paas.delete", id, map[string]any{"--dry-run": "x"})
		b.faults(501510, "paas.delete", id, "x")
		if got := b.call("operation.count"); got != 3 {
			t.Errorf("got %v operations, want 3", got)
		}
	})
	var op map[string]any
	t.Run("60 one operation is returned", func(t *testing.T) {
		op = b.call("paas.delete", id).(map[string]any)
		if op["type"] != "paas_delete" || op["step"] != "BILL" || op["paas_id"] != id {
			t.Errorf("got %v", op)
		}
		wantMembers(t, "paas_delete", op, operationMembers)
		wantMembers(t, "params", op["params"], map[string]string{"paas_id": "int", "tracker_id": "string", "cancelable": "string"})
	})
	t.Run("61 a second one is refused while the first runs", func(t *testing.T) {
		b.faults(537560, "paas.delete", id)
		b.faults(537560, "paas.delete", id, map[string]any{"--dry-run": true})
		if got := b.call("paas.info", id).(map[string]any)["state"]; got != "being_deleted" {
			t.Errorf("got state %v", got)
		}
		b.faults(510290, "operation.cancel", op["id"])
	})
	b.work()
	t.Run("60 then nothing of it is left", func(t *testing.T) {
		if got := b.await(op["id"]); got["step"] != "DONE" {
			t.Fatalf("got %v, want DONE", got)
		}
		for _, o := range ops {
			if got := b.await(o["id"]); got["step"] != "CANCEL" {
				t.Errorf("got %v, want the creation to be CANCEL", got)
			}
		}
		for _, list := range []string{"paas.list", "paas.vhost.list"} {
			if got := b.call(list); len(got.([]any)) != 0 {
				t.Errorf("%s: got %v, want nothing", list, got)
			}
		}
		if got := b.call("paas.count"); got != 0 {
			t.Errorf("got count %v, want 0", got)
		}
		b.faults(537642, "paas.vhost.info", "vhost.hosted.test")
	})
	t.Run("61 and it does not exist", func(t *testing.T) {
		b.faults(537542, "paas.delete", id)
		b.faults(537542, "paas.info", id)
	})
	t.Run("ids are not used again", func(t *testing.T) {
		if again, _ := b.create(); again == id {
			t.Errorf("got id %d again", again)
		}
	})
}

func TestOperations(t *testing.T) {
	b := newBed(t)
	_, ops := b.create()
	t.Run("63–64 info works at once, and there is no start yet", func(t *testing.T) {
		for _, op := range ops {
			got := b.call("operation.info", op["id"]).(map[string]any)
			if got["step"] != "WAIT" || got["date_start"] != nil || got["last_error"] != nil || got["eta"].(int) <= 0 {
				t.Errorf("got %v, want it to WAIT", got)
			}
			wantMembers(t, "operation.info", got, operationMembers)
		}
		b.faults(510242, "operation.info", 9999)
	})
	b.work()
	t.Run("63–64 steps move only forward, and the start is known from RUN on", func(t *testing.T) {
		order := map[any]int{"BILL": 0, "WAIT": 1, "RUN": 2, "DONE": 3}
		for _, op := range ops {
			last := order[op["step"]]
			for range 2000 {
				got := b.call("operation.info", op["id"]).(map[string]any)
				step, known := order[got["step"]]
				if !known || step < last {
					t.Fatalf("got step %v after %d", got["step"], last)
				}
				if _, started := got["date_start"].(time.Time); started != (step >= 2) {
					t.Errorf("got step %v with start %v", got["step"], got["date_start"])
				}
				if _, ok := got["last_error"]; !ok {
					t.Error("got no last_error")
				}
				if last = step; step == 3 {
					break
				}
			}
			if last != 3 {
				t.Fatalf("operation %v is not DONE", op["id"])
			}
		}
	})
	t.Run("66 what is done cannot be canceled", func(t *testing.T) {
		b.faults(510290, "operation.cancel", ops[0]["id"])
		b.faults(510242, "operation.cancel", 9999)
	})
	t.Run("what other dialects start is not shown", func(t *testing.T) {
		alice, err := b.auth.APIKey(t.Context(), b.key, "")
		b.must(err)
		_, err = b.core.StartNode(t.Context(), alice, "default", core.NodeSpec{Name: "plain", ImageID: "debian", SizeID: "s"})
		b.must(err)
		all, err := b.core.Operations(t.Context(), alice, core.OperationFilter{})
		b.must(err)
		if len(all) != 4 {
			t.Fatalf("got %d operations, want those of the instance and of the node", len(all))
		}
		if got := b.call("operation.count"); got != 3 {
			t.Errorf("got %v operations, want 3", got)
		}
		b.faults(510242, "operation.info", int(all[3].Num))
		b.faults(510242, "operation.cancel", int(all[3].Num))
	})
}

func TestCancel(t *testing.T) {
	b := newBed(t)
	id, ops := b.create()
	t.Run("66 one that waits is canceled, with those started with it", func(t *testing.T) {
		if got := b.call("operation.cancel", ops[1]["id"]); got != true {
			t.Errorf("got %v, want true", got)
		}
		if got := b.call("operation.info", ops[1]["id"]).(map[string]any)["step"]; got != "CANCEL" {
			t.Errorf("got step %v, want CANCEL at once", got)
		}
		b.work()
		for _, op := range ops {
			if got := b.await(op["id"]); got["step"] != "CANCEL" || got["last_error"] != nil {
				t.Errorf("got %v, want CANCEL", got)
			}
		}
	})
	t.Run("the instance is invalid and can be deleted", func(t *testing.T) {
		b.until(func() bool { return b.call("paas.info", id).(map[string]any)["state"] == "invalid" })
		if got := b.await(b.call("paas.delete", id).(map[string]any)["id"]); got["step"] != "DONE" {
			t.Errorf("got %v, want DONE", got)
		}
	})
}

func TestUnreachableAgentKeepsTheOperationRunning(t *testing.T) {
	b := newBed(t)
	b.agents.failOn("Hostname", core.Errorf(core.Unavailable, core.ObjNode, "the agent does not answer"))
	b.work()
	_, ops := b.create()
	b.until(func() bool { return b.call("operation.info", ops[0]["id"]).(map[string]any)["step"] == "RUN" })
	if got := b.call("operation.cancel", ops[0]["id"]); got != true {
		t.Errorf("got %v, want true", got)
	}
	if got := b.await(ops[0]["id"]); got["step"] != "CANCEL" {
		t.Errorf("got %v, want CANCEL", got)
	}
}
