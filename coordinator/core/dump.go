package core

import (
	"context"
	"errors"
	"io"

	"github.com/reeve-paas/reeve/agent/agentapi"
)

// openDatabase is the running database of the caller's service, and the agent beside it. The database is made when nobody
// used it yet.
func (c *Core) openDatabase(ctx context.Context, p Principal, num int64, action string) (Service, Node, Agent, error) {
	s, err := view(ctx, c.Store, func(r Reader) (Service, error) {
		s, err := ownService(r, p, num)
		switch {
		case err != nil:
		case !s.Managed || s.App.Engine != agentapi.EngineMySQL:
			err = Errorf(Unsupported, ObjService, "this service is no database that can be dumped")
		case c.Files == nil:
			err = Errorf(Unsupported, ObjService, "dumps cannot be stored here")
		case s.State != ServiceRunning || len(s.App.Nodes) == 0:
			err = Errorf(Busy, ObjService, "ERROR: the service is in state %s", s.State)
		}
		return s, err
	})
	if err != nil {
		return s, Node{}, nil, err
	}
	if err := c.Store.Update(ctx, func(tx Tx) error { return tx.Audit(c.auditRecord(p, action, string(s.AppID), "", "accepted")) }); err != nil {
		return s, Node{}, nil, err
	}
	node := s.App.Nodes[0]
	agent, err := c.Agents.Agent(node)
	if err == nil {
		err = classified(agent.CreateDatabase(ctx, s.App.Engine, agentapi.CreateDatabaseParams{Name: databaseUser}), Internal, ObjService, "create the database")
	}
	return s, node, agent, err
}

// DumpService is the database of a running service as SQL text, which the caller closes.
//
// Errors: not_found, unsupported (no such database), busy (only in RUNNING), unavailable
func (c *Core) DumpService(ctx context.Context, p Principal, num int64) (text io.ReadCloser, size int64, err error) {
	text, size, err = c.dumpService(ctx, p, num)
	if err != nil {
		c.refused(ctx, p, "service.dump", "", err)
	}
	return text, size, err
}

func (c *Core) dumpService(ctx context.Context, p Principal, num int64) (io.ReadCloser, int64, error) {
	s, node, agent, err := c.openDatabase(ctx, p, num, "service.dump")
	if err != nil {
		return nil, 0, err
	}
	name := TemporaryFile + randomHex(16)
	target, err := c.Files.Accept(node, name)
	if err != nil {
		return nil, 0, err
	}
	if err := agent.DumpDatabase(ctx, s.App.Engine, agentapi.DumpDatabaseParams{Name: databaseUser, Target: target}); err != nil {
		return nil, 0, classified(err, Internal, ObjService, "dump the database")
	}
	sum, err := c.Files.Accepted(name)
	if err != nil {
		return nil, 0, err
	}
	f, err := c.Files.Open(sum)
	if err == nil {
		err = c.dropUnused(context.WithoutCancel(ctx), sum) // whoever has it open reads on
	}
	if err != nil {
		return nil, 0, err
	}
	size, err := f.Seek(0, io.SeekEnd)
	if err == nil {
		_, err = f.Seek(0, io.SeekStart)
	}
	if err != nil {
		return nil, 0, errors.Join(err, f.Close())
	}
	return f, size, nil
}

// LoadDump runs SQL text on the database of a running service, and waits for its end. What ran before a statement failed
// stays.
//
// Errors: not_found, unsupported (no such database), busy (only in RUNNING), invalid (too big; what the server said of a
// statement), unavailable
func (c *Core) LoadDump(ctx context.Context, p Principal, num int64, text io.Reader) error {
	err := c.loadDump(ctx, p, num, text)
	if err != nil {
		c.refused(ctx, p, "service.load_dump", "", err)
	}
	return err
}

func (c *Core) loadDump(ctx context.Context, p Principal, num int64, text io.Reader) (err error) {
	s, node, agent, err := c.openDatabase(ctx, p, num, "service.load_dump")
	if err != nil {
		return err
	}
	sum, _, err := c.Files.Put(ctx, text)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, c.dropUnused(context.WithoutCancel(ctx), sum)) }()
	source, err := c.Files.Lend(node, sum)
	if err != nil {
		return err
	}
	err = agent.LoadDump(ctx, s.App.Engine, agentapi.LoadDumpParams{Name: databaseUser, Source: source})
	if e, ok := errors.AsType[*agentapi.Error](err); ok && e.Kind == agentapi.KindInvalid {
		return Errorf(Invalid, ObjService, "ERROR: %s", e.Text) // the owner's own text made the server say it
	}
	return classified(err, Internal, ObjService, "load the dump")
}
