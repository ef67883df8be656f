package auth

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"time"

	"github.com/reeve-paas/reeve/coordinator/core"
	"github.com/reeve-paas/reeve/crypto/authority"
)

// certificateLife is how long certificates of users, managers and agents count (spec director 3.2).
const certificateLife = 365 * 24 * time.Hour

// Certificates issues certificates of an authority to accounts and their services, and finds out who shows one. Every serial
// is stored and every issue is in the audit record; what is not stored, or revoked, does not count.
type Certificates struct {
	auth *Auth
	ca   *authority.Authority
}

// NewCertificates builds Certificates.
func NewCertificates(a *Auth, ca *authority.Authority) *Certificates { return &Certificates{a, ca} }

// Role is what the holder of a certificate may act as.
type Role = authority.Role

// The roles of certificates.
const (
	RoleUser     = authority.RoleUser
	RoleManager  = authority.RoleManager
	RoleAgent    = authority.RoleAgent
	RoleFrontend = authority.RoleFrontend
)

// Pair is a certificate with its key, and the authority's certificate, all PEM.
type Pair struct {
	Cert, Key, CA []byte
}

// Authority is the authority's certificate, PEM.
func (c *Certificates) Authority() []byte { return c.ca.Certificate() }

// User issues a certificate to an account, with a new key that is kept nowhere.
func (c *Certificates) User(ctx context.Context, p core.Principal) (Pair, error) {
	a := p.Account
	name := a.LoginName()
	if len(name) > 64 { // an upper bound of X.520
		name = a.Handle
	}
	order := authority.Order{Client: true, Life: certificateLife, Identity: authority.Identity{CommonName: name, Organization: "Contrail",
		Email: a.Email, Role: authority.RoleUser, UID: a.Num}}
	if !isASCII(a.Email) {
		order.Identity.Email = ""
	}
	return c.pair(ctx, p, order)
}

// Manager issues a certificate to the manager of a service. names, if any, are the names and addresses it answers at.
func (c *Certificates) Manager(ctx context.Context, p core.Principal, service int64, names ...string) (Pair, error) {
	return c.pair(ctx, p, c.managerOrder(p.Account, service, names...))
}

func (c *Certificates) managerOrder(owner core.Account, service int64, names ...string) authority.Order {
	return authority.Order{Client: true, Life: certificateLife, Names: names, Identity: authority.Identity{CommonName: "ConPaaS", Organization: "Contrail",
		Email: authority.DirectorEmail, Role: authority.RoleManager, UID: owner.Num, Service: service}}
}

// ManagerConfig is a TLS configuration for answering as the manager of a service at names and addresses, to whom a
// certificate of ours is shown. Its certificate is in memory only, and not accepted from anybody who would show it.
func (c *Certificates) ManagerConfig(owner core.Account, service int64, names ...string) (*tls.Config, error) {
	order := c.managerOrder(owner, service, names...)
	order.Client = false
	return c.serverConfig(order)
}

// DirectorConfig is a TLS configuration for the Director itself, known under names and addresses.
func (c *Certificates) DirectorConfig(names ...string) (*tls.Config, error) {
	return c.serverConfig(authority.Order{Client: true, Names: names, Identity: authority.Identity{CommonName: names[0], Organization: "ConPaaS",
		Email: authority.DirectorEmail, Role: authority.RoleFrontend}})
}

func (c *Certificates) serverConfig(o authority.Order) (*tls.Config, error) {
	conf, err := c.ca.IdentityConfig(o)
	if err != nil {
		return nil, err
	}
	conf.ClientCAs, conf.ClientAuth = c.ca.Pool(), tls.VerifyClientCertIfGiven
	conf.NextProtos = []string{"http/1.1"}
	return conf, nil
}

// Agent issues an agent's certificate for the key of a request that a manager sent. Whose agent it is, the manager's own
// certificate says, and never the request.
//
// Errors: invalid (the request)
func (c *Certificates) Agent(ctx context.Context, p Peer, request []byte) ([]byte, error) {
	key, err := authority.Request(request)
	if err != nil {
		return nil, core.Errorf(core.Invalid, core.ObjCertificate, "%s", err)
	}
	leaf, err := c.issue(ctx, p.Principal, authority.Order{Key: key, Client: true, Life: certificateLife, Names: []string{"conpaas-agent"},
		Identity: authority.Identity{CommonName: "ConPaaS", Organization: "ConPaaS", Email: authority.DirectorEmail, Role: authority.RoleAgent,
			UID: p.Account.Num, Service: p.Service}})
	if err != nil {
		return nil, err
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: leaf.Raw}), nil
}

