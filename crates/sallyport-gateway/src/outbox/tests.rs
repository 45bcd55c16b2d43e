//! Evidence reaches control once, in order, whatever happens in between.

use std::path::Path;

use sallyport_api::gateway::Anchor;
use sallyport_core::session::EndReason;
use tempfile::TempDir;

use super::*;
use crate::{
    tasks::Tasks,
    testing::{FakeControl, Harness, ManualClock, PATIENCE, ended, recording_id, session_id},
};

fn anchor(session: u8, chunks: u64) -> Anchor {
    Anchor {
        session_id: session_id(session),
        recording_id: recording_id(session),
        chunks,
        chain: "00".repeat(32),
        size_bytes: 0,
    }
}

struct Fixture {
    outbox: Outbox,
    stop: CancellationToken,
    carrying: tokio::task::JoinHandle<Option<()>>,
}

fn start(directory: &Path, control: &Arc<FakeControl>) -> Fixture {
    let spool = Spool::open(directory.to_owned(), 1 << 20).unwrap();
    let live = Arc::new(LiveSessions::new(1));
    let (outbox, carrier) = outbox(spool, Arc::clone(control) as _, live, ManualClock::start());
    let stop = CancellationToken::new();
    let carrying = Tasks::default().spawn("evidence", carrier.run(stop.clone(), PATIENCE));
    Fixture {
        outbox,
        stop,
        carrying,
    }
}

fn fixture() -> (TempDir, Arc<FakeControl>) {
    (
        tempfile::tempdir().unwrap(),
        Arc::new(FakeControl::default()),
    )
}

/// AU-6
#[tokio::test]
async fn evidence_kept_while_control_is_away_reaches_it_once_and_in_order_when_it_is_back() {
    let (directory, control) = fixture();
    let fixture = start(directory.path(), &control);
    control.set_reachable(false);
    for chunks in 1..=5 {
        fixture
            .outbox
            .keep(Evidence::Anchor(anchor(1, chunks)))
            .await
            .unwrap();
    }
    control.until(|told| told.attempts > 0).await;
    assert!(control.told.lock().unwrap().anchors.is_empty());

    control.set_reachable(true);
    control.until(|told| told.anchors.len() >= 5).await;
    fixture.stop.cancel();
    fixture.carrying.await.unwrap();
    let expected: Vec<Anchor> = (1..=5).map(|chunks| anchor(1, chunks)).collect();
    assert_eq!(control.told.lock().unwrap().anchors, expected);
    assert!(
        Spool::open(directory.path().to_owned(), 1 << 20)
            .unwrap()
            .1
            .is_empty()
    );
}

/// AU-6
#[tokio::test]
async fn what_was_kept_before_a_crash_reaches_control_after_the_restart() {
    let (directory, control) = fixture();
    control.set_reachable(false);
    let crashed = start(directory.path(), &control);
    for chunks in 1..=3 {
        crashed
            .outbox
            .keep(Evidence::Anchor(anchor(1, chunks)))
            .await
            .unwrap();
    }
    crashed.carrying.abort();
    let _ = crashed.carrying.await;

    control.set_reachable(true);
    let _fixture = start(directory.path(), &control);
    control.until(|told| told.anchors.len() >= 3).await;
    let expected: Vec<Anchor> = (1..=3).map(|chunks| anchor(1, chunks)).collect();
    assert_eq!(control.told.lock().unwrap().anchors, expected);
}

/// AU-6
#[tokio::test]
async fn evidence_that_control_refuses_for_good_ends_its_session_and_holds_up_no_other() {
    let harness = Harness::start();
    let session = harness.open(1).await;
    harness.control.refuse_evidence();
    harness
        .node
        .outbox
        .keep(Evidence::Anchor(anchor(1, 1)))
        .await
        .unwrap();
    let end = ended(&session).await;
    assert_eq!(end.reason, EndReason::RecorderFailed);
}

#[tokio::test]
async fn nothing_is_kept_once_the_carrier_has_gone() {
    let (directory, control) = fixture();
    let fixture = start(directory.path(), &control);
    fixture.stop.cancel();
    fixture.carrying.await.unwrap();
    assert_eq!(
        fixture.outbox.keep(Evidence::Anchor(anchor(1, 1))).await,
        Err(NotKept)
    );
}

/// AU-6
#[tokio::test]
async fn many_sessions_are_delivered_side_by_side_each_in_its_own_order() {
    let (directory, control) = fixture();
    let fixture = start(directory.path(), &control);
    for chunks in 1..=20 {
        for session in 1..=6 {
            fixture
                .outbox
                .keep(Evidence::Anchor(anchor(session, chunks)))
                .await
                .unwrap();
        }
    }
    control.until(|told| told.anchors.len() >= 120).await;
    let told = control.told.lock().unwrap();
    for session in 1..=6 {
        let order: Vec<u64> = told
            .anchors
            .iter()
            .filter(|anchor| anchor.session_id == session_id(session))
            .map(|anchor| anchor.chunks)
            .collect();
        assert_eq!(order, (1..=20).collect::<Vec<u64>>());
    }
}
