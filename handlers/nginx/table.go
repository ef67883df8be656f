package nginx

import (
	"bytes"
	"encoding/json"
	"errors"
	"io/fs"
	"path"
	"slices"
	"strings"

	"github.com/reeve-paas/reeve/agent/agentapi"
	"github.com/reeve-paas/reeve/handlers/web"
)

// backendTable remembers, by the name of an upstream, the destinations its servers came from: which role a server line
// belongs to, and which options the next server of that role gets, stands in no include file (spec agent-web 3.4). The
// include files decide what is served; the table follows them.
type backendTable map[string]*backendEntry

// backendEntry is what the table says of one upstream.
type backendEntry struct {
	Hostname     string         `json:"hostname"` // the proxy's
	Defaults     serverDefaults `json:"defaults"` // the proxy's, for destinations that say nothing themselves
	Destinations []backendGroup `json:"destinations"`
	// Rebuilt says that the entry was read back from the files. Nobody knows then which of several roles a server is of,
	// and a line for 127.0.0.1 may be an older agent's placeholder.
	Rebuilt bool `json:"rebuilt,omitempty"`
}

// backendGroup is one destination as the caller sent it, with the addresses it stands for: without ports and options,
// as server lines have them, and without the placeholder.
type backendGroup struct {
	agentapi.Destination
	Servers []string `json:"servers"`
}

// serverDefaults are a proxy's options for servers that have none of their own.
type serverDefaults struct {
	Port        agentapi.Text `json:"backend_port,omitempty"`
	MaxFails    agentapi.Text `json:"backend_max_fails,omitempty"`
	FailTimeout agentapi.Text `json:"backend_fail_timeout,omitempty"`
	Weight      agentapi.Text `json:"backend_weight,omitempty"`
}

func defaultsOf(p agentapi.ProxyParams) serverDefaults {
	value := func(t *agentapi.Text) agentapi.Text {
		if t == nil {
			return ""
		}
		return *t
	}
	return serverDefaults{Port: value(p.BackendPort), MaxFails: value(p.BackendMaxFails), FailTimeout: value(p.BackendFailTimeout), Weight: value(p.BackendWeight)}
}

// options are those of a destination, its own first.
func (s serverDefaults) options(d agentapi.Destination) serverOptions {
	pick := func(own, def agentapi.Text) agentapi.Text {
		if own == "" {
			return def
		}
		return own
	}
	return serverOptions{
		port: pick(d.Port, s.Port), maxFails: pick(d.MaxFails, s.MaxFails), failTimeout: pick(d.FailTimeout, s.FailTimeout),
		weight: pick(d.Weight, s.Weight), backup: bool(d.Backup), down: bool(d.Down),
	}
}

func (s *Service) tablePath() string { return path.Join(s.privateDir, "nginx-backends.json") }

// loadTable reads the table and makes it fit the include files: what they lost is dropped, and what the table lost is
// read back from the names of upstreams. A table that cannot be read is one that was lost.
func (s *Service) loadTable(st *state) error {
	data, err := s.host.ReadFile(s.tablePath())
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	st.tableText, st.table = string(data), backendTable{}
	if len(data) > 0 {
		if err := json.Unmarshal(data, &st.table); err != nil || st.table == nil {
			s.log.Warn("the table of backends cannot be read and is made anew", "path", s.tablePath(), "err", err)
			st.table = backendTable{}
		}
	}
	st.table.keepOnly(st.upstreams)
	st.table.rebuild(st.upstreams, st.proxies)
	return nil
}

// text is the table as its file; an empty one needs none.
func (t backendTable) text() string {
	if len(t) == 0 {
		return ""
	}
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetIndent("", "  ")
	_ = enc.Encode(t) // plain fields; writing to memory cannot fail
	return b.String()
}

// keepOnly drops what has no upstream any more.
func (t backendTable) keepOnly(upstreams *file) {
	names := upstreamNames(upstreams)
	for name, b := range t {
		if b == nil || !slices.Contains(names, name) {
			delete(t, name)
		}
	}
}

// set enters the upstreams of a proxy.
func (t backendTable) set(p proxy) {
	for _, l := range p.locations {
		t[l.upstream] = &backendEntry{Hostname: p.hostname, Defaults: p.defaults, Destinations: l.groups}
	}
}

