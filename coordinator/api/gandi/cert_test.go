package gandi_test

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/reeve-paas/reeve/coordinator/core"
	"github.com/reeve-paas/reeve/crypto/authority"
	"github.com/reeve-paas/reeve/crypto/keyring"
)

// certificates makes pairs for names as a user would bring them.
func certificates(t *testing.T) func(name string) map[string]any {
	t.Helper()
	dir := t.TempDir()
	sealer, err := keyring.OpenSealer(filepath.Join(dir, "master"))
	if err != nil {
		t.Fatal(err)
	}
	ca, err := authority.Open(dir, authority.Routes, sealer, nil)
	if err != nil {
		t.Fatal(err)
	}
	return func(name string) map[string]any {
		t.Helper()
		crt, key, err := ca.IssueForRoute(name)
		if err != nil {
			t.Fatal(err)
		}
		return map[string]any{"crt": string(crt) + string(ca.Certificate()), "key": string(key)}
	}
}

func TestHostedCertificates(t *testing.T) {
	b := newBed(t).work()
	pair := certificates(t)
	paas := b.running()
	b.done(b.call("paas.vhost.create", map[string]any{"paas_id": paas, "vhost": "blog.hosted.test"}))
	vhost := b.call("paas.vhost.info", "blog.hosted.test").(map[string]any)
	if vhost["cert_id"] != nil {
		t.Errorf("got %v before any certificate", vhost)
	}
	updates := func() []map[string]any {
		return structs(b.call("operation.list", map[string]any{"type": "rproxy_update", "paas_id": paas}))
	}
	before := len(updates())
	var id any
	t.Run("create answers with the certificate, and virtual hosts show it", func(t *testing.T) {
		got := b.call("cert.hosted.create", pair("*.hosted.test")).(map[string]any)
		id = got["id"]
		wantMembers(t, "cert.hosted.create", got, map[string]string{"id": "int", "subject": "string", "state": "string", "date_created": "time.Time", "date_expire": "time.Time",
			"fqdns": "array", "related_vhosts": "array"})
		if got["subject"] != "/CN=*.hosted.test" || got["state"] != "created" {
			t.Errorf("got %v", got)
		}
		if diff := cmp.Diff([]any{map[string]any{"type": "cn", "name": "*.hosted.test"}}, got["fqdns"]); diff != "" {
			t.Errorf("got names that differ (-want +got):\n%s", diff)
		}
		related := map[string]any{"id": vhost["id"], "service_id": paas, "type": "paas", "name": "blog.hosted.test"}
		if !cmp.Equal(structs(got["related_vhosts"])[len(got["related_vhosts"].([]any))-1], related) {
			t.Errorf("got %v, want %v among them", got["related_vhosts"], related)
		}
		if diff := cmp.Diff(any(got), b.call("cert.hosted.info", id)); diff != "" {
			t.Errorf("info differs (-create +info):\n%s", diff)
		}
		ops := updates()
		if len(ops) != before+1 {
			t.Fatalf("got %d operations, want one more than %d", len(ops), before)
		}
		for _, op := range ops {
			b.done(op)
		}
		if got := b.call("paas.vhost.info", "blog.hosted.test").(map[string]any)["cert_id"]; got != id {
			t.Errorf("got cert_id %v, want %v", got, id)
		}
	})
	t.Run("lists find it by the names it is shown for", func(t *testing.T) {
		for _, tc := range []struct {
			opts map[string]any
			want int
		}{
			{nil, 1}, {map[string]any{"fqdns": "blog.hosted.test", "state": "created"}, 1}, {map[string]any{"fqdns": []any{"x.test", "*.hosted.test"}}, 1},
			{map[string]any{"fqdns": "x.hosted.test"}, 0}, {map[string]any{"state": "deleted"}, 0}, {map[string]any{"~subject": "hosted"}, 1}, {map[string]any{"~fqdns": "hosted"}, 1},
		} {
			rows := structs(b.call("cert.hosted.list", tc.opts))
			if len(rows) != tc.want || b.call("cert.hosted.count", tc.opts) != tc.want {
				t.Errorf("%v: got %v, want %d", tc.opts, rows, tc.want)
			}
			if len(rows) == 1 {
				wantMembers(t, "cert.hosted.list", rows[0], map[string]string{"id": "int", "subject": "string", "state": "string", "date_created": "time.Time", "date_expire": "time.Time"})
			}
		}
	})
	t.Run("bad ones are faults and change nothing", func(t *testing.T) {
		good, other := pair("blog.hosted.test"), pair("blog.hosted.test")
		for _, tc := range []struct {
			code int
			spec map[string]any
			text string
		}{
			{500037, map[string]any{"crt": good["crt"], "key": other["key"]}, "key: the key does not belong to the certificate"},
			{500037, map[string]any{"crt": "x", "key": good["key"]}, "crt: no certificate in PEM form"},
			{500037, map[string]any{"crt": good["crt"], "key": ""}, "key: no private key in PEM form"},
			{501532, map[string]any{"crt": good["crt"]}, "'key'"}, {501533, map[string]any{"crt": good["crt"], "key": good["key"], "x": 1}, "'x'"},
			{501210, map[string]any{"crt": []any{}, "key": good["key"]}, "crt"},
		} {
			if text := b.faults(tc.code, "cert.hosted.create", tc.spec); !strings.Contains(text, tc.text) || strings.Contains(text, "PRIVATE") {
				t.Errorf("got %s, want %q", text, tc.text)
			}
		}
		b.faults(500042, "cert.hosted.info", 99)
		b.faults(500042, "cert.hosted.delete", 99)
		b.key, b.other = b.other, b.key
		b.faults(500042, "cert.hosted.info", id)
		b.faults(500042, "cert.hosted.delete", id)
		b.key, b.other = b.other, b.key
		if b.call("cert.hosted.count") != 1 || len(updates()) != before+1 {
			t.Errorf("got %v and %d operations", b.call("cert.hosted.list"), len(updates()))
		}
	})
	t.Run("one that routers refuse is gone again", func(t *testing.T) {
		b.agents.failOn("MakeProxy", core.Errorf(core.Invalid, core.ObjNode, "ee key too small"))
		refused := b.call("cert.hosted.create", pair("blog.hosted.test")).(map[string]any)["id"]
		b.until(func() bool { return b.call("cert.hosted.count") == 1 })
		b.agents.failOn("", nil)
		var failed map[string]any
		for _, op := range updates() {
			if got := b.await(op["id"]); got["step"] == "ERROR" {
				failed = got
			}
		}
		if text, _ := failed["last_error"].(string); !strings.Contains(text, "the routers refuse the certificate") {
			t.Errorf("got %v", failed)
		}
		b.faults(500042, "cert.hosted.info", refused)
	})
	t.Run("delete answers true", func(t *testing.T) {
		if got := b.call("cert.hosted.delete", id); got != true {
			t.Errorf("got %v", got)
		}
		for _, op := range updates() {
			b.await(op["id"])
		}
		if got := b.call("paas.vhost.info", "blog.hosted.test").(map[string]any)["cert_id"]; got != nil || b.call("cert.hosted.count") != 0 {
			t.Errorf("got cert_id %v", got)
		}
	})
	if strings.Contains(b.log.String(), "PRIVATE KEY") {
		t.Error("a key is in the log")
	}
}
