package agentclient

import (
	"context"
	"encoding/json"

	"github.com/reeve-paas/reeve/agent/agentapi"
)

// PostgreSQL is the namespace postgresql; see agentapi/postgresql.go and agentapi/database.go.
type PostgreSQL struct{ Database }

// PostgreSQL drives the host's PostgreSQL server.
func (c *Client) PostgreSQL() PostgreSQL { return PostgreSQL{c.Database(agentapi.EnginePostgreSQL)} }

// ReplicationStatus says what the server is in replication, and whether it follows.
func (p PostgreSQL) ReplicationStatus(ctx context.Context) (agentapi.ReplicationStatus, error) {
	return invoke[agentapi.ReplicationStatus](ctx, p.client, p.namespace, "replication_status", nil)
}

// CreateBackup begins to dump every database and returns the operation's id.
func (p PostgreSQL) CreateBackup(ctx context.Context) (string, error) {
	return invoke[string](ctx, p.client, p.namespace, "create_backup", nil)
}

// CreateDataBundle begins to snapshot the data's volume and returns the operation's id.
func (p PostgreSQL) CreateDataBundle(ctx context.Context) (string, error) {
	return invoke[string](ctx, p.client, p.namespace, "create_databundle", nil)
}

// GrowVolume makes the data's volume larger and returns the new one's config.
func (p PostgreSQL) GrowVolume(ctx context.Context, volume, growth json.RawMessage) (map[string]json.RawMessage, error) {
	return invoke[map[string]json.RawMessage](ctx, p.client, p.namespace, "grow_volume", agentapi.GrowDataVolumeParams{Volume: volume, Growth: growth})
}
