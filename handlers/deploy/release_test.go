package deploy

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"testing"

	"github.com/reeve-paas/reeve/agent/agentapi"
	"github.com/reeve-paas/reeve/handlers"
	"github.com/reeve-paas/reeve/handlers/host/hosttest"
)

func hostWithShop(tb testing.TB) *hosttest.Host {
	h := newHost(tb)
	must[agentapi.AppPaths](tb)(newService(h).CreateApp(tb.Context(), shop))
	return h
}

func put(tb testing.TB, h *hosttest.Host, n int, body string) (agentapi.AppPaths, error) {
	return newService(h).PutRelease(tb.Context(), agentapi.PutReleaseParams{App: "shop", Release: n,
		Archive: archive(tb, file{name: "htdocs/index.php", body: body})})
}

func served(h *hosttest.Host) string { return h.Text("/srv/data/apps/shop/current/htdocs/index.php") }

func TestPutRelease(t *testing.T) {
	h := hostWithShop(t)
	h.ClearCalls()
	paths := must[agentapi.AppPaths](t)(put(t, h, 1, "one"))

	t.Run("the release is served and Apache told", func(t *testing.T) {
		if served(h) != "one" || paths.Release != 1 {
			t.Errorf("got %q, release %d, want one, 1", served(h), paths.Release)
		}
		if got, want := fmt.Sprint(h.Calls()), "[state apache2.service reload apache2.service]"; got != want {
			t.Errorf("got calls %s, want %s", got, want)
		}
	})
	t.Run("the same release again changes nothing, also when it is no longer current", func(t *testing.T) {
		must[agentapi.AppPaths](t)(put(t, h, 2, "two"))
		before := h.Tree("/")
		paths := must[agentapi.AppPaths](t)(put(t, h, 1, "one"))
		if h.Tree("/") != before || paths.Release != 2 {
			t.Errorf("got release %d, want 2 and an unchanged host", paths.Release)
		}
	})
	t.Run("the same number with other content is a conflict", func(t *testing.T) {
		_, err := put(t, h, 2, "other")
		wantKind(t, err, agentapi.KindConflict)
	})
	t.Run("numbers only grow", func(t *testing.T) {
		must[agentapi.AppPaths](t)(put(t, h, 7, "seven"))
		_, err := put(t, h, 5, "five")
		wantKind(t, err, agentapi.KindConflict)
		_, err = put(t, h, 0, "zero")
		wantKind(t, err, agentapi.KindInvalid)
	})
	t.Run("an unknown app is not found", func(t *testing.T) {
		_, err := newService(h).PutRelease(t.Context(), agentapi.PutReleaseParams{App: "nope", Release: 1, Archive: []byte("PK")})
		wantKind(t, err, agentapi.KindNotFound)
	})
	t.Run("an archive that is none leaves no trace", func(t *testing.T) {
		before := h.Tree("/")
		_, err := newService(h).PutRelease(t.Context(), agentapi.PutReleaseParams{App: "shop", Release: 8, Archive: []byte("PK")})
		wantKind(t, err, agentapi.KindInvalid)
		if h.Tree("/") != before {
			t.Error("the host changed")
		}
	})
	t.Run("the ten newest releases are kept", func(t *testing.T) {
		for n := 10; n < 22; n++ {
			must[agentapi.AppPaths](t)(put(t, h, n, fmt.Sprint(n)))
		}
		got := fmt.Sprint(must[[]agentapi.AppInfo](t)(newService(h).ListApps(t.Context(), handlers.NoParams{}))[0].Releases)
		if want := "[12 13 14 15 16 17 18 19 20 21]"; got != want {
			t.Errorf("got %s, want %s", got, want)
		}
		if _, err := os.Stat(h.Path("/srv/data/apps/shop/releases/.7.json")); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("got %v, want the note of release 7 to be gone", err)
		}
	})
}

