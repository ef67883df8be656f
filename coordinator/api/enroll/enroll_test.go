package enroll

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/reeve-paas/reeve/coordinator/api"
	"github.com/reeve-paas/reeve/coordinator/core"
)

// redeemer knows one token, once.
type redeemer struct {
	spent   bool
	address string
	err     error
}

func (r *redeemer) Redeem(_ context.Context, p core.Principal, token, address string) (core.Node, error) {
	switch {
	case r.err != nil:
		return core.Node{}, r.err
	case token != "good" || r.spent || p.Dialect != "enroll":
		return core.Node{}, core.Errorf(core.Unauthenticated, core.ObjEnrollment, "the token is not valid: it was used, or has expired")
	}
	r.spent, r.address = true, address
	return core.Node{ID: "node-1", Name: "web-1", AgentKey: []byte(strings.Repeat("k", 40))}, nil
}

func newServer(t *testing.T, r *redeemer) func(method, path, body string) *httptest.ResponseRecorder {
	t.Helper()
	deb := filepath.Join(t.TempDir(), "reeve-agent.deb")
	if err := os.WriteFile(deb, []byte("package"), 0o600); err != nil {
		t.Fatal(err)
	}
	log := slog.New(slog.DiscardHandler)
	d := New(Options{Core: r, RoutesCA: []byte("root of names"), CA: []byte("-----BEGIN CERTIFICATE-----\n"), Log: log, Package: func(family string) (string, error) {
		if family == "deb" {
			return deb, nil
		}
		return "", core.Errorf(core.Unsupported, core.ObjNode, "there is no .rpm here")
	}})
	h, err := api.NewHandler(api.HandlerOptions{Log: log}, d.Mount())
	if err != nil {
		t.Fatal(err)
	}
	return func(method, path, body string) *httptest.ResponseRecorder {
		request := httptest.NewRequest(method, path, io.NopCloser(strings.NewReader(body)))
		request.RemoteAddr = "192.0.2.9:4711"
		w := httptest.NewRecorder()
		h.ServeHTTP(w, request)
		return w
	}
}

func TestATokenIsExchangedForAnIdentity(t *testing.T) {
	r := &redeemer{}
	do := newServer(t, r)
	w := do("POST", "/agent/enroll", `{"token": "good"}`)
	var got Identity
	if err := json.Unmarshal(w.Body.Bytes(), &got); err != nil {
		t.Fatal(err)
	}
	want := Identity{ServerID: "node-1", Name: "web-1", Key: base64.StdEncoding.EncodeToString([]byte(strings.Repeat("k", 40)))}
	if w.Code != 200 || got != want || r.address != "192.0.2.9" || w.Header().Get("Cache-Control") != "no-store" {
		t.Errorf("got %d %s, address %s", w.Code, w.Body, r.address)
	}
	if w := do("POST", "/agent/enroll", `{"token": "good"}`); w.Code != 403 {
		t.Errorf("a second time: got %d %s", w.Code, w.Body)
	}
	*r = redeemer{}
	if do("POST", "/agent/enroll", `{"token": "good", "address": "web-1.example"}`); r.address != "web-1.example" {
		t.Errorf("got address %s, want the one that was named", r.address)
	}
}

func TestRefusals(t *testing.T) {
	r := &redeemer{}
	do := newServer(t, r)
	for body, want := range map[string]int{``: 400, `{`: 400, `[]`: 400, `{}`: 400, `{"token": 7}`: 400, `{"token": ""}`: 400, `{"token": "bad"}`: 403} {
		if w := do("POST", "/agent/enroll", body); w.Code != want || !strings.Contains(w.Body.String(), `"message":`) {
			t.Errorf("%s: got %d %s, want %d", body, w.Code, w.Body, want)
		}
	}
	for kind, want := range map[core.Kind]int{core.Exists: 409, core.Unavailable: 503, core.Invalid: 400} {
		r.err = core.Errorf(kind, core.ObjNode, "so it is")
		if w := do("POST", "/agent/enroll", `{"token": "good"}`); w.Code != want || !strings.Contains(w.Body.String(), "so it is") {
			t.Errorf("%s: got %d %s, want %d", kind, w.Code, w.Body, want)
		}
	}
	r.err = errors.New("SELECT secret FROM path")
	if w := do("POST", "/agent/enroll", `{"token": "good"}`); w.Code != 500 || strings.Contains(w.Body.String(), "SELECT") {
		t.Errorf("got %d %s, want nothing about the inside", w.Code, w.Body)
	}
	for _, path := range []string{"/agent/", "/agent/x", "/agent/download/", "/agent/download/x", "/agent/download/..%2fx", "/agent/download/reeve-agent.rpm"} {
		if w := do("GET", path, ""); w.Code != 404 {
			t.Errorf("%s: got %d", path, w.Code)
		}
	}
	if w := do("GET", "/agent/enroll", ""); w.Code != 405 {
		t.Errorf("GET: got %d", w.Code)
	}
}

func TestDownloads(t *testing.T) {
	do := newServer(t, &redeemer{})
	if w := do("GET", "/agent/download/reeve-agent.deb", ""); w.Code != 200 || w.Body.String() != "package" {
		t.Errorf("got %d %s", w.Code, w.Body)
	}
	if w := do("GET", "/agent/download/SHA256SUMS", ""); w.Body.String() != fmt.Sprintf("%x  reeve-agent.deb\n", sha256.Sum256([]byte("package"))) {
		t.Errorf("got %s", w.Body)
	}
	if w := do("GET", "/agent/ca.crt", ""); !strings.HasPrefix(w.Body.String(), "-----BEGIN CERTIFICATE-----") {
		t.Errorf("got %s", w.Body)
	}
	if w := do("GET", "/agent/routes-ca.crt", ""); w.Body.String() != "root of names" {
		t.Errorf("got %s", w.Body)
	}
	text, sum := Script()
	w := do("GET", "/agent/enroll.sh", "")
	if w.Body.String() != string(text) || sum != fmt.Sprintf("%x", sha256.Sum256(w.Body.Bytes())) {
		t.Errorf("the script that is served is not the one whose checksum is told")
	}
}
