package nginx

import (
	"context"
	"encoding/json"
	"slices"
	"strings"

	"github.com/reeve-paas/reeve/agent/agentapi"
	"github.com/reeve-paas/reeve/handlers"
	"github.com/reeve-paas/reeve/handlers/host"
	"github.com/reeve-paas/reeve/handlers/web"
)

// MakeProxy creates or replaces the proxy of one host name. Other proxies' bytes stay.
//
// Result:  null
// Errors:  Exception (no destinations, equal ports), ValueError, ParseError (template), PopenError (config test), InitdError (reload)
// Effects: app-servers.include, proxies.include, certificate files; reloads nginx if ReloadService
// Source:  spec agent-web 3.3, 3.9
func (s *Service) MakeProxy(ctx context.Context, p agentapi.ProxyParams) (handlers.Null, error) {
	reload := p.ReloadService
	if reload == nil {
		reload = p.RestartService
	}
	return handlers.Null{}, s.change(ctx, reload.Or(true), func(ctx context.Context, c *host.Change, st *state) (*file, *file, error) {
		want, err := s.resolve(ctx, c, p)
		if err != nil {
			return nil, nil, err
		}
		upstreams, proxies := st.upstreams.clone(), st.proxies.clone()
		mine := serversOf(proxies, p.Hostname)
		if p.WriteProxies.Or(true) {
			proxies.replace(func(it *item) bool { return slices.Contains(mine, it) }, items(want.serverBlocks()))
		}
		dropped := unused(upstreams, proxies, mine)
		for _, l := range want.locations {
			if used := usedBy(proxies, l.upstream, p.Hostname); used != "" {
				return nil, nil, web.Invalid("the upstream %s belongs to the proxy %s", l.upstream, used)
			}
			dropped[l.upstream] = true
		}
		upstreams.replace(func(it *item) bool { return it.n.name() == "upstream" && dropped[it.n.arg(1)] }, items(upstreamBlocks(want.locations)))
		st.table.set(want)
		return upstreams, proxies, nil
	})
}

// RemoveProxy removes the servers of one host name and the upstreams only they used. An unknown name is no error.
//
// Result:  null
// Errors:  ValueError, PopenError, InitdError
// Effects: app-servers.include, proxies.include; reloads nginx if ReloadService
// Source:  spec agent-web 3.9
func (s *Service) RemoveProxy(ctx context.Context, p agentapi.RemoveProxyParams) (handlers.Null, error) {
	if err := web.CheckHostname(p.Hostname); err != nil {
		return handlers.Null{}, err
	}
	return handlers.Null{}, s.change(ctx, p.ReloadService.Or(true), func(_ context.Context, _ *host.Change, st *state) (*file, *file, error) {
		upstreams, proxies := st.upstreams.clone(), st.proxies.clone()
		mine := serversOf(proxies, p.Hostname)
		proxies.replace(func(it *item) bool { return slices.Contains(mine, it) }, nil)
		dropped := unused(upstreams, proxies, mine)
		upstreams.replace(func(it *item) bool { return it.n.name() == "upstream" && dropped[it.n.arg(1)] }, nil)
		return upstreams, proxies, nil
	})
}

func items(nodes []*node) []*item {
	list := make([]*item, len(nodes))
	for i, n := range nodes {
		list[i] = newItem(n)
	}
	return list
}

// serversOf are the server blocks that have a host name, redirectors included.
func serversOf(proxies *file, hostname string) []*item {
	var list []*item
	for _, it := range proxies.items {
		if it.n.name() == "server" && hasName(it.n, hostname) {
			list = append(list, it)
		}
	}
	return list
}

func hasName(server *node, hostname string) bool {
	for _, n := range server.children("server_name") {
		for i := range n.args[1:] {
			if strings.EqualFold(n.arg(i+1), hostname) {
				return true
			}
		}
	}
	return false
}

// unused are the upstreams that the given servers pass to and nobody in proxies does.
func unused(upstreams, proxies *file, servers []*item) map[string]bool {
	names := map[string]bool{}
	for _, it := range servers {
		for _, name := range passes(it.n) {
			names[name] = slices.Contains(upstreamNames(upstreams), name)
		}
	}
	for _, it := range proxies.items {
		for _, name := range passes(it.n) {
			delete(names, name)
		}
	}
	return names
}

// usedBy is the name of a server other than hostname's that passes to an upstream, "" when there is none.
func usedBy(proxies *file, upstream, hostname string) string {
	for _, it := range proxies.items {
		if it.n.name() != "server" || hasName(it.n, hostname) || !slices.Contains(passes(it.n), upstream) {
			continue
		}
		for _, n := range it.n.children("server_name") {
			return n.arg(1)
		}
		return "_"
	}
	return ""
}

