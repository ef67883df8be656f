package gandi_test

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/reeve-paas/reeve/coordinator/api/gandi"
	"github.com/reeve-paas/reeve/coordinator/api/gandi/xmlrpc/xmlrpctest"
	"github.com/reeve-paas/reeve/coordinator/core"
)

// wantMembers checks the members of a struct and their types: "int", "string", "bool", "float64", "time.Time", "array",
// "struct" or "nil".
func wantMembers(t *testing.T, what string, v any, want map[string]string) {
	t.Helper()
	got := map[string]string{}
	for name, member := range v.(map[string]any) {
		switch member := member.(type) {
		case nil:
			got[name] = "nil"
		case []any:
			got[name] = "array"
		case map[string]any:
			got[name] = "struct"
		default:
			got[name] = fmt.Sprintf("%T", member)
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("%s has other members (-want +got):\n%s", what, diff)
	}
}

var listMembers = map[string]string{
	"id": "int", "name": "string", "type": "string", "size": "string", "catalog_name": "string", "state": "string", "datacenter_id": "int",
	"data_disk_additional_size": "int", "date_start": "time.Time", "date_end": "time.Time", "date_end_commitment": "nil", "need_upgrade": "bool",
	"servers": "array", "console": "string", "snapshot_profile": "nil",
}

func TestListAndCount(t *testing.T) {
	now := time.Date(2011, 9, 14, 14, 36, 30, 0, time.UTC)
	b := newBed(t, func(_ *gandi.Options, co *core.Options) {
		co.Clock = func() time.Time { now = now.Add(time.Hour); return now }
	})
	t.Run("34 a fresh account has nothing", func(t *testing.T) {
		if got := b.call("paas.list"); len(got.([]any)) != 0 {
			t.Errorf("got %v, want an empty array", got)
		}
		if got := b.call("paas.count"); got != 0 {
			t.Errorf("got %v, want 0", got)
		}
	})
	b.create("name", "Alpha", "size", "s", "vhosts", []string{"b.hosted.test", "a.hosted.test"})
	b.create("name", "beta", "size", "m", "vhosts", absent, "quantity", 5, "datacenter_id", 3)
	b.create("name", "Gamma 100%", "size", "m", "vhosts", []string{"c.hosted.test"})
	dates := column(b.call("paas.list"), "date_start")

	t.Run("35 rows have exactly the documented members", func(t *testing.T) {
		for _, row := range structs(b.call("paas.list")) {
			wantMembers(t, "paas.list", row, listMembers)
			for _, server := range structs(row["servers"]) {
				wantMembers(t, "servers", server, map[string]string{"id": "int"})
			}
		}
	})
	after := func(i int) string { return dates[i].(time.Time).Format("2006-01-02 15:04:05") }
	t.Run("36–37 filters pick the same rows in list and count", func(t *testing.T) {
		for name, tc := range map[string]struct {
			opts map[string]any
			want []any
		}{
			"a value":                    {map[string]any{"size": "s"}, []any{1}},
			"any of an array":            {map[string]any{"id": []any{1, 3, 99}}, []any{1, 3}},
			"any of nothing":             {map[string]any{"id": []any{}}, []any{}},
			"two filters":                {map[string]any{"size": "m", "name": "beta"}, []any{2}},
			"texts have a case":          {map[string]any{"size": "S"}, []any{}},
			"an id as text":              {map[string]any{"id": "2"}, []any{2}},
			"type":                       {map[string]any{"type": "phpmysql"}, []any{1, 2, 3}},
			"catalog_name":               {map[string]any{"catalog_name": "phpmysql_m"}, []any{2, 3}},
			"state":                      {map[string]any{"state": []string{"running", "being_created"}}, []any{1, 2, 3}},
			"another state":              {map[string]any{"state": "running"}, []any{}},
			"datacenter_id":              {map[string]any{"datacenter_id": 3}, []any{2}},
			"need_upgrade":               {map[string]any{"need_upgrade": false}, []any{1, 2, 3}},
			"need_upgrade true":          {map[string]any{"need_upgrade": 1}, []any{}},
			"data_disk_additional_size":  {map[string]any{"data_disk_additional_size": 5}, []any{2}},
			"a nil matches nothing":      {map[string]any{"date_end_commitment": after(0)}, []any{}},
			"part of a name":             {map[string]any{"~name": "AM"}, []any{3}},
			"a name by its beginning":    {map[string]any{"~name": "a*"}, []any{1}},
			"a name by its end":          {map[string]any{"~name": "%A"}, []any{1, 2}},
			"a name by both":             {map[string]any{"~name": "g%a*%"}, []any{3}},
			"everything":                 {map[string]any{"~name": "*"}, []any{1, 2, 3}},
			"after a date":               {map[string]any{">date_start": after(1)}, []any{3}},
			"before a date":              {map[string]any{"<date_start": after(1)}, []any{1}},
			"between dates":              {map[string]any{">date_start": after(0), "<date_start": after(2)}, []any{2}},
			"on a date":                  {map[string]any{"date_start": dates[1].(time.Time).Format("20060102T15:04:05")}, []any{2}},
			"a filter of nil is no one":  {map[string]any{"size": nil}, []any{1, 2, 3}},
			"a scalar filter with pages": {map[string]any{"size": "m", "items_per_page": 1, "page": 1}, []any{3}},
		} {
			got := column(b.call("paas.list", tc.opts), "id")
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("%s: got ids that differ (-want +got):\n%s", name, diff)
			}
			if _, paged := tc.opts["page"]; paged {
				continue
			}
			if n := b.call("paas.count", tc.opts); n != len(tc.want) {
				t.Errorf("%s: got count %v, want %d", name, n, len(tc.want))
			}
		}
	})
	t.Run("38 pages, of filtered rows too", func(t *testing.T) {
		for _, extra := range []string{"", "type"} {
			for page, want := range map[int]int{0: 2, 1: 1, 2: 0, 1<<31 - 1: 0} {
				opts := map[string]any{"items_per_page": 2, "page": page}
				if extra != "" {
					opts[extra] = "phpmysql"
				}
				if got := len(b.call("paas.list", opts).([]any)); got != want {
					t.Errorf("page %d: got %d rows, want %d", page, got, want)
				}
				if got := b.call("paas.count", opts); got != 3 {
					t.Errorf("page %d: got count %v, want 3", page, got)
				}
			}
		}
	})
	t.Run("39 sorting", func(t *testing.T) {
		for by, want := range map[string][]any{
			"id": {1, 2, 3}, "id DESC": {3, 2, 1}, "id asc": {1, 2, 3}, "name": {1, 3, 2}, "name DESC": {2, 3, 1},
			"date_start DESC": {3, 2, 1}, "size": {2, 3, 1}, "datacenter_id DESC": {2, 3, 1}, "date_end_commitment": {1, 2, 3},
		} {
			if diff := cmp.Diff(want, column(b.call("paas.list", map[string]any{"sort_by": by}), "id")); diff != "" {
				t.Errorf("%s: got an order that differs (-want +got):\n%s", by, diff)
			}
		}
		if got := column(b.call("paas.list", map[string]any{"sort_by": "id DESC", "items_per_page": 2, "page": 1}), "id"); !slices.Equal(got, []any{1}) {
			t.Errorf("sorted page: got %v, want the last one", got)
		}
	})
	t.Run("bad options are faults", func(t *testing.T) {
		for code, all := range map[int][]map[string]any{
			501533: {{"foo": 1}, {"~id": "1"}, {">name": "x"}, {"<id": 1}, {"": 1}, {"~": "x"}, {"servers": 1}},
			501010: {{"id": "x"}, {"id": []any{1, "x"}}, {"items_per_page": "many"}, {"page": true}},
			500037: {{"items_per_page": 0}, {"items_per_page": -1}, {"items_per_page": 501}, {"page": -1}, {"sort_by": "foo"}, {"sort_by": "id UP"}, {"sort_by": ""}, {"sort_by": "id ASC x"}},
			501210: {{"name": []any{[]any{}}}, {"sort_by": []any{"id"}}, {"~name": true}},
			501110: {{"need_upgrade": "perhaps"}},
			501310: {{">date_start": "yesterday"}, {"date_end": 5}},
			501410: {{"name": map[string]any{"a": "b"}}},
			501499: {{"id": slices.Repeat([]any{1}, 1001)}},
		} {
			for _, opts := range all {
				b.faults(code, "paas.list", opts)
				b.faults(code, "paas.count", opts)
			}
		}
	})
	t.Run("vhosts", func(t *testing.T) {
		wantMembers(t, "paas.vhost.list", b.call("paas.vhost.list").([]any)[0], map[string]string{
			"id": "int", "name": "string", "paas_id": "int", "state": "string", "date_creation": "time.Time", "cert_id": "nil"})
		for name, tc := range map[string]struct {
			opts map[string]any
			want []any
		}{
			"all":              {nil, []any{"b.hosted.test", "a.hosted.test", "c.hosted.test"}},
			"of one instance":  {map[string]any{"paas_id": 1}, []any{"b.hosted.test", "a.hosted.test"}},
			"of one unknown":   {map[string]any{"paas_id": 99}, []any{}},
			"of several":       {map[string]any{"paas_id": []any{1, 3}}, []any{"b.hosted.test", "a.hosted.test", "c.hosted.test"}},
			"by name":          {map[string]any{"name": "a.hosted.test"}, []any{"a.hosted.test"}},
			"by part of name":  {map[string]any{"~name": "c."}, []any{"c.hosted.test"}},
			"by state":         {map[string]any{"state": "running"}, []any{}},
			"sorted by name":   {map[string]any{"sort_by": "name"}, []any{"a.hosted.test", "b.hosted.test", "c.hosted.test"}},
			"the second page":  {map[string]any{"items_per_page": 2, "page": 1}, []any{"c.hosted.test"}},
			"one by id and id": {map[string]any{"paas_id": 1, "id": 2}, []any{"a.hosted.test"}},
		} {
			if diff := cmp.Diff(tc.want, column(b.call("paas.vhost.list", tc.opts), "name")); diff != "" {
				t.Errorf("%s: got names that differ (-want +got):\n%s", name, diff)
			}
		}
		if got := b.call("paas.vhost.count", map[string]any{"items_per_page": 1}); got != 3 {
			t.Errorf("got count %v, want 3", got)
		}
	})
	t.Run("82 names of vhosts are normalised", func(t *testing.T) {
		for _, name := range []string{"A.HOSTED.test", "a.hosted.test."} {
			if got := b.call("paas.vhost.info", name).(map[string]any)["name"]; got != "a.hosted.test" {
				t.Errorf("%s: got %v", name, got)
			}
		}
		b.faults(537642, "paas.vhost.info", "z.hosted.test")
		b.faults(505237, "paas.vhost.info", "not a name")
	})
	t.Run("operations are filtered as lists are", func(t *testing.T) {
		for name, tc := range map[string]struct {
			opts map[string]any
			want int
		}{
			"all": {nil, 9}, "of an instance": {map[string]any{"paas_id": 2}, 3}, "by type": {map[string]any{"type": "paas_vm_create"}, 3},
			"by step": {map[string]any{"step": []string{"BILL", "WAIT", "RUN"}}, 9}, "finished": {map[string]any{"step": "DONE"}, 0},
			"finished or not": {map[string]any{"step": []string{"DONE", "WAIT"}}, 9}, "by vhost": {map[string]any{"vhost": "a.hosted.test"}, 0},
			"before they began": {map[string]any{"<date_created": "2011-01-01 00:00:00"}, 0}, "not begun": {map[string]any{">date_start": "2000-01-01 00:00:00"}, 0},
		} {
			if got := len(b.call("operation.list", tc.opts).([]any)); got != tc.want {
				t.Errorf("%s: got %d, want %d", name, got, tc.want)
			}
			if got := b.call("operation.count", tc.opts); got != tc.want {
				t.Errorf("%s: got count %v, want %d", name, got, tc.want)
			}
		}
	})
	t.Run("65 the newest operations first", func(t *testing.T) {
		rows := b.call("operation.list", map[string]any{"step": []string{"BILL", "WAIT", "RUN"}, "items_per_page": 100, "sort_by": "date_created DESC"})
		got := column(rows, "date_created")
		if !slices.IsSortedFunc(got, func(a, b any) int { return b.(time.Time).Compare(a.(time.Time)) }) || len(got) != 9 {
			t.Errorf("got %v, want nine, newest first", got)
		}
		// Dates are compared by the second, and most of these are of one.
		if ids := column(rows, "id"); !slices.IsSortedFunc(ids, func(a, b any) int { return b.(int) - a.(int) }) {
			t.Errorf("got operations %v, want the newest first also within a second", ids)
		}
	})
}

