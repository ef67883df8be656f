//go:build e2e

package e2e

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/reeve-paas/reeve/crypto/envelope"
	"github.com/reeve-paas/reeve/test/hosts"
)

// sealed is one request of the agent's wire, to be sent as it is or spoiled.
type sealed struct {
	body            []byte
	date, signature string
}

func seal(key envelope.Key, plaintext string, at time.Time) sealed {
	body, date, signature := envelope.Seal(key, []byte(plaintext), at)
	return sealed{body, date, signature}
}

// post sends a request and returns the status with the opened reply, or the text of a reply that is not sealed.
func (s sealed) post(t *testing.T, key envelope.Key, url string) (int, string) {
	t.Helper()
	status, text, err := s.try(t.Context(), key, url)
	if err != nil {
		t.Fatal(err)
	}
	return status, text
}

func (s sealed) try(ctx context.Context, key envelope.Key, url string) (int, string, error) {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(s.body))
	if err != nil {
		return 0, "", err
	}
	req.Header["Date"], req.Header["X-Signature"] = []string{s.date}, []string{s.signature}
	answer, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		return 0, "", err
	}
	defer answer.Body.Close()
	data, err := io.ReadAll(answer.Body)
	if err != nil {
		return 0, "", err
	}
	if plain, err := envelope.Open(key, data, answer.Header.Get("Date"), answer.Header.Get("X-Signature")); err == nil {
		data = plain
	}
	return answer.StatusCode, string(data), nil
}

