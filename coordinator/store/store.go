package store

import (
	"crypto/rand"
	"fmt"
	"strings"
)

// Sealer encrypts what must not be readable in the database file or a backup of it. The description names the row, so
// that a sealed value cannot be moved to another one. crypto/keyring has the real one.
type Sealer interface {
	Seal(secret []byte, description ...string) []byte
	Open(blob []byte, description ...string) ([]byte, error)
}

// NewID makes an opaque id: 26 lower-case letters and digits with 130 bits of chance.
func NewID() string { return strings.ToLower(rand.Text()) }

// NewUUID makes a random UUID (RFC 9562, version 4), the shape some dialects show for a group of operations.
func NewUUID() string {
	var b [16]byte
	rand.Read(b[:])
	b[6] = b[6]&0x0f | 0x40
	b[8] = b[8]&0x3f | 0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[0:4], b[4:6], b[6:8], b[8:10], b[10:])
}