func TestInfo(t *testing.T) {
	b := newBed(t).work()
	id, ops := b.create("vhosts", []string{"one.hosted.test", "two.hosted.test"}, "quantity", 5)
	b.await(ops[2]["id"])
	v := b.call("paas.info", id).(map[string]any)
	t.Run("40 has every documented member", func(t *testing.T) {
		want := maps.Clone(listMembers)
		delete(want, "datacenter_id")
		maps.Copy(want, map[string]string{"autorenew": "nil", "datacenter": "struct", "datadisk_total_size": "float64", "ftp_server": "string",
			"git_server": "string", "owner": "struct", "user": "int", "vhosts": "array", "memory": "int"})
		wantMembers(t, "paas.info", v, want)
		for _, s := range structs(v["servers"]) {
			wantMembers(t, "servers", s, map[string]string{"id": "int", "uuid": "int", "graph_urls": "struct"})
			wantMembers(t, "graph_urls", s["graph_urls"], map[string]string{"vcpu": "array", "vdi": "array", "vif": "array"})
			for metric, urls := range s["graph_urls"].(map[string]any) {
				if want := fmt.Sprintf("%s/graph/?key=%d-%s", b.server.URL, s["id"], metric); !cmp.Equal(urls, []any{want}) {
					t.Errorf("got %s %v, want %s", metric, urls, want)
				}
			}
		}
		for _, h := range structs(v["vhosts"]) {
			wantMembers(t, "vhosts", h, map[string]string{"id": "int", "name": "string", "state": "string", "date_creation": "time.Time"})
		}
	})
	t.Run("41 and the values are those asked for", func(t *testing.T) {
		if v["catalog_name"] != "phpmysql_m" || v["memory"] != 1024 || v["datadisk_total_size"] != 15.0 || v["data_disk_additional_size"] != 5 {
			t.Errorf("got %v", v)
		}
		user := v["user"].(int)
		var address string
		b.must(b.store.View(t.Context(), func(r core.Reader) error {
			nodes, err := r.Nodes(core.NodeFilter{Role: core.RoleApp})
			if err == nil && len(nodes) == 1 {
				address = nodes[0].Address
			}
			return err
		}))
		if address == "" || v["ftp_server"] != address || v["console"] != fmt.Sprintf("%d@%s", user, address) || v["git_server"] != "127.0.0.1" {
			t.Errorf("got %v, %v, %v, want the node's address %q, and for git the one we asked", v["ftp_server"], v["console"], v["git_server"], address)
		}
		if !cmp.Equal(v["owner"], any(map[string]any{"handle": "RV1-REEVE", "id": 1})) {
			t.Errorf("got owner %v", v["owner"])
		}
	})
	t.Run("42 an unknown one has the text that a client matches", func(t *testing.T) {
		if got, want := b.faults(537542, "paas.info", 99), "Error on object : OBJECT_PAAS (CAUSE_NOTFOUND) [Paas '99' doesn't exist.]"; got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	})
	t.Run("43 the datacenter is the one of the list", func(t *testing.T) {
		row := structs(b.call("hosting.datacenter.list", map[string]any{"id": 1}))[0]
		for name, got := range v["datacenter"].(map[string]any) {
			if got != row[name] {
				t.Errorf("%s: got %v, want %v", name, got, row[name])
			}
		}
		wantMembers(t, "datacenter", v["datacenter"], map[string]string{"id": "int", "iso": "string", "name": "string", "country": "string", "dc_code": "string"})
	})
}

