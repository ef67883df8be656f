//go:build e2e

package e2e

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os/exec"
	"strings"
	"testing"
	"time"
)

// xmlFault is a methodResponse that is a fault.
type xmlFault struct {
	XMLName xml.Name `xml:"methodResponse"`
	Members []struct {
		Name   string `xml:"name"`
		Int    string `xml:"value>int"`
		I4     string `xml:"value>i4"`
		String string `xml:"value>string"`
	} `xml:"fault>value>struct>member"`
}

// wantFault fails the test when an answer is not a fault in the form of the dialect, with a number and a text.
func wantFault(t *testing.T, what string, answer *http.Response, body []byte, code string) {
	t.Helper()
	var f xmlFault
	err := xml.Unmarshal(body, &f)
	number, text := "", ""
	for _, m := range f.Members {
		switch m.Name {
		case "faultCode":
			number = m.Int + m.I4
		case "faultString":
			text = m.String
		}
	}
	if err != nil || answer.StatusCode != 200 || !strings.HasPrefix(number, code) || text == "" || len(text) > 2000 {
		t.Errorf("%s: got %s, %v, fault %q %.200q, want 200 and a fault %s…\n%.500s", what, answer.Status, err, number, text, code, body)
	}
	for _, private := range []string{"/root", "/var", ".go:", "goroutine", "SQL", "root:"} {
		if strings.Contains(text, private) {
			t.Errorf("%s: the fault says %q: %.300q", what, private, text)
		}
	}
}

// xmlrpc posts a body to the Gandi API.
func (s *site) xmlrpc(body io.Reader) (*http.Response, []byte) {
	s.t.Helper()
	answer, err := (&http.Client{Timeout: 30 * time.Second}).Post(s.url+"/xmlrpc/", "text/xml", body)
	if err != nil {
		s.t.Fatal(err)
	}
	defer answer.Body.Close()
	data, err := io.ReadAll(answer.Body)
	if err != nil {
		s.t.Fatal(err)
	}
	return answer, data
}

// methodCall is a call whose parameters are XML.
func methodCall(method string, params ...string) string {
	var b strings.Builder
	b.WriteString("<?xml version='1.0'?><methodCall><methodName>" + method + "</methodName><params>")
	for _, p := range params {
		b.WriteString("<param><value>" + p + "</value></param>")
	}
	return b.String() + "</params></methodCall>"
}

