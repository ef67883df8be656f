//go:build e2e

package e2e

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"os/exec"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/txtar"

	"github.com/reeve-paas/reeve/test/wire/orchestrator"
)

// twoDummies are the settings of a site as the Orchestrator document has it.
const twoDummies = `clouds:
  default: {engine: fake}
  fake_driver: {engine: fake}
app_cloud: fake_driver
`

// curl sends a request as the document's examples do, and returns the status with the body's JSON.
func (s *site) curl(t *testing.T, method, path, body string, headers ...string) (status int, answer any) {
	t.Helper()
	args := []string{"-sS", "-m", "60", "-X", method, "-H", "Content-Type: application/json", "-w", "\n%{http_code}"}
	for _, h := range headers {
		args = append(args, "-H", h)
	}
	if body != "" {
		args = append(args, "-d", body)
	}
	out, err := exec.CommandContext(t.Context(), "curl", append(args, s.url+path)...).Output()
	if err != nil {
		t.Fatalf("curl %s %s: %v", method, path, err)
	}
	text := string(out)
	at := strings.LastIndexByte(text, '\n')
	if _, err := fmt.Sscan(text[at+1:], &status); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal([]byte(text[:at]), &answer); err != nil {
		t.Fatalf("%s %s: %v\n%s", method, path, err, text)
	}
	return status, answer
}

func TestOrchestratorDocumentWithCurl(t *testing.T) {
	t.Parallel()
	s := newSiteWith(t, twoDummies)
	s.start(0)
	document, err := txtar.ParseFile(filepath.Join("..", "wire", "orchestrator", "testdata", "document.txtar"))
	if err != nil {
		t.Fatal(err)
	}
	if len(document.Files) != 3*18 {
		t.Fatalf("got %d parts, want those of 18 exchanges", len(document.Files))
	}
	for i := 0; i < len(document.Files); i += 3 { // in the document's order: later ones see what earlier ones did
		request, status, want := document.Files[i], document.Files[i+1], document.Files[i+2]
		t.Run(strings.TrimSuffix(request.Name, ".request"), func(t *testing.T) {
			line, body, _ := strings.Cut(string(request.Data), "\n")
			method, path, _ := strings.Cut(line, " ")
			var wantStatus int
			if _, err := fmt.Sscan(string(status.Data), &wantStatus); err != nil {
				t.Fatal(err)
			}
			var wantAnswer any
			if err := json.Unmarshal(want.Data, &wantAnswer); err != nil {
				t.Fatal(err)
			}
			got, answer := s.curl(t, method, path, strings.TrimSpace(body))
			if got != wantStatus || !reflect.DeepEqual(answer, wantAnswer) {
				t.Errorf("got %d %v, want %d %v", got, answer, wantStatus, wantAnswer)
			}
		})
	}
}

// TestOrchestratorStatements checks every black-box statement of spec orchestrator 6 against processes that just started.
func TestOrchestratorStatements(t *testing.T) {
	t.Parallel()
	orchestrator.Run(t, func(t *testing.T) orchestrator.Target {
		s := newSiteWith(t, twoDummies)
		s.start(0)
		return orchestrator.Target{URL: s.url, Username: s.admin.Email, Password: s.admin.Password}
	})
}

