package authority

import (
	"crypto/tls"
	"crypto/x509"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/reeve-paas/reeve/crypto/keyring"
)

func open(t *testing.T, dir string, now func() time.Time) *Authority {
	t.Helper()
	sealer, err := keyring.OpenSealer(filepath.Join(dir, "master.key"))
	if err != nil {
		t.Fatal(err)
	}
	a, err := Open(dir, Listeners, sealer, now)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func TestAuthority(t *testing.T) {
	t.Run("is the same after a restart and its key is not readable on disk", func(t *testing.T) {
		dir := t.TempDir()
		first := open(t, dir, nil)
		second := open(t, dir, nil)
		if string(first.Certificate()) != string(second.Certificate()) {
			t.Error("got another root after a restart")
		}
		st, err := os.Stat(filepath.Join(dir, "ca.key"))
		if err != nil || st.Mode().Perm() != 0o600 {
			t.Errorf("got mode %v, %v, want 0600", st.Mode(), err)
		}
		blob, _ := os.ReadFile(filepath.Join(dir, "ca.key"))
		if _, err := x509.ParseECPrivateKey(blob); err == nil {
			t.Error("the root's key lies in clear text")
		}
	})
	t.Run("issues certificates that clients of the root accept for every name", func(t *testing.T) {
		a := open(t, t.TempDir(), nil)
		conf, err := a.ServerConfig("reeve.test", "127.0.0.1")
		if err != nil {
			t.Fatal(err)
		}
		cert, err := conf.GetCertificate(&tls.ClientHelloInfo{})
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range []string{"reeve.test", "127.0.0.1"} {
			if _, err := cert.Leaf.Verify(x509.VerifyOptions{DNSName: name, Roots: a.Pool()}); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
		if _, err := cert.Leaf.Verify(x509.VerifyOptions{DNSName: "other.test", Roots: a.Pool()}); err == nil {
			t.Error("a name that was not asked for is accepted")
		}
	})
	t.Run("issues anew before a certificate ends", func(t *testing.T) {
		now := time.Now()
		a := open(t, t.TempDir(), func() time.Time { return now })
		conf, err := a.ServerConfig("reeve.test")
		if err != nil {
			t.Fatal(err)
		}
		before, _ := conf.GetCertificate(nil)
		now = now.Add(serverLife - renewAhead + time.Hour)
		after, err := conf.GetCertificate(nil)
		if err != nil || !after.Leaf.NotAfter.After(before.Leaf.NotAfter) {
			t.Errorf("got end %v after %v, err %v, want a later one", after.Leaf.NotAfter, before.Leaf.NotAfter, err)
		}
	})
	t.Run("issues certificates for names of any length", func(t *testing.T) {
		a := open(t, t.TempDir(), nil)
		for _, name := range []string{"shop.test", "*.shop.test", strings.Repeat("a.", 60) + "test"} {
			cert, key, err := a.IssueForRoute(name)
			if err != nil {
				t.Fatal(err)
			}
			pair, err := tls.X509KeyPair(cert, key)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := pair.Leaf.Verify(x509.VerifyOptions{DNSName: strings.Replace(name, "*", "any", 1), Roots: a.Pool()}); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
	})
	t.Run("refuses a key and a certificate that do not belong together", func(t *testing.T) {
		dir := t.TempDir()
		open(t, dir, nil)
		other := t.TempDir()
		open(t, other, nil)
		cert, _ := os.ReadFile(filepath.Join(other, "ca.crt"))
		os.WriteFile(filepath.Join(dir, "ca.crt"), cert, 0o644)
		sealer, _ := keyring.OpenSealer(filepath.Join(dir, "master.key"))
		if _, err := Open(dir, Listeners, sealer, nil); err == nil {
			t.Error("got no error")
		}
	})
}
