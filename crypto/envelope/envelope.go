package envelope

import (
	"crypto/des"
	"crypto/sha1"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"time"
)

// Why a body does not open. No error tells a peer more than these do.
var (
	ErrDate      = errors.New("the date is not in the wire's form")
	ErrSignature = errors.New("signature does not match")
	ErrDecode    = errors.New("body cannot be decoded") // base64, cipher text or padding: one error for all
)

// MAC is a decoded signature.
type MAC [sha1.Size]byte

// Seal encrypts and signs plaintext. body ends in a line feed, which is signed too; date and signature are header values.
// It panics on a zero key.
//
// Source: spec agent-core 1.4
func Seal(key Key, plaintext []byte, t time.Time) (body []byte, date, signature string) {
	pad := des.BlockSize - len(plaintext)%des.BlockSize
	sealed := make([]byte, len(plaintext)+pad)
	copy(sealed, plaintext)
	for i := len(plaintext); i < len(sealed); i++ {
		sealed[i] = byte(pad)
	}
	key.m.crypt(sealed, true)

	body = make([]byte, base64.StdEncoding.EncodedLen(len(sealed))+1)
	base64.StdEncoding.Encode(body, sealed)
	body[len(body)-1] = '\n'

	date = FormatDate(t)
	return body, date, key.sign(body, date)
}

// Open checks the signature and then decrypts. The date is checked for its form only.
//
// Errors: ErrDate, ErrSignature, ErrDecode
// Source: spec agent-core 1.4
func Open(key Key, body []byte, date, signature string) ([]byte, error) {
	opened, err := OpenFull(key, body, date, signature)
	return opened.Plaintext, err
}

// Opened is what an envelope held.
type Opened struct {
	Plaintext []byte
	MAC       MAC       // the decoded signature, which is the same however the header was spelled
	Date      time.Time // what the sender's clock said
}

// OpenFull is Open for a caller that compares the date with a clock, or remembers signatures.
func OpenFull(key Key, body []byte, date, signature string) (Opened, error) {
	at, normal, err := parseDate(date)
	if err != nil {
		return Opened{}, err
	}
	mac, err := key.verify(body, date, normal, signature)
	if err != nil {
		return Opened{}, err
	}
	plaintext, err := key.m.decrypt(body)
	if err != nil {
		return Opened{}, err
	}
	return Opened{plaintext, mac, at}, nil
}

// sign returns the signature of a body and a date as its header value.
func (k Key) sign(body []byte, date string) string {
	mac := k.m.mac(body, date)
	return base64.StdEncoding.EncodeToString(mac[:])
}

// verify compares in constant time: first over the date as sent, then over the form the old agent hashed.
func (k Key) verify(body []byte, date, normal, signature string) (MAC, error) {
	const textSize = 28
	var room [textSize / 4 * 3]byte // the decoder wants whole groups
	if len(signature) != textSize {
		return MAC{}, ErrSignature
	}
	if n, err := base64.StdEncoding.Decode(room[:], []byte(signature)); err != nil || n != len(MAC{}) {
		return MAC{}, ErrSignature
	}
	got := MAC(room[:len(MAC{})])
	for _, signed := range []string{date, normal} {
		want := k.m.mac(body, signed)
		if subtle.ConstantTimeCompare(got[:], want[:]) == 1 {
			return got, nil
		}
		if normal == date {
			break
		}
	}
	return MAC{}, ErrSignature
}

// decrypt undoes base64, the cipher and the padding. body is left as it is.
func (m *material) decrypt(body []byte) ([]byte, error) {
	buf, err := decodeBase64(strict, body)
	if err != nil || len(buf) == 0 || len(buf)%des.BlockSize != 0 {
		return nil, ErrDecode // CryptBlocks panics on these
	}
	m.crypt(buf, false)
	pad := int(buf[len(buf)-1])
	if pad < 1 || pad > des.BlockSize {
		return nil, ErrDecode
	}
	for _, b := range buf[len(buf)-pad:] {
		if int(b) != pad {
			return nil, ErrDecode
		}
	}
	return buf[: len(buf)-pad : len(buf)-pad], nil
}

var strict = base64.StdEncoding.Strict()

// decodeBase64 drops ASCII white space and is strict about everything else.
func decodeBase64(enc *base64.Encoding, text []byte) ([]byte, error) {
	for len(text) > 0 && isSpace(text[len(text)-1]) {
		text = text[:len(text)-1]
	}
	buf := make([]byte, enc.DecodedLen(len(text)))
	n, err := enc.Decode(buf, text) // skips CR and LF by itself
	if err == nil {
		return buf[:n], nil
	}
	packed := make([]byte, 0, len(text))
	for _, b := range text {
		if !isSpace(b) {
			packed = append(packed, b)
		}
	}
	if len(packed) == len(text) {
		return nil, err
	}
	n, err = enc.Decode(buf, packed)
	return buf[:max(n, 0)], err
}

func isSpace(b byte) bool { return b == ' ' || b >= '\t' && b <= '\r' }
