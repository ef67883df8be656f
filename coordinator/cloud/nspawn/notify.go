package nspawn

import (
	"errors"
	"net"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/reeve-paas/reeve/coordinator/core"
)

// notification is one datagram of nspawn.
type notification struct {
	leader   int    // X_NSPAWN_LEADER_PID, 0 when absent
	ready    bool   // READY=1: the default target is reached
	stopping bool   // STOPPING=1
	status   string // STATUS=
}

// farewell texts: what nspawn said it is about to do when the node's PID 1 ended.
const (
	farewellHalt   = "halt"
	farewellReboot = "reboot"
)

// parseNotification reads the lines of one datagram; what it does not know it skips.
func parseNotification(data string) notification {
	var n notification
	for line := range strings.Lines(data) {
		key, value, _ := strings.Cut(strings.TrimRight(line, "\n"), "=")
		switch key {
		case "X_NSPAWN_LEADER_PID":
			n.leader, _ = strconv.Atoi(value)
		case "READY":
			n.ready = value == "1"
		case "STOPPING":
			n.stopping = value == "1"
		case "STATUS":
			n.status = value
		}
	}
	return n
}

func (n notification) farewell() string {
	switch {
	case !n.stopping:
		return ""
	case strings.HasPrefix(n.status, "Restart"):
		return farewellReboot
	default:
		return farewellHalt
	}
}

// listenNotify binds the datagram socket that nspawn reports to. It must exist before nspawn starts.
func listenNotify(path string) (*net.UnixConn, error) {
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	return net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
}

// readNotify delivers notifications until stop is called, which waits for the reader.
func readNotify(conn *net.UnixConn) (messages <-chan notification, stop func()) {
	ch := make(chan notification, 64)
	quit, done := make(chan struct{}), make(chan struct{})
	_ = conn.SetReadDeadline(time.Time{})
	go func() {
		defer close(done)
		buf := make([]byte, 64<<10)
		for {
			n, err := conn.Read(buf)
			if err != nil {
				return
			}
			select {
			case ch <- parseNotification(string(buf[:n])):
			case <-quit:
				return
			}
		}
	}()
	return ch, func() {
		close(quit)
		_ = conn.SetReadDeadline(time.Unix(1, 0))
		<-done
	}
}

// heard turns one notification into state.
func (s *supervisor) heard(n notification, farewell *string) {
	if f := n.farewell(); f != "" {
		*farewell = f
	}
	s.publish(func(r *runState) {
		if n.leader > 0 {
			r.Leader = procOf(n.leader)
		}
		if n.status != "" && r.State != core.CloudRunning {
			r.Detail = n.status // while it boots, the job it waits for
		}
		switch {
		case n.ready:
			r.State, r.Detail = core.CloudRunning, ""
		case n.farewell() == farewellReboot:
			r.State = core.CloudRebooting
		case n.farewell() == farewellHalt:
			r.State = core.CloudStopping
		}
	})
}

// drain takes the notifications that were sent before nspawn ended and not yet read.
func (s *supervisor) drain(messages <-chan notification, farewell *string) {
	raw, err := s.notify.SyscallConn()
	for err == nil {
		pending := 0
		_ = raw.Control(func(fd uintptr) { pending, _ = unix.IoctlGetInt(int(fd), unix.TIOCINQ) })
		select {
		case m := <-messages:
			s.heard(m, farewell)
			continue
		default:
		}
		if pending == 0 {
			return
		}
		s.heard(<-messages, farewell)
	}
}
