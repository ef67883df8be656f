package postgresql

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/reeve-paas/reeve/agent/agentapi"
	"github.com/reeve-paas/reeve/handlers"
	"github.com/reeve-paas/reeve/handlers/host"
)

// masterUser is who reset_password is about: a role that may do everything, with a database and an account on the host of
// the same name (spec agent-core 6.2).
const masterUser = "scalr_master"

// ResetPassword sets the password of a role, and of the account on the host that belongs to scalr_master, and returns it.
func (s *Service) ResetPassword(ctx context.Context, p agentapi.ResetPasswordParams) (string, error) {
	if p.User == "" {
		p.User = masterUser
	}
	if !userName.MatchString(p.User) {
		return "", invalid("a user name is 1 to 63 letters, digits or _, not %.80q", p.User)
	}
	if p.Host != "" {
		return "", invalid("PostgreSQL's users belong to no host")
	}
	password := handlers.RandomPassword()
	if p.NewPassword != nil {
		password = *p.NewPassword
	}
	secret, err := verifier(password)
	if err != nil {
		return "", err
	}
	if p.User == masterUser && strings.ContainsAny(string(password), "\r\n") {
		return "", invalid("the password holds a line break, which no account of the host can have")
	}
	_, err = s.change(ctx, func(srv *server) error {
		access, err := srv.openFor(ctx, false)
		defer access.rollback(ctx)
		if err != nil {
			return err
		}
		if p.User == masterUser {
			err = srv.resetMaster(ctx, password, secret)
		} else {
			err = srv.resetRole(ctx, p.User, secret)
		}
		if err != nil {
			return err
		}
		return access.commit()
	})
	if err != nil {
		return "", err
	}
	return string(password), nil
}

func (srv *server) resetRole(ctx context.Context, user, secret string) error {
	there, err := srv.roleExists(ctx, user)
	if err != nil {
		return err
	}
	if !there {
		return agentapi.Errorf(agentapi.KindNotFound, "ValueError", "there is no user %q", user)
	}
	return srv.exec(ctx, superuser, "ALTER ROLE "+identifier(user)+" PASSWORD '"+secret+"'")
}

// resetMaster makes what is missing of scalr_master and sets both its passwords. The account's comes last, since it alone
// cannot be put back.
func (srv *server) resetMaster(ctx context.Context, password agentapi.Secret, secret string) error {
	c := srv.service.host.Begin()
	defer srv.service.rollback(c)
	if err := srv.makeAccount(ctx, c); err != nil {
		return err
	}
	if err := srv.makeMasterRole(ctx, c, secret); err != nil {
		return err
	}
	_, there, err := srv.databaseOwner(ctx, masterUser)
	if err != nil {
		return err
	}
	if !there {
		if err := srv.exec(ctx, superuser, "CREATE DATABASE "+masterUser+" OWNER "+masterUser); err != nil {
			return err
		}
		c.OnRollback(func() error { return srv.undo(ctx, superuser, "DROP DATABASE IF EXISTS "+masterUser+" WITH (FORCE)") })
	}
	line := []byte(masterUser + ":" + string(password) + "\n")
	if _, err := srv.service.host.Run(ctx, host.Cmd{Path: "chpasswd", Stdin: line}); err != nil {
		return fmt.Errorf("set the password of account %s: %w", masterUser, err)
	}
	c.Commit()
	return nil
}

func (srv *server) makeAccount(ctx context.Context, c *host.Change) error {
	h := srv.service.host
	if _, err := h.LookupUser(masterUser); err == nil {
		return nil
	}
	_, err := h.Run(ctx, host.Cmd{Path: "useradd", Args: []string{"-g", superuser, "-M", "-d", "/", "-s", "/bin/sh", masterUser}})
	if err != nil {
		return fmt.Errorf("make account %s: %w", masterUser, err)
	}
	c.OnRollback(func() error {
		_, err := h.Run(context.WithoutCancel(ctx), host.Cmd{Path: "userdel", Args: []string{masterUser}})
		return err
	})
	return nil
}

// makeMasterRole makes the role, or gives it the new password; the old verifier is what puts the old password back.
func (srv *server) makeMasterRole(ctx context.Context, c *host.Change, secret string) error {
	rows, err := srv.query(ctx, superuser, "SELECT coalesce(rolpassword, '') FROM pg_authid WHERE rolname = "+literal(masterUser))
	if err != nil {
		return err
	}
	if len(rows) == 0 {
		if err := srv.exec(ctx, superuser, "CREATE ROLE "+masterUser+" SUPERUSER LOGIN PASSWORD '"+secret+"'"); err != nil {
			return err
		}
		c.OnRollback(func() error { return srv.undo(ctx, superuser, "DROP ROLE IF EXISTS "+masterUser) })
		return nil
	}
	old := "NULL"
	if rows[0][0] != "" {
		old = "'" + rows[0][0] + "'"
	}
	c.OnRollback(func() error { return srv.undo(ctx, superuser, "ALTER ROLE "+masterUser+" PASSWORD "+old) })
	return srv.exec(ctx, superuser, "ALTER ROLE "+masterUser+" LOGIN PASSWORD '"+secret+"'")
}

func (s *Service) rollback(c *host.Change) {
	if err := c.Rollback(); err != nil && !errors.Is(err, context.Canceled) {
		s.log.Error("take a failed change back", "err", err)
	}
}
