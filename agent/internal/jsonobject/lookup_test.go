package jsonobject

import (
	"bytes"
	"encoding/json"
	"testing"
)

var names = []string{"id", "a", "", "\u00e9"}

// FuzzLookup compares with encoding/json.
func FuzzLookup(f *testing.F) {
	for _, seed := range []string{
		`{}`, ` { } `, `{"id": 1.50, "a": [{"id": "]}"}, "\\"], "":null}`, `{"a":1,"a":2}`, "{\"\\u0061\" : \"\\\"\" ,\"id\":{}}\n",
		`[]`, `"id"`, `null`, `1`, `{"\u00e9": true, "ID": 1}`, `{"a": -1e5}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, object []byte) {
		if !json.Valid(object) {
			return
		}
		var want map[string]json.RawMessage
		isObject := json.Unmarshal(object, &want) == nil && want != nil
		got := make([]json.RawMessage, len(names))
		if ok := Lookup(object, names, got); ok != isObject {
			t.Fatalf("%q: got an object %v, want %v", object, ok, isObject)
		}
		for i, name := range names {
			if !bytes.Equal(got[i], want[name]) {
				t.Errorf("%q: got %q for %q, want %q", object, got[i], name, want[name])
			}
		}
	})
}
