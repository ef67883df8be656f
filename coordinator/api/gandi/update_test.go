package gandi_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/reeve-paas/reeve/coordinator/core"
)

const otherPassword = "zZ4yyyyyW9"

// allDone waits until every operation of an array is DONE and returns their types.
func (b *bed) allDone(ops any) (types []any) {
	b.Helper()
	for _, op := range structs(ops) {
		b.done(op)
		types = append(types, op["type"])
	}
	return types
}

func TestUpdate(t *testing.T) {
	b := newBed(t).work()
	id := b.running()
	info := func() map[string]any { return b.call("paas.info", id).(map[string]any) }
	wantTypes := func(ops any, want ...any) {
		t.Helper()
		if got := b.allDone(ops); !cmp.Equal(got, want) {
			t.Errorf("got the types %v, want %v", got, want)
		}
	}
	t.Run("54 another size", func(t *testing.T) {
		wantTypes(b.call("paas.update", id, map[string]any{"size": "xl"}), "paas_vm_update")
		if got := info(); got["size"] != "xl" || got["catalog_name"] != "phpmysql_xl" || got["memory"] != 4096 { // 41 too
			t.Errorf("got size %v, catalog name %v, memory %v", got["size"], got["catalog_name"], got["memory"])
		}
	})
	t.Run("55 a larger disk, and never a smaller one", func(t *testing.T) {
		wantTypes(b.call("paas.update", id, map[string]any{"quantity": 10}), "paas_disk_update")
		if got := info(); got["data_disk_additional_size"] != 10 || got["datadisk_total_size"] != 20.0 {
			t.Errorf("got %v of %v, want 10 of 20", got["data_disk_additional_size"], got["datadisk_total_size"])
		}
		b.faults(530495, "paas.update", id, map[string]any{"quantity": 9})
		items := structs(b.call("paas.update", id, map[string]any{"quantity": 9, "--dry-run": true}))
		if len(items) != 1 || items[0]["field"] != "quantity" || items[0]["error"] != "EC_INTLOWER" {
			t.Errorf("got %v, want one item about quantity", items)
		}
	})
	t.Run("56 another password reaches the login", func(t *testing.T) {
		op := structs(b.call("paas.update", id, map[string]any{"password": otherPassword}))
		wantTypes([]any{op[0]}, "paas_vm_update")
		b.agents.mu.Lock()
		login := b.agents.login.Login
		b.agents.mu.Unlock()
		if login == nil || login.PasswordHash != "$6$hash" || login.User != fmt.Sprint(info()["user"]) {
			t.Errorf("got the login %+v", login)
		}
	})
	t.Run("57 no snapshot profile any more", func(t *testing.T) {
		b.allDone(b.call("paas.update", id, map[string]any{"snapshot_profile": ""}))
		if got := info()["snapshot_profile"]; got != nil {
			t.Errorf("got %v, want nil", got)
		}
	})
	t.Run("58 nothing", func(t *testing.T) {
		for _, empty := range []any{map[string]any{}, []any{}} {
			wantTypes(b.call("paas.update", id, empty), "paas_vm_update")
		}
	})
	t.Run("both kinds, the server's first", func(t *testing.T) {
		wantTypes(b.call("paas.update", id, map[string]any{"quantity": 11, "name": "Другой", "console": 1, "reset_mysql_password": otherPassword}), "paas_vm_update", "paas_disk_update")
		if got := info(); got["name"] != "Другой" || got["data_disk_additional_size"] != 11 {
			t.Errorf("got %v with %v", got["name"], got["data_disk_additional_size"])
		}
		b.agents.mu.Lock()
		defer b.agents.mu.Unlock()
		if !b.agents.login.Login.Shell {
			t.Error("the console is not open")
		}
	})
	t.Run("what is wrong with a spec", func(t *testing.T) {
		for _, tc := range []struct {
			code int
			spec map[string]any
		}{
			{500037, map[string]any{"size": "x"}}, {500037, map[string]any{"quantity": -1}}, {500130, map[string]any{"password": "short"}},
			{500130, map[string]any{"reset_mysql_password": "short"}}, {501533, map[string]any{"vhosts": []any{}}}, {501010, map[string]any{"quantity": "x"}},
			{501110, map[string]any{"console": "perhaps"}}, {500037, map[string]any{"name": ""}}, {537842, map[string]any{"snapshot_profile": 99}},
			{501210, map[string]any{"size": map[string]any{}}},
		} {
			text := b.faults(tc.code, "paas.update", id, tc.spec)
			if strings.Contains(text, "short") {
				t.Errorf("the fault repeats the password: %s", text)
			}
		}
		b.faults(537542, "paas.update", 99, map[string]any{})
		b.faults(537542, "paas.update", 99, map[string]any{"--dry-run": true})
		b.faults(501510, "paas.update", id, "xl")
		items := structs(b.call("paas.update", id, map[string]any{"--dry-run": true, "size": "x", "password": "short", "quantity": 2, "colour": "blue", "console": 7}))
		got := map[any]any{}
		for _, item := range items {
			got[item["field"]] = item["error"]
		}
		if diff := cmp.Diff(map[any]any{"size": "!EC_ENUMIN", "password": "!EC_VALIDPASSWORD", "quantity": "EC_INTLOWER", "colour": "EC_UNKNOWNFIELD", "console": "!EC_VALIDBOOL"}, got); diff != "" {
			t.Errorf("got problems that differ (-want +got):\n%s", diff)
		}
		before := b.call("operation.count")
		if items := b.call("paas.update", id, map[string]any{"--dry-run": true, "size": "m"}); len(items.([]any)) != 0 || b.call("operation.count") != before {
			t.Errorf("a dry run of what is fine: got %v", items)
		}
	})
	t.Run("62 restart", func(t *testing.T) {
		if items := b.call("paas.restart", id, map[string]any{"--dry-run": true}); len(items.([]any)) != 0 {
			t.Errorf("dry run: got %v", items)
		}
		wantTypes(b.call("paas.restart", id), "paas_vm_restart")
		if got := info()["state"]; got != "running" {
			t.Errorf("got %v, want running", got)
		}
		b.faults(537542, "paas.restart", 99)
	})
	t.Run("renew", func(t *testing.T) {
		end := info()["date_end"]
		wantTypes(b.call("paas.renew", id, map[string]any{"duration": "2m"}), "paas_vm_renew", "paas_disk_renew")
		if got := info()["date_end"]; got == end {
			t.Errorf("got the end %v as before", got)
		}
		b.faults(501930, "paas.renew", id, map[string]any{"duration": "2w"})
		b.faults(501930, "paas.renew", id, map[string]any{"duration": "121m"})
		b.faults(501532, "paas.renew", id, map[string]any{})
		items := structs(b.call("paas.renew", id, map[string]any{"duration": "121m", "--dry-run": true}))
		if len(items) != 1 || items[0]["field"] != "duration" || items[0]["error"] != "!EC_STRMATCH" {
			t.Errorf("got %v", items)
		}
	})
	t.Run("32 another account's do not exist", func(t *testing.T) {
		b.key, b.other = b.other, b.key
		b.faults(537542, "paas.update", id, map[string]any{"size": "m"})
		b.faults(537542, "paas.restart", id)
		b.faults(537542, "paas.renew", id, map[string]any{"duration": "1m"})
		b.key, b.other = b.other, b.key
	})
	b.stop()
	b.noSecrets()
	if strings.Contains(b.log.String(), otherPassword) {
		t.Error("the log has the new password")
	}
}

