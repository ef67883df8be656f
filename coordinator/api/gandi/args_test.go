package gandi_test

import (
	"errors"
	"log/slog"
	"strings"
	"testing"

	"github.com/reeve-paas/reeve/coordinator/api/gandi"
	"github.com/reeve-paas/reeve/coordinator/api/gandi/xmlrpc/xmlrpctest"
	"github.com/reeve-paas/reeve/coordinator/core"
)

func TestAuthentication(t *testing.T) {
	b := newBed(t)
	with := func(key any) error {
		_, err := xmlrpctest.Call(b.url, "paas.list", key)
		return err
	}
	t.Run("24 a well-formed unknown key is the fault that gandi.cli knows", func(t *testing.T) {
		err := with("abcdefghijklmnopqrstuvwx")
		if err == nil || err.Error() != "fault 510150: Error on object : OBJECT_ACCOUNT (CAUSE_NORIGHT) [Invalid API key]" {
			t.Errorf("got %v", err)
		}
	})
	t.Run("25 an ill-formed key names the pattern and not the key", func(t *testing.T) {
		err := with("Abc-secret")
		if xmlrpctest.CodeOf(err) != 500037 || !strings.Contains(err.Error(), "^[a-z0-9]{24}$") || strings.Contains(err.Error(), "secret") {
			t.Errorf("got %v, want fault 500037 with the pattern", err)
		}
	})
	t.Run("26 no parameters at all", func(t *testing.T) {
		if _, err := xmlrpctest.Call(b.url, "paas.list"); xmlrpctest.CodeOf(err) != 501632 {
			t.Errorf("got %v, want fault 501632", err)
		}
	})
	t.Run("a key that is no text", func(t *testing.T) {
		for _, key := range []any{nil, true, []any{b.key}, map[string]any{}} {
			if err := with(key); xmlrpctest.CodeOf(err) != 501210 {
				t.Errorf("%v: got %v, want fault 501210", key, err)
			}
		}
	})
	t.Run("a bad key comes before bad arguments, an unknown method before a bad key", func(t *testing.T) {
		if _, err := xmlrpctest.Call(b.url, "paas.info", "abcdefghijklmnopqrstuvwx"); xmlrpctest.CodeOf(err) != 510150 {
			t.Errorf("got %v, want fault 510150", err)
		}
		if _, err := xmlrpctest.Call(b.url, "paas.inform", "abcdefghijklmnopqrstuvwx"); xmlrpctest.CodeOf(err) != 1 {
			t.Errorf("got %v, want fault 1", err)
		}
	})
	b.noSecrets()
	if strings.Contains(b.log.String(), "abcdefghijklmnopqrstuvwx") {
		t.Error("the log contains a key that was tried")
	}
}

