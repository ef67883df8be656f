//go:build e2e

package e2e

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/reeve-paas/reeve/agent/agentapi"
	"github.com/reeve-paas/reeve/agent/agentclient"
	"github.com/reeve-paas/reeve/coordinator/core"
	"github.com/reeve-paas/reeve/test/hosts"
)

const (
	killChanges = 200
	killHits    = 40
	killNames   = 6 // of each sort: few, so that each is changed often
	// killGap bounds how long an agent lives after its start: a few changes.
	killGap = 900 * time.Millisecond
	// testGap is the least time between two tests of a configuration; most take longer on a busy machine.
	testGap = 50 * time.Millisecond
)

// absent is the state of a site that is not there; others are the version it answers with and, for proxies, the servers
// beside the first one.
const absent = ""

// siteStates are the states that a site may have by what was confirmed: one, or more after a call without an answer.
type siteStates map[string][]string

// killRun is one run of TestTheAgentIsKilledWhileSitesChange.
type killRun struct {
	t      *testing.T
	h      *hosts.Host
	client *agentclient.Client
	random *rand.Rand
	sites  siteStates
	lost   int // changes whose answer a kill took away
}

// TestTheAgentIsKilledWhileSitesChange kills the agent at random moments while a client changes virtual hosts of Apache
// and proxies of nginx. Both web servers' configuration must pass its test at every moment, and in the end the host must
// serve exactly what was confirmed.
func TestTheAgentIsKilledWhileSitesChange(t *testing.T) {
	t.Parallel()
	seed := uint64(time.Now().UnixNano())
	if s := os.Getenv("REEVE_SEED"); s != "" {
		var err error
		if seed, err = strconv.ParseUint(s, 10, 64); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("repeat with REEVE_SEED=%d", seed)
	// The shipped unit waits two seconds before it starts the agent again; that is the only thing changed here.
	faster := core.BootstrapFile{Path: "/etc/systemd/system/reeve-agent.service.d/e2e.conf", Mode: 0o644, Data: []byte("[Service]\nRestartSec=100ms\n")}
	h := hosts.Boot(t, hosts.Options{Name: "killed", Agent: true, Files: []core.BootstrapFile{faster}})
	r := &killRun{t: t, h: h, client: connect(t, h, h.Key()), random: rand.New(rand.NewPCG(seed, 1)), sites: siteStates{}}
	if err := r.client.Nginx().MakeProxy(t.Context(), proxyTo("first.test", "v0")); err != nil { // also makes room on port 80
		t.Fatal(err)
	}
	for _, service := range []agentclient.Service{r.client.Nginx().Service, r.client.Apache().Service} {
		if err := service.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
	}

	ctx, stop := context.WithCancel(t.Context())
	var around sync.WaitGroup
	var kills atomic.Int64
	around.Go(func() { r.killAgent(ctx, rand.New(rand.NewPCG(seed, 2)), &kills) })
	var tests [2]atomic.Int64
	for i, argv := range [][]string{{"apachectl", "configtest"}, {"nginx", "-t"}} {
		around.Go(func() { r.testConfig(ctx, &tests[i], argv...) })
	}
	defer around.Wait()
	defer stop()
	changes := 0
	for ; changes < killChanges || kills.Load() < killHits; changes++ {
		r.change(changes)
		if changes > 20*killChanges {
			t.Fatalf("only %d kills hit in %d changes", kills.Load(), changes)
		}
	}
	stop()
	around.Wait()
	t.Logf("%d changes, %d kills, %d answers lost, %d tests of Apache's and %d of nginx's configuration",
		changes, kills.Load(), r.lost, tests[0].Load(), tests[1].Load())
	if tests[0].Load() < killHits || tests[1].Load() < killHits {
		t.Errorf("got %d and %d configuration tests, want more than kills", tests[0].Load(), tests[1].Load())
	}
	r.check()
}

// killAgent kills the running agent again and again, each time after a random while.
func (r *killRun) killAgent(ctx context.Context, random *rand.Rand, kills *atomic.Int64) {
	last := ""
	for ctx.Err() == nil {
		pid, err := r.h.Try(r.t, "systemctl", "show", agentUnit, "-p", "MainPID", "--value")
		if err != nil || pid == "0" || pid == last {
			continue // it is between two lives
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(time.Duration(random.Int64N(int64(killGap)))):
		}
		if _, err := r.h.Try(r.t, "kill", "-KILL", pid); err != nil {
			r.t.Errorf("agent %s was not there to be killed: %v", pid, err)
			return
		}
		last = pid
		kills.Add(1)
	}
}

// testConfig runs a web server's own test of its live configuration again and again, as anybody might at any moment.
func (r *killRun) testConfig(ctx context.Context, count *atomic.Int64, argv ...string) {
	tick := time.NewTicker(testGap)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		count.Add(1)
		if out, err := r.h.Try(r.t, argv...); err != nil {
			again, _ := r.h.Try(r.t, argv...)
			r.t.Errorf("%s: %v\n%s\nand after that: %s", strings.Join(argv, " "), err, out, again)
			return
		}
	}
}

