package nginx

import (
	"strconv"
	"strings"
)

// proxy is what make_proxy asks for, checked and resolved: render makes both kinds of blocks of it without looking at
// anything else.
type proxy struct {
	hostname  string
	port      int // plain listener; 0 is none
	sslPort   int // TLS listener; 0 is none
	redirect  int // port that only redirects to sslPort; 0 is none
	cert, key string
	template  []*node // server-wide settings; nil means the default ones
	locations []location
	defaults  serverDefaults // for servers that come later
	errors    string         // path of error-pages.include
}

// location is one URI of a proxy with the upstream behind it.
type location struct {
	match     []string // arguments of the location block
	upstream  string
	servers   []upstreamServer
	groups    []backendGroup // where the servers come from
	ipHash    bool
	leastConn bool
	template  []*node
}

// upstreamBlocks renders the upstreams, in the order of the locations.
func upstreamBlocks(locations []location) []*node {
	var list []*node
	for _, l := range locations {
		u := block([]string{"upstream", l.upstream})
		if l.ipHash {
			u.block = append(u.block, dir("ip_hash"))
		}
		if l.leastConn {
			u.block = append(u.block, dir("least_conn"))
		}
		for _, s := range l.servers {
			u.block = append(u.block, s.node())
		}
		list = append(list, u)
	}
	return list
}

// defaults are the settings of a server without a server-wide template (spec agent-web 3.5, column Debian 12).
var defaults = []*node{
	dir("proxy_set_header", "Host", "$host"),
	dir("proxy_set_header", "X-Real-IP", "$remote_addr"),
	dir("proxy_set_header", "X-Forwarded-For", "$proxy_add_x_forwarded_for"),
	dir("proxy_set_header", "X-Forwarded-Proto", "$scheme"),
	dir("client_max_body_size", "10m"),
	dir("client_body_buffer_size", "128k"),
	dir("proxy_buffering", "on"),
	dir("proxy_connect_timeout", "15"),
	dir("proxy_intercept_errors", "on"),
	dir("ssl_session_timeout", "10m"),
	dir("ssl_session_cache", "shared:SSL:10m"),
	dir("ssl_protocols", "TLSv1.2", "TLSv1.3"),
	dir("ssl_prefer_server_ciphers", "on"),
}

// serverBlocks renders the redirector, if any, and the server (spec agent-web 3.5).
func (p proxy) serverBlocks() []*node {
	var list []*node
	if p.redirect != 0 {
		list = append(list, redirector(p.hostname, p.redirect, p.sslPort))
	}
	s := block([]string{"server"}, p.settings()...)
	if p.port != 0 {
		s.block = append(s.block, dir("listen", strconv.Itoa(p.port)))
	}
	s.block = append(s.block, dir("server_name", p.hostname))
	if p.sslPort != 0 {
		s.block = append(s.block, tlsNodes(p.sslPort, p.cert, p.key)...)
	}
	s.block = append(s.block, dir("include", word(p.errors)))
	for _, l := range p.locations {
		s.block = append(s.block, l.node())
	}
	return append(list, s)
}

// settings are the template's directives without what the agent says itself, or the defaults.
func (p proxy) settings() []*node {
	if p.template == nil {
		return append([]*node(nil), defaults...)
	}
	var list []*node
	for _, n := range p.template {
		if n.name() == "server_name" || n.name() == "location" && p.generates(n.args[1:]) {
			continue
		}
		list = append(list, n)
	}
	return list
}

func (p proxy) generates(match []string) bool {
	for _, l := range p.locations {
		if strings.Join(l.match, " ") == strings.Join(match, " ") {
			return true
		}
	}
	return false
}

func tlsNodes(port int, cert, key string) []*node {
	return []*node{
		dir("listen", strconv.Itoa(port), "ssl"),
		dir("ssl_certificate", word(cert)),
		dir("ssl_certificate_key", word(key)),
	}
}