func TestPutReleaseLayouts(t *testing.T) {
	for name, c := range map[string]struct {
		files []file
		want  map[string]string
	}{
		"htdocs at the root stays":          {[]file{{name: "./", kind: tar.TypeDir}, {name: "./htdocs/a", body: "1"}, {name: "./lib/b", body: "2"}}, map[string]string{"htdocs/a": "1", "lib/b": "2"}},
		"anything else becomes htdocs":      {[]file{{name: "index.php", body: "1"}, {name: "lib/b", body: "2"}}, map[string]string{"htdocs/index.php": "1", "htdocs/lib/b": "2"}},
		"a file named htdocs is content":    {[]file{{name: "htdocs", body: "1"}}, map[string]string{"htdocs/htdocs": "1"}},
		"htdocs may be a link to directory": {[]file{{name: "public/a", body: "1"}, {name: "htdocs", kind: tar.TypeSymlink, target: "public"}}, map[string]string{"htdocs/a": "1"}},
		"links inside survive the wrapping": {[]file{{name: "a", body: "1"}, {name: "d/l", kind: tar.TypeSymlink, target: "../a"}, {name: "h", kind: tar.TypeLink, target: "a"}}, map[string]string{"htdocs/d/l": "1", "htdocs/h": "1"}},
	} {
		t.Run(name, func(t *testing.T) {
			h := hostWithShop(t)
			paths := must[agentapi.AppPaths](t)(newService(h).PutRelease(t.Context(), agentapi.PutReleaseParams{App: "shop", Release: 1, Archive: archive(t, c.files...)}))
			for file, want := range c.want {
				if got := h.Text(paths.Home + "/current/" + file); got != want {
					t.Errorf("%s: got %q, want %q", file, got, want)
				}
			}
			if strings.Contains(h.Tree(paths.Home), ".new-") {
				t.Error("something unfinished was left")
			}
		})
	}
	t.Run("modes are ours, executables stay executable", func(t *testing.T) {
		h := hostWithShop(t)
		must[agentapi.AppPaths](t)(newService(h).PutRelease(t.Context(), agentapi.PutReleaseParams{App: "shop", Release: 1,
			Archive: archive(t, file{name: "a", mode: 0o666}, file{name: "run", mode: 0o4777}, file{name: "d/", kind: tar.TypeDir, mode: 0o777})}))
		dir := "/srv/data/apps/shop/current/htdocs/"
		for name, want := range map[string]fs.FileMode{"a": 0o640, "run": 0o750, "d": fs.ModeDir | fs.ModeSetgid | 0o750} {
			if st := must[fs.FileInfo](t)(h.Stat(dir + name)); st.Mode() != want {
				t.Errorf("%s: got %v, want %v", name, st.Mode(), want)
			}
		}
	})
}

func TestSwitchRelease(t *testing.T) {
	h := hostWithShop(t)
	must[agentapi.AppPaths](t)(put(t, h, 1, "one"))
	must[agentapi.AppPaths](t)(put(t, h, 2, "two"))
	for _, n := range []int{1, 1, 2, 0} {
		paths := must[agentapi.AppPaths](t)(newService(h).SwitchRelease(t.Context(), agentapi.SwitchReleaseParams{App: "shop", Release: n}))
		if paths.Release != n {
			t.Errorf("got release %d, want %d", paths.Release, n)
		}
	}
	_, err := newService(h).SwitchRelease(t.Context(), agentapi.SwitchReleaseParams{App: "shop", Release: 9})
	wantKind(t, err, agentapi.KindNotFound)
}

