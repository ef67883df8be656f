package core_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/reeve-paas/reeve/coordinator/core"
	"github.com/reeve-paas/reeve/coordinator/operation"
)

// pairOf makes a certificate signed by an authority of its own, and its key. change is applied to the certificate before it is
// signed.
func pairOf(t *testing.T, key crypto.Signer, change func(*x509.Certificate), names ...string) (leaf, issuer string, private core.Secret) {
	t.Helper()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	signer, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(err)
	if key == nil {
		key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		must(err)
	}
	serial, err := rand.Int(rand.Reader, big.NewInt(1<<62))
	must(err)
	root := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "issuer"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(1000 * time.Hour),
		IsCA: true, BasicConstraintsValid: true}
	cert := &x509.Certificate{SerialNumber: serial, Subject: pkix.Name{CommonName: "x"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(1000 * time.Hour), DNSNames: names}
	if change != nil {
		change(cert)
	}
	text := func(der []byte, err error) string {
		must(err)
		return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
	}
	leaf = text(x509.CreateCertificate(rand.Reader, cert, root, key.Public(), signer))
	issuer = text(x509.CreateCertificate(rand.Reader, root, root, &signer.PublicKey, signer))
	der, err := x509.MarshalPKCS8PrivateKey(key)
	must(err)
	return leaf, issuer, core.Secret(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
}

// upload stores a certificate of alice's for names.
func (b *bed) upload(names ...string) (core.RouteCertificate, []operation.Record) {
	b.Helper()
	leaf, issuer, key := pairOf(b.T, nil, nil, names...)
	rc, ops, err := b.UploadCertificate(b.Context(), b.alice, leaf+issuer, key)
	b.must(err)
	return rc, ops
}

// endAll waits for operations of groups of their own, and wants them completed.
func (b *bed) endAll(ops []operation.Record) {
	b.Helper()
	for _, op := range ops {
		b.wantStatuses(b.ends(op), operation.StatusCompleted)
	}
}

// shows is the id of the certificate that all routers show for a name, and that the store says they do.
func (b *bed) shows(name string) string {
	b.Helper()
	route, err := view(b, name)
	b.must(err)
	b.world.mu.Lock()
	defer b.world.mu.Unlock()
	for _, h := range b.world.hosts {
		if h.router && h.shown[name] != route.Certificate {
			b.Errorf("%s: a router shows %q, the store says %q", name, h.shown[name], route.Certificate)
		}
	}
	return route.Certificate
}

// issued is what our authority issued for a name.
func (b *bed) issued(name string) core.RouteCertificate {
	b.Helper()
	route, err := view(b, name)
	b.must(err)
	return read(b, func(r core.Reader) (core.RouteCertificate, error) { return r.IssuedCertificate(route.ID) })
}

func TestEveryNameHasACertificate(t *testing.T) {
	t.Parallel()
	b := newBed(t).work()
	b.router()
	b.secondRouter()
	app := b.running(spec())
	b.wantStatuses(b.addRoute(app, "*.wild.hosted.test"), "completed")
	seen := map[string]bool{}
	for _, name := range []string{"shop.hosted.test", "www.shop.hosted.test", "*.wild.hosted.test"} {
		rc := b.issued(name)
		leaf, err := rc.Leaf()
		b.must(err)
		if _, err := leaf.Verify(x509.VerifyOptions{DNSName: strings.Replace(name, "*", "a", 1), Roots: b.authority.Pool()}); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if got := b.shows(name); got != rc.ID || seen[got] {
			t.Errorf("%s: routers show %q, want its own %q", name, got, rc.ID)
		}
		seen[rc.ID] = true
	}
	b.wantStatuses(b.delete(app), "completed")
	b.wantNothingOf(app)
	if strings.Contains(b.log.String(), "PRIVATE KEY") {
		t.Error("a key is in the log")
	}
}

func TestAnUploadedCertificateIsShown(t *testing.T) {
	t.Parallel()
	b := newBed(t).work()
	b.router()
	b.secondRouter()
	app := b.running(spec())
	other := spec()
	other.Name, other.Routes = "blog", []string{"blog.hosted.test"}
	b.running(other)
	own := b.shows("shop.hosted.test")

	early, ops := b.upload("later.hosted.test")
	if len(ops) != 0 {
		t.Errorf("got operations %+v for a name that nobody has", ops)
	}
	rc, ops := b.upload("*.hosted.test")
	if len(ops) != 2 || rc.Key != nil {
		t.Errorf("got %d operations and the key %v, want one for each app and none", len(ops), rc.Key)
	}
	for _, op := range ops {
		if strings.Contains(string(op.Params), "PRIVATE") {
			t.Errorf("the key is in the operation's parameters: %s", op.Params)
		}
	}
	b.endAll(ops)
	for name, want := range map[string]string{"shop.hosted.test": rc.ID, "blog.hosted.test": rc.ID, "www.shop.hosted.test": b.issued("www.shop.hosted.test").ID} {
		if got := b.shows(name); got != want {
			t.Errorf("%s: got %q, want %q", name, got, want)
		}
	}
	t.Run("for names that come later, the newest of those that cover them", func(t *testing.T) {
		b := b.in(t)
		b.wantStatuses(b.addRoute(app, "later.hosted.test"), "completed")
		if got := b.shows("later.hosted.test"); got != rc.ID {
			t.Errorf("got %q, want the newer %q and not %q", got, rc.ID, early.ID)
		}
	})
	t.Run("not for names of others", func(t *testing.T) {
		b := b.in(t)
		s := spec()
		s.Name, s.Routes = "bobs", []string{"bobs.hosted.test"}
		_, ops, err := b.CreateApp(t.Context(), b.bob, s)
		b.must(err)
		b.ends(ops...)
		if got := b.shows("bobs.hosted.test"); got != b.issued("bobs.hosted.test").ID {
			t.Errorf("bob's name shows %q", got)
		}
		_, err = b.RemoveCertificate(t.Context(), b.bob, rc.Num)
		b.wantKind(err, core.NotFound)
		if list, err := b.RouteCertificates(t.Context(), b.bob); err != nil || len(list) > 0 {
			t.Errorf("got %+v, %v", list, err)
		}
	})
	t.Run("until it is removed", func(t *testing.T) {
		b := b.in(t)
		ops, err := b.RemoveCertificate(t.Context(), b.alice, rc.Num)
		b.must(err)
		_, err = b.RemoveCertificate(t.Context(), b.alice, rc.Num)
		b.wantKind(err, core.NotFound)
		b.endAll(ops)
		for name, want := range map[string]string{"shop.hosted.test": own, "later.hosted.test": early.ID} {
			if got := b.shows(name); got != want {
				t.Errorf("%s: got %q, want %q", name, got, want)
			}
		}
		list := read(b, func(r core.Reader) ([]core.RouteCertificate, error) { return r.RouteCertificates(b.alice.Account.ID) })
		if len(list) != 1 || list[0].ID != early.ID {
			t.Errorf("got %+v, want the other one only", list)
		}
	})
}

func TestBadCertificatesAreRefused(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	leaf, issuer, key := pairOf(t, nil, nil, "shop.hosted.test")
	other, _, otherKey := pairOf(t, nil, nil, "shop.hosted.test")
	small, err := rsa.GenerateKey(rand.Reader, 1024)
	b.must(err)
	big, err := rsa.GenerateKey(rand.Reader, 2048)
	b.must(err)
	_, edwards, err := ed25519.GenerateKey(rand.Reader)
	b.must(err)
	with := func(key crypto.Signer, change func(*x509.Certificate), names ...string) [2]string {
		leaf, _, private := pairOf(t, key, change, names...)
		return [2]string{leaf, string(private)}
	}
	locked := string(pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Headers: map[string]string{"Proc-Type": "4,ENCRYPTED", "DEK-Info": "AES-128-CBC,00"}, Bytes: []byte("x")}))
	for name, tc := range map[string]struct {
		pair  [2]string
		field string
		want  string
	}{
		"the key of another":        {[2]string{leaf, string(otherKey)}, "key", "does not belong"},
		"no certificate":            {[2]string{"", string(key)}, "crt", "no certificate in PEM form"},
		"no key":                    {[2]string{leaf, "-----BEGIN"}, "key", "no private key in PEM form"},
		"exchanged":                 {[2]string{string(key), leaf}, "crt", "only certificates belong here"},
		"a key with a passphrase":   {[2]string{leaf, locked}, "key", "passphrase"},
		"an encrypted PKCS#8 key":   {[2]string{leaf, "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n"}, "key", "passphrase"},
		"garbage in PEM":            {[2]string{"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", string(key)}, "crt", "cannot be read"},
		"a chain in another order":  {[2]string{issuer + leaf, string(key)}, "crt", "not signed by the next"},
		"a chain of somebody else":  {[2]string{other + issuer, string(otherKey)}, "crt", "not signed by the next"},
		"one that ended":            {with(nil, func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Minute) }, "shop.hosted.test"), "crt", "ended at"},
		"one that does not count":   {with(nil, func(c *x509.Certificate) { c.NotBefore = time.Now().Add(time.Hour) }, "shop.hosted.test"), "crt", "counts from"},
		"one without a host name":   {with(nil, nil), "crt", "covers no host name"},
		"one for clients":           {with(nil, func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth} }, "shop.hosted.test"), "crt", "not for servers"},
		"a key that is too small":   {with(small, nil, "shop.hosted.test"), "key", "2048"},
		"a certificate of any size": {[2]string{strings.Repeat("x", 65<<10), string(key)}, "crt", "at most 64 KiB"},
	} {
		t.Run(name, func(t *testing.T) {
			_, _, err := b.UploadCertificate(t.Context(), b.alice, tc.pair[0], core.Secret(tc.pair[1]))
			e, ok := err.(*core.Error)
			if !ok || e.Kind != core.Invalid || !slices.ContainsFunc(e.Problems, func(p core.Problem) bool { return p.Field == tc.field && strings.Contains(p.Msg, tc.want) }) {
				t.Errorf("got %+v, want a problem of %s with %q", err, tc.field, tc.want)
			}
		})
	}
	if list, err := b.RouteCertificates(t.Context(), b.alice); err != nil || len(list) > 0 {
		t.Errorf("got %+v, %v, want nothing stored", list, err)
	}
	_, _, err = b.UploadCertificate(t.Context(), core.Principal{Via: "anonymous"}, leaf, key)
	b.wantKind(err, core.Unauthenticated)
	for name, pair := range map[string][2]string{
		"RSA":                             with(big, nil, "a.test"),
		"Ed25519":                         with(edwards, nil, "b.test"),
		"text around the blocks":          {"subject=CN = x\n" + leaf + "\nissuer\n" + issuer, "Key:\n" + string(key) + "\n"},
		"a root of its own, no key usage": {other, string(otherKey)},
	} {
		if _, _, err := b.UploadCertificate(t.Context(), b.alice, pair[0], core.Secret(pair[1])); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	_, _, err = b.UploadCertificate(t.Context(), b.alice, leaf+issuer, key)
	b.wantKind(err, core.Exists)
}

