package hosts

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/reeve-paas/reeve/coordinator/cloud/nspawn"
	"github.com/reeve-paas/reeve/coordinator/core"
)

// bootTimeout is for a host on a machine that does other things too; alone it takes a third of a second.
const bootTimeout = 60 * time.Second

// Main runs the tests of a package that boots hosts. Its TestMain must call it, because the processes that look after
// hosts are started from the test's own binary.
func Main(m *testing.M) int {
	if handled, code := nspawn.Main(os.Args); handled {
		return code
	}
	return m.Run()
}

// Options say what is booted. The zero value is a Debian without the agent.
type Options struct {
	Name  string // "" means "host"
	Agent bool   // with the agent's package installed, which must have been built, and a key
	Size  string // of nspawn.DefaultSizes; "" means "s"
	Files []core.BootstrapFile
}

// Host is a booted host.
type Host struct {
	ID    string
	Addr  netip.Addr
	Cloud *Cloud
	key   []byte
}

// Boot boots one host on a cloud of its own and returns when it is up.
func Boot(t testing.TB, o Options) *Host {
	t.Helper()
	return NewCloud(t, o.Agent).Boot(t, o)
}

// Cloud is an nspawn cloud that lives as long as the test.
type Cloud struct {
	*nspawn.Driver
	Instance
}

// Instance is what a cloud is called on this machine.
type Instance struct {
	StateDir string
	Bridge   string // also its application name
	Subnet   netip.Prefix
}

// stateDirs is what the state directories of instances begin with: short, and on a real disk.
const stateDirs = "/var/tmp/rvt-"

// NewInstance finds a bridge, subnet and state directory that nobody uses, and checks at the end of the test that
// nothing of them is left. What is left then is torn down, so that one broken test does not break the next.
func NewInstance(t testing.TB) Instance {
	t.Helper()
	need(t)
	dir, err := os.MkdirTemp(filepath.Dir(stateDirs), filepath.Base(stateDirs))
	if err != nil {
		t.Fatal(err)
	}
	i := Instance{StateDir: dir}
	i.Bridge, i.Subnet = claim(t)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), bootTimeout)
		defer cancel()
		if err := nspawn.Teardown(ctx, i.Options()); err != nil {
			t.Errorf("tear down %s: %v", i.Bridge, err)
		}
		AssertClean(t, i)
	})
	return i
}

// Options are the driver's options for the instance.
func (i Instance) Options() nspawn.Options {
	return nspawn.Options{StateDir: i.StateDir, Bridge: i.Bridge, AppName: i.Bridge, Subnet: i.Subnet}
}

// need skips the test where hosts cannot be booted, or fails it where they should be: REEVE_NEED_HOSTS=1.
func need(t testing.TB) {
	t.Helper()
	reason := ""
	if os.Geteuid() != 0 {
		reason = "hosts are booted by root only"
	} else {
		for _, f := range nspawn.Doctor(t.Context()) {
			if f.Missing {
				reason = f.What + " is missing; mend with: " + f.Fix
				break
			}
		}
	}
	if reason != "" {
		without(t, reason)
	}
}

// without ends a test that cannot boot what it needs.
func without(t testing.TB, reason string) {
	t.Helper()
	if os.Getenv("REEVE_NEED_HOSTS") != "" {
		t.Fatal(reason)
	}
	t.Skip(reason)
}

// claim takes one of the bridges rvt0 to rvt249 for the life of this process; the number is that of the subnet too. The
// lock is the kernel's, so a killed test frees its number.
func claim(t testing.TB) (bridge string, subnet netip.Prefix) {
	t.Helper()
	for n := range 250 {
		addr := netip.AddrFrom4([4]byte{10, 89, byte(n), 0})
		l, err := net.Listen("unix", fmt.Sprintf("@reeve-test-bridge-%d", n))
		if err != nil {
			continue
		}
		bridge := fmt.Sprintf("rvt%d", n)
		if _, err := net.InterfaceByName(bridge); err == nil && !clearAway(t, bridge) {
			l.Close()
			continue
		}
		t.Cleanup(func() { l.Close() })
		return bridge, netip.PrefixFrom(addr, 24)
	}
	t.Fatal("all 250 test bridges are taken")
	return "", netip.Prefix{}
}

