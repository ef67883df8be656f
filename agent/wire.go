package main

import (
	"context"
	"fmt"

	"github.com/reeve-paas/reeve/agent/metrics"
	"github.com/reeve-paas/reeve/agent/operation"
	"github.com/reeve-paas/reeve/agent/rpcserver"
	"github.com/reeve-paas/reeve/handlers"
	"github.com/reeve-paas/reeve/handlers/apache"
	"github.com/reeve-paas/reeve/handlers/deploy"
	"github.com/reeve-paas/reeve/handlers/host"
	"github.com/reeve-paas/reeve/handlers/mongodb"
	"github.com/reeve-paas/reeve/handlers/mysql"
	"github.com/reeve-paas/reeve/handlers/nginx"
	operationrpc "github.com/reeve-paas/reeve/handlers/operation"
	"github.com/reeve-paas/reeve/handlers/postgresql"
	"github.com/reeve-paas/reeve/handlers/service"
	"github.com/reeve-paas/reeve/handlers/storage"
	"github.com/reeve-paas/reeve/handlers/system"
)

// newHandlers is everything this agent can do over RPC.
func newHandlers(h *host.Host, c Config, ops *operation.Registry, far coordinator) []handlers.Handler {
	apacheOptions := apache.Options{Host: h, Operations: ops, Closed: c.closedDirs()}
	nginxOptions := nginx.Options{Host: h, Operations: ops, CloudLocation: c.Coordinator.CloudLocation, StatusAddr: nginx.StatusAddr}
	systemOptions := system.Options{Host: h, Operations: ops}
	serviceOptions := service.Options{Operations: ops}
	storageOptions := storage.Options{Host: h, Operations: ops, StateDir: c.StateDir, Boundary: failpoint()}
	if far.queryenv != nil {
		storageOptions.Cloud = cloudVolumes{far.queryenv}
	}
	storageHandler := storage.New(storageOptions)
	postgresqlOptions := postgresql.Options{Host: h, Operations: ops, BackupDir: c.BackupDir, Storage: volumesFor(storageHandler)}
	if far.queryenv != nil {
		apacheOptions.Certificates, nginxOptions.Certificates, systemOptions.Metrics = far.queryenv, far.queryenv, far.queryenv
		apacheOptions.Sites, nginxOptions.Roles, serviceOptions.RoleParams = sites{far.queryenv}, roles{far.queryenv}, far.queryenv
	}
	if far.messages != nil {
		systemOptions.Messages, postgresqlOptions.Messages = far.messages, far.messages
	}
	apacheHandler, nginxHandler := apache.New(apacheOptions), nginx.New(nginxOptions)
	mysqlHandler, postgresqlHandler := mysql.New(mysql.Options{Host: h, StateDir: c.StateDir}), postgresql.New(postgresqlOptions)
	serviceOptions.Reconfigure = map[string]handlers.Method{
		"app": apacheHandler.Methods()["reconfigure"],
		"www": nginxHandler.Methods()["reconfigure"],
	}
	serviceOptions.Presets = map[string]service.Presets{
		"mysql2": mysqlHandler, "percona": mysqlHandler, "mariadb": mysqlHandler, "postgresql": postgresqlHandler,
	}
	return []handlers.Handler{
		system.New(systemOptions),
		operationrpc.New(ops),
		apacheHandler,
		nginxHandler,
		mysqlHandler,
		mongodb.New(mongodb.Options{Host: h, StateDir: c.StateDir}),
		postgresqlHandler,
		deploy.New(deploy.Options{Host: h, Operations: ops, StateDir: c.StateDir}),
		storageHandler,
		service.New(serviceOptions),
	}
}

// newCollectors is everything this agent shows to Prometheus, beside what rpcserver counts.
func newCollectors(h *host.Host, c Config, ops *operation.Registry, units metrics.UnitStates, hs []handlers.Handler, far coordinator) []metrics.Collector {
	names := c.MetricsUnits
	if len(names) == 0 {
		names = []string{h.Layout().ApacheUnit, h.Layout().NginxUnit, h.Layout().MySQLUnit, h.Layout().MongoDBUnit}
		if cluster, ok := h.PostgreSQL(); ok {
			names = append(names, cluster.Unit)
		}
	}
	// These only read.
	web, proxy := apache.New(apache.Options{Host: h}), nginx.New(nginx.Options{Host: h, StatusAddr: nginx.StatusAddr})
	pg, maria := postgresql.New(postgresql.Options{Host: h}), mysql.New(mysql.Options{Host: h})
	collectors := []metrics.Collector{
		metrics.NewSelf(version),
		metrics.CPU{Host: h},
		metrics.Memory{Host: h},
		metrics.Load{Host: h},
		metrics.Disk{Host: h},
		metrics.Filesystem{Host: h},
		metrics.Volume{Host: h},
		metrics.Network{Host: h},
		metrics.Unit{Source: units, Units: names},
		metrics.Operation{Registry: ops},
		metrics.PostgreSQL{Stats: func(ctx context.Context) (metrics.PostgreSQLStats, bool, error) {
			s, ok, err := pg.Stats(ctx)
			return metrics.PostgreSQLStats(s), ok, err
		}},
		metrics.MySQL{Stats: func(ctx context.Context) (metrics.MySQLStats, bool, error) {
			s, ok, err := maria.Stats(ctx)
			return metrics.MySQLStats(s), ok, err
		}},
		metrics.MongoDB{Up: mongodb.New(mongodb.Options{Host: h, StateDir: c.StateDir}).Up},
		metrics.Apache{Stats: func(ctx context.Context) (metrics.ApacheStats, bool, error) {
			s, ok, err := web.Stats(ctx)
			return metrics.ApacheStats(s), ok, err
		}},
		metrics.Nginx{Stats: func(ctx context.Context) (metrics.NginxStats, bool, error) {
			s, ok, err := proxy.Stats(ctx)
			return metrics.NginxStats(s), ok, err
		}},
	}
	for _, h := range hs {
		if apps, ok := h.(metrics.AppUnits); ok {
			collectors = append(collectors, metrics.AppUnit{Source: apps})
		}
	}
	if far.messages != nil {
		collectors = append(collectors, metrics.Message{Waiting: far.messages.Len})
	}
	return collectors
}

// newTable is the handlers' methods in the form the RPC server is handed.
func newTable(hs []handlers.Handler) (rpcserver.Table, error) {
	set, err := handlers.NewSet(hs...)
	if err != nil {
		return nil, fmt.Errorf("handlers: %w", err)
	}
	table := rpcserver.Table{}
	for namespace, methods := range set {
		table[namespace] = make(map[string]rpcserver.Method, len(methods))
		for name, m := range methods {
			table[namespace][name] = rpcserver.Method(m)
		}
	}
	return table, nil
}
