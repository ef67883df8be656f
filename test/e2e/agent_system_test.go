//go:build e2e

package e2e

import (
	"encoding/base64"
	"errors"
	"net/netip"
	"strings"
	"testing"

	"github.com/reeve-paas/reeve/agent/agentapi"
	"github.com/reeve-paas/reeve/agent/agentclient"
	"github.com/reeve-paas/reeve/test/hosts"
)

const shutdownHook = "/usr/local/scalarizr/hooks/auth-shutdown"

// wantRefusal fails the test when a call does not end with the agent's own error that contains the text.
func wantRefusal(t testing.TB, err error, text string) {
	t.Helper()
	if !agentclient.Reached(err) || !strings.Contains(err.Error(), text) {
		t.Errorf("got %v, want the agent's refusal with %q", err, text)
	}
}

// TestSystemOnARealHost renames a host, runs what it is given and restarts it. Items of the checklist of spec agent-core 8 have
// their number; the others are in TestCoreItemsOnABootedHost.
func TestSystemOnARealHost(t *testing.T) {
	t.Parallel()
	h := hosts.Boot(t, hosts.Options{Name: "before", Agent: true})
	c := connect(t, h, h.Key())
	system := c.System()
	script := func(t *testing.T, s agentapi.Script, variables ...agentapi.GlobalVariable) {
		t.Helper()
		if _, err := system.ExecuteScripts(t.Context(), agentapi.ExecuteScriptsParams{Scripts: []agentapi.Script{s}, GlobalVariables: variables, EventName: "HostUp"}); err != nil {
			t.Fatal(err)
		}
	}
	logs := func(t *testing.T, id string) (stdout, stderr string) {
		t.Helper()
		logs, err := system.ScriptLogs(t.Context(), agentapi.ScriptLogsParams{ExecScriptID: agentapi.Text(id)})
		if err != nil {
			t.Fatal(err)
		}
		for _, part := range []struct {
			to   *string
			from string
		}{{&stdout, logs.Stdout}, {&stderr, logs.Stderr}} {
			data, err := base64.StdEncoding.DecodeString(strings.TrimSpace(part.from))
			if err != nil {
				t.Fatal(err)
			}
			*part.to = string(data)
		}
		return stdout, stderr
	}

	t.Run("54: the shutdown hook", func(t *testing.T) {
		var out string
		const missing = "Exception: File not exists: " + shutdownHook
		wantRefusal(t, c.Call(t.Context(), "system.call_auth_shutdown_hook", nil, &out), missing)
		h.WriteFile(t, shutdownHook, 0o644, []byte("#!/bin/sh\necho '  granted '\necho ignored >&2\nexit 1\n"))
		wantRefusal(t, c.Call(t.Context(), "system.call_auth_shutdown_hook", nil, &out), missing)
		h.Exec(t, "chmod", "755", shutdownHook)
		if err := c.Call(t.Context(), "system.call_auth_shutdown_hook", nil, &out); err != nil || out != "granted" {
			t.Errorf("got %q, %v, want granted", out, err)
		}
	})
	t.Run("58: a script runs with its variables, and its log is read", func(t *testing.T) {
		script(t, agentapi.Script{Name: "greet", Body: "#!/bin/sh\necho \"hello $WHO from $(id -un)\"\necho oops >&2\nexit 3\n", Timeout: "20", ExecutionID: "e1", RunAs: "www-data"},
			agentapi.GlobalVariable{Name: "WHO", Value: "$(reboot); world"})
		h.Exec(t, "test", "-f", "/var/log/scalarizr/scripting/greet.HostUp.e1-out.log")
		if stdout, stderr := logs(t, "e1"); stdout != "hello $(reboot); world from www-data\n" || stderr != "oops\n" {
			t.Errorf("got %q and %q", stdout, stderr)
		}
		if left := h.Exec(t, "find", "/usr/local/bin", "-name", "scalr-scripting.*"); left != "" {
			t.Errorf("script files are left: %s", left)
		}
		if stdout, _ := logs(t, "../../../etc/passwd"); strings.Contains(stdout, "root:") {
			t.Error("a file outside the log directory was read")
		}
	})
	t.Run("a script that hangs ends with all its processes", func(t *testing.T) {
		script(t, agentapi.Script{Name: "hang", Body: "#!/bin/sh\nsleep 4321 &\nsleep 4321\n", Timeout: "1", ExecutionID: "e2"})
		if out, err := h.Try(t, "pgrep", "-f", "sleep 4321"); err == nil {
			t.Errorf("processes are left: %s", out)
		}
	})
	t.Run("a script outlives the agent's restart neither running nor in the state", func(t *testing.T) {
		id, err := system.ExecuteScripts(t.Context(), agentapi.ExecuteScriptsParams{Async: agentapi.Ptr(agentapi.Bool(true)),
			Scripts: []agentapi.Script{{Name: "cut", Body: "#!/bin/sh\nsleep 6543\n", Timeout: "600", ExecutionID: "e4"}}})
		if err != nil {
			t.Fatal(err)
		}
		hosts.Eventually(t, "the script runs", func() bool { _, err := h.Try(t, "pgrep", "-f", "sleep 6543"); return err == nil })
		h.Exec(t, "kill", "-KILL", h.Exec(t, "systemctl", "show", agentUnit, "-p", "MainPID", "--value"))
		hosts.Eventually(t, "the operation is over after the restart", func() bool {
			op, err := c.Operations().Result(t.Context(), id)
			return err == nil && op.Status != "in-progress" && op.Status != "new"
		})
		if out, err := h.Try(t, "pgrep", "-f", "sleep 6543"); err == nil {
			t.Errorf("processes are left: %s", out)
		}
	})
	t.Run("53: the host's name changes, and stays over a reboot", func(t *testing.T) {
		if name, err := system.Hostname(t.Context()); err != nil || name != "before" {
			t.Errorf("got host name %q, %v, want before", name, err)
		}
		for _, params := range []map[string]string{{}, {"hostname": ""}} {
			var name string
			err := c.Call(t.Context(), "system.set_hostname", params, &name)
			if refusal, ok := errors.AsType[*agentapi.Error](err); !ok || refusal.Message() != "AssertionError: " {
				t.Errorf("%v: got %q, %v, want an assertion without a text", params, name, err)
			}
		}
		for _, bad := range []string{"a b", "a\nb", "-a", strings.Repeat("x", 300), "a;reboot"} {
			_, err := system.SetHostname(t.Context(), bad)
			wantRefusal(t, err, "AssertionError: ")
		}
		wantText(t, h, "before", "hostname")
		if got, err := system.SetHostname(t.Context(), "after"); err != nil || got != "after" {
			t.Fatalf("got %q, %v, want after", got, err)
		}
		wantText(t, h, "after", "hostname")
		wantText(t, h, "after", "cat", "/etc/hostname")
		if out := h.Exec(t, "grep", "-w", "after", "/etc/hosts"); strings.Join(strings.Fields(out), " ") != h.Addr.String()+" after" {
			t.Errorf("got %q in /etc/hosts, want %s", out, h.Addr)
		}
		if out := h.Exec(t, "getent", "ahostsv4", "after"); !strings.HasPrefix(out, h.Addr.String()) {
			t.Errorf("after resolves to %q, want %s", out, h.Addr)
		}
	})
	t.Run("reboot answers, and the host comes back with the same key", func(t *testing.T) {
		before := h.BootID(t)
		if err := system.Reboot(t.Context()); err != nil {
			t.Fatalf("the reboot was not answered: %v", err)
		}
		hosts.Eventually(t, "the host has booted again", func() bool {
			now, err := h.Try(t, "cat", "/proc/sys/kernel/random/boot_id")
			return err == nil && now != before
		})
		h.WaitReady(t)
		awaitPort(t, netip.AddrPortFrom(h.Addr, 8010))
		if name, err := system.Hostname(t.Context()); err != nil || name != "after" {
			t.Errorf("got host name %q, %v, want after", name, err)
		}
		wantText(t, h, "", "systemctl", "list-units", "--failed", "--plain", "--no-legend")
	})
}
