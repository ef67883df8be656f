package agentclient

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/reeve-paas/reeve/agent/agentapi"
)

// Why a call has no answer of the agent's method.
var (
	ErrTransport = errors.New("the agent could not be reached")
	ErrRejected  = errors.New("the agent did not accept the request")
	ErrReply     = errors.New("the reply is not the agent's answer to this request")
)

// Reached tells whether err is the agent's own answer, so that its method or its parameters are to blame, not the way there.
func Reached(err error) bool {
	return err != nil && !errors.Is(err, ErrTransport) && !errors.Is(err, ErrRejected) && !errors.Is(err, ErrReply)
}

// unavailable is an error that may pass by itself.
func unavailable(why, cause error) error {
	err := fmt.Errorf("%w: %w", why, cause)
	return &agentapi.Error{Kind: agentapi.KindUnavailable, Class: "AgentUnavailable", Text: err.Error(), Err: err}
}

// withCause says which deadline passed, when one did: the transport reports only that the request was given up.
func withCause(ctx context.Context, err error) error {
	if cause := context.Cause(ctx); cause != nil && !errors.Is(err, cause) {
		return fmt.Errorf("%w: %w", cause, err)
	}
	return err
}

// refused explains an answer outside of the envelope, and says whether a new request may succeed.
func refused(resp *http.Response, body []byte) error {
	text := strings.TrimSpace(string(body[:min(len(body), 200)]))
	kind, hint := agentapi.KindInvalid, ""
	switch {
	case text == agentapi.RefusedReplay:
		kind, hint = agentapi.KindUnavailable, " (it may have been carried out, and its reply lost)"
	case text == agentapi.RefusedClock:
		kind, hint = agentapi.KindUnavailable, fmt.Sprintf(" (%s)", resp.Header.Get("Date"))
	case resp.StatusCode == http.StatusBadRequest:
		hint = " (does the agent have the same key?)"
	case resp.StatusCode >= 500 || resp.StatusCode == http.StatusRequestTimeout:
		kind = agentapi.KindUnavailable
	}
	if text == "" {
		text = http.StatusText(resp.StatusCode)
	}
	err := fmt.Errorf("%w: %d: %s%s", ErrRejected, resp.StatusCode, text, hint)
	return &agentapi.Error{Kind: kind, Class: "EnvelopeError", Text: err.Error(), Err: err}
}

// agentError is the agent's error object as the value it was made of. An agent that sends no kind, or one we do not know,
// is an old one, or a newer one than us.
func agentError(object json.RawMessage) error {
	var e struct {
		Code    int           `json:"code"`
		Message string        `json:"message"`
		Data    any           `json:"data"`
		Kind    agentapi.Kind `json:"kind"`
	}
	if err := json.Unmarshal(object, &e); err != nil {
		return unavailable(ErrReply, err)
	}
	class, text, ok := strings.Cut(e.Message, ": ")
	if !ok || strings.ContainsAny(class, " '\"") {
		class, text = "", e.Message
	}
	if e.Code != agentapi.CodeInternal { // the wire's own errors have no class, and name in data what they are about
		class, text = "RPCError", e.Message
		if e.Data != nil {
			text = fmt.Sprintf("%s: %v", text, e.Data)
		}
	}
	switch e.Kind {
	case agentapi.KindInternal, agentapi.KindInvalid, agentapi.KindNotFound, agentapi.KindConflict, agentapi.KindConfigTest,
		agentapi.KindUnavailable, agentapi.KindUnsupported:
	default:
		e.Kind = kindOfCode(e.Code)
	}
	return &agentapi.Error{Code: e.Code, Kind: e.Kind, Class: class, Text: text}
}

func kindOfCode(code int) agentapi.Kind {
	switch code {
	case agentapi.CodeNamespaceNotFound, agentapi.CodeMethodNotFound:
		return agentapi.KindUnsupported
	case agentapi.CodeParseError, agentapi.CodeInvalidRequest, agentapi.CodeInvalidParams:
		return agentapi.KindInvalid
	}
	return agentapi.KindInternal
}
