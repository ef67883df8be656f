package nginx

import (
	"context"
	"encoding/json"
	"slices"
	"strings"

	"github.com/reeve-paas/reeve/agent/agentapi"
	"github.com/reeve-paas/reeve/handlers/host"
	"github.com/reeve-paas/reeve/handlers/web"
)

func exception(format string, args ...any) error {
	return agentapi.Errorf(agentapi.KindInvalid, "Exception", format, args...)
}

// resolve checks the parameters of make_proxy, looks up roles and the certificate, and returns what is to be rendered. Of
// the host it changes only certificate files, as part of c.
func (s *Service) resolve(ctx context.Context, c *host.Change, p agentapi.ProxyParams) (proxy, error) {
	out := proxy{hostname: p.Hostname, defaults: defaultsOf(p), errors: s.errorPagesPath()}
	if err := web.CheckHostname(p.Hostname); err != nil {
		return out, err
	}
	if err := out.setPorts(p); err != nil {
		return out, err
	}
	destinations, err := destinations(p)
	if err != nil {
		return out, err
	}
	if out.locations, err = s.locations(ctx, p, destinations); err != nil {
		return out, err
	}
	if err := out.setTemplates(p.Templates); err != nil {
		return out, err
	}
	if out.sslPort == 0 {
		return out, nil
	}
	var files web.CertificateFiles
	if p.SSLCertificate != nil {
		files, err = web.PutCertificate(s.host, c, s.privateDir, certificateID(p.SSLCertificateID), *p.SSLCertificate)
	} else {
		files, err = web.StoreCertificate(ctx, s.host, c, s.certificates, s.privateDir, certificateID(p.SSLCertificateID))
	}
	out.cert, out.key = files.Cert, files.Key
	return out, err
}

// certificateID reads an id; "0" is how old callers say null.
func certificateID(id *agentapi.Text) string {
	if id == nil || *id == "0" {
		return ""
	}
	return string(*id)
}

// setPorts applies the rules of spec agent-web 3.3: http is looked at only with ssl.
func (out *proxy) setPorts(p agentapi.ProxyParams) (err error) {
	port := agentapi.Text("80")
	if p.Port != nil {
		port = *p.Port // "" is null: no plain listener
	}
	if port != "" {
		if out.port, err = port.Port(); err != nil {
			return err
		}
	}
	if !p.SSL.Or(false) {
		if out.port == 0 {
			out.port = 80 // what nginx does with a server that listens nowhere
		}
		return nil
	}
	out.sslPort = 443
	if p.SSLPort != nil && *p.SSLPort != "" {
		if out.sslPort, err = p.SSLPort.Port(); err != nil {
			return err
		}
	}
	if !p.HTTP.Or(true) {
		out.redirect, out.port = out.port, 0
		if out.redirect == 0 {
			out.redirect = 80
		}
	}
	if out.sslPort == out.port || out.sslPort == out.redirect {
		return exception("HTTP and HTTPS ports are equal: %d", out.sslPort)
	}
	return nil
}

// destinations are the caller's, or what callers of older agents said instead.
func destinations(p agentapi.ProxyParams) ([]agentapi.Destination, error) {
	list := slices.Clone(p.Backends)
	if len(list) == 0 {
		for _, role := range p.Roles {
			if m, ok := role.(map[string]any); ok {
				role = m["id"]
			}
			d, err := destinationOf(map[string]any{"farm_role_id": role})
			if err != nil {
				return nil, err
			}
			list = append(list, d)
		}
		for _, server := range p.Servers {
			if text, ok := server.(string); ok {
				addr, port := splitAddress(text)
				m := map[string]any{"host": addr}
				if port != 0 {
					m["port"] = port
				}
				server = m
			}
			d, err := destinationOf(server)
			if err != nil {
				return nil, err
			}
			list = append(list, d)
		}
	}
	if len(list) == 0 {
		return nil, exception("no destinations for the proxy %s: give at least one backend", p.Hostname)
	}
	for i, d := range list {
		if d.Host == "" && d.FarmRoleID == "" {
			return nil, exception("destination %d has neither host nor farm_role_id", i+1)
		}
	}
	return list, nil
}

