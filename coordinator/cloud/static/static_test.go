package static

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/reeve-paas/reeve/coordinator/core"
)

// aKeyFile holds a key that nobody lets in.
func aKeyFile(t *testing.T) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "id")
	if err := os.WriteFile(file, newKey(t), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

func openIn(t *testing.T, dir string, hosts ...Host) *Driver {
	t.Helper()
	d, err := Open(t.Context(), Options{StateDir: dir, Hosts: hosts, Package: func(string, string) (string, error) { return "", errors.New("none") }})
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func names(t *testing.T, d *Driver) string {
	t.Helper()
	all, err := d.load()
	if err != nil {
		t.Fatal(err)
	}
	var s []string
	for _, m := range all {
		s = append(s, m.Name+":"+string(m.State))
	}
	return strings.Join(s, " ")
}

func TestTheListOfMachinesFollowsTheConfiguration(t *testing.T) {
	dir := t.TempDir()
	a, b := Host{Name: "a", Address: "192.0.2.1"}, Host{Name: "b", Address: "192.0.2.2"}
	d := openIn(t, dir, a, b)
	if err := d.Add(t.Context(), Host{Name: "hand", Address: "192.0.2.3"}); err != nil {
		t.Fatal(err)
	}
	if err := d.update(t.Context(), "b", func(m *machine) { m.Key, m.State = "k", core.CloudRunning }); err != nil {
		t.Fatal(err)
	}
	a.Address = "192.0.2.9"
	if got := names(t, openIn(t, dir, a)); got != "a: b:running hand:" { // b is a node
		t.Errorf("got %q", got)
	}
	if m, err := d.machine("a"); err != nil || m.Address != "192.0.2.9" {
		t.Errorf("got %+v, %v, want the new address", m, err)
	}
	if err := d.Forget(t.Context(), "b"); err != nil {
		t.Fatal(err)
	}
	if got := names(t, openIn(t, dir)); got != "hand:" {
		t.Errorf("got %q, want what was added by hand", got)
	}
	if err := d.Remove(t.Context(), "hand"); err != nil || names(t, d) != "" {
		t.Errorf("got %q, %v", names(t, d), err)
	}
	for _, file := range []string{"machines.json", "owner", "machines.lock"} {
		if st, err := os.Stat(filepath.Join(dir, file)); err != nil || st.Mode().Perm() != 0o600 {
			t.Errorf("%s: got %v, %v", file, st, err)
		}
	}
}

func TestMachinesAreAdoptedOnce(t *testing.T) {
	d := openIn(t, t.TempDir())
	spec := core.NodeSpec{Key: "k", Name: "web-1"}
	for range 2 {
		n, err := d.Adopt(t.Context(), spec, "192.0.2.9")
		if err != nil || n.ID != "web-1" || n.State != core.CloudRunning || n.Extra["enrolled"] != "token" {
			t.Errorf("got %+v, %v", n, err)
		}
	}
	_, err := d.Adopt(t.Context(), core.NodeSpec{Key: "other", Name: "web-1"}, "192.0.2.9")
	if core.KindOf(err) != core.Exists {
		t.Errorf("got %v, want exists", err)
	}
	if err := d.RebootNode(t.Context(), "web-1"); core.KindOf(err) != core.Unsupported {
		t.Errorf("got %v, want unsupported", err)
	}
	if err := d.DestroyNode(t.Context(), "web-1"); err != nil { // nothing to log in to
		t.Error(err)
	}
	if got := names(t, d); got != "" {
		t.Errorf("got %q left", got)
	}
}

func TestHostsThatMakeNoSense(t *testing.T) {
	for name, h := range map[string]Host{
		"no name":        {Address: "x"},
		"a path as name": {Name: "../x", Address: "x"},
		"no address":     {Name: "x"},
		"a bad address":  {Name: "x", Address: "a b"},
		"a bad port":     {Name: "x", Address: "x", Port: 70000},
		"a bad host key": {Name: "x", Address: "x", HostKey: "ssh-ed25519 nothing"},
	} {
		if _, err := Open(t.Context(), Options{StateDir: t.TempDir(), Hosts: []Host{h}}); core.KindOf(err) != core.Invalid {
			t.Errorf("%s: got %v, want invalid", name, err)
		}
	}
}

// TestAMachineThatIsSilent takes the connection and says nothing; the caller's deadline counts.
func TestAMachineThatIsSilent(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		for {
			if _, err := l.Accept(); err != nil {
				return
			}
		}
	}()
	h := Host{Name: "silent", Address: "127.0.0.1", Port: l.Addr().(*net.TCPAddr).Port, KeyFile: aKeyFile(t)}
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	began := time.Now()
	_, err = Probe(ctx, h)
	if core.KindOf(err) != core.Unavailable || time.Since(began) > 10*time.Second {
		t.Errorf("got %v after %s", err, time.Since(began))
	}
	d := openIn(t, t.TempDir(), h)
	ctx, cancel = context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	if _, err := d.CreateNode(ctx, core.NodeSpec{Key: "k", Name: "x"}); core.KindOf(err) != core.Unavailable {
		t.Errorf("got %v", err)
	}
	if err := d.DestroyNode(t.Context(), "silent"); err != nil { // never touched: there is nothing to log in for
		t.Errorf("take it back: %v", err)
	}
	if nodes, err := d.Nodes(t.Context()); err != nil || len(nodes) > 0 {
		t.Errorf("got %v, %v", nodes, err)
	}
}

func TestWithoutAKeyNobodyIsAsked(t *testing.T) {
	t.Setenv("SSH_AUTH_SOCK", "")
	for name, h := range map[string]Host{
		"no key and no agent":      {Name: "x", Address: "192.0.2.1"},
		"a file that is not there": {Name: "x", Address: "192.0.2.1", KeyFile: "/nowhere"},
	} {
		if _, err := Probe(t.Context(), h); core.KindOf(err) != core.Unauthenticated {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

func TestScriptsHoldNoQuoteThatWouldEndThem(t *testing.T) {
	for _, script := range []string{probeScript, keepKeyScript, filesScript, keysScript, uploadScript, installDebScript, installRPMScript, startScript, leaveScript, rebootScript} {
		if strings.Contains(script, "'") {
			t.Errorf("a single quote in: %s", script)
		}
	}
}
