-- Operations that wait for other people, and those that waited. `body` holds the whole object as JSON;
-- the columns beside it are for finding it.
CREATE TABLE held_operation (
    id TEXT PRIMARY KEY,
    session_id TEXT NOT NULL,
    requester_id TEXT NOT NULL,
    state TEXT NOT NULL,
    expires_at BIGINT NOT NULL,
    body TEXT NOT NULL
);
CREATE INDEX held_operation_open ON held_operation (state, expires_at);
CREATE INDEX held_operation_session ON held_operation (session_id, state);
CREATE INDEX held_operation_requester ON held_operation (requester_id, id);
