package nginx

import (
	"crypto/sha1"
	"encoding/hex"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/reeve-paas/reeve/agent/agentapi"
	"github.com/reeve-paas/reeve/handlers/web"
)

// upstreamServer is one server line. Options that are nil were not said.
type upstreamServer struct {
	addr         string // as nginx takes it, IPv6 in brackets
	port         int    // 0: nginx's default, 80
	backup, down bool
	maxFails     *int
	failTime     *int // seconds
	weight       *int
	unknown      []string // options of a line an operator wrote that are none of these
}

// placeholderAddr stands in an upstream that has no server, since nginx refuses an empty one. The line is marked down, so
// nginx never calls itself; a location of such an upstream shows the no-app page (spec agent-web 3.7).
const placeholderAddr = "127.0.0.1"

func placeholder(port int) upstreamServer {
	return upstreamServer{addr: placeholderAddr, port: port, down: true}
}

func (s upstreamServer) isPlaceholder() bool { return s.addr == placeholderAddr && s.down }

func (s upstreamServer) address() string {
	if s.port == 0 {
		return s.addr
	}
	return s.addr + ":" + strconv.Itoa(s.port)
}

// node is the line: addr[:port] [backup] [max_fails=N] [fail_timeout=Ns] [down] [weight=N].
func (s upstreamServer) node() *node {
	args := []string{"server", s.address()}
	if s.backup {
		args = append(args, "backup")
	}
	if s.maxFails != nil {
		args = append(args, "max_fails="+strconv.Itoa(*s.maxFails))
	}
	if s.failTime != nil {
		args = append(args, "fail_timeout="+strconv.Itoa(*s.failTime)+"s")
	}
	if s.down {
		args = append(args, "down")
	}
	if s.weight != nil {
		args = append(args, "weight="+strconv.Itoa(*s.weight))
	}
	return dir(append(args, s.unknown...)...)
}

// serverOfNode reads a server line. Options we do not know are kept as they are.
func serverOfNode(n *node) upstreamServer {
	var s upstreamServer
	s.addr, s.port = splitAddress(n.arg(1))
	for _, opt := range n.args[min(2, len(n.args)):] {
		if s.option(opt) != nil {
			s.unknown = append(s.unknown, opt)
		}
	}
	return s
}

// option reads one option of a server line.
func (s *upstreamServer) option(opt string) error {
	name, value, _ := strings.Cut(opt, "=")
	var err error
	switch name {
	case "backup":
		s.backup = true
	case "down":
		s.down = true
	case "max_fails":
		s.maxFails, err = number("max_fails", value, 0)
	case "fail_timeout":
		s.failTime, err = number("fail_timeout", strings.TrimSuffix(value, "s"), 0)
	case "weight":
		s.weight, err = number("weight", value, 1)
	default:
		return web.Invalid("invalid server option: %.40q", opt)
	}
	return err
}

// numeral is a number as callers send it; 0 is not said.
func numeral(n int) agentapi.Text {
	if n == 0 {
		return ""
	}
	return agentapi.Text(strconv.Itoa(n))
}

// optional is an option's value as callers send it; nil is not said.
func optional(n *int) agentapi.Text {
	if n == nil {
		return ""
	}
	return agentapi.Text(strconv.Itoa(*n))
}

// number reads an option's value; "" is not said.
func number(name, value string, least int) (*int, error) {
	if value == "" {
		return nil, nil
	}
	n, err := strconv.Atoi(value)
	if err != nil || n < least || n > 1<<20 {
		return nil, web.Invalid("invalid %s: %.40q", name, value)
	}
	return &n, nil
}

// splitAddress splits "addr:port" of a server line; IPv6 addresses keep their brackets.
func splitAddress(s string) (addr string, port int) {
	i := strings.LastIndexByte(s, ':')
	if i <= 0 || strings.HasSuffix(s, "]") || strings.Contains(s[:i], ":") && !strings.HasSuffix(s[:i], "]") {
		return s, 0
	}
	if n, err := strconv.Atoi(s[i+1:]); err == nil {
		return s[:i], n
	}
	return s, 0
}

