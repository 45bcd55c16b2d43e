-- The audit log. `entry` is the exact canonical text; `leaf` its RFC 6962 leaf hash.
CREATE TABLE audit_head (
    id BIGINT PRIMARY KEY,
    next_seq BIGINT NOT NULL,
    last_at BIGINT NOT NULL
);
INSERT INTO audit_head (id, next_seq, last_at) VALUES (1, 0, 0);

CREATE TABLE audit_entry (
    seq BIGINT PRIMARY KEY,
    entry TEXT NOT NULL,
    leaf BYTEA NOT NULL
);

CREATE TABLE audit_tile (
    level BIGINT NOT NULL,
    position BIGINT NOT NULL,
    hashes BYTEA NOT NULL,
    PRIMARY KEY (level, position)
);

CREATE TABLE audit_checkpoint (
    size BIGINT PRIMARY KEY,
    root BYTEA NOT NULL,
    note TEXT NOT NULL
);
