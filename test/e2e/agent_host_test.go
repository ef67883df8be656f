//go:build e2e

package e2e

import (
	"context"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/reeve-paas/reeve/agent/agentclient"
	"github.com/reeve-paas/reeve/crypto/envelope"
	"github.com/reeve-paas/reeve/test/hosts"
)

// TestMain is in coordinator_test.go.

// connect returns a client of a host's agent, once the agent listens.
func connect(t testing.TB, h *hosts.Host, raw []byte) *agentclient.Client {
	t.Helper()
	key, err := envelope.NewKey(raw)
	if err != nil {
		t.Fatal(err)
	}
	c, err := agentclient.New(h.AgentURL(), key, &agentclient.Options{Timeout: 40 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	awaitPort(t, netip.AddrPortFrom(h.Addr, 8010))
	return c
}

// awaitPort waits until somebody listens.
func awaitPort(t testing.TB, addr netip.AddrPort) {
	t.Helper()
	hosts.Eventually(t, addr.String()+" accepts connections", func() bool {
		c, err := net.DialTimeout("tcp", addr.String(), time.Second)
		if err != nil {
			return false
		}
		c.Close()
		return true
	})
}

// page fetches a page under a name, with a connection of its own; the status is 0 when nobody answers.
func page(ctx context.Context, addr netip.AddrPort, name, path string) (int, string) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+addr.String()+path, nil)
	if err != nil {
		return 0, err.Error()
	}
	req.Host, req.Close = name, true
	answer, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		return 0, err.Error()
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	if err != nil {
		return 0, err.Error()
	}
	return answer.StatusCode, string(body)
}

// wantPage fails the test when a name does not answer 200 with the text.
func wantPage(t testing.TB, addr netip.AddrPort, name, text string) {
	t.Helper()
	if code, body := page(t.Context(), addr, name, "/"); code != 200 || !strings.Contains(body, text) {
		t.Errorf("http://%s/ on %s: got %d %.300q, want 200 with %q", name, addr, code, body, text)
	}
}

// built is a file that `make package` makes in dist/, by its name or a pattern.
func built(t testing.TB, pattern string) string {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(top, "dist", pattern))
	if err != nil || len(found) != 1 {
		t.Fatalf("dist/%s: got %q, %v, want one file; run: make package", pattern, found, err)
	}
	return found[0]
}

// tool runs a program of this machine and returns what it printed.
func tool(t testing.TB, argv ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), argv[0], argv[1:]...)
	cmd.Env = append(os.Environ(), "LC_ALL=C")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%s", strings.Join(argv, " "), err, out)
	}
	return strings.TrimSpace(string(out))
}

// wantText fails the test when a command in the host does not print exactly this.
func wantText(t testing.TB, h *hosts.Host, want string, argv ...string) {
	t.Helper()
	if got, err := h.Try(t, argv...); got != want {
		t.Errorf("%s: got %q, %v, want %q", strings.Join(argv, " "), got, err, want)
	}
}
