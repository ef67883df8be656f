package orchestrator

import (
	"github.com/reeve-paas/reeve/coordinator/api"
	"github.com/reeve-paas/reeve/coordinator/core"
)

// serveAuth exchanges user name and password for a new token. Tokens from before stay valid.
func serveAuth(c *call) {
	if _, ok := c.readJSON(); !ok {
		return
	}
	p, err := c.d.auth.Login(c.ctx(), c.field("username"), c.field("password"), api.Caller(c.ctx()).From)
	if err != nil {
		c.failLogin(err)
		return
	}
	p = api.SetPrincipal(c.ctx(), p)
	token, err := c.d.auth.NewToken(c.ctx(), p.Account.ID, c.d.ttl)
	if err != nil {
		c.failWork(err)
		return
	}
	c.answer(func(e *encoder) {
		e.ok()
		e.int("status_code", 200)
		e.str("token", string(token))
	})
}

// failLogin answers 403 for what the caller did wrong. Who is slowed down is told for how long.
func (c *call) failLogin(err error) {
	switch core.KindOf(err) {
	case core.Unauthenticated:
		c.fail(403, msgForbidden)
	case core.RateLimited:
		c.fail(403, reasonOf(err).message)
	default:
		c.note(err)
		c.fail(500, "the credential could not be checked; try again")
	}
}

// serveTest says whether a token works; it also looks at the default cloud.
func serveTest(c *call) {
	if _, ok := c.readJSON(); !ok {
		return
	}
	p, err := c.caller()
	switch {
	case err == nil && p.Anonymous():
		c.fail(403, msgForbidden)
		return
	case err != nil:
		c.failLogin(err)
		return
	}
	c.cloudName = "default"
	cloud, err := c.d.core.CloudFor(c.ctx(), p, c.cloudName)
	if err == nil {
		_, err = cloud.Nodes(c.ctx())
	}
	if err != nil {
		c.note(err)
		c.fail(500, msgCloud)
		return
	}
	c.answer(func(e *encoder) {
		e.str("authenticated", "yes")
		e.ok()
		e.str("test", "passed")
	})
}