func TestBreakEachCallOfACertificate(t *testing.T) {
	t.Parallel()
	b := newBed(t).work()
	b.router()
	b.secondRouter()
	b.running(spec())
	own := b.shows("shop.hosted.test")
	names := []string{"shop.hosted.test", "www.shop.hosted.test"}
	count := func() int {
		return len(read(b, func(r core.Reader) ([]core.RouteCertificate, error) { return r.RouteCertificates(b.alice.Account.ID) }))
	}
	remove := func(b *bed, rc core.RouteCertificate) []operation.Record {
		ops, err := b.RemoveCertificate(b.Context(), b.alice, rc.Num)
		b.must(err)
		return b.ends(ops...)
	}
	const calls = 4 // two names on two routers
	for n := 1; n <= calls; n++ {
		t.Run(fmt.Sprintf("call %d fails for a while", n), func(t *testing.T) {
			b := b.in(t)
			b.world.arm(map[int]error{n: temporary})
			rc, ops := b.upload(names...)
			b.endAll(ops)
			if got := b.shows("shop.hosted.test"); got != rc.ID {
				t.Errorf("got %q, want %q", got, rc.ID)
			}
			b.world.arm(map[int]error{n: temporary})
			b.wantStatuses(remove(b, rc), "completed")
			if got := b.shows("shop.hosted.test"); got != own || count() != 0 {
				t.Errorf("got %q and %d certificates, want %q and none", got, count(), own)
			}
		})
		t.Run(fmt.Sprintf("call %d fails for good", n), func(t *testing.T) {
			b := b.in(t)
			b.world.arm(map[int]error{n: permanent, n + 1: temporary})
			_, ops := b.upload(names...)
			b.wantFailed(b.ends(ops...))
			if got := b.shows("shop.hosted.test"); got != own || count() != 0 {
				t.Errorf("got %q and %d certificates, want %q and none", got, count(), own)
			}
			b.world.arm(nil)
			rc, ops := b.upload(names...)
			b.endAll(ops)
			b.world.arm(map[int]error{n: permanent, n + 1: temporary})
			b.wantFailed(remove(b, rc))
			if got := b.shows("shop.hosted.test"); got != rc.ID || count() != 1 {
				t.Errorf("got %q and %d certificates after a removal that failed, want %q", got, count(), rc.ID)
			}
			b.world.arm(nil)
			b.wantStatuses(remove(b, rc), "completed")
		})
	}
}

