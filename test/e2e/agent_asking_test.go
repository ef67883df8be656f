//go:build e2e

package e2e

import (
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"testing"

	"github.com/reeve-paas/reeve/coordinator/core"
	"github.com/reeve-paas/reeve/crypto/envelope"
	"github.com/reeve-paas/reeve/handlers/nginx/nginxtest"
	"github.com/reeve-paas/reeve/test/hosts"
	"github.com/reeve-paas/reeve/test/queryenv"
)

// bootAsking boots a host whose agent asks this test, as its coordinator, what only that knows. The host is at nginxtest.Location.
func bootAsking(t *testing.T, name string, answer func(command string, params map[string]string) (string, error)) *hosts.Host {
	t.Helper()
	cloud := hosts.NewCloud(t, true)
	l, err := net.Listen("tcp", netip.AddrPortFrom(cloud.Subnet.Addr().Next(), 0).String())
	if err != nil {
		t.Fatal(err)
	}
	config := fmt.Sprintf("coordinator: {queryenv_url: \"http://%s/query-env\", server_id: s-1, cloud_location: %s}\n", l.Addr(), nginxtest.Location)
	h := cloud.Boot(t, hosts.Options{Name: name, Agent: true, Size: "m", Files: []core.BootstrapFile{{Path: agentConfig, Mode: 0o640, Data: []byte(config)}}})
	key, err := envelope.NewKey(h.Key())
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: queryenv.Server{Key: key, Answer: answer}}
	go server.Serve(l)
	t.Cleanup(func() { server.Close() })
	return h
}

// certificateReply is what a question for a certificate is answered with; nothing, when there is none.
func certificateReply(cert, key, chain []byte, err error) (string, error) {
	if err != nil || cert == nil {
		return "", err
	}
	return fmt.Sprintf("<virtualhost><cert>%s</cert><pkey>%s</pkey><ca_cert>%s</ca_cert></virtualhost>", cert, key, chain), nil
}
