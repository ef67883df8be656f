//go:build e2e

package hosts_test

import (
	"net"
	"os"
	"path/filepath"
	"strings"
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
		insideAndOut(t, h)
		h.Reboot(t)
		if got := string(h.ReadFile(t, "/opt/tool/run")); got != "#!/bin/sh\necho works\n" {
			t.Errorf("got %q", got)
		}
	})
	t.Run("and nothing of it is left afterwards", func(t *testing.T) {
		hosts.AssertClean(t, instance)
	})
}

// insideAndOut listens and dials in the host's network, and looks at its files from here.
func insideAndOut(t *testing.T, h *hosts.Host) {
	t.Helper()
	l, err := h.Listen(t, "127.0.0.7:7777")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if c, err := net.Dial("tcp", l.Addr().String()); err == nil {
		c.Close()
		t.Error("the port is this machine's")
	}
	c, err := h.Dial(t, l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	c.Close()
	if got := h.Exec(t, "ss", "-Hltn", "sport", "=", ":7777"); got == "" {
		t.Error("the host does not know of its port")
	}
	if data, err := os.ReadFile(h.Root(t) + "/etc/hostname"); err != nil || strings.TrimSpace(string(data)) != "probe" {
		t.Errorf("got %q, %v", data, err)
	}
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
