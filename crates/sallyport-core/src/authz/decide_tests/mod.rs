//! Every rule of the decision, a file for each kind of them.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests stop at the first surprise"
)]

mod access;
mod demands;
mod operation;
mod properties;
mod trace;

use std::{sync::Mutex, time::Duration};

use super::*;
use crate::{
    access::Quorum,
    fixture::{Policies, at, grant, grant_facts, person, question},
    id::{AccountId, LockId},
    lock::{Lock, LockScope},
    policy::Constraint,
    session::Operation,
    time::Timestamp,
};

const ACTIONS: [Action; 4] = [
    Action::RequestCreate,
    Action::SessionOpen,
    Action::OperationRun,
    Action::FeatureUse,
];

/// The decision. About an operation, the one that is made for its session must be the same: every rule tested
/// here holds for both.
fn decided(policies: &Policies, question: &Question) -> Decision {
    let decision = decide(policies, question);
    if let Some(operation) = &question.operation
        && operation.action() == question.action
    {
        let policies = Policies {
            evaluation: policies.evaluation.clone(),
            asked: Mutex::default(),
        };
        let session = SessionQuestion::new(question);
        let answer = decide_operation(&policies, &session, operation, question.now);
        let expected = match decision.clone() {
            Decision::Permit(_) => OperationAnswer::Permit,
            Decision::Challenge { unmet, trace, .. } => {
                OperationAnswer::Challenge(unmet, trace.bundle.unwrap())
            }
            Decision::Deny { reasons, .. } => OperationAnswer::Deny(reasons[0]),
        };
        assert_eq!(answer, expected);
    }
    decision
}

/// The reason of a denial; anything else fails the test.
fn denied(policies: &Policies, question: &Question) -> Reason {
    match decided(policies, question) {
        Decision::Deny { reasons, .. } => {
            assert_eq!(reasons.len(), 1);
            reasons[0]
        }
        other => panic!("not denied: {other:?}"),
    }
}

/// What a challenge misses; anything else fails the test.
fn missing(policies: &Policies, question: &Question) -> Vec<Unmet> {
    match decided(policies, question) {
        Decision::Challenge { unmet, .. } => unmet,
        other => panic!("not challenged: {other:?}"),
    }
}

fn permitted(policies: &Policies, question: &Question) -> Authorisation {
    match decided(policies, question) {
        Decision::Permit(authorisation) => *authorisation,
        other => panic!("not permitted: {other:?}"),
    }
}

fn lock(scope: LockScope) -> Lock {
    Lock {
        id: LockId::new(at(0), [5; 10]),
        scope,
        reason: "incident".into(),
        until: None,
    }
}

fn mfa(strength: AuthenticationStrength, max_age_s: Option<u64>) -> Requirement {
    Requirement::Mfa {
        strength,
        max_age_s,
    }
}

fn approval(count: u64, from: Option<&str>) -> Requirement {
    Requirement::Approval {
        count,
        from: from.map(str::to_owned),
    }
}