// AddServer puts a server into an upstream. One that is there gets the new options; repeating a call changes nothing. An
// empty server is no error, an unknown backend is.
//
// Result:  null
// Errors:  NoPathError (no such backend), ValueError, PopenError, InitdError
// Effects: app-servers.include, and proxies.include when the upstream had no server; reloads nginx if ReloadService
// Source:  spec agent-web 3.8
func (s *Service) AddServer(ctx context.Context, p agentapi.UpstreamServerParams) (handlers.Null, error) {
	return handlers.Null{}, s.editUpstream(ctx, p, func(list []upstreamServer, server upstreamServer) []upstreamServer {
		at := slices.IndexFunc(list, func(o upstreamServer) bool { return o.address() == server.address() })
		if at < 0 {
			return append(list, server)
		}
		out := slices.Clone(list)
		out[at] = server
		return out
	}, true)
}

// RemoveServer takes every line of a server out of an upstream, or only the one with the given port. A server that is not
// there is no error. An upstream that loses its last server shows the no-app page.
//
// Result:  null
// Errors:  NoPathError (no such backend), ValueError, PopenError, InitdError
// Effects: as AddServer
// Source:  spec agent-web 3.8
func (s *Service) RemoveServer(ctx context.Context, p agentapi.UpstreamServerParams) (handlers.Null, error) {
	return handlers.Null{}, s.editUpstream(ctx, p, func(list []upstreamServer, server upstreamServer) []upstreamServer {
		return slices.DeleteFunc(slices.Clone(list), func(o upstreamServer) bool {
			return o.addr == server.addr && (server.port == 0 || o.port == server.port)
		})
	}, false)
}

func (s *Service) editUpstream(ctx context.Context, p agentapi.UpstreamServerParams, edit func([]upstreamServer, upstreamServer) []upstreamServer, adds bool) error {
	server, given, err := serverOf(p.Server)
	if err != nil || !given {
		return err
	}
	if err := checkBackend(p.Backend); err != nil {
		return err
	}
	return s.change(ctx, p.ReloadService.Or(true), func(_ context.Context, _ *host.Change, st *state) (*file, *file, error) {
		it := findUpstream(st.upstreams, p.Backend)
		if it == nil {
			return nil, nil, agentapi.Errorf(agentapi.KindNotFound, "NoPathError", "no backend matches %s", p.Backend)
		}
		if !p.UpdateConf.Or(true) {
			return nil, nil, nil
		}
		old := servers(it.n)
		list := complete(edit(old, server))
		if p.UpdateBackendTable.Or(false) {
			st.table.note(it.n.arg(1), server, adds)
		}
		if !adds && len(old) == len(edit(old, server)) {
			return st.upstreams, st.proxies, nil // nothing matched: bytes stay
		}
		upstreams := st.upstreams.clone()
		if changed := newItem(withServers(it.n, list)); !sameServers(old, list) {
			upstreams.items[slices.Index(upstreams.items, it)] = changed
		}
		return upstreams, st.proxies, nil
	})
}

func sameServers(a, b []upstreamServer) bool {
	text := func(s upstreamServer) string { return strings.Join(s.node().args, " ") }
	return slices.EqualFunc(a, b, func(x, y upstreamServer) bool { return text(x) == text(y) })
}

// serverOf reads the server argument: "addr", "addr:port options…", or an object. given is false for an empty one.
func serverOf(v any) (server upstreamServer, given bool, err error) {
	switch v := v.(type) {
	case nil:
		return server, false, nil
	case string:
		words := strings.Fields(v)
		if len(words) == 0 {
			return server, false, nil
		}
		return serverOfWords(words)
	case map[string]any:
		d, err := destinationOf(v)
		if err != nil || d.Host == "" {
			return server, false, err
		}
		opts := serverOptions{port: d.Port, maxFails: d.MaxFails, failTimeout: d.FailTimeout, weight: d.Weight, backup: bool(d.Backup), down: bool(d.Down)}
		server, err = parseServer(d.Host, opts)
		return server, true, err
	}
	text, _ := json.Marshal(v)
	return server, false, web.Invalid("invalid server: %.80s", text)
}

func serverOfWords(words []string) (upstreamServer, bool, error) {
	addr, port := splitAddress(words[0])
	opts := serverOptions{}
	if words[0] != addr {
		opts.port = agentapi.Text(strings.TrimPrefix(words[0], addr+":"))
	}
	server, err := parseServer(addr, opts)
	if err == nil && port != 0 {
		server.port = port
	}
	for _, w := range words[1:] {
		if err == nil {
			err = server.option(w)
		}
	}
	return server, true, err
}
