package agentclient

import (
	"context"

	"github.com/reeve-paas/reeve/agent/agentapi"
)

// MySQL is the namespace mysql; see agentapi/mysql.go for parameters, errors and effects.
type MySQL struct{ Service }

// MySQL drives the host's MariaDB or MySQL server.
func (c *Client) MySQL() MySQL { return MySQL{c.Service("mysql")} }

// CreateDatabase creates a database. One that exists is left as it is.
func (m MySQL) CreateDatabase(ctx context.Context, p agentapi.CreateDatabaseParams) error {
	return m.verb(ctx, "create_database", p)
}

// DropDatabase drops a database. One that is not there is no error.
func (m MySQL) DropDatabase(ctx context.Context, name string) error {
	return m.verb(ctx, "drop_database", agentapi.NameParams{Name: name})
}

// ListDatabases names the databases, without the server's own.
func (m MySQL) ListDatabases(ctx context.Context) ([]string, error) {
	return invoke[[]string](ctx, m.client, m.namespace, "list_databases", nil)
}

// CreateUser creates a user, or gives one that exists the password and the grants.
func (m MySQL) CreateUser(ctx context.Context, p agentapi.CreateDatabaseUserParams) error {
	return m.verb(ctx, "create_user", p)
}

// DropUser drops a user. One that is not there is no error.
func (m MySQL) DropUser(ctx context.Context, p agentapi.DropDatabaseUserParams) error {
	return m.verb(ctx, "drop_user", p)
}

// ListUsers lists the users, without the server's own.
func (m MySQL) ListUsers(ctx context.Context) ([]agentapi.DatabaseUser, error) {
	return invoke[[]agentapi.DatabaseUser](ctx, m.client, m.namespace, "list_users", nil)
}

// ResetPassword sets a user's password and returns it.
func (m MySQL) ResetPassword(ctx context.Context, p agentapi.ResetPasswordParams) (agentapi.Secret, error) {
	return invoke[agentapi.Secret](ctx, m.client, m.namespace, "reset_password", p)
}
