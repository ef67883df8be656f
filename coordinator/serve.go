package main

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"github.com/google/renameio/v2"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/spf13/cobra"
	"golang.org/x/crypto/bcrypt"
	"golang.org/x/crypto/ssh"

	"github.com/reeve-paas/reeve/coordinator/agents"
	"github.com/reeve-paas/reeve/coordinator/api"
	"github.com/reeve-paas/reeve/coordinator/api/agent"
	"github.com/reeve-paas/reeve/coordinator/api/enroll"
	"github.com/reeve-paas/reeve/coordinator/api/gandi"
	"github.com/reeve-paas/reeve/coordinator/api/orchestrator"
	"github.com/reeve-paas/reeve/coordinator/api/tsuru"
	"github.com/reeve-paas/reeve/coordinator/auth"
	"github.com/reeve-paas/reeve/coordinator/broker"
	"github.com/reeve-paas/reeve/coordinator/cloud"
	"github.com/reeve-paas/reeve/coordinator/core"
	"github.com/reeve-paas/reeve/coordinator/mail"
	"github.com/reeve-paas/reeve/coordinator/operation"
	"github.com/reeve-paas/reeve/coordinator/release"
	"github.com/reeve-paas/reeve/coordinator/release/gitssh"
	"github.com/reeve-paas/reeve/coordinator/store/sqlite"
	"github.com/reeve-paas/reeve/crypto/authority"
	"github.com/reeve-paas/reeve/crypto/keyring"
	"github.com/reeve-paas/reeve/handlers/deploy/platform"
	"github.com/reeve-paas/reeve/systemd"
)

