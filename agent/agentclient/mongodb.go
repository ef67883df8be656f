package agentclient

import (
	"context"

	"github.com/reeve-paas/reeve/agent/agentapi"
)

// MongoDB is the namespace mongodb; see agentapi/mongodb.go.
type MongoDB struct{ Database }

// MongoDB drives the host's MongoDB server, and the MongoDB Agent beside it.
func (c *Client) MongoDB() MongoDB { return MongoDB{c.Database(agentapi.EngineMongoDB)} }

// EnableMMS gives the MongoDB Agent its keys and starts it. A failure is told in the result.
func (m MongoDB) EnableMMS(ctx context.Context, p agentapi.EnableMMSParams) (agentapi.MMSResult, error) {
	return invoke[agentapi.MMSResult](ctx, m.client, m.namespace, "enable_mms", p)
}

// DisableMMS stops the MongoDB Agent. A failure is told in the result.
func (m MongoDB) DisableMMS(ctx context.Context) (agentapi.MMSResult, error) {
	return invoke[agentapi.MMSResult](ctx, m.client, m.namespace, "disable_mms", nil)
}