// redirector sends plain requests to TLS. $request_uri is what the client sent, so nothing that was decoded gets into the
// answer; the question mark keeps nginx from adding the query a second time.
func redirector(hostname string, port, sslPort int) *node {
	return block([]string{"server"},
		dir("listen", strconv.Itoa(port)),
		dir("server_name", hostname),
		dir("rewrite", "^(.*)$", "https://$host:"+strconv.Itoa(sslPort)+"$request_uri?", "permanent"),
	)
}

// isRedirector says that a server only redirects. A server-wide template may hold a rewrite of its own, beside locations.
func isRedirector(server *node) bool {
	return len(server.children("rewrite")) > 0 && len(server.children("location")) == 0
}

func (l location) node() *node {
	n := block(append([]string{"location"}, l.match...), l.template...)
	n.block = append(n.block, dir("proxy_pass", "http://"+l.upstream))
	if len(l.match) == 1 && l.match[0] == "/" {
		n.block = append(n.block, dir("error_page", "500", "501", "/500.html"), dir("error_page", "502", "503", "504", "/502.html"))
	}
	return n
}

var noApp = []string{"rewrite", "^", "/noapp.html", "last"}

func isNoApp(n *node) bool {
	return !n.comment && strings.Join(n.args, " ") == strings.Join(noApp, " ")
}

// markNoApp makes every location show the no-app page exactly when its upstream has no server. It returns the server it was
// given when nothing is to change, otherwise a changed copy. has says of an upstream's name whether it has a server, and
// whether it is known.
func markNoApp(server *node, has func(upstream string) (answers, known bool)) *node {
	out := &node{args: server.args, isBlock: true}
	changed := false
	for _, c := range server.block {
		if c.name() == "location" {
			marked := markLocation(c, has)
			changed = changed || marked != c
			c = marked
		}
		out.block = append(out.block, c)
	}
	if !changed {
		return server
	}
	return out
}

func markLocation(loc *node, has func(string) (bool, bool)) *node {
	passes := loc.children("proxy_pass")
	if len(passes) == 0 {
		return loc
	}
	answers, known := has(passedUpstream(passes[0]))
	if !known {
		return loc
	}
	marked := false
	for _, c := range loc.block {
		marked = marked || isNoApp(c)
	}
	if marked == !answers {
		return loc
	}
	out := &node{args: loc.args, isBlock: true}
	for _, c := range loc.block {
		if isNoApp(c) {
			continue
		}
		if c == passes[0] && !answers {
			out.block = append(out.block, dir(noApp...))
		}
		out.block = append(out.block, c)
	}
	return out
}

// passedUpstream is the host part of a proxy_pass, where the name of an upstream stands.
func passedUpstream(pass *node) string {
	_, rest, _ := strings.Cut(pass.arg(1), "://")
	if i := strings.IndexAny(rest, "/$?"); i >= 0 {
		rest = rest[:i]
	}
	return rest
}

// word quotes an argument that needs it.
func word(s string) string {
	if s != "" && !strings.ContainsAny(s, " \t\r\n;{}\"'\\#$") {
		return s
	}
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(s) + `"`
}

// errorPages is error-pages.include as it is created: the operator may change it.
func errorPages(dir string) string {
	var b strings.Builder
	for _, page := range []string{"/500.html", "/502.html", "/noapp.html"} {
		b.WriteString("location = " + page + " {\n")
		if page != "/noapp.html" {
			b.WriteString("   expires   0;\n")
		}
		b.WriteString("   root   " + word(dir) + ";\n}\n")
	}
	return b.String()
}

// pages are the error pages, written where they are absent.
var pages = map[string]string{
	"500.html":   page("500", "Something went wrong", "The application could not answer this request."),
	"502.html":   page("502", "Not available", "The application does not answer. Please try again in a moment."),
	"noapp.html": page("", "No application here yet", "This address is set up, and waits for its first application server."),
}

func page(code, title, text string) string {
	if code != "" {
		code += " "
	}
	return "<!DOCTYPE html>\n<html lang=\"en\">\n<head><meta charset=\"utf-8\"><title>" + code + title + "</title></head>\n" +
		"<body><h1>" + title + "</h1><p>" + text + "</p></body>\n</html>\n"
}
