//! What must hold before there is a session, and what control hears when there is none.

use std::{fs, io, time::Duration};

use sallyport_core::{
    authz::SignedPermit,
    id::{GatewayId, RecordingId},
    session::EndReason,
};

use super::*;
use crate::{
    control::OpenAnswer,
    recorder::{RecorderError, RecordingDirectory, RecordingFile, RecordingStore},
    testing::{Harness, PermitSigner, START, question, session_id},
};

fn refusal(outcome: OpenOutcome) -> Reason {
    match outcome {
        OpenOutcome::Refused(refused) => refused.reasons[0],
        other => panic!("must be refused: {other:?}"),
    }
}

/// Nothing was recorded, and control was told of no session.
fn assert_untouched(harness: &Harness) {
    let recordings = harness.directory.path().join("recordings");
    assert_eq!(fs::read_dir(recordings).unwrap().count(), 0);
    assert!(harness.node.live.is_empty());
}

/// GW-12, AU-6
#[tokio::test]
async fn a_permit_that_control_did_not_sign_opens_nothing() {
    let harness = Harness::start();
    let forger = PermitSigner::generate();
    let forged = forger.permit(1, &harness.node.gateway_id, "permit", &question());
    assert_eq!(
        refusal(harness.try_open(harness.opened_with(forged)).await),
        Reason::ControlUnavailable
    );
    assert_untouched(&harness);
}

/// AU-6
#[tokio::test]
async fn a_permit_with_any_byte_changed_opens_nothing() {
    let harness = Harness::start();
    let sound = harness
        .signer
        .permit(1, &harness.node.gateway_id, "permit", &question());
    let text = serde_json::to_string(&sound).unwrap();
    let changed = text.replace("web-1", "web-2");
    assert_ne!(text, changed);
    let changed: SignedPermit = serde_json::from_str(&changed).unwrap();
    refusal(harness.try_open(harness.opened_with(changed)).await);
    assert_untouched(&harness);
}

/// GW-12
#[tokio::test]
async fn a_permit_for_another_gateway_opens_nothing() {
    let harness = Harness::start();
    let other = GatewayId::new(START, [8; 10]);
    let permit = harness.signer.permit(1, &other, "permit", &question());
    refusal(harness.try_open(harness.opened_with(permit)).await);
    assert_untouched(&harness);
}

/// AC-5
#[tokio::test]
async fn a_permit_opens_a_session_for_a_minute_only() {
    let harness = Harness::start();
    let permit = harness
        .signer
        .permit(1, &harness.node.gateway_id, "permit", &question());
    harness.clock.advance(Duration::from_secs(62));
    refusal(harness.try_open(harness.opened_with(permit)).await);
    assert_untouched(&harness);
}

/// GW-12
#[tokio::test]
async fn a_permit_for_something_else_than_was_asked_opens_nothing() {
    let harness = Harness::start();
    let mut elsewhere = question();
    elsewhere.target.name = "web-2".parse().unwrap();
    let permit = harness
        .signer
        .permit(1, &harness.node.gateway_id, "permit", &elsewhere);
    refusal(harness.try_open(harness.opened_with(permit)).await);
    assert_untouched(&harness);
}

/// GW-11
#[tokio::test]
async fn a_credential_sealed_for_another_session_opens_nothing_and_control_hears_of_it() {
    let harness = Harness::start();
    let mut opened = harness.opened(1);
    opened.credential = harness.opened(2).credential;
    assert_eq!(
        refusal(harness.try_open(opened).await),
        Reason::TargetUnreachable
    );
    let closed = harness.closed(1).await;
    assert_eq!(closed.session_id, session_id(1));
    assert_eq!(
        (closed.bytes_up, closed.bytes_down, closed.recording),
        (0, 0, None)
    );
}

/// A disk that takes nothing.
struct FullDisk;

