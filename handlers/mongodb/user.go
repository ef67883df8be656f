package mongodb

import (
	"context"
	"errors"
	"regexp"
	"strings"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/reeve-paas/reeve/agent/agentapi"
	"github.com/reeve-paas/reeve/handlers"
)

const maxPassword = 1024 // bytes

var userName = regexp.MustCompile(`^[A-Za-z0-9_]{1,63}$`)

func checkUser(name, database, host string) error {
	if !userName.MatchString(name) {
		return invalid("a user name is 1 to 63 letters, digits or _, not %.80q", name)
	}
	if database == "" {
		return invalid("a user of MongoDB lives in a database; name it")
	}
	if host != "" {
		return invalid("MongoDB's users belong to no host; use remote")
	}
	return checkDatabase(database)
}

func checkPassword(password agentapi.Secret) error {
	switch {
	case password == "":
		return invalid("the password is empty")
	case len(password) > maxPassword:
		return invalid("the password is longer than %d bytes", maxPassword)
	case strings.ContainsRune(string(password), 0):
		return invalid("the password holds a NUL, where most clients cut it off")
	}
	return nil
}

// CreateUser makes a user that owns a database, or gives an existing one this password and that.
func (s *Service) CreateUser(ctx context.Context, p agentapi.CreateDatabaseUserParams) (handlers.Null, error) {
	if err := checkUser(p.Name, p.Database, p.Host); err != nil {
		return handlers.Null{}, err
	}
	if err := checkPassword(p.Password); err != nil {
		return handlers.Null{}, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.recover(ctx); err != nil {
		return handlers.Null{}, err
	}
	finish := func() error { return nil }
	if p.Remote {
		a, err := s.open(ctx)
		defer a.rollback(ctx)
		if err != nil {
			return handlers.Null{}, err
		}
		finish = a.commit
	}
	return handlers.Null{}, s.onPrimary(ctx, func(c *conn) error {
		made, err := c.putUser(p.Database, p.Name, p.Password, bson.A{bson.D{{Key: "role", Value: "dbOwner"}, {Key: "db", Value: p.Database}}})
		if err != nil {
			return err
		}
		if err = finish(); err != nil && made {
			err = errors.Join(err, c.undo(p.Database, bson.D{{Key: "dropUser", Value: p.Name}}))
		}
		return err
	})
}

// putUser makes a user, or changes one that exists.
func (c *conn) putUser(database, name string, password agentapi.Secret, roles bson.A) (made bool, err error) {
	members := bson.D{{Key: "pwd", Value: string(password)}, {Key: "roles", Value: roles}}
	there, err := c.userExists(database, name)
	if err != nil {
		return false, err
	}
	verb := "createUser"
	if there {
		verb = "updateUser"
	}
	return !there, c.run(database, nil, append(bson.D{{Key: verb, Value: name}}, members...))
}

func (c *conn) userExists(database, name string) (bool, error) {
	var answer struct{ Users []bson.D }
	err := c.run(database, &answer, bson.D{{Key: "usersInfo", Value: name}})
	if isCode(err, codeUnauthorized) { // a server without any user lets nothing but the first one through
		return false, nil
	}
	return len(answer.Users) > 0, err
}

// DropUser removes a user. One that is not there is no error.
func (s *Service) DropUser(ctx context.Context, p agentapi.DropDatabaseUserParams) (handlers.Null, error) {
	if err := checkUser(p.Name, p.Database, p.Host); err != nil {
		return handlers.Null{}, err
	}
	return s.change(ctx, func(c *conn) error {
		err := c.run(p.Database, nil, bson.D{{Key: "dropUser", Value: p.Name}})
		if isCode(err, codeUserNotFound) {
			return nil
		}
		return err
	})
}

// ListUsers lists the users of every database but the server's own, by database and name.
func (s *Service) ListUsers(ctx context.Context, _ handlers.NoParams) ([]agentapi.DatabaseUser, error) {
	users := []agentapi.DatabaseUser{}
	err := s.onServer(ctx, func(c *conn) error {
		var answer struct {
			Users []struct {
				User, DB string
				Roles    []struct{ Role, DB string }
			}
		}
		if err := c.run(adminDatabase, &answer, bson.D{{Key: "usersInfo", Value: bson.D{{Key: "forAllDBs", Value: true}}}}); err != nil {
			return err
		}
		host := "localhost"
		if s.listensEverywhere() {
			host = "%"
		}
		for _, u := range answer.Users {
			if checkDatabase(u.DB) != nil {
				continue
			}
			on := []string{}
			for _, r := range u.Roles {
				on = append(on, r.DB)
			}
			users = append(users, agentapi.DatabaseUser{Name: u.User, Host: host, Databases: on})
		}
		return nil
	})
	return users, err
}

// ResetPassword sets a user's password and returns it: the administrator's, who is made when there is none.
func (s *Service) ResetPassword(ctx context.Context, p agentapi.ResetPasswordParams) (string, error) {
	if p.User == "" {
		p.User = adminUser
	}
	if p.Database == "" {
		p.Database = adminDatabase
	}
	if !userName.MatchString(p.User) || !databaseName.MatchString(p.Database) || p.Host != "" {
		return "", invalid("%.80q in %.80q is no user of MongoDB", p.User, p.Database)
	}
	password := handlers.RandomPassword()
	if p.NewPassword != nil {
		password = *p.NewPassword
	}
	if err := checkPassword(password); err != nil {
		return "", err
	}
	_, err := s.change(ctx, func(c *conn) error {
		if p.User == adminUser && p.Database == adminDatabase {
			return s.resetAdmin(c, password)
		}
		err := c.run(p.Database, nil, bson.D{{Key: "updateUser", Value: p.User}, {Key: "pwd", Value: string(password)}})
		if isCode(err, codeUserNotFound) {
			return agentapi.Errorf(agentapi.KindNotFound, "ValueError", "there is no user %q in database %q", p.User, p.Database)
		}
		return err
	})
	if err != nil {
		return "", err
	}
	return string(password), nil
}

func (s *Service) resetAdmin(c *conn, password agentapi.Secret) error {
	return s.keeping(password, func() error {
		_, err := c.putUser(adminDatabase, adminUser, password, bson.A{bson.D{{Key: "role", Value: "root"}, {Key: "db", Value: adminDatabase}}})
		return err
	})
}