// TestOrchestratorBootsNodes drives the cloud that this machine is, through the document's own paths.
func TestOrchestratorBootsNodes(t *testing.T) {
	t.Parallel()
	s := newSite(t, 42)
	s.start(0)
	s.nodeWith("router")
	machines := len(s.stateEntries("nodes"))
	start := `{"image": "debian-12-reeve", "name": "web-1", "size": "s", "metadata": {"team": "blue", "n": 3}}`

	t.Run("without a token every path answers 401", func(t *testing.T) {
		for _, x := range [][3]string{{"GET", "/nodes/nspawn", ""}, {"GET", "/images/nspawn", ""}, {"GET", "/sizes/nspawn", ""}, {"GET", "/flavors/nspawn", ""},
			{"POST", "/vm/start/nspawn", start}, {"PUT", "/vm/stop/nspawn", `{"node": "1"}`}, {"GET", "/nodes", ""}, {"GET", "/vm/status/nspawn", ""}} {
			for _, header := range []string{"X-Nothing: 1", "X-Auth-Token: wrong"} {
				status, answer := s.curl(t, x[0], "/api/v1"+x[1], x[2], header)
				if o, _ := answer.(map[string]any); status != 401 || o["status"] != "error" || o["status_code"] != 401.0 || o["message"] == "" {
					t.Errorf("%s %s with %s: got %d %v, want 401", x[0], x[1], header, status, answer)
				}
			}
		}
		if got := len(s.stateEntries("nodes")); got != machines {
			t.Errorf("got %d machines, want %d", got, machines)
		}
	})

	credentials, _ := json.Marshal(map[string]string{"username": s.admin.Email, "password": s.admin.Password})
	_, answer := s.curl(t, "POST", "/api/v1/auth", string(credentials))
	token, _ := answer.(map[string]any)["token"].(string)
	if token == "" {
		t.Fatalf("no token in %v", answer)
	}
	call := func(t *testing.T, method, path, body string) map[string]any {
		t.Helper()
		status, answer := s.curl(t, method, "/api/v1"+path, body, "X-Auth-Token: "+token)
		o, _ := answer.(map[string]any)
		if status != 200 || o["status"] != "ok" {
			t.Fatalf("%s %s: got %d %v", method, path, status, answer)
		}
		return o
	}
	row := func(list any, id string) map[string]any {
		rows, _ := list.([]any)
		for _, r := range rows {
			if m, _ := r.(map[string]any); m["id"] == id {
				return m
			}
		}
		return nil
	}

	t.Run("images and sizes are this machine's", func(t *testing.T) {
		if image := row(call(t, "GET", "/images/nspawn", "")["images"], "debian-12-reeve"); image == nil || image["provider"] != "nspawn" {
			t.Errorf("got image %v", image)
		}
		size := row(call(t, "GET", "/sizes/nspawn", "")["flavors"], "s")
		if size == nil || size["ram"] == nil || size["ram"].(float64) < 64 || size["disk"].(float64) < 1 {
			t.Errorf("got size %v", size)
		}
		for _, body := range []string{strings.Replace(start, "debian-12-reeve", "nope", 1), strings.Replace(start, `"s"`, `"nope"`, 1)} {
			if status, answer := s.curl(t, "POST", "/api/v1/vm/start/nspawn", body, "X-Auth-Token: "+token); status < 400 {
				t.Errorf("%s: got %d %v, want a refusal", body, status, answer)
			}
		}
	})
	var id, address string
	t.Run("a started node boots with its name, size and metadata", func(t *testing.T) {
		began, _ := call(t, "POST", "/vm/start/nspawn", start)["nodes"].(map[string]any)
		id, _ = began["id"].(string)
		if id == "" || began["name"] != "web-1" {
			t.Fatalf("got %v", began)
		}
		var now map[string]any
		s.t = t
		s.await(time.Minute, "the node to run", func() (bool, string) {
			now = row(call(t, "GET", "/nodes/nspawn", "")["nodes"], id)
			return now != nil && now["state"] == 0.0, fmt.Sprint(now)
		})
		extra, _ := now["extra"].(map[string]any)
		if metadata, _ := extra["metadata"].(map[string]any); fmt.Sprint(metadata["team"]) != "blue" || fmt.Sprint(metadata["n"]) != "3" {
			t.Errorf("got metadata %v in %v", metadata, now)
		}
		addresses, _ := now["private_ips"].([]any)
		if len(addresses) == 0 || now["name"] != "web-1" || now["provider"] != "nspawn" {
			t.Fatalf("got %v", now)
		}
		address, _ = addresses[0].(string)
		awaitPort(t, netip.AddrPortFrom(netip.MustParseAddr(address), 22))
		out, err := s.command("node", "call", "web-1", "system.get_hostname").Output() // its agent answers with its own key
		if err != nil || strings.TrimSpace(string(out)) != `"web-1"` {
			t.Errorf("got host name %s, %v, want web-1; nodes: %+v", out, err, s.nodes())
		}
		if got := len(s.stateEntries("nodes")); got != machines+1 {
			t.Errorf("got %d machines, want %d", got, machines+1)
		}
	})
	t.Run("a stopped node is gone", func(t *testing.T) {
		if id == "" {
			t.Fatal("no node was started")
		}
		if got := call(t, "PUT", "/vm/stop/nspawn", fmt.Sprintf(`{"node": %q}`, id))["result"]; got != "Node "+id+" deleted" {
			t.Errorf("got %v", got)
		}
		s.t = t
		s.await(time.Minute, "the node to be gone", func() (bool, string) {
			left := s.stateEntries("nodes")
			return row(call(t, "GET", "/nodes/nspawn", "")["nodes"], id) == nil && len(left) == machines, fmt.Sprint(left)
		})
	})
	s.t = t
}
