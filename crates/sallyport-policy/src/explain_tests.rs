//! PO-9: which policies decided, and what would change the answer.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "tests stop at the first surprise"
)]

use sallyport_core::{
    id::LockId,
    lock::{Lock, LockScope},
};

use super::*;
use crate::{
    default_bundle,
    fixture::{bundle, question},
};

fn changes(explanation: &Explanation) -> Vec<&str> {
    explanation
        .changes
        .iter()
        .map(|change| change.change.as_str())
        .collect()
}

/// PO-9
#[test]
fn a_refusal_names_the_group_that_would_change_it() {
    let explanation = default_bundle()
        .unwrap()
        .explain(&question(Action::SessionOpen));
    assert_eq!(explanation.outcome, "deny");
    assert!(explanation.reasons[0].ends_with("(not-permitted)"));
    assert_eq!(explanation.determining, []);
    assert_eq!(
        changes(&explanation),
        ["add the person to group `operators`"]
    );
    assert_eq!(explanation.changes[0].outcome, "challenge");
    assert_eq!(
        explanation.changes[0].missing,
        [
            "a live grant: access must be asked for",
            "a reason of at least 10 characters",
            "approval by 1 other people with the approver role",
        ]
    );
}

/// PO-9
#[test]
fn a_challenge_says_what_is_missing_and_which_policy_asks_for_it() {
    let mut question = question(Action::SessionOpen);
    question.principal.groups = vec!["operators".into()];
    let explanation = default_bundle().unwrap().explain(&question);
    assert_eq!(explanation.outcome, "challenge");
    assert_eq!(explanation.missing.len(), 3);
    assert_eq!(explanation.determining[0].id, "operators-may-access");
    assert_eq!(explanation.determining[0].file, "authorise/access.cedar");
    let demanding: Vec<_> = explanation
        .demanding
        .iter()
        .map(|policy| &policy.id)
        .collect();
    assert!(
        demanding
            .iter()
            .any(|id| *id == "privileged-accounts-need-approval")
    );
    assert_eq!(
        changes(&explanation),
        ["have a live grant for this account"]
    );
    assert_eq!(explanation.changes[0].outcome, "permit");
}

/// PO-9
#[test]
fn a_missing_reason_and_a_weak_sign_in_are_changes_one_at_a_time() {
    let mut question = question(Action::RequestCreate);
    question.principal.groups = vec!["operators".into()];
    question.target.sensitivity = sallyport_core::inventory::Sensitivity::High;
    question.request.as_mut().unwrap().reason = String::new();
    let explanation = default_bundle().unwrap().explain(&question);
    assert_eq!(
        changes(&explanation),
        [
            "sign in with multi_factor",
            "sign in with phishing_resistant",
            "give a reason of at least 10 characters",
        ]
    );
    assert!(
        explanation
            .changes
            .iter()
            .all(|change| change.missing.len() == 1)
    );
}

/// PO-9
#[test]
fn a_forbid_is_shown_with_the_line_it_stands_on() {
    let mut question = question(Action::OperationRun);
    question.operation.as_mut().unwrap().detail = "rm -rf /".into();
    let explanation = default_bundle().unwrap().explain(&question);
    assert_eq!(explanation.outcome, "deny");
    assert_eq!(explanation.determining[0].id, "no-removal-of-everything");
    let file = &crate::default_files()[&explanation.determining[0].file];
    let line = file
        .lines()
        .nth(explanation.determining[0].line - 1)
        .unwrap();
    assert_eq!(line, "@id(\"no-removal-of-everything\")");
    assert_eq!(changes(&explanation), Vec::<&str>::new());
}

/// PO-9
#[test]
fn a_lock_a_review_and_a_long_duration_are_named() {
    let mut locked = question(Action::RequestCreate);
    locked.principal.groups = vec!["operators".into()];
    let lock = Lock {
        id: LockId::new(locked.now, [9; 10]),
        scope: LockScope::Everything,
        reason: "incident 7".into(),
        until: None,
    };
    locked.locks = vec![lock.clone()];
    let bundle = default_bundle().unwrap();
    assert_eq!(
        changes(&bundle.explain(&locked)),
        [format!("remove lock `{}` (incident 7)", lock.id)]
    );

    let mut reviewed = question(Action::RequestCreate);
    reviewed.principal.groups = vec!["break-glass".into()];
    reviewed.request.as_mut().unwrap().is_break_glass = true;
    reviewed.history.open_reviews = 1;
    assert_eq!(
        changes(&bundle.explain(&reviewed)),
        ["close the person's open reviews"]
    );

    let mut long = question(Action::RequestCreate);
    long.principal.groups = vec!["operators".into()];
    long.request.as_mut().unwrap().duration_s = 9 * 3_600;
    assert_eq!(
        changes(&bundle.explain(&long)),
        ["ask for 8 h", "ask for 4 h", "ask for 2 h", "ask for 1 h"]
    );

    let mut disabled = locked;
    disabled.locks.clear();
    disabled.principal.is_enabled = false;
    assert_eq!(changes(&bundle.explain(&disabled)), ["enable the person"]);
}

/// PO-9
#[test]
fn a_policy_about_office_hours_names_the_next_hour_that_is_one() {
    let bundle = bundle(
        "@id(\"office\") permit (principal, action, resource)
         when { context.time.weekday < 5 && context.time.hour >= 8 && context.time.hour < 18 };",
        "",
    );
    let mut question = question(Action::RequestCreate);
    question.now = "2026-03-06T18:20:00Z".parse().unwrap();
    question.authentication.at = question.now;
    let explanation = bundle.explain(&question);
    assert_eq!(changes(&explanation), ["ask at 2026-03-09T08:00:00.000Z"]);
    assert_eq!(explanation.changes[0].outcome, "permit");
}

/// PO-9
#[test]
fn a_permitted_question_needs_no_change() {
    let explanation = default_bundle()
        .unwrap()
        .explain(&question(Action::OperationRun));
    assert_eq!(explanation.outcome, "permit");
    assert_eq!(explanation.determining[0].id, "sessions-may-be-used");
    assert_eq!(explanation.missing, Vec::<String>::new());
    assert_eq!(explanation.changes, []);
}
