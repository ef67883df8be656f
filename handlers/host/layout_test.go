package host_test

import (
	"testing"

	"github.com/reeve-paas/reeve/handlers/host"
	"github.com/reeve-paas/reeve/handlers/host/hosttest"
)

func TestTheLayoutIsThatOfTheDistributionsFamily(t *testing.T) {
	for name, c := range map[string]struct {
		release string // the lines of os-release that count
		want    *host.Layout
	}{
		"Debian 12":         {"PRETTY_NAME=\"Debian GNU/Linux 12 (bookworm)\"\nID=debian\n", &host.Debian},
		"Ubuntu 24.04":      {"ID=ubuntu\nID_LIKE=debian\n", &host.Debian},
		"RHEL 9":            {"NAME=\"Red Hat Enterprise Linux\"\nID=\"rhel\"\nID_LIKE=\"fedora\"\n", &host.RedHat},
		"Rocky Linux 9":     {"ID=\"rocky\"\nID_LIKE=\"rhel centos fedora\"\n", &host.RedHat},
		"AlmaLinux 8":       {"ID=\"almalinux\"\nID_LIKE=\"rhel centos fedora\"\n", &host.RedHat},
		"CentOS 7":          {"ID=\"centos\"\nID_LIKE=\"rhel fedora\"\n", &host.RedHat},
		"Oracle Linux 9":    {"ID=\"ol\"\nID_LIKE=\"fedora\"\n", &host.RedHat},
		"Amazon Linux 2023": {"ID=\"amzn\"\nID_LIKE=\"fedora\"\n", &host.RedHat},
		"Fedora":            {"ID=fedora\n", &host.RedHat},
		"one that is none":  {"ID=arch\nVARIANT=\"rhel\"\n", &host.Debian},
	} {
		t.Run(name, func(t *testing.T) {
			h := hosttest.New(t)
			h.WriteText("/etc/os-release", c.release)
			if got := host.DetectLayout(h.Host); got != c.want {
				t.Errorf("got that of %s, want that of %s", got.Family, c.want.Family)
			}
		})
	}
	if got := host.DetectLayout(hosttest.New(t).Host); got != &host.Debian {
		t.Errorf("without os-release: got that of %s", got.Family)
	}
}
