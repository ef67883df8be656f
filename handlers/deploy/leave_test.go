package deploy

import (
	"path"
	"slices"
	"testing"
	"time"

	"github.com/reeve-paas/reeve/agent/agentapi"
	"github.com/reeve-paas/reeve/handlers"
)

func TestLeaving(t *testing.T) {
	h := newHost(t)
	h.Units.Install(agentUnit)
	s := newService(h)
	h.WriteText(agentKeyFile, "key\n")
	for _, marker := range []string{"", "owner=x\nnode=y\n"} { // not enrolled at all, or over SSH
		if marker != "" {
			h.WriteText(enrolledFile, marker)
		}
		must[handlers.Null](t)(s.Leave(t.Context(), handlers.NoParams{}))
		if !h.Exists(agentKeyFile) || len(h.Calls()) > 0 {
			t.Errorf("marker %q: got calls %v, want nothing done", marker, h.Calls())
		}
	}
	h.WriteText(enrolledFile, "owner=x\nnode=y\ntoken=yes\n")
	h.WriteText(agentapi.CoordinatorSettingsFile, "[Service]\n")
	h.WriteText(agentapi.CoordinatorCAFile, "certificate\n")
	must[handlers.Null](t)(s.Leave(t.Context(), handlers.NoParams{}))
	if h.Exists(agentKeyFile) || h.Exists(enrolledFile) {
		t.Error("key or marker is still there")
	}
	if h.Exists(path.Dir(agentapi.CoordinatorSettingsFile)) || h.Exists(agentapi.CoordinatorCAFile) {
		t.Error("the settings are still there")
	}
	deadline := time.Now().Add(10 * time.Second)
	for !slices.Contains(h.Calls(), "stop "+agentUnit) {
		if time.Now().After(deadline) {
			t.Fatalf("got calls %v, want the agent to end", h.Calls())
		}
		time.Sleep(10 * time.Millisecond)
	}
}
