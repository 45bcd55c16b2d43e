//! The flow of a lease: intent → issue → record → revoke, and what a sweep after a crash does.
//!
//! Control calls these around its commits: [`intend`], commit; [`issue`]; load the lease again, [`record`],
//! commit; only then hand the credential out. Its jobs ask [`next_step`] of every lease that is not
//! revoked.
//!
//! INVARIANT: no credential is made without a lease that says so first, none is handed out unless its
//! lease was recorded as issued, and none ends after its grant.
//!
//! Not here: what a lease is (`sallyport_core::lease`), storing it (control).

use std::time::Duration;

use sallyport_core::{
    authz::Permit,
    id::{LeaseId, SessionId},
    lease::{Lease, LeaseState, LeaseStepError},
    time::Timestamp,
};

use crate::{
    barrier::Vault,
    engines::{self, Engine, EngineError, IssueContext, Issued, RevokeContext},
};

/// An intent this old without a credential was cut off by a crash: issuing takes less.
const INTENT_LASTS: Duration = Duration::from_secs(60);
/// Longest handle.
const MAX_HANDLE_BYTES: usize = 4 * 1024;

/// Why a lease did not get its credential, or did not lose it.
#[derive(Debug, thiserror::Error)]
pub enum LeaseError {
    /// The lease names an engine this version does not know.
    #[error("use engine `{engine}` for lease `{lease}`: this version has no such engine")]
    UnknownEngine {
        /// The lease.
        lease: LeaseId,
        /// Kind asked for.
        engine: String,
    },
    /// The permit is another session's.
    #[error("issue for lease `{lease}`: the permit is for session `{permitted}`")]
    OtherSession {
        /// The lease.
        lease: LeaseId,
        /// Session of the permit.
        permitted: SessionId,
    },
    /// The engine refused or failed.
    #[error("let engine `{engine}` act for lease `{lease}`")]
    Engine {
        /// The lease.
        lease: LeaseId,
        /// Its kind.
        engine: String,
        /// Why.
        source: Box<EngineError>,
    },
    /// The engine broke its contract; the credential was dropped unused.
    #[error("accept the credential of lease `{lease}`: {problem}")]
    Contract {
        /// The lease.
        lease: LeaseId,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// The step does not follow from where the lease stands.
    #[error("take a step with a lease")]
    Step(#[source] LeaseStepError),
}

impl LeaseError {
    /// Whether a target could not be reached, so that asking it more now is of no use.
    #[must_use]
    pub fn is_unreachable(&self) -> bool {
        matches!(self, Self::Engine { source, .. }
            if matches!(&**source, EngineError::Database(error) if error.is_unreachable()))
    }
}

/// The intent of a lease: to be stored before [`issue`]. It ends with the grant until the engine says
/// sooner.
#[must_use]
pub fn intend(id: LeaseId, permit: &Permit, engine: &str, vault: &Vault, now: Timestamp) -> Lease {
    let terms = permit.terms();
    let handle = engines::by_kind(engine).and_then(|engine| engine.handle(vault, &id));
    Lease {
        id,
        grant_id: terms.grant_id.clone(),
        session_id: terms.session_id.clone(),
        account_id: terms.question.account.id.clone(),
        engine: engine.to_owned(),
        state: LeaseState::Intended,
        expires_at: terms.expires_at,
        handle,
        revoke_attempts: 0,
        next_attempt_at: now,
        last_failure: None,
    }
}

/// Makes the credential of a stored intent. Then [`record`] it.
///
/// # Errors
/// [`LeaseError`]. The intent stands and will be swept; a credential that was made nevertheless ends with
/// it.
pub async fn issue(
    lease: &Lease,
    permit: &Permit,
    context: IssueContext<'_>,
) -> Result<Issued, LeaseError> {
    let terms = permit.terms();
    let is_permitted = terms.session_id == lease.session_id
        && terms.grant_id == lease.grant_id
        && terms.question.account.id == lease.account_id;
    if !is_permitted {
        return Err(LeaseError::OtherSession {
            lease: lease.id.clone(),
            permitted: terms.session_id.clone(),
        });
    }
    let now = context.now;
    let issued = engine_of(lease)?
        .issue(permit, context)
        .await
        .map_err(|source| refused(lease, source))?;
    match broken_promise(&issued, terms.expires_at, now) {
        Some(problem) => Err(LeaseError::Contract {
            lease: lease.id.clone(),
            problem,
        }),
        None => Ok(issued),
    }
}

fn broken_promise(issued: &Issued, grant_ends: Timestamp, now: Timestamp) -> Option<&'static str> {
    if issued.expires_at > grant_ends {
        Some("it would outlive its grant")
    } else if issued.expires_at <= now {
        Some("it has ended already")
    } else if issued
        .handle
        .as_ref()
        .is_some_and(|handle| handle.len() > MAX_HANDLE_BYTES)
    {
        Some("its handle is longer than 4 KiB")
    } else {
        None
    }
}

/// Records a credential in its lease, as that is stored now. Store the lease either way; hand the
/// credential out only after `Ok` is durable.
///
/// # Errors
/// [`LeaseError::Step`] when revocation began while the credential was being made. The lease knows the
/// credential then, so that revoking reaches it.
pub fn record(lease: &mut Lease, issued: &Issued, now: Timestamp) -> Result<(), LeaseError> {
    lease.expires_at = issued.expires_at.min(lease.expires_at);
    lease.issued(issued.handle.clone()).map_err(|error| {
        lease.handle.clone_from(&issued.handle);
        lease.reopen(now);
        LeaseError::Step(error)
    })
}

/// Tries to revoke a lease whose revocation has begun, and advances it either way. Store it afterwards.
///
/// # Errors
/// [`LeaseError`]: it has to be tried again at the lease's `next_attempt_at`.
pub async fn revoke(lease: &mut Lease, context: RevokeContext<'_>) -> Result<(), LeaseError> {
    let now = context.now;
    let outcome = match engine_of(lease) {
        Ok(engine) => engine
            .revoke(lease, context)
            .await
            .map_err(|source| refused(lease, source)),
        Err(unknown) => Err(unknown),
    };
    match outcome {
        Ok(()) => lease.revoked().map_err(LeaseError::Step),
        Err(error) => {
            let [jitter] = context.vault.entropy().draw();
            lease.revocation_failed(now, &chain(&error), jitter);
            Err(error)
        }
    }
}

/// What is to be done with a lease now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LeaseStep {
    /// Nothing, until something changes or this time comes.
    Wait(Timestamp),
    /// Begin its revocation ([`Lease::begin_revocation`]), store that, then [`revoke`].
    BeginRevocation,
    /// [`revoke`].
    Revoke,
    /// It is over.
    Done,
}

