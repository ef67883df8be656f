package deploy

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/reeve-paas/reeve/agent/agentapi"
	"github.com/reeve-paas/reeve/handlers/deploy/platform"
	"github.com/reeve-paas/reeve/handlers/host"
	"github.com/reeve-paas/reeve/handlers/host/hosttest"
)

func TestEveryPlatformsEnvironmentIsPassedOn(t *testing.T) {
	for _, name := range platform.Names() {
		p, _ := platform.Get(name)
		if err := checkUnitEnv(p.Env); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestParseProcfile(t *testing.T) {
	list, err := parseProcfile([]byte("\ufeffweb: python app.py\r\n\n# a comment\n  worker_2 :  celery -A x   \n"))
	want := []agentapi.Process{{Name: "web", Command: "python app.py"}, {Name: "worker_2", Command: "celery -A x"}}
	if err != nil || !slices.Equal(list, want) {
		t.Errorf("got %+v, %v, want %+v", list, err, want)
	}
	for _, text := range []string{"", "\n# x\n", "web python", "we-b: x", "web:", "web: x\nweb: y", "web: 'x", ": x", "web: x\x00", strings.Repeat("p: x\n", 2), manyProcesses(maxProcesses + 1)} {
		if list, err := parseProcfile([]byte(text)); !isKind(err, agentapi.KindInvalid) {
			t.Errorf("%q: got %+v, %v, want invalid", text, list, err)
		}
	}
}

func manyProcesses(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, "p%d: x\n", i)
	}
	return b.String()
}

func TestParseManifest(t *testing.T) {
	m, err := parseManifest([]byte(`
hooks:
  build:
    - make assets
    - |
      two
      lines
  restart:
    before: one command
    before-each: [each]
    after: [a, b]
    after-each: [c]
healthcheck: {path: /health, method: post, status: 201, match: "ok.*", allowed_failures: 3}
kubernetes: {groups: {}}
`))
	want := agentapi.Manifest{BuildHooks: []string{"make assets", "two\nlines\n"}, RestartBefore: []string{"one command", "each"}, RestartAfter: []string{"a", "b", "c"},
		HealthCheck: &agentapi.HealthCheck{Path: "/health", Method: "POST", Status: 201, Match: "ok.*"}}
	if err != nil || fmt.Sprintf("%+v %+v", m, *m.HealthCheck) != fmt.Sprintf("%+v %+v", want, *want.HealthCheck) && m.HealthCheck == nil {
		t.Errorf("got %+v, %v", m, err)
	}
	if fmt.Sprint(m.BuildHooks, m.RestartBefore, m.RestartAfter, *m.HealthCheck) != fmt.Sprint(want.BuildHooks, want.RestartBefore, want.RestartAfter, *want.HealthCheck) {
		t.Errorf("got %+v, want %+v", m, want)
	}
	for _, text := range []string{"", "{}", "healthcheck: {status: 200}", "hooks:\nhealthcheck:\n"} {
		if m, err := parseManifest([]byte(text)); err != nil || m.HealthCheck != nil || m.BuildHooks != nil {
			t.Errorf("%q: got %+v, %v", text, m, err)
		}
	}
	for _, text := range []string{"[", "- x", "hooks: 3", "hooks: {build: {a: b}}", "hooks: {build: [[x]]}", `hooks: {build: [""]}`, "hooks: {build: \"a\\0\"}",
		"healthcheck: {path: /, match: \"(\"}", "healthcheck: {path: /, status: 99}", "healthcheck: {path: /, status: many}", "healthcheck: {path: \"/ \\x7f\"}"} {
		if m, err := parseManifest([]byte(text)); !isKind(err, agentapi.KindInvalid) {
			t.Errorf("%q: got %+v, %v, want invalid", text, m, err)
		}
	}
}

func FuzzManifest(f *testing.F) {
	f.Add("web: x\nworker: 'a b'\n", "hooks: {build: [x]}\nhealthcheck: {path: /}\n")
	f.Add("a: $B | c", "hooks:\n  restart:\n    before-each: x\n")
	f.Add(":", "&a [*a, *a]")
	f.Fuzz(func(t *testing.T, procfile, manifest string) {
		if list, err := parseProcfile([]byte(procfile)); err == nil {
			p := agentapi.StartUnitParams{Unit: unitA, Port: minPort, Processes: list}
			if err := checkUnit(p); err != nil {
				t.Errorf("a Procfile that was accepted cannot be started: %v", err)
			}
		}
		if m, err := parseManifest([]byte(manifest)); err == nil {
			p := agentapi.StartUnitParams{Unit: unitA, Port: minPort, Processes: []agentapi.Process{{Name: "web", Command: "x"}},
				RestartBefore: m.RestartBefore, RestartAfter: m.RestartAfter, HealthCheck: m.HealthCheck}
			if err := checkUnit(p); err != nil {
				t.Errorf("a manifest that was accepted cannot be started: %v", err)
			}
		}
	})
}

