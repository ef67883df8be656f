//go:build e2e

package e2e

import (
	"crypto/ed25519"
	"crypto/rand"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/reeve-paas/reeve/coordinator/core"
	"github.com/reeve-paas/reeve/test/hosts"
)

// metal is machines without an agent, and a coordinator that they can reach over TLS.
type metal struct {
	orchestratorCaller
	hosts   []*hosts.Host
	keyFile string // of a key that is let in as root
	url     string // TLS
}

func newMetal(t *testing.T, machines int, more ...string) *metal {
	t.Helper()
	private, public := sshKeyFile(t)
	m := &metal{keyFile: private}
	cloud := hosts.NewCloud(t, false)
	for i := range machines {
		m.hosts = append(m.hosts, cloud.Boot(t, hosts.Options{Name: fmt.Sprintf("metal-%d", i),
			Files: []core.BootstrapFile{{Path: "/root/.ssh/authorized_keys", Mode: 0o600, Data: []byte(public)}}}))
	}
	gateway := cloud.Subnet.Addr().Next()
	port := freePort(t)
	m.url = fmt.Sprintf("https://%s:%d", gateway, port)
	s := newSiteWith(t, fmt.Sprintf(`agent_package: %s/dist/reeve-agent.deb
public_url: %s
clouds:
  static: {engine: static}
  fake_driver: {engine: fake}
default_cloud: static
%s`, top, m.url, strings.Join(more, "")))
	config, err := os.ReadFile(s.config)
	if err != nil {
		t.Fatal(err)
	}
	text := strings.Replace(string(config), `listen: ""`, fmt.Sprintf(`listen: ":%d"`, port), 1)
	if err := os.WriteFile(s.config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	s.start(0)
	m.orchestratorCaller = s.orchestrator(t)
	return m
}

// sshKeyFile is a key pair of somebody, the private one in a file.
func sshKeyFile(t *testing.T) (file, public string) {
	t.Helper()
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	block, err := ssh.MarshalPrivateKey(private, "")
	if err != nil {
		t.Fatal(err)
	}
	signer, err := ssh.NewSignerFromKey(private)
	if err != nil {
		t.Fatal(err)
	}
	file = filepath.Join(t.TempDir(), "id")
	if err := os.WriteFile(file, pem.EncodeToMemory(block), 0o600); err != nil {
		t.Fatal(err)
	}
	return file, string(ssh.MarshalAuthorizedKey(signer.PublicKey()))
}

// reeve runs a short command and returns what it printed.
func (m *metal) reeve(args ...string) (string, error) {
	out, err := m.command(args...).Output()
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		err = fmt.Errorf("%w: %s", err, exit.Stderr)
	}
	return string(out), err
}

var fingerprint = regexp.MustCompile(`SHA256:[A-Za-z0-9+/]{43}`)

