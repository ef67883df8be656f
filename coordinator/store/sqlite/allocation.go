package sqlite

import (
	"strings"

	"github.com/reeve-paas/reeve/coordinator/core"
)

const (
	allocationList = `SELECT num, cloud, hostname, node_id, user, vm_type, state, login, public_key, services FROM allocation
		WHERE cloud = ? ORDER BY num`
	// A cloud in memory gives an id out again after a restart: what the old row said is about another node.
	allocationForget = `DELETE FROM allocation WHERE cloud = ? AND node_id = ?`
	allocationInsert = `INSERT INTO allocation (cloud, hostname, node_id, user, vm_type, state, login, public_key, services)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)`
	allocationUpdate = `UPDATE allocation SET cloud = ?, hostname = ?, node_id = ?, user = ?, vm_type = ?, state = ?, login = ?,
		public_key = ?, services = ? WHERE num = ?`
)

func scanAllocation(_ *tx, row scanner, a *core.Allocation) error {
	var services text
	err := row.Scan((*number)(&a.Num), (*text)(&a.Cloud), (*text)(&a.Hostname), (*text)(&a.NodeID), (*text)(&a.User),
		(*text)(&a.VMType), (*text)(&a.State), (*text)(&a.Login), (*text)(&a.PublicKey), &services)
	if services != "" {
		a.Services = strings.Split(string(services), ",")
	}
	return err
}

func (t *tx) Allocations(cloud string) ([]core.Allocation, error) {
	return list(t, core.ObjAllocation, scanAllocation, allocationList, cloud)
}

// PutAllocation registers a node; a row of the same cloud and node id is replaced under a new number.
func (t *tx) PutAllocation(a *core.Allocation) error {
	if a.Num == 0 {
		if _, err := t.exec(allocationForget, a.Cloud, a.NodeID); err != nil {
			return failure(err, core.ObjAllocation, "store the allocation")
		}
	}
	return t.put(core.ObjAllocation, &a.Num, allocationInsert, allocationUpdate, a.Cloud, a.Hostname, a.NodeID, a.User, a.VMType,
		string(a.State), a.Login, a.PublicKey, strings.Join(a.Services, ","))
}

func (t *tx) DeleteAllocation(num int64) error {
	return t.drop(core.ObjAllocation, `DELETE FROM allocation WHERE num = ?`, num)
}
