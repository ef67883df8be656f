package storage

import (
	"bytes"
	"context"
	"encoding/json"
	"reflect"
	"strings"

	"github.com/reeve-paas/reeve/agent/agentapi"
	"github.com/reeve-paas/reeve/handlers"
)

// Whether a method takes parameters it does not know.
const (
	strict  = false
	lenient = true
)

// method is handlers.Func with what all methods of the namespace accept: the volume under either of its names, and types
// checked in the words of the old agent (spec agent-core 5.1, D2).
func method[P any](name string, lenient bool, fn func(context.Context, P) (any, error)) handlers.Method {
	m := handlers.Func(name, fn)
	decode := m.Call
	known := map[string]bool{}
	for f := range reflect.TypeFor[P]().Fields() {
		member, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		known[member] = true
	}
	m.Call = func(ctx context.Context, raw json.RawMessage) (any, error) {
		var members map[string]json.RawMessage
		if json.Unmarshal(raw, &members) != nil || members == nil {
			return decode(ctx, raw)
		}
		if err := unifyVolume(members); err != nil {
			return nil, err
		}
		if err := checkTypes(members); err != nil {
			return nil, err
		}
		for member := range members {
			if lenient && !known[member] {
				delete(members, member)
			}
		}
		raw, err := json.Marshal(members)
		if err != nil {
			return nil, err
		}
		return decode(ctx, raw)
	}
	return m
}

// unifyVolume renames storage_config to volume.
func unifyVolume(members map[string]json.RawMessage) error {
	other, sent := members["storage_config"]
	if !sent {
		return nil
	}
	delete(members, "storage_config")
	if volume, both := members["volume"]; both && !sameJSON(volume, other) {
		return assertion("'volume' and 'storage_config' are one parameter, and differ")
	}
	members["volume"] = other
	return nil
}

func sameJSON(a, b json.RawMessage) bool {
	var x, y any
	return json.Unmarshal(a, &x) == nil && json.Unmarshal(b, &y) == nil && reflect.DeepEqual(x, y)
}

func checkTypes(members map[string]json.RawMessage) error {
	is := func(raw json.RawMessage, first byte) bool { return len(raw) > 0 && bytes.TrimSpace(raw)[0] == first }
	null := func(raw json.RawMessage) bool { return string(raw) == "null" }
	if raw, sent := members["volume"]; sent && !is(raw, '{') {
		return notDict("volume")
	}
	if raw, sent := members["tags"]; sent && !is(raw, '{') && !null(raw) {
		return notDict("tags")
	}
	if raw, sent := members["growth"]; sent && !is(raw, '{') {
		return notDict("growth")
	}
	if raw, sent := members["description"]; sent && !is(raw, '"') && !null(raw) {
		return assertion("'description' is invalid, '<type 'basestring'>' expected")
	}
	if raw, sent := members["index"]; sent {
		var n int
		if json.Unmarshal(raw, &n) != nil || null(raw) {
			return assertion("'index' is invalid, '<type 'int'>' expected")
		}
	}
	return nil
}

func assertion(format string, args ...any) error {
	return agentapi.Errorf(agentapi.KindInvalid, "AssertionError", format, args...)
}

func notDict(name string) error { return assertion("'%s' is invalid, '<type 'dict'>' expected", name) }

func missing(attribute string) error {
	return assertion("Attribute should be specified: %s", attribute)
}

func storageError(kind agentapi.Kind, format string, args ...any) error {
	return agentapi.Errorf(kind, "StorageError", format, args...)
}

func noOp(format string, args ...any) error {
	return agentapi.Errorf(agentapi.KindInvalid, "NoOpError", format, args...)
}
