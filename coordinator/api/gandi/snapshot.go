package gandi

import (
	"github.com/reeve-paas/reeve/coordinator/core"
	"github.com/reeve-paas/reeve/coordinator/operation"
)

// Wire struct of a profile: {id: int, name: string, kept_total: int, quota_factor: double, schedules: [{name: string,
// kept_version: int}]}. An instance that has one shows it as snapshot_profile.
var snapshotProfileColumns = []column[core.SnapshotProfile]{
	{name: "id", kind: intColumn, value: func(p *core.SnapshotProfile) cell { return intCell(p.ID) }},
	{name: "name", kind: textColumn, value: func(p *core.SnapshotProfile) cell { return textCell(p.Name) }},
}

func (c *call) loadSnapshotProfiles(*query[core.SnapshotProfile]) ([]core.SnapshotProfile, error) {
	return append([]core.SnapshotProfile{}, c.d.opts.Core.SnapshotProfiles()...), nil
}

func (c *call) snapshotProfileList() error {
	return serveList(c, snapshotProfileColumns, c.loadSnapshotProfiles, writeSnapshotProfile)
}

func (c *call) snapshotProfileCount() error {
	return serveCount(c, snapshotProfileColumns, c.loadSnapshotProfiles)
}

// diskProfileList is of the disks of plain servers, of which there are none.
func (c *call) diskProfileList() error {
	return serveList(c, snapshotProfileColumns, nothing[core.SnapshotProfile], writeSnapshotProfile)
}

func writeSnapshotProfile(c *call, p *core.SnapshotProfile) {
	c.out.BeginStruct()
	fieldID.Int(c.out, p.ID)
	fieldName.String(c.out, p.Name)
	fieldKeptTotal.Int(c.out, int64(p.Kept()))
	fieldQuotaFactor.Double(c.out, p.QuotaFactor)
	fieldSchedules.Begin(c.out)
	c.out.BeginArray()
	for _, s := range p.Schedules {
		c.out.BeginStruct()
		fieldName.String(c.out, s.Name)
		fieldKeptVersion.Int(c.out, int64(s.Keep))
		c.out.EndStruct()
	}
	c.out.EndArray()
	c.out.EndMember()
	c.out.EndStruct()
}

// writeProfileOf writes the profile an instance has, or nil.
func (c *call) writeProfileOf(a *core.App) {
	p, ok := c.d.opts.Core.SnapshotProfile(a.SnapshotProfile)
	if !ok {
		fieldSnapshotProfile.Nil(c.out)
		return
	}
	fieldSnapshotProfile.Begin(c.out)
	writeSnapshotProfile(c, &p)
	c.out.EndMember()
}

// snapshotStates says core's states in this API's words.
var snapshotStates = map[core.SnapshotState]string{
	core.SnapshotCreating: "being_created",
	core.SnapshotReady:    "created",
	core.SnapshotDeleting: "being_deleted",
}

// Wire struct of a snapshot: {id: int, paas_id: int, state: string, size: int (GB of the disk), date_created: dateTime,
// schedules: [string]}; the schedules are those of the profile that asked for it, none when its owner did.
var snapshotColumns = []column[core.AppSnapshot]{
	{name: "id", kind: intColumn, value: func(s *core.AppSnapshot) cell { return intCell(s.Num) }},
	{name: "paas_id", kind: intColumn, value: func(s *core.AppSnapshot) cell { return intCell(s.AppNum) }},
	{name: "state", kind: textColumn, value: func(s *core.AppSnapshot) cell { return textCell(snapshotStates[s.State]) }},
	{name: "size", kind: intColumn, value: func(s *core.AppSnapshot) cell { return intCell(s.SizeBytes >> 30) }},
	{name: "date_created", kind: timeColumn, value: func(s *core.AppSnapshot) cell { return timeCell(s.CreatedAt) }},
}

func (c *call) loadSnapshots(*query[core.AppSnapshot]) ([]core.AppSnapshot, error) {
	return c.d.opts.Core.Snapshots(c.ctx, c.p)
}

func (c *call) snapshotList() error {
	return serveList(c, snapshotColumns, c.loadSnapshots, writeSnapshot)
}

func (c *call) snapshotCount() error { return serveCount(c, snapshotColumns, c.loadSnapshots) }

func (c *call) snapshotInfo() error {
	num, err := c.argInt(0)
	if err != nil {
		return err
	}
	s, err := c.d.opts.Core.Snapshot(c.ctx, c.p, num)
	if err != nil {
		return err
	}
	writeSnapshot(c, &s)
	return nil
}

func writeSnapshot(c *call, s *core.AppSnapshot) {
	c.out.BeginStruct()
	fieldID.Int(c.out, s.Num)
	fieldPaasID.Int(c.out, s.AppNum)
	fieldState.String(c.out, snapshotStates[s.State])
	fieldSize.Int(c.out, s.SizeBytes>>30)
	fieldDateCreated.Time(c.out, s.CreatedAt)
	fieldSchedules.Begin(c.out)
	c.out.BeginArray()
	for _, name := range s.Schedules {
		c.out.String(name)
	}
	c.out.EndArray()
	c.out.EndMember()
	c.out.EndStruct()
}

func (c *call) snapshotCreate() error {
	return c.snapshotChange(func(num int64) (operation.Record, error) {
		_, op, err := c.d.opts.Core.CreateSnapshot(c.ctx, c.p, num)
		return op, paasMissing(num, err)
	})
}

func (c *call) snapshotDelete() error {
	return c.snapshotChange(func(num int64) (operation.Record, error) { return c.d.opts.Core.DeleteSnapshot(c.ctx, c.p, num) })
}

func (c *call) snapshotRestore() error {
	return c.snapshotChange(func(num int64) (operation.Record, error) { return c.d.opts.Core.RestoreApp(c.ctx, c.p, num) })
}

// snapshotChange answers with one operation.
func (c *call) snapshotChange(change func(num int64) (operation.Record, error)) error {
	num, err := c.argInt(0)
	if err != nil {
		return err
	}
	op, err := change(num)
	if err != nil {
		return err
	}
	writeOperation(c, c.accepted(op))
	return nil
}
