package main

import (
	"cmp"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/reeve-paas/reeve/agent/agentapi"
	"github.com/reeve-paas/reeve/coordinator/api/agent"
	"github.com/reeve-paas/reeve/coordinator/cloud"
	"github.com/reeve-paas/reeve/coordinator/core"
)

// gateways are our own addresses on the networks of clouds that run on this machine.
func gateways(clouds *cloud.Set) map[string]netip.Addr {
	found := map[string]netip.Addr{}
	for _, name := range clouds.Names() {
		driver, _ := clouds.Cloud(name)
		if g, ok := driver.(interface{ Gateway() netip.Addr }); ok {
			found[name] = g.Gateway()
		}
	}
	return found
}

// whereabouts is how nodes reach this coordinator.
type whereabouts struct {
	configured string                       // agent_url
	listener   func() (scheme, addr string) // that they use otherwise
	gateways   map[string]netip.Addr        // by cloud: where its nodes reach us before they have an address
	ca         func() []byte                // certificate of our authority, PEM; nil when there is none
	log        *slog.Logger
}

// url is where a node reaches us: the configured URL, else our end of the way to it. Of a machine whose address is not known yet
// it is our end of the way out.
func (w whereabouts) url(n core.Node) (string, error) {
	if w.configured != "" {
		return w.configured, nil
	}
	scheme, listen := w.listener()
	host, port, err := net.SplitHostPort(listen)
	if err != nil {
		return "", err
	}
	if gateway, ok := w.gateways[n.Cloud]; ok && n.Address == "" && unspecified(host) { // it is not made yet
		host = gateway.String()
	} else if unspecified(host) {
		way, err := net.Dial("udp", net.JoinHostPort(cmp.Or(n.Address, elsewhere), "9")) // sends nothing
		if err != nil {
			return "", err
		}
		defer way.Close()
		if host, _, err = net.SplitHostPort(way.LocalAddr().String()); err != nil {
			return "", err
		}
	}
	return scheme + "://" + net.JoinHostPort(host, port), nil
}

// reachable is where a node that has its address reaches us, for those who lend it files: refused at once where only this
// machine does, which a node that tries cannot tell from a moment's trouble.
//
// Errors: unsupported (the operator has to change a setting)
func (w whereabouts) reachable(n core.Node) (string, error) {
	base, err := w.url(n)
	if err != nil {
		return "", err
	}
	u, err := url.Parse(base)
	if err != nil {
		return "", err
	}
	if loopback(u.Hostname()) && !here(n.Address) {
		return "", core.Errorf(core.Unsupported, core.ObjNode,
			"nodes cannot fetch files from this coordinator, which they would reach at %s alone: its operator has to set listen or agent_url", u.Host)
	}
	return base, nil
}

func loopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// here says whether an address is one of this machine's.
func here(address string) bool {
	ip := net.ParseIP(address)
	if ip == nil || ip.IsLoopback() {
		return ip != nil
	}
	ours, err := net.InterfaceAddrs()
	return err == nil && slices.ContainsFunc(ours, func(a net.Addr) bool {
		one, ok := a.(*net.IPNet)
		return ok && one.IP.Equal(ip)
	})
}

// fromBeside is where the coordinator is that runs with the same configuration.
func (b *base) fromBeside() whereabouts {
	return whereabouts{configured: b.cfg.AgentURL, log: b.log, ca: func() []byte {
		pem, err := os.ReadFile(filepath.Join(b.cfg.DataDir, "ca.crt"))
		if err != nil {
			b.log.Warn("read our authority's certificate", "err", err)
		}
		return pem
	}, listener: func() (scheme, addr string) {
		if b.cfg.Listen == "" {
			return "http", b.cfg.ListenPlain
		}
		return "https", b.cfg.Listen
	}}
}

// elsewhere is an address that nobody has (RFC 5737): the way to it is the way out.
const elsewhere = "192.0.2.1"

// unspecified says that a listener's host names no address of its own.
func unspecified(host string) bool {
	ip := net.ParseIP(host)
	return ip == nil || ip.IsUnspecified()
}

// files are what a new node finds on its disk beside its key. Where nodes reach us only in the clear, or not at all, their agents
// work alone.
func (w whereabouts) files(n core.Node) []core.BootstrapFile {
	base, err := w.url(n)
	if err != nil {
		w.log.Warn("a new node is not told where we are", "node", n.Name, "err", err)
		return nil
	}
	u, err := url.Parse(base)
	if err != nil || u.Scheme != "https" || loopback(u.Hostname()) {
		return nil
	}
	base = strings.TrimRight(base, "/")
	lines := []string{"[Service]",
		"Environment=REEVE_AGENT_COORDINATOR_QUERYENV_URL=" + base + agent.QueryEnvPath,
		"Environment=REEVE_AGENT_COORDINATOR_PRODUCER_URL=" + base + agent.MessagesPath,
		fmt.Sprintf("Environment=REEVE_AGENT_COORDINATOR_SERVER_ID=%s", n.ID),
	}
	var files []core.BootstrapFile
	if ca := w.ca(); ca != nil {
		lines = append(lines, "Environment=REEVE_AGENT_COORDINATOR_CA_FILE="+agentapi.CoordinatorCAFile)
		files = append(files, core.BootstrapFile{Path: agentapi.CoordinatorCAFile, Mode: 0o644, Data: ca})
	}
	return append(files, core.BootstrapFile{Path: agentapi.CoordinatorSettingsFile, Mode: 0o644, Data: []byte(strings.Join(lines, "\n") + "\n")})
}
