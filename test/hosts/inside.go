package hosts

import (
	"encoding/json"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// Processes are those of a host that this machine knows: who looks after it, its nspawn, and the host's own first process.
type Processes struct {
	Supervisor, Nspawn, Leader struct{ PID int }
}

// Processes are the host's of this boot.
func (h *Host) Processes(t testing.TB) (p Processes) {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(h.Cloud.StateDir, "nodes", h.ID, "run.json"))
	if err == nil {
		err = json.Unmarshal(data, &p)
	}
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// Root is where this machine sees the host's files until the host's next boot. An absolute link in there is followed on this
// machine, not in the host.
func (h *Host) Root(t testing.TB) string {
	t.Helper()
	return fmt.Sprintf("/proc/%d/root", h.Processes(t).Leader.PID)
}

// Listen takes a port inside the host, as a program of the host would; what comes is for this process.
func (h *Host) Listen(t testing.TB, addr string) (l net.Listener, err error) {
	t.Helper()
	h.inside(t, func() { l, err = net.Listen("tcp", addr) })
	return l, err
}

// Dial connects to an address as a program of the host would.
func (h *Host) Dial(t testing.TB, addr string) (c net.Conn, err error) {
	t.Helper()
	h.inside(t, func() { c, err = net.DialTimeout("tcp", addr, 10*time.Second) })
	return c, err
}

// inside makes sockets in the host's network: they stay there.
func (h *Host) inside(t testing.TB, f func()) {
	t.Helper()
	network, err := os.Open(fmt.Sprintf("/proc/%d/ns/net", h.Processes(t).Leader.PID))
	if err != nil {
		t.Fatal(err)
	}
	defer network.Close()
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // for ever: the thread ends with this function, so nobody else gets one in the host's network
		err := unix.Setns(int(network.Fd()), unix.CLONE_NEWNET)
		if err == nil {
			f()
		}
		done <- err
	}()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}
