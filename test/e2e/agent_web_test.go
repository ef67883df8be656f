//go:build e2e

package e2e

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/reeve-paas/reeve/agent/agentapi"
	"github.com/reeve-paas/reeve/agent/agentclient"
	"github.com/reeve-paas/reeve/test/hosts"
)

// hostileNames are names that must not reach a file name or a configuration.
var hostileNames = []string{
	"", "../x", "../../../etc/cron.d/x", "/etc/x", "a/b", "a\nb.test", "a.test\nInclude /etc/shadow", "a;b", "a; }", "{", "a{b", "a b",
	"$(reboot)", "`id`", "a'b", `a"b`, `a\b`, "a\x00b", "..", ".", "-", "a..b", strings.Repeat("a", 300), strings.Repeat("a.", 150) + "test", "a#b", "${jndi}", "<VirtualHost>",
}

// webHost is a host with an agent and both web servers running.
type webHost struct {
	*hosts.Host
	t      *testing.T
	client *agentclient.Client
	apache agentclient.Apache
	nginx  agentclient.Nginx
}

func (w webHost) addr(port uint16) netip.AddrPort { return netip.AddrPortFrom(w.Addr, port) }

// configuration is every file of both servers and of the agent with its content's hash, to see whether anything changed.
func (w webHost) configuration(t *testing.T) string {
	t.Helper()
	return w.Exec(t, "find", "/etc", "/srv", "/usr/local", "/var/www", "-xdev", "-type", "f", "-exec", "sha256sum", "{}", "+")
}

func vhost(name string, port int, root string) string {
	return fmt.Sprintf("<VirtualHost *:%d>\nServerName %s\nDocumentRoot %s\n</VirtualHost>\n", port, name, root)
}

func (w webHost) createVHost(name string, port int, template string) error {
	_, err := w.apache.CreateVHost(w.t.Context(), agentapi.CreateVHostParams{Hostname: name, Port: agentapi.Text(fmt.Sprint(port)), Template: template})
	return err
}

// squat takes a port with a program that the agent does not know, until the end of the test.
func (w webHost) squat(t *testing.T, port string) {
	t.Helper()
	w.Exec(t, "systemd-run", "--collect", "--unit", "squatter-"+port, "systemd-socket-activate", "-l", port, "/bin/cat")
	t.Cleanup(func() { w.Cloud.Exec(t.Context(), w.ID, nil, "systemctl", "stop", "squatter-"+port) })
	hosts.Eventually(t, "port "+port+" is taken", func() bool {
		out, err := w.Try(t, "ss", "-Hltn", "sport", "=", ":"+port)
		return err == nil && out != ""
	})
}

