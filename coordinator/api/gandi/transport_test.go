package gandi_test

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/reeve-paas/reeve/coordinator/api/gandi"
	"github.com/reeve-paas/reeve/coordinator/api/gandi/xmlrpc/xmlrpctest"
	"github.com/reeve-paas/reeve/coordinator/core"
)

// Numbers in the names of tests are those of the conformance checklist, spec section 7.

func versionCall(key string) string {
	return "<methodCall><methodName>version.info</methodName><params><param><value>" + key + "</value></param></params></methodCall>"
}

var versionReply = map[string]any{"api_version": "3.3.42"}

func (b *bed) wantVersion(v any, err error) {
	b.Helper()
	if err != nil {
		b.Error(err)
		return
	}
	if got := v.(map[string]any)["api_version"]; got != versionReply["api_version"] {
		b.Errorf("got version %v, want %v", got, versionReply["api_version"])
	}
}

func TestTransport(t *testing.T) {
	b := newBed(t)

	t.Run("1–2 a minimal call works on every path without a redirect", func(t *testing.T) {
		for _, path := range []string{"/xmlrpc/", "/xmlrpc", "/xmlrpc/2.0/", "/xmlrpc/2.0", "/RPC2"} {
			b.wantVersion(xmlrpctest.Post(b.server.URL+path, []byte(versionCall(b.key))))
		}
	})
	t.Run("3 other methods are refused with 405", func(t *testing.T) {
		for _, path := range []string{"/xmlrpc/", "/xmlrpc", "/RPC2", "/xmlrpc/2.0/"} {
			for _, method := range []string{"GET", "HEAD", "PUT", "PATCH", "DELETE", "OPTIONS"} {
				req, _ := http.NewRequest(method, b.server.URL+path, nil)
				resp, err := http.DefaultClient.Do(req)
				if err != nil {
					t.Fatal(err)
				}
				resp.Body.Close()
				if resp.StatusCode != 405 || resp.Header.Get("Allow") != "POST" {
					t.Errorf("%s %s: got %d, Allow %q, want 405, POST", method, path, resp.StatusCode, resp.Header.Get("Allow"))
				}
			}
		}
	})
	t.Run("4–5 faults have status 200, a length and no compression", func(t *testing.T) {
		// Post checks status, type, length and encoding; Go's client asks for gzip by itself.
		for _, body := range []string{"junk", string(xmlrpctest.Encode("no.such")), string(xmlrpctest.Encode("paas.info", b.key, 1)), string(xmlrpctest.Encode("paas.list", "x"))} {
			if _, err := xmlrpctest.Post(b.url, []byte(body)); xmlrpctest.CodeOf(err) <= 0 {
				t.Errorf("%.40s: got %v, want a fault", body, err)
			}
		}
	})
	t.Run("6 two calls work on one connection, also after a fault", func(t *testing.T) {
		conn, err := net.Dial("tcp", b.server.Listener.Addr().String())
		b.must(err)
		defer conn.Close()
		r := bufio.NewReader(conn)
		for _, body := range []string{versionCall(b.key), "<oops", versionCall(b.key)} {
			fmt.Fprintf(conn, "POST /xmlrpc/ HTTP/1.1\r\nHost: x\r\nContent-Type: text/xml\r\nTE: deflate,gzip;q=0.3\r\nContent-Length: %d\r\n\r\n%s", len(body), body)
			resp, err := http.ReadResponse(r, nil)
			b.must(err)
			data, err := io.ReadAll(resp.Body)
			b.must(err)
			if _, err := xmlrpctest.Parse(data); resp.Close || xmlrpctest.CodeOf(err) < 0 {
				t.Errorf("got %v, close %v, want a reply on an open connection", err, resp.Close)
			}
		}
	})
	t.Run("7 HTTP/1.0 is answered and closed", func(t *testing.T) {
		reply := b.raw("POST /RPC2 HTTP/1.0\r\nContent-Length: %d\r\n\r\n%s", len(versionCall(b.key)), versionCall(b.key))
		if !strings.HasPrefix(reply, "HTTP/1.0 200") || !strings.Contains(reply, "3.3.42") {
			t.Errorf("got %q", reply)
		}
	})
	t.Run("8 a chunked body is read", func(t *testing.T) {
		resp, err := http.Post(b.url, "", io.MultiReader(strings.NewReader(versionCall(b.key)[:30]), strings.NewReader(versionCall(b.key)[30:])))
		b.must(err)
		defer resp.Body.Close()
		data, _ := io.ReadAll(resp.Body)
		b.wantVersion(xmlrpctest.Parse(data))
	})
	t.Run("9 Expect: 100-continue is answered", func(t *testing.T) {
		req, _ := http.NewRequest("POST", b.url, strings.NewReader(versionCall(b.key)))
		req.Header.Set("Expect", "100-continue")
		client := &http.Client{Transport: &http.Transport{ExpectContinueTimeout: time.Minute}}
		resp, err := client.Do(req)
		b.must(err)
		defer resp.Body.Close()
		data, _ := io.ReadAll(resp.Body)
		b.wantVersion(xmlrpctest.Parse(data))
		client.CloseIdleConnections()
	})
	t.Run("any or no content type is read unless strict", func(t *testing.T) {
		for _, kind := range []string{"", "text/xml", "Application/XML; Charset=UTF-8", "text/plain", ";;"} {
			resp, err := http.Post(b.url, kind, strings.NewReader(versionCall(b.key)))
			b.must(err)
			resp.Body.Close()
			if resp.StatusCode != 200 {
				t.Errorf("%q: got %d, want 200", kind, resp.StatusCode)
			}
		}
	})
	t.Run("a body without a length is a fault", func(t *testing.T) {
		reply := b.raw("POST /xmlrpc/ HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
		if !strings.Contains(reply, "<int>501620</int>") {
			t.Errorf("got %q, want fault 501620", reply)
		}
	})
	t.Run("a compressed body is a fault that says so", func(t *testing.T) {
		var packed bytes.Buffer
		zip := gzip.NewWriter(&packed)
		_, _ = zip.Write([]byte(versionCall(b.key)))
		b.must(zip.Close())
		reply := b.raw("POST /xmlrpc/ HTTP/1.0\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n%s", packed.Len(), packed.String())
		if !strings.Contains(reply, "<int>501620</int>") || !strings.Contains(reply, "the Content-Encoding 'gzip' is not supported") {
			t.Errorf("got %q, want fault 501620 with the reason", reply)
		}
		reply = b.raw("POST /xmlrpc/ HTTP/1.0\r\nContent-Encoding: UTF-8\r\nContent-Length: %d\r\n\r\n%s", len(versionCall(b.key)), versionCall(b.key))
		if !strings.Contains(reply, "3.3.42") {
			t.Errorf("got %q, want the version for a charset in the wrong header", reply)
		}
	})
	t.Run("13 a body that ends before its announced length is a fault, not silence", func(t *testing.T) {
		reply := b.raw("POST /xmlrpc/ HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 500\r\n\r\n%s", versionCall(b.key))
		if !strings.Contains(reply, "<int>501620</int>") {
			t.Errorf("got %q, want fault 501620", reply)
		}
	})
	t.Run("16 a body over the limit is a fault, with and without an announced length", func(t *testing.T) {
		big := bytes.Repeat([]byte(" "), 3<<20)
		for name, body := range map[string]io.Reader{"announced": bytes.NewReader(big), "chunked": io.MultiReader(bytes.NewReader(big))} {
			resp, err := http.Post(b.url, "text/xml", body)
			if err != nil {
				t.Errorf("%s: %v", name, err)
				continue
			}
			data, _ := io.ReadAll(resp.Body)
			resp.Body.Close()
			if _, err := xmlrpctest.Parse(data); xmlrpctest.CodeOf(err) != 501620 {
				t.Errorf("%s: got %v, want fault 501620", name, err)
			}
		}
	})
	t.Run("a body of just the limit is read", func(t *testing.T) {
		body := versionCall(b.key)
		b.wantVersion(xmlrpctest.Post(b.url, []byte(body+strings.Repeat(" ", 1<<20-len(body)))))
	})
}

// raw sends bytes, half-closes, and returns all that comes back.
func (b *bed) raw(format string, args ...any) string {
	b.Helper()
	conn, err := net.Dial("tcp", b.server.Listener.Addr().String())
	b.must(err)
	defer conn.Close()
	fmt.Fprintf(conn, format, args...)
	b.must(conn.(*net.TCPConn).CloseWrite())
	data, err := io.ReadAll(conn)
	b.must(err)
	return string(data)
}

func TestStrictContentType(t *testing.T) {
	b := newBed(t, func(o *gandi.Options, _ *core.Options) { o.StrictContentType = true })
	for kind, want := range map[string]int{"": 200, "text/xml": 200, "APPLICATION/xml; charset=iso-8859-1": 200, "text/plain": 415, "application/json": 415} {
		resp, err := http.Post(b.url, kind, strings.NewReader(versionCall(b.key)))
		b.must(err)
		resp.Body.Close()
		if resp.StatusCode != want {
			t.Errorf("%q: got %d, want %d", kind, resp.StatusCode, want)
		}
	}
}

func TestRegisterLivesBesideOtherDialects(t *testing.T) {
	mux := http.NewServeMux()
	gandi.New(gandi.Options{}).Register(mux)
	mux.HandleFunc("GET /", http.NotFound)
	mux.HandleFunc("/{rest...}", http.NotFound)
	if _, pattern := mux.Handler(httptest.NewRequest("GET", "/xmlrpc/", nil)); pattern != "GET /xmlrpc/{$}" {
		t.Errorf("got pattern %q, want ours", pattern)
	}
}

func TestFailAnswersWithAFault(t *testing.T) {
	for status, want := range map[int]int{413: 501620, 500: 150000, 503: 160005} {
		err := map[int]*core.Error{
			413: core.Errorf(core.Invalid, "", "too big"), 500: core.Errorf(core.Internal, "", "secret path"), 503: core.Errorf(core.Unavailable, "", "try later"),
		}[status]
		w := httptest.NewRecorder()
		gandi.Fail(w, httptest.NewRequest("POST", "/xmlrpc/", nil), status, err)
		_, fault := xmlrpctest.Parse(w.Body.Bytes())
		if got := xmlrpctest.CodeOf(fault); got != want || w.Code != 200 {
			t.Errorf("status %d: got %d, fault %d, want 200, %d", status, w.Code, got, want)
		}
		if strings.Contains(w.Body.String(), "secret path") {
			t.Errorf("status %d: got %s, which tells internals", status, w.Body)
		}
	}
}

func TestXML(t *testing.T) {
	b := newBed(t)
	echo := func(decl, method, params string) (any, error) {
		return xmlrpctest.Post(b.url, []byte(decl+"<methodCall><methodName>"+method+"</methodName><params><param><value>"+b.key+"</value></param>"+params+"</params></methodCall>"))
	}
	nameFilter := func(value string) string {
		return "<param><value><struct><member><name>name</name>" + value + "</member></struct></value></param>"
	}
	const name = `O'Neil "x" <y> & é`
	b.create("name", name)
	finds := func(t *testing.T, decl, value string) {
		t.Helper()
		v, err := echo(decl, "paas.count", nameFilter(value))
		if err != nil || v != 1 {
			t.Errorf("%q: got %v, %v, want the one instance of this name", value, v, err)
		}
	}
	t.Run("10 declared encodings are honoured", func(t *testing.T) {
		finds(t, `<?xml version="1.0" encoding="ISO-8859-1"?>`, "<value>O'Neil \"x\" &lt;y&gt; &amp; \xe9</value>")
		finds(t, `<?xml version="1.0" encoding="us-ascii"?>`, "<value>O'Neil \"x\" &lt;y&gt; &amp; &#233;</value>")
		finds(t, "\ufeff<?xml version='1.0' encoding='UTF-8'?>", "<value>O&apos;Neil &quot;x&quot; &lt;y&gt; &amp; é</value>")
	})
	t.Run("11 CDATA is decoded", func(t *testing.T) {
		finds(t, "", "<value><string><![CDATA[O'Neil \"x\" <y> & é]]></string></value>")
		finds(t, "", "<value><string><![CDATA[O'Neil ]]><![CDATA[\"x\" <y> & é]]></string></value>")
		if v, err := echo("", "paas.list", "<param><value><string><![CDATA[]]></string></value></param>"); err != nil || len(v.([]any)) != 1 {
			t.Errorf("empty CDATA as options: got %v, %v", v, err)
		}
	})
	t.Run("12 indentation changes nothing", func(t *testing.T) {
		finds(t, "", "\n <value>\n  <string>O'Neil \"x\" &lt;y&gt; &amp; é</string>\n </value>\n")
	})
	t.Run("13–16 bad documents are faults", func(t *testing.T) {
		for name, body := range map[string]string{
			"truncated":      versionCall(b.key)[:60],
			"invalid UTF-8":  strings.Replace(versionCall(b.key), "version.info", "version\xe9", 1),
			"a DTD":          `<!DOCTYPE a [<!ENTITY b "c">]>` + versionCall(b.key),
			"nested deeply":  "<methodCall><methodName>x</methodName><params><param>" + strings.Repeat("<value><array><data>", 5000),
			"an unknown tag": "<methodCall><methodName>x</methodName><params><param><value><weird/></value></param></params></methodCall>",
			"nothing":        "",
		} {
			if _, err := xmlrpctest.Post(b.url, []byte(body)); xmlrpctest.CodeOf(err) != 501620 {
				t.Errorf("%s: got %v, want fault 501620", name, err)
			}
		}
	})
	t.Run("17 text comes back as it was sent", func(t *testing.T) {
		if got := structs(b.call("paas.list"))[0]["name"]; got != name {
			t.Errorf("got %q, want %q", got, name)
		}
	})
	t.Run("20 nil is a string on request", func(t *testing.T) {
		for query, want := range map[string]any{"": nil, "?nil=string": "", "?nil=other": nil} {
			v, err := xmlrpctest.Call(b.url+query, "paas.list", b.key)
			b.must(err)
			if got := structs(v)[0]["date_end_commitment"]; got != want {
				t.Errorf("%q: got %#v, want %#v", query, got, want)
			}
		}
	})
}

func TestMethods(t *testing.T) {
	b := newBed(t)
	sys := func(method string, params ...any) (any, error) { return xmlrpctest.Call(b.url, method, params...) }
	v, err := sys("system.listMethods")
	b.must(err)
	names := v.([]any)
	t.Run("21 an unknown method is fault 1 with a plain text", func(t *testing.T) {
		for _, name := range []string{"x.y", "paas.frobnicate", "system.nothing", ""} {
			_, err := sys(name, b.key)
			if want := fmt.Sprintf("fault 1: Method %q is not supported", name); err == nil || err.Error() != want {
				t.Errorf("got %v, want %s", err, want)
			}
		}
	})
	t.Run("22 listMethods needs no key, is sorted and lists what is offered", func(t *testing.T) {
		if !slices.IsSortedFunc(names, func(a, b any) int { return strings.Compare(a.(string), b.(string)) }) {
			t.Errorf("got %v, want sorted names", names)
		}
		for _, want := range []string{"version.info", "paas.list", "paas.count", "paas.info", "paas.create", "paas.delete", "operation.list", "operation.info",
			"operation.cancel", "paas.type.list", "hosting.datacenter.list", "paas.vhost.list", "cert.hosted.list", "system.multicall"} {
			if !slices.Contains(names, any(want)) {
				t.Errorf("%s is missing", want)
			}
		}
	})
	t.Run("every method has signatures and help, and answers to its own key rule", func(t *testing.T) {
		types := regexp.MustCompile(`^(int|string|boolean|double|struct|array)$`)
		for _, name := range names {
			v, err := sys("system.methodSignature", name)
			b.must(err)
			for _, signature := range v.([]any) {
				for _, kind := range signature.([]any) {
					if !types.MatchString(kind.(string)) {
						t.Errorf("%s: got type %q", name, kind)
					}
				}
			}
			help, err := sys("system.methodHelp", name)
			if err != nil || len(help.(string)) < 10 {
				t.Errorf("%s: got help %v, %v", name, help, err)
			}
			_, err = sys(name.(string))
			switch got := xmlrpctest.CodeOf(err); {
			case name == "system.listMethods" && got == 0:
			case got != 501632:
				t.Errorf("%s without parameters: got %v, want fault 501632", name, err)
			}
			if !strings.HasPrefix(name.(string), "system.") {
				if _, err = sys(name.(string), "abcdefghijklmnopqrstuvwx"); xmlrpctest.CodeOf(err) != 510150 {
					t.Errorf("%s with a bad key: got %v, want fault 510150", name, err)
				}
			}
		}
		for _, name := range []string{"system.methodSignature", "system.methodHelp"} {
			if _, err := sys(name, "no.such"); xmlrpctest.CodeOf(err) != 1 {
				t.Errorf("%s of an unknown method: got %v, want fault 1", name, err)
			}
		}
	})
	t.Run("23 multicall gives each call its own outcome", func(t *testing.T) {
		one := func(name string, params ...any) any { return map[string]any{"methodName": name, "params": params} }
		v, err := sys("system.multicall", []any{
			one("version.info", b.key), one("paas.info", b.key, 99), one("no.such"), one("version.info", "abcdefghijklmnopqrstuvwx"),
			one("system.multicall", []any{}), "junk", map[string]any{"params": []any{}}, map[string]any{"methodName": "system.listMethods"}, one("paas.count", b.key),
		})
		b.must(err)
		got := v.([]any)
		for i, want := range []int{0, 537542, 1, 510150, 500037, 501510, 501532, 0, 0} {
			switch outcome := got[i].(type) {
			case []any:
				if want != 0 || len(outcome) != 1 {
					t.Errorf("call %d: got %v, want fault %d", i, outcome, want)
				}
			case map[string]any:
				if outcome["faultCode"] != want {
					t.Errorf("call %d: got %v, want %d", i, outcome, want)
				}
			}
		}
		if _, err := sys("system.multicall", slices.Repeat([]any{one("version.info", b.key)}, 65)); xmlrpctest.CodeOf(err) != 501499 {
			t.Errorf("65 calls: got %v, want fault 501499", err)
		}
		if v, err := sys("system.multicall", slices.Repeat([]any{one("version.info", b.key)}, 64)); err != nil || len(v.([]any)) != 64 {
			t.Errorf("64 calls: got %v", err)
		}
	})
}
