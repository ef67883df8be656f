package director_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"net/http"
	"testing"
	"time"

	"github.com/reeve-paas/reeve/crypto/authority"
)

// userEndpoints need a user's certificate.
var userEndpoints = []struct{ method, path string }{
	{"GET", "/list"}, {"POST", "/list"}, {"POST", "/start/php"}, {"POST", "/start/php/default"}, {"POST", "/stop/1"}, {"POST", "/rename/1"},
	{"GET", "/list/1"}, {"GET", "/listapp"}, {"POST", "/createapp"}, {"POST", "/upload_manifest"}, {"POST", "/download_manifest/1"}, {"POST", "/renameapp/1"}, {"POST", "/delete/1"}, {"GET", "/user_credit"},
	{"GET", "/user_config"}, {"POST", "/startapp/1"}, {"POST", "/stopapp/1"}, {"POST", "/deleteapp/1"}, {"POST", "/add/php"}, {"POST", "/remove"},
	{"POST", "/rename"}, {"GET", "/list_resources"},
}

var managerEndpoints = []string{"/callback/decrementUserCredit.php", "/callback/terminateService.php", "/ca/get_cert.php"}

func (b *bed) call(cert *tls.Certificate, method, path string) answer {
	b.Helper()
	r, err := http.NewRequest(method, b.url(path), nil)
	b.must(err)
	return b.do(cert, r)
}

