package nginxtest

import (
	"bytes"
	"crypto/tls"
	"encoding/pem"
	"fmt"
	"net"
	"os"
	"strconv"
	"testing"

	"github.com/reeve-paas/reeve/handlers/web/webtest"
)

// presents fails the test when a name is not served over TLS with a certificate, given in PEM.
func (r *Rig) presents(port int, name string, cert []byte) {
	r.T.Helper()
	got := r.get(port, "https://"+name+"/")
	block, _ := pem.Decode(cert)
	if got.Status != 200 || !bytes.Equal(got.TLS.PeerCertificates[0].Raw, block.Bytes) {
		r.T.Errorf("%s: got %d and another certificate", name, got.Status)
	}
}

// redirects fails the test when a plain request is not sent on to a URL.
func (r *Rig) redirects(port int, url, want string) {
	r.T.Helper()
	if got := r.get(port, url); got.Status != 301 || got.Header.Get("Location") != want {
		r.T.Errorf("%s: got %d %s, want 301 %s", url, got.Status, got.Header.Get("Location"), want)
	}
}

func tlsProxies(t *testing.T, r *Rig) {
	b1 := r.Backend("B1")
	cert, key, chain := webtest.Certificate(t, "s.test", true)
	other, otherKey, _ := webtest.Certificate(t, "s.test", false)
	r.Coordinator.Give("77", cert, key, chain)
	r.Coordinator.Give("78", cert, otherKey, nil)
	r.Coordinator.Give("79", other, otherKey, nil)
	tlsPort, redirectPort := r.FreePort(), r.FreePort()

	r.item(t, "51: a pair that does not match, or is unknown, changes nothing", func(r *Rig) {
		for id, want := range map[string]string{"78": "do not fit together", "80": "there is no certificate", "../x": "invalid certificate id"} {
			r.Refuses(want, "make_proxy", `{"hostname": "s.test", "port": %d, "ssl": "1", "ssl_port": %d, "ssl_certificate_id": %q, "backends": [{%s}]}`, r.Port, tlsPort, id, Wire(b1))
		}
	})
	r.item(t, "51: HTTPS and plain", func(r *Rig) {
		r.OK("make_proxy", `{"hostname": "s.test", "port": %d, "ssl": "1", "ssl_port": "%d", "ssl_certificate_id": "77", "backends": [{%s}]}`, r.Port, tlsPort, Wire(b1))
		r.presents(tlsPort, "s.test", cert)
		r.Wants("http://s.test/", "B1")
		if got := r.get(tlsPort, "https://s.test/"); len(got.TLS.PeerCertificates) != 2 {
			r.T.Errorf("got %d certificates, want the chain too", len(got.TLS.PeerCertificates))
		}
		for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
			conn, err := tls.Dial("tcp", net.JoinHostPort(r.Addr, strconv.Itoa(tlsPort)), &tls.Config{InsecureSkipVerify: true, MinVersion: version, MaxVersion: version})
			if err != nil {
				r.T.Fatalf("%s: %v", tls.VersionName(version), err)
			}
			conn.Close()
		}
		if st, err := os.Stat(r.Private("keys/https_77.key")); err != nil || st.Mode().Perm() != 0o600 {
			r.T.Errorf("the key: got %v, %v, want mode 0600", st, err)
		}
	})
	r.item(t, "52: plain requests are redirected with path and query once", func(r *Rig) {
		r.OK("make_proxy", `{"hostname": "s.test", "port": %d, "http": "0", "ssl": "1", "ssl_port": %d, "ssl_certificate_id": "77", "backends": [{%s}]}`, redirectPort, tlsPort, Wire(b1))
		r.redirects(redirectPort, "http://s.test/a%20b?x=1", fmt.Sprintf("https://s.test:%d/a%%20b?x=1", tlsPort))
		r.presents(tlsPort, "s.test", cert)
	})
	r.item(t, "52: without a TLS port it is 443", func(r *Rig) {
		if !r.Usual {
			r.T.Skip("port 443 is not ours")
		}
		r.OK("make_proxy", `{"hostname": "usual.test", "http": "0", "ssl": "1", "ssl_certificate_id": "77", "backends": [{%s}]}`, Wire(b1))
		r.redirects(80, "http://usual.test/a?x=1", "https://usual.test:443/a?x=1")
		r.presents(443, "usual.test", cert)
	})
	r.item(t, "59: remove_proxy takes the redirector too", func(r *Rig) {
		tlsPort, redirectPort := r.FreePort(), r.FreePort()
		r.OK("make_proxy", `{"hostname": "gone.test", "port": %d, "http": "0", "ssl": "1", "ssl_port": %d, "ssl_certificate_id": "77", "backends": [{%s}]}`, redirectPort, tlsPort, Wire(b1))
		r.presents(tlsPort, "gone.test", cert)
		r.OK("remove_proxy", `{"hostname": "gone.test"}`)
		r.silent(redirectPort, "http://gone.test/")
		r.silent(tlsPort, "https://gone.test/")
	})
	r.item(t, "69: disable_ssl gives the redirector's port to the proxy", func(r *Rig) {
		r.OK("disable_ssl", `{"hostname": "s.test"}`)
		r.silent(tlsPort, "https://s.test/")
		r.wantsAt(redirectPort, "http://s.test/", "B1")
		r.Idle("disable_ssl", `{"hostname": "s.test"}`)
		r.Idle("disable_ssl", `{"hostname": "nobody.test"}`)
	})
	r.item(t, "69: enable_ssl serves it again, and replaces certificates", func(r *Rig) {
		r.OK("enable_ssl", `{"hostname": "s.test", "ssl_port": "%d", "ssl_certificate_id": "77"}`, tlsPort)
		r.presents(tlsPort, "s.test", cert)
		r.Idle("enable_ssl", `{"hostname": "s.test", "ssl_port": "%d", "ssl_certificate_id": "77"}`, tlsPort)
		r.Write("proxies.include", "\n\n# by hand\n"+r.Read("proxies.include"))
		r.Idle("enable_ssl", `{"hostname": "s.test", "ssl_port": "%d", "ssl_certificate_id": "77"}`, tlsPort)
		r.Refuses("serves plain HTTP", "enable_ssl", `{"hostname": "s.test", "ssl_port": %d, "ssl_certificate_id": "77"}`, redirectPort)
		r.OK("enable_ssl", `{"hostname": "s.test", "ssl_port": %d, "ssl_certificate_id": 79}`, tlsPort)
		r.presents(tlsPort, "s.test", other)
		r.Idle("enable_ssl", `{"hostname": "nobody.test"}`)
		r.Idle("enable_ssl", `{"hostname": ""}`)
	})
	r.item(t, "70: enable_ssl with an unknown id changes nothing", func(r *Rig) {
		r.Refuses("there is no certificate", "enable_ssl", `{"hostname": "s.test", "ssl_port": %d, "ssl_certificate_id": "80"}`, tlsPort)
		r.presents(tlsPort, "s.test", other)
	})
	r.item(t, "77: a certificate that is replaced by hand is served after a reload, and no other changes", func(r *Rig) {
		r.OK("make_proxy", `{"hostname": "by-hand.test", "port": %d, "ssl": "1", "ssl_port": %d, "ssl_certificate_id": "77", "backends": [{%s}]}`, r.Port, tlsPort, Wire(b1))
		r.presents(tlsPort, "by-hand.test", cert)
		renewed, renewedKey, _ := webtest.Certificate(t, "by-hand.test", false)
		for name, data := range map[string][]byte{"keys/https_77.crt": renewed, "keys/https_77.key": renewedKey} {
			if err := os.WriteFile(r.Private(name), data, 0o600); err != nil {
				r.T.Fatal(err)
			}
		}
		r.OK("reload_service", `{}`)
		r.presents(tlsPort, "by-hand.test", renewed)
		r.presents(tlsPort, "s.test", other)
	})
}
