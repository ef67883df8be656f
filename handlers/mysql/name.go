package mysql

import (
	"regexp"
	"strings"
)

var (
	databaseName = regexp.MustCompile(`^[A-Za-z0-9_]{1,64}$`)
	userName     = regexp.MustCompile(`^[A-Za-z0-9_]{1,80}$`)
	hostName     = regexp.MustCompile(`^[A-Za-z0-9._:%/-]{1,255}$`)
	charsetName  = regexp.MustCompile(`^[A-Za-z0-9_]{1,64}$`)
)

// systemSchemas belong to the server. It compares some of them without regard to case, so we do for all.
var systemSchemas = []string{"information_schema", "mysql", "performance_schema", "sys"}

// systemUsers belong to the server or to its package. Names with other characters never pass userName.
var systemUsers = []string{"mariadb.sys", "mysql", "mysql.infoschema", "mysql.session", "mysql.sys", "debian-sys-maint", "PUBLIC"}

func checkDatabase(name string) error {
	if !databaseName.MatchString(name) {
		return invalid("a database name is 1 to 64 letters, digits or _, not %.80q", name)
	}
	if containsFold(systemSchemas, name) {
		return invalid("database %q belongs to the server", name)
	}
	return nil
}

// account is a user of the server: name and the host it may connect from.
type account struct{ name, host string }

func parseAccount(name, host string) (account, error) {
	if host == "" {
		host = "localhost"
	}
	if containsFold(systemUsers, name) {
		return account{}, invalid("user %q belongs to the server", name)
	}
	if !userName.MatchString(name) {
		return account{}, invalid("a user name is 1 to 80 letters, digits or _, not %.90q", name)
	}
	if !hostName.MatchString(host) {
		return account{}, invalid("%.80q is no host that a user can connect from", host)
	}
	return account{name, host}, nil
}

// parseOwnAccount also refuses root, which only reset_password may touch.
func parseOwnAccount(name, host string) (account, error) {
	if strings.EqualFold(name, "root") {
		return account{}, invalid("user root belongs to the server; reset_password sets its password")
	}
	return parseAccount(name, host)
}

// String is the account in a statement. The patterns above leave nothing to escape.
func (a account) String() string { return "'" + a.name + "'@'" + a.host + "'" }

// identifier quotes a checked name.
func identifier(name string) string { return "`" + name + "`" }

// grantPattern is a checked database name where GRANT and REVOKE expect a pattern: _ would match any character.
func grantPattern(name string) string { return strings.ReplaceAll(name, "_", `\_`) }

func containsFold(list []string, s string) bool {
	for _, e := range list {
		if strings.EqualFold(e, s) {
			return true
		}
	}
	return false
}