// note enters or removes a server that is of no destination the table knows.
func (t backendTable) note(upstream string, server upstreamServer, adds bool) {
	b := t[upstream]
	if b == nil && !adds {
		return
	}
	if b == nil {
		b = &backendEntry{}
		t[upstream] = b
	}
	known := slices.ContainsFunc(b.Destinations, func(d backendGroup) bool { return slices.Contains(d.Servers, server.addr) })
	switch {
	case adds && !known:
		d := destinationLike(server, "")
		d.Host = server.addr
		b.Destinations = append(b.Destinations, backendGroup{Destination: d, Servers: []string{server.addr}})
	case !adds:
		b.Destinations = slices.DeleteFunc(b.Destinations, func(d backendGroup) bool { return d.FarmRoleID == "" && d.Host == server.addr })
		for i := range b.Destinations {
			b.Destinations[i].drop(server.addr)
		}
	}
}

// rebuild enters upstreams that are not in the table and whose names tell their roles, which is all that role calls need.
func (t backendTable) rebuild(upstreams, proxies *file) {
	blocks := map[string]*node{}
	for _, it := range upstreams.items {
		if it.n.name() == "upstream" && t[it.n.arg(1)] == nil {
			blocks[it.n.arg(1)] = it.n
		}
	}
	for _, it := range proxies.items {
		if it.n.name() != "server" || len(blocks) == 0 {
			continue
		}
		for _, hostname := range serverNames(it.n) {
			for _, loc := range it.n.children("location") {
				uri := strings.Join(loc.args[1:], " ")
				for _, name := range passes(loc) {
					u := blocks[name]
					if u == nil {
						continue
					}
					if roles := rolesOfName(name, hostname, uri); len(roles) > 0 {
						t[name] = rebuilt(hostname, uri, roles, servers(u))
						delete(blocks, name)
					}
				}
			}
		}
	}
}

func serverNames(server *node) []string {
	var names []string
	for _, n := range server.children("server_name") {
		names = append(names, n.args[1:]...)
	}
	return names
}

// rolesOfName takes the name of an upstream apart: the reverse of upstreamName.
func rolesOfName(name, hostname, uri string) []string {
	for _, prefix := range []string{hashName(hostname), hostname} {
		for _, part := range []string{uriPart(uri), hashedPart(uri)} {
			ids, ok := strings.CutPrefix(name, prefix+part+"__")
			if !ok || ids == "" {
				continue
			}
			roles := strings.Split(ids, "_")
			if !slices.ContainsFunc(roles, func(id string) bool { return web.CheckRoleID(id) != nil }) {
				return roles
			}
		}
	}
	return nil
}

func rebuilt(hostname, uri string, roles []string, list []upstreamServer) *backendEntry {
	b := &backendEntry{Hostname: hostname, Rebuilt: true}
	d := agentapi.Destination{Location: uri}
	addresses := []string{}
	for i, s := range list {
		if hole := s.addr == placeholderAddr; i == 0 || !hole && len(addresses) == 0 {
			d = destinationLike(s, uri)
			d.Down = d.Down && agentapi.Bool(!hole)
		}
		if s.addr != placeholderAddr && !slices.Contains(addresses, s.addr) {
			addresses = append(addresses, s.addr)
		}
	}
	for _, role := range roles {
		d.FarmRoleID = agentapi.Text(role)
		b.Destinations = append(b.Destinations, backendGroup{Destination: d, Servers: slices.Clone(addresses)})
	}
	return b
}

// destinationLike has the options of a server line.
func destinationLike(s upstreamServer, uri string) agentapi.Destination {
	return agentapi.Destination{
		Location: uri, Port: numeral(s.port), Backup: agentapi.Bool(s.backup), Down: agentapi.Bool(s.down),
		MaxFails: optional(s.maxFails), FailTimeout: optional(s.failTime), Weight: optional(s.weight),
	}
}

// line is a server as a member of a destination: what it does not say itself the destination says, then the proxy.
func (b *backendEntry) line(d *backendGroup, server upstreamServer) (upstreamServer, error) {
	def, err := parseServer(placeholderAddr, b.Defaults.options(d.Destination))
	if err != nil {
		return server, err
	}
	if server.port == 0 {
		server.port = def.port
	}
	server.backup, server.down = server.backup || def.backup, server.down || def.down
	for _, o := range []struct {
		own **int
		def *int
	}{{&server.maxFails, def.maxFails}, {&server.failTime, def.failTime}, {&server.weight, def.weight}} {
		if *o.own == nil {
			*o.own = o.def
		}
	}
	return server, nil
}

// holds says that a destination has a server at the address of a line.
func (b *backendEntry) holds(d *backendGroup, line upstreamServer) bool {
	own, err := b.line(d, upstreamServer{addr: line.addr})
	return err == nil && slices.Contains(d.Servers, line.addr) && own.port == line.port
}

func (d *backendGroup) drop(addr string) {
	d.Servers = slices.DeleteFunc(d.Servers, func(a string) bool { return a == addr })
}
