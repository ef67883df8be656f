package gandi_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestCatalog(t *testing.T) {
	b := newBed(t)
	paas := func(more ...any) map[string]any {
		m := map[string]any{"type": "paas"}
		for i := 0; i < len(more); i += 2 {
			m[more[i].(string)] = more[i+1]
		}
		return m
	}
	all := structs(b.call("catalog.list", map[string]any{"product": paas()}))
	if len(all) == 0 || len(all)%6 != 0 {
		t.Fatalf("got %d products, want every type in six sizes", len(all))
	}
	want := map[string]any{
		"product": map[string]any{"type": "paas", "description": "phpmysql_m"},
		"action":  map[string]any{"name": "renew", "duration": 3.0, "param": nil},
		"unit_price": []any{map[string]any{"id": 3, "currency": "USD", "grid": "C", "price": 0.0, "min_duration": 1, "max_duration": 120, "duration_unit": "m",
			"special_op": false, "price_type": nil}},
	}
	got := structs(b.call("catalog.list", map[string]any{"product": paas("description", "phpmysql_m", "quantity", 1), "action": map[string]any{"name": "renew", "duration": 3}}, "USD", "C"))
	if len(got) != 1 {
		t.Fatalf("got %v, want one product", got)
	}
	if diff := cmp.Diff(want, got[0]); diff != "" {
		t.Errorf("got a product that differs (-want +got):\n%s", diff)
	}
	for n, opts := range map[int]map[string]any{
		6: {"product": paas("~description", "phpmysql")}, 2: {"product": paas("description", []any{"phpmysql_s", "phpmysql_l", "none"})},
		0: {"product": map[string]any{"type": "domain"}}, 4: {"product": paas(), "items_per_page": 4, "page": 0, "sort_by": "description DESC"},
	} {
		if got := b.call("catalog.list", opts).([]any); len(got) != n {
			t.Errorf("%v: got %d products, want %d", opts, len(got), n)
		}
	}
	for _, tc := range []struct {
		code int
		opts any
	}{
		{501532, map[string]any{}}, {501532, map[string]any{"product": map[string]any{}}}, {501533, map[string]any{"product": paas(), "x": 1}}, {501533, map[string]any{"product": paas("x", 1)}},
		{501510, map[string]any{"product": "paas"}}, {500037, map[string]any{"product": paas(), "action": map[string]any{"name": "eat"}}}, {501510, "x"},
		{501810, map[string]any{"product": paas(), "action": map[string]any{"name": "renew", "duration": "soon"}}},
	} {
		b.faults(tc.code, "catalog.list", tc.opts)
	}
}
