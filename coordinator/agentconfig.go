package main

import (
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"strings"

	"github.com/reeve-paas/reeve/coordinator/api/agent"
	"github.com/reeve-paas/reeve/coordinator/cloud"
	"github.com/reeve-paas/reeve/coordinator/core"
)

// Where a new node finds whom its agent asks and tells. These are settings of the unit, not the agent's file: that is its
// administrator's, and the agent of an older image would not start with a key that it does not know.
const (
	agentDropIn = "/etc/systemd/system/reeve-agent.service.d/coordinator.conf"
	agentCAFile = "/etc/reeve/coordinator-ca.crt"
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

// agentConfig is what a new node finds on its disk beside its key. Where no node can reach us, or only in the clear, its agent
// works alone.
func (c *coordinator) agentConfig(n core.Node) []core.BootstrapFile {
	if _, known := c.gateways[n.Cloud]; !known && c.cfg.AgentURL == "" {
		return nil
	}
	base, err := c.agentURL(n)
	if err != nil {
		c.log.Warn("a new node is not told where we are", "node", n.Name, "err", err)
		return nil
	}
	u, err := url.Parse(base)
	if err != nil || u.Scheme != "https" || net.ParseIP(u.Hostname()).IsLoopback() {
		return nil
	}
	base = strings.TrimRight(base, "/")
	lines := []string{"[Service]",
		"Environment=REEVE_AGENT_COORDINATOR_QUERYENV_URL=" + base + agent.QueryEnvPath,
		"Environment=REEVE_AGENT_COORDINATOR_PRODUCER_URL=" + base + agent.MessagesPath,
		fmt.Sprintf("Environment=REEVE_AGENT_COORDINATOR_SERVER_ID=%s", n.ID),
	}
	var files []core.BootstrapFile
	if c.ca != nil {
		lines = append(lines, "Environment=REEVE_AGENT_COORDINATOR_CA_FILE="+agentCAFile)
		files = append(files, core.BootstrapFile{Path: agentCAFile, Mode: 0o644, Data: c.ca.Certificate()})
	}
	return append(files, core.BootstrapFile{Path: agentDropIn, Mode: 0o644, Data: []byte(strings.Join(lines, "\n") + "\n")})
}