// buildHost is a host whose builds do what do does to the tree.
func buildHost(tb testing.TB, do func(h *unitHost, tree string, c host.Cmd) (host.Output, error)) *unitHost {
	tb.Helper()
	h := newUnitHost(tb, 0, ok)
	h.Runner.Handle("systemd-run", func(c host.Cmd) (host.Output, error) {
		for _, arg := range c.Args {
			if bind, found := strings.CutPrefix(arg, "--property=BindPaths="); found && strings.HasSuffix(bind, ":"+insideDir) {
				return do(h, h.Path(strings.TrimSuffix(bind, ":"+insideDir)), c)
			}
		}
		return host.Output{}, errors.New("the build has no directory")
	})
	return h
}

// compiles is a build that works.
func compiles(_ *unitHost, tree string, c host.Cmd) (host.Output, error) {
	if c.Args[len(c.Args)-1] != insidePlatform+"/build" { // a hook
		return host.Output{}, nil
	}
	fmt.Fprintln(c.StdoutFile, "-----> done")
	err := errors.Join(os.MkdirAll(tree+"/.reeve", 0o750), os.WriteFile(tree+"/.reeve/procfile", []byte("web: serve\n"), 0o640),
		os.WriteFile(tree+"/built", []byte("x"), 0o750))
	for link, target := range map[string]string{"python": "/usr/bin/python3", "lib/self": insideDir + "/built"} {
		err = errors.Join(err, os.MkdirAll(filepath.Dir(filepath.Join(tree, link)), 0o750), os.Symlink(target, filepath.Join(tree, link)))
	}
	return host.Output{}, err
}

func buildParams(st *store, files ...file) agentapi.BuildReleaseParams {
	return agentapi.BuildReleaseParams{App: "shop", Release: 7, Source: st.put(archive(st.tb, files...)), Target: agentapi.Blob{URL: st.URL + "/result", Token: "let-me-in"},
		Env: map[string]agentapi.Secret{"TOKEN": "seen-nowhere"}}
}

func TestBuildRelease(t *testing.T) {
	var argv []string
	h := buildHost(t, func(h *unitHost, tree string, c host.Cmd) (host.Output, error) {
		i := slices.Index(c.Args, "--")
		argv = append(argv, strings.Join(c.Args[i+1:], " "))
		if strings.Contains(strings.Join(c.Args, " "), "seen-nowhere") {
			t.Errorf("the secret is an argument: %q", c.Args)
		}
		if len(argv) > 1 {
			return host.Output{}, nil
		}
		return compiles(h, tree, c)
	})
	before := everything(h.Host)
	st := newStore(t)
	s := unitService1(h)
	got, err := s.BuildRelease(t.Context(), buildParams(st, file{name: "index.php", body: "<?php"}, file{name: "tsuru.yaml", body: "hooks: {build: [make, test]}\nhealthcheck: {path: /}"}))
	if err != nil {
		t.Fatal(err)
	}
	result := got.(agentapi.ReleaseBuild)
	if fmt.Sprint(result.Manifest.Processes) != "[{web serve}]" || result.Manifest.HealthCheck.Path != "/" || fmt.Sprint(result.Manifest.BuildHooks) != "[make test]" {
		t.Errorf("got %+v", result)
	}
	if want := []string{"/bin/sh /home/application/platform/build", "/bin/sh -c make", "/bin/sh -c test"}; !slices.Equal(argv, want) {
		t.Errorf("got %q, want %q", argv, want)
	}
	data := st.files["/result"]
	if result.SHA256 != sumOf(data) || result.SizeBytes != int64(len(data)) {
		t.Errorf("got %+v of %d bytes with sum %s", result, len(data), sumOf(data))
	}
	if got, want := listing(t, data), ".reeve/ .reeve/procfile built* index.php lib/ lib/self->../built python->/usr/bin/python3 tsuru.yaml"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if got := everything(h.Host); got != before {
		t.Errorf("got\n%s\nwant\n%s", got, before)
	}
	t.Run("what was built can be fetched", func(t *testing.T) {
		blob := agentapi.Blob{URL: st.URL + "/result", Token: "let-me-in", SHA256: result.SHA256}
		if _, err := s.FetchRelease(t.Context(), agentapi.FetchReleaseParams{App: "shop", Release: 7, Source: blob}); err != nil {
			t.Error(err)
		}
	})
}

