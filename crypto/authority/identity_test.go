package authority

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/reeve-paas/reeve/crypto/keyring"
)

func openDirector(t testing.TB, dir string, now func() time.Time) *Authority {
	t.Helper()
	sealer, err := keyring.OpenSealer(filepath.Join(dir, "master.key"))
	if err != nil {
		t.Fatal(err)
	}
	a, err := Open(dir, Director, sealer, now)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func TestIdentity(t *testing.T) {
	a := openDirector(t, t.TempDir(), nil)
	issue := func(i Identity) *x509.Certificate {
		pair, err := a.IssuePair(Order{Identity: i, Client: true, Life: time.Hour})
		if err != nil {
			t.Fatal(err)
		}
		return pair.Leaf
	}
	t.Run("is read as it was written", func(t *testing.T) {
		for _, want := range []Identity{
			{CommonName: "ann", Organization: "Contrail", Email: "ann@example.org", Role: RoleUser, UID: 7},
			{CommonName: "zoë", Role: RoleManager, UID: 1 << 40, Service: 12},
			{CommonName: "host.test", Organization: "ConPaaS", Email: DirectorEmail, Role: RoleFrontend},
		} {
			if got, err := IdentityOf(issue(want)); err != nil || got != want {
				t.Errorf("got %+v, %v, want %+v", got, err, want)
			}
		}
	})
	t.Run("is not read from a subject that two readers may see differently", func(t *testing.T) {
		key, _ := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		attr := func(oid asn1.ObjectIdentifier, v string) pkix.AttributeTypeAndValue {
			return pkix.AttributeTypeAndValue{Type: oid, Value: v}
		}
		for name, attrs := range map[string][]pkix.AttributeTypeAndValue{
			"two roles":          {attr(oidRole, "user"), attr(oidRole, "manager"), attr(oidUID, "1")},
			"two users":          {attr(oidRole, "user"), attr(oidUID, "1"), attr(oidUID, "2")},
			"a sign":             {attr(oidRole, "user"), attr(oidUID, "+1")},
			"a zero in front":    {attr(oidRole, "user"), attr(oidUID, "01")},
			"a negative user":    {attr(oidRole, "user"), attr(oidUID, "-1")},
			"no role":            {attr(oidUID, "1")},
			"an unknown role":    {attr(oidRole, "root"), attr(oidUID, "1")},
			"a role in capitals": {attr(oidRole, "USER"), attr(oidUID, "1")},
		} {
			tmpl := &x509.Certificate{SerialNumber: serial(), Subject: pkix.Name{ExtraNames: attrs}, NotAfter: time.Now().Add(time.Hour)}
			der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, &key.PublicKey, key)
			if err != nil {
				t.Fatal(err)
			}
			cert, _ := x509.ParseCertificate(der)
			if got, err := IdentityOf(cert); err == nil {
				t.Errorf("%s: got %+v", name, got)
			}
		}
	})
	t.Run("is never the authority's own name", func(t *testing.T) {
		for _, name := range []string{"CA", "ca", " Ca "} {
			if _, err := a.IssuePair(Order{Identity: Identity{CommonName: name}, Life: time.Hour}); err == nil {
				t.Errorf("got a certificate for %q", name)
			}
		}
	})
}

func TestDirectorRoot(t *testing.T) {
	t.Run("lies beside the listeners' and is another one", func(t *testing.T) {
		dir := t.TempDir()
		listeners, director := open(t, dir, nil), openDirector(t, dir, nil)
		if listeners.cert.Equal(director.cert) || director.cert.Subject.CommonName != "CA" || listeners.cert.Subject.CommonName != "Reeve CA" {
			t.Errorf("got %s and %s", listeners.cert.Subject, director.cert.Subject)
		}
		// One's key in place of the other's is refused.
		key, _ := os.ReadFile(filepath.Join(dir, "ca.key"))
		os.WriteFile(filepath.Join(dir, "director-ca.key"), key, 0o600)
		sealer, _ := keyring.OpenSealer(filepath.Join(dir, "master.key"))
		if _, err := Open(dir, Director, sealer, nil); err == nil {
			t.Error("another root's key was taken")
		}
	})
	t.Run("is renewed in time, and what it issued before is good with the new one", func(t *testing.T) {
		dir, now := t.TempDir(), time.Now()
		a := openDirector(t, dir, func() time.Time { return now })
		leaf, err := a.IssuePair(Order{Identity: Identity{CommonName: "x"}, Client: true, Life: rootLife})
		if err != nil {
			t.Fatal(err)
		}
		now = now.Add(rootLife - rootAhead + 24*time.Hour)
		b := openDirector(t, dir, func() time.Time { return now })
		if !b.cert.NotAfter.After(a.cert.NotAfter) {
			t.Errorf("got end %v, want one after %v", b.cert.NotAfter, a.cert.NotAfter)
		}
		for _, root := range []*Authority{a, b} {
			if _, err := leaf.Leaf.Verify(x509.VerifyOptions{Roots: root.Pool(), CurrentTime: now, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}}); err != nil {
				t.Error(err)
			}
		}
	})
}

// FuzzRequest looks for requests that break the reader, and for certificates that are not what was ordered.
func FuzzRequest(f *testing.F) {
	a := openDirector(f, f.TempDir(), nil)
	key, _ := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	for _, names := range [][]pkix.AttributeTypeAndValue{nil, {{Type: oidRole, Value: "user"}, {Type: oidUID, Value: "1"}}, {{Type: oidCommonName, Value: "CA"}}} {
		der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: pkix.Name{ExtraNames: names}, DNSNames: []string{"a.test"}}, key)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der}))
	}
	f.Add([]byte("-----BEGIN CERTIFICATE REQUEST-----\n-----END CERTIFICATE REQUEST-----\n"))
	want := Identity{CommonName: "ConPaaS", Role: RoleAgent, UID: 7, Service: 9}
	f.Fuzz(func(t *testing.T, data []byte) {
		key, err := Request(data)
		if err != nil {
			return
		}
		cert, err := a.Issue(Order{Identity: want, Key: key, Client: true, Life: time.Hour})
		if err != nil {
			t.Fatal(err)
		}
		if got, err := IdentityOf(cert); err != nil || got != want || cert.IsCA || len(cert.DNSNames) > 0 {
			t.Errorf("got %+v, CA %v, names %q, %v", got, cert.IsCA, cert.DNSNames, err)
		}
	})
}
