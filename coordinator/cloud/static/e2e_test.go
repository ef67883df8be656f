//go:build e2e

package static_test

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/reeve-paas/reeve/coordinator/cloud/cloudtest"
	"github.com/reeve-paas/reeve/coordinator/cloud/static"
	"github.com/reeve-paas/reeve/coordinator/core"
	"github.com/reeve-paas/reeve/test/hosts"
)

func TestMain(m *testing.M) { os.Exit(hosts.Main(m)) }

// site is some booted hosts without an agent, and a key that lets us in as root.
type site struct {
	hosts   []*hosts.Host
	keyFile string
	public  string
}

func newSite(t *testing.T, machines int) *site {
	t.Helper()
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	block, err := ssh.MarshalPrivateKey(private, "")
	if err != nil {
		t.Fatal(err)
	}
	signer, _ := ssh.NewSignerFromKey(private)
	s := &site{keyFile: filepath.Join(t.TempDir(), "id"), public: string(ssh.MarshalAuthorizedKey(signer.PublicKey()))}
	if err := os.WriteFile(s.keyFile, pem.EncodeToMemory(block), 0o600); err != nil {
		t.Fatal(err)
	}
	cloud := hosts.NewCloud(t, false)
	for i := range machines {
		s.hosts = append(s.hosts, cloud.Boot(t, hosts.Options{Name: fmt.Sprintf("metal-%d", i),
			Files: []core.BootstrapFile{{Path: "/root/.ssh/authorized_keys", Mode: 0o600, Data: []byte(s.public)}}}))
	}
	return s
}

// host is how machine i is reached.
func (s *site) host(t *testing.T, i int) static.Host {
	t.Helper()
	key := s.hosts[i].Exec(t, "cat", "/etc/ssh/ssh_host_ed25519_key.pub")
	return static.Host{Name: fmt.Sprintf("metal-%d", i), Address: s.hosts[i].Addr.String(), KeyFile: s.keyFile, HostKey: key}
}

// packages finds the agent that was built.
func packages(family, arch string) (string, error) {
	if family != "deb" || arch != "x86_64" {
		return "", core.Errorf(core.Unsupported, core.ObjNode, "no package for %s %s", family, arch)
	}
	if deb := os.Getenv("REEVE_AGENT_DEB"); deb != "" {
		return deb, nil
	}
	return filepath.Join("..", "..", "..", "dist", "reeve-agent.deb"), nil
}

