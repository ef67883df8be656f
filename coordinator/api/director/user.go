package director

import (
	"crypto/md5" //nolint:gosec // a wire format
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"

	"github.com/reeve-paas/reeve/coordinator/api"
	"github.com/reeve-paas/reeve/coordinator/auth"
	"github.com/reeve-paas/reeve/coordinator/core"
)

// timeLayout is ISO 8601 without a zone; the times are UTC.
const timeLayout = "2006-01-02T15:04:05.000000"

// userConfig is a user without the password.
type userConfig struct {
	UID         int64   `json:"uid"`
	Username    string  `json:"username"`
	FirstName   string  `json:"fname"`
	LastName    string  `json:"lname"`
	Email       string  `json:"email"`
	Affiliation string  `json:"affiliation"`
	Credit      int64   `json:"credit"`
	Created     string  `json:"created"`
	UUID        *string `json:"uuid"`
	OpenID      *string `json:"openid"`
}

// userDictionary is a user as new_user and login answer.
type userDictionary struct {
	userConfig
	Password string `json:"password"` // MD5 of what the caller just sent: the web frontend compares the two
}

func configOf(a core.Account) userConfig {
	return userConfig{UID: a.Num, Username: a.LoginName(), FirstName: a.FirstName, LastName: a.LastName, Email: a.Email, Affiliation: a.Affiliation,
		Credit: a.Credit, Created: a.CreatedAt.UTC().Format(timeLayout), UUID: orNull(a.UUID), OpenID: orNull(a.OpenID)}
}

func orNull(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}

func (c *call) answerUser(a core.Account, password string) {
	sum := md5.Sum([]byte(password)) //nolint:gosec // it tells the caller what the caller said, and is kept nowhere
	c.answer(userDictionary{configOf(a), hex.EncodeToString(sum[:])})
}

// userText is a parameter of new_user; a literal <none> is how the web frontend says nothing.
func (c *call) userText(name string) (value string, present bool) {
	value, present = c.param(name)
	if value == "<none>" {
		value = ""
	}
	return value, present
}

// requiredOfUser lists the fields in the order in which they are missed; those that may be empty are said to be.
var requiredOfUser = []struct {
	name       string
	maybeEmpty bool
}{{"username", false}, {"fname", true}, {"lname", true}, {"email", false}, {"affiliation", true}, {"password", false}, {"credit", false}}

func (c *call) newUser() {
	if c.d.opts.Closed {
		c.fail("This Director does not let people create users by themselves")
		return
	}
	v := map[string]string{}
	for _, f := range requiredOfUser {
		value, present := c.userText(f.name)
		if !present || value == "" && !f.maybeEmpty {
			c.fail(c.either("%s is a required field", "Missing required field: '%s'", f.name))
			return
		}
		v[f.name] = value
	}
	if err := c.d.opts.Auth.Taken(c.ctx(), v["username"], v["email"]); err != nil {
		c.failUser(err, v)
		return
	}
	credit, err := strconv.ParseInt(v["credit"], 10, 64)
	switch {
	case err != nil && !errors.Is(err, strconv.ErrRange):
		c.fail(fmt.Sprintf("Required credit \"%s\" is not a valid integer.", clip(v["credit"])))
		return
	case credit < 0:
		c.fail(fmt.Sprintf("Required credit \"%s\" cannot be a negative integer.", clip(v["credit"])))
		return
	case credit > c.d.opts.MaxCredit:
		c.fail(fmt.Sprintf("Cannot allocate %s credit for a new user (max credit %d).", clip(v["credit"]), c.d.opts.MaxCredit))
		return
	}
	uuid, _ := c.userText("uuid")
	openID, _ := c.userText("openid")
	account, err := c.d.opts.Auth.CreateUser(c.ctx(), auth.NewUser{Username: v["username"], Password: core.Secret(v["password"]), FirstName: v["fname"],
		LastName: v["lname"], Email: v["email"], Affiliation: v["affiliation"], UUID: uuid, OpenID: openID, Credit: credit, From: c.asksForItself()})
	if err != nil {
		c.failUser(err, v)
		return
	}
	c.answerUser(account, v["password"])
}

// asksForItself is the caller's address, "" when the caller is the web frontend, which asks for all of its users.
func (c *call) asksForItself() string {
	if peer, err := c.d.opts.Certificates.Peer(c.ctx(), c.r.TLS); err == nil && peer.Role == auth.RoleFrontend {
		return ""
	}
	return api.Caller(c.ctx()).From
}

// either picks the words of the caller's generation.
func (c *call) either(documented, modern string, args ...any) string {
	if c.modern() {
		return fmt.Sprintf(modern, args...)
	}
	return fmt.Sprintf(documented, args...)
}

func (c *call) failUser(err error, v map[string]string) {
	e, ok := errors.AsType[*core.Error](err)
	switch {
	case !ok || e.Kind != core.Exists || len(e.Problems) == 0:
		c.failed(err)
	case e.Problems[0].Field == "username":
		c.fail(c.either("Username \"%s\" already taken", "Username '%s' is already taken", clip(v["username"])))
	default:
		c.fail(c.either("E-mail \"%s\" already registered", "E-mail '%s' is already registered", clip(v["email"])))
	}
}

// passwordLogin checks user name and password. When it returns false the call is answered.
func (c *call) passwordLogin() (core.Principal, bool) {
	name, password := c.text("username"), c.text("password")
	if name == "" || password == "" {
		c.no(core.Errorf(core.Unauthenticated, core.ObjAccount, "User authentication failed"))
		return core.Principal{}, false
	}
	p, err := c.d.opts.Auth.Login(c.ctx(), name, password, api.Caller(c.ctx()).From)
	if err != nil {
		c.no(err)
		return core.Principal{}, false
	}
	return api.SetPrincipal(c.ctx(), p), true
}

func (c *call) login() {
	if p, ok := c.passwordLogin(); ok {
		c.answerUser(p.Account, c.text("password"))
	}
}

func (c *call) userCredit() {
	n, err := c.d.core.Credit(c.ctx(), c.peer.Principal)
	if err != nil {
		c.no(err)
		return
	}
	c.answer(n)
}

func (c *call) userConfig() { c.answer(configOf(c.peer.Account)) }
