package mongodb

import (
	"context"
	"regexp"
	"slices"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/reeve-paas/reeve/agent/agentapi"
	"github.com/reeve-paas/reeve/handlers"
)

var (
	databaseName    = regexp.MustCompile(`^[A-Za-z0-9_]{1,63}$`)
	systemDatabases = []string{adminDatabase, "config", "local"}
)

func checkDatabase(name string) error {
	if !databaseName.MatchString(name) {
		return invalid("a database name is 1 to 63 letters, digits or _, not %.80q", name)
	}
	if slices.Contains(systemDatabases, name) {
		return invalid("database %q belongs to the server", name)
	}
	return nil
}

// CreateDatabase checks the name and that the server answers. The database comes into being with its first document.
func (s *Service) CreateDatabase(ctx context.Context, p agentapi.CreateDatabaseParams) (handlers.Null, error) {
	if err := checkDatabase(p.Name); err != nil {
		return handlers.Null{}, err
	}
	if p.Charset != "" || p.Collation != "" {
		return handlers.Null{}, invalid("MongoDB's databases have no character set and no collation of their own")
	}
	return s.change(ctx, func(*conn) error { return nil })
}

// DropDatabase removes a database and the users that live in it, users first: killed in between, nobody is left who could
// get into a database that is made anew.
func (s *Service) DropDatabase(ctx context.Context, p agentapi.NameParams) (handlers.Null, error) {
	if err := checkDatabase(p.Name); err != nil {
		return handlers.Null{}, err
	}
	return s.change(ctx, func(c *conn) error {
		if err := c.run(p.Name, nil, bson.D{{Key: "dropAllUsersFromDatabase", Value: 1}}); err != nil {
			return err
		}
		return c.run(p.Name, nil, bson.D{{Key: "dropDatabase", Value: 1}})
	})
}

// ListDatabases names the databases in alphabetical order, without the server's own.
func (s *Service) ListDatabases(ctx context.Context, _ handlers.NoParams) ([]string, error) {
	names := []string{}
	err := s.onServer(ctx, func(c *conn) error {
		var answer struct{ Databases []struct{ Name string } }
		if err := c.run(adminDatabase, &answer, bson.D{{Key: "listDatabases", Value: 1}, {Key: "nameOnly", Value: true}}); err != nil {
			return err
		}
		for _, d := range answer.Databases {
			if !slices.Contains(systemDatabases, d.Name) {
				names = append(names, d.Name)
			}
		}
		slices.Sort(names)
		return nil
	})
	return names, err
}
