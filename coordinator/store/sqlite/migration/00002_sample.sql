-- What nodes use, for graphs. at is in seconds; NULL is a counter nobody could read. The rows of a node lie together, and
-- they vanish with it.

-- +goose Up
CREATE TABLE sample (
    node          INTEGER NOT NULL REFERENCES node (num) ON DELETE CASCADE,
    at            INTEGER NOT NULL,
    epoch         INTEGER NOT NULL,
    cpus          INTEGER,
    user_micros   INTEGER,
    system_micros INTEGER,
    steal_micros  INTEGER,
    read_bytes    INTEGER,
    write_bytes   INTEGER,
    reads         INTEGER,
    writes        INTEGER,
    rx_bytes      INTEGER,
    tx_bytes      INTEGER,
    rx_packets    INTEGER,
    tx_packets    INTEGER,
    data_used     INTEGER,
    data_total    INTEGER,
    PRIMARY KEY (node, at)
) STRICT, WITHOUT ROWID;
