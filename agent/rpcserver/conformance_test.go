package rpcserver_test

import (
	"bytes"
	"context"
	"crypto/cipher"
	"crypto/des"
	"crypto/hmac"
	"crypto/sha1"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/reeve-paas/reeve/agent/agentapi"
	"github.com/reeve-paas/reeve/agent/rpcserver"
	"github.com/reeve-paas/reeve/crypto/envelope"
	"github.com/reeve-paas/reeve/handlers"
)

// peer makes envelopes by hand, with every freedom a wrong client could take. It shares no code with crypto/envelope.
type peer struct{ raw []byte }

var rawKey = []byte("0123456789abcdefghijklmnopqrstuvwxyzABCD")

func newPeer(t testing.TB, s *server, raw []byte) peer {
	t.Helper()
	key, err := envelope.NewKey(raw)
	if err != nil {
		t.Fatal(err)
	}
	s.keys.set(key, nil)
	return peer{raw}
}

func (p peer) encrypt(t testing.TB, padded []byte) []byte {
	t.Helper()
	block, err := des.NewTripleDESCipher(p.raw[:24])
	if err != nil {
		t.Fatal(err)
	}
	out := make([]byte, len(padded))
	cipher.NewCBCEncrypter(block, p.raw[len(p.raw)-8:]).CryptBlocks(out, padded)
	return out
}

func (p peer) sign(parts ...string) string {
	return base64.StdEncoding.EncodeToString(p.mac(parts...))
}

