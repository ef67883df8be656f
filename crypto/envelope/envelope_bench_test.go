package envelope

import (
	"bytes"
	"crypto/cipher"
	"crypto/des"
	"crypto/hmac"
	"crypto/sha1"
	"slices"
	"testing"
	"time"
)

const benchSize = 8 << 10

// BenchmarkSealOpen8K seals and opens 8 KiB, and in turn with that does what no implementation can avoid: both directions
// of the cipher, and a MAC at each end. Whatever else the machine does slows both. The bar is the metric %-of-bare: at
// least 85.
//
//	go test -run - -bench '8K$' ./crypto/envelope
func BenchmarkSealOpen8K(b *testing.B) {
	key := freshKey(b)
	plaintext := bytes.Repeat([]byte("x"), benchSize)
	bare := bareRound(b)
	const batch = 4
	var ours, floor []time.Duration
	b.ReportAllocs()
	for b.Loop() {
		from := time.Now()
		for range batch {
			body, date, signature := Seal(key, plaintext, noon)
			if _, err := Open(key, body, date, signature); err != nil {
				b.Fatal(err)
			}
		}
		between := time.Now()
		for range batch {
			bare()
		}
		ours = append(ours, between.Sub(from))
		floor = append(floor, time.Since(between))
	}
	median := func(times []time.Duration) float64 {
		return float64(slices.Sorted(slices.Values(times))[len(times)/2].Nanoseconds()) / batch
	}
	b.ReportMetric(median(ours), "ns/sealopen")
	b.ReportMetric(median(floor), "ns/bare")
	b.ReportMetric(100*median(floor)/median(ours), "%-of-bare")
}

// bareRound is one round of the floor, with everything set up that can be set up once.
func bareRound(b *testing.B) func() {
	raw := bytes.Repeat([]byte("0123456789"), 4)
	block, err := des.NewTripleDESCipher(raw[:24])
	if err != nil {
		b.Fatal(err)
	}
	iv := raw[32:]
	buf := make([]byte, benchSize)
	mac := hmac.New(sha1.New, raw)
	var sum []byte
	return func() {
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
