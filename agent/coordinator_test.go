package main

import (
	"context"
	"encoding/json"
	"fmt"
	"html"
	"log/slog"
	"net"
	"net/http/httptest"
	"os"
	"strings"
	"testing"

	"github.com/reeve-paas/reeve/agent/agentapi"
	"github.com/reeve-paas/reeve/agent/operation"
	"github.com/reeve-paas/reeve/agent/rpcserver"
	"github.com/reeve-paas/reeve/crypto/envelope"
	"github.com/reeve-paas/reeve/crypto/keyring"
	"github.com/reeve-paas/reeve/handlers/host/hosttest"
	"github.com/reeve-paas/reeve/handlers/web/webtest"
	"github.com/reeve-paas/reeve/test/oldcoordinator"
)

// connected is an agent's handlers with a coordinator, on a host that is made up.
type connected struct {
	host  *hosttest.Host
	far   *oldcoordinator.Coordinator
	table rpcserver.Table

	connection coordinator
}

func newConnected(t *testing.T) *connected {
	t.Helper()
	text := envelope.NewKeyText()
	key, err := envelope.ParseKey(text)
	if err != nil {
		t.Fatal(err)
	}
	far := oldcoordinator.New(key)
	server := httptest.NewServer(far)
	t.Cleanup(server.Close)
	c := DefaultConfig()
	c.StateDir = t.TempDir()
	c.KeyFile = c.StateDir + "/key"
	if err := keyring.WriteFile(c.KeyFile, text, false); err != nil {
		t.Fatal(err)
	}
	c.Coordinator = CoordinatorConfig{QueryEnvURL: server.URL + "/query-env", ProducerURL: server.URL + "/messaging", ServerID: "s-1"}
	if err := c.Validate(); err != nil {
		t.Fatal(err)
	}
	connection, err := openCoordinator(c, newKeys(c.KeyFile), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	ops, err := operation.Open(operation.Options{Dir: c.StateDir + "/operations", OnEnd: connection.onEnd()})
	if err != nil {
		t.Fatal(err)
	}
	h := hosttest.New(t)
	table, err := newTable(newHandlers(h.Host, c, ops, connection))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { runAll(ctx, ops, connection.messages); close(done) }()
	t.Cleanup(func() { cancel(); <-done })
	return &connected{h, far, table, connection}
}

func (c *connected) call(t *testing.T, namespace, method, params string) (any, error) {
	t.Helper()
	return c.table[namespace][method].Call(t.Context(), []byte(params))
}

// web makes the host one with both web servers.
func (c *connected) web(t *testing.T) {
	t.Helper()
	c.host.WriteText("/etc/nginx/nginx.conf", "events {\n}\nhttp {\n}\n")
	c.host.WriteText("/etc/apache2/apache2.conf", "Listen 80\nIncludeOptional sites-enabled/*.conf\n")
	for _, dir := range []string{"/srv/a", "/etc/apache2/sites-enabled"} {
		if err := os.MkdirAll(c.host.Path(dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	c.host.Runner.Succeed("nginx", "apache2ctl")
	c.host.Units.SetRunning("nginx.service")
	c.host.Units.SetRunning("apache2.service")
}

// Conformance 43: OperationResult reaches the coordinator for each operation, synchronous ones too.
func TestConformance43_OperationResultReachesTheCoordinator(t *testing.T) {
	c := newConnected(t)
	c.web(t)
	if _, err := c.call(t, "service", "reconfigure", `{"async": false, "behavior_params": {"www": {"proxies": []}}}`); err != nil {
		t.Fatal(err)
	}
	id, err := c.call(t, "apache", "reconfigure", `{"vhosts": [{"hostname": "", "port": 80, "ssl": 0, "template": "x"}]}`)
	if err != nil {
		t.Fatal(err)
	}
	results := map[string]agentapi.Operation{}
	for _, m := range c.far.Await(t, 3) {
		var o agentapi.Operation
		if err := json.Unmarshal(m.Body, &o); err != nil || m.Name != "OperationResult" || m.Queue != "control" || o.ID == "" {
			t.Fatalf("got %s in %s: %s", m.Name, m.Queue, m.Body)
		}
		results[o.Name] = o
	}
	for _, name := range []string{"api.service.reconfigure", "api.nginx.reconfigure"} {
		if got := results[name].Status; got != agentapi.OperationCompleted {
			t.Errorf("%s: got %q, want completed", name, got)
		}
	}
	if failed := results["api.apache.reconfigure"]; failed.ID != id || failed.Status != agentapi.OperationFailed || failed.Error == nil {
		t.Errorf("got %+v, want operation %v failed", failed, id)
	}
}

// Conformance 57: the definitions are the coordinator's.
func TestConformance57_DefinitionsComeFromTheCoordinator(t *testing.T) {
	c := newConnected(t)
	c.host.WriteText("/srv/depth", "5.5\nx")
	c.far.Reply("get-scaling-metrics", `<metrics><metric id="101" name="queue.depth"><path>/srv/depth</path><retrieve-method>read</retrieve-method></metric>
		<metric id="102" name="gone"><path>/srv/none</path><retrieve-method>read</retrieve-method></metric></metrics>`)
	result, err := c.call(t, "system", "scaling_metrics", `{}`)
	if err != nil {
		t.Fatal(err)
	}
	got, _ := json.Marshal(result)
	want := `[{"id":"101","name":"queue.depth","value":5.5,"error":""},{"id":"102","name":"gone","value":0.0,"error":"File is not readable: '/srv/none'"}]`
	if string(got) != want {
		t.Errorf("got %s, want %s", got, want)
	}
	c.far.Reply("get-scaling-metrics", `<metrics><metric id="1" name="x"><path>/x</path><retrieve-method>guess</retrieve-method></metric></metrics>`)
	if _, err := c.call(t, "system", "scaling_metrics", `{}`); err == nil || !strings.HasPrefix(err.Error(), "QueryEnvError: ") {
		t.Errorf("got %v, want a QueryEnvError", err)
	}
}

// Conformance 58: ExecScriptResult is sent.
func TestConformance58_ExecScriptResultReachesTheCoordinator(t *testing.T) {
	c := newConnected(t)
	if _, err := c.call(t, "system", "execute_scripts", `{"event_name": "Test", "scripts": [{"name": "hello", "body": "#!/bin/sh\necho hi", "timeout": 10, "execution_id": "e-1"}]}`); err != nil {
		t.Fatal(err)
	}
	for _, m := range c.far.Await(t, 2) {
		if m.Name != "ExecScriptResult" {
			continue
		}
		var r agentapi.ExecScriptResult
		if err := json.Unmarshal(m.Body, &r); err != nil || m.Queue != "log" || r.ScriptName != "hello" || r.ExecutionID != "e-1" || r.EventName != "Test" {
			t.Errorf("got %s in %s, %v", m.Body, m.Queue, err)
		}
		return
	}
	t.Error("no ExecScriptResult arrived")
}

// twice escapes as a coordinator does whose reader decodes entities once before it parses.
func twice(s string) string { return html.EscapeString(html.EscapeString(s)) }

// Items 13 (certificates) and 34 (vhosts: null) of agent-web's checklist.
func TestApacheAsksForSites(t *testing.T) {
	c := newConnected(t)
	c.web(t)
	c.far.Reply("list-virtualhosts", `<vhosts><vhost hostname="a.test" type="apache" https="0"><raw>`+
		twice("<VirtualHost *:80>\nServerName a.test\nDocumentRoot /srv/a\n</VirtualHost>\n")+`</raw></vhost></vhosts>`)
	if _, err := c.call(t, "apache", "reconfigure", `{"vhosts": null, "async": false}`); err != nil {
		t.Fatal(err)
	}
	const file = "/etc/reeve/private.d/vhosts/a.test-80.vhost.conf"
	if got := c.host.Text(file); !strings.Contains(got, "ServerName a.test") {
		t.Errorf("got %s", got)
	}
	c.far.Reply("list-virtualhosts", "")
	if _, err := c.call(t, "apache", "reconfigure", `{"vhosts": null, "async": false}`); err == nil || !strings.Contains(err.Error(), "QueryEnv failed: unknown operation") {
		t.Errorf("got %v, want the coordinator's refusal", err)
	}
	if c.host.Text(file) == "" {
		t.Error("a failed question took the site down")
	}
	c.far.Reply("list-virtualhosts", "<vhosts/>")
	if _, err := c.call(t, "apache", "reconfigure", `{"async": false}`); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(c.host.Path(file)); !os.IsNotExist(err) {
		t.Errorf("got %v, want the site gone", err)
	}
}

func TestNginxAsksForRolesAndCertificates(t *testing.T) {
	c := newConnected(t)
	c.web(t)
	c.far.Reply("list-roles", `<roles><role id="5" name="app" behaviour="app"><hosts><host index="1" internal-ip="10.0.0.5" external-ip="192.0.2.5" status="Running" cloud-location=""/></hosts></role></roles>`)
	cert, key, _ := webtest.Certificate(t, "p.test", false)
	c.far.Reply("get-https-certificate", fmt.Sprintf("<virtualhost><cert>%s</cert><pkey>%s</pkey><ca_cert/></virtualhost>", cert, key))
	if _, err := c.call(t, "nginx", "make_proxy", `{"hostname": "p.test", "backends": [{"farm_role_id": 5}], "ssl": true, "ssl_certificate_id": 77}`); err != nil {
		t.Fatal(err)
	}
	if got := c.host.Text("/etc/nginx/app-servers.include"); !strings.Contains(got, "10.0.0.5") {
		t.Errorf("got upstreams %s", got)
	}
	if got := c.host.Text("/etc/reeve/private.d/keys/https_77.key"); strings.TrimSpace(got) != strings.TrimSpace(string(key)) {
		t.Error("the key of the certificate is not the coordinator's")
	}
	if info, err := os.Stat(c.host.Path("/etc/reeve/private.d/keys/https_77.key")); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("got %v, %v, want mode 0600", info, err)
	}
}

func TestParametersOfTheRoleComeFromTheCoordinator(t *testing.T) {
	c := newConnected(t)
	c.web(t)
	c.far.Reply("list-farm-role-params", `<www><proxies><item><name>p.test</name><backends><item><host>192.0.2.1</host></item></backends></item></proxies></www>`)
	if _, err := c.call(t, "service", "reconfigure", `{"async": false}`); err != nil {
		t.Fatal(err)
	}
	if got := c.host.Text("/etc/nginx/app-servers.include"); !strings.Contains(got, "192.0.2.1") {
		t.Errorf("got upstreams %s", got)
	}
}

func TestWithoutACoordinatorNothingIsStored(t *testing.T) {
	c := DefaultConfig()
	c.StateDir = t.TempDir()
	far, err := openCoordinator(c, newKeys(""), slog.New(slog.DiscardHandler))
	if err != nil || far.queryenv != nil || far.messages != nil || far.onEnd() != nil {
		t.Errorf("got %+v, %v", far, err)
	}
	if entries, _ := os.ReadDir(c.StateDir); len(entries) != 0 {
		t.Errorf("got %v", entries)
	}
}

// An agent that answers at another port says so; one that has the usual one, beside others, says nothing.
func TestHostUpdate(t *testing.T) {
	c := newConnected(t)
	at := func(ports ...int) (list []net.Addr) {
		for _, p := range ports {
			list = append(list, &net.TCPAddr{IP: net.IPv6zero, Port: p})
		}
		return list
	}
	for _, addrs := range [][]net.Addr{at(8010), at(8011, 8010), nil, at(8009, 8011)} {
		if err := c.connection.moved(t.Context(), addrs); err != nil {
			t.Fatal(err)
		}
	}
	got := c.far.Await(t, 1)
	if len(got) != 1 || got[0].Queue != "control" || got[0].Name != "HostUpdate" || string(got[0].Body) != `{"base":{"api_port":8009}}` {
		t.Errorf("got %s", got)
	}
	if n := c.connection.messages.Len(); n > 1 {
		t.Errorf("got %d more messages", n)
	}
}
