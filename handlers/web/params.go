package web

import (
	"context"
	"encoding/json"
	"maps"
	"reflect"
	"strings"

	"github.com/reeve-paas/reeve/agent/agentapi"
	"github.com/reeve-paas/reeve/handlers"
)

// Func is handlers.Func for callers who tell null from absent: null is false for a boolean and the empty text for a
// number or string, where an absent member is its default (spec agent-web 1.2).
func Func[P, R any](name string, fn func(context.Context, P) (R, error)) handlers.Method {
	return normalised[P](handlers.Func(name, fn), false)
}

// LenientFunc is Func for a method that ignores members it does not know.
func LenientFunc[P, R any](name string, fn func(context.Context, P) (R, error)) handlers.Method {
	return normalised[P](handlers.Func(name, fn), true)
}

// Element reads one object of a list the way LenientFunc reads parameters. name is the method its errors speak of.
func Element[P any](name string, raw json.RawMessage) (p P, err error) {
	m := LenientFunc(name, func(_ context.Context, read P) (handlers.Null, error) {
		p = read
		return handlers.Null{}, nil
	})
	_, err = m.Call(context.Background(), raw)
	return p, err
}

var (
	boolPtr = reflect.TypeFor[*agentapi.Bool]()
	textPtr = reflect.TypeFor[*agentapi.Text]()
)

func normalised[P any](m handlers.Method, lenient bool) handlers.Method {
	fields := map[string]reflect.Type{}
	for f := range reflect.TypeFor[P]().Fields() {
		if name, _, _ := strings.Cut(f.Tag.Get("json"), ","); name != "" && name != "-" {
			fields[name] = f.Type
		}
	}
	call := m.Call
	m.Call = func(ctx context.Context, raw json.RawMessage) (any, error) {
		var members map[string]json.RawMessage
		if json.Unmarshal(raw, &members) != nil || members == nil {
			return call(ctx, raw) // which refuses it in the right words
		}
		for name, value := range members {
			switch fields[name] {
			case boolPtr:
				if string(value) == "null" {
					members[name] = json.RawMessage("false")
				}
			case textPtr:
				if string(value) == "null" {
					members[name] = json.RawMessage(`""`)
				}
			}
		}
		if lenient {
			maps.DeleteFunc(members, func(name string, _ json.RawMessage) bool { return fields[name] == nil })
		}
		clean, err := json.Marshal(members)
		if err != nil {
			return nil, err
		}
		return call(ctx, clean)
	}
	return m
}
