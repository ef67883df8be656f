-- Accounts have one kind of SSH keys.

-- +goose Up
INSERT OR IGNORE INTO ssh_key (id, account_id, name, key, fingerprint, created_at)
    SELECT id, account_id, name, public_key, fingerprint, created_at FROM key_pair ORDER BY num;
DROP TABLE key_pair;