impl RecordingStore for FullDisk {
    fn create(&self, recording_id: &RecordingId) -> Result<Box<dyn RecordingFile>, RecorderError> {
        Err(RecorderError::Io {
            attempt: "make recording",
            path: recording_id.to_string().into(),
            source: io::ErrorKind::StorageFull.into(),
        })
    }
}

/// RE-12
#[tokio::test]
async fn there_is_no_session_without_an_open_recording() {
    let directory = tempfile::tempdir().unwrap();
    let harness = Harness::with(directory, Arc::new(FullDisk), Limits::default());
    assert_eq!(
        refusal(harness.try_open(harness.opened(1)).await),
        Reason::RecorderFailed
    );
    let closed = harness.closed(1).await;
    assert_eq!(closed.reason, EndReason::RecorderFailed);
    assert!(harness.node.live.is_empty());
}

/// AU-6
#[tokio::test]
async fn there_is_no_session_whose_evidence_cannot_be_kept() {
    let directory = tempfile::tempdir().unwrap();
    let recordings = RecordingDirectory::open(directory.path().join("recordings")).unwrap();
    let limits = Limits {
        spool_bytes_max: 10,
        ..Limits::default()
    };
    let harness = Harness::with(directory, Arc::new(recordings), limits);
    assert_eq!(
        refusal(harness.try_open(harness.opened(1)).await),
        Reason::AuditFailed
    );
    // The end went to control directly, since it could not be kept either.
    assert_eq!(harness.closed(1).await.reason, EndReason::RecorderFailed);
    assert!(harness.node.live.is_empty());
}

/// GW-12
#[tokio::test]
async fn a_recording_that_exists_already_is_never_written_again() {
    let harness = Harness::start();
    let session = harness.open(1).await;
    assert_eq!(
        refusal(harness.try_open(harness.opened(1)).await),
        Reason::RecorderFailed
    );
    assert_eq!(session.end_if_over(), None);
}

#[tokio::test]
async fn without_control_nothing_opens_and_the_reason_says_so() {
    let harness = Harness::start();
    harness.control.set_reachable(false);
    assert_eq!(
        refusal(harness.try_open(harness.opened(1)).await),
        Reason::ControlUnavailable
    );
}

#[tokio::test]
async fn a_connection_opens_one_session() {
    let harness = Harness::start();
    let door = harness.door();
    let opened = harness.opened(1);
    harness
        .control
        .answer_open(move |_| OpenAnswer::Opened(Box::new(opened)));
    let open = || {
        let id = AuthenticationId::new(START, [1; 10]);
        door.open_session(id, "ssh", "root".parse().unwrap(), "web-1".parse().unwrap())
    };
    let OpenOutcome::Opened(_session) = open().await else {
        panic!("the first must open")
    };
    assert_eq!(refusal(open().await), Reason::FeatureRefused);
}

/// GW-12
#[tokio::test]
async fn a_client_that_leaves_while_control_decides_leaves_no_session_behind() {
    let harness = Harness::start();
    let opened = harness.opened(1);
    harness
        .control
        .answer_open(move |_| OpenAnswer::Opened(Box::new(opened)));
    {
        let door = harness.door();
        let id = AuthenticationId::new(START, [1; 10]);
        let mut opening = Box::pin(door.open_session(
            id,
            "ssh",
            "root".parse().unwrap(),
            "web-1".parse().unwrap(),
        ));
        assert!(futures_util::poll!(&mut opening).is_pending());
    }
    assert_eq!(harness.closed(1).await.reason, EndReason::ClientClosed);
}

#[tokio::test]
async fn after_six_failed_proofs_control_is_not_asked_again() {
    let harness = Harness::start();
    harness.control.refuse_proofs();
    let door = harness.door();
    for _ in 0..6 {
        let answer = door
            .prove_ssh_key(Claim::default(), "key".to_owned())
            .await
            .unwrap();
        assert_eq!(answer, AuthenticationAnswer::Refused { reason: None });
    }
    let answer = door
        .prove_password(Claim::default(), None, None)
        .await
        .unwrap();
    assert_eq!(
        answer,
        AuthenticationAnswer::Refused {
            reason: Some(Reason::TooManyAttempts)
        }
    );
    assert_eq!(harness.control.proofs(), 6);
}

