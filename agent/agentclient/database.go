package agentclient

import (
	"context"

	"github.com/reeve-paas/reeve/agent/agentapi"
)

// Database is what the namespaces of database servers have in common; see agentapi/database.go for parameters, errors and
// effects.
type Database struct{ Service }

// Database drives the server of an engine, one of agentapi.EngineMySQL, EnginePostgreSQL and EngineMongoDB.
func (c *Client) Database(engine string) Database { return Database{c.Service(engine)} }

// MySQL drives the host's MariaDB or MySQL server.
func (c *Client) MySQL() Database { return c.Database(agentapi.EngineMySQL) }

// CreateDatabase creates a database. One that exists is left as it is.
func (d Database) CreateDatabase(ctx context.Context, p agentapi.CreateDatabaseParams) error {
	return d.verb(ctx, "create_database", p)
}

// DropDatabase drops a database. One that is not there is no error.
func (d Database) DropDatabase(ctx context.Context, name string) error {
	return d.verb(ctx, "drop_database", agentapi.NameParams{Name: name})
}

// DumpDatabase writes a database as SQL text to a blob (mysql).
func (d Database) DumpDatabase(ctx context.Context, p agentapi.DumpDatabaseParams) error {
	return d.verb(ctx, "dump_database", p)
}

// LoadDump runs the SQL text of a blob on a database (mysql).
func (d Database) LoadDump(ctx context.Context, p agentapi.LoadDumpParams) error {
	return d.verb(ctx, "load_dump", p)
}

// ListDatabases names the databases, without the server's own.
func (d Database) ListDatabases(ctx context.Context) ([]string, error) {
	return invoke[[]string](ctx, d.client, d.namespace, "list_databases", nil)
}

// CreateUser creates a user, or gives one that exists the password and the grants.
func (d Database) CreateUser(ctx context.Context, p agentapi.CreateDatabaseUserParams) error {
	return d.verb(ctx, "create_user", p)
}

// DropUser drops a user. One that is not there is no error.
func (d Database) DropUser(ctx context.Context, p agentapi.DropDatabaseUserParams) error {
	return d.verb(ctx, "drop_user", p)
}

// ListUsers lists the users, without the server's own.
func (d Database) ListUsers(ctx context.Context) ([]agentapi.DatabaseUser, error) {
	return invoke[[]agentapi.DatabaseUser](ctx, d.client, d.namespace, "list_users", nil)
}

// ResetPassword sets a user's password and returns it.
func (d Database) ResetPassword(ctx context.Context, p agentapi.ResetPasswordParams) (agentapi.Secret, error) {
	return invoke[agentapi.Secret](ctx, d.client, d.namespace, "reset_password", p)
}
