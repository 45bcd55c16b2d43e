-- People, groups, and everything that proves who somebody is. Secrets are stored as SHA-256 of 128 or
-- more random bits, as argon2id, or (`totp_secret`) sealed under a key that is not in this database.
CREATE TABLE person (
    id TEXT PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    display_name TEXT NOT NULL,
    admin_roles TEXT NOT NULL,
    is_enabled BIGINT NOT NULL,
    password_hash TEXT,
    totp_secret BYTEA,
    totp_last_step BIGINT NOT NULL,
    created_at BIGINT NOT NULL
);

CREATE TABLE person_group (
    id TEXT PRIMARY KEY,
    name TEXT NOT NULL UNIQUE
);

CREATE TABLE group_member (
    group_id TEXT NOT NULL,
    person_id TEXT NOT NULL,
    PRIMARY KEY (group_id, person_id)
);
CREATE INDEX group_member_person ON group_member (person_id);

-- `person_id` is null for the code of the first owner, who does not exist yet.
CREATE TABLE enrolment_code (
    code_hash BYTEA PRIMARY KEY,
    person_id TEXT,
    expires_at BIGINT NOT NULL
);
CREATE INDEX enrolment_code_person ON enrolment_code (person_id);

CREATE TABLE sign_in_token (
    token_hash BYTEA PRIMARY KEY,
    person_id TEXT NOT NULL,
    strength TEXT NOT NULL,
    methods TEXT NOT NULL,
    authenticated_at BIGINT NOT NULL,
    expires_at BIGINT NOT NULL
);
CREATE INDEX sign_in_token_person ON sign_in_token (person_id);

CREATE TABLE api_token (
    id TEXT PRIMARY KEY,
    token_hash BYTEA NOT NULL UNIQUE,
    person_id TEXT NOT NULL,
    label TEXT NOT NULL,
    scopes TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    expires_at BIGINT NOT NULL,
    is_revoked BIGINT NOT NULL
);
CREATE INDEX api_token_person ON api_token (person_id, id);

CREATE TABLE ssh_key (
    id TEXT PRIMARY KEY,
    person_id TEXT NOT NULL,
    fingerprint TEXT NOT NULL UNIQUE,
    public_key TEXT NOT NULL,
    algorithm TEXT NOT NULL,
    label TEXT NOT NULL,
    added_at BIGINT NOT NULL
);
CREATE INDEX ssh_key_person ON ssh_key (person_id, id);

-- Certificates issued at sign-in. One that is not here proves nothing, whoever signed it. `serial` is
-- text because it has 64 bits without a sign.
CREATE TABLE ssh_certificate (
    serial TEXT PRIMARY KEY,
    person_id TEXT NOT NULL,
    fingerprint TEXT NOT NULL,
    token_hash BYTEA NOT NULL,
    strength TEXT NOT NULL,
    authenticated_at BIGINT NOT NULL,
    expires_at BIGINT NOT NULL
);
CREATE INDEX ssh_certificate_person ON ssh_certificate (person_id);
CREATE INDEX ssh_certificate_sign_in ON ssh_certificate (token_hash);

-- Attempts in a row that have not succeeded, per SHA-256 of the canonical name, so that a table of what
-- people typed into the wrong field never arises.
CREATE TABLE sign_in_failure (
    name_hash BYTEA PRIMARY KEY,
    failures BIGINT NOT NULL,
    last_at BIGINT NOT NULL,
    locked_until BIGINT NOT NULL
);
