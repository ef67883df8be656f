//go:build e2e

package e2e

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// certificates lives the life of the certificates of an instance's name: ours, an uploaded one, ours again.
func (s *site) certificates(t *testing.T, id int64, router node, host string) {
	root := filepath.Join(t.TempDir(), "routes-ca.crt")
	run(t, "curl", "--silent", "--show-error", "--fail", "--output", root, s.url+"/agent/routes-ca.crt")
	curl := func(ca string) string {
		t.Helper()
		return run(t, "curl", "--silent", "--show-error", "--cacert", ca, "--resolve", host+":443:"+router.Address, "--write-out", "%{http_code}", "--output", os.DevNull, "https://"+host+"/")
	}
	own := serialAt(t, router.Address, host)
	t.Run("a name is served over TLS, for clients that trust the authority of hosted names", func(t *testing.T) {
		if got := curl(root); got != "200" {
			t.Errorf("got %s, want 200", got)
		}
	})
	t.Run("a name that nobody serves is shown no certificate", func(t *testing.T) {
		for _, args := range [][]string{{"-servername", "other.test"}, {"-noservername"}} {
			out, err := exec.Command("openssl", append([]string{"s_client", "-connect", router.Address + ":443"}, args...)...).CombinedOutput()
			if err == nil || strings.Contains(string(out), "BEGIN CERTIFICATE") {
				t.Errorf("%v: got %v\n%s", args, err, out)
			}
		}
	})
	dir := t.TempDir()
	crt, key := filepath.Join(dir, "crt.pem"), filepath.Join(dir, "key.pem")
	run(t, "openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/O=Shop/CN="+host, "-addext", "subjectAltName=DNS:"+host, "-set_serial", "4711", "-days", "30", "-keyout", key, "-out", crt)
	pair := func() map[string]any {
		text := map[string]any{}
		for name, file := range map[string]string{"crt": crt, "key": key} {
			data, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			text[name] = string(data)
		}
		return text
	}
	updates := func() (ops []gandiOperation) {
		t.Helper()
		s.mustGandi(&ops, "operation.list", map[string]any{"type": "rproxy_update", "paas_id": id, "items_per_page": 500})
		return ops
	}
	t.Run("bad certificates are refused, and nothing changes", func(t *testing.T) {
		before, spoiled := len(updates()), pair()
		spoiled["crt"] = run(t, "openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN="+host, "-addext", "subjectAltName=DNS:"+host, "-keyout", os.DevNull)
		for _, spec := range []map[string]any{spoiled, {"crt": "x", "key": pair()["key"]}} {
			var f *fault
			if err := s.gandi(nil, "cert.hosted.create", spec); !errors.As(err, &f) || f.Code != 500037 {
				t.Errorf("got %v, want fault 500037", err)
			}
		}
		if got := serialAt(t, router.Address, host); got != own || len(updates()) != before {
			t.Errorf("got the serial %s, want %s, and %d operations, want %d", got, own, len(updates()), before)
		}
	})
	var cert struct {
		ID int64 `json:"id"`
	}
	t.Run("an uploaded certificate replaces ours without a lost request, and goes again", func(t *testing.T) {
		stop := load443(t, router.Address, host)
		s.mustGandi(&cert, "cert.hosted.create", pair())
		s.done(updates()...)
		if got := serialAt(t, router.Address, host); got != fmt.Sprintf("%X", 4711) {
			t.Errorf("got the serial %s, want that of the uploaded certificate", got)
		}
		if got := curl(crt); got != "200" {
			t.Errorf("got %s, want 200", got)
		}
		var gone bool
		s.mustGandi(&gone, "cert.hosted.delete", cert.ID)
		s.done(updates()...)
		if got := serialAt(t, router.Address, host); got != own {
			t.Errorf("got the serial %s, want ours %s", got, own)
		}
		asked, failed := stop()
		if asked < 20 || len(failed) > 0 {
			t.Errorf("of %d requests meanwhile %d failed: %.3q", asked, len(failed), failed)
		}
	})
	t.Run("the router holds the keys of what it serves and no others", func(t *testing.T) {
		if got := s.keyFiles(router); len(got) != 2 {
			t.Errorf("got %v, want one certificate and its key", got)
		}
		if s.logContains("PRIVATE KEY") {
			t.Error("a key stands in the log")
		}
	})
}

