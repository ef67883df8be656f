-- Nodes are handed over with a login and a platform, to people with keys; machines are enrolled with tokens.

-- +goose Up
ALTER TABLE allocation ADD COLUMN state TEXT NOT NULL DEFAULT '';
ALTER TABLE allocation ADD COLUMN login TEXT NOT NULL DEFAULT '';
ALTER TABLE allocation ADD COLUMN public_key TEXT NOT NULL DEFAULT ''; -- of who started the node
ALTER TABLE allocation ADD COLUMN services TEXT NOT NULL DEFAULT '';   -- separated by commas
UPDATE allocation SET state = 'assigned' WHERE user <> '';

CREATE TABLE key_pair (
    num         INTEGER PRIMARY KEY AUTOINCREMENT,
    id          TEXT NOT NULL UNIQUE,
    account_id  TEXT NOT NULL REFERENCES account (id) DEFERRABLE INITIALLY DEFERRED,
    name        TEXT NOT NULL,
    public_key  TEXT NOT NULL,
    fingerprint TEXT NOT NULL,
    created_at  INTEGER NOT NULL,
    UNIQUE (account_id, name)
) STRICT;

CREATE TABLE enrollment (
    hash       BLOB PRIMARY KEY,
    cloud      TEXT NOT NULL,
    name       TEXT NOT NULL,
    account_id TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    expires_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
