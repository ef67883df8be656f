package hosttest_test

import (
	"errors"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/reeve-paas/reeve/handlers/host"
	"github.com/reeve-paas/reeve/handlers/host/hosttest"
)

var _ host.Units = (*hosttest.Units)(nil)

func TestCallsAreRecordedInOrder(t *testing.T) {
	h := hosttest.New(t)
	h.Runner.Print("nginx", "fine\n")
	out, err := h.Run(t.Context(), host.Cmd{Path: "/usr/sbin/nginx", Args: []string{"-t"}})
	if err != nil || string(out.Stdout) != "fine\n" {
		t.Fatalf("got %q, %v", out.Stdout, err)
	}
	if err := h.Host.Units().Start(t.Context(), "nginx.service"); err != nil {
		t.Fatal(err)
	}
	want := []string{"run /usr/sbin/nginx -t", "start nginx.service"}
	if got := h.Calls(); !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	if !h.Units.Running("nginx.service") {
		t.Error("nginx.service does not run after start")
	}
}

func TestAProgramThatWasNotScriptedIsMissing(t *testing.T) {
	_, err := hosttest.New(t).Run(t.Context(), host.Cmd{Path: "mkfs.ext4"})
	if !errors.Is(err, exec.ErrNotFound) {
		t.Errorf("got %v, want %v", err, exec.ErrNotFound)
	}
}

func TestFailCommandCountsOnlyCommands(t *testing.T) {
	h := hosttest.New(t)
	h.Runner.Succeed("true")
	h.FailCommand(2)
	run := func() error { _, err := h.Run(t.Context(), host.Cmd{Path: "true"}); return err }
	if err := run(); err != nil {
		t.Errorf("first command: %v", err)
	}
	if err := h.Host.Units().Start(t.Context(), "ssh.service"); err != nil {
		t.Errorf("unit call: %v", err)
	}
	if err := run(); err == nil || !strings.Contains(err.Error(), hosttest.ErrInjected.Error()) {
		t.Errorf("second command: got %v, want the injected failure", err)
	}
	if err := run(); err != nil {
		t.Errorf("third command: %v", err)
	}
}

func TestBreakEachCallReachesEveryStep(t *testing.T) {
	var failed []string
	hosttest.BreakEachCall(t, hosttest.New, func(h *hosttest.Host) error {
		c := h.Begin()
		defer c.Rollback()
		if _, err := c.WriteFile("/unit", []byte("x"), 0o644); err != nil {
			return err
		}
		for _, step := range []func() error{
			func() error { return h.Host.Units().DaemonReload(t.Context()) },
			func() error { return h.Host.Units().Restart(t.Context(), "ssh.service") },
		} {
			if err := step(); err != nil {
				return err
			}
		}
		c.Commit()
		return nil
	}, func(t *testing.T, h *hosttest.Host, err error) {
		failed = append(failed, h.Calls()[len(h.Calls())-1])
		if h.Exists("/unit") {
			t.Error("the file is still there after the failure")
		}
	})
	if want := []string{"daemon-reload", "restart ssh.service"}; !slices.Equal(failed, want) {
		t.Errorf("got failures at %q, want %q", failed, want)
	}
}

func TestUnitsComeFromFiles(t *testing.T) {
	h := hosttest.New(t)
	units := h.Host.Units()
	if s, _ := units.State(t.Context(), "app.service"); s.Load != "not-found" {
		t.Errorf("before there is a file: got %q, want not-found", s.Load)
	}
	h.WriteText("/etc/systemd/system/app.service", "[Service]\n")
	if s, _ := units.State(t.Context(), "app.service"); s.Load != "loaded" {
		t.Errorf("with a file: got %q, want loaded", s.Load)
	}
	if err := units.Reload(t.Context(), "app.service"); err == nil {
		t.Error("reload of a stopped unit: got no error")
	}
	os.Remove(h.Path("/etc/systemd/system/app.service"))
	if err := units.DaemonReload(t.Context()); err != nil {
		t.Fatal(err)
	}
	if slices.Contains(h.Units.Names(), "app.service") {
		t.Error("the unit is still known after its file went")
	}
}

func TestTreeShowsContentModeAndLinks(t *testing.T) {
	h := hosttest.New(t)
	h.WriteText("/etc/a", "one")
	os.Symlink("a", h.Path("/etc/b"))
	got := h.Tree("/etc")
	for _, want := range []string{`-rw-r--r-- /etc/a "one"`, "/etc/b -> a"} {
		if !strings.Contains(got, want) {
			t.Errorf("got %s, want a line with %s", got, want)
		}
	}
}
