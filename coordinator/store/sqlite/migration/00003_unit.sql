-- Units, releases, environment and log of apps. Apps of before are dedicated: each has nodes of its own.

-- +goose Up
ALTER TABLE app ADD COLUMN placement TEXT NOT NULL DEFAULT 'dedicated';
ALTER TABLE app ADD COLUMN unit_count INTEGER NOT NULL DEFAULT 0; -- wanted
ALTER TABLE app ADD COLUMN release INTEGER NOT NULL DEFAULT 0;    -- number of the one that serves
ALTER TABLE app ADD COLUMN deploys INTEGER NOT NULL DEFAULT 0;
ALTER TABLE app ADD COLUMN memory_mb INTEGER NOT NULL DEFAULT 0;
ALTER TABLE app ADD COLUMN swap_mb INTEGER NOT NULL DEFAULT 0;
ALTER TABLE app ADD COLUMN halted INTEGER NOT NULL DEFAULT 0;
-- Apps that share nodes share one space of names too.
CREATE UNIQUE INDEX app_shared_name ON app (name) WHERE placement = 'shared';

ALTER TABLE route ADD COLUMN generated INTEGER NOT NULL DEFAULT 0; -- made of the app's name, by us

CREATE TABLE app_env (
    app_id TEXT NOT NULL REFERENCES app (id) ON DELETE CASCADE DEFERRABLE INITIALLY DEFERRED,
    name   TEXT NOT NULL,
    value  BLOB,          -- sealed
    public INTEGER NOT NULL,
    tag    TEXT NOT NULL, -- the service instance it comes from
    PRIMARY KEY (app_id, name)
) STRICT, WITHOUT ROWID;

CREATE TABLE release (
    num          INTEGER PRIMARY KEY AUTOINCREMENT,
    app_id       TEXT NOT NULL REFERENCES app (id) ON DELETE CASCADE DEFERRABLE INITIALLY DEFERRED,
    number       INTEGER NOT NULL, -- of the app, from 1
    state        TEXT NOT NULL,
    origin       TEXT NOT NULL,
    commit_id    TEXT NOT NULL,
    account      TEXT NOT NULL,    -- e-mail of who deployed it, for people
    source       TEXT NOT NULL,    -- SHA-256 of the archive that was handed in
    artifact     TEXT NOT NULL,    -- SHA-256 of what was built from it
    size_bytes   INTEGER NOT NULL,
    manifest     BLOB,
    error        TEXT NOT NULL,
    created_at   INTEGER NOT NULL,
    ended_at     INTEGER NOT NULL,
    UNIQUE (app_id, number)
) STRICT;
CREATE INDEX release_artifact ON release (artifact) WHERE artifact <> '';

CREATE TABLE app_unit (
    num        INTEGER PRIMARY KEY AUTOINCREMENT,
    id         TEXT NOT NULL UNIQUE,
    app_id     TEXT NOT NULL REFERENCES app (id) ON DELETE CASCADE DEFERRABLE INITIALLY DEFERRED,
    node_id    TEXT NOT NULL REFERENCES node (id) ON DELETE CASCADE DEFERRABLE INITIALLY DEFERRED,
    release    INTEGER NOT NULL,
    port       INTEGER NOT NULL,
    state      TEXT NOT NULL,
    address    TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    seen_at    INTEGER NOT NULL,
    UNIQUE (node_id, port)
) STRICT;
CREATE INDEX app_unit_app ON app_unit (app_id, num);

CREATE TABLE app_log (
    num     INTEGER PRIMARY KEY AUTOINCREMENT,
    app_id  TEXT NOT NULL REFERENCES app (id) ON DELETE CASCADE DEFERRABLE INITIALLY DEFERRED,
    at      INTEGER NOT NULL,
    source  TEXT NOT NULL,
    unit    TEXT NOT NULL,
    message TEXT NOT NULL
) STRICT;
CREATE INDEX app_log_app ON app_log (app_id, num);

-- Units are part of their app, as nodes and routes are.
-- +goose StatementBegin
CREATE TRIGGER app_unit_inserted AFTER INSERT ON app_unit BEGIN
    UPDATE app SET revision = revision + 1 WHERE id = new.app_id;
END;
-- +goose StatementEnd
-- +goose StatementBegin
CREATE TRIGGER app_unit_updated AFTER UPDATE ON app_unit BEGIN
    UPDATE app SET revision = revision + 1 WHERE id IN (old.app_id, new.app_id);
END;
-- +goose StatementEnd
-- +goose StatementBegin
CREATE TRIGGER app_unit_deleted AFTER DELETE ON app_unit BEGIN
    UPDATE app SET revision = revision + 1 WHERE id = old.app_id;
END;
-- +goose StatementEnd