func destinationOf(v any) (d agentapi.Destination, err error) {
	data, err := json.Marshal(v)
	if err == nil {
		err = json.Unmarshal(data, &d)
	}
	if err != nil {
		return d, web.Invalid("invalid destination: %.80s", data)
	}
	return d, nil
}

// locations groups destinations by URI, longest paths first, and names their upstreams (spec agent-web 3.4).
func (s *Service) locations(ctx context.Context, p agentapi.ProxyParams, list []agentapi.Destination) ([]location, error) {
	groups := map[string][]agentapi.Destination{}
	for _, explicit := range []bool{true, false} { // an explicit "/" goes ahead of a missing one
		for _, d := range list {
			if (d.Location != "") == explicit {
				uri := d.Location
				if uri == "" {
					uri = "/"
				}
				groups[uri] = append(groups[uri], d)
			}
		}
	}
	uris := make([]string, 0, len(groups))
	for uri := range groups {
		uris = append(uris, uri)
	}
	slices.Sort(uris)
	slices.Reverse(uris)
	prefix := p.Hostname
	if p.HashBackendName.Or(true) {
		prefix = hashName(p.Hostname)
	}
	taken := map[string]bool{}
	var out []location
	for _, uri := range uris {
		l := location{ipHash: p.BackendIPHash.Or(false), leastConn: p.BackendLeastConn.Or(false)}
		var err error
		if l.match, err = parseLocation(uri); err != nil {
			return nil, err
		}
		for _, d := range groups[uri] {
			lines, err := s.destinationServers(ctx, p, d)
			if err != nil {
				return nil, err
			}
			l.servers = append(l.servers, lines...)
			l.groups = append(l.groups, groupOf(d, lines))
		}
		l.servers = complete(mergeServers(l.servers))
		l.upstream = upstreamName(prefix, uri, groups[uri], taken)
		out = append(out, l)
	}
	return out, nil
}

// upstreamName is H + P + "__" + R of spec agent-web 3.4. A URI that makes no name, or one that another URI made already,
// is hashed.
func upstreamName(prefix, uri string, group []agentapi.Destination, taken map[string]bool) string {
	var roles []string
	for _, d := range group {
		if d.FarmRoleID != "" && !slices.Contains(roles, string(d.FarmRoleID)) {
			roles = append(roles, string(d.FarmRoleID))
		}
	}
	suffix := strings.TrimRight("__"+strings.Join(roles, "_"), "_")
	part := uriPart(uri)
	name := prefix + part + suffix
	if strings.ContainsFunc(part, func(c rune) bool {
		return !(c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.ContainsRune("._-", c))
	}) || taken[name] {
		name = prefix + hashedPart(uri) + suffix
	}
	taken[name] = true
	return name
}

func uriPart(uri string) string { return strings.TrimRight(strings.ReplaceAll(uri, "/", "_"), "_") }

func hashedPart(uri string) string { return "_" + hashName(uri)[:12] }

// groupOf is what the table keeps of a destination.
func groupOf(d agentapi.Destination, lines []upstreamServer) backendGroup {
	g := backendGroup{Destination: d, Servers: []string{}}
	for _, line := range lines {
		if !line.isPlaceholder() {
			g.Servers = append(g.Servers, line.addr)
		}
	}
	return g
}

// mergeServers drops repeated addresses: nginx would give them twice the requests.
func mergeServers(list []upstreamServer) []upstreamServer {
	var out []upstreamServer
	for _, s := range list {
		if !slices.ContainsFunc(out, func(o upstreamServer) bool { return o.address() == s.address() }) {
			out = append(out, s)
		}
	}
	return out
}

// destinationServers are the server lines of one destination: its role's servers, then its own host.
func (s *Service) destinationServers(ctx context.Context, p agentapi.ProxyParams, d agentapi.Destination) ([]upstreamServer, error) {
	opts := defaultsOf(p).options(d)
	var addresses []string
	if d.FarmRoleID != "" {
		role, err := s.roleAddresses(ctx, string(d.FarmRoleID), d.Network)
		if err != nil {
			return nil, err
		}
		addresses = role
	}
	if d.Host != "" {
		addresses = append(addresses, d.Host)
	}
	var list []upstreamServer
	for _, a := range addresses {
		line, err := parseServer(a, opts)
		if err != nil {
			return nil, err
		}
		list = append(list, line)
	}
	if len(list) == 0 {
		empty, err := parseServer(placeholderAddr, serverOptions{port: opts.port, down: true})
		return []upstreamServer{empty}, err
	}
	return list, nil
}

