package postgresql

import (
	"regexp"
	"slices"
	"strings"
)

var (
	databaseName = regexp.MustCompile(`^[A-Za-z0-9_]{1,54}$`) // with ownerPrefix 63 bytes, which is what the server keeps
	userName     = regexp.MustCompile(`^[A-Za-z0-9_]{1,63}$`)
	settingName  = regexp.MustCompile(`^[A-Za-z0-9_.@-]{1,64}$`)
)

// Roles of our own; see doc.go.
const (
	ownerPrefix = "reeve_db_"
	usersRole   = "reeve_users"
	remoteRole  = "reeve_remote"
)

// Names that belong to the server, or to Scalarizr's way of running it (spec agent-core 6.2).
var (
	systemDatabases = []string{"postgres", "template0", "template1", "scalr", masterUser}
	systemUsers     = []string{superuser, "scalr", masterUser, "public", "none"}
)

func checkDatabase(name string) error {
	if !databaseName.MatchString(name) {
		return invalid("a database name is 1 to 54 letters, digits or _, not %.80q", name)
	}
	if slices.Contains(systemDatabases, name) {
		return invalid("database %q belongs to the server", name)
	}
	return nil
}

func checkUser(name, host string) error {
	if !userName.MatchString(name) {
		return invalid("a user name is 1 to 63 letters, digits or _, not %.80q", name)
	}
	if slices.Contains(systemUsers, name) || strings.HasPrefix(name, "pg_") || strings.HasPrefix(name, "reeve_") {
		return invalid("user %q belongs to the server", name)
	}
	if host != "" {
		return invalid("PostgreSQL's users belong to no host; use remote")
	}
	return nil
}

// ownerOf is the role that owns a database.
func ownerOf(database string) string { return ownerPrefix + database }

// identifier quotes a checked name.
func identifier(name string) string { return `"` + name + `"` }

// literal quotes a checked name, or text of our own without quotes, as a value.
func literal(text string) string { return "'" + text + "'" }
