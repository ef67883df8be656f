package agents

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"reflect"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/reeve-paas/reeve/agent/agentapi"
	"github.com/reeve-paas/reeve/agent/rpcserver"
	"github.com/reeve-paas/reeve/coordinator/core"
	"github.com/reeve-paas/reeve/crypto/envelope"
	"github.com/reeve-paas/reeve/test/ports"
)

var rawKey = []byte("0123456789abcdefghijklmnopqrstuvwxyz!@#$")

type fixedKey struct{ key envelope.Key }

func (k fixedKey) Get() (envelope.Key, error) { return k.key, nil }

// record is a method that remembers its parameters and answers with a constant or an error.
func record(seen *atomic.Value, name string, result any, err error) rpcserver.Method {
	return rpcserver.Method{Call: func(_ context.Context, params json.RawMessage) (any, error) {
		seen.Store(name + " " + string(params))
		return result, err
	}}
}

// startAgent runs a real RPC server with these methods and returns its host:port.
func startAgent(t testing.TB, table rpcserver.Table) string {
	t.Helper()
	key, err := envelope.NewKey(rawKey)
	if err != nil {
		t.Fatal(err)
	}
	s, err := rpcserver.New(rpcserver.Options{Keys: fixedKey{key}, Table: table, Listen: []string{"127.0.0.1:0"}})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	select {
	case <-s.Ready():
	case err := <-done:
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return s.Addrs()[0].String()
}

func hostnameTable() rpcserver.Table {
	return rpcserver.Table{"system": {"get_hostname": {ReadOnly: true, Call: func(context.Context, json.RawMessage) (any, error) { return "web-1", nil }}}}
}

func newAgents(t testing.TB, o Options) *Agents {
	t.Helper()
	o.Log = slog.New(slog.DiscardHandler)
	a := New(o)
	t.Cleanup(a.Close)
	return a
}

func nodeAt(address string) core.Node {
	return core.Node{ID: "node-1", Name: "rv-1", Address: address, AgentKey: rawKey, State: core.NodeRunning}
}

func agentAt(t testing.TB, address string) core.Agent {
	t.Helper()
	agent, err := newAgents(t, Options{}).Agent(nodeAt(address))
	if err != nil {
		t.Fatal(err)
	}
	return agent
}

func TestEveryCallReachesItsMethod(t *testing.T) {
	var seen atomic.Value
	ok := func(name string, result any) rpcserver.Method { return record(&seen, name, result, nil) }
	address := startAgent(t, rpcserver.Table{
		"system": {"get_hostname": ok("system.get_hostname", "web-1")},
		"deploy": {"mount_volume": ok("deploy.mount_volume", map[string]any{"device": "/dev/x", "size_bytes": 5}),
			"create_app": ok("deploy.create_app", map[string]any{"home": "/srv/a"}), "delete_app": ok("deploy.delete_app", nil), "put_release": ok("deploy.put_release", nil),
			"start_script": ok("deploy.start_script", nil), "stop_script": ok("deploy.stop_script", nil), "list_scripts": ok("deploy.list_scripts", []any{}),
			"script_log": ok("deploy.script_log", map[string]any{"lines": []string{}})},
		"apache": {"create_vhost": ok("apache.create_vhost", "/etc/a.conf"), "delete_vhosts": ok("apache.delete_vhosts", nil), "start_service": ok("apache.start_service", nil)},
		"nginx":  {"make_proxy": ok("nginx.make_proxy", nil), "remove_proxy": ok("nginx.remove_proxy", nil)},
		"mysql": {"create_database": ok("mysql.create_database", nil), "create_user": ok("mysql.create_user", nil),
			"dump_database": ok("mysql.dump_database", nil), "load_dump": ok("mysql.load_dump", nil), "reset_password": ok("mysql.reset_password", "secret")},
		"postgresql": {"drop_database": ok("postgresql.drop_database", nil)},
		"mongodb":    {"drop_user": ok("mongodb.drop_user", nil)},
	})
	a := agentAt(t, address)
	ctx := t.Context()
	for want, call := range map[string]func() (any, error){
		"system.get_hostname =web-1": func() (any, error) { return a.Hostname(ctx) },
		"deploy.mount_volume =/dev/x 5": func() (any, error) {
			v, err := a.MountVolume(ctx, agentapi.MountVolumeParams{Device: "/dev/x"})
			return fmt.Sprint(v.Device, " ", v.SizeBytes), err
		},
		"deploy.create_app =/srv/a": func() (any, error) {
			v, err := a.CreateApp(ctx, agentapi.CreateAppParams{App: "a"})
			return v.Home, err
		},
		"deploy.delete_app":  func() (any, error) { return nil, a.DeleteApp(ctx, agentapi.AppParams{App: "a"}) },
		"deploy.put_release": func() (any, error) { return nil, a.PutRelease(ctx, agentapi.PutReleaseParams{App: "a", Release: 1}) },
		"deploy.start_script": func() (any, error) {
			return nil, a.StartScript(ctx, agentapi.StartScriptParams{App: "a", Script: "run.sh"})
		},
		"deploy.stop_script":               func() (any, error) { return nil, a.StopScript(ctx, agentapi.ScriptParams{App: "a", Script: "run.sh"}) },
		"deploy.list_scripts":              func() (any, error) { _, err := a.ListScripts(ctx, agentapi.AppParams{App: "a"}); return nil, err },
		"deploy.script_log":                func() (any, error) { _, err := a.ScriptLog(ctx, agentapi.AppParams{App: "a"}); return nil, err },
		"apache.create_vhost =/etc/a.conf": func() (any, error) { return a.CreateVHost(ctx, agentapi.CreateVHostParams{Hostname: "h"}) },
		"apache.delete_vhosts":             func() (any, error) { return nil, a.DeleteVHosts(ctx, agentapi.DeleteVHostsParams{}) },
		"apache.start_service":             func() (any, error) { return nil, a.StartService(ctx, "apache") },
		"nginx.make_proxy":                 func() (any, error) { return nil, a.MakeProxy(ctx, agentapi.ProxyParams{Hostname: "h"}) },
		"nginx.remove_proxy":               func() (any, error) { return nil, a.RemoveProxy(ctx, agentapi.RemoveProxyParams{Hostname: "h"}) },
		"mysql.create_database": func() (any, error) {
			return nil, a.CreateDatabase(ctx, "mysql", agentapi.CreateDatabaseParams{Name: "d"})
		},
		"mysql.dump_database": func() (any, error) {
			return nil, a.DumpDatabase(ctx, "mysql", agentapi.DumpDatabaseParams{Name: "d"})
		},
		"mysql.load_dump":          func() (any, error) { return nil, a.LoadDump(ctx, "mysql", agentapi.LoadDumpParams{Name: "d"}) },
		"postgresql.drop_database": func() (any, error) { return nil, a.DropDatabase(ctx, "postgresql", "d") },
		"mongodb.drop_user": func() (any, error) {
			return nil, a.DropDatabaseUser(ctx, "mongodb", agentapi.DropDatabaseUserParams{Name: "u", Database: "d"})
		},
		"mysql.create_user": func() (any, error) {
			return nil, a.CreateDatabaseUser(ctx, "mysql", agentapi.CreateDatabaseUserParams{Name: "u"})
		},
		"mysql.reset_password": func() (any, error) {
			return nil, a.ResetDatabasePassword(ctx, "mysql", agentapi.ResetPasswordParams{User: "u"})
		},
		"nginx.remove_proxy =<nil> by its own name": func() (any, error) {
			var out any
			return out, a.Call(ctx, "nginx.remove_proxy", agentapi.RemoveProxyParams{}, &out)
		},
	} {
		method, result, hasResult := strings.Cut(strings.TrimSuffix(want, " by its own name"), " =")
		seen.Store("")
		got, err := call()
		if err != nil {
			t.Errorf("%s: %v", method, err)
			continue
		}
		if text := seen.Load().(string); !strings.HasPrefix(text, method+" {") {
			t.Errorf("%s: the agent saw %q", method, text)
		}
		if hasResult && fmt.Sprint(got) != result {
			t.Errorf("%s: got %v, want %s", method, got, result)
		}
	}
}

func TestFailuresOfAnAgentKeepTheirKind(t *testing.T) {
	for _, tc := range []struct {
		err  error
		want core.Kind
	}{
		{agentapi.Errorf(agentapi.KindInvalid, "ValueError", "no"), core.Invalid},
		{agentapi.Errorf(agentapi.KindNotFound, "KeyError", "no"), core.NotFound},
		{agentapi.Errorf(agentapi.KindConflict, "E", "no"), core.Busy},
		{agentapi.Errorf(agentapi.KindConfigTest, "InitdError", "syntax error in /etc/nginx/x"), core.Invalid},
		{agentapi.Errorf(agentapi.KindUnavailable, "E", "mysql is down"), core.Unavailable},
		{agentapi.Errorf(agentapi.KindUnsupported, "E", "no"), core.Unsupported},
		{agentapi.Errorf(agentapi.KindInternal, "E", "no"), core.Internal},
		{fmt.Errorf("nobody classified it"), core.Internal},
	} {
		t.Run(tc.err.Error(), func(t *testing.T) {
			var seen atomic.Value
			a := agentAt(t, startAgent(t, rpcserver.Table{"nginx": {"make_proxy": record(&seen, "", nil, tc.err)}}))
			err := a.MakeProxy(t.Context(), agentapi.ProxyParams{Hostname: "h"})
			if got := core.KindOf(err); got != tc.want {
				t.Errorf("got %v of kind %q, want %q", err, got, tc.want)
			}
			e := err.(*core.Error)
			if strings.Contains(e.Msg, "/etc/") || !strings.Contains(e.Msg, "nginx.make_proxy on rv-1") {
				t.Errorf("got message %q, want method and node without the agent's text", e.Msg)
			}
		})
	}
	t.Run("a method the agent does not have", func(t *testing.T) {
		a := agentAt(t, startAgent(t, hostnameTable()))
		if err := a.Call(t.Context(), "nginx.make_proxy", nil, nil); core.KindOf(err) != core.Unsupported {
			t.Errorf("got %v of kind %q, want unsupported", err, core.KindOf(err))
		}
	})
	for _, k := range []agentapi.Kind{agentapi.KindInternal, agentapi.KindInvalid, agentapi.KindNotFound, agentapi.KindConflict, agentapi.KindConfigTest, agentapi.KindUnavailable, agentapi.KindUnsupported} {
		if _, ok := kinds[k]; !ok {
			t.Errorf("kind %q is not mapped", k)
		}
	}
}

func TestNoAnswerIsUnavailable(t *testing.T) {
	nobody := fmt.Sprintf("127.0.0.1:%d", ports.Free(t))
	unavailable := func(t *testing.T, err error) {
		t.Helper()
		e, ok := err.(*core.Error)
		if !ok || e.Kind != core.Unavailable || !e.Temporary() {
			t.Errorf("got %v, want it unavailable and temporary", err)
		}
		if err != nil && strings.Contains(err.Error(), string(rawKey)) {
			t.Errorf("the error tells the key: %v", err)
		}
	}
	t.Run("when nobody listens", func(t *testing.T) {
		_, err := agentAt(t, nobody).Hostname(t.Context())
		unavailable(t, err)
	})
	t.Run("when the agent has another key", func(t *testing.T) {
		n := nodeAt(startAgent(t, hostnameTable()))
		n.AgentKey = []byte("another key of forty bytes, or so it is.")
		agent, err := newAgents(t, Options{}).Agent(n)
		if err != nil {
			t.Fatal(err)
		}
		_, err = agent.Hostname(t.Context())
		unavailable(t, err)
	})
	t.Run("when the deadline passes", func(t *testing.T) {
		release := make(chan struct{})
		address := startAgent(t, rpcserver.Table{"system": {"get_hostname": {Call: func(context.Context, json.RawMessage) (any, error) { <-release; return "late", nil }}}})
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		defer cancel()
		_, err := agentAt(t, address).Hostname(ctx)
		close(release)
		unavailable(t, err)
	})
	t.Run("when the node has no address yet", func(t *testing.T) {
		_, err := newAgents(t, Options{}).Agent(nodeAt(""))
		unavailable(t, err)
	})
	t.Run("but a key that cannot be used is our own fault", func(t *testing.T) {
		n := nodeAt("127.0.0.1")
		n.AgentKey = []byte("short")
		if _, err := newAgents(t, Options{}).Agent(n); core.KindOf(err) != core.Internal || strings.Contains(err.Error(), "short\"") {
			t.Errorf("got %v", err)
		}
	})
}

// counting counts the connections of a transport.
func counting(dials *atomic.Int64) *http.Transport {
	return &http.Transport{MaxIdleConnsPerHost: 4, DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
		dials.Add(1)
		return (&net.Dialer{}).DialContext(ctx, network, addr)
	}}
}

