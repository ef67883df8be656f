package apache

import (
	"context"
	"errors"
	"log/slog"
	"path"
	"sync"
	"time"

	"github.com/reeve-paas/reeve/agent/agentapi"
	"github.com/reeve-paas/reeve/handlers"
	"github.com/reeve-paas/reeve/handlers/host"
	"github.com/reeve-paas/reeve/handlers/web"
)

// Options configure a Service.
type Options struct {
	Host         *host.Host
	PrivateDir   string           // holds vhosts/ and keys/; "" means web.PrivateDir
	Closed       []string         // more directories that no document root or log may lie in: the agent's state and keys
	Certificates web.Certificates // where certificates come from that are not on this host; nil means nowhere
	Sites        Sites            // the virtual hosts of a reconfigure without a list; nil means that it is refused
	Operations   Operations       // runs reconfigure in the background; nil means that only async=false works
	StatusAddr   string           // where Apache answers on loopback, for statistics; "" means 127.0.0.1:80
	// Settle is how long a reload is watched on a host that shows neither Apache's processes nor its log; 0 means 1 s.
	Settle time.Duration
}

// Service manages Apache on this host. Its methods may be called from any goroutine.
type Service struct {
	host         *host.Host
	layout       *host.Layout
	privateDir   string
	closed       []string // directories that no document root or log may lie in, besides the system's
	certificates web.Certificates
	sites        Sites
	operations   Operations
	statusAddr   string
	settle       time.Duration
	log          *slog.Logger
	server       *web.Server

	mu sync.Mutex // one change, or one service verb, at a time
}

var _ interface {
	handlers.Handler
	handlers.Starter
} = (*Service)(nil)

// New builds the service; it touches nothing.
func New(o Options) *Service {
	s := &Service{
		host: o.Host, layout: o.Host.Layout(), privateDir: o.PrivateDir, certificates: o.Certificates, sites: o.Sites, operations: o.Operations, statusAddr: o.StatusAddr, settle: o.Settle,
		log: o.Host.Log().With("handler", "apache"),
	}
	if s.privateDir == "" {
		s.privateDir = web.PrivateDir(o.Host)
	}
	s.closed = []string{s.privateDir}
	for _, dir := range o.Closed {
		s.closed = append(s.closed, path.Clean(dir))
	}
	if s.statusAddr == "" {
		s.statusAddr = statusAddr
	}
	if s.settle == 0 {
		s.settle = time.Second
	}
	s.server = &web.Server{Host: o.Host, Unit: s.layout.ApacheUnit, Log: s.log, Test: s.test, Watch: s.watch, WatchStart: s.watchStart}
	return s
}

// Namespaces implements handlers.Handler.
func (s *Service) Namespaces() []string { return []string{"apache", "app"} }

// Methods implements handlers.Handler.
func (s *Service) Methods() map[string]handlers.Method {
	return map[string]handlers.Method{
		"create_vhost":                web.Func("create_vhost", s.CreateVHost),
		"update_vhost":                web.Func("update_vhost", s.UpdateVHost),
		"delete_vhosts":               web.Func("delete_vhosts", s.DeleteVHosts),
		"reconfigure":                 web.Func("reconfigure", s.Reconfigure),
		"list_served_virtual_hosts":   handlers.Reader("list_served_virtual_hosts", s.ListServedVirtualHosts),
		"set_default_ssl_certificate": web.Func("set_default_ssl_certificate", s.SetDefaultSSLCertificate),
		"enable_mod_ssl":              web.Func("enable_mod_ssl", s.EnableModSSL),
		"get_webserver_statistics":    handlers.Reader("get_webserver_statistics", s.GetWebserverStatistics),
		"configtest":                  handlers.Reader("configtest", s.ConfigTest),
		"start_service":               web.Func("start_service", s.verb((*web.Server).Start)),
		"stop_service":                web.Func("stop_service", s.verb((*web.Server).Stop)),
		"restart_service":             web.Func("restart_service", s.verb((*web.Server).Restart)),
		"reload_service":              web.Func("reload_service", s.verb((*web.Server).Reload)),
		"get_service_status":          handlers.Reader("get_service_status", s.Status),
	}
}

