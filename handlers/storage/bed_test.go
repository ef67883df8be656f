package storage

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/reeve-paas/reeve/agent/agentapi"
	"github.com/reeve-paas/reeve/agent/operation"
	"github.com/reeve-paas/reeve/handlers"
	"github.com/reeve-paas/reeve/handlers/host"
)

// bed calls the namespace as the RPC server does.
type bed struct {
	*Service
	methods  map[string]handlers.Method
	registry *operation.Registry
}

const stateDir = "/var/lib/reeve-agent"

func newBed(tb testing.TB, h *host.Host, stateDir string, cloud Provider) *bed {
	tb.Helper()
	registry, err := operation.Open(operation.Options{})
	if err != nil {
		tb.Fatal(err)
	}
	s := New(Options{Host: h, Operations: registry, StateDir: stateDir, Cloud: cloud})
	return &bed{s, s.Methods(), registry}
}

// params builds a JSON object of a call from "name", value pairs.
func params(pairs ...any) string {
	m := map[string]any{}
	for i := 0; i < len(pairs); i += 2 {
		m[pairs[i].(string)] = pairs[i+1]
	}
	data, err := json.Marshal(m)
	if err != nil {
		panic(err)
	}
	return string(data)
}

type object = map[string]any

func (b *bed) call(ctx context.Context, method string, pairs ...any) (agentapi.StorageConfig, error) {
	result, err := b.methods[method].Call(ctx, json.RawMessage(params(pairs...)))
	if err != nil {
		return nil, err
	}
	data, err := json.Marshal(result) // as it goes over the wire
	if err != nil {
		return nil, err
	}
	var back agentapi.StorageConfig
	if err := json.Unmarshal(data, &back); err != nil {
		return nil, fmt.Errorf("got %s: %w", data, err)
	}
	return back, nil
}

func (b *bed) ok(tb testing.TB, method string, pairs ...any) agentapi.StorageConfig {
	tb.Helper()
	result, err := b.call(tb.Context(), method, pairs...)
	if err != nil {
		tb.Fatalf("%s: %s", method, messageOf(err))
	}
	return result
}

// fails wants an error whose message holds text.
func (b *bed) fails(tb testing.TB, text, method string, pairs ...any) {
	tb.Helper()
	_, err := b.methods[method].Call(tb.Context(), json.RawMessage(params(pairs...)))
	if message := messageOf(err); err == nil || !strings.Contains(message, text) {
		tb.Errorf("%s: got %q, want %q", method, message, text)
	}
}

// messageOf is an error's message on the wire.
func messageOf(err error) string {
	if err == nil {
		return ""
	}
	if e, ok := errors.AsType[*agentapi.Error](err); ok {
		return e.Message()
	}
	return err.Error()
}

// null says that a member is there and null.
func null(c agentapi.StorageConfig, member string) bool { return string(c[member]) == "null" }

// nested is a member that is an object.
func nested(tb testing.TB, c agentapi.StorageConfig, member string, index int) agentapi.StorageConfig {
	tb.Helper()
	var list []agentapi.StorageConfig
	if err := json.Unmarshal(c[member], &list); err != nil || index >= len(list) {
		tb.Fatalf("%s is %s", member, c[member])
	}
	return list[index]
}