func (a *app) serveCommand() *cobra.Command {
	return &cobra.Command{
		Use: "serve", Short: "run the coordinator", Args: cobra.NoArgs,
		Long: `Run the coordinator until SIGTERM or SIGINT.

The first start makes the certificate authority, the database and an administrator,
and writes the administrator's credentials to admin.json in the data directory.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := a.config()
			if err != nil {
				return err
			}
			c, err := newCoordinator(cmd.Context(), cfg, a.logger(cfg))
			if err != nil {
				return err
			}
			return errors.Join(c.Run(cmd.Context()), c.Close())
		},
	}
}

// base is what every command that touches the data needs.
type base struct {
	cfg    Config
	log    *slog.Logger
	sealer *keyring.Sealer
	store  *sqlite.Store
	agents *agents.Agents
	auth   *auth.Auth
}

// openBase opens the data directory. beside is for a short command that may run next to a coordinator.
func openBase(ctx context.Context, cfg Config, log *slog.Logger, beside bool) (*base, error) {
	b := &base{cfg: cfg, log: log}
	if !beside {
		if err := os.MkdirAll(cfg.DataDir, 0o700); err != nil {
			return nil, err
		}
	} else if _, err := os.Stat(filepath.Join(cfg.DataDir, "reeve.db")); errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("no coordinator has run with the data directory %s yet; start one with: reeve-coordinator serve --data-dir %s", cfg.DataDir, cfg.DataDir)
	}
	var err error
	if b.sealer, err = keyring.OpenSealer(filepath.Join(cfg.DataDir, "master.key")); err != nil {
		return nil, err
	}
	b.store, err = sqlite.Open(ctx, sqlite.Options{Path: filepath.Join(cfg.DataDir, "reeve.db"), Sealer: b.sealer, Log: log, Beside: beside})
	if err != nil {
		return nil, err
	}
	b.agents = agents.New(agents.Options{Log: log})
	if b.auth, err = auth.New(auth.Options{Store: b.store}); err != nil {
		return nil, errors.Join(err, b.store.Close())
	}
	return b, nil
}

func (b *base) Close() error { return b.store.Close() }

// coordinator is the whole program, wired as production runs it.
type coordinator struct {
	*base
	core        *core.Core
	engine      *operation.Engine
	ca          *authority.Authority // nil without a TLS listener
	routesCA    *authority.Authority
	files       *release.Files
	broker      *broker.Broker
	git         *gitssh.Server // nil when it is turned off
	server      *api.Server
	director    *directorServer // nil: it does not listen
	closeClouds func() error
	whereabouts whereabouts
}

func newCoordinator(ctx context.Context, cfg Config, log *slog.Logger) (_ *coordinator, err error) {
	b, err := openBase(ctx, cfg, log, false)
	if err != nil {
		return nil, err
	}
	c := &coordinator{base: b, closeClouds: func() error { return nil }}
	defer func() {
		if err != nil {
			err = errors.Join(err, c.Close())
		}
	}()
	var clouds *cloud.Set
	if clouds, c.closeClouds, err = openClouds(ctx, cfg, log); err != nil {
		return nil, err
	}
	c.whereabouts = whereabouts{configured: cfg.AgentURL, gateways: gateways(clouds), log: log, ca: func() []byte {
		if c.ca == nil {
			return nil
		}
		return c.ca.Certificate()
	}, listener: func() (scheme, addr string) {
		if cfg.Listen == "" {
			return "http", c.server.PlainAddr().String()
		}
		return "https", c.server.TLSAddr().String()
	}}
	secret, err := sealedSecret(filepath.Join(cfg.DataDir, "ownership.key"), b.sealer)
	if err != nil {
		return nil, err
	}
	if err := c.openFiles(); err != nil {
		return nil, err
	}
	if c.routesCA, err = authority.Open(cfg.DataDir, authority.Routes, b.sealer, nil); err != nil {
		return nil, err
	}
	c.broker = broker.New(broker.Options{})
	c.core = core.New(core.Options{
		Broker: c.broker, AppDomain: cfg.AppDomain, PlatformNames: platform.Names(), PlatformNeeds: platformNeeds(), RouteAuthority: c.routesCA,
		Files: c.files, PoolNodes: cfg.PoolNodes, PoolSize: cfg.PoolSize,
		Store: b.store, Clouds: clouds, Agents: b.agents, Log: log,
		Prover:   &auth.Prover{Resolver: cfg.Resolver, Log: log},
		AppCloud: cfg.AppCloud, HostedZones: cfg.HostedZones, OwnershipSecret: secret, MaxApps: cfg.MaxApps, MaxSnapshots: cfg.MaxSnapshots, Profiles: snapshotProfiles(cfg), SSHKeys: cfg.SSHKeys,
		AgentConfig: c.whereabouts.files, HashPassword: hashLogin, AdminTeam: cfg.AdminTeam, MaxUnits: cfg.MaxUnits, ServiceZone: cfg.ServiceZone, Uptime: uptime,
		ScalingMetrics: cfg.metrics(),
	})
	registry := prometheus.NewRegistry()
	registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	operations := prometheus.NewCounterVec(prometheus.CounterOpts{Name: "reeve_operations_total",
		Help: "Operations that ended, by kind and final status."}, []string{"kind", "status"})
	registry.MustRegister(operations)
	c.engine, err = operation.New(operation.Options{Driver: b.store.Driver(), Store: b.store, Definitions: c.core.Definitions(), Log: log, Public: core.PublicError,
		Boundary: failpoint(), OnEnd: func(r operation.Record) { operations.WithLabelValues(r.Kind, string(r.Status)).Inc() }})
	if err != nil {
		return nil, err
	}
	if err := c.core.ForgetPools(ctx); err != nil {
		return nil, err
	}
	if err := b.firstStart(ctx); err != nil {
		return nil, err
	}
	if err := c.core.EnsureAdminTeam(ctx); err != nil {
		return nil, err
	}
	return c, c.listen(registry)
}

// platformNeeds are what the agents' platforms ask of their nodes.
func platformNeeds() map[string]core.PlatformNeeds {
	needs := map[string]core.PlatformNeeds{}
	for _, name := range platform.Names() {
		if p, _ := platform.Get(name); len(p.Packages) > 0 || p.MemoryMB > 0 {
			needs[name] = core.PlatformNeeds{Image: len(p.Packages) > 0, MemoryMB: p.MemoryMB}
		}
	}
	return needs
}

// hashLogin makes the crypt(3) form of a password for a login on a node. Of a longer password crypt(3), too, looks at the
// first 72 bytes only.
func hashLogin(password string) (string, error) {
	first := []byte(password)
	hash, err := bcrypt.GenerateFromPassword(first[:min(len(first), 72)], bcrypt.DefaultCost)
	return string(hash), err
}

// openFiles opens the store of releases, and the authority that hosts check us by when they fetch them.
func (c *coordinator) openFiles() (err error) {
	o := release.Options{Dir: filepath.Join(c.cfg.DataDir, "releases"), BaseURL: c.whereabouts.reachable}
	if c.cfg.Listen != "" {
		if c.ca, err = authority.Open(c.cfg.DataDir, authority.Listeners, c.sealer, nil); err != nil {
			return err
		}
		o.CACert = c.ca.Certificate()
	}
	if o.Secret, err = sealedSecret(filepath.Join(c.cfg.DataDir, "blob.key"), c.sealer); err != nil {
		return err
	}
	c.files, err = release.Open(o)
	return err
}

func (c *coordinator) listen(registry *prometheus.Registry) error {
	graphs := gandi.NewGraphs(gandi.GraphOptions{Core: c.core, PublicURL: c.cfg.PublicURL, Log: c.log})
	gandiDialect := gandi.New(gandi.Options{Core: c.core, Auth: c.auth, Log: c.log, GraphURL: graphs.URL,
		GitHost: c.cfg.GitHost, FTPHost: c.cfg.FTPHost, ConsoleHost: c.cfg.ConsoleHost, RouterHost: c.cfg.RouterHost})
	orchestratorDialect := orchestrator.New(orchestrator.Options{Core: c.core, Auth: c.auth, Log: c.log})
	if err := c.openGit(); err != nil {
		return err
	}
	mailer, err := newMailer(c.cfg)
	if err != nil {
		return err
	}
	tsuruDialect := tsuru.New(tsuru.Options{Core: c.core, Auth: c.auth, Mail: mailer, Git: c.repositories(), Proxy: c.broker, Log: c.log, PublicURL: c.cfg.PublicURL, GitHost: c.cfg.GitHost,
		TokenTTL: c.cfg.TokenTTL, NoRegistration: c.cfg.NoRegistration, JSONStreams: c.cfg.JSONStreams})
	enrollment := enroll.Options{Core: c.core, Log: c.log, RoutesCA: c.routesCA.Certificate(), Package: func(family string) (string, error) { return agentPackageFor(c.cfg, family) }}
	if c.cfg.Listen != "" {
		enrollment.CA = c.ca.Certificate()
		enrollment.QueryEnv, enrollment.Messages = agent.QueryEnvPath, agent.MessagesPath
	}
	handler, err := api.NewHandler(api.HandlerOptions{Log: c.log, Registry: registry},
		api.Mount{Name: "gandi", Prefixes: []string{"/xmlrpc", "/RPC2"}, Dialect: gandiDialect, Fail: gandi.Fail, MaxBody: -1}, // it limits bodies itself
		api.Mount{Name: "graph", Prefixes: []string{"/graph"}, Dialect: graphs},
		api.Mount{Name: "blob", Prefixes: []string{strings.TrimSuffix(release.Prefix, "/")}, Dialect: c.files, MaxBody: -1, Quiet: true}, // it limits bodies itself
		orchestratorDialect.Mount(),
		tsuruDialect.Mount(),
		enroll.New(enrollment).Mount(),
		agent.New(agent.Options{Core: c.core, Log: c.log}).Mount(),
		api.Mount{Name: "own", Prefixes: []string{"/metrics", "/healthz"}, Uncapped: true, Quiet: true, Dialect: own{registry, c.store}},
	)
	if err != nil {
		return err
	}
	o := api.ServerOptions{Handler: handler, Log: c.log, TLSAddr: c.cfg.Listen, PlainAddr: c.cfg.ListenPlain, AllowPlain: c.cfg.AllowPlain}
	if c.cfg.Listen != "" {
		if o.TLS, err = c.ca.ServerConfig(append(c.cfg.ServerNames, ownNames()...)...); err != nil {
			return err
		}
	}
	if c.server, err = api.NewServer(o); err != nil {
		return err
	}
	if c.director, err = c.newDirector(registry); err != nil {
		return err
	}
	return c.server.Listen()
}

// openGit prepares the git server. Of several coordinators on one machine, as in tests, only the first gets the usual port;
// the others go on without it.
func (c *coordinator) openGit() error {
	if c.cfg.ListenGit == "" {
		return nil
	}
	seed, err := sealedSecret(filepath.Join(c.cfg.DataDir, "git.key"), c.sealer)
	if err != nil {
		return err
	}
	key, err := ssh.NewSignerFromKey(ed25519.NewKeyFromSeed(seed))
	if err != nil {
		return err
	}
	server, err := gitssh.New(gitssh.Options{Core: c.core, Files: c.files, Dir: filepath.Join(c.cfg.DataDir, "git"), HostKey: key, Addr: c.cfg.ListenGit,
		Logins: c.auth, Log: c.log})
	if err != nil {
		return err
	}
	if err := server.Listen(); err != nil {
		if c.cfg.ListenGit != defaultListenGit {
			return err
		}
		c.log.Warn("git is not served; set listen_git to a free address", "err", err)
		return nil
	}
	c.git = server
	return nil
}

// repositories are what the git server keeps, nil when there is none.
func (c *coordinator) repositories() tsuru.Repositories {
	if c.git == nil {
		return nil
	}
	return c.git
}

// runGit serves git until ctx ends.
func (c *coordinator) runGit(ctx context.Context) error {
	if c.git != nil {
		return c.git.Run(ctx)
	}
	<-ctx.Done()
	return nil
}

func newMailer(cfg Config) (*mail.Mailer, error) {
	o := mail.Options{From: cfg.Mail.From, Outbox: filepath.Join(cfg.DataDir, "outbox"), Relay: cfg.Mail.Relay, User: cfg.Mail.User, Plain: cfg.Mail.AllowPlain}
	if cfg.Mail.PasswordFile != "" {
		password, err := os.ReadFile(cfg.Mail.PasswordFile)
		if err != nil {
			return nil, fmt.Errorf("mail.password_file: %w", err)
		}
		o.Password = strings.TrimSpace(string(password))
	}
	return mail.New(o)
}

// own are the routes that belong to no dialect.
type own struct {
	registry *prometheus.Registry
	store    core.Store
}

func (o own) Register(mux *http.ServeMux) {
	mux.Handle("GET /metrics", promhttp.HandlerFor(o.registry, promhttp.HandlerOpts{}))
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, r *http.Request) {
		if err := o.store.View(r.Context(), func(r core.Reader) error { _, err := r.CountApps(""); return err }); err != nil {
			http.Error(w, "the database does not answer", http.StatusServiceUnavailable)
			return
		}
		fmt.Fprintln(w, "ok")
	})
}

// ownNames are the names and addresses of this machine.
func ownNames() []string {
	names := []string{"localhost", "127.0.0.1", "::1"}
	if h, err := os.Hostname(); err == nil {
		names = append(names, h)
	}
	addrs, _ := net.InterfaceAddrs()
	for _, a := range addrs {
		if ip, ok := a.(*net.IPNet); ok && !ip.IP.IsLoopback() && !ip.IP.IsLinkLocalUnicast() {
			names = append(names, ip.IP.String())
		}
	}
	return names
}

// Run serves until ctx ends; the first component to fail ends the rest.
func (c *coordinator) Run(ctx context.Context) error {
	c.log.Info("coordinator is up", "version", version, "tls", c.server.TLSAddr(), "plain", c.server.PlainAddr(), "data_dir", c.cfg.DataDir)
	stopWatchdog, err := systemd.NotifyReady()
	if err != nil {
		c.log.Warn("systemd was not told that we are ready", "err", err)
	}
	defer stopWatchdog()
	return runAll(ctx, c.server.Run, c.director.Run, c.runGit, c.engine.Run, c.core.Run, c.core.RunHealers, c.core.NewSampler(core.SamplerOptions{}).Run, func(ctx context.Context) error {
		return c.agents.Watch(ctx, c.store)
	})
}

// Close frees everything, in reverse order of opening. Nodes go on running.
func (c *coordinator) Close() error {
	if c.server != nil {
		c.server.Close()
	}
	c.director.Close()
	if c.git != nil {
		c.git.Close()
	}
	return errors.Join(c.closeClouds(), c.base.Close())
}

// runAll runs components until the first returns or ctx ends, and waits for all of them.
func runAll(ctx context.Context, components ...func(context.Context) error) error {
	runCtx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var wg sync.WaitGroup
	for _, run := range components {
		wg.Go(func() { cancel(run(runCtx)) })
	}
	wg.Wait()
	if ctx.Err() != nil {
		return nil // asked to stop
	}
	return context.Cause(runCtx)
}

// sealedSecret loads 32 random bytes kept sealed in a file, and makes them once.
func sealedSecret(path string, sealer *keyring.Sealer) ([]byte, error) {
	name := filepath.Base(path)
	blob, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		secret := randomBytes(32)
		return secret, renameio.WriteFile(path, sealer.Seal(secret, "file", name), 0o600)
	}
	if err != nil {
		return nil, err
	}
	return sealer.Open(blob, "file", name)
}
