package deploy

import (
	"context"
	"fmt"
	"path"
	"strings"

	"github.com/reeve-paas/reeve/agent/agentapi"
	"github.com/reeve-paas/reeve/handlers"
)

// EnableService makes one of the host's services start at every boot; images keep them off until a node needs them.
//
// Errors: ValueError (a service we do not know), unsupported (InitdError: it is not installed on this host), InitdError
// Effects: the unit's links below /etc/systemd/system; nothing is started
func (s *Service) EnableService(ctx context.Context, p agentapi.EnableServiceParams) (handlers.Null, error) {
	unit, err := s.unitOf(p)
	if err != nil {
		return handlers.Null{}, err
	}
	state, err := s.host.Units().State(ctx, unit)
	if err != nil {
		return handlers.Null{}, err
	}
	if state.Load == "not-found" {
		return handlers.Null{}, agentapi.Errorf(agentapi.KindUnsupported, "InitdError", "%s is not installed on this host: it has no unit %s", p.Service, unit)
	}
	if strings.HasPrefix(unit, "postgresql@") {
		if err := s.wantedAtBoot(ctx, "postgresql@.service"); err != nil {
			return handlers.Null{}, err
		}
	}
	return handlers.Null{}, s.enable(ctx, unit)
}

// wantedAtBoot lets a template be enabled that says nothing about that. Debian starts clusters through a unit of its own and
// a generator instead, all of them or none.
func (s *Service) wantedAtBoot(ctx context.Context, template string) (err error) {
	file := path.Join(unitDir, template+".d", "reeve-boot.conf")
	if s.host.Exists(file) {
		return nil
	}
	c := s.host.Begin()
	defer rollback(c, &err)
	if err := c.MkdirAll(path.Dir(file), 0o755); err != nil {
		return err
	}
	if _, err := c.WriteFile(file, []byte("# Written by reeve-agent.\n[Install]\nWantedBy=multi-user.target\n"), 0o644); err != nil {
		return err
	}
	if err := s.host.Units().DaemonReload(ctx); err != nil {
		return err
	}
	c.Commit()
	return nil
}

// DisableService is the reverse: the service is not started at boot any more. Nothing is stopped.
//
// Errors: as EnableService
// Effects: the unit's links below /etc/systemd/system
func (s *Service) DisableService(ctx context.Context, p agentapi.EnableServiceParams) (handlers.Null, error) {
	unit, err := s.unitOf(p)
	if err != nil {
		return handlers.Null{}, err
	}
	if err := s.host.Units().Disable(ctx, unit); err != nil {
		return handlers.Null{}, fmt.Errorf("disable %s: %w", unit, err)
	}
	return handlers.Null{}, nil
}

func (s *Service) unitOf(p agentapi.EnableServiceParams) (string, error) {
	l := s.host.Layout()
	units := map[string]string{"apache": l.ApacheUnit, "nginx": l.NginxUnit, "mysql": l.MySQLUnit, "mongodb": l.MongoDBUnit, "postgresql": ""}
	unit, ok := units[p.Service]
	if !ok {
		return "", invalid("service %.40q is none of apache, nginx, mysql, postgresql, mongodb", p.Service)
	}
	if p.Service == "postgresql" {
		cluster, ok := s.host.PostgreSQL()
		if !ok {
			return "", agentapi.Errorf(agentapi.KindUnsupported, "InitdError", "PostgreSQL is not installed on this host")
		}
		unit = cluster.Unit
	}
	return unit, nil
}

func (s *Service) enable(ctx context.Context, unit string) error {
	if err := s.host.Units().Enable(ctx, unit); err != nil {
		return fmt.Errorf("enable %s: %w", unit, err)
	}
	return nil
}
