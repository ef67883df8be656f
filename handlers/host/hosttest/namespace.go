package hosttest

import (
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
)

const inNamespace = "REEVE_TEST_NAMESPACE"

// Isolate runs the calling test again in a private mount namespace, where /etc is a copy and /srv is empty, so that the
// real commands may change both. It returns true there, and false outside, when the inner run has ended. It needs root.
func Isolate(t *testing.T) bool {
	t.Helper()
	if os.Getenv(inNamespace) != "" {
		privateDirectories(t)
		return true
	}
	if os.Geteuid() != 0 {
		t.Skip("needs root: mounts and what belongs to root")
	}
	cmd := exec.Command(os.Args[0], "-test.run=^"+t.Name()+"$", "-test.v")
	cmd.Env = append(os.Environ(), inNamespace+"=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS}
	out, err := cmd.CombinedOutput()
	t.Logf("%s", out)
	if err != nil {
		t.Error(err)
	}
	return false
}

func privateDirectories(t *testing.T) {
	t.Helper()
	etc := filepath.Join(t.TempDir(), "etc")
	for _, argv := range [][]string{
		{"cp", "-aT", "/etc", etc},
		{"mount", "--bind", etc, "/etc"},
		{"mount", "-t", "tmpfs", "-o", "mode=0755", "tmpfs", "/srv"},
	} {
		if out, err := exec.Command(argv[0], argv[1:]...).CombinedOutput(); err != nil {
			t.Fatalf("%v: %v\n%s", argv, err, out)
		}
	}
}
