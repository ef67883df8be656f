package rpcserver

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"os"
	"runtime/debug"
	"strconv"
	"strings"
	"time"

	"github.com/creachadair/jrpc2"

	"github.com/reeve-paas/reeve/agent/agentapi"
	"github.com/reeve-paas/reeve/crypto/envelope"
)

// refusal is an answer outside of the envelope: a status, and a short fixed text.
type refusal struct {
	status int
	why    reason
	text   string
	err    error // for the log; may be nil
}

// call is one request on its way through the server.
type call struct {
	started   time.Time
	key       envelope.Key
	mac       envelope.MAC
	date      time.Time
	namespace string
	request   request
	method    *entry // nil when there is none of that name
}

// ServeHTTP answers one request. It never panics because of what a caller sent or a method did.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.calls.Add(1)
	defer s.calls.Done()
	s.metrics.inFlight.Inc()
	defer s.metrics.inFlight.Dec()
	c := &call{started: s.opts.Now(), namespace: strings.TrimPrefix(r.URL.Path, "/")}
	plaintext, refused := s.open(c, r)
	if refused != nil {
		s.refuse(w, r, refused)
		return
	}
	result, failure, refused := s.answer(c, r, plaintext)
	if refused != nil {
		s.refuse(w, r, refused)
		return
	}
	body, date, signature := envelope.Seal(c.key, encodeReply(c.request.id, result, failure), s.opts.Now())
	h := w.Header()
	h["Content-Type"] = jsonType
	h["Content-Length"] = []string{strconv.Itoa(len(body))}
	h["X-Signature"] = []string{signature}
	h["Date"] = []string{date} // net/http would write its own, which is not what was signed
	s.write(w, http.StatusOK, body)
	if s.usage.add(c.key, len(plaintext)+len(body)) {
		s.opts.Log.Warn("the shared key has encrypted a lot; replace it", "bytes", int64(keyBytesWarning))
	}
	s.done(c, r, failure, len(body))
}

var jsonType = []string{"application/json"}

// open reads the body and takes it out of its envelope.
func (s *Server) open(c *call, r *http.Request) ([]byte, *refusal) {
	date, signature := r.Header.Get("Date"), r.Header.Get("X-Signature")
	if date == "" || signature == "" {
		return nil, &refusal{http.StatusBadRequest, reasonHeaders, "Date and X-Signature headers are required", nil}
	}
	var err error
	if c.key, err = s.opts.Keys.Get(); err != nil {
		return nil, &refusal{http.StatusInternalServerError, reasonKey, "", err}
	}
	body, refused := s.readBody(r)
	if refused != nil {
		return nil, refused
	}
	opened, err := envelope.OpenFull(c.key, body, date, signature)
	switch {
	case errors.Is(err, envelope.ErrDate):
		return nil, &refusal{http.StatusBadRequest, reasonHeaders, "Date does not match format '%a %d %b %Y %H:%M:%S UTC'", nil}
	case errors.Is(err, envelope.ErrSignature):
		return nil, &refusal{http.StatusBadRequest, reasonSignature, "Signature doesn't match", nil}
	case err != nil:
		return nil, &refusal{http.StatusBadRequest, reasonDecode, "Failed to decrypt data", nil}
	}
	if skew := s.opts.Now().Sub(opened.Date); s.opts.MaxClockSkew > 0 && skew.Abs() > s.opts.MaxClockSkew {
		return nil, &refusal{http.StatusBadRequest, reasonClock, agentapi.RefusedClock, nil}
	}
	c.mac, c.date = opened.MAC, opened.Date
	return opened.Plaintext, nil
}

// readBody reads at most MaxBody bytes. A large body grows as it arrives, and only a few of them at once.
func (s *Server) readBody(r *http.Request) ([]byte, *refusal) {
	tooLarge := &refusal{http.StatusRequestEntityTooLarge, reasonBodySize, "Body is too large", nil}
	if r.ContentLength > s.opts.MaxBody {
		return nil, tooLarge
	}
	var body []byte
	var err error
	if r.ContentLength >= 0 && r.ContentLength <= largeBody {
		body = make([]byte, r.ContentLength)
		_, err = io.ReadFull(r.Body, body)
	} else {
		select {
		case s.large <- struct{}{}:
			defer func() { <-s.large }()
		case <-time.After(s.opts.ReadTimeout):
			return nil, &refusal{http.StatusServiceUnavailable, reasonBusy, "Too many large requests at once", nil}
		}
		var buf bytes.Buffer
		_, err = buf.ReadFrom(io.LimitReader(r.Body, s.opts.MaxBody+1))
		body = buf.Bytes()
	}
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded):
		return nil, &refusal{http.StatusRequestTimeout, reasonBodyRead, "Body did not arrive in time", nil}
	case err != nil:
		return nil, &refusal{http.StatusBadRequest, reasonBodyRead, "Body is incomplete", nil}
	case int64(len(body)) > s.opts.MaxBody:
		return nil, tooLarge
	}
	return body, nil
}

