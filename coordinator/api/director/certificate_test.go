package director_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/reeve-paas/reeve/coordinator/api/director"
	"github.com/reeve-paas/reeve/coordinator/core"
)

func closedDirector(o *director.Options, _ *core.Options) { o.Closed = true }

// attributes of a subject by their dotted identifiers.
func attributes(n pkix.Name) map[string][]string {
	all := map[string][]string{}
	for _, a := range n.Names {
		all[a.Type.String()] = append(all[a.Type.String()], a.Value.(string))
	}
	return all
}

const (
	oidCN      = "2.5.4.3"
	oidO       = "2.5.4.10"
	oidEmail   = "1.2.840.113549.1.9.1"
	oidUID     = "0.9.2342.19200300.100.1.1"
	oidRole    = "2.5.4.72"
	oidService = "1.3.6.1.5.5.7.48.1.7"
)

func wantSubject(t *testing.T, cert *x509.Certificate, want map[string]string) {
	t.Helper()
	got := attributes(cert.Subject)
	for oid, value := range want {
		if !slices.Equal(got[oid], []string{value}) {
			t.Errorf("attribute %s: got %q, want %q once", oid, got[oid], value)
		}
	}
	if len(got) != len(want) {
		t.Errorf("got the subject %v, want %v", got, want)
	}
}

func TestCertificates(t *testing.T) {
	b := newBed(t)
	u := b.user("ann", "10")
	got := b.post(nil, "/get_user_certs", "username", "ann", "password", u.password)
	members := unzip(t, got.body)
	cert := b.pair(members["cert.pem"], members["key.pem"])
	block, _ := pem.Decode(members["ca_cert.pem"])
	root, err := x509.ParseCertificate(block.Bytes)
	b.must(err)
	pool := x509.NewCertPool()
	pool.AddCert(root)

	t.Run("16. get_user_certs answers with a zip of three members", func(t *testing.T) {
		names := slices.Sorted(maps.Keys(members))
		if got.header.Get("Content-Type") != "application/zip" || !slices.Equal(names, []string{"ca_cert.pem", "cert.pem", "key.pem"}) {
			t.Errorf("got %s with %q", got.header.Get("Content-Type"), names)
		}
	})
	t.Run("17. getcerts is the same, and a wrong password gets false", func(t *testing.T) {
		if names := unzip(t, b.post(nil, "/getcerts", "username", "ann", "password", u.password).body); len(names) != 3 {
			t.Errorf("got %d members", len(names))
		}
		for _, path := range []string{"/getcerts", "/get_user_certs"} {
			b.wantBody(path, b.post(nil, path, "username", "ann", "password", "wrong"), 200, "false")
		}
	})
	t.Run("18. the certificate chains to the authority and is of today's kind", func(t *testing.T) {
		leaf := cert.Leaf
		chains, err := leaf.Verify(x509.VerifyOptions{Roots: pool, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}})
		if err != nil || len(chains[0]) != 2 {
			t.Errorf("got %d chains, %v", len(chains), err)
		}
		key, ok := leaf.PublicKey.(*ecdsa.PublicKey)
		if !ok || key.Curve.Params().BitSize < 256 || leaf.SignatureAlgorithm != x509.ECDSAWithSHA256 || leaf.Version != 3 || leaf.IsCA {
			t.Errorf("got version %d, %v, CA %v", leaf.Version, leaf.SignatureAlgorithm, leaf.IsCA)
		}
		if block, _ := pem.Decode(members["key.pem"]); block.Type != "PRIVATE KEY" {
			t.Errorf("got a key of type %q", block.Type)
		}
	})
	t.Run("19. its subject is the user", func(t *testing.T) {
		wantSubject(t, cert.Leaf, map[string]string{oidCN: "ann", oidO: "Contrail", oidEmail: u.email, oidRole: "user", oidUID: itoa(u.uid), oidService: "0"})
	})
	t.Run("20. the authority is called CA, and the Director's certificate is of its making", func(t *testing.T) {
		wantSubject(t, root, map[string]string{oidCN: "CA", oidO: "ConPaaS", oidEmail: "info@conpaas.eu"})
		if !root.IsCA || !root.MaxPathLenZero || root.KeyUsage&x509.KeyUsageCertSign == 0 {
			t.Errorf("got CA %v, path length zero %v", root.IsCA, root.MaxPathLenZero)
		}
		conn, err := tls.Dial("tcp", b.addr, &tls.Config{RootCAs: pool, ServerName: "director.test"})
		b.must(err)
		defer conn.Close()
		server := conn.ConnectionState().PeerCertificates[0]
		wantSubject(t, server, map[string]string{oidCN: "director.test", oidO: "ConPaaS", oidEmail: "info@conpaas.eu", oidRole: "frontend"})
		if err := server.VerifyHostname("127.0.0.1"); err != nil {
			t.Error(err)
		}
	})
	t.Run("21. two downloads are two certificates, and both work", func(t *testing.T) {
		other := b.certificate(u)
		if other.Leaf.SerialNumber.Cmp(cert.Leaf.SerialNumber) == 0 || other.Leaf.PublicKey.(*ecdsa.PublicKey).Equal(cert.Leaf.PublicKey) {
			t.Error("got the same serial or key")
		}
		if cert.Leaf.SerialNumber.BitLen() < 100 {
			t.Errorf("got a serial of %d bits", cert.Leaf.SerialNumber.BitLen())
		}
		for _, c := range []*tls.Certificate{cert, other} {
			b.wantBody("list", b.get(c, "/list"), 200, "[]")
		}
	})
	t.Run("22. it counts from before now", func(t *testing.T) {
		if time.Since(cert.Leaf.NotBefore) < 30*time.Minute {
			t.Errorf("got notBefore %v", cert.Leaf.NotBefore)
		}
	})
	t.Run("every issue is on record, and a new password ends what the old one fetched", func(t *testing.T) {
		fetched := b.certificate(u)
		b.must(b.auth.SetPassword(t.Context(), u.account.ID, "another one"))
		b.wantBody("revoked", b.get(fetched, "/list"), 401, "false")
		u.password = "another one"
		u.cert = b.certificate(u)
		b.wantBody("fetched anew", b.get(u.cert, "/list"), 200, "[]")
	})
}

