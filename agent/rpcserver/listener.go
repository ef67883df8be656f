package rpcserver

import (
	"net"
	"net/netip"
	"slices"
	"sync"
)

// gate lets connections in from allowed networks, up to a number of them over all listeners. It closes the others at once.
type gate struct {
	allow    []netip.Prefix
	slots    chan struct{}
	rejected func(reason, net.Addr)
}

// Limit puts a listener behind the gate of the RPC listeners: it hands out connections from allowed networks (an empty list
// allows all), at most max at a time, and closes the others at once. A nil refused means that nobody wants to know of those.
func Limit(l net.Listener, allow []netip.Prefix, max int, refused func(why string, peer net.Addr)) net.Listener {
	tell := func(why reason, peer net.Addr) {
		if refused != nil {
			refused(string(why), peer)
		}
	}
	return gatedListener{l, &gate{allow: allow, slots: make(chan struct{}, max), rejected: tell}}
}

// gatedListener is a listener behind a gate.
type gatedListener struct {
	net.Listener
	*gate
}

// Accept waits for the next connection that may come in.
func (l gatedListener) Accept() (net.Conn, error) {
	for {
		conn, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		if !l.allowed(conn.RemoteAddr()) {
			l.rejected(reasonSource, conn.RemoteAddr())
			conn.Close()
			continue
		}
		select {
		case l.slots <- struct{}{}:
			return &gatedConn{Conn: conn, leave: sync.OnceFunc(func() { <-l.slots })}, nil
		default:
			l.rejected(reasonConnections, conn.RemoteAddr())
			conn.Close()
		}
	}
}

func (g *gate) allowed(addr net.Addr) bool {
	if len(g.allow) == 0 {
		return true
	}
	peer, err := netip.ParseAddrPort(addr.String())
	if err != nil {
		return false
	}
	return slices.ContainsFunc(g.allow, func(p netip.Prefix) bool { return p.Contains(peer.Addr().Unmap().WithZone("")) })
}

// gatedConn gives its place back when it is closed.
type gatedConn struct {
	net.Conn
	leave func()
}

func (c *gatedConn) Close() error {
	defer c.leave()
	return c.Conn.Close()
}
