package sqlite

import (
	"slices"
	"strings"

	"github.com/reeve-paas/reeve/coordinator/core"
	"github.com/reeve-paas/reeve/coordinator/store"
)

const (
	nodeColumns = `n.num, n.id, n.account_id, n.app_id, n.cloud, n.cloud_id, n.key, n.name, n.image_id, n.size_id, n.roles,
		n.state, n.error, n.address, n.agent_key, n.created_at, n.seen_at`
	nodeByID   = `SELECT ` + nodeColumns + ` FROM node n WHERE n.id = ?`
	nodeSelect = `SELECT ` + nodeColumns + ` FROM node n`
	nodeInsert = `INSERT INTO node (id, account_id, app_id, cloud, cloud_id, key, name, image_id, size_id, roles, state, error,
		address, agent_key, created_at, seen_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`
	nodeUpdate = `UPDATE node SET id = ?, account_id = ?, app_id = ?, cloud = ?, cloud_id = ?, key = ?, name = ?, image_id = ?,
		size_id = ?, roles = ?, state = ?, error = ?, address = ?, agent_key = ?, created_at = ?, seen_at = ? WHERE num = ?`
)

func scanNode(t *tx, row scanner, n *core.Node) error {
	var roles text
	var key []byte
	err := row.Scan((*number)(&n.Num), (*text)(&n.ID), (*text)(&n.AccountID), (*text)(&n.AppID), (*text)(&n.Cloud),
		(*text)(&n.CloudID), (*text)(&n.Key), (*text)(&n.Name), (*text)(&n.ImageID), (*text)(&n.SizeID), &roles,
		(*text)(&n.State), (*text)(&n.Error), (*text)(&n.Address), &key, (*micros)(&n.CreatedAt), (*micros)(&n.SeenAt))
	if err != nil {
		return err
	}
	n.Roles = rolesOf(string(roles))
	n.AgentKey, err = t.unseal(key, "node.agent_key", string(n.ID))
	return err
}

func (t *tx) Node(id core.NodeID) (core.Node, error) {
	return one(t, core.ObjNode, scanNode, nodeByID, string(id))
}

func (t *tx) Nodes(f core.NodeFilter) ([]core.Node, error) {
	var where []string
	var args []any
	for _, c := range []struct{ column, value string }{
		{"n.cloud", f.Cloud}, {"n.app_id", string(f.AppID)}, {"n.account_id", string(f.Account)}, {"n.key", f.Key},
	} {
		if c.value != "" {
			where = append(where, c.column+" = ?")
			args = append(args, c.value)
		}
	}
	nodes, err := list(t, core.ObjNode, scanNode, nodeSelect+conditions(where)+" ORDER BY n.num", args...)
	if f.Role != "" {
		nodes = slices.DeleteFunc(nodes, func(n core.Node) bool { return !n.Has(f.Role) })
	}
	return nodes, err
}

func conditions(where []string) string {
	if len(where) == 0 {
		return ""
	}
	return " WHERE " + strings.Join(where, " AND ")
}

func (t *tx) PutNode(n *core.Node) error {
	if n.ID == "" {
		n.ID = core.NodeID(store.NewID())
	}
	return t.put(core.ObjNode, &n.Num, nodeInsert, nodeUpdate, string(n.ID), reference(n.AccountID), reference(n.AppID),
		n.Cloud, n.CloudID, n.Key, n.Name, n.ImageID, n.SizeID, rolesText(n.Roles), string(n.State), n.Error, n.Address,
		t.seal(n.AgentKey, "node.agent_key", string(n.ID)), timeValue(n.CreatedAt), timeValue(n.SeenAt))
}

func (t *tx) DeleteNode(id core.NodeID) error {
	return t.drop(core.ObjNode, `DELETE FROM node WHERE id = ?`, string(id))
}
