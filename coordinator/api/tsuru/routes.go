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
	{"POST", "/users", public, shares, serveUserCreate},
	{"DELETE", "/users", user, shares, serveUserRemove},
	{"GET", "/users/info", user, shares, serveUserInfo},
	{"PUT", "/users/password", user, shares, servePassword},
	{"POST", "/users/keys", user, shares, serveKeyAdd},
	{"DELETE", "/users/keys", user, shares, serveKeyRemove},
	{"DELETE", "/users/tokens", anyToken, shares, serveLogout},
	{"POST", "/users/{email}/tokens", public, shares, serveLogin},
	{"POST", "/users/{email}/password", public, shares, serveReset},
	{"GET", "/users/{email}/keys", user, shares, serveKeys},
	{"GET", "/users/{email}/quota", user, shares, serveUserQuota},
	{"POST", "/users/{email}/quota", admin, shares, serveUserQuotaSet},
	{"PUT", "/users/{email}/quota", admin, shares, serveUserQuotaSet},
	{"GET", "/quota/{email}", user, shares, serveQuota},

	{"GET", "/teams", user, shares, serveTeams},
	{"POST", "/teams", user, shares, serveTeamCreate},
	{"GET", "/teams/{team}", user, shares, serveTeam},
	{"DELETE", "/teams/{team}", user, shares, serveTeamRemove},
	{"PUT", "/teams/{team}/{email}", user, shares, serveMemberAdd},
	{"DELETE", "/teams/{team}/{email}", user, shares, serveMemberRemove},
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

// find walks the tree along an escaped path without a slash at its end. Of two nodes that match, the fixed one is taken if it
// leads to a row of the method.
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
		if row := next.find(method, rest, vars); row != nil {
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
