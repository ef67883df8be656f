package rpcserver

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"unicode/utf8"

	"github.com/reeve-paas/reeve/agent/agentapi"
	"github.com/reeve-paas/reeve/agent/internal/jsonobject"
)

// request is one call as it came out of the envelope.
type request struct {
	id       json.RawMessage // as sent: old clients compare the token of a float
	method   string
	params   json.RawMessage // a JSON object
	platform *agentapi.PlatformAccessData
}

// decodeRequest reads a request object. The old wire has no "jsonrpc" member and no batches, matches names exactly and
// ignores other members.
//
// Source: spec agent-core 1.5, 1.8
func decodeRequest(plaintext []byte, maxDepth int) (request, *wireError) {
	if depth(plaintext) > maxDepth {
		return request{}, invalidRequest(fmt.Sprintf("JSON is nested deeper than %d levels", maxDepth))
	}
	if !json.Valid(plaintext) {
		var ignored any
		return request{}, parseError(json.Unmarshal(plaintext, &ignored).Error())
	}
	var values [3]json.RawMessage
	if !jsonobject.Lookup(plaintext, memberNames, values[:]) {
		return request{}, invalidRequest("a request is a JSON object")
	}
	var r request
	var ok bool
	if r.method, ok = text(values[0]); !ok {
		return request{}, invalidRequest("'method'")
	}
	r.params, r.id = values[1], values[2]
	if len(r.params) == 0 || isNull(r.params) {
		return request{}, invalidRequest("'params'")
	}
	if len(r.id) == 0 {
		return request{}, invalidRequest("'id'")
	}
	return r.withoutPlatformAccess(), nil
}

var memberNames = []string{"method", "params", "id"}

// withoutPlatformAccess takes the cloud credentials out of the parameters.
//
// Source: spec agent-core 1.6
func (r request) withoutPlatformAccess() request {
	if !bytes.Contains(r.params, []byte("_platform")) && !bytes.Contains(r.params, []byte(`\u`)) {
		return r // the ordinary call: nothing to take out, however it is spelled
	}
	var members map[string]json.RawMessage
	if err := json.Unmarshal(r.params, &members); err != nil {
		return r // not an object; dispatch says so
	}
	data, sent := members[agentapi.PlatformAccessParam]
	if !sent {
		return r
	}
	delete(members, agentapi.PlatformAccessParam)
	rest, err := json.Marshal(members)
	if err != nil {
		rest = json.RawMessage("{}") // cannot happen: the members were just parsed
	}
	access := agentapi.NewPlatformAccessData(data)
	r.params, r.platform = rest, &access
	return r
}

// paramNames are the names of the parameters, for the log.
func (r request) paramNames() []string {
	var members map[string]json.RawMessage
	if err := json.Unmarshal(r.params, &members); err != nil {
		return nil
	}
	names := slices.Sorted(maps.Keys(members))
	return names[:min(len(names), 20)]
}

// text is a JSON string's value; ok is false for anything else.
func text(raw json.RawMessage) (s string, ok bool) {
	if len(raw) < 2 || raw[0] != '"' {
		return "", false
	}
	if bytes.IndexByte(raw, '\\') < 0 && utf8.Valid(raw) {
		return string(raw[1 : len(raw)-1]), true // the ordinary name
	}
	return s, json.Unmarshal(raw, &s) == nil
}

func isNull(raw json.RawMessage) bool { return string(raw) == "null" }

func isObject(raw json.RawMessage) bool { return len(raw) > 0 && raw[0] == '{' }

// depth is how deeply brackets nest outside of strings. It needs no valid JSON and no stack.
func depth(text []byte) int {
	deepest, now := 0, 0
	inString := false
	for i := 0; i < len(text); i++ {
		switch c := text[i]; {
		case inString && c == '\\':
			i++
		case c == '"':
			inString = !inString
		case inString:
		case c == '{' || c == '[':
			now++
			deepest = max(deepest, now)
		case c == '}' || c == ']':
			now--
		}
	}
	return deepest
}
