// Package arch guards the tree: who may import whom, and what every package must have. A rule fails with its reason.
package arch

import (
	"encoding/json"
	"errors"
	"go/parser"
	"go/token"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/reeve-paas/reeve/"

type pkg struct {
	ImportPath string
	Name       string
	Dir        string
	Doc        string
	Imports    []string
	GoFiles    []string
	Standard   bool
}

// rel is the package's place in the tree.
func (p pkg) rel() string { return strings.TrimPrefix(p.ImportPath, module) }

func list(t *testing.T) []pkg {
	t.Helper()
	cmd := exec.Command("go", "list", "-json=ImportPath,Name,Dir,Doc,Imports,GoFiles,Standard", "./...")
	cmd.Dir = filepath.Join("..", "..")
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	var all []pkg
	dec := json.NewDecoder(strings.NewReader(string(out)))
	for {
		var p pkg
		err := dec.Decode(&p)
		if errors.Is(err, io.EOF) {
			return all
		}
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, p)
	}
}

// under says that a package lies in one of the folders.
func under(rel string, folders ...string) bool {
	return slices.ContainsFunc(folders, func(f string) bool { return rel == f || strings.HasPrefix(rel, f+"/") })
}

// rule limits what the packages of one place may import of our own tree. The first rule that names a package decides.
type rule struct {
	of     func(rel string) bool
	may    func(importer, imported string) bool
	reason string
}

func in(folders ...string) func(string) bool {
	return func(rel string) bool { return under(rel, folders...) }
}

func only(folders ...string) func(string, string) bool {
	return func(_, imported string) bool { return under(imported, folders...) }
}

func is(name string) func(string) bool { return func(rel string) bool { return rel == name } }

// child says that a package is directly below a folder.
func child(folder string) func(string) bool {
	return func(rel string) bool {
		rest, ok := strings.CutPrefix(rel, folder+"/")
		return ok && !strings.Contains(rest, "/")
	}
}

var rules = []rule{
	{in("test", "handlers/host/hosttest", "handlers/web/webtest", "handlers/apache/apachetest", "handlers/nginx/nginxtest", "coordinator/cloud/cloudtest", "coordinator/store/storetest"), func(_, _ string) bool { return true },
		"tests may look at everything"},
	{is("agent"), func(_, i string) bool { return under(i, "agent", "handlers", "crypto", "systemd") },
		"the agent's main wires what lies below it and the handlers; it never needs the coordinator"},
	{is("coordinator"), func(_, i string) bool {
		return under(i, "coordinator", "crypto", "systemd", "agent/agentclient", "agent/agentapi") || i == "handlers/deploy/platform"
	},
		"the coordinator's main wires what lies below it; it speaks to agents through their client only, and knows of what they hold the platforms"},
	{in("coordinator/api/gandi", "coordinator/api/orchestrator", "coordinator/api/tsuru", "coordinator/api/director"), func(importer, i string) bool {
		own := strings.Join(strings.Split(importer, "/")[:3], "/")
		return i == "coordinator/api" || under(i, own, "coordinator/auth", "coordinator/core") || i == "coordinator/operation"
	}, "a dialect translates: what it needs it gets from core (whose operations are operation.Record), never from a store, a cloud or another dialect"},
	{is("coordinator/api/enroll"), only("coordinator/api", "coordinator/core"), "enrolment translates, as a dialect does"},
	{is("coordinator/api/agent"), only("coordinator/api", "coordinator/core", "crypto/envelope"), "what agents ask is translated as a dialect is; the envelope proves who asks"},
	{is("coordinator/api"), only("coordinator/core"), "the plumbing knows requests, not shapes"},
	{is("coordinator/core"), func(_, i string) bool { return i == "coordinator/operation" || i == "agent/agentapi" },
		"core decides and knows no adapter"},
	{is("coordinator/operation"), func(_, _ string) bool { return false }, "the engine runs any steps; it must not know whose"},
	{in("coordinator/store"), only("coordinator/core", "coordinator/operation", "coordinator/store"), "a store keeps what core has; it asks nobody"},
	{in("coordinator/cloud"), only("coordinator/core", "coordinator/operation", "coordinator/cloud"), "a driver carries out what core asks of its cloud"},
	{in("coordinator/release"), only("coordinator/core", "coordinator/operation", "agent/agentapi"), "archives and git know what core asks for, not who asked core"},
	{in("coordinator/auth"), only("coordinator/core", "coordinator/operation", "crypto/authority"), "auth turns a credential into a principal and no more"},
	{in("coordinator/broker"), only("coordinator/core"), "the broker carries what core asks to providers and back"},
	{in("coordinator/mail"), func(_, _ string) bool { return false }, "a message is an address and a text; it must not know what about"},
	{in("coordinator/agents"), only("coordinator/core", "coordinator/operation", "agent/agentclient", "agent/agentapi", "crypto/envelope"),
		"agents are reached through their client"},
	{in("handlers/host"), only("systemd", "agent/agentapi", "handlers/host"), "the door to the host knows no service"},
	{is("handlers/deploy/platform"), only("agent/agentapi"), "both programs read what platforms there are; it needs neither of them"},
	{is("handlers"), only("agent/agentapi"), "the contract of handlers knows no handler"},
	{in("handlers/web"), only("handlers", "agent/agentapi", "agent/operation"), "what apache and nginx share knows neither of them"},
	{is("handlers/blob"), only("agent/agentapi"), "a blob is fetched for whoever has a file to write it to"},
	{child("handlers"), func(importer, i string) bool {
		return i == "handlers" || i == "handlers/host" || i == "handlers/blob" || i == "handlers/web" || i == "agent/agentapi" || i == "agent/operation" || under(i, importer)
	}, "a handler knows its own service; two that need the same thing get it from host"},
	{in("agent/agentclient", "agent/rpcserver"), only("agent/agentapi", "agent/internal", "crypto"), "the wire is handed its methods; it never reaches for a handler"},
	{in("agent/queryenv", "agent/message"), only("agent/agentapi", "crypto"), "what the agent asks and tells its coordinator needs no handler"},
	{in("agent/operation", "agent/metrics"), only("agent/agentapi", "agent/operation", "handlers/host", "systemd"), "what the agent keeps itself needs no handler"},
	{in("crypto", "systemd", "agent/agentapi", "agent/internal"), func(importer, i string) bool { return under(i, importer) },
		"the lowest packages need nothing of ours, so anything may use them"},
}