func TestConnectionsAreReused(t *testing.T) {
	var dials atomic.Int64
	agents := newAgents(t, Options{Transport: counting(&dials)})
	first, second := startAgent(t, hostnameTable()), startAgent(t, hostnameTable())
	ask := func(n core.Node) {
		t.Helper()
		agent, err := agents.Agent(n)
		if err != nil {
			t.Fatal(err)
		}
		if name, err := agent.Hostname(t.Context()); err != nil || name != "web-1" {
			t.Fatalf("got %q, %v", name, err)
		}
	}
	for range 10 {
		ask(nodeAt(first))
	}
	if dials.Load() != 1 {
		t.Errorf("got %d connections for ten calls, want 1", dials.Load())
	}
	ask(nodeAt(second)) // the node moved
	if len(agents.clients) != 1 || dials.Load() != 2 {
		t.Errorf("got %d clients and %d connections, want the old client replaced", len(agents.clients), dials.Load())
	}
	agents.keep(map[core.NodeID]bool{})
	if len(agents.clients) != 0 {
		t.Error("the client of a node that is gone was kept")
	}
}

func TestAddresses(t *testing.T) {
	a := New(Options{})
	got := map[string]string{}
	for _, address := range []string{"192.0.2.1", "2001:db8::1", "web.example.org", "192.0.2.1:8011", "[2001:db8::1]:8011"} {
		got[address] = a.url(address)
	}
	want := map[string]string{
		"192.0.2.1": "http://192.0.2.1:8010", "2001:db8::1": "http://[2001:db8::1]:8010", "web.example.org": "http://web.example.org:8010",
		"192.0.2.1:8011": "http://192.0.2.1:8011", "[2001:db8::1]:8011": "http://[2001:db8::1]:8011",
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

// BenchmarkPing is what the watch spends on one node, the agent's part included.
func BenchmarkPing(b *testing.B) {
	a := newAgents(b, Options{})
	n := nodeAt(startAgent(b, hostnameTable()))
	b.ReportAllocs()
	for b.Loop() {
		agent, err := a.Agent(n)
		if err != nil {
			b.Fatal(err)
		}
		if _, err := agent.Hostname(b.Context()); err != nil {
			b.Fatal(err)
		}
	}
}
