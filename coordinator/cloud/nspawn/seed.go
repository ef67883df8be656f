package nspawn

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"path"
	"path/filepath"
	"strings"

	"github.com/reeve-paas/reeve/coordinator/core"
)

// seedFiles are the files a new node gets before its first boot: its address, name, SSH keys and the caller's files,
// which come last and so may replace ours.
func seedFiles(rec record, nameservers []netip.Addr, hostKey, hostKeyPub []byte, sshKeys []string, files []core.BootstrapFile) []core.BootstrapFile {
	addr := rec.Addr
	gateway := addr.Masked().Addr().Next()
	var resolv strings.Builder
	for _, ns := range nameservers {
		fmt.Fprintf(&resolv, "nameserver %s\n", ns)
	}
	seed := []core.BootstrapFile{
		{Path: "/etc/hostname", Mode: 0o644, Data: []byte(rec.Name + "\n")},
		{Path: "/etc/hosts", Mode: 0o644, Data: fmt.Appendf(nil, "127.0.0.1 localhost\n%s %s\n::1 localhost ip6-localhost ip6-loopback\n", addr.Addr(), rec.Name)},
		{Path: "/etc/resolv.conf", Mode: 0o644, Data: []byte(resolv.String())},
		// Both "no" lines matter: waiting for a link-local address or for a router costs 11 seconds.
		{Path: "/etc/systemd/network/10-host0.network", Mode: 0o644, Data: fmt.Appendf(nil,
			"[Match]\nName=host0\n\n[Link]\nMACAddress=%s\n\n[Network]\nAddress=%s\nGateway=%s\nLinkLocalAddressing=no\nIPv6AcceptRA=no\n",
			hardwareAddr(addr.Addr()), addr, gateway)},
		{Path: "/etc/ssh/ssh_host_ed25519_key", Mode: 0o600, Data: hostKey},
		{Path: "/etc/ssh/ssh_host_ed25519_key.pub", Mode: 0o644, Data: hostKeyPub},
	}
	if len(sshKeys) > 0 {
		seed = append(seed, core.BootstrapFile{Path: "/root/.ssh/authorized_keys", Mode: 0o600, Data: []byte(strings.Join(sshKeys, "\n") + "\n")})
	}
	return append(seed, files...)
}

// hardwareAddr goes with an address, not with a node: the next node that gets the address is reached at once by everybody
// who still has the last one in their ARP table. systemd-nspawn would make it from the machine's name.
func hardwareAddr(addr netip.Addr) net.HardwareAddr {
	ip := addr.As4()
	return net.HardwareAddr{0x02, 0x72, ip[0], ip[1], ip[2], ip[3]} // 02: administered locally
}

// plantSeed puts the seed into the node's root and forgets it. Killed half way it is simply done again.
func (s *supervisor) plantSeed() error {
	file := filepath.Join(s.dir, fileSeed)
	var seed []core.BootstrapFile
	if err := readJSON(file, &seed); err != nil {
		return ignore(err, fs.ErrNotExist)
	}
	root, err := os.OpenRoot(filepath.Join(s.dir, dirRoot))
	if err != nil {
		return err
	}
	defer root.Close()
	for _, f := range seed {
		if err := plant(root, f); err != nil {
			return fmt.Errorf("put %s into the node: %w", f.Path, err)
		}
	}
	return os.Remove(file)
}

// plant writes one file below root. os.Root follows no link out of it: the tree belongs to the guest. A link in the
// file's own place, as a dangling /etc/resolv.conf, is replaced and not followed.
func plant(root *os.Root, f core.BootstrapFile) error {
	name := strings.TrimPrefix(path.Clean(f.Path), "/")
	if err := plantDir(root, path.Dir(name), f.Mode); err != nil {
		return err
	}
	if err := root.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	file, err := root.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_WRONLY, f.Mode.Perm())
	if err != nil {
		return err
	}
	defer file.Close()
	if _, err := file.Write(f.Data); err != nil {
		return err
	}
	return file.Chmod(f.Mode.Perm()) // whatever our umask is
}

// plantDir makes the directory of a file where there is none; that of a private file is private too.
func plantDir(root *os.Root, dir string, file fs.FileMode) error {
	if dir == "." {
		return nil
	}
	if err := root.MkdirAll(path.Dir(dir), 0o755); err != nil {
		return err
	}
	mode := fs.FileMode(0o755)
	if file.Perm()&0o077 == 0 {
		mode = 0o700
	}
	return ignore(root.Mkdir(dir, mode), fs.ErrExist)
}

// checkFiles refuses bootstrap files that cannot be put in place.
func checkFiles(files []core.BootstrapFile) error {
	for _, f := range files {
		if !path.IsAbs(f.Path) || path.Clean(f.Path) != f.Path || f.Path == "/" {
			return core.Errorf(core.Invalid, core.ObjNode, "bootstrap file path %q is not absolute and clean", f.Path)
		}
	}
	return nil
}
