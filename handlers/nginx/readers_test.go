package nginx

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/reeve-paas/reeve/agent/agentapi"
	"github.com/reeve-paas/reeve/handlers/host"
	"github.com/reeve-paas/reeve/handlers/web"
)

// slowReader is somebody's "nginx -t" that has read one of our two files and not yet the other.
type slowReader struct {
	n    *realNginx
	cmd  *exec.Cmd
	out  bytes.Buffer
	gate string // a pipe that it waits at, between the includes of our two files
}

// gated adds a file between our two includes, at which readers can be stopped.
func (n *realNginx) gated() {
	n.T.Helper()
	n.Write("gate.conf", "")
	conf := n.Read("nginx.conf")
	at := min(strings.Index(conf, n.upstreamsPath()), strings.Index(conf, n.proxiesPath()))
	end := at + strings.IndexByte(conf[at:], '\n') + 1
	n.Write("nginx.conf", conf[:end]+"\tinclude gate.conf;\n"+conf[end:])
}

// slowTest starts a reader and returns when it has read the first file. Later readers are not stopped.
func (n *realNginx) slowTest() *slowReader {
	n.T.Helper()
	r := &slowReader{n: n, gate: filepath.Join(n.Dir, "gate.pipe"), cmd: exec.Command(nginxBinary, "-t", "-c", n.conf())}
	include := filepath.Join(n.Dir, "gate.conf")
	for _, err := range []error{os.Remove(include), syscall.Mkfifo(r.gate, 0o600), os.Link(r.gate, include)} {
		if err != nil {
			n.T.Fatal(err)
		}
	}
	r.cmd.Stdout, r.cmd.Stderr = &r.out, &r.out
	if err := r.cmd.Start(); err != nil {
		n.T.Fatal(err)
	}
	n.T.Cleanup(func() { _ = r.cmd.Process.Kill() })
	n.eventually("nginx -t waits at the gate", func() bool {
		at, _ := os.ReadFile(fmt.Sprintf("/proc/%d/wchan", r.cmd.Process.Pid))
		stat, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", r.cmd.Process.Pid))
		fds, _ := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", r.cmd.Process.Pid))
		reading := false
		for _, fd := range fds {
			target, _ := os.Readlink(fd)
			reading = reading || target == n.conf()
		}
		return reading && (string(at) == "wait_for_partner" || (len(at) == 0 || string(at) == "0") && strings.Contains(string(stat), ") S "))
	})
	open := filepath.Join(n.Dir, "gate.open")
	if err := errors.Join(os.WriteFile(open, nil, 0o644), os.Rename(open, include)); err != nil {
		n.T.Fatal(err)
	}
	return r
}

// goOn lets the reader read the rest, which must fit.
func (r *slowReader) goOn() {
	r.n.T.Helper()
	pipe, err := os.OpenFile(r.gate, os.O_WRONLY, 0)
	if err != nil {
		r.n.T.Fatal(err)
	}
	if err := errors.Join(pipe.Close(), os.Remove(r.gate)); err != nil {
		r.n.T.Fatal(err)
	}
	if err := r.cmd.Wait(); err != nil {
		r.n.T.Errorf("nginx -t read files that do not fit: %v\n%s", err, r.out.String())
	}
}

func (n *realNginx) eventually(what string, is func() bool) {
	n.T.Helper()
	ctx, cancel := context.WithTimeout(n.T.Context(), 20*time.Second)
	defer cancel()
	if err := web.Poll(ctx, func() (bool, error) { return is(), nil }); err != nil {
		n.T.Fatalf("%s: %v", what, err)
	}
}

// unitsThatRefuse make a reload fail, after doing something else.
type unitsThatRefuse struct {
	host.Units
	instead func()
}

func (u *unitsThatRefuse) Reload(ctx context.Context, unit string) error {
	if instead := u.instead; instead != nil {
		u.instead = nil
		instead()
		return errors.New("refused by the test")
	}
	return u.Units.Reload(ctx, unit)
}

