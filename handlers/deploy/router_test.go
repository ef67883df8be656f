package deploy

import (
	"os"
	"strings"
	"testing"

	"github.com/reeve-paas/reeve/handlers"
	"github.com/reeve-paas/reeve/handlers/host"
	"github.com/reeve-paas/reeve/handlers/host/hosttest"
)

const unknownFile = "/etc/nginx/conf.d/reeve-unknown-hosts.conf"

// nginxHost is a host with Debian's nginx as its package leaves it. dump is what its configuration says besides.
func nginxHost(t *testing.T, dump string) *hosttest.Host {
	h := hosttest.New(t)
	h.Units.SetRunning("nginx.service")
	for _, dir := range []string{"/etc/nginx/conf.d", "/etc/nginx/sites-enabled", "/etc/nginx/sites-available"} {
		if err := h.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink("/etc/nginx/sites-available/default", h.Path("/etc/nginx/sites-enabled/default")); err != nil {
		t.Fatal(err)
	}
	h.Runner.Print("nginx", dump)
	return h
}

func TestPrepareRouter(t *testing.T) {
	t.Run("names without a route get an answer of their own", func(t *testing.T) {
		h := nginxHost(t, "server {\n    listen 80;\n}\n")
		s := New(Options{Host: h.Host})
		for range 2 { // and again without further effect
			if _, err := s.PrepareRouter(t.Context(), handlers.NoParams{}); err != nil {
				t.Fatal(err)
			}
		}
		text, err := h.ReadFile(unknownFile)
		for _, want := range []string{"listen 80 default_server", "listen 443 ssl default_server", "ssl_reject_handshake on"} {
			if err != nil || !strings.Contains(string(text), want) {
				t.Errorf("got %q, %v, want %q", text, err, want)
			}
		}
		if h.Exists("/etc/nginx/sites-enabled/default") {
			t.Error("the packaged default site still claims every name")
		}
		if !h.Units.Enabled("nginx.service") {
			t.Error("nginx does not start at boot")
		}
	})
	t.Run("an operator's default server stays", func(t *testing.T) {
		h := nginxHost(t, "server {\n\tlisten 0.0.0.0:80 backlog=64 default_server;\n\tlisten 443 ssl;\n}\n")
		if _, err := New(Options{Host: h.Host}).PrepareRouter(t.Context(), handlers.NoParams{}); err != nil {
			t.Fatal(err)
		}
		if text := h.Text(unknownFile); strings.Contains(text, "listen 80 ") || !strings.Contains(text, "listen 443 ") {
			t.Errorf("got %s, want the default server of port 443 only: nginx would refuse a second one", text)
		}
	})
	t.Run("nothing is written where an operator set up both", func(t *testing.T) {
		h := nginxHost(t, "server {\n\tlisten 80 default_server;\n\tlisten *:443 ssl default_server;\n}\n")
		if _, err := New(Options{Host: h.Host}).PrepareRouter(t.Context(), handlers.NoParams{}); err != nil {
			t.Fatal(err)
		}
		if h.Exists(unknownFile) {
			t.Errorf("got %s", h.Text(unknownFile))
		}
	})
	t.Run("what an older agent wrote is brought up to date at the start, once", func(t *testing.T) {
		old := "server {\n\tlisten 80 default_server;\n}\n"
		h := nginxHost(t, "")
		h.Runner.Handle("nginx", func(c host.Cmd) (host.Output, error) {
			return host.Output{Stdout: []byte("# configuration file " + h.Path(unknownFile) + ":\n" + old + "\n# configuration file /x:\nserver { listen 80; }\n")}, nil
		})
		h.WriteText(unknownFile, old)
		s := New(Options{Host: h.Host})
		if err := s.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		if text := h.Text(unknownFile); strings.Count(text, "default_server") != 2 {
			t.Errorf("got %s, want both default servers", text)
		}
		h.ClearCalls()
		if err := s.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		if calls := strings.Join(h.Calls(), "\n"); strings.Contains(calls, "nginx") {
			t.Errorf("a second start did %s", calls)
		}
	})
	t.Run("a host that is no router is left alone at the start", func(t *testing.T) {
		h := nginxHost(t, "")
		if err := New(Options{Host: h.Host}).Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		if h.Exists(unknownFile) {
			t.Error("it became a router")
		}
	})
	t.Run("a refused configuration leaves everything as it was", func(t *testing.T) {
		h := nginxHost(t, "")
		h.Runner.Handle("nginx", func(c host.Cmd) (host.Output, error) {
			if c.Args[0] == "-t" {
				return host.Output{Code: 1, Stderr: []byte("emerg")}, nil
			}
			return host.Output{}, nil
		})
		if _, err := New(Options{Host: h.Host}).PrepareRouter(t.Context(), handlers.NoParams{}); err == nil {
			t.Fatal("got no error")
		}
		if h.Exists(unknownFile) || !h.Exists("/etc/nginx/sites-enabled/default") {
			t.Error("the host is not as it was")
		}
	})
}
