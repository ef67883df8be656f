package tsuru

import (
	"net/http"
	"slices"

	"github.com/reeve-paas/reeve/coordinator/core"
)

// This file is what only clients from 1.0 on ask for: plans, pools, routers, roles. There is one of the first three, and roles
// are what an account is: an administrator, or a member of teams.

const (
	planName   = "default"
	poolName   = "shared"
	routerName = "nginx"
)

// plan is what units of an app get. Memory and swap are in bytes; 0 is no limit.
type plan struct {
	Name     string `json:"name"`
	Memory   int64  `json:"memory"`
	Swap     int64  `json:"swap"`
	CPUShare int    `json:"cpushare"` // clients before 1.13
	CPUMilli int    `json:"cpumilli"`
	Default  bool   `json:"default"`
}

func planOf(app core.App) plan {
	return plan{Name: planName, Memory: int64(app.MemoryMB) << 20, Swap: int64(app.SwapMB) << 20, Default: true}
}

func servePlans(c *call) error { return c.json(http.StatusOK, []plan{planOf(core.App{})}) }

// pool is where apps run. Everybody's apps may.
type pool struct {
	Name        string              `json:"name"`
	Public      bool                `json:"public"`
	Default     bool                `json:"default"`
	Provisioner string              `json:"provisioner"`
	Allowed     map[string][]string `json:"allowed"`
}

func (c *call) pools() ([]pool, error) {
	teams, err := c.d.core.Teams(c.ctx(), c.p)
	names := []string{}
	for _, t := range teams {
		names = append(names, t.Name)
	}
	return []pool{{poolName, true, true, provisioner, map[string][]string{"team": names, "router": {routerName}, "plan": {planName}, "service": {}}}}, err
}

const provisioner = "reeve"

func servePools(c *call) error {
	pools, err := c.pools()
	if err != nil {
		return err
	}
	return c.json(http.StatusOK, pools)
}

func serveRouters(c *call) error {
	return c.json(http.StatusOK, []map[string]any{{"name": routerName, "type": routerName, "info": map[string]string{}, "default": true}})
}

// appRouter is a router with the address under which it knows an app.
type appRouter struct {
	Name         string            `json:"name"`
	Type         string            `json:"type"`
	Address      string            `json:"address"`
	Addresses    []string          `json:"addresses"`
	Opts         map[string]string `json:"opts"`
	Status       string            `json:"status"`
	StatusDetail string            `json:"status-detail"`
}

func routersOf(address string) []appRouter {
	return []appRouter{{routerName, routerName, address, []string{address}, map[string]string{}, "ready", ""}}
}

func serveAppRouters(c *call) error { return c.json(http.StatusOK, routersOf(c.app.Address())) }

// only refuses a choice that there is not.
func only(what, asked, there string) error {
	if asked == "" || asked == there {
		return nil
	}
	return badRequest(what + " not found; there is " + there)
}

// serveAppUpdate changes what of an app can be changed: the team that owns it.
func serveAppUpdate(c *call) error {
	f, err := c.fields()
	if err != nil {
		return err
	}
	for _, choice := range [][3]string{{"Plan", f.str("plan"), planName}, {"Pool", f.str("pool"), poolName}, {"Router", f.str("router"), routerName}, {"Platform", f.str("platform"), c.app.Platform}} {
		if err := only(choice[0], choice[1], choice[2]); err != nil {
			return err
		}
	}
	tags, _ := f.list("tags")
	more, _ := f.list("tag")
	if f.str("description") != "" || len(tags)+len(more) > 0 {
		return badRequest("descriptions and tags are not kept here")
	}
	team := f.str("teamowner")
	if team == "" {
		return badRequest("there is nothing to update; the team that owns the app can be")
	}
	if err := c.d.core.SetTeamOwner(c.ctx(), c.p, c.app.Name, team); err != nil {
		return err
	}
	return c.finish(noOperation, false, nil)
}

// serveEventCancel stops a deployment, which is known by the X-Tsuru-Eventid of its answer.
func serveEventCancel(c *call) error {
	if err := c.d.core.CancelWork(c.ctx(), c.p, c.vars["event"]); err != nil {
		return err
	}
	c.w.WriteHeader(http.StatusNoContent)
	return nil
}

