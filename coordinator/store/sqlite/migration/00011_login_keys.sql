-- The public keys, a line each, that let an app's owner onto its node.

-- +goose Up
ALTER TABLE app_access ADD COLUMN keys TEXT NOT NULL DEFAULT '';
