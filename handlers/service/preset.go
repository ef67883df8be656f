package service

import (
	"context"
	"maps"
	"slices"
	"strings"

	"github.com/reeve-paas/reeve/agent/agentapi"
	"github.com/reeve-paas/reeve/handlers"
)

// Presets is a service whose configuration presets change.
type Presets interface {
	Preset(ctx context.Context) (agentapi.Preset, error)
	// SetPreset changes the options named, tests, and restarts; a failure is undone.
	SetPreset(ctx context.Context, p agentapi.Preset) error
}

// Manifests tells which options a preset may hold (spec agent-core 4.5).
type Manifests interface {
	Manifest(ctx context.Context, behavior string) (Manifest, error)
}

// Manifest lists options by configuration file. A mask is an option, "<section>/*", or "/*" for options without a section.
type Manifest map[string]struct {
	Include []string `json:"include"` // empty means all
	Exclude []string `json:"exclude"`
}

// GetPreset answers the service's options.
func (s *Service) GetPreset(ctx context.Context, p agentapi.GetPresetParams) (agentapi.Preset, error) {
	of, err := s.presets(p.Behavior)
	if err != nil {
		return nil, err
	}
	preset, err := of.Preset(ctx)
	if err != nil {
		return nil, err
	}
	return s.filter(ctx, p.Behavior, preset)
}

// SetPreset changes some of the service's options.
func (s *Service) SetPreset(ctx context.Context, p agentapi.SetPresetParams) (handlers.Null, error) {
	of, err := s.presets(p.Behavior)
	if err != nil {
		return handlers.Null{}, err
	}
	wanted, err := s.filter(ctx, p.Behavior, p.Values)
	if err != nil {
		return handlers.Null{}, err
	}
	return handlers.Null{}, of.SetPreset(ctx, wanted)
}

func (s *Service) presets(behavior string) (Presets, error) {
	if of, ok := s.opts.Presets[behavior]; ok {
		return of, nil
	}
	known := strings.Join(slices.Sorted(maps.Keys(s.opts.Presets)), ", ")
	return nil, agentapi.Errorf(agentapi.KindInvalid, "AssertionError", "Behaviour %.40s is not registred in ServiceAPI (%s)", behavior, known)
}

// filter leaves what the manifest allows. Without manifests everything is.
func (s *Service) filter(ctx context.Context, behavior string, preset agentapi.Preset) (agentapi.Preset, error) {
	if s.opts.Manifests == nil {
		return preset, nil
	}
	manifest, err := s.opts.Manifests.Manifest(ctx, behavior)
	if err != nil {
		return nil, err
	}
	out := agentapi.Preset{}
	for file, options := range preset {
		rules, ok := manifest[file]
		if !ok {
			continue
		}
		out[file] = map[string]agentapi.Text{}
		for name, value := range options {
			if (len(rules.Include) == 0 || matches(rules.Include, name)) && !matches(rules.Exclude, name) {
				out[file][name] = value
			}
		}
	}
	return out, nil
}

func matches(masks []string, option string) bool {
	return slices.ContainsFunc(masks, func(mask string) bool {
		section, all := strings.CutSuffix(mask, "*")
		switch {
		case mask == option:
			return true
		case mask == "/*":
			return !strings.Contains(option, "/")
		case all && strings.HasSuffix(section, "/"):
			return strings.HasPrefix(option, section)
		}
		return false
	})
}
