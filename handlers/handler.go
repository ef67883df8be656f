// Package handlers defines what a service on a host offers over RPC, and the set of all of them.
//
// A handler package (handlers/nginx, handlers/system, …) builds a Service from its options and returns its Methods;
// agent/wire.go lists every handler, and agent/rpcserver is handed the resulting table.
package handlers

import (
	"context"
	"encoding/json"
	"fmt"
)

// Handler is one service of the host under one or more namespaces.
type Handler interface {
	// Namespaces are the URL paths that reach the service, the canonical one first.
	Namespaces() []string
	// Methods maps an RPC method name to its implementation. It is called once.
	Methods() map[string]Method
}

// Starter is a Handler that has work to do before the first call, such as finishing or undoing a change that a killed
// agent left. An error is logged and the handler keeps serving.
type Starter interface {
	Start(ctx context.Context) error
}

// Method is one RPC method.
type Method struct {
	// Call gets the members of "params" after `_platform_access_data` was taken out.
	Call func(ctx context.Context, params json.RawMessage) (any, error)
	// ReadOnly methods answer a repeated request again instead of refusing it as a replay.
	ReadOnly bool
	// Command marks a method whose call is logged with its parameters' names.
	Command bool
}

// Set is every namespace of an agent.
type Set map[string]map[string]Method

// NewSet collects handlers and refuses two that claim one namespace.
func NewSet(hs ...Handler) (Set, error) {
	set := Set{}
	for _, h := range hs {
		methods := h.Methods()
		for _, ns := range h.Namespaces() {
			if _, taken := set[ns]; taken {
				return nil, fmt.Errorf("namespace %q is claimed twice", ns)
			}
			set[ns] = methods
		}
	}
	return set, nil
}