func request(t *testing.T, key any, tmpl *x509.CertificateRequest) []byte {
	t.Helper()
	der, err := x509.CreateCertificateRequest(rand.Reader, tmpl, key)
	if err != nil {
		t.Fatal(err)
	}
	return pemBytes("CERTIFICATE REQUEST", der)
}

func text(oid asn1.ObjectIdentifier, value string) pkix.AttributeTypeAndValue {
	return pkix.AttributeTypeAndValue{Type: oid, Value: value}
}

func TestAgentCertificates(t *testing.T) {
	b := newBed(t)
	u := b.user("ann", "10")
	sid := sidOf(b.start(u, "php"))
	manager := b.manager(u, sid)
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	b.must(err)
	ask := func(csr []byte) answer { return b.upload(manager, "/ca/get_cert.php", map[string][]byte{"csr": csr}) }
	parse := func(t *testing.T, a answer) *x509.Certificate {
		t.Helper()
		block, rest := pem.Decode(a.body)
		if a.status != 200 || !bytes.HasPrefix(a.body, []byte("-----BEGIN CERTIFICATE-----")) || block == nil || len(bytes.TrimSpace(rest)) > 0 {
			t.Fatalf("got %d %q, want one certificate", a.status, a.body)
		}
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			t.Fatal(err)
		}
		return cert
	}
	want := map[string]string{oidCN: "ConPaaS", oidO: "ConPaaS", oidEmail: "info@conpaas.eu", oidRole: "agent", oidUID: itoa(u.uid), oidService: itoa(sid)}

	t.Run("55. a request becomes a certificate for its key", func(t *testing.T) {
		cert := parse(t, ask(request(t, key, &x509.CertificateRequest{Subject: pkix.Name{CommonName: "ConPaaS"}})))
		if !cert.PublicKey.(*rsa.PublicKey).Equal(&key.PublicKey) {
			t.Error("got another key")
		}
		if _, err := cert.Verify(x509.VerifyOptions{Roots: b.ca.Pool(), KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}}); err != nil {
			t.Error(err)
		}
	})
	t.Run("56. its subject is the manager's own, whatever is asked for", func(t *testing.T) {
		uid, role, cn := asn1.ObjectIdentifier{0, 9, 2342, 19200300, 100, 1, 1}, asn1.ObjectIdentifier{2, 5, 4, 72}, asn1.ObjectIdentifier{2, 5, 4, 3}
		for name, names := range map[string][]pkix.AttributeTypeAndValue{
			"a user":       {text(role, "user"), text(uid, "1")},
			"another user": {text(role, "agent"), text(uid, "2")},
			"the CA":       {text(cn, "CA")},
			"two users":    {text(uid, itoa(u.uid)), text(uid, "2"), text(role, "frontend")},
		} {
			cert := parse(t, ask(request(t, key, &x509.CertificateRequest{Subject: pkix.Name{ExtraNames: names}})))
			t.Log(name)
			wantSubject(t, cert, want)
		}
	})
	t.Run("57. it is no authority's", func(t *testing.T) {
		ca, err := asn1.Marshal(struct{ CA bool }{true})
		b.must(err)
		cert := parse(t, ask(request(t, key, &x509.CertificateRequest{ExtraExtensions: []pkix.Extension{{Id: asn1.ObjectIdentifier{2, 5, 29, 19}, Critical: true, Value: ca}}})))
		if cert.IsCA || cert.KeyUsage&x509.KeyUsageCertSign != 0 {
			t.Error("got an authority")
		}
	})
	t.Run("58. what is no good request gets a status and no certificate", func(t *testing.T) {
		good := request(t, key, &x509.CertificateRequest{})
		block, _ := pem.Decode(good)
		broken := slices.Clone(block.Bytes)
		broken[len(broken)-5] ^= 0xff
		p224, err := ecdsa.GenerateKey(elliptic.P224(), rand.Reader)
		b.must(err)
		for name, a := range map[string]answer{
			"garbage":          ask([]byte("garbage")),
			"nothing":          ask(nil),
			"another part":     b.upload(manager, "/ca/get_cert.php", map[string][]byte{"cert": good}),
			"a field":          b.upload(manager, "/ca/get_cert.php", nil, "csr", string(good)),
			"no multipart":     b.post(manager, "/ca/get_cert.php", "csr", string(good)),
			"a broken proof":   ask(pemBytes("CERTIFICATE REQUEST", broken)),
			"RSA 1024":         ask(weakRequest(t)),
			"another curve":    ask(request(t, p224, &x509.CertificateRequest{})),
			"another PEM type": ask(pemBytes("CERTIFICATE", block.Bytes)),
			"too large":        ask(append(good, bytes.Repeat([]byte("x"), 70<<10)...)),
		} {
			if a.status < 400 || a.status > 499 || strings.Contains(string(a.body), "BEGIN CERTIFICATE") {
				t.Errorf("%s: got %d %q", name, a.status, a.body)
			}
		}
	})
	t.Run("59. a proof by SHA-1 will do", func(t *testing.T) {
		wantSubject(t, parse(t, ask(sha1Request(t, key))), want)
	})
	t.Run("60. a manager without a service gets none", func(t *testing.T) {
		b.wantBody("stop", b.post(u.cert, "/stop/"+itoa(sid)), 200, "true")
		a := ask(request(t, key, &x509.CertificateRequest{}))
		if a.status == 200 && string(a.body) != "false" || strings.Contains(string(a.body), "BEGIN") {
			t.Errorf("got %d %q", a.status, a.body)
		}
	})
}
