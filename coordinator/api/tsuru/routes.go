package tsuru

import (
	"net/url"
	"strings"
)

// access says who may call a route.
type access string

const (
	public   access = "public" // anybody; a token that is not valid is ignored
	user     access = "user"   // a user's token
	anyToken access = "any"    // a user's token, or the token of the app in the path
	admin    access = "admin"  // the token of a member of the administrators' team
)

// lock says whether a route takes the lock of the app in its path.
type lock bool

const (
	locks  lock = true
	shares lock = false
)

// route is one row. Fixed segments win over variable ones. {app} is looked up, and must be one that the caller may use,
// before the handler runs.
type route struct {
	method  string
	pattern string
	access  access
	lock    lock
	serve   func(c *call) error
}

var routes = []route{
	{"GET", "/healthcheck", public, shares, serveHealth},
	{"GET", "/info", public, shares, serveInfo},
	{"GET", "/schema/{name}", user, shares, serveSchema},

	{"GET", "/auth/scheme", public, shares, serveScheme},
	{"GET", "/auth/schemes", public, shares, serveSchemes},
	{"POST", "/auth/login", public, shares, serveLoginBody},
	{"GET", "/users", user, shares, serveUsers},
	{"POST", "/users", public, shares, serveUserCreate},
	{"DELETE", "/users", user, shares, serveUserRemove},
	{"GET", "/users/info", user, shares, serveUserInfo},
	{"PUT", "/users/password", user, shares, servePassword},
	{"POST", "/users/keys", user, shares, serveKeyAdd},
	{"DELETE", "/users/keys", user, shares, serveKeyRemove},
	{"GET", "/users/keys", user, shares, serveKeys}, // from 0.13 on
	{"DELETE", "/users/keys/{key}", user, shares, serveKeyRemove},
	{"DELETE", "/users/tokens", anyToken, shares, serveLogout},
	{"POST", "/users/{email}/tokens", public, shares, serveLogin},
	{"POST", "/users/{email}/password", public, shares, serveReset},
	{"GET", "/users/{email}/keys", user, shares, serveKeys},
	{"GET", "/users/{email}/quota", user, shares, serveUserQuota},
	{"POST", "/users/{email}/quota", admin, shares, serveUserQuotaSet},
	{"PUT", "/users/{email}/quota", admin, shares, serveUserQuotaSet},
	{"GET", "/quota/{email}", user, shares, serveQuota},

	{"POST", "/tokens", admin, shares, serveToken},

	{"GET", "/teams", user, shares, serveTeams},
	{"POST", "/teams", user, shares, serveTeamCreate},
	{"GET", "/teams/{team}", user, shares, serveTeam},
	{"DELETE", "/teams/{team}", user, shares, serveTeamRemove},
	{"PUT", "/teams/{team}/{email}", user, shares, serveMemberAdd},
	{"DELETE", "/teams/{team}/{email}", user, shares, serveMemberRemove},

	{"GET", "/apps", user, shares, serveApps},
	{"POST", "/apps", user, shares, serveAppCreate},
	{"GET", "/apps/{app}", user, shares, serveApp},
	{"PUT", "/apps/{app}", user, locks, serveAppUpdate}, // modern
	{"DELETE", "/apps/{app}", user, locks, serveAppRemove},
	{"PUT", "/swap", user, shares, serveSwap}, // takes both locks itself
	{"POST", "/swap", user, shares, serveSwap},
	{"GET", "/apps/{app}/env", anyToken, shares, serveEnv},
	{"POST", "/apps/{app}/env", user, locks, serveEnvSet},
	{"PUT", "/apps/{app}/env", user, locks, serveEnvSet},
	{"DELETE", "/apps/{app}/env", user, locks, serveEnvUnset},
	{"GET", "/apps/{app}/restart", user, locks, serveRestart},
	{"POST", "/apps/{app}/restart", user, locks, serveRestart},
	{"POST", "/apps/{app}/start", user, locks, serveStart},
	{"POST", "/apps/{app}/stop", user, locks, serveStop},
	{"POST", "/apps/{app}/run", user, shares, serveRun},
	{"PUT", "/apps/{app}/units", user, locks, serveUnitAdd},
	{"DELETE", "/apps/{app}/units", user, locks, serveUnitRemove},
	{"POST", "/apps/{app}/units/register", anyToken, shares, serveUnitRegister},
	{"POST", "/apps/{app}/units/{unit}", anyToken, locks, serveUnitStatus},
	{"POST", "/apps/{app}/customdata", anyToken, shares, serveCustomData},
	{"GET", "/apps/{app}/log", user, shares, serveLog},
	{"POST", "/apps/{app}/log", anyToken, shares, serveLogAdd},
	{"POST", "/apps/{app}/cname", user, locks, serveCNameAdd},
	{"DELETE", "/apps/{app}/cname", user, locks, serveCNameRemove},
	{"PUT", "/apps/{app}/teams/{team}", user, locks, serveAppGrant},
	{"DELETE", "/apps/{app}/teams/{team}", user, locks, serveAppRevoke},
	{"PUT", "/apps/{app}/{team}", user, locks, serveAppGrant},
	{"DELETE", "/apps/{app}/{team}", user, locks, serveAppRevoke},
	{"POST", "/apps/{app}/team-owner", user, locks, serveTeamOwner},
	{"POST", "/apps/{app}/deploy", anyToken, locks, serveDeploy},
	{"POST", "/apps/{app}/repository/clone", anyToken, locks, serveDeploy},
	{"POST", "/apps/{app}/deploy/rollback", user, locks, serveRollback},
	{"GET", "/apps/{app}/available", anyToken, shares, serveAvailable},
	{"GET", "/apps/{app}/routers", user, shares, serveAppRouters}, // modern
	{"GET", "/apps/{app}/quota", user, shares, serveAppQuota},
	{"POST", "/apps/{app}/quota", admin, locks, serveAppQuotaSet},
	{"PUT", "/apps/{app}/quota", admin, locks, serveAppQuotaSet},
	{"DELETE", "/apps/{app}/lock", admin, shares, serveUnlock},
	{"GET", "/docker/node/apps/{app}/containers", admin, shares, serveContainers},

	{"GET", "/services", user, shares, serveServices},
	{"POST", "/services", user, shares, serveServiceCreate},
	{"PUT", "/services", user, shares, serveServiceUpdate},
	{"GET", "/services/instances", user, shares, serveInstances},
	{"POST", "/services/instances", user, shares, serveInstanceCreate},
	{"GET", "/services/instances/{instance}", user, shares, serveInstance},
	{"DELETE", "/services/instances/{instance}", user, shares, serveInstanceRemove},
	{"GET", "/services/instances/{instance}/status", user, shares, serveInstanceStatus},
	{"PUT", "/services/instances/{instance}/{app}", user, locks, serveBind},
	{"DELETE", "/services/instances/{instance}/{app}", user, locks, serveUnbind},
	{"GET", "/services/proxy/{instance}", user, shares, serveProxy},
	{"POST", "/services/proxy/{instance}", user, shares, serveProxy},
	{"PUT", "/services/proxy/{instance}", user, shares, serveProxy},
	{"PATCH", "/services/proxy/{instance}", user, shares, serveProxy},
	{"DELETE", "/services/proxy/{instance}", user, shares, serveProxy},
	{"GET", "/services/{service}", user, shares, serveService},
	{"PUT", "/services/{service}", user, shares, serveServiceUpdate}, // modern
	{"DELETE", "/services/{service}", user, shares, serveServiceRemove},
	{"GET", "/services/{service}/doc", user, shares, serveServiceDoc},
	{"PUT", "/services/{service}/doc", user, shares, serveServiceDocSet},
	{"GET", "/services/{service}/plans", user, shares, serveServicePlans},
	{"PUT", "/services/{service}/{team}", user, shares, serveServiceGrant},
	{"DELETE", "/services/{service}/{team}", user, shares, serveServiceRevoke},
	{"PUT", "/services/{service}/team/{team}", user, shares, serveServiceGrant}, // modern
	{"DELETE", "/services/{service}/team/{team}", user, shares, serveServiceRevoke},
	{"POST", "/services/{service}/instances", user, shares, serveInstanceCreate}, // from here: clients from 0.18 on
	{"GET", "/services/{service}/instances/{instance}", user, shares, serveInstance},
	{"DELETE", "/services/{service}/instances/{instance}", user, shares, serveInstanceRemove},
	{"GET", "/services/{service}/instances/{instance}/status", user, shares, serveInstanceStatus},
	{"PUT", "/services/{service}/instances/{instance}/{app}", user, locks, serveBind},
	{"DELETE", "/services/{service}/instances/{instance}/{app}", user, locks, serveUnbind},
	{"PUT", "/services/{service}/instances/{instance}/apps/{app}", user, locks, serveBind},
	{"DELETE", "/services/{service}/instances/{instance}/apps/{app}", user, locks, serveUnbind},
	{"GET", "/services/{service}/proxy/{instance}", user, shares, serveProxy},
	{"POST", "/services/{service}/proxy/{instance}", user, shares, serveProxy},
	{"PUT", "/services/{service}/proxy/{instance}", user, shares, serveProxy},
	{"PATCH", "/services/{service}/proxy/{instance}", user, shares, serveProxy},
	{"DELETE", "/services/{service}/proxy/{instance}", user, shares, serveProxy},

	{"GET", "/deploys", user, shares, serveDeploys},
	{"GET", "/deploys/{id}", user, shares, serveDeployInfo},
	{"GET", "/platforms", user, shares, servePlatforms},
	{"POST", "/platforms", admin, shares, servePlatformAdd},
	{"PUT", "/platforms/{platform}", admin, shares, servePlatformUpdate},
	{"DELETE", "/platforms/{platform}", admin, shares, servePlatformRemove},
	{"GET", "/plans", user, shares, servePlans}, // from here to roles: modern
	{"GET", "/pools", user, shares, servePools},
	{"GET", "/routers", user, shares, serveRouters},
	{"POST", "/events/{event}/cancel", user, shares, serveEventCancel},
	{"GET", "/permissions", user, shares, servePermissions},
	{"GET", "/roles", user, shares, serveRoles},
	{"GET", "/roles/{role}", user, shares, serveRole},
	{"GET", "/role/default", user, shares, serveRoleDefaults},
	{"GET", "/healers", user, shares, serveHealers},
	{"GET", "/healers/{healer}", user, shares, serveHeal},
	{"DELETE", "/logs", admin, shares, serveLogsRemove},
	{"GET", "/iaas/machines", admin, shares, serveMachines},
	{"DELETE", "/iaas/machines/{machine}", admin, shares, serveMachineRemove},
}