// answer decodes the request, refuses a replay and runs the method.
func (s *Server) answer(c *call, r *http.Request, plaintext []byte) (json.RawMessage, *wireError, *refusal) {
	var failure *wireError
	if c.request, failure = decodeRequest(plaintext, s.opts.MaxDepth); failure != nil {
		return nil, failure, nil
	}
	if s.changing[c.request.method] {
		err := s.guard.use(c.mac, c.date, s.opts.Now())
		if errors.Is(err, errReplay) {
			return nil, nil, &refusal{http.StatusBadRequest, reasonReplay, agentapi.RefusedReplay, nil}
		}
		if err != nil && s.warnings.Allow() {
			s.opts.Log.Warn("a seen request was not kept for after a restart", "err", err)
		}
	}
	methods, found := s.table[c.namespace]
	if !found {
		return nil, namespaceNotFound(c.namespace), nil
	}
	if c.method = methods[c.request.method]; c.method == nil {
		return nil, methodNotFound(c.request.method), nil
	}
	result, failure := s.run(c)
	return result, failure, nil
}

// run calls the method. A panic in it, or in encoding its result, becomes an error without details; the log has them.
func (s *Server) run(c *call) (result json.RawMessage, failure *wireError) {
	defer func() {
		if v := recover(); v != nil {
			s.opts.Log.Error("rpc method panicked", "namespace", c.namespace, "method", c.request.method, "panic", v,
				"stack", string(debug.Stack()))
			result, failure = nil, methodError(errors.New("internal error; the agent's log has the details"))
		}
	}()
	if !isObject(c.request.params) {
		return nil, methodError(agentapi.Errorf(agentapi.KindInvalid, "TypeError", "%s() argument after ** must be a mapping",
			c.request.method))
	}
	ctx := s.stopping
	if c.request.platform != nil {
		ctx = agentapi.WithPlatformAccessData(ctx, *c.request.platform)
	}
	value, err := c.method.Call(ctx, c.request.params)
	if err != nil {
		failure = methodError(err)
		s.logCause(c, failure, err)
		return nil, failure
	}
	return encodeResult(value)
}

// logCause writes down what the caller does not see: the cause behind an error, and every error nobody classified.
func (s *Server) logCause(c *call, failure *wireError, err error) {
	e, classified := errors.AsType[*agentapi.Error](err)
	switch {
	case classified && e.Err != nil:
		err = e.Err
	case classified && failure.Kind != agentapi.KindInternal:
		return
	}
	s.opts.Log.Warn("rpc method failed", "namespace", c.namespace, "method", c.request.method, "kind", string(failure.Kind),
		"err", err)
}

// refuse answers outside of the envelope.
func (s *Server) refuse(w http.ResponseWriter, r *http.Request, why *refusal) {
	s.metrics.rejected[why.why].Inc()
	h := w.Header()
	h["Content-Type"] = []string{"text/plain; charset=utf-8"}
	h["Content-Length"] = []string{strconv.Itoa(len(why.text))}
	h["Date"] = []string{envelope.FormatDate(s.opts.Now())} // lets an operator see how far the clocks are apart
	if why.why == reasonBodySize || why.why == reasonBodyRead {
		h["Connection"] = []string{"close"} // the rest of the body is not read
	}
	s.write(w, why.status, []byte(why.text))
	if why.err != nil {
		s.opts.Log.Error("rpc request refused", "reason", string(why.why), "remote", r.RemoteAddr, "err", why.err)
	} else if s.warnings.Allow() {
		s.opts.Log.Warn("rpc request refused", "reason", string(why.why), "remote", r.RemoteAddr, "status", why.status)
	}
}

// write sends a reply to a caller that takes it in time. The deadline is set for each reply, not for the connection,
// because methods may take as long as they need.
func (s *Server) write(w http.ResponseWriter, status int, body []byte) {
	http.NewResponseController(w).SetWriteDeadline(time.Now().Add(s.opts.WriteTimeout)) // an httptest recorder has none
	w.WriteHeader(status)
	w.Write(body) // the caller may be gone; there is nobody left to tell
}

// done counts and logs an answered request: commands and failures always, reads that went well only for debugging.
func (s *Server) done(c *call, r *http.Request, failure *wireError, size int) {
	took := s.opts.Now().Sub(c.started)
	var code jrpc2.Code
	if failure != nil {
		code = failure.Code
	}
	namespace, method, of := s.labels(c)
	s.metrics.answered(of, namespace, method, code, took.Seconds())
	s.log(c, r, failure, took, size)
}

// labels are the names for the metrics: those of the table, or "other".
func (s *Server) labels(c *call) (namespace, method string, of *series) {
	if c.method != nil {
		return c.namespace, c.request.method, &c.method.series
	}
	if _, found := s.table[c.namespace]; !found {
		return other, other, nil
	}
	return c.namespace, other, nil
}