// clearAway removes what a killed test left of the instance on a bridge that nobody holds any more.
func clearAway(t testing.TB, bridge string) bool {
	files, _ := filepath.Glob(stateDirs + "*/instance.json")
	for _, f := range files {
		data, err := os.ReadFile(f)
		if err != nil || !bytes.Contains(data, []byte(strconv.Quote(bridge))) {
			continue
		}
		err = nspawn.Teardown(t.Context(), nspawn.Options{StateDir: filepath.Dir(f)})
		t.Logf("remove what a killed test left in %s: %v", filepath.Dir(f), err)
		return err == nil
	}
	return false
}

// NewCloud opens an nspawn cloud with one image.
func NewCloud(t testing.TB, agent bool) *Cloud {
	t.Helper()
	i := NewInstance(t)
	o := i.Options()
	o.Images = []nspawn.Image{Image(t, agent)}
	o.Log = slog.New(slog.NewTextHandler(t.Output(), nil))
	d, err := nspawn.Open(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	return &Cloud{Driver: d, Instance: i}
}

// Image builds the image of test hosts, or finds it in the cache.
func Image(t testing.TB, agent bool) nspawn.Image {
	t.Helper()
	o := nspawn.ImageOptions{ID: "debian-12-base", Name: "Debian 12", Unlisted: true}
	if agent {
		o = nspawn.ImageOptions{AgentDeb: agentPackage(t), Unlisted: true}
	}
	stage := ""
	image, err := nspawn.BuildImage(t.Context(), o, func(s string, _, _ int, detail string) {
		if s != stage && s != "done" && detail != "already there" {
			t.Logf("image: %s %s", s, detail)
		}
		stage = s
	})
	if err != nil {
		t.Fatal(err)
	}
	return image
}

// agentPackage finds the agent's package: REEVE_AGENT_DEB, or dist/reeve-agent.deb of this tree.
func agentPackage(t testing.TB) string {
	t.Helper()
	if deb := os.Getenv("REEVE_AGENT_DEB"); deb != "" {
		return deb
	}
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for ; dir != "/"; dir = filepath.Dir(dir) {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			deb := filepath.Join(dir, "dist", "reeve-agent.deb")
			if _, err := os.Stat(deb); err != nil {
				without(t, "the agent's package is not built; run: make package")
			}
			return deb
		}
	}
	t.Fatal("the test does not run inside the source tree; set REEVE_AGENT_DEB")
	return ""
}

// Boot boots one more host on the cloud and returns when it is up.
func (c *Cloud) Boot(t testing.TB, o Options) *Host {
	t.Helper()
	if o.Name == "" {
		o.Name = "host"
	}
	if o.Size == "" {
		o.Size = "s"
	}
	h := &Host{Cloud: c}
	files := o.Files
	if o.Agent {
		h.key = make([]byte, 40)
		_, _ = rand.Read(h.key)
		files = append(files, core.BootstrapFile{Path: "/etc/reeve/keys/default", Mode: 0o600, Data: append(h.KeyText(), '\n')})
	}
	n, err := c.CreateNode(t.Context(), core.NodeSpec{Key: rand.Text(), Name: o.Name, SizeID: o.Size, Files: files})
	if err != nil {
		t.Fatal(err)
	}
	h.ID, h.Addr = n.ID, netip.MustParseAddr(n.PrivateIPs[0])
	h.WaitReady(t)
	return h
}

// WaitReady waits until the host's default target is reached; the test fails with its console otherwise.
func (h *Host) WaitReady(t testing.TB) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), bootTimeout)
	defer cancel()
	if err := h.Cloud.WaitReady(ctx, h.ID); err != nil {
		console, _ := h.Cloud.Console(ctx, h.ID)
		t.Fatalf("%v\nconsole:\n%s", err, console)
	}
}

