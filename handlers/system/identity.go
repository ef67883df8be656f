package system

import (
	"bytes"
	"context"
	"net"
	"net/netip"
	"os"
	"path"
	"regexp"
	"slices"
	"strings"

	"github.com/reeve-paas/reeve/agent/agentapi"
	"github.com/reeve-paas/reeve/handlers"
	"github.com/reeve-paas/reeve/handlers/host"
	"golang.org/x/sys/unix"
)

const kernelHostname = "/proc/sys/kernel/hostname"

// GetHostname is the kernel's name of this host.
//
// Params:  none
// Result:  string (the published page says list; D17)
// Source:  spec agent-core 4.1
func (s *Service) GetHostname(context.Context, handlers.NoParams) (string, error) {
	data, err := s.host.ReadFile(kernelHostname)
	return strings.TrimSpace(string(data)), err
}

// hostnameForm is RFC 1123 section 2.1; the kernel takes 64 bytes.
var hostnameForm = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?(\.[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?)*$`)

// SetHostname names this host, at once and for the next boot. When a step fails, all names are as before.
//
// Params:  agentapi.SetHostnameParams
// Result:  the name given
// Errors:  AssertionError
// Effects: kernel name, /etc/hostname, /etc/hosts: the line whose first name is the new one gets this host's private
// address and loses its aliases; without such a line one is added. Lines of the old name stay.
// Source:  spec agent-core 4.1
func (s *Service) SetHostname(ctx context.Context, p agentapi.SetHostnameParams) (string, error) {
	if p.Hostname == "" {
		return "", agentapi.Errorf(agentapi.KindInvalid, "AssertionError", "")
	}
	if len(p.Hostname) > 64 || !hostnameForm.MatchString(p.Hostname) {
		return "", agentapi.Errorf(agentapi.KindInvalid, "AssertionError", "invalid hostname %.80q: letters, digits, dots and dashes, at most 64", p.Hostname)
	}
	ip, err := s.opts.PrivateIP()
	if err != nil {
		return "", err
	}
	old, err := s.GetHostname(ctx, handlers.NoParams{})
	if err != nil {
		return "", err
	}
	hosts, err := s.host.ReadFile("/etc/hosts")
	if err != nil && !os.IsNotExist(err) {
		return "", err
	}
	change := s.host.Begin()
	defer change.Rollback()
	if _, err := change.WriteFile("/etc/hostname", []byte(p.Hostname+"\n"), 0o644); err != nil {
		return "", err
	}
	if _, err := change.WriteFile("/etc/hosts", mapHost(hosts, ip, p.Hostname), 0o644); err != nil {
		return "", err
	}
	change.OnRollback(func() error { return s.opts.SetKernelName(old) })
	if err := s.opts.SetKernelName(p.Hostname); err != nil {
		return "", err
	}
	change.Commit()
	return p.Hostname, nil
}

// mapHost is the text of /etc/hosts with name at ip.
func mapHost(hosts []byte, ip netip.Addr, name string) []byte {
	line := ip.String() + "\t" + name + "\n"
	var out bytes.Buffer
	found := false
	for old := range bytes.Lines(hosts) {
		code, _, _ := bytes.Cut(old, []byte("#"))
		if f := strings.Fields(string(code)); len(f) >= 2 && f[1] == name {
			if !found {
				out.WriteString(line)
			}
			found = true
			continue
		}
		out.Write(old)
	}
	if !found {
		if b := out.Bytes(); len(b) > 0 && b[len(b)-1] != '\n' {
			out.WriteByte('\n')
		}
		out.WriteString(line)
	}
	return out.Bytes()
}

// privateIP is the address that packets to other networks leave from. Connecting a UDP socket sends nothing.
func privateIP() (netip.Addr, error) {
	for _, probe := range []string{"192.0.2.1:9", "[2001:db8::1]:9"} { // documentation networks, RFC 5737 and RFC 3849
		c, err := net.Dial("udp", probe)
		if err != nil {
			continue
		}
		addr := c.LocalAddr().(*net.UDPAddr).AddrPort().Addr()
		c.Close()
		return addr.Unmap(), nil
	}
	return netip.MustParseAddr("127.0.1.1"), nil // as Debian's installer does for a host without an address
}

// Uname names kernel and machine.
//
// Params:  none
// Result:  agentapi.Uname
// Source:  spec agent-core 4.1; uname(2)
func (s *Service) Uname(context.Context, handlers.NoParams) (agentapi.Uname, error) {
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return agentapi.Uname{}, err
	}
	machine := unix.ByteSliceToString(u.Machine[:])
	platform := machine
	if len(machine) == 4 && machine[0] == 'i' && strings.HasSuffix(machine, "86") {
		platform = "i386"
	}
	return agentapi.Uname{
		KernelName:       unix.ByteSliceToString(u.Sysname[:]),
		Nodename:         unix.ByteSliceToString(u.Nodename[:]),
		KernelRelease:    unix.ByteSliceToString(u.Release[:]),
		KernelVersion:    unix.ByteSliceToString(u.Version[:]),
		Machine:          machine,
		HardwarePlatform: platform,
	}, nil
}

// distributors are the names old callers know for an os-release ID that differs.
var distributors = map[string]string{"rhel": "redhat", "ol": "oel", "amzn": "amazon"}

// Dist names the distribution.
//
// Params:  none
// Result:  agentapi.Dist
// Source:  spec agent-core 4.1; os-release(5)
func (s *Service) Dist(context.Context, handlers.NoParams) (agentapi.Dist, error) {
	data, err := s.host.ReadFile("/etc/os-release")
	if os.IsNotExist(err) {
		data, err = s.host.ReadFile("/usr/lib/os-release")
	}
	if err != nil {
		return agentapi.Dist{}, err
	}
	fields := map[string]string{}
	for line := range bytes.Lines(data) {
		key, value, _ := strings.Cut(strings.TrimSpace(string(line)), "=")
		fields[key] = strings.Trim(value, `"'`)
	}
	d := agentapi.Dist{Distributor: strings.ToLower(fields["ID"]), Release: fields["VERSION_ID"], Codename: strings.ToLower(fields["VERSION_CODENAME"])}
	if name, ok := distributors[d.Distributor]; ok {
		d.Distributor = name
	}
	if d.Distributor == "debian" { // VERSION_ID lacks the point release; testing has a word in the file instead
		point, err := s.host.ReadFile("/etc/debian_version")
		if text := strings.TrimSpace(string(point)); err == nil && text != "" && text[0] >= '0' && text[0] <= '9' {
			d.Release = text
		}
	}
	return d, nil
}