func TestCertificatesAreRenewed(t *testing.T) {
	t.Parallel()
	var later atomic.Int64
	b := newBed(t, func(o *core.Options) {
		o.Clock = func() time.Time { return time.Now().Add(time.Duration(later.Load())) }
	}).work()
	b.router()
	app := b.running(spec())
	renew := func() (kinds []string) {
		t.Helper()
		left, err := b.RenewCertificates(t.Context())
		b.must(err)
		for _, op := range b.unfinished() {
			kinds = append(kinds, op.Kind)
			b.ends(op)
		}
		if left {
			t.Error("an app was left out that nothing works on")
		}
		return kinds
	}
	first := b.issued("shop.hosted.test")
	rc, ops := b.upload("shop.hosted.test")
	b.endAll(ops)
	if got := renew(); len(got) > 0 {
		t.Errorf("got %q with nothing to renew", got)
	}
	later.Add(int64(1001 * time.Hour))
	if got := b.shows("shop.hosted.test"); got != rc.ID {
		t.Fatalf("got %q, want %q", got, rc.ID)
	}
	renew()
	if got := b.shows("shop.hosted.test"); got != first.ID {
		t.Errorf("got %q after the uploaded one ended, want our own %q", got, first.ID)
	}
	later.Add(int64(30 * 24 * time.Hour))
	if got := renew(); !slices.Equal(got, []string{core.OpRouteCertify}) {
		t.Errorf("got the operations %q, want one for the app", got)
	}
	for _, route := range app.Routes {
		second := b.issued(route.Hostname)
		if got := b.shows(route.Hostname); got != second.ID || second.ID == first.ID || !second.EndsAt.After(first.EndsAt) {
			t.Errorf("%s: got %q that ends %s, want a new one that ends after %s", route.Hostname, got, second.EndsAt, first.EndsAt)
		}
	}
	if got := renew(); len(got) > 0 {
		t.Errorf("got %q again", got)
	}
	b.must(b.store.Update(t.Context(), func(tx core.Tx) error { // as a version without TLS left it
		route, err := tx.Route("shop.hosted.test")
		if err != nil {
			return err
		}
		route.Certificate = ""
		return tx.PutRoute(&route)
	}))
	if got := renew(); len(got) != 1 || b.shows("shop.hosted.test") != b.issued("shop.hosted.test").ID {
		t.Errorf("got %q and the certificate %q for a name of before", got, b.shows("shop.hosted.test"))
	}
}

