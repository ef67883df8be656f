package nspawn

import (
	"context"
	"errors"
	"io/fs"
	"maps"
	"net"
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/reeve-paas/reeve/coordinator/core"
)

// fileAddresses is <state>/addresses.json: addresses of the subnet that are this host's own, by key. An address is in it
// before it is on the bridge, and on it until it is off.
const fileAddresses = "addresses.json"

var _ core.AddressCloud = (*Driver)(nil)

func (d *Driver) loadAddresses() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.addresses = map[string]netip.Addr{}
	err := readJSON(d.path(fileAddresses), &d.addresses)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// ReserveAddress puts an address of the subnet on the bridge.
//
// Errors: quota (no address is free), unavailable
func (d *Driver) ReserveAddress(_ context.Context, key string) (string, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	addr, ok := d.addresses[key]
	if !ok {
		var err error
		if addr, err = d.lastFreeAddrLocked(); err != nil {
			return "", err
		}
		next := maps.Clone(d.addresses)
		if next == nil {
			next = map[string]netip.Addr{}
		}
		next[key] = addr
		if err := writeJSON(d.path(fileAddresses), next); err != nil {
			return "", core.Wrap(core.Unavailable, core.ObjCloud, err, "state directory")
		}
		d.addresses = next
	}
	if err := d.putAddress(addr); err != nil {
		return "", core.Wrap(core.Unavailable, core.ObjCloud, err, "put an address on the bridge")
	}
	return addr.String(), nil
}

// ReleaseAddress takes an address off the bridge; one that was not reserved is fine.
//
// Errors: unavailable
func (d *Driver) ReleaseAddress(_ context.Context, key string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	addr, ok := d.addresses[key]
	if !ok {
		return nil
	}
	bridge, err := netlink.LinkByName(d.opts.Bridge)
	if err == nil {
		if err = netlink.AddrDel(bridge, hostAddr(addr)); errors.Is(err, unix.EADDRNOTAVAIL) {
			err = nil
		}
	} else if _, gone := errors.AsType[netlink.LinkNotFoundError](err); gone {
		err = nil
	}
	if err != nil {
		return core.Wrap(core.Unavailable, core.ObjCloud, err, "take an address off the bridge")
	}
	next := maps.Clone(d.addresses)
	delete(next, key)
	if err := writeJSON(d.path(fileAddresses), next); err != nil {
		return core.Wrap(core.Unavailable, core.ObjCloud, err, "state directory")
	}
	d.addresses = next
	return nil
}

func hostAddr(addr netip.Addr) *netlink.Addr {
	return &netlink.Addr{IPNet: &net.IPNet{IP: addr.AsSlice(), Mask: net.CIDRMask(32, 32)}}
}

func (d *Driver) putAddress(addr netip.Addr) error {
	bridge, err := netlink.LinkByName(d.opts.Bridge)
	if err != nil {
		return err
	}
	if err := netlink.AddrAdd(bridge, hostAddr(addr)); err != nil && !errors.Is(err, unix.EEXIST) {
		return err
	}
	return nil
}

// restoreAddresses puts every reserved address on a bridge that may be new.
func (d *Driver) restoreAddresses() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	var errs []error
	for _, addr := range d.addresses {
		errs = append(errs, d.putAddress(addr))
	}
	return errors.Join(errs...)
}

// lastFreeAddrLocked is free at the other end of the subnet than nodes: whoever remembers the hardware address of a node
// that is gone does not look for this host there.
func (d *Driver) lastFreeAddrLocked() (netip.Addr, error) {
	taken := d.takenLocked()
	var free []netip.Addr
	for addr := d.Gateway().Next(); d.opts.Subnet.Contains(addr.Next()); addr = addr.Next() {
		if !taken[addr] {
			free = append(free, addr)
		}
	}
	if len(free) == 0 {
		return netip.Addr{}, core.Errorf(core.Quota, core.ObjNode, "no free address left in %s", d.opts.Subnet)
	}
	return slices.MaxFunc(free, netip.Addr.Compare), nil
}

// takenLocked are the addresses that are a node's or reserved.
func (d *Driver) takenLocked() map[netip.Addr]bool {
	taken := map[netip.Addr]bool{}
	for _, n := range d.nodes {
		taken[n.addr] = true
	}
	for _, addr := range d.addresses {
		taken[addr] = true
	}
	return taken
}
