package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"time"

	"github.com/reeve-paas/reeve/agent/rpcserver"
)

// metricsServer answers GET /metrics, to the networks that may call the agent. A web config file adds TLS and basic auth to it.
type metricsServer struct {
	addr      string
	allowFrom []netip.Prefix // source networks; empty means everyone
	webConfig string         // path; "" means plain HTTP for everybody
	web       *webConfig
	handler   http.Handler
	log       *slog.Logger
	listener  net.Listener
}

// Limits of the metrics listener. A scrape takes milliseconds and its readers are few.
const (
	maxScrapers   = 32               // connections at a time
	scrapeTimeout = 10 * time.Second // for the request's header, and again for its body
	answerTimeout = 30 * time.Second // from the end of the header to the end of the answer
)

// listen binds the address, so that a taken port or a wrong web config ends the start.
func (m *metricsServer) listen(ctx context.Context) error {
	var err error
	if m.web, err = newWebConfig(m.webConfig); err != nil {
		return fmt.Errorf("metrics web config: %w", err)
	}
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", m.addr)
	if err != nil {
		return fmt.Errorf("metrics listener: %w", err)
	}
	m.listener = rpcserver.Limit(l, m.allowFrom, maxScrapers, func(why string, peer net.Addr) {
		m.log.Debug("metrics connection refused", "reason", why, "remote", peer.String())
	})
	return nil
}

// Close unbinds the address. It may be called after Run.
func (m *metricsServer) Close() error { return m.listener.Close() }

// address is where it listens, "" when metrics are off.
func (m *metricsServer) address() string {
	if m == nil {
		return ""
	}
	return m.listener.Addr().String()
}

// Run serves until ctx ends.
func (m *metricsServer) Run(ctx context.Context) error {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", m.handler)
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintln(w, `<!doctype html><title>reeve-agent</title><a href="/metrics">Metrics</a>`)
	})
	server := &http.Server{
		Handler:           m.web.wrap(mux),
		ReadHeaderTimeout: scrapeTimeout,
		ReadTimeout:       2 * scrapeTimeout,
		WriteTimeout:      answerTimeout,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    16 << 10,
		ErrorLog:          slog.NewLogLogger(m.log.Handler(), slog.LevelDebug),
	}
	stopped := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(stopped)
		patience, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		if server.Shutdown(patience) != nil {
			server.Close()
		}
	})
	err := m.serve(server)
	if !stop() {
		<-stopped // Serve returns when the shutdown begins
	}
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return fmt.Errorf("metrics server: %w", err)
}

func (m *metricsServer) serve(server *http.Server) error {
	var err error
	if server.TLSConfig, err = m.web.tlsConfig(); err != nil {
		return err
	}
	if server.TLSConfig == nil {
		return server.Serve(m.listener)
	}
	return server.ServeTLS(m.listener, "", "")
}
