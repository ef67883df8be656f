package service

import (
	"bytes"
	"context"
	"encoding/json"
	"maps"
	"slices"

	"github.com/reeve-paas/reeve/agent/agentapi"
	"github.com/reeve-paas/reeve/agent/operation"
	"github.com/reeve-paas/reeve/handlers"
)

// RoleParams tells what the coordinator keeps for this host's role, by behaviour.
type RoleParams interface {
	FarmRoleParams(ctx context.Context) (map[string]json.RawMessage, error)
}

// Options configure a Service.
type Options struct {
	Operations *operation.Registry // required
	// Reconfigure is the method that reconfigures a behaviour: nginx's for "www", apache's for "app". Both must take a
	// member "async". One that is missing is not installed on this host.
	Reconfigure map[string]handlers.Method
	RoleParams  RoleParams // nil: parameters must be sent
	// Presets are the services whose configuration presets change, by behaviour; Manifests limits the options, nil not at all.
	Presets   map[string]Presets
	Manifests Manifests
}

// Service is the namespace.
type Service struct{ opts Options }

var _ handlers.Handler = (*Service)(nil)

// New builds the service.
func New(o Options) *Service { return &Service{o} }

// Namespaces implements handlers.Handler.
func (s *Service) Namespaces() []string { return []string{"service"} }

// Methods implements handlers.Handler.
func (s *Service) Methods() map[string]handlers.Method {
	return map[string]handlers.Method{
		"reconfigure": handlers.Func("reconfigure", s.Reconfigure),
		"get_preset":  handlers.Reader("get_preset", s.GetPreset),
		"set_preset":  handlers.Func("set_preset", s.SetPreset),
	}
}

// behaviours are those that act, in the order in which they do: the site behind a proxy before the proxy.
var behaviours = []string{"app", "www"}

// Reconfigure brings the behaviours to the given parameters, one after the other in one exclusive operation
// api.service.reconfigure. The first that fails ends it; each is all or nothing by itself.
//
// Params, Result, Errors: agentapi.ServiceReconfigureParams
// Effects: those of nginx.reconfigure and apache.reconfigure
// Source:  spec agent-core 4.5, D18
func (s *Service) Reconfigure(ctx context.Context, p agentapi.ServiceReconfigureParams) (any, error) {
	for _, b := range slices.Sorted(maps.Keys(p.BehaviorParams)) {
		raw := p.BehaviorParams[b]
		if slices.Contains(behaviours, b) && !isNull(raw) && !isObject(raw) {
			return nil, agentapi.Errorf(agentapi.KindInvalid, "TypeError", "'behavior_params.%s' is invalid, a mapping is expected", b)
		}
	}
	return s.opts.Operations.Start(ctx, operation.Task{
		Name: "api.service.reconfigure", Exclusive: true, Async: bool(p.Async.Or(true)),
		Run: func(ctx context.Context, op *operation.Op) (any, error) {
			wanted, err := s.complete(ctx, p.BehaviorParams)
			if err != nil {
				return nil, err
			}
			for _, b := range behaviours {
				if raw, ok := wanted[b]; ok {
					op.Log().Info("reconfiguring", "behavior", b)
					if err := s.apply(ctx, b, raw); err != nil {
						return nil, err
					}
				}
			}
			return nil, nil
		},
	})
}

// complete fills in what the caller left to the coordinator.
func (s *Service) complete(ctx context.Context, sent map[string]json.RawMessage) (map[string]json.RawMessage, error) {
	wanted := map[string]json.RawMessage{}
	ask := sent == nil
	for _, b := range behaviours {
		if raw, ok := sent[b]; ok {
			wanted[b] = raw
			ask = ask || isNull(raw)
		}
	}
	if !ask {
		return wanted, nil
	}
	if s.opts.RoleParams == nil {
		return nil, agentapi.Errorf(agentapi.KindUnsupported, "QueryEnvError", "no coordinator is configured that keeps parameters for this host; send behavior_params")
	}
	kept, err := s.opts.RoleParams.FarmRoleParams(ctx)
	if err != nil {
		return nil, err
	}
	for _, b := range behaviours {
		raw, known := kept[b]
		asked, named := wanted[b]
		switch {
		case sent == nil && known, named && isNull(asked) && known:
			wanted[b] = raw
		case named && isNull(asked):
			return nil, agentapi.Errorf(agentapi.KindNotFound, "QueryEnvError", "the coordinator keeps no parameters for behaviour %s of this host", b)
		}
	}
	return wanted, nil
}

// apply runs one service's own reconfigure to its end.
func (s *Service) apply(ctx context.Context, behaviour string, raw json.RawMessage) error {
	method, ok := s.opts.Reconfigure[behaviour]
	if !ok {
		return agentapi.Errorf(agentapi.KindUnsupported, "AssertionError", "behaviour %s is not installed on this host", behaviour)
	}
	params := map[string]json.RawMessage{}
	if err := json.Unmarshal(raw, &params); err != nil {
		return agentapi.Errorf(agentapi.KindInvalid, "TypeError", "'behavior_params.%s' is invalid, a mapping is expected", behaviour)
	}
	if params == nil { // null: everything is the method's default
		params = map[string]json.RawMessage{}
	}
	params["async"] = json.RawMessage("false")
	body, err := json.Marshal(params)
	if err != nil {
		return err
	}
	_, err = method.Call(ctx, body)
	return err
}

func isNull(raw json.RawMessage) bool { return len(raw) == 0 || string(bytes.TrimSpace(raw)) == "null" }

func isObject(raw json.RawMessage) bool {
	raw = bytes.TrimSpace(raw)
	return len(raw) > 0 && raw[0] == '{'
}
