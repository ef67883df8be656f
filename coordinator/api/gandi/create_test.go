package gandi_test

import (
	"errors"
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/reeve-paas/reeve/coordinator/api/gandi"
	"github.com/reeve-paas/reeve/coordinator/api/gandi/xmlrpc/xmlrpctest"
	"github.com/reeve-paas/reeve/coordinator/core"
)

var operationMembers = map[string]string{
	"id": "int", "type": "string", "step": "string", "date_created": "time.Time", "date_updated": "time.Time", "date_start": "nil", "last_error": "nil",
	"errortype": "nil", "eta": "int", "source": "string", "session_id": "int", "params": "struct", "infos": "struct", "paas_id": "int",
}

func TestCreate(t *testing.T) {
	b := newBed(t)
	var id int
	var ops []map[string]any
	t.Run("44 the document's spec returns its three operations", func(t *testing.T) {
		id, ops = b.create("quantity", 5)
		for i, want := range []string{"paas_vm_create", "paas_disk_create", "rproxy_create"} {
			if ops[i]["type"] != want || ops[i]["step"] != "BILL" || ops[i]["paas_id"] != id || ops[i]["source"] != "RV1-REEVE" {
				t.Errorf("operation %d: got %v, want %s", i, ops[i], want)
			}
			wantMembers(t, want, ops[i], operationMembers)
		}
		params := func(i int) map[string]any { return ops[i]["params"].(map[string]any) }
		tracker := params(0)["tracker_id"]
		if len(tracker.(string)) != 36 || params(1)["tracker_id"] != tracker || params(2)["tracker_id"] != tracker {
			t.Errorf("got trackers %v, %v, %v, want one UUID", tracker, params(1)["tracker_id"], params(2)["tracker_id"])
		}
		server := structs(structs(b.call("paas.list"))[0]["servers"])[0]["id"]
		for i, want := range []map[string]any{
			{"paas_id": id, "server_id": server, "datacenter_id": 1, "duration": "3m", "fixed": false, "trial": nil, "cancelable": "yes", "tracker_id": tracker},
			{"paas_id": id, "resource_id": 1, "datacenter_id": 1, "duration": "3m", "fixed": false, "quantity": 5, "cancelable": "yes", "tracker_id": tracker},
			{"paas_id": id, "server_id": server, "resource_id": 1, "datacenter_id": 1, "fixed": false, "cancelable": "yes", "tracker_id": tracker},
		} {
			if diff := cmp.Diff(want, params(i)); diff != "" {
				t.Errorf("operation %d has other params (-want +got):\n%s", i, diff)
			}
		}
		infos := map[string]any{"id": "", "label": "My PaaS", "product_action": "create", "product_name": "", "product_type": "paas", "quantity": "5", "extras": map[string]any{}}
		if diff := cmp.Diff(any(infos), ops[1]["infos"]); diff != "" {
			t.Errorf("got infos that differ (-want +got):\n%s", diff)
		}
	})
	t.Run("45 it is listed at once and runs when all three are done", func(t *testing.T) {
		if got := structs(b.call("paas.list", map[string]any{"name": "My PaaS"})); len(got) != 1 || got[0]["state"] != "being_created" {
			t.Fatalf("got %v, want it being_created", got)
		}
		if got := b.call("paas.info", id).(map[string]any)["state"]; got != "being_created" {
			t.Errorf("got state %v", got)
		}
		b.work()
		for _, op := range ops {
			if got := b.await(op["id"]); got["step"] != "DONE" {
				t.Errorf("got %v, want DONE", got)
			}
		}
		if got := b.call("paas.info", id).(map[string]any)["state"]; got != "running" {
			t.Errorf("got state %v, want running", got)
		}
		if !b.agents.served("vhost.hosted.test") {
			t.Error("the web server does not have the vhost")
		}
	})
	t.Run("45 without vhosts there are three operations too", func(t *testing.T) {
		_, ops := b.create("name", "bare", "vhosts", absent, "quantity", absent)
		if got := b.await(ops[2]["id"]); got["step"] != "DONE" {
			t.Errorf("got %v, want DONE", got)
		}
	})
	t.Run("46–48 the values are those asked for", func(t *testing.T) {
		v := b.call("paas.info", id).(map[string]any)
		if v["data_disk_additional_size"] != 5 || v["datadisk_total_size"] != 15.0 {
			t.Errorf("got disk %v of %v, want 5 of 15", v["data_disk_additional_size"], v["datadisk_total_size"])
		}
		if want := core.AddMonths(v["date_start"].(time.Time), 3); v["date_end"] != want {
			t.Errorf("got end %v, want %v", v["date_end"], want)
		}
		if got := structs(v["vhosts"]); len(got) != 1 || got[0]["name"] != "vhost.hosted.test" || got[0]["state"] != "running" {
			t.Errorf("got vhosts %v", got)
		}
	})
	t.Run("80 a vhost is served once", func(t *testing.T) {
		b.faults(537641, "paas.create", spec("name", "second"))
		b.key, b.other = b.other, b.key
		b.faults(537641, "paas.create", spec("name", "second"))
		b.key, b.other = b.other, b.key
	})
	t.Run("a name is taken once per account", func(t *testing.T) {
		b.faults(537541, "paas.create", spec("vhosts", absent))
		b.key, b.other = b.other, b.key
		b.create("vhosts", absent)
		b.key, b.other = b.other, b.key
	})
	b.stop()
	b.noSecrets()
}