// change makes one random change and notes what may be so afterwards.
func (r *killRun) change(n int) {
	r.t.Helper()
	version := fmt.Sprintf("v%d", n+1)
	name := fmt.Sprintf("vhost%d.test", r.random.IntN(killNames))
	apache, nginx := r.client.Apache(), r.client.Nginx()
	if r.random.IntN(2) == 0 {
		if r.random.IntN(3) == 0 {
			r.call(name, absent, func(ctx context.Context) error {
				return apache.DeleteVHosts(ctx, agentapi.DeleteVHostsParams{VHosts: []agentapi.VHostRef{{Hostname: name, Port: "80"}}})
			})
			return
		}
		r.call(name, version, func(ctx context.Context) error {
			_, err := apache.CreateVHost(ctx, agentapi.CreateVHostParams{Hostname: name, Port: "80", Template: vhostSaying(name, version)})
			return err
		})
		return
	}
	name = fmt.Sprintf("proxy%d.test", r.random.IntN(killNames))
	states := r.sites[name]
	certain := len(states) == 1 && states[0] != absent
	switch kind := r.random.IntN(4); {
	case certain && kind == 0:
		server := fmt.Sprintf("127.0.1.%d", n+1)
		r.call(name, states[0]+" "+server, func(ctx context.Context) error {
			return nginx.AddServer(ctx, agentapi.UpstreamServerParams{Backend: name, Server: map[string]any{"host": server, "port": 80}})
		})
	case kind == 1:
		r.call(name, absent, func(ctx context.Context) error {
			return nginx.RemoveProxy(ctx, agentapi.RemoveProxyParams{Hostname: name})
		})
	default:
		r.call(name, version, func(ctx context.Context) error { return nginx.MakeProxy(ctx, proxyTo(name, version)) })
	}
}

// call carries out one change of a site, as soon as an agent takes it.
func (r *killRun) call(name, after string, change func(context.Context) error) {
	r.t.Helper()
	if _, known := r.sites[name]; !known {
		r.sites[name] = []string{absent}
	}
	var err error
	hosts.Eventually(r.t, "an agent takes the change", func() bool {
		err = change(r.t.Context())
		op, ok := errors.AsType[*net.OpError](err)
		return !ok || op.Op != "dial"
	})
	switch {
	case err == nil:
		r.sites[name] = []string{after}
	case agentclient.Reached(err):
		r.t.Fatalf("%s to %q: %v", name, after, err)
	default: // the agent died over it
		r.lost++
		if !slices.Contains(r.sites[name], after) {
			r.sites[name] = append(r.sites[name], after)
		}
	}
}

