//go:build e2e

package e2e

import (
	"bytes"
	"encoding/json"
	"io/fs"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/reeve-paas/reeve/crypto/envelope"
	"github.com/reeve-paas/reeve/test/hosts"
)

const (
	agentKeyFile = "/etc/reeve/keys/default"
	agentConfig  = "/etc/reeve/agent.yaml"
	agentUnit    = "reeve-agent.service"
	laterVersion = "99.1.0"
)

// laterPackage builds the package of a program under a higher version, with another default configuration, as a release
// to come will have.
func laterPackage(t *testing.T, name, format string) string {
	t.Helper()
	dir := t.TempDir()
	for _, part := range []string{"packaging/" + name, "systemd/units"} {
		if err := os.CopyFS(filepath.Join(dir, part), os.DirFS(filepath.Join(top, part))); err != nil {
			t.Fatal(err)
		}
	}
	config := filepath.Join(dir, "packaging", name, name+".yaml")
	f, err := os.OpenFile(config, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteString("\n#a_setting_to_come: false\n"); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	build := exec.CommandContext(t.Context(), "go", "build", "-trimpath", "-ldflags", "-s -w -X main.version="+laterVersion,
		"-o", filepath.Join(dir, "bin", "reeve-"+name), "./"+name)
	build.Dir, build.Env = top, append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build %s: %v\n%s", name, err, out)
	}
	pack := exec.CommandContext(t.Context(), filepath.Join(top, "bin", "tools", "nfpm"), "package",
		"--config", "nfpm.yaml", "--packager", format, "--target", filepath.Join(dir, "later."+format))
	pack.Dir = filepath.Join(dir, "packaging", name)
	pack.Env = append(os.Environ(), "VERSION="+laterVersion, "ARCH=amd64", "BIN="+filepath.Join(dir, "bin"), "DIST="+filepath.Join(top, "dist"))
	if out, err := pack.CombinedOutput(); err != nil {
		t.Fatalf("package %s: %v\n%s", name, err, out)
	}
	return filepath.Join(dir, "later."+format)
}

func dpkg(t *testing.T, h *hosts.Host, args ...string) {
	t.Helper()
	h.Exec(t, append([]string{"env", "DEBIAN_FRONTEND=noninteractive", "dpkg"}, args...)...)
}

// answersCPUStat calls the agent from inside its host with the key that lies there.
func answersCPUStat(t *testing.T, h *hosts.Host) {
	t.Helper()
	var stat map[string]json.Number
	out := h.Exec(t, "reeve-agent", "call", "system.cpu_stat")
	if err := json.Unmarshal([]byte(out), &stat); err != nil || len(stat) != 4 || stat["idle"] == "" {
		t.Errorf("got %s, %v, want the four counters", out, err)
	}
}

// runningVersion is the version that the serving process, not the file, says it has.
func runningVersion(t *testing.T, h *hosts.Host) string {
	t.Helper()
	m := regexp.MustCompile(`reeve_agent_info\{[^}]*version="([^"]*)"\} 1`)
	out := h.Exec(t, "curl", "-sS", "http://127.0.0.1:9810/metrics")
	for _, line := range strings.Split(out, "\n") {
		if found := m.FindStringSubmatch(strings.ReplaceAll(line, "go_version", "go")); found != nil {
			return found[1]
		}
	}
	t.Fatalf("no reeve_agent_info in the metrics:\n%.2000s", out)
	return ""
}

// agentDeb is the package that hosts.Boot installs too.
func agentDeb(t testing.TB) string {
	if deb := os.Getenv("REEVE_AGENT_DEB"); deb != "" {
		return deb
	}
	return built(t, "reeve-agent.deb")
}

// packageFiles are the files of the host with such a name, the package database apart.
func packageFiles(t *testing.T, h *hosts.Host, pattern string) []string {
	t.Helper()
	out := h.Exec(t, "find", "/etc", "/usr", "/var", "/run", "/root", "/srv", "/opt", "-xdev", "-name", pattern,
		"-not", "-path", "/var/lib/dpkg/*", "-not", "-path", "/var/log/journal/*", "-not", "-path", "/var/cache/*")
	return strings.Fields(out)
}

