package postgresql

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"path"
	"strings"
	"time"

	"github.com/reeve-paas/reeve/agent/agentapi"
	"github.com/reeve-paas/reeve/agent/operation"
	"github.com/reeve-paas/reeve/handlers/host"
)

// Names of the operations and messages (spec agent-core 3.2, 6.4).
const (
	opBackup     = "postgresql.create-backup"
	opDataBundle = "postgresql.create-databundle"
	opGrow       = "postgresql.grow-volume"

	msgBackup     = "DbMsr_CreateBackupResult"
	msgDataBundle = "DbMsr_CreateDataBundleResult"
)

const (
	dumpTimeout   = 24 * time.Hour
	partialSuffix = ".partial" // of a backup that is not whole yet
)

func (s *Service) backupRoot() string { return path.Join(s.backupDir, "postgresql") }

// CreateBackup dumps every database that is no template.
func (s *Service) CreateBackup(ctx context.Context, p agentapi.CreateBackupParams) (any, error) {
	work, cancel := context.WithCancelCause(context.Background())
	return s.ops.Start(ctx, operation.Task{Name: opBackup, Exclusive: true, Async: p.Async.Or(true),
		OnCancel: func() { cancel(errors.New("cancelled")) },
		Run: func(ctx context.Context, op *operation.Op) (any, error) {
			defer cancel(nil)
			ctx, stop := context.WithCancel(ctx)
			defer stop()
			defer context.AfterFunc(work, stop)()
			parts, err := s.backup(ctx, op)
			message := agentapi.DBMsrCreateBackupResult{DBType: "postgresql", Status: "ok", BackupParts: parts}
			if err != nil {
				message = agentapi.DBMsrCreateBackupResult{DBType: "postgresql", Status: "error", LastError: textOf(err)}
			}
			s.tell(ctx, msgBackup, message)
			return parts, err
		}})
}

// backup writes a directory that has its name from the moment on that it is whole.
func (s *Service) backup(ctx context.Context, op *operation.Op) (parts []agentapi.BackupPart, err error) {
	srv, err := s.server()
	if err != nil {
		return nil, err
	}
	databases, err := srv.column(ctx, `SELECT datname FROM pg_database WHERE NOT datistemplate AND datallowconn ORDER BY datname COLLATE "C"`)
	if err != nil {
		return nil, err
	}
	standby, err := srv.value(ctx, "SELECT pg_is_in_recovery()")
	if err != nil {
		return nil, err
	}
	if err := s.removePartial(); err != nil {
		return nil, err
	}
	began := s.now()
	final := path.Join(s.backupRoot(), began.UTC().Format("20060102-150405")+"-"+op.ID()[:8])
	dir := final + partialSuffix
	if err := s.host.MkdirAll(s.backupRoot(), 0o700); err != nil {
		return nil, err
	}
	if err := s.host.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.host.RemoveAll(dir))
		}
	}()
	manifest := host.Manifest{Description: "dumps of all databases", Tags: map[string]string{"scalr-purpose": purpose(standby == "t")}}
	for _, name := range databases {
		op.Log().Info("dump database", "database", name)
		file, err := srv.dump(ctx, dir, name)
		if err != nil {
			return nil, err
		}
		manifest.Files = append(manifest.Files, file)
		for _, c := range file.Chunks {
			u := url.URL{Scheme: "file", Path: path.Join(final, c.Name)}
			parts = append(parts, agentapi.BackupPart{Path: u.String(), Size: c.Size})
		}
	}
	if err := s.host.WriteManifest(dir, began, manifest); err != nil {
		return nil, err
	}
	return parts, s.host.Rename(dir, final)
}

func purpose(standby bool) string {
	if standby {
		return "postgresql-slave"
	}
	return "postgresql-master"
}

// removePartial removes what a killed agent left of a backup. Only one is made at a time.
func (s *Service) removePartial() error {
	entries, err := s.host.ReadDir(s.backupRoot())
	if err != nil {
		return err
	}
	for _, e := range entries {
		if strings.HasSuffix(e.Name(), partialSuffix) {
			if err := s.host.RemoveAll(path.Join(s.backupRoot(), e.Name())); err != nil {
				return err
			}
		}
	}
	return nil
}

// dump streams one database from pg_dump into chunks; nothing of it lies on the disk uncompressed. pg_dump may end well and
// still have complained: any word of it counts as a failure, as it did in Scalarizr.
func (srv *server) dump(ctx context.Context, dir, database string) (host.ManifestFile, error) {
	h := srv.service.host
	chunks := h.NewChunker(dir, fileName(database)+".sql", srv.service.chunkSize)
	r, w, err := os.Pipe()
	if err != nil {
		return host.ManifestFile{}, err
	}
	copied := make(chan error, 1)
	go func() {
		_, err := io.Copy(chunks, r)
		_ = r.Close() // so that pg_dump does not wait for a reader that gave up
		copied <- err
	}()
	cmd := srv.tool("pg_dump", "--no-privileges", "--no-password", "--dbname="+database)
	cmd.Timeout, cmd.StdoutFile = dumpTimeout, w
	out, err := h.Run(ctx, cmd)
	_ = w.Close()
	err = errors.Join(err, <-copied, chunks.Close())
	if text := strings.TrimSpace(string(out.Stderr)); text != "" {
		return host.ManifestFile{}, &agentapi.Error{Kind: agentapi.KindInternal, Class: "Exception", Err: err,
			Text: fmt.Sprintf("Error while dumping database %s: %s", database, text)}
	}
	if err != nil {
		return host.ManifestFile{}, fmt.Errorf("dump database %s: %w", database, err)
	}
	return chunks.File(), nil
}

// fileName is a database's name where a file's is expected: a name made by hand may hold anything.
func fileName(database string) string {
	return strings.ReplaceAll(url.PathEscape(database), "%2E", ".")
}

// tell sends a message to the coordinator, when there is one.
func (s *Service) tell(ctx context.Context, name string, body any) {
	if s.messages == nil {
		return
	}
	if err := s.messages.Send(context.WithoutCancel(ctx), "control", name, body); err != nil {
		s.log.Warn("send a message", "message", name, "err", err)
	}
}

// textOf is an error's text without its class.
func textOf(err error) string {
	if e, ok := errors.AsType[*agentapi.Error](err); ok {
		return e.Text
	}
	return err.Error()
}
