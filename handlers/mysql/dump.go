package mysql

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"io"
	"os"
	"path"
	"strings"
	"time"

	"github.com/reeve-paas/reeve/agent/agentapi"
	"github.com/reeve-paas/reeve/handlers"
	"github.com/reeve-paas/reeve/handlers/blob"
	"github.com/reeve-paas/reeve/handlers/host"
)

const dumpTimeout = 30 * time.Minute

// scratch makes an empty file that nobody else can open, and a function that removes it.
func (s *Service) scratch() (*os.File, func() error, error) {
	if err := s.host.MkdirAll(s.dumpDir, 0o700); err != nil {
		return nil, nil, err
	}
	name := path.Join(s.dumpDir, strings.ToLower(rand.Text()))
	f, err := s.host.CreateFile(name, 0o600)
	if err != nil {
		return nil, nil, err
	}
	return f, func() error { return errors.Join(f.Close(), s.host.Remove(name)) }, nil
}

// wantDatabase says that a database is there.
func (s *Service) wantDatabase(ctx context.Context, name string) error {
	if err := checkDatabase(name); err != nil {
		return err
	}
	return s.read(ctx, func(c *conn) error {
		found, err := c.databaseExists(name)
		if err == nil && !found {
			err = agentapi.Errorf(agentapi.KindNotFound, "ValueError", "there is no database %q", name)
		}
		return err
	})
}

// DumpDatabase writes a database as SQL text to where it was told to.
func (s *Service) DumpDatabase(ctx context.Context, p agentapi.DumpDatabaseParams) (_ handlers.Null, err error) {
	if err := errors.Join(blob.Check(p.Target), s.wantDatabase(ctx, p.Name)); err != nil {
		return handlers.Null{}, err
	}
	file, remove, err := s.scratch()
	if err != nil {
		return handlers.Null{}, err
	}
	defer func() { err = errors.Join(err, remove()) }()
	_, err = s.host.Run(ctx, host.Cmd{Path: s.program("mariadb-dump", "mysqldump"), Timeout: dumpTimeout, StdoutFile: file,
		Args: []string{"--no-defaults", "--user=root", "--socket=" + s.socketPath(), "--default-character-set=utf8mb4", "--single-transaction",
			"--quick", "--hex-blob", "--routines", "--triggers", "--events", "--", p.Name}})
	if err != nil {
		return handlers.Null{}, err
	}
	size, err := file.Seek(0, io.SeekEnd)
	if err != nil {
		return handlers.Null{}, err
	}
	return handlers.Null{}, blob.Store(ctx, p.Target, file, size)
}

func (s *Service) socketPath() string { return s.host.Path(s.host.Layout().MySQLSocket) }

// program is the first of the names that this host has: MariaDB's own, or the one that MySQL gave it.
func (s *Service) program(names ...string) string {
	for _, name := range names {
		if p := "/usr/bin/" + name; s.host.Exists(p) {
			return p
		}
	}
	return names[len(names)-1]
}

// loader is who loads dumps. It is made for one dump and has a password that nobody else learns.
const loader = "reeve_load"

// LoadDump runs a text of SQL on a database. The text is its owner's, so whoever runs it may do nothing but that: neither on
// the server, nor on the host, where the client knows commands that start others.
func (s *Service) LoadDump(ctx context.Context, p agentapi.LoadDumpParams) (_ handlers.Null, err error) {
	if err := errors.Join(blob.Check(p.Source), s.wantDatabase(ctx, p.Name)); err != nil {
		return handlers.Null{}, err
	}
	nobody, err := s.host.LookupUser("nobody")
	if err != nil {
		return handlers.Null{}, err
	}
	file, remove, err := s.scratch()
	if err != nil {
		return handlers.Null{}, err
	}
	defer func() { err = errors.Join(err, remove()) }()
	if _, err := blob.Fetch(ctx, p.Source, file); err != nil {
		return handlers.Null{}, err
	}
	s.loadMu.Lock()
	defer s.loadMu.Unlock()
	password := agentapi.Secret(rand.Text())
	hash, err := nativeHash(password)
	if err != nil {
		return handlers.Null{}, err
	}
	drop := "DROP USER IF EXISTS " + loader + "@localhost"
	_, err = s.change(ctx, func(c *conn) error {
		for _, statement := range []string{drop, "CREATE USER " + loader + "@localhost IDENTIFIED BY PASSWORD '" + hash + "'",
			"GRANT ALL PRIVILEGES ON " + identifier(grantPattern(p.Name)) + ".* TO " + loader + "@localhost"} {
			if err := c.exec(statement); err != nil {
				return err
			}
		}
		return nil
	})
	defer func() {
		gone, cancel := context.WithTimeout(context.WithoutCancel(ctx), dialTimeout)
		defer cancel()
		_, derr := s.change(gone, func(c *conn) error { return c.exec(drop) })
		err = errors.Join(err, derr)
	}()
	if err != nil {
		return handlers.Null{}, err
	}
	_, err = s.host.Run(ctx, host.Cmd{Path: s.program("mariadb", "mysql"), Timeout: dumpTimeout, StdinFile: file, UID: uint32(nobody.UID), GID: uint32(nobody.GID),
		Env: []string{"MYSQL_PWD=" + string(password)},
		Args: []string{"--no-defaults", "--user=" + loader, "--socket=" + s.socketPath(), "--default-character-set=utf8mb4", "--local-infile=0",
			"--batch", "--", p.Name}})
	if failed, ok := errors.AsType[*host.CommandError](err); ok && failed.Err == nil {
		said := bytes.TrimSpace(failed.Output.Stderr)
		for line := range bytes.Lines(said) { // the statement may go before it
			if bytes.HasPrefix(line, []byte("ERROR")) {
				said = bytes.TrimSpace(line)
				break
			}
		}
		err = agentapi.Errorf(agentapi.KindInvalid, "LoadError", "the dump was not loaded to its end: %.500s", said)
	}
	return handlers.Null{}, err
}
