package mysql

import (
	"cmp"
	"context"
	"log/slog"
	"path"
	"sync"
	"time"

	"github.com/reeve-paas/reeve/agent/agentapi"
	"github.com/reeve-paas/reeve/handlers"
	"github.com/reeve-paas/reeve/handlers/host"
)

// Options configure a Service.
type Options struct {
	Host         *host.Host
	StartTimeout time.Duration // how long a started server may take to answer; 0 means 60 s
	StateDir     string        // the agent's state directory; "" means /var/lib/reeve-agent
}

// Service is the MariaDB server of this host. Its methods may be called from any goroutine.
type Service struct {
	host         *host.Host
	log          *slog.Logger
	startTimeout time.Duration
	dumpDir      string // of dumps on their way; root's alone
	connector    connectorFunc

	mu     sync.Mutex // one change to the server at a time
	loadMu sync.Mutex // one dump is loaded at a time
}

// New builds a Service. It does not connect.
func New(o Options) *Service {
	s := &Service{host: o.Host, log: o.Host.Log().With("handler", "mysql"), startTimeout: o.StartTimeout,
		dumpDir: path.Join(cmp.Or(o.StateDir, "/var/lib/reeve-agent"), "mysql")}
	if s.startTimeout == 0 {
		s.startTimeout = time.Minute
	}
	s.connector = s.socketConnector
	return s
}

// Namespaces implements handlers.Handler.
func (s *Service) Namespaces() []string { return []string{"mysql", "mysql2", "mariadb"} }

// Methods implements handlers.Handler.
func (s *Service) Methods() map[string]handlers.Method {
	return map[string]handlers.Method{
		"create_database": handlers.Func("create_database", s.CreateDatabase),
		"drop_database":   handlers.Func("drop_database", s.DropDatabase),
		"list_databases":  handlers.Reader("list_databases", s.ListDatabases),

		"dump_database": handlers.Func("dump_database", s.DumpDatabase),
		"load_dump":     handlers.Func("load_dump", s.LoadDump),

		"create_user":    handlers.Func("create_user", s.CreateUser),
		"drop_user":      handlers.Func("drop_user", s.DropUser),
		"list_users":     handlers.Reader("list_users", s.ListUsers),
		"reset_password": handlers.Func("reset_password", s.ResetPassword),

		"start_service":      handlers.Func("start_service", s.StartService),
		"stop_service":       handlers.Func("stop_service", s.StopService),
		"restart_service":    handlers.Func("restart_service", s.RestartService),
		"reload_service":     handlers.Func("reload_service", s.ReloadService),
		"get_service_status": handlers.Reader("get_service_status", s.ServiceStatus),
	}
}

// change runs fn with a connection of its own, one change at a time.
func (s *Service) change(ctx context.Context, fn func(*conn) error) (handlers.Null, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.recover(ctx); err != nil {
		return handlers.Null{}, err
	}
	return handlers.Null{}, s.read(ctx, fn)
}

func (s *Service) read(ctx context.Context, fn func(*conn) error) error {
	c, err := s.connect(ctx)
	if err != nil {
		return err
	}
	defer c.close()
	return serverError(fn(c))
}

func invalid(format string, args ...any) error {
	return agentapi.Errorf(agentapi.KindInvalid, "ValueError", format, args...)
}
