package orchestrator

import "strings"

// access says who may call a route.
type access string

const (
	open     access = "open"      // anybody; a token is not looked at
	perCloud access = "per cloud" // anybody on clouds that allow it, else a token (401)
	token    access = "token"     // a token (403, as the original answers)
)

const anyMethod = "*"

// route is one row. [/{cloud}] stands for two paths, with and without the segment. Fixed segments win over variable ones.
// A method that no row of a path names is answered 501; HEAD is GET without the body.
type route struct {
	method  string
	pattern string
	access  access
	serve   func(c *call)
	label   string // method and pattern, for logs and metrics; filled in by compile
}

var routes = []route{
	{"GET", "/api/v1/", open, serveRoot, ""},
	{"POST", "/api/v1/", open, serveRootPost, ""},
	{"GET", "/api/v1/cloud", perCloud, serveClouds, ""},
	{"GET", "/api/v1/tenants[/{cloud}]", perCloud, serveTenants, ""},
	{"GET", "/api/v1/nodes[/{cloud}]", perCloud, serveNodes, ""},
	{"GET", "/api/v1/images[/{cloud}]", perCloud, serveImages, ""},
	{"GET", "/api/v1/sizes[/{cloud}]", perCloud, serveSizes, ""},
	{"GET", "/api/v1/flavors[/{cloud}]", perCloud, serveSizes, ""},
	{"GET", "/api/v1/{action}[/{cloud}]", open, serveUnknownAction, ""},

	{"POST", "/api/v1/vm/start[/{cloud}]", perCloud, serveStart, ""},
	{"PUT", "/api/v1/vm/stop[/{cloud}]", perCloud, serveStop, ""},
	{"GET", "/api/v1/vm/status[/{cloud}]", perCloud, serveStatus, ""},
	{"PUT", "/api/v1/vm/action/assign[/{cloud}]", perCloud, serveAssign, ""}, // open when the body says emulate
	{"PUT", "/api/v1/vm/action/release[/{cloud}]", perCloud, serveRelease, ""},
	{anyMethod, "/api/v1/vm/action/{action}[/{cloud}]", open, serveNotImplemented, ""},
	{anyMethod, "/api/v1/fw/open", open, serveNotImplemented, ""},
	{anyMethod, "/api/v1/fw/close", open, serveNotImplemented, ""},

	{"POST", "/api/v1/auth", open, serveAuth, ""},
	{"PUT", "/api/v1/test/start", token, serveTest, ""},
	{"PUT", "/api/v1/test/{number}/kill", token, serveTest, ""},

	{"GET", "/api/v2/nodes[/{cloud}]", perCloud, serveNodes, ""},
	{"GET", "/api/v2/images[/{cloud}]", perCloud, serveImages, ""},
	{"GET", "/api/v2/sizes[/{cloud}]", perCloud, serveSizes, ""},
	{"GET", "/api/v2/flavors[/{cloud}]", perCloud, serveSizes, ""},
	{"GET", "/api/v2/{action}[/{cloud}]", open, serveUnknownAction, ""},
}

// routeNode is one segment in the tree of all routes.
type routeNode struct {
	fixed    map[string]*routeNode
	variable *routeNode
	name     string  // of the variable this node stands for: cloud, action, number
	rows     []route // what answers a path that ends here
}

func compile(table []route) *routeNode {
	root := &routeNode{}
	for _, row := range table {
		row.label = row.method + " " + row.pattern
		base, optional, ok := strings.Cut(row.pattern, "[")
		root.add(base, row)
		if ok {
			root.add(base+strings.TrimSuffix(optional, "]"), row)
		}
	}
	return root
}

func (n *routeNode) add(pattern string, row route) {
	for segment := range strings.SplitSeq(pattern[1:], "/") {
		n = n.child(segment)
	}
	for _, old := range n.rows {
		if old.method == row.method {
			panic("orchestrator: two routes for " + row.method + " " + pattern)
		}
	}
	n.rows = append(n.rows, row)
}

func (n *routeNode) child(segment string) *routeNode {
	if strings.HasPrefix(segment, "{") {
		if n.variable == nil {
			n.variable = &routeNode{name: strings.Trim(segment, "{}")}
		}
		if n.variable.name != strings.Trim(segment, "{}") {
			panic("orchestrator: two names for the variable segment " + segment)
		}
		return n.variable
	}
	if n.fixed == nil {
		n.fixed = map[string]*routeNode{}
	}
	if n.fixed[segment] == nil {
		n.fixed[segment] = &routeNode{}
	}
	return n.fixed[segment]
}

// find walks the tree along a path such as "/api/v1/nodes/fake_driver" and sets what the variable segments say. It allocates
// nothing. A trailing slash is an empty last segment, which only a fixed segment can match.
func (n *routeNode) find(path string, c *call) *routeNode {
	if path == "" {
		if len(n.rows) == 0 {
			return nil
		}
		return n
	}
	segment, rest := path[1:], ""
	if i := strings.IndexByte(segment, '/'); i >= 0 {
		segment, rest = segment[:i], segment[i:]
	}
	if next := n.fixed[segment]; next != nil {
		if leaf := next.find(rest, c); leaf != nil {
			return leaf
		}
	}
	if n.variable == nil || segment == "" || n.variable.name == "number" && !digits(segment) {
		return nil
	}
	leaf := n.variable.find(rest, c)
	if leaf != nil && n.variable.name == "cloud" {
		c.cloudName = segment
	}
	return leaf
}

func digits(s string) bool {
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return false
		}
	}
	return s != ""
}

func serveRoot(c *call) {
	c.answer(func(e *encoder) { e.ok() })
}

func serveRootPost(c *call) {
	if _, ok := c.readJSON(); ok {
		c.answer(func(e *encoder) { e.ok() })
	}
}

func serveUnknownAction(c *call)  { c.fail(400, msgUnknownAction) }
func serveNotImplemented(c *call) { c.fail(501, msgNotImplemented) }
