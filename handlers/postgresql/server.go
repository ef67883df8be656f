package postgresql

import (
	"bytes"
	"context"
	"errors"
	"path"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/reeve-paas/reeve/agent/agentapi"
	"github.com/reeve-paas/reeve/handlers/host"
)

const (
	superuser        = "postgres"       // of the server and of the host, in both families
	statementTimeout = 10 * time.Minute // dropping a large database takes a while; the caller may give up earlier
	separator        = "\x1f"           // between the columns of a row
	connectionFailed = 2                // exit status of psql
	maxRows          = 16 << 20         // bytes of output
)

// server is a running server: where its socket is, as its postmaster.pid tells.
type server struct {
	host.PostgreSQLCluster
	service   *Service
	user      host.User
	dataDir   string
	port      string
	socketDir string
}

func (s *Service) cluster() (host.PostgreSQLCluster, error) {
	c, ok := s.host.PostgreSQL()
	if !ok {
		return c, agentapi.Errorf(agentapi.KindUnsupported, "InitdError", "PostgreSQL is not installed on this host")
	}
	return c, nil
}

var dataDirectory = regexp.MustCompile(`(?m)^\s*data_directory\s*=?\s*'([^'\n]+)'`)

// dataDir is where a cluster's data lies: the last setting in its postgresql.conf, or where packages put it.
func (s *Service) dataDir(c host.PostgreSQLCluster) string {
	text, _ := s.host.ReadFile(path.Join(c.ConfDir, "postgresql.conf"))
	if all := dataDirectory.FindAllSubmatch(text, -1); all != nil {
		return string(all[len(all)-1][1])
	}
	if s.host.Exists(path.Join(c.ConfDir, "PG_VERSION")) { // the configuration lies among the data
		return c.ConfDir
	}
	return c.Data
}

// server finds the running server.
func (s *Service) server() (*server, error) {
	c, err := s.cluster()
	if err != nil {
		return nil, err
	}
	return s.serverOf(c)
}

func (s *Service) serverOf(c host.PostgreSQLCluster) (*server, error) {
	srv := &server{PostgreSQLCluster: c, service: s, dataDir: s.dataDir(c)}
	var err error
	if srv.user, err = s.host.LookupUser(superuser); err != nil {
		return nil, agentapi.Errorf(agentapi.KindUnsupported, "InitdError", "PostgreSQL is not installed on this host: it has no user %s", superuser)
	}
	pid, err := s.host.ReadFile(path.Join(srv.dataDir, "postmaster.pid"))
	lines := strings.Split(string(pid), "\n")
	if err != nil || len(lines) < 5 { // pid, data directory, start time, port, socket directory
		return nil, unavailable(err, "")
	}
	srv.port, srv.socketDir = lines[3], lines[4]
	if srv.Major == 0 {
		version, _ := s.host.ReadFile(path.Join(srv.dataDir, "PG_VERSION"))
		srv.Major, _ = strconv.Atoi(strings.TrimSpace(string(version)))
	}
	return srv, nil
}

func unavailable(err error, reason string) error {
	text := "the database server does not answer; start it with start_service"
	if reason != "" {
		text = "the database server does not answer: " + reason
	}
	return &agentapi.Error{Kind: agentapi.KindUnavailable, Class: "OperationalError", Text: text, Err: err}
}

// tool is one of PostgreSQL's programs, run as its user against this server.
func (srv *server) tool(name string, args ...string) host.Cmd {
	return host.Cmd{
		Path: path.Join(srv.BinDir, name), Args: append([]string{"-h", srv.socketDir, "-p", srv.port}, args...),
		Env: []string{"PGUSER=" + superuser, "PGCLIENTENCODING=UTF8", "PGCONNECT_TIMEOUT=10", "PGAPPNAME=reeve-agent",
			"PGOPTIONS=-c standard_conforming_strings=on -c client_min_messages=warning"},
		UID: srv.user.UID, GID: srv.user.GID, Groups: srv.user.Groups,
	}
}

// query runs statements in a database and returns the rows they answer.
func (srv *server) query(ctx context.Context, database, statements string) ([][]string, error) {
	cmd := srv.tool("psql", "-XAtqw", "-F", separator, "-v", "ON_ERROR_STOP=1", "-v", "VERBOSITY=verbose", "-d", database)
	cmd.Stdin = []byte(statements)
	cmd.Timeout, cmd.MaxOutput = statementTimeout, maxRows
	out, err := srv.service.host.Run(ctx, cmd)
	if err != nil {
		return nil, serverError(err)
	}
	var rows [][]string
	for line := range bytes.Lines(out.Stdout) {
		rows = append(rows, strings.Split(strings.TrimSuffix(string(line), "\n"), separator))
	}
	return rows, nil
}

func (srv *server) exec(ctx context.Context, database, statements string) error {
	_, err := srv.query(ctx, database, statements)
	return err
}

// undo runs statements that take back earlier ones; they must also run when the caller has gone.
func (srv *server) undo(ctx context.Context, database, statements string) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
	defer cancel()
	return srv.exec(ctx, database, statements)
}

// value is the only column of the only row of a query, "" when there is none.
func (srv *server) value(ctx context.Context, query string) (string, error) {
	rows, err := srv.query(ctx, superuser, query)
	if err != nil || len(rows) == 0 {
		return "", err
	}
	return rows[0][0], nil
}

// column is the first column of a query.
func (srv *server) column(ctx context.Context, query string) ([]string, error) {
	rows, err := srv.query(ctx, superuser, query)
	list := make([]string, len(rows))
	for i, r := range rows {
		list[i] = r[0]
	}
	return list, err
}

// serverMessage is an error of the server as psql shows it when asked for its code.
var serverMessage = regexp.MustCompile(`(?m)(?:ERROR|FATAL|PANIC):  ([0-9A-Z]{5}): (.*)$`)

// SQLSTATE codes, PostgreSQL's appendix A.
const (
	stateCannotConnectNow = "57P03" // starting up, shutting down
	stateAdminShutdown    = "57P01"
	stateReadOnly         = "25006"
	stateDependent        = "2BP01"
)

// serverError classifies what psql or the server said. Statements never hold secrets, so its text may be passed on.
func serverError(err error) error {
	failed, ok := errors.AsType[*host.CommandError](err)
	if !ok || failed.Err != nil {
		return err
	}
	text := strings.TrimSpace(string(failed.Output.Stderr))
	wrap := func(kind agentapi.Kind, text string) error {
		return &agentapi.Error{Kind: kind, Class: "OperationalError", Text: text, Err: err}
	}
	if m := serverMessage.FindStringSubmatch(text); m != nil {
		switch m[1] {
		case stateCannotConnectNow, stateAdminShutdown:
			return unavailable(err, m[2])
		case stateReadOnly:
			return wrap(agentapi.KindUnsupported, "this server is a standby, which takes no changes")
		case stateDependent:
			return wrap(agentapi.KindConflict, m[2])
		case "22023", "42704", "42602", "42809": // invalid parameter value, undefined object, invalid name, wrong object type (a collation)
			return &agentapi.Error{Kind: agentapi.KindInvalid, Class: "ValueError", Text: m[2], Err: err}
		}
		return wrap(agentapi.KindInternal, m[2])
	}
	if failed.Output.Code == connectionFailed {
		return unavailable(err, lastLine(text))
	}
	return wrap(agentapi.KindInternal, lastLine(text))
}

func lastLine(text string) string { return text[strings.LastIndexByte(text, '\n')+1:] }
