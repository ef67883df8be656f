// Package authority is the coordinator's certificate authority: it makes itself a root once and issues certificates, for
// listeners by name, and for users, managers and agents of the Director by identity. Roots' keys are stored sealed. Serial
// numbers have 127 random bits; who wants to revoke a certificate keeps its serial.
package authority

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
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
	rootAhead  = 2 * 365 * 24 * time.Hour // a root is renewed, with the same key, so long before its end
	serverLife = 90 * 24 * time.Hour
	renewAhead = 30 * 24 * time.Hour
	backdate   = time.Hour // clocks of machines that just booted are slow
)

// Root describes an authority of a data directory. Each has files of its own.
type Root struct {
	Files   string // <Files>.crt and <Files>.key
	Subject Identity
}

// The authorities of a coordinator. Listeners and Director are two because each has a subject that cannot change: what trusts the
// listeners pinned "Reeve CA" long ago, and every client of the Director accepts a root by the very name "CA". Routes is one
// of its own because its certificates are for whatever names users serve: who trusts the listeners must not take one of them
// for the coordinator.
var (
	Listeners = Root{"ca", Identity{CommonName: "Reeve CA", Organization: "Reeve"}}
	Routes    = Root{"routes-ca", Identity{CommonName: "Reeve hosted names CA", Organization: "Reeve"}}
	Director  = Root{"director-ca", Identity{CommonName: "CA", Organization: "ConPaaS", Email: DirectorEmail}}
)

// DirectorEmail is in every certificate of the Director that is not a user's.
const DirectorEmail = "info@conpaas.eu"

// Authority issues certificates. Its methods may be called from any goroutine.
type Authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	now  func() time.Time
}

// Open loads an authority of a directory (ca.crt, 0644, and ca.key, sealed, 0600, for Listeners), makes one when there is
// none, and renews its certificate when it ends soon: what was issued before verifies against the new one too.
func Open(dir string, root Root, sealer Sealer, now func() time.Time) (*Authority, error) {
	if now == nil {
		now = time.Now
	}
	a := &Authority{now: now}
	certPath, keyPath := filepath.Join(dir, root.Files+".crt"), filepath.Join(dir, root.Files+".key")
	sealed := []string{"authority", "key"}
	if root.Files != Listeners.Files {
		sealed = append(sealed, root.Files) // one root's key cannot be put in place of another's
	}
	certPEM, err := os.ReadFile(certPath)
	if errors.Is(err, fs.ErrNotExist) {
		if a.key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
			return nil, err
		}
		keyDER, err := x509.MarshalECPrivateKey(a.key)
		if err != nil {
			return nil, err
		}
		// The key goes first: a crash between leaves no authority, and the next start makes one.
		if err := renameio.WriteFile(keyPath, sealer.Seal(keyDER, sealed...), 0o600); err != nil {
			return nil, err
		}
		return a, a.certify(root, certPath)
	}
	if err != nil {
		return nil, err
	}
	blob, err := os.ReadFile(keyPath)
	if err != nil {
		return nil, fmt.Errorf("the authority has a certificate but no key: %w", err)
	}
	der, err := sealer.Open(blob, sealed...)
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
	if a.now().Add(rootAhead).After(a.cert.NotAfter) {
		return a, a.certify(root, certPath)
	}
	return a, nil
}

