package nginx

import (
	"context"
	"slices"

	"github.com/reeve-paas/reeve/agent/agentapi"
	"github.com/reeve-paas/reeve/handlers"
	"github.com/reeve-paas/reeve/handlers/host"
)

// AddServerToRole puts a server behind every destination of a role, with that destination's port and options where the
// server has none of its own. An unused role, and a server that is there already, change nothing.
//
// Result:  null
// Errors:  ValueError, PopenError, InitdError
// Effects: app-servers.include, the no-app pages of proxies.include, the table of backends; reloads nginx if an include
// file changed and ReloadService
// Source:  spec agent-web 3.8
func (s *Service) AddServerToRole(ctx context.Context, p agentapi.RoleServerParams) (handlers.Null, error) {
	return handlers.Null{}, s.editMembers(ctx, p, func(b *backendEntry, list []upstreamServer, server upstreamServer) ([]upstreamServer, error) {
		return b.join(string(p.RoleID), list, server)
	})
}

// RemoveServerFromRole takes a server from every destination of a role. A line that another destination of the same
// upstream stands for stays. An upstream that loses its last server shows the no-app page.
//
// Result, Errors, Effects: as AddServerToRole
// Source:  spec agent-web 3.8
func (s *Service) RemoveServerFromRole(ctx context.Context, p agentapi.RoleServerParams) (handlers.Null, error) {
	return handlers.Null{}, s.editMembers(ctx, p, func(b *backendEntry, list []upstreamServer, server upstreamServer) ([]upstreamServer, error) {
		return b.leave(string(p.RoleID), list, server), nil
	})
}

func (s *Service) editMembers(ctx context.Context, p agentapi.RoleServerParams, edit func(*backendEntry, []upstreamServer, upstreamServer) ([]upstreamServer, error)) error {
	if p.RoleID == "" {
		return nil
	}
	return s.editAll(ctx, p.Server, p.UpdateConf, p.ReloadService, func(b *backendEntry, list []upstreamServer, server upstreamServer) ([]upstreamServer, error) {
		if b == nil {
			return list, nil
		}
		return edit(b, list, server)
	})
}

// RemoveServerFromAllBackends takes a server, or only its line with the given port, out of every upstream, whoever put it
// there.
//
// Result, Errors, Effects: as AddServerToRole
// Source:  spec agent-web 3.8
func (s *Service) RemoveServerFromAllBackends(ctx context.Context, p agentapi.AllBackendsParams) (handlers.Null, error) {
	return handlers.Null{}, s.editAll(ctx, p.Server, p.UpdateConf, p.ReloadService, func(b *backendEntry, list []upstreamServer, server upstreamServer) ([]upstreamServer, error) {
		list = slices.DeleteFunc(slices.Clone(list), func(o upstreamServer) bool { return server.isAt(o) && !o.isPlaceholder() })
		if b != nil && !hasAddress(list, server.addr) {
			for i := range b.Destinations {
				b.Destinations[i].drop(server.addr)
			}
		}
		return list, nil
	})
}

// editAll changes the servers of every upstream, with its entry of the table if it has one. nginx is left alone when no
// server line changes, even if the table does.
func (s *Service) editAll(ctx context.Context, arg any, update, reload *agentapi.Bool, edit func(*backendEntry, []upstreamServer, upstreamServer) ([]upstreamServer, error)) error {
	server, given, err := serverOf(arg)
	if err != nil || !given {
		return err
	}
	return s.change(ctx, reload.Or(true), func(_ context.Context, _ *host.Change, st *state) (*file, *file, error) {
		if !update.Or(true) {
			return nil, nil, nil
		}
		upstreams := st.upstreams.clone()
		st.quiet = true
		for i, it := range upstreams.items {
			if it.n.name() != "upstream" {
				continue
			}
			old := servers(it.n)
			list, err := edit(st.table[it.n.arg(1)], old, server)
			if err != nil {
				return nil, nil, err
			}
			if sameServers(old, list) { // also what complete would mend: bytes stay
				continue
			}
			if list = complete(list); sameServers(old, list) {
				continue
			}
			upstreams.items[i] = newItem(withServers(it.n, list))
			st.quiet = false
		}
		return upstreams, st.proxies, nil
	})
}

// join adds a server to the destinations of a role.
func (b *backendEntry) join(role string, list []upstreamServer, server upstreamServer) ([]upstreamServer, error) {
	for i := range b.Destinations {
		d := &b.Destinations[i]
		if string(d.FarmRoleID) != role {
			continue
		}
		line, err := b.line(d, server)
		if err != nil {
			return nil, err
		}
		if b.Rebuilt && len(d.Servers) == 0 {
			list = slices.DeleteFunc(slices.Clone(list), func(o upstreamServer) bool { return o.addr == placeholderAddr && o.addr != line.addr })
		}
		if !slices.Contains(d.Servers, line.addr) {
			d.Servers = append(d.Servers, line.addr)
		}
		if !slices.ContainsFunc(list, func(o upstreamServer) bool {
			return o.address() == line.address() && o.isPlaceholder() == line.isPlaceholder()
		}) {
			list = append(slices.Clone(list), line)
		}
	}
	return list, nil
}

// leave takes a server from the destinations of a role.
func (b *backendEntry) leave(role string, list []upstreamServer, server upstreamServer) []upstreamServer {
	var leaving, staying []*backendGroup
	for i := range b.Destinations {
		d := &b.Destinations[i]
		if string(d.FarmRoleID) == role && slices.Contains(d.Servers, server.addr) {
			leaving = append(leaving, d)
		} else if !(b.Rebuilt && d.FarmRoleID != "") { // whose it is was not in the files: the caller knows
			staying = append(staying, d)
		}
	}
	if len(leaving) == 0 {
		return list
	}
	list = slices.DeleteFunc(slices.Clone(list), func(o upstreamServer) bool {
		return server.isAt(o) && !slices.ContainsFunc(staying, func(d *backendGroup) bool { return b.holds(d, o) })
	})
	if server.port == 0 || !hasAddress(list, server.addr) {
		for _, d := range leaving {
			d.drop(server.addr)
		}
		for i := range b.Destinations {
			if d := &b.Destinations[i]; b.Rebuilt && d.FarmRoleID != "" {
				d.drop(server.addr)
			}
		}
	}
	return list
}

// isAt says that a line is meant by a server that was named: at its address and, if it has one, its port.
func (s upstreamServer) isAt(line upstreamServer) bool {
	return line.addr == s.addr && (s.port == 0 || line.port == s.port)
}

func hasAddress(list []upstreamServer, addr string) bool {
	return slices.ContainsFunc(list, func(o upstreamServer) bool { return o.addr == addr && !o.isPlaceholder() })
}
