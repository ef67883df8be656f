package main

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// newEnrollment is a host in a directory and a coordinator that answers.
func newEnrollment(t *testing.T, status int, answer map[string]string) enrollment {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var body struct{ Token string }
		if err := json.NewDecoder(r.Body).Decode(&body); err != nil || body.Token != "good" || r.URL.Path != "/agent/enroll" || r.Method != "POST" {
			t.Errorf("got %s %s %+v, %v", r.Method, r.URL, body, err)
		}
		w.WriteHeader(status)
		_ = json.NewEncoder(w).Encode(answer)
	}))
	t.Cleanup(server.Close)
	dir := t.TempDir()
	return enrollment{url: server.URL, keyFile: filepath.Join(dir, "keys", "default"), marker: filepath.Join(dir, "enrolled"), client: server.Client(),
		dropIn: filepath.Join(dir, "reeve-agent.service.d", "coordinator.conf"), caFile: filepath.Join(dir, "ca.crt"), ca: []byte("certificate"),
		start: func(context.Context) error { return nil }}
}

var goodAnswer = map[string]string{"server_id": "node-1", "name": "web-1", "queryenv": "/agent/queryenv", "messages": "/agent/messages", "key": base64.StdEncoding.EncodeToString([]byte(strings.Repeat("k", 40)))}

func TestEnrollingWritesKeyAndMarker(t *testing.T) {
	e := newEnrollment(t, 200, goodAnswer)
	if err := e.free(); err != nil {
		t.Fatal(err)
	}
	name, err := e.run(t.Context(), "good")
	if err != nil || name != "web-1" {
		t.Fatalf("got %s, %v", name, err)
	}
	for file, want := range map[string]string{e.keyFile: goodAnswer["key"] + "\n", e.marker: "owner=" + e.url + "\nnode=node-1\ntoken=yes\n"} {
		data, err := os.ReadFile(file)
		if err != nil || string(data) != want {
			t.Errorf("%s: got %q, %v", file, data, err)
		}
		if st, _ := os.Stat(file); st.Mode().Perm() != 0o600 {
			t.Errorf("%s has mode %o", file, st.Mode().Perm())
		}
	}
	if e.free() == nil {
		t.Error("a host that is enrolled is free")
	}
	wantSettings(t, e, "[Service]\nEnvironment=REEVE_AGENT_COORDINATOR_CA_FILE="+e.caFile+"\nEnvironment=REEVE_AGENT_COORDINATOR_PRODUCER_URL="+e.url+"/agent/messages\n"+
		"Environment=REEVE_AGENT_COORDINATOR_QUERYENV_URL="+e.url+"/agent/queryenv\nEnvironment=REEVE_AGENT_COORDINATOR_SERVER_ID=node-1\n", "certificate")
	t.Run("again, with a coordinator that offers nothing to ask", func(t *testing.T) {
		older := newEnrollment(t, 200, map[string]string{"server_id": "node-2", "name": "web-2", "key": goodAnswer["key"]})
		older.keyFile, older.marker, older.dropIn, older.caFile = e.keyFile, e.marker, e.dropIn, e.caFile
		if _, err := older.run(t.Context(), "good"); err != nil {
			t.Fatal(err)
		}
		wantSettings(t, older, "", "")
	})
}

func wantSettings(t *testing.T, e enrollment, settings, ca string) {
	t.Helper()
	for file, want := range map[string]string{e.dropIn: settings, e.caFile: ca} {
		if data, _ := os.ReadFile(file); string(data) != want {
			t.Errorf("%s: got %q, want %q", file, data, want)
		}
	}
}

func TestEnrollingThatFailsLeavesTheKeyOfBefore(t *testing.T) {
	for name, change := range map[string]func(*testing.T) enrollment{
		"a token that is not valid": func(t *testing.T) enrollment { return newEnrollment(t, 403, map[string]string{"message": "no"}) },
		"an answer without a key":   func(t *testing.T) enrollment { return newEnrollment(t, 200, map[string]string{"name": "x"}) },
		"a name that would be another setting": func(t *testing.T) enrollment {
			bad := maps.Clone(goodAnswer)
			bad["server_id"] = "x\nExecStart=/bin/false"
			return newEnrollment(t, 200, bad)
		},
		"an agent that does not start": func(t *testing.T) enrollment {
			e := newEnrollment(t, 200, goodAnswer)
			e.start = func(context.Context) error { return errors.New("no such unit") }
			return e
		},
	} {
		for _, before := range []string{"", "old\n"} {
			t.Run(name, func(t *testing.T) {
				e := change(t)
				if before != "" {
					if err := os.MkdirAll(filepath.Dir(e.keyFile), 0o700); err != nil {
						t.Fatal(err)
					}
					if err := os.WriteFile(e.keyFile, []byte(before), 0o600); err != nil {
						t.Fatal(err)
					}
				}
				if _, err := e.run(t.Context(), "good"); err == nil {
					t.Error("got no failure")
				}
				got, _ := os.ReadFile(e.keyFile)
				if _, err := os.Stat(e.marker); string(got) != before || err == nil {
					t.Errorf("got the key %q, want %q, and no marker", got, before)
				}
				wantSettings(t, e, "", "")
				if _, err := os.Stat(filepath.Dir(e.dropIn)); err == nil {
					t.Error("the directory of settings stays")
				}
			})
		}
	}
}

func TestAKeyGoesOverTLSOnly(t *testing.T) {
	for url, ok := range map[string]bool{
		"https://c.example:8443": true, "http://127.0.0.1:8080": true, "http://localhost": true, "http://[::1]:80": true,
		"http://c.example": false, "http://10.0.0.1": false, "c.example": false, "": false, "ftp://c": false, "https://": false,
	} {
		if err := checkURL(url); (err == nil) != ok {
			t.Errorf("%s: got %v", url, err)
		}
	}
}

func TestAnAuthorityIsProvenByItsChecksum(t *testing.T) {
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("certificate")) }))
	t.Cleanup(server.Close)
	e := enrollment{url: server.URL}
	sum := sha256.Sum256([]byte("certificate"))
	if pem, err := e.fetchCA(t.Context(), strings.ToUpper(hex.EncodeToString(sum[:]))); err != nil || string(pem) != "certificate" {
		t.Errorf("got %s, %v", pem, err)
	}
	sum[0]++
	if _, err := e.fetchCA(t.Context(), hex.EncodeToString(sum[:])); err == nil {
		t.Error("another checksum was accepted")
	}
}