// keyFiles are the files of delivered certificates on a machine on which nginx runs.
func (s *site) keyFiles(router node) []string {
	s.t.Helper()
	files, err := filepath.Glob(filepath.Join(s.processIn(router, "nginx"), "root/etc/reeve/private.d/keys/https_route-*"))
	if err != nil {
		s.t.Fatal(err)
	}
	return files
}

// processIn is the directory below /proc of a process that runs a program on a machine of the cloud.
func (s *site) processIn(n node, program string) string {
	s.t.Helper()
	programs, err := filepath.Glob("/proc/[0-9]*/comm")
	if err != nil {
		s.t.Fatal(err)
	}
	for _, comm := range programs {
		dir := filepath.Dir(comm)
		name, err := os.ReadFile(comm)
		if err != nil || strings.TrimSpace(string(name)) != program {
			continue
		}
		if name, err = os.ReadFile(filepath.Join(dir, "root/etc/hostname")); err == nil && strings.TrimSpace(string(name)) == n.Name {
			return dir
		}
	}
	s.t.Fatalf("no %s of %s is found", program, n.Name)
	return ""
}

func run(t *testing.T, name string, args ...string) string {
	t.Helper()
	cmd := exec.Command(name, args...)
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s: %v\n%s%s", name, err, out, stderr.String())
	}
	return string(out)
}

// serialAt is the serial number of the certificate that an address shows for a name, as openssl prints it.
func serialAt(t *testing.T, address, host string) string {
	t.Helper()
	cmd := exec.Command("openssl", "x509", "-noout", "-serial")
	cmd.Stdin = strings.NewReader(run(t, "openssl", "s_client", "-connect", address+":443", "-servername", host))
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("openssl x509: %v\n%s", err, out)
	}
	return strings.TrimPrefix(strings.TrimSpace(string(out)), "serial=")
}

// fetchedCertificate serves a name on its own node over TLS too: the web server there asks the coordinator for the certificate that
// the routers show.
func (s *site) fetchedCertificate(t *testing.T, call func(method, params string) string) {
	t.Helper()
	id := strings.TrimSpace(run(t, "python3", "-c", `import sqlite3, sys
print(sqlite3.connect(sys.argv[1]).execute("SELECT certificate FROM route WHERE hostname = 'shop.test'").fetchone()[0])`, filepath.Join(s.dir, "data", "reeve.db")))
	template := "<VirtualHost *:443>\nServerName shop.test\nDocumentRoot /var/www/html\nSSLEngine on\nSSLCertificateFile /x.crt\nSSLCertificateKeyFile /x.key\n</VirtualHost>\n"
	params, err := json.Marshal(map[string]any{"hostname": "shop.test", "port": 443, "ssl": true, "ssl_certificate_id": id, "template": template})
	if err != nil {
		t.Fatal(err)
	}
	call("apache.create_vhost", string(params))
	shown := serialAt(t, s.nodeWith("router").Address, "shop.test")
	if got := serialAt(t, s.nodeWith("app").Address, "shop.test"); got != shown {
		t.Errorf("the node shows the certificate %s, the router %s", got, shown)
	}
	call("apache.delete_vhosts", `{"vhosts": [["shop.test", 443]]}`)
}

// load443 asks for a page over TLS, each time with a connection of its own, until stop is called. Whose certificate is shown is
// not looked at.
func load443(t *testing.T, address, host string) (stop func() (asked int, failed []string)) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	asked, failed := 0, []string(nil)
	client := &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{DisableKeepAlives: true,
		DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, network, address+":443")
		},
		TLSClientConfig: &tls.Config{InsecureSkipVerify: true, VerifyPeerCertificate: func(raw [][]byte, _ [][]*x509.Certificate) error {
			leaf, err := x509.ParseCertificate(raw[0])
			if err != nil {
				return err
			}
			return leaf.VerifyHostname(host)
		}}}}
	wg.Go(func() {
		for ctx.Err() == nil {
			answer, err := client.Get("https://" + host + "/")
			asked++
			switch {
			case err != nil:
				failed = append(failed, err.Error())
			default:
				answer.Body.Close()
				if answer.StatusCode != http.StatusOK {
					failed = append(failed, answer.Status)
				}
			}
		}
	})
	return func() (int, []string) {
		cancel()
		wg.Wait()
		return asked, failed
	}
}