func TestAnAppThatIsDeletedDecidesAboutItsOwnNamesOnly(t *testing.T) {
	t.Parallel()
	b := newBed(t).work()
	b.router()
	app := b.running(spec())
	other := spec()
	other.Name, other.Routes = "blog", []string{"blog.hosted.test"}
	blog := b.running(other)
	b.world.always("MakeProxy", temporary) // so that nothing ends before the deletion
	rc, ops := b.upload("*.hosted.test")
	op, err := b.DeleteApp(t.Context(), b.alice, app.Num)
	b.must(err)
	b.world.always("MakeProxy", nil)
	b.wantStatuses(b.ends(op), "completed")
	b.wantNothingOf(app)
	for _, op := range ops {
		b.ends(op)
	}
	if got := b.shows("blog.hosted.test"); got != rc.ID {
		t.Errorf("got %q, want the uploaded %q still", got, rc.ID)
	}
	b.world.always("MakeProxy", temporary)
	_, err = b.RemoveCertificate(t.Context(), b.alice, rc.Num)
	b.must(err)
	op, err = b.DeleteApp(t.Context(), b.alice, blog.Num)
	b.must(err)
	b.world.always("MakeProxy", nil)
	b.wantStatuses(b.ends(op), "completed")
	b.until("the certificate to be gone", func() bool {
		return len(read(b, func(r core.Reader) ([]core.RouteCertificate, error) { return r.RouteCertificates(b.alice.Account.ID) })) == 0
	})
}