// node is one segment in the tree of all routes.
type node struct {
	fixed    map[string]*node
	variable *node
	name     string // of the variable that this node stands for
	rows     []*route
}

func compile(table []route) *node {
	root := &node{}
	for i := range table {
		row := &table[i]
		n := root
		for segment := range strings.SplitSeq(row.pattern[1:], "/") {
			n = n.child(segment)
		}
		for _, old := range n.rows {
			if old.method == row.method {
				panic("tsuru: two routes for " + row.method + " " + row.pattern)
			}
		}
		n.rows = append(n.rows, row)
	}
	return root
}

func (n *node) child(segment string) *node {
	if name, ok := strings.CutPrefix(segment, "{"); ok {
		name = strings.TrimSuffix(name, "}")
		if n.variable == nil {
			n.variable = &node{name: name}
		}
		if n.variable.name != name {
			panic("tsuru: two names for the variable segment " + segment)
		}
		return n.variable
	}
	if n.fixed == nil {
		n.fixed = map[string]*node{}
	}
	if n.fixed[segment] == nil {
		n.fixed[segment] = &node{}
	}
	return n.fixed[segment]
}

// guarded are the variables that never stand for the name of a fixed segment: DELETE /apps/{app}/log is the wrong method, not
// the end of the access of a team "log".
var guarded = map[string]bool{"team": true, "service": true}

