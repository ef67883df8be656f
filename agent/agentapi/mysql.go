package agentapi

import "log/slog"

// Secret is text that must not be seen: it prints and logs as "[redacted]" and goes over the (encrypted) wire as it is.
type Secret string

func (Secret) String() string       { return "[redacted]" }
func (Secret) GoString() string     { return "[redacted]" }
func (Secret) LogValue() slog.Value { return slog.StringValue("[redacted]") }

// The mysql namespace (aliases mysql2, mariadb) drives the host's MariaDB server. Every method may be repeated with the
// same parameters without further effect, and one that fails leaves the server as it was. Common errors: invalid
// (ValueError: a name, a password, or an account of the server itself), unavailable (OperationalError: no server answers).

// CreateDatabaseParams are the parameters of mysql.create_database. A database that exists is left as it is.
//
// Result:  null
// Errors:  invalid (also a character set or collation the server does not know)
type CreateDatabaseParams struct {
	Name      string `json:"name" rpc:"required"` // [A-Za-z0-9_]{1,64}, none of the server's own schemas
	Charset   string `json:"charset,omitempty"`   // default utf8mb4
	Collation string `json:"collation,omitempty"` // default: the character set's own
}

// NameParams name one object. For mysql.drop_database: one that is not there is no error; privileges that users hold on
// exactly this database go with it. Result null.
type NameParams struct {
	Name string `json:"name" rpc:"required"`
}

// CreateDatabaseUserParams are the parameters of mysql.create_user. A user that exists gets the password and the grants.
//
// Result:  null
// Errors:  invalid, not_found (no such database)
type CreateDatabaseUserParams struct {
	Name     string `json:"name" rpc:"required"`     // [A-Za-z0-9_]{1,80}
	Host     string `json:"host,omitempty"`          // default "localhost"
	Password Secret `json:"password" rpc:"required"` // any text without NUL, 1-1024 bytes
	Database string `json:"database,omitempty"`      // gets all privileges on it, and on it only; "" means none
}

// DropDatabaseUserParams are the parameters of mysql.drop_user. A user that is not there is no error. Result null.
type DropDatabaseUserParams struct {
	Name string `json:"name" rpc:"required"`
	Host string `json:"host,omitempty"` // default "localhost"
}

// ResetPasswordParams are the parameters of mysql.reset_password; the result is the password.
//
// Errors:  invalid, not_found (no such user)
type ResetPasswordParams struct {
	NewPassword *Secret `json:"new_password,omitempty"` // default: a new random one
	User        string  `json:"user,omitempty"`         // default "root", which keeps its socket login
	Host        string  `json:"host,omitempty"`         // default "localhost"
}

// DatabaseUser is one row of mysql.list_users, which leaves out the server's own accounts.
type DatabaseUser struct {
	Name      string   `json:"name"`
	Host      string   `json:"host"`
	Databases []string `json:"databases"` // on which it holds privileges; never null
}
