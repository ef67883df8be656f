package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/reeve-paas/reeve/agent/metrics"
	"github.com/reeve-paas/reeve/agent/operation"
	"github.com/reeve-paas/reeve/agent/rpcserver"
	"github.com/reeve-paas/reeve/handlers"
	"github.com/reeve-paas/reeve/handlers/host"
	"github.com/reeve-paas/reeve/systemd"
)

// component runs until ctx ends and leaves no goroutine behind.
type component interface {
	Run(ctx context.Context) error
}

// agent is the whole program, as production and tests run it.
type agent struct {
	config   Config
	log      *slog.Logger
	units    *host.SystemdUnits
	handlers []handlers.Handler
	ops      *operation.Registry
	far      coordinator
	rpc      *rpcserver.Server
	metrics  *metricsServer // nil when metrics are off
}

// newAgent puts everything together and makes sure that there is a key. Nothing listens yet.
func newAgent(c Config, log *slog.Logger) (*agent, error) {
	a := &agent{config: c, log: log, units: host.SystemUnits()}
	keys := newKeys(c.KeyFile)
	if _, err := keys.Get(); err != nil {
		return nil, err
	}
	log.Debug("key found", "path", keys.Path())
	var err error
	a.far, err = openCoordinator(c, keys, log)
	if err != nil {
		return nil, err
	}
	a.ops, err = operation.Open(operation.Options{Dir: filepath.Join(c.StateDir, "operations"), Log: log.With("part", "operation"), OnEnd: a.far.onEnd()})
	if err != nil {
		return nil, err
	}
	h := host.New(host.Options{Units: a.units, Log: log})
	a.handlers = newHandlers(h, c, a.ops, a.far)
	set := metrics.New(log.With("part", "metrics"), newCollectors(h, c, a.ops, a.units, a.handlers, a.far)...)
	if c.MetricsListen != "" {
		a.metrics = &metricsServer{addr: c.MetricsListen, webConfig: c.MetricsWebConfig, handler: set.Handler(), log: log.With("part", "metrics")}
		if a.metrics.allowFrom, err = c.allowFrom(); err != nil {
			return nil, err
		}
	}
	options, err := a.rpcOptions(keys)
	if err != nil {
		return nil, err
	}
	options.Metrics = set.Registry()
	a.rpc, err = rpcserver.New(options)
	return a, err
}

func (a *agent) rpcOptions(keys rpcserver.Keys) (o rpcserver.Options, err error) {
	c := a.config
	o = rpcserver.Options{
		Keys: keys, Listen: c.Listen, TLSListen: c.ListenTLS, StateDir: c.StateDir, MaxClockSkew: c.MaxClockSkew,
		MaxBody: c.MaxBodyBytes, MaxConnections: c.MaxConnections, Log: a.log.With("part", "rpc"),
	}
	if c.MaxClockSkew == 0 {
		o.MaxClockSkew = -1 // the server's word for no comparison
	}
	if o.AllowFrom, err = c.allowFrom(); err != nil {
		return o, err
	}
	if o.Table, err = newTable(a.handlers); err != nil {
		return o, err
	}
	if len(c.ListenTLS) > 0 {
		o.TLS, err = c.TLS.load()
	}
	return o, err
}

// load reads the certificate now, so that a wrong one is found at the start.
func (c TLSConfig) load() (*tls.Config, error) {
	cert, err := tls.LoadX509KeyPair(c.CertFile, c.KeyFile)
	if err != nil {
		return nil, fmt.Errorf("tls: %w", err)
	}
	config := &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS12}
	if c.ClientCAFile == "" {
		return config, nil
	}
	pem, err := os.ReadFile(c.ClientCAFile)
	if err != nil {
		return nil, fmt.Errorf("tls: %w", err)
	}
	config.ClientCAs, config.ClientAuth = x509.NewCertPool(), tls.RequireAndVerifyClientCert
	if !config.ClientCAs.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("tls: %s holds no certificate in PEM", c.ClientCAFile)
	}
	return config, nil
}

// Run lets handlers finish or undo what a killed agent left, then serves until ctx ends or a part fails. Running calls and
// operations are given time to finish.
func (a *agent) Run(ctx context.Context) error {
	defer a.units.Close()
	a.startHandlers(ctx)
	if a.metrics != nil {
		if err := a.metrics.listen(ctx); err != nil {
			return errors.Join(err, a.rpc.Close())
		}
		defer a.metrics.Close()
	}
	parts := []component{a.rpc, a.ops}
	if a.metrics != nil {
		parts = append(parts, a.metrics)
	}
	if a.far.messages != nil {
		parts = append(parts, a.far.messages)
	}
	for _, h := range a.handlers {
		if c, ok := h.(component); ok {
			parts = append(parts, c)
		}
	}
	return runAll(ctx, append(parts, componentFunc(a.announce))...)
}

// startHandlers starts those that ask for it. One that cannot start serves all the same: its calls say what is wrong.
func (a *agent) startHandlers(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute) // systemd gives a start 90 s
	defer cancel()
	for _, h := range a.handlers {
		s, ok := h.(handlers.Starter)
		if !ok {
			continue
		}
		if err := s.Start(ctx); err != nil {
			a.log.Warn("handler did not start cleanly", "handler", h.Namespaces()[0], "err", err)
		}
	}
}

// announce tells systemd and the log once everything listens.
func (a *agent) announce(ctx context.Context) error {
	select {
	case <-a.rpc.Ready():
	case <-ctx.Done():
		return nil
	}
	stop, err := systemd.NotifyReady()
	if err != nil {
		a.log.Warn("systemd was not told that the agent is ready", "err", err)
	}
	defer stop()
	if err := shrink(); err != nil {
		a.log.Debug("memory of the start was not given back", "err", err)
	}
	if err := a.far.moved(ctx, a.rpc.Addrs()); err != nil {
		a.log.Warn("the coordinator is not told of another port", "err", err)
	}
	a.log.Info("agent is ready", "version", version, "rpc", addresses(a.rpc.Addrs()), "metrics", a.metrics.address())
	<-ctx.Done()
	a.log.Info("agent stops")
	return nil
}

func addresses(addrs []net.Addr) []string {
	texts := make([]string, len(addrs))
	for i, addr := range addrs {
		texts[i] = addr.String()
	}
	return texts
}

type componentFunc func(context.Context) error

func (f componentFunc) Run(ctx context.Context) error { return f(ctx) }

// runAll runs components until ctx ends; the first to return ends the rest. All of them have returned when it does.
func runAll(ctx context.Context, parts ...component) error {
	runCtx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var wg sync.WaitGroup
	for _, part := range parts {
		wg.Go(func() { cancel(part.Run(runCtx)) })
	}
	wg.Wait()
	if ctx.Err() != nil {
		return nil // asked to stop
	}
	return context.Cause(runCtx)
}