/// What a sweep does with a lease. `is_session_over`: its session has ended, or never opened.
#[must_use]
pub fn next_step(lease: &Lease, is_session_over: bool, now: Timestamp) -> LeaseStep {
    match lease.state {
        LeaseState::Revoked => LeaseStep::Done,
        LeaseState::Revoking if lease.next_attempt_at <= now => LeaseStep::Revoke,
        LeaseState::Revoking => LeaseStep::Wait(lease.next_attempt_at),
        LeaseState::Intended | LeaseState::Issued => {
            let ends = match lease.state {
                LeaseState::Intended => lease
                    .next_attempt_at
                    .plus(INTENT_LASTS)
                    .min(lease.expires_at),
                _ => lease.expires_at,
            };
            if is_session_over || ends <= now {
                LeaseStep::BeginRevocation
            } else {
                LeaseStep::Wait(ends)
            }
        }
    }
}

fn engine_of(lease: &Lease) -> Result<&'static dyn Engine, LeaseError> {
    engines::by_kind(&lease.engine).ok_or_else(|| LeaseError::UnknownEngine {
        lease: lease.id.clone(),
        engine: lease.engine.clone(),
    })
}

/// An error with its causes, in one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}

fn refused(lease: &Lease, source: EngineError) -> LeaseError {
    LeaseError::Engine {
        lease: lease.id.clone(),
        engine: lease.engine.clone(),
        source: Box::new(source),
    }
}

#[cfg(test)]
mod tests {
    use sallyport_core::secret::Secret;

    use super::*;
    use crate::engines::CredentialMaterial;

    /// VA-3: no engine, whatever it does, makes a credential that outlives its grant.
    #[test]
    fn an_engine_that_breaks_its_promise_is_found_out() {
        let at = Timestamp::from_unix_ms;
        let issued = |expires_at, handle: Option<usize>| Issued {
            content: CredentialMaterial::Password {
                user: None,
                password: Secret::new("x".to_owned()),
            },
            expires_at,
            handle: handle.map(|length| "h".repeat(length)),
        };
        let problem = |issued: &Issued| broken_promise(issued, at(2_000), at(1_000));
        assert_eq!(problem(&issued(at(2_000), Some(MAX_HANDLE_BYTES))), None);
        assert_eq!(problem(&issued(at(1_001), None)), None);
        assert!(problem(&issued(at(2_001), None)).is_some());
        assert!(problem(&issued(at(1_000), None)).is_some());
        assert!(problem(&issued(at(2_000), Some(MAX_HANDLE_BYTES + 1))).is_some());
    }
}
