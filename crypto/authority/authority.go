// Package authority is the coordinator's certificate authority: it makes itself a root once and issues the certificates
// that listeners show. The root's key is stored sealed.
package authority

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/google/renameio/v2"
)

// Sealer protects the root's key at rest; crypto/keyring has one.
type Sealer interface {
	Seal(secret []byte, context ...string) []byte
	Open(blob []byte, context ...string) ([]byte, error)
}

const (
	rootLife   = 10 * 365 * 24 * time.Hour
	serverLife = 90 * 24 * time.Hour
	renewAhead = 30 * 24 * time.Hour
)

// Authority issues certificates. Its methods may be called from any goroutine.
type Authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	now  func() time.Time
}

// Open loads the authority of a directory (ca.crt, 0644, and ca.key, sealed, 0600), and makes one when there is none.
func Open(dir string, sealer Sealer, now func() time.Time) (*Authority, error) {
	if now == nil {
		now = time.Now
	}
	a := &Authority{now: now}
	certPath, keyPath := filepath.Join(dir, "ca.crt"), filepath.Join(dir, "ca.key")
	certPEM, err := os.ReadFile(certPath)
	if errors.Is(err, fs.ErrNotExist) {
		return a, a.create(certPath, keyPath, sealer)
	}
	if err != nil {
		return nil, err
	}
	blob, err := os.ReadFile(keyPath)
	if err != nil {
		return nil, fmt.Errorf("the authority has a certificate but no key: %w", err)
	}
	der, err := sealer.Open(blob, "authority", "key")
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", keyPath, err)
	}
	if a.key, err = x509.ParseECPrivateKey(der); err != nil {
		return nil, fmt.Errorf("read %s: %w", keyPath, err)
	}
	block, _ := pem.Decode(certPEM)
	if block == nil {
		return nil, fmt.Errorf("read %s: no certificate in it", certPath)
	}
	if a.cert, err = x509.ParseCertificate(block.Bytes); err != nil {
		return nil, fmt.Errorf("read %s: %w", certPath, err)
	}
	if !a.key.PublicKey.Equal(a.cert.PublicKey) {
		return nil, fmt.Errorf("%s and %s do not belong together", certPath, keyPath)
	}
	return a, nil
}

// create writes the key before the certificate: a crash between leaves no authority, and the next start makes one.
func (a *Authority) create(certPath, keyPath string, sealer Sealer) error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	tmpl := &x509.Certificate{
		SerialNumber: serial(), Subject: pkix.Name{CommonName: "Reeve CA", Organization: []string{"Reeve"}},
		NotBefore: a.now().Add(-time.Hour), NotAfter: a.now().Add(rootLife),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, &key.PublicKey, key)
	if err != nil {
		return err
	}
	keyDER, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		return err
	}
	if err := renameio.WriteFile(keyPath, sealer.Seal(keyDER, "authority", "key"), 0o600); err != nil {
		return err
	}
	if err := renameio.WriteFile(certPath, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o644); err != nil {
		return err
	}
	a.key = key
	a.cert, err = x509.ParseCertificate(der)
	return err
}

// Certificate is the root's certificate, PEM: what clients trust.
func (a *Authority) Certificate() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: a.cert.Raw})
}

// Pool holds the root, for clients in this process.
func (a *Authority) Pool() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(a.cert)
	return pool
}

func serial() *big.Int {
	n, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		panic(err) // the system has no randomness: nothing may go on
	}
	return n.Add(n, big.NewInt(1))
}

func (a *Authority) issueServer(names []string) (*tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	tmpl := &x509.Certificate{
		SerialNumber: serial(), Subject: pkix.Name{CommonName: names[0]},
		NotBefore: a.now().Add(-time.Hour), NotAfter: a.now().Add(serverLife),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	for _, name := range names {
		if ip := net.ParseIP(name); ip != nil {
			tmpl.IPAddresses = append(tmpl.IPAddresses, ip)
		} else {
			tmpl.DNSNames = append(tmpl.DNSNames, name)
		}
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, a.cert, &key.PublicKey, a.key)
	if err != nil {
		return nil, err
	}
	leaf, err := x509.ParseCertificate(der)
	return &tls.Certificate{Certificate: [][]byte{der, a.cert.Raw}, PrivateKey: key, Leaf: leaf}, err
}

// ServerConfig is a TLS configuration for a listener known under the given names and addresses. Its certificate lives in
// memory, and is issued anew a month before it ends.
func (a *Authority) ServerConfig(names ...string) (*tls.Config, error) {
	if len(names) == 0 {
		names = []string{"localhost"}
	}
	current, err := a.issueServer(names)
	if err != nil {
		return nil, err
	}
	var mu sync.Mutex // protects current
	return &tls.Config{
		MinVersion: tls.VersionTLS12,
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
			mu.Lock()
			defer mu.Unlock()
			if a.now().Add(renewAhead).After(current.Leaf.NotAfter) {
				next, err := a.issueServer(names)
				if err != nil {
					return nil, err
				}
				current = next
			}
			return current, nil
		},
	}, nil
}
