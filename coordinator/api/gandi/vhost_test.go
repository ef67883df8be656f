package gandi_test

import (
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/reeve-paas/reeve/coordinator/api/gandi"
	"github.com/reeve-paas/reeve/coordinator/core"
)

// running creates an instance and waits until it is up.
func (b *bed) running(changes ...any) int {
	b.Helper()
	id, ops := b.create(changes...)
	for _, op := range ops {
		if got := b.await(op["id"]); got["step"] != "DONE" {
			b.Fatalf("got %v, want DONE", got)
		}
	}
	return id
}

// done waits until an operation struct is DONE.
func (b *bed) done(op any) map[string]any {
	b.Helper()
	got := b.await(op.(map[string]any)["id"])
	if got["step"] != "DONE" {
		b.Fatalf("got %v, want DONE", got)
	}
	return got
}

func TestVhosts(t *testing.T) {
	b := newBed(t, func(o *gandi.Options, _ *core.Options) { o.RouterHost = "routers.example.net" }).work()
	id := b.running()
	t.Run("79 create answers with an operation, and the list has it", func(t *testing.T) {
		op := b.call("paas.vhost.create", map[string]any{"paas_id": id, "vhost": "blog.hosted.test", "zone_alter": true}).(map[string]any)
		if op["type"] != "rproxy_update" || op["step"] != "BILL" || op["paas_id"] != id || op["params"].(map[string]any)["vhost"] != "blog.hosted.test" {
			t.Errorf("got %v, want an rproxy_update of it", op)
		}
		wantMembers(t, "vhost.create", op, operationMembers)
		if infos := op["infos"].(map[string]any); infos["label"] != "blog.hosted.test" {
			t.Errorf("got infos %v", infos)
		}
		b.done(op)
		rows := structs(b.call("paas.vhost.list", map[string]any{"paas_id": id, "name": "blog.hosted.test"}))
		if len(rows) != 1 || rows[0]["state"] != "running" || rows[0]["paas_id"] != id {
			t.Fatalf("got %v, want it running", rows)
		}
		wantMembers(t, "vhost", rows[0], map[string]string{"id": "int", "name": "string", "paas_id": "int", "state": "string", "date_creation": "time.Time", "cert_id": "nil"})
		if diff := cmp.Diff(any(rows[0]), b.call("paas.vhost.info", "blog.hosted.test")); diff != "" {
			t.Errorf("info differs from list (-list +info):\n%s", diff)
		}
	})
	t.Run("80 a second one of the name is refused", func(t *testing.T) {
		b.faults(537641, "paas.vhost.create", map[string]any{"paas_id": id, "vhost": "blog.hosted.test"})
		got := structs(b.call("paas.vhost.create", map[string]any{"paas_id": id, "vhost": "blog.hosted.test", "--dry-run": true}))
		want := map[string]any{"field": "vhost", "error": "EC_EXIST", "field_type": "String", "attr": []any{"blog.hosted.test"}, "reason": "blog.hosted.test is served already"}
		if len(got) != 1 || !cmp.Equal(got[0], want) {
			t.Errorf("got %v, want %v", got, want)
		}
	})
	t.Run("82 names are normalised", func(t *testing.T) {
		b.done(b.call("paas.vhost.create", map[string]any{"paas_id": id, "vhost": "CAFÉ.Hosted.Test."}))
		for _, name := range []string{"café.hosted.test", "XN--CAF-DMA.hosted.test."} {
			if got := b.call("paas.vhost.info", name).(map[string]any)["name"]; got != "xn--caf-dma.hosted.test" {
				t.Errorf("%s: got %v", name, got)
			}
		}
	})
	t.Run("81 deleted by name it is gone", func(t *testing.T) {
		if got := b.call("paas.vhost.delete", "blog.hosted.test", map[string]any{"--dry-run": true}); len(got.([]any)) != 0 {
			t.Errorf("dry run: got %v, want no problems", got)
		}
		op := b.call("paas.vhost.delete", "BLOG.hosted.test.").(map[string]any)
		if op["type"] != "rproxy_update" || op["params"].(map[string]any)["vhost"] != "blog.hosted.test" {
			t.Errorf("got %v", op)
		}
		b.done(op)
		b.faults(537642, "paas.vhost.info", "blog.hosted.test")
		b.faults(537642, "paas.vhost.delete", "blog.hosted.test")
		b.faults(505237, "paas.vhost.delete", "not a name")
	})
	t.Run("76 and 95 an unproven name: the fault first, then the reason", func(t *testing.T) {
		b.faults(537650, "paas.vhost.create", map[string]any{"paas_id": id, "vhost": "shop.example.test"})
		items := structs(b.call("paas.vhost.create", map[string]any{"paas_id": id, "vhost": "shop.example.test", "--dry-run": true}))
		attr := items[0]["attr"].([]any)
		want := map[string]any{"field": "vhost", "error": "EC_TXT+EC_MISSINGMANDATORY", "field_type": nil, "attr": attr, "reason": "You must put a TXT value in your zone"}
		if len(items) != 1 || !cmp.Equal(items[0], want) || len(attr) != 2 || attr[0] != "shop.example.test" {
			t.Fatalf("got %v, want %v", items, want)
		}
		dns := b.call("paas.vhost.get_dns_entries", map[string]any{"vhost": "shop.example.test", "paas_id": id}).(map[string]any)
		if got := dns["txt"].(map[string]any); got["value"] != attr[1] || got["name"] != "shop" || dns["cname"] != "routers.example.net" || len(dns["a"].([]any)) != 1 || len(dns["aaaa"].([]any)) != 0 {
			t.Errorf("got %v, want the value %v", dns, attr[1])
		}
		b.zone.publish("shop.example.test", attr[1].(string))
		if got := b.call("paas.vhost.create", map[string]any{"paas_id": id, "vhost": "shop.example.test", "--dry-run": 1}); len(got.([]any)) != 0 {
			t.Errorf("got %v, want no problems", got)
		}
		b.done(b.call("paas.vhost.create", map[string]any{"paas_id": id, "vhost": "shop.example.test"}))
	})
	t.Run("what is wrong with a spec", func(t *testing.T) {
		for _, tc := range []struct {
			code int
			spec map[string]any
		}{
			{501532, map[string]any{"paas_id": id}}, {501532, map[string]any{"vhost": "a.hosted.test"}}, {501533, map[string]any{"paas_id": id, "vhost": "a.hosted.test", "x": 1}},
			{501010, map[string]any{"paas_id": "x", "vhost": "a.hosted.test"}}, {501210, map[string]any{"paas_id": id, "vhost": []any{}}}, {501110, map[string]any{"paas_id": id, "vhost": "a.hosted.test", "override": 7}},
			{505237, map[string]any{"paas_id": id, "vhost": "no name"}}, {537542, map[string]any{"paas_id": 99, "vhost": "a.hosted.test"}},
		} {
			b.faults(tc.code, "paas.vhost.create", tc.spec)
		}
		b.faults(537542, "paas.vhost.create", map[string]any{"paas_id": 99, "vhost": "a.hosted.test", "--dry-run": true})
		b.faults(501532, "paas.vhost.get_dns_entries", map[string]any{})
		b.faults(505237, "paas.vhost.get_dns_entries", map[string]any{"vhost": "no name"})
		items := structs(b.call("paas.vhost.create", map[string]any{"vhost": "no name", "colour": "blue", "--dry-run": true}))
		for _, item := range items {
			if _, isArray := item["attr"].([]any); !isArray { // gandi.cli joins it
				t.Errorf("got %v, want attr to be an array", item)
			}
		}
		if got := column(b.call("paas.vhost.create", map[string]any{"vhost": "no name", "colour": "blue", "--dry-run": true}), "field"); !slices.Equal(got, []any{"colour", "paas_id", "vhost"}) {
			t.Errorf("got problems with %v, want colour, paas_id and vhost", got)
		}
	})
	t.Run("32 another account's do not exist", func(t *testing.T) {
		b.key, b.other = b.other, b.key
		b.faults(537542, "paas.vhost.create", map[string]any{"paas_id": id, "vhost": "b.hosted.test"})
		b.faults(537642, "paas.vhost.delete", "vhost.hosted.test")
		b.faults(537642, "paas.vhost.info", "vhost.hosted.test")
		b.key, b.other = b.other, b.key
	})
}

func TestVhostsOfAnInstanceThatIsNotUp(t *testing.T) {
	b := newBed(t)
	id, _ := b.create()
	b.faults(537560, "paas.vhost.create", map[string]any{"paas_id": id, "vhost": "b.hosted.test"})
	b.faults(537560, "paas.vhost.delete", "vhost.hosted.test")
}