func TestArguments(t *testing.T) {
	b := newBed(t)
	id, _ := b.create()
	t.Run("27 too many, too few", func(t *testing.T) {
		b.faults(501633, "paas.info", id, 2)
		b.faults(501633, "version.info", "x")
		b.faults(501633, "paas.list", nil, nil)
		b.faults(501632, "paas.info")
		b.faults(501632, "paas.create")
	})
	t.Run("28 arrays as structs", func(t *testing.T) {
		b.faults(501510, "paas.create", []any{"x"})
		b.faults(501510, "paas.create", "x")
		b.faults(501510, "paas.create", nil)
		b.faults(501532, "paas.create", []any{})
		b.faults(501510, "paas.list", []any{"x"})
		b.faults(501510, "paas.list", "x")
	})
	t.Run("29 numbers are texts where a text is expected", func(t *testing.T) {
		id, _ := b.create("name", xmlrpctest.Raw("<value><i4>007123</i4></value>"), "password", xmlrpctest.Raw("<value><i4>1234567890</i4></value>"), "vhosts", absent)
		if got := b.call("paas.info", id).(map[string]any)["name"]; got != "007123" {
			t.Errorf("got name %q, want 007123", got)
		}
	})
	t.Run("30 booleans in every spelling", func(t *testing.T) {
		for _, yes := range []any{true, 1, "1", "true", "TRUE", xmlrpctest.Raw("<value><boolean>true</boolean></value>")} {
			if got := b.call("paas.create", spec("name", "x", "vhosts", absent, "--dry-run", yes)); len(got.([]any)) != 0 {
				t.Errorf("%v: got %v, want a dry run without problems", yes, got)
			}
		}
		b.faults(501110, "paas.create", spec("name", "x", "--dry-run", 2))
		b.faults(501110, "paas.create", spec("name", "x", "--dry-run", "yes"))
	})
	t.Run("31 no options, in every spelling", func(t *testing.T) {
		for _, opts := range [][]any{{}, {nil}, {map[string]any{}}, {[]any{}}, {""}, {map[string]any{"size": nil}}, {xmlrpctest.Raw("<value/>")}} {
			if got := b.call("paas.list", opts...); len(got.([]any)) != 2 {
				t.Errorf("%v: got %v, want both instances", opts, got)
			}
		}
	})
	t.Run("integers in every spelling", func(t *testing.T) {
		for _, spelled := range []any{id, "1", 1.0, xmlrpctest.Raw("<value><i8>+01</i8></value>")} {
			if got := b.call("paas.info", spelled).(map[string]any)["id"]; got != id {
				t.Errorf("%v: got %v, want %d", spelled, got, id)
			}
		}
		for _, bad := range []any{true, "x", 1.5, nil, []any{1}, xmlrpctest.Raw("<value><i8>4294967297</i8></value>")} {
			b.faults(501010, "paas.info", bad)
		}
		want := "Error on object : OBJECT_INTEGER (CAUSE_TYPE) [argument 1 must be an integer, not an integer beyond 32 bits]"
		if got := b.faults(501010, "paas.info", xmlrpctest.Raw("<value><int>4294967297</int></value>")); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	})
	t.Run("32 what another account has does not exist", func(t *testing.T) {
		ops := structs(b.call("operation.list"))
		b.key, b.other = b.other, b.key
		defer func() { b.key, b.other = b.other, b.key }()
		if got := b.call("paas.list"); len(got.([]any)) != 0 {
			t.Errorf("got %v, want nothing", got)
		}
		b.faults(537542, "paas.info", id)
		b.faults(537542, "paas.delete", id)
		b.faults(537642, "paas.vhost.info", "vhost.hosted.test")
		b.faults(510242, "operation.info", ops[0]["id"])
		b.faults(510242, "operation.cancel", ops[0]["id"])
		for _, list := range []string{"operation.list", "paas.vhost.list"} {
			if got := b.call(list); len(got.([]any)) != 0 {
				t.Errorf("%s: got %v, want nothing", list, got)
			}
		}
		if got := b.call("paas.vhost.list", map[string]any{"paas_id": id}); len(got.([]any)) != 0 {
			t.Errorf("got %v, want nothing", got)
		}
	})
	t.Run("33 unknown filters", func(t *testing.T) {
		for _, list := range []string{"paas.list", "paas.count", "operation.list", "paas.vhost.list", "paas.type.list", "datacenter.list", "cert.hosted.list", "paas.snapshotprofile.list"} {
			if text := b.faults(501533, list, map[string]any{"foo": 1}); !strings.Contains(text, "[unknown key 'foo']") {
				t.Errorf("%s: got %q", list, text)
			}
		}
	})
	b.noSecrets()
}

// brokenCore panics or fails with an error that nobody classified.
type brokenCore struct {
	gandi.Core
	err error
}

func (c brokenCore) AppTypes() []core.AppType {
	if c.err == nil {
		panic("secret in a panic")
	}
	return nil
}

func TestOurOwnBugsAreFaultsThatTellNothing(t *testing.T) {
	b := newBed(t, func(o *gandi.Options, _ *core.Options) { o.Core = nil })
	for _, tc := range []struct {
		core   gandi.Core
		method string
	}{{brokenCore{}, "paas.type.list"}, {brokenCore{err: errors.New("x")}, "paas.count"}} {
		w := newRecorded(t, gandi.Options{Core: tc.core, Auth: b.auth, Log: slog.New(slog.NewTextHandler(b.log, nil))}, b.key, tc.method)
		if w != "fault 150000: Error on object : OBJECT_APPLICATION (CAUSE_UNKNOWN) [Internal Server Error]" {
			t.Errorf("got %s", w)
		}
	}
	if !strings.Contains(b.log.String(), "secret in a panic") {
		t.Error("the log does not tell why")
	}
}
