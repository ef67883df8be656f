package apache

import (
	"context"
	"path"
	"slices"

	"github.com/reeve-paas/reeve/agent/agentapi"
	"github.com/reeve-paas/reeve/agent/operation"
	"github.com/reeve-paas/reeve/handlers/host"
	"github.com/reeve-paas/reeve/handlers/web"
)

// Operations runs long work; *operation.Registry is one.
type Operations interface {
	Start(ctx context.Context, t operation.Task) (any, error)
}

// Sites is the coordinator's list of the virtual hosts of this host.
type Sites interface {
	VHosts(ctx context.Context) ([]agentapi.VHost, error)
}

// Reconfigure makes the set of virtual hosts exactly the given list, or the coordinator's without one, all or nothing: a failed call leaves the old set on
// disk and served, also when the caller asked for no rollback.
//
// Result:  operation id; without Async the paths of the files, in the order of the list
// Errors:  as CreateVHost for each element; AlreadyInProgressError
// Effects: every file of the vhost directory; one test and one reload for all
// Source:  spec agent-web 2.5
func (s *Service) Reconfigure(ctx context.Context, p agentapi.ReconfigureVHostsParams) (any, error) {
	if p.VHosts == nil && s.sites == nil {
		return nil, agentapi.Errorf(agentapi.KindUnsupported, "ValueError", "this agent has nowhere to get a list of virtual hosts from: give vhosts, [] for none")
	}
	async := p.Async.Or(true)
	if s.operations == nil {
		if async {
			return nil, agentapi.Errorf(agentapi.KindUnsupported, "ValueError", "this agent runs nothing in the background: repeat the call with async false")
		}
		return s.reconfigure(ctx, p)
	}
	return s.operations.Start(ctx, operation.Task{
		Name: "api.apache.reconfigure", Exclusive: true, Async: async,
		Run: func(ctx context.Context, _ *operation.Op) (any, error) { return s.reconfigure(ctx, p) },
	})
}

func (s *Service) reconfigure(ctx context.Context, p agentapi.ReconfigureVHostsParams) ([]string, error) {
	if p.VHosts == nil {
		var err error
		if p.VHosts, err = s.sites.VHosts(ctx); err != nil {
			return nil, err
		}
	}
	var names []string
	var templates [][]line
	for i, v := range p.VHosts {
		name, err := newVHostName(v.Hostname, v.Port)
		if err != nil {
			return nil, err
		}
		if slices.Contains(names, name) {
			return nil, web.Invalid("element %d repeats %s:%s", i+1, v.Hostname, v.Port)
		}
		lines, err := parseTemplate(v.Template)
		if err != nil {
			return nil, err
		}
		names, templates = append(names, name), append(templates, lines)
	}
	err := s.change(ctx, p.Reload.Or(true), func(ctx context.Context, l *loaded, c *host.Change) (change, error) {
		old, err := s.vhostFiles()
		if err != nil {
			return change{}, err
		}
		ch := change{del: old}
		for i, v := range p.VHosts {
			text, err := s.prepare(ctx, l, c, templates[i], tls{on: bool(v.SSL), id: textOr(v.SSLCertificateID)})
			if err != nil {
				return change{}, err
			}
			ch.put = append(ch.put, vhostFile{names[i], text})
		}
		return ch, nil
	})
	if err != nil {
		return nil, err
	}
	paths := make([]string, len(names))
	for i, name := range names {
		paths[i] = path.Join(s.vhostDir(), name)
	}
	return paths, nil
}