func TestConfiguredHosts(t *testing.T) {
	b := newBed(t, func(o *gandi.Options, _ *core.Options) {
		o.FTPHost, o.ConsoleHost, o.GitHost, o.GraphURL = "sftp.example.test", "console.example.test", "git.gpaas-net.example.test", nil
	})
	id, _ := b.create()
	v := b.call("paas.info", id).(map[string]any)
	if v["ftp_server"] != "sftp.example.test" || v["git_server"] != "git.gpaas-net.example.test" || !strings.HasSuffix(v["console"].(string), "@console.example.test") {
		t.Errorf("got %v, %v, %v", v["ftp_server"], v["git_server"], v["console"])
	}
	if got := structs(v["servers"])[0]["graph_urls"].(map[string]any)["vcpu"]; !cmp.Equal(got, any([]any{""})) {
		t.Errorf("got graph URLs %v, want an empty string", got)
	}
}

func TestSmallLists(t *testing.T) {
	b := newBed(t)
	t.Run("83 types", func(t *testing.T) {
		all := b.call("paas.type.list", map[string]any{}).([]any)
		want := map[string]any{"name": "phpmysql", "language": "PHP", "database": "MySQL"}
		if len(all) == 0 || !cmp.Equal(all[0], any(want)) || b.call("paas.type.count") != len(all) {
			t.Errorf("got the types %v, want %v first", all, want)
		}
		if got := b.call("paas.type.count", map[string]any{"language": "Cobol"}); got != 0 {
			t.Errorf("got %v, want 0", got)
		}
		if got := column(b.call("paas.type.list", map[string]any{"sort_by": "name DESC", "~name": "php%"}), "name"); !cmp.Equal(got, []any{"phppgsql", "phpmysql"}) {
			t.Errorf("got %v, want the two of PHP", got)
		}
	})
	t.Run("84 datacenters", func(t *testing.T) {
		all := b.call("datacenter.list")
		if diff := cmp.Diff([]any{1, 3}, column(all, "id")); diff != "" {
			t.Errorf("got ids that differ (-want +got):\n%s", diff)
		}
		if diff := cmp.Diff(all, b.call("hosting.datacenter.list", map[string]any{"paas_opened": true, "iaas_opened": 1})); diff != "" {
			t.Errorf("open ones differ (-want +got):\n%s", diff)
		}
		want := map[string]any{"id": 3, "iso": "LU", "name": "Bissen", "country": "Luxembourg", "dc_code": "LU-BI1", "can_migrate_to": []any{},
			"deactivate_at": nil, "iaas_closed_for": "NONE", "paas_closed_for": "NONE"}
		got := b.call("hosting.datacenter.list", map[string]any{"dc_code": "LU-BI1", "paas_opened": true})
		if diff := cmp.Diff(any([]any{want}), got); diff != "" {
			t.Errorf("got a row that differs (-want +got):\n%s", diff)
		}
		for _, opts := range []map[string]any{{"paas_closed": true}, {"paas_opened": false}, {"iso": "XX"}} {
			if got := b.call("datacenter.list", opts); len(got.([]any)) != 0 {
				t.Errorf("%v: got %v, want none", opts, got)
			}
		}
		b.faults(500037, "datacenter.list", map[string]any{"sort_by": "paas_opened"})
	})
	t.Run("account and balance", func(t *testing.T) {
		want := map[string]any{"handle": "RV1-REEVE", "id": 1, "fullname": "alice@example.test", "credits": 0}
		if diff := cmp.Diff(any(want), b.call("hosting.account.info")); diff != "" {
			t.Errorf("got an account that differs (-want +got):\n%s", diff)
		}
		balance := map[string]any{"prepaid": map[string]any{"amount": 0.0, "currency": "EUR"}}
		if diff := cmp.Diff(any(balance), b.call("contact.balance")); diff != "" {
			t.Errorf("got a balance that differs (-want +got):\n%s", diff)
		}
	})
	t.Run("what there is none of", func(t *testing.T) {
		for method, opts := range map[string]map[string]any{"cert.hosted.list": {"fqdns": []string{"a.test"}, "state": "created"}, "hosting.rating.list": nil,
			"paas.snapshotprofile.list": {"id": 1}, "hosting.snapshotprofile.list": {"name": "x"}} {
			if got := b.call(method, opts); len(got.([]any)) != 0 {
				t.Errorf("%s: got %v, want an empty array", method, got)
			}
		}
		if got := b.call("paas.snapshotprofile.count"); got != 0 {
			t.Errorf("got %v, want 0", got)
		}
	})
	t.Run("a cloud that is away is a fault of the server", func(t *testing.T) {
		b.cloud.mu.Lock()
		b.cloud.closed = true
		b.cloud.mu.Unlock()
		b.faults(160005, "datacenter.list")
		b.faults(160005, "paas.create", spec())
	})
}

