package core

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/reeve-paas/reeve/agent/agentapi"
)

const (
	maxCertificates   = 100 // that an account may upload
	maxCertificateKB  = 64  // of PEM, certificate and key each
	maxChain          = 10  // certificates
	renewIssuedBefore = 30 * 24 * time.Hour
)

// RouteCertificate is a certificate that routers show for names: issued by our authority for one route, or uploaded by an
// account, for every route of its apps that it covers.
type RouteCertificate struct {
	Num       int64
	ID        string    // of its content, as routers know it: agentapi.DeliveredPrefix and 32 hex digits
	AccountID AccountID // who uploaded it; "" of an issued one
	RouteID   string    // for which it was issued; "" of an uploaded one
	Names     []string  // host names it covers, normal form
	Chain     []byte    // PEM, its own first
	Key       []byte    // PEM, PKCS#8; sealed at rest, left out of lists
	StartsAt  time.Time
	EndsAt    time.Time
	CreatedAt time.Time
	Deleting  bool // not shown for any name any more
}

// RouteAuthority issues certificates for the names of routes.
type RouteAuthority interface {
	// IssueForRoute makes a key and a certificate for a host name, which may be a wildcard: PEM, the certificate's own first.
	IssueForRoute(name string) (chain, key []byte, err error)
}

// Leaf is the certificate itself.
func (rc RouteCertificate) Leaf() (*x509.Certificate, error) {
	block, _ := pem.Decode(rc.Chain)
	if block == nil {
		return nil, Errorf(Internal, ObjCertificate, "a stored certificate cannot be read")
	}
	return x509.ParseCertificate(block.Bytes)
}

// Covers says whether clients accept the certificate for a host name.
func (rc RouteCertificate) Covers(hostname string) bool {
	_, parent, _ := strings.Cut(hostname, ".")
	return slices.Contains(rc.Names, hostname) || !strings.HasPrefix(hostname, "*.") && slices.Contains(rc.Names, "*."+parent)
}

// UploadedFor is the certificate of an account's that is shown for a name: the newest that covers it and counts now.
func UploadedFor(uploaded []RouteCertificate, hostname string, now time.Time) (best RouteCertificate, ok bool) {
	for _, rc := range uploaded {
		if !rc.Deleting && rc.Covers(hostname) && !now.Before(rc.StartsAt) && now.Before(rc.EndsAt) && rc.Num > best.Num {
			best, ok = rc, true
		}
	}
	return best, ok
}

// appsShowing are the apps that have a name for which a certificate is to be shown.
func appsShowing(r Reader, rc RouteCertificate, now time.Time) ([]App, error) {
	if rc.RouteID != "" {
		route, err := r.Route(rc.Names[0])
		if err != nil || route.ID != rc.RouteID {
			return nil, ignoreNotFound(err)
		}
		app, err := r.App(route.AppID)
		return []App{app}, err
	}
	uploaded, err := r.RouteCertificates(rc.AccountID)
	if err != nil {
		return nil, err
	}
	apps, err := r.Apps(rc.AccountID, 0, 0)
	return slices.DeleteFunc(apps, func(app App) bool {
		return !slices.ContainsFunc(app.Routes, func(route Route) bool {
			best, ok := UploadedFor(uploaded, route.Hostname, now)
			return ok && best.Num == rc.Num
		})
	}), err
}

func (rc RouteCertificate) renewable(now time.Time) bool {
	return now.Add(renewIssuedBefore).After(rc.EndsAt)
}

// readCertificate checks a chain and its key as somebody uploads them, and normalises both. No problem holds a part of the key.
// Routers' TLS refuses what is weaker.
//
// Source: RFC 8446 §4.4.2 (order), RFC 9525 §6 (a subject's common name is no host name), RFC 5280
func readCertificate(chain string, key Secret, now time.Time) (rc RouteCertificate, problems []Problem) {
	bad := func(field, format string, args ...any) {
		problems = append(problems, Problem{Field: field, Code: ProblemPattern, Msg: fmt.Sprintf(format, args...)})
	}
	var certs []*x509.Certificate
	if problem := tooLong("crt", len(chain)); problem != nil {
		problems = append(problems, *problem)
	} else if found, err := readChain(chain); err != nil {
		bad("crt", "%s", err)
	} else {
		certs = found
	}
	var private crypto.Signer
	if problem := tooLong("key", len(key)); problem != nil {
		problems = append(problems, *problem)
	} else if found, err := readKey(key); err != nil {
		bad("key", "%s", err)
	} else {
		private = found
	}
	if len(certs) == 0 {
		return rc, problems
	}
	leaf := certs[0]
	if err := checkLeaf(leaf, now); err != nil {
		bad("crt", "%s", err)
	}
	for _, name := range leaf.DNSNames {
		if n, ok := NormalHostname(name); ok && !slices.Contains(rc.Names, n) {
			rc.Names = append(rc.Names, n)
		}
	}
	if len(rc.Names) == 0 {
		bad("crt", "the certificate covers no host name: subjectAltName has none")
	}
	if private == nil {
		return rc, problems
	}
	if public, ok := private.Public().(interface{ Equal(crypto.PublicKey) bool }); !ok || !public.Equal(leaf.PublicKey) {
		bad("key", "the key does not belong to the certificate")
		return rc, problems
	}
	der, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		bad("key", "the key cannot be used")
		return rc, problems
	}
	sum := sha256.New()
	for _, c := range certs {
		rc.Chain = append(rc.Chain, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw})...)
		sum.Write(c.Raw)
	}
	rc.Key = pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
	rc.ID = agentapi.DeliveredPrefix + hex.EncodeToString(sum.Sum(nil))[:32]
	rc.StartsAt, rc.EndsAt = leaf.NotBefore.UTC(), leaf.NotAfter.UTC()
	return rc, problems
}

