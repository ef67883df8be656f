//go:build e2e

package e2e

import (
	"crypto/ed25519"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"
)

// orchestratorCaller is a caller of the Orchestrator API with a token.
type orchestratorCaller struct {
	*site
	token string
}

func (s *site) orchestrator(t *testing.T) orchestratorCaller {
	t.Helper()
	credentials, _ := json.Marshal(map[string]string{"username": s.admin.Email, "password": s.admin.Password})
	_, answer := s.curl(t, "POST", "/api/v1/auth", string(credentials))
	token, _ := answer.(map[string]any)["token"].(string)
	if token == "" {
		t.Fatalf("no token in %v", answer)
	}
	return orchestratorCaller{s, token}
}

func (o orchestratorCaller) try(t *testing.T, method, path, body string) (int, map[string]any) {
	t.Helper()
	status, answer := o.curl(t, method, "/api/v1"+path, body, "X-Auth-Token: "+o.token)
	m, _ := answer.(map[string]any)
	return status, m
}

func (o orchestratorCaller) must(t *testing.T, method, path, body string) map[string]any {
	t.Helper()
	status, m := o.try(t, method, path, body)
	if status != 200 || m["status"] != "ok" {
		t.Fatalf("%s %s %s: got %d %v", method, path, body, status, m)
	}
	return m
}

// node is the row of a cloud's node, nil when there is none.
func (o orchestratorCaller) node(t *testing.T, cloud, id string) map[string]any {
	t.Helper()
	rows, _ := o.must(t, "GET", "/nodes/"+cloud, "")["nodes"].([]any)
	for _, r := range rows {
		if m, _ := r.(map[string]any); m["id"] == id {
			return m
		}
	}
	return nil
}

// allocation is the row of a node in the pool, nil when there is none.
func (o orchestratorCaller) allocation(t *testing.T, cloud, id string) map[string]any {
	t.Helper()
	rows, _ := o.must(t, "GET", "/vm/status/"+cloud, "")["nodes"].([]any)
	for _, r := range rows {
		if m, _ := r.(map[string]any); m["id_vm"] == id {
			return m
		}
	}
	return nil
}

// sshKey is a key pair of somebody.
func sshKey(t *testing.T) (ssh.Signer, string) {
	t.Helper()
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := ssh.NewSignerFromKey(private)
	if err != nil {
		t.Fatal(err)
	}
	return signer, string(ssh.MarshalAuthorizedKey(signer.PublicKey()))
}

// sshRun logs in and runs one command.
func sshRun(addr, user string, key ssh.Signer, command string) (string, error) {
	conn, err := net.DialTimeout("tcp", net.JoinHostPort(addr, "22"), 10*time.Second)
	if err != nil {
		return "", err
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(20 * time.Second))
	c, channels, requests, err := ssh.NewClientConn(conn, addr, &ssh.ClientConfig{User: user, Auth: []ssh.AuthMethod{ssh.PublicKeys(key)},
		HostKeyCallback: ssh.InsecureIgnoreHostKey()})
	if err != nil {
		return "", err
	}
	client := ssh.NewClient(c, channels, requests)
	defer client.Close()
	session, err := client.NewSession()
	if err != nil {
		return "", err
	}
	out, err := session.CombinedOutput(command)
	return strings.TrimSpace(string(out)), err
}

func frontPage(addr string) (int, string) {
	answer, err := http.Get("http://" + addr + "/")
	if err != nil {
		return 0, err.Error()
	}
	defer answer.Body.Close()
	body, _ := io.ReadAll(answer.Body)
	return answer.StatusCode, string(body)
}

