package tsuru

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/reeve-paas/reeve/coordinator/api"
	"github.com/reeve-paas/reeve/coordinator/core"
)

// call is one request being answered.
type call struct {
	d         *Dialect
	w         http.ResponseWriter
	r         *http.Request
	row       *route
	vars      map[string]string
	versioned bool // the path began with a version: the modern client
	p         core.Principal
	token     string   // that the caller presented
	app       core.App // of the path, when it has one
	began     bool     // something was written: failures go into the body
}

func (c *call) ctx() context.Context { return c.r.Context() }

// run checks in the order of spec 0.3 and then serves.
func (c *call) run() error {
	if err := c.identify(); err != nil {
		return err
	}
	if name := c.vars["app"]; name != "" {
		app, err := c.d.core.AppByName(c.ctx(), c.p, name)
		if c.p.App != "" && err != nil && core.KindOf(err) == core.Forbidden {
			return unauthenticated() // the token of another app counts as none
		}
		if err != nil {
			return err
		}
		c.app = app
	}
	if c.row.lock {
		release, err := c.lock(c.app)
		if err != nil {
			return err
		}
		defer release()
	}
	return c.row.serve(c)
}

func unauthenticated() error {
	return core.Errorf(core.Unauthenticated, core.ObjAccount, "You must provide a valid Authorization header")
}

// identify finds out who calls and whether the route is open to them.
func (c *call) identify() error {
	err := c.authenticate()
	switch {
	case c.row.access == public:
		if err != nil {
			c.p, c.token = api.Caller(c.ctx()), ""
			if core.KindOf(err) == core.Unauthenticated {
				err = nil
			}
		}
		return err
	case err != nil:
		return err
	case c.p.App != "" && c.row.access != anyToken:
		return core.Errorf(core.Forbidden, core.ObjAccount, "the token of an app is not good for this")
	case c.row.access == admin:
		return c.d.core.RequireAdmin(c.ctx(), c.p)
	}
	return nil
}

// authenticate reads the token: the last of one or two words; what the first one says does not matter.
func (c *call) authenticate() error {
	words := strings.Split(c.r.Header.Get("Authorization"), " ")
	if len(words) > 2 || words[len(words)-1] == "" {
		return unauthenticated()
	}
	c.token = words[len(words)-1]
	from := api.Caller(c.ctx()).From
	p, err := c.d.auth.Token(c.ctx(), c.token, from)
	if err != nil && core.KindOf(err) == core.Unauthenticated {
		p, err = c.d.auth.AppToken(c.ctx(), c.token, from)
	}
	if err != nil && core.KindOf(err) == core.Unauthenticated {
		return unauthenticated()
	}
	if err != nil {
		return err
	}
	c.p = api.SetPrincipal(c.ctx(), p)
	return nil
}

// wantsSeed is the rule for the few answers where the document and its clients cannot both be satisfied: whoever says what
// they accept reads the document.
func (c *call) wantsSeed() bool { return c.r.Header.Get("Accept") != "" }

// json answers with a value.
func (c *call) json(status int, v any) error {
	data, err := json.Marshal(v)
	if err != nil {
		return err
	}
	c.w.Header().Set("Content-Type", "application/json")
	c.began = true
	c.w.WriteHeader(status)
	_, _ = c.w.Write(append(data, '\n')) // whoever hung up does not want it
	return nil
}

// text answers with text as it is; "" is an empty body.
func (c *call) text(status int, s string) error {
	if s != "" {
		c.w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	} else {
		c.w.Header().Set("Content-Length", "0")
	}
	c.began = true
	c.w.WriteHeader(status)
	_, _ = io.WriteString(c.w, s)
	return nil
}

// ok answers that it is done, with nothing to tell.
func (c *call) ok() error { return c.text(http.StatusOK, "") }

// created is ok, or 201 on versioned paths.
func (c *call) created() error {
	if c.versioned {
		return c.text(http.StatusCreated, "")
	}
	return c.ok()
}

const maxBody = 1 << 20

// body reads the whole body, also of a GET or DELETE.
func (c *call) body() ([]byte, error) {
	data, err := io.ReadAll(http.MaxBytesReader(c.w, c.r.Body, maxBody))
	if _, big := errors.AsType[*http.MaxBytesError](err); big {
		return nil, &status{http.StatusRequestEntityTooLarge, "the request's body is larger than 1 MiB"}
	}
	if err != nil {
		return nil, &status{http.StatusBadRequest, "the request's body is incomplete"}
	}
	return data, nil
}

// patient lets the request last: the deadline for reading it would otherwise end it while it is answered.
func (c *call) patient(d time.Duration) {
	var until time.Time
	if d > 0 {
		until = time.Now().Add(d)
	}
	_ = http.NewResponseController(c.w).SetReadDeadline(until) // a recorder has none
}

// baseURL is where callers reach us.
func (c *call) baseURL() string {
	if c.d.o.PublicURL != "" {
		return strings.TrimRight(c.d.o.PublicURL, "/")
	}
	if c.r.TLS != nil {
		return "https://" + c.r.Host
	}
	return "http://" + c.r.Host
}
