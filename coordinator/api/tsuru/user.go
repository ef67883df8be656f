package tsuru

import (
	"fmt"
	"net/http"
	"regexp"
	"strconv"
	"strings"

	"github.com/reeve-paas/reeve/coordinator/api"
	"github.com/reeve-paas/reeve/coordinator/core"
)

var emailPattern = regexp.MustCompile(`^([^@\s]+)@((?:[-a-z0-9]+\.)+[a-z]{2,})$`)

func serveScheme(c *call) error {
	return c.json(http.StatusOK, map[string]any{"name": "native", "data": nil})
}

func serveSchemes(c *call) error {
	return c.json(http.StatusOK, []map[string]any{{"name": "native", "data": map[string]string{}, "default": true}})
}

// serveUserCreate never answers 404 or 405: clients read both as "registration is off".
func serveUserCreate(c *call) error {
	if c.d.o.NoRegistration {
		if err := c.d.core.RequireAdmin(c.ctx(), c.p); err != nil {
			return unauthenticated()
		}
	}
	f, err := c.fields()
	if err != nil {
		return err
	}
	email, password := strings.TrimSpace(f.str("email")), core.Secret(f.str("password"))
	if !emailPattern.MatchString(email) {
		return badRequest("Invalid email.")
	}
	if err := passwordRule.Check(password); err != nil {
		return badRequest("Password length should be least 6 characters and at most 50 characters.")
	}
	_, err = c.d.auth.Register(c.ctx(), email, password, passwordRule)
	if err != nil && core.KindOf(err) == core.Exists {
		return &status{http.StatusConflict, "This email is already registered."}
	}
	if err != nil {
		return err
	}
	return c.created()
}

func serveLogin(c *call) error { return c.login(c.vars["email"]) }

// serveLoginBody is for clients of other schemes, which name the user in the body.
func serveLoginBody(c *call) error { return c.login("") }

func (c *call) login(email string) error {
	f, err := c.fields()
	if err != nil {
		return badRequest("Invalid JSON")
	}
	if email == "" {
		email = f.str("email")
	}
	password := f.str("password")
	if password == "" {
		return badRequest("You must provide a password to login")
	}
	known, err := c.d.auth.HasAccount(c.ctx(), email)
	if err != nil {
		return err
	}
	if !known {
		if !emailPattern.MatchString(email) {
			return badRequest("Invalid email.")
		}
		return &status{http.StatusNotFound, "User not found"}
	}
	if err := passwordRule.Check(core.Secret(password)); err != nil {
		return badRequest("Password length should be least 6 characters and at most 50 characters.")
	}
	p, err := c.d.auth.Login(c.ctx(), email, password, api.Caller(c.ctx()).From)
	if err != nil && core.KindOf(err) == core.Unauthenticated {
		return &status{http.StatusUnauthorized, "Authentication failed, wrong password."}
	}
	if err != nil {
		return err
	}
	p = api.SetPrincipal(c.ctx(), p)
	token, err := c.d.auth.NewHexToken(c.ctx(), p.Account.ID, c.d.o.TokenTTL)
	if err != nil {
		return err
	}
	return c.json(http.StatusOK, map[string]any{"token": string(token), "is_admin": p.Account.Admin})
}

func serveLogout(c *call) error {
	if err := c.d.auth.Revoke(c.ctx(), c.token); err != nil {
		return err
	}
	return c.ok()
}

func servePassword(c *call) error {
	f, err := c.fields()
	if err != nil {
		return err
	}
	old, password := f.str("old"), f.str("new")
	if old == "" || password == "" {
		return badRequest("Both the old and the new passwords are required.")
	}
	if confirm := f.str("confirm"); confirm != "" && confirm != password {
		return badRequest("New password and password confirmation didn't match.")
	}
	if err := passwordRule.Check(core.Secret(password)); err != nil {
		return badRequest("Password length should be least 6 characters and at most 50 characters.")
	}
	err = c.d.auth.ChangePassword(c.ctx(), c.p, core.Secret(old), core.Secret(password), passwordRule, c.token)
	if err != nil && core.KindOf(err) == core.Unauthenticated {
		return &status{http.StatusForbidden, "The given password didn't match the user's current password."}
	}
	if err != nil {
		return err
	}
	return c.ok()
}

