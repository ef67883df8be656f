package gandi

import (
	"encoding/json"
	"strconv"
	"time"

	"github.com/reeve-paas/reeve/coordinator/core"
	"github.com/reeve-paas/reeve/coordinator/operation"
)

// operationType is what this API calls a kind of operation, and how it describes one.
type operationType struct {
	name       string
	action     string        // infos.product_action
	estimate   time.Duration // how long one usually takes, for eta
	disk       bool          // carries the quantity of disk
	cancelable bool          // operation.cancel may stop it
}

// operationTypes are the kinds that this API shows; others are not Gandi's business and stay out of its lists.
var operationTypes = map[string]operationType{
	core.OpAppCreateNode:   {name: "paas_vm_create", action: "create", estimate: 40 * time.Second, cancelable: true},
	core.OpAppCreateVolume: {name: "paas_disk_create", action: "create", estimate: 20 * time.Second, disk: true, cancelable: true},
	core.OpAppCreateRoute:  {name: "rproxy_create", action: "create", estimate: 5 * time.Second, cancelable: true},
	core.OpAppCreateUnits:  {name: "rproxy_create", action: "create", estimate: 15 * time.Second, cancelable: true},
	core.OpAppUpdateNode:   {name: "paas_vm_update", action: "update", estimate: 10 * time.Second, cancelable: true},
	core.OpAppUpdateVolume: {name: "paas_disk_update", action: "update", estimate: 10 * time.Second, disk: true, cancelable: true},
	core.OpAppRestart:      {name: "paas_vm_restart", action: "update", estimate: 15 * time.Second, cancelable: true},
	core.OpAppRenewNode:    {name: "paas_vm_renew", action: "renew", estimate: time.Second, cancelable: true},
	core.OpAppRenewVolume:  {name: "paas_disk_renew", action: "renew", estimate: time.Second, disk: true, cancelable: true},
	core.OpKeyRemove:       {name: "ssh_key_delete", action: "delete", estimate: 2 * time.Second},
	core.OpSnapshotCreate:  {name: "paas_snapshot_create", action: "create", estimate: 10 * time.Second, cancelable: true},
	core.OpSnapshotDelete:  {name: "paas_snapshot_delete", action: "delete", estimate: 2 * time.Second},
	core.OpAppRestore:      {name: "paas_restore", action: "restore", estimate: 20 * time.Second, cancelable: true},
	core.OpRouteAdd:        {name: "rproxy_update", action: "update", estimate: 3 * time.Second, cancelable: true},
	core.OpRouteRemove:     {name: "rproxy_update", action: "update", estimate: 3 * time.Second},
	core.OpRouteCertify:    {name: "rproxy_update", action: "update", estimate: 3 * time.Second, cancelable: true},
	core.OpAppDelete:       {name: "paas_delete", action: "delete", estimate: 20 * time.Second},
}

// The steps of an operation.
const (
	stepBill   = "BILL"
	stepWait   = "WAIT"
	stepRun    = "RUN"
	stepDone   = "DONE"
	stepError  = "ERROR"
	stepCancel = "CANCEL"
)

// opRow is an operation with its parameters decoded.
type opRow struct {
	operation.Record
	kind   operationType
	params opParams
	fresh  bool // in the reply of the call that started it
}

// opParams is what core tells about an operation; never a secret.
type opParams struct {
	AppNum      int64  `json:"app_num"`
	NodeNum     int64  `json:"node_num"`
	VolumeNum   int64  `json:"volume_num"`
	LocationNum int64  `json:"location_num"`
	Months      int    `json:"months"`
	ExtraGB     int    `json:"extra_gb"`
	Name        string `json:"name"`
	Route       string `json:"route"`
	SnapshotNum int64  `json:"snapshot_num"`
}

func newOpRow(r operation.Record) (opRow, bool) {
	kind, ok := operationTypes[r.Kind]
	row := opRow{Record: r, kind: kind}
	return row, ok && json.Unmarshal(r.Params, &row.params) == nil
}

