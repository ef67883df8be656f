package director_test

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha1"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"math/big"
	"strconv"
	"testing"

	"github.com/reeve-paas/reeve/coordinator/auth"
)

func itoa(n int64) string { return strconv.FormatInt(n, 10) }

// sha1Request is a request as old managers sign it; Go makes none any more.
func sha1Request(t *testing.T, key *rsa.PrivateKey) []byte {
	t.Helper()
	spki, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
	must(t, err)
	subject, err := asn1.Marshal(pkix.Name{CommonName: "ConPaaS"}.ToRDNSequence())
	must(t, err)
	tbs, err := asn1.Marshal(struct {
		Version    int
		Subject    asn1.RawValue
		Key        asn1.RawValue
		Attributes asn1.RawValue
	}{0, asn1.RawValue{FullBytes: subject}, asn1.RawValue{FullBytes: spki}, asn1.RawValue{Class: 2, Tag: 0, IsCompound: true}})
	must(t, err)
	sum := sha1.Sum(tbs)
	signature, err := rsa.SignPKCS1v15(rand.Reader, key, crypto.SHA1, sum[:])
	must(t, err)
	der, err := asn1.Marshal(struct {
		TBS       asn1.RawValue
		Algorithm pkix.AlgorithmIdentifier
		Signature asn1.BitString
	}{asn1.RawValue{FullBytes: tbs}, pkix.AlgorithmIdentifier{Algorithm: asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 5}, Parameters: asn1.NullRawValue},
		asn1.BitString{Bytes: signature, BitLength: len(signature) * 8}})
	must(t, err)
	return pemBytes("CERTIFICATE REQUEST", der)
}

// weakRequest has a key of 1024 bits. Its proof does not matter: the key is refused first.
func weakRequest(t *testing.T) []byte {
	t.Helper()
	n := new(big.Int).Lsh(big.NewInt(1), 1023)
	n.Add(n, big.NewInt(12345))
	spki, err := x509.MarshalPKIXPublicKey(&rsa.PublicKey{N: n, E: 65537})
	must(t, err)
	subject, err := asn1.Marshal(pkix.Name{CommonName: "ConPaaS"}.ToRDNSequence())
	must(t, err)
	tbs, err := asn1.Marshal(struct {
		Version    int
		Subject    asn1.RawValue
		Key        asn1.RawValue
		Attributes asn1.RawValue
	}{0, asn1.RawValue{FullBytes: subject}, asn1.RawValue{FullBytes: spki}, asn1.RawValue{Class: 2, Tag: 0, IsCompound: true}})
	must(t, err)
	der, err := asn1.Marshal(struct {
		TBS       asn1.RawValue
		Algorithm pkix.AlgorithmIdentifier
		Signature asn1.BitString
	}{asn1.RawValue{FullBytes: tbs}, pkix.AlgorithmIdentifier{Algorithm: asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 11}, Parameters: asn1.NullRawValue},
		asn1.BitString{Bytes: make([]byte, 128), BitLength: 1024}})
	must(t, err)
	return pemBytes("CERTIFICATE REQUEST", der)
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// peerOf is how the Director sees a certificate.
func peerOf(t *testing.T, b *bed, cert *tls.Certificate) auth.Peer {
	t.Helper()
	root, err := x509.ParseCertificate(decode(t, b.certs.Authority()))
	must(t, err)
	p, err := b.certs.Peer(t.Context(), &tls.ConnectionState{VerifiedChains: [][]*x509.Certificate{{cert.Leaf, root}}})
	must(t, err)
	return p
}

func decode(t *testing.T, data []byte) []byte {
	t.Helper()
	block, _ := pem.Decode(data)
	if block == nil {
		t.Fatalf("got %q, want PEM", data)
	}
	return block.Bytes
}

type tlsCert = *tls.Certificate
