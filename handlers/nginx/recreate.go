package nginx

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/reeve-paas/reeve/agent/agentapi"
	"github.com/reeve-paas/reeve/agent/operation"
	"github.com/reeve-paas/reeve/handlers"
	"github.com/reeve-paas/reeve/handlers/host"
	"github.com/reeve-paas/reeve/handlers/web"
)

// Operations runs long work; *operation.Registry is one.
type Operations interface {
	Start(ctx context.Context, t operation.Task) (any, error)
}

// RecreateProxying makes the proxies exactly those of the list, all or nothing; without a list, or with an empty one, none
// is left. Whatever else stood in the two include files goes too.
//
// Result:  null
// Errors:  as MakeProxy for each element, with the proxy's name in the text
// Effects: app-servers.include, proxies.include, the table of backends, certificate files; an older agent's own server in
// nginx.conf goes; one test and, if ReloadService, one reload for all
// Source:  spec agent-web 3.9
func (s *Service) RecreateProxying(ctx context.Context, p agentapi.RecreateProxyingParams) (handlers.Null, error) {
	return handlers.Null{}, s.recreate(ctx, p.ProxyList, p.ReloadService.Or(true))
}

// Reconfigure is RecreateProxying as an operation, which is in the background unless the caller says otherwise.
//
// Result:  operation id; without Async null
// Errors:  as RecreateProxying; AlreadyInProgressError; ValueError (no list: this agent has nowhere to get one from)
// Effects: as RecreateProxying
// Source:  spec agent-web 1.3, 3.9
func (s *Service) Reconfigure(ctx context.Context, p agentapi.ReconfigureProxiesParams) (any, error) {
	if p.Proxies == nil {
		return nil, agentapi.Errorf(agentapi.KindUnsupported, "ValueError", "this agent has nowhere to get a list of proxies from: give proxies, [] for none")
	}
	async := p.Async.Or(true)
	if s.operations == nil {
		if async {
			return nil, agentapi.Errorf(agentapi.KindUnsupported, "ValueError", "this agent runs nothing in the background: repeat the call with async false")
		}
		return nil, s.recreate(ctx, p.Proxies, true)
	}
	return s.operations.Start(ctx, operation.Task{
		Name: "api.nginx.reconfigure", Exclusive: true, Async: async,
		Run: func(ctx context.Context, _ *operation.Op) (any, error) { return nil, s.recreate(ctx, p.Proxies, true) },
	})
}

func (s *Service) recreate(ctx context.Context, elements []json.RawMessage, reload bool) error {
	list := make([]agentapi.ProxyParams, len(elements))
	for i, raw := range elements {
		var err error
		if list[i], err = proxyElement(raw); err != nil {
			return within(err, fmt.Sprintf("element %d", i+1))
		}
	}
	return s.change(ctx, reload, func(ctx context.Context, c *host.Change, st *state) (*file, *file, error) {
		all := proxySet{table: backendTable{}, proxies: &file{}}
		for _, p := range list {
			want, err := s.resolve(ctx, c, p)
			if err == nil {
				err = all.add(want, p.WriteProxies.Or(true))
			}
			if err != nil {
				return nil, nil, within(err, "proxy "+p.Hostname)
			}
		}
		upstreams := &file{items: items(upstreamBlocks(all.locations))}
		st.table = all.table
		return upstreams, all.proxies, st.dropLegacyServer(upstreams)
	})
}

// proxyElement reads one element of a list: the members of make_proxy, with the host name as hostname or name.
func proxyElement(raw json.RawMessage) (agentapi.ProxyParams, error) {
	var members map[string]json.RawMessage
	if json.Unmarshal(raw, &members) == nil && members != nil {
		if _, ok := members["hostname"]; !ok && members["name"] != nil {
			members["hostname"] = members["name"]
		}
		if clean, err := json.Marshal(members); err == nil {
			raw = clean
		}
	}
	return web.Element[agentapi.ProxyParams]("make_proxy", raw)
}

// within says which part of a list an error is about. Its class stays.
func within(err error, what string) error {
	if e, ok := errors.AsType[*agentapi.Error](err); ok {
		named := *e
		named.Text = what + ": " + e.Text
		return &named
	}
	return fmt.Errorf("%s: %w", what, err)
}

// proxySet collects proxies that are written together. Two proxies of one host name share upstreams, which then have the
// servers of both (spec agent-web 3.4).
type proxySet struct {
	table     backendTable
	locations []location
	proxies   *file
}

func (all *proxySet) add(p proxy, withServer bool) error {
	shared := map[string]backendEntry{}
	for _, l := range p.locations {
		at := slices.IndexFunc(all.locations, func(o location) bool { return o.upstream == l.upstream })
		if at < 0 {
			all.locations = append(all.locations, l)
			continue
		}
		present := all.table[l.upstream]
		if present.Hostname != p.hostname {
			return web.Invalid("the upstream %s belongs to the proxy %s", l.upstream, present.Hostname)
		}
		all.locations[at].servers = complete(mergeServers(slices.Concat(all.locations[at].servers, l.servers)))
		shared[l.upstream] = *present
	}
	all.table.set(p)
	for name, earlier := range shared { // the options of the first proxy are the shared ones
		earlier.Destinations = slices.Concat(earlier.Destinations, all.table[name].Destinations)
		all.table[name] = &earlier
	}
	if withServer {
		all.proxies.items = append(all.proxies.items, items(p.serverBlocks())...)
	}
	return nil
}

// legacyUpstream is where the server that an older agent kept in nginx.conf passed to, while it had no proxies.
const legacyUpstream = "backend"

// dropLegacyServer takes that server out of nginx.conf when its upstream goes: nginx would refuse the name.
func (st *state) dropLegacyServer(upstreams *file) error {
	if !slices.Contains(upstreamNames(st.upstreams), legacyUpstream) || slices.Contains(upstreamNames(upstreams), legacyUpstream) {
		return nil
	}
	conf := st.conf
	for _, http := range slices.Backward(st.confNodes) {
		if http.name() != "http" {
			continue
		}
		for _, n := range slices.Backward(http.block) {
			if n.name() == "server" && slices.Contains(passes(n), legacyUpstream) {
				conf = conf[:n.start] + conf[n.end:]
			}
		}
	}
	if conf == st.conf {
		return nil
	}
	st.conf, st.confChanged = conf, true
	var err error
	st.confNodes, err = parse(conf)
	return err
}
