package agentapi

// The engines whose databases and users a coordinator manages with the same calls. Each is the namespace of its handler.
const (
	EngineMySQL      = "mysql" // MariaDB or MySQL
	EnginePostgreSQL = "postgresql"
	EngineMongoDB    = "mongodb"
)

// Our own methods beside Scalarizr's, the same in the namespaces mysql (aliases mysql2, mariadb), postgresql and mongodb:
// create_database, drop_database, list_databases, create_user, drop_user, list_users; and parameters of reset_password that
// Scalarizr does not have. Every one may be repeated with the same parameters without further effect, and one that fails
// leaves the server as it was. Common errors: invalid (ValueError: a name, a password, something that belongs to the server
// itself), unavailable (OperationalError: no server answers), unsupported (the server is not installed).
//
// Names: [A-Za-z0-9_] up to 64 bytes (mysql; users 80), 54 (postgresql; users 63), 63 (mongodb).

// CreateDatabaseParams are the parameters of create_database. A database that exists is left as it is. MongoDB makes a
// database with its first document, so there nothing but the name is checked.
//
// Result:  null
// Errors:  invalid (also a character set or collation the server does not know)
type CreateDatabaseParams struct {
	Name      string `json:"name" rpc:"required"`
	Charset   string `json:"charset,omitempty"`   // default utf8mb4 (mysql), UTF8 (postgresql); mongodb knows only UTF8
	Collation string `json:"collation,omitempty"` // default: the character set's (mysql), the server's (postgresql)
}

// NameParams name one object. For drop_database: one that is not there is no error; open connections to it are ended. What
// users hold on it goes with it; mongodb's users live in their database and go too. Result null.
type NameParams struct {
	Name string `json:"name" rpc:"required"`
}

// CreateDatabaseUserParams are the parameters of create_user. A user that exists gets the password and the grants.
//
// Users of one database see each other's tables. The user can log in over TCP from this host; with Remote from anywhere,
// for which the server is made to listen on every address. That restarts a server that does not yet.
//
// Result:  null
// Errors:  invalid, not_found (no such database), conflict (postgresql: a database that create_database did not make, or a
// role that create_user did not), config_test (the server refuses to listen)
// Effects: Remote: a file of ours in the server's configuration, for postgresql also two lines in pg_hba.conf; a restart
type CreateDatabaseUserParams struct {
	Name     string `json:"name" rpc:"required"`
	Host     string `json:"host,omitempty"`          // mysql: where it may connect from, default "localhost", with Remote "%". The others refuse it
	Password Secret `json:"password" rpc:"required"` // any text without NUL, 1-1024 bytes
	Database string `json:"database,omitempty"`      // gets all privileges on it, and on it only; "" means none. mongodb: required, the user lives in it
	Remote   bool   `json:"remote,omitempty"`        // may connect from other machines
}

// DumpDatabaseParams are the parameters of mysql.dump_database: write the database as SQL text, tables of one moment and
// what belongs to them, to Target. Loaded into an empty database it makes the same one.
//
// Result:  null
// Errors:  not_found (no such database), unavailable (the blob cannot be reached)
// Limits:  512 MiB
// Source:  spec director 5.3 (sqldump)
type DumpDatabaseParams struct {
	Name   string `json:"name" rpc:"required"`
	Target Blob   `json:"target"` // PUT
}

// LoadDumpParams are the parameters of mysql.load_dump: run the SQL text of Source on a database, as a user who may do
// nothing outside of it. What ran before a statement failed stays.
//
// Result:  null
// Errors:  not_found (no such database), invalid (LoadError: what the server said of a statement), unavailable (the blob
// cannot be reached)
// Limits:  512 MiB, 30 min
// Source:  spec director 5.3 (load_dump)
type LoadDumpParams struct {
	Name   string `json:"name" rpc:"required"`
	Source Blob   `json:"source"`
}

// DropDatabaseUserParams are the parameters of drop_user. A user that is not there is no error. Its open connections are
// ended (mysql: they are not), its tables stay with their database. Result null.
type DropDatabaseUserParams struct {
	Name     string `json:"name" rpc:"required"`
	Host     string `json:"host,omitempty"`     // mysql: default every host it may connect from
	Database string `json:"database,omitempty"` // mongodb: required, where the user lives. The others pay no heed
}

// ResetPasswordParams are the parameters of reset_password; the result is the password in force.
//
// mysql's root keeps its socket login. postgresql's scalr_master is made when it is missing, with its database and its
// account on the host, as Scalarizr did; mongodb's scalr too, as a user of database admin that may do everything. Other
// users must exist.
//
// Result:  the password
// Errors:  invalid, not_found (no such user)
// Source:  spec agent-core 6.1, 6.2, 7
type ResetPasswordParams struct {
	NewPassword *Secret `json:"new_password,omitempty"` // default: a new random one; postgresql and mongodb: ^[A-Za-z0-9]{10}$
	User        string  `json:"user,omitempty"`         // default "root" (mysql), "scalr_master" (postgresql), "scalr" (mongodb)
	Host        string  `json:"host,omitempty"`         // mysql: default "localhost" for root, every host of the name otherwise
	Database    string  `json:"database,omitempty"`     // mongodb: where the user lives, default "admin". The others pay no heed
}

// DatabaseUser is one row of list_users, which leaves out the server's own accounts.
type DatabaseUser struct {
	Name      string   `json:"name"`
	Host      string   `json:"host"`      // mysql: where it may connect from; the others: "localhost", or "%" after Remote
	Databases []string `json:"databases"` // on which it holds privileges; never null
}
