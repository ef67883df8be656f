package main

import (
	"net"
	"strings"
	"testing"

	"github.com/reeve-paas/reeve/coordinator/core"
)

// Nodes elsewhere are not sent to a listener that only this machine reaches.
func TestReachable(t *testing.T) {
	listening := func(addr string) whereabouts {
		return whereabouts{listener: func() (scheme, on string) { return "https", addr }}
	}
	for _, c := range []struct {
		name, node string
		w          whereabouts
		want       string // "": refused
	}{
		{"another machine, a loopback listener", "192.0.2.7", listening("127.0.0.1:8443"), ""},
		{"and of the other family", "2001:db8::7", listening("[::1]:8443"), ""},
		{"a node of this machine", "127.0.0.1", listening("127.0.0.1:8443"), "https://127.0.0.1:8443"},
		{"a listener with an address", "192.0.2.7", listening("198.51.100.1:8443"), "https://198.51.100.1:8443"},
		{"a configured URL", "192.0.2.7", whereabouts{configured: "https://reeve.example.org"}, "https://reeve.example.org"},
		{"a configured URL of this machine", "192.0.2.7", whereabouts{configured: "https://localhost:8443"}, ""},
	} {
		got, err := c.w.reachable(core.Node{Address: c.node})
		switch {
		case c.want == "" && (core.KindOf(err) != core.Unsupported || !strings.Contains(err.Error(), "set listen or agent_url")):
			t.Errorf("%s: got %q, %v, want a refusal that names the settings", c.name, got, err)
		case c.want != "" && (err != nil || got != c.want):
			t.Errorf("%s: got %q, %v, want %q", c.name, got, err, c.want)
		}
	}
	ours, err := net.InterfaceAddrs()
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range ours { // a machine that was enrolled may be this one
		ip := a.(*net.IPNet).IP
		if _, err := listening("127.0.0.1:8443").reachable(core.Node{Address: ip.String()}); err != nil {
			t.Errorf("a node at %s, which is ours: %v", ip, err)
		}
	}
}
