//! A permit comes from a yes to opening a session, and survives its way only untouched.
#![allow(clippy::unwrap_used, reason = "tests stop at the first surprise")]

use super::*;
use crate::{
    authz::Action,
    fixture::{Policies, at, authorisation, grant, question},
    policy::Constraint,
};

fn ids() -> PermitIds {
    PermitIds {
        id: PermitId::new(at(0), [1; 10]),
        session_id: SessionId::new(at(0), [2; 10]),
        recording_id: RecordingId::new(at(0), [3; 10]),
        gateway_id: gateway(),
    }
}

fn gateway() -> GatewayId {
    GatewayId::new(at(0), [4; 10])
}

/// Stands in for a signature: the bytes themselves, reversed.
fn sign(bytes: &[u8]) -> Vec<u8> {
    bytes.iter().rev().copied().collect()
}

fn verify(bytes: &[u8], signature: &[u8]) -> bool {
    sign(bytes) == signature
}

fn permit() -> Permit {
    let policies = Policies::limiting(Constraint::IdleTimeout { seconds: 900 });
    Permit::mint(
        &authorisation(&policies, &question(Action::SessionOpen)),
        ids(),
    )
    .unwrap()
}

/// AC-5
#[test]
fn a_permit_ends_with_its_grant_and_carries_the_limits_of_its_decision() {
    let permit = permit();
    let terms = permit.terms();
    assert_eq!(terms.expires_at, at(3_600));
    assert_eq!(terms.issued_at, at(0));
    assert_eq!(terms.constraints.idle_timeout_s, Some(900));
    assert_eq!(terms.question, question(Action::SessionOpen));
    assert_eq!(terms.grant_id, grant(at(0), at(1)).id);
}

/// PO-3
#[test]
fn a_yes_to_anything_but_opening_a_session_makes_no_permit() {
    for action in [Action::RequestCreate, Action::OperationRun] {
        let yes = authorisation(&Policies::permitting(), &question(action));
        assert!(matches!(
            Permit::mint(&yes, ids()),
            Err(PermitError::NotASession)
        ));
    }
}

#[test]
fn a_permit_arrives_as_it_was_sent() {
    let signed = permit().sign(sign).unwrap();
    let on_the_wire = serde_json::to_string(&signed).unwrap();
    let arrived: SignedPermit = serde_json::from_str(&on_the_wire).unwrap();
    assert_eq!(arrived.open(verify, &gateway(), at(60)).unwrap(), permit());
}

#[test]
fn a_permit_with_any_byte_changed_does_not_open() {
    let signed = permit().sign(sign).unwrap();
    for index in 0..signed.terms.len() {
        let mut changed = signed.clone();
        let mut bytes = changed.terms.into_bytes();
        *bytes.get_mut(index).unwrap() ^= 1;
        let Ok(terms) = String::from_utf8(bytes) else {
            continue;
        };
        changed.terms = terms;
        assert!(matches!(
            changed.open(verify, &gateway(), at(1)),
            Err(PermitError::Signature)
        ));
    }
}

#[test]
fn a_permit_for_another_gateway_or_one_that_is_late_does_not_open() {
    let signed = permit().sign(sign).unwrap();
    let other = GatewayId::new(at(0), [9; 10]);
    assert!(matches!(
        signed.open(verify, &other, at(1)),
        Err(PermitError::NotUsable { .. })
    ));
    assert!(matches!(
        signed.open(verify, &gateway(), at(61)),
        Err(PermitError::NotUsable { .. })
    ));
}

/// AC-5
#[test]
fn a_permit_whose_grant_has_ended_does_not_open() {
    let mut asked = question(Action::SessionOpen);
    asked.grant = Some(grant(at(0), at(30)).facts());
    let yes = authorisation(&Policies::permitting(), &asked);
    let signed = Permit::mint(&yes, ids()).unwrap().sign(sign).unwrap();
    assert!(signed.open(verify, &gateway(), at(29)).is_ok());
    assert!(matches!(
        signed.open(verify, &gateway(), at(30)),
        Err(PermitError::NotUsable { .. })
    ));
}

#[test]
fn signed_text_that_is_no_permit_is_refused() {
    for terms in ["", "{}", "null", "{\"version\":1}"] {
        let signed = SignedPermit {
            terms: terms.into(),
            signature: sign(&signed_bytes(terms)),
        };
        assert!(matches!(
            signed.open(verify, &gateway(), at(1)),
            Err(PermitError::Decode(_))
        ));
    }
    let mut terms = permit().terms().clone();
    terms.version = 2;
    let text = serde_json::to_string(&terms).unwrap();
    let signed = SignedPermit {
        signature: sign(&signed_bytes(&text)),
        terms: text,
    };
    assert!(matches!(
        signed.open(verify, &gateway(), at(1)),
        Err(PermitError::NotUsable { .. })
    ));
}
