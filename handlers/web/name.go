package web

import (
	"net/netip"
	"strings"

	"github.com/reeve-paas/reeve/agent/agentapi"
)

// Invalid is a ValueError: the request can never succeed as it is.
func Invalid(format string, args ...any) error {
	return agentapi.Errorf(agentapi.KindInvalid, "ValueError", format, args...)
}

// CheckHostname refuses a name that is no host name, optionally with a leading "*." (spec agent-web 6, S1). Names become
// part of paths and of configuration, so what is allowed is spelled out.
func CheckHostname(name string) error {
	if name == "" {
		return Invalid("hostname is empty")
	}
	if len(name) > 253 {
		return Invalid("hostname is longer than 253 characters")
	}
	for label := range strings.SplitSeq(strings.TrimPrefix(name, "*."), ".") {
		if !validLabel(label) {
			return Invalid("invalid hostname: %.80q", name)
		}
	}
	return nil
}

func validLabel(s string) bool {
	if s == "" || len(s) > 63 || s[0] == '-' || s[len(s)-1] == '-' {
		return false
	}
	return only(s, "_-")
}

// only says that s consists of ASCII letters, digits and the bytes of extra.
func only(s, extra string) bool {
	for _, c := range []byte(s) {
		switch {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', strings.IndexByte(extra, c) >= 0:
		default:
			return false
		}
	}
	return true
}

// CheckCertificateID refuses an id that cannot be part of a file name (S4). "" is the default certificate.
func CheckCertificateID(id string) error {
	if len(id) > 64 || !only(id, "_-") {
		return Invalid("invalid certificate id: %.80q", id)
	}
	return nil
}

// Address is an IP address or a host name in the form a configuration needs: an IPv6 address gets its brackets (S5).
func Address(s string) (string, error) {
	if ip, err := netip.ParseAddr(strings.TrimSuffix(strings.TrimPrefix(s, "["), "]")); err == nil && ip.Zone() == "" {
		if ip.Is6() {
			return "[" + ip.String() + "]", nil
		}
		return ip.String(), nil
	}
	if strings.HasPrefix(s, "*.") || CheckHostname(s) != nil {
		return "", Invalid("invalid server address: %.80q", s)
	}
	return s, nil
}

// CheckRoleID refuses a role id that cannot be part of an upstream's name.
func CheckRoleID(id string) error {
	if id == "" || len(id) > 64 || !only(id, "-") {
		return Invalid("invalid role id: %.80q", id)
	}
	return nil
}
