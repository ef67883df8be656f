package orchestrator_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/txtar"

	"github.com/reeve-paas/reeve/coordinator/api"
	dialect "github.com/reeve-paas/reeve/coordinator/api/orchestrator"
	"github.com/reeve-paas/reeve/coordinator/auth"
	"github.com/reeve-paas/reeve/coordinator/cloud"
	"github.com/reeve-paas/reeve/coordinator/cloud/fake"
	"github.com/reeve-paas/reeve/coordinator/core"
	"github.com/reeve-paas/reeve/coordinator/store/sqlite"
	"github.com/reeve-paas/reeve/crypto/keyring"
	"github.com/reeve-paas/reeve/test/wire/orchestrator"
)

// closed is a dummy that only callers with a token may use, like every real cloud.
type closed struct{ *fake.Driver }

func (c closed) Info() core.CloudInfo {
	info := c.Driver.Info()
	info.Anonymous = false
	return info
}

type stack struct {
	target orchestrator.Target
	auth   *auth.Auth
	log    *bytes.Buffer
}

// newStack wires what the API needs as production does, on a SQLite file of its own.
func newStack(t testing.TB) stack {
	t.Helper()
	dir := t.TempDir()
	sealer, err := keyring.OpenSealer(filepath.Join(dir, "master.key"))
	if err != nil {
		t.Fatal(err)
	}
	ctx := context.Background() // the store outlives t.Context until its cleanup
	store, err := sqlite.Open(ctx, sqlite.Options{Path: filepath.Join(dir, "reeve.db"), Sealer: sealer})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := store.Close(); err != nil {
			t.Error(err)
		}
	})
	clouds, err := cloud.NewSet("",
		cloud.Named{Name: "default", Driver: fake.New()},
		cloud.Named{Name: "fake_driver", Driver: fake.New()},
		cloud.Named{Name: "closed", Driver: closed{fake.New()}},
	)
	if err != nil {
		t.Fatal(err)
	}
	users, err := auth.New(auth.Options{Store: store, BcryptCost: 4})
	if err != nil {
		t.Fatal(err)
	}
	if _, _, _, err := users.CreateAccount(ctx, "test123@example.org", "password", false); err != nil {
		t.Fatal(err)
	}
	s := stack{auth: users, log: &bytes.Buffer{}}
	d := dialect.New(dialect.Options{Core: core.New(core.Options{Store: store, Clouds: clouds}), Auth: users, Log: slog.New(slog.DiscardHandler)})
	handler, err := api.NewHandler(api.HandlerOptions{Log: slog.New(slog.NewTextHandler(s.log, nil))}, d.Mount())
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(handler)
	t.Cleanup(server.Close)
	s.target = orchestrator.Target{URL: server.URL, Username: "test123@example.org", Password: "password"}
	return s
}

func TestConformance(t *testing.T) {
	orchestrator.Run(t, func(t *testing.T) orchestrator.Target { return newStack(t).target })
}

// exchange is one of the document's.
type exchange struct {
	name, method, path, body string
	status, length           int // length 0: the document does not show it
	answer                   string
}

func document(t *testing.T) []exchange {
	t.Helper()
	archive, err := txtar.ParseFile("testdata/document.txtar")
	if err != nil {
		t.Fatal(err)
	}
	var all []exchange
	for i := 0; i+2 < len(archive.Files); i += 3 {
		x := exchange{name: strings.TrimSuffix(archive.Files[i].Name, ".request")}
		line, body, _ := strings.Cut(string(archive.Files[i].Data), "\n")
		x.method, x.path, _ = strings.Cut(line, " ")
		x.body = strings.TrimSuffix(body, "\n")
		if _, err := fmt.Sscan(string(archive.Files[i+1].Data), &x.status, &x.length); err != nil {
			t.Fatalf("%s: %v", x.name, err)
		}
		x.answer = strings.TrimSuffix(string(archive.Files[i+2].Data), "\n")
		all = append(all, x)
	}
	if len(all) != 18 {
		t.Fatalf("got %d exchanges, want 18", len(all))
	}
	return all
}

func TestDocumentExchanges(t *testing.T) {
	s := newStack(t)
	for _, x := range document(t) {
		t.Run(x.name, func(t *testing.T) {
			req, err := http.NewRequest(x.method, s.target.URL+x.path, strings.NewReader(x.body))
			if err != nil {
				t.Fatal(err)
			}
			req.Header.Set("Content-Type", "application/json; charset=utf-8")
			req.Header.Set("Accept-Encoding", "gzip, deflate, compress")
			resp, err := http.DefaultClient.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			body, err := io.ReadAll(resp.Body)
			if err != nil {
				t.Fatal(err)
			}
			if resp.StatusCode != x.status || string(body) != x.answer {
				t.Errorf("got %d\n%s\nwant %d\n%s", resp.StatusCode, body, x.status, x.answer)
			}
			if got := resp.Header.Get("Content-Length"); x.length > 0 && got != strconv.Itoa(x.length) {
				t.Errorf("got Content-Length %s, want %d", got, x.length)
			}
			if got := resp.Header.Get("Content-Type"); got != "application/json" {
				t.Errorf("got Content-Type %q", got)
			}
		})
	}
}

func TestDocumentExchangesWithCurl(t *testing.T) {
	curl, err := exec.LookPath("curl")
	if err != nil {
		t.Skip("curl is not installed")
	}
	s := newStack(t)
	for _, x := range document(t) {
		t.Run(x.name, func(t *testing.T) {
			args := []string{"-s", "-X", x.method, "-H", "Content-Type: application/json"}
			if x.body != "" {
				args = append(args, "-d", x.body)
			}
			out, err := exec.Command(curl, append(args, s.target.URL+x.path)...).Output()
			if err != nil {
				t.Fatal(err)
			}
			if sorted(t, out) != sorted(t, []byte(x.answer)) {
				t.Errorf("got\n%s\nwant\n%s", out, x.answer)
			}
		})
	}
}

func sorted(t *testing.T, text []byte) string {
	t.Helper()
	var v any
	if err := json.Unmarshal(text, &v); err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	out, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(out)
}
