package handlers_test

import (
	"context"
	"encoding/json"
	"errors"
	"testing"

	"github.com/reeve-paas/reeve/agent/agentapi"
	"github.com/reeve-paas/reeve/handlers"
)

type growParams struct {
	Volume map[string]any `json:"volume" rpc:"required"`
	Growth map[string]any `json:"growth" rpc:"required"`
	Async  *agentapi.Bool `json:"async,omitempty"`
}

type needParams struct {
	Thing string `json:"thing" rpc:"required"`
}

type looseParams struct {
	Name   string              `json:"name"`
	Port   agentapi.Text       `json:"port"`
	Count  int                 `json:"count"`
	List   []string            `json:"list"`
	Flag   *agentapi.Bool      `json:"flag"`
	Nested struct{ A int }     `json:"nested"`
	Inner  []agentapi.Bool     `json:"inner"`
	VHosts []agentapi.VHostRef `json:"vhosts"`
	Hidden string
}

func call[P any](t *testing.T, name, params string) error {
	t.Helper()
	_, err := handlers.Func(name, func(context.Context, P) (handlers.Null, error) { return handlers.Null{}, nil }).Call(t.Context(), json.RawMessage(params))
	return err
}

// The texts of spec agent-core 1.8, which old callers match on; counts include the implicit self.
func TestArgumentErrors(t *testing.T) {
	for _, test := range []struct {
		name string
		err  error
		want string
	}{
		{"unknown name", call[looseParams](t, "create", `{"zzz": 1}`), "TypeError: create() got an unexpected keyword argument 'zzz'"},
		{"a field without a tag is no parameter", call[looseParams](t, "create", `{"Hidden": "x"}`), "TypeError: create() got an unexpected keyword argument 'Hidden'"},
		{"names are case-sensitive", call[looseParams](t, "create", `{"NAME": "x"}`), "TypeError: create() got an unexpected keyword argument 'NAME'"},
		{"one required, none optional", call[needParams](t, "need", `{}`), "TypeError: need() takes exactly 2 arguments (1 given)"},
		{"required missing, optional exist", call[growParams](t, "grow", `{"volume": {}}`), "TypeError: grow() takes at least 3 arguments (2 given)"},
		{"unknown before missing", call[growParams](t, "grow", `{"size": 1}`), "TypeError: grow() got an unexpected keyword argument 'size'"},
		{"none taken, one given", call[handlers.NoParams](t, "cpu_stat", `{"x": 1}`), "TypeError: cpu_stat() got an unexpected keyword argument 'x'"},
		{"a list", call[looseParams](t, "create", `[1, 2]`), "TypeError: create() argument after ** must be a mapping"},
		{"a string", call[looseParams](t, "create", `"x"`), "TypeError: create() argument after ** must be a mapping"},
		{"null", call[looseParams](t, "create", `null`), "TypeError: create() argument after ** must be a mapping"},
		{"wrong type", call[looseParams](t, "create", `{"count": "many"}`), "TypeError: 'count' is invalid, int expected"},
		{"wrong type inside", call[looseParams](t, "create", `{"nested": {"A": "x"}}`), "TypeError: 'nested.A' is invalid, int expected"},
		{"a fraction for an integer", call[looseParams](t, "create", `{"count": 1.5}`), "TypeError: 'count' is invalid, int expected"},
		{"a scalar of our own", call[looseParams](t, "create", `{"flag": "maybe"}`), "ValueError: not a boolean: maybe"},
		{"a scalar of our own in a list", call[looseParams](t, "create", `{"inner": [true, "perhaps"]}`), "ValueError: not a boolean: perhaps"},
		{"text of our own", call[looseParams](t, "create", `{"port": [80]}`), "TypeError: a string or a number was expected, not [80]"},
		{"a pair of our own", call[looseParams](t, "create", `{"vhosts": [["a"]]}`), "ValueError: a vhost is named by [hostname, port]"},
	} {
		t.Run(test.name, func(t *testing.T) {
			e, ok := errors.AsType[*agentapi.Error](test.err)
			if !ok || e.Message() != test.want {
				t.Fatalf("got %v, want %s", test.err, test.want)
			}
			if e.Kind != agentapi.KindInvalid || e.Code != 0 {
				t.Errorf("got kind %q, code %d, want invalid and the default code", e.Kind, e.Code)
			}
		})
	}
}

func TestGoodArguments(t *testing.T) {
	for _, params := range []string{`{}`, `{"name": null, "port": 80, "flag": "1", "list": null}`, ` {"port": "80", "flag": 0, "inner": ["yes", false, 1]} `} {
		if err := call[looseParams](t, "create", params); err != nil {
			t.Errorf("%s: got %v", params, err)
		}
	}
}

func TestReaderAndFuncMarkTheirMethods(t *testing.T) {
	fn := func(context.Context, handlers.NoParams) (int, error) { return 1, nil }
	if m := handlers.Reader("a", fn); !m.ReadOnly || m.Command {
		t.Errorf("reader: got %+v", m)
	}
	if m := handlers.Func("a", fn); m.ReadOnly || !m.Command {
		t.Errorf("func: got %+v", m)
	}
}

type named []string

func (n named) Namespaces() []string                { return n }
func (n named) Methods() map[string]handlers.Method { return map[string]handlers.Method{"x": {}} }

func TestNewSet(t *testing.T) {
	set, err := handlers.NewSet(named{"system", "sysinfo"}, named{"nginx"})
	if err != nil || len(set) != 3 || len(set["sysinfo"]) != 1 {
		t.Errorf("got %v, %v", set, err)
	}
	if _, err := handlers.NewSet(named{"a"}, named{"b", "a"}); err == nil || err.Error() != `namespace "a" is claimed twice` {
		t.Errorf("got %v", err)
	}
}
