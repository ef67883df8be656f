package sqlite

import (
	"time"

	"github.com/reeve-paas/reeve/coordinator/core"
)

const (
	messageInsert = `INSERT OR IGNORE INTO agent_message (node, id, at) SELECT num, ?, ? FROM node WHERE id = ?`
	messageForget = `DELETE FROM agent_message WHERE node = (SELECT num FROM node WHERE id = ?) AND at < ?`
)

func (t *tx) NoteMessage(node core.NodeID, id string, at time.Time) (bool, error) {
	n, err := t.exec(messageInsert, id, at.Unix(), string(node))
	return n > 0, failure(err, core.ObjNode, "note a message")
}

func (t *tx) ForgetMessages(node core.NodeID, before time.Time) error {
	_, err := t.exec(messageForget, string(node), before.Unix())
	return failure(err, core.ObjNode, "forget messages")
}