func (s *Service) vhostDir() string    { return path.Join(s.privateDir, "vhosts") }
func (s *Service) vhostMask() string   { return path.Join(s.vhostDir(), "*"+vhostSuffix) }
func (s *Service) stagingDir() string  { return path.Join(s.privateDir, ".vhosts-staging") }
func (s *Service) includePath() string { return path.Join(s.layout.ApacheEnabledDir, "zz-reeve.conf") }

const vhostSuffix = ".vhost.conf"

// Start implements handlers.Starter: it takes back the change that a killed agent left unconfirmed. Nothing else changes:
// Apache reads our virtual hosts from the first change on that a caller asks for. A host without Apache is left alone.
func (s *Service) Start(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.host.Exists(s.layout.ApacheConf) {
		return nil
	}
	return s.recover(ctx)
}

// recover takes back an interrupted change. Apache may have read it, or may have died of it.
func (s *Service) recover(ctx context.Context) error {
	wasRunning := s.host.Exists(path.Join(s.stagingDir(), wasRunningMark))
	undone, err := s.host.RecoverStaged(s.stagingDir(), s.readers())
	if err != nil || !undone {
		return err
	}
	s.log.Warn("took back a change of virtual hosts that was interrupted")
	return s.server.Recover(ctx, wasRunning)
}

// wasRunningMark is a file among the staged ones that says that the server ran when the change began.
const wasRunningMark = "running"

// ConfigTest runs Apache's test of the configuration in place.
//
// Result:  null
// Errors:  InitdError with the test's output; decided by its exit status alone
// Source:  spec agent-web 2.5
func (s *Service) ConfigTest(ctx context.Context, _ agentapi.ReasonParams) (handlers.Null, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return handlers.Null{}, s.test(ctx)
}

// Status is 0 when Apache runs, 3 when it does not, 4 when that is unknown (spec agent-web 1.5).
func (s *Service) Status(ctx context.Context, _ handlers.NoParams) (int, error) {
	return s.server.Status(ctx), nil
}

// verb makes a method of what a server can do.
func (s *Service) verb(do func(*web.Server, context.Context) error) func(context.Context, agentapi.ReasonParams) (handlers.Null, error) {
	return func(ctx context.Context, p agentapi.ReasonParams) (handlers.Null, error) {
		s.mu.Lock()
		defer s.mu.Unlock()
		if p.Reason != nil && *p.Reason != "" {
			s.log.Info("service call", "reason", string(*p.Reason))
		}
		return handlers.Null{}, do(s.server, ctx)
	}
}

// test tests the configuration in place.
func (s *Service) test(ctx context.Context) error {
	return s.testFile(ctx, s.layout.ApacheConf)
}

func (s *Service) testFile(ctx context.Context, main string, defines ...string) error {
	args := []string{"-t", "-f", s.host.Path(main)}
	for _, d := range defines {
		args = append(args, "-D", d)
	}
	_, err := s.host.Run(ctx, host.Cmd{Path: s.layout.ApacheCtl, Args: args, Timeout: testTimeout, MaxOutput: maxOutput})
	if err == nil {
		return nil
	}
	if e, ok := errors.AsType[*host.CommandError](err); ok && e.Err == nil {
		return &agentapi.Error{Kind: agentapi.KindConfigTest, Class: "InitdError", Text: "Apache's configuration test failed: " + web.Output(e.Output), Err: err}
	}
	return &agentapi.Error{Kind: agentapi.KindUnavailable, Class: "InitdError", Text: err.Error(), Err: err}
}

const (
	testTimeout = 30 * time.Second
	maxOutput   = 64 << 10
)
