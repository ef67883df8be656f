package host_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/reeve-paas/reeve/handlers/host"
	"github.com/reeve-paas/reeve/handlers/host/hosttest"
)

func TestWriteFile(t *testing.T) {
	t.Run("has its mode whatever the old file or the umask had", func(t *testing.T) {
		h := hosttest.New(t)
		h.WriteText("/key", "old")
		if err := h.WriteFile("/key", []byte("new"), 0o600); err != nil {
			t.Fatal(err)
		}
		info, _ := os.Stat(h.Path("/key"))
		if h.Text("/key") != "new" || info.Mode().Perm() != 0o600 {
			t.Errorf("got %q with mode %o, want new with 600", h.Text("/key"), info.Mode().Perm())
		}
	})
	t.Run("replaces the file, so that an open reader keeps the old content", func(t *testing.T) {
		h := hosttest.New(t)
		h.WriteText("/conf", "old content")
		reader, err := os.Open(h.Path("/conf"))
		if err != nil {
			t.Fatal(err)
		}
		defer reader.Close()
		if err := h.WriteFile("/conf", []byte("new"), 0o644); err != nil {
			t.Fatal(err)
		}
		buf := make([]byte, 100)
		n, _ := reader.Read(buf)
		if string(buf[:n]) != "old content" {
			t.Errorf("the open reader got %q, want the old content", buf[:n])
		}
	})
	t.Run("removes what a killed process was about to put in its place", func(t *testing.T) {
		h := hosttest.New(t)
		before := time.Now().Add(-time.Hour)
		for _, name := range []string{".conf820433858334817469", ".conf2", ".conf12345678901.bak", ".other820433858334817469"} {
			h.WriteText("/dir/"+name, "")
			if err := os.Chtimes(h.Path("/dir/"+name), before, before); err != nil {
				t.Fatal(err)
			}
		}
		h.WriteText("/dir/.conf920433858334817469", "being written now")
		if err := h.WriteFile("/dir/conf", []byte("new"), 0o644); err != nil {
			t.Fatal(err)
		}
		for name, want := range map[string]bool{".conf820433858334817469": false, ".conf2": true, ".conf12345678901.bak": true,
			".other820433858334817469": true, ".conf920433858334817469": true, "conf": true} {
			if got := h.Exists("/dir/" + name); got != want {
				t.Errorf("%s exists: got %t, want %t", name, got, want)
			}
		}
	})
	t.Run("leaves nothing behind when it fails", func(t *testing.T) {
		h := hosttest.New(t)
		h.WriteText("/dir/taken/x", "") // a directory where the file should go
		if err := h.WriteFile("/dir/taken", []byte("new"), 0o644); err == nil {
			t.Fatal("got no error")
		}
		if left, _ := filepath.Glob(h.Path("/dir/.*")); len(left) != 0 {
			t.Errorf("got leftovers %q", left)
		}
	})
}

func TestChangeRollbackRestoresEverything(t *testing.T) {
	h := hosttest.New(t)
	h.WriteText("/etc/kept", "same")
	h.WriteText("/etc/changed", "before")
	h.WriteText("/etc/removed", "was here")
	os.Chmod(h.Path("/etc/changed"), 0o640)
	before := h.Tree("/")
	c := h.Begin()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(c.MkdirAll("/etc/a/b", 0o755))
	_, err := c.WriteFile("/etc/a/b/new", []byte("x"), 0o600)
	must(err)
	_, err = c.WriteFile("/etc/changed", []byte("after"), 0o600)
	must(err)
	_, err = c.WriteFile("/etc/changed", []byte("twice"), 0o600)
	must(err)
	must(c.Remove("/etc/removed"))
	if changed, err := c.WriteFile("/etc/kept", []byte("same"), 0o644); changed || err != nil {
		t.Errorf("equal content: got changed %v, %v, want false", changed, err)
	}
	if h.Tree("/") == before {
		t.Fatal("nothing changed")
	}
	must(c.Rollback())
	if got := h.Tree("/"); got != before {
		t.Errorf("after the rollback: got\n%s, want\n%s", got, before)
	}
}

func TestChangeRollbackGoesOnAfterAnError(t *testing.T) {
	h := hosttest.New(t)
	h.WriteText("/a", "before")
	c := h.Begin()
	if _, err := c.WriteFile("/a", []byte("after"), 0o644); err != nil {
		t.Fatal(err)
	}
	broken := errors.New("cannot undo")
	c.OnRollback(func() error { return broken })
	if err := c.Rollback(); !errors.Is(err, broken) {
		t.Errorf("got %v, want %v", err, broken)
	}
	if h.Text("/a") != "before" {
		t.Errorf("got %q, want the earlier step taken back too", h.Text("/a"))
	}
}

