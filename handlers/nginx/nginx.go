package nginx

import (
	"context"
	"errors"
	"log/slog"
	"os"
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
	PrivateDir   string           // holds keys/; "" means web.PrivateDir
	PagesDir     string           // holds the error pages; "" means /usr/share/nginx/html
	Certificates web.Certificates // where certificates come from that are not on this host; nil means nowhere
	Roles        web.Roles        // finds the servers of a farm_role_id; nil means that such destinations are refused
	Operations   Operations       // runs reconfigure in the background; nil means that only async=false works
	// CloudLocation is where this host is: servers of a role in the same location are reached by their internal address.
	CloudLocation string
	// StatusAddr is where nginx counts requests for metrics, on loopback; "" means nowhere. See StatusAddr of this package.
	StatusAddr string
	// Settle is how long a reload is watched on a host that does not show nginx's processes; 0 means 1 s.
	Settle time.Duration
}

// Service manages nginx on this host. Its methods may be called from any goroutine.
type Service struct {
	host          *host.Host
	layout        *host.Layout
	privateDir    string
	pagesDir      string
	certificates  web.Certificates
	roles         web.Roles
	operations    Operations
	cloudLocation string
	statusAddr    string
	settle        time.Duration
	log           *slog.Logger
	server        *web.Server

	mu sync.Mutex // one change, or one service verb, at a time
}

var _ interface {
	handlers.Handler
	handlers.Starter
} = (*Service)(nil)

// New builds the service; it touches nothing.
func New(o Options) *Service {
	s := &Service{
		host: o.Host, layout: o.Host.Layout(), privateDir: o.PrivateDir, pagesDir: o.PagesDir, certificates: o.Certificates,
		roles: o.Roles, operations: o.Operations, cloudLocation: o.CloudLocation, statusAddr: o.StatusAddr, settle: o.Settle,
		log: o.Host.Log().With("handler", "nginx"),
	}
	if s.privateDir == "" {
		s.privateDir = web.PrivateDir(o.Host)
	}
	if s.pagesDir == "" {
		s.pagesDir = "/usr/share/nginx/html"
	}
	if s.settle == 0 {
		s.settle = time.Second
	}
	s.server = &web.Server{Host: o.Host, Unit: s.layout.NginxUnit, Log: s.log, Test: s.test, Watch: s.watch}
	return s
}

// Namespaces implements handlers.Handler.
func (s *Service) Namespaces() []string { return []string{"nginx", "www"} }

// Methods implements handlers.Handler.
func (s *Service) Methods() map[string]handlers.Method {
	return map[string]handlers.Method{
		"make_proxy":                      web.LenientFunc("make_proxy", s.MakeProxy),
		"remove_proxy":                    web.Func("remove_proxy", s.RemoveProxy),
		"recreate_proxying":               web.Func("recreate_proxying", s.RecreateProxying),
		"reconfigure":                     web.Func("reconfigure", s.Reconfigure),
		"add_server":                      web.Func("add_server", s.AddServer),
		"remove_server":                   web.Func("remove_server", s.RemoveServer),
		"add_server_to_role":              web.Func("add_server_to_role", s.AddServerToRole),
		"remove_server_from_role":         web.Func("remove_server_from_role", s.RemoveServerFromRole),
		"remove_server_from_all_backends": web.Func("remove_server_from_all_backends", s.RemoveServerFromAllBackends),
		"enable_ssl":                      web.Func("enable_ssl", s.EnableSSL),
		"disable_ssl":                     web.Func("disable_ssl", s.DisableSSL),
		"configtest":                      handlers.Reader("configtest", s.ConfigTest),
		"start_service":                   web.Func("start_service", s.verb(s.startTested)),
		"stop_service":                    web.Func("stop_service", s.verb(s.server.Stop)),
		"restart_service":                 web.Func("restart_service", s.verb(s.server.Restart)),
		"reload_service":                  web.Func("reload_service", s.verb(s.server.Reload)),
		"get_service_status":              handlers.Reader("get_service_status", s.Status),
	}
}

