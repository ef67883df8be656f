package postgresql

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/reeve-paas/reeve/agent/agentapi"
	"github.com/reeve-paas/reeve/agent/operation"
	"github.com/reeve-paas/reeve/handlers"
	"github.com/reeve-paas/reeve/handlers/host"
)

// Options configure a Service.
type Options struct {
	Host         *host.Host
	Operations   *operation.Registry
	Storage      Storage       // volumes; without it create_databundle and grow_volume are unsupported
	Messages     Messages      // to the coordinator; nil means that none are sent
	BackupDir    string        // where create_backup writes, in a directory of its own
	StartTimeout time.Duration // how long a started server may take to answer; 0 means 60 s (spec agent-core 6.1)
}

// Messages carries messages to the coordinator.
type Messages interface {
	Send(ctx context.Context, queue, name string, body any) error
}

// Service is the PostgreSQL server of this host. Its methods may be called from any goroutine.
type Service struct {
	host         *host.Host
	ops          *operation.Registry
	storage      Storage
	messages     Messages
	backupDir    string
	volumeConf   string
	chunkSize    int64 // bytes
	now          func() time.Time
	log          *slog.Logger
	startTimeout time.Duration

	mu sync.Mutex // one change to the server at a time
}

// New builds a Service. It does not connect.
func New(o Options) *Service {
	s := &Service{host: o.Host, ops: o.Operations, storage: o.Storage, messages: o.Messages, backupDir: o.BackupDir, volumeConf: volumeConf, chunkSize: host.ChunkSize,
		now: time.Now, log: o.Host.Log().With("handler", "postgresql"), startTimeout: o.StartTimeout}
	if s.startTimeout == 0 {
		s.startTimeout = time.Minute
	}
	return s
}

// Namespaces implements handlers.Handler.
func (s *Service) Namespaces() []string { return []string{agentapi.EnginePostgreSQL} }

// Methods implements handlers.Handler.
func (s *Service) Methods() map[string]handlers.Method {
	return map[string]handlers.Method{
		"create_database": handlers.Func("create_database", s.CreateDatabase),
		"drop_database":   handlers.Func("drop_database", s.DropDatabase),
		"list_databases":  handlers.Reader("list_databases", s.ListDatabases),

		"create_user":    handlers.Func("create_user", s.CreateUser),
		"drop_user":      handlers.Func("drop_user", s.DropUser),
		"list_users":     handlers.Reader("list_users", s.ListUsers),
		"reset_password": handlers.Func("reset_password", s.ResetPassword),

		"replication_status": handlers.Reader("replication_status", s.ReplicationStatus),
		"create_backup":      handlers.Func("create_backup", s.CreateBackup),
		"create_databundle":  handlers.Func("create_databundle", s.CreateDataBundle),
		"grow_volume":        handlers.Func("grow_volume", s.GrowVolume),

		"start_service":      handlers.Func("start_service", s.StartService),
		"stop_service":       handlers.Func("stop_service", s.StopService),
		"restart_service":    handlers.Func("restart_service", s.RestartService),
		"reload_service":     handlers.Func("reload_service", s.ReloadService),
		"get_service_status": handlers.Reader("get_service_status", s.ServiceStatus),
	}
}

// Start implements handlers.Starter: it takes back the change of files that a killed agent left unconfirmed.
func (s *Service) Start(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	cluster, ok := s.host.PostgreSQL()
	if !ok {
		return nil
	}
	return errors.Join(s.removePartial(), s.recover(ctx, cluster))
}

// change runs fn on the running server, one change at a time.
func (s *Service) change(ctx context.Context, fn func(*server) error) (handlers.Null, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	srv, err := s.server()
	if err != nil {
		return handlers.Null{}, err
	}
	if err := s.recover(ctx, srv.PostgreSQLCluster); err != nil {
		return handlers.Null{}, err
	}
	return handlers.Null{}, fn(srv)
}

func invalid(format string, args ...any) error {
	return agentapi.Errorf(agentapi.KindInvalid, "ValueError", format, args...)
}
