//go:build e2e

package hosts_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/reeve-paas/reeve/test/hosts"
)

func TestMain(m *testing.M) { os.Exit(hosts.Main(m)) }

func TestAHostIsBootedAndUsed(t *testing.T) {
	var instance hosts.Instance
	t.Run("while the test runs", func(t *testing.T) {
		h := hosts.Boot(t, hosts.Options{Name: "probe"})
		instance = h.Cloud.Instance
		if got := h.Exec(t, "hostname"); got != "probe" {
			t.Errorf("got %q, want probe", got)
		}
		file := filepath.Join(t.TempDir(), "tool")
		if err := os.WriteFile(file, []byte("#!/bin/sh\necho works\n"), 0o755); err != nil {
			t.Fatal(err)
		}
		h.CopyIn(t, file, "/opt/tool/run")
		if got := h.Exec(t, "/opt/tool/run"); got != "works" {
			t.Errorf("got %q, want works", got)
		}
		if out, err := h.Try(t, "false"); err == nil {
			t.Errorf("a command that fails: got %q and no error", out)
		}
		h.Reboot(t)
		if got := string(h.ReadFile(t, "/opt/tool/run")); got != "#!/bin/sh\necho works\n" {
			t.Errorf("got %q", got)
		}
	})
	t.Run("and nothing of it is left afterwards", func(t *testing.T) {
		hosts.AssertClean(t, instance)
	})
}

func TestAnAgentAnswersAtItsURL(t *testing.T) {
	h := hosts.Boot(t, hosts.Options{Agent: true})
	if got := h.Exec(t, "systemctl", "is-active", "reeve-agent"); got != "active" {
		t.Errorf("got %q, want active", got)
	}
	if len(h.Key()) != 40 {
		t.Errorf("got a key of %d bytes, want 40", len(h.Key()))
	}
}
