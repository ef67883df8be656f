package host_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/reeve-paas/reeve/handlers/host"
)

// quietHost is this machine, with a main file of the test's and this program as the one that reads it.
func quietHost(t *testing.T) (*host.Host, host.Readers) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "main.conf")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	name, err := os.ReadFile("/proc/self/comm")
	if err != nil {
		t.Skip("this machine has no /proc")
	}
	return host.New(host.Options{}), host.Readers{File: file, Programs: []string{strings.TrimSpace(string(name))}}
}

func open(t *testing.T, file string) *os.File {
	t.Helper()
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

func TestAReaderHasTheMainFileOpen(t *testing.T) {
	h, readers := quietHost(t)
	if h.IsRead(readers) {
		t.Error("a file that nobody has open is read")
	}
	f := open(t, readers.File)
	if !h.IsRead(readers) {
		t.Error("a reader is not seen")
	}
	next := readers.File + ".new"
	if err := errors.Join(os.WriteFile(next, nil, 0o600), os.Rename(next, readers.File)); err != nil {
		t.Fatal(err)
	}
	if !h.IsRead(readers) {
		t.Error("the reader of a file that was replaced is not seen")
	}
	readers.Programs = []string{"nobody"}
	if h.IsRead(readers) {
		t.Error("who only looks counts as a reader")
	}
	f.Close()
}

func TestReadersAreHeldBackWhileFilesMove(t *testing.T) {
	h, readers := quietHost(t)
	release := h.Quiet(readers)
	fd, err := syscall.Open(readers.File, syscall.O_RDONLY|syscall.O_NONBLOCK, 0)
	if !errors.Is(err, syscall.EWOULDBLOCK) {
		syscall.Close(fd)
		t.Skipf("got %v: no leases on the filesystem of %s", err, readers.File)
	}
	release()
	open(t, readers.File)
}

func TestWhoOnlyLooksIsNotWaitedFor(t *testing.T) {
	h, readers := quietHost(t)
	open(t, readers.File)
	readers.Programs = []string{"nobody"}
	h.AwaitReaders(readers) // ends though the file stays open
}
