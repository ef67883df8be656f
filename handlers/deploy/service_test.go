package deploy

import (
	"errors"
	"strings"
	"testing"

	"github.com/reeve-paas/reeve/agent/agentapi"
	"github.com/reeve-paas/reeve/handlers/host/hosttest"
)

func TestEnableService(t *testing.T) {
	t.Run("a known service starts at every boot", func(t *testing.T) {
		h := hosttest.New(t)
		h.Units.Install(h.Layout().NginxUnit)
		s := New(Options{Host: h.Host})
		if _, err := s.EnableService(t.Context(), agentapi.EnableServiceParams{Service: "nginx"}); err != nil {
			t.Fatal(err)
		}
		if !h.Units.Enabled(h.Layout().NginxUnit) {
			t.Error("the unit is not enabled")
		}
	})
	t.Run("a service that is not installed is told from one that fails", func(t *testing.T) {
		h := hosttest.New(t)
		_, err := New(Options{Host: h.Host}).EnableService(t.Context(), agentapi.EnableServiceParams{Service: "mongodb"})
		if e, ok := errors.AsType[*agentapi.Error](err); !ok || e.Kind != agentapi.KindUnsupported || !strings.Contains(e.Text, "mongodb is not installed") {
			t.Errorf("got %v", err)
		}
		if h.Units.Enabled(h.Layout().MongoDBUnit) {
			t.Error("a unit that is not there is enabled")
		}
	})
	t.Run("a name we do not know is refused and names those we do", func(t *testing.T) {
		h := hosttest.New(t)
		_, err := New(Options{Host: h.Host}).EnableService(t.Context(), agentapi.EnableServiceParams{Service: "../x"})
		if err == nil || !strings.Contains(err.Error(), "apache, nginx, mysql") {
			t.Errorf("got %v, want a ValueError with the names", err)
		}
	})
}

func TestEnablePostgreSQL(t *testing.T) {
	t.Run("the newest cluster of the host is enabled", func(t *testing.T) {
		h := hosttest.New(t)
		for _, version := range []string{"9", "13", "15"} {
			h.WriteText("/etc/postgresql/"+version+"/main/postgresql.conf", "")
		}
		h.Units.Install("postgresql@15-main.service")
		if _, err := New(Options{Host: h.Host}).EnableService(t.Context(), agentapi.EnableServiceParams{Service: "postgresql"}); err != nil {
			t.Fatal(err)
		}
		if !h.Units.Enabled("postgresql@15-main.service") {
			t.Error("the unit is not enabled")
		}
	})
	t.Run("a host without PostgreSQL says so", func(t *testing.T) {
		_, err := New(Options{Host: hosttest.New(t).Host}).EnableService(t.Context(), agentapi.EnableServiceParams{Service: "postgresql"})
		if err == nil || !strings.Contains(err.Error(), "not installed") {
			t.Errorf("got %v", err)
		}
	})
}
