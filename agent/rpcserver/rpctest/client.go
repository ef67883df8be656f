package rpctest

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"testing"
	"time"

	"github.com/reeve-paas/reeve/agent/agentapi"
	"github.com/reeve-paas/reeve/crypto/envelope"
)

// Client is a bare client: it sends what it is told, and opens what comes back.
type Client struct {
	URL  string // without a path
	HTTP *http.Client
	Key  func() envelope.Key // the server's
}

// Message is one HTTP request as its bytes.
type Message struct {
	Method, Path, Date, Signature string // "" means POST, and no such header
	Body                          []byte
	Header                        map[string]string
}

// Answer is one HTTP reply.
type Answer struct {
	Status    int
	Header    http.Header
	Body      []byte
	Plaintext []byte // of a sealed reply
}

// RPC is a reply object.
type RPC struct {
	ID     json.RawMessage
	Result json.RawMessage
	Error  *struct {
		Code    int
		Message string
		Data    any
		Kind    agentapi.Kind
	}
}

// Seal makes a good request.
func (c *Client) Seal(path, plaintext string) Message { return c.sealAt(path, plaintext, time.Now()) }

func (c *Client) sealAt(path, plaintext string, at time.Time) Message {
	body, date, signature := envelope.Seal(c.Key(), []byte(plaintext), at)
	return Message{Path: path, Date: date, Signature: signature, Body: body}
}

// Send sends one request. A reply with status 200 must open.
func (c *Client) Send(t testing.TB, m Message) Answer {
	t.Helper()
	method := m.Method
	if method == "" {
		method = http.MethodPost
	}
	req, err := http.NewRequestWithContext(t.Context(), method, c.URL+m.Path, bytes.NewReader(m.Body))
	if err != nil {
		t.Fatal(err)
	}
	m.setHeaders(req)
	resp, err := c.HTTP.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	a := Answer{Status: resp.StatusCode, Header: resp.Header}
	if a.Body, err = io.ReadAll(resp.Body); err != nil {
		t.Fatal(err)
	}
	if a.Status == http.StatusOK {
		if a.Plaintext, err = envelope.Open(c.Key(), a.Body, resp.Header.Get("Date"), resp.Header.Get("X-Signature")); err != nil {
			t.Fatalf("the reply does not open: %v", err)
		}
	}
	return a
}

func (m Message) setHeaders(req *http.Request) {
	if m.Date != "" {
		req.Header.Set("Date", m.Date)
	}
	if m.Signature != "" {
		req.Header.Set("X-Signature", m.Signature)
	}
	for name, value := range m.Header {
		req.Header.Set(name, value)
	}
}

// Call seals and sends one request.
func (c *Client) Call(t testing.TB, path, plaintext string) Answer {
	t.Helper()
	return c.Send(t, c.Seal(path, plaintext))
}

// WantAlive checks that the server still serves.
func (c *Client) WantAlive(t testing.TB) {
	t.Helper()
	if r := c.Call(t, "/system", `{"method": "cpu_stat", "params": {}, "id": 1}`).Reply(t); r.Error != nil {
		t.Errorf("got error %v, want the server alive", r.Error)
	}
}

// Reply decodes a signed reply, which must have status 200 and exactly two members.
func (a Answer) Reply(t testing.TB) RPC {
	t.Helper()
	if a.Status != http.StatusOK {
		t.Fatalf("got status %d: %s, want 200", a.Status, a.Body)
	}
	var members map[string]json.RawMessage
	if err := json.Unmarshal(a.Plaintext, &members); err != nil {
		t.Fatalf("reply %s: %v", a.Plaintext, err)
	}
	_, result := members["result"]
	_, failure := members["error"]
	if _, id := members["id"]; len(members) != 2 || !id || result == failure {
		t.Fatalf("got members of %s, want id and one of result, error", a.Plaintext)
	}
	var r RPC
	if err := json.Unmarshal(a.Plaintext, &r); err != nil {
		t.Fatal(err)
	}
	return r
}

// WantError checks a signed error.
func (a Answer) WantError(t testing.TB, code int, message string, data any) RPC {
	t.Helper()
	r := a.Reply(t)
	if r.Error == nil {
		t.Fatalf("got result %s, want error %d", r.Result, code)
	}
	if r.Error.Code != code || r.Error.Message != message || r.Error.Data != data {
		t.Errorf("got %d %q %v, want %d %q %v", r.Error.Code, r.Error.Message, r.Error.Data, code, message, data)
	}
	return r
}

// WantStatus checks the status, and that a refusal is not signed.
func (a Answer) WantStatus(t testing.TB, status int) {
	t.Helper()
	if a.Status != status {
		t.Errorf("got status %d: %s, want %d", a.Status, a.Body, status)
	}
	if a.Status != http.StatusOK && a.Header.Get("X-Signature") != "" {
		t.Error("got a signature on a refusal, want none")
	}
}