// roleAddresses finds the servers of a role: by network when the caller says one, else inside the own cloud location
// internally and elsewhere externally.
func (s *Service) roleAddresses(ctx context.Context, id, network string) ([]string, error) {
	if err := web.CheckRoleID(id); err != nil {
		return nil, err
	}
	if s.roles == nil {
		return nil, agentapi.Errorf(agentapi.KindUnsupported, "ValueError",
			"farm_role_id %s cannot be looked up: this agent knows no roles; name the servers by host", id)
	}
	found, err := s.roles.Servers(ctx, id)
	if err != nil {
		return nil, &agentapi.Error{Kind: agentapi.KindUnavailable, Class: "Exception", Text: "look up role " + id + ": " + err.Error(), Err: err}
	}
	var list []string
	for _, server := range found {
		first, second := server.InternalIP, server.ExternalIP
		if network != "" && network != "private" || network == "" && server.CloudLocation != s.cloudLocation {
			first, second = second, first
		}
		if first == "" {
			first = second
		}
		if first != "" {
			list = append(list, first)
		}
	}
	return list, nil
}

// parseLocation checks a location and returns the block's arguments (spec agent-web 6, S6).
func parseLocation(uri string) ([]string, error) {
	bad := web.Invalid("invalid location: %.80q", uri)
	if len(uri) > 1024 || strings.ContainsFunc(uri, func(c rune) bool { return c < ' ' || c == 0x7f }) {
		return nil, bad
	}
	modifier, pattern, found := strings.Cut(uri, " ")
	if !found {
		modifier, pattern = "", uri
	}
	pattern = strings.TrimLeft(pattern, " ")
	regex := modifier == "~" || modifier == "~*"
	switch {
	case modifier != "" && modifier != "=" && modifier != "^~" && !regex,
		!regex && !strings.HasPrefix(pattern, "/"),
		pattern == "":
		return nil, bad
	}
	quoted := regex && len(pattern) > 2 && pattern[0] == '"' && strings.HasSuffix(pattern, `"`) &&
		!strings.ContainsAny(pattern[1:len(pattern)-1], `"`) && !strings.HasSuffix(pattern, `\"`)
	if !quoted && strings.ContainsAny(pattern, " ;{}\"'#") || !regex && strings.ContainsAny(pattern, `\$`) || strings.HasSuffix(pattern, `\`) {
		return nil, bad
	}
	if modifier == "" {
		return []string{pattern}, nil
	}
	return []string{modifier, pattern}, nil
}

// setTemplates puts the caller's templates where they belong; one for a location that the proxy does not have is ignored.
func (out *proxy) setTemplates(list []agentapi.Template) error {
	for _, t := range list {
		nodes, err := parseTemplate(t.Content)
		if err != nil {
			return err
		}
		if len(nodes) == 0 {
			continue
		}
		if bool(t.Server) || t.Location == "" {
			out.template = nodes
			continue
		}
		for i, l := range out.locations {
			if strings.Join(l.match, " ") == t.Location {
				out.locations[i].template = nodes
			}
		}
	}
	return nil
}

// maxTemplate is the size limit of a template in bytes.
const maxTemplate = 256 << 10

// parseTemplate reads a template: complete directives, so nothing in it can close a block it did not open (S8).
func parseTemplate(text string) ([]*node, error) {
	if len(text) > maxTemplate || strings.ContainsRune(text, 0) {
		return nil, agentapi.Errorf(agentapi.KindInvalid, "ParseError", "the template is longer than %d KiB or holds a NUL byte", maxTemplate>>10)
	}
	nodes, err := parse(text)
	if err != nil {
		return nil, err
	}
	if directives := slices.DeleteFunc(slices.Clone(nodes), func(n *node) bool { return n.comment }); len(directives) == 1 &&
		directives[0].isBlock && directives[0].name() == "server" {
		nodes = directives[0].block
	}
	for _, n := range nodes {
		n.walk(func(n *node) {
			name := n.name()
			if name == "load_module" || strings.Contains(name, "_by_lua") {
				err = agentapi.Errorf(agentapi.KindInvalid, "ParseError", "%s is not allowed in a template", name)
			}
		})
	}
	return nodes, err
}
