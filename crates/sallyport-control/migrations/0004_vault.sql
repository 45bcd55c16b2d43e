-- One row: the keyring in its newest generation.
CREATE TABLE vault_keyring (
    id BIGINT PRIMARY KEY,
    generation BIGINT NOT NULL,
    record TEXT NOT NULL
);

-- Every version of every secret, sealed.
CREATE TABLE secret (
    path TEXT NOT NULL,
    version BIGINT NOT NULL,
    sealed TEXT NOT NULL,
    PRIMARY KEY (path, version)
);

-- Public halves of keys in the vault: readable while it is sealed.
CREATE TABLE vault_public_key (
    name TEXT PRIMARY KEY,
    value TEXT NOT NULL
);

CREATE TABLE policy_bundle (
    version BIGINT PRIMARY KEY,
    hash TEXT NOT NULL,
    body TEXT NOT NULL,
    applied_by TEXT NOT NULL,
    applied_at BIGINT NOT NULL
);