// TestWebServersOnARealHost checks items of spec agent-web 7 with the servers' own units.
func TestWebServersOnARealHost(t *testing.T) {
	t.Parallel()
	h := hosts.Boot(t, hosts.Options{Name: "web", Agent: true, Size: "m"})
	c := connect(t, h, h.Key())
	w := webHost{h, t, c, c.Apache(), c.Nginx()}
	h.WriteFile(t, "/srv/good/index.html", 0o644, []byte("the good site"))
	for _, err := range []error{
		w.createVHost("good.test", 80, vhost("good.test", 80, "/srv/good")),
		w.nginx.MakeProxy(t.Context(), agentapi.ProxyParams{Hostname: "good.test", Port: agentapi.Ptr(agentapi.Text("8080")), Backends: []agentapi.Destination{{Host: "127.0.0.1", Port: "80"}}}),
		w.apache.Start(t.Context()), w.nginx.Start(t.Context()),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	stillServed := func(t *testing.T) {
		t.Helper()
		wantPage(t, w.addr(80), "good.test", "the good site")
		wantPage(t, w.addr(8080), "good.test", "the good site") // 40: through nginx, with the visitor's name
		wantText(t, h, "active\nactive", "systemctl", "is-active", "apache2", "nginx")
	}
	stillServed(t)

	t.Run("17, 18 and 56: a template that does not parse or test changes nothing", func(t *testing.T) {
		before := w.configuration(t)
		for text, template := range map[string]string{
			"NoSuchDirective": "<VirtualHost *:80>\nServerName bad.test\nNoSuchDirective on\n</VirtualHost>\n",
			"":                "<VirtualHost *:80>\nServerName bad.test\n",
		} {
			wantRefusal(t, w.createVHost("bad.test", 80, template), text)
			wantRefusal(t, w.createVHost("good.test", 80, template), text)
		}
		proxy := agentapi.ProxyParams{Hostname: "bad.test", Port: agentapi.Ptr(agentapi.Text("8080"))}
		wantRefusal(t, w.nginx.MakeProxy(t.Context(), proxy), "destinations") // 55
		proxy.Backends = []agentapi.Destination{{Host: "no-such-host.invalid", Port: "80"}}
		wantRefusal(t, w.nginx.MakeProxy(t.Context(), proxy), "")
		proxy.Backends = []agentapi.Destination{{Host: "127.0.0.1", Port: "80"}}
		proxy.Templates = []agentapi.Template{{Content: "no_such_directive on;", Server: true}}
		wantRefusal(t, w.nginx.MakeProxy(t.Context(), proxy), "no_such_directive")
		if after := w.configuration(t); after != before {
			t.Errorf("files changed:\n%s", difference(before, after))
		}
		stillServed(t)
	})
	t.Run("21 and 74: hostile names change nothing", func(t *testing.T) {
		before := w.configuration(t)
		for _, name := range hostileNames {
			wantRefusal(t, w.createVHost(name, 80, vhost("x.test", 80, "/srv/good")), "")
			wantRefusal(t, w.nginx.MakeProxy(t.Context(), proxyTo(name, "v")), "")
		}
		for _, port := range []string{"0", "70000", "80x", "-1", "", "80\nListen 81"} {
			_, err := w.apache.CreateVHost(t.Context(), agentapi.CreateVHostParams{Hostname: "x.test", Port: agentapi.Text(port), Template: vhost("x.test", 80, "/srv/good")})
			wantRefusal(t, err, "")
		}
		for _, d := range []agentapi.Destination{{Host: "127.0.0.1", Port: "80", Location: "/{"}, {Host: "1.2.3.4 backup; server evil", Port: "80"}, {Host: "127.0.0.1", Port: "80; }"}} {
			wantRefusal(t, w.nginx.MakeProxy(t.Context(), agentapi.ProxyParams{Hostname: "x.test", Backends: []agentapi.Destination{d}}), "")
		}
		if after := w.configuration(t); after != before {
			t.Errorf("files changed:\n%s", difference(before, after))
		}
		stillServed(t)
	})
	t.Run("72: a port that another program has is refused", func(t *testing.T) {
		w.squat(t, "8088")
		before := w.configuration(t)
		pids := w.Exec(t, "systemctl", "show", "apache2", "nginx", "-p", "MainPID", "--value")
		wantRefusal(t, w.createVHost("busy.test", 8088, vhost("busy.test", 8088, "/srv/good")), "8088")
		wantRefusal(t, w.nginx.MakeProxy(t.Context(), agentapi.ProxyParams{Hostname: "busy.test", Port: agentapi.Ptr(agentapi.Text("8088")),
			Backends: []agentapi.Destination{{Host: "127.0.0.1", Port: "80"}}}), "8088")
		if after := w.configuration(t); after != before {
			t.Errorf("files changed:\n%s", difference(before, after))
		}
		wantText(t, h, pids, "systemctl", "show", "apache2", "nginx", "-p", "MainPID", "--value")
		stillServed(t)
	})
	t.Run("4, 38 and 73: a configuration that was broken before is said to be", func(t *testing.T) {
		for unit, breakage := range map[string]struct{ file, text string }{
			"apache2": {"/etc/apache2/conf-enabled/broken.conf", "ThisWasBrokenBefore on\n"},
			"nginx":   {"/etc/nginx/conf.d/broken.conf", "this_was_broken_before on;\n"},
		} {
			pid := h.Exec(t, "systemctl", "show", unit, "-p", "MainPID", "--value")
			h.WriteFile(t, breakage.file, 0o644, []byte(breakage.text))
			before := w.configuration(t)
			server, change := w.apache.Service, func() error { return w.createVHost("late.test", 80, vhost("late.test", 80, "/srv/good")) }
			if unit == "nginx" {
				server, change = w.nginx.Service, func() error { return w.nginx.MakeProxy(t.Context(), proxyTo("late.test", "v")) }
			}
			wantRefusal(t, server.ConfigTest(t.Context()), breakage.file)
			wantRefusal(t, server.Restart(t.Context(), ""), breakage.file)
			wantRefusal(t, server.Reload(t.Context(), ""), breakage.file)
			wantRefusal(t, change(), breakage.file)
			if after := w.configuration(t); after != before {
				t.Errorf("files changed:\n%s", difference(before, after))
			}
			wantText(t, h, pid, "systemctl", "show", unit, "-p", "MainPID", "--value")
			stillServed(t)
			h.Exec(t, "rm", breakage.file)
			if err := server.ConfigTest(t.Context()); err != nil {
				t.Error(err)
			}
		}
	})
	t.Run("13, 19, 51 and 52: certificates on disk are served, one that does not fit its key is refused", func(t *testing.T) {
		leaf, cert, key := certificate(t, "secure.test")
		_, _, otherKey := certificate(t, "other.test")
		put := func(id string, key []byte) {
			h.WriteFile(t, "/etc/reeve/private.d/keys/https_"+id+".crt", 0o644, cert)
			h.WriteFile(t, "/etc/reeve/private.d/keys/https_"+id+".key", 0o600, key)
		}
		put("77", key)
		put("78", otherKey)
		template := "<VirtualHost *:443>\nServerName secure.test\nDocumentRoot /srv/good\nSSLEngine on\nSSLCertificateFile /dummy.crt\nSSLCertificateKeyFile /dummy.key\n</VirtualHost>\n"
		tlsVHost := func(id agentapi.Text) error {
			_, err := w.apache.CreateVHost(t.Context(), agentapi.CreateVHostParams{Hostname: "secure.test", Port: "443", Template: template, SSL: true, SSLCertificateID: &id})
			return err
		}
		wantRefusal(t, tlsVHost("78"), "")
		stillServed(t)
		if err := tlsVHost("77"); err != nil {
			t.Fatal(err)
		}
		if got := presented(t, w.addr(443), "secure.test"); !bytes.Equal(got, leaf) {
			t.Error("Apache presents another certificate")
		}
		proxy := agentapi.ProxyParams{Hostname: "secure.test", Port: agentapi.Ptr(agentapi.Text("8080")), HTTP: agentapi.Ptr(agentapi.Bool(false)), SSL: agentapi.Ptr(agentapi.Bool(true)),
			SSLPort: agentapi.Ptr(agentapi.Text("8443")), SSLCertificateID: agentapi.Ptr(agentapi.Text("78")), Backends: []agentapi.Destination{{Host: "127.0.0.1", Port: "80"}}}
		wantRefusal(t, w.nginx.MakeProxy(t.Context(), proxy), "")
		stillServed(t)
		proxy.SSLCertificateID = agentapi.Ptr(agentapi.Text("77"))
		if err := w.nginx.MakeProxy(t.Context(), proxy); err != nil {
			t.Fatal(err)
		}
		if got := presented(t, w.addr(8443), "secure.test"); !bytes.Equal(got, leaf) {
			t.Error("nginx presents another certificate")
		}
		req, _ := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+w.addr(8080).String()+"/a/b?c=d", nil)
		req.Host, req.Close = "secure.test", true
		answer, err := http.DefaultTransport.RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		answer.Body.Close()
		if got, want := answer.Header.Get("Location"), "https://secure.test:8443/a/b?c=d"; answer.StatusCode != 301 || got != want {
			t.Errorf("plain port: got %d to %q, want 301 to %q", answer.StatusCode, got, want)
		}
		stillServed(t)
	})
	t.Run("78: a long download completes across reloads", func(t *testing.T) {
		const size = 24 << 20
		h.Exec(t, "truncate", "-s", fmt.Sprint(size), "/srv/good/long")
		for _, port := range []uint16{80, 8080} {
			req, _ := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+w.addr(port).String()+"/long", nil)
			req.Host, req.Close = "good.test", true
			answer, err := http.DefaultTransport.RoundTrip(req)
			if err != nil {
				t.Fatal(err)
			}
			n, err := io.CopyN(io.Discard, answer.Body, 1<<16)
			if err != nil {
				t.Fatal(err)
			}
			for _, server := range []agentclient.Service{w.apache.Service, w.nginx.Service} {
				if err := server.Reload(t.Context(), "during a download"); err != nil {
					t.Error(err)
				}
			}
			rest, err := io.Copy(io.Discard, answer.Body)
			answer.Body.Close()
			if err != nil || n+rest != size {
				t.Errorf("port %d: got %d bytes, %v, want %d", port, n+rest, err, size)
			}
		}
	})
	t.Run("38, 39 and 74: verbs do what systemd shows", func(t *testing.T) {
		for unit, server := range map[string]agentclient.Service{"apache2": w.apache.Service, "nginx": w.nginx.Service, "mariadb": c.MySQL().Service} {
			t.Run(unit, func(t *testing.T) { checkVerbs(t, h, unit, server) })
		}
		stillServed(t)
	})
	t.Run("1: aliases answer alike", func(t *testing.T) {
		for _, namespace := range []string{"apache", "app", "nginx", "www", "mysql", "mysql2", "mariadb"} {
			if status, err := c.Service(namespace).Status(t.Context()); err != nil || status != 0 {
				t.Errorf("%s: got %d, %v, want 0", namespace, status, err)
			}
		}
	})
	t.Run("68: a restart of the agent forgets nothing", func(t *testing.T) {
		before := w.configuration(t)
		h.Exec(t, "systemctl", "restart", agentUnit)
		awaitPort(t, w.addr(8010))
		if after := w.configuration(t); after != before {
			t.Errorf("files changed:\n%s", difference(before, after))
		}
		stillServed(t)
	})
}

