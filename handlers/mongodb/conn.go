package mongodb

import (
	"context"
	"errors"
	"net"
	"regexp"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"github.com/reeve-paas/reeve/agent/agentapi"
)

const (
	answerTimeout  = 5 * time.Second // to find the server there
	commandTimeout = time.Minute     // dropping a large database takes a while
)

// Configuration files of a server on this host, the first that exists counts, with the port each means when it tells none.
var configs = []struct{ path, port string }{
	{"/etc/mongodb.shardsrv.conf", "27018"}, // Scalarizr's replica member (spec agent-core 7)
	{modernConf, "27017"},
}

const modernConf = "/etc/mongod.conf"

// portSetting reads both forms of a configuration: "port = 27018" and YAML's "port: 27018" below net.
var portSetting = regexp.MustCompile(`(?m)^\s*port\s*[:=]\s*(\d+)`)

// address is where the server of this host listens.
func (s *Service) address() (string, error) {
	for _, c := range configs {
		text, err := s.host.ReadFile(c.path)
		if err != nil {
			continue
		}
		if m := portSetting.FindSubmatch(text); m != nil {
			c.port = string(m[1])
		}
		return net.JoinHostPort("127.0.0.1", c.port), nil
	}
	return "", agentapi.Errorf(agentapi.KindUnsupported, "InitdError", "MongoDB is not installed on this host")
}

// conn is one connection to one member, for one call.
type conn struct {
	client *mongo.Client
	ctx    context.Context // of the call that owns this connection
}

// dial connects to one member and nobody else; as the administrator unless password is "".
func dial(ctx context.Context, address, password string) (*conn, error) {
	o := options.Client().SetHosts([]string{address}).SetDirect(true).SetAppName("reeve-agent").SetMaxPoolSize(1).
		SetServerSelectionTimeout(answerTimeout).SetConnectTimeout(answerTimeout).SetTimeout(commandTimeout).SetRetryWrites(false)
	if password != "" {
		o.SetAuth(options.Credential{AuthSource: adminDatabase, Username: adminUser, Password: password})
	}
	client, err := mongo.Connect(o)
	if err != nil {
		return nil, err
	}
	return &conn{client: client, ctx: ctx}, nil
}

func (c *conn) close() {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(c.ctx), answerTimeout)
	defer cancel()
	_ = c.client.Disconnect(ctx) // the server forgets a connection that goes without a word too
}

// run sends one command and decodes its answer into out, unless that is nil.
func (c *conn) run(database string, out any, command bson.D) error {
	result := c.client.Database(database).RunCommand(c.ctx, command)
	if out == nil {
		return serverError(result.Err())
	}
	return serverError(result.Decode(out))
}

// undo sends a command that takes back an earlier one; it must also run when the caller has gone.
func (c *conn) undo(database string, command bson.D) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(c.ctx), answerTimeout)
	defer cancel()
	return serverError(c.client.Database(database).RunCommand(ctx, command).Err())
}

// onServer runs fn with a connection to this host's server that may do what it needs to: as the administrator with any of
// the passwords we know, or without a login.
func (s *Service) onServer(ctx context.Context, fn func(*conn) error) error {
	address, err := s.address()
	if err != nil {
		return err
	}
	return s.at(ctx, address, fn)
}

func (s *Service) at(ctx context.Context, address string, fn func(*conn) error) error {
	for _, password := range append(s.passwords(), "") {
		c, err := dial(ctx, address, password)
		if err != nil {
			return serverError(err)
		}
		err = c.run(adminDatabase, nil, bson.D{{Key: "ping", Value: 1}})
		if err == nil {
			err = fn(c)
			c.close()
			return err
		}
		c.close()
		if password == "" || !refused(err) {
			return err
		}
	}
	return nil
}

// onPrimary is onServer, on the primary of this host's replica set.
func (s *Service) onPrimary(ctx context.Context, fn func(*conn) error) error {
	var hello struct {
		Primary  string `bson:"primary"`
		Me       string `bson:"me"`
		SetName  string `bson:"setName"`
		Writable bool   `bson:"isWritablePrimary"`
	}
	return s.onServer(ctx, func(c *conn) error {
		if err := c.run(adminDatabase, &hello, bson.D{{Key: "hello", Value: 1}}); err != nil {
			return err
		}
		if hello.Writable || hello.SetName == "" {
			return fn(c)
		}
		if hello.Primary == "" {
			return unavailable(nil, "the replica set has no primary now")
		}
		return s.at(ctx, hello.Primary, fn)
	})
}

// Error codes of MongoDB.
const (
	codeUserNotFound = 11
	codeUnauthorized = 13
	codeAuthFailed   = 18
	codeShutdown     = 91
	codeNotPrimary   = 10107
	codeUserExists   = 51003
)

// refused says that a login failed.
func refused(err error) bool {
	e, ok := errors.AsType[*agentapi.Error](err)
	return ok && e.Class == "OperationFailure" && e.Kind == agentapi.KindUnsupported
}

func unavailable(err error, reason string) error {
	return &agentapi.Error{Kind: agentapi.KindUnavailable, Class: "OperationalError", Text: reason, Err: err}
}

// isCode says that the server answered with a code.
func isCode(err error, code int32) bool {
	e, ok := errors.AsType[mongo.CommandError](err)
	return ok && e.Code == code
}

// serverError classifies what the driver or the server said. Neither repeats a command's members, so its text may be
// passed on.
func serverError(err error) error {
	if err == nil {
		return nil
	}
	if e, ok := errors.AsType[*agentapi.Error](err); ok {
		return e
	}
	wrap := func(kind agentapi.Kind, class, text string) error {
		return &agentapi.Error{Kind: kind, Class: class, Text: text, Err: err}
	}
	if e, ok := errors.AsType[mongo.CommandError](err); ok {
		switch e.Code {
		case codeUnauthorized, codeAuthFailed:
			return wrap(agentapi.KindUnsupported, "OperationFailure", "the server does not let the agent in as "+adminUser+
				"; its password was changed by somebody else. Put the right one into the agent's credential.json")
		case codeNotPrimary, codeShutdown:
			return wrap(agentapi.KindUnavailable, "OperationalError", e.Message)
		}
		return wrap(agentapi.KindInternal, "OperationFailure", e.Message)
	}
	if text := err.Error(); authFailed.MatchString(text) {
		return wrap(agentapi.KindUnsupported, "OperationFailure", "the server does not let the agent in as "+adminUser+
			"; its password was changed by somebody else. Put the right one into the agent's credential.json")
	}
	if mongo.IsTimeout(err) || mongo.IsNetworkError(err) || errors.Is(err, context.DeadlineExceeded) {
		return wrap(agentapi.KindUnavailable, "OperationalError", "the database server does not answer; start it with start_service")
	}
	return err
}

// authFailed matches what the driver says of a login that failed: its error of that is private.
var authFailed = regexp.MustCompile(`(?i)auth error|authentication failed|sasl conversation error`)