// serveReset mails a token, or a new password to who presents one.
func serveReset(c *call) error {
	email := c.vars["email"]
	known, err := c.d.auth.HasAccount(c.ctx(), email)
	if err != nil {
		return err
	}
	if !known {
		if !emailPattern.MatchString(email) {
			return badRequest("Invalid email.")
		}
		return &status{http.StatusNotFound, "User not found"}
	}
	if c.d.o.Mail == nil {
		return core.Errorf(core.Unsupported, core.ObjAccount, "this server cannot send mail; ask an administrator")
	}
	token := c.r.URL.Query().Get("token")
	if token == "" {
		if f, err := c.fields(); err == nil {
			token = f.str("token")
		}
	}
	var subject, text string
	if token == "" {
		account, fresh, err := c.d.auth.ResetToken(c.ctx(), email)
		if err != nil {
			return err
		}
		email, subject = account.Email, "Password reset"
		text = fmt.Sprintf("Somebody, hopefully you, asked for a new password for %s.\n\nTo get one, run:\n\n    tsuru reset-password %s -t %s\n\nThe token is good once, for 24 hours. If it was not you, ignore this message.\n",
			account.Email, account.Email, string(fresh))
	} else {
		account, password, err := c.d.auth.ResetPassword(c.ctx(), email, token)
		if err != nil {
			return err
		}
		email, subject = account.Email, "Your new password"
		text = fmt.Sprintf("The new password of %s is: %s\n\nChange it when you have logged in: tsuru change-password\n", account.Email, string(password))
	}
	if err := c.d.o.Mail.Send(c.ctx(), email, subject, text); err != nil {
		return core.Wrap(core.Unavailable, core.ObjAccount, err, "the message could not be sent; try again")
	}
	return c.ok()
}

// serveUserRemove ends the caller's account, or the one in ?user= for an administrator.
func serveUserRemove(c *call) error {
	id, err := c.p.Account.ID, error(nil)
	if email := c.r.URL.Query().Get("user"); email != "" {
		id, err = c.d.core.CloseAccountOf(c.ctx(), c.p, email)
	} else {
		err = c.d.core.CloseAccount(c.ctx(), c.p)
	}
	if err != nil {
		return err
	}
	c.d.auth.Forget(id)
	return c.ok()
}

// serveKeyAdd takes a key, from clients from 0.13 on under a name, where force replaces the one that has the name.
func serveKeyAdd(c *call) error {
	f, err := c.fields()
	if err != nil {
		return badRequest("Invalid JSON")
	}
	name, key := f.str("name"), f.str("key")
	if key == "" {
		return badRequest("Missing key")
	}
	add := c.d.core.AddSSHKey
	if name != "" && truth(f.str("force")) {
		add = c.d.core.ReplaceSSHKey
	}
	if _, err := add(c.ctx(), c.p, name, key); err != nil {
		return err
	}
	return c.created()
}

// serveKeyRemove removes the key itself, or the one of a name, which clients from 1.0 on have in the path.
func serveKeyRemove(c *call) error {
	name := c.vars["key"]
	if name == "" {
		f, err := c.fields()
		if err != nil {
			return badRequest("Invalid JSON")
		}
		if key := f.str("key"); key != "" {
			if err := c.d.core.RemoveSSHKey(c.ctx(), c.p, key); err != nil {
				return err
			}
			return c.ok()
		}
		name = f.str("name")
	}
	if name == "" {
		return badRequest("Missing key")
	}
	if err := c.d.core.RemoveSSHKeyNamed(c.ctx(), c.p, name); err != nil {
		return err
	}
	return c.ok()
}

// serveKeys lists the caller's keys, whoever the path names.
func serveKeys(c *call) error {
	keys, err := c.d.core.AccountSSHKeys(c.ctx(), c.p)
	if err != nil {
		return err
	}
	all := map[string]string{}
	for _, k := range keys {
		all[k.Name] = k.Key
	}
	return c.json(http.StatusOK, all)
}

// serveQuota is the document's view of an account's quota.
func serveQuota(c *call) error {
	q, err := c.d.core.AccountQuota(c.ctx(), c.p, c.vars["email"])
	if err != nil {
		return err
	}
	return c.json(http.StatusOK, map[string]int{"items": q.InUse, "available": q.Available()})
}

// serveUserQuota is the view of the clients: administrators only, and oneself with the modern one.
func serveUserQuota(c *call) error {
	if !c.versioned {
		if err := c.d.core.RequireAdmin(c.ctx(), c.p); err != nil {
			return err
		}
	}
	q, err := c.d.core.AccountQuota(c.ctx(), c.p, c.vars["email"])
	if err != nil && core.KindOf(err) == core.NotFound {
		return &status{http.StatusNotFound, "User not found"}
	}
	if err != nil {
		return err
	}
	return c.quota(q)
}

func (c *call) quota(q core.Allowance) error {
	return c.json(http.StatusOK, map[string]int{"Limit": q.Limit, "InUse": q.InUse, "limit": q.Limit, "inuse": q.InUse})
}

func serveUserQuotaSet(c *call) error {
	limit, err := c.limit()
	if err != nil {
		return err
	}
	if err := c.d.core.SetAccountQuota(c.ctx(), c.p, c.vars["email"], limit); err != nil {
		return err
	}
	return c.ok()
}

func (c *call) limit() (int, error) {
	f, err := c.fields()
	if err != nil {
		return 0, badRequest("Invalid limit")
	}
	limit, err := strconv.Atoi(strings.TrimSpace(f.str("limit")))
	if err != nil {
		return 0, badRequest("Invalid limit")
	}
	return limit, nil
}
