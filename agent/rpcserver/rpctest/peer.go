package rpctest

import (
	"bytes"
	"crypto/cipher"
	"crypto/des"
	"crypto/hmac"
	"crypto/sha1"
	"encoding/base64"
	"testing"
	"time"
)

// Peer makes envelopes by hand, with every freedom a wrong client could take. It shares no code with crypto/envelope.
type Peer struct{ raw []byte }

// NewPeer has a key of its own.
func NewPeer(raw []byte) Peer { return Peer{raw} }

func (p Peer) encrypt(t testing.TB, padded []byte) []byte {
	t.Helper()
	block, err := des.NewTripleDESCipher(p.raw[:24])
	if err != nil {
		t.Fatal(err)
	}
	out := make([]byte, len(padded))
	cipher.NewCBCEncrypter(block, p.raw[len(p.raw)-8:]).CryptBlocks(out, padded)
	return out
}

func (p Peer) sign(parts ...string) string {
	return base64.StdEncoding.EncodeToString(p.mac(parts...))
}

func (p Peer) mac(parts ...string) []byte {
	mac := hmac.New(sha1.New, p.raw)
	for _, part := range parts {
		mac.Write([]byte(part))
	}
	return mac.Sum(nil)
}

func pad(text string) []byte {
	n := 8 - len(text)%8
	return append([]byte(text), bytes.Repeat([]byte{byte(n)}, n)...)
}

// Base64 is the usual body without its final line feed.
func (p Peer) Base64(t testing.TB, plaintext string) string {
	return base64.StdEncoding.EncodeToString(p.encrypt(t, pad(plaintext)))
}

// Message signs a body as it stands.
func (p Peer) Message(body string) Message {
	date := time.Now().UTC().Format("Mon 02 Jan 2006 15:04:05 UTC")
	return Message{Path: "/system", Body: []byte(body), Date: date, Signature: p.sign(body, date)}
}
