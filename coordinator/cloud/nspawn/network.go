package nspawn

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

const (
	forwardFile = "/proc/sys/net/ipv4/ip_forward"
	inotifyFile = "/proc/sys/fs/inotify/max_user_instances"
)

// ensureNetwork makes the bridge, its address, forwarding and masquerading as they should be; what is so already stays.
// It runs again before every node that starts, because other software of the host takes such things away.
func (d *Driver) ensureNetwork(ctx context.Context) error {
	bridge, fresh, err := ensureBridge(d.opts.Bridge, d.alias(), netip.PrefixFrom(d.Gateway(), d.opts.Subnet.Bits()))
	if err != nil {
		return err
	}
	if fresh {
		d.rejoin(bridge)
	}
	if err := d.restoreAddresses(); err != nil {
		return err
	}
	if err := setSysctl(forwardFile, "1"); err != nil {
		return err
	}
	if err := allowForwarding(ctx, d.opts.Bridge); err != nil {
		return err
	}
	if d.tableComplete(ctx) {
		return nil
	}
	return nft(ctx, ruleset(d.opts.AppName, d.opts.Bridge, d.opts.Subnet))
}

// alias is the ownership stamp on the bridge.
func (d *Driver) alias() string { return aliasOf(d.opts.AppName, d.opts.StateDir) }

func aliasOf(app, stateDir string) string { return "reeve nspawn " + app + " " + stateDir }

// ensureBridge finds or makes the bridge. One that carries another stamp is somebody else's and is not touched.
func ensureBridge(name, alias string, addr netip.Prefix) (bridge netlink.Link, fresh bool, err error) {
	bridge, err = netlink.LinkByName(name)
	if _, ok := errors.AsType[netlink.LinkNotFoundError](err); ok {
		attrs := netlink.NewLinkAttrs()
		attrs.Name = name
		if err := netlink.LinkAdd(&netlink.Bridge{LinkAttrs: attrs}); err != nil {
			return nil, false, fmt.Errorf("make bridge %s: %w", name, err)
		}
		fresh = true
		if bridge, err = netlink.LinkByName(name); err == nil {
			err = netlink.LinkSetAlias(bridge, alias)
		}
	} else if err == nil && (bridge.Type() != "bridge" || bridge.Attrs().Alias != alias && bridge.Attrs().Alias != "") {
		return nil, false, fmt.Errorf("network interface %s belongs to somebody else (%s); choose another bridge name", name, bridge.Attrs().Alias)
	}
	if err != nil {
		return nil, false, fmt.Errorf("bridge %s: %w", name, err)
	}
	if bridge.Attrs().Alias == "" && !fresh { // made by us and cut off before it was stamped, or made by hand for us
		if err := netlink.LinkSetAlias(bridge, alias); err != nil {
			return nil, false, err
		}
	}
	have, err := netlink.AddrList(bridge, netlink.FAMILY_V4)
	if err != nil {
		return nil, false, err
	}
	want := &netlink.Addr{IPNet: &net.IPNet{IP: addr.Addr().AsSlice(), Mask: net.CIDRMask(addr.Bits(), 32)}}
	present := false
	for _, a := range have {
		present = present || a.IPNet.String() == want.IPNet.String()
	}
	if !present {
		if err := netlink.AddrAdd(bridge, want); err != nil && !errors.Is(err, unix.EEXIST) {
			return nil, false, fmt.Errorf("address of bridge %s: %w", name, err)
		}
	}
	if bridge.Attrs().Flags&net.FlagUp == 0 {
		if err := netlink.LinkSetUp(bridge); err != nil {
			return nil, false, fmt.Errorf("bring up bridge %s: %w", name, err)
		}
	}
	return bridge, fresh, nil
}

// rejoin puts the interfaces of living nodes on a bridge that had to be made anew. The interface is looked for by its
// full name: nspawn cuts and hashes long ones and keeps the full one as an alternative name.
func (d *Driver) rejoin(bridge netlink.Link) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, n := range d.nodes {
		rec, _ := n.snapshot()
		link, err := netlink.LinkByName("vb-" + rec.Machine)
		if err != nil {
			continue
		}
		if err := errors.Join(netlink.LinkSetMaster(link, bridge), netlink.LinkSetUp(link)); err != nil {
			d.log.Warn("a node lost its network", "node", rec.ID, "err", err)
		}
	}
}