func (c *Certificates) pair(ctx context.Context, p core.Principal, o authority.Order) (Pair, error) {
	both, err := c.ca.IssuePair(o)
	if err != nil {
		return Pair{}, err
	}
	if err := c.record(ctx, p, o, both.Leaf); err != nil {
		return Pair{}, err
	}
	cert, key, err := authority.PEM(both)
	return Pair{cert, key, c.ca.Certificate()}, err
}

func (c *Certificates) issue(ctx context.Context, p core.Principal, o authority.Order) (*x509.Certificate, error) {
	leaf, err := c.ca.Issue(o)
	if err != nil {
		return nil, err
	}
	return leaf, c.record(ctx, p, o, leaf)
}

func serialOf(cert *x509.Certificate) string { return cert.SerialNumber.Text(16) }

// record stores what was signed, before anybody gets it.
func (c *Certificates) record(ctx context.Context, p core.Principal, o authority.Order, leaf *x509.Certificate) error {
	return c.auth.store.Update(ctx, func(tx core.Tx) error {
		now := c.auth.now().UTC()
		err := tx.AddCertificate(core.Certificate{Serial: serialOf(leaf), AccountID: p.Account.ID, Role: string(o.Identity.Role),
			Service: o.Identity.Service, CreatedAt: now, EndsAt: leaf.NotAfter})
		if err != nil {
			return err
		}
		return tx.Audit(core.AuditRecord{At: now, AccountID: p.Account.ID, Dialect: p.Dialect, From: p.From,
			Action: "certificate.issue." + string(o.Identity.Role), Subject: serialOf(leaf), Outcome: "accepted"})
	})
}

// Peer is who shows a certificate.
type Peer struct {
	core.Principal
	Role    Role
	UID     int64
	Service int64 // number of a manager's or an agent's service
}

// ErrNoAccount is the failure about a certificate that is fine, of an account that is gone.
var ErrNoAccount = core.Errorf(core.NotFound, core.ObjAccount, "the account of this certificate is gone")

// Peer finds out who showed the certificate of a finished handshake.
//
// Errors: unauthenticated (none, not of ours, unknown, revoked, or an identity that cannot be read), ErrNoAccount
func (c *Certificates) Peer(ctx context.Context, state *tls.ConnectionState) (Peer, error) {
	no := func(format string, args ...any) (Peer, error) {
		return Peer{}, core.Errorf(core.Unauthenticated, core.ObjCertificate, format, args...)
	}
	if state == nil || len(state.VerifiedChains) == 0 {
		return no("a certificate is needed")
	}
	if len(state.VerifiedChains[0]) != 2 {
		return no("the certificate was not issued by the authority itself")
	}
	leaf := state.VerifiedChains[0][0]
	id, err := authority.IdentityOf(leaf)
	if err != nil {
		return no("the certificate's subject cannot be used: %v", err)
	}
	peer := Peer{Role: id.Role, UID: id.UID, Service: id.Service}
	if id.Role == authority.RoleFrontend {
		return peer, nil // ours, never stored, and good for nothing that belongs to an account
	}
	err = c.auth.store.View(ctx, func(r core.Reader) error {
		known, err := r.Certificate(serialOf(leaf))
		if core.KindOf(err) == core.NotFound && err != nil || err == nil && !known.RevokedAt.IsZero() {
			return core.Errorf(core.Unauthenticated, core.ObjCertificate, "the certificate does not count any more")
		}
		if err != nil {
			return err
		}
		peer.Account, err = r.Account(known.AccountID)
		switch {
		case err != nil && core.KindOf(err) == core.NotFound:
			return ErrNoAccount
		case err != nil:
			return err
		case peer.Account.Num != id.UID || known.Role != string(id.Role) || known.Service != id.Service:
			return core.Errorf(core.Unauthenticated, core.ObjCertificate, "the certificate is not the one that was issued")
		case !peer.Account.Active:
			return ErrNoAccount
		}
		return nil
	})
	if err != nil {
		return Peer{}, fmt.Errorf("look at the certificate: %w", err)
	}
	peer.Account.PasswordHash = ""
	peer.Via = "certificate"
	return peer, nil
}
