package mysql

import (
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"

	"github.com/reeve-paas/reeve/agent/agentapi"
)

// blobs is a server that keeps one text.
func blobs(t *testing.T, text string) (agentapi.Blob, *string) {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPut {
			data, _ := io.ReadAll(r.Body)
			text = string(data)
			return
		}
		io.WriteString(w, text)
	}))
	t.Cleanup(server.Close)
	return agentapi.Blob{URL: server.URL}, &text
}

func TestDumps(t *testing.T) {
	s, srv := newService(t)
	s.dumpDir = t.TempDir() + "/dumps"
	do, ctx := mustDo(t), t.Context()
	for _, name := range []string{"from_a", "into_b", "fromXa"} {
		do(s.CreateDatabase(ctx, agentapi.CreateDatabaseParams{Name: name}))
		defer func() { do(s.DropDatabase(ctx, agentapi.NameParams{Name: name})) }()
	}
	srv.admin(t, "CREATE TABLE from_a.t (id INT PRIMARY KEY, name TEXT, raw BLOB)")
	srv.admin(t, "INSERT INTO from_a.t VALUES (1, 'it''s; \\\\ ünï', x'00ff0a')")
	to, text := blobs(t, "")
	do(s.DumpDatabase(ctx, agentapi.DumpDatabaseParams{Name: "from_a", Target: to}))
	if !strings.Contains(*text, "CREATE TABLE `t`") || !strings.Contains(*text, "0x00FF0A") {
		t.Fatalf("got the dump %s", *text)
	}
	load := func(name, text string) error {
		from, _ := blobs(t, text)
		_, err := s.LoadDump(ctx, agentapi.LoadDumpParams{Name: name, Source: from})
		return err
	}
	t.Run("a dump makes the same database elsewhere", func(t *testing.T) {
		must[int](t)(0, load("into_b", *text))
		again, got := blobs(t, "")
		do(s.DumpDatabase(ctx, agentapi.DumpDatabaseParams{Name: "into_b", Target: again}))
		if strip(*got) != strip(*text) {
			t.Errorf("got %s, want %s", *got, *text)
		}
	})
	t.Run("a routine with its own delimiter is loaded", func(t *testing.T) {
		must[int](t)(0, load("into_b", "DELIMITER ;;\nCREATE PROCEDURE p() BEGIN SELECT 1; SELECT 2; END;;\nDELIMITER ;\nCALL p();\n"))
	})
	t.Run("who loads may do nothing elsewhere", func(t *testing.T) {
		marker := t.TempDir() + "/marker"
		if err := os.Chmod(t.TempDir(), 0o755); err != nil {
			t.Fatal(err)
		}
		for name, sql := range map[string]string{
			"another database":   "USE from_a; DROP TABLE t;",
			"a similar name":     "DROP DATABASE fromXa;",
			"a user":             "CREATE USER evil@localhost;",
			"a file":             "SELECT 1 INTO OUTFILE '" + marker + "';",
			"what is no SQL":     "this is no dump;",
			"a global setting":   "SET GLOBAL max_connections = 1;",
			"a grant to oneself": "GRANT ALL ON *.* TO reeve_load@localhost;",
		} {
			err := load("into_b", sql)
			wantKind(t, err, agentapi.KindInvalid)
			if err != nil && !strings.Contains(err.Error(), "ERROR") {
				t.Errorf("%s: got %v", name, err)
			}
		}
		// The client runs commands, but as nobody.
		must[int](t)(0, load("into_b", "\\! cat /etc/shadow > "+marker+"\n"))
		if _, err := os.Stat(marker); err == nil {
			t.Error("a command wrote where only root may")
		}
	})
	t.Run("what is not there, or not ours to give, is refused", func(t *testing.T) {
		wantKind(t, load("nope", "SELECT 1;"), agentapi.KindNotFound)
		wantKind(t, load("mysql", "SELECT 1;"), agentapi.KindInvalid)
		_, err := s.DumpDatabase(ctx, agentapi.DumpDatabaseParams{Name: "nope", Target: to})
		wantKind(t, err, agentapi.KindNotFound)
		_, err = s.LoadDump(ctx, agentapi.LoadDumpParams{Name: "into_b", Source: agentapi.Blob{URL: "file:///etc/shadow"}})
		wantKind(t, err, agentapi.KindInvalid)
	})
	t.Run("nothing is left of it", func(t *testing.T) {
		if left, err := os.ReadDir(s.dumpDir); err != nil || len(left) > 0 {
			t.Errorf("got %v, %v", left, err)
		}
		if err := srv.login(t, loader, "", ""); err == nil {
			t.Error("the loader may still log in")
		}
		if strings.Contains(srv.state(t), loader) {
			t.Errorf("the loader is left: %s", srv.state(t))
		}
		if err := os.WriteFile(s.dumpDir+"/left", nil, 0o600); err != nil {
			t.Fatal(err)
		}
		must[int](t)(0, s.Start(ctx))
		if _, err := os.Stat(s.dumpDir); err == nil {
			t.Error("what a killed agent left is still there")
		}
	})
}

// strip leaves out the lines of a dump that name the database and the time.
func strip(dump string) string {
	var out strings.Builder
	for line := range strings.Lines(dump) {
		if !strings.HasPrefix(line, "-- ") {
			out.WriteString(line)
		}
	}
	return out.String()
}
