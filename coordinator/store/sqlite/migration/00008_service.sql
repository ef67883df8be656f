-- Services that apps can be bound to: those of providers outside, and the databases of our own agents.

-- +goose Up
CREATE TABLE service (
    name       TEXT PRIMARY KEY,
    endpoint   TEXT NOT NULL,    -- of production
    endpoints  TEXT NOT NULL,    -- all of the manifest, JSON
    password   BLOB,             -- sealed
    doc        BLOB,
    restricted INTEGER NOT NULL, -- only teams that are let in see it
    created_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE service_team (
    service TEXT NOT NULL REFERENCES service (name) ON DELETE CASCADE DEFERRABLE INITIALLY DEFERRED,
    team    TEXT NOT NULL REFERENCES team (name) ON DELETE CASCADE DEFERRABLE INITIALLY DEFERRED,
    owner   INTEGER NOT NULL, -- owns it; otherwise it was let in
    PRIMARY KEY (service, team, owner)
) STRICT, WITHOUT ROWID;

-- A database that belongs to one app of its own node has no name. Names are one space.
ALTER TABLE service_instance ADD COLUMN name TEXT NOT NULL DEFAULT '';
ALTER TABLE service_instance ADD COLUMN service TEXT NOT NULL DEFAULT '';
ALTER TABLE service_instance ADD COLUMN plan TEXT NOT NULL DEFAULT '';
ALTER TABLE service_instance ADD COLUMN team_owner TEXT NOT NULL DEFAULT '';
ALTER TABLE service_instance ADD COLUMN account_id TEXT NOT NULL DEFAULT '';
ALTER TABLE service_instance ADD COLUMN node_id TEXT NOT NULL DEFAULT '';
ALTER TABLE service_instance ADD COLUMN state TEXT NOT NULL DEFAULT 'up';
ALTER TABLE service_instance ADD COLUMN error TEXT NOT NULL DEFAULT '';
CREATE UNIQUE INDEX service_instance_name ON service_instance (name) WHERE name <> '';
CREATE INDEX service_instance_service ON service_instance (service) WHERE service <> '';

CREATE TABLE instance_team (
    instance_id TEXT NOT NULL REFERENCES service_instance (id) ON DELETE CASCADE DEFERRABLE INITIALLY DEFERRED,
    team        TEXT NOT NULL REFERENCES team (name) ON DELETE CASCADE DEFERRABLE INITIALLY DEFERRED,
    PRIMARY KEY (instance_id, team)
) STRICT, WITHOUT ROWID;

-- No cascades: what a binding stands for outside has to be taken back first.
CREATE TABLE binding (
    id          TEXT PRIMARY KEY,
    instance_id TEXT NOT NULL REFERENCES service_instance (id) DEFERRABLE INITIALLY DEFERRED,
    app_id      TEXT NOT NULL REFERENCES app (id) DEFERRABLE INITIALLY DEFERRED,
    state       TEXT NOT NULL,
    user        TEXT NOT NULL, -- database user of the app
    password    BLOB,          -- sealed
    whole       INTEGER NOT NULL, -- the provider was told of the app, not only of its units
    units       TEXT NOT NULL, -- that the provider was told of: JSON, id to address
    created_at  INTEGER NOT NULL,
    UNIQUE (instance_id, app_id)
) STRICT, WITHOUT ROWID;
CREATE INDEX binding_app ON binding (app_id);