// role is a role as clients see it.
type role struct {
	Name        string   `json:"name"`
	Context     string   `json:"context"`
	Description string   `json:"Description"`
	Permissions []string `json:"scheme_names"`
	Events      []string `json:"events,omitempty"`
}

const (
	roleAdmin  = "AllowAll"
	roleMember = "team-member"
)

// roles are all there are; nobody can make others.
var roles = []role{
	{Name: roleAdmin, Context: "global", Description: "members of the team of administrators", Permissions: []string{"*"}},
	{Name: roleMember, Context: "team", Description: "what every member of a team may do", Permissions: []string{"app", "service", "service-instance", "team"},
		Events: []string{"team-create"}},
}

// permission is a name of what a role may allow. The first one is the root of all and has none.
type permission struct {
	Name     string
	Contexts []string
}

var permissions = []permission{
	{"", []string{"global"}},
	{"app", []string{"global", "team"}},
	{"machine", []string{"global"}},
	{"platform", []string{"global"}},
	{"service", []string{"global", "team"}},
	{"service-instance", []string{"global", "team"}},
	{"team", []string{"global", "team"}},
	{"user", []string{"global"}},
}

func servePermissions(c *call) error { return c.json(http.StatusOK, permissions) }

func serveRoles(c *call) error { return c.json(http.StatusOK, roles) }

func serveRole(c *call) error {
	i := slices.IndexFunc(roles, func(r role) bool { return r.Name == c.vars["role"] })
	if i < 0 {
		return &status{http.StatusNotFound, "role not found"}
	}
	return c.json(http.StatusOK, roles[i])
}

// serveRoleDefaults lists the roles that come with something: whoever makes a team is its member.
func serveRoleDefaults(c *call) error {
	return c.json(http.StatusOK, slices.DeleteFunc(slices.Clone(roles), func(r role) bool { return len(r.Events) == 0 }))
}

// grant is a role that a user has, for all or for one team.
type grant struct {
	Name, ContextType, ContextValue string
}

// shownUser is a user with what they may do.
type shownUser struct {
	Email              string
	Roles, Permissions []grant
	Groups             []string
}

func showUser(u core.User) shownUser {
	v := shownUser{Email: u.Email, Roles: []grant{}, Permissions: []grant{}, Groups: []string{}}
	give := func(name, context, value string) {
		v.Roles = append(v.Roles, grant{name, context, value})
		for _, r := range roles {
			if r.Name == name {
				for _, p := range r.Permissions {
					v.Permissions = append(v.Permissions, grant{p, context, value})
				}
			}
		}
	}
	if u.Admin {
		give(roleAdmin, "global", "")
	}
	for _, t := range u.Teams {
		give(roleMember, "team", t.Name)
	}
	return v
}

// serveUsers lists users on versioned paths only: before, it was the wrong method of a path.
func serveUsers(c *call) error {
	if !c.versioned {
		return &status{http.StatusNotFound, "404 page not found"}
	}
	users, err := c.d.core.Users(c.ctx(), c.p)
	if err != nil {
		return err
	}
	q := c.r.URL.Query()
	all := []shownUser{}
	for _, u := range users {
		v := showUser(u)
		if q.Get("userEmail") != "" && q.Get("userEmail") != u.Email ||
			q.Get("role") != "" && !slices.ContainsFunc(v.Roles, func(g grant) bool {
				return g.Name == q.Get("role") && (q.Get("context") == "" || q.Get("context") == g.ContextValue)
			}) {
			continue
		}
		all = append(all, v)
	}
	return c.json(http.StatusOK, all)
}

func serveUserInfo(c *call) error {
	users, err := c.d.core.Users(c.ctx(), c.p)
	if err != nil {
		return err
	}
	i := slices.IndexFunc(users, func(u core.User) bool { return u.Email == c.p.Account.Email })
	if i < 0 {
		return unauthenticated() // the account was closed just now
	}
	return c.json(http.StatusOK, showUser(users[i]))
}