// TestHostileTrafficAgainstAnAgent sends an agent on a host what no client of ours would.
func TestHostileTrafficAgainstAnAgent(t *testing.T) {
	t.Parallel()
	h := hosts.Boot(t, hosts.Options{Name: "target", Agent: true})
	connect(t, h, h.Key())
	key, err := envelope.NewKey(h.Key())
	if err != nil {
		t.Fatal(err)
	}
	wrong, err := envelope.ParseKey(envelope.NewKeyText())
	if err != nil {
		t.Fatal(err)
	}
	state := func() string {
		return h.Exec(t, "systemctl", "show", agentUnit, "-p", "MainPID", "-p", "NRestarts") + h.Exec(t, "find", "/etc", "/usr/local", "/srv", "-type", "f", "-exec", "sha256sum", "{}", "+") + h.Exec(t, "hostname")
	}
	before := state()
	const harmless = `{"method":"cpu_stat","params":{},"id":"1"}`
	rename := func(name string) string {
		return fmt.Sprintf(`{"method":"set_hostname","params":{"hostname":%q},"id":"1"}`, name)
	}
	now := time.Now
	url := h.AgentURL() + "/system"
	refused := func(t *testing.T, what string, s sealed) {
		t.Helper()
		if status, text := s.post(t, key, url); status != http.StatusBadRequest || text == "" || len(text) > 300 {
			t.Errorf("%s: got %d %.300q, want 400 and a reason", what, status, text)
		}
	}

	t.Run("an honest request is answered", func(t *testing.T) {
		if status, text := seal(key, harmless, now()).post(t, key, url); status != 200 || !strings.Contains(text, `"idle"`) {
			t.Errorf("got %d %q", status, text)
		}
	})
	t.Run("a stale, an early and a malformed date", func(t *testing.T) {
		refused(t, "301 s old", seal(key, rename("x"), now().Add(-303*time.Second)))
		refused(t, "301 s ahead", seal(key, rename("x"), now().Add(303*time.Second)))
		s := seal(key, rename("x"), now())
		s.date = strings.Replace(s.date, "UTC", "GMT", 1)
		refused(t, "GMT", s)
		s.date = ""
		refused(t, "no date", s)
		if status, _ := seal(key, harmless, now().Add(-290*time.Second)).post(t, key, url); status != 200 {
			t.Errorf("290 s old: got %d, want 200", status)
		}
	})
	t.Run("a wrong key, flipped bits and cut bodies", func(t *testing.T) {
		refused(t, "wrong key", seal(wrong, rename("x"), now()))
		good := seal(key, rename("x"), now())
		for i := range good.body[:len(good.body)-1] {
			s := sealed{bytes.Clone(good.body), good.date, good.signature}
			s.body[i] ^= 1
			refused(t, fmt.Sprintf("bit of byte %d", i), s)
		}
		for _, n := range []int{0, 1, 7, len(good.body) / 2, len(good.body) - 1} {
			refused(t, fmt.Sprintf("%d bytes", n), sealed{good.body[:n], good.date, good.signature})
		}
		refused(t, "flipped signature", sealed{good.body, good.date, "A" + good.signature[1:len(good.signature)-1] + "="})
		refused(t, "no signature", sealed{good.body, good.date, ""})
		refused(t, "plain JSON", sealed{[]byte(rename("x")), good.date, good.signature})
	})
	t.Run("garbage", func(t *testing.T) {
		for _, body := range [][]byte{nil, {0}, bytes.Repeat([]byte{0xff}, 5000), []byte("<?xml version='1.0'?>"), bytes.Repeat([]byte("A"), 100_000)} {
			refused(t, "garbage", sealed{body, envelope.FormatDate(now()), "c2lnbmF0dXJl"})
		}
		for _, raw := range []string{"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "\x00\x00\x00\x00\r\n\r\n", "GET / HTTP/9.9\r\n\r\n",
			"POST /system HTTP/1.1\r\nHost: x\r\nContent-Length: -5\r\n\r\n", "POST /system HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n"} {
			got := speak(t, netip.AddrPortFrom(h.Addr, 8010), raw)
			if strings.HasPrefix(got, "HTTP/1.1 200") {
				t.Errorf("%.40q: got %.200q, want a refusal", raw, got)
			}
		}
	})
	t.Run("a replayed change is refused, on any path; a replayed reading is not", func(t *testing.T) {
		s := seal(key, `{"method":"set_hostname","params":{"hostname":"target"},"id":"1"}`, now())
		if status, text := s.post(t, key, url); status != 200 || !strings.Contains(text, `"result":"target"`) {
			t.Fatalf("got %d %s", status, text)
		}
		for _, path := range []string{"/system", "/sysinfo", "/apache", "/", "/system?again"} {
			if status, text := s.post(t, key, h.AgentURL()+path); status != http.StatusBadRequest {
				t.Errorf("%s: got %d %q, want 400", path, status, text)
			}
		}
		h.Exec(t, "systemctl", "restart", agentUnit) // what was seen is remembered over a restart
		awaitPort(t, netip.AddrPortFrom(h.Addr, 8010))
		before = state()
		if status, text := s.post(t, key, url); status != http.StatusBadRequest {
			t.Errorf("after a restart: got %d %q, want 400", status, text)
		}
		reading := seal(key, harmless, now())
		for range 3 {
			if status, _ := reading.post(t, key, url); status != 200 {
				t.Errorf("a reading: got %d, want 200", status)
			}
		}
	})
	t.Run("a body of 20 MB is refused without being read", func(t *testing.T) {
		big := sealed{bytes.Repeat([]byte("A"), 20<<20), envelope.FormatDate(now()), "c2lnbmF0dXJl"}
		status, text, err := big.try(t.Context(), key, url)
		if err == nil && status != http.StatusRequestEntityTooLarge && status != http.StatusBadRequest {
			t.Errorf("got %d %.200q, want a refusal", status, text)
		}
		if err != nil && !errors.Is(err, net.ErrClosed) && !strings.Contains(err.Error(), "reset") && !strings.Contains(err.Error(), "broken pipe") {
			t.Errorf("got %v, want a refusal or a closed connection", err)
		}
	})
	t.Run("JSON that is hostile inside a good envelope", func(t *testing.T) {
		for plaintext, code := range map[string]string{
			`{"method":"cpu_stat","params":{}`: "-32700",
			`[]`:                               "-32600",
			`"x"`:                              "-32600",
			`{"method":"cpu_stat","params":[],"id":"1"}`: "-32",
			`{"method":7,"params":{},"id":"1"}`:          "-32600",
			`{"method":"cpu_stat","params":{"a":` + strings.Repeat("[", 200) + strings.Repeat("]", 200) + `},"id":"1"}`:       "-32",
			strings.Repeat(`{"a":`, 500_000) + "1" + strings.Repeat("}", 500_000):                                             "-32",
			`{"method":"set_hostname","params":{"hostname":{"a":1}},"id":"1"}`:                                                "-32",
			`{"method":"set_hostname","params":{"hostname":"` + strings.Repeat("x", 1<<20) + `"},"id":"1"}`:                   "-32",
			`{"method":"../../etc/passwd","params":{},"id":"1"}`:                                                              "-32601",
			`{"method":"statvfs","params":{"mpoints":"/"},"id":"1"}`:                                                          "-32603",
			`{"method":"get_script_logs","params":{"exec_script_id":["` + strings.Repeat("../", 50) + `etc/shadow"]},"id":1}`: "-32",
		} {
			status, text := seal(key, plaintext, now()).post(t, key, url)
			if status != 200 || !strings.Contains(text, `"error"`) || !strings.Contains(text, `"code":`+code) {
				t.Errorf("%.60q: got %d %.300q, want error %s", plaintext, status, text, code)
			}
		}
	})
	t.Run("slow senders keep nobody waiting", func(t *testing.T) {
		var slow []net.Conn
		for i := range 100 {
			c, err := net.DialTimeout("tcp", netip.AddrPortFrom(h.Addr, 8010).String(), 5*time.Second)
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			start := "POST /system HTTP/1.1\r\nHost: x\r\n"
			if i%2 == 0 {
				start += "Content-Length: 1000000\r\n\r\nAAAA"
			}
			if _, err := io.WriteString(c, start); err != nil {
				t.Fatal(err)
			}
			slow = append(slow, c)
		}
		began := time.Now()
		if status, _ := seal(key, harmless, now()).post(t, key, url); status != 200 {
			t.Errorf("got %d beside slow senders, want 200", status)
		}
		if took := time.Since(began); took > 10*time.Second {
			t.Errorf("the answer took %s beside slow senders", took)
		}
		for i, c := range []net.Conn{slow[0], slow[1]} {
			c.SetReadDeadline(time.Now().Add(50 * time.Second))
			if _, err := io.Copy(io.Discard, c); errors.Is(err, context.DeadlineExceeded) || isTimeout(err) {
				t.Errorf("slow sender %d still has its connection after 50 s", i)
			}
		}
	})
	t.Run("nothing changed, and the same process answers", func(t *testing.T) {
		if after := state(); after != before {
			t.Errorf("changed:\n%s", difference(before, after))
		}
		if status, _ := seal(key, harmless, now()).post(t, key, url); status != 200 {
			t.Errorf("got %d, want 200", status)
		}
		if log := h.Exec(t, "journalctl", "-u", agentUnit, "-o", "cat"); strings.Contains(log, "panic") || strings.Contains(log, string(h.KeyText())) {
			t.Errorf("the log shows a panic or the key: %s", tail(log, 4000))
		}
	})
}

func isTimeout(err error) bool {
	e, ok := errors.AsType[net.Error](err)
	return ok && e.Timeout()
}

// speak writes raw bytes to a listener and returns what it answers before it closes, or within five seconds.
func speak(t *testing.T, addr netip.AddrPort, raw string) string {
	t.Helper()
	c, err := net.DialTimeout("tcp", addr.String(), 5*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(5 * time.Second))
	if _, err := io.WriteString(c, raw); err != nil {
		t.Fatal(err)
	}
	if err := c.(*net.TCPConn).CloseWrite(); err != nil {
		return ""
	}
	data, _ := io.ReadAll(c) // a refusal may end in a reset
	return string(data)
}
