package gandi_test

import (
	"testing"

	"github.com/reeve-paas/reeve/coordinator/core"
)

// TestAnAppThatSharesNodesIsListed makes an app the way another dialect does.
func TestAnAppThatSharesNodesIsListed(t *testing.T) {
	b := newBed(t)
	var p core.Principal
	b.must(b.store.View(t.Context(), func(r core.Reader) (err error) { p.Account, err = r.AccountByEmail("alice@example.test"); return err }))
	_, err := b.core.CreateTeam(t.Context(), p, "red")
	b.must(err)
	app, err := b.core.CreateSharedApp(t.Context(), p, core.SharedAppSpec{Name: "shop", Platform: "python"})
	b.must(err)
	if ids := column(b.call("paas.list"), "id"); len(ids) != 1 || ids[0] != int(app.Num) {
		t.Errorf("got the ids %v, want %d", ids, app.Num)
	}
	info := b.call("paas.info", int(app.Num)).(map[string]any)
	if info["name"] != "shop" || info["state"] != "running" {
		t.Errorf("got %v", info)
	}
	if got := b.call("paas.vhost.list"); len(structs(got)) != 1 {
		t.Errorf("got the vhosts %v", got)
	}
}
