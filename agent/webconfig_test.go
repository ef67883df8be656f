package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// selfSigned writes a certificate for 127.0.0.1, good for servers and clients, and returns its pair.
func selfSigned(t *testing.T, dir, name string) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, DNSNames: []string{name}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature}
	der, err := x509.CreateCertificate(rand.Reader, c, c, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	certPEM, keyPEM := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER})
	for file, text := range map[string][]byte{name + ".crt": certPEM, name + ".key": keyPEM} {
		if err := os.WriteFile(filepath.Join(dir, file), text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	pair, err := tls.X509KeyPair(certPEM, keyPEM)
	if err != nil {
		t.Fatal(err)
	}
	return pair
}

const secretHash = "$2a$04$.OVu79NhwTtUD6kpq8wlC.wQBwpaUGHPclQ7cZtr3bNhU66awJ3Gy" // "secret"

func TestWebConfig(t *testing.T) {
	dir := t.TempDir()
	server, client := selfSigned(t, dir, "server"), selfSigned(t, dir, "client")
	file := filepath.Join(dir, "web.yaml")
	changes := 0
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		changes++
		at := time.Now().Add(time.Duration(changes) * time.Minute) // seen as changed however fast the test is
		if err := os.Chtimes(file, at, at); err != nil {
			t.Fatal(err)
		}
	}
	const withTLS = "tls_server_config:\n  cert_file: server.crt\n  key_file: server.key\n"
	write(withTLS + "http_server_config:\n  headers:\n    X-Frame-Options: deny\nbasic_auth_users:\n  prom: " + secretHash + "\n")
	m := &metricsServer{addr: "127.0.0.1:0", webConfig: file, log: slog.New(slog.DiscardHandler), handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		io.WriteString(w, "up 1\n")
	})}
	if err := m.listen(t.Context()); err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- m.Run(t.Context()) }()
	t.Cleanup(func() {
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	roots := x509.NewCertPool()
	roots.AddCert(server.Leaf)
	get := func(password string, certs ...tls.Certificate) (int, string) {
		t.Helper()
		c := &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{DisableKeepAlives: true, ForceAttemptHTTP2: true, TLSClientConfig: &tls.Config{RootCAs: roots, Certificates: certs}}}
		r, err := http.NewRequestWithContext(t.Context(), "GET", "https://"+m.address()+"/metrics", nil)
		if err != nil {
			t.Fatal(err)
		}
		r.SetBasicAuth("prom", password)
		res, err := c.Do(r)
		if err != nil {
			return 0, err.Error()
		}
		defer res.Body.Close()
		return res.StatusCode, res.Header.Get("X-Frame-Options") + " " + res.Proto
	}
	for range 2 { // the second time from memory
		if code, text := get("secret"); code != 200 || text != "deny HTTP/2.0" {
			t.Errorf("got %d %s", code, text)
		}
	}
	for _, wrong := range []string{"", "Secret"} {
		if code, _ := get(wrong); code != 401 {
			t.Errorf("password %q: got %d", wrong, code)
		}
	}
	t.Run("a changed file counts at once", func(t *testing.T) {
		write(withTLS + "  client_auth_type: RequireAndVerifyClientCert\n  client_ca_file: client.crt\n  client_allowed_sans: [client]\nhttp_server_config:\n  http2: true\n")
		if code, text := get("secret"); code != 0 {
			t.Errorf("without a certificate: got %d %s", code, text)
		}
		if code, _ := get("", client); code != 200 {
			t.Errorf("with one: got %d", code)
		}
		write(withTLS + "  client_auth_type: RequireAndVerifyClientCert\n  client_ca_file: client.crt\n  client_allowed_sans: [somebody]\n")
		if code, _ := get("", client); code != 0 {
			t.Errorf("with another's name: got %d", code)
		}
		write("nonsense: true\n")
		if code, _ := get("", client); code == 200 {
			t.Error("a file that cannot be read lets in")
		}
	})
	for text, want := range map[string]string{
		"nonsense: true\n":                                          "nonsense",
		"basic_auth_users:\n  a: plain\n":                           "bcrypt",
		"http_server_config:\n  headers:\n    Set-Cookie: x\n":      "Set-Cookie",
		"tls_server_config:\n  client_ca_file: client.crt\n":        "cert_file",
		withTLS + "  client_ca_file: client.crt\n":                  "client_auth_type",
		withTLS + "  client_auth_type: Perhaps\n":                   "Perhaps",
		withTLS + "  min_version: SSL3\n":                           "SSL3",
		withTLS + "  cipher_suites: [TLS_RSA_WITH_RC4_128_SHA]\n":   "TLS_RSA_WITH_RC4_128_SHA",
		"tls_server_config:\n  cert_file: gone\n  key_file: gone\n": "gone",
	} {
		write(text)
		if _, err := newWebConfig(file); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: got %v, want %s", text, err, want)
		}
	}
	t.Run("a limit of requests", func(t *testing.T) {
		write("rate_limit:\n  burst: 1\n  interval: 1h\n")
		w, err := newWebConfig(file)
		if err != nil || w.limiter == nil || !w.limiter.Allow() || w.limiter.Allow() {
			t.Errorf("got %v, %v", w, err)
		}
	})
}
