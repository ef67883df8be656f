package mysql

import (
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/reeve-paas/reeve/agent/agentapi"
	"github.com/reeve-paas/reeve/handlers"
	"github.com/reeve-paas/reeve/handlers/host"
	"github.com/reeve-paas/reeve/handlers/host/hosttest"
)

func TestServiceVerbs(t *testing.T) {
	srv := startServer(t)
	layout := host.Debian
	h := hosttest.NewWithLayout(t, &layout)
	s := New(Options{Host: h.Host, StartTimeout: 5 * time.Second})
	s.connector = New(Options{Host: host.New(host.Options{Layout: &host.Layout{MySQLSocket: srv.socket}})}).connector
	do, ctx := mustDo(t), t.Context()
	status := func() int { return must[int](t)(s.ServiceStatus(ctx, handlers.NoParams{})) }

	for _, step := range []struct {
		name   string
		verb   func() (handlers.Null, error)
		calls  []string
		status int
	}{
		{"start", func() (handlers.Null, error) { return s.StartService(ctx, agentapi.ReasonParams{}) }, []string{"start mariadb.service"}, 0},
		{"start again", func() (handlers.Null, error) { return s.StartService(ctx, agentapi.ReasonParams{}) }, []string{"start mariadb.service"}, 0},
		{"reload of a running server", func() (handlers.Null, error) { return s.ReloadService(ctx, agentapi.ReasonParams{}) }, []string{"state mariadb.service"}, 0},
		{"restart", func() (handlers.Null, error) { return s.RestartService(ctx, agentapi.ReasonParams{}) }, []string{"restart mariadb.service"}, 0},
		{"stop", func() (handlers.Null, error) { return s.StopService(ctx, agentapi.ReasonParams{}) }, []string{"stop mariadb.service"}, 3},
		{"stop again", func() (handlers.Null, error) { return s.StopService(ctx, agentapi.ReasonParams{}) }, []string{"stop mariadb.service"}, 3},
		{"reload of a stopped server", func() (handlers.Null, error) { return s.ReloadService(ctx, agentapi.ReasonParams{}) }, []string{"state mariadb.service", "start mariadb.service"}, 0},
	} {
		t.Run(step.name, func(t *testing.T) {
			h.ClearCalls()
			do(step.verb())
			if got := h.Calls(); !slices.Equal(got, step.calls) {
				t.Errorf("got calls %v, want %v", got, step.calls)
			}
			if got := status(); got != step.status {
				t.Errorf("got status %d, want %d", got, step.status)
			}
		})
	}
	t.Run("a unit that does not start is an error", func(t *testing.T) {
		h.FailUnit("start", 1)
		if _, err := s.StartService(ctx, agentapi.ReasonParams{}); !errors.Is(err, hosttest.ErrInjected) {
			t.Errorf("got %v, want the unit's failure", err)
		}
	})
}

func TestStartGivesUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := hosttest.New(t)
		s := New(Options{Host: h.Host})
		begin := time.Now()
		_, err := s.StartService(t.Context(), agentapi.ReasonParams{})
		wantKind(t, err, agentapi.KindUnavailable)
		if got := time.Since(begin); got != time.Minute {
			t.Errorf("got an answer after %s, want it after 1m0s", got)
		}
	})
}

func TestNamespaces(t *testing.T) {
	set, err := handlers.NewSet(New(Options{Host: hosttest.New(t).Host}))
	if err != nil {
		t.Fatal(err)
	}
	for _, ns := range []string{"mysql", "mysql2", "mariadb"} {
		for _, method := range []string{"create_database", "drop_database", "list_databases", "create_user", "drop_user", "list_users",
			"reset_password", "start_service", "stop_service", "restart_service", "reload_service", "get_service_status"} {
			if set[ns][method].Call == nil {
				t.Errorf("%s.%s is missing", ns, method)
			}
		}
	}
}
