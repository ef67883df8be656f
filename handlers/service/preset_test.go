package service_test

import (
	"context"
	"encoding/json"
	"maps"
	"slices"
	"testing"

	"github.com/reeve-paas/reeve/agent/agentapi"
	"github.com/reeve-paas/reeve/handlers/service"
)

// shelf is a service with options in memory.
type shelf struct{ options agentapi.Preset }

func (s *shelf) Preset(context.Context) (agentapi.Preset, error) { return s.options, nil }
func (s *shelf) SetPreset(_ context.Context, p agentapi.Preset) error {
	s.options = p
	return nil
}

type manifests struct{ one service.Manifest }

func (m manifests) Manifest(context.Context, string) (service.Manifest, error) {
	return m.one, nil
}

func TestPresets(t *testing.T) {
	all := map[string]agentapi.Text{"mysqld/port": "1", "mysqld/datadir": "/d", "client/port": "2", "plain": "3", "other": "4"}
	filtered := func(include, exclude []string) []string {
		m := service.Manifest{}
		text, _ := json.Marshal(map[string]any{"my.cnf": map[string]any{"include": include, "exclude": exclude}})
		if err := json.Unmarshal(text, &m); err != nil {
			t.Fatal(err)
		}
		of := &shelf{agentapi.Preset{"my.cnf": maps.Clone(all), "unknown.cnf": {"a": "b"}}}
		s := service.New(service.Options{Presets: map[string]service.Presets{"mysql2": of}, Manifests: manifests{m}})
		got, err := s.Methods()["get_preset"].Call(t.Context(), []byte(`{"behavior":"mysql2"}`))
		if err != nil {
			t.Fatal(err)
		}
		preset := got.(agentapi.Preset)
		if _, there := preset["unknown.cnf"]; there {
			t.Error("a file that is in no manifest is told")
		}
		return slices.Sorted(maps.Keys(preset["my.cnf"]))
	}
	for _, test := range []struct{ include, exclude, want []string }{
		{nil, nil, []string{"client/port", "mysqld/datadir", "mysqld/port", "other", "plain"}},
		{[]string{"mysqld/*"}, []string{"mysqld/datadir"}, []string{"mysqld/port"}},
		{[]string{"/*", "client/port"}, []string{"other"}, []string{"client/port", "plain"}},
		{nil, []string{"mysqld/*", "/*"}, []string{"client/port"}},
	} {
		if got := filtered(test.include, test.exclude); !slices.Equal(got, test.want) {
			t.Errorf("include %v, exclude %v: got %v, want %v", test.include, test.exclude, got, test.want)
		}
	}
	of := &shelf{}
	s := service.New(service.Options{Presets: map[string]service.Presets{"mysql2": of, "postgresql": of}})
	t.Run("values may be numbers", func(t *testing.T) {
		if _, err := s.Methods()["set_preset"].Call(t.Context(), []byte(`{"behavior":"mysql2","values":{"my.cnf":{"mysqld/port":3307,"mysqld/x":"*unset*"}}}`)); err != nil {
			t.Fatal(err)
		}
		if of.options["my.cnf"]["mysqld/port"] != "3307" {
			t.Errorf("got %v", of.options)
		}
	})
	t.Run("a behaviour that is not there", func(t *testing.T) {
		_, err := s.Methods()["get_preset"].Call(t.Context(), []byte(`{"behavior":"redis"}`))
		if want := "AssertionError: Behaviour redis is not registred in ServiceAPI (mysql2, postgresql)"; err == nil || err.Error() != want {
			t.Errorf("got %v, want %s", err, want)
		}
	})
}