func TestChangeCommitKeeps(t *testing.T) {
	h := hosttest.New(t)
	c := h.Begin()
	if _, err := c.WriteFile("/a", []byte("x"), 0o644); err != nil {
		t.Fatal(err)
	}
	c.Commit()
	if err := c.Rollback(); err != nil || h.Text("/a") != "x" {
		t.Errorf("got %q, %v, want x kept", h.Text("/a"), err)
	}
}

func TestChangeRefusesALink(t *testing.T) {
	h := hosttest.New(t)
	os.Symlink("/etc/shadow", h.Path("/link"))
	if _, err := h.Begin().WriteFile("/link", []byte("x"), 0o644); err == nil || !strings.Contains(err.Error(), "not a regular file") {
		t.Errorf("got %v, want a refusal", err)
	}
}

func TestReadInto(t *testing.T) {
	h := hosttest.New(t)
	h.WriteText("/proc/stat", "cpu 1 2 3 4\nmore")
	if got, err := h.ReadInto("/proc/stat", make([]byte, 11)); err != nil || string(got) != "cpu 1 2 3 4" {
		t.Errorf("got %q, %v", got, err)
	}
	if got, err := h.ReadInto("/proc/stat", make([]byte, 100)); err != nil || string(got) != "cpu 1 2 3 4\nmore" {
		t.Errorf("got %q, %v", got, err)
	}
	if _, err := h.ReadInto("/proc/none", nil); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("got %v, want %v", err, fs.ErrNotExist)
	}
}

func TestProcFileIsReadAgain(t *testing.T) {
	h := hosttest.New(t)
	f := h.ProcFile("/proc/stat")
	if _, err := f.ReadInto(make([]byte, 9)); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("got %v, want %v", err, fs.ErrNotExist)
	}
	for _, text := range []string{"cpu 1 2 3 4", "cpu 2 3 4 5", "cpu"} {
		h.WriteText("/proc/stat", text) // the same file, as the kernel's stays
		if got, err := f.ReadInto(make([]byte, 100)); err != nil || string(got) != text {
			t.Errorf("got %q, %v, want %q", got, err, text)
		}
	}
	if got, err := f.ReadInto(make([]byte, 2)); err != nil || string(got) != "cp" {
		t.Errorf("got %q, %v", got, err)
	}
}

func TestStatFS(t *testing.T) {
	h := hosttest.New(t)
	u, err := h.StatFS(t.Context(), "/")
	if err != nil || u.SizeBytes == 0 || u.AvailBytes > u.SizeBytes || u.FreeBytes > u.SizeBytes {
		t.Errorf("got %+v, %v", u, err)
	}
	if _, err := h.StatFS(t.Context(), "/none"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("got %v, want %v", err, fs.ErrNotExist)
	}
}

func TestLookupUser(t *testing.T) {
	h := hosttest.New(t)
	h.WriteText("/etc/passwd", "root:x:0:0:root:/root:/bin/bash\n# comment\nweb:x:33:34:,,,:/var/www:/bin/sh\n")
	h.WriteText("/etc/group", "root:x:0:\nadm:x:4:syslog,web\nssl:x:110:web\n")
	u, err := h.LookupUser("web")
	if err != nil || u.UID != 33 || u.GID != 34 || u.Home != "/var/www" || len(u.Groups) != 2 || u.Groups[0] != 4 || u.Groups[1] != 110 {
		t.Errorf("got %+v, %v", u, err)
	}
	if _, err := h.LookupUser("nobody"); err == nil || !strings.Contains(err.Error(), `"nobody" does not exist`) {
		t.Errorf("got %v", err)
	}
}

func TestDetectLayout(t *testing.T) {
	for release, want := range map[string]string{
		"ID=debian\nVERSION_ID=\"12\"\n":                 "debian",
		"ID=ubuntu\nID_LIKE=debian\n":                    "debian",
		"ID=\"rocky\"\nID_LIKE=\"rhel centos fedora\"\n": "redhat",
		"ID=fedora\n": "redhat",
		"":            "debian",
	} {
		h := hosttest.New(t)
		h.WriteText("/etc/os-release", release)
		if got := host.DetectLayout(h.Host).Family; got != want {
			t.Errorf("%q: got %s, want %s", release, got, want)
		}
	}
}
