CREATE TABLE target (
    id TEXT PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    protocol TEXT NOT NULL,
    address TEXT NOT NULL,
    labels TEXT NOT NULL,
    sensitivity TEXT NOT NULL,
    host_keys TEXT NOT NULL,
    pins_first_host_key BIGINT NOT NULL
);

CREATE TABLE account (
    id TEXT PRIMARY KEY,
    target_id TEXT NOT NULL,
    name TEXT NOT NULL,
    engine TEXT NOT NULL,
    settings TEXT NOT NULL,
    UNIQUE (target_id, name)
);

-- `body` holds the whole object as JSON; the columns beside it are for finding it.
CREATE TABLE access_request (
    id TEXT PRIMARY KEY,
    requester_id TEXT NOT NULL,
    account_id TEXT NOT NULL,
    state TEXT NOT NULL,
    expires_at BIGINT NOT NULL,
    body TEXT NOT NULL
);
CREATE INDEX access_request_open ON access_request (state, expires_at);
CREATE INDEX access_request_requester ON access_request (requester_id, id);

CREATE TABLE access_grant (
    id TEXT PRIMARY KEY,
    request_id TEXT NOT NULL UNIQUE,
    person_id TEXT NOT NULL,
    account_id TEXT NOT NULL,
    target_id TEXT NOT NULL,
    until_at BIGINT NOT NULL,
    is_open BIGINT NOT NULL,
    body TEXT NOT NULL
);
CREATE INDEX access_grant_open ON access_grant (is_open, until_at);
CREATE INDEX access_grant_holder ON access_grant (person_id, account_id, is_open);

CREATE TABLE review (
    id TEXT PRIMARY KEY,
    grant_id TEXT NOT NULL,
    person_id TEXT NOT NULL,
    is_open BIGINT NOT NULL,
    body TEXT NOT NULL
);
CREATE INDEX review_person ON review (person_id, is_open);

CREATE TABLE access_lock (
    id TEXT PRIMARY KEY,
    body TEXT NOT NULL,
    until_at BIGINT
);

CREATE TABLE session (
    id TEXT PRIMARY KEY,
    grant_id TEXT NOT NULL,
    person_id TEXT NOT NULL,
    person TEXT NOT NULL,
    account_id TEXT NOT NULL,
    account TEXT NOT NULL,
    target_id TEXT NOT NULL,
    target TEXT NOT NULL,
    protocol TEXT NOT NULL,
    ip TEXT NOT NULL,
    gateway_id TEXT NOT NULL,
    recording_id TEXT NOT NULL,
    opened_at BIGINT NOT NULL,
    is_live BIGINT NOT NULL,
    ended_at BIGINT,
    end_reason TEXT,
    bytes_up BIGINT NOT NULL,
    bytes_down BIGINT NOT NULL,
    operations BIGINT NOT NULL,
    end_requested TEXT
);
CREATE INDEX session_live ON session (is_live, grant_id);
CREATE INDEX session_person ON session (person_id, id);

CREATE TABLE operation (
    session_id TEXT NOT NULL,
    position BIGINT NOT NULL,
    body TEXT NOT NULL,
    PRIMARY KEY (session_id, position)
);

CREATE TABLE recording (
    id TEXT PRIMARY KEY,
    session_id TEXT NOT NULL UNIQUE,
    state TEXT NOT NULL,
    chunks BIGINT NOT NULL,
    size_bytes BIGINT NOT NULL,
    chain TEXT NOT NULL
);

CREATE TABLE lease (
    id TEXT PRIMARY KEY,
    grant_id TEXT NOT NULL,
    session_id TEXT NOT NULL,
    state TEXT NOT NULL,
    expires_at BIGINT NOT NULL,
    body TEXT NOT NULL
);
CREATE INDEX lease_state ON lease (state, expires_at);
CREATE INDEX lease_session ON lease (session_id);
CREATE INDEX lease_grant ON lease (grant_id);
