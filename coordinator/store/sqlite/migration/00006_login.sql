-- How an app's owner gets onto its node. Apps of before have no row: their password is known to their node only.

-- +goose Up
CREATE TABLE app_access (
    app_id        TEXT PRIMARY KEY REFERENCES app (id) ON DELETE CASCADE,
    password_hash BLOB,             -- sealed
    console       INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