func open(t *testing.T, o static.Options) *static.Driver {
	t.Helper()
	if o.StateDir == "" {
		o.StateDir = t.TempDir()
	}
	if o.Package == nil {
		o.Package = packages
	}
	o.Log = slog.New(slog.NewTextHandler(t.Output(), nil))
	d, err := static.Open(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func TestContract(t *testing.T) {
	t.Parallel()
	s := newSite(t, 3)
	all := []static.Host{s.host(t, 0), s.host(t, 1), s.host(t, 2)}
	cloudtest.Run(t, func(t *testing.T) core.Cloud { return open(t, static.Options{Hosts: all}) })
}

// state is everything of a machine that enrolling may change.
func state(t *testing.T, h *hosts.Host) string {
	t.Helper()
	return h.Exec(t, "sh", "-euc", `ls -lR /etc/reeve /var/lib/reeve-agent /var/cache/reeve-agent /usr/bin/reeve-agent /usr/lib/systemd/system/reeve-agent.service 2>&1 | sed 's/ [A-Z][a-z][a-z] .*:[0-9]* / /'
		cat /root/.ssh/authorized_keys; systemctl is-active reeve-agent 2>&1 || true; dpkg -l reeve-agent 2>&1 | tail -1; ls -A /etc/systemd/system/multi-user.target.wants`)
}

var spec = core.NodeSpec{Key: "node-1", Name: "web-1", SSHKeys: []string{"ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIB0m0b4m0b4m0b4m0b4m0b4m0b4m0b4m0b4m0b4m0b4m alice"},
	Metadata: map[string]string{"team": "blue"}, Files: []core.BootstrapFile{{Path: "/etc/reeve/keys/default", Mode: 0o600,
		Data: []byte("QUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQQ==\n")}}}

func TestEnrolling(t *testing.T) {
	t.Parallel()
	s := newSite(t, 1)
	h := s.hosts[0]
	before := state(t, h)
	dir := t.TempDir()
	d := open(t, static.Options{StateDir: dir, Hosts: []static.Host{s.host(t, 0)}})
	n, err := d.CreateNode(t.Context(), spec)
	if err != nil {
		t.Fatal(err)
	}
	if n.ID != "metal-0" || n.Name != "web-1" || n.State != core.CloudRunning || len(n.PrivateIPs) != 1 || n.PrivateIPs[0] != h.Addr.String() {
		t.Errorf("got %+v", n)
	}
	if got := h.Exec(t, "systemctl", "is-active", "reeve-agent"); got != "active" {
		t.Errorf("got an agent that is %s", got)
	}
	if got := h.Exec(t, "stat", "-c", "%a %U", "/etc/reeve/keys/default"); got != "600 root" {
		t.Errorf("got the key file %s", got)
	}
	if out := h.Exec(t, "reeve-agent", "call", "system.get_hostname", "{}"); !strings.Contains(out, "metal-0") {
		t.Errorf("the agent says %s", out)
	}
	if keys := h.Exec(t, "cat", "/root/.ssh/authorized_keys"); !strings.Contains(keys, "alice reeve-enrolled") || !strings.Contains(keys, strings.TrimSpace(s.public)) {
		t.Errorf("got the keys %s, want alice's and the one of before", keys)
	}
	t.Run("another process finds the same node", func(t *testing.T) {
		again, err := open(t, static.Options{StateDir: dir, Hosts: []static.Host{s.host(t, 0)}}).CreateNode(t.Context(), spec)
		if err != nil || again.ID != n.ID {
			t.Errorf("got %+v, %v", again, err)
		}
	})
	t.Run("there is no second node on one machine", func(t *testing.T) {
		other := spec
		other.Key = "node-2"
		for _, try := range []func() error{
			func() error { _, err := d.CreateNode(t.Context(), other); return err },
			func() error { _, err := d.Enroll(t.Context(), "metal-0", other); return err },
		} {
			if err := try(); core.KindOf(err) != core.Quota && core.KindOf(err) != core.Busy {
				t.Errorf("got %v", err)
			}
		}
	})
	t.Run("cut off anywhere, the same call completes it", func(t *testing.T) {
		if err := d.DestroyNode(t.Context(), n.ID); err != nil {
			t.Fatal(err)
		}
		for after := 40 * time.Millisecond; ; after *= 2 { // each time a little further
			ctx, cancel := context.WithTimeout(t.Context(), after)
			_, err := d.CreateNode(ctx, spec)
			cancel()
			if err == nil {
				break
			}
			if core.KindOf(err) != core.Unavailable {
				t.Fatalf("cut off after %s: got %v", after, err)
			}
		}
		if out := h.Exec(t, "reeve-agent", "call", "system.get_hostname", "{}"); !strings.Contains(out, "metal-0") {
			t.Errorf("the agent says %s", out)
		}
		if nodes, err := d.Nodes(t.Context()); err != nil || len(nodes) != 1 {
			t.Errorf("got %v, %v", nodes, err)
		}
	})
	t.Run("another coordinator is refused, and changes nothing", func(t *testing.T) {
		stranger := open(t, static.Options{Hosts: []static.Host{s.host(t, 0)}})
		now := state(t, h)
		_, err := stranger.CreateNode(t.Context(), spec)
		if core.KindOf(err) != core.Invalid || !strings.Contains(err.Error(), "another coordinator") {
			t.Errorf("got %v", err)
		}
		if err := stranger.DestroyNode(t.Context(), "metal-0"); err != nil {
			t.Errorf("take it back: %v", err)
		}
		if got := state(t, h); got != now {
			t.Errorf("got\n%s\nwant\n%s", got, now)
		}
	})
	t.Run("it reboots", func(t *testing.T) {
		boot := h.BootID(t)
		if err := d.RebootNode(t.Context(), n.ID); err != nil {
			t.Fatal(err)
		}
		hosts.Eventually(t, "the machine has booted again", func() bool {
			now, err := h.Try(t, "cat", "/proc/sys/kernel/random/boot_id")
			return err == nil && now != boot
		})
		h.WaitReady(t)
		hosts.Eventually(t, "the agent is up again", func() bool {
			out, err := h.Try(t, "systemctl", "is-active", "reeve-agent")
			return err == nil && out == "active"
		})
	})
	t.Run("destroying leaves the machine as it was, and running", func(t *testing.T) {
		if err := d.DestroyNode(t.Context(), n.ID); err != nil {
			t.Fatal(err)
		}
		if got := state(t, h); got != before {
			t.Errorf("got\n%s\nwant\n%s", got, before)
		}
	})
}

// TestWhatEnrollingRefuses finds out before anything is changed.
func TestWhatEnrollingRefuses(t *testing.T) {
	t.Parallel()
	s := newSite(t, 1)
	h := s.hosts[0]
	before := state(t, h)
	good := s.host(t, 0)
	changed := good
	changed.HostKey = s.public
	unknown := good
	unknown.HostKey = ""
	stranger := good
	stranger.User = "nobody"
	closed := good
	closed.Port = 9
	for name, tc := range map[string]struct {
		host static.Host
		want core.Kind
	}{
		"a changed host key":     {changed, core.Invalid},
		"an unknown host key":    {unknown, core.Invalid},
		"a user without our key": {stranger, core.Unauthenticated},
		"a port without SSH":     {closed, core.Unavailable},
	} {
		t.Run(name, func(t *testing.T) {
			d := open(t, static.Options{Hosts: []static.Host{tc.host}})
			_, err := d.CreateNode(t.Context(), spec)
			if err == nil || core.KindOf(err) != tc.want {
				t.Errorf("got %v, want kind %s", err, tc.want)
			}
			if first, ok := errors.AsType[*static.UnknownHostKey](err); name == "an unknown host key" && (!ok || first.Key != strings.Join(strings.Fields(good.HostKey)[:2], " ")) {
				t.Errorf("got %v, want the key it shows", err)
			}
			if err := d.DestroyNode(t.Context(), "metal-0"); err != nil {
				t.Errorf("take it back: %v", err)
			}
			if nodes, err := d.Nodes(t.Context()); err != nil || len(nodes) != 0 {
				t.Errorf("got %v, %v left", nodes, err)
			}
		})
	}
	t.Run("a package that cannot be installed is taken back", func(t *testing.T) {
		broken := filepath.Join(t.TempDir(), "x.deb")
		if err := os.WriteFile(broken, []byte("no package"), 0o600); err != nil {
			t.Fatal(err)
		}
		d := open(t, static.Options{Hosts: []static.Host{good}, Package: func(string, string) (string, error) { return broken, nil }})
		_, err := d.CreateNode(t.Context(), spec)
		if err == nil || !strings.Contains(err.Error(), "install the agent") {
			t.Errorf("got %v, want dpkg's own words", err)
		}
		if err := d.DestroyNode(t.Context(), "metal-0"); err != nil {
			t.Fatal(err)
		}
	})
	t.Run("a full disk is named, and taken back", func(t *testing.T) {
		h.Exec(t, "mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", "/var/cache")
		d := open(t, static.Options{Hosts: []static.Host{good}})
		_, err := d.CreateNode(t.Context(), spec)
		if err == nil || !strings.Contains(err.Error(), "No space left on device") {
			t.Errorf("got %v", err)
		}
		h.Exec(t, "umount", "/var/cache")
		if err := d.DestroyNode(t.Context(), "metal-0"); err != nil {
			t.Fatal(err)
		}
	})
	if got := state(t, h); got != before {
		t.Errorf("got\n%s\nwant\n%s", got, before)
	}
	t.Run("the next try succeeds", func(t *testing.T) {
		d := open(t, static.Options{Hosts: []static.Host{good}})
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if _, err := d.CreateNode(ctx, spec); err != nil {
			t.Error(err)
		}
	})
}
