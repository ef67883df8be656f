// Package ports finds TCP ports for servers that tests start.
package ports

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"sync/atomic"
	"testing"
)

// The ports lie below those that Linux gives to outgoing connections, one of which could take a port between the moment that
// it is found and the moment that a server listens on it.
const (
	first = 10240
	count = 32768 - first
)

// last is where this process has searched up to; several processes begin at different places.
var last atomic.Uint32

func init() { last.Store(rand.Uint32N(count)) }

// Next is a port that nobody listens on at any address, another one with every call.
func Next() (int, error) {
	var errs []error
	for range 100 {
		port := first + int(last.Add(1)%count)
		l, err := net.Listen("tcp", fmt.Sprintf(":%d", port))
		if err == nil {
			return port, l.Close()
		}
		errs = append(errs, err)
	}
	return 0, errors.Join(errs...)
}

// Free is Next for a test.
func Free(tb testing.TB) int {
	tb.Helper()
	port, err := Next()
	if err != nil {
		tb.Fatal(err)
	}
	return port
}
