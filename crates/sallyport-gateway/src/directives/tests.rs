//! What control says takes effect at once, and its absence within its grace.

use sallyport_core::{
    policy::Restraints,
    session::{Operation, OperationKind},
};

use super::*;
use crate::{
    control::OpenAnswer,
    door::OpenOutcome,
    enforce::OperationDecision,
    testing::{Harness, ended, session_id},
};

const GRACE: Duration = Duration::from_secs(60);

fn exec() -> Operation {
    Operation {
        kind: OperationKind::Exec,
        detail: "id".to_owned(),
        facts: None,
    }
}

/// GW-12, RE-12
#[tokio::test]
async fn sessions_outlive_control_by_the_grace_and_not_a_moment_longer() {
    let harness = Harness::start();
    let session = harness.open(1).await;
    let directives = &harness.node.directives;
    directives.lost(harness.clock.now());
    harness.clock.advance(GRACE - Duration::from_millis(1));
    directives.lost(harness.clock.now());
    directives.sweep(harness.clock.now());
    assert_eq!(session.end_if_over(), None);

    harness.clock.advance(Duration::from_millis(1));
    directives.sweep(harness.clock.now());
    assert_eq!(ended(&session).await.reason, EndReason::ControlLost);
}

/// GW-12
#[tokio::test]
async fn a_control_plane_that_comes_back_in_time_ends_no_session() {
    let harness = Harness::start();
    let session = harness.open(1).await;
    let directives = &harness.node.directives;
    directives.lost(harness.clock.now());
    harness.clock.advance(GRACE - Duration::from_millis(1));
    harness.welcome("permit", GRACE);
    harness.clock.advance(GRACE);
    directives.sweep(harness.clock.now());
    assert_eq!(session.end_if_over(), None);
}

/// AC-6
#[tokio::test]
async fn an_end_that_overtakes_its_session_ends_it_as_it_opens() {
    let harness = Harness::start();
    let push = Push::EndSession {
        session_id: session_id(1),
        reason: EndReason::Locked,
        comment: "incident 7".to_owned(),
    };
    harness.node.directives.pushed(push, harness.clock.now());
    let session = harness.open(1).await;
    let expected = End {
        reason: EndReason::Locked,
        comment: "incident 7".to_owned(),
    };
    assert_eq!(session.end_if_over(), Some(expected));
}

/// AC-6
#[tokio::test]
async fn a_welcome_ends_what_control_no_longer_knows() {
    let harness = Harness::start();
    let (over, live) = (harness.open(1).await, harness.open(2).await);
    harness.node.directives.welcomed(
        Welcome {
            permit_key: harness.signer.public(),
            bundle: "permit".to_owned(),
            user_authorities: Vec::new(),
            end_now: vec![(session_id(1), EndReason::GrantEnded)],
            paused: Vec::new(),
            control_grace_s: 60,
            tls_certificate: Vec::new(),
        },
        harness.clock.now(),
    );
    assert_eq!(ended(&over).await.reason, EndReason::GrantEnded);
    assert_eq!(live.end_if_over(), None);
}

/// PO-3
#[tokio::test]
async fn a_new_bundle_decides_the_next_operation_of_a_live_session() {
    let harness = Harness::start();
    let session = harness.open(1).await;
    assert_eq!(session.check(&exec()), OperationDecision::Permitted);
    let push = Push::Bundle {
        bundle: "permit forbid:exec".to_owned(),
    };
    harness.node.directives.pushed(push, harness.clock.now());
    assert!(matches!(
        session.check(&exec()),
        OperationDecision::Refused(_)
    ));
    assert_eq!(session.end_if_over(), None);
}

/// PO-3
#[tokio::test]
async fn policies_that_cannot_be_read_permit_nothing_and_end_what_lives() {
    let harness = Harness::start();
    let session = harness.open(1).await;
    let push = Push::Bundle {
        bundle: "unreadable".to_owned(),
    };
    harness.node.directives.pushed(push, harness.clock.now());
    assert_eq!(ended(&session).await.reason, EndReason::PolicyChanged);
    assert!(matches!(
        session.check(&exec()),
        OperationDecision::Refused(_)
    ));
}

/// GW-12, AU-6
#[tokio::test]
async fn a_session_that_is_over_is_named_until_control_has_its_end() {
    let harness = Harness::start();
    let session = harness.open(1).await;
    harness.control.set_reachable(false);
    drop(session);
    harness.control.until(|told| told.attempts > 0).await;
    assert_eq!(harness.node.directives.call_roll(), [session_id(1)]);
    harness.control.set_reachable(true);
    harness.closed(1).await;
    harness.stop_evidence.cancel();
    harness.node.tasks.wait().await;
    assert!(harness.node.directives.call_roll().is_empty());
}

/// GW-12
#[tokio::test]
async fn a_session_that_control_was_not_told_of_while_it_opened_does_not_take_place() {
    let harness = Harness::start();
    let opened = harness.opened(1);
    let directives = Arc::clone(&harness.node.directives);
    harness.control.answer_open(move |_| {
        // Control restarts between its answer and the session's first moment.
        assert!(directives.call_roll().is_empty());
        OpenAnswer::Opened(Box::new(opened))
    });
    let outcome = harness.ask().await;
    assert!(matches!(outcome, OpenOutcome::Refused(_)), "{outcome:?}");
    harness.closed(1).await;
}

fn apply(harness: &Harness, bundle: &str) {
    let push = Push::Bundle {
        bundle: bundle.to_owned(),
    };
    harness.node.directives.pushed(push, harness.clock.now());
}

/// PO-2: a demand that comes while a session lives is not left out, either.
#[tokio::test]
async fn given_a_live_session_when_policies_demand_what_its_protocol_cannot_enforce_then_it_ends() {
    for (bundle, reason) in [
        ("permit read-only", EndReason::ReadOnlyNotEnforced),
        ("permit rows:5", EndReason::BudgetsNotEnforced),
        ("permit mask", EndReason::MasksNotEnforced),
    ] {
        let harness = Harness::start();
        let session = harness.open(1).await;
        apply(&harness, bundle);
        let end = ended(&session).await;
        assert_eq!(end.reason, reason, "{bundle}");
        assert!(end.comment.starts_with("the protocol is ssh; "), "{end:?}");
    }
}

/// PO-2: budgets hold from the moment on. Reading only and masks are told to a target when a session begins: one
/// that began without them is over, and the next begins with them.
#[tokio::test]
async fn given_a_live_session_when_its_protocol_enforces_the_demand_then_it_goes_on_or_begins_anew()
{
    for (bundle, goes_on) in [
        ("permit rows:5", true),
        ("permit read-only", false),
        ("permit mask", false),
    ] {
        let mut harness = Harness::start();
        harness.enforced = Restraints::ALL;
        let session = harness.open(1).await;
        apply(&harness, bundle);
        let end = session.end_if_over().map(|end| end.reason);
        let expected = (!goes_on).then_some(EndReason::PolicyChanged);
        assert_eq!(end, expected, "{bundle}");
        assert_eq!(session.has_budgets(), goes_on, "{bundle}");
        // The same again changes nothing.
        apply(&harness, bundle);
        assert_eq!(session.end_if_over().is_some(), !goes_on, "{bundle}");
    }
}
