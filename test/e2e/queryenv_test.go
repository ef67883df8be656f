//go:build e2e

package e2e

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// An agent on a real node asks its coordinator, over TLS, for what only that knows, and tells it what ended.
func TestAnAgentAsksAndTellsItsCoordinator(t *testing.T) {
	t.Parallel()
	s := newSite(t, 48)
	config, err := os.ReadFile(s.config)
	if err == nil {
		config = []byte(strings.Replace(string(config), `listen: ""`, fmt.Sprintf(`listen: "0.0.0.0:%d"`, freePort(t)), 1) +
			"scaling_metrics: [{name: tasks, path: /proc/sys/kernel/threads-max}, {name: free, path: /usr/bin/nproc, execute: true, role: app}, {name: lag, path: /x, role: router}]\n")
		err = os.WriteFile(s.config, config, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	s.start(0)
	var ops []gandiOperation
	s.mustGandi(&ops, "paas.create", instanceSpec("shop", "shop.test"))
	s.done(ops...)
	node := s.nodeWith("app").Name
	call := func(method, params string) string {
		t.Helper()
		out, err := s.command("node", "call", node, method, params).CombinedOutput()
		if err != nil {
			t.Fatalf("%s: %v\n%s", method, err, out)
		}
		return strings.TrimSpace(string(out))
	}
	var metrics []struct {
		ID, Name, Error string
		Value           float64
	}
	if err := json.Unmarshal([]byte(call("system.scaling_metrics", `{}`)), &metrics); err != nil || len(metrics) != 2 ||
		metrics[0].ID != "1" || metrics[0].Name != "tasks" || metrics[0].Value < 100 || metrics[1].Name != "free" || metrics[1].Value < 1 || metrics[0].Error+metrics[1].Error != "" {
		t.Errorf("got scaling metrics %+v, %v", metrics, err)
	}
	// Without a list the coordinator's is taken: the site stays.
	if got := call("apache.reconfigure", `{"async": false}`); !strings.Contains(got, "shop.test-80.vhost.conf") {
		t.Errorf("got virtual hosts %s", got)
	}
	call("service.reconfigure", `{"async": false}`)
	call("system.execute_scripts", `{"event_name": "Test", "scripts": [{"name": "hello", "body": "#!/bin/sh\nexit 3", "timeout": 10}]}`)
	want := []string{"agent.operation api.apache.reconfigure completed", "agent.operation api.service.reconfigure completed",
		"agent.operation system.execute_scripts completed", "agent.script hello 3"}
	s.await(20*time.Second, "what the agent tells", func() (bool, string) {
		got := slices.Compact(s.told("agent.%"))
		return slices.Equal(got, want), strings.Join(got, "\n")
	})
	s.fetchedCertificate(t, call)
	s.volumes(t, node)
	t.Run("backups of a database", func(t *testing.T) { s.backups(t, node) })
	t.Run("killed", func(t *testing.T) { s.killedVolumes(t, s.nodeWith("app")) })
}

// told are the audit records of what agents told, sorted: action, subject and outcome.
func (s *site) told(action string) []string {
	s.t.Helper()
	out, err := exec.Command("python3", "-c", `import sqlite3, sys
rows = sqlite3.connect(sys.argv[1]).execute("SELECT action, subject, outcome FROM audit WHERE action LIKE ?", sys.argv[2:])
print("\n".join(sorted("%s %s %s" % (a, s.split(" ", 1)[1], o) for a, s, o in rows)))`, filepath.Join(s.dir, "data", "reeve.db"), action).Output()
	if err != nil {
		s.t.Fatal(err)
	}
	return strings.FieldsFunc(string(out), func(r rune) bool { return r == '\n' })
}