// TestStaticMachines takes machines that exist in and out: over SSH and with a token. They are handed over as any node is.
func TestStaticMachines(t *testing.T) {
	t.Parallel()
	m := newMetal(t, 2)
	first, second := m.hosts[0], m.hosts[1]
	over := []string{"node", "enroll", "--name", "web-1", "--host", first.Addr.String(), "--key", m.keyFile, "--known-hosts", "/dev/null"}

	t.Run("on first contact the host key has to be confirmed", func(t *testing.T) {
		_, err := m.reeve(over...)
		shown := fingerprint.FindString(fmt.Sprint(err))
		if own := first.Exec(t, "ssh-keygen", "-lf", "/etc/ssh/ssh_host_ed25519_key.pub"); shown == "" || !strings.Contains(own, shown) {
			t.Fatalf("got %v, want the fingerprint of %s", err, own)
		}
		if _, err := m.reeve(append(over, "--host-key", "SHA256:"+strings.Repeat("A", 43))...); err == nil || !strings.Contains(err.Error(), "stand in between") {
			t.Errorf("another fingerprint: got %v", err)
		}
		if out, err := first.Try(t, "ls", "/etc/reeve"); err == nil {
			t.Errorf("something was written before that: %s", out)
		}
		over = append(over, "--host-key", shown)
	})
	t.Run("over SSH, and again", func(t *testing.T) {
		for range 2 {
			if out, err := m.reeve(over...); err != nil || !strings.HasPrefix(out, "web-1 is enrolled") {
				t.Fatalf("got %s, %v", out, err)
			}
		}
		if out, err := m.reeve("node", "call", "web-1", "system.get_hostname"); err != nil || strings.TrimSpace(out) != `"metal-0"` {
			t.Errorf("got %s, %v", out, err)
		}
		if out, err := m.reeve("node", "call", "web-1", "system.scaling_metrics"); err != nil || strings.TrimSpace(out) != "[]" {
			t.Errorf("its agent asks us: got %s, %v", out, err)
		}
		if row := m.node(t, "static", "web-1"); row == nil || row["name"] != "web-1" || row["state"] != 0.0 || row["provider"] != "static" {
			t.Errorf("got the node %v", row)
		}
		if row := m.allocation(t, "static", "web-1"); row == nil || row["status_desc"] != "FREE" {
			t.Errorf("got the row %v, want a free node", row)
		}
	})
	t.Run("with a token, once", func(t *testing.T) {
		out, err := m.reeve("node", "enroll", "--name", "web-2", "--token")
		if err != nil {
			t.Fatal(err)
		}
		token, rest, _ := strings.Cut(out, "\n")
		var script []string
		for line := range strings.Lines(rest) { // what the administrator is told to run, as it is
			if line = strings.TrimSpace(line); strings.HasPrefix(line, "curl ") || strings.HasPrefix(line, "echo ") || strings.HasPrefix(line, "sh ") {
				script = append(script, line)
			}
		}
		if len(script) != 3 || !strings.HasPrefix(token, "enroll-") {
			t.Fatalf("got %s", out)
		}
		second.WriteFile(t, "/root/token", 0o600, []byte(token+"\n"))
		second.WriteFile(t, "/root/run.sh", 0o700, []byte("set -e\ncd /root\n"+strings.Join(script, "\n")+" </root/token\n"))
		if said := second.Exec(t, "sh", "/root/run.sh"); !strings.Contains(said, "this host is node web-2") {
			t.Errorf("got %s", said)
		}
		m.await(time.Minute, "the coordinator to take the machine in", func() (bool, string) {
			row := m.allocation(t, "static", "web-2")
			return row != nil && row["status_desc"] == "FREE", fmt.Sprint(row)
		})
		if out, err := m.reeve("node", "call", "web-2", "system.get_hostname"); err != nil || strings.TrimSpace(out) != `"metal-1"` {
			t.Errorf("got %s, %v", out, err)
		}
		if out, err := m.reeve("node", "call", "web-2", "system.scaling_metrics"); err != nil || strings.TrimSpace(out) != "[]" {
			t.Errorf("its agent asks us: got %s, %v", out, err)
		}
		if got := second.Exec(t, "stat", "-c", "%a", "/etc/reeve/keys/default", "/etc/reeve/enrolled"); got != "600\n600" {
			t.Errorf("got modes %s", got)
		}
		words := strings.Fields(script[2])
		again := "reeve-agent enroll --force --url " + m.url + " --ca-sha256 " + words[len(words)-1] + " </root/token 2>&1"
		if out := second.Exec(t, "sh", "-c", again+" || true"); !strings.Contains(out, "the token is not valid") {
			t.Errorf("the token a second time: got %s", out)
		}
		other := strings.Replace(again, "--ca-sha256 ", "--ca-sha256 00", 1)
		if out := second.Exec(t, "sh", "-c", other+" || true"); !strings.Contains(out, "somebody may stand in between") {
			t.Errorf("another authority: got %s", out)
		}
		if out, err := m.reeve("node", "call", "web-2", "system.get_hostname"); err != nil {
			t.Errorf("after that the agent has another key: %s, %v", out, err)
		}
	})
	t.Run("handed over, and taken back clean", func(t *testing.T) {
		for i, h := range m.hosts {
			name := fmt.Sprintf("web-%d", i+1)
			before := traces(t, h)
			for _, user := range []string{"dora", "emil"} { // the second finds nothing of the first
				m.must(t, "PUT", "/vm/action/assign/static", fmt.Sprintf(`{"hostname": %q, "user": %q, "vm_type": "phpmysql"}`, name, user))
				if status, body := frontPage(h.Addr.String()); status != 200 || strings.Contains(body, "Apache2 Debian") {
					t.Errorf("%s: got page %d %.200s", name, status, body)
				}
				if out := h.Exec(t, "id", user); !strings.Contains(out, "app-n") {
					t.Errorf("%s: got %s", name, out)
				}
				got := m.must(t, "PUT", "/vm/action/release/static", fmt.Sprintf(`{"node": %q}`, name))
				if got["result"] != "Node "+name+" released" {
					t.Errorf("got %v", got)
				}
				if row := m.allocation(t, "static", name); row == nil || row["status_desc"] != "FREE" || row["user"] != "" || row["recipe"] != "" {
					t.Errorf("got the row %v, want a free node", row)
				}
				if after := traces(t, h); after != before {
					t.Errorf("%s after %s: got\n%s\nwant\n%s", name, user, after, before)
				}
			}
		}
	})
	t.Run("a full disk leaves the node free, and the next try succeeds", func(t *testing.T) {
		before := traces(t, first)
		first.Exec(t, "mkdir", "-p", "/srv/apps")
		first.Exec(t, "mount", "-t", "tmpfs", "-o", "size=4k,nr_inodes=6", "tmpfs", "/srv/apps")
		assign := `{"node": "web-1", "user": "dora", "vm_type": "php"}`
		status, answer := m.try(t, "PUT", "/vm/action/assign/static", assign)
		if status != 400 || !strings.Contains(fmt.Sprint(answer["message"]), "no space left on device") {
			t.Errorf("got %d %v, want what the machine lacks", status, answer)
		}
		first.Exec(t, "umount", "/srv/apps")
		if row := m.allocation(t, "static", "web-1"); row["status_desc"] != "FREE" {
			t.Errorf("got the row %v, want a free node", row)
		}
		if after := traces(t, first); after != before {
			t.Errorf("got\n%s\nwant\n%s", after, before)
		}
		m.must(t, "PUT", "/vm/action/assign/static", assign)
		m.must(t, "PUT", "/vm/action/release/static", `{"node": "web-1"}`)
	})
	t.Run("an enrolment without room is taken back, and the next try succeeds", func(t *testing.T) {
		m.must(t, "PUT", "/vm/stop/static", `{"node": "web-1"}`)
		first.Exec(t, "mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", "/var/cache")
		if _, err := m.reeve(over...); err == nil || !strings.Contains(err.Error(), "No space left on device") {
			t.Errorf("got %v, want what the machine lacks", err)
		}
		first.Exec(t, "umount", "/var/cache")
		if out, err := first.Try(t, "ls", "/etc/reeve"); err == nil {
			t.Errorf("it left %s", out)
		}
		if m.node(t, "static", "web-1") != nil {
			t.Error("the machine is listed")
		}
		if out, err := m.reeve(over...); err != nil {
			t.Errorf("the next try: %s, %v", out, err)
		}
	})
	t.Run("stopped, they are no nodes any more, and go on running", func(t *testing.T) {
		for i, h := range m.hosts {
			name := fmt.Sprintf("web-%d", i+1)
			if got := m.must(t, "PUT", "/vm/stop/static", fmt.Sprintf(`{"node": %q}`, name))["result"]; got != "Node "+name+" deleted" {
				t.Errorf("got %v", got)
			}
			if m.node(t, "static", name) != nil || m.allocation(t, "static", name) != nil {
				t.Errorf("%s is still listed", name)
			}
			hosts.Eventually(t, "the agent has ended", func() bool {
				out, _ := h.Try(t, "systemctl", "is-active", "reeve-agent")
				return out != "active"
			})
			for _, file := range []string{"/etc/reeve/keys/default", "/etc/reeve/enrolled", "/etc/reeve/coordinator-ca.crt", "/etc/systemd/system/reeve-agent.service.d"} {
				if _, err := h.Try(t, "stat", file); err == nil {
					t.Errorf("%s: %s is still there", name, file)
				}
			}
		}
		if left := m.nodes(); len(left) != 0 {
			t.Errorf("got %+v left", left)
		}
	})
	t.Run("vm/start takes a machine that is known", func(t *testing.T) {
		n, _ := m.must(t, "POST", "/vm/start/static", `{"name": "db-1", "image": "existing", "size": "as-it-is", "metadata": {"team": "blue"}}`)["nodes"].(map[string]any)
		if n["id"] != "web-1" || n["name"] != "db-1" {
			t.Errorf("got %v", n)
		}
		if status, answer := m.try(t, "POST", "/vm/start/static", `{"name": "db-2", "image": "existing", "size": "as-it-is"}`); status != 500 || !strings.Contains(fmt.Sprint(answer["message"]), "every machine of this cloud is a node already") {
			t.Errorf("with no machine left: got %d %v", status, answer)
		}
		m.must(t, "PUT", "/vm/stop/static", `{"hostname": "db-1"}`)
	})
}

// traces is what handing over may leave on a machine: accounts, files, databases, services, processes.
func traces(t *testing.T, h *hosts.Host) string {
	t.Helper()
	return h.Exec(t, "sh", "-uc", `cut -d: -f1,2 /etc/passwd /etc/group; cut -d: -f1 /etc/shadow; find /srv/apps /etc/ssh/reeve-keys /etc/ssh/sshd_config.d /var/lib/reeve-agent/deploy -type f 2>/dev/null
		find /etc/reeve /etc/apache2/sites-enabled -name "*web-*"; find /var/lib/mysql -mindepth 1 -type d
		systemctl is-active apache2 mariadb; systemctl is-enabled apache2 mariadb; ps -eo user= | grep -v root | sort -u; exit 0`)
}
