package main

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/reeve-paas/reeve/agent/agentapi"
	"github.com/reeve-paas/reeve/handlers/postgresql"
	"github.com/reeve-paas/reeve/handlers/storage"
)

// volumesFor lets PostgreSQL's handler, which may not import storage's, snapshot and grow the volume of its data.
func volumesFor(s *storage.Service) postgresql.Storage {
	return postgresql.Storage{
		Snapshot: func(ctx context.Context, volume map[string]json.RawMessage, description string, tags map[string]string) (map[string]json.RawMessage, error) {
			p := agentapi.SnapshotVolumeParams{Volume: volume, Description: &description, Tags: map[string]agentapi.Text{}}
			for name, value := range tags {
				p.Tags[name] = agentapi.Text(value)
			}
			return config(s.Snapshot(ctx, p))
		},
		Grow: func(ctx context.Context, volume, growth map[string]json.RawMessage) (map[string]json.RawMessage, error) {
			return config(s.Grow(ctx, agentapi.GrowStorageParams{Volume: volume, Growth: growth}))
		},
	}
}

// config is the result of a method of storage that was not asked to go on by itself.
func config(result any, err error) (map[string]json.RawMessage, error) {
	if err != nil {
		return nil, err
	}
	c, ok := result.(agentapi.StorageConfig)
	if !ok {
		return nil, fmt.Errorf("storage answered %T", result)
	}
	return c, nil
}
