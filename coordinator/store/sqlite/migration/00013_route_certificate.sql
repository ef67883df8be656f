-- What routers show for the names of routes: certificates that an account uploaded, and those that our authority issued for one
-- route each. Keys are sealed.

-- +goose Up
CREATE TABLE route_certificate (
    num        INTEGER PRIMARY KEY AUTOINCREMENT,
    id         TEXT NOT NULL,    -- of the content; two accounts may upload the same
    account_id TEXT NOT NULL,    -- '' for issued ones
    route_id   TEXT UNIQUE REFERENCES route (id) ON DELETE CASCADE DEFERRABLE INITIALLY DEFERRED, -- NULL for uploaded ones
    names      TEXT NOT NULL,    -- that it covers, a blank between
    chain      BLOB NOT NULL,    -- PEM, its own first
    key        BLOB,
    starts_at  INTEGER NOT NULL,
    ends_at    INTEGER NOT NULL,
    created_at INTEGER NOT NULL,
    deleting   INTEGER NOT NULL
) STRICT;
CREATE UNIQUE INDEX route_certificate_account ON route_certificate (account_id, id) WHERE account_id <> '';
CREATE INDEX route_certificate_id ON route_certificate (id);

-- The id of the certificate that routers show for the name; '' before the first.
ALTER TABLE route ADD COLUMN certificate TEXT NOT NULL DEFAULT '';