#[tokio::test]
async fn a_control_plane_that_does_not_answer_uses_up_no_attempts() {
    let harness = Harness::start();
    harness.control.set_reachable(false);
    let door = harness.door();
    for _ in 0..7 {
        let answer = door.prove_ssh_key(Claim::default(), "key".to_owned()).await;
        assert!(
            matches!(answer, Err(ControlError::Unavailable)),
            "{answer:?}"
        );
    }
}

#[tokio::test]
async fn a_permit_whose_grant_ended_in_between_opens_nothing() {
    let harness = Harness::start();
    let mut short = question();
    if let Some(grant) = &mut short.grant {
        grant.until = START.plus(Duration::from_secs(30));
    }
    let permit = harness
        .signer
        .permit(1, &harness.node.gateway_id, "permit", &short);
    harness.clock.advance(Duration::from_secs(30));
    refusal(harness.try_open(harness.opened_with(permit)).await);
    assert_untouched(&harness);
}

/// Demands, which of them refuses a session, and the reason.
const DEMANDS: [(&str, Reason, EndReason); 3] = [
    (
        "permit read-only",
        Reason::ReadOnlyNotEnforced,
        EndReason::ReadOnlyNotEnforced,
    ),
    (
        "permit rows:5",
        Reason::BudgetsNotEnforced,
        EndReason::BudgetsNotEnforced,
    ),
    (
        "permit mask",
        Reason::MasksNotEnforced,
        EndReason::MasksNotEnforced,
    ),
];

/// PO-2, GW-12: what a protocol cannot enforce is not left out: there is no session, whoever demands it, and the
/// recording and control hear why.
#[tokio::test]
async fn given_a_demand_that_the_protocol_cannot_enforce_then_there_is_no_session_and_it_is_on_record()
 {
    for (bundle, reason, end) in DEMANDS {
        let harness = Harness::start();
        let OpenOutcome::Refused(refused) = harness.try_open(harness.opened_by(1, bundle)).await
        else {
            panic!("{bundle} must refuse");
        };
        assert_eq!(refused.reasons, [reason], "{bundle}");
        let expected = format!("{} over ssh", session_id(1));
        assert_eq!(refused.reference, expected, "{bundle}");
        let closed = harness.closed(1).await;
        assert_eq!(closed.reason, end, "{bundle}");
        assert!(closed.recording.is_some() && closed.is_recording_complete);
        assert_eq!((closed.bytes_up, closed.bytes_down), (0, 0));
    }
}

/// PO-2: the same when the demand came while control decided.
#[tokio::test]
async fn given_policies_that_changed_meanwhile_then_what_they_demand_refuses_the_session() {
    for (bundle, reason, end) in DEMANDS {
        let harness = Harness::start();
        harness.welcome(bundle, Duration::from_secs(60));
        let outcome = harness.try_open(harness.opened(1)).await;
        assert_eq!(refusal(outcome), reason, "{bundle}");
        assert_eq!(harness.closed(1).await.reason, end, "{bundle}");
    }
}

/// PO-2
#[tokio::test]
async fn given_a_demand_that_the_protocol_enforces_then_the_session_opens_with_it() {
    let mut harness = Harness::start();
    harness.enforced = Restraints::ALL;
    let bundle = "permit read-only rows:5 mask";
    let outcome = harness.try_open(harness.opened_by(1, bundle)).await;
    let OpenOutcome::Opened(session) = outcome else {
        panic!("must open: {outcome:?}");
    };
    assert!(session.is_read_only() && session.has_budgets() && session.has_masks());
    assert_eq!(session.end_if_over(), None);
}
