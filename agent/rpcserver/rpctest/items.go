package rpctest

import (
	"bytes"
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/reeve-paas/reeve/crypto/envelope"
)

// Server is what the items are tried on. Its dates may be off by 300 s, and a body may have 8 MiB.
type Server struct {
	*Client
	// SetKey gives the server another key, with which the client then seals.
	SetKey func(t testing.TB, raw []byte)
	// Change is a state-changing request without parameters that succeeds; the id makes it a new one.
	Change func(id string) (path, plaintext string)
	// Changes is how many of them were carried out.
	Changes func(t testing.TB) int
	// Seen is how many requests are remembered, and may be.
	Seen func(t testing.TB) (remembered, bound int)
	// Log is everything the server has logged, once the text is in it.
	Log func(t testing.TB, until string) string
}

var rawKey = []byte("0123456789abcdefghijklmnopqrstuvwxyzABCD")

const cpuStat = `{"method": "cpu_stat", "params": {}, "id": 1340184043.523402}`

// peer gives the server a key that is known here too.
func (s *Server) peer(t testing.TB, raw []byte) Peer {
	t.Helper()
	s.SetKey(t, raw)
	return Peer{raw}
}

// Conformance is the checklist of spec agent-core 8, items 1 to 32, one subtest each. It leaves the server with a key of its
// own.
func Conformance(t *testing.T, s *Server) {
	for _, item := range []struct {
		name string
		run  func(*testing.T, *Server)
	}{
		{"01 a valid call is answered with a decryptable body that ends in LF", func(t *testing.T, s *Server) {
			a := s.Call(t, "/system", cpuStat)
			var counters map[string]uint64
			if r := a.Reply(t); r.Error != nil || json.Unmarshal(r.Result, &counters) != nil || len(counters) != 4 || counters["idle"] == 0 {
				t.Errorf("got %s, want the four counters", a.Plaintext)
			}
			if !bytes.HasSuffix(a.Body, []byte("\n")) || bytes.Count(a.Body, []byte("\n")) != 1 {
				t.Errorf("got body %q, want one line and LF", a.Body)
			}
			if got := a.Header.Get("Content-Length"); got != strconv.Itoa(len(a.Body)) {
				t.Errorf("got Content-Length %s, want %d", got, len(a.Body))
			}
			if got := a.Header.Get("Content-Type"); got != "application/json" {
				t.Errorf("got Content-Type %s, want application/json", got)
			}
		}},
		{"02 a reply is signed over its body and its own Date", func(t *testing.T, s *Server) {
			p := s.peer(t, rawKey)
			a := s.Call(t, "/system", cpuStat)
			date := a.Header.Get("Date")
			if !regexp.MustCompile(`^\w{3} \d\d \w{3} \d{4} \d\d:\d\d:\d\d UTC$`).MatchString(date) {
				t.Errorf("got Date %q, want the wire's form", date)
			}
			if got, want := a.Header.Get("X-Signature"), p.sign(string(a.Body), date); got != want {
				t.Errorf("got signature %s, want %s", got, want)
			}
			if len(a.Header.Values("Date")) != 1 {
				t.Errorf("got %q, want one Date header", a.Header.Values("Date"))
			}
		}},
		{"03 a reply has exactly id and result, or id and error", func(t *testing.T, s *Server) {
			s.Call(t, "/system", cpuStat).Reply(t) // reply checks the members
			s.Call(t, "/system", `{"jsonrpc": "2.0", "method": "cpu_stat", "params": {}, "id": 1}`).Reply(t)
			s.Call(t, "/nope", cpuStat).Reply(t)
			s.Call(t, "/system", `{}`).Reply(t)
		}},
		{"04 the id comes back as the same token", func(t *testing.T, s *Server) {
			for _, id := range []string{"1340184043.523402", "null", `"x"`, "7", "1e400", "123456789012345678901234567890", `{"a": [1]}`, `""`, "true"} {
				r := s.Call(t, "/system", `{"method": "cpu_stat", "params": {}, "id": `+id+`}`).Reply(t)
				if string(r.ID) != id || r.Error != nil {
					t.Errorf("got id %s, want %s", r.ID, id)
				}
			}
		}},
		{"05 a body without the final LF is accepted", func(t *testing.T, s *Server) {
			p := s.peer(t, rawKey)
			s.Send(t, p.Message(p.Base64(t, cpuStat))).Reply(t)
		}},
		{"06 a body with LF and a signature without it is refused", func(t *testing.T, s *Server) {
			p := s.peer(t, rawKey)
			m := p.Message(p.Base64(t, cpuStat))
			m.Body = append(m.Body, '\n')
			s.Send(t, m).WantStatus(t, 400)
		}},
		{"07 base64 wrapped at 76 columns is accepted", func(t *testing.T, s *Server) {
			p := s.peer(t, rawKey)
			text := p.Base64(t, `{"method": "cpu_stat", "params": {}, "id": "`+strings.Repeat("x", 200)+`"}`)
			for _, sep := range []string{"\r\n", "\n", "\n \t"} {
				var lines []string
				for rest := text; rest != ""; rest = rest[min(76, len(rest)):] {
					lines = append(lines, rest[:min(76, len(rest))])
				}
				s.Send(t, p.Message(strings.Join(lines, sep)+sep)).Reply(t)
			}
		}},
		{"08 a wrong, a hexadecimal and a missing signature, and a missing Date, are refused", func(t *testing.T, s *Server) {
			p := s.peer(t, rawKey)
			for name, spoil := range map[string]func(*Message){
				"one bit": func(m *Message) {
					mac := p.mac(string(m.Body), m.Date)
					mac[7] ^= 4
					m.Signature = base64.StdEncoding.EncodeToString(mac)
				},
				"hex":            func(m *Message) { m.Signature = hex.EncodeToString(p.mac(string(m.Body), m.Date)) },
				"no signature":   func(m *Message) { m.Signature = "" },
				"no date":        func(m *Message) { m.Date = "" },
				"over date only": func(m *Message) { m.Signature = p.sign(m.Date) },
			} {
				t.Run(name, func(t *testing.T) {
					m := p.Message(p.Base64(t, cpuStat) + "\n")
					spoil(&m)
					s.Send(t, m).WantStatus(t, 400)
				})
			}
		}},
		{"09 a Date with a comma or GMT is refused though its MAC is right", func(t *testing.T, s *Server) {
			p := s.peer(t, rawKey)
			for _, date := range []string{time.Now().UTC().Format(http.TimeFormat), time.Now().UTC().Format("Mon 02 Jan 2006 15:04:05 GMT")} {
				m := p.Message(p.Base64(t, cpuStat) + "\n")
				m.Date, m.Signature = date, p.sign(string(m.Body), date)
				s.Send(t, m).WantStatus(t, 400)
			}
		}},
		{"10 a Date moved by a second after signing is refused", func(t *testing.T, s *Server) {
			p := s.peer(t, rawKey)
			m := p.Message(p.Base64(t, cpuStat) + "\n")
			at, err := envelope.ParseDate(m.Date)
			if err != nil {
				t.Fatal(err)
			}
			m.Date = envelope.FormatDate(at.Add(time.Second))
			s.Send(t, m).WantStatus(t, 400)
		}},
		{"11 a wrong key is refused, for the signature and for the cipher", func(t *testing.T, s *Server) {
			p := s.peer(t, rawKey)
			stranger := Peer{[]byte(strings.Repeat("z", 32) + "12345678")}
			s.Send(t, stranger.Message(stranger.Base64(t, cpuStat)+"\n")).WantStatus(t, 400)
			s.Send(t, p.Message(stranger.Base64(t, cpuStat)+"\n")).WantStatus(t, 400)
		}},
		{"12 bad padding, bad blocks, bad base64 and no body are refused, and the process serves on", func(t *testing.T, s *Server) {
			p := s.peer(t, rawKey)
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
					s.Send(t, p.Message(body)).WantStatus(t, 400)
					if body != "" {
						s.Send(t, p.Message(body+"\n")).WantStatus(t, 400)
					}
				})
			}
			s.WantAlive(t)
		}},
		{"13 plain JSON is refused, signed or not", func(t *testing.T, s *Server) {
			p := s.peer(t, rawKey)
			m := p.Message(cpuStat)
			s.Send(t, m).WantStatus(t, 400)
			m.Signature = ""
			s.Send(t, m).WantStatus(t, 400)
			s.Send(t, Message{Path: "/system", Body: []byte(cpuStat)}).WantStatus(t, 400)
		}},
		{"14 a plaintext of whole blocks has a full block of padding", func(t *testing.T, s *Server) {
			for n := range 9 {
				text := `{"method": "cpu_stat", "params": {}, "id": "` + strings.Repeat("x", n) + `"}`
				s.Call(t, "/system", text).Reply(t)
			}
		}},
		{"15 keys of 24, 64 and 128 bytes work", func(t *testing.T, s *Server) {
			for _, size := range []int{24, 64, 128} {
				p := s.peer(t, bytes.Repeat([]byte("keymatrl"), size/8))
				s.Send(t, p.Message(p.Base64(t, cpuStat)+"\n")).Reply(t)
			}
		}},
		{"16 a payload of 100 KB works, and one over the limit is refused without reading it all", bodyLimit},
		{"17 a replaced key takes effect at once", func(t *testing.T, s *Server) {
			s.peer(t, rawKey)
			before := s.Seal("/system", cpuStat)
			s.Send(t, before).Reply(t)
			s.peer(t, bytes.Repeat([]byte("another."), 5))
			s.Send(t, before).WantStatus(t, 400)
			s.Call(t, "/system", cpuStat).Reply(t)
		}},
		{"18 paths are matched exactly, and the query is ignored", func(t *testing.T, s *Server) {
			for _, path := range []string{"/system", "/sysinfo", "/system?x=1", "/%73ystem"} {
				if r := s.Call(t, path, cpuStat).Reply(t); r.Error != nil {
					t.Errorf("%s: got error %v, want a result", path, r.Error)
				}
			}
			for path, name := range map[string]string{"/System": "System", "/system/": "system/", "//system": "/system", "/system/x": "system/x"} {
				s.Call(t, path, cpuStat).WantError(t, -32099, "Namespace not found", name)
			}
		}},
		{"19 the root path has no namespace, and the id comes back", func(t *testing.T, s *Server) {
			r := s.Call(t, "/", cpuStat).WantError(t, -32099, "Namespace not found", nil)
			if string(r.ID) != "1340184043.523402" {
				t.Errorf("got id %s, want the request's", r.ID)
			}
		}},
		{"20 an unknown namespace is named in data", func(t *testing.T, s *Server) {
			s.Call(t, "/nosuch", cpuStat).WantError(t, -32099, "Namespace not found", "nosuch")
		}},
		{"21 an unknown method is named in data", func(t *testing.T, s *Server) {
			for _, name := range []string{"no_such_method", "__init__", "create", "CPU_STAT", ""} {
				s.Call(t, "/system", `{"method": "`+name+`", "params": {}, "id": 1}`).WantError(t, -32601, "Method not found", name)
			}
			s.Call(t, "/operation", `{"method": "create", "params": {}, "id": 2}`).WantError(t, -32601, "Method not found", "create")
		}},
		{"22 an incomplete request and a batch are invalid, and the id is empty", func(t *testing.T, s *Server) {
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
				r := s.Call(t, "/system", text).WantError(t, -32600, "Invalid Request", data)
				if string(r.ID) != `""` {
					t.Errorf("%s: got id %s, want an empty string", text, r.ID)
				}
			}
		}},
		{"23 an unknown parameter is named", func(t *testing.T, s *Server) {
			s.Call(t, "/system", `{"method": "cpu_stat", "params": {"zzz": 1}, "id": 1}`).
				WantError(t, -32603, "TypeError: cpu_stat() got an unexpected keyword argument 'zzz'", nil)
		}},
		{"24 params that are no object are an error", func(t *testing.T, s *Server) {
			for _, params := range []string{"[]", `[1, "x"]`, `"x"`, "5", "true"} {
				r := s.Call(t, "/system", `{"method": "cpu_stat", "params": `+params+`, "id": 1}`).Reply(t)
				if r.Error == nil || r.Error.Code != -32603 || !strings.HasPrefix(r.Error.Message, "TypeError: ") {
					t.Errorf("%s: got %+v, want -32603 TypeError", params, r.Error)
				}
			}
			s.WantAlive(t)
		}},
		{"25 _platform_access_data is accepted everywhere, seen by no method and by no log", platformAccess},
		{"26 malformed JSON is a signed parse error", func(t *testing.T, s *Server) {
			for _, text := range []string{"{oops", "", "{", `{"method": "cpu_stat", "params": {}, "id": 1} x`, "\xff\xfe"} {
				r := s.Call(t, "/system", text).Reply(t)
				if r.Error == nil || r.Error.Code != -32700 || r.Error.Message != "Parse error" || string(r.ID) != `""` {
					t.Errorf("%q: got %+v, want -32700 and an empty id", text, r)
				}
			}
		}},
		{"27 X-Server-Id has no effect", func(t *testing.T, s *Server) {
			for _, id := range []string{"", "x", strings.Repeat("y", 1000)} {
				m := s.Seal("/system", cpuStat)
				m.Header = map[string]string{"X-Server-Id": id}
				s.Send(t, m).Reply(t)
			}
		}},
		{"28 a GET without a body is refused", func(t *testing.T, s *Server) {
			s.Send(t, Message{Method: "GET", Path: "/system"}).WantStatus(t, 400)
			p := s.peer(t, rawKey)
			m := p.Message("")
			m.Method = "GET"
			s.Send(t, m).WantStatus(t, 400)
		}},
		{"29 dates are accepted within 300 s either way", func(t *testing.T, s *Server) {
			for name, c := range map[string]struct {
				off    time.Duration
				status int
			}{"299 s old": {-299 * time.Second, 200}, "301 s old": {-301 * time.Second, 400},
				"299 s ahead": {299 * time.Second, 200}, "301 s ahead": {301 * time.Second, 400}} {
				t.Run(name, func(t *testing.T) {
					// The server's clock is what its reply shows: a second may have begun on the way.
					for range 50 {
						now := time.Now()
						a := s.Send(t, s.sealAt("/system", cpuStat, now.Add(c.off)))
						if a.Header.Get("Date") == envelope.FormatDate(now) {
							a.WantStatus(t, c.status)
							return
						}
					}
					t.Error("no request was answered within the second that it was sent in")
				})
			}
		}},
		{"30 a state-changing request is carried out once, whatever path it is sent to", func(t *testing.T, s *Server) {
			before := s.Changes(t)
			m := s.Seal(s.Change(rand.Text()))
			if r := s.Send(t, m).Reply(t); r.Error != nil {
				t.Fatalf("got error %v, want the change", r.Error)
			}
			for _, path := range []string{m.Path, "/system", "/sysinfo", "/nginx", "/postgresql", "/nosuch", "/"} {
				m.Path = path
				s.Send(t, m).WantStatus(t, 400)
			}
			if got := s.Changes(t) - before; got != 1 {
				t.Errorf("got %d changes, want one", got)
			}
		}},
		{"31 a read-only request is answered again", func(t *testing.T, s *Server) {
			m := s.Seal("/system", cpuStat)
			s.Send(t, m).Reply(t)
			s.Send(t, m).Reply(t)
		}},
		{"32 a thousand distinct requests of one second pass, and the memory stays within its bound", func(t *testing.T, s *Server) {
			before, now := s.Changes(t), time.Now()
			var last Message
			for range 1000 {
				path, text := s.Change(rand.Text())
				last = s.sealAt(path, text, now)
				if r := s.Send(t, last).Reply(t); r.Error != nil {
					t.Fatalf("got error %v, want the change", r.Error)
				}
			}
			if got := s.Changes(t) - before; got != 1000 {
				t.Errorf("got %d changes, want 1000", got)
			}
			if seen, bound := s.Seen(t); seen == 0 || seen > bound {
				t.Errorf("got %d remembered requests, want at most %d", seen, bound)
			}
			s.Send(t, last).WantStatus(t, 400)
		}},
	} {
		t.Run(item.name, func(t *testing.T) { item.run(t, s) })
	}
}

