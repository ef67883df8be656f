package mysql

import (
	"context"

	"github.com/reeve-paas/reeve/agent/agentapi"
	"github.com/reeve-paas/reeve/handlers"
)

// CreateDatabase makes a database unless it exists.
func (s *Service) CreateDatabase(ctx context.Context, p agentapi.CreateDatabaseParams) (handlers.Null, error) {
	if p.Charset == "" {
		p.Charset = "utf8mb4"
	}
	if err := checkDatabase(p.Name); err != nil {
		return handlers.Null{}, err
	}
	if !charsetName.MatchString(p.Charset) {
		return handlers.Null{}, invalid("%.80q is no character set", p.Charset)
	}
	statement := "CREATE DATABASE IF NOT EXISTS " + identifier(p.Name) + " CHARACTER SET " + p.Charset
	if p.Collation != "" {
		if !charsetName.MatchString(p.Collation) {
			return handlers.Null{}, invalid("%.80q is no collation", p.Collation)
		}
		statement += " COLLATE " + p.Collation
	}
	return s.change(ctx, func(c *conn) error { return c.exec(statement) })
}

// DropDatabase removes a database and the privileges held on exactly it: who creates the name anew must not find the
// former owner's users inside. Killed in between, a repetition takes the privileges away.
func (s *Service) DropDatabase(ctx context.Context, p agentapi.NameParams) (handlers.Null, error) {
	if err := checkDatabase(p.Name); err != nil {
		return handlers.Null{}, err
	}
	return s.change(ctx, func(c *conn) error {
		if err := c.exec("DROP DATABASE IF EXISTS " + identifier(p.Name)); err != nil {
			return err
		}
		return c.revokeAll(p.Name)
	})
}

// revokeAll takes every user's privileges on a database away. Accounts come from the server's own table and may hold any
// character, so they are passed as values.
func (c *conn) revokeAll(database string) error {
	type grant struct{ pattern, user, host string }
	var grants []grant
	err := c.rows(func(col []string) { grants = append(grants, grant{col[0], col[1], col[2]}) }, 3,
		"SELECT Db, User, Host FROM mysql.db WHERE Db IN (?, ?)", database, grantPattern(database))
	if err != nil {
		return err
	}
	for _, g := range grants {
		for _, what := range []string{"GRANT OPTION", "ALL PRIVILEGES"} { // the second removes the row that the first needs
			if err := c.exec("REVOKE "+what+" ON "+identifier(g.pattern)+".* FROM ?@?", g.user, g.host); err != nil {
				return err
			}
		}
	}
	return nil
}

// ListDatabases names the databases in alphabetical order, without the server's own.
func (s *Service) ListDatabases(ctx context.Context, _ handlers.NoParams) ([]string, error) {
	names := []string{}
	err := s.read(ctx, func(c *conn) error {
		return c.rows(func(col []string) {
			if !containsFold(systemSchemas, col[0]) {
				names = append(names, col[0])
			}
		}, 1, "SELECT schema_name FROM information_schema.schemata ORDER BY schema_name")
	})
	return names, err
}

func (c *conn) databaseExists(name string) (bool, error) {
	return c.exists("SELECT 1 FROM information_schema.schemata WHERE schema_name = ?", name)
}
