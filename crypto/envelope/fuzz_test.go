package envelope

import (
	"bytes"
	"testing"
)

func FuzzOpen(f *testing.F) {
	vectors, _ := readVectors(f)
	key, err := ParseKey([]byte(vectors[0].KeyB64))
	if err != nil {
		f.Fatal(err)
	}
	for _, v := range vectors {
		if v.Body != nil {
			f.Add([]byte(*v.Body), v.Date, v.Signature)
		}
	}
	f.Fuzz(func(t *testing.T, body []byte, date, signature string) {
		before := bytes.Clone(body)
		opened, err := OpenFull(key, body, date, signature)
		if !bytes.Equal(body, before) {
			t.Fatal("the body was changed")
		}
		if err != nil {
			return
		}
		if opened.MAC == (MAC{}) {
			t.Error("an opened body has no MAC")
		}
		reopens(t, key, opened.Plaintext, FormatDate(opened.Date))
	})
}

func reopens(t *testing.T, key Key, plaintext []byte, date string) {
	at, err := ParseDate(date)
	if err != nil {
		t.Fatal(err)
	}
	body, date, signature := Seal(key, plaintext, at)
	again, err := Open(key, body, date, signature)
	if err != nil || !bytes.Equal(again, plaintext) {
		t.Errorf("got %q, %v, want %q", again, err, plaintext)
	}
}

// FuzzDecrypt reaches what a wrong signature hides from FuzzOpen: everything a holder of the key can send.
func FuzzDecrypt(f *testing.F) {
	vectors, _ := readVectors(f)
	key, err := ParseKey([]byte(vectors[0].KeyB64))
	if err != nil {
		f.Fatal(err)
	}
	for _, v := range vectors {
		if v.Body != nil {
			f.Add([]byte(*v.Body))
		}
	}
	date := FormatDate(noon)
	f.Fuzz(func(t *testing.T, body []byte) {
		plaintext, err := Open(key, body, date, key.sign(body, date))
		if err == nil {
			reopens(t, key, plaintext, date)
		}
	})
}

func FuzzDate(f *testing.F) {
	for _, seed := range []string{"Wed 20 Jun 2012 09:20:43 UTC", "wed  1 jan 2020 9:2:60 utc", "Wed, 20 Jun 2012 09:20:43 GMT"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		at, normal, err := parseDate(text)
		if err != nil {
			return
		}
		again, same, err := parseDate(normal)
		if err != nil || same != normal || !again.Equal(at) {
			t.Errorf("%q normalises to %q, which reads as %v, %q, %v", text, normal, again, same, err)
		}
	})
}