func TestRoutersOfBeforeServeWithoutTLS(t *testing.T) {
	t.Parallel()
	b := newBed(t).work()
	b.router()
	b.world.withoutTLS = true
	b.running(spec())
	b.world.mu.Lock()
	defer b.world.mu.Unlock()
	for _, h := range b.world.hosts {
		if h.router && (len(h.proxies) != 2 || len(h.shown) != 0) {
			t.Errorf("got the proxies %v and certificates %v, want both names in the clear", h.proxies, h.shown)
		}
	}
	if !strings.Contains(b.log.String(), "cannot serve a name over TLS") {
		t.Error("the log does not say so")
	}
}

func TestANodeGetsCertificatesOfTheNamesItServesOnly(t *testing.T) {
	t.Parallel()
	b := newBed(t).work()
	router := b.router()
	app := b.running(spec())
	other := spec()
	other.Name, other.Routes = "blog", []string{"blog.hosted.test"}
	blog := b.running(other)
	rc, ops := b.upload("shop.hosted.test")
	b.endAll(ops)
	unused, _ := b.upload("nobody.hosted.test")
	www, blogs := b.issued("www.shop.hosted.test"), b.issued("blog.hosted.test")
	for _, tc := range []struct {
		who  core.Node
		id   string
		want bool
	}{
		{router, rc.ID, true}, {router, www.ID, true}, {router, blogs.ID, true}, {router, unused.ID, false}, {router, "", false}, {router, "77", false},
		{app.Nodes[0], rc.ID, true}, {app.Nodes[0], www.ID, true}, {app.Nodes[0], blogs.ID, false},
		{blog.Nodes[0], rc.ID, false}, {blog.Nodes[0], blogs.ID, true},
	} {
		got, err := b.NodeCertificate(t.Context(), tc.who, tc.id)
		if tc.want && (err != nil || got.ID != tc.id || len(got.Key) == 0) || !tc.want && (err == nil || core.KindOf(err) != core.NotFound) {
			t.Errorf("%s asks for %q: got %q, %v, want it: %v", tc.who.Name, tc.id, got.ID, err, tc.want)
		}
	}
}
