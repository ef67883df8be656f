-- The route that a release is for alone; '' when it is the app's.

-- +goose Up
ALTER TABLE release ADD COLUMN route_id TEXT NOT NULL DEFAULT '';