// checkVerbs runs each verb of a service and looks at its unit. The service runs afterwards.
func checkVerbs(t *testing.T, h *hosts.Host, unit string, server agentclient.Service) {
	ctx := t.Context()
	pid := func() string { t.Helper(); return h.Exec(t, "systemctl", "show", unit, "-p", "MainPID", "--value") }
	expect := func(active string, status int) {
		t.Helper()
		if got, _ := h.Try(t, "systemctl", "is-active", unit); got != active {
			t.Errorf("%s: got %s, want %s", unit, got, active)
		}
		if got, err := server.Status(ctx); err != nil || got != status {
			t.Errorf("%s: got status %d, %v, want %d", unit, got, err, status)
		}
	}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatalf("%s: %v", unit, err)
		}
	}
	must(server.Start(ctx))
	expect("active", 0)
	first := pid()
	must(server.Start(ctx))
	must(server.Reload(ctx, "test"))
	if pid() != first {
		t.Errorf("%s: a start or reload of the running service replaced its process", unit)
	}
	must(server.Restart(ctx, "test"))
	if pid() == first {
		t.Errorf("%s: the restart kept the process", unit)
	}
	expect("active", 0)
	must(server.Stop(ctx, "test"))
	must(server.Stop(ctx, "again"))
	expect("inactive", 3)
	must(server.Reload(ctx, "a stopped one is started"))
	expect("active", 0)
	must(server.Stop(ctx, ""))
	must(server.Restart(ctx, ""))
	expect("active", 0)
}

// certificate makes a certificate that signs itself, also in PEM, and its key.
func certificate(t *testing.T, name string) (leaf, cert, key []byte) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name}, DNSNames: []string{name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour)}
	leaf, err = x509.CreateCertificate(rand.Reader, template, template, &private.PublicKey, private)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	return leaf, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: leaf}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
}

// presented is the certificate that a server shows for a name.
func presented(t *testing.T, addr netip.AddrPort, name string) []byte {
	t.Helper()
	c, err := tls.DialWithDialer(&net.Dialer{Timeout: 5 * time.Second}, "tcp", addr.String(), &tls.Config{ServerName: name, InsecureSkipVerify: true}) // compared by the caller
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	return c.ConnectionState().PeerCertificates[0].Raw
}

// difference are the lines that only one of two lists has.
func difference(before, after string) string {
	var b strings.Builder
	for _, side := range []struct{ mark, text, other string }{{"-", before, after}, {"+", after, before}} {
		for line := range strings.Lines(side.text) {
			if !strings.Contains(side.other, strings.TrimSpace(line)) {
				b.WriteString(side.mark + " " + strings.TrimSpace(line) + "\n")
			}
		}
	}
	return b.String()
}
