-- What the ConPaaS Director needs: names and credit of accounts, applications, managed services, certificates.

-- +goose Up
ALTER TABLE account ADD COLUMN username TEXT NOT NULL DEFAULT '';
ALTER TABLE account ADD COLUMN first_name TEXT NOT NULL DEFAULT '';
ALTER TABLE account ADD COLUMN last_name TEXT NOT NULL DEFAULT '';
ALTER TABLE account ADD COLUMN affiliation TEXT NOT NULL DEFAULT '';
ALTER TABLE account ADD COLUMN uuid TEXT NOT NULL DEFAULT '';
ALTER TABLE account ADD COLUMN openid TEXT NOT NULL DEFAULT '';
ALTER TABLE account ADD COLUMN credit INTEGER NOT NULL DEFAULT 50 CHECK (credit >= 0); -- hours of nodes
CREATE UNIQUE INDEX account_username ON account (username) WHERE username <> '';
CREATE UNIQUE INDEX account_uuid ON account (uuid) WHERE uuid <> '';

CREATE TABLE application (
    num        INTEGER PRIMARY KEY AUTOINCREMENT,
    account_id TEXT NOT NULL REFERENCES account (id) DEFERRABLE INITIALLY DEFERRED,
    name       TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    UNIQUE (account_id, name)
) STRICT;

-- One row per app that has a manager. All of it goes with the app.
CREATE TABLE managed_service (
    app_id      TEXT PRIMARY KEY REFERENCES app (id) ON DELETE CASCADE DEFERRABLE INITIALLY DEFERRED,
    application INTEGER NOT NULL REFERENCES application (num) DEFERRABLE INITIALLY DEFERRED,
    type        TEXT NOT NULL,
    label       TEXT NOT NULL,
    state       TEXT NOT NULL,
    address     TEXT NOT NULL,
    version     INTEGER NOT NULL, -- num of the code version that is active, 0: none
    release     INTEGER NOT NULL, -- grows whenever another version becomes active
    settings    TEXT NOT NULL     -- JSON object of texts
) STRICT;
CREATE INDEX managed_service_application ON managed_service (application);

CREATE TABLE service_event (
    num    INTEGER PRIMARY KEY AUTOINCREMENT,
    app_id TEXT NOT NULL REFERENCES app (id) ON DELETE CASCADE DEFERRABLE INITIALLY DEFERRED,
    at     INTEGER NOT NULL,
    state  TEXT NOT NULL,
    reason TEXT NOT NULL
) STRICT;
CREATE INDEX service_event_app ON service_event (app_id, num);

CREATE TABLE code_version (
    num         INTEGER PRIMARY KEY AUTOINCREMENT,
    app_id      TEXT NOT NULL REFERENCES app (id) ON DELETE CASCADE DEFERRABLE INITIALLY DEFERRED,
    filename    TEXT NOT NULL,
    description TEXT NOT NULL,
    created_at  INTEGER NOT NULL,
    archive     BLOB NOT NULL -- tar.gz
) STRICT;
CREATE INDEX code_version_app ON code_version (app_id, num);

-- Nodes whose hours are paid with credit, and how far. paid_until is on the billing clock.
CREATE TABLE lease (
    node_id    TEXT PRIMARY KEY REFERENCES node (id) ON DELETE CASCADE DEFERRABLE INITIALLY DEFERRED,
    app_id     TEXT NOT NULL REFERENCES app (id) ON DELETE CASCADE DEFERRABLE INITIALLY DEFERRED,
    paid_until INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX lease_app ON lease (app_id);
CREATE INDEX lease_due ON lease (paid_until);

-- The billing clock counts the time that went by, whatever the wall clock was set to meanwhile. One row.
CREATE TABLE billing_clock (
    id      INTEGER PRIMARY KEY CHECK (id = 1),
    counted INTEGER NOT NULL,
    boot    TEXT NOT NULL,
    uptime  INTEGER NOT NULL,
    wall    INTEGER NOT NULL
) STRICT;

CREATE TABLE certificate (
    serial     TEXT PRIMARY KEY, -- hexadecimal
    account_id TEXT NOT NULL REFERENCES account (id) DEFERRABLE INITIALLY DEFERRED,
    role       TEXT NOT NULL,
    service    INTEGER NOT NULL, -- number of the app, 0: none; the app may be gone
    created_at INTEGER NOT NULL,
    ends_at    INTEGER NOT NULL,
    revoked_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX certificate_account ON certificate (account_id);
CREATE INDEX certificate_service ON certificate (service) WHERE service <> 0;
