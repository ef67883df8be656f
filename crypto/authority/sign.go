package authority

import (
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/sha256"
)

// Sign signs a text that people verify with the root's certificate: ECDSA over SHA-256, in the form that openssl dgst takes.
// It is for texts that we wrote; what somebody else chose could be a certificate.
func (a *Authority) Sign(text []byte) ([]byte, error) {
	sum := sha256.Sum256(text)
	return ecdsa.SignASN1(rand.Reader, a.key, sum[:])
}
