//go:build e2e

package e2e

import (
	"encoding/base64"
	"encoding/json"
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

// TestSystemOnARealHost checks the items of spec agent-core 8, system, that need a host of their own.
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

	t.Run("44 to 52: facts are this host's", func(t *testing.T) {
		if name, err := system.Hostname(t.Context()); err != nil || name != "before" {
			t.Errorf("got host name %q, %v, want before", name, err)
		}
		one, err1 := system.CPUStat(t.Context())
		two, err2 := system.CPUStat(t.Context())
		if err1 != nil || err2 != nil || two.User < one.User || two.System < one.System || two.Idle < one.Idle {
			t.Errorf("counters went back: %+v, %v, then %+v, %v", one, err1, two, err2)
		}
		if dist, err := system.Dist(t.Context()); err != nil || dist.Distributor != "debian" || dist.Codename != "bookworm" {
			t.Errorf("got %+v, %v", dist, err)
		}
		if stats, err := system.NetStats(t.Context()); err != nil || len(stats) < 2 || stats["lo"].Receive.Bytes == "" {
			t.Errorf("got interfaces %v, %v, want lo and the host's own", stats, err)
		}
		if sizes, err := system.StatVFS(t.Context(), "/", "/nope"); err != nil || sizes["/"] == nil || sizes["/"].Total == 0 || sizes["/nope"] != nil {
			t.Errorf("got %v, %v", sizes, err)
		}
		mounts, err := system.Mounts(t.Context())
		if err != nil || mounts["/"].MPoint != "/" || mounts["/proc"].MPoint != "" {
			t.Errorf("got mounts %v, %v", mounts, err)
		}
	})
	t.Run("54: the shutdown hook", func(t *testing.T) {
		var out string
		wantRefusal(t, c.Call(t.Context(), "system.call_auth_shutdown_hook", nil, &out), "File not exists: "+shutdownHook)
		h.WriteFile(t, shutdownHook, 0o755, []byte("#!/bin/sh\necho '  granted '\necho ignored >&2\nexit 1\n"))
		if err := c.Call(t.Context(), "system.call_auth_shutdown_hook", nil, &out); err != nil || out != "granted" {
			t.Errorf("got %q, %v, want granted", out, err)
		}
	})
	t.Run("56 and 58: a script runs with its variables, and its log is read", func(t *testing.T) {
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
	t.Run("35, 39 and 41: a canceled operation goes on until its work ends", func(t *testing.T) {
		id, err := system.ExecuteScripts(t.Context(), agentapi.ExecuteScriptsParams{Async: agentapi.Ptr(agentapi.Bool(true)),
			Scripts: []agentapi.Script{{Name: "long", Body: "#!/bin/sh\ntouch /run/begun\nuntil test -e /run/may-end; do sleep 0.05; done\n", Timeout: "600", ExecutionID: "e3"}}})
		if err != nil {
			t.Fatal(err)
		}
		operations := c.Operations()
		if busy, err := operations.HasInProgress(t.Context()); err != nil || !busy {
			t.Errorf("got in progress %t, %v, want true", busy, err)
		}
		hosts.Eventually(t, "the script runs", func() bool { _, err := h.Try(t, "test", "-e", "/run/begun"); return err == nil })
		if err := operations.Cancel(t.Context(), id); err != nil {
			t.Fatal(err)
		}
		if op, err := operations.Result(t.Context(), id); err != nil || op.Status != "in-progress" {
			t.Errorf("got %+v, %v, want it in progress while the script runs", op, err)
		}
		h.Exec(t, "touch", "/run/may-end")
		hosts.Eventually(t, "the operation is canceled", func() bool {
			op, err := operations.Result(t.Context(), id)
			return err == nil && op.Status == "canceled"
		})
		if busy, err := operations.HasInProgress(t.Context()); err != nil || busy {
			t.Errorf("got in progress %t, %v, want false", busy, err)
		}
		if err := operations.Cancel(t.Context(), id); err != nil {
			t.Errorf("a finished operation is canceled: got %v, want nothing", err)
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
		for _, bad := range []string{"", "a b", "a\nb", "-a", strings.Repeat("x", 300), "a;reboot"} {
			_, err := system.SetHostname(t.Context(), bad)
			wantRefusal(t, err, "AssertionError: ")
		}
		wantText(t, h, "before", "hostname")
		if got, err := system.SetHostname(t.Context(), "after"); err != nil || got != "after" {
			t.Fatalf("got %q, %v, want after", got, err)
		}
		wantText(t, h, "after", "hostname")
		wantText(t, h, "after", "cat", "/etc/hostname")
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
	t.Run("55: logs that are not there are no error", func(t *testing.T) {
		var text string
		if err := c.Call(t.Context(), "system.get_update_log", nil, &text); err != nil || !strings.HasSuffix(text, "\n") {
			t.Errorf("got %q, %v", text, err)
		}
	})
	t.Run("21 to 24 and 59: what does not exist is said so", func(t *testing.T) {
		var result json.RawMessage
		for method, text := range map[string]string{"system.fqdn": "fqdn", "nope.x": "nope", "operation.create": "create"} {
			wantRefusal(t, c.Call(t.Context(), method, nil, &result), text)
		}
		wantRefusal(t, c.Call(t.Context(), "system.cpu_stat", map[string]any{"surprise": 1}, &result), "surprise")
	})
}
