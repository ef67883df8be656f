package rpcserver

import (
	"encoding/json"
	"errors"
	"strings"

	"github.com/creachadair/jrpc2"

	"github.com/reeve-paas/reeve/agent/agentapi"
)

// wireError is the error object of the old wire: code, message and data are always there. Kind is our own.
type wireError struct {
	Code    jrpc2.Code      `json:"code"`
	Message string          `json:"message"`
	Data    json.RawMessage `json:"data"`
	Kind    agentapi.Kind   `json:"kind,omitempty"`
}

func (e *wireError) Error() string { return e.Message }

var null = json.RawMessage("null")

func parseError(detail string) *wireError {
	return &wireError{Code: agentapi.CodeParseError, Message: "Parse error", Data: quote(detail)}
}

func invalidRequest(detail string) *wireError {
	return &wireError{Code: agentapi.CodeInvalidRequest, Message: "Invalid Request", Data: quote(detail)}
}

func methodNotFound(name string) *wireError {
	return &wireError{Code: agentapi.CodeMethodNotFound, Message: "Method not found", Data: quote(name)}
}

func namespaceNotFound(name string) *wireError {
	e := &wireError{Code: agentapi.CodeNamespaceNotFound, Message: "Namespace not found", Data: null}
	if name != "" {
		e.Data = quote(name)
	}
	return e
}

// methodError turns what a method returned into what the old wire shows. An *agentapi.Error says it all, a *jrpc2.Error
// has its code and data, and anything else is an internal "Exception: <text>".
//
// Source: spec agent-core 1.8
func methodError(err error) *wireError {
	if e, ok := errors.AsType[*wireError](err); ok {
		return e
	}
	if e, ok := errors.AsType[*agentapi.Error](err); ok {
		code, kind := e.Code, e.Kind
		if code == 0 {
			code = agentapi.CodeInternal
		}
		if kind == "" {
			kind = agentapi.KindInternal
		}
		return &wireError{Code: jrpc2.Code(code), Message: e.Message(), Data: null, Kind: kind}
	}
	if e, ok := errors.AsType[*jrpc2.Error](err); ok {
		w := &wireError{Code: e.Code, Message: e.Message, Data: e.Data}
		if len(w.Data) == 0 {
			w.Data = null
		}
		return w
	}
	return &wireError{Code: agentapi.CodeInternal, Message: "Exception: " + err.Error(), Data: null, Kind: agentapi.KindInternal}
}

// encodeReply writes the reply object: exactly id and result, or id and error.
func encodeReply(id, result json.RawMessage, failure *wireError) []byte {
	if len(id) == 0 {
		id = json.RawMessage(`""`) // the old agent's answer to a request it could not read
	}
	member := `{"result":`
	if failure != nil {
		member = `{"error":`
		result = encodeError(failure)
	}
	reply := make([]byte, 0, len(member)+len(result)+len(`,"id":}`)+len(id))
	reply = append(append(reply, member...), result...)
	reply = append(append(append(reply, `,"id":`...), id...), '}')
	return reply
}

func encodeError(e *wireError) json.RawMessage {
	text, err := json.Marshal(e)
	if err != nil { // only data of a method can be unfit
		text, _ = json.Marshal(&wireError{Code: e.Code, Message: e.Message, Data: null, Kind: e.Kind})
	}
	return text
}

// encodeResult is a method's result as JSON text.
func encodeResult(result any) (json.RawMessage, *wireError) {
	if result == nil {
		return null, nil
	}
	text, err := json.Marshal(result)
	if err != nil {
		detail := strings.TrimPrefix(err.Error(), "json: ")
		return nil, &wireError{Code: agentapi.CodeInternal, Message: "TypeError: the result is not JSON serializable: " + detail,
			Data: null, Kind: agentapi.KindInternal}
	}
	return text, nil
}

func quote(s string) json.RawMessage {
	text, err := json.Marshal(s)
	if err != nil {
		return null // cannot happen for a string
	}
	return text
}
