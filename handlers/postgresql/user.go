package postgresql

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/reeve-paas/reeve/agent/agentapi"
	"github.com/reeve-paas/reeve/handlers"
)

// CreateUser makes a user, or gives an existing one this password and these privileges. What changes in the server is one
// transaction; the files that let the user in are put back when it fails.
func (s *Service) CreateUser(ctx context.Context, p agentapi.CreateDatabaseUserParams) (handlers.Null, error) {
	if err := checkUser(p.Name, p.Host); err != nil {
		return handlers.Null{}, err
	}
	if p.Database != "" {
		if err := checkDatabase(p.Database); err != nil {
			return handlers.Null{}, err
		}
	}
	secret, err := verifier(p.Password)
	if err != nil {
		return handlers.Null{}, err
	}
	return s.change(ctx, func(srv *server) error {
		there, err := srv.checkGrant(ctx, p)
		if err != nil {
			return err
		}
		access, err := srv.openFor(ctx, p.Remote)
		defer access.rollback(ctx)
		if err != nil {
			return err
		}
		if err := srv.exec(ctx, superuser, userStatements(p, secret, there)); err != nil {
			return err
		}
		return access.commit()
	})
}

// checkGrant looks whether user and database are ours to change, and whether the user exists.
func (srv *server) checkGrant(ctx context.Context, p agentapi.CreateDatabaseUserParams) (there bool, err error) {
	if p.Database != "" {
		owner, there, err := srv.databaseOwner(ctx, p.Database)
		switch {
		case err != nil:
			return false, err
		case !there:
			return false, agentapi.Errorf(agentapi.KindNotFound, "ValueError", "there is no database %q", p.Database)
		case owner != ownerOf(p.Database):
			return false, agentapi.Errorf(agentapi.KindConflict, "ValueError", "database %q was not made by create_database", p.Database)
		}
	}
	ours, err := srv.value(ctx, "SELECT "+isOurs("r.oid")+" FROM pg_roles r WHERE rolname = "+literal(p.Name))
	if err == nil && ours != "" && ours != "t" {
		err = agentapi.Errorf(agentapi.KindConflict, "ValueError", "there is a role %q that was not made by create_user", p.Name)
	}
	return ours != "", err
}

// isOurs is a condition that holds for roles made by create_user. pg_has_role is true for every superuser, so it is no use.
func isOurs(oid string) string {
	return "EXISTS (SELECT 1 FROM pg_auth_members WHERE roleid = to_regrole(" + literal(usersRole) + ") AND member = " + oid + ")"
}

// userStatements make or change a user in one transaction.
func userStatements(p agentapi.CreateDatabaseUserParams, secret string, there bool) string {
	name := identifier(p.Name)
	var b strings.Builder
	b.WriteString("BEGIN;\n")
	for _, role := range []string{usersRole, remoteRole} {
		fmt.Fprintf(&b, "DO $$BEGIN IF to_regrole('%s') IS NULL THEN CREATE ROLE %s NOLOGIN; END IF; END$$;\n", role, role)
	}
	verb := "CREATE"
	if there {
		verb = "ALTER"
	}
	fmt.Fprintf(&b, "%s ROLE %s LOGIN PASSWORD '%s';\nGRANT %s TO %s;\n", verb, name, secret, usersRole, name)
	if p.Remote {
		fmt.Fprintf(&b, "GRANT %s TO %s;\n", remoteRole, name)
	}
	if p.Database != "" {
		owner := identifier(ownerOf(p.Database))
		fmt.Fprintf(&b, "GRANT %s TO %s;\nALTER ROLE %s IN DATABASE %s SET role = %s;\n", owner, name, name, identifier(p.Database), literal(ownerOf(p.Database)))
	}
	b.WriteString("COMMIT;\n")
	return b.String()
}

// DropUser removes a user and ends its connections. What it owns in its databases, should it ever have stepped out of
// their role, stays with them. Killed in between, a repetition does the rest.
func (s *Service) DropUser(ctx context.Context, p agentapi.DropDatabaseUserParams) (handlers.Null, error) {
	if err := checkUser(p.Name, p.Host); err != nil {
		return handlers.Null{}, err
	}
	return s.change(ctx, func(srv *server) error {
		there, err := srv.checkGrant(ctx, agentapi.CreateDatabaseUserParams{Name: p.Name})
		if err != nil || !there {
			return err
		}
		id, err := srv.value(ctx, "SELECT oid FROM pg_roles WHERE rolname = "+literal(p.Name))
		if err != nil {
			return err
		}
		databases, err := srv.databasesOf(ctx, p.Name)
		if err != nil {
			return err
		}
		for _, database := range databases {
			err := srv.exec(ctx, database, fmt.Sprintf("BEGIN; REASSIGN OWNED BY %[1]s TO %[2]s; DROP OWNED BY %[1]s; GRANT %[2]s TO %[1]s; COMMIT;",
				identifier(p.Name), identifier(ownerOf(database))))
			if err != nil {
				return err
			}
		}
		return srv.exec(ctx, superuser, "DROP ROLE "+identifier(p.Name)+";\nSELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usesysid = "+id)
	})
}

var memberships = `SELECT m.rolname, g.rolname FROM pg_auth_members a JOIN pg_roles m ON m.oid = a.member JOIN pg_roles g ON g.oid = a.roleid` +
	` WHERE ` + isOurs("m.oid") + ` ORDER BY m.rolname COLLATE "C", g.rolname COLLATE "C"`

// databasesOf are the databases a user was given that exist.
func (srv *server) databasesOf(ctx context.Context, user string) ([]string, error) {
	return srv.column(ctx, "SELECT datname FROM pg_database d JOIN pg_auth_members a ON a.roleid = d.datdba JOIN pg_roles m ON m.oid = a.member"+
		" JOIN pg_roles o ON o.oid = d.datdba WHERE o.rolname = "+literal(ownerPrefix)+" || datname AND m.rolname = "+literal(user)+" ORDER BY datname")
}

// ListUsers lists the users that create_user made, by name.
func (s *Service) ListUsers(ctx context.Context, _ handlers.NoParams) ([]agentapi.DatabaseUser, error) {
	users := []agentapi.DatabaseUser{}
	srv, err := s.server()
	if err != nil {
		return nil, err
	}
	rows, err := srv.query(ctx, superuser, memberships)
	if err != nil {
		return nil, err
	}
	for _, row := range rows {
		if n := len(users); n == 0 || users[n-1].Name != row[0] {
			users = append(users, agentapi.DatabaseUser{Name: row[0], Host: "localhost", Databases: []string{}})
		}
		u := &users[len(users)-1]
		if database, ok := strings.CutPrefix(row[1], ownerPrefix); ok {
			u.Databases = append(u.Databases, database)
		} else if row[1] == remoteRole {
			u.Host = "%"
		}
	}
	return users, nil
}

func without(all, some []string) []string {
	return slices.DeleteFunc(append([]string{}, all...), func(s string) bool { return slices.Contains(some, s) })
}