// find walks the tree along an escaped path without a slash at its end. Of two nodes that match, the fixed one is taken if it
// leads to a row of the method, or the variable is guarded.
func (n *node) find(method, path string, vars map[string]string) *route {
	if path == "" {
		for _, row := range n.rows {
			if row.method == method {
				return row
			}
		}
		return nil
	}
	segment, rest := path[1:], ""
	if i := strings.IndexByte(segment, '/'); i >= 0 {
		segment, rest = segment[:i], segment[i:]
	}
	if next := n.fixed[segment]; next != nil {
		if row := next.find(method, rest, vars); row != nil || n.variable != nil && guarded[n.variable.name] {
			return row
		}
	}
	value, err := url.PathUnescape(segment)
	if n.variable == nil || value == "" || err != nil {
		return nil
	}
	row := n.variable.find(method, rest, vars)
	if row != nil {
		vars[n.variable.name] = value
	}
	return row
}

// version takes a leading "/<digits>.<digits>" off a path and says whether there was one.
func version(path string) (rest string, versioned bool) {
	segment, rest, _ := strings.Cut(strings.TrimPrefix(path, "/"), "/")
	major, minor, dot := strings.Cut(segment, ".")
	if !dot || !digits(major) || !digits(minor) {
		return path, false
	}
	return "/" + rest, true
}

func digits(s string) bool {
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return false
		}
	}
	return s != ""
}
