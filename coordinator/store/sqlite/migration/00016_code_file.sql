-- Archives of code versions lie beside those of releases. One that was stored before is moved there when it is needed first.

-- +goose Up
ALTER TABLE code_version ADD COLUMN file TEXT NOT NULL DEFAULT ''; -- SHA-256; '': the archive is in its column
ALTER TABLE code_version ADD COLUMN size_bytes INTEGER NOT NULL DEFAULT 0;
CREATE INDEX code_version_file ON code_version (file) WHERE file <> '';