// certify makes the root's certificate for its key.
func (a *Authority) certify(root Root, certPath string) error {
	tmpl := &x509.Certificate{
		SerialNumber: serial(), Subject: root.Subject.name(),
		NotBefore: a.now().Add(-backdate), NotAfter: a.now().Add(rootLife),
		IsCA: true, BasicConstraintsValid: true, MaxPathLenZero: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, &a.key.PublicKey, a.key)
	if err != nil {
		return err
	}
	if err := renameio.WriteFile(certPath, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o644); err != nil {
		return err
	}
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

// Order asks for a certificate.
type Order struct {
	Identity Identity
	Key      crypto.PublicKey
	Names    []string // host names and addresses; with any, the certificate is a server's too
	Client   bool
	Life     time.Duration
}

// Issue signs a certificate. It is never an authority's, and never carries the root's own name, which verifiers of the
// Director's clients take for a pass.
func (a *Authority) Issue(o Order) (*x509.Certificate, error) {
	if strings.EqualFold(strings.TrimSpace(o.Identity.CommonName), Director.Subject.CommonName) {
		return nil, fmt.Errorf("a certificate may not be called %q", o.Identity.CommonName)
	}
	tmpl := &x509.Certificate{
		SerialNumber: serial(), Subject: o.Identity.name(),
		NotBefore: a.now().Add(-backdate), NotAfter: a.now().Add(o.Life),
		BasicConstraintsValid: true,
		KeyUsage:              x509.KeyUsageDigitalSignature | x509.KeyUsageKeyEncipherment,
	}
	if len(o.Names) > 0 {
		tmpl.ExtKeyUsage = append(tmpl.ExtKeyUsage, x509.ExtKeyUsageServerAuth)
	}
	if o.Client {
		tmpl.ExtKeyUsage = append(tmpl.ExtKeyUsage, x509.ExtKeyUsageClientAuth)
	}
	for _, name := range o.Names {
		if ip := net.ParseIP(name); ip != nil {
			tmpl.IPAddresses = append(tmpl.IPAddresses, ip)
		} else {
			tmpl.DNSNames = append(tmpl.DNSNames, name)
		}
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, a.cert, o.Key, a.key)
	if err != nil {
		return nil, err
	}
	return x509.ParseCertificate(der)
}

// IssuePair signs a certificate for a key made here.
func (a *Authority) IssuePair(o Order) (*tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	o.Key = &key.PublicKey
	leaf, err := a.Issue(o)
	if err != nil {
		return nil, err
	}
	return &tls.Certificate{Certificate: [][]byte{leaf.Raw, a.cert.Raw}, PrivateKey: key, Leaf: leaf}, nil
}

// IssueForRoute makes a key and a certificate for a host name that is served for somebody: PEM. The name may be a wildcard.
// Whoever renews it does so a month before its end, as ServerConfig does.
func (a *Authority) IssueForRoute(name string) (cert, key []byte, err error) {
	o := Order{Names: []string{name}, Life: serverLife}
	if len(name) <= 64 { // an upper bound of X.520
		o.Identity.CommonName = name
	}
	pair, err := a.IssuePair(o)
	if err != nil {
		return nil, nil, err
	}
	return PEM(pair)
}

// PEM is a certificate and its key, PKCS#8, as files hold them.
func PEM(c *tls.Certificate) (cert, key []byte, err error) {
	der, err := x509.MarshalPKCS8PrivateKey(c.PrivateKey)
	if err != nil {
		return nil, nil, err
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Leaf.Raw}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), nil
}

// ServerConfig is a TLS configuration for a listener known under the given names and addresses. Its certificate lives in
// memory, and is issued anew a month before it ends.
func (a *Authority) ServerConfig(names ...string) (*tls.Config, error) {
	if len(names) == 0 {
		names = []string{"localhost"}
	}
	return a.IdentityConfig(Order{Identity: Identity{CommonName: names[0]}, Names: names})
}

// IdentityConfig is ServerConfig for a certificate as ordered; Key and Life are filled in.
func (a *Authority) IdentityConfig(o Order) (*tls.Config, error) {
	o.Life = serverLife
	current, err := a.IssuePair(o)
	if err != nil {
		return nil, err
	}
	var mu sync.Mutex // protects current
	return &tls.Config{
		MinVersion: tls.VersionTLS12,
		Time:       a.now,
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
			mu.Lock()
			defer mu.Unlock()
			if a.now().Add(renewAhead).After(current.Leaf.NotAfter) {
				next, err := a.IssuePair(o)
				if err != nil {
					return nil, err
				}
				current = next
			}
			return current, nil
		},
	}, nil
}