func TestDurations(t *testing.T) {
	start := time.Date(2023, 1, 31, 10, 20, 30, 0, time.UTC)
	b := newBed(t, func(_ *gandi.Options, co *core.Options) { co.Clock = func() time.Time { return start } })
	for duration, want := range map[string]string{"1m": "20230228T10:20:30", "12m": "20240131T10:20:30", "1y": "20240131T10:20:30", "13m": "20240229T10:20:30", "120m": "20330131T10:20:30", "10y": "20330131T10:20:30"} {
		id, _ := b.create("name", duration, "duration", duration, "vhosts", absent)
		if got := b.call("paas.info", id).(map[string]any)["date_end"].(time.Time).Format("20060102T15:04:05"); got != want {
			t.Errorf("%s: got %s, want %s", duration, got, want)
		}
	}
	b.faults(501930, "paas.create", spec("duration", "121m"))
	b.faults(501930, "paas.create", spec("duration", "11y"))
	b.faults(501930, "paas.create", spec("duration", "99999999999999999999m"))
}

func TestCreateRefuses(t *testing.T) {
	b := newBed(t)
	for name, tc := range map[string]struct {
		code int
		spec map[string]any
	}{
		"49 no size":                   {501532, spec("size", absent)},
		"49 a size in capitals":        {500037, spec("size", "S")},
		"49 the size x":                {500037, spec("size", "x")},
		"49 an unknown type":           {500037, spec("type", "cobolvsam")},
		"49 a duration without a unit": {501930, spec("duration", "3")},
		"49 no months":                 {501930, spec("duration", "0m")},
		"49 weeks":                     {501930, spec("duration", "3w")},
		"a negative duration":          {501930, spec("duration", "-3m")},
		"an empty duration":            {501930, spec("duration", "")},
		"a duration with a newline":    {501930, spec("duration", "3m\n")},
		"49 a negative quantity":       {500037, spec("quantity", -1)},
		"an immense quantity":          {500037, spec("quantity", math.MaxInt32)},
		"49 an empty name":             {500037, spec("name", "")},
		"a name of 65 characters":      {500037, spec("name", strings.Repeat("é", 65))},
		"a name with a newline":        {500037, spec("name", "a\nb")},
		"49 an unknown datacenter":     {532742, spec("datacenter_id", 99)},
		"50 a short password":          {500130, spec("password", "sh0rt-1")},
		"a password with a colon":      {500130, spec("password", "sh0rt:12345")},
		"an immense password":          {500130, spec("password", strings.Repeat("x", 65))},
		"no name":                      {501532, spec("name", absent)},
		"no password":                  {501532, spec("password", absent)},
		"a nil datacenter":             {501532, spec("datacenter_id", nil)},
		"an unknown member":            {501533, spec("colour", "blue")},
		"an SSH key that is none":      {500037, spec("ssh_key", "ssh-ed25519 AAAA")},
		"an unknown SSH key":           {500042, spec("keys", []any{7})},
		"an unknown snapshot profile":  {537842, spec("snapshot_profile", 4)},
		"a name that is a struct":      {501210, spec("name", map[string]any{})},
		"a datacenter of letters":      {501010, spec("datacenter_id", "FR")},
		"a quantity of letters":        {501010, spec("quantity", "lots")},
		"vhosts that are a struct":     {501410, spec("vhosts", map[string]any{"0": "a.hosted.test"})},
		"vhosts that are no texts":     {501410, spec("vhosts", []any{true})},
		"zone_alter of 5":              {501110, spec("zone_alter", 5)},
		"a type before a missing one":  {501010, spec("name", absent, "quantity", "x", "duration", "x")},
		"a missing one before a value": {501532, spec("name", absent, "size", "x", "duration", "x")},
		"an unproven vhost":            {537650, spec("vhosts", []string{"shop.example.test"})},
		"a vhost named twice":          {500037, spec("vhosts", []string{"a.hosted.test", "A.hosted.test."})},
		"a second wildcard":            {500037, spec("vhosts", []string{"*.a.hosted.test", "*.b.hosted.test"})},
		"too many vhosts":              {500037, spec("vhosts", strings.Split(strings.Repeat("a.hosted.test ", 101), " "))},
	} {
		text := b.faults(tc.code, "paas.create", tc.spec)
		if password, ok := tc.spec["password"].(string); ok && strings.Contains(text, password) {
			t.Errorf("%s: the fault repeats the password: %s", name, text)
		}
		if strings.ContainsAny(text, "\n\r") || len(text) > 400 {
			t.Errorf("%s: got a fault of several lines: %q", name, text)
		}
	}
	nothingThere(t, b)
	b.noSecrets()
}

