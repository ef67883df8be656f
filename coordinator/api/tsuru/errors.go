package tsuru

import (
	"errors"
	"io"
	"net/http"
	"strings"

	"github.com/reeve-paas/reeve/coordinator/core"
)

// statuses is the only place where this API names a failure of the work.
var statuses = map[core.Kind]int{
	core.Internal:        http.StatusInternalServerError,
	core.Invalid:         http.StatusBadRequest,
	core.Unauthenticated: http.StatusUnauthorized,
	core.Forbidden:       http.StatusForbidden,
	core.NotFound:        http.StatusNotFound,
	core.Exists:          http.StatusConflict,
	core.Busy:            http.StatusConflict, // unless unready knows the object
	core.Quota:           http.StatusForbidden,
	core.Unproven:        http.StatusForbidden,
	core.Unavailable:     http.StatusInternalServerError,
	core.Unsupported:     http.StatusBadRequest,
	core.RateLimited:     http.StatusTooManyRequests,
}

// unready refines Busy: what is asked for needs something else first, and waiting alone does not help.
var unready = map[core.Object]int{
	core.ObjUnit:     http.StatusPreconditionFailed,
	core.ObjRelease:  http.StatusPreconditionFailed,
	core.ObjInstance: http.StatusPreconditionFailed,
	core.ObjBinding:  http.StatusPreconditionFailed,
}

// status is a failure that this dialect itself finds: a status and a text.
type status struct {
	code int
	text string
}

func (s *status) Error() string { return s.text }

func badRequest(text string) error { return &status{http.StatusBadRequest, text} }

// answerOf is how a failure is told.
func answerOf(err error) (code int, text string) {
	if s, ok := errors.AsType[*status](err); ok {
		return s.code, s.text
	}
	e, ok := errors.AsType[*core.Error](err)
	if !ok {
		return http.StatusInternalServerError, "internal error"
	}
	code = statuses[e.Kind]
	if e.Kind == core.Busy || e.Kind == core.Unavailable && e.Object == core.ObjRelease {
		if refined, ok := unready[e.Object]; ok {
			code = refined
		}
	}
	return code, core.PublicError("", err)
}

// failWith answers a failure. Once output began the status cannot be changed: the text is appended as a line of its own.
func (c *call) failWith(err error) {
	code, text := answerOf(err)
	if code >= 500 {
		c.d.log.Error("request failed", "route", c.row.method+" "+c.row.pattern, "app", c.vars["app"], "err", err)
	}
	if c.began {
		_, _ = io.WriteString(c.w, "\n"+text+"\n")
		return
	}
	c.fail(code, text)
}

// fail answers with plain text and one newline.
func (c *call) fail(code int, text string) { failText(c.w, code, text) }

func failText(w http.ResponseWriter, code int, text string) {
	http.Error(w, strings.TrimRight(text, "\n"), code)
}

// fail writes a failure that the shared plumbing found, for api.Mount.
func fail(w http.ResponseWriter, _ *http.Request, code int, err *core.Error) {
	failText(w, code, err.Msg)
}