// check compares what the host serves with what it may serve.
func (r *killRun) check() {
	r.t.Helper()
	awaitAgent(r.t, r.h)
	awaitPort(r.t, netip.AddrPortFrom(r.h.Addr, 8010))
	for name, states := range r.sites {
		seen := r.served(name)
		if !slices.Contains(states, seen) {
			r.t.Errorf("%s: got state %q, want one of %q", name, seen, states)
		}
	}
	listed, err := r.client.Apache().ListServedVirtualHosts(r.t.Context())
	if err != nil {
		r.t.Fatal(err)
	}
	for name := range r.sites {
		if strings.HasPrefix(name, "vhost") && slices.ContainsFunc(listed, func(file string) bool { return strings.HasPrefix(file, name) }) != (r.served(name) != absent) {
			r.t.Errorf("%s: the list %q and what is served differ", name, listed)
		}
	}
	// What a kill leaves half-written beside a file goes with the next change of that file.
	if _, err := r.client.Apache().CreateVHost(r.t.Context(), agentapi.CreateVHostParams{Hostname: "last.test", Port: "80", Template: vhostSaying("last.test", "v0")}); err != nil {
		r.t.Error(err)
	}
	if err := r.client.Nginx().MakeProxy(r.t.Context(), proxyTo("last.test", "v0")); err != nil {
		r.t.Error(err)
	}
	if left := r.h.Exec(r.t, "find", "/etc/reeve", "/etc/nginx", "/etc/apache2", "-type", "f", "-regex", `.*/\.?\..*\(stag\|[0-9][0-9][0-9][0-9][0-9][0-9][0-9][0-9]\).*`); left != "" {
		r.t.Errorf("unfinished changes are left: %s", left)
	}
	wantText(r.t, r.h, "active\nactive\nactive", "systemctl", "is-active", "apache2", "nginx", "reeve-agent")
}

// served is the state of a site as visitors and the files show it.
func (r *killRun) served(name string) string {
	r.t.Helper()
	if strings.HasPrefix(name, "vhost") {
		_, body := page(r.t.Context(), netip.AddrPortFrom(r.h.Addr, 80), name, "/no-such-page")
		version, ok := strings.CutPrefix(body, "this is ")
		if !ok {
			return absent
		}
		return version
	}
	_, body := page(r.t.Context(), netip.AddrPortFrom(r.h.Addr, 8080), name, "/version")
	version, ok := strings.CutPrefix(body, "this is "+name+" ")
	if !ok {
		return absent
	}
	return strings.Join(append([]string{version}, r.addedServers(name)...), " ")
}

// addedServers are the servers of a proxy's upstream beside its first one.
func (r *killRun) addedServers(name string) []string {
	r.t.Helper()
	var servers []string
	inside := false
	for line := range strings.Lines(string(r.h.ReadFile(r.t, "/etc/nginx/app-servers.include"))) {
		words := strings.Fields(strings.TrimRight(strings.TrimSpace(line), ";{ "))
		switch {
		case len(words) == 2 && words[0] == "upstream":
			inside = words[1] == name
		case inside && len(words) > 1 && words[0] == "server" && strings.HasPrefix(words[1], "127.0.1."):
			host, _, _ := strings.Cut(words[1], ":")
			servers = append(servers, host)
		}
	}
	return servers
}

func vhostSaying(name, version string) string {
	return fmt.Sprintf("<VirtualHost *:80>\n\tServerName %s\n\tDocumentRoot /srv/sites/%s\n\tErrorDocument 404 \"this is %s\"\n</VirtualHost>\n", name, name, version)
}

func proxyTo(name, version string) agentapi.ProxyParams {
	return agentapi.ProxyParams{
		Hostname: name, Port: agentapi.Ptr(agentapi.Text("8080")), HashBackendName: agentapi.Ptr(agentapi.Bool(false)),
		Backends:  []agentapi.Destination{{Host: "127.0.0.1", Port: "80"}, {Host: "127.0.0.1", Port: "80", Location: "/version"}},
		Templates: []agentapi.Template{{Location: "/version", Content: fmt.Sprintf("return 200 \"this is %s %s\";", name, version)}},
	}
}