func nothingThere(t *testing.T, b *bed) {
	t.Helper()
	for _, count := range []string{"paas.count", "operation.count", "paas.vhost.count"} {
		if got := b.call(count); got != 0 {
			t.Errorf("%s: got %v, want nothing", count, got)
		}
	}
}

func TestHostileNames(t *testing.T) {
	b := newBed(t)
	for _, name := range []string{
		"", ".", "..", "../x.hosted.test", "a/b.hosted.test", "a\nb.hosted.test", "a.hosted.test\n", "a;b.hosted.test", "a{}.hosted.test", "a b.hosted.test",
		"a\tb.hosted.test", "$(id).hosted.test", "`id`.hosted.test", "a\"b.hosted.test", "a'b.hosted.test", "*.*.hosted.test", "a.*.hosted.test", "*",
		"-a.hosted.test", "a-.hosted.test", "a..hosted.test", "_dmarc.hosted.test", strings.Repeat("a", 64) + ".hosted.test", strings.Repeat("a.", 130) + "hosted.test",
		strings.Repeat("x", 300), "hosted", "10.0.0.1", "*.0.0.1", "10.0.0.1:80", "http://a.hosted.test/", "a.hosted.test..", "a\u202eb.hosted.test", "a%00.hosted.test", "a\\b.hosted.test",
		"<a>.hosted.test", "a#.hosted.test", "xn--.hosted.test",
	} {
		text := b.faults(505237, "paas.create", spec("vhosts", []string{name}))
		if strings.Contains(text, "\n") || len(text) > 300 {
			t.Errorf("%.20q: got fault %q", name, text)
		}
		items := structs(b.call("paas.create", spec("vhosts", []string{name}, "--dry-run", true)))
		if len(items) != 1 || items[0]["field"] != "vhosts" || items[0]["error"] != "!EC_STRMATCH" || items[0]["field_type"] != "String" {
			t.Errorf("%.20q: got %v, want one item about vhosts", name, items)
		}
	}
	nothingThere(t, b)
	b.wantVersion(b.try("version.info"))
}

