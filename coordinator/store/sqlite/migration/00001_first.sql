-- Times are microseconds since 1970 UTC; 0 is "not yet" or "never". num is what dialects show as a small integer:
-- AUTOINCREMENT never gives one out twice, also after the row was deleted.

-- +goose Up
CREATE TABLE account (
    num           INTEGER PRIMARY KEY AUTOINCREMENT,
    id            TEXT NOT NULL UNIQUE,
    handle        TEXT NOT NULL,
    email         TEXT NOT NULL,
    email_key     TEXT NOT NULL UNIQUE, -- lower case
    password_hash TEXT NOT NULL,
    admin         INTEGER NOT NULL,
    active        INTEGER NOT NULL,
    created_at    INTEGER NOT NULL
) STRICT;
CREATE UNIQUE INDEX account_handle ON account (handle) WHERE handle <> '';

CREATE TABLE credential (
    hash       BLOB PRIMARY KEY,
    kind       TEXT NOT NULL,
    account_id TEXT NOT NULL REFERENCES account (id) DEFERRABLE INITIALLY DEFERRED,
    created_at INTEGER NOT NULL,
    expires_at INTEGER NOT NULL,
    revoked    INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX credential_account ON credential (account_id);

-- revision grows with every change of the app, of its nodes and of its routes. Lists read it instead of everything.
CREATE TABLE app (
    num          INTEGER PRIMARY KEY AUTOINCREMENT,
    id           TEXT NOT NULL UNIQUE,
    revision     INTEGER NOT NULL DEFAULT 1,
    account_id   TEXT NOT NULL REFERENCES account (id) DEFERRABLE INITIALLY DEFERRED,
    name         TEXT NOT NULL,
    platform     TEXT NOT NULL,
    engine       TEXT NOT NULL,
    size_id      TEXT NOT NULL,
    location_id  TEXT NOT NULL,
    cloud        TEXT NOT NULL,
    state        TEXT NOT NULL,
    login        INTEGER NOT NULL,
    base_disk_gb INTEGER NOT NULL,
    extra_gb     INTEGER NOT NULL,
    starts_at    INTEGER NOT NULL,
    ends_at      INTEGER NOT NULL,
    created_at   INTEGER NOT NULL,
    UNIQUE (account_id, name)
) STRICT;
CREATE INDEX app_list ON app (account_id, num, revision);
CREATE UNIQUE INDEX app_login ON app (login) WHERE login <> 0;

CREATE TABLE node (
    num        INTEGER PRIMARY KEY AUTOINCREMENT,
    id         TEXT NOT NULL UNIQUE,
    account_id TEXT REFERENCES account (id) DEFERRABLE INITIALLY DEFERRED,
    app_id     TEXT REFERENCES app (id) DEFERRABLE INITIALLY DEFERRED,
    cloud      TEXT NOT NULL,
    cloud_id   TEXT NOT NULL,
    key        TEXT NOT NULL,
    name       TEXT NOT NULL,
    image_id   TEXT NOT NULL,
    size_id    TEXT NOT NULL,
    roles      TEXT NOT NULL, -- separated by commas
    state      TEXT NOT NULL,
    error      TEXT NOT NULL,
    address    TEXT NOT NULL,
    agent_key  BLOB,          -- sealed
    created_at INTEGER NOT NULL,
    seen_at    INTEGER NOT NULL
) STRICT;
CREATE INDEX node_app ON node (app_id, num);
CREATE INDEX node_account ON node (account_id, num);
CREATE INDEX node_cloud ON node (cloud, num);
CREATE UNIQUE INDEX node_key ON node (key) WHERE key <> '';

CREATE TABLE route (
    num        INTEGER PRIMARY KEY AUTOINCREMENT,
    id         TEXT NOT NULL UNIQUE,
    app_id     TEXT NOT NULL REFERENCES app (id) DEFERRABLE INITIALLY DEFERRED,
    hostname   TEXT NOT NULL UNIQUE,
    state      TEXT NOT NULL,
    created_at INTEGER NOT NULL
) STRICT;
CREATE INDEX route_app ON route (app_id, num);

CREATE TABLE volume (
    num        INTEGER PRIMARY KEY AUTOINCREMENT,
    id         TEXT NOT NULL UNIQUE,
    app_id     TEXT REFERENCES app (id) DEFERRABLE INITIALLY DEFERRED,
    cloud      TEXT NOT NULL,
    cloud_id   TEXT NOT NULL,
    key        TEXT NOT NULL,
    size_bytes INTEGER NOT NULL,
    node_id    TEXT NOT NULL,
    device     TEXT NOT NULL,
    created_at INTEGER NOT NULL
) STRICT;
CREATE INDEX volume_app ON volume (app_id, num);
CREATE UNIQUE INDEX volume_key ON volume (key) WHERE key <> '';

CREATE TABLE service_instance (
    num        INTEGER PRIMARY KEY AUTOINCREMENT,
    id         TEXT NOT NULL UNIQUE,
    app_id     TEXT REFERENCES app (id) DEFERRABLE INITIALLY DEFERRED,
    engine     TEXT NOT NULL,
    database   TEXT NOT NULL,
    user       TEXT NOT NULL,
    password   BLOB,          -- sealed
    created_at INTEGER NOT NULL
) STRICT;
CREATE INDEX service_instance_app ON service_instance (app_id, num);

CREATE TABLE allocation (
    num      INTEGER PRIMARY KEY AUTOINCREMENT,
    cloud    TEXT NOT NULL,
    hostname TEXT NOT NULL,
    node_id  TEXT NOT NULL,
    user     TEXT NOT NULL,
    vm_type  TEXT NOT NULL,
    UNIQUE (cloud, node_id)
) STRICT;
CREATE INDEX allocation_list ON allocation (cloud, num);

CREATE TABLE operation_group (
    id          TEXT PRIMARY KEY,
    secret      BLOB,             -- sealed; NULL once the group ended
    undoing     INTEGER NOT NULL DEFAULT 0,
    undo_of     TEXT NOT NULL DEFAULT '',
    undo_status TEXT NOT NULL DEFAULT '',
    undo_reason TEXT NOT NULL DEFAULT '',
    ended_at    INTEGER NOT NULL DEFAULT 0
) STRICT, WITHOUT ROWID;
CREATE INDEX operation_group_unfinished ON operation_group (id) WHERE ended_at = 0;

-- Accounts and subjects are no references: the history outlives them.
CREATE TABLE operation (
    num        INTEGER PRIMARY KEY AUTOINCREMENT,
    id         TEXT NOT NULL UNIQUE,
    group_id   TEXT NOT NULL REFERENCES operation_group (id),
    seq        INTEGER NOT NULL,
    kind       TEXT NOT NULL,
    account_id TEXT NOT NULL,
    subject    TEXT NOT NULL,
    params     BLOB,
    status     TEXT NOT NULL,
    step       TEXT NOT NULL DEFAULT '',
    steps_done INTEGER NOT NULL DEFAULT 0,
    steps      INTEGER NOT NULL,
    error      TEXT NOT NULL DEFAULT '',
    cancel     INTEGER NOT NULL DEFAULT 0,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    started_at INTEGER NOT NULL DEFAULT 0,
    ended_at   INTEGER NOT NULL DEFAULT 0,
    UNIQUE (group_id, seq)
) STRICT;
CREATE INDEX operation_account ON operation (account_id, num);
CREATE INDEX operation_subject ON operation (subject, num);
CREATE INDEX operation_unfinished_account ON operation (account_id, num) WHERE ended_at = 0;
CREATE INDEX operation_unfinished_subject ON operation (subject, num) WHERE ended_at = 0;
CREATE INDEX operation_unfinished ON operation (num) WHERE ended_at = 0;

CREATE TABLE operation_step (
    operation_id TEXT NOT NULL REFERENCES operation (id),
    seq          INTEGER NOT NULL,
    name         TEXT NOT NULL,
    done         INTEGER NOT NULL,
    undone       INTEGER NOT NULL,
    output       BLOB,
    started_at   INTEGER NOT NULL,
    ended_at     INTEGER NOT NULL,
    attempts     INTEGER NOT NULL,
    PRIMARY KEY (operation_id, seq)
) STRICT, WITHOUT ROWID;

CREATE TABLE audit (
    num          INTEGER PRIMARY KEY AUTOINCREMENT,
    at           INTEGER NOT NULL,
    account_id   TEXT NOT NULL,
    dialect      TEXT NOT NULL,
    origin       TEXT NOT NULL, -- remote address
    action       TEXT NOT NULL,
    subject      TEXT NOT NULL,
    operation_id TEXT NOT NULL,
    outcome      TEXT NOT NULL
) STRICT;
CREATE INDEX audit_at ON audit (at);

-- Nodes and routes are part of their app: a change of one is a change of the other. Triggers, so that no statement can
-- forget it.
-- +goose StatementBegin
CREATE TRIGGER node_inserted AFTER INSERT ON node BEGIN
    UPDATE app SET revision = revision + 1 WHERE id = new.app_id;
END;
-- +goose StatementEnd
-- +goose StatementBegin
CREATE TRIGGER node_updated AFTER UPDATE ON node BEGIN
    UPDATE app SET revision = revision + 1 WHERE id IN (old.app_id, new.app_id);
END;
-- +goose StatementEnd
-- +goose StatementBegin
CREATE TRIGGER node_deleted AFTER DELETE ON node BEGIN
    UPDATE app SET revision = revision + 1 WHERE id = old.app_id;
END;
-- +goose StatementEnd
-- +goose StatementBegin
CREATE TRIGGER route_inserted AFTER INSERT ON route BEGIN
    UPDATE app SET revision = revision + 1 WHERE id = new.app_id;
END;
-- +goose StatementEnd
-- +goose StatementBegin
CREATE TRIGGER route_updated AFTER UPDATE ON route BEGIN
    UPDATE app SET revision = revision + 1 WHERE id IN (old.app_id, new.app_id);
END;
-- +goose StatementEnd
-- +goose StatementBegin
CREATE TRIGGER route_deleted AFTER DELETE ON route BEGIN
    UPDATE app SET revision = revision + 1 WHERE id = old.app_id;
END;
-- +goose StatementEnd
