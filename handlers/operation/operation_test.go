package operation_test

import (
	"context"
	"encoding/json"
	"errors"
	"testing"

	"github.com/reeve-paas/reeve/agent/agentapi"
	registry "github.com/reeve-paas/reeve/agent/operation"
	"github.com/reeve-paas/reeve/handlers/operation"
)

func TestNamespace(t *testing.T) {
	r, err := registry.Open(registry.Options{})
	if err != nil {
		t.Fatal(err)
	}
	methods := operation.New(r).Methods()
	call := func(method, params string) (string, error) {
		value, err := methods[method].Call(t.Context(), json.RawMessage(params))
		data, _ := json.Marshal(value)
		return string(data), err
	}
	release := make(chan struct{})
	started, err := r.Start(t.Context(), registry.Task{Name: "storage.create", Async: true, Run: func(context.Context, *registry.Op) (any, error) {
		<-release
		return 5, nil
	}})
	if err != nil {
		t.Fatal(err)
	}
	byID := `{"operation_id": "` + started.(string) + `"}`
	if got, err := call("has_in_progress", `{}`); got != "true" || err != nil {
		t.Errorf("has_in_progress: got %s, %v, want true", got, err)
	}
	if got, err := call("cancel", byID); got != "null" || err != nil {
		t.Errorf("cancel: got %s, %v, want null", got, err)
	}
	close(release)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	r.Run(ctx)
	want := `{"id":"` + started.(string) + `","name":"storage.create","status":"canceled","result":5,"error":"User canceled","trace":null,"logs":[]}`
	if got, err := call("result", byID); got != want || err != nil {
		t.Errorf("result: got %s, %v, want %s", got, err, want)
	}
	if got, err := call("has_in_progress", `{}`); got != "false" || err != nil {
		t.Errorf("has_in_progress: got %s, %v, want false", got, err)
	}
	for _, method := range []string{"result", "cancel"} {
		_, err := call(method, `{"operation_id": "x"}`)
		if e, ok := errors.AsType[*agentapi.Error](err); !ok || e.Message() != "OperationNotFoundError: 'x' not found" {
			t.Errorf("%s: got %v", method, err)
		}
	}
	// Conformance 21: internal names are not offered.
	if _, ok := methods["create"]; ok || len(methods) != 3 {
		t.Errorf("got %d methods, want result, cancel and has_in_progress", len(methods))
	}
	if !methods["result"].ReadOnly || !methods["has_in_progress"].ReadOnly || methods["cancel"].ReadOnly {
		t.Error("result and has_in_progress are read-only, cancel is not")
	}
}