// ruleset is the instance's nft table, replaced as a whole, never anything else of the host's rules.
func ruleset(app, bridge string, subnet netip.Prefix) string {
	return fmt.Sprintf(`table ip %[1]s
delete table ip %[1]s
table ip %[1]s {
	chain post {
		type nat hook postrouting priority srcnat; policy accept;
		ip saddr %[3]s oifname != "%[2]s" masquerade
	}
}
`, tableName(app), bridge, subnet)
}

// tableName is the instance's nft table; nft identifiers know no hyphen at the places that matter to us.
func tableName(app string) string { return "reeve_" + strings.ReplaceAll(app, "-", "_") }

// tableComplete says whether the table is there, so that a running host's ruleset is not rewritten for every node.
func (d *Driver) tableComplete(ctx context.Context) bool {
	out, err := exec.CommandContext(ctx, "nft", "list", "table", "ip", tableName(d.opts.AppName)).Output()
	return err == nil && bytes.Contains(out, []byte(d.opts.Subnet.String())) && bytes.Contains(out, []byte(`"`+d.opts.Bridge+`"`))
}

// nft feeds rules to nft, which applies all of them or none.
func nft(ctx context.Context, rules string) error {
	cmd := exec.CommandContext(ctx, "nft", "-f", "-")
	cmd.Stdin = strings.NewReader(rules)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("nft: %w: %s", err, bytes.TrimSpace(out))
	}
	return nil
}

// removeNetwork takes the instance's bridge and table away; what is not there is success.
func removeNetwork(ctx context.Context, app, bridge, alias string) error {
	table := tableName(app)
	err := errors.Join(nft(ctx, "table ip "+table+"\ndelete table ip "+table+"\n"), forbidForwarding(ctx, bridge))
	link, lookup := netlink.LinkByName(bridge)
	if _, ok := errors.AsType[netlink.LinkNotFoundError](lookup); ok {
		return err
	}
	if lookup != nil {
		return errors.Join(err, lookup)
	}
	if link.Attrs().Alias != alias {
		return err // not ours
	}
	return errors.Join(err, netlink.LinkDel(link))
}

// removeLink deletes a network interface, found by its full name; one that is gone is fine.
func removeLink(name string) {
	if link, err := netlink.LinkByName(name); err == nil {
		_ = netlink.LinkDel(link)
	}
}

// setSysctl writes a kernel setting unless it is so already.
func setSysctl(file, value string) error {
	have, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	if strings.TrimSpace(string(have)) == value {
		return nil
	}
	return os.WriteFile(file, []byte(value), 0o644)
}

// raiseInotify makes room for many systemds: without user namespaces they all share root's allowance of 128.
func raiseInotify() {
	const want = 8192
	data, err := os.ReadFile(inotifyFile)
	if err != nil {
		return
	}
	var have int
	if json.Unmarshal(bytes.TrimSpace(data), &have) == nil && have < want {
		_ = os.WriteFile(inotifyFile, fmt.Append(nil, want), 0o644)
	}
}

// hostNameservers lists servers that a node can reach: the host's, without those that listen on its loopback only.
func hostNameservers() []netip.Addr {
	for _, file := range []string{"/etc/resolv.conf", "/run/systemd/resolve/resolv.conf", "/run/NetworkManager/no-stub-resolv.conf"} {
		data, err := os.ReadFile(file)
		if err != nil {
			continue
		}
		if servers := parseResolv(string(data)); len(servers) > 0 {
			return servers
		}
	}
	return nil
}

// parseResolv reads the nameserver lines of a resolv.conf and leaves out loopback addresses and IPv6 (nodes have none).
func parseResolv(text string) []netip.Addr {
	var servers []netip.Addr
	for line := range strings.Lines(text) {
		fields := strings.Fields(line)
		if len(fields) < 2 || fields[0] != "nameserver" {
			continue
		}
		if addr, err := netip.ParseAddr(fields[1]); err == nil && addr.Is4() && !addr.IsLoopback() {
			servers = append(servers, addr)
		}
	}
	return servers
}