func TestNodeImagesCarryNoKey(t *testing.T) {
	image := hosts.Image(t, true)
	found := false
	for _, layer := range image.Layers {
		err := filepath.WalkDir(layer, func(path string, d fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			rel, _ := filepath.Rel(layer, path)
			found = found || rel == "usr/bin/reeve-agent"
			switch {
			case strings.HasPrefix(rel, "etc/reeve/keys/"), strings.HasPrefix(rel, "var/lib/reeve-agent/"), strings.HasPrefix(rel, "etc/scalr/"):
				t.Errorf("the image holds %s: all nodes would share it", rel)
			case rel == "proc", rel == "sys":
				return fs.SkipDir
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if !found {
		t.Errorf("no layer of %v holds the agent: the walk saw nothing", image.Layers)
	}
}

// TestPackageLifeOfTheAgent is one host's story: install, use, upgrade, remove, purge, install again.
func TestPackageLifeOfTheAgent(t *testing.T) {
	t.Parallel()
	h := hosts.Boot(t, hosts.Options{Name: "packaged"})
	before := packageFiles(t, h, "*reeve*")
	h.CopyIn(t, agentDeb(t), "/tmp/now.deb")
	h.CopyIn(t, laterPackage(t, "agent", "deb"), "/tmp/later.deb")

	var key, operation string
	t.Run("installing starts the service with a key of its own", func(t *testing.T) {
		dpkg(t, h, "-i", "/tmp/now.deb")
		wantText(t, h, "active", "systemctl", "is-active", agentUnit)
		wantText(t, h, "enabled", "systemctl", "is-enabled", agentUnit)
		wantText(t, h, "600 root root", "stat", "-c", "%a %U %G", agentKeyFile)
		wantText(t, h, "700 root root", "stat", "-c", "%a %U %G", "/etc/reeve/keys")
		wantText(t, h, "700 root root", "stat", "-c", "%a %U %G", "/var/lib/reeve-agent")
		wantText(t, h, "", "systemctl", "list-units", "--failed", "--plain", "--no-legend")
		answersCPUStat(t, h)
		key = string(h.ReadFile(t, agentKeyFile))
		if got := runningVersion(t, h); got == laterVersion {
			t.Errorf("got version %s before the upgrade", got)
		}
	})
	t.Run("the unit starts a killed agent again, for ever", func(t *testing.T) {
		wantText(t, h, "Restart=always\nRestartUSec=2s\nStartLimitIntervalUSec=0", "systemctl", "show", agentUnit, "-p", "Restart", "-p", "RestartUSec", "-p", "StartLimitIntervalUSec")
		pid := h.Exec(t, "systemctl", "show", agentUnit, "-p", "MainPID", "--value")
		h.Exec(t, "kill", "-KILL", pid)
		hosts.Eventually(t, "another agent runs", func() bool {
			now, err := h.Try(t, "systemctl", "show", agentUnit, "-p", "MainPID", "-p", "ActiveState")
			return err == nil && strings.Contains(now, "ActiveState=active") && !strings.Contains(now, "MainPID="+pid+"\n")
		})
		answersCPUStat(t, h)
	})
	if t.Failed() {
		t.FailNow() // the rest of the story needs an agent
	}
	t.Run("upgrading keeps key, settings, state and service", func(t *testing.T) {
		config := "# written by the operator\nlog_level: warn\n"
		h.WriteFile(t, agentConfig, 0o640, []byte(config))
		script := `{"async": true, "scripts": [{"name": "upgrade", "body": "#!/bin/sh\necho before", "timeout": 10, "execution_id": "42"}]}`
		if err := json.Unmarshal([]byte(h.Exec(t, "reeve-agent", "call", "system.execute_scripts", script)), &operation); err != nil {
			t.Fatal(err)
		}
		completed := func() bool {
			out, err := h.Try(t, "reeve-agent", "call", "operation.result", `{"operation_id": "`+operation+`"}`)
			return err == nil && strings.Contains(out, `"completed"`)
		}
		hosts.Eventually(t, "the operation is completed", completed)
		wasPID := h.Exec(t, "systemctl", "show", agentUnit, "-p", "MainPID", "--value")

		dpkg(t, h, "--force-confdef", "--force-confold", "-i", "/tmp/later.deb")
		wantText(t, h, "active", "systemctl", "is-active", agentUnit)
		wantText(t, h, "enabled", "systemctl", "is-enabled", agentUnit)
		if got := runningVersion(t, h); got != laterVersion {
			t.Errorf("the running service has version %q, want %s", got, laterVersion)
		}
		if now := h.Exec(t, "systemctl", "show", agentUnit, "-p", "MainPID", "--value"); now == wasPID {
			t.Errorf("process %s still runs after the upgrade", now)
		}
		if got := string(h.ReadFile(t, agentKeyFile)); got != key {
			t.Error("the upgrade changed the key")
		}
		if got := string(h.ReadFile(t, agentConfig)); got != config {
			t.Errorf("the upgrade changed the settings to %q", got)
		}
		if !completed() {
			t.Error("the operation of before is forgotten")
		}
		answersCPUStat(t, h)
	})
	t.Run("removing stops the service and keeps settings, key and state", func(t *testing.T) {
		dpkg(t, h, "-r", "reeve-agent")
		if out, _ := h.Try(t, "systemctl", "is-active", agentUnit); out == "active" {
			t.Error("the service still runs")
		}
		if out, err := h.Try(t, "pgrep", "-x", "reeve-agent"); err == nil {
			t.Errorf("processes are left: %s", out)
		}
		for _, gone := range []string{"/usr/bin/reeve-agent", "/usr/lib/systemd/system/" + agentUnit} {
			if _, err := h.Try(t, "test", "-e", gone); err == nil {
				t.Errorf("%s is still there", gone)
			}
		}
		if got := string(h.ReadFile(t, agentKeyFile)); got != key {
			t.Error("the key is another one")
		}
		for _, kept := range []string{agentConfig, "/var/lib/reeve-agent"} {
			h.Exec(t, "test", "-e", kept)
		}
	})
	t.Run("a removed package comes back with the same key", func(t *testing.T) {
		dpkg(t, h, "-i", "/tmp/later.deb")
		wantText(t, h, "active", "systemctl", "is-active", agentUnit)
		if got := string(h.ReadFile(t, agentKeyFile)); got != key {
			t.Error("the key is another one")
		}
		answersCPUStat(t, h)
	})
	t.Run("purging leaves nothing", func(t *testing.T) {
		dpkg(t, h, "-P", "reeve-agent")
		if after := packageFiles(t, h, "*reeve*"); !slices.Equal(after, before) {
			t.Errorf("got files %q, want those of before: %q", after, before)
		}
		if out, err := h.Try(t, "systemctl", "cat", agentUnit); err == nil {
			t.Errorf("systemd still knows the unit: %s", out)
		}
		wantText(t, h, "", "systemctl", "list-units", "--failed", "--plain", "--no-legend")
	})
	t.Run("purging keeps sites that are served", func(t *testing.T) {
		dpkg(t, h, "-i", "/tmp/now.deb")
		h.WriteFile(t, "/srv/kept/index.html", 0o644, []byte("the kept site"))
		vhost := "/etc/reeve/private.d/vhosts/kept.test-80.vhost.conf"
		h.Exec(t, "reeve-agent", "call", "apache.create_vhost", `{"hostname": "kept.test", "port": 80, "ssl": false, "template": `+
			`"<VirtualHost *:80>\nServerName kept.test\nDocumentRoot /srv/kept\n</VirtualHost>\n"}`)
		h.Exec(t, "reeve-agent", "call", "apache.start_service")
		wantPage(t, netip.AddrPortFrom(h.Addr, 80), "kept.test", "the kept site")
		dpkg(t, h, "-P", "reeve-agent")
		h.Exec(t, "test", "-e", vhost)
		h.Exec(t, "systemctl", "reload", "apache2.service")
		wantPage(t, netip.AddrPortFrom(h.Addr, 80), "kept.test", "the kept site")
	})
	t.Run("where Scalarizr was, its key is used and kept", func(t *testing.T) {
		const old = "/etc/scalr/private.d/keys/default"
		h.Exec(t, "rm", "-r", "/etc/reeve")
		text := envelope.NewKeyText()
		h.WriteFile(t, old, 0o400, text)
		h.Exec(t, "mkdir", "/etc/scalr/private.d/vhosts")
		dpkg(t, h, "-i", "/tmp/now.deb")
		if out, err := h.Try(t, "ls", "/etc/reeve/keys"); err != nil || out != "" {
			t.Errorf("a second key was made: %q, %v", out, err)
		}
		answersCPUStat(t, h)
		h.Exec(t, "reeve-agent", "call", "apache.create_vhost", `{"hostname": "old.test", "port": 80, "ssl": false, "template": `+
			`"<VirtualHost *:80>\nServerName old.test\nDocumentRoot /srv/kept\n</VirtualHost>\n"}`)
		h.WriteFile(t, "/etc/systemd/system/scalarizr.service", 0o644, []byte("[Service]\nExecStart=/bin/sleep infinity\n[Install]\nWantedBy=multi-user.target\n"))
		h.Exec(t, "systemctl", "daemon-reload")
		if out := h.Exec(t, "reeve-agent", "restore-scalarizr", "--dry-run"); !strings.Contains(out, "would stop reeve-agent.service") || !strings.Contains(out, "would start scalarizr.service") {
			t.Errorf("got %s", out)
		}
		answersCPUStat(t, h)
		if out := h.Exec(t, "reeve-agent", "restore-scalarizr"); !strings.Contains(out, "done: start scalarizr.service") || strings.Contains(out, "not yet at every boot") {
			t.Errorf("got %s", out)
		}
		wantText(t, h, "active\nenabled", "sh", "-c", "systemctl is-active scalarizr; systemctl is-enabled scalarizr")
		wantText(t, h, "inactive\ndisabled", "sh", "-c", "systemctl is-active reeve-agent; systemctl is-enabled reeve-agent || true")
		wantPage(t, netip.AddrPortFrom(h.Addr, 80), "old.test", "the kept site")
		h.Exec(t, "systemctl", "disable", "--now", "scalarizr")
		h.Exec(t, "rm", "/etc/systemd/system/scalarizr.service")
		h.Exec(t, "systemctl", "daemon-reload")
		dpkg(t, h, "-P", "reeve-agent")
		h.Exec(t, "test", "-e", "/etc/scalr/private.d/vhosts/old.test-80.vhost.conf")
		h.Exec(t, "systemctl", "reload", "apache2.service")
		wantPage(t, netip.AddrPortFrom(h.Addr, 80), "old.test", "the kept site")
		if got := h.ReadFile(t, old); !bytes.Equal(got, text) {
			t.Error("Scalarizr's key is another one")
		}
		h.Exec(t, "rm", "-r", "/etc/scalr")
	})
	t.Run("installing again works and makes a new key", func(t *testing.T) {
		dpkg(t, h, "-i", "/tmp/now.deb")
		wantText(t, h, "active", "systemctl", "is-active", agentUnit)
		wantText(t, h, "enabled", "systemctl", "is-enabled", agentUnit)
		if got := string(h.ReadFile(t, agentKeyFile)); got == key {
			t.Error("the purged key is back")
		}
		answersCPUStat(t, h)
	})
	t.Run("the service comes back after a reboot", func(t *testing.T) {
		h.Reboot(t)
		awaitAgent(t, h)
		answersCPUStat(t, h)
	})
}

// awaitAgent waits until the host's own unit of the agent is up.
func awaitAgent(t testing.TB, h *hosts.Host) {
	t.Helper()
	hosts.Eventually(t, "the agent's unit is active", func() bool {
		out, err := h.Try(t, "systemctl", "is-active", agentUnit)
		return err == nil && out == "active"
	})
}