func TestUpdateOfWhatIsNotUp(t *testing.T) {
	b := newBed(t)
	id, _ := b.create()
	t.Run("59 being created", func(t *testing.T) {
		b.faults(537560, "paas.update", id, map[string]any{"size": "xl"})
		b.faults(537560, "paas.update", id, map[string]any{"size": "xl", "--dry-run": true})
		b.faults(537560, "paas.restart", id)
		b.faults(537560, "paas.renew", id, map[string]any{"duration": "1m"})
	})
	t.Run("a failed update says why and leaves things as they were", func(t *testing.T) {
		b.work()
		b.until(func() bool { return b.call("paas.info", id).(map[string]any)["state"] == "running" })
		b.agents.failOn("SetLogin", core.Errorf(core.Invalid, "", "sshd says no"))
		op := structs(b.call("paas.update", id, map[string]any{"password": otherPassword, "size": "xl", "name": "new"}))[0]
		got := b.await(op["id"])
		if got["step"] != "ERROR" || !strings.Contains(fmt.Sprint(got["last_error"]), "set the login") {
			t.Errorf("got %v", got)
		}
		if info := b.call("paas.info", id).(map[string]any); info["size"] != "m" || info["name"] != "My PaaS" || info["state"] != "running" {
			t.Errorf("got %v %v %v, want it as before", info["size"], info["name"], info["state"])
		}
	})
}
