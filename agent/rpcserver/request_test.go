package rpcserver

import (
	"bytes"
	"encoding/json"
	"testing"

	"github.com/reeve-paas/reeve/crypto/envelope"
)

func FuzzDecodeRequest(f *testing.F) {
	for _, seed := range []string{
		`{"method": "cpu_stat", "params": {}, "id": 1340184043.523402}`,
		`{"method": "statvfs", "params": {"mpoints": ["/\u043d"], "_platform_access_data": {"key": "k"}}, "id": null}`,
		`{"method": "x", "params": {"\u005fplatform_access_data": 1}, "id": {"a": []}}`,
		`[{"method": "x"}]`, `{"params": null}`, `"{}"`, `{oops`, `[[[[`, "\xff", `{"method": "x", "params": [1], "id": 1, "id": 2}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, plaintext []byte) {
		before := bytes.Clone(plaintext)
		r, failure := decodeRequest(plaintext, 64)
		if !bytes.Equal(before, plaintext) {
			t.Fatal("the plaintext was changed")
		}
		if failure != nil {
			if !json.Valid(encodeReply(r.id, nil, failure)) {
				t.Fatalf("the reply to %q is not JSON", plaintext)
			}
			return
		}
		var want map[string]json.RawMessage
		if err := json.Unmarshal(plaintext, &want); err != nil || !bytes.Equal(want["id"], r.id) {
			t.Fatalf("got id %s, encoding/json has %s, %v", r.id, want["id"], err)
		}
		if r.platform == nil && !bytes.Equal(want["params"], r.params) {
			t.Fatalf("got params %s, encoding/json has %s", r.params, want["params"])
		}
		if !json.Valid(r.id) || !json.Valid(r.params) {
			t.Fatalf("%q became %+v", plaintext, r)
		}
		var members map[string]json.RawMessage
		if json.Unmarshal(r.params, &members) == nil {
			if _, left := members["_platform_access_data"]; left {
				t.Fatalf("credentials are left in %s", r.params)
			}
		}
		if !json.Valid(encodeReply(r.id, json.RawMessage("null"), nil)) {
			t.Fatalf("the reply with id %s is not JSON", r.id)
		}
	})
}

func TestDepth(t *testing.T) {
	for text, want := range map[string]int{
		``: 0, `1`: 0, `{}`: 1, `[{"a": []}]`: 3, `"[["`: 0, `["\"[", "\\", []]`: 2, `]]]`: 0, `"\`: 0, `[][]`: 1,
	} {
		if got := depth([]byte(text)); got != want {
			t.Errorf("%s: got %d, want %d", text, got, want)
		}
	}
}

func TestAKeyThatEncryptedALotIsReported(t *testing.T) {
	first, err1 := envelope.ParseKey(envelope.NewKeyText())
	second, err2 := envelope.ParseKey(envelope.NewKeyText())
	if err1 != nil || err2 != nil {
		t.Fatal(err1, err2)
	}
	var u usage
	for i, step := range []struct {
		key  envelope.Key
		n    int
		want bool
	}{{first, keyBytesWarning - 1, false}, {first, 1, true}, {first, 1, false}, {second, keyBytesWarning - 1, false}, {second, 1, true}} {
		if got := u.add(step.key, step.n); got != step.want {
			t.Errorf("step %d: got %v, want %v", i, got, step.want)
		}
	}
}
