-- Snapshots of volumes of apps, and when the schedules of their profiles are due.

-- +goose Up
ALTER TABLE app ADD COLUMN snapshot_profile INTEGER NOT NULL DEFAULT 0;

-- No cascade: what a snapshot stands for at its cloud has to be removed first.
CREATE TABLE snapshot (
    num        INTEGER PRIMARY KEY AUTOINCREMENT,
    id         TEXT NOT NULL UNIQUE,
    app_id     TEXT NOT NULL REFERENCES app (id) DEFERRABLE INITIALLY DEFERRED,
    cloud      TEXT NOT NULL,
    cloud_id   TEXT NOT NULL,
    key        TEXT NOT NULL UNIQUE,
    schedules  TEXT NOT NULL, -- that asked for it, separated by commas; '' when somebody did
    size_bytes INTEGER NOT NULL,
    state      TEXT NOT NULL,
    created_at INTEGER NOT NULL
) STRICT;
CREATE INDEX snapshot_app ON snapshot (app_id, num);

CREATE TABLE snapshot_turn (
    app_id   TEXT NOT NULL REFERENCES app (id) ON DELETE CASCADE DEFERRABLE INITIALLY DEFERRED,
    schedule TEXT NOT NULL,
    due_at   INTEGER NOT NULL,
    PRIMARY KEY (app_id, schedule)
) STRICT, WITHOUT ROWID;
CREATE INDEX snapshot_turn_due ON snapshot_turn (due_at, app_id);
