//go:build e2e

package e2e

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/reeve-paas/reeve/test/hosts"
)

const coordinatorUnit = "reeve-coordinator.service"

// TestPackageLifeOfTheCoordinator installs the coordinator on a host of its own. Nodes cannot boot nodes, so its only cloud
// there is the one in memory.
func TestPackageLifeOfTheCoordinator(t *testing.T) {
	t.Parallel()
	h := hosts.Boot(t, hosts.Options{Name: "central"})
	h.CopyIn(t, built(t, "reeve-coordinator_*.deb"), "/tmp/now.deb")
	h.CopyIn(t, laterPackage(t, "coordinator", "deb"), "/tmp/later.deb")
	const config = "/etc/reeve/coordinator.yaml"
	settings := "clouds:\n  fake_driver: {engine: fake}\ndefault_cloud: fake_driver\n"
	h.WriteFile(t, config, 0o640, []byte(settings))
	healthy := func() {
		t.Helper()
		hosts.Eventually(t, "the coordinator answers", func() bool {
			_, err := h.Try(t, "curl", "-fsS", "http://127.0.0.1:8080/healthz")
			return err == nil
		})
		wantText(t, h, "active", "systemctl", "is-active", coordinatorUnit)
	}
	var admin struct {
		Token string `json:"token"`
	}
	nodes := func() string {
		t.Helper()
		return h.Exec(t, "curl", "-fsS", "-H", "X-Auth-Token: "+admin.Token, "http://127.0.0.1:8080/api/v1/nodes/fake_driver")
	}

	t.Run("installing starts the service with the settings that are there", func(t *testing.T) {
		dpkg(t, h, "--force-confold", "-i", "/tmp/now.deb")
		healthy()
		wantText(t, h, "enabled", "systemctl", "is-enabled", coordinatorUnit)
		wantText(t, h, "700 root", "stat", "-c", "%a %U", "/var/lib/reeve-coordinator")
		wantText(t, h, "600 root", "stat", "-c", "%a %U", "/var/lib/reeve-coordinator/admin.json")
		if err := json.Unmarshal(h.ReadFile(t, "/var/lib/reeve-coordinator/admin.json"), &admin); err != nil {
			t.Fatal(err)
		}
		if got := nodes(); !strings.Contains(got, "dummy-1") {
			t.Errorf("got nodes %s", got)
		}
		wantText(t, h, "", "systemctl", "list-units", "--failed", "--plain", "--no-legend")
	})
	if t.Failed() {
		t.FailNow()
	}
	t.Run("upgrading keeps settings, database and service", func(t *testing.T) {
		dpkg(t, h, "--force-confold", "-i", "/tmp/later.deb")
		healthy()
		if got := string(h.ReadFile(t, config)); got != settings {
			t.Errorf("got settings %q", got)
		}
		if out := h.Exec(t, "readlink", "/proc/"+h.Exec(t, "systemctl", "show", coordinatorUnit, "-p", "MainPID", "--value")+"/exe"); out != "/usr/bin/reeve-coordinator" {
			t.Errorf("the service still runs %s", out)
		}
		if out := h.Exec(t, "reeve-coordinator", "version"); !strings.Contains(out, laterVersion) {
			t.Errorf("got %s, want version %s", out, laterVersion)
		}
		nodes() // with the token of before
	})
	t.Run("removing stops the service and keeps the rest", func(t *testing.T) {
		dpkg(t, h, "-r", "reeve-coordinator")
		if out, err := h.Try(t, "pgrep", "-f", "reeve-coordinator serve"); err == nil {
			t.Errorf("processes are left: %s", out)
		}
		h.Exec(t, "test", "-e", "/var/lib/reeve-coordinator/reeve.db")
		h.Exec(t, "test", "-e", config)
	})
	t.Run("purging keeps what only a person may delete, and says so", func(t *testing.T) {
		dpkg(t, h, "-P", "reeve-coordinator")
		h.Exec(t, "test", "-e", "/var/lib/reeve-coordinator/reeve.db")
		for _, gone := range []string{config, "/usr/bin/reeve-coordinator"} {
			if _, err := h.Try(t, "test", "-e", gone); err == nil {
				t.Errorf("%s is left", gone)
			}
		}
		if out, err := h.Try(t, "systemctl", "cat", coordinatorUnit); err == nil {
			t.Errorf("systemd still knows the unit: %s", out)
		}
		if left := h.Exec(t, "find", "/etc/systemd", "-name", coordinatorUnit); left != "" {
			t.Errorf("links are left: %s", left)
		}
	})
	t.Run("installing again goes on with the data", func(t *testing.T) {
		h.WriteFile(t, config, 0o640, []byte(settings))
		dpkg(t, h, "--force-confold", "-i", "/tmp/now.deb")
		healthy()
		nodes()
	})
}