var pythonName = regexp.MustCompile(`^python\d\.\d+$`)

// Pythons are the versions of the Python interpreters of the system.
//
// Params:  none
// Result:  sorted list of versions, e.g. ["2.7.18", "3.11.2"]
// Source:  spec agent-core 4.1
func (s *Service) Pythons(ctx context.Context, _ handlers.NoParams) ([]string, error) {
	versions := []string{}
	for _, dir := range []string{"/usr/bin", "/usr/local/bin"} {
		entries, err := os.ReadDir(s.host.Path(dir))
		if err != nil && !os.IsNotExist(err) {
			return nil, err
		}
		for _, e := range entries {
			if !pythonName.MatchString(e.Name()) {
				continue
			}
			out, err := s.host.Run(ctx, host.Cmd{Path: path.Join(dir, e.Name()), Args: []string{"-V"}})
			if err != nil {
				s.log.Warn("ask a python for its version", "path", path.Join(dir, e.Name()), "err", err)
				continue
			}
			text := string(out.Stdout) + string(out.Stderr) // Python 2 answers on stderr
			if version, ok := strings.CutPrefix(strings.TrimSpace(text), "Python "); ok {
				versions = append(versions, version)
			}
		}
	}
	slices.Sort(versions)
	return slices.Compact(versions), nil
}
