package rpcserver

import (
	"context"
	"encoding/json"
)

// Method is one RPC method.
type Method struct {
	// Call gets the JSON object that the caller sent as params, without `_platform_access_data`, which
	// agentapi.PlatformAccessDataFrom finds in ctx. ctx ends when the server gives up on a shutdown, not when the caller
	// hangs up. An *agentapi.Error goes to the caller as it is; any other error as "Exception: <text>".
	Call func(ctx context.Context, params json.RawMessage) (any, error)
	// ReadOnly methods answer a repeated request again instead of refusing it as a replay.
	ReadOnly bool
	// Command methods are logged with the names of their parameters.
	Command bool
}

// Table is every method by namespace and name. A namespace is a URL path without its leading slash.
type Table map[string]map[string]Method

// stateChanging is the set of names under which some namespace has a method that changes state.
func (t Table) stateChanging() map[string]bool {
	names := map[string]bool{}
	for _, methods := range t {
		for name, m := range methods {
			if !m.ReadOnly {
				names[name] = true
			}
		}
	}
	return names
}

// entry is a method in the server's own copy of the table.
type entry struct {
	Method
	series series
}

func (t Table) entries() map[string]map[string]*entry {
	all := make(map[string]map[string]*entry, len(t))
	for namespace, methods := range t {
		all[namespace] = make(map[string]*entry, len(methods))
		for name, m := range methods {
			all[namespace][name] = &entry{Method: m}
		}
	}
	return all
}