func TestFailingAgent(t *testing.T) {
	b := newBed(t)
	b.agents.failOn("CreateDatabase", core.Wrap(core.Invalid, "", errors.New("ERROR 1044 (42000)"), "the database server says no"))
	b.work()
	id, ops := b.create()
	t.Run("52 the operation tells why and the instance is invalid", func(t *testing.T) {
		first := b.await(ops[0]["id"])
		failed := b.await(ops[1]["id"])
		if failed["step"] != "ERROR" || !strings.Contains(fmt.Sprint(failed["last_error"]), "the database server says no") {
			t.Errorf("got %v, want ERROR with the reason", failed)
		}
		if last := b.await(ops[2]["id"]); last["step"] == "DONE" || first["step"] == "RUN" {
			t.Errorf("got %v and %v, want final steps, the last not DONE", first, last)
		}
		info := b.call("paas.info", id).(map[string]any)
		if info["state"] != "invalid" || structs(info["vhosts"])[0]["state"] != "invalid" {
			t.Errorf("got %v, want it invalid", info)
		}
	})
	t.Run("52 it can be deleted", func(t *testing.T) {
		if got := b.await(b.call("paas.delete", id).(map[string]any)["id"]); got["step"] != "DONE" {
			t.Errorf("got %v, want DONE", got)
		}
		b.faults(537542, "paas.info", id)
	})
	b.stop()
	b.noSecrets()
}

