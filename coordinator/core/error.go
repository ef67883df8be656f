package core

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/reeve-paas/reeve/agent/agentapi"
	"github.com/reeve-paas/reeve/coordinator/operation"
)

// Kind classifies a failure. Adapters classify, dialects translate, everyone else adds context.
type Kind string

// Every kind of failure there is; each dialect has a table over Kinds.
const (
	Internal        Kind = "internal"        // our own bug; the text stays in the log
	Invalid         Kind = "invalid"         // can never succeed as it is
	Unauthenticated Kind = "unauthenticated" // no credential, or not a valid one
	Forbidden       Kind = "forbidden"       // known, but not allowed
	NotFound        Kind = "not_found"       // does not exist, or is not the caller's
	Exists          Kind = "exists"          // the name is taken
	Busy            Kind = "busy"            // another operation runs, or the state does not allow it
	Quota           Kind = "quota"           // a limit is reached
	Unproven        Kind = "unproven"        // ownership of a name is not proven
	Unavailable     Kind = "unavailable"     // agent, cloud or database does not answer; may pass by itself
	Unsupported     Kind = "unsupported"     // this cloud or host cannot do it
	RateLimited     Kind = "rate_limited"    // too many attempts
)

// Kinds lists every kind, for the tables of the dialects.
func Kinds() []Kind {
	return []Kind{Internal, Invalid, Unauthenticated, Forbidden, NotFound, Exists, Busy, Quota, Unproven, Unavailable, Unsupported, RateLimited}
}

// Object names what a failure is about, so that a dialect can pick its code.
type Object string

// The objects failures name.
const (
	ObjAccount    Object = "account"
	ObjApp        Object = "app"
	ObjRoute      Object = "route"
	ObjNode       Object = "node"
	ObjImage      Object = "image"
	ObjSize       Object = "size"
	ObjLocation   Object = "location"
	ObjCloud      Object = "cloud"
	ObjOperation  Object = "operation"
	ObjVolume     Object = "volume"
	ObjSnapshot   Object = "snapshot"
	ObjAllocation Object = "allocation"
	ObjUnit       Object = "unit"
	ObjRelease    Object = "release"
	ObjEnrollment Object = "enrolment token"
	ObjTeam       Object = "team"
	ObjKey        Object = "key"

	ObjService     Object = "service"
	ObjApplication Object = "application"
	ObjCode        Object = "code version"
	ObjCredit      Object = "credit"
	ObjCertificate Object = "certificate"
	ObjInstance    Object = "service instance"
	ObjBinding     Object = "binding"
)

// Error is a classified failure.
type Error struct {
	Kind     Kind
	Object   Object    // may be ""
	Msg      string    // for the caller: no paths, SQL or secrets
	Problems []Problem // with Invalid and Unproven: every member that is wrong, in the order of the request
	Err      error     // for the log; may be nil
}

func (e *Error) Error() string {
	if e.Err != nil {
		return fmt.Sprintf("%s: %v", e.Msg, e.Err)
	}
	return e.Msg
}

func (e *Error) Unwrap() error { return e.Err }

// Temporary says that the same call may succeed later; operation steps retry it.
func (e *Error) Temporary() bool { return e.Kind == Unavailable || e.Kind == RateLimited }

// Errorf builds a classified error.
func Errorf(kind Kind, object Object, format string, args ...any) *Error {
	return &Error{Kind: kind, Object: object, Msg: fmt.Sprintf(format, args...)}
}

// Wrap classifies a cause and says what we were doing.
func Wrap(kind Kind, object Object, err error, format string, args ...any) *Error {
	return &Error{Kind: kind, Object: object, Msg: fmt.Sprintf(format, args...), Err: err}
}

// KindOf is the kind of a failure; one that nobody classified is Internal.
func KindOf(err error) Kind {
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Kind
	}
	return Internal
}

// PublicError is what callers may read about a failure: the messages of its classified errors from the outside in, and
// what an agent said, which people can act on. Everything else is for the log, where operationID leads to it.
func PublicError(operationID string, err error) string {
	var said []string
	kind := Internal
	for err != nil {
		if e, ok := errors.AsType[*Error](err); ok {
			said, kind, err = append(said, e.Msg), e.Kind, e.Err
			continue
		}
		if e, ok := errors.AsType[*operation.RetryError](err); ok {
			said, kind = append(said, e.Reason), Unavailable
		} else if e, ok := errors.AsType[*agentapi.Error](err); ok {
			said, kind = append(said, e.Message()), Invalid
		} else if kind == Internal && errors.Is(err, context.DeadlineExceeded) {
			said, kind = append(said, "not in time"), Unavailable
		}
		break
	}
	if kind == Internal && (err != nil || len(said) == 0) {
		said = append(said, "internal error; the log says more about operation "+cmp.Or(operationID, "unknown"))
	}
	return strings.Join(said, ": ")
}

// ProblemCode says what is wrong with one member of a request.
type ProblemCode string

// What can be wrong with a member.
const (
	ProblemMissing   ProblemCode = "missing"
	ProblemUnknown   ProblemCode = "unknown"
	ProblemType      ProblemCode = "type"
	ProblemNotInList ProblemCode = "not_in_list" // Allowed holds the list
	ProblemPattern   ProblemCode = "pattern"
	ProblemTooShort  ProblemCode = "too_short"
	ProblemTooLong   ProblemCode = "too_long"
	ProblemTooSmall  ProblemCode = "too_small"
	ProblemTooBig    ProblemCode = "too_big"
	ProblemShrinks   ProblemCode = "shrinks" // smaller than what is there and cannot shrink
	ProblemDuplicate ProblemCode = "duplicate"
	ProblemPassword  ProblemCode = "password"
	ProblemUnproven  ProblemCode = "unproven" // Allowed holds the name and the TXT value that proves it
	ProblemNotFound  ProblemCode = "not_found"
	ProblemTaken     ProblemCode = "taken"
)

// Problem is one wrong member. Field uses the names of AppSpec's comments.
type Problem struct {
	Field   string
	Code    ProblemCode
	Allowed []string
	Msg     string // human text; never the value of a secret
}
