package deploy

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/reeve-paas/reeve/agent/agentapi"
	"github.com/reeve-paas/reeve/handlers"
)

const (
	maxDrain  = time.Hour
	drainPoll = 50 * time.Millisecond

	tcpEstablished = "01" // in /proc/net/tcp; connections that nobody accepted yet are in this state too
	tcpOpening     = "02" // asked, and not answered yet
)

// DrainRouter waits until nothing here is about to connect to the backends; see agentapi.DrainRouterParams.
func (s *Service) DrainRouter(ctx context.Context, p agentapi.DrainRouterParams) (handlers.Null, error) {
	timeout := 10 * time.Second
	if p.TimeoutSeconds != 0 {
		timeout = time.Duration(p.TimeoutSeconds) * time.Second
	}
	if timeout < 0 || timeout > time.Minute {
		return handlers.Null{}, invalid("timeout_seconds is 1 to 60, not %d", p.TimeoutSeconds)
	}
	remotes := map[string]bool{}
	for _, b := range p.Backends {
		address, err := netip.ParseAddr(b.Address)
		if err != nil || b.Port < 1 || b.Port > 65535 {
			return handlers.Null{}, invalid("%.80q port %d is no backend", b.Address, b.Port)
		}
		remotes[procAddress(address, b.Port)] = true
	}
	const looks = 2 // a worker that just gave one backend up asks the next
	quiet := 0
	return handlers.Null{}, poll(ctx, timeout, func() (bool, error) {
		opening, err := s.sockets(tcpOpening, func(_, remote string) bool { return remotes[remote] })
		if quiet++; opening > 0 {
			quiet = 0
		}
		return quiet >= looks, err
	})
}

// procAddress is an address as /proc/net/tcp and tcp6 write it: words in the host's byte order.
func procAddress(address netip.Addr, port int) string {
	var b strings.Builder
	for word := range slices.Chunk(address.Unmap().AsSlice(), 4) {
		fmt.Fprintf(&b, "%08X", binary.NativeEndian.Uint32(word))
	}
	return fmt.Sprintf("%s:%04X", b.String(), port)
}

// drain waits until nobody is connected to a port any more, and no longer than it is told to. A host that does not tell
// about its connections has none.
func (s *Service) drain(ctx context.Context, port int, longest time.Duration) error {
	local := fmt.Sprintf(":%04X", port)
	return poll(ctx, longest, func() (bool, error) {
		open, err := s.sockets(tcpEstablished, func(l, _ string) bool { return strings.HasSuffix(l, local) })
		return open == 0, err
	})
}

// poll looks until done says so, it fails, or the time is over.
func poll(ctx context.Context, longest time.Duration, done func() (bool, error)) error {
	ctx, cancel := context.WithTimeout(ctx, longest)
	defer cancel()
	tick := time.NewTicker(drainPoll)
	defer tick.Stop()
	for {
		if ok, err := done(); err != nil || ok {
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// sockets counts the TCP sockets in a state whose local and remote addresses match, as /proc/net/tcp writes them.
func (s *Service) sockets(state string, match func(local, remote string) bool) (n int, err error) {
	for _, file := range []string{"/proc/net/tcp", "/proc/net/tcp6"} {
		data, err := s.host.ReadFile(file)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return 0, err
		}
		for line := range bytes.Lines(data) { // sl local_address rem_address st …
			if f := bytes.Fields(line); len(f) > 3 && string(f[3]) == state && match(string(f[1]), string(f[2])) {
				n++
			}
		}
	}
	return n, nil
}
