package envelope

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
)

// vector is one entry of testdata/envelope.json.
type vector struct {
	Name            string
	Kind            string
	KeyB64          string `json:"key_b64"`
	KeyOtherB64     string `json:"key_other_b64"`
	Plaintext       *string
	PlaintextLen    *int    `json:"plaintext_len"`
	PlaintextSHA256 *string `json:"plaintext_sha256"`
	Date            string
	DateSigned      string  `json:"date_signed"`
	Body            *string `json:"body_b64"`
	BodyLen         int     `json:"body_len"`
	BodySHA256      string  `json:"body_sha256"`
	BodyHead        string  `json:"body_head"`
	BodyTail        string  `json:"body_tail"`
	Signature       string
	OmitHeaders     []string `json:"omit_headers"`
	PlaintextRule   *struct {
		Prefix, Suffix string
		BlobLen        int `json:"blob_len"`
	} `json:"plaintext_rule"`
	Expect struct {
		HTTPStatus any `json:"http_status"`
	}
}

type queryVector struct {
	Name, Date, Signature string
	KeyB64                string `json:"key_b64"`
	Params                map[string]string
}

func readVectors(t testing.TB) (vectors []vector, queries []queryVector) {
	t.Helper()
	data, err := os.ReadFile("testdata/envelope.json")
	if err != nil {
		t.Fatal(err)
	}
	var file struct {
		Vectors  []vector
		QueryEnv []queryVector
	}
	if err := json.Unmarshal(data, &file); err != nil {
		t.Fatal(err)
	}
	return file.Vectors, file.QueryEnv
}

// plaintext is the vector's plaintext, rebuilt from its rule when the file leaves it out; ok is false when it has none.
func (v *vector) plaintext() (text []byte, ok bool) {
	if v.Plaintext != nil {
		return []byte(*v.Plaintext), true
	}
	if v.PlaintextRule == nil {
		return nil, false
	}
	var blob strings.Builder
	for i := 0; blob.Len() < v.PlaintextRule.BlobLen; i++ {
		fmt.Fprintf(&blob, "%x", sha256.Sum256(fmt.Appendf(nil, "scalarizr-vector-%d", i)))
	}
	return []byte(v.PlaintextRule.Prefix + blob.String()[:v.PlaintextRule.BlobLen] + v.PlaintextRule.Suffix), true
}

// opens tells whether the envelope is good: the reference got as far as the JSON inside.
func (v *vector) opens() bool { return v.Expect.HTTPStatus != 400.0 }

func TestVectors(t *testing.T) {
	vectors, _ := readVectors(t)
	if len(vectors) != 46 {
		t.Fatalf("got %d vectors, want 46", len(vectors))
	}
	for _, v := range vectors {
		t.Run(v.Name, func(t *testing.T) {
			key, err := ParseKey([]byte(v.KeyB64))
			if err != nil {
				t.Fatal(err)
			}
			plaintext, hasPlaintext := v.plaintext()
			if hasPlaintext {
				wantDigest(t, "plaintext", plaintext, *v.PlaintextLen, *v.PlaintextSHA256)
			}
			body := v.body(t, key, plaintext)
			wantDigest(t, "body", body, v.BodyLen, v.BodySHA256)
			if len(v.OmitHeaders) > 0 {
				v.openWithout(t, key, body)
				return
			}
			got, err := Open(key, body, v.Date, v.Signature)
			if !v.opens() {
				if err == nil {
					t.Fatalf("got plaintext %q, want an error", got)
				}
				return
			}
			if err != nil {
				t.Fatalf("got error %v, want the plaintext", err)
			}
			if !bytes.Equal(got, plaintext) {
				t.Errorf("got plaintext %q, want %q", got, plaintext)
			}
			v.sealsAlike(t, key, plaintext, body)
		})
	}
}

func (v *vector) body(t *testing.T, key Key, plaintext []byte) []byte {
	if v.Body != nil {
		return []byte(*v.Body)
	}
	at, err := ParseDate(v.Date)
	if err != nil {
		t.Fatal(err)
	}
	body, _, _ := Seal(key, plaintext, at)
	if !strings.HasPrefix(string(body), v.BodyHead) || !strings.HasSuffix(string(body), v.BodyTail) {
		t.Errorf("got body %.64s…, want %s…%s", body, v.BodyHead, v.BodyTail)
	}
	return body
}

// openWithout leaves out the header that the vector omits: an empty value is refused like a wrong one.
func (v *vector) openWithout(t *testing.T, key Key, body []byte) {
	date, signature := v.Date, v.Signature
	if slices.Contains(v.OmitHeaders, "Date") {
		date = ""
	}
	if slices.Contains(v.OmitHeaders, "X-Signature") {
		signature = ""
	}
	if _, err := Open(key, body, date, signature); err == nil {
		t.Error("got no error, want one for the missing header")
	}
}

// sealsAlike seals the plaintext and wants the very bytes of the vector, but for bodies that a peer spells in its own way.
func (v *vector) sealsAlike(t *testing.T, key Key, plaintext, body []byte) {
	if v.DateSigned != "" || !bytes.HasSuffix(body, []byte("\n")) || bytes.Contains(body, []byte("\r")) {
		return
	}
	at, err := ParseDate(v.Date)
	if err != nil {
		t.Fatal(err)
	}
	gotBody, gotDate, gotSignature := Seal(key, plaintext, at)
	if !bytes.Equal(gotBody, body) || gotDate != v.Date || gotSignature != v.Signature {
		t.Errorf("got %q, %q, %q, want %q, %q, %q", gotBody, gotDate, gotSignature, body, v.Date, v.Signature)
	}
}

func wantDigest(t *testing.T, what string, data []byte, size int, digest string) {
	t.Helper()
	sum := sha256.Sum256(data)
	if len(data) != size || hex.EncodeToString(sum[:]) != digest {
		t.Fatalf("%s: got %d bytes with digest %x, want %d with %s", what, len(data), sum, size, digest)
	}
}

func TestQueryVectors(t *testing.T) {
	_, queries := readVectors(t)
	if len(queries) != 2 {
		t.Fatalf("got %d vectors, want 2", len(queries))
	}
	for _, q := range queries {
		t.Run(q.Name, func(t *testing.T) {
			key, err := ParseKey([]byte(q.KeyB64))
			if err != nil {
				t.Fatal(err)
			}
			if got := SignQuery(key, q.Params, q.Date); got != q.Signature {
				t.Errorf("got %s, want %s", got, q.Signature)
			}
			if err := VerifyQuery(key, q.Params, q.Date, q.Signature); err != nil {
				t.Errorf("got %v, want the signature accepted", err)
			}
			q.Params["version"] += "x"
			if err := VerifyQuery(key, q.Params, q.Date, q.Signature); err == nil {
				t.Error("got no error, want one for a changed parameter")
			}
		})
	}
}
