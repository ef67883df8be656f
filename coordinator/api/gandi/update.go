package gandi

import (
	"github.com/reeve-paas/reeve/coordinator/api/gandi/xmlrpc"
	"github.com/reeve-paas/reeve/coordinator/core"
	"github.com/reeve-paas/reeve/coordinator/operation"
)

// updateReader reads the spec of paas.update.
type updateReader struct {
	specReader
	update core.AppUpdate
}

func (s *updateReader) member(name string, v xmlrpc.Value) bool {
	switch name {
	case "name":
		s.update.Name = new(s.text(name, v))
	case "size":
		s.update.SizeID = new(s.text(name, v))
	case "quantity":
		s.update.ExtraGB = new(int(s.integer(name, v)))
	case "password":
		s.update.Password = new(core.Secret(s.text(name, v)))
	case "reset_mysql_password":
		s.update.RootPassword = new(core.Secret(s.text(name, v)))
	case "console":
		s.update.Console = new(s.boolean(name, v))
	case "upgrade": // every instance has the newest image that there is for it
		s.boolean(name, v)
	case "snapshot_profile":
		var profile int64
		if text, ok := v.AsString(); !ok || text != "" { // which means none any more
			profile = s.integer(name, v)
		}
		s.update.SnapshotProfile = &profile
	case "keys":
		s.update.Keys = new(s.integers(name, v))
	case "ssh_key":
		s.update.NewKeys = []string{s.text(name, v)}
	default:
		return false
	}
	return true
}

// paasUpdate answers with an array of operations, or with --dry-run with everything that is wrong.
func (c *call) paasUpdate() error {
	num, err := c.argInt(0)
	if err != nil {
		return err
	}
	v, err := c.options(1) // PHP and Perl send an empty struct as something else
	if err != nil {
		return err
	}
	s := &updateReader{}
	s.read(v, nil, s.member)
	if !s.dry && len(s.problems) > 0 {
		return problemFault(s.first())
	}
	if s.dry {
		found, err := c.d.opts.Core.CheckUpdate(c.ctx, c.p, num, s.update)
		return c.writeFound(num, &s.specReader, found, err)
	}
	ops, err := c.d.opts.Core.UpdateApp(c.ctx, c.p, num, s.update)
	return c.writeOperations(num, ops, err)
}

// writeFound answers a dry run with the problems that reading found and those that core found with the other members.
func (c *call) writeFound(num int64, s *specReader, found []core.Problem, err error) error {
	if err != nil {
		return paasMissing(num, err)
	}
	all := s.problems
	for _, p := range found {
		if p = onThisWire(p); !s.has(p.Field) {
			all = append(all, p)
		}
	}
	return c.writeProblems(all)
}

func (c *call) writeOperations(num int64, ops []operation.Record, err error) error {
	if err != nil {
		return paasMissing(num, err)
	}
	c.out.BeginArray()
	for _, op := range ops {
		writeOperation(c, c.accepted(op))
	}
	c.out.EndArray()
	return nil
}

// paasRestart answers with an array of one operation. An optional struct may ask for a dry run, as in paas.delete.
func (c *call) paasRestart() error {
	num, err := c.argInt(0)
	if err != nil {
		return err
	}
	dry, err := c.onlyDryRun(1)
	if err != nil {
		return err
	}
	if dry {
		return c.writeFound(num, &specReader{}, nil, c.d.opts.Core.CheckRestart(c.ctx, c.p, num))
	}
	op, err := c.d.opts.Core.RestartApp(c.ctx, c.p, num)
	return c.writeOperations(num, []operation.Record{op}, err)
}

// paasRenew answers with an array of two operations, or with --dry-run with everything that is wrong.
func (c *call) paasRenew() error {
	num, err := c.argInt(0)
	if err != nil {
		return err
	}
	v, err := c.argStruct(1)
	if err != nil {
		return err
	}
	s, months := &specReader{}, 0
	s.read(v, []string{"duration"}, func(name string, v xmlrpc.Value) bool {
		switch name {
		case "duration":
			months = s.duration(s.text(name, v))
		case "fixed":
			s.boolean(name, v)
		default:
			return false
		}
		return true
	})
	if !s.dry && len(s.problems) > 0 {
		return problemFault(s.first())
	}
	if s.dry {
		found, err := c.d.opts.Core.CheckRenew(c.ctx, c.p, num, months)
		return c.writeFound(num, s, found, err)
	}
	ops, err := c.d.opts.Core.RenewApp(c.ctx, c.p, num, months)
	return c.writeOperations(num, ops, err)
}