// step is where the operation is. It is BILL in the reply of the call that started it and WAIT from then on: nothing is
// billed, and steps only move forward.
func (o *opRow) step() string {
	if o.Cancel && o.StepsDone == 0 && !o.Status.Final() {
		return stepCancel // asked to stop before anything was done: that is how it will end
	}
	switch o.Status {
	case operation.StatusNew:
		if o.fresh {
			return stepBill
		}
		return stepWait
	case operation.StatusInProgress:
		return stepRun
	case operation.StatusCompleted:
		return stepDone
	case operation.StatusCanceled:
		return stepCancel
	}
	return stepError
}

func (o *opRow) lastError() string {
	if o.Status == operation.StatusFailed {
		return o.Error
	}
	return ""
}

// eta is how many seconds are left, by what such an operation usually takes. It may be negative.
func (o *opRow) eta(now time.Time) int64 {
	left := o.kind.estimate
	switch {
	case o.Status.Final():
		return 0
	case !o.StartedAt.IsZero():
		left -= now.Sub(o.StartedAt)
	}
	return int64(left / time.Second)
}

// Every scalar member of an operation can be filtered by.
var operationColumns = []column[opRow]{
	{name: "id", kind: intColumn, value: func(o *opRow) cell { return intCell(o.Num) }},
	{name: "type", kind: textColumn, value: func(o *opRow) cell { return textCell(o.kind.name) }},
	{name: "step", kind: textColumn, value: func(o *opRow) cell { return textCell(o.step()) }},
	{name: "date_created", kind: timeColumn, value: func(o *opRow) cell { return timeCell(o.CreatedAt) }},
	{name: "date_start", kind: timeColumn, value: func(o *opRow) cell { return timeCell(o.StartedAt) }},
	{name: "date_updated", kind: timeColumn, value: func(o *opRow) cell { return timeCell(o.UpdatedAt) }},
	{name: "paas_id", kind: intColumn, value: func(o *opRow) cell { return intCell(o.params.AppNum) }},
	{name: "vhost", kind: textColumn, value: func(o *opRow) cell { return textOrNull(o.params.Route) }},
	{name: "last_error", kind: textColumn, value: func(o *opRow) cell { return textOrNull(o.lastError()) }},
}

func (c *call) operationList() error {
	return serveList(c, operationColumns, c.loadOperations, writeOperation)
}

func (c *call) operationCount() error { return serveCount(c, operationColumns, c.loadOperations) }

// loadOperations loads the account's operations, and only unfinished ones when no other is asked for.
func (c *call) loadOperations(q *query[opRow]) ([]opRow, error) {
	records, err := c.d.opts.Core.Operations(c.ctx, c.p, core.OperationFilter{Unfinished: onlyUnfinished(q)})
	if err != nil {
		return nil, err
	}
	rows := make([]opRow, 0, len(records))
	for _, r := range records {
		if row, ok := newOpRow(r); ok {
			rows = append(rows, row)
		}
	}
	return rows, nil
}

func onlyUnfinished(q *query[opRow]) bool {
	for _, f := range q.filters {
		if f.column != "step" {
			continue
		}
		for _, w := range f.wanted {
			if w.text != stepBill && w.text != stepWait && w.text != stepRun {
				return false
			}
		}
		return true
	}
	return false
}

func (c *call) operationInfo() error {
	num, err := c.argInt(0)
	if err != nil {
		return err
	}
	row, err := c.operation(num)
	if err != nil {
		return err
	}
	writeOperation(c, &row)
	return nil
}

// operation loads an operation of the caller. Those that are not theirs, or that this API has no word for, do not exist.
func (c *call) operation(num int64) (opRow, error) {
	r, err := c.d.opts.Core.Operation(c.ctx, c.p, num)
	if err != nil && core.KindOf(err) != core.NotFound {
		return opRow{}, err
	}
	row, ok := newOpRow(r)
	if err != nil || !ok {
		return row, core.Errorf(core.NotFound, core.ObjOperation, "Operation '%d' doesn't exist.", num)
	}
	return row, nil
}

// operationCancel answers true; the operation ends as CANCEL at its next step boundary.
func (c *call) operationCancel() error {
	num, err := c.argInt(0)
	if err != nil {
		return err
	}
	if _, err := c.operation(num); err != nil {
		return err
	}
	if err := c.d.opts.Core.CancelOperation(c.ctx, c.p, num); err != nil {
		return err
	}
	c.out.Bool(true)
	return nil
}