// serverOptions are the members of a server line as callers send them, in make_proxy and in add_server.
type serverOptions struct {
	port, maxFails, failTimeout, weight agentapi.Text
	backup, down                        bool
}

// parseServer checks an address and its options and puts them into typed fields (spec agent-web 6, S5).
func parseServer(address string, o serverOptions) (upstreamServer, error) {
	s := upstreamServer{backup: o.backup, down: o.down}
	var err error
	if s.addr, err = web.Address(address); err != nil {
		return s, err
	}
	if o.port != "" {
		if s.port, err = o.port.Port(); err != nil {
			return s, err
		}
	}
	if s.maxFails, err = number("max_fails", string(o.maxFails), 0); err != nil {
		return s, err
	}
	if s.failTime, err = number("fail_timeout", strings.TrimSuffix(string(o.failTimeout), "s"), 0); err != nil {
		return s, err
	}
	s.weight, err = number("weight", string(o.weight), 1)
	return s, err
}

// servers are the lines of an upstream block.
func servers(upstream *node) []upstreamServer {
	var list []upstreamServer
	for _, n := range upstream.children("server") {
		list = append(list, serverOfNode(n))
	}
	return list
}

// withServers is a copy of an upstream block that has these servers where its first one stood; everything else stays.
func withServers(upstream *node, list []upstreamServer) *node {
	out := &node{args: upstream.args, isBlock: true}
	placed := false
	place := func() {
		for _, s := range list {
			out.block = append(out.block, s.node())
		}
		placed = true
	}
	for _, c := range upstream.block {
		switch {
		case c.name() != "server":
			out.block = append(out.block, c)
		case !placed:
			place()
		}
	}
	if !placed {
		place()
	}
	return out
}

// complete makes a list of servers one that nginx accepts and that serves best: without its placeholder when somebody else
// can answer, with one when nobody but backups is there (spec agent-web 3.7).
func complete(list []upstreamServer) []upstreamServer {
	primary := slices.ContainsFunc(list, func(s upstreamServer) bool { return !s.backup && !s.isPlaceholder() })
	usable := slices.ContainsFunc(list, func(s upstreamServer) bool { return !s.backup && !s.down })
	hole := slices.IndexFunc(list, upstreamServer.isPlaceholder)
	switch {
	case usable && hole >= 0:
		return slices.DeleteFunc(slices.Clone(list), upstreamServer.isPlaceholder)
	case !primary && hole < 0:
		return append([]upstreamServer{placeholder(0)}, list...)
	}
	return list
}

// answers says that an upstream has anything but placeholders.
func answers(upstream *node) bool {
	return slices.ContainsFunc(servers(upstream), func(s upstreamServer) bool { return !s.isPlaceholder() })
}

// hashName is the first part of the upstream names of a host: hex SHA-1, as callers of add_server compute it.
func hashName(hostname string) string {
	sum := sha1.Sum([]byte(hostname))
	return hex.EncodeToString(sum[:])
}

// findUpstream selects the block that add_server and remove_server mean by a name: exact, a proxy's hostname, or a prefix
// or shell pattern, the first in file order (spec agent-web 3.8).
func findUpstream(f *file, backend string) *item {
	match := func(want func(name string) bool) *item {
		for _, it := range f.items {
			if it.n.name() == "upstream" && want(it.n.arg(1)) {
				return it
			}
		}
		return nil
	}
	hash := hashName(backend)
	for _, want := range []func(string) bool{
		func(name string) bool { return name == backend },
		func(name string) bool { return name == hash },
		func(name string) bool { return strings.HasPrefix(name, hash) },
		func(name string) bool { ok, _ := path.Match(backend+"*", name); return ok },
	} {
		if it := match(want); it != nil {
			return it
		}
	}
	return nil
}

func checkBackend(name string) error {
	ok := name != "" && len(name) <= 255
	for _, c := range []byte(name) {
		ok = ok && (c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.IndexByte("._*-", c) >= 0)
	}
	if !ok {
		return web.Invalid("invalid backend: %.80q", name)
	}
	return nil
}
