//! Operations and live sessions against the policies in force.

use std::{sync::Arc, time::Duration};

use sallyport_core::id::GatewayId;

use super::*;
use crate::testing::{PermitSigner, READ_BUNDLE, START, question};

fn engine(bundle: &str) -> Arc<dyn PolicyEngine> {
    READ_BUNDLE(bundle).unwrap()
}

/// The terms of a session of one hour that `bundle` permitted.
fn terms(bundle: &str) -> PermitTerms {
    let gateway_id = GatewayId::new(START, [9; 10]);
    let signed = PermitSigner::generate().permit(1, &gateway_id, bundle, &question());
    let permit = signed.open(|_, _| true, &gateway_id, START).unwrap();
    permit.terms().clone()
}

fn operation(kind: OperationKind) -> Operation {
    Operation {
        kind,
        detail: "id".to_owned(),
        facts: None,
    }
}

fn check_now(bundle: &str, terms: &PermitTerms, kind: OperationKind) -> OperationDecision {
    check_at(engine(bundle).as_ref(), terms, &operation(kind), START)
}

fn check_at(
    engine: &dyn PolicyEngine,
    terms: &PermitTerms,
    operation: &Operation,
    now: Timestamp,
) -> OperationDecision {
    let session = SessionQuestion::new(&terms.question);
    check(engine, terms, &session, operation, now)
}

/// PO-3
#[test]
fn an_operation_is_decided_by_the_policies_in_force_now_not_by_those_that_opened_the_session() {
    let terms = terms("permit");
    assert_eq!(
        check_now("permit", &terms, OperationKind::Exec),
        OperationDecision::Permitted
    );
    assert_eq!(
        check_now("permit forbid:exec", &terms, OperationKind::Exec),
        OperationDecision::Refused(Reason::Forbidden)
    );
    assert_eq!(
        check_now("", &terms, OperationKind::Exec),
        OperationDecision::Refused(Reason::NotPermitted)
    );
}

/// PO-3
#[test]
fn neither_the_permit_nor_the_policies_in_force_can_loosen_the_other() {
    for (opened_by, in_force) in [
        ("permit no-upload", "permit"),
        ("permit", "permit no-upload"),
    ] {
        let terms = terms(opened_by);
        for kind in [OperationKind::FileUpload, OperationKind::FileChange] {
            assert_eq!(
                check_now(in_force, &terms, kind),
                OperationDecision::Refused(Reason::UploadRefused),
                "{opened_by} / {in_force}"
            );
        }
        assert_eq!(
            check_now(in_force, &terms, OperationKind::FileDownload),
            OperationDecision::Permitted
        );
    }
}

/// AC-5
#[test]
fn nothing_begins_at_or_after_the_last_moment_of_the_grant() {
    let terms = terms("permit");
    let bundle = engine("permit");
    let exec = operation(OperationKind::Exec);
    let last = terms.expires_at.minus(Duration::from_millis(1));
    assert_eq!(
        check_at(bundle.as_ref(), &terms, &exec, last),
        OperationDecision::Permitted
    );
    assert_eq!(
        check_at(bundle.as_ref(), &terms, &exec, terms.expires_at),
        OperationDecision::Refused(Reason::GrantNotLive)
    );
}

/// PO-3
#[test]
fn a_session_ends_when_policies_no_longer_permit_it_and_takes_on_their_new_limits_when_they_do() {
    let terms = terms("permit");
    assert_eq!(
        decide_again(engine("permit forbid:session").as_ref(), &terms, START),
        Verdict::Ends(EndReason::PolicyChanged)
    );
    let Verdict::GoesOn(limits) = decide_again(engine("permit idle:60").as_ref(), &terms, START)
    else {
        panic!("the session must go on");
    };
    assert_eq!(limits.idle_timeout_s, Some(60));
}

/// PO-3
#[test]
fn a_sign_in_that_grew_old_since_does_not_end_a_session_but_one_too_weak_does() {
    let terms = terms("permit mfa-age:60");
    let later = START.plus(Duration::from_secs(600));
    let decide = |bundle: &str| decide_again(engine(bundle).as_ref(), &terms, later);
    assert!(matches!(decide("permit mfa-age:60"), Verdict::GoesOn(_)));
    assert_eq!(
        decide("permit mfa-strong"),
        Verdict::Ends(EndReason::PolicyChanged)
    );
}
