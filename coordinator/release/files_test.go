package release

import (
	"bytes"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/reeve-paas/reeve/agent/agentapi"
	"github.com/reeve-paas/reeve/coordinator/core"
)

func files(t *testing.T) (*Files, *time.Time) {
	t.Helper()
	now := time.Now()
	mux := http.NewServeMux()
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	f, err := Open(Options{Dir: t.TempDir(), Secret: bytes.Repeat([]byte{1}, 32), MaxSize: 1000,
		BaseURL: func(core.Node) (string, error) { return server.URL, nil }, Clock: func() time.Time { return now }})
	if err != nil {
		t.Fatal(err)
	}
	f.Register(mux)
	return f, &now
}

func send(t *testing.T, method string, blob agentapi.Blob, body string) (int, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, blob.URL, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+string(blob.Token))
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	got, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(got)
}

func TestAHostWritesAndReadsFiles(t *testing.T) {
	f, now := files(t)
	to, err := f.Accept(core.Node{}, "app-1-2")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.Accepted("app-1-2"); core.KindOf(err) != core.NotFound {
		t.Errorf("got %v for what was not written yet, want not_found", err)
	}
	if status, text := send(t, "PUT", to, "content"); status != http.StatusNoContent {
		t.Fatalf("write: got status %d: %s", status, text)
	}
	sum, err := f.Accepted("app-1-2")
	if err != nil {
		t.Fatal(err)
	}
	from, err := f.Lend(core.Node{}, sum)
	if err != nil {
		t.Fatal(err)
	}
	if from.SHA256 != sum {
		t.Errorf("got the sum %q, want %q", from.SHA256, sum)
	}
	if status, text := send(t, "GET", from, ""); status != http.StatusOK || text != "content" {
		t.Errorf("read: got %d %q, want 200 and the content", status, text)
	}
	for name, c := range map[string]struct {
		method string
		blob   agentapi.Blob
	}{
		"the other direction": {"PUT", from},
		"another file":        {"GET", agentapi.Blob{URL: strings.Replace(from.URL, sum[:6], "000000", 1), Token: from.Token}},
		"no token":            {"GET", agentapi.Blob{URL: from.URL}},
		"a changed time":      {"GET", agentapi.Blob{URL: from.URL, Token: "9" + from.Token}},
	} {
		if status, _ := send(t, c.method, c.blob, "x"); status != http.StatusForbidden {
			t.Errorf("%s: got status %d, want 403", name, status)
		}
	}
	*now = now.Add(lendFor + time.Second)
	if status, _ := send(t, "GET", from, ""); status != http.StatusForbidden {
		t.Errorf("after an hour: got status %d, want 403", status)
	}
	if err := f.Delete(sum); err != nil {
		t.Fatal(err)
	}
	if err := f.Delete(sum); err != nil {
		t.Errorf("deleted twice: %v", err)
	}
	if left, err := filepath.Glob(filepath.Join(f.Dir, "*", "*")); err != nil || len(left) > 0 {
		t.Errorf("got %q left (%v) of a deleted file, want nothing", left, err)
	}
	if _, err := f.Lend(core.Node{}, sum); core.KindOf(err) != core.NotFound {
		t.Errorf("got %v for a deleted file, want not_found", err)
	}
}

func TestFilesThatAreTooLargeLeaveNothing(t *testing.T) {
	f, _ := files(t)
	if _, _, err := f.Put(t.Context(), strings.NewReader(strings.Repeat("x", 1001))); core.KindOf(err) != core.Invalid {
		t.Errorf("got %v, want invalid", err)
	}
	to, err := f.Accept(core.Node{}, "big")
	if err != nil {
		t.Fatal(err)
	}
	if status, _ := send(t, "PUT", to, strings.Repeat("x", 1001)); status != http.StatusRequestEntityTooLarge {
		t.Errorf("got status %d, want 413", status)
	}
	left, err := filepath.Glob(filepath.Join(f.Dir, "*", "*"))
	if err != nil || len(left) > 0 {
		t.Errorf("got %q left (%v), want nothing", left, err)
	}
}

func TestWhatWasNotWholeIsClearedAway(t *testing.T) {
	f, _ := files(t)
	half := filepath.Join(f.Dir, "tmp", "half")
	if err := os.WriteFile(half, []byte("ha"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(f.Options); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(half); !os.IsNotExist(err) {
		t.Errorf("the half written file is still there: %v", err)
	}
}

func TestNamesOfFilesStayInTheirDirectory(t *testing.T) {
	f, _ := files(t)
	for _, name := range []string{"", "../x", "a/b", strings.Repeat("a", 101)} {
		if _, err := f.Accept(core.Node{}, name); core.KindOf(err) != core.Invalid {
			t.Errorf("name %q: got %v, want invalid", name, err)
		}
		if _, err := f.Accepted(name); core.KindOf(err) != core.NotFound {
			t.Errorf("name %q: got %v, want not_found", name, err)
		}
		if _, err := f.Open(name); core.KindOf(err) != core.NotFound {
			t.Errorf("sum %q: got %v, want not_found", name, err)
		}
	}
}
