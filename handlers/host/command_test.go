package host_test

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/reeve-paas/reeve/agent/agentapi"
	"github.com/reeve-paas/reeve/handlers/host"
)

func TestRun(t *testing.T) {
	h := host.New(host.Options{Root: t.TempDir()})
	t.Run("returns both streams", func(t *testing.T) {
		out, err := h.Run(t.Context(), host.Cmd{Path: "sh", Args: []string{"-c", "cat; echo err >&2"}, Stdin: []byte("in")})
		if err != nil || string(out.Stdout) != "in" || string(out.Stderr) != "err\n" {
			t.Errorf("got %q, %q, %v", out.Stdout, out.Stderr, err)
		}
	})
	t.Run("passes a minimal environment", func(t *testing.T) {
		t.Setenv("REEVE_SECRET", "x")
		out, err := h.Run(t.Context(), host.Cmd{Path: "env", Env: []string{"OWN=1"}})
		if err != nil || strings.Contains(string(out.Stdout), "REEVE_SECRET") || !strings.Contains(string(out.Stdout), "OWN=1\n") {
			t.Errorf("got %q, %v", out.Stdout, err)
		}
	})
	t.Run("names the program that failed, in the form old callers know", func(t *testing.T) {
		_, err := h.Run(t.Context(), host.Cmd{Path: "sh", Args: []string{"-c", "echo a; echo b >&2; exit 3"}})
		want := "sh (code: 3) <out>: a <err>: b <args>: [sh -c echo a; echo b >&2; exit 3]"
		if err == nil || err.Error() != want {
			t.Errorf("got %v, want %s", err, want)
		}
		e, ok := errors.AsType[*agentapi.Error](err)
		if !ok || e.Message() != "PopenError: "+want {
			t.Errorf("on the wire: got %v, want class PopenError", e)
		}
	})
	t.Run("says that a program is missing", func(t *testing.T) {
		_, err := h.Run(t.Context(), host.Cmd{Path: "no-such-program"})
		if !errors.Is(err, exec.ErrNotFound) || !strings.Contains(err.Error(), "no-such-program") {
			t.Errorf("got %v, want %v with the name", err, exec.ErrNotFound)
		}
	})
	t.Run("keeps the beginning of a long output", func(t *testing.T) {
		out, err := h.Run(t.Context(), host.Cmd{Path: "head", Args: []string{"-c", "100000", "/dev/zero"}, MaxOutput: 1000})
		if err != nil || len(out.Stdout) != 1000 {
			t.Errorf("got %d bytes, %v, want 1000", len(out.Stdout), err)
		}
	})
	t.Run("writes to files when asked", func(t *testing.T) {
		f, err := os.Create(filepath.Join(t.TempDir(), "out"))
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		out, err := h.Run(t.Context(), host.Cmd{Path: "echo", Args: []string{"hello"}, StdoutFile: f})
		data, _ := os.ReadFile(f.Name())
		if err != nil || len(out.Stdout) != 0 || string(data) != "hello\n" {
			t.Errorf("got %q in Output, %q in the file, %v", out.Stdout, data, err)
		}
	})
}

// startFamily is a shell that writes the pid of a child to a file and waits for it.
const startFamily = `sleep 1000 & echo $! >"$0.tmp"; mv "$0.tmp" "$0"; wait`

func TestRunTimeoutEndsTheWholeProcessGroup(t *testing.T) {
	for _, grace := range []time.Duration{0, time.Second} {
		t.Run("grace "+grace.String(), func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "pid")
			h := host.New(host.Options{})
			_, err := h.Run(t.Context(), host.Cmd{Path: "sh", Args: []string{"-c", startFamily, file}, Timeout: 300 * time.Millisecond, TermGrace: grace})
			if !errors.Is(err, host.ErrTimeout) {
				t.Fatalf("got %v, want %v", err, host.ErrTimeout)
			}
			data, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			pid, _ := strconv.Atoi(strings.TrimSpace(string(data)))
			waitGone(t, pid)
		})
	}
}

func TestRunKillsWhatIgnoresSIGTERM(t *testing.T) {
	start := time.Now()
	_, err := host.New(host.Options{}).Run(t.Context(), host.Cmd{Path: "sh", Args: []string{"-c", `trap "" TERM; while :; do sleep 1; done`},
		Timeout: 200 * time.Millisecond, TermGrace: 300 * time.Millisecond})
	if !errors.Is(err, host.ErrTimeout) {
		t.Errorf("got %v, want %v", err, host.ErrTimeout)
	}
	if took := time.Since(start); took > 10*time.Second {
		t.Errorf("took %s", took)
	}
}

// waitGone waits until a process does not run any more; a zombie counts as gone, because nobody here reaps orphans.
func waitGone(t *testing.T, pid int) {
	t.Helper()
	deadline := time.Now().Add(5 * time.Second)
	for {
		stat, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
		if err != nil || strings.Contains(string(stat), ") Z ") {
			return
		}
		if time.Now().After(deadline) {
			syscall.Kill(pid, syscall.SIGKILL)
			t.Fatalf("process %d is still there: %s", pid, stat)
		}
	}
}

func TestRunAsAnotherUser(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root to become another user")
	}
	out, err := host.New(host.Options{}).Run(t.Context(), host.Cmd{Path: "id", UID: 65534, GID: 65534, Groups: []uint32{4}})
	if err != nil || !strings.HasPrefix(string(out.Stdout), "uid=65534") || !strings.Contains(string(out.Stdout), "4(") {
		t.Errorf("got %q, %v", out.Stdout, err)
	}
}
