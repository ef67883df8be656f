package gandi_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/reeve-paas/reeve/coordinator/core"
)

func TestMetricQuery(t *testing.T) {
	b := newGraphBed(t, "")
	id, node := b.instance()
	start := time.Now().UTC().Truncate(5 * time.Minute).Add(-20 * time.Minute)
	var rows []core.Sample
	for m := range 11 { // ten minutes: 60 B/min in the first five, 600 in the others
		s := core.Sample{Node: node.ID, At: start.Add(time.Duration(m) * time.Minute), Counters: core.UnknownCounters()}
		s.RxBytes, s.TxBytes = int64(m*60+max(0, m-5)*540), 0
		s.DataUsed, s.DataTotal = int64(m), 100
		rows = append(rows, s)
	}
	b.must(b.store.Update(b.Context(), func(tx core.Tx) error { return tx.PutSamples(rows) }))

	ask := func(changes ...any) map[string]any {
		q := map[string]any{"query": "vif.bytes.all", "resource_id": []any{id}, "resource_type": "paas",
			"start": start.Format(time.DateTime), "end": start.Add(15 * time.Minute).Format(time.DateTime),
			"sampler": map[string]any{"unit": "minutes", "value": 5, "function": "avg"}}
		for i := 0; i < len(changes); i += 2 {
			if q[changes[i].(string)] = changes[i+1]; changes[i+1] == absent {
				delete(q, changes[i].(string))
			}
		}
		return q
	}
	// shape writes an answer as text: metric, labels, values.
	shape := func(v any) string {
		text := ""
		for _, s := range structs(v) {
			text += fmt.Sprintf("%v %v %v %v:", s["metric"], s["direction"], s["resource_id"] == id, s["resource_type"])
			for i, p := range structs(s["points"]) {
				if want := start.Add(time.Duration(i) * 5 * time.Minute).Format("2006-01-02T15:04:05"); len(structs(s["points"])) == 3 && p["timestamp"] != want {
					t.Errorf("point %d: got %v, want %s", i, p["timestamp"], want)
				}
				if value, ok := p["value"]; ok {
					text += fmt.Sprint(" ", value)
				} else {
					text += " -"
				}
			}
			text += "\n"
		}
		return text
	}
	const traffic = "vif.bytes [in] true paas: 1 10 -\nvif.bytes [out] true paas: 0 0 -\n"
	for _, c := range []struct {
		name string
		q    map[string]any
		want string
	}{
		{"traffic", ask(), traffic},
		{"without a sampler", ask("sampler", absent), traffic},
		{"a single id", ask("resource_id", id), traffic},
		{"an unknown query", ask("query", "webacc.requests.cache.all"), ""},
		{"another kind of resource", ask("resource_type", "vm"), ""},
		{"nothing was sampled", ask("query", "vbd.bytes.all"), "vbd.bytes [read] true paas: - - -\nvbd.bytes [write] true paas: - - -\n"},
		{"no ids", ask("resource_id", []any{}), ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			if text := shape(b.call("hosting.metric.query", c.q)); text != c.want {
				t.Errorf("got %s\nwant %s", text, c.want)
			}
		})
	}
	t.Run("space is used and free", func(t *testing.T) {
		got := structs(b.call("hosting.metric.query", ask("query", "vfs.df.bytes.all", "sampler", map[string]any{"unit": "minutes", "value": 5, "function": "max"})))
		if len(got) != 2 || fmt.Sprint(got[0]["size"], got[1]["size"]) != "[free] [used]" {
			t.Fatalf("got %v, want free and used", got)
		}
		free, used := structs(got[0]["points"]), structs(got[1]["points"])
		if fmt.Sprint(used[0]["value"], free[0]["value"]) != "4 100" {
			t.Errorf("got used %v, free %v, want the most of each in the first five minutes, 4 and 100", used[0], free[0])
		}
	})
	for name, c := range map[string]struct {
		fault int
		q     any
	}{
		"no struct":             {501510, "x"},
		"no query":              {501532, ask("query", absent)},
		"no start":              {501532, ask("start", absent)},
		"no ids at all":         {501532, ask("resource_id", nil)},
		"no type":               {501532, ask("resource_type", absent)},
		"another member":        {501533, ask("colour", "blue")},
		"a list of texts":       {501210, ask("query", []any{"vif.bytes.all"})},
		"ids by name":           {501410, ask("resource_id", map[string]any{"a": 1})},
		"a word of sampler":     {501510, ask("sampler", "x")},
		"half a sampler":        {501532, ask("sampler", map[string]any{"unit": "minutes", "value": 5})},
		"too much of a sampler": {501533, ask("sampler", map[string]any{"unit": "minutes", "value": 5, "function": "avg", "x": 1})},
		"a step of letters":     {501010, ask("sampler", map[string]any{"unit": "minutes", "value": "x", "function": "avg"})},
		"a bad end":             {501310, ask("end", "tomorrow")},
		"the wrong way":         {500037, ask("end", start.Add(-time.Hour).Format(time.DateTime))},
		"too long":              {500037, ask("start", "1990-01-01 00:00:00")},
		"a bad id":              {501010, ask("resource_id", []any{"x"})},
		"a bad function":        {500037, ask("sampler", map[string]any{"unit": "minutes", "value": 5, "function": "median"})},
		"a bad step":            {500037, ask("sampler", map[string]any{"unit": "minutes", "value": 0, "function": "avg"})},
		"not my instance":       {537542, ask("resource_id", []any{id + 1000})},
	} {
		t.Run("refuses "+name, func(t *testing.T) { b.faults(c.fault, "hosting.metric.query", c.q) })
	}
	t.Run("refuses another account's instance", func(t *testing.T) {
		b.key = b.other
		b.faults(537542, "hosting.metric.query", ask())
	})
}