func TestListsAreNeverOutOfDate(t *testing.T) {
	b := newBed(t)
	names := func(query string, page int) []any {
		t.Helper()
		v, err := xmlrpctest.Call(b.url+query, "paas.list", b.key, map[string]any{"items_per_page": 2, "page": page})
		b.must(err)
		return column(v, "name")
	}
	want := []any{}
	for i := range 5 {
		name := fmt.Sprint("instance ", i)
		b.create("name", name, "vhosts", absent)
		want = append(want, name)
		for range 2 {
			for _, query := range []string{"", "?nil=string"} {
				got := slices.Concat(names(query, 0), names(query, 1), names(query, 2))
				if diff := cmp.Diff(want, got); diff != "" {
					t.Fatalf("after instance %d: got names that differ (-want +got):\n%s", i, diff)
				}
			}
		}
		b.key, b.other = b.other, b.key
		if got := names("", 0); len(got) != 0 {
			t.Errorf("another account: got %v, want nothing", got)
		}
		b.key, b.other = b.other, b.key
	}
	b.work()
	deleted := b.call("paas.delete", 1).(map[string]any)
	if got := column(b.call("paas.list"), "state")[0]; got != "being_deleted" {
		t.Errorf("got state %v, want being_deleted", got)
	}
	b.await(deleted["id"])
	if diff := cmp.Diff(want[1:3], names("", 0)); diff != "" {
		t.Errorf("after a deletion: got names that differ (-want +got):\n%s", diff)
	}
	b.until(func() bool {
		return !slices.ContainsFunc(column(b.call("paas.list"), "state"), func(s any) bool { return s != "running" })
	})
}
