package main

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/reeve-paas/reeve/agent/agentapi"
	"github.com/reeve-paas/reeve/agent/message"
	"github.com/reeve-paas/reeve/agent/queryenv"
	"github.com/reeve-paas/reeve/handlers/web"
)

// coordinator is what this host asks and tells by itself. A part that is nil is not configured.
type coordinator struct {
	queryenv *queryenv.Client
	messages *message.Queue
}

// openCoordinator reads the messages that wait. It sends nothing.
func openCoordinator(c Config, keys queryenv.Keys, log *slog.Logger) (far coordinator, err error) {
	cc := c.Coordinator
	if cc.QueryEnvURL == "" && cc.ProducerURL == "" {
		return far, nil
	}
	client, err := cc.client()
	if err != nil {
		return far, err
	}
	if cc.QueryEnvURL != "" {
		far.queryenv = queryenv.New(queryenv.Options{URL: cc.QueryEnvURL, ServerID: cc.ServerID, FarmRoleID: cc.FarmRoleID, Keys: keys, HTTP: client})
	}
	if cc.ProducerURL != "" {
		far.messages, err = message.Open(message.Options{Dir: filepath.Join(c.StateDir, "messages"), URL: cc.ProducerURL, ServerID: cc.ServerID,
			Version: version, XML: cc.Messages == "xml", Keys: keys, HTTP: client, Log: log.With("part", "message")})
	}
	return far, err
}

// client trusts the configured authority only, if there is one.
func (c CoordinatorConfig) client() (*http.Client, error) {
	config := &tls.Config{MinVersion: tls.VersionTLS12}
	if c.CAFile != "" {
		pem, err := os.ReadFile(c.CAFile)
		if err != nil {
			return nil, fmt.Errorf("coordinator.ca_file: %w", err)
		}
		config.RootCAs = x509.NewCertPool()
		if !config.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("coordinator.ca_file: %s holds no certificate in PEM", c.CAFile)
		}
	}
	client := newClient(config)
	client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse } // a signature is for one place
	client.Transport.(*http.Transport).IdleConnTimeout = 30 * time.Second
	return client, nil
}

// onEnd reports the end of operations, under the operation's own id: a report that is repeated is the same message.
func (far coordinator) onEnd() func(context.Context, agentapi.Operation) error {
	if far.messages == nil {
		return nil
	}
	return func(ctx context.Context, o agentapi.Operation) error {
		return far.messages.SendID(ctx, o.ID, "control", "OperationResult", o)
	}
}

// usualPort is where a coordinator expects agents.
const usualPort = 8010

// moved tells the coordinator where calls are answered, at a start on another port than it takes for granted.
//
// Source: spec agent-core 1.1, HostUpdate
func (far coordinator) moved(ctx context.Context, addrs []net.Addr) error {
	if far.messages == nil {
		return nil
	}
	port := 0
	for _, addr := range addrs {
		tcp, ok := addr.(*net.TCPAddr)
		if !ok || tcp.Port == usualPort {
			return nil
		}
		port = cmp.Or(port, tcp.Port)
	}
	if port == 0 {
		return nil
	}
	return far.messages.Send(ctx, "control", "HostUpdate", map[string]map[string]int{"base": {"api_port": port}})
}

// roles finds the servers of a role for nginx.
type roles struct{ *queryenv.Client }

// Servers implements web.Roles.
func (r roles) Servers(ctx context.Context, roleID string) ([]web.RoleServer, error) {
	hosts, err := r.RoleHosts(ctx, roleID)
	list := make([]web.RoleServer, len(hosts))
	for i, h := range hosts {
		list[i] = web.RoleServer{InternalIP: h.InternalIP, ExternalIP: h.ExternalIP, CloudLocation: h.CloudLocation}
	}
	return list, err
}

// sites finds the virtual hosts of this host for Apache. The list names no port: it goes with TLS (spec agent-web 4.1).
type sites struct{ *queryenv.Client }

// VHosts implements apache.Sites. A list without elements is empty, not nil.
func (s sites) VHosts(ctx context.Context) ([]agentapi.VHost, error) {
	found, err := s.VirtualHosts(ctx)
	list := []agentapi.VHost{}
	for _, v := range found {
		if !strings.EqualFold(cmp.Or(v.Type, "apache"), "apache") {
			continue
		}
		port := agentapi.Text("80")
		if v.HTTPS {
			port = "443"
		}
		list = append(list, agentapi.VHost{Hostname: v.Hostname, Port: port, Template: v.Raw, SSL: agentapi.Bool(v.HTTPS)})
	}
	return list, err
}