func tooLong(field string, bytes int) *Problem {
	if bytes <= maxCertificateKB<<10 {
		return nil
	}
	return &Problem{Field: field, Code: ProblemTooLong, Msg: fmt.Sprintf("at most %d KiB", maxCertificateKB)}
}

// readChain reads certificates in the order in which each is signed by the next.
func readChain(text string) ([]*x509.Certificate, error) {
	var certs []*x509.Certificate
	for rest := []byte(text); ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		if block.Type != "CERTIFICATE" {
			return nil, fmt.Errorf("only certificates belong here, and this is something else: %s", clip(block.Type))
		}
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, errors.New("a certificate cannot be read")
		}
		if certs = append(certs, cert); len(certs) > maxChain {
			return nil, fmt.Errorf("at most %d certificates", maxChain)
		}
	}
	if len(certs) == 0 {
		return nil, errors.New("no certificate in PEM form")
	}
	weak := []x509.SignatureAlgorithm{x509.MD2WithRSA, x509.MD5WithRSA, x509.SHA1WithRSA, x509.DSAWithSHA1, x509.ECDSAWithSHA1}
	for i, c := range certs {
		self := bytes.Equal(c.RawIssuer, c.RawSubject)
		if slices.Contains(weak, c.SignatureAlgorithm) && !self {
			return nil, fmt.Errorf("a certificate is signed with %s, which nobody accepts any more", c.SignatureAlgorithm)
		}
		if i+1 < len(certs) && certs[i+1].CheckSignature(c.SignatureAlgorithm, c.RawTBSCertificate, c.Signature) != nil {
			return nil, fmt.Errorf("certificate %d is not signed by the next: the site's own comes first, then its issuer's and so on", i+1)
		}
	}
	return certs, nil
}

func checkLeaf(leaf *x509.Certificate, now time.Time) error {
	switch {
	case now.After(leaf.NotAfter):
		return fmt.Errorf("the certificate ended at %s", leaf.NotAfter.UTC().Format(time.RFC3339))
	case now.Before(leaf.NotBefore):
		return fmt.Errorf("the certificate counts from %s on", leaf.NotBefore.UTC().Format(time.RFC3339))
	case len(leaf.ExtKeyUsage)+len(leaf.UnknownExtKeyUsage) > 0 &&
		!slices.Contains(leaf.ExtKeyUsage, x509.ExtKeyUsageServerAuth) && !slices.Contains(leaf.ExtKeyUsage, x509.ExtKeyUsageAny):
		return errors.New("the certificate is not for servers")
	}
	return nil
}

func readKey(text Secret) (crypto.Signer, error) {
	for rest := []byte(text); ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			return nil, errors.New("no private key in PEM form")
		}
		switch block.Type {
		case "EC PARAMETERS":
			continue
		case "ENCRYPTED PRIVATE KEY":
			return nil, errors.New("the key is protected by a passphrase; take it off first")
		}
		if block.Headers["Proc-Type"] != "" {
			return nil, errors.New("the key is protected by a passphrase; take it off first")
		}
		var key any
		var err error
		switch block.Type {
		case "PRIVATE KEY":
			key, err = x509.ParsePKCS8PrivateKey(block.Bytes)
		case "RSA PRIVATE KEY":
			key, err = x509.ParsePKCS1PrivateKey(block.Bytes)
		case "EC PRIVATE KEY":
			key, err = x509.ParseECPrivateKey(block.Bytes)
		default:
			return nil, fmt.Errorf("a private key belongs here, and this is something else: %s", clip(block.Type))
		}
		if err != nil {
			return nil, errors.New("the key cannot be read")
		}
		switch k := key.(type) {
		case *rsa.PrivateKey:
			if bits := k.N.BitLen(); bits < 2048 || bits > 8192 {
				return nil, fmt.Errorf("an RSA key needs 2048 to 8192 bits, and this one has %d", bits)
			}
			return k, nil
		case *ecdsa.PrivateKey:
			if k.Curve.Params().BitSize < 256 {
				return nil, errors.New("the key's curve is too small")
			}
			return k, nil
		case ed25519.PrivateKey:
			return k, nil
		}
		return nil, errors.New("the key is neither RSA nor ECDSA nor Ed25519")
	}
}

