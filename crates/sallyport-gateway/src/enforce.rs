//! Decides single operations of a live session, and the session itself again when policies change,
//! from its permit and the bundle in force. Pure.
//!
//! INVARIANT: an operation runs only if the policies in force now permit it and the constraints its
//! permit was given with do; whatever cannot be decided is refused.
//!
//! Not here: the rules (`sallyport-core`), evidence of what was refused (`session`).

use sallyport_core::{
    access::HoldTerms,
    authz::{
        Decision, OperationAnswer, PermitTerms, PolicyEngine, Reason, SessionQuestion,
        TerminalRules, Unmet, decide, decide_operation, terminal_rules,
    },
    policy::{BundleHash, Constraints},
    session::{EndReason, Operation, OperationKind},
    time::Timestamp,
};

/// Whether an operation may run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OperationDecision {
    /// It may.
    Permitted,
    /// It may, once other people agreed.
    Held(Box<Hold>),
    /// It may not.
    Refused(Reason),
}

/// What an operation has to wait for, and who says so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hold {
    /// Votes needed, and how long it waits for them.
    pub terms: HoldTerms,
    /// The bundle that demands them.
    pub bundle: BundleHash,
}

/// Decides `operation`, asked at `now` in a session opened with `terms`; `session` is made of the question in
/// these.
#[must_use]
pub fn check(
    engine: &dyn PolicyEngine,
    terms: &PermitTerms,
    session: &SessionQuestion,
    operation: &Operation,
    now: Timestamp,
) -> OperationDecision {
    if terms.expires_at <= now {
        return OperationDecision::Refused(Reason::GrantNotLive);
    }
    if let Some(reason) = refused_by_permit(&terms.constraints, operation) {
        return OperationDecision::Refused(reason);
    }
    match decide_operation(engine, session, operation, now) {
        OperationAnswer::Permit => OperationDecision::Permitted,
        OperationAnswer::Challenge(unmet, bundle) => match unmet.as_slice() {
            [Unmet::CommandApproval(terms)] => OperationDecision::Held(Box::new(Hold {
                terms: terms.clone(),
                bundle,
            })),
            // Nothing else can be made up for in the middle of a session.
            _ => OperationDecision::Refused(Reason::NotPermitted),
        },
        OperationAnswer::Deny(reason) => OperationDecision::Refused(reason),
    }
}

fn refused_by_permit(constraints: &Constraints, operation: &Operation) -> Option<Reason> {
    if constraints.read_only && operation.may_write() {
        return Some(Reason::ReadOnly);
    }
    match operation.kind {
        OperationKind::FileUpload | OperationKind::FileChange | OperationKind::LocalFile => {
            (!constraints.upload).then_some(Reason::UploadRefused)
        }
        OperationKind::FileDownload => (!constraints.download).then_some(Reason::DownloadRefused),
        OperationKind::Shell
        | OperationKind::Exec
        | OperationKind::Subsystem
        | OperationKind::TypedCommand
        | OperationKind::ForwardLocal
        | OperationKind::ForwardLocalSocket
        | OperationKind::ForwardRemote
        | OperationKind::ForwardRemoteSocket
        | OperationKind::ForwardAgent
        | OperationKind::Environment
        | OperationKind::Database
        | OperationKind::Statement
        | OperationKind::FunctionCall
        | OperationKind::Replication => None,
        // Whatever a policy says.
        OperationKind::Unsupported => Some(Reason::FeatureRefused),
    }
}

/// What holds for commands typed in terminals of a session opened with `terms`.
///
/// # Errors
/// [`Reason::PolicyError`]: no terminal may open.
pub fn typed_rules(
    engine: &dyn PolicyEngine,
    terms: &PermitTerms,
    now: Timestamp,
) -> Result<TerminalRules, Reason> {
    let mut question = terms.question.clone();
    question.now = now;
    terminal_rules(engine, &question).map_err(|_| Reason::PolicyError)
}

/// Whether a live session may go on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It may, within these limits and its permit's.
    GoesOn(Box<Constraints>),
    /// It must end.
    Ends(EndReason),
}

/// Decides a session opened with `terms` again, at `now`.
///
/// A sign-in that has grown old since is no reason to end a session it opened; one that would no
/// longer be strong enough is.
#[must_use]
pub fn decide_again(engine: &dyn PolicyEngine, terms: &PermitTerms, now: Timestamp) -> Verdict {
    if terms.expires_at <= now {
        return Verdict::Ends(EndReason::GrantExpired);
    }
    let mut question = terms.question.clone();
    question.now = now;
    let strength = question.authentication.strength;
    match decide(engine, &question) {
        Decision::Permit(authorisation) => {
            Verdict::GoesOn(Box::new(authorisation.constraints().clone()))
        }
        Decision::Challenge {
            unmet, constraints, ..
        } => {
            let is_only_age = unmet.iter().all(
                |unmet| matches!(unmet, Unmet::Mfa { strength: needed, .. } if *needed <= strength),
            );
            if is_only_age {
                Verdict::GoesOn(Box::new(constraints))
            } else {
                Verdict::Ends(EndReason::PolicyChanged)
            }
        }
        Decision::Deny { .. } => Verdict::Ends(EndReason::PolicyChanged),
    }
}

#[cfg(test)]
mod tests;
