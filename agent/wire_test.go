package main

import (
	"os"
	"strings"
	"testing"

	"github.com/reeve-paas/reeve/agent/operation"
	"github.com/reeve-paas/reeve/handlers/host/hosttest"
)

func TestServiceReconfigureDrivesBothWebServers(t *testing.T) {
	h := hosttest.New(t)
	h.WriteText("/etc/nginx/nginx.conf", "events {\n}\nhttp {\n}\n")
	h.WriteText("/etc/apache2/apache2.conf", "Listen 80\nIncludeOptional sites-enabled/*.conf\n")
	for _, dir := range []string{"/srv/a", "/etc/apache2/sites-enabled"} {
		if err := os.MkdirAll(h.Path(dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	h.Runner.Succeed("nginx", "apache2ctl")
	h.Units.SetRunning("nginx.service")
	h.Units.SetRunning("apache2.service")
	ops, err := operation.Open(operation.Options{})
	if err != nil {
		t.Fatal(err)
	}
	table, err := newTable(newHandlers(h.Host, DefaultConfig(), ops, coordinator{}))
	if err != nil {
		t.Fatal(err)
	}
	call := func(params string) error {
		result, err := table["service"]["reconfigure"].Call(t.Context(), []byte(params))
		if result != nil {
			t.Errorf("got %v, want null", result)
		}
		return err
	}
	err = call(`{"async": false, "behavior_params": {
		"www": {"proxies": [{"name": "p.test", "backends": [{"host": "192.0.2.1"}]}]},
		"app": {"vhosts": [{"hostname": "a.test", "port": 80, "ssl": 0, "template": "<VirtualHost *:80>\nServerName a.test\nDocumentRoot /srv/a\n</VirtualHost>"}]}}}`)
	if err != nil {
		t.Fatal(err)
	}
	if got := h.Text("/etc/nginx/app-servers.include"); !strings.Contains(got, "192.0.2.1") {
		t.Errorf("got upstreams %s", got)
	}
	if got := h.Text("/etc/reeve/private.d/vhosts/a.test-80.vhost.conf"); !strings.Contains(got, "a.test") {
		t.Errorf("got virtual host %s", got)
	}
	if err := call(`{"async": false, "behavior_params": {"www": {"proxies": [{"name": "p.test"}]}}}`); err == nil || !strings.Contains(err.Error(), "no destinations") {
		t.Errorf("got %v, want nginx's own error", err)
	}
	if err := call(`{"async": false}`); err == nil || !strings.Contains(err.Error(), "send behavior_params") {
		t.Errorf("got %v", err)
	}
}
