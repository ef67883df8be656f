package envelope

import (
	"bytes"
	"crypto/cipher"
	"crypto/des"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha1"
	"encoding/base64"
	"errors"
	"fmt"
	"hash"
	"io"
	"log/slog"
	"sync"
)

const (
	cipherKeySize = 24 // K1, K2, K3
	freshKeySize  = 40 // what the old coordinator makes
)

// MinKeySize is the shortest usable key in bytes, before base64.
const MinKeySize = cipherKeySize

// ErrShortKey reports a key of fewer than MinKeySize bytes.
var ErrShortKey = errors.New("the key is too short")

// Key is what two peers share. The zero Key seals and opens nothing. It may be copied and used from any goroutine.
type Key struct{ m *material }

// material is prepared once per key: the cipher's key schedule costs as much as sealing a small body.
type material struct {
	block cipher.Block
	iv    [des.BlockSize]byte
	work  sync.Pool // of *worker
}

// NewKey makes a Key of its raw bytes: the first 24 are the cipher's, the last 8 the initialisation vector, and all of
// them the signature's.
func NewKey(raw []byte) (Key, error) {
	if len(raw) < MinKeySize {
		return Key{}, fmt.Errorf("%w: %d bytes, at least %d are needed", ErrShortKey, len(raw), MinKeySize)
	}
	block, err := des.NewTripleDESCipher(raw[:cipherKeySize])
	if err != nil {
		return Key{}, err
	}
	m := &material{block: block, iv: [des.BlockSize]byte(raw[len(raw)-des.BlockSize:])}
	macKey := bytes.Clone(raw)
	m.work.New = func() any {
		return &worker{
			encrypter: cipher.NewCBCEncrypter(block, m.iv[:]),
			decrypter: cipher.NewCBCDecrypter(block, m.iv[:]),
			hash:      hmac.New(sha1.New, macKey),
		}
	}
	return Key{m}, nil
}

// ParseKey reads the text of a key file: base64, with white space anywhere. Its errors never quote the text.
func ParseKey(text []byte) (Key, error) {
	raw, err := decodeBase64(base64.StdEncoding, text)
	if err != nil {
		return Key{}, errors.New("the key is not base64 text")
	}
	return NewKey(raw)
}

// NewKeyText makes the text of a fresh key file: 40 random bytes in base64 and a line feed.
func NewKeyText() []byte {
	raw := make([]byte, freshKeySize)
	rand.Read(raw) // never fails
	return append(base64.StdEncoding.AppendEncode(nil, raw), '\n')
}

// IsZero tells whether k was never set.
func (k Key) IsZero() bool { return k.m == nil }

const redacted = "[redacted]"

// String hides the key.
func (Key) String() string { return redacted }

// GoString hides the key.
func (Key) GoString() string { return redacted }

// Format hides the key under every verb.
func (Key) Format(f fmt.State, _ rune) { io.WriteString(f, redacted) }

// LogValue hides the key.
func (Key) LogValue() slog.Value { return slog.StringValue(redacted) }

// MarshalText hides the key from encoders.
func (Key) MarshalText() ([]byte, error) { return []byte(redacted), nil }

// worker holds what would otherwise be allocated for each body: the chained cipher in both directions, the keyed hash,
// and room for what goes through the hash's interface.
type worker struct {
	encrypter, decrypter cipher.BlockMode
	hash                 hash.Hash
	sum                  MAC
	text                 []byte
}

// restarter is the standard library's chained cipher: every body starts from the same initialisation vector.
type restarter interface{ SetIV(iv []byte) }

// crypt runs the cipher over buf, which must be whole blocks, in place.
func (m *material) crypt(buf []byte, encrypt bool) {
	w := m.work.Get().(*worker)
	defer m.work.Put(w)
	mode := w.decrypter
	if encrypt {
		mode = w.encrypter
	}
	if r, ok := mode.(restarter); ok {
		r.SetIV(m.iv[:])
	} else if encrypt {
		mode = cipher.NewCBCEncrypter(m.block, m.iv[:])
	} else {
		mode = cipher.NewCBCDecrypter(m.block, m.iv[:])
	}
	mode.CryptBlocks(buf, buf)
}

// mac is the HMAC-SHA1, under the whole raw key, of a body followed by a date.
func (m *material) mac(body []byte, date string) MAC {
	w := m.work.Get().(*worker)
	defer m.work.Put(w)
	w.text = append(w.text[:0], date...)
	w.hash.Reset()
	w.hash.Write(body)
	w.hash.Write(w.text)
	w.hash.Sum(w.sum[:0])
	return w.sum
}