func (s *Service) dir() string            { return path.Dir(s.layout.NginxConf) }
func (s *Service) upstreamsPath() string  { return path.Join(s.dir(), "app-servers.include") }
func (s *Service) proxiesPath() string    { return path.Join(s.dir(), "proxies.include") }
func (s *Service) errorPagesPath() string { return path.Join(s.dir(), "error-pages.include") }
func (s *Service) stagingDir() string     { return path.Join(s.dir(), ".reeve-staging") }

// stagedConf lies beside nginx.conf, since nginx takes relative paths from the directory of its main file. No mask of a
// packaged configuration matches a name that starts with a dot.
func (s *Service) stagedConf() string {
	return path.Join(s.dir(), "."+path.Base(s.layout.NginxConf)+".reeve-staged")
}

// Start implements handlers.Starter: it takes back the change that a killed agent left unconfirmed. Nothing else changes:
// nginx.conf gets our includes with the first change that a caller asks for. A host without nginx is left alone.
func (s *Service) Start(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.host.Exists(s.layout.NginxConf) {
		return nil
	}
	return s.recover(ctx)
}

// recover takes back an interrupted change. nginx may have read it.
func (s *Service) recover(ctx context.Context) error {
	if err := os.Remove(s.host.Path(s.stagedConf())); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	wasRunning := s.host.Exists(path.Join(s.stagingDir(), wasRunningMark))
	if s.host.Interrupted(s.stagingDir()) { // while the journal is there, so that another kill changes nothing
		if err := s.bringDefaultSiteBack(); err != nil {
			return err
		}
	}
	undone, err := s.host.RecoverStaged(s.stagingDir(), s.readers())
	if err != nil || !undone {
		return err
	}
	s.log.Warn("took back a change of proxies that was interrupted")
	return s.server.Recover(ctx, wasRunning)
}

// wasRunningMark is a file among the staged ones that says that the server ran when the change began.
const wasRunningMark = "running"

func (s *Service) rollback(c interface{ Rollback() error }) {
	if err := c.Rollback(); err != nil {
		s.log.Error("take back a change", "err", err)
	}
}

// ConfigTest runs nginx's test of the configuration in place.
//
// Result:  null
// Errors:  PopenError with the test's output; decided by its exit status
// Source:  spec agent-web 3.2
func (s *Service) ConfigTest(ctx context.Context, _ agentapi.ReasonParams) (handlers.Null, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return handlers.Null{}, s.test(ctx)
}

// Status is 0 when nginx runs, 3 when it does not, 4 when that is unknown (spec agent-web 1.5). It asks for the process:
// the pid file proves nothing, since a config test of a stopped nginx creates an empty one.
func (s *Service) Status(ctx context.Context, _ handlers.NoParams) (int, error) {
	return s.server.Status(ctx), nil
}

func (s *Service) verb(do func(context.Context) error) func(context.Context, agentapi.ReasonParams) (handlers.Null, error) {
	return func(ctx context.Context, p agentapi.ReasonParams) (handlers.Null, error) {
		s.mu.Lock()
		defer s.mu.Unlock()
		if p.Reason != nil && *p.Reason != "" {
			s.log.Info("service call", "reason", string(*p.Reason))
		}
		return handlers.Null{}, do(ctx)
	}
}

// startTested starts nginx after its own test (spec agent-web 3.2).
func (s *Service) startTested(ctx context.Context) error {
	if err := s.test(ctx); err != nil {
		return err
	}
	return s.server.Start(ctx)
}

const (
	testTimeout = 30 * time.Second
	maxOutput   = 64 << 10
)

func (s *Service) test(ctx context.Context) error { return s.testFile(ctx, s.layout.NginxConf) }

func (s *Service) testFile(ctx context.Context, conf string) error {
	_, err := s.host.Run(ctx, host.Cmd{Path: s.layout.NginxBin, Args: []string{"-t", "-c", s.host.Path(conf)}, Timeout: testTimeout, MaxOutput: maxOutput})
	if err == nil {
		return nil
	}
	kind, text := agentapi.KindUnavailable, err.Error()
	if e, ok := errors.AsType[*host.CommandError](err); ok && e.Err == nil {
		kind = agentapi.KindConfigTest
		e.Output.Stdout, e.Output.Stderr = nil, []byte(web.Output(e.Output))
		text = e.Error()
	}
	return &agentapi.Error{Kind: kind, Class: "PopenError", Text: text, Err: err}
}
