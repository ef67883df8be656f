package rpctest

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/reeve-paas/reeve/crypto/envelope"
)

type vector struct {
	Name, Kind, Path, Date, Signature string
	KeyB64                            string   `json:"key_b64"`
	Body                              *string  `json:"body_b64"`
	OmitHeaders                       []string `json:"omit_headers"`
	SafeToExecute                     *bool    `json:"safe_to_execute"`
	PlaintextRule                     *struct {
		Prefix, Suffix string
		BlobLen        int `json:"blob_len"`
	} `json:"plaintext_rule"`
	Expect struct {
		HTTPStatus any        `json:"http_status"`
		RPC        *vectorRPC `json:"rpc"`
		RPCIf200   *vectorRPC `json:"rpc_if_200"`
	}
}

type vectorRPC struct {
	Has        string
	IDRaw      string `json:"id_raw"`
	IDJSON     any    `json:"id_json"`
	Code       any
	Message    string
	Data       any
	Result     any
	ResultKeys []string `json:"result_keys"`
}

// body is the HTTP body, sealed anew when the file leaves it out.
func (v vector) body(t *testing.T, key envelope.Key) []byte {
	if v.Body != nil {
		return []byte(*v.Body)
	}
	var blob strings.Builder
	for i := 0; blob.Len() < v.PlaintextRule.BlobLen; i++ {
		fmt.Fprintf(&blob, "%x", sha256.Sum256(fmt.Appendf(nil, "scalarizr-vector-%d", i)))
	}
	at, err := envelope.ParseDate(v.Date)
	if err != nil {
		t.Fatal(err)
	}
	body, _, _ := envelope.Seal(key, []byte(v.PlaintextRule.Prefix+blob.String()[:v.PlaintextRule.BlobLen]+v.PlaintextRule.Suffix), at)
	return body
}

// Vectors sends every request of the wire's vectors to a server that compares no dates with the clock. It leaves the server
// with a key of its own.
func Vectors(t *testing.T, s *Server, file string) {
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var all struct{ Vectors []vector }
	if err := json.Unmarshal(data, &all); err != nil {
		t.Fatal(err)
	}
	sent := 0
	for _, v := range all.Vectors {
		if v.Kind != "request" || v.SafeToExecute != nil && !*v.SafeToExecute {
			continue
		}
		sent++
		t.Run(v.Name, func(t *testing.T) {
			raw, err := base64.StdEncoding.DecodeString(v.KeyB64)
			if err != nil {
				t.Fatal(err)
			}
			s.SetKey(t, raw)
			m := Message{Path: v.Path, Body: v.body(t, s.Key()), Date: v.Date, Signature: v.Signature}
			if slices.Contains(v.OmitHeaders, "Date") {
				m.Date = ""
			}
			if slices.Contains(v.OmitHeaders, "X-Signature") {
				m.Signature = ""
			}
			a := s.Send(t, m)
			if v.Expect.HTTPStatus == 400.0 {
				a.WantStatus(t, 400)
				return
			}
			want := v.Expect.RPC
			if want == nil {
				want = v.Expect.RPCIf200
			}
			want.check(t, a.Reply(t))
		})
	}
	if sent != 42 {
		t.Errorf("got %d requests sent, want 42", sent)
	}
}

func (want *vectorRPC) check(t *testing.T, got RPC) {
	t.Helper()
	if want.IDRaw != "" && string(got.ID) != want.IDRaw {
		t.Errorf("got id %s, want %s", got.ID, want.IDRaw)
	}
	var id any
	if err := json.Unmarshal(got.ID, &id); err != nil || want.IDJSON != nil && id != want.IDJSON {
		t.Errorf("got id %v, %v, want %v", id, err, want.IDJSON)
	}
	if want.Has == "error" {
		want.checkError(t, got)
		return
	}
	if got.Error != nil {
		t.Fatalf("got error %+v, want a result", got.Error)
	}
	var result any
	if err := json.Unmarshal(got.Result, &result); err != nil {
		t.Fatal(err)
	}
	if want.Result != nil && !reflect.DeepEqual(result, want.Result) {
		t.Errorf("got result %v, want %v", result, want.Result)
	}
	for _, key := range want.ResultKeys {
		if _, has := result.(map[string]any)[key]; !has {
			t.Errorf("got result %v, want key %s", result, key)
		}
	}
}

func (want *vectorRPC) checkError(t *testing.T, got RPC) {
	t.Helper()
	if got.Error == nil {
		t.Fatalf("got result %s, want an error", got.Result)
	}
	codes, many := want.Code.([]any)
	if !many {
		codes = []any{want.Code}
	}
	if !slices.Contains(codes, any(float64(got.Error.Code))) {
		t.Errorf("got code %d, want one of %v", got.Error.Code, codes)
	}
	if want.Message != "" && (got.Error.Message != want.Message || want.Data != nil && got.Error.Data != want.Data) {
		t.Errorf("got %q %v, want %q %v", got.Error.Message, got.Error.Data, want.Message, want.Data)
	}
}
