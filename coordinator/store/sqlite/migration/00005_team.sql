-- Teams and what they may use, SSH keys, limits of accounts and apps, and tokens of apps.

-- +goose Up
CREATE TABLE team (
    name       TEXT PRIMARY KEY,
    created_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE team_member (
    team       TEXT NOT NULL REFERENCES team (name) ON DELETE CASCADE DEFERRABLE INITIALLY DEFERRED,
    account_id TEXT NOT NULL REFERENCES account (id) DEFERRABLE INITIALLY DEFERRED,
    PRIMARY KEY (team, account_id)
) STRICT, WITHOUT ROWID;
CREATE INDEX team_member_account ON team_member (account_id, team);

-- A team with apps is not deleted: no cascade from there.
CREATE TABLE app_team (
    app_id TEXT NOT NULL REFERENCES app (id) ON DELETE CASCADE DEFERRABLE INITIALLY DEFERRED,
    team   TEXT NOT NULL REFERENCES team (name) DEFERRABLE INITIALLY DEFERRED,
    owner  INTEGER NOT NULL, -- the one that owns the app
    PRIMARY KEY (app_id, team)
) STRICT, WITHOUT ROWID;
CREATE INDEX app_team_team ON app_team (team, app_id);

-- The fingerprint decides whose login a key is: no two accounts have the same.
CREATE TABLE ssh_key (
    num         INTEGER PRIMARY KEY AUTOINCREMENT,
    id          TEXT NOT NULL UNIQUE,
    account_id  TEXT NOT NULL REFERENCES account (id) DEFERRABLE INITIALLY DEFERRED,
    name        TEXT NOT NULL,
    key         TEXT NOT NULL,
    fingerprint TEXT NOT NULL UNIQUE,
    created_at  INTEGER NOT NULL,
    UNIQUE (account_id, name)
) STRICT;

-- Limits that differ from the configured ones; -1 is none. The subject is an account or an app.
CREATE TABLE quota (
    subject TEXT PRIMARY KEY,
    most    INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

ALTER TABLE credential ADD COLUMN app_id TEXT NOT NULL DEFAULT ''; -- of an app token, the app it is for

-- +goose StatementBegin
CREATE TRIGGER app_forgotten AFTER DELETE ON app BEGIN
    DELETE FROM quota WHERE subject = old.id;
    DELETE FROM credential WHERE app_id = old.id;
END;
-- +goose StatementEnd
-- Teams are part of their app, as nodes and routes are.
-- +goose StatementBegin
CREATE TRIGGER app_team_inserted AFTER INSERT ON app_team BEGIN
    UPDATE app SET revision = revision + 1 WHERE id = new.app_id;
END;
-- +goose StatementEnd
-- +goose StatementBegin
CREATE TRIGGER app_team_updated AFTER UPDATE ON app_team BEGIN
    UPDATE app SET revision = revision + 1 WHERE id = new.app_id;
END;
-- +goose StatementEnd
-- +goose StatementBegin
CREATE TRIGGER app_team_deleted AFTER DELETE ON app_team BEGIN
    UPDATE app SET revision = revision + 1 WHERE id = old.app_id;
END;
-- +goose StatementEnd