// endless is a body that never ends by itself and counts what was taken from it.
type endless struct{ taken atomic.Int64 }

func (e *endless) Read(p []byte) (int, error) {
	e.taken.Add(int64(len(p)))
	return len(p), nil
}

func bodyLimit(t *testing.T, s *Server) {
	blob := strings.Repeat("0123456789abcdef", 100<<10/16)
	s.Call(t, "/system", `{"method": "cpu_stat", "params": {"_platform_access_data": {"blob": "`+blob+`"}}, "id": 1}`).Reply(t)
	const size = 256 << 20
	for name, declared := range map[string]int64{"declared": size, "chunked": -1} {
		t.Run(name, func(t *testing.T) {
			body := &endless{}
			req, err := http.NewRequestWithContext(t.Context(), "POST", s.URL+"/system", io.LimitReader(body, size))
			if err != nil {
				t.Fatal(err)
			}
			req.ContentLength = declared
			s.Seal("/system", cpuStat).setHeaders(req)
			resp, err := s.HTTP.Do(req)
			if err == nil {
				resp.Body.Close()
				if resp.StatusCode != http.StatusRequestEntityTooLarge {
					t.Errorf("got status %d, want 413", resp.StatusCode)
				}
			} else if opErr, ok := errors.AsType[*net.OpError](err); !ok || opErr.Op != "write" && opErr.Op != "read" {
				t.Errorf("got %v, want 413 or a closed connection", err)
			}
			if taken := body.taken.Load(); taken > size/4 { // the limit, and what lies in buffers on the way
				t.Errorf("got %d bytes taken of %d, want little more than the limit", taken, int64(size))
			}
			s.WantAlive(t)
		})
	}
}

