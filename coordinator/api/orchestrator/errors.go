package orchestrator

import (
	"errors"
	"net/http"

	"github.com/reeve-paas/reeve/coordinator/core"
)

// The messages of the API.
const (
	msgNotImplemented = "Not implemented"
	msgNoCloud        = "Cloud not valid"
	msgCloud          = "Cloud not valid or wrong path"
	msgUnknownAction  = "Unrecognized action found"
	msgMalformed      = "Malformed JSON stream"
	msgSchema         = "Some key doesn't validate the schema - "
	msgNoImage        = "no useful image id here"
	msgNoSize         = "no useful size id here"
	msgNoNode         = "no useful node id here"
	msgNoNodeGiven    = "no valid node id nor hostname here"
	msgNodeNotFound   = "Node not found"
	msgNoKey          = "no useful keyname here"
	msgForbidden      = "Forbidden"
	msgWrong          = "Something went wrong "
)

// reason is how a failure is told. An empty message means the failure's own text.
type reason struct {
	status  int
	message string
}

// reasons is the only place where this API names a failure of the work itself. Failures of the caller's credential are
// answered before any work (failCaller); Unauthenticated from work is a provider that refuses our own credential.
var reasons = map[core.Kind]reason{
	core.Internal:        {500, msgCloud},
	core.Invalid:         {400, ""},
	core.Unauthenticated: {500, msgCloud},
	core.Forbidden:       {403, msgForbidden},
	core.NotFound:        {500, msgCloud}, // unless notFound knows the object
	core.Exists:          {400, ""},
	core.Busy:            {400, ""},
	core.Quota:           {400, ""},
	core.Unproven:        {400, ""},
	core.Unavailable:     {500, msgCloud},
	core.Unsupported:     {400, msgNoCloud},
	core.RateLimited:     {503, ""},
}

// notFound refines reasons by what was not found.
var notFound = map[core.Object]reason{
	core.ObjCloud:      {500, msgCloud},
	core.ObjNode:       {400, msgNoNode},
	core.ObjImage:      {400, msgNoImage},
	core.ObjSize:       {400, msgNoSize},
	core.ObjAllocation: {400, msgNodeNotFound},
	core.ObjKey:        {400, msgNoKey},
}

func reasonOf(err error) reason {
	why := reasons[core.KindOf(err)]
	e, ok := errors.AsType[*core.Error](err)
	if !ok {
		return why
	}
	if e.Kind == core.NotFound {
		if refined, ok := notFound[e.Object]; ok {
			return refined
		}
	}
	if why.message == "" || e.Object == core.ObjOperation { // an operation's reason is for people
		why.message = e.Msg
	}
	return why
}

// failWork answers a failure of the work.
func (c *call) failWork(err error) {
	why := reasonOf(err)
	c.note(err)
	c.fail(why.status, why.message)
}

// failStart answers a failure to start a node: always 500, with the inner message behind a prefix.
func (c *call) failStart(err error) {
	c.note(err)
	c.fail(500, msgWrong+reasonOf(err).message)
}

// failCaller answers a caller without a valid credential where one is needed.
func (c *call) failCaller(err error) {
	if core.KindOf(err) != core.Unauthenticated {
		c.note(err)
		c.fail(500, "the credential could not be checked; try again")
		return
	}
	c.w.Header().Set("WWW-Authenticate", "Bearer") // RFC 9110 §11.6.1
	e, _ := errors.AsType[*core.Error](err)
	c.fail(401, e.Msg+"; POST /api/v1/auth gives a token")
}

// note logs what the caller is not told. What the caller could have known is in the access log already.
func (c *call) note(err error) {
	switch core.KindOf(err) {
	case core.Internal:
		c.d.log.Error("request failed", "dialect", "orchestrator", "cloud", c.cloudName, "err", err)
	case core.Unavailable, core.Unauthenticated:
		c.d.log.Warn("cloud does not answer", "dialect", "orchestrator", "cloud", c.cloudName, "err", err)
	}
}

// statusTexts holds the words that this API's errors describe statuses with.
var statusTexts = map[int]struct{ short, long string }{
	400: {"Bad Request", "Bad request syntax or unsupported method"},
	401: {"Unauthorized", "No permission -- see authorization schemes"},
	403: {"Forbidden", "Request forbidden -- authorization will not help"},
	404: {"Not Found", "Nothing matches the given URI"},
	413: {"Request Entity Too Large", "Entity is too large."},
	500: {"Internal Server Error", "Server got itself in trouble"},
	501: {"Not Implemented", "Server does not support this operation"},
	503: {"Service Unavailable", "The server cannot process the request due to a high load"},
}

// fail answers with the error body.
func (c *call) fail(status int, message string) {
	words, ok := statusTexts[status]
	if !ok {
		words.short, words.long = http.StatusText(status), http.StatusText(status)
	}
	c.send(status, func(e *encoder) {
		e.str("message", message)
		e.str("status", "error")
		e.int("status_code", int64(status))
		e.str("status_long_message", words.long)
		e.str("status_short_message", words.short)
	}, nil)
}

// notFound answers a path that no route matches: the one error with two keys only.
func (c *call) notFound() {
	c.send(http.StatusNotFound, func(e *encoder) {
		e.str("message", "Page not found")
		e.str("status", "error")
	}, nil)
}

// Fail writes a failure that the shared plumbing found, for api.Mount.
func Fail(w http.ResponseWriter, r *http.Request, status int, err *core.Error) {
	(&call{w: w, r: r}).fail(status, err.Msg)
}
