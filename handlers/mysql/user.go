package mysql

import (
	"context"
	"crypto/rand"
	"crypto/sha1"
	"encoding/hex"
	"errors"
	"strings"

	"github.com/reeve-paas/reeve/agent/agentapi"
	"github.com/reeve-paas/reeve/handlers"
)

const (
	maxPassword = 1024 // bytes
	anyHost     = "%"
)

// CreateUser makes a user, or gives an existing one this password and these privileges.
func (s *Service) CreateUser(ctx context.Context, p agentapi.CreateDatabaseUserParams) (handlers.Null, error) {
	if p.Host == "" && p.Remote {
		p.Host = anyHost
	}
	who, err := parseOwnAccount(p.Name, p.Host)
	if err != nil {
		return handlers.Null{}, err
	}
	hash, err := nativeHash(p.Password)
	if err != nil {
		return handlers.Null{}, err
	}
	if p.Database != "" {
		if err := checkDatabase(p.Database); err != nil {
			return handlers.Null{}, err
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.recover(ctx); err != nil {
		return handlers.Null{}, err
	}
	if err := s.read(ctx, func(c *conn) error { return c.checkGrant(p.Database) }); err != nil {
		return handlers.Null{}, err
	}
	if p.Remote {
		l, err := s.listen(ctx)
		defer l.rollback(ctx)
		if err != nil {
			return handlers.Null{}, err
		}
		err = s.read(ctx, func(c *conn) error { return c.putUser(who, hash, p.Database, l.commit) })
		return handlers.Null{}, err
	}
	return handlers.Null{}, s.read(ctx, func(c *conn) error { return c.putUser(who, hash, p.Database, nothing) })
}

func nothing() error { return nil }

func (c *conn) checkGrant(database string) error {
	if database == "" {
		return nil
	}
	there, err := c.databaseExists(database)
	if err == nil && !there {
		err = agentapi.Errorf(agentapi.KindNotFound, "ValueError", "there is no database %q", database)
	}
	return err
}

// putUser makes or changes a user, and then finishes what else belongs to the change.
func (c *conn) putUser(who account, hash, database string, finish func() error) error {
	there, err := c.userExists(who)
	if err != nil {
		return err
	}
	if there {
		err = c.updateUser(who, hash, database)
	} else {
		err = c.createUser(who, hash, database)
	}
	if err != nil {
		return err
	}
	if err = finish(); err != nil && !there {
		err = errors.Join(err, c.undo("DROP USER "+who.String()))
	}
	return err
}

func (c *conn) createUser(who account, hash, database string) error {
	if err := c.exec("CREATE USER " + who.String() + withHash(hash)); err != nil {
		return err
	}
	if database == "" {
		return nil
	}
	if err := c.exec("GRANT ALL PRIVILEGES ON " + identifier(grantPattern(database)) + ".* TO " + who.String()); err != nil {
		return errors.Join(err, c.undo("DROP USER "+who.String()))
	}
	return nil
}

// updateUser grants first: a grant that was not there can be taken back, a replaced password cannot.
func (c *conn) updateUser(who account, hash, database string) error {
	granted := false
	if database != "" {
		held, err := c.exists("SELECT 1 FROM mysql.db WHERE Db = ? AND User = ? AND Host = ?", grantPattern(database), who.name, who.host)
		if err != nil {
			return err
		}
		if err := c.exec("GRANT ALL PRIVILEGES ON " + identifier(grantPattern(database)) + ".* TO " + who.String()); err != nil {
			return err
		}
		granted = !held
	}
	err := c.exec("ALTER USER " + who.String() + withHash(hash))
	if err != nil && granted {
		err = errors.Join(err, c.undo("REVOKE ALL PRIVILEGES ON "+identifier(grantPattern(database))+".* FROM "+who.String()))
	}
	return err
}

// DropUser removes a user and with it all its privileges.
func (s *Service) DropUser(ctx context.Context, p agentapi.DropDatabaseUserParams) (handlers.Null, error) {
	who, err := parseOwnAccount(p.Name, p.Host)
	if err != nil {
		return handlers.Null{}, err
	}
	return s.change(ctx, func(c *conn) error {
		all, err := c.accounts(who, p.Host == "")
		if err != nil || len(all) == 0 {
			return err
		}
		return c.exec("DROP USER IF EXISTS " + joined(all, ""))
	})
}

// accounts are the one account, if it exists, or all of its name.
func (c *conn) accounts(who account, everyHost bool) ([]account, error) {
	var all []account
	err := c.rows(func(col []string) {
		if a := (account{who.name, col[0]}); (everyHost || col[0] == who.host) && hostName.MatchString(col[0]) {
			all = append(all, a)
		}
	}, 1, "SELECT Host FROM mysql.user WHERE User = ? ORDER BY Host", who.name)
	return all, err
}

// joined is a list of accounts in a statement, each with the same clause.
func joined(all []account, clause string) string {
	text := make([]string, len(all))
	for i, a := range all {
		text[i] = a.String() + clause
	}
	return strings.Join(text, ", ")
}

// ListUsers lists users by name and host, without the server's own.
func (s *Service) ListUsers(ctx context.Context, _ handlers.NoParams) ([]agentapi.DatabaseUser, error) {
	users := []agentapi.DatabaseUser{}
	err := s.read(ctx, func(c *conn) error {
		databases := map[account][]string{}
		err := c.rows(func(col []string) {
			who := account{col[1], col[2]}
			databases[who] = append(databases[who], strings.ReplaceAll(col[0], `\_`, "_"))
		}, 3, "SELECT Db, User, Host FROM mysql.db ORDER BY Db")
		if err != nil {
			return err
		}
		return c.rows(func(col []string) {
			if col[0] == "" || strings.EqualFold(col[0], "root") || containsFold(systemUsers, col[0]) {
				return
			}
			on := databases[account{col[0], col[1]}]
			if on == nil {
				on = []string{}
			}
			users = append(users, agentapi.DatabaseUser{Name: col[0], Host: col[1], Databases: on})
		}, 2, "SELECT User, Host FROM mysql.user WHERE is_role = 'N' ORDER BY User, Host")
	})
	return users, err
}

// ResetPassword sets a user's password and returns it. root can still log in over the socket afterwards: that is how the
// agent, and the distribution's own maintenance, get in.
func (s *Service) ResetPassword(ctx context.Context, p agentapi.ResetPasswordParams) (string, error) {
	if p.User == "" {
		p.User = "root"
	}
	who, err := parseAccount(p.User, p.Host)
	if err != nil {
		return "", err
	}
	password := agentapi.Secret(rand.Text())
	if p.NewPassword != nil {
		password = *p.NewPassword
	}
	hash, err := nativeHash(password)
	if err != nil {
		return "", err
	}
	_, err = s.change(ctx, func(c *conn) error {
		all, err := c.accounts(who, p.Host == "" && who.name != "root")
		if err != nil {
			return err
		}
		if len(all) == 0 {
			return agentapi.Errorf(agentapi.KindNotFound, "ValueError", "there is no user %s", who)
		}
		if who.name == "root" {
			return c.exec("ALTER USER " + who.String() + " IDENTIFIED VIA unix_socket OR mysql_native_password USING '" + hash + "'")
		}
		return c.exec("ALTER USER " + joined(all, withHash(hash)))
	})
	if err != nil {
		return "", err
	}
	return string(password), nil
}

func (c *conn) userExists(who account) (bool, error) {
	return c.exists("SELECT 1 FROM mysql.user WHERE User = ? AND Host = ?", who.name, who.host)
}

func withHash(hash string) string {
	return " IDENTIFIED VIA mysql_native_password USING '" + hash + "'"
}

// nativeHash is what the server stores for a password: "*" and SHA1(SHA1(password)) in upper-case hexadecimal digits.
func nativeHash(password agentapi.Secret) (string, error) {
	switch {
	case password == "":
		return "", invalid("the password is empty")
	case len(password) > maxPassword:
		return "", invalid("the password is longer than %d bytes", maxPassword)
	case strings.ContainsRune(string(password), 0):
		return "", invalid("the password holds a NUL, where most clients cut it off")
	}
	once := sha1.Sum([]byte(password))
	twice := sha1.Sum(once[:])
	return "*" + strings.ToUpper(hex.EncodeToString(twice[:])), nil
}
