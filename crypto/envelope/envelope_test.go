package envelope

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

var noon = time.Date(2026, 3, 4, 12, 0, 0, 0, time.UTC)

func freshKey(t testing.TB) Key {
	t.Helper()
	key, err := ParseKey(NewKeyText())
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func TestSealedBodiesOpen(t *testing.T) {
	key := freshKey(t)
	rapid.Check(t, func(t *rapid.T) {
		want := rapid.SliceOf(rapid.Byte()).Draw(t, "plaintext")
		body, date, signature := Seal(key, want, noon)
		got, err := Open(key, body, date, signature)
		if err != nil {
			t.Fatalf("got error %v, want the plaintext back", err)
		}
		if !bytes.Equal(got, want) {
			t.Fatalf("got %q, want %q", got, want)
		}
	})
}

func TestAnyChangedByteIsRefused(t *testing.T) {
	key := freshKey(t)
	body, date, signature := Seal(key, []byte(`{"method": "reboot", "params": {}, "id": 1}`), noon)
	rapid.Check(t, func(t *rapid.T) {
		b, d, s := bytes.Clone(body), []byte(date), []byte(signature)
		part := rapid.SampledFrom([][]byte{b, d, s}).Draw(t, "part")
		i := rapid.IntRange(0, len(part)-1).Draw(t, "at")
		was := part[i]
		part[i] ^= 1 << rapid.IntRange(0, 7).Draw(t, "bit")
		plaintext, err := Open(key, b, string(d), string(s))
		if _, normal, _ := parseDate(string(d)); normal == date && string(d) != date {
			return // another spelling of the same date
		}
		if raw, _ := base64.StdEncoding.DecodeString(string(s)); len(raw) == 20 && i == len(s)-2 && string(s) != signature {
			return // the last character has unused bits: another spelling of the same MAC
		}
		if err == nil {
			t.Fatalf("byte %d changed from %q to %q: got %q, want an error", i, was, part[i], plaintext)
		}
	})
}

func TestKeysMayNotBeShort(t *testing.T) {
	for _, size := range []int{0, 1, 23} {
		text := base64.StdEncoding.EncodeToString(make([]byte, size))
		if _, err := ParseKey([]byte(text)); !errors.Is(err, ErrShortKey) {
			t.Errorf("%d bytes: got %v, want ErrShortKey", size, err)
		}
	}
}

func TestKeyTextMayBeWrapped(t *testing.T) {
	text := bytes.TrimSpace(NewKeyText())
	wrapped := fmt.Appendf(nil, "  %s\r\n\t%s\n", text[:20], text[20:])
	plain, err := ParseKey(text)
	if err != nil {
		t.Fatal(err)
	}
	key, err := ParseKey(wrapped)
	if err != nil {
		t.Fatal(err)
	}
	body, date, signature := Seal(plain, []byte("x"), noon)
	if _, err := Open(key, body, date, signature); err != nil {
		t.Errorf("got %v, want the same key", err)
	}
}

func TestKeyErrorsDoNotQuoteTheKey(t *testing.T) {
	if _, err := ParseKey([]byte("not?base64")); err == nil || strings.Contains(err.Error(), "?") {
		t.Errorf("got %v, want an error without the text", err)
	}
}

func TestKeysNeverPrint(t *testing.T) {
	raw := []byte("0123456789abcdef0123456789abcdef01234567")
	key, err := NewKey(raw)
	if err != nil {
		t.Fatal(err)
	}
	var log bytes.Buffer
	slog.New(slog.NewTextHandler(&log, nil)).Info("a", "key", key, "in", struct{ K Key }{key})
	encoded, err := json.Marshal(map[string]any{"key": key})
	if err != nil {
		t.Fatal(err)
	}
	out := fmt.Sprintf("%v %+v %#v %s %q %x %d", key, key, key, key, key, key, struct{ K Key }{key}) + log.String() + string(encoded)
	for _, leak := range []string{"0123", "3031", "48 49"} {
		if strings.Contains(out, leak) {
			t.Errorf("the key shows in %s", out)
		}
	}
}

func TestDates(t *testing.T) {
	good := map[string]string{
		"Wed 20 Jun 2012 09:20:43 UTC":   "2012-06-20T09:20:43Z",
		"wED 20 JUN 2012 9:20:43 utc":    "2012-06-20T09:20:43Z",
		"Fri  1   Mar 2024 00:00:00 UTC": "2024-03-01T00:00:00Z",
		"Sun 20 Jun 2012 09:20:43 UTC":   "2012-06-20T09:20:43Z", // it was a Wednesday
		"Sat 29 Feb 2020 23:59:60 UTC":   "2020-03-01T00:00:00Z",
		"Sat 29 Feb 2020 23:59:61 UTC":   "2020-03-01T00:00:01Z",
	}
	for text, want := range good {
		got, err := ParseDate(text)
		if err != nil || got.Format(time.RFC3339) != want {
			t.Errorf("%q: got %v, %v, want %s", text, got, err, want)
		}
	}
	for _, text := range []string{
		"", "Wed", "Wed, 20 Jun 2012 09:20:43 UTC", "Wed 20 Jun 2012 09:20:43 GMT", "Wed 20 Jun 2012 09:20:43 +0000",
		"Thu 29 Feb 2019 00:00:00 UTC", "Wed 31 Jun 2012 00:00:00 UTC", "Wed 00 Jun 2012 00:00:00 UTC",
		"Wed 20 Jun 0000 00:00:00 UTC", "Wed 20 Jun 12 00:00:00 UTC", "Wed 20 June 2012 00:00:00 UTC",
		"Wed 20 Jun 2012 24:00:00 UTC", "Wed 20 Jun 2012 00:60:00 UTC", "Wed 20 Jun 2012 00:00:62 UTC",
		"Wed 20 Jun 2012 00:00 UTC", "Xxx 20 Jun 2012 00:00:00 UTC", " Wed 20 Jun 2012 00:00:00 UTC",
		"Wed 20 Jun 2012 00:00:00 UTC ", "Wed 20 Jun 2012 00:00:00 UTC x", "edT 20 Jun 2012 00:00:00 UTC",
		"Wed -1 Jun 2012 00:00:00 UTC", "Wed 20 Jun 2012 00:00:000 UTC",
	} {
		if got, err := ParseDate(text); !errors.Is(err, ErrDate) {
			t.Errorf("%q: got %v, %v, want ErrDate", text, got, err)
		}
	}
}

func TestReadingADateDoesNotAllocate(t *testing.T) {
	date := FormatDate(noon)
	if n := testing.AllocsPerRun(100, func() { parseAnyDate(date) }); n != 0 {
		t.Errorf("got %v allocations, want 0", n)
	}
}

func TestDatesOfOneSecondAreTheSameText(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		at := time.Unix(rapid.Int64Range(0, 1<<37).Draw(t, "second"), rapid.Int64Range(0, 1e9-1).Draw(t, "nanosecond"))
		at = at.In(time.FixedZone("x", rapid.IntRange(-14, 14).Draw(t, "zone")*3600))
		text := FormatDate(at)
		if want := at.UTC().Format(dateLayout); text != want || FormatDate(at) != want {
			t.Fatalf("got %q, want %q", text, want)
		}
		for range 2 {
			got, normal, err := parseDate(text)
			again, _, err2 := parseAnyDate(text)
			if err != nil || err2 != nil || !got.Equal(at.Truncate(time.Second)) || !again.Equal(got) || normal != text {
				t.Fatalf("got %v, %v, %q, %v, %v, want %v", got, again, normal, err, err2, at)
			}
		}
	})
}
