package handlers

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"

	"github.com/reeve-paas/reeve/agent/agentapi"
)

// Func makes a Method of a typed function. name is the RPC name as it appears in argument errors.
//
// Parameters are checked as the old agent checked them: an unknown member, or a missing one that is tagged
// `rpc:"required"`, is a TypeError whose text old callers match on (spec agent-core 1.8). A member of the wrong JSON
// type is a TypeError too. Struct fields without a json tag are not parameters.
func Func[P, R any](name string, fn func(context.Context, P) (R, error)) Method {
	fields := paramFields(reflect.TypeFor[P]())
	return Method{Command: true, Call: func(ctx context.Context, raw json.RawMessage) (any, error) {
		var p P
		if err := decodeParams(name, raw, fields, &p); err != nil {
			return nil, err
		}
		return fn(ctx, p)
	}}
}

// Reader is Func for a method that changes nothing.
func Reader[P, R any](name string, fn func(context.Context, P) (R, error)) Method {
	m := Func(name, fn)
	m.ReadOnly, m.Command = true, false
	return m
}

// Null is the result of a method that returns nothing: JSON null.
type Null struct{}

// MarshalJSON writes null.
func (Null) MarshalJSON() ([]byte, error) { return []byte("null"), nil }

// NoParams is the parameter type of a method that takes none.
type NoParams struct{}

type paramField struct {
	name     string
	required bool
}

func paramFields(t reflect.Type) []paramField {
	if t.Kind() != reflect.Struct {
		panic(fmt.Sprintf("RPC parameters must be a struct, got %s", t))
	}
	var fields []paramField
	for f := range t.Fields() {
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		if name == "" || name == "-" {
			continue
		}
		fields = append(fields, paramField{name: name, required: f.Tag.Get("rpc") == "required"})
	}
	return fields
}

func decodeParams(method string, raw json.RawMessage, fields []paramField, into any) error {
	if string(raw) == "{}" && !slices.ContainsFunc(fields, func(f paramField) bool { return f.required }) {
		return nil // the ordinary call of a reader
	}
	var members map[string]json.RawMessage
	if err := json.Unmarshal(raw, &members); err != nil || members == nil {
		return typeError("%s() argument after ** must be a mapping", method)
	}
	known := make(map[string]bool, len(fields))
	need, optional := 0, 0
	missing := false
	for _, f := range fields {
		known[f.name] = true
		if f.required {
			need++
			if _, sent := members[f.name]; !sent {
				missing = true
			}
		} else {
			optional++
		}
	}
	for name := range members {
		if !known[name] {
			return typeError("%s() got an unexpected keyword argument '%s'", method, name)
		}
	}
	if missing { // counts include the implicit self
		amount := "exactly"
		if optional > 0 {
			amount = "at least"
		}
		return typeError("%s() takes %s %d %s (%d given)", method, amount, need+1, plural("argument", need+1), len(members)+1)
	}
	dec := json.NewDecoder(bytes.NewReader(raw))
	if err := dec.Decode(into); err != nil {
		if e, ok := errors.AsType[*json.UnmarshalTypeError](err); ok {
			return typeError("'%s' is invalid, %s expected", e.Field, e.Type)
		}
		if e, ok := errors.AsType[*agentapi.Error](err); ok {
			return e
		}
		return &agentapi.Error{Kind: agentapi.KindInvalid, Class: "ValueError", Text: err.Error()}
	}
	return nil
}

func typeError(format string, args ...any) error {
	return agentapi.Errorf(agentapi.KindInvalid, "TypeError", format, args...)
}

func plural(word string, n int) string {
	if n == 1 {
		return word
	}
	return word + "s"
}
