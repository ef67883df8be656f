package orchestrator

import (
	"bytes"
	"encoding/json"
	"net/http/httptest"
	"reflect"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/reeve-paas/reeve/coordinator/core"
)

func encode(write func(e *encoder)) string {
	e := &encoder{first: true}
	e.open('{')
	write(e)
	e.close('}')
	return string(e.buf)
}

func TestText(t *testing.T) {
	for in, want := range map[string]string{
		"plain":          `"plain"`,
		`a"b\c/d`:        `"a\"b\\c/d"`,
		"\n\r\t\b\f\x00": `"\n\r\t\b\f\u0000"`,
		"<>&'\x7f":       "\"<>&'\x7f\"",
		"é€":             `"\u00e9\u20ac"`,
		"😀":              `"\ud83d\ude00"`,
		"a\xffb":         `"a\ufffdb"`,
		"\u2028":         `"\u2028"`,
		"":               `""`,
	} {
		e := &encoder{}
		e.text(in)
		if string(e.buf) != want {
			t.Errorf("%q: got %s, want %s", in, e.buf, want)
		}
	}
}

func TestNodesOfRealClouds(t *testing.T) {
	f := newFixture(t)
	f.core.clouds["fake_driver"].nodes = []core.CloudNode{{
		ID: "i-é", Name: `a"b`, State: core.CloudStopping, // no lists, no extra
	}, {
		ID: "2", Name: "n", State: "made up", PublicIPs: []string{"192.0.2.1", "2001:db8::1"}, PrivateIPs: []string{"10.0.0.1"},
		Extra: map[string]any{"z": 1, "a": map[string]any{"nested": []any{true, nil, 1.5, "x", []string{}}}, "m": map[string]string{"k": "v"}, "big": int64(1) << 60, "s": struct{ B, A int }{1, 2}},
	}}
	w := f.do("GET", "/api/v1/nodes/fake_driver", "")
	want := `{
  "nodes": [
    {
      "cloud_type": "Dummy Node Provider",
      "extra": {},
      "id": "i-\u00e9",
      "name": "a\"b",
      "private_ips": [],
      "provider": "dummy",
      "public_ips": [],
      "state": 4,
      "uuid": "` + uuidOf("i-é", "dummy") + `"
    },
    {
      "cloud_type": "Dummy Node Provider",
      "extra": {
        "a": {
          "nested": [
            true,
            null,
            1.5,
            "x",
            []
          ]
        },
        "big": 1152921504606846976,
        "m": {
          "k": "v"
        },
        "s": {
          "A": 2,
          "B": 1
        },
        "z": 1
      },
      "id": "2",
      "name": "n",
      "private_ips": [
        "10.0.0.1"
      ],
      "provider": "dummy",
      "public_ips": [
        "192.0.2.1",
        "2001:db8::1"
      ],
      "state": 4,
      "uuid": "46ff62f5eafc7837de6ec1450b8e0e608db06d7a"
    }
  ],
  "status": "ok"
}`
	if got := w.Body.String(); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

func uuidOf(id, provider string) string {
	e := &encoder{}
	e.uuid(id, provider)
	return strings.Trim(string(e.buf), `"`)
}

func TestEveryStateHasItsNumber(t *testing.T) {
	for state, want := range map[core.CloudNodeState]int64{
		core.CloudRunning: 0, core.CloudRebooting: 1, core.CloudTerminated: 2, core.CloudPending: 3, core.CloudUnknown: 4,
		core.CloudStopping: 4, core.CloudStopped: 5, core.CloudSuspended: 6, core.CloudError: 7, core.CloudPaused: 8, "other": 4,
	} {
		if got := stateNumber(state); got != want {
			t.Errorf("%s: got %d, want %d", state, got, want)
		}
	}
}

func TestEmptyListsAreLists(t *testing.T) {
	f := newFixture(t)
	f.core.clouds["fake_driver"].nodes = nil
	if got, want := f.do("GET", "/api/v1/nodes/fake_driver", "").Body.String(), "{\n  \"nodes\": [],\n  \"status\": \"ok\"\n}"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestMetadataThatIsNotTextIsPassedOnAsJSON(t *testing.T) {
	f := newFixture(t)
	w := f.do("POST", "/api/v1/vm/start/fake_driver", `{"name":"a","image":"1","size":"1","keyname":"k","metadata":{"a":"b","n":1.0,"o":{"x":[true]}}}`)
	if w.Code != 200 {
		t.Fatalf("got %d %s", w.Code, w.Body)
	}
	want := core.NodeSpec{Name: "a", ImageID: "1", SizeID: "1", KeyName: "k", Metadata: map[string]string{"a": "b", "n": "1.0", "o": `{"x":[true]}`}}
	if !reflect.DeepEqual(f.core.last, want) {
		t.Errorf("got %+v, want %+v", f.core.last, want)
	}
}

// The layout of any JSON value is that of encoding/json with sorted keys, but for what lies beyond ASCII.
func FuzzValue(f *testing.F) {
	f.Add(`{"b":[1,2.50,{"x":null}],"a":"é<\u0000","e":{},"l":[]}`)
	f.Add(`{"deep":{"er":{"and":{"er":[[[[]]]]}}}}`)
	f.Fuzz(func(t *testing.T, text string) {
		v, err := decodeJSON([]byte(text))
		if err != nil {
			t.Skip()
		}
		got := encode(func(e *encoder) { e.key("v"); e.value(v) })
		if strings.IndexFunc(got, func(r rune) bool { return r >= utf8.RuneSelf }) >= 0 {
			t.Fatalf("not ASCII: %q", got)
		}
		again, err := decodeJSON([]byte(got))
		if err != nil || !reflect.DeepEqual(again.(map[string]any)["v"], v) {
			t.Fatalf("got %s, %v for %s", got, err, text)
		}
		if !strings.ContainsFunc(text, func(r rune) bool { return r >= 0x7f || r == '\\' }) {
			var want bytes.Buffer
			enc := json.NewEncoder(&want)
			enc.SetEscapeHTML(false)
			enc.SetIndent("", "  ")
			if err := enc.Encode(map[string]any{"v": v}); err != nil {
				t.Fatal(err)
			}
			if got+"\n" != want.String() {
				t.Fatalf("got %s, want %s", got, want.String())
			}
		}
	})
}

// FuzzBody sends any body to the routes that read one: each must answer with one of the API's own bodies.
func FuzzBody(f *testing.F) {
	for _, body := range bodies {
		f.Add(body)
	}
	f.Add(`{"emulate":"True"}`)
	f.Add(`[[[[`)
	f.Fuzz(func(t *testing.T, body string) {
		fx := newFixture(t)
		for _, path := range []string{"/api/v1/vm/start/fake_driver", "/api/v1/vm/stop/fake_driver", "/api/v1/vm/action/assign/fake_driver", "/api/v1/vm/action/release/fake_driver", "/api/v1/auth", "/api/v1/test/start", "/api/v1/"} {
			method := "PUT"
			if strings.HasSuffix(path, "auth") || strings.HasSuffix(path, "/") || strings.Contains(path, "start/") {
				method = "POST"
			}
			w := fx.do(method, path, body)
			var o map[string]any
			if err := json.Unmarshal(w.Body.Bytes(), &o); err != nil || o["status"] == nil {
				t.Fatalf("%s: got %d %q", path, w.Code, w.Body)
			}
			if w.Code != 200 && (len(o) != 5 || o["status_code"] != float64(w.Code)) {
				t.Fatalf("%s: got %d %s", path, w.Code, w.Body)
			}
		}
	})
}

func BenchmarkNodes(b *testing.B) {
	f := newFixture(b)
	f.core.clouds["fake_driver"].nodes = []core.CloudNode{dummyNode, dummyNode}
	f.core.clouds["fake_driver"].version = new(uint64) // as the cloud of that name has one
	r := httptest.NewRequest("GET", "/api/v1/nodes/fake_driver", nil)
	b.ReportAllocs()
	for b.Loop() {
		w := httptest.NewRecorder()
		f.dialect.ServeHTTP(w, r)
	}
}