// KeyText is the agent's key as it lies in its key file, without the line's end.
func (h *Host) KeyText() []byte { return []byte(base64.StdEncoding.EncodeToString(h.key)) }

// Key is the agent's key, 40 bytes.
func (h *Host) Key() []byte { return bytes.Clone(h.key) }

// AgentURL is where the host's agent listens.
func (h *Host) AgentURL() string { return "http://" + netip.AddrPortFrom(h.Addr, 8010).String() }

// MetricsURL is where the host's agent shows its metrics.
func (h *Host) MetricsURL() string {
	return "http://" + netip.AddrPortFrom(h.Addr, 9810).String() + "/metrics"
}

// Exec runs a command in the host as root and returns what it printed, without the blanks around it; a command that
// fails ends the test.
func (h *Host) Exec(t testing.TB, argv ...string) string {
	t.Helper()
	out, err := h.Try(t, argv...)
	if err != nil {
		t.Fatalf("in the host: %s: %v", strings.Join(argv, " "), err)
	}
	return out
}

// Try is Exec that returns the error.
func (h *Host) Try(t testing.TB, argv ...string) (string, error) {
	t.Helper()
	out, err := h.Cloud.Exec(t.Context(), h.ID, nil, argv...)
	return string(bytes.TrimSpace(out)), err
}

// WriteFile makes a file in the host, and the directories above it.
func (h *Host) WriteFile(t testing.TB, path string, mode fs.FileMode, data []byte) {
	t.Helper()
	_, err := h.Cloud.Exec(t.Context(), h.ID, bytes.NewReader(data), "install", "-D", "-m", fmt.Sprintf("%o", mode.Perm()), "/dev/stdin", path)
	if err != nil {
		t.Fatalf("write %s: %v", path, err)
	}
}

// CopyIn copies a file of this machine into the host, with its mode.
func (h *Host) CopyIn(t testing.TB, file, path string) {
	t.Helper()
	st, err := os.Stat(file)
	if err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	h.WriteFile(t, path, st.Mode(), data)
}

// ReadFile reads a file of the host.
func (h *Host) ReadFile(t testing.TB, path string) []byte {
	t.Helper()
	data, err := h.Cloud.Exec(t.Context(), h.ID, nil, "cat", path)
	if err != nil {
		t.Fatalf("read %s: %v", path, err)
	}
	return data
}

// Reboot restarts the host from inside, as an operator would, and returns when it is up again.
func (h *Host) Reboot(t testing.TB) {
	t.Helper()
	before := h.BootID(t)
	_, _ = h.Try(t, "systemctl", "reboot") // may be cut off by the reboot it asks for
	Eventually(t, "the host has booted again", func() bool {
		after, err := h.Try(t, "cat", bootIDFile)
		return err == nil && after != before
	})
	h.WaitReady(t)
}

// bootIDFile is made up by nspawn for every boot; it is not this machine's.
const bootIDFile = "/proc/sys/kernel/random/boot_id"

// BootID names the present boot of the host.
func (h *Host) BootID(t testing.TB) string {
	t.Helper()
	return h.Exec(t, "cat", bootIDFile)
}

// Eventually waits until ok, for as long as a boot may take.
func Eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(bootTimeout)
	for !ok() {
		if time.Now().After(deadline) {
			t.Fatalf("after %s it is still not so that %s", bootTimeout, what)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// AssertClean fails the test when anything of the instance is left on this machine. A process that has done its work and is
// just ending gets some seconds for that.
func AssertClean(t testing.TB, i Instance) {
	t.Helper()
	deadline := time.Now().Add(5 * time.Second)
	left := nspawn.Leftovers(i.StateDir, i.Bridge, i.Bridge)
	for len(left) > 0 && time.Now().Before(deadline) {
		time.Sleep(20 * time.Millisecond)
		left = nspawn.Leftovers(i.StateDir, i.Bridge, i.Bridge)
	}
	for _, l := range left {
		t.Errorf("left behind: %s", l)
	}
}
