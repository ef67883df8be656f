//go:build e2e

package e2e

import (
	"fmt"
	"strings"
	"testing"
)

// TestInstancesOfEveryType lets instances of each platform and database live a short life.
func TestInstancesOfEveryType(t *testing.T) {
	t.Parallel()
	s := newSite(t, 47)
	s.env = []string{fmt.Sprintf("REEVE_LISTEN=:%d", freePort(t))} // nodes fetch releases from there
	s.start(0)
	router := s.nodeWith("router")
	for _, kinds := range [][]string{{"nodejspgsql", "pythonmysql", "rubypgsql"}, {"nodejsmysql", "pythonpgsql", "rubymysql"}} {
		t.Run(strings.Join(kinds, " "), func(t *testing.T) { s.livesOf(t, router, kinds) })
	}
}

func (s *site) livesOf(t *testing.T, router node, kinds []string) {
	s.t = t
	created := map[string][]gandiOperation{}
	for _, kind := range kinds {
		spec := instanceSpec(kind, kind+".test")
		spec["type"] = kind
		var ops []gandiOperation
		s.mustGandi(&ops, "paas.create", spec)
		created[kind] = ops
	}
	for _, kind := range kinds {
		s.done(created[kind]...)
		var info map[string]any
		s.mustGandi(&info, "paas.info", created[kind][0].PaasID)
		if info["type"] != kind || info["state"] != "running" || info["catalog_name"] != kind+"_s" {
			t.Errorf("got %v %v", info["type"], info["state"])
		}
		if code, body := s.fetch(router.Address, kind+".test", "/"); code != 200 || !strings.Contains(body, "Your instance is running.") {
			t.Errorf("%s: got %d %s, want the welcome page", kind, code, body)
		}
	}
	for _, kind := range kinds {
		var op gandiOperation
		s.mustGandi(&op, "paas.delete", created[kind][0].PaasID)
		created[kind] = []gandiOperation{op}
	}
	for _, kind := range kinds {
		s.done(created[kind]...)
	}
	for _, kind := range kinds {
		s.assertDeleted(router.Address, fmt.Sprint(kind, ".test"), created[kind][0].PaasID)
	}
}