// TestOrchestratorHandsNodesOver starts a node with a key, assigns it to a user for an application, works on it as that
// user, and releases it.
func TestOrchestratorHandsNodesOver(t *testing.T) {
	t.Parallel()
	s := newSite(t, 43)
	s.start(0)
	s.nodeWith("router")
	o := s.orchestrator(t)
	key, public := sshKey(t)
	add := s.command("key", "add", "--user", s.admin.Email, "--name", "laptop", "-")
	add.Stdin = strings.NewReader(public)
	if out, err := add.CombinedOutput(); err != nil || !strings.HasPrefix(string(out), "SHA256:") {
		t.Fatalf("key add: %v %s", err, out)
	}

	start := `{"image": "debian-12-reeve", "name": "web-1", "size": "s", "keyname": %q}`
	if status, m := o.try(t, "POST", "/vm/start/nspawn", fmt.Sprintf(start, "desktop")); status != 500 || m["message"] != "Something went wrong no useful keyname here" {
		t.Errorf("an unknown keyname: got %d %v", status, m)
	}
	n, _ := o.must(t, "POST", "/vm/start/nspawn", fmt.Sprintf(start, "laptop"))["nodes"].(map[string]any)
	id, _ := n["id"].(string)
	addresses, _ := n["private_ips"].([]any)
	if id == "" || len(addresses) == 0 {
		t.Fatalf("got %v", n)
	}
	addr := addresses[0].(string)
	row := o.allocation(t, "nspawn", id)
	if row == nil || row["status"] != 1.0 || row["status_desc"] != "FREE" || row["user"] != "" {
		t.Errorf("got the row %v, want a free node", row)
	}

	if status, m := o.try(t, "PUT", "/vm/action/assign/nspawn", fmt.Sprintf(`{"node": %q, "user": "dora", "vm_type": "cobol"}`, id)); status != 400 || !strings.Contains(fmt.Sprint(m["message"]), "phpmysql") {
		t.Errorf("an unknown vm_type: got %d %v, want a refusal that names the known ones", status, m)
	}
	if status, m := o.try(t, "PUT", "/vm/action/assign/nspawn", fmt.Sprintf(`{"node": %q, "user": "root", "vm_type": "php"}`, id)); status != 400 || !strings.Contains(fmt.Sprint(m["message"]), "root") {
		t.Errorf("a user that the system has: got %d %v, want a refusal that says so", status, m)
	}
	if row := o.allocation(t, "nspawn", id); row["status_desc"] != "FREE" {
		t.Errorf("got the row %v after refusals, want a free node", row)
	}
	// The node may still be booting; the assignment waits for it.
	got := o.must(t, "PUT", "/vm/action/assign/nspawn", fmt.Sprintf(`{"node": %q, "user": "dora", "vm_type": "phpmysql"}`, id))
	if got["id_vm"] != id || got["result"] != "Node web-1 assigned" {
		t.Errorf("got %v", got)
	}
	if row := o.allocation(t, "nspawn", id); row["status_desc"] != "ASSIGNED" || row["user"] != "dora" || row["recipe"] != "phpmysql" {
		t.Errorf("got the row %v, want it assigned", row)
	}
	if out, err := sshRun(addr, "root", key, "hostname"); err != nil || out != "web-1" {
		t.Errorf("root with the key of keyname: got %q, %v", out, err)
	}
	if status, body := frontPage(addr); status != 200 || strings.Contains(body, "Apache2 Debian") {
		t.Errorf("got page %d %s, want the placeholder", status, body)
	}
	script := `cd ~/current/htdocs && rm -f * && printf '%s' '<?php $c = new mysqli(getenv("MYSQL_HOST"), getenv("MYSQL_USER"), getenv("MYSQL_PASSWORD"), getenv("MYSQL_DATABASE"));
		$c->query("CREATE TABLE IF NOT EXISTS t (n INT)"); $c->query("INSERT INTO t VALUES (42)"); echo "n=", $c->query("SELECT n FROM t")->fetch_row()[0];' >index.php && echo $USER`
	if out, err := sshRun(addr, "dora", key, script); err != nil || out != "dora" {
		t.Errorf("dora's login: got %q, %v", out, err)
	}
	if status, body := frontPage(addr); status != 200 || body != "n=42" {
		t.Errorf("got page %d %q, want what dora wrote, with its database", status, body)
	}
	if out, err := sshRun(addr, "dora", key, "cat /etc/reeve/keys/default"); err == nil {
		t.Errorf("dora can read the agent's key: %s", out)
	}
	if status, m := o.try(t, "PUT", "/vm/action/assign/nspawn", `{"hostname": "web-1", "user": "emil", "vm_type": "php"}`); status != 400 {
		t.Errorf("assigned twice: got %d %v", status, m)
	}
	got = o.must(t, "PUT", "/vm/action/release/nspawn", `{"hostname": "web-1"}`)
	if got["result"] != "Node web-1 released and deleted" || got["id_vm"] != id {
		t.Errorf("got %v", got)
	}
	if o.node(t, "nspawn", id) != nil || o.allocation(t, "nspawn", id) != nil {
		t.Error("the released node is still listed")
	}
	if _, err := net.DialTimeout("tcp", net.JoinHostPort(addr, "22"), time.Second); err == nil {
		t.Error("the released node still answers")
	}
}
