package deploy

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"time"
)

const (
	maxDrain  = time.Hour
	drainPoll = 50 * time.Millisecond

	tcpEstablished = "01" // in /proc/net/tcp; connections that nobody accepted yet are in this state too
)

// drain waits until nobody is connected to a port any more, and no longer than it is told to. A host that does not tell
// about its connections has none.
func (s *Service) drain(ctx context.Context, port int, longest time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, longest)
	defer cancel()
	tick := time.NewTicker(drainPoll)
	defer tick.Stop()
	for {
		open, err := s.connections(port)
		if err != nil || open == 0 {
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// connections counts the established connections to a local port.
func (s *Service) connections(port int) (n int, err error) {
	local := fmt.Appendf(nil, ":%04X", port)
	for _, file := range []string{"/proc/net/tcp", "/proc/net/tcp6"} {
		data, err := s.host.ReadFile(file)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return 0, err
		}
		for line := range bytes.Lines(data) { // sl local_address rem_address st …
			if f := bytes.Fields(line); len(f) > 3 && bytes.HasSuffix(f[1], local) && string(f[3]) == tcpEstablished {
				n++
			}
		}
	}
	return n, nil
}