func TestDryRun(t *testing.T) {
	b := newBed(t)
	items := func(changes ...any) []map[string]any {
		t.Helper()
		return structs(b.call("paas.create", spec(append(changes, "--dry-run", true)...)))
	}
	var token string
	t.Run("68 an unproven name is the document's item", func(t *testing.T) {
		got := items("vhosts", []string{"Shop.Example.test."})
		if len(got) != 1 {
			t.Fatalf("got %v, want one item", got)
		}
		attr, _ := got[0]["attr"].([]any)
		if len(attr) != 2 || attr[0] != "shop.example.test" || !strings.HasPrefix(attr[1].(string), "vhost=") || len(attr[1].(string)) != 38 {
			t.Fatalf("got attr %v, want the name and vhost=<32 hex digits>", got[0]["attr"])
		}
		token = attr[1].(string)
		want := map[string]any{"attr": attr, "error": "EC_TXT+EC_MISSINGMANDATORY", "field": "vhosts", "field_type": nil, "reason": "You must put a TXT value in your zone"}
		if diff := cmp.Diff(want, got[0]); diff != "" {
			t.Errorf("got an item that differs (-want +got):\n%s", diff)
		}
	})
	t.Run("69 the token is the same for one account and name, and no other", func(t *testing.T) {
		if got := items("vhosts", []string{"shop.example.test"})[0]["attr"].([]any)[1]; got != token {
			t.Errorf("got %v, want %v again", got, token)
		}
		if got := items("vhosts", []string{"shop2.example.test"})[0]["attr"].([]any)[1]; got == token {
			t.Error("another name has the same token")
		}
		b.key, b.other = b.other, b.key
		if got := items("vhosts", []string{"shop.example.test"})[0]["attr"].([]any)[1]; got == token {
			t.Error("another account has the same token")
		}
		b.key, b.other = b.other, b.key
	})
	t.Run("70 nothing is created", func(t *testing.T) {
		if got := items(); len(got) != 0 {
			t.Errorf("got %v, want no problems", got)
		}
		nothingThere(t, b)
	})
	t.Run("71 with the record published it passes, and so does the real call", func(t *testing.T) {
		b.faults(537650, "paas.create", spec("vhosts", []string{"shop.example.test"}))
		b.zone.publish("shop.example.test", token)
		if got := items("vhosts", []string{"shop.example.test"}); len(got) != 0 {
			t.Errorf("got %v, want no problems", got)
		}
		b.create("vhosts", []string{"shop.example.test"})
	})
	t.Run("77 every problem is found, each with all five members", func(t *testing.T) {
		got := items("name", absent, "size", "huge", "type", "cobol", "datacenter_id", 99, "duration", "soon", "password", "short", "quantity", -1,
			"colour", "blue", "zone_alter", "perhaps", "vhosts", []string{"z.example.test", "not a name", "hosted.test", "hosted.test", "y.example.test"})
		byField := map[string][]string{}
		for _, item := range got {
			wantSet := []string{"attr", "error", "field", "field_type", "reason"}
			for _, name := range wantSet {
				if _, ok := item[name]; !ok || len(item) != len(wantSet) {
					t.Errorf("got %v, want exactly %v", item, wantSet)
				}
			}
			if item["reason"] == "" || strings.Contains(fmt.Sprint(item), "short\"") {
				t.Errorf("got item %v", item)
			}
			byField[item["field"].(string)] = append(byField[item["field"].(string)], fmt.Sprintf("%v %v", item["error"], item["field_type"]))
		}
		want := map[string][]string{
			"name": {"EC_MISSINGMANDATORY <nil>"}, "size": {"!EC_ENUMIN Enum"}, "type": {"!EC_ENUMIN Enum"}, "datacenter_id": {"!EC_ENUMIN Enum"},
			"duration": {"!EC_STRMATCH String"}, "password": {"!EC_VALIDPASSWORD String"}, "quantity": {"EC_INTLOWER Int"}, "colour": {"EC_UNKNOWNFIELD <nil>"},
			"zone_alter": {"!EC_VALIDBOOL Boolean"},
			"vhosts":     {"!EC_STRMATCH String", "EC_LISTDUPLICATE List", "EC_TXT+EC_MISSINGMANDATORY <nil>", "EC_TXT+EC_MISSINGMANDATORY <nil>"},
		}
		if diff := cmp.Diff(want, byField); diff != "" {
			t.Errorf("got problems that differ (-want +got):\n%s", diff)
		}
	})
	t.Run("values of enums are told", func(t *testing.T) {
		for field, want := range map[string][]any{"size": {"s", "s+", "m", "l", "xl", "xxl"}, "type": column(b.call("paas.type.list"), "name"), "datacenter_id": {"1", "3"}} {
			bad := any("no")
			if field == "datacenter_id" {
				bad = 9
			}
			got := items("vhosts", absent, "name", "other", field, bad)
			if len(got) != 1 || !cmp.Equal(got[0]["attr"], any(want)) {
				t.Errorf("%s: got %v, want attr %v", field, got, want)
			}
		}
	})
	t.Run("a name that is too long or taken, a vhost that is taken, a disk too large", func(t *testing.T) {
		for want, got := range map[string][]map[string]any{
			"name EC_STRTOOMANYCHARS String":  items("name", strings.Repeat("x", 65), "vhosts", absent),
			"name EC_STRTOOFEWCHARS String":   items("name", "", "vhosts", absent),
			"name EC_EXIST String":            items("vhosts", absent),
			"vhosts EC_EXIST List":            items("name", "other", "vhosts", []string{"shop.example.test"}),
			"quantity EC_INTGREATER Int":      items("name", "other", "vhosts", absent, "quantity", math.MaxInt32),
			"quantity !EC_VALIDINT Int":       items("name", "other", "vhosts", absent, "quantity", "x"),
			"vhosts !EC_VALIDLIST List":       items("name", "other", "vhosts", map[string]any{"a": "b"}),
			"duration !EC_STRMATCH String":    items("name", "other", "vhosts", absent, "duration", "121m"),
			"duration !EC_VALIDSTRING String": items("name", "other", "vhosts", absent, "duration", true),
		} {
			if len(got) != 1 || fmt.Sprintf("%v %v %v", got[0]["field"], got[0]["error"], got[0]["field_type"]) != want {
				t.Errorf("got %v, want %s", got, want)
			}
		}
	})
	t.Run("78 a false one is a real call", func(t *testing.T) {
		for i, no := range []any{false, 0, "0", "false", nil} {
			b.create("name", fmt.Sprint("real ", i), "vhosts", absent, "--dry-run", no)
		}
	})
	t.Run("faults stay faults", func(t *testing.T) {
		if _, err := xmlrpctest.Call(b.url, "paas.create", "abcdefghijklmnopqrstuvwx", spec("--dry-run", true)); xmlrpctest.CodeOf(err) != 510150 {
			t.Errorf("got %v, want fault 510150", err)
		}
		b.faults(537542, "paas.delete", 99, map[string]any{"--dry-run": true})
	})
	b.noSecrets()
}

func TestQuota(t *testing.T) {
	b := newBed(t, func(_ *gandi.Options, co *core.Options) { co.MaxApps = 1 })
	b.create()
	b.faults(537535, "paas.create", spec("name", "second", "vhosts", absent))
	b.faults(537535, "paas.create", spec("name", "second", "vhosts", absent, "--dry-run", true))
}
