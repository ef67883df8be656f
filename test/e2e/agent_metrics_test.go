//go:build e2e

package e2e

import (
	"io"
	"net/http"
	"os/exec"
	"strings"
	"testing"

	"github.com/reeve-paas/reeve/agent/agentapi"
	"github.com/reeve-paas/reeve/test/hosts"
)

func TestMetricsAreScrapedFromOutside(t *testing.T) {
	t.Parallel()
	h := hosts.Boot(t, hosts.Options{Name: "scraped", Agent: true})
	c := connect(t, h, h.Key())
	if _, err := c.System().CPUStat(t.Context()); err != nil { // so that there is an RPC to count
		t.Fatal(err)
	}
	if err := c.Apache().Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := c.Nginx().MakeProxy(t.Context(), agentapi.ProxyParams{Hostname: "counted.test", Port: new(agentapi.Text("8080")), Backends: []agentapi.Destination{{Host: "127.0.0.1", Port: "80"}}}); err != nil {
		t.Fatal(err)
	}
	if err := c.Nginx().Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	answer, err := http.Get(h.MetricsURL())
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	data, err := io.ReadAll(answer.Body)
	if err != nil || answer.StatusCode != 200 || !strings.HasPrefix(answer.Header.Get("Content-Type"), "text/plain") {
		t.Fatalf("got %s, %s, %v", answer.Status, answer.Header.Get("Content-Type"), err)
	}
	text := string(data)

	t.Run("promtool finds nothing to say", func(t *testing.T) {
		cmd := exec.Command("promtool", "check", "metrics")
		cmd.Stdin = strings.NewReader(text)
		if out, err := cmd.CombinedOutput(); err != nil || len(out) != 0 {
			t.Errorf("got %v\n%s", err, out)
		}
	})
	t.Run("every collector worked", func(t *testing.T) {
		seen := 0
		for line := range strings.Lines(text) {
			if !strings.HasPrefix(line, "reeve_collector_success{") && !strings.HasPrefix(line, "reeve_scrape_collector_success{") {
				continue
			}
			seen++
			if !strings.HasSuffix(strings.TrimSpace(line), " 1") {
				t.Errorf("got %s", line)
			}
		}
		if seen < 5 {
			t.Errorf("got %d collectors, want all of them:\n%.3000s", seen, text)
		}
	})
	t.Run("the host, its web server and the RPC are in it", func(t *testing.T) {
		for _, want := range []string{`reeve_cpu_`, `reeve_memory_`, `reeve_load`, `reeve_filesystem_`, `reeve_network_`, `apache2.service`, `reeve_rpc_`, `reeve_nginx_requests_total `, `reeve_nginx_connections{state="waiting"}`, `reeve_agent_info{`} {
			if !strings.Contains(text, want) {
				t.Errorf("no %s in the metrics", want)
			}
		}
		if strings.Contains(text, string(h.KeyText())) {
			t.Error("the key is in the metrics")
		}
	})
}