func platformAccess(t *testing.T, s *Server) {
	before := s.Changes(t)
	marker := rand.Text()
	path, change := s.Change(marker)
	for _, member := range []string{"_platform_access_data", `\u005fplatform_access_data`} {
		access := `"` + member + `": {"key_id": "AKIDSECRET", "key": "AKSECRET"}`
		for _, call := range []struct{ path, text string }{
			{"/system", `{"method": "cpu_stat", "params": {` + access + `}, "id": 1}`},
			{"/sysinfo", `{"method": "get_hostname", "params": {` + access + `}, "id": "` + member + `"}`},
			{"/system", `{"method": "statvfs", "params": {"mpoints": ["/nope"], ` + access + `}, "id": 2}`},
			{path, strings.Replace(change, "{}", "{"+access+"}", 1)},
		} {
			if r := s.Call(t, call.path, call.text).Reply(t); r.Error != nil {
				t.Errorf("%s: got error %v, want a result", call.text, r.Error)
			}
		}
		for _, call := range []struct {
			path, text string
			code       int
		}{
			{"/nosuch", `{"method": "cpu_stat", "params": {` + access + `}, "id": 1}`, -32099},
			{"/system", `{"method": "no_such_method", "params": {` + access + `}, "id": 1}`, -32601},
			{"/system", `{"method": "cpu_stat", "params": {"zzz": 1, ` + access + `}, "id": 1}`, -32603},
		} {
			r := s.Call(t, call.path, call.text).Reply(t)
			if r.Error == nil || r.Error.Code != call.code || strings.Contains(r.Error.Message, "platform") {
				t.Errorf("%s: got %+v, want error %d of something else", call.text, r.Error, call.code)
			}
		}
	}
	if got := s.Changes(t) - before; got != 2 {
		t.Errorf("got %d changes, want 2", got)
	}
	if log := s.Log(t, marker); strings.Contains(log, "SECRET") {
		t.Errorf("got log %s, want no credentials in it", log)
	}
}