// certificatesFor finds what routers show for names of an app, issuing what is missing or ends soon. A name that is not in the
// map is served without TLS: no authority issues certificates here, or the name is not a route.
func (c *Core) certificatesFor(ctx context.Context, app App, names []string) (map[string]RouteCertificate, error) {
	found := map[string]RouteCertificate{}
	var missing []Route
	now := c.now()
	err := c.Store.View(ctx, func(r Reader) error {
		clear(found)
		missing = nil
		uploaded, err := r.RouteCertificates(app.AccountID)
		if err != nil {
			return err
		}
		for _, name := range names {
			route, err := r.Route(name)
			if isNotFound(err) {
				continue
			}
			if err != nil {
				return err
			}
			if rc, ok := UploadedFor(uploaded, name, now); ok {
				if found[name], err = r.RouteCertificate(rc.Num); err != nil {
					return err
				}
				continue
			}
			rc, err := r.IssuedCertificate(route.ID)
			switch {
			case isNotFound(err) || err == nil && rc.renewable(now):
				missing = append(missing, route)
			case err != nil:
				return err
			default:
				found[name] = rc
			}
		}
		return nil
	})
	if err != nil || c.RouteAuthority == nil {
		return found, err
	}
	for _, route := range missing {
		rc, err := c.issueForRoute(ctx, route)
		if isNotFound(err) {
			continue
		}
		if err != nil {
			return nil, err
		}
		found[route.Hostname] = rc
	}
	return found, nil
}

// issueForRoute issues a route a certificate and stores it before anybody gets it.
func (c *Core) issueForRoute(ctx context.Context, route Route) (RouteCertificate, error) {
	chain, key, err := c.RouteAuthority.IssueForRoute(route.Hostname)
	if err != nil {
		return RouteCertificate{}, Wrap(Internal, ObjCertificate, err, "issue a certificate for %s", route.Hostname)
	}
	now := c.now()
	fresh, problems := readCertificate(string(chain), Secret(key), now)
	if len(problems) > 0 {
		return fresh, Errorf(Internal, ObjCertificate, "issue a certificate for %s: %s", route.Hostname, problems[0].Msg)
	}
	var rc RouteCertificate
	err = c.Store.Update(ctx, func(tx Tx) error {
		current, err := tx.Route(route.Hostname)
		if err != nil || current.ID != route.ID {
			return Errorf(NotFound, ObjRoute, "the route does not exist any more")
		}
		rc = fresh
		rc.RouteID, rc.CreatedAt = route.ID, now
		old, err := tx.IssuedCertificate(route.ID)
		if err == nil && !old.renewable(now) {
			rc = old // somebody else was faster
			return nil
		}
		if err != nil && !isNotFound(err) {
			return err
		}
		rc.Num = old.Num
		return tx.PutRouteCertificate(&rc)
	})
	return rc, err
}

// unsureCertificate stands for the id of a certificate while routers are told of another one.
const unsureCertificate = "?"

// noteShown records which certificates routers were given for names, or, with sure not set, that they are about to be given them.
func (c *Core) noteShown(ctx context.Context, app App, names []string, shown map[string]RouteCertificate, sure bool) error {
	return c.Store.Update(ctx, func(tx Tx) error {
		for _, name := range names {
			route, err := tx.Route(name)
			if isNotFound(err) || err == nil && (route.AppID != app.ID || route.Certificate == shown[name].ID) {
				continue
			}
			if err != nil {
				return err
			}
			if route.Certificate = shown[name].ID; !sure {
				route.Certificate = unsureCertificate
			}
			if err := tx.PutRoute(&route); err != nil {
				return err
			}
		}
		return nil
	})
}

// withCertificate adds a certificate to what makes one router serve a name; without one the name is served without TLS.
func withCertificate(p agentapi.ProxyParams, rc RouteCertificate) agentapi.ProxyParams {
	if rc.ID == "" {
		return p
	}
	p.SSL, p.SSLCertificateID = agentapi.Ptr(agentapi.Bool(true)), agentapi.Ptr(agentapi.Text(rc.ID))
	p.SSLCertificate = &agentapi.KeyPair{Cert: string(rc.Chain), Key: agentapi.Secret(rc.Key)}
	return p
}

// makeProxy makes one router serve a name with a certificate. An agent of before, that neither takes a certificate nor knows
// whom to ask for it, goes on without TLS.
func (c *Core) makeProxy(ctx context.Context, agent Agent, p agentapi.ProxyParams, rc RouteCertificate) error {
	err := agent.MakeProxy(ctx, withCertificate(p, rc))
	if err != nil && rc.ID != "" && KindOf(err) == Unsupported {
		c.Log.Warn("a router cannot serve a name over TLS", "hostname", p.Hostname, "err", err)
		return agent.MakeProxy(ctx, p)
	}
	return err
}
