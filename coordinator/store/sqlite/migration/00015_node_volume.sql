-- Volumes that the agents of nodes make: whose they are, and which node's agent made them.

-- +goose Up
ALTER TABLE volume ADD COLUMN account_id TEXT NOT NULL DEFAULT '';
ALTER TABLE volume ADD COLUMN made_by TEXT NOT NULL DEFAULT '';
CREATE INDEX volume_made ON volume (cloud, num) WHERE made_by <> '';