func TestHostileTrafficAgainstTheCoordinator(t *testing.T) {
	t.Parallel()
	s := newSite(t, 41) // a cloud that could boot what hostile callers ask for
	s.start(0)
	s.nodeWith("router")
	pid := s.process.Process.Pid
	key := "<string>" + s.admin.APIKey + "</string>"
	fault := func(t *testing.T, what, body, code string) {
		t.Helper()
		answer, data := s.xmlrpc(strings.NewReader(body))
		wantFault(t, what, answer, data, code)
	}

	t.Run("an honest call is answered", func(t *testing.T) {
		answer, data := s.xmlrpc(strings.NewReader(methodCall("paas.list", key)))
		if answer.StatusCode != 200 || bytes.Contains(data, []byte("fault")) {
			t.Errorf("got %s %s", answer.Status, data)
		}
	})
	t.Run("XML that is none, or too much", func(t *testing.T) {
		list := methodCall("paas.list", key)
		bomb := `<?xml version="1.0"?><!DOCTYPE b [<!ENTITY a0 "aaaaaaaaaaaaaaaa">`
		for i := range 30 {
			bomb += fmt.Sprintf(`<!ENTITY a%d "&a%d;&a%d;&a%d;&a%d;">`, i+1, i, i, i, i)
		}
		bomb += `]><methodCall><methodName>paas.list</methodName><params><param><value><string>&a30;</string></value></param></params></methodCall>`
		external := `<?xml version="1.0"?><!DOCTYPE x [<!ENTITY e SYSTEM "file:///etc/passwd">]>` + strings.TrimPrefix(strings.Replace(list, s.admin.APIKey, "&e;", 1), "<?xml version='1.0'?>")
		for what, body := range map[string]string{
			"nothing":              "",
			"garbage":              "\x00\x01\xff\xfe garbage",
			"JSON":                 `{"method":"paas.list"}`,
			"cut":                  list[:len(list)/2],
			"cut by one byte":      list[:len(list)-1],
			"two roots":            list + list,
			"another root":         strings.ReplaceAll(list, "methodCall", "methodResponse"),
			"entity bomb":          bomb,
			"external entity":      external,
			"deep nesting":         methodCall("paas.create", key, strings.Repeat("<array><data><value>", 50_000)+strings.Repeat("</value></data></array>", 50_000)),
			"deep unclosed":        "<methodCall>" + strings.Repeat("<a>", 300_000),
			"unknown type":         methodCall("paas.list", key, "<evil>1</evil>"),
			"invalid UTF-8":        strings.Replace(list, s.admin.APIKey, "\xff\xfe", 1),
			"broken number":        methodCall("paas.info", key, "<int>12x</int>"),
			"number out of range":  methodCall("paas.info", key, "<int>99999999999999999999</int>"),
			"broken base64":        methodCall("paas.info", key, "<base64>!!!</base64>"),
			"broken date":          methodCall("paas.info", key, "<dateTime.iso8601>yesterday</dateTime.iso8601>"),
			"many attributes":      "<methodCall " + strings.Repeat(`a="b" `, 100_000) + ">",
			"2 MB of white space":  strings.Repeat(" ", 2<<20) + list,
			"20 MB":                methodCall("paas.list", "<string>"+strings.Repeat("A", 20<<20)+"</string>"),
			"20 MB of one comment": "<!--" + strings.Repeat("A", 20<<20),
		} {
			t.Run(what, func(t *testing.T) { fault(t, what, body, "5") })
		}
	})
	t.Run("wrong callers, names, types and numbers of arguments", func(t *testing.T) {
		spec := func(members string) string { return "<struct>" + members + "</struct>" }
		member := func(name, value string) string {
			return "<member><name>" + name + "</name><value>" + value + "</value></member>"
		}
		for what, body := range map[string]string{
			"no such method":       methodCall("paas.explode", key),
			"a method of Go":       methodCall("../../etc/passwd", key),
			"no method":            methodCall("", key),
			"a wrong key":          methodCall("paas.list", "<string>"+strings.Repeat("x", 24)+"</string>"),
			"a key with SQL":       methodCall("paas.list", "<string>' OR 1=1 --</string>"),
			"no key":               methodCall("paas.list"),
			"a struct as key":      methodCall("paas.list", spec("")),
			"a list as id":         methodCall("paas.info", key, "<array><data/></array>"),
			"a text as id":         methodCall("paas.info", key, "<string>1 OR 1=1</string>"),
			"an id of nobody":      methodCall("paas.info", key, "<int>999999</int>"),
			"a negative id":        methodCall("paas.delete", key, "<int>-1</int>"),
			"too many arguments":   methodCall("paas.list", key, spec(""), "<int>1</int>", "<int>2</int>"),
			"a text as options":    methodCall("paas.list", key, "<string>all</string>"),
			"an unknown option":    methodCall("paas.list", key, spec(member("$where", "<string>1</string>"))),
			"a list as spec":       methodCall("paas.create", key, "<array><data/></array>"),
			"an empty spec":        methodCall("paas.create", key, spec("")),
			"types all wrong":      methodCall("paas.create", key, spec(member("name", "<int>1</int>")+member("size", "<array><data/></array>")+member("type", spec(""))+member("datacenter_id", "<string>x</string>")+member("vhosts", "<int>7</int>"))),
			"nested multicall":     methodCall("system.multicall", "<array><data><value>"+spec(member("methodName", "<string>paas.explode</string>")+member("params", "<int>1</int>")+member("x", "<int>1</int>"))+"</value></data></array>") + "x",
			"a snapshot of no one": methodCall("paas.restart", key, "<int>4242</int>"),
		} {
			t.Run(what, func(t *testing.T) { fault(t, what, body, "") })
		}
	})
	t.Run("hostile names of instances and vhosts", func(t *testing.T) {
		for _, vhost := range append([]string{"host.test\r\nX: y", "a.test,b.test", "xn--\xc3\xa4", "*.*.test", "192.0.2.1", "a.test:80", "@", "a.test/"}, hostileNames...) {
			if strings.ContainsRune(vhost, 0) {
				continue // JSON of the client would be refused before it is sent
			}
			if err := s.gandi(nil, "paas.create", instanceSpec("hostile", vhost)); !isFault(err) {
				t.Errorf("vhost %.60q: got %v, want a fault", vhost, err)
			}
		}
		for _, name := range []string{"", "a\nb", "a\x7fb", "a\u202eb", strings.Repeat("x", 300)} { // a label: any text of one line
			if err := s.gandi(nil, "paas.create", instanceSpec(name, "fine.test")); !isFault(err) {
				t.Errorf("name %.60q: got %v, want a fault", name, err)
			}
		}
		for member, value := range map[string]any{"size": "'; DROP TABLE apps; --", "type": "../php", "datacenter_id": -1, "quantity": -5, "duration": "1 century", "password": "x", "surprise": 1} {
			spec := instanceSpec("hostile", "fine.test")
			spec[member] = value
			if err := s.gandi(nil, "paas.create", spec); !isFault(err) {
				t.Errorf("%s %v: got %v, want a fault", member, value, err)
			}
		}
	})
	t.Run("slow senders and broken HTTP keep nobody waiting", func(t *testing.T) {
		addr := netip.MustParseAddrPort(strings.TrimPrefix(s.url, "http://"))
		for range 100 {
			c, err := net.DialTimeout("tcp", addr.String(), 5*time.Second)
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			fmt.Fprintf(c, "POST /xmlrpc/ HTTP/1.1\r\nHost: x\r\nContent-Type: text/xml\r\nContent-Length: 100000\r\n\r\n<methodCall>")
		}
		for _, raw := range []string{"\x16\x03\x01\x02\x00\x01", "GET / HTTP/9.9\r\n\r\n", "POST /xmlrpc/ HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
			"GET /" + strings.Repeat("A", 100_000) + " HTTP/1.1\r\nHost: x\r\n\r\n", "GET / HTTP/1.1\r\nHost: x\r\nX: " + strings.Repeat("A", 2<<20)} {
			if got := speak(t, addr, raw); strings.HasPrefix(got, "HTTP/1.1 200") {
				t.Errorf("%.40q: got %.200q, want a refusal", raw, got)
			}
		}
		began := time.Now()
		s.mustGandi(nil, "paas.list")
		if took := time.Since(began); took > 10*time.Second {
			t.Errorf("the answer took %s beside slow senders", took)
		}
	})
	t.Run("the other dialect refuses in its own form", func(t *testing.T) {
		for what, body := range map[string]string{
			"garbage": "\x00\xff", "cut": `{"node": "1"`, "deep nesting": strings.Repeat(`{"a":`, 100_000) + "1" + strings.Repeat("}", 100_000),
			"wrong type": `{"node": ["1"]}`, "20 MB": `{"node": "` + strings.Repeat("x", 20<<20) + `"}`, "path": `{"node": "../../1"}`,
		} {
			req, _ := http.NewRequestWithContext(t.Context(), http.MethodPut, s.url+"/api/v1/vm/stop/fake_driver", strings.NewReader(body))
			answer, err := http.DefaultTransport.RoundTrip(req)
			if err != nil {
				if what == "20 MB" {
					continue // closed while the body was still on its way
				}
				t.Fatal(err)
			}
			data, _ := io.ReadAll(answer.Body)
			answer.Body.Close()
			var o map[string]any
			if err := json.Unmarshal(data, &o); err != nil || answer.StatusCode < 400 || answer.StatusCode > 413 || o["status"] != "error" || o["message"] == "" {
				t.Errorf("%s: got %s %.300s, want an error in the form of the API", what, answer.Status, data)
			}
		}
	})
	t.Run("nothing changed, and the same process answers", func(t *testing.T) {
		for _, list := range []string{"paas.list", "operation.list"} {
			var rows []map[string]any
			s.mustGandi(&rows, list)
			if len(rows) != 0 {
				t.Errorf("%s: got %v, want nothing", list, rows)
			}
		}
		if nodes := s.nodes(); len(nodes) != 1 || strings.Join(nodes[0].Roles, ",") != "router" {
			t.Errorf("got nodes %+v, want the router alone", nodes)
		}
		if left := s.stateEntries("volumes"); len(left) != 0 {
			t.Errorf("got volumes %q, want none", left)
		}
		out, err := exec.Command("curl", "-fsS", s.url+"/api/v1/nodes/fake_driver").Output()
		if err != nil || bytes.Count(out, []byte(`"id"`)) != 2 {
			t.Errorf("got nodes %s, %v, want the two of the start", out, err)
		}
		if s.dead() || s.process.Process.Pid != pid {
			t.Error("the coordinator ended")
		}
		for _, bad := range []string{"panic", s.admin.APIKey, s.admin.Password, "correct-horse-42"} {
			if s.logContains(bad) {
				t.Errorf("the log shows %.8s…", bad)
			}
		}
	})
}

// isFault says whether a call was refused because of what the caller sent.
func isFault(err error) bool {
	f, ok := err.(*fault)
	return ok && f.Code/100_000 == 5 && f.String != "" && len(f.String) < 2000
}
