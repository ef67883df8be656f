//go:build e2e

package e2e

import (
	"bytes"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/reeve-paas/reeve/test/hosts"
)

// packaged is a file of a package as it must lie on a host.
type packaged struct {
	path string
	mode fs.FileMode
}

// rpmInstalled installs a package into an empty root, without its scriptlets: there is no shell in it.
func rpmInstalled(t *testing.T, file string) (root string) {
	t.Helper()
	root = t.TempDir()
	tool(t, "rpm", "-i", "--root", root, "--force-debian", "--nodeps", "--noscripts", file)
	return root
}

func TestRPMPackages(t *testing.T) {
	for name, files := range map[string][]packaged{
		"agent": {
			{"/usr/bin/reeve-agent", 0o755}, {"/usr/lib/systemd/system/reeve-agent.service", 0o644}, {"/etc/reeve/agent.yaml", 0o640},
			{"/usr/share/man/man8/reeve-agent.8", 0o644}, {"/etc/reeve/keys", fs.ModeDir | 0o700}, {"/var/lib/reeve-agent", fs.ModeDir | 0o700},
		},
		"coordinator": {
			{"/usr/bin/reeve-coordinator", 0o755}, {"/usr/lib/systemd/system/reeve-coordinator.service", 0o644}, {"/etc/reeve/coordinator.yaml", 0o640},
			{"/usr/share/reeve/reeve-agent.deb", 0o644}, {"/var/lib/reeve-coordinator", fs.ModeDir | 0o700},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			file := built(t, "reeve-"+name+"-[0-9]*.x86_64.rpm")
			scripts := tool(t, "rpm", "-qp", "--nosignature", "--scripts", file)
			for tag, source := range map[string]string{"postinstall": "post", "preuninstall": "preun", "postuninstall": "postun"} {
				text, err := os.ReadFile(filepath.Join(top, "packaging", name, "rpm", source))
				if err != nil {
					t.Fatal(err)
				}
				if !strings.Contains(scripts, tag+" scriptlet") || !strings.Contains(scripts, strings.TrimSpace(string(text))) {
					t.Errorf("the package lacks scriptlet %s as in rpm/%s; it has:\n%s", tag, source, scripts)
				}
			}
			if got, want := tool(t, "rpm", "-qp", "--nosignature", "--configfiles", file), "/etc/reeve/"+name+".yaml"; got != want {
				t.Errorf("got settings %q, want %q to be kept", got, want)
			}
			root := rpmInstalled(t, file)
			for _, f := range files {
				info, err := os.Stat(filepath.Join(root, f.path))
				if err != nil {
					t.Error(err)
				} else if info.Mode() != f.mode {
					t.Errorf("%s: got mode %s, want %s", f.path, info.Mode(), f.mode)
				}
			}
			if keys, _ := filepath.Glob(filepath.Join(root, "etc/reeve/keys/*")); len(keys) != 0 {
				t.Errorf("the package brings keys: %q", keys)
			}
			if out, err := exec.Command(filepath.Join(root, "usr/bin/reeve-"+name), "version").Output(); err != nil || !bytes.HasPrefix(out, []byte("reeve-"+name+" ")) {
				t.Errorf("version: got %q, %v", out, err)
			}
		})
	}
}

// TestRPMScriptletsOfTheAgent runs the scriptlets where they have a systemd to talk to, with the arguments that rpm gives:
// how many versions there will be. Debian's rpm has no database of what else is installed, so it does not do that itself.
func TestRPMScriptletsOfTheAgent(t *testing.T) {
	t.Parallel()
	h := hosts.Boot(t, hosts.Options{Name: "rpm"})
	file := built(t, "reeve-agent-[0-9]*.x86_64.rpm")
	archive := filepath.Join(t.TempDir(), "root.tar")
	tool(t, "tar", "-C", rpmInstalled(t, file), "-cf", archive, "etc/reeve", "usr", "var/lib/reeve-agent")
	h.CopyIn(t, archive, "/tmp/root.tar")
	unpack := func() { h.Exec(t, "tar", "-C", "/", "--keep-directory-symlink", "-xpf", "/tmp/root.tar") }
	scriptlet := func(tag, count string) {
		t.Helper()
		body := tool(t, "rpm", "-qp", "--nosignature", "--qf", fmt.Sprintf("%%{%s}", tag), file)
		h.WriteFile(t, "/tmp/scriptlet", 0o755, []byte(body+"\n"))
		h.Exec(t, "/bin/sh", "/tmp/scriptlet", count)
	}
	pid := func() string { return h.Exec(t, "systemctl", "show", agentUnit, "-p", "MainPID", "--value") }

	unpack()
	scriptlet("POSTIN", "1")
	wantText(t, h, "active", "systemctl", "is-active", agentUnit)
	wantText(t, h, "enabled", "systemctl", "is-enabled", agentUnit)
	wantText(t, h, "600 root root", "stat", "-c", "%a %U %G", agentKeyFile)
	answersCPUStat(t, h)
	key, first := string(h.ReadFile(t, agentKeyFile)), pid()

	unpack() // an upgrade: new files, post of the new package, preun and postun of the old one
	scriptlet("POSTIN", "2")
	scriptlet("PREUN", "1")
	scriptlet("POSTUN", "1")
	wantText(t, h, "active", "systemctl", "is-active", agentUnit)
	wantText(t, h, "enabled", "systemctl", "is-enabled", agentUnit)
	if pid() == first {
		t.Error("the old process still runs after the upgrade")
	}
	if string(h.ReadFile(t, agentKeyFile)) != key {
		t.Error("the upgrade changed the key")
	}
	answersCPUStat(t, h)

	scriptlet("PREUN", "0")
	h.Exec(t, "rm", "/usr/bin/reeve-agent", "/usr/lib/systemd/system/"+agentUnit)
	scriptlet("POSTUN", "0")
	if out, err := h.Try(t, "systemctl", "cat", agentUnit); err == nil {
		t.Errorf("systemd still knows the unit: %s", out)
	}
	if out, err := h.Try(t, "pgrep", "-x", "reeve-agent"); err == nil {
		t.Errorf("processes are left: %s", out)
	}
	if left := h.Exec(t, "find", "/etc/systemd", "-name", agentUnit); left != "" {
		t.Errorf("links are left: %s", left)
	}
	if string(h.ReadFile(t, agentKeyFile)) != key {
		t.Error("the removal took the key")
	}
}
