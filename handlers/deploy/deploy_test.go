package deploy

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"flag"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/reeve-paas/reeve/agent/agentapi"
	"github.com/reeve-paas/reeve/handlers"
	"github.com/reeve-paas/reeve/handlers/host"
	"github.com/reeve-paas/reeve/handlers/host/hosttest"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// TestMain puts temporary directories in memory: these tests write to disk, and wait for it, some thousand times.
func TestMain(m *testing.M) {
	const shm = "/dev/shm"
	if dir, err := os.MkdirTemp(shm, "reeve-deploy-"); err == nil {
		os.Setenv("TMPDIR", dir)
		code := m.Run()
		os.RemoveAll(dir)
		os.Exit(code)
	}
	os.Exit(m.Run())
}

func golden(t *testing.T, name, got string) {
	t.Helper()
	file := filepath.Join("testdata", name+".golden")
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s: got\n%s\nwant\n%s", file, got, want)
	}
}

func wantKind(t *testing.T, err error, want agentapi.Kind) {
	t.Helper()
	if e, ok := errors.AsType[*agentapi.Error](err); !ok || e.Kind != want {
		t.Errorf("got error %v, want kind %s", err, want)
	}
}

func must[T any](t testing.TB) func(T, error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

const (
	passwdText  = "root:x:0:0:root:/root:/bin/bash\nwww-data:x:33:33:www-data:/var/www:/usr/sbin/nologin\ntop:x:999:999::/:/bin/false\nann:x:1234:1234::/:/bin/sh\n+::::::\n"
	groupText   = "root:x:0:\nwww-data:x:33:\ntop:x:999:\nother:x:998:root,top\n"
	shadowText  = "root:$y$j9T$abc:19000:0:99999:7:::\nwww-data:*:19000:0:99999:7:::\n"
	gshadowText = "root:*::\nwww-data:!::\n"
)

// newHost is a Debian host with Apache and an SSH server, both running.
func newHost(tb testing.TB) *hosttest.Host {
	tb.Helper()
	h := hosttest.New(tb)
	h.WriteText("/etc/passwd", passwdText)
	h.WriteText("/etc/group", groupText)
	h.WriteText("/etc/shadow", shadowText)
	h.WriteText("/etc/gshadow", gshadowText)
	if err := os.Chmod(h.Path("/etc/shadow"), 0o640); err != nil {
		tb.Fatal(err)
	}
	h.WriteText("/usr/sbin/sshd", "")
	h.WriteText("/etc/fstab", fstabText)
	h.WriteText(host.MountsFile, "25 1 259:2 / / rw,relatime shared:1 - ext4 /dev/vda rw\n")
	h.Runner.Succeed("sshd")
	h.Units.SetRunning("ssh.service")
	h.Units.SetRunning("apache2.service")
	return h
}

func newService(h *hosttest.Host) *Service {
	s := New(Options{Host: h.Host})
	s.now = func() time.Time { return time.Unix(20000*24*3600, 0) }
	return s
}

var shop = agentapi.CreateAppParams{
	App: "shop", Platform: "php",
	Env:   map[string]agentapi.Secret{"MYSQL_USER": "u", "MYSQL_PASSWORD": `p"w\$`},
	Login: &agentapi.AppLogin{User: "2316", PasswordHash: "$6$saltsalt$abcdefghijklmnopqrstuvwxyz012345"},
}

type file struct {
	name, body string
	mode       int64
	kind       byte
	target     string
}

func archive(tb testing.TB, files ...file) []byte {
	tb.Helper()
	var b bytes.Buffer
	zw := gzip.NewWriter(&b)
	tw := tar.NewWriter(zw)
	for _, f := range files {
		if f.kind == 0 {
			f.kind = tar.TypeReg
		}
		if f.mode == 0 {
			f.mode = 0o644
		}
		hdr := &tar.Header{Name: f.name, Typeflag: f.kind, Linkname: f.target, Mode: f.mode, Size: int64(len(f.body))}
		if err := tw.WriteHeader(hdr); err != nil {
			tb.Fatal(err)
		}
		if _, err := tw.Write([]byte(f.body)); err != nil {
			tb.Fatal(err)
		}
	}
	if err := errors.Join(tw.Close(), zw.Close()); err != nil {
		tb.Fatal(err)
	}
	return b.Bytes()
}

// everything is all that our methods may change on the host.
func everything(h *hosttest.Host) string {
	var kept []string
	for line := range strings.Lines(h.Tree("/")) {
		// Directories that stay behind empty, and the lock file, are no trace that matters.
		if strings.HasPrefix(line, "d") || strings.Contains(line, accountsLock) {
			continue
		}
		kept = append(kept, line)
	}
	return strings.Join(kept, "")
}

// copyHost is the host as a kill at this moment would leave it: the files of h, with nothing in memory.
func copyHost(tb testing.TB, h, other *hosttest.Host) *hosttest.Host {
	tb.Helper()
	if err := os.RemoveAll(other.Root); err != nil {
		tb.Fatal(err)
	}
	if out, err := exec.Command("cp", "-aT", h.Root, other.Root).CombinedOutput(); err != nil {
		tb.Fatalf("%v: %s", err, out)
	}
	return other
}

// spy calls see before each command and unit call.
type spy struct {
	runner host.Runner
	host.UnitControl
	see func()
}

func (s spy) Run(ctx context.Context, c host.Cmd) (host.Output, error) {
	s.see()
	return s.runner.Run(ctx, c)
}
func (s spy) Start(ctx context.Context, u string) error { s.see(); return s.UnitControl.Start(ctx, u) }
func (s spy) Stop(ctx context.Context, u string) error  { s.see(); return s.UnitControl.Stop(ctx, u) }
func (s spy) Reload(ctx context.Context, u string) error {
	s.see()
	return s.UnitControl.Reload(ctx, u)
}
func (s spy) DaemonReload(ctx context.Context) error { s.see(); return s.UnitControl.DaemonReload(ctx) }

// killed proves that a method which is killed before any of its commands or unit calls completes when it is repeated: the
// files end as they do without a kill, and everybody is told that has to be.
func killed(t *testing.T, start func(testing.TB) *hosttest.Host, do func(*hosttest.Host) error) {
	t.Helper()
	whole := start(t)
	whole.ClearCalls()
	if err := do(whole); err != nil {
		t.Fatal(err)
	}
	want, wantCalls := everything(whole), whole.Calls()

	watched := start(t)
	var left []*hosttest.Host
	real := watched.Host
	see := spy{runner: watched.Runner, UnitControl: watched.Units, see: func() {
		other := copyHost(t, watched, start(t))
		for _, unit := range watched.Units.Names() { // the init system survives the agent
			state, _ := watched.Units.State(t.Context(), unit)
			other.Units.Set(unit, state)
		}
		left = append(left, other)
	}}
	watched.Host = host.New(host.Options{Root: watched.Root, Runner: see, Units: see, Layout: real.Layout()})
	if err := do(watched); err != nil {
		t.Fatal(err)
	}
	if len(left) == 0 {
		t.Fatal("the method makes no calls: nothing to kill it at")
	}
	for i, h := range left {
		h.ClearCalls()
		if err := do(h); err != nil {
			t.Errorf("killed before call %d: %v", i+1, err)
			continue
		}
		if got := everything(h); got != want {
			t.Errorf("killed before call %d: got\n%s\nwant\n%s", i+1, got, want)
		}
		for _, unit := range whole.Units.Names() {
			if got, want := h.Units.Running(unit), whole.Units.Running(unit); got != want {
				t.Errorf("killed before call %d: got %s running %v, want %v", i+1, unit, got, want)
			}
		}
		if last := wantCalls[len(wantCalls)-1]; !slices.Contains(h.Calls(), last) {
			t.Errorf("killed before call %d: got calls %v, want %s among them", i+1, h.Calls(), last)
		}
	}
}

func TestNamespace(t *testing.T) {
	set := must[handlers.Set](t)(handlers.NewSet(newService(newHost(t))))
	for _, method := range []string{"mount_volume", "unmount_volume", "create_app", "put_release", "switch_release", "delete_app", "list_apps"} {
		if set["deploy"][method].Call == nil {
			t.Errorf("deploy.%s is missing", method)
		}
	}
}

func sumOf(data []byte) string {
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}

func certPEM(c *x509.Certificate) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw}))
}