// accepted is a new operation as the reply of its call shows it.
func (c *call) accepted(r operation.Record) *opRow {
	row, _ := newOpRow(r)
	row.fresh = true
	return &row
}

// writeOperation writes an operation record (spec 2.12).
func writeOperation(c *call, o *opRow) {
	out := c.out
	out.BeginStruct()
	fieldID.Int(out, o.Num)
	fieldType.String(out, o.kind.name)
	fieldStep.String(out, o.step())
	fieldDateCreated.Time(out, o.CreatedAt)
	fieldDateUpdated.Time(out, o.UpdatedAt)
	fieldDateStart.Time(out, o.StartedAt)
	fieldLastError.StringOrNil(out, o.lastError())
	fieldErrortype.Nil(out)
	fieldEta.Int(out, o.eta(c.d.opts.Clock()))
	fieldSource.String(out, c.p.Account.Handle)
	fieldSessionID.Int(out, c.p.Account.Num)
	fieldPaasID.Int(out, o.params.AppNum)
	fieldParams.Begin(out)
	writeOperationParams(c, o)
	out.EndMember()
	fieldInfos.Begin(out)
	writeOperationInfos(c, o)
	out.EndMember()
	out.EndStruct()
}

func writeOperationParams(c *call, o *opRow) {
	out := c.out
	out.BeginStruct()
	fieldPaasID.Int(out, o.params.AppNum)
	fieldTrackerID.String(out, o.GroupID)
	fieldCancelable.String(out, map[bool]string{true: "yes", false: "no"}[o.kind.cancelable])
	if o.params.Route != "" {
		fieldVhost.String(out, o.params.Route)
	}
	switch o.Kind {
	case core.OpAppCreateNode:
		fieldServerID.Int(out, o.params.NodeNum)
		fieldTrial.Nil(out)
		fieldDuration.String(out, strconv.Itoa(o.params.Months)+"m")
	case core.OpAppCreateVolume:
		fieldResourceID.Int(out, o.params.VolumeNum)
		fieldDuration.String(out, strconv.Itoa(o.params.Months)+"m")
		fieldQuantity.Int(out, int64(o.params.ExtraGB))
	case core.OpAppUpdateNode, core.OpAppRestart:
		fieldServerID.Int(out, o.params.NodeNum)
	case core.OpAppUpdateVolume:
		fieldResourceID.Int(out, o.params.VolumeNum)
		fieldQuantity.Int(out, int64(o.params.ExtraGB))
	case core.OpAppRenewNode:
		fieldServerID.Int(out, o.params.NodeNum)
		fieldDuration.String(out, strconv.Itoa(o.params.Months)+"m")
	case core.OpAppRenewVolume:
		fieldResourceID.Int(out, o.params.VolumeNum)
		fieldDuration.String(out, strconv.Itoa(o.params.Months)+"m")
	case core.OpSnapshotCreate, core.OpSnapshotDelete, core.OpAppRestore:
		fieldResourceID.Int(out, o.params.VolumeNum)
		fieldSnapshotID.Int(out, o.params.SnapshotNum)
	case core.OpAppCreateRoute:
		fieldServerID.Int(out, o.params.NodeNum)
		fieldResourceID.Int(out, o.params.VolumeNum)
	}
	if o.kind.action == "create" && o.params.SnapshotNum == 0 {
		fieldDatacenterID.Int(out, o.params.LocationNum)
		fieldFixed.Bool(out, false)
	}
	out.EndStruct()
}

func writeOperationInfos(c *call, o *opRow) {
	out, label, quantity := c.out, o.params.Name, ""
	if o.params.Route != "" {
		label = o.params.Route
	}
	if o.kind.disk && o.params.ExtraGB > 0 {
		quantity = strconv.Itoa(o.params.ExtraGB)
	}
	out.BeginStruct()
	fieldID.String(out, "")
	fieldLabel.String(out, label)
	fieldProductAction.String(out, o.kind.action)
	fieldProductName.String(out, "")
	fieldProductType.String(out, "paas")
	fieldQuantity.String(out, quantity)
	fieldExtras.Begin(out)
	out.BeginStruct()
	out.EndStruct()
	out.EndMember()
	out.EndStruct()
}
