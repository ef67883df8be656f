package postgresql

import (
	"context"
	"errors"
	"fmt"

	"github.com/reeve-paas/reeve/agent/agentapi"
	"github.com/reeve-paas/reeve/handlers"
)

// CreateDatabase makes a database, with a role that owns it, unless it exists.
func (s *Service) CreateDatabase(ctx context.Context, p agentapi.CreateDatabaseParams) (handlers.Null, error) {
	if err := checkDatabase(p.Name); err != nil {
		return handlers.Null{}, err
	}
	if p.Charset == "" {
		p.Charset = "UTF8"
	}
	for _, setting := range []string{p.Charset, p.Collation} {
		if setting != "" && !settingName.MatchString(setting) {
			return handlers.Null{}, invalid("%.80q is no character set or collation", setting)
		}
	}
	return s.change(ctx, func(srv *server) error {
		owner, there, err := srv.databaseOwner(ctx, p.Name)
		if err != nil || there && owner != ownerOf(p.Name) {
			return err
		}
		if there {
			return srv.closeToOthers(ctx, p.Name)
		}
		return srv.createDatabase(ctx, p)
	})
}

// databaseOwner is the role that owns a database.
func (srv *server) databaseOwner(ctx context.Context, name string) (owner string, there bool, err error) {
	list, err := srv.column(ctx, "SELECT pg_get_userbyid(datdba) FROM pg_database WHERE datname = "+literal(name))
	if err != nil || len(list) == 0 {
		return "", false, err
	}
	return list[0], true, nil
}

func (srv *server) roleExists(ctx context.Context, name string) (bool, error) {
	v, err := srv.value(ctx, "SELECT 1 FROM pg_roles WHERE rolname = "+literal(name))
	return v != "", err
}

// createDatabase makes role and database. The server cannot make a database within a transaction, so what was made before
// a failure is taken back by hand; a repetition after a kill finds the role and goes on.
func (srv *server) createDatabase(ctx context.Context, p agentapi.CreateDatabaseParams) error {
	owner := ownerOf(p.Name)
	had, err := srv.roleExists(ctx, owner)
	if err != nil {
		return err
	}
	locale, err := srv.locale(ctx, p.Collation)
	if err != nil {
		return err
	}
	undo := ""
	if !had {
		if err := srv.exec(ctx, superuser, "CREATE ROLE "+identifier(owner)+" NOLOGIN"); err != nil {
			return err
		}
		undo = "DROP ROLE IF EXISTS " + identifier(owner) + ";"
	}
	statement := fmt.Sprintf("CREATE DATABASE %s OWNER %s TEMPLATE template0 ENCODING %s LC_COLLATE %s LC_CTYPE %s",
		identifier(p.Name), identifier(owner), literal(p.Charset), literal(locale), literal(locale))
	if err := srv.exec(ctx, superuser, statement); err != nil {
		return errors.Join(err, srv.undo(ctx, superuser, undo))
	}
	if err := srv.closeToOthers(ctx, p.Name); err != nil {
		return errors.Join(err, srv.undo(ctx, superuser, "DROP DATABASE IF EXISTS "+identifier(p.Name)+" WITH (FORCE);"+undo))
	}
	return nil
}

// locale is the collation asked for, or the server's own. A server that was set up without a locale sorts by byte and knows
// no letters beyond ASCII; C.UTF-8 sorts alike and does know them.
func (srv *server) locale(ctx context.Context, asked string) (string, error) {
	if asked != "" {
		return asked, nil
	}
	own, err := srv.value(ctx, "SELECT datcollate FROM pg_database WHERE datname = 'template0'")
	if own == "C" || own == "POSIX" {
		own = "C.UTF-8"
	}
	return own, err
}

// closeToOthers lets nobody but the owner's members and superusers into a database. By default everybody may connect to
// every database, and before PostgreSQL 15 make tables there.
func (srv *server) closeToOthers(ctx context.Context, name string) error {
	err := srv.exec(ctx, superuser, "REVOKE ALL ON DATABASE "+identifier(name)+" FROM PUBLIC")
	if err != nil {
		return err
	}
	return srv.exec(ctx, name, "ALTER SCHEMA public OWNER TO "+identifier(ownerOf(name))+"; REVOKE ALL ON SCHEMA public FROM PUBLIC;")
}

// DropDatabase removes a database, ends its connections, and removes the role that owned it. Killed in between, a
// repetition removes the role.
func (s *Service) DropDatabase(ctx context.Context, p agentapi.NameParams) (handlers.Null, error) {
	if err := checkDatabase(p.Name); err != nil {
		return handlers.Null{}, err
	}
	return s.change(ctx, func(srv *server) error {
		return srv.exec(ctx, superuser, "DROP DATABASE IF EXISTS "+identifier(p.Name)+" WITH (FORCE);\n"+
			"DROP ROLE IF EXISTS "+identifier(ownerOf(p.Name))+";")
	})
}

// ListDatabases names the databases in alphabetical order, without the server's own.
func (s *Service) ListDatabases(ctx context.Context, _ handlers.NoParams) ([]string, error) {
	srv, err := s.server()
	if err != nil {
		return nil, err
	}
	all, err := srv.column(ctx, `SELECT datname FROM pg_database WHERE NOT datistemplate ORDER BY datname COLLATE "C"`)
	if err != nil {
		return nil, err
	}
	return without(all, systemDatabases), nil
}
