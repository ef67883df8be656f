package envelope

import (
	"bytes"
	"crypto/cipher"
	"crypto/des"
	"crypto/hmac"
	"crypto/sha1"
	"testing"
)

// The bar of these two: BenchmarkSealOpen8K reaches at least 85 % of the throughput of BenchmarkBare8K.
//
//	go test -bench '8K$' ./crypto/envelope

const benchSize = 8 << 10

func BenchmarkSealOpen8K(b *testing.B) {
	key := freshKey(b)
	plaintext := bytes.Repeat([]byte("x"), benchSize)
	b.SetBytes(benchSize)
	b.ReportAllocs()
	for b.Loop() {
		body, date, signature := Seal(key, plaintext, noon)
		if _, err := Open(key, body, date, signature); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkBare8K does what no implementation can avoid: both directions of the cipher, and a MAC at each end.
func BenchmarkBare8K(b *testing.B) {
	raw := bytes.Repeat([]byte("0123456789"), 4)
	block, err := des.NewTripleDESCipher(raw[:24])
	if err != nil {
		b.Fatal(err)
	}
	iv := raw[32:]
	buf := make([]byte, benchSize)
	mac := hmac.New(sha1.New, raw)
	var sum []byte
	b.SetBytes(benchSize)
	b.ReportAllocs()
	for b.Loop() {
		cipher.NewCBCEncrypter(block, iv).CryptBlocks(buf, buf)
		mac.Reset()
		mac.Write(buf)
		sum = mac.Sum(sum[:0])
		mac.Reset()
		mac.Write(buf)
		sum = mac.Sum(sum[:0])
		cipher.NewCBCDecrypter(block, iv).CryptBlocks(buf, buf)
	}
}

func BenchmarkSealOpen64(b *testing.B) {
	key := freshKey(b)
	plaintext := bytes.Repeat([]byte("x"), 64)
	b.ReportAllocs()
	for b.Loop() {
		body, date, signature := Seal(key, plaintext, noon)
		if _, err := Open(key, body, date, signature); err != nil {
			b.Fatal(err)
		}
	}
}
