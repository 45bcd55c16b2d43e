-- Where a credential is made that has to be unmade there, and which account does that: as it was when the
-- credential was intended, so that revoking finds the place after the inventory changed.
CREATE TABLE lease_place (
    lease_id TEXT PRIMARY KEY,
    address TEXT NOT NULL,
    body TEXT NOT NULL
);
ALTER TABLE lease ADD COLUMN next_attempt_at BIGINT NOT NULL DEFAULT 0;
ALTER TABLE lease ADD COLUMN revoke_attempts BIGINT NOT NULL DEFAULT 0;
-- Passwords that are changed at their target from time to time. `next_at` is null where nothing is due.
CREATE TABLE rotation (
    account_id TEXT PRIMARY KEY,
    next_at BIGINT,
    rotated_at BIGINT,
    body TEXT NOT NULL
);
