package agentapi

// Secret is text that must not be seen: it prints as "[redacted]" and goes over the (encrypted) wire as it is.
type Secret string

func (Secret) String() string   { return "[redacted]" }
func (Secret) GoString() string { return "[redacted]" }

// CreateDatabaseParams are the parameters of mysql.create_database. A database that exists is left as it is.
type CreateDatabaseParams struct {
	Name      string `json:"name" rpc:"required"` // [A-Za-z0-9_]{1,64}
	Charset   string `json:"charset,omitempty"`   // default utf8mb4
	Collation string `json:"collation,omitempty"` // default: the character set's own
}

// NameParams name one object.
type NameParams struct {
	Name string `json:"name" rpc:"required"`
}

// CreateDatabaseUserParams are the parameters of mysql.create_user. A user that exists gets the password and the grants.
type CreateDatabaseUserParams struct {
	Name     string `json:"name" rpc:"required"` // [A-Za-z0-9_]{1,80}
	Host     string `json:"host,omitempty"`      // default "localhost"
	Password Secret `json:"password" rpc:"required"`
	Database string `json:"database,omitempty"` // gets all privileges on it; "" means none
}

// DropDatabaseUserParams are the parameters of mysql.drop_user. A user that is not there is no error.
type DropDatabaseUserParams struct {
	Name string `json:"name" rpc:"required"`
	Host string `json:"host,omitempty"` // default "localhost"
}

// ResetPasswordParams are the parameters of mysql.reset_password; the result is the password.
type ResetPasswordParams struct {
	NewPassword *Secret `json:"new_password,omitempty"` // default: a new random one
	User        string  `json:"user,omitempty"`         // default "root", which keeps its socket login
}
