-- Messages that agents sent, by their ids: a repetition is told by them.

-- +goose Up
CREATE TABLE agent_message (
    node INTEGER NOT NULL REFERENCES node (num) ON DELETE CASCADE DEFERRABLE INITIALLY DEFERRED,
    id   TEXT NOT NULL,
    at   INTEGER NOT NULL,
    PRIMARY KEY (node, id)
) STRICT, WITHOUT ROWID;
CREATE INDEX agent_message_at ON agent_message (node, at);