func TestReleaseBreaks(t *testing.T) {
	start := func(tb testing.TB) *hosttest.Host {
		h := hostWithShop(tb)
		must[agentapi.AppPaths](tb)(put(tb, h, 1, "one"))
		return h
	}
	before := everything(start(t))
	check := func(t *testing.T, h *hosttest.Host, err error) {
		if got := everything(h); got != before {
			t.Errorf("after %v: got\n%s\nwant\n%s", err, got, before)
		}
	}
	putTwo := func(h *hosttest.Host) error { _, err := put(t, h, 2, "two"); return err }
	switchBack := func(h *hosttest.Host) error {
		_, err := newService(h).SwitchRelease(t.Context(), agentapi.SwitchReleaseParams{App: "shop", Release: 0})
		return err
	}
	t.Run("put_release", func(t *testing.T) { hosttest.BreakEachCall(t, start, putTwo, check) })
	t.Run("switch_release", func(t *testing.T) { hosttest.BreakEachCall(t, start, switchBack, check) })
	t.Run("put_release killed", func(t *testing.T) { killed(t, start, putTwo) })
	t.Run("switch_release killed", func(t *testing.T) { killed(t, start, switchBack) })
	t.Run("put_release killed while it unpacked, and before the switch", func(t *testing.T) {
		for _, stage := range []func(h *hosttest.Host){
			func(h *hosttest.Host) { h.WriteText("/srv/data/apps/shop/releases/.new-2/tree/htdocs/half", "x") },
			func(h *hosttest.Host) {
				must[agentapi.AppPaths](t)(put(t, h, 2, "two"))
				note := strings.Replace(h.Text("/srv/data/apps/shop/releases/.2.json"), "true", "false", 1)
				h.WriteText("/srv/data/apps/shop/releases/.2.json", note)
				if err := h.ReplaceLink("/srv/data/apps/shop/current", "releases/1"); err != nil {
					t.Fatal(err)
				}
			},
		} {
			h := start(t)
			stage(h)
			must[agentapi.AppPaths](t)(put(t, h, 2, "two"))
			if served(h) != "two" || h.Exists("/srv/data/apps/shop/releases/.new-2") {
				t.Errorf("got %q, want two and nothing unfinished", served(h))
			}
		}
	})
}

func TestUnpackRefuses(t *testing.T) {
	link := func(name, target string) file { return file{name: name, kind: tar.TypeSymlink, target: target} }
	for name, files := range map[string][]file{
		"an absolute path":                     {{name: "/etc/passwd"}},
		"a path with ..":                       {{name: "a/../../b"}},
		"a path that is ..":                    {{name: ".."}},
		"an absolute link":                     {link("a", "/etc/passwd")},
		"a link out":                           {link("a/b", "../../c")},
		"a link out through another":           {{name: "sub/x"}, link("sub/d", ".."), link("x", "sub/d/..")},
		"a link to itself":                     {link("a", "a")},
		"a file through a link out":            {link("a", ".."), {name: "a/evil"}},
		"a file behind a link":                 {{name: "d/x"}, link("a", "d"), {name: "a/b"}},
		"a hard link out":                      {{name: "a", kind: tar.TypeLink, target: "../b"}},
		"a hard link to nothing":               {{name: "a", kind: tar.TypeLink, target: "b"}},
		"a hard link to a link":                {link("a", "b"), {name: "c", kind: tar.TypeLink, target: "a"}},
		"a device":                             {{name: "a", kind: tar.TypeChar}},
		"a pipe":                               {{name: "a", kind: tar.TypeFifo}},
		"a name twice":                         {{name: "a"}, {name: "a"}},
		"a file where a directory has to be":   {{name: "a"}, {name: "a/b"}},
		"too many bytes":                       {{name: "a", body: strings.Repeat("x", 600)}, {name: "b", body: strings.Repeat("x", 600)}},
		"too many entries":                     {{name: "1"}, {name: "2"}, {name: "3"}, {name: "4"}, {name: "5"}},
		"a name that is too long for the host": {{name: strings.Repeat("n", 300)}},
	} {
		t.Run(name, func(t *testing.T) {
			outside := t.TempDir()
			if err := os.Mkdir(outside+"/in", 0o700); err != nil {
				t.Fatal(err)
			}
			root := must[*os.Root](t)(os.OpenRoot(outside + "/in"))
			defer root.Close()
			err := unpack(t.Context(), root, bytes.NewReader(archive(t, files...)), limits{bytes: 1000, entries: 4}, false)
			wantKind(t, err, agentapi.KindInvalid)
			if entries, _ := os.ReadDir(outside); len(entries) != 1 {
				t.Errorf("got %v outside, want nothing", entries)
			}
		})
	}
	t.Run("an archive cut short", func(t *testing.T) {
		data := archive(t, file{name: "a", body: strings.Repeat("0123456789", 100)})
		for _, n := range []int{0, 5, 12, len(data) / 2, len(data) - 9} {
			root := must[*os.Root](t)(os.OpenRoot(t.TempDir()))
			wantKind(t, unpack(t.Context(), root, bytes.NewReader(data[:n]), defaultLimits, false), agentapi.KindInvalid)
			root.Close()
		}
	})
}

