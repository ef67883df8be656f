package gandi

// snapshotProfile is a schedule of snapshots that an instance may have. None are offered yet, so lists of them are empty.
type snapshotProfile struct {
	id   int64
	name string
}

var snapshotProfileColumns = []column[snapshotProfile]{
	{name: "id", kind: intColumn, value: func(s *snapshotProfile) cell { return intCell(s.id) }},
	{name: "name", kind: textColumn, value: func(s *snapshotProfile) cell { return textCell(s.name) }},
}

func (c *call) snapshotProfileList() error {
	return serveList(c, snapshotProfileColumns, nothing[snapshotProfile], func(*call, *snapshotProfile) {})
}

func (c *call) snapshotProfileCount() error {
	return serveCount(c, snapshotProfileColumns, nothing[snapshotProfile])
}
