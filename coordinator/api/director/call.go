package director

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"strconv"

	"github.com/reeve-paas/reeve/coordinator/api"
	"github.com/reeve-paas/reeve/coordinator/auth"
	"github.com/reeve-paas/reeve/coordinator/core"
)

// call is one request being answered.
type call struct {
	d      *Dialect
	w      http.ResponseWriter
	r      *http.Request
	values []string // of the path's segments
	query  url.Values
	peer   auth.Peer // after a check of the certificate
}

func (c *call) ctx() context.Context { return c.r.Context() }

// do reads the parameters, finds out who calls, and serves.
func (c *call) do(row *route) {
	if !c.readForm() {
		return
	}
	if row.access != public && !c.known(row.access) {
		return
	}
	row.serve(c)
}

// readForm merges the parameters. A body that is no form, or a multipart one without any part, has none: PHP's cURL sends
// such. When it returns false the call is answered.
func (c *call) readForm() bool {
	c.query = c.r.URL.Query()
	err := c.r.ParseForm() // its error is lost by ParseMultipartForm
	if err == nil {
		err = c.r.ParseMultipartForm(maxForm)
	}
	if _, tooBig := errors.AsType[*http.MaxBytesError](err); tooBig {
		write(c.w, http.StatusRequestEntityTooLarge, errorDictionary(false, "the request's body is too large"))
		return false
	}
	return true
}

// param is a parameter, and whether it is there. What the query says wins.
func (c *call) param(name string) (string, bool) {
	if v, ok := c.query[name]; ok && len(v) > 0 {
		return v[0], true
	}
	if v, ok := c.r.PostForm[name]; ok && len(v) > 0 {
		return v[0], true
	}
	if c.r.MultipartForm != nil {
		if v := c.r.MultipartForm.Value[name]; len(v) > 0 {
			return v[0], true
		}
	}
	return "", false
}

func (c *call) text(name string) string {
	v, _ := c.param(name)
	return v
}

// number is a parameter that is a plain number, 0 when it is not.
func (c *call) number(name string) int64 {
	n, err := strconv.ParseInt(c.text(name), 10, 64)
	if err != nil {
		return 0
	}
	return n
}

// id is the number in the path, or in the parameter for the callers that have none in the path.
func (c *call) id(param string) int64 {
	if len(c.values) > 0 {
		n, err := strconv.ParseInt(c.values[0], 10, 64)
		if err != nil {
			return 0
		}
		return n
	}
	return c.number(param)
}

// modern says that a client of 2.x calls: all of its requests have this parameter.
func (c *call) modern() bool {
	_, ok := c.param("service_id")
	return ok
}

// known checks the certificate. When it returns false the call is answered.
func (c *call) known(need access) bool {
	if foreign(c.r) {
		write(c.w, http.StatusForbidden, false)
		return false
	}
	peer, err := c.d.opts.Certificates.Peer(c.ctx(), c.r.TLS)
	role := map[access]auth.Role{user: auth.RoleUser, manager: auth.RoleManager}[need]
	switch {
	case errors.Is(err, auth.ErrNoAccount):
		write(c.w, http.StatusOK, false)
		return false
	case err != nil && core.KindOf(err) != core.Unauthenticated:
		c.d.log.Error("certificate could not be looked at", "err", err)
		write(c.w, http.StatusServiceUnavailable, false)
		return false
	case err == nil && need == manager && peer.Role == auth.RoleUser:
		write(c.w, http.StatusOK, false) // it names no service
		return false
	case err != nil || peer.Role != role:
		write(c.w, http.StatusUnauthorized, false)
		return false
	}
	peer.Principal = api.SetPrincipal(c.ctx(), peer.Principal)
	c.peer = peer
	if need != manager {
		return true
	}
	if _, err := c.d.core.Service(c.ctx(), peer.Principal, peer.Service); err != nil {
		write(c.w, http.StatusOK, false)
		return false
	}
	return true
}

// foreign says that a browser was made to send the request by somebody else's page, with the certificate of its user. No tool
// sends these headers.
func foreign(r *http.Request) bool {
	if site := r.Header.Get("Sec-Fetch-Site"); site != "" && site != "same-origin" && site != "none" {
		return true
	}
	origin := r.Header.Get("Origin")
	if origin == "" {
		return false
	}
	u, err := url.Parse(origin)
	return err != nil || u.Host != r.Host
}

// write answers with JSON.
func write(w http.ResponseWriter, status int, v any) {
	data, err := json.Marshal(v)
	if err != nil { // no value of ours can fail
		status, data = http.StatusInternalServerError, []byte("false")
	}
	w.Header().Set("Content-Type", "application/json")
	send(w, status, data)
}

func writeText(w http.ResponseWriter, status int, text string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	send(w, status, []byte(text))
}

func send(w http.ResponseWriter, status int, data []byte) {
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.Header().Set("Content-Length", strconv.Itoa(len(data)))
	w.WriteHeader(status)
	_, _ = w.Write(data) // whoever hung up does not want it
}

func (c *call) answer(v any) { write(c.w, http.StatusOK, v) }
