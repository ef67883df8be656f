package service_test

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/reeve-paas/reeve/agent/agentapi"
	"github.com/reeve-paas/reeve/agent/operation"
	"github.com/reeve-paas/reeve/handlers"
	"github.com/reeve-paas/reeve/handlers/service"
)

type roleParams map[string]json.RawMessage

func (r roleParams) FarmRoleParams(context.Context) (map[string]json.RawMessage, error) {
	return r, nil
}

// host is a service whose behaviours record what they were asked.
type host struct {
	method   handlers.Method
	registry *operation.Registry
	calls    []string
	fail     map[string]error
}

func start(t *testing.T, kept service.RoleParams, installed ...string) *host {
	t.Helper()
	registry, err := operation.Open(operation.Options{})
	if err != nil {
		t.Fatal(err)
	}
	h := &host{registry: registry, fail: map[string]error{}}
	o := service.Options{Operations: registry, RoleParams: kept, Reconfigure: map[string]handlers.Method{}}
	for _, b := range installed {
		o.Reconfigure[b] = handlers.Method{Call: func(_ context.Context, params json.RawMessage) (any, error) {
			h.calls = append(h.calls, b+" "+string(params))
			return []string{"ignored"}, h.fail[b]
		}}
	}
	h.method = service.New(o).Methods()["reconfigure"]
	return h
}

func TestReconfigure(t *testing.T) {
	kept := roleParams{"www": json.RawMessage(`{"proxies":[]}`), "app": json.RawMessage(`{"vhosts":[]}`), "mysql2": json.RawMessage(`{}`)}
	for _, test := range []struct {
		name, params string
		kept         service.RoleParams
		calls        []string
	}{
		{"sent parameters", `{"behavior_params": {"www": {"proxies": [1]}, "app": {"async": true}, "mysql2": 7}, "async": false}`, nil,
			[]string{`app {"async":false}`, `www {"async":false,"proxies":[1]}`}},
		{"everything from the coordinator", `{"async": false}`, kept,
			[]string{`app {"async":false,"vhosts":[]}`, `www {"async":false,"proxies":[]}`}},
		{"null is everything from the coordinator", `{"behavior_params": null, "async": "0"}`, kept,
			[]string{`app {"async":false,"vhosts":[]}`, `www {"async":false,"proxies":[]}`}},
		{"one of them from the coordinator", `{"behavior_params": {"www": null}, "async": false}`, kept,
			[]string{`www {"async":false,"proxies":[]}`}},
		{"nothing to do", `{"behavior_params": {}, "async": false}`, nil, nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			h := start(t, test.kept, "www", "app")
			got, err := h.method.Call(t.Context(), json.RawMessage(test.params))
			if err != nil || got != nil {
				t.Errorf("got %v, %v, want null", got, err)
			}
			if !slices.Equal(h.calls, test.calls) {
				t.Errorf("got calls %q, want %q", h.calls, test.calls)
			}
		})
	}
}

func TestReconfigureErrors(t *testing.T) {
	for _, test := range []struct {
		name, params, want string
		kept               service.RoleParams
		calls              int
	}{
		{"no coordinator", `{"async": false}`, "QueryEnvError: no coordinator is configured that keeps parameters for this host; send behavior_params", nil, 0},
		{"the coordinator knows nothing", `{"behavior_params": {"www": null}, "async": false}`, "QueryEnvError: the coordinator keeps no parameters for behaviour www of this host", roleParams{}, 0},
		{"not installed", `{"behavior_params": {"www": {}}, "async": false}`, "AssertionError: behaviour www is not installed on this host", nil, 0},
		{"not a mapping", `{"behavior_params": {"app": [1]}, "async": true}`, "TypeError: 'behavior_params.app' is invalid, a mapping is expected", nil, 0},
		{"the service fails", `{"behavior_params": {"app": {}, "www": {}}, "async": false}`, "InitdError: configtest", nil, 1},
	} {
		t.Run(test.name, func(t *testing.T) {
			h := start(t, test.kept, "app")
			h.fail["app"] = agentapi.Errorf(agentapi.KindConfigTest, "InitdError", "configtest")
			_, err := h.method.Call(t.Context(), json.RawMessage(test.params))
			if e, ok := errors.AsType[*agentapi.Error](err); !ok || e.Message() != test.want {
				t.Errorf("got %v, want %s", err, test.want)
			}
			if len(h.calls) != test.calls {
				t.Errorf("got calls %q, want %d", h.calls, test.calls)
			}
		})
	}
}

// D18: asynchronous, which is the default, answers with the operation's id.
func TestReconfigureAsyncAnswersWithTheID(t *testing.T) {
	h := start(t, nil, "app")
	got, err := h.method.Call(t.Context(), json.RawMessage(`{"behavior_params": {"app": {}}}`))
	id, ok := got.(string)
	if err != nil || !ok || strings.Count(id, "-") != 4 {
		t.Fatalf("got %v, %v, want a UUID", got, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	h.registry.Run(ctx)
	record, err := h.registry.Result(id)
	if err != nil || record.Name != "api.service.reconfigure" || record.Status != agentapi.OperationCompleted || len(record.Logs) != 1 {
		t.Errorf("got %+v, %v", record, err)
	}
}
