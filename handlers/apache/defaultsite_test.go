package apache

import (
	"bytes"
	"encoding/pem"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/reeve-paas/reeve/handlers"
	"github.com/reeve-paas/reeve/handlers/web/webtest"
)

// defaultSite writes the packaged TLS site with the system's pair, and enables it.
func (a *realApache) defaultSite() (systemCert []byte) {
	a.t.Helper()
	systemCert, _, _ = a.pair("system")
	a.write("sites-available/default-ssl.conf", fmt.Sprintf("# packaged\nListen 127.0.0.1:%d\n<VirtualHost *:%d>\n\tDocumentRoot %s/www/default\n\tSSLEngine on\n\n"+
		"\t#   what make-ssl-cert makes\n\tSSLCertificateFile      %s/system.crt\n\tSSLCertificateKeyFile   %s/system.key\n\t#SSLCertificateChainFile /etc/apache2/ssl.crt/server-ca.crt\n"+
		"\t<Directory %s/www/default>\n\t\tRequire all granted\n\t</Directory>\n</VirtualHost>\n", a.tlsPort, a.tlsPort, a.dir, a.dir, a.dir, a.dir))
	if err := os.Symlink("../sites-available/default-ssl.conf", filepath.Join(a.dir, "sites-enabled/default-ssl.conf")); err != nil {
		a.t.Fatal(err)
	}
	return systemCert
}

// pair writes a certificate and its key.
func (a *realApache) pair(base string) (cert, key, chain []byte) {
	a.t.Helper()
	cert, key, chain = webtest.Certificate(a.t, "default.test", true)
	a.write(base+".crt", string(cert))
	a.write(base+".key", string(key))
	return cert, key, chain
}

// defaultFiles are the certificate and the key that the packaged TLS site names.
func (a *realApache) defaultFiles() (cert, key string) {
	a.t.Helper()
	data, err := os.ReadFile(filepath.Join(a.dir, "sites-available/default-ssl.conf"))
	if err != nil {
		a.t.Fatal(err)
	}
	for _, l := range parseLines(string(data)) {
		switch {
		case l.kind == lineDirective && l.is("SSLCertificateFile"):
			cert = l.args[0]
		case l.kind == lineDirective && l.is("SSLCertificateKeyFile"):
			key = l.args[0]
		}
	}
	return cert, key
}

func TestConformanceDefaultCertificate(t *testing.T) {
	t.Parallel()
	a := newRealApache(t)
	system := a.defaultSite()
	packaged, err := os.ReadFile(filepath.Join(a.dir, "sites-available/default-ssl.conf"))
	if err != nil {
		t.Fatal(err)
	}
	a.start()
	call := func(id string) error {
		result, err := a.Methods()["set_default_ssl_certificate"].Call(t.Context(), fmt.Appendf(nil, `{"id": %s}`, id))
		if err == nil && result != (handlers.Null{}) {
			t.Errorf("got %v, want null", result)
		}
		return err
	}
	sets := func(id string, want []byte, certs int) {
		t.Helper()
		a.units.Calls()
		if err := call(id); err != nil {
			t.Fatalf("%s: %v", id, err)
		}
		if calls := a.units.Calls(); len(calls) != 0 {
			t.Errorf("%s: got %q, want no reload", id, calls)
		}
		before := a.tree()
		if err := call(id); err != nil || a.tree() != before {
			t.Errorf("%s: a repeated call changed files, or failed: %v", id, err)
		}
		if err := a.server.Reload(t.Context()); err != nil {
			t.Fatal(err)
		}
		block, _ := pem.Decode(want)
		r := webtest.Get(t, a.tlsPort, "https://default.test/")
		if r.Body != "default site" || !bytes.Equal(r.TLS.PeerCertificates[0].Raw, block.Bytes) || len(r.TLS.PeerCertificates) != certs {
			t.Errorf("%s: got %q with %d certificates and another one than wanted", id, r.Body, len(r.TLS.PeerCertificates))
		}
	}
	refuses := func(id, want string) {
		t.Helper()
		before := a.tree()
		if err := call(id); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want %q", id, err, want)
		}
		if after := a.tree(); after != before {
			t.Errorf("files changed:\n%s\nwant\n%s", after, before)
		}
	}

	t.Run("37: with files the site names them, with their chain", func(t *testing.T) {
		cert, _, chain := a.pair("private.d/keys/https_77")
		sets(`"77"`, cert, 1)
		other, _, _ := a.pair("private.d/keys/https_78")
		sets(`78`, other, 1)
		a.write("private.d/keys/https_77-ca.crt", string(chain))
		sets(`"77"`, cert, 2)
	})
	t.Run("37: without them, or without the key, it is the system's pair", func(t *testing.T) {
		sets(`"999"`, system, 1)
		cert, _, _ := webtest.Certificate(t, "default.test", false)
		a.write("private.d/keys/https_5.crt", string(cert))
		sets(`"5"`, system, 1)
		sets(`null`, system, 1)
		if len(a.certs.fetched) != 0 {
			t.Errorf("fetched %q", a.certs.fetched)
		}
	})
	t.Run("the rest of the site stays as the package has it", func(t *testing.T) {
		data, err := os.ReadFile(filepath.Join(a.dir, "sites-available/default-ssl.conf"))
		if err != nil {
			t.Fatal(err)
		}
		normal := func(text string) string { return strings.Join(strings.Fields(text), " ") }
		if got, want := normal(string(data)), normal(string(packaged)); got != want {
			t.Errorf("got\n%s\nwant\n%s", got, want)
		}
	})
	t.Run("no id is the default certificate", func(t *testing.T) {
		cert, _, _ := a.pair("private.d/keys/https")
		sets(`null`, cert, 1)
		sets(`""`, cert, 1)
		sets(`"0"`, cert, 1)
	})
	t.Run("what Apache would die of is refused", func(t *testing.T) {
		cert, _, _ := webtest.Certificate(t, "default.test", false)
		_, key, _ := webtest.Certificate(t, "default.test", false)
		a.write("private.d/keys/https_6.crt", string(cert))
		a.write("private.d/keys/https_6.key", string(key))
		refuses(`"6"`, "ValueError: certificate and key do not fit together")
		refuses(`"../x"`, "ValueError: invalid certificate id")
		a.write("private.d/keys/https_77-ca.crt", "")
		refuses(`"77"`, "InitdError: ")
		if err := os.Remove(filepath.Join(a.dir, "system.key")); err != nil {
			t.Fatal(err)
		}
		refuses(`"999"`, "ApacheError: certificate \"999\" is not on this host, and neither is the system's own")
	})
	t.Run("a configuration that was broken before is not blamed on the call", func(t *testing.T) {
		a.write("sites-enabled/other.conf", "Bogus on\n")
		refuses(`"78"`, "InitdError: nothing was changed, since the configuration was broken before this call")
		if err := os.Remove(filepath.Join(a.dir, "sites-enabled/other.conf")); err != nil {
			t.Fatal(err)
		}
	})
	t.Run("a site without certificates, and no site at all, are clear errors", func(t *testing.T) {
		a.write("sites-available/default-ssl.conf", "<VirtualHost *:1>\n</VirtualHost>\n")
		refuses(`"78"`, "default-ssl.conf lacks SSLCertificateFile")
		for _, name := range []string{"sites-enabled/default-ssl.conf", "sites-available/default-ssl.conf"} {
			if err := os.Remove(filepath.Join(a.dir, name)); err != nil {
				t.Fatal(err)
			}
		}
		refuses(`"78"`, "ApacheError: there is no default TLS site")
	})
}