func TestImports(t *testing.T) {
	for _, p := range list(t) {
		i := slices.IndexFunc(rules, func(r rule) bool { return r.of(p.rel()) })
		if i < 0 {
			t.Errorf("%s lies where no rule is: the folders of the tree are fixed (ARCHITECTURE.md)", p.rel())
			continue
		}
		for _, imported := range p.Imports {
			rel, ours := strings.CutPrefix(imported, module)
			if ours && !rules[i].may(p.rel(), rel) {
				t.Errorf("%s imports %s: %s", p.rel(), rel, rules[i].reason)
			}
		}
	}
}

// doors are libraries with one door each, and the packages that are that door.
var doors = []struct {
	library string
	door    []string
	reason  string
}{
	{"os/exec", []string{"handlers/host", "coordinator/cloud/nspawn", "coordinator/release", "test"}, "commands are run where they can be bounded, and faked in tests"},
	{"github.com/shirou/gopsutil", []string{"handlers/system", "agent/metrics"}, "host facts have one source"},
	{"github.com/coreos/go-systemd", []string{"systemd"}, "units are controlled in one place"},
	{"database/sql", []string{"coordinator/store", "coordinator/operation", "handlers/mysql", "handlers/postgresql", "test"}, "SQL lives in the store, and in the handlers of databases"},
	{"go.mongodb.org/mongo-driver", []string{"handlers/mongodb", "test"}, "the driver is large, and one place speaks to MongoDB"},
	{"modernc.org/sqlite", []string{"coordinator/store"}, "SQL lives in the store"},
	{"net/http", []string{"agent", "coordinator/api", "coordinator/agents", "coordinator/release", "coordinator/broker", "coordinator", "test", "handlers/system", "handlers/apache", "handlers/nginx", "handlers/web", "handlers/storage", "handlers/deploy", "handlers/blob"}, "core and the engine know no HTTP"},
}

func TestDoors(t *testing.T) {
	for _, p := range list(t) {
		if strings.HasSuffix(p.rel(), "test") { // suites and fakes
			continue
		}
		for _, d := range doors {
			for _, imported := range p.Imports {
				if (imported == d.library || strings.HasPrefix(imported, d.library+"/")) && !allowed(p.rel(), d.door) {
					t.Errorf("%s imports %s: %s", p.rel(), imported, d.reason)
				}
			}
		}
	}
}

// allowed is under, but "coordinator" and "agent" alone mean their main packages' folder without core and the like.
func allowed(rel string, door []string) bool {
	return slices.ContainsFunc(door, func(d string) bool {
		if d == "coordinator" {
			return rel == d
		}
		return under(rel, d)
	})
}

func TestEveryPackageSaysWhatItIs(t *testing.T) {
	for _, p := range list(t) {
		if len(p.GoFiles) > 0 && p.Doc == "" {
			t.Errorf("%s has no package comment", p.rel())
		}
	}
}

func TestTopLevelFolders(t *testing.T) {
	want := []string{"agent", "coordinator", "crypto", "docs", "handlers", "packaging", "systemd", "test"}
	entries, err := os.ReadDir(filepath.Join("..", ".."))
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		built := e.Name() == "bin" || e.Name() == "dist"
		if e.IsDir() && !strings.HasPrefix(e.Name(), ".") && !built && !slices.Contains(want, e.Name()) {
			t.Errorf("folder %s: the top level is fixed, see ARCHITECTURE.md", e.Name())
		}
	}
}

// TestNoShell finds programs that are handed to a shell: a string there is an injection waiting.
func TestNoShell(t *testing.T) {
	for _, p := range list(t) {
		for _, name := range p.GoFiles {
			path := filepath.Join(p.Dir, name)
			if strings.HasSuffix(path, "handlers/deploy/shell.go") { // lines that owners of apps wrote, run as their users
				continue
			}
			f, err := parser.ParseFile(token.NewFileSet(), path, nil, 0)
			if err != nil {
				t.Fatal(err)
			}
			text, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			for _, shell := range []string{`"sh", "-c"`, `"bash", "-c"`, `"/bin/sh", "-c"`, `"/bin/bash", "-c"`} {
				if strings.Contains(string(text), shell) {
					t.Errorf("%s (package %s) hands text to a shell: pass an argument vector", path, f.Name)
				}
			}
		}
	}
}