func TestAccess(t *testing.T) {
	b := newBed(t)
	ann, bob := b.user("ann", "10"), b.user("bob", "10")
	sid := sidOf(b.start(ann, "php"))
	manager := b.manager(ann, sid)
	unchanged := func(t *testing.T) {
		t.Helper()
		if rows := b.get(ann.cert, "/list").list(t); len(rows) != 1 || rows[0]["name"] != "New php service" || b.credit(ann) != 9 || b.credit(bob) != 10 {
			t.Errorf("something changed: %v, %d, %d", rows, b.credit(ann), b.credit(bob))
		}
	}
	refusedAll := func(t *testing.T, cert *tls.Certificate) {
		t.Helper()
		for _, e := range userEndpoints {
			b.wantBody(e.method+" "+e.path, b.call(cert, e.method, e.path), 401, "false")
		}
		unchanged(t)
	}
	t.Run("23. available_services needs nothing", func(t *testing.T) {
		got := b.get(nil, "/available_services?username=&password=")
		if got.status != 200 || len(got.json(t).([]any)) == 0 {
			t.Errorf("got %d %s", got.status, got.body)
		}
	})
	t.Run("24. without a certificate users' endpoints are refused", func(t *testing.T) { refusedAll(t, nil) })
	t.Run("24. and managers' too", func(t *testing.T) {
		for _, path := range managerEndpoints {
			b.wantBody(path, b.post(nil, path, "sid", itoa(sid), "decrement", "1"), 401, "false")
		}
		unchanged(t)
	})
	t.Run("25. certificates of others do not finish the handshake", func(t *testing.T) {
		other, err := authority.Open(t.TempDir(), authority.Director, plain{}, nil)
		b.must(err)
		foreign, err := other.IssuePair(authority.Order{Client: true, Life: time.Hour, Identity: authority.Identity{CommonName: "ann", Role: authority.RoleUser, UID: ann.uid}})
		b.must(err)
		expired, err := b.ca.IssuePair(authority.Order{Client: true, Life: -time.Minute, Identity: authority.Identity{CommonName: "ann", Role: authority.RoleUser, UID: ann.uid}})
		b.must(err)
		for name, cert := range map[string]*tls.Certificate{"self-signed": selfSigned(t, ann.uid), "foreign": foreign, "expired": expired} {
			r, err := http.NewRequest("GET", b.url("/list"), nil)
			b.must(err)
			if a, err := b.try(cert, r); err == nil && a.status != 401 {
				t.Errorf("%s: got %d %q", name, a.status, a.body)
			}
		}
	})
	t.Run("25. one of ours that nobody recorded does not count", func(t *testing.T) {
		refusedAll(t, b.forged(authority.Identity{CommonName: "ann", Role: authority.RoleUser, UID: ann.uid}))
		refusedAll(t, b.forged(authority.Identity{CommonName: "reeve.test"}))
		refusedAll(t, b.forged(authority.Identity{CommonName: "director.test", Role: authority.RoleFrontend}))
	})
	t.Run("26. another user's services and applications are not there", func(t *testing.T) {
		b.wantBody("stop", b.post(bob.cert, "/stop/"+itoa(sid)), 200, "false")
		b.wantBody("rename", b.post(bob.cert, "/rename/"+itoa(sid), "name", "mine"), 200, "false")
		b.wantBody("list", b.get(bob.cert, "/list"), 200, "[]")
		aid := b.get(ann.cert, "/listapp").list(t)[0]["aid"].(float64)
		b.wantBody("list of an application", b.get(bob.cert, "/list/"+itoa(int64(aid))), 200, "[]")
		b.wantBody("rename of an application", b.post(bob.cert, "/renameapp/"+itoa(int64(aid)), "name", "mine"), 200, "false")
		b.wantBody("end of an application", b.post(bob.cert, "/delete/"+itoa(int64(aid))), 200, "false")
		b.wantFailure("start", b.post(bob.cert, "/start/php", "appid", itoa(int64(aid))), "Application not found")
		unchanged(t)
	})
	t.Run("27. managers and agents are no users", func(t *testing.T) {
		refusedAll(t, manager)
		agent, err := b.certs.Agent(t.Context(), peerOf(t, b, manager), request(t, ecKey(t), &x509.CertificateRequest{}))
		b.must(err)
		_ = agent // its key is with the caller; the same identity from the authority is refused likewise
		refusedAll(t, b.forged(authority.Identity{CommonName: "ConPaaS", Role: authority.RoleAgent, UID: ann.uid, Service: sid}))
	})
	t.Run("28. users are no managers", func(t *testing.T) {
		for _, path := range managerEndpoints {
			b.wantBody(path, b.post(ann.cert, path, "sid", itoa(sid), "decrement", "1"), 200, "false")
		}
		unchanged(t)
	})
	t.Run("29. a certificate of an account that is shut out gets false", func(t *testing.T) {
		gone := b.user("gone", "1")
		b.must(b.auth.SetActive(t.Context(), gone.account.ID, false))
		b.wantBody("list", b.get(gone.cert, "/list"), 200, "false")
		b.wantBody("start", b.post(gone.cert, "/start/php"), 200, "false")
	})
	t.Run("a browser that is sent here by somebody else's page is refused", func(t *testing.T) {
		for name, value := range map[string]string{"Origin": "https://evil.test", "Sec-Fetch-Site": "cross-site"} {
			r, err := http.NewRequest("POST", b.url("/stop/"+itoa(sid)), nil)
			b.must(err)
			r.Header.Set(name, value)
			b.wantBody(name, b.do(ann.cert, r), 403, "false")
		}
		unchanged(t)
	})
	t.Run("only one of the endpoints that name a service of the manager's own works for it", func(t *testing.T) {
		stranger := b.manager(bob, sid) // a certificate of bob's that names ann's service
		for _, path := range managerEndpoints {
			b.wantBody(path, b.post(stranger, path, "sid", itoa(sid), "decrement", "1"), 200, "false")
		}
		unchanged(t)
	})
}

// plain seals nothing.
type plain struct{}

func (plain) Seal(secret []byte, _ ...string) []byte        { return secret }
func (plain) Open(blob []byte, _ ...string) ([]byte, error) { return blob, nil }

func ecKey(t *testing.T) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	return key
}

func selfSigned(t *testing.T, uid int64) *tls.Certificate {
	t.Helper()
	key := ecKey(t)
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		Subject: pkix.Name{CommonName: "CA", ExtraNames: []pkix.AttributeTypeAndValue{text([]int{2, 5, 4, 72}, "user"), text([]int{0, 9, 2342, 19200300, 100, 1, 1}, itoa(uid))}}}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, &key.PublicKey, key)
	must(t, err)
	return &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}
