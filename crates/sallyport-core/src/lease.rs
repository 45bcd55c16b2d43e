//! The life of a credential: intent, issue, revocation. The intent is durable before the credential
//! exists, so that a crash never leaves one that nobody knows of.
//!
//! INVARIANT: a lease never ends later than its grant, and once revocation began it never goes back.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::{
    id::{AccountId, GrantId, LeaseId, SessionId},
    time::Timestamp,
};

/// Where a lease stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LeaseState {
    /// Recorded, credential not made yet; swept after a crash.
    Intended,
    /// The credential exists.
    Issued,
    /// To be revoked; tried for ever.
    Revoking,
    /// Gone at its source.
    Revoked,
}

/// A credential with a lifetime.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lease {
    /// Id.
    pub id: LeaseId,
    /// Grant it serves and never outlives.
    pub grant_id: GrantId,
    /// Session it was made for.
    pub session_id: SessionId,
    /// Account it opens.
    pub account_id: AccountId,
    /// Engine that made it.
    pub engine: String,
    /// Where it stands.
    pub state: LeaseState,
    /// End of the credential's life.
    pub expires_at: Timestamp,
    /// What the engine needs to revoke it; never a secret. At most 4 KiB.
    pub handle: Option<String>,
    /// Failed revocations so far.
    pub revoke_attempts: u32,
    /// When revocation is tried next.
    pub next_attempt_at: Timestamp,
    /// Why the last revocation failed, in words that hold no secret. At most 500 characters.
    #[serde(default)]
    pub last_failure: Option<String>,
}

/// Failed revocations after which somebody should look at a lease: it is tried on, but not by itself likely
/// to succeed.
pub const STUCK_AFTER: u32 = 5;
/// Longest wait between two revocations, before jitter.
const RETRY_S_MAX: u64 = 30;
/// Most characters kept of why a revocation failed.
const FAILURE_CHARS_MAX: usize = 500;

/// Why a lease cannot take a step.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum LeaseStepError {
    /// The step does not follow from where the lease stands.
    #[error("lease `{lease}` is {state:?} and cannot be {step}")]
    WrongState {
        /// The lease.
        lease: LeaseId,
        /// Where it stands.
        state: LeaseState,
        /// What was asked.
        step: &'static str,
    },
}

impl Lease {
    /// Records that the credential exists.
    ///
    /// # Errors
    /// [`LeaseStepError::WrongState`] unless the lease is intended: a lease whose revocation began
    /// while the credential was being made must be revoked, not used.
    pub fn issued(&mut self, handle: Option<String>) -> Result<(), LeaseStepError> {
        if self.state != LeaseState::Intended {
            return Err(self.wrong_state("issued"));
        }
        self.state = LeaseState::Issued;
        self.handle = handle;
        Ok(())
    }

    /// Begins revocation; harmless when it began before.
    pub fn begin_revocation(&mut self, now: Timestamp) {
        if matches!(self.state, LeaseState::Intended | LeaseState::Issued) {
            self.state = LeaseState::Revoking;
            self.next_attempt_at = now;
        }
    }

    /// Records that the credential is gone at its source.
    ///
    /// # Errors
    /// [`LeaseStepError::WrongState`] unless revocation had begun.
    pub fn revoked(&mut self) -> Result<(), LeaseStepError> {
        if self.state != LeaseState::Revoking {
            return Err(self.wrong_state("revoked"));
        }
        self.state = LeaseState::Revoked;
        Ok(())
    }

    /// Records a failed revocation and plans the next, doubling from one second up to thirty, and up to half
    /// as much again by `jitter`, which is random, so that many leases do not come back at once. There is no
    /// last attempt.
    pub fn revocation_failed(&mut self, now: Timestamp, failure: &str, jitter: u8) {
        self.revoke_attempts = self.revoke_attempts.saturating_add(1);
        self.last_failure = Some(failure.chars().take(FAILURE_CHARS_MAX).collect());
        let delay_s = 1_u64 << self.revoke_attempts.min(10).saturating_sub(1);
        let delay = Duration::from_secs(delay_s.min(RETRY_S_MAX));
        let more = delay.saturating_mul(u32::from(jitter)) / 512;
        self.next_attempt_at = now.plus(delay).plus(more);
    }

    /// Has the next revocation tried at once. Nothing happens unless revocation has begun.
    pub fn retry(&mut self, now: Timestamp) {
        if self.state == LeaseState::Revoking {
            self.next_attempt_at = now;
        }
    }

    /// Has a lease revoked again whose credential turned up after it was revoked: it was being made when
    /// access ended.
    pub fn reopen(&mut self, now: Timestamp) {
        if self.state == LeaseState::Revoked {
            self.state = LeaseState::Revoking;
            self.next_attempt_at = now;
        }
    }

    /// Whether somebody should look at it.
    #[must_use]
    pub fn is_stuck(&self) -> bool {
        self.state == LeaseState::Revoking && self.revoke_attempts >= STUCK_AFTER
    }

    fn wrong_state(&self, step: &'static str) -> LeaseStepError {
        LeaseStepError::WrongState {
            lease: self.id.clone(),
            state: self.state,
            step,
        }
    }
}

/// When a credential asked for now must end: after `ttl`, but never later than its grant.
#[must_use]
pub fn expiry(now: Timestamp, ttl: Duration, grant_until: Timestamp) -> Timestamp {
    now.plus(ttl).min(grant_until)
}

#[cfg(test)]
#[path = "lease_tests.rs"]
mod tests;
