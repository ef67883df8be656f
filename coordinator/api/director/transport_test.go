package director_test

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/reeve-paas/reeve/coordinator/core"
)

// raw sends bytes and reads to the end of the stream, as ConPaaS' own client does. The end must be one of TLS, not of TCP.
func (b *bed) raw(conf *tls.Config, text string) (*http.Response, string, error) {
	b.Helper()
	conn, err := tls.Dial("tcp", b.addr, conf)
	if err != nil {
		return nil, "", err
	}
	defer conn.Close()
	b.must(conn.SetDeadline(time.Now().Add(10 * time.Second)))
	if _, err := io.WriteString(conn, text); err != nil {
		return nil, "", err
	}
	all, err := io.ReadAll(conn) // io.ErrUnexpectedEOF without close_notify
	if err != nil {
		return nil, string(all), err
	}
	res, err := http.ReadResponse(bufio.NewReader(bytes.NewReader(all)), nil)
	if err != nil {
		return nil, string(all), err
	}
	body, err := io.ReadAll(res.Body)
	return res, string(body), err
}

func TestTransport(t *testing.T) {
	b := newBed(t)
	u := b.user("ann", "5")
	anonymous := &tls.Config{InsecureSkipVerify: true}
	t.Run("61. the download is a gzip file as it is", func(t *testing.T) {
		got := b.get(nil, "/download/ConPaaS.tar.gz")
		if got.status != 200 || !bytes.HasPrefix(got.body, []byte{0x1f, 0x8b}) || got.header.Get("Content-Encoding") != "" ||
			got.header.Get("Content-Type") != "application/gzip" || got.header.Get("Content-Length") != fmt.Sprint(len(got.body)) {
			t.Errorf("got %d, %v", got.status, got.header)
		}
		head := b.call(nil, "HEAD", "/download/ConPaaS.tar.gz")
		if head.status != 200 || len(head.body) != 0 || head.header.Get("Content-Length") != fmt.Sprint(len(got.body)) {
			t.Errorf("HEAD: got %d, %v", head.status, head.header)
		}
	})
	t.Run("62. nothing else is below it", func(t *testing.T) {
		for _, path := range []string{"/download/../x", "/download/%2e%2e/x", "/download/ConPaaS.tar.gz/..", "/download/ca_key.pem", "/download/", "/download",
			"/download/director-ca.key", "/download/..%2fdirector-ca.key", "//download/ConPaaS.tar.gz"} {
			res, body, err := b.raw(anonymous, "GET "+path+" HTTP/1.1\r\nHost: director:5555\r\n\r\n")
			b.must(err)
			if location := res.Header.Get("Location"); res.StatusCode != 404 && (res.StatusCode/100 != 3 || !strings.HasPrefix(location, "/") || strings.Contains(location, "..")) {
				t.Errorf("%s: got %d %q, %q", path, res.StatusCode, location, body)
			}
		}
	})
	t.Run("63. every answer ends its stream, whatever it is", func(t *testing.T) {
		for _, req := range []string{
			"GET /available_services HTTP/1.1\r\nHost: x\r\nConnection: keep-alive\r\n\r\n",
			"GET /nothing HTTP/1.1\r\nHost: x\r\n\r\n", "GET /login HTTP/1.1\r\nHost: x\r\n\r\n", "GET /list HTTP/1.1\r\nHost: x\r\n\r\n",
			"POST /login HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n", "GET /download/ConPaaS.tar.gz HTTP/1.1\r\nHost: x\r\n\r\n",
			"POST /login HTTP/1.1\r\nHost: x\r\nContent-Length: 2000000\r\n\r\n" + strings.Repeat("x", 2_000_000),
			"nonsense\r\n\r\n", "GET /version HTTP/1.1\r\n\r\n",
		} {
			start := time.Now()
			res, _, err := b.raw(anonymous, req)
			if err != nil || !res.Close || time.Since(start) > time.Second {
				t.Errorf("%.80q: got close %v after %s, %v", req, res != nil && res.Close, time.Since(start), err)
			}
		}
	})
	t.Run("63. also without SNI, and over TLS 1.2", func(t *testing.T) {
		res, body, err := b.raw(&tls.Config{InsecureSkipVerify: true, ServerName: "", MaxVersion: tls.VersionTLS12}, "GET /version HTTP/1.1\r\nHost: x\r\n\r\n")
		if err != nil || res.StatusCode != 200 || body != "1.5.1" {
			t.Errorf("got %v, %q, %v", res, body, err)
		}
	})
	t.Run("64. a target in absolute form is found by its path", func(t *testing.T) {
		res, body, err := b.raw(anonymous, "GET https://host:5555/available_services HTTP/1.1\r\nHost: host:5555\r\n\r\n")
		if err != nil || res.StatusCode != 200 || !strings.HasPrefix(body, "[") {
			t.Errorf("got %v, %q, %v", res, body, err)
		}
	})
	t.Run("67. TLS 1.2 and 1.3, and nothing older", func(t *testing.T) {
		for version, want := range map[uint16]bool{tls.VersionTLS10: false, tls.VersionTLS11: false, tls.VersionTLS12: true, tls.VersionTLS13: true} {
			_, _, err := b.raw(&tls.Config{InsecureSkipVerify: true, MinVersion: version, MaxVersion: version}, "GET /version HTTP/1.1\r\nHost: x\r\n\r\n")
			if (err == nil) != want {
				t.Errorf("%s: got %v", tls.VersionName(version), err)
			}
		}
	})
	t.Run("68. what is not there is not found", func(t *testing.T) {
		for _, path := range []string{"/", "/nothing", "/start", "/start/", "/stop", "/stop/", "/stop/1/2", "/ca", "/callback/x.php", "/list/abc", "/list/-1"} {
			got := b.get(u.cert, path)
			if got.status != 404 || strings.Contains(string(got.body), "<") || strings.Contains(string(got.body), ".go:") {
				t.Errorf("%s: got %d %q", path, got.status, got.body)
			}
		}
	})
	t.Run("69. a form of 2 MiB is too large", func(t *testing.T) {
		big := strings.Repeat("x", 2<<20)
		parts, kind := multipartFile("file", "f", []byte(big), "username", "ann")
		for _, c := range []struct{ kind, body string }{
			{"application/x-www-form-urlencoded", "username=ann&password=" + big}, {kind, string(parts)},
		} {
			for _, body := range []io.Reader{strings.NewReader(c.body), io.MultiReader(strings.NewReader(c.body))} { // the second has no length
				r, err := http.NewRequest("POST", b.url("/login"), body)
				b.must(err)
				r.Header.Set("Content-Type", c.kind)
				if a, err := b.try(nil, r); err == nil && a.status != 413 { // the connection may be closed before the body is sent
					t.Errorf("%s: got %d %q", c.kind, a.status, a.body)
				}
			}
		}
		b.wantBody("afterwards", b.get(nil, "/support_openid"), 200, "False")
	})
	t.Run("70. the log has no passwords and no queries", func(t *testing.T) {
		b.get(u.cert, "/list?username=ann&password=in-the-query")
		b.post(nil, "/login", "username", "ann", "password", "in-the-body")
		for _, secret := range []string{"in-the-query", "in-the-body", u.password, "username=ann"} {
			if strings.Contains(b.log.String(), secret) {
				t.Errorf("the log has %q", secret)
			}
		}
	})
	t.Run("what the web frontend asks for", func(t *testing.T) {
		for path, want := range map[string]string{"/support_external_idp": "False", "/support_openid": "False", "/debug_level/php": "0", "/available_clouds": `["default"]`} {
			b.wantBody(path, b.get(nil, path), 200, want)
		}
	})
	t.Run("every kind of failure has words", func(t *testing.T) {
		for _, kind := range core.Kinds() {
			b.cloud.fail("Images", core.Errorf(kind, core.ObjImage, "it is %s", kind))
			b.wantFailure(string(kind), b.post(u.cert, "/start/php"), "")
		}
		b.cloud.fail("Images", errors.New("secret text of a driver"))
		if got := b.post(u.cert, "/start/php"); strings.Contains(string(got.body), "secret") {
			t.Errorf("got %s", got.body)
		}
		b.cloud.fail("Images", nil)
	})
}
