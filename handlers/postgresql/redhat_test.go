package postgresql

import (
	"testing"

	"github.com/reeve-paas/reeve/agent/agentapi"
)

// TestRedHatsLayout has the configuration among the data, no conf.d, a version that no path tells, and logins by ident.
func TestRedHatsLayout(t *testing.T) {
	b := newRedHatBed(t)
	ctx := t.Context()
	do(t)(b.CreateDatabase(ctx, agentapi.CreateDatabaseParams{Name: "shop"}))
	b.breakEachCall(func() error {
		_, err := b.CreateUser(ctx, agentapi.CreateDatabaseUserParams{Name: "anna", Password: "hunter2", Database: "shop", Remote: true})
		return err
	})
	must2(t)(b.login(elsewhere, "anna", "hunter2", "shop"))
	must2(t)(b.login(here, "anna", "hunter2", "shop"))
	password := must[string](t)(b.ResetPassword(ctx, agentapi.ResetPasswordParams{}))
	must2(t)(b.login(here, "scalr_master", password, "scalr_master"))
	if srv := must[*server](t)(b.server()); srv.Major != major || srv.Unit != "postgresql.service" {
		t.Errorf("got %+v", srv)
	}
	b.must(b.SetPreset(ctx, agentapi.Preset{"postgresql.conf": {"work_mem": "6MB", "max_connections": "31"}}))
	if got := b.admin("postgres", "SHOW work_mem"); got != "6MB" {
		t.Errorf("got %s", got)
	}
}
