package core_test

import (
	"fmt"
	"testing"

	"github.com/reeve-paas/reeve/coordinator/core"
)

func TestAnAgentSeesItsOwnAppOnly(t *testing.T) {
	b := newBed(t)
	app, other := core.App{ID: "app-1", Name: "shop", AccountID: b.alice.Account.ID, Platform: "php"}, core.App{ID: "app-2", Name: "blog", AccountID: b.bob.Account.ID, Platform: "php"}
	node := core.Node{ID: "n-1", Key: "1", AppID: app.ID, AccountID: app.AccountID, Cloud: "default", Address: "10.0.0.1", State: core.NodeRunning, Roles: []core.Role{core.RoleApp, core.RoleDB}, AgentKey: make([]byte, 40)}
	starting := core.Node{ID: "n-2", Key: "2", AppID: app.ID, AccountID: app.AccountID, Cloud: "default", Address: "10.0.0.2", State: core.NodeBooting, Roles: []core.Role{core.RoleApp}, AgentKey: make([]byte, 40)}
	foreign := core.Node{ID: "n-3", Key: "3", AppID: other.ID, AccountID: other.AccountID, Cloud: "default", Address: "10.0.0.3", State: core.NodeRunning, Roles: []core.Role{core.RoleApp}, AgentKey: make([]byte, 40)}
	going := core.Node{ID: "n-4", Key: "4", Cloud: "default", State: core.NodeStopping, AgentKey: make([]byte, 40)}
	b.must(b.store.Update(b.Context(), func(tx core.Tx) error {
		for _, a := range []*core.App{&app, &other} {
			if err := tx.PutApp(a); err != nil {
				return err
			}
		}
		for _, n := range []*core.Node{&node, &starting, &foreign, &going} {
			if err := tx.PutNode(n); err != nil {
				return err
			}
		}
		return nil
	}))
	roles := func(f core.NodeRoleFilter) (got string) {
		t.Helper()
		list, err := b.NodeRoles(b.Context(), node, f)
		b.must(err)
		for _, r := range list {
			got += fmt.Sprintf("%s %s:", r.Name, r.Behaviour)
			for _, n := range r.Hosts {
				got += " " + n.Address
			}
			got += "; "
		}
		return got
	}
	for _, test := range []struct {
		filter core.NodeRoleFilter
		want   string
	}{
		{core.NodeRoleFilter{}, "shop-app app: 10.0.0.1; shop-db mysql2: 10.0.0.1; "},
		{core.NodeRoleFilter{Behaviour: "app", Starting: true}, "shop-app app: 10.0.0.1 10.0.0.2; "},
		{core.NodeRoleFilter{ID: fmt.Sprint(app.Num*10 + 3)}, "shop-db mysql2: 10.0.0.1; "},
		{core.NodeRoleFilter{ID: fmt.Sprint(other.Num*10 + 2)}, ""},
		{core.NodeRoleFilter{Name: "blog-app"}, ""},
	} {
		if got := roles(test.filter); got != test.want {
			t.Errorf("%+v: got %q, want %q", test.filter, got, test.want)
		}
	}
	if n, err := b.AgentNode(b.Context(), "n-1"); err != nil || n.Num != node.Num {
		t.Errorf("got %+v, %v", n, err)
	}
	for _, id := range []string{"n-4", "n-9", ""} {
		if _, err := b.AgentNode(b.Context(), id); core.KindOf(err) != core.NotFound {
			t.Errorf("node %q: got %v, want not found", id, err)
		}
	}
}

func TestAnAgentsMessageIsNotedOnce(t *testing.T) {
	b := newBed(t)
	n := core.Node{ID: "n-1", Key: "1", Cloud: "default", State: core.NodeRunning, AccountID: b.alice.Account.ID, AgentKey: make([]byte, 40)}
	b.must(b.store.Update(b.Context(), func(tx core.Tx) error { return tx.PutNode(&n) }))
	p := core.Principal{Via: "agent", From: "192.0.2.7", Dialect: "test"}
	for i, step := range []struct {
		m     core.AgentMessage
		fresh bool
	}{
		{core.AgentMessage{ID: "a", Name: "OperationResult", Subject: "storage.create", Outcome: "failed"}, true},
		{core.AgentMessage{ID: "a", Name: "OperationResult", Subject: "storage.create", Outcome: "failed"}, false},
		{core.AgentMessage{ID: "b", Name: "ExecScriptResult", Subject: "hello", Outcome: "3"}, true},
		{core.AgentMessage{ID: "c", Name: "HostUpdate", Subject: "api_port", Outcome: "8009"}, true},
		{core.AgentMessage{ID: "e", Name: "DbMsr_CreateDataBundleResult", Subject: "postgresql", Outcome: "ok"}, true},
		{core.AgentMessage{ID: "f", Name: "Other"}, true},
	} {
		if fresh, err := b.NoteAgentMessage(b.Context(), p, n, step.m); err != nil || fresh != step.fresh {
			t.Errorf("step %d: got %v, %v, want %v", i, fresh, err, step.fresh)
		}
	}
	b.wantAudit("agent.operation failed", "agent.script 3", "agent.host 8009", "agent.databundle ok")
	for _, m := range []core.AgentMessage{{Name: "X"}, {ID: "../x", Name: "X"}, {ID: "d"}} {
		if _, err := b.NoteAgentMessage(b.Context(), p, n, m); core.KindOf(err) != core.Invalid {
			t.Errorf("%+v: got %v, want invalid", m, err)
		}
	}
}

func TestANodeHasTheVariablesOfItsAppAndTheMetricsOfItsRole(t *testing.T) {
	b := newBed(t)
	app := core.App{ID: "app-1", Name: "shop", AccountID: b.alice.Account.ID, Platform: "php"}
	other := core.App{ID: "app-2", Name: "blog", AccountID: b.bob.Account.ID, Platform: "php"}
	b.must(b.store.Update(b.Context(), func(tx core.Tx) error {
		if err := tx.PutApp(&app); err != nil {
			return err
		}
		if err := tx.PutApp(&other); err != nil {
			return err
		}
		if err := tx.PutEnv(other.ID, core.EnvVar{Name: "FOREIGN", Value: "x"}); err != nil {
			return err
		}
		return tx.PutEnv(app.ID, core.EnvVar{Name: "GREETING", Value: "hello", Public: true})
	}))
	for _, test := range []struct {
		node core.Node
		want string
	}{
		{core.Node{ID: "n-1", AppID: app.ID}, "GREETING"},
		{core.Node{ID: "n-2"}, ""},
	} {
		vars, err := b.NodeVariables(b.Context(), test.node)
		b.must(err)
		got := ""
		for _, v := range vars {
			got += v.Name
		}
		if got != test.want {
			t.Errorf("%s: got %q, want %q", test.node.ID, got, test.want)
		}
	}
	b.ScalingMetrics = []core.ScalingMetric{{ID: 1, Name: "load"}, {ID: 2, Name: "queue", Role: core.RoleDB}}
	for role, want := range map[core.Role]int{core.RoleApp: 1, core.RoleDB: 2} {
		if got := b.NodeMetrics(core.Node{Roles: []core.Role{role}}); len(got) != want || got[0].Name != "load" {
			t.Errorf("%s: got %+v, want %d", role, got, want)
		}
	}
}
