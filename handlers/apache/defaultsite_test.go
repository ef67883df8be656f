package apache

import (
	"fmt"
	"os"
	"path/filepath"

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