func FuzzUnpack(f *testing.F) {
	f.Add("a/b", "c", "../x", "a")
	f.Add("sub/d", "x", "..", "sub/d/..")
	f.Add("a", "b", "", "x")
	f.Add("l/../..", "l", "l", "/")
	f.Fuzz(func(t *testing.T, file1, link1, target1, target2 string) {
		outside := t.TempDir()
		if err := os.Mkdir(outside+"/in", 0o700); err != nil {
			t.Fatal(err)
		}
		for _, n := range []string{file1, link1, target1, target2} {
			if strings.ContainsRune(n, 0) || len(n) > 1000 {
				return
			}
		}
		root := must[*os.Root](t)(os.OpenRoot(outside + "/in"))
		defer root.Close()
		data := archive(t, file{name: link1, kind: tar.TypeSymlink, target: target1}, file{name: file1, body: "x"},
			file{name: link1 + "2", kind: tar.TypeSymlink, target: target2})
		if err := unpack(t.Context(), root, bytes.NewReader(data), defaultLimits, false); err != nil {
			if e, ok := errors.AsType[*agentapi.Error](err); !ok || e.Kind != agentapi.KindInvalid {
				t.Errorf("got %v, want the archive to be blamed", err)
			}
		}
		if entries, _ := os.ReadDir(outside); len(entries) != 1 {
			t.Errorf("got %v outside, want nothing", entries)
		}
	})
}

func TestPutReleaseFromABlob(t *testing.T) {
	h := hostWithShop(t)
	s := newService(h)
	st := newStore(t)
	blob := st.put(archive(t, file{name: "index.php", body: strings.Repeat("x", 1<<20)}))
	paths := must[agentapi.AppPaths](t)(s.PutRelease(t.Context(), agentapi.PutReleaseParams{App: "shop", Release: 1, Source: &blob}))
	if got := h.Text(paths.DocumentRoot + "/index.php"); paths.Release != 1 || len(got) != 1<<20 {
		t.Errorf("got release %d with %d bytes, want 1 with %d", paths.Release, len(got), 1<<20)
	}
	st.Close() // what is here is not fetched again
	must[agentapi.AppPaths](t)(s.PutRelease(t.Context(), agentapi.PutReleaseParams{App: "shop", Release: 1, Source: &blob}))
	before := everything(h)
	other := newStore(t)
	wrong := other.put(archive(t, file{name: "index.php", body: "y"}))
	wrong.SHA256 = sumOf([]byte("x"))
	for name, c := range map[string]struct {
		p    agentapi.PutReleaseParams
		kind agentapi.Kind
	}{
		"neither":       {agentapi.PutReleaseParams{App: "shop", Release: 2}, agentapi.KindInvalid},
		"both":          {agentapi.PutReleaseParams{App: "shop", Release: 2, Archive: []byte("x"), Source: &blob}, agentapi.KindInvalid},
		"no sum":        {agentapi.PutReleaseParams{App: "shop", Release: 2, Source: &agentapi.Blob{URL: blob.URL}}, agentapi.KindInvalid},
		"another sum":   {agentapi.PutReleaseParams{App: "shop", Release: 2, Source: &wrong}, agentapi.KindInvalid},
		"nobody there":  {agentapi.PutReleaseParams{App: "shop", Release: 2, Source: &blob}, agentapi.KindUnavailable},
		"no such app":   {agentapi.PutReleaseParams{App: "nope", Release: 2, Source: &blob}, agentapi.KindNotFound},
		"other content": {agentapi.PutReleaseParams{App: "shop", Release: 1, Source: &wrong}, agentapi.KindConflict},
	} {
		if _, err := s.PutRelease(t.Context(), c.p); !isKind(err, c.kind) {
			t.Errorf("%s: got %v, want %s", name, err, c.kind)
		}
	}
	if got := everything(h); got != before {
		t.Errorf("got\n%s\nwant\n%s", got, before)
	}
}