// Anybody may run nginx's test at any moment. One that has read the proxies of before a change must find their upstreams,
// and one that has read those of after it too, however long it takes.
func TestRealNginxTestedByOthersMeanwhileSeesWhatFits(t *testing.T) {
	t.Parallel()
	at := func(location string) agentapi.Destination {
		return agentapi.Destination{Host: "192.0.2.1", Location: location}
	}
	for name, c := range map[string]struct {
		oldOrder bool
		change   func(*realNginx) error
		reached  func(n *realNginx) bool // the reader is let go on then
	}{
		"a proxy is removed": {false, func(n *realNginx) error {
			_, err := n.RemoveProxy(t.Context(), agentapi.RemoveProxyParams{Hostname: "a.test"})
			return err
		}, func(n *realNginx) bool { return !strings.Contains(n.Read("proxies.include"), "a.test") }},
		"a proxy gets other upstreams": {false, func(n *realNginx) error {
			_, err := n.MakeProxy(t.Context(), n.params("a.test", at("/new")))
			return err
		}, func(n *realNginx) bool { return strings.Contains(n.Read("proxies.include"), "/new") }},
		"all proxies are replaced": {false, func(n *realNginx) error {
			return n.recreate(t.Context(), nil, true)
		}, func(n *realNginx) bool { return n.Read("proxies.include") == "" }},
		"an older agent included upstreams first, and a proxy is added": {true, func(n *realNginx) error {
			_, err := n.MakeProxy(t.Context(), n.params("b.test", at("/")))
			return err
		}, func(n *realNginx) bool {
			conf := n.Read("nginx.conf")
			return strings.Index(conf, n.proxiesPath()) < strings.Index(conf, n.upstreamsPath())
		}},
		"an older agent included upstreams first, and a proxy is removed": {true, func(n *realNginx) error {
			_, err := n.RemoveProxy(t.Context(), agentapi.RemoveProxyParams{Hostname: "a.test"})
			return err
		}, func(n *realNginx) bool {
			conf := n.Read("nginx.conf")
			return strings.Index(conf, n.proxiesPath()) < strings.Index(conf, n.upstreamsPath())
		}},
	} {
		t.Run(name, func(t *testing.T) {
			n := newRealNginx(t).start()
			n.make(n.params("a.test", at("/"), at("/old")))
			if c.oldOrder {
				conf := n.Read("nginx.conf")
				n.Write("nginx.conf", strings.NewReplacer(n.upstreamsPath(), n.proxiesPath(), n.proxiesPath(), n.upstreamsPath()).Replace(conf))
			}
			n.gated()
			r := n.slowTest()
			done := make(chan error)
			go func() { done <- c.change(n) }()
			n.eventually("the change is half made", func() bool { return c.reached(n) })
			r.goOn()
			if err := <-done; err != nil {
				t.Fatal(err)
			}
			conf := n.Read("nginx.conf")
			if strings.Index(conf, n.proxiesPath()) > strings.Index(conf, n.upstreamsPath()) {
				t.Errorf("upstreams are still included first: %s", conf)
			}
			if err := n.test(t.Context()); err != nil {
				t.Error(err)
			}
			for name := range strings.FieldsSeq(n.Read("app-servers.include")) {
				if strings.HasPrefix(name, hashName("a.test")) && !strings.Contains(n.Read("proxies.include"), name) {
					t.Errorf("the upstream %s stays though nobody passes to it", name)
				}
			}
		})
	}
	t.Run("a change is taken back", func(t *testing.T) {
		n := newRealNginx(t)
		units := &unitsThatRefuse{Units: n.units}
		n.Service = serviceIn(n.Dir, units, n.Coordinator, n.Coordinator, n.status)
		n.start()
		n.make(n.params("a.test", at("/old")))
		n.gated()
		before := n.Read("app-servers.include") + n.Read("proxies.include")
		readers := make(chan *slowReader, 1)
		units.instead = func() { readers <- n.slowTest() }
		done := make(chan error)
		go func() {
			_, err := n.MakeProxy(t.Context(), n.params("a.test", at("/new")))
			done <- err
		}()
		r := <-readers
		n.eventually("the old proxies are back", func() bool { return strings.Contains(n.Read("proxies.include"), "/old") })
		r.goOn()
		if err := <-done; err == nil || !strings.Contains(err.Error(), "refused by the test") {
			t.Errorf("got %v", err)
		}
		if got := n.Read("app-servers.include") + n.Read("proxies.include"); got != before {
			t.Errorf("got %s, want %s", got, before)
		}
	})
}