// listing is the names in an archive, with targets of links, and * after what can be executed.
func listing(t *testing.T, data []byte) string {
	t.Helper()
	zr, err := gzip.NewReader(bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for tr := tar.NewReader(zr); ; {
		hdr, err := tr.Next()
		if errors.Is(err, io.EOF) {
			return strings.Join(names, " ")
		}
		if err != nil {
			t.Fatal(err)
		}
		name := hdr.Name
		switch {
		case hdr.Linkname != "":
			name += "->" + hdr.Linkname
		case hdr.Typeflag == tar.TypeReg && hdr.Mode&0o100 != 0:
			name += "*"
		}
		names = append(names, name)
	}
}

func TestBuildReleaseFails(t *testing.T) {
	page := file{name: "index.php"}
	for name, c := range map[string]struct {
		files []file
		build func(h *unitHost, tree string, c host.Cmd) (host.Output, error)
		put   func(http.ResponseWriter, *http.Request)
		want  string
		kind  agentapi.Kind
	}{
		"a command fails": {files: []file{page}, build: func(_ *unitHost, _ string, c host.Cmd) (host.Output, error) {
			fmt.Fprintln(c.StdoutFile, "no such module")
			return host.Output{Code: 2}, nil
		}, want: "BuildError: building with platform php: exit code 2\nno such module", kind: agentapi.KindInvalid},
		"nothing to start": {files: []file{page}, build: func(*unitHost, string, host.Cmd) (host.Output, error) { return host.Output{}, nil },
			want: "the source has no Procfile, and platform php finds nothing to start", kind: agentapi.KindInvalid},
		"a broken Procfile":              {files: []file{page, {name: "Procfile", body: "web"}}, want: "line 1 of the Procfile", kind: agentapi.KindInvalid},
		"a broken tsuru.yaml":            {files: []file{page, {name: "app.yml", body: "["}}, want: "app.yml: ", kind: agentapi.KindInvalid},
		"a Procfile that is a directory": {files: []file{{name: "Procfile/x"}}, want: "Procfile is not a file", kind: agentapi.KindInvalid},
		"a link out of it": {files: []file{page}, build: func(h *unitHost, tree string, c host.Cmd) (host.Output, error) {
			_, err := compiles(h, tree, c)
			return host.Output{}, errors.Join(err, os.Symlink("/etc/shadow", tree+"/l"))
		}, want: `the build made "l", a link that leads out`, kind: agentapi.KindInvalid},
		"packages that are not there": {files: []file{page, {name: "requirements.apt", body: "curl # why\nlibfoo-dev\n"}}, want: "this host does not have libfoo-dev;", kind: agentapi.KindInvalid},
		"what is no package":          {files: []file{page, {name: "requirements.apt", body: "--allow-unauthenticated\n"}}, want: "is no package's name", kind: agentapi.KindInvalid},
		"the result is refused": {files: []file{page}, put: func(w http.ResponseWriter, r *http.Request) { http.Error(w, "", http.StatusForbidden) },
			want: "store the blob: the server answers 403", kind: agentapi.KindInvalid},
		"the result cannot be stored": {files: []file{page}, put: func(w http.ResponseWriter, r *http.Request) { http.Error(w, "", http.StatusServiceUnavailable) },
			want: "store the blob: the server answers 503", kind: agentapi.KindUnavailable},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			build := c.build
			if build == nil {
				build = compiles
			}
			h := buildHost(t, build)
			h.Runner.Print("dpkg-query", "curl installed\n")
			before := everything(h.Host)
			st := newStore(t)
			st.put1 = c.put
			_, err := unitService1(h).BuildRelease(t.Context(), buildParams(st, c.files...))
			if err == nil || !strings.Contains(err.Error(), c.want) || !isKind(err, c.kind) {
				t.Errorf("got %v, want %s", err, c.want)
			}
			if got := everything(h.Host); got != before {
				t.Errorf("got\n%s\nwant\n%s", got, before)
			}
		})
	}
}

func TestBuildReleaseFailsAtEachStep(t *testing.T) {
	var before string
	var now *unitHost
	hosttest.BreakEachCall(t, func(tb testing.TB) *hosttest.Host {
		now = buildHost(tb, compiles)
		now.Runner.Print("dpkg-query", "curl installed\n")
		before = everything(now.Host)
		return now.Host
	}, func(*hosttest.Host) error {
		_, err := unitService1(now).BuildRelease(t.Context(), buildParams(newStore(t), file{name: "x"}, file{name: "requirements.apt", body: "curl"}, file{name: "tsuru.yml", body: "hooks: {build: [ls]}"}))
		return err
	}, func(t *testing.T, h *hosttest.Host, err error) {
		if got := everything(h); got != before {
			t.Errorf("got\n%s\nwant\n%s", got, before)
		}
	})
}

func TestPackBounds(t *testing.T) {
	h := newHost(t)
	h.WriteText("/tree/a", "12345")
	h.WriteText("/tree/b", "12345")
	root, err := h.OpenRoot("/tree")
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	for _, max := range []limits{{bytes: 9, entries: 10}, {bytes: 100, entries: 1}} {
		if _, _, err := packInto(t.Context(), root, io.Discard, max); !isKind(err, agentapi.KindInvalid) {
			t.Errorf("%+v: got %v, want invalid", max, err)
		}
	}
	if _, size, err := packInto(t.Context(), root, io.Discard, limits{bytes: 10, entries: 2}); err != nil || size == 0 {
		t.Errorf("got %d, %v", size, err)
	}
}