func (p peer) mac(parts ...string) []byte {
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

// base64 is the usual body without its final line feed.
func (p peer) base64(t testing.TB, plaintext string) string {
	return base64.StdEncoding.EncodeToString(p.encrypt(t, pad(plaintext)))
}

// message signs a body as it stands.
func (p peer) message(body string) message {
	date := time.Now().UTC().Format("Mon 02 Jan 2006 15:04:05 UTC")
	return message{path: "/system", body: []byte(body), date: date, signature: p.sign(body, date)}
}

const cpuStat = `{"method": "cpu_stat", "params": {}, "id": 1340184043.523402}`

func plusEffect(t testing.TB, effects *[]string) func(*rpcserver.Options) {
	return func(o *rpcserver.Options) {
		o.MaxClockSkew = 300 * time.Second
		note := func(where string) map[string]rpcserver.Method {
			return map[string]rpcserver.Method{
				"restart_service": change("restart_service", func(context.Context, agentapi.ReasonParams) (handlers.Null, error) {
					*effects = append(*effects, where)
					return handlers.Null{}, nil
				}),
			}
		}
		o.Table["nginx"], o.Table["postgresql"] = note("nginx"), note("postgresql")
	}
}

// TestConformance is the checklist of spec agent-core 8, items 1 to 33.
func TestConformance(t *testing.T) {
	for _, item := range []struct {
		name string
		run  func(*testing.T)
	}{
		{"01 a valid call is answered with a decryptable body that ends in LF", func(t *testing.T) {
			s := start(t, nil)
			a := s.call(t, "/system", cpuStat)
			r := a.reply(t)
			if string(r.Result) != `{"user":1200,"nice":3,"system":450,"idle":90000}` {
				t.Errorf("got %s, want the four counters", r.Result)
			}
			if !bytes.HasSuffix(a.body, []byte("\n")) || bytes.Count(a.body, []byte("\n")) != 1 {
				t.Errorf("got body %q, want one line and LF", a.body)
			}
			if got := a.header.Get("Content-Length"); got != strconv.Itoa(len(a.body)) {
				t.Errorf("got Content-Length %s, want %d", got, len(a.body))
			}
			if got := a.header.Get("Content-Type"); got != "application/json" {
				t.Errorf("got Content-Type %s, want application/json", got)
			}
		}},
		{"02 a reply is signed over its body and its own Date", func(t *testing.T) {
			s := start(t, nil)
			p := newPeer(t, s, rawKey)
			a := s.call(t, "/system", cpuStat)
			date := a.header.Get("Date")
			if !regexp.MustCompile(`^\w{3} \d\d \w{3} \d{4} \d\d:\d\d:\d\d UTC$`).MatchString(date) {
				t.Errorf("got Date %q, want the wire's form", date)
			}
			if got, want := a.header.Get("X-Signature"), p.sign(string(a.body), date); got != want {
				t.Errorf("got signature %s, want %s", got, want)
			}
			if len(a.header.Values("Date")) != 1 {
				t.Errorf("got %q, want one Date header", a.header.Values("Date"))
			}
		}},
		{"03 a reply has exactly id and result, or id and error", func(t *testing.T) {
			s := start(t, nil)
			s.call(t, "/system", cpuStat).reply(t) // reply checks the members
			s.call(t, "/system", `{"jsonrpc": "2.0", "method": "cpu_stat", "params": {}, "id": 1}`).reply(t)
			s.call(t, "/nope", cpuStat).reply(t)
			s.call(t, "/system", `{}`).reply(t)
		}},
		{"04 the id comes back as the same token", func(t *testing.T) {
			s := start(t, nil)
			for _, id := range []string{"1340184043.523402", "null", `"x"`, "7", "1e400", "123456789012345678901234567890", `{"a": [1]}`, `""`, "true"} {
				r := s.call(t, "/system", `{"method": "cpu_stat", "params": {}, "id": `+id+`}`).reply(t)
				if string(r.ID) != id || r.Error != nil {
					t.Errorf("got id %s, want %s", r.ID, id)
				}
			}
		}},
		{"05 a body without the final LF is accepted", func(t *testing.T) {
			s := start(t, nil)
			p := newPeer(t, s, rawKey)
			s.send(t, p.message(p.base64(t, cpuStat))).reply(t)
		}},
		{"06 a body with LF and a signature without it is refused", func(t *testing.T) {
			s := start(t, nil)
			p := newPeer(t, s, rawKey)
			m := p.message(p.base64(t, cpuStat))
			m.body = append(m.body, '\n')
			s.send(t, m).wantStatus(t, 400)
		}},
		{"07 base64 wrapped at 76 columns is accepted", func(t *testing.T) {
			s := start(t, nil)
			p := newPeer(t, s, rawKey)
			text := p.base64(t, `{"method": "cpu_stat", "params": {}, "id": "`+strings.Repeat("x", 200)+`"}`)
			for _, sep := range []string{"\r\n", "\n", "\n \t"} {
				var lines []string
				for rest := text; rest != ""; rest = rest[min(76, len(rest)):] {
					lines = append(lines, rest[:min(76, len(rest))])
				}
				s.send(t, p.message(strings.Join(lines, sep)+sep)).reply(t)
			}
		}},
		{"08 a wrong, a hexadecimal and a missing signature, and a missing Date, are refused", func(t *testing.T) {
			s := start(t, nil)
			p := newPeer(t, s, rawKey)
			for name, spoil := range map[string]func(*message){
				"one bit": func(m *message) {
					mac := p.mac(string(m.body), m.date)
					mac[7] ^= 4
					m.signature = base64.StdEncoding.EncodeToString(mac)
				},
				"hex":            func(m *message) { m.signature = hex.EncodeToString(p.mac(string(m.body), m.date)) },
				"no signature":   func(m *message) { m.signature = "" },
				"no date":        func(m *message) { m.date = "" },
				"over date only": func(m *message) { m.signature = p.sign(m.date) },
			} {
				t.Run(name, func(t *testing.T) {
					m := p.message(p.base64(t, cpuStat) + "\n")
					spoil(&m)
					s.send(t, m).wantStatus(t, 400)
				})
			}
		}},
		{"09 a Date with a comma or GMT is refused though its MAC is right", func(t *testing.T) {
			s := start(t, nil)
			p := newPeer(t, s, rawKey)
			for _, date := range []string{time.Now().UTC().Format(http.TimeFormat), time.Now().UTC().Format("Mon 02 Jan 2006 15:04:05 GMT")} {
				m := p.message(p.base64(t, cpuStat) + "\n")
				m.date, m.signature = date, p.sign(string(m.body), date)
				s.send(t, m).wantStatus(t, 400)
			}
		}},
		{"10 a Date moved by a second after signing is refused", func(t *testing.T) {
			s := start(t, nil)
			p := newPeer(t, s, rawKey)
			m := p.message(p.base64(t, cpuStat) + "\n")
			at, err := envelope.ParseDate(m.date)
			if err != nil {
				t.Fatal(err)
			}
			m.date = envelope.FormatDate(at.Add(time.Second))
			s.send(t, m).wantStatus(t, 400)
		}},
		{"11 a wrong key is refused, for the signature and for the cipher", func(t *testing.T) {
			s := start(t, nil)
			p := newPeer(t, s, rawKey)
			stranger := peer{[]byte(strings.Repeat("z", 32) + "12345678")}
			s.send(t, stranger.message(stranger.base64(t, cpuStat)+"\n")).wantStatus(t, 400)
			s.send(t, p.message(stranger.base64(t, cpuStat)+"\n")).wantStatus(t, 400)
		}},
		{"12 bad padding, bad blocks, bad base64 and no body are refused, and the process serves on", func(t *testing.T) {
			s := start(t, nil)
			p := newPeer(t, s, rawKey)
			encode := base64.StdEncoding.EncodeToString
			good := p.encrypt(t, pad(cpuStat))
			for name, body := range map[string]string{
				"zero padding":     encode(p.encrypt(t, []byte("1234567\x00"))),
				"padding byte 9":   encode(p.encrypt(t, []byte("1234567\x09"))),
				"uneven padding":   encode(p.encrypt(t, []byte("12345\x01\x02\x03"))),
				"no last block":    encode(good[:len(good)-8]),
				"unaligned":        encode(good[:len(good)-3]),
				"not base64":       "***not base64***",
				"cut base64":       encode(good)[:41],
				"text after":       encode(good) + "=x",
				"white space only": " \r\n",
				"empty":            "",
			} {
				t.Run(name, func(t *testing.T) {
					s.send(t, p.message(body)).wantStatus(t, 400)
					if body != "" {
						s.send(t, p.message(body+"\n")).wantStatus(t, 400)
					}
				})
			}
			s.wantAlive(t)
		}},
		{"13 plain JSON is refused, signed or not", func(t *testing.T) {
			s := start(t, nil)
			p := newPeer(t, s, rawKey)
			m := p.message(cpuStat)
			s.send(t, m).wantStatus(t, 400)
			m.signature = ""
			s.send(t, m).wantStatus(t, 400)
			s.send(t, message{path: "/system", body: []byte(cpuStat)}).wantStatus(t, 400)
		}},
		{"14 a plaintext of whole blocks has a full block of padding", func(t *testing.T) {
			s := start(t, nil)
			for n := range 9 {
				text := `{"method": "cpu_stat", "params": {}, "id": "` + strings.Repeat("x", n) + `"}`
				s.call(t, "/system", text).reply(t)
			}
		}},
		{"15 keys of 24, 64 and 128 bytes work", func(t *testing.T) {
			s := start(t, nil)
			for _, size := range []int{24, 64, 128} {
				p := newPeer(t, s, bytes.Repeat([]byte("keymatrl"), size/8))
				s.send(t, p.message(p.base64(t, cpuStat)+"\n")).reply(t)
			}
		}},
		{"16 a payload of 100 KB works, and one over the limit is refused without reading it all", testBodyLimit},
		{"17 a replaced key takes effect at once", func(t *testing.T) {
			s := start(t, nil)
			before := s.seal(t, "/system", cpuStat)
			s.send(t, before).reply(t)
			s.keys.set(newKey(t), nil)
			s.send(t, before).wantStatus(t, 400)
			s.call(t, "/system", cpuStat).reply(t)
		}},
		{"18 paths are matched exactly, and the query is ignored", func(t *testing.T) {
			s := start(t, nil)
			for _, path := range []string{"/system", "/sysinfo", "/system?x=1", "/%73ystem"} {
				if r := s.call(t, path, cpuStat).reply(t); r.Error != nil {
					t.Errorf("%s: got error %v, want a result", path, r.Error)
				}
			}
			for path, name := range map[string]string{"/System": "System", "/system/": "system/", "//system": "/system", "/system/x": "system/x"} {
				s.call(t, path, cpuStat).wantError(t, -32099, "Namespace not found", name)
			}
		}},
		{"19 the root path has no namespace, and the id comes back", func(t *testing.T) {
			s := start(t, nil)
			r := s.call(t, "/", cpuStat).wantError(t, -32099, "Namespace not found", nil)
			if string(r.ID) != "1340184043.523402" {
				t.Errorf("got id %s, want the request's", r.ID)
			}
		}},
		{"20 an unknown namespace is named in data", func(t *testing.T) {
			s := start(t, nil)
			s.call(t, "/nosuch", cpuStat).wantError(t, -32099, "Namespace not found", "nosuch")
		}},
		{"21 an unknown method is named in data", func(t *testing.T) {
			s := start(t, nil)
			for _, name := range []string{"no_such_method", "__init__", "create", "CPU_STAT", ""} {
				s.call(t, "/system", `{"method": "`+name+`", "params": {}, "id": 1}`).wantError(t, -32601, "Method not found", name)
			}
		}},
		{"22 an incomplete request and a batch are invalid, and the id is empty", func(t *testing.T) {
			s := start(t, nil)
			for text, data := range map[string]string{
				`{"method": "cpu_stat", "id": 1}`:                 "'params'",
				`{"method": "cpu_stat", "params": null, "id": 1}`: "'params'",
				`{"params": {}, "id": 1}`:                         "'method'",
				`{"method": 5, "params": {}, "id": 1}`:            "'method'",
				`{"method": null, "params": {}, "id": 1}`:         "'method'",
				`{"Method": "cpu_stat", "params": {}, "id": 1}`:   "'method'",
				`{"method": "cpu_stat", "params": {}}`:            "'id'",
				`[{"method": "cpu_stat", "params": {}, "id": 1}]`: "a request is a JSON object",
				`"text"`: "a request is a JSON object",
				`null`:   "a request is a JSON object",
			} {
				r := s.call(t, "/system", text).wantError(t, -32600, "Invalid Request", data)
				if string(r.ID) != `""` {
					t.Errorf("%s: got id %s, want an empty string", text, r.ID)
				}
			}
		}},
		{"23 an unknown parameter is named", func(t *testing.T) {
			s := start(t, nil)
			s.call(t, "/system", `{"method": "cpu_stat", "params": {"zzz": 1}, "id": 1}`).
				wantError(t, -32603, "TypeError: cpu_stat() got an unexpected keyword argument 'zzz'", nil)
		}},
		{"24 params that are no object are an error", func(t *testing.T) {
			s := start(t, nil)
			for _, params := range []string{"[]", `[1, "x"]`, `"x"`, "5", "true"} {
				r := s.call(t, "/system", `{"method": "cpu_stat", "params": `+params+`, "id": 1}`).reply(t)
				if r.Error == nil || r.Error.Code != -32603 || !strings.HasPrefix(r.Error.Message, "TypeError: ") {
					t.Errorf("%s: got %+v, want -32603 TypeError", params, r.Error)
				}
			}
			s.wantAlive(t)
		}},
		{"25 _platform_access_data is accepted everywhere, seen by no method and by no log", testPlatformAccess},
		{"26 malformed JSON is a signed parse error", func(t *testing.T) {
			s := start(t, nil)
			for _, text := range []string{"{oops", "", "{", `{"method": "cpu_stat", "params": {}, "id": 1} x`, "\xff\xfe"} {
				r := s.call(t, "/system", text).reply(t)
				if r.Error == nil || r.Error.Code != -32700 || r.Error.Message != "Parse error" || string(r.ID) != `""` {
					t.Errorf("%q: got %+v, want -32700 and an empty id", text, r)
				}
			}
		}},
		{"27 X-Server-Id has no effect", func(t *testing.T) {
			s := start(t, nil)
			for _, id := range []string{"", "x", strings.Repeat("y", 1000)} {
				m := s.seal(t, "/system", cpuStat)
				m.header = map[string]string{"X-Server-Id": id}
				s.send(t, m).reply(t)
			}
		}},
		{"28 a GET without a body is refused", func(t *testing.T) {
			s := start(t, nil)
			s.send(t, message{method: "GET", path: "/system"}).wantStatus(t, 400)
			p := newPeer(t, s, rawKey)
			m := p.message("")
			m.method = "GET"
			s.send(t, m).wantStatus(t, 400)
		}},
		{"29 dates are accepted within 300 s either way", func(t *testing.T) {
			for name, c := range map[string]struct {
				off    time.Duration
				status int
			}{"299 s old": {-299 * time.Second, 200}, "301 s old": {-301 * time.Second, 400},
				"299 s ahead": {299 * time.Second, 200}, "301 s ahead": {301 * time.Second, 400}} {
				t.Run(name, func(t *testing.T) {
					now := time.Now().Truncate(time.Second)
					s := start(t, func(o *rpcserver.Options) { o.Now = func() time.Time { return now } })
					key, _ := s.keys.Get()
					body, date, signature := envelope.Seal(key, []byte(cpuStat), now.Add(c.off))
					a := s.send(t, message{path: "/system", body: body, date: date, signature: signature})
					a.wantStatus(t, c.status)
					if got := a.header.Get("Date"); got != envelope.FormatDate(now) {
						t.Errorf("got Date %q, want the server's clock", got)
					}
				})
			}
		}},
		{"30 a state-changing request is carried out once, whatever path it is sent to", func(t *testing.T) {
			var effects []string
			s := start(t, plusEffect(t, &effects))
			m := s.seal(t, "/nginx", `{"method": "restart_service", "params": {}, "id": 1}`)
			s.send(t, m).reply(t)
			for _, path := range []string{"/nginx", "/postgresql", "/nosuch", "/system"} {
				m.path = path
				s.send(t, m).wantStatus(t, 400)
			}
			if len(effects) != 1 {
				t.Errorf("got effects %v, want one", effects)
			}
		}},
		{"31 a read-only request is answered again", func(t *testing.T) {
			s := start(t, func(o *rpcserver.Options) { o.MaxClockSkew = 300 * time.Second })
			m := s.seal(t, "/system", cpuStat)
			s.send(t, m).reply(t)
			s.send(t, m).reply(t)
		}},
		{"32 a thousand distinct requests pass, and the memory stays within its bound", func(t *testing.T) {
			var effects []string
			s := start(t, func(o *rpcserver.Options) {
				plusEffect(t, &effects)(o)
				o.MaxSeen = 100
			})
			for i := range 1000 {
				s.call(t, "/nginx", fmt.Sprintf(`{"method": "restart_service", "params": {}, "id": %d}`, i)).reply(t)
			}
			if len(effects) != 1000 {
				t.Errorf("got %d effects, want 1000", len(effects))
			}
			if got := s.Seen(); got != 100 {
				t.Errorf("got %d remembered requests, want 100", got)
			}
		}},
		{"33 TLS carries the same envelope, and the plain listener is unaffected", testTLS},
	} {
		t.Run(item.name, item.run)
	}
}

func testPlatformAccess(t *testing.T) {
	var seen string
	var access struct{ Key string }
	s := start(t, with("deploy", map[string]rpcserver.Method{
		"raw": {Command: true, Call: func(ctx context.Context, params json.RawMessage) (any, error) {
			seen = string(params)
			d, ok := agentapi.PlatformAccessDataFrom(ctx)
			if !ok {
				return nil, errors.New("no credentials in the context")
			}
			return fmt.Sprint(d), d.Decode(&access)
		}},
		"fails": {Command: true, Call: func(ctx context.Context, params json.RawMessage) (any, error) {
			d, _ := agentapi.PlatformAccessDataFrom(ctx)
			return nil, fmt.Errorf("with %v %+v", d, d)
		}},
	}))
	for name, member := range map[string]string{"plain": "_platform_access_data", "escaped": `\u005fplatform_access_data`} {
		t.Run(name, func(t *testing.T) {
			params := `{"` + member + `": {"key": "AKSECRET", "key_id": "AKIDSECRET"}, "n": 1.50}`
			r := s.call(t, "/deploy", `{"method": "raw", "params": `+params+`, "id": "`+name+`"}`).reply(t)
			if r.Error != nil {
				t.Fatalf("got %v, want a result", r.Error)
			}
			if seen != `{"n":1.50}` || access.Key != "AKSECRET" {
				t.Errorf("got params %s and key %q, want the rest and the credentials apart", seen, access.Key)
			}
			s.call(t, "/deploy", `{"method": "fails", "params": `+params+`, "id": "`+name+`"}`).reply(t)
		})
	}
	s.call(t, "/system", `{"method": "cpu_stat", "params": {"_platform_access_data": {"key": "AKSECRET"}}, "id": 1}`).reply(t)
	s.call(t, "/nosuch", `{"method": "cpu_stat", "params": {"_platform_access_data": {"key": "AKSECRET"}}, "id": 1}`).reply(t)
	s.stop()
	if log := s.log.String(); strings.Contains(log, "SECRET") || !strings.Contains(log, "method=raw") {
		t.Errorf("got log %s, want the call without credentials", log)
	}
}
