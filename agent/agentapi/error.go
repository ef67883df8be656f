package agentapi

import "fmt"

// JSON-RPC codes of the old wire. Clients know only these; Kind travels beside them.
const (
	CodeParseError        = -32700
	CodeInvalidRequest    = -32600
	CodeMethodNotFound    = -32601
	CodeInvalidParams     = -32602
	CodeInternal          = -32603
	CodeNamespaceNotFound = -32099
)

// Kind classifies a failure for our own callers. It is sent as the extra member error.kind.
type Kind string

// The kinds an agent distinguishes.
const (
	KindInternal    Kind = "internal"    // nobody classified it; someone should look
	KindInvalid     Kind = "invalid"     // the request can never succeed as it is
	KindNotFound    Kind = "not_found"   // what the request names does not exist
	KindConflict    Kind = "conflict"    // exists already, or busy
	KindConfigTest  Kind = "config_test" // the service's own test refused the configuration
	KindUnavailable Kind = "unavailable" // a service on the host does not answer; may pass by itself
	KindUnsupported Kind = "unsupported" // this host cannot do it
)

// Error is a failure as the old wire shows it: message "Class: text", code -32603 unless Code says otherwise.
type Error struct {
	Code  int    // 0 means CodeInternal
	Kind  Kind   // "" means KindInternal
	Class string // exception class clients match on, e.g. "AssertionError"; "" means "Exception"
	Text  string // for the caller; may be empty
	Err   error  // cause, for the log only; may be nil
}

func (e *Error) Error() string { return e.Message() }

// Message is the text on the wire.
func (e *Error) Message() string {
	class := e.Class
	if class == "" {
		class = "Exception"
	}
	return class + ": " + e.Text
}

func (e *Error) Unwrap() error { return e.Err }

// Errorf builds an Error of a kind and an exception class.
func Errorf(kind Kind, class, format string, args ...any) *Error {
	return &Error{Kind: kind, Class: class, Text: fmt.Sprintf(format, args...)}
}
